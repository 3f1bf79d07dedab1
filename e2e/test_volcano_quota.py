"""Queues that tell the truth: flat and in a tree, through repartitions and lost nodes, on real Volcano.

Every number is read back from the API server, behind Volcano's own webhook; how many writes that refused is what the
controller counted.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from e2e.harness import nodes
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import Installation, namespace
from e2e.harness.volcano import SCHEDULING, clear, is_open, numbers, running, vcjob

OWN = "slicewise.io/v1alpha1"
ONE, THREE, FOUR = (f"nvidia.com/mig-{profile}" for profile in ("1g.10gb", "3g.40gb", "4g.40gb"))
SPACE = "quota-work"


@pytest.fixture(scope="module")
def slicewise(volcano_installation: Installation) -> Installation:
    """Slicewise, and a namespace whose work asks by name."""
    namespace(volcano_installation.cluster, SPACE)
    return volcano_installation


@pytest.fixture(autouse=True)
def no_refusal(slicewise: Installation) -> Iterator[None]:
    """Volcano's webhook refuses no write of any test."""
    before = refused(slicewise)
    yield
    clear(slicewise.cluster, SPACE)
    assert refused(slicewise) == before, slicewise.controller.program.log()[-2000:]


def test_volcanos_webhook_refuses_what_it_must(slicewise: Installation) -> None:
    """Otherwise the fixture above would show nothing."""
    spec = {"guarantee": {"resource": {ONE: "5"}}, "deserved": {ONE: "3"}, "capability": {ONE: "3"}}
    queue = {"apiVersion": SCHEDULING, "kind": "Queue", "metadata": {"name": "greedy"}, "spec": spec}
    answer = slicewise.cluster.try_create(queue)
    assert answer.status == 400
    assert "guarantee should less equal than" in answer.message


def refused(slicewise: Installation) -> float:
    return writes(slicewise, "refused")


def writes(slicewise: Installation, result: str) -> float:
    return slicewise.controller.metric("slicewise_controller_writes_total", kind="Queue", result=result)


def board(model: str) -> nodes.Board:
    """An H100 under another name, so that each test has pools that are nobody else's."""
    like = nodes.H100
    return nodes.Board(f"NVIDIA-{model}-80GB", like.memory, like.family, like.compute, like.profiles)


def seven(name: str, model: str) -> nodes.GpuNode:
    return nodes.mig_mixed(name, {"1g.10gb": 7}, board=board(model), gpus=1)


def split(name: str, model: str) -> nodes.GpuNode:
    return nodes.mig_mixed(name, {"3g.40gb": 1, "4g.40gb": 1}, board=board(model), gpus=1)


def plan(name: str, model: str, queues: dict[str, int], **spec: Any) -> Object:
    return {
        "apiVersion": OWN,
        "kind": "QuotaPlan",
        "metadata": {"name": name},
        "spec": {
            "engine": "volcano",
            "pools": {"matchNames": [f"{model.lower()}-*"]},
            "queues": [{"name": queue, "share": share} for queue, share in queues.items()],
            **spec,
        },
    }


@contextmanager
def playing(cluster: AnyCluster, wanted: Object, *members: nodes.GpuNode) -> Iterator[None]:
    """A plan and its nodes, gone afterwards; its Queues too, children first."""
    nodes.add(cluster, *members)
    cluster.apply(wanted)
    try:
        yield
    finally:
        cluster.delete(OWN, "QuotaPlan", wanted["metadata"]["name"], wait=True)
        nodes.remove(cluster, *(node.name for node in members))
        clear(cluster, SPACE)
        spec = wanted["spec"]
        for name in [*(queue["name"] for queue in spec["queues"]), spec.get("cohort")]:
            if name and cluster.find(SCHEDULING, "Queue", name):
                eventually(partial(deleted, cluster, name), f"queue {name} is gone")


def deleted(cluster: AnyCluster, queue: str) -> bool:
    path = cluster.path(SCHEDULING, "Queue", queue)
    return cluster.request("DELETE", path).status in {200, 404}


def condition(cluster: AnyCluster, name: str, kind: str) -> Object:
    found = cluster.get(OWN, "QuotaPlan", name).get("status", {}).get("conditions") or []
    return next((each for each in found if each["type"] == kind), {"status": "", "message": "", "reason": ""})


def has(cluster: AnyCluster, **wanted: dict[str, int]) -> Callable[[], bool]:
    """Whether each Queue deserves exactly this, zeros left out."""

    def check() -> bool:
        for queue, expected in wanted.items():
            found = {name: count for name, count in numbers(cluster, queue).items() if count}
            assert found == expected, (queue, found)
        return True

    return check


def test_a_flat_plan_follows_a_repartition_and_a_lost_node(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    members = [seven("flat-1", "FLAT"), seven("flat-2", "FLAT")]
    with playing(cluster, plan("flat", "FLAT", {"flat-a": 3, "flat-b": 1}), *members):
        eventually(has(cluster, **{"flat-a": {ONE: 11}, "flat-b": {ONE: 3}}), "the queues follow the nodes")
        assert numbers(cluster, "flat-a", "capability") == {ONE: 11}
        before, after = members[0], split("flat-1", "FLAT")
        for step in nodes.repartition(before, after):
            step.apply(cluster, "flat-1")
            assert all(numbers(cluster, queue)[ONE] for queue in ("flat-a", "flat-b")), step.name
        settled = {"flat-a": {ONE: 5, THREE: 1, FOUR: 1}, "flat-b": {ONE: 2}}
        eventually(has(cluster, **settled), "the queues follow the repartition")
        assert set(numbers(cluster, "flat-b")) == {ONE, THREE, FOUR}, "every name is listed"
        nodes.not_ready(cluster, "flat-2")
        eventually(
            has(cluster, **{"flat-a": {THREE: 1, FOUR: 1}, "flat-b": {}}), "the lost node is taken out"
        )
        nodes.ready(cluster, "flat-2")
        eventually(has(cluster, **settled), "it is back")
        nodes.remove(cluster, "flat-1")
        eventually(
            has(cluster, **{"flat-a": {ONE: 5}, "flat-b": {ONE: 2}}),
            "a node that is gone is gone at once",
        )


def test_a_tree_of_three_levels_follows_a_repartition_and_a_lost_node(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    members = [seven("tree-1", "TREE"), seven("tree-2", "TREE")]
    queues = {"tree-a": 3, "tree-b": 1}
    with playing(cluster, plan("tree", "TREE", queues, cohort="tree-lab"), *members):
        whole = {"tree-lab": {ONE: 14}, "tree-a": {ONE: 11}, "tree-b": {ONE: 3}}
        eventually(has(cluster, **whole), "parent and children follow the nodes")
        eventually(lambda: is_open(cluster, "tree-lab", *queues), "all are open")
        assert cluster.get(SCHEDULING, "Queue", "tree-lab")["spec"]["parent"] == "root"
        assert cluster.get(SCHEDULING, "Queue", "tree-b")["spec"]["parent"] == "tree-lab"
        assert numbers(cluster, "tree-b", "capability") == {ONE: 14}, "a child may borrow from its sisters"
        for step in nodes.repartition(members[0], split("tree-1", "TREE")):
            step.apply(cluster, "tree-1")
        settled = {"tree-lab": {ONE: 7, THREE: 1, FOUR: 1}, "tree-b": {ONE: 2}}
        eventually(has(cluster, **settled), "the tree follows the repartition")
        nodes.remove(cluster, "tree-2")
        eventually(has(cluster, **{"tree-lab": {THREE: 1, FOUR: 1}, "tree-b": {}}), "and the lost node")
        nodes.add(cluster, members[1])
        eventually(has(cluster, **settled), "and the new one")
    assert refused(slicewise) == 0


def test_what_admins_keep_on_a_queue_stays_theirs(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    own = {"weight": 5, "capability": {"cpu": "40", "memory": "100Gi"}, "deserved": {"cpu": "4"}}
    queue = {"apiVersion": SCHEDULING, "kind": "Queue", "metadata": {"name": "own-a"}, "spec": own}
    cluster.apply(queue, manager="admin")
    with playing(cluster, plan("own", "OWN", {"own-a": 1}, cohort="own-lab"), seven("own-1", "OWN")):
        eventually(has(cluster, **{"own-a": {ONE: 7}, "own-lab": {ONE: 7}}), "ours are added")
        spec = cluster.get(SCHEDULING, "Queue", "own-a")["spec"]
        assert (spec["weight"], spec["deserved"]["cpu"], spec["parent"]) == (5, "4", "own-lab")
        assert (spec["capability"]["cpu"], spec["capability"]["memory"]) == ("40", "100Gi")
        cluster.apply(queue, manager="admin", force=False)
        assert numbers(cluster, "own-a") == {ONE: 7}, (
            "applying the admin's manifest again takes nothing of ours"
        )
        managed = cluster.get(SCHEDULING, "Queue", "own-a")["metadata"]["managedFields"]
        (ours,) = [each for each in managed if each["manager"] == "slicewise"]
        assert set(ours["fieldsV1"]["f:spec"]) <= {"f:deserved", "f:capability", "f:parent"}
        assert f"f:{ONE}" in ours["fieldsV1"]["f:spec"]["f:deserved"]
        assert "f:cpu" not in ours["fieldsV1"]["f:spec"]["f:deserved"]

        def told() -> bool:
            cluster.patch(SCHEDULING, "Queue", "own-a", {"spec": {"weight": 7, "deserved": {ONE: "3"}}})
            eventually(has(cluster, **{"own-a": {ONE: 7}}), "an edit of what is ours is put back")
            assert cluster.get(SCHEDULING, "Queue", "own-a")["spec"]["weight"] == 7
            time.sleep(1)
            sentence = "Queue own-a was edited where QuotaPlan own decides, and was put back"
            return sentence in events(cluster, "own")

        # An edit that comes before the queue was ever seen to be right is put back and is no news.
        eventually(told, "and it is told")


def test_shrinking_below_what_runs_is_told_and_evicts_nobody(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    members = [seven("below-1", "BELOW"), seven("below-2", "BELOW")]
    with playing(cluster, plan("below", "BELOW", {"below-a": 1}), *members):
        eventually(has(cluster, **{"below-a": {ONE: 14}}), "the queue has both nodes")
        eventually(lambda: is_open(cluster, "below-a"), "the queue is open")
        job = vcjob("large", SPACE, 10, {ONE: 1}, queue="below-a")
        cluster.create(job)
        eventually(lambda: running(cluster, SPACE, "large") == 10, "ten run on the two nodes")

        def counted() -> bool:
            status = cluster.get(SCHEDULING, "Queue", "below-a").get("status", {})
            return bool(status.get("allocated", {}).get(ONE) == "10")

        eventually(counted, "Volcano counts them")
        nodes.cordon(cluster, "below-2")
        eventually(has(cluster, **{"below-a": {ONE: 7}}), "the quota shrinks below what runs")
        eventually(
            # Every replica shows it, whichever leads.
            lambda: (
                slicewise.controller.metric("slicewise_quota_below_use", queue="below-a", resource=ONE)
                in {3, 6}
            ),
            "the metric says by how much",
        )
        eventually(lambda: "10 run in it; nobody is evicted" in events(cluster, "below"), "the event says it")
        assert running(cluster, SPACE, "large") == 10


def events(cluster: AnyCluster, name: str) -> str:
    """All that was said of a plan."""
    found = [
        event["note"]
        for event in cluster.list("events.k8s.io/v1", "Event")
        if event["regarding"].get("kind") == "QuotaPlan" and event["regarding"]["name"] == name
    ]
    return "\n".join(found)


def test_a_queue_takes_back_what_it_deserves_under_the_new_names(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    queues = {"take-a": 1, "take-b": 1}
    with playing(cluster, plan("take", "TAKE", queues, cohort="take-lab"), seven("take-1", "TAKE")):
        eventually(has(cluster, **{"take-a": {ONE: 4}, "take-b": {ONE: 3}}), "the queues follow the node")
        eventually(lambda: is_open(cluster, "take-lab", *queues), "all are open")
        cluster.create(vcjob("greedy", SPACE, 7, {ONE: 1}, queue="take-a", min_available=1))
        eventually(lambda: running(cluster, SPACE, "greedy") == 7, "one queue borrows all slices")
        cluster.create(vcjob("rightful", SPACE, 3, {ONE: 1}, queue="take-b"))
        eventually(lambda: running(cluster, SPACE, "rightful") == 3, "the other takes back its own")
        eventually(lambda: running(cluster, SPACE, "greedy") == 4, "and nothing that is not")


def test_a_guarantee_above_what_nodes_have_is_lowered_in_the_same_write(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    numbers_of = {ONE: "6"}
    spec = {"guarantee": {"resource": numbers_of}, "deserved": numbers_of, "capability": numbers_of}
    queue = {"apiVersion": SCHEDULING, "kind": "Queue", "metadata": {"name": "kept-a"}, "spec": spec}
    cluster.apply(queue, manager="admin")
    with playing(
        cluster, plan("kept", "KEPT", {"kept-a": 1, "kept-b": 1}, cohort="kept-lab"), seven("kept-1", "KEPT")
    ):
        eventually(has(cluster, **{"kept-a": {ONE: 4}, "kept-b": {ONE: 3}}), "the queue follows the node")
        assert numbers(cluster, "kept-a", "guarantee") == {ONE: 4}
        assert numbers(cluster, "kept-lab", "guarantee") == {ONE: 4}
        eventually(
            lambda: f"Queue kept-a guaranteed 6 {ONE}; lowered to 4" in events(cluster, "kept"),
            "the event says so",
        )


def test_a_queue_with_jobs_is_made_no_parent(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    cluster.apply({"apiVersion": SCHEDULING, "kind": "Queue", "metadata": {"name": "busy-lab"}, "spec": {}})
    eventually(lambda: is_open(cluster, "busy-lab"), "the queue is open")
    with playing(
        cluster,
        plan("busy", "BUSY", {"busy-a": 1}, cohort="busy-lab", mode="report"),
        seven("busy-1", "BUSY"),
    ):
        eventually(
            lambda: "label it slicewise.io/managed=true" in condition(cluster, "busy", "Accepted")["message"],
            "a leaf that somebody else made is not taken for a parent",
        )
        cluster.create(vcjob("inside", SPACE, 1, {ONE: 1}, queue="busy-lab"))
        eventually(lambda: running(cluster, SPACE, "inside") == 1, "work runs in it")
        cluster.apply(plan("busy", "BUSY", {"busy-a": 1}, cohort="busy-lab"))
        eventually(
            lambda: "pods run in it" in condition(cluster, "busy", "Accepted")["message"],
            "the status says why",
        )
        assert condition(cluster, "busy", "Accepted")["status"] == "False"
        assert cluster.find(SCHEDULING, "Queue", "busy-a") is None
        assert "deserved" not in cluster.get(SCHEDULING, "Queue", "busy-lab")["spec"]


def test_a_closing_queue_is_waited_for(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    with playing(cluster, plan("shut", "SHUT", {"shut-a": 1}), seven("shut-1", "SHUT")):
        eventually(has(cluster, **{"shut-a": {ONE: 7}}), "the queue follows the node")
        eventually(lambda: is_open(cluster, "shut-a"), "the queue is open")
        cluster.create(vcjob("late", SPACE, 2, {ONE: 1}, queue="shut-a"))
        eventually(lambda: running(cluster, SPACE, "late") == 2, "work runs in it")
        queue = cluster.get(SCHEDULING, "Queue", "shut-a")
        target = {
            "apiVersion": SCHEDULING,
            "kind": "Queue",
            "name": "shut-a",
            "uid": queue["metadata"]["uid"],
        }
        cluster.create(
            {
                "apiVersion": "bus.volcano.sh/v1alpha1",
                "kind": "Command",
                "metadata": {"name": "shut", "namespace": "default", "ownerReferences": [target]},
                "action": "CloseQueue",
                "target": target,
            }
        )

        def state() -> str:
            return str(cluster.get(SCHEDULING, "Queue", "shut-a")["status"]["state"])

        eventually(lambda: state() == "Closing", "the queue is closing")
        nodes.add(cluster, seven("shut-2", "SHUT"))
        eventually(
            lambda: "Queue shut-a is Closing" in condition(cluster, "shut", "Synced")["message"],
            "the status says for what it waits",
        )
        assert numbers(cluster, "shut-a") == {ONE: 7}
        clear(cluster, SPACE)
        eventually(lambda: state() == "Closed", "its work is done")
        eventually(has(cluster, **{"shut-a": {ONE: 14}}), "then it gets what it should")
        nodes.remove(cluster, "shut-2")


STEPS = 60
"""How many there are at least, and how many writes."""


def test_the_webhook_refuses_none_of_our_writes_whatever_happens(slicewise: Installation) -> None:
    cluster, chance = slicewise.cluster, random.Random(6)  # noqa: S311  a seed, no secret
    queues, names = ["walk-a", "walk-b", "walk-c"], [f"walk-{number}" for number in range(4)]
    makers = (seven, split, lambda name, model: nodes.exclusive(name, board(model), gpus=4))
    present: dict[str, nodes.GpuNode] = {}
    written = writes(slicewise, "done")
    wanted = plan("walk", "WALK", dict.fromkeys(queues, 1), cohort="walk-lab")

    def put(name: str) -> None:
        if name in present:
            nodes.remove(cluster, name)
        present[name] = chance.choice(makers)(name, "WALK")
        nodes.add(cluster, present[name], ready=False)

    def walked(steps: int) -> bool:
        """A controller that is slow takes several steps in one write: then there are more steps."""
        return steps >= STEPS and writes(slicewise, "done") - written >= STEPS

    with playing(cluster, wanted):
        for step in itertools.count():
            if walked(step):
                break
            assert step < 10 * STEPS, "next to nothing is written"
            name = chance.choice(names)
            match chance.randrange(6):
                case 0 if present.pop(name, None):
                    nodes.remove(cluster, name)
                case 1:
                    shares = {queue: chance.randrange(4) for queue in queues}
                    headroom = {"percent": chance.choice([0, 10, 50]), "count": chance.randrange(2)}
                    cluster.apply(plan("walk", "WALK", shares, cohort="walk-lab", headroom=headroom))
                case _:
                    put(name)
            time.sleep(chance.choice([0, 0.1, 0.4, 0.9]))
        offered: dict[str, int] = {}
        for node in present.values():
            for name, count in node.resources.items():
                offered[name] = offered.get(name, 0) + count
        cluster.apply(wanted)
        eventually(has(cluster, **{"walk-lab": offered}), "the tree follows the last step")
        eventually(lambda: summed(cluster, queues) == offered, "the children have all of it")
        assert condition(cluster, "walk", "Accepted")["status"] == "True"
        nodes.remove(cluster, *present)


def summed(cluster: AnyCluster, queues: list[str]) -> dict[str, int]:
    total: dict[str, int] = {}
    for queue in queues:
        for name, count in numbers(cluster, queue).items():
            total[name] = total.get(name, 0) + count
    return {name: count for name, count in total.items() if count}
