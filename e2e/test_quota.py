"""Quota that tells the truth: the controller against the real API server and the real Kueue.

Every number is read back from Kueue itself: from what its API serves, from its status, its metrics and its
admissions. While things happen to nodes, a watch collects every value that a ClusterQueue ever had, so that a false
zero is seen however short it was.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import urllib3

from e2e.harness import nodes
from e2e.harness.client import KubeClient, Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import NAMESPACE, ROOT, Server
from e2e.harness.kueue import forget_plan
from e2e.harness.kwok import KEEP_RUNNING
from e2e.harness.processes import Program
from e2e.harness.slow_webhook import SlowWebhook

KUEUE = "kueue.x-k8s.io/v1beta2"
OWN = "slicewise.io/v1alpha1"
ACCOUNT = f"system:serviceaccount:{NAMESPACE}:slicewise-controller"
ONE, THREE, FOUR = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb", "nvidia.com/mig-4g.40gb"
TIMES = ("--settle", "1s", "--hold-down", "10m")
"""A hold outlasts whatever happens to the machine meanwhile: where it must end, a test has a controller of its own."""

Quota = dict[tuple[str, str], int]


def board(name: str) -> nodes.Board:
    """An H100 under another name, so that each test has pools that are nobody else's."""
    like = nodes.H100
    return nodes.Board(f"NVIDIA-{name}-80GB", like.memory, like.family, like.compute, like.profiles)


def pool(name: str, kind: str = "mig-mixed") -> str:
    """The pool that nodes with such a board are in."""
    return f"{name.lower()}-80gb-{kind}"


def seven(node: str, model: str) -> nodes.GpuNode:
    return nodes.mig_mixed(node, {"1g.10gb": 7}, board=board(model), gpus=1)


def split(node: str, model: str) -> nodes.GpuNode:
    return nodes.mig_mixed(node, {"3g.40gb": 1, "4g.40gb": 1}, board=board(model), gpus=1)


def quotas(queue: Object) -> Quota:
    """The nominal quota of a ClusterQueue, by flavor and resource."""
    return {
        (flavor["name"], quota["name"]): int(quota["nominalQuota"])
        for group in queue["spec"].get("resourceGroups") or ()
        for flavor in group["flavors"]
        for quota in flavor["resources"]
    }


def summed(queues: Mapping[str, Object]) -> Quota:
    """What these queues have together."""
    found: Quota = {}
    for queue in queues.values():
        for pair, number in quotas(queue).items():
            found[pair] = found.get(pair, 0) + number
    return found


def positive(quota: Quota) -> Quota:
    return {pair: number for pair, number in quota.items() if number}


class Quotas:
    """What a ClusterQueue says now, to the API, to Kueue's scheduler and to its metrics."""

    def __init__(self, cluster: AnyCluster, name: str) -> None:
        self.cluster, self.name = cluster, name

    def __call__(self) -> Quota:
        return quotas(self.cluster.get(KUEUE, "ClusterQueue", self.name))

    def becomes(self, wanted: Quota) -> None:
        """Waits until spec, Kueue's status and Kueue's metrics all say so."""

        def check() -> None:
            queue = self.cluster.get(KUEUE, "ClusterQueue", self.name)
            assert positive(quotas(queue)) == wanted
            (active,) = [c for c in queue["status"]["conditions"] if c["type"] == "Active"]
            assert active["status"] == "True", active
            assert active["observedGeneration"] == queue["metadata"]["generation"]
            listed = {
                (flavor["name"], resource["name"])
                for flavor in queue["status"]["flavorsUsage"]
                for resource in flavor["resources"]
            }
            assert listed == quotas(queue).keys()
            assert positive(self.measured()) == wanted

        eventually(check, f"{self.name} has {wanted}")

    def measured(self) -> Quota:
        """`kueue_cluster_queue_nominal_quota` of this queue."""
        found: Quota = {}
        for line in self.cluster.kueue_metrics().splitlines():
            if line.startswith("kueue_cluster_queue_nominal_quota{"):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
                if labels["cluster_queue"] == self.name:
                    found[(labels["flavor"], labels["resource"])] = int(float(line.rpartition(" ")[2]))
        return found


@contextmanager
def collected(cluster: AnyCluster, *names: str) -> Iterator[list[Quota]]:
    """Every quota that ClusterQueues have together while the block runs, by a watch from the present state on."""
    queues = {name: cluster.get(KUEUE, "ClusterQueue", name) for name in names}
    seen = [summed(queues)]
    query = {"watch": "true", "resourceVersion": queues[names[0]]["metadata"]["resourceVersion"]}
    if len(names) == 1:
        query["fieldSelector"] = f"metadata.name={names[0]}"
    url = cluster.server + cluster.path(KUEUE, "ClusterQueue")
    answer = cluster._pool.request(
        "GET",
        url,
        fields=query,
        headers=cluster._headers,
        preload_content=False,
        timeout=urllib3.Timeout(connect=5, read=None),
    )
    assert answer.status == 200

    def follow() -> None:
        rest = b""
        while chunk := answer.read1(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                event = json.loads(line)
                name = event["object"]["metadata"].get("name")
                if event["type"] in {"ADDED", "MODIFIED"} and name in names:
                    queues[name] = event["object"]
                    seen.append(summed(queues))

    def follow_until_closed() -> None:
        with suppress(urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError):
            follow()

    thread = threading.Thread(target=follow_until_closed, daemon=True)
    thread.start()
    try:
        yield seen
        # A mark that the watch must still see: nothing before it was missed.
        mark = {"metadata": {"annotations": {"example.org/seen": "yes"}}}
        last = {name: cluster.patch(KUEUE, "ClusterQueue", name, mark) for name in names}
        eventually(lambda: seen[-1] == summed(last) and thread.is_alive(), "the watch saw everything")
    finally:
        # Closing alone would wait for the read that is under way.
        connection: Any = answer.connection
        connection.sock.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        answer.close()


def plan(name: str, *queues: Object, models: str, **spec: Any) -> Object:
    """A QuotaPlan over the pools of one model."""
    return {
        "apiVersion": OWN,
        "kind": "QuotaPlan",
        "metadata": {"name": name},
        "spec": {
            "engine": "kueue",
            "queues": list(queues) or [{"name": name}],
            "pools": {"matchNames": [f"{models.lower()}-*"]},
            **spec,
        },
    }


def condition(cluster: AnyCluster, name: str, kind: str) -> Object:
    """A condition of a QuotaPlan."""
    status = cluster.get(OWN, "QuotaPlan", name)["status"]
    (found,) = [each for each in status["conditions"] if each["type"] == kind]
    return dict(found)


def workload(cluster: AnyCluster, job: str, space: str = "default") -> Object:
    """Kueue's Workload for a Job."""
    (found,) = [
        each
        for each in cluster.list(KUEUE, "Workload", space)
        if each["metadata"]["ownerReferences"][0]["name"] == job
    ]
    return found


def run(cluster: AnyCluster, name: str, queue: str, resource: str, count: int = 1) -> None:
    """A Job that asks for slices by name and keeps running, admitted by Kueue."""
    cluster.apply(
        {
            "apiVersion": KUEUE,
            "kind": "LocalQueue",
            "metadata": {"name": queue, "namespace": "default"},
            "spec": {"clusterQueue": queue},
        }
    )
    container = {"name": "main", "image": "none", "resources": {"limits": {resource: count}}}
    cluster.create(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": name,
                "namespace": "default",
                "labels": {"kueue.x-k8s.io/queue-name": queue},
            },
            "spec": {
                "suspend": True,
                "template": {
                    "metadata": {"annotations": {KEEP_RUNNING: "true"}},
                    "spec": {"restartPolicy": "Never", "containers": [container]},
                },
            },
        }
    )
    eventually(lambda: is_admitted(cluster, name), f"Job {name} is admitted")


def is_admitted(cluster: AnyCluster, job: str) -> bool:
    conditions = workload(cluster, job).get("status", {}).get("conditions") or []
    return any(each["type"] == "Admitted" and each["status"] == "True" for each in conditions)


def finish(cluster: AnyCluster, *jobs: str) -> None:
    for job in jobs:
        cluster.delete("batch/v1", "Job", job, "default")


@pytest.fixture(scope="module")
def controller(installed: AnyCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The controller, with short times."""
    server = Server(installed, "controller", tmp_path_factory.mktemp("quota"), 7, *TIMES)
    server.start()
    yield server
    server.program.kill()


@pytest.fixture
def impatient(installed: AnyCluster, tmp_path: Path) -> Iterator[Server]:
    """A controller whose holds end soon. It takes no lease: `controller` would have to wait until that has run out."""
    times = ("--settle", "1s", "--hold-down", "4s", "--leader-elect=false")
    server = Server(installed, "controller", tmp_path, 6, *times)
    server.start()
    yield server
    server.program.kill()
    print(server.program.log()[-6000:])


@pytest.fixture(autouse=True)
def _log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Shows the end of the controller's log when a test fails."""
    yield
    if "controller" in request.fixturenames:
        print(request.getfixturevalue("controller").program.log()[-6000:])


@contextmanager
def planned(cluster: AnyCluster, document: Object, *members: nodes.GpuNode) -> Iterator[None]:
    """Nodes and a plan while the block runs."""
    nodes.add(cluster, *members)
    cluster.apply(document)
    try:
        yield
    finally:
        forget_plan(cluster, document["metadata"]["name"])
        nodes.remove(cluster, *(each.name for each in members))


@pytest.mark.usefixtures("impatient")
def test_a_cordoned_node_is_held_and_then_leaves(installed: AnyCluster) -> None:
    cluster, name, mine = installed, "q-cordon", (pool("QB"), ONE)
    quota = Quotas(cluster, name)
    with planned(cluster, plan(name, models="QB"), seven("qb-1", "QB"), seven("qb-2", "QB")):
        quota.becomes({mine: 14})
        with collected(cluster, name) as seen:
            nodes.cordon(cluster, "qb-2")
            quota.becomes({mine: 7})
            nodes.uncordon(cluster, "qb-2")
            quota.becomes({mine: 14})
        assert {each[mine] for each in seen} == {14, 7}


@pytest.mark.usefixtures("impatient")
def test_a_lost_node_is_held_and_a_deleted_one_leaves_at_once(installed: AnyCluster) -> None:
    cluster, name, mine = installed, "q-lost", (pool("QC"), ONE)
    quota = Quotas(cluster, name)
    members = [seven(f"qc-{number}", "QC") for number in (1, 2, 3)]
    with planned(cluster, plan(name, models="QC"), *members):
        quota.becomes({mine: 21})
        with collected(cluster, name) as seen:
            nodes.not_ready(cluster, "qc-3")
            eventually(
                lambda: "the node is not Ready" in condition(cluster, name, "Believed")["message"],
                "it is told",
            )
            quota.becomes({mine: 14})
            nodes.remove(cluster, "qc-2")
            quota.becomes({mine: 7})
            nodes.ready(cluster, "qc-3")
            quota.becomes({mine: 14})
        assert {each[mine] for each in seen} == {21, 14, 7}


@pytest.mark.usefixtures("controller")
def test_quota_follows_a_repartition_both_ways_without_a_false_zero(installed: AnyCluster) -> None:
    cluster, name, mine = installed, "q-repartition", pool("QA")
    before, after = seven("qa-1", "QA"), split("qa-1", "QA")
    quota = Quotas(cluster, name)
    old, new = {(mine, ONE): 7}, {(mine, THREE): 1, (mine, FOUR): 1}
    with planned(cluster, plan(name, models="QA"), before):
        quota.becomes(old)
        run(cluster, "qa-first", name, ONE)
        with collected(cluster, name) as seen:
            for step in nodes.repartition(before, after):
                step.apply(cluster, "qa-1")
            quota.becomes(new)
            # The Job still holds an old slice: its name stays, at 0, where everybody sees it.
            assert quota()[(mine, ONE)] == 0
            finish(cluster, "qa-first")
            eventually(lambda: (mine, ONE) not in quota(), "the old name leaves once nothing holds it")
            run(cluster, "qa-second", name, THREE)
            finish(cluster, "qa-second")
            for step in nodes.repartition(after, before):
                step.apply(cluster, "qa-1")
            quota.becomes(old)
        assert all(positive(each) in (old, new) for each in seen), seen


@pytest.mark.usefixtures("controller")
def test_a_repartition_takes_the_label_off_until_it_has_settled(installed: AnyCluster) -> None:
    cluster, name = installed, "q-label"
    before, after = seven("ql-1", "QL"), split("ql-1", "QL")

    def label() -> str | None:
        found: str | None = cluster.get("v1", "Node", "ql-1")["metadata"]["labels"].get("slicewise.io/pool")
        return found

    with planned(cluster, plan(name, models="QL"), before):
        eventually(lambda: label() == pool("QL"), "the node is labelled")
        steps = {step.name: step for step in nodes.repartition(before, after)}
        steps["asked"].apply(cluster, "ql-1")
        steps["pending"].apply(cluster, "ql-1")
        eventually(lambda: label() is None, "the label is off")
        for rest in ("plugin-gone", "applied", "registered", "discovered"):
            steps[rest].apply(cluster, "ql-1")
        eventually(lambda: label() == pool("QL"), "the label is back")
        Quotas(cluster, name).becomes({(pool("QL"), THREE): 1, (pool("QL"), FOUR): 1})


@pytest.mark.usefixtures("controller")
def test_a_plugin_restart_everywhere_costs_nobody_their_place(installed: AnyCluster) -> None:
    cluster, name, mine = installed, "q-plugin", (pool("QD"), ONE)
    quota = Quotas(cluster, name)
    members = [seven(f"qd-{number}", "QD") for number in (1, 2)]
    with planned(cluster, plan(name, models="QD"), *members):
        quota.becomes({mine: 14})
        run(cluster, "qd-job", name, ONE, 2)
        admitted = workload(cluster, "qd-job")["status"]["admission"]
        with collected(cluster, name) as seen:
            for member in members:
                nodes.plugin_gone(cluster, member.name)
            eventually(
                lambda: "fell from 7 to 0" in condition(cluster, name, "Believed")["message"],
                "it is noticed",
            )
            for member in members:
                nodes.plugin_back(cluster, member.name)
            eventually(lambda: condition(cluster, name, "Believed")["status"] == "True", "all is well")
        assert {each[mine] for each in seen} == {14}
        assert workload(cluster, "qd-job")["status"]["admission"] == admitted
        finish(cluster, "qd-job")


def test_the_steady_state_writes_nothing(installed: AnyCluster, controller: Server) -> None:
    cluster, name = installed, "q-steady"
    with planned(cluster, plan(name, models="QE"), seven("qe-1", "QE")):
        Quotas(cluster, name).becomes({(pool("QE"), ONE): 7})
        eventually(lambda: condition(cluster, name, "Ready")["status"] == "True", "the plan is ready")

        def writes() -> float:
            return controller.metric("slicewise_controller_writes_total")

        quiet_since(writes, 2.0)
        flavor = eventually(lambda: in_use(cluster, pool("QE")), "Kueue has written what it writes")
        before, heard = writes(), controller.metric("slicewise_watch_events_total")
        for number in range(20):  # what kubelets report all the time
            cluster.patch(
                "v1", "Node", "qe-1", {"metadata": {"annotations": {"example.org/beat": str(number)}}}
            )
        eventually(
            lambda: controller.metric("slicewise_watch_events_total") >= heard + 20,
            "the controller has seen it",
        )
        quiet_since(writes, 2.0)
        assert writes() == before
        assert cluster.get(KUEUE, "ResourceFlavor", pool("QE")) == flavor


def in_use(cluster: AnyCluster, flavor: str) -> Object:
    """A ResourceFlavor with the finalizer that Kueue gives it, a moment after the queues may use it."""
    found = cluster.get(KUEUE, "ResourceFlavor", flavor)
    assert found["metadata"]["finalizers"]
    return found


def quiet_since(number: Callable[[], float], seconds: float) -> float:
    """Returns a number once it has stayed the same for so long."""
    last, since = number(), time.monotonic()
    deadline = since + 60
    while time.monotonic() < since + seconds:
        assert time.monotonic() < deadline, f"it goes on changing: {last}"
        time.sleep(0.1)
        if (now := number()) != last:
            last, since = now, time.monotonic()
    return last


def test_a_share_that_changes_under_load_evicts_nobody(installed: AnyCluster, controller: Server) -> None:
    cluster, mine = installed, (pool("QF"), ONE)
    one, other = Quotas(cluster, "qf-a"), Quotas(cluster, "qf-b")
    document = plan(
        "q-shares", {"name": "qf-a", "share": 6}, {"name": "qf-b", "share": 1}, models="QF", cohort="qf"
    )
    with planned(cluster, document, seven("qf-1", "QF")):
        one.becomes({mine: 6})
        other.becomes({mine: 1})
        run(cluster, "qf-job", "qf-a", ONE, 5)
        with collected(cluster, "qf-a") as first, collected(cluster, "qf-b") as second:
            document["spec"]["queues"] = [{"name": "qf-a", "share": 2}, {"name": "qf-b", "share": 5}]
            cluster.apply(document)
            one.becomes({mine: 2})
            other.becomes({mine: 5})
        assert {each[mine] for each in first} == {6, 2}
        assert {each[mine] for each in second} == {1, 5}
        assert is_admitted(cluster, "qf-job")

        def told() -> bool:
            events = cluster.list("events.k8s.io/v1", "Event", "default")
            return any(
                each["reason"] == "QuotaBelowUse" and "ClusterQueue qf-a has quota for 2" in each["note"]
                for each in events
            )

        eventually(told, "an event names the queue and the number")
        eventually(
            lambda: controller.metric("slicewise_quota_below_use", queue="qf-a") == 3,
            "and so does the metric",
        )
        finish(cluster, "qf-job")


@pytest.mark.usefixtures("controller")
def test_a_hand_made_queue_is_adopted_and_its_own_parts_stay(installed: AnyCluster) -> None:
    cluster, name, mine = installed, "q-adopted", (pool("QG"), ONE)
    cluster.apply(
        {"apiVersion": KUEUE, "kind": "ResourceFlavor", "metadata": {"name": "qg-plain"}, "spec": {}}
    )
    cpu = {
        "coveredResources": ["cpu", "memory"],
        "flavors": [
            {
                "name": "qg-plain",
                "resources": [
                    {"name": "cpu", "nominalQuota": "64"},
                    {"name": "memory", "nominalQuota": "256Gi"},
                ],
            }
        ],
    }
    spec = {
        "namespaceSelector": {},
        "resourceGroups": [cpu],
        "preemption": {"withinClusterQueue": "LowerPriority"},
    }
    made = cluster.create(
        {
            "apiVersion": KUEUE,
            "kind": "ClusterQueue",
            "metadata": {"name": name, "annotations": {"note": "mine"}},
            "spec": spec,
        }
    )
    with planned(cluster, plan(name, models="QG"), seven("qg-1", "QG")):

        def adopted() -> Object:
            queue = cluster.get(KUEUE, "ClusterQueue", name)
            assert len(queue["spec"]["resourceGroups"]) == 2
            return queue

        queue = eventually(adopted, "the queue has a group for GPUs")
        assert queue["spec"]["resourceGroups"][0] == made["spec"]["resourceGroups"][0]
        assert queue["metadata"]["annotations"]["note"] == "mine"
        others = {key: value for key, value in queue["spec"].items() if key != "resourceGroups"}
        assert others == {key: value for key, value in made["spec"].items() if key != "resourceGroups"}

        def edit() -> None:
            """As an admin would, and again when Kueue's status was faster."""
            document = cluster.get(KUEUE, "ClusterQueue", name)
            for group, number in zip(document["spec"]["resourceGroups"], ("32", "70"), strict=True):
                group["flavors"][0]["resources"][0]["nominalQuota"] = number
            cluster.replace(document)

        eventually(edit, "an admin edits both groups")

        def put_back() -> None:
            groups = cluster.get(KUEUE, "ClusterQueue", name)["spec"]["resourceGroups"]
            assert groups[0]["flavors"][0]["resources"][0]["nominalQuota"] == "32"
            assert groups[1]["flavors"][0] == {
                "name": mine[0],
                "resources": [{"name": ONE, "nominalQuota": "7"}],
            }

        eventually(put_back, "what is ours is put back and what is not stays")


NEVER: Object = {
    "withinClusterQueue": "Never",
    "reclaimWithinCohort": "Never",
    "borrowWithinCohort": {"policy": "Never"},
}
DEFAULTS: Object = {
    "preemption": NEVER,
    "fairSharing": None,
    "admissionChecksStrategy": None,
    "flavorFungibility": {"whenCanBorrow": "MayStopSearch", "whenCanPreempt": "TryNextFlavor"},
    "queueingStrategy": "BestEffortFIFO",
    "stopPolicy": "None",
}
"""What Kueue makes of a queue that says nothing."""
RECLAIMS: Object = {"withinClusterQueue": "LowerPriority", "reclaimWithinCohort": "Any"}
BORROWS: Object = {
    "reclaimWithinCohort": "LowerPriority",
    "borrowWithinCohort": {"policy": "LowerPriority", "maxPriorityThreshold": 100},
}
SEARCH: Object = {"whenCanBorrow": "TryNextFlavor", "whenCanPreempt": "TryNextFlavor"}
CHECKS: list[Object] = [{"name": "q-said-all"}, {"name": "q-said-some", "onFlavors": ["qs-*"]}]
LISTED: list[Object] = [{"name": "q-said-all"}, {"name": "q-said-some", "onFlavors": [pool("QS")]}]
# queue: what the plan says of it, what Kueue then serves, what an admin writes where the plan says nothing
SAID: dict[str, tuple[Object, Object, Object]] = {
    "preemption": (
        {"preemption": RECLAIMS},
        {"preemption": {**NEVER, **RECLAIMS}},
        {"preemption": {**NEVER, "withinClusterQueue": "LowerOrNewerEqualPriority"}},
    ),
    "borrow": (
        {"preemption": BORROWS},
        {"preemption": {**NEVER, **BORROWS}},
        {"preemption": {**NEVER, "reclaimWithinCohort": "Any"}},
    ),
    "sharing": (
        {"fairSharing": {"weight": 3}},
        {"fairSharing": {"weight": "3"}},
        {"fairSharing": {"weight": "5"}},
    ),
    "checks": (
        {"admissionChecks": CHECKS},
        {"admissionChecksStrategy": {"admissionChecks": LISTED}},
        {"admissionChecksStrategy": {"admissionChecks": [{"name": "q-said-own"}]}},
    ),
    "search": (
        {"flavorFungibility": {"whenCanBorrow": "TryNextFlavor"}},
        {"flavorFungibility": SEARCH},
        {"flavorFungibility": {"whenCanBorrow": "MayStopSearch", "whenCanPreempt": "MayStopSearch"}},
    ),
    "preference": (
        {"flavorFungibility": {**SEARCH, "preference": "PreemptionOverBorrowing"}},
        {"flavorFungibility": {**SEARCH, "preference": "PreemptionOverBorrowing"}},
        {"flavorFungibility": {**SEARCH, "preference": "BorrowingOverPreemption"}},
    ),
    "strategy": (
        {"queueingStrategy": "StrictFIFO"},
        {"queueingStrategy": "StrictFIFO"},
        {"queueingStrategy": "StrictFIFO"},
    ),
    "stop": ({"stopPolicy": "Hold"}, {"stopPolicy": "Hold"}, {"stopPolicy": "HoldAndDrain"}),
    "silent": ({}, {}, {"stopPolicy": "Hold"}),
}


@pytest.mark.usefixtures("controller")
def test_what_a_plan_says_of_a_queue_is_written_taken_back_and_left_to_others(installed: AnyCluster) -> None:
    """Each queue in its own field: the others stay as Kueue has them, and what an admin says stays the admin's."""
    cluster, name = installed, "q-said"

    def all_say(wanted: dict[str, Object], members: int, why: str) -> None:
        def check() -> None:
            for queue, said in wanted.items():
                document = cluster.get(KUEUE, "ClusterQueue", f"{name}-{queue}")
                assert {field: document["spec"].get(field) for field in DEFAULTS} == {**DEFAULTS, **said}
                assert sum(quotas(document).values()) == 7 * members, "its quota was written since"

        eventually(check, why)

    def listing(**more: Object) -> Object:
        queues = [{"name": f"{name}-{queue}", "share": 1, **more.get(queue, {})} for queue in SAID]
        return plan(name, *queues, models="QS")

    def edit(queue: str, own: Object) -> None:
        """As an admin would, and again when Kueue's status was faster."""
        document = cluster.get(KUEUE, "ClusterQueue", f"{name}-{queue}")
        cluster.replace({**document, "spec": {**document["spec"], **own}})

    says = {queue: {"kueue": said} for queue, (said, _, _) in SAID.items() if said}
    members = [seven(f"qs-{number}", "QS") for number in range(2 * len(SAID))]
    with planned(cluster, listing(**says), *members[: len(SAID)]):
        all_say({queue: stored for queue, (_, stored, _) in SAID.items()}, 1, "each queue says its own")
        cluster.apply(listing())
        all_say({queue: {} for queue in SAID}, 1, "what the plan says no more is Kueue's default again")
        for queue, (_, _, own) in SAID.items():
            eventually(partial(edit, queue, own), f"an admin edits {queue}")
        nodes.add(cluster, *members[len(SAID) :])
        try:
            all_say(
                {queue: own for queue, (_, _, own) in SAID.items()}, 2, "the admin's words outlast a write"
            )
        finally:
            nodes.remove(cluster, *(each.name for each in members[len(SAID) :]))


@pytest.mark.usefixtures("controller")
def test_a_plan_with_more_than_a_status_holds_says_what_it_leaves_out(installed: AnyCluster) -> None:
    """As etcd has it, with the plan itself and the managed fields: 1.5 MiB are refused."""
    cluster, name = installed, "q-wide"
    slices = {"1g.10gb": 1, "2g.20gb": 1, "3g.40gb": 1}
    members = [nodes.mig_mixed(f"qw-{n}", slices, board=board(f"QW{n}"), gpus=1) for n in range(4)]
    queues = [{"name": f"qw-team-with-a-long-name-{number}"} for number in range(512)]
    with planned(cluster, plan(name, *queues, models="QW*", mode="report"), *members):

        def told() -> None:
            document = cluster.get(OWN, "QuotaPlan", name)
            status = document["status"]
            assert (len(status["queues"]), len(status["pools"])) == (200, len(members))
            assert status["leftOut"].startswith("312 of the queues are not listed")
            assert status["queues"][0]["quota"].keys() == {f"nvidia.com/mig-{profile}" for profile in slices}
            assert len(json.dumps(document)) < 750_000

        eventually(told, "the status says what it leaves out")


@pytest.mark.usefixtures("controller")
def test_a_queue_that_somebody_else_decides_is_left_and_taken_up_again(installed: AnyCluster) -> None:
    cluster, name, mine = installed, "q-elsewhere", (pool("QM"), ONE)
    quota = Quotas(cluster, name)

    def annotated(value: str | None) -> None:
        notes = {"metadata": {"annotations": {"slicewise.io/manage": value}}}
        cluster.patch(KUEUE, "ClusterQueue", name, notes)

    def automated(status: str) -> None:
        """As MultiKueue's quota automation says it, beside what Kueue says."""
        queue = cluster.get(KUEUE, "ClusterQueue", name)
        kind = "MultiKueueManagerQuotaAutomation"
        others = [each for each in queue["status"]["conditions"] if each["type"] != kind]
        said = {"type": kind, "status": status, "reason": "Tested", "message": ""}
        said["lastTransitionTime"] = "2026-01-01T00:00:00Z"
        cluster.patch_status(KUEUE, "ClusterQueue", name, {"conditions": [*others, said]})

    def reason() -> str:
        return str(condition(cluster, name, "Synced")["reason"])

    with planned(cluster, plan(name, models="QM"), seven("qm-1", "QM")):
        quota.becomes({mine: 7})
        annotated("false")
        eventually(lambda: reason() == "LeftToOthers", "the plan says that the queue is left")
        nodes.add(cluster, seven("qm-2", "QM"))
        try:
            eventually(
                lambda: cluster.get(OWN, "QuotaPlan", name)["status"]["pools"][0]["assigned"] == {ONE: "14"},
                "more could be given",
            )
            assert quota() == {mine: 7}
            annotated(None)
            quota.becomes({mine: 14})

            def by_multikueue() -> bool:
                automated("True")  # again, should Kueue have written its status at the same moment
                return reason() == "OrchestratedElsewhere"

            eventually(by_multikueue, "MultiKueue decides")
            nodes.remove(cluster, "qm-2")
            eventually(
                lambda: cluster.get(OWN, "QuotaPlan", name)["status"]["pools"][0]["assigned"] == {ONE: "7"},
                "less could be given",
            )
            assert quota() == {mine: 14}
            automated("False")
            quota.becomes({mine: 7})
        finally:
            nodes.remove(cluster, "qm-2")


@pytest.mark.usefixtures("controller")
def test_a_flavor_retires_in_the_order_that_kueue_needs(installed: AnyCluster) -> None:
    cluster, name = installed, "q-retire"
    small, whole = pool("QH"), pool("QH", "exclusive")
    quota = Quotas(cluster, name)
    last = nodes.exclusive("qh-2", board=board("QH"), gpus=2)
    with planned(cluster, plan(name, models="QH"), seven("qh-1", "QH"), last):
        quota.becomes({(small, ONE): 7, (whole, nodes.GPU): 2})
        run(cluster, "qh-job", name, nodes.GPU)
        nodes.remove(cluster, "qh-2")
        eventually(lambda: quota()[(whole, nodes.GPU)] == 0, "its quota is zero")
        assert cluster.find(KUEUE, "ResourceFlavor", whole)
        finish(cluster, "qh-job")
        eventually(lambda: cluster.find(KUEUE, "ResourceFlavor", whole) is None, "the flavor is gone")
        quota.becomes({(small, ONE): 7})


@pytest.mark.usefixtures("controller")
def test_what_kueue_refuses_is_told_and_tried_again_without_harm(installed: AnyCluster) -> None:
    cluster, name = installed, "q-refused"
    quota = Quotas(cluster, name)
    document = plan(name, models="QI", cover=["cpu"])
    with planned(cluster, document, seven("qi-1", "QI")):
        eventually(lambda: quota()[(pool("QI"), ONE)] == 7, "the queue is there")
        document["spec"]["cover"] = ["cpu", "two..dots/units"]  # which Kueue's webhook alone refuses
        cluster.apply(document)
        eventually(
            lambda: condition(cluster, name, "Synced")["reason"] == "ServerRefused",
            "the refusal is in the status",
        )
        assert f"ClusterQueue {name} was refused" in condition(cluster, name, "Synced")["message"]
        assert quota()[(pool("QI"), ONE)] == 7
        document["spec"]["cover"] = ["cpu"]
        cluster.apply(document)
        eventually(lambda: condition(cluster, name, "Ready")["status"] == "True", "all is well again")


@pytest.mark.usefixtures("controller")
def test_pools_that_two_plans_swap_are_never_promised_twice(installed: AnyCluster) -> None:
    """The second plan has its new pool once the first has given it back, whichever is changed first."""
    cluster, names = installed, ("q-swap-a", "q-swap-b")
    small, whole = (pool("QL"), ONE), (pool("QL", "exclusive"), nodes.GPU)
    quota = {name: Quotas(cluster, name) for name in names}

    def feeding(name: str, fed: str) -> Object:
        return plan(name, models="QL", pools={"matchNames": [fed]})

    last = nodes.exclusive("ql-2", board=board("QL"), gpus=7)
    with (
        planned(cluster, feeding(names[0], small[0]), seven("ql-1", "QL"), last),
        planned(cluster, feeding(names[1], whole[0])),
    ):
        quota[names[0]].becomes({small: 7})
        quota[names[1]].becomes({whole: 7})
        with collected(cluster, *names) as together:
            for turn in range(4):
                fed = (whole, small) if turn % 2 == 0 else (small, whole)
                changed = [feeding(name, flavor) for name, (flavor, _) in zip(names, fed, strict=True)]
                for document in changed if turn < 2 else reversed(changed):
                    cluster.apply(document)
                for name, pair in zip(names, fed, strict=True):
                    quota[name].becomes({pair: 7})
        assert max(number for each in together for number in each.values()) == 7
        eventually(lambda: all(is_done(cluster, name) for name in names), "both plans are Ready")


@pytest.mark.usefixtures("controller")
def test_a_pass_ends_with_its_plan_while_an_answer_is_waited_for(
    installed: AnyCluster, tmp_path: Path
) -> None:
    """The plan gives up a pool that another one then takes, when half of what it said before is written."""
    cluster, mine = installed, (pool("QP"), ONE)
    first, second, other = names = ("q-slow-a", "q-slow-b", "q-slow-c")
    quota = {name: Quotas(cluster, name) for name in names}

    def sharing(*shares: int, models: str = "QP") -> Object:
        listed = [{"name": name, "share": share} for name, share in zip(names, shares, strict=False)]
        return plan("q-slow", *listed, models=models)

    with (
        planned(cluster, sharing(1, 0), seven("qp-1", "QP")),
        planned(cluster, plan(other, models="nothing")),
    ):
        quota[first].becomes({mine: 7})
        eventually(lambda: cluster.find(KUEUE, "ClusterQueue", other) is not None, "the other queue is there")
        with (
            collected(cluster, *names) as together,
            collected(cluster, second) as alone,
            SlowWebhook(cluster, tmp_path, first) as webhook,
        ):
            eventually(lambda: is_done(cluster, "q-slow"), "the first plan is Ready")
            cluster.apply(sharing(0, 1))
            assert webhook.asked.wait(30)
            cluster.apply(sharing(0, 1, models="nothing"))
            cluster.apply(plan(other, models="QP"))
            eventually(
                lambda: condition(cluster, other, "Ready")["reason"] == "WaitsForQuota",
                "the other one waits",
            )
            webhook.answer()
            quota[other].becomes({mine: 7})
        assert max(number for each in together for number in each.values()) == 7
        assert not any(positive(each) for each in alone), "what the plan said before is written no further"
        eventually(lambda: is_done(cluster, other), "the other plan is Ready")


# --- A controller of their own: killed, doubled -----------------------------------------------------------

DRIVER = '''
"""The controller, which kills itself as kill -9 does right after a write, and makes no two at once."""
import asyncio, os, signal, sys
from queue_sync import serve, writer
left = int(sys.argv[2])
turn = asyncio.Lock()

def deadly(method):
    async def write(*arguments):
        global left
        async with turn:
            result = await method(*arguments)
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return result
    return write

for name in ("execute", "annotate_node", "update_status"):
    setattr(writer.Writer, name, deadly(getattr(writer.Writer, name)))
options = serve.Options(sys.argv[1], operations_listen="127.0.0.1:0", settle=0.2, hold_down=2, leader_elect=False)
sys.exit(asyncio.run(serve.serve(options)))
'''


def test_killed_after_each_write_in_turn_it_converges(
    installed: AnyCluster, controller: Server, tmp_path: Path
) -> None:
    cluster, name, mine = installed, "q-killed", pool("QJ")
    controller.program.kill()
    quota = Quotas(cluster, name)
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    kubeconfig = str(cluster.kubeconfig_for(ACCOUNT))
    document = plan(name, {"name": name}, {"name": f"{name}-b", "share": 0}, models="QJ")

    def all_written() -> bool:
        """Whether nothing is left to write: the plan says so, and the nodes are marked."""
        marks = [cluster.get("v1", "Node", each)["metadata"]["labels"] for each in ("qj-1", "qj-2")]
        return is_done(cluster, name) and all(each.get("slicewise.io/pool") == mine for each in marks)

    def over(program: Program) -> bool:
        return not program.running or all_written()

    try:
        with planned(cluster, document, seven("qj-1", "QJ"), seven("qj-2", "QJ")):
            deaths = 0
            for writes in range(30):
                command = [sys.executable, str(driver), kubeconfig, str(writes % 2)]
                program = Program(f"killed-{writes}", command, tmp_path, {"PYTHONPATH": str(ROOT)})
                program.start()
                try:
                    eventually(partial(over, program))
                    if program.running:
                        break
                    deaths += 1
                finally:
                    program.kill()
            # A flavor, two queues, two nodes and a status; no life makes more than two of these writes.
            assert deaths > 2
            quota.becomes({(mine, ONE): 14})
            assert all_written()
    finally:
        controller.start()


def is_done(cluster: KubeClient, name: str) -> bool:
    status = cluster.get(OWN, "QuotaPlan", name).get("status", {})
    return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", []))


def test_a_second_replica_takes_over_and_only_the_leader_writes(
    installed: AnyCluster, controller: Server, tmp_path: Path
) -> None:
    cluster, name, mine = installed, "q-replicas", (pool("QK"), ONE)
    quota = Quotas(cluster, name)
    another = Server(cluster, "controller", tmp_path, 8, *TIMES)
    another.start()

    def roles() -> tuple[Server, Server]:
        """The one that leads, and the one that waits."""
        leading = {server.metric("slicewise_controller_leading"): server for server in (controller, another)}
        assert leading.keys() == {0.0, 1.0}
        return leading[1.0], leading[0.0]

    try:
        with planned(cluster, plan(name, models="QK"), seven("qk-1", "QK"), seven("qk-2", "QK")):
            leader, standby = eventually(roles, "one of the two leads")
            quota.becomes({mine: 14})
            assert standby.metric("slicewise_controller_writes_total") == 0
            with collected(cluster, name) as seen:
                leader.program.kill()
                nodes.remove(cluster, "qk-2")
                quota.becomes({mine: 7})
            assert {each[mine] for each in seen} == {14, 7}
            assert standby.metric("slicewise_controller_leading") == 1
    finally:
        another.program.kill()
