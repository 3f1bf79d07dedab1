"""A pool goes from one plan to another: whatever is refused on the way, it is never promised twice."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Container, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from queue_sync.controllers import plan as plan_controller
from queue_sync.planning.changes import Change, ChangeSet, Key, key_of
from queue_sync.planning.desired import desired
from queue_sync.planning.handover import Handover, waiting
from queue_sync.planning.kueue.objects import nominal
from queue_sync.planning.kueue.write_order import order
from queue_sync.planning.observed import Object, ObservedState
from queue_sync.planning.plan_diff import desired_of
from queue_sync.planning.steps import complete
from queue_sync.planning.volcano.write_order import withhold
from slicewise.cli.main import main
from slicewise.inventory.pools import Inventory
from slicewise.kube.yaml import dump
from tests.kube.apiserver import ApiServer, Refusal
from tests.kube.wire import Fault, Seen
from tests.queue_sync.running import KINDS, PLANS, QUEUES, VOLCANO, WORKLOADS, World, controlled, eventually
from tests.queue_sync.scenes import GPU, MIXED, ONE, exclusive, inventory, mixed, plan
from tests.queue_sync.test_kueue_write_order import queue as cluster_queue
from tests.queue_sync.test_plan import standing

WHOLE = "h100-80gb-exclusive"
STORES = (QUEUES, VOLCANO)
Plans = Mapping[str, Mapping[str, Any]]
"""What each plan says beside its one queue, which is called like it."""


def pools(*globs: str) -> dict[str, Any]:
    return {"pools": {"matchNames": list(globs)}}


NONE = pools("t4-*")
VOLCANOS = {"engine": "volcano"}
CASES: dict[str, tuple[Plans, Plans, dict[str, tuple[int, int]]]] = {
    "one takes what the other gives up": (
        {"a": pools(MIXED, WHOLE), "b": NONE},
        {"b": pools(WHOLE), "a": pools(MIXED)},
        {"a": (8, 0), "b": (0, 8)},
    ),
    "they swap": (
        {"a": pools(MIXED), "b": pools(WHOLE)},
        {"b": pools(MIXED), "a": pools(WHOLE)},
        {"a": (0, 8), "b": (8, 0)},
    ),
    "the older takes what the other has": (
        {"a": pools(MIXED), "b": pools(WHOLE)},
        {"a": pools(MIXED, WHOLE)},
        {"a": (8, 8), "b": (0, 0)},
    ),
    "one cannot be read any more": (
        {"a": pools(MIXED, WHOLE), "b": NONE},
        {"b": pools(WHOLE), "a": {**pools(MIXED), "nonsense": True}},
        {"a": (8, 0), "b": (0, 8)},
    ),
    "a plan that comes": (
        {"a": pools(MIXED, WHOLE)},
        {"b": pools(WHOLE), "a": pools(MIXED)},
        {"a": (8, 0), "b": (0, 8)},
    ),
    "in Volcano": (
        {"a": {**pools(WHOLE), **VOLCANOS}, "b": {**NONE, **VOLCANOS}},
        {"b": {**pools(WHOLE), **VOLCANOS}, "a": {**NONE, **VOLCANOS}},
        {"a": (0, 0), "b": (0, 8)},
    ),
    "one cannot be read any more, in Volcano": (
        {"a": {**pools(MIXED, WHOLE), **VOLCANOS}, "b": {**NONE, **VOLCANOS}},
        {"a": {**pools(MIXED), **VOLCANOS, "nonsense": True}, "b": {**pools(WHOLE), **VOLCANOS}},
        {"a": (8, 0), "b": (0, 8)},
    ),
    "in Volcano, below parents": (
        {
            "a": {**pools(MIXED, WHOLE), **VOLCANOS, "cohort": "parent-a"},
            "b": {**NONE, **VOLCANOS, "cohort": "parent-b"},
        },
        {
            "b": {**pools(WHOLE), **VOLCANOS, "cohort": "parent-b"},
            "a": {**pools(MIXED), **VOLCANOS, "cohort": "parent-a"},
        },
        {"a": (8, 0), "b": (0, 8)},
    ),
    "the older takes what the other has, in Volcano": (
        {"a": {**pools(MIXED), **VOLCANOS}, "b": {**pools(WHOLE), **VOLCANOS}},
        {"a": {**pools(MIXED, WHOLE), **VOLCANOS}},
        {"a": (8, 8), "b": (0, 0)},
    ),
    "from Kueue to Volcano": (
        {"a": pools(MIXED, WHOLE), "b": {**NONE, **VOLCANOS}},
        {"b": {**pools(WHOLE), **VOLCANOS}, "a": pools(MIXED)},
        {"a": (8, 0), "b": (0, 8)},
    ),
    "from Volcano to Kueue": (
        {"a": {**pools(WHOLE), **VOLCANOS}, "b": pools(MIXED)},
        {"b": pools(MIXED, WHOLE), "a": {**NONE, **VOLCANOS}},
        {"a": (0, 0), "b": (8, 8)},
    ),
}


POOLS = (MIXED, WHOLE)
amounts = st.tuples(st.integers(0, 9), st.integers(0, 9))


def pass_over(
    changes: Iterable[Change], kept: Mapping[Key, Mapping[tuple[str, str], int]], refused: Container[str]
) -> Iterator[tuple[str, Mapping[tuple[str, str], int]]]:
    """Yields each write that is taken: the queue, and its quota then."""
    listed, unwritten = list(changes), set[str]()
    handover = Handover(listed, kept)
    for change in listed:
        name = change.document["metadata"]["name"]
        if name in unwritten:
            continue
        if name in refused:
            handover.keep(change, said=True)
            unwritten.add(name)
            continue
        given, waits = handover.give(change)
        unwritten |= {name} if waits else set()
        if given is not None and given.after is not None:
            yield name, nominal(given.after)


@hypothesis.given(
    queues=st.dictionaries(st.sampled_from("abcde"), st.tuples(amounts, amounts), min_size=2),
    others=amounts,
    refused=st.sets(st.sampled_from("abcde"), max_size=2),
)
def test_what_is_free_is_given_at_once_and_nothing_more(
    queues: dict[str, tuple[tuple[int, int], tuple[int, int]]], others: tuple[int, int], refused: set[str]
) -> None:
    """`queues` have the first of their two pairs, by pool, and are to have the second."""
    numbers = [(pool, GPU) for pool in POOLS]
    stands = {name: dict(zip(numbers, before, strict=True)) for name, (before, _) in queues.items()}
    wanted = {name: dict(zip(numbers, after, strict=True)) for name, (_, after) in queues.items()}

    def document(units: Mapping[tuple[str, str], int], name: str) -> Object:
        return cluster_queue(name, {pool: units[pool, GPU] for pool in POOLS})

    changes = [Change("p", document(stands[name], name), document(wanted[name], name)) for name in queues]
    kept = {("ClusterQueue", "other"): {n: units for n, units in zip(numbers, others, strict=True) if units}}
    had = {n: sum(stands[name][n] for name in queues) for n in numbers}
    most = {
        n: max(had[n] + more, sum(wanted[name][n] for name in queues))
        for n, more in zip(numbers, others, strict=True)
    }
    first = {name: dict(units) for name, units in stands.items()}
    for name, units in pass_over(complete(order(changes)), kept, refused):
        stands[name] = dict(units)
        for number, more in zip(numbers, others, strict=True):
            assert sum(each[number] for each in stands.values()) + more <= most[number]
    for number, more in zip(numbers, others, strict=True):
        gap = {name: wanted[name][number] - first[name][number] for name in queues}
        keeps = more + sum(-gap[name] for name in queues if name in refused and gap[name] < 0)
        grows = {name: units for name, units in gap.items() if units > 0}
        taken = sum(units for name, units in grows.items() if name not in refused)
        got = sum(stands[name][number] - first[name][number] for name in grows)
        assert got == max(0, min(taken, sum(grows.values()) - keeps)), (number, stands)


def test_who_is_written_first_gets_first_of_what_is_free() -> None:
    before, after = {"a": 0, "b": 0, "c": 0}, {"a": 4, "b": 4, "c": 4}
    changes = [
        Change("p", cluster_queue(name, {WHOLE: units}), cluster_queue(name, {WHOLE: after[name]}))
        for name, units in before.items()
    ]
    kept = {("ClusterQueue.kueue.x-k8s.io", "other"): {(WHOLE, GPU): 6}}
    found = {name: units[WHOLE, GPU] for name, units in pass_over(complete(order(changes)), kept, ())}
    assert found == {"a": 4, "b": 2}
    told = [problem.sentence for problem in waiting(ChangeSet(changes=tuple(changes), kept=kept))]
    assert told == [
        f"ClusterQueue {name} gets more {GPU} once that is given back by ClusterQueue other" for name in "bc"
    ]


def test_what_a_queue_keeps_for_good_it_keeps_beside_what_its_write_would_have_given_back() -> None:
    changes = [
        Change("p", cluster_queue("a", {WHOLE: 8}), cluster_queue("a", {WHOLE: 0})),
        Change("p", cluster_queue("b", {MIXED: 0, WHOLE: 0}), cluster_queue("b", {MIXED: 6, WHOLE: 8})),
    ]
    kept = {key_of(changes[0].document): {(MIXED, GPU): 4}}
    assert dict(pass_over(changes, kept, {"a"})) == {"b": {(MIXED, GPU): 2, (WHOLE, GPU): 0}}


def test_what_was_given_before_anybody_kept_anything_is_free_for_nobody_else() -> None:
    """As of Volcano's parents, which grow before the others shrink."""
    names = (("a", 0, 8), ("b", 8, 0), ("c", 0, 8))
    changes = [
        Change("p", cluster_queue(name, {WHOLE: before}), cluster_queue(name, {WHOLE: after}))
        for name, before, after in names
    ]
    found = {name: units[WHOLE, GPU] for name, units in pass_over(changes, {}, {"b"})}
    assert found.get("c", 0) == 0
    assert found["a"] == 8


def test_what_somebody_took_from_a_queue_is_put_back_whatever_others_keep() -> None:
    was, edited = cluster_queue("a", {WHOLE: 6}), cluster_queue("a", {WHOLE: 0})
    changes = [Change("p", edited, cluster_queue("a", {WHOLE: wanted})) for wanted in (6, 8)]
    for change, gets in zip(changes, (6, 7), strict=True):
        handover = Handover([change], {("ClusterQueue", "b"): {(WHOLE, GPU): 1}}, lambda _: was)
        given, waits = handover.give(change)
        assert given is not None
        assert nominal(given.after or {}) == {(WHOLE, GPU): gets}
        assert bool(waits) is (gets == 7)


def test_what_waits_for_nodes_alone_is_over_soon_and_not_said() -> None:
    change = Change("p", cluster_queue("a", {WHOLE: 0}), cluster_queue("a", {WHOLE: 8}))
    for kept, told in (({}, None), ({("ClusterQueue", "b"): {(WHOLE, GPU): 2}}, "ClusterQueue b")):
        handover = Handover([change], kept, unannotated={(WHOLE, GPU): 5})
        given, waits = handover.give(change)
        assert given is not None
        assert nominal(given.after or {}) == {(WHOLE, GPU): 1 if told else 3}
        assert handover.over_soon(waits)
        problem = handover.problem(change, waits)
        assert (problem and problem.sentence.partition(" given back by ")[2]) == told


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ApiServer(KINDS).running() as server:
        yield World(server)


def say(world: World, plans: Plans) -> None:
    for name, spec in plans.items():
        world.plan(name, **{"queues": [{"name": name}], **spec})


def numbers(queue: Mapping[str, Any]) -> Counter[str]:
    """What a queue of either engine has, by resource."""
    found = Counter({name: int(units) for name, units in (queue["spec"].get("deserved") or {}).items()})
    for group in queue["spec"].get("resourceGroups") or ():
        for flavor in group["flavors"]:
            for quota in flavor["resources"]:
                found[quota["name"]] += int(quota["nominalQuota"])
    return found


def given(world: World) -> dict[str, tuple[int, int]]:
    """Slices and whole boards of each queue."""
    found = {
        name: numbers(queue)
        for store in STORES
        for name, queue in world.server.objects[store].items()
        if not name.startswith("parent")
    }
    return {name: (units[ONE], units[GPU]) for name, units in found.items()}


def most_promised(world: World) -> Counter[str]:
    """The most that all queues had together at any moment, by resource."""
    most, queues = Counter[str](), dict[tuple[str, str], Counter[str]]()
    for _, store, kind, document in world.server.history:
        if store in STORES and not document["metadata"]["name"].startswith("parent"):
            queues[store, document["metadata"]["name"]] = (
                numbers(document) if kind != "DELETED" else Counter()
            )
            most |= sum(queues.values(), Counter())
    return most


def right(world: World, wanted: Mapping[str, tuple[int, int]]) -> bool:
    return {name: units for name, units in given(world).items() if any(units)} == {
        name: units for name, units in wanted.items() if any(units)
    }


@pytest.mark.parametrize("refused", [None, 0, 1, 2, 3])
@pytest.mark.parametrize(("before", "after", "end"), CASES.values(), ids=CASES)
async def test_no_pool_is_promised_twice(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    before: Plans,
    after: Plans,
    end: dict[str, tuple[int, int]],
    refused: int | None,
) -> None:
    """`refused` counts writes of queues: the queue of that one takes no further write until somebody heals it."""
    monkeypatch.setattr(plan_controller, "LOOK_AFTER_WRITE", 10**6)
    world.node(mixed("n1", {"1g.10gb": 8}))
    world.node(exclusive("n2", gpus=8))
    say(world, before)
    async with controlled(world.server) as controller:
        await eventually(lambda: sum(most_promised(world).values()) > 0)
        await world.idle(controller)
        writes, broken = 0, ""

        def refuse(request: Seen) -> None:
            nonlocal writes, broken
            if not any(f"{store}/" in request.path for store in STORES):
                return
            if writes == refused:
                broken = request.path
            writes += 1
            if request.path == broken:
                raise Refusal(422, "Invalid", "not now")

        world.server.on_write = refuse
        say(world, after)
        await eventually(lambda: right(world, end) or broken)
        if broken:
            failing = broken[-1]  # its plan is called so, also of a parent
            await eventually(lambda: controller.plans.queue.failures(failing) >= 2)
        refused, broken = None, ""
        await eventually(lambda: right(world, end))
        await world.idle(controller)
        assert right(world, end)
        assert most_promised(world) <= Counter({GPU: 8, ONE: 8})
        assert (world.events("PutBack"), world.events("InternalError")) == ([], [])


@pytest.mark.parametrize("says", [{"suspend": True}, {"mode": "report"}])
@pytest.mark.parametrize("engine", ["kueue", "volcano"])
async def test_what_a_plan_that_writes_nothing_keeps_is_waited_for_and_said(
    world: World, says: dict[str, Any], engine: str
) -> None:
    world.node(exclusive("n2", gpus=8))
    say(world, {"a": {**pools(WHOLE), "engine": engine}, "b": {**NONE, "engine": engine}})
    async with controlled(world.server) as controller:
        await eventually(lambda: right(world, {"a": (0, 8)}))
        await world.idle(controller)
        say(world, {"a": {**NONE, **says, "engine": engine}})
        await world.idle(controller)
        say(world, {"b": {**pools(WHOLE), "engine": engine}})
        await eventually(lambda: world.condition("Ready", "b")["reason"] == "WaitsForQuota")
        kind = "ClusterQueue" if engine == "kueue" else "Queue"
        told = f"{kind} b gets more {GPU} once that is given back by {kind} a"
        assert world.condition("Ready", "b")["message"] == told
        await world.idle(controller)
        assert right(world, {"a": (0, 8)})
        say(world, {"a": {**NONE, "engine": engine}})
        await eventually(lambda: right(world, {"b": (0, 8)}))
        await eventually(lambda: world.condition("Ready", "b")["status"] == "True")
        assert most_promised(world) <= Counter({GPU: 8})


async def test_a_pass_ends_with_the_plan_that_it_began_with(world: World) -> None:
    """While an answer is waited for, the plan gives up a pool that another one then takes."""
    world.node(exclusive("n2", gpus=8))
    both = {"queues": [{"name": "c", "share": 1}, {"name": "a", "share": 0}]}
    other = {"queues": [{"name": "c", "share": 0}, {"name": "a", "share": 1}]}
    say(world, {"a": {**pools(WHOLE), **both}, "b": NONE})
    async with controlled(world.server) as controller:
        await eventually(lambda: right(world, {"c": (0, 8)}))
        await world.idle(controller)
        world.server.faults.append(Fault(method="PATCH", path="clusterqueues/c", late=20.0))
        say(world, {"a": {**pools(WHOLE), **other}})
        await eventually(lambda: right(world, {}))
        say(world, {"a": {**NONE, **other}, "b": pools(WHOLE)})
        await eventually(lambda: right(world, {"b": (0, 8)}))
        await world.idle(controller)
        assert right(world, {"b": (0, 8)})
        assert most_promised(world) <= Counter({GPU: 8})


async def test_what_somebody_writes_into_a_queue_that_waits_is_put_back(world: World) -> None:
    """Though it is less than the queue is to have: the other one has it all."""
    world.node(exclusive("n2", gpus=8))
    say(world, {"a": pools(WHOLE), "b": NONE})
    async with controlled(world.server) as controller:
        await eventually(lambda: right(world, {"a": (0, 8)}))
        say(world, {"a": {**NONE, "suspend": True}})
        await world.idle(controller)
        say(world, {"b": pools(WHOLE)})
        await eventually(lambda: world.condition("Ready", "b")["reason"] == "WaitsForQuota")
        await world.idle(controller)
        for edits in range(
            2
        ):  # the first is told as a change of quota, for until then nothing was given back
            queue = deepcopy(world.queue("b"))
            queue["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["nominalQuota"] = "5"
            world.server.put(QUEUES, "b", **queue)
            await eventually(lambda: right(world, {"a": (0, 8)}))
            await world.idle(controller)
            assert len(world.events("PutBack")) == edits
            await eventually(lambda: world.condition("Ready", "b")["reason"] == "WaitsForQuota")
        say(world, {"a": NONE})
        await eventually(lambda: right(world, {"b": (0, 8)}))
        assert len(world.events("PutBack")) == 1


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("engine", ["kueue", "volcano"])
async def test_a_queue_goes_with_its_pool_to_another_plan(world: World, engine: str, first: str) -> None:
    world.node(mixed("n1", {"1g.10gb": 8}))
    world.node(exclusive("n2", gpus=8))
    of = {"engine": engine}
    say(world, {"a": {**pools(MIXED, WHOLE), **of}, "b": {**NONE, **of}})
    async with controlled(world.server) as controller:
        await eventually(lambda: right(world, {"a": (8, 8)}))
        await world.idle(controller)
        new = {
            "a": {**pools(MIXED), "queues": [{"name": "c"}], **of},
            "b": {**pools(WHOLE), "queues": [{"name": "a"}], **of},
        }
        for name in (first, *(new.keys() - {first})):
            say(world, {name: new[name]})
            await world.idle(controller)
        await eventually(lambda: right(world, {"a": (0, 8), "c": (8, 0)}))
        await world.idle(controller)
        assert most_promised(world) <= Counter({GPU: 8, ONE: 8})
        assert [world.condition("Ready", name)["status"] for name in new] == ["True", "True"]
        assert (world.events("PutBack"), world.events("InternalError")) == ([], [])


def vouched(world: World) -> None:
    """Somebody else answers for what the queue has."""
    queue = deepcopy(world.server.objects[QUEUES]["a"])
    del queue["metadata"]["annotations"]["slicewise.io/plan"]
    world.server.put(QUEUES, "a", **queue)


def grown(world: World) -> None:
    """The pools of the other plan give all that its queue has."""
    world.node(exclusive("n3", gpus=8))


async def test_when_nodes_of_an_idle_plan_go_another_one_gives_back_at_once_what_a_restart_would(
    world: World,
) -> None:
    """It has nothing of them, but in Volcano the name is one."""
    world.node(exclusive("n1", gpus=8))
    world.node(exclusive("n2", gpus=8, product="NVIDIA-A100-SXM4-80GB"))
    say(world, {"a": {**pools("h100-*"), **VOLCANOS}, "b": {**pools("a100-*"), **VOLCANOS}})
    async with controlled(world.server) as controller:
        await eventually(lambda: right(world, {"a": (0, 8), "b": (0, 8)}))
        say(world, {"a": {**pools("h100-*"), **VOLCANOS, "suspend": True}})
        await world.idle(controller)
        world.server.remove("/api/v1/nodes", "n1")
        await eventually(lambda: right(world, {"a": (0, 8)}))
        await eventually(lambda: world.condition("Ready", "b")["reason"] == "WaitsForQuota")


@pytest.mark.parametrize(("engine", "happens"), [("kueue", vouched), ("volcano", grown)])
async def test_what_is_not_kept_any_more_though_no_queue_has_less_is_given(
    world: World, engine: str, happens: Callable[[World], None]
) -> None:
    """The plan that waits is told of neither."""
    world.node(exclusive("n1", gpus=8))
    world.node(exclusive("n2", gpus=8, product="NVIDIA-A100-SXM4-80GB"))
    say(world, {"a": {**pools("*"), "engine": engine}, "b": {**NONE, "engine": engine}})
    async with controlled(world.server) as controller:
        await eventually(lambda: right(world, {"a": (0, 16)}))
        await world.idle(controller)
        say(world, {"a": {**pools("h100-*"), "suspend": True, "engine": engine}})
        await world.idle(controller)
        say(world, {"b": {**pools("a100-*"), "engine": engine}})
        await eventually(lambda: world.condition("Ready", "b")["reason"] == "WaitsForQuota")
        await world.idle(controller)
        happens(world)
        await eventually(lambda: right(world, {"a": (0, 16), "b": (0, 8)}))


async def test_what_a_queue_keeps_that_is_left_to_others_is_waited_for(world: World) -> None:
    world.node(exclusive("n2", gpus=8))
    say(world, {"a": pools(WHOLE), "b": NONE})
    async with controlled(world.server) as controller:
        await eventually(lambda: right(world, {"a": (0, 8)}))
        await world.idle(controller)
        queue = deepcopy(world.server.objects[QUEUES]["a"])
        queue["metadata"]["annotations"]["slicewise.io/manage"] = "false"
        world.server.put(QUEUES, "a", **queue)
        say(world, {"a": NONE, "b": pools(WHOLE)})
        await eventually(lambda: world.condition("Ready", "b")["reason"] == "WaitsForQuota")
        await world.idle(controller)
        assert right(world, {"a": (0, 8)})
        queue = deepcopy(world.server.objects[QUEUES]["a"])
        queue["spec"]["resourceGroups"] = []
        world.server.put(QUEUES, "a", **queue)
        await eventually(lambda: right(world, {"b": (0, 8)}))
        assert most_promised(world) <= Counter({GPU: 8})


@pytest.mark.parametrize(("engine", "store"), [("kueue", QUEUES), ("volcano", VOLCANO)])
async def test_a_plan_that_waits_gives_back_what_is_lost_and_gets_what_is_free_meanwhile(
    world: World, engine: str, store: str
) -> None:
    world.node(mixed("n1", {"1g.10gb": 8}))
    world.node(exclusive("n2", gpus=8))
    say(world, {"a": {**pools(WHOLE), "engine": engine}, "b": {**pools(MIXED), "engine": engine}})
    async with controlled(world.server) as controller:
        await eventually(lambda: right(world, {"a": (0, 8), "b": (8, 0)}))
        await world.idle(controller)
        say(world, {"a": {**NONE, "suspend": True, "engine": engine}})
        say(world, {"b": {**pools(WHOLE, MIXED), "engine": engine}})
        await eventually(lambda: world.condition("Ready", "b")["reason"] == "WaitsForQuota")
        world.server.remove("/api/v1/nodes", "n1")
        await eventually(lambda: right(world, {"a": (0, 8)}))
        assert most_promised(world) <= Counter({GPU: 8, ONE: 8})
        world.node(exclusive("n3", gpus=8))
        await eventually(lambda: right(world, {"a": (0, 8), "b": (0, 8)}))
        await world.idle(controller)
        assert world.server.objects[store]
        assert most_promised(world) <= Counter({GPU: 16, ONE: 8})
        assert world.condition("Ready", "b")["reason"] == "WaitsForQuota"


async def test_what_a_plan_gives_back_that_is_being_deleted_another_one_gets_at_once(world: World) -> None:
    """It was refused, as a rival of the older one, for as long as any work of that one ran."""
    world.node(exclusive("n2", gpus=8))
    say(world, {"a": {**pools(WHOLE), "deletionPolicy": "Release"}})
    async with controlled(world.server) as controller:
        await eventually(lambda: right(world, {"a": (0, 8)}))
        await world.idle(controller)
        world.admitted("a", 2, resource=GPU, flavor=WHOLE)
        await world.idle(controller)
        document = world.server.objects[PLANS]["a"]
        metadata = {**document["metadata"], "deletionTimestamp": "2026-11-29T00:00:00Z"}
        world.server.put(PLANS, "a", **{**document, "metadata": metadata})
        say(world, {"b": pools(WHOLE)})
        await eventually(lambda: right(world, {"b": (0, 8)}))
        await eventually(lambda: world.condition("Ready", "b")["status"] == "True")
        assert world.server.objects[PLANS]["a"]["metadata"]["finalizers"], "its work still runs"
        world.server.remove(WORKLOADS, "lab/w")
        await eventually(lambda: not world.server.objects[PLANS]["a"]["metadata"]["finalizers"])
        await world.idle(controller)
        assert right(world, {"b": (0, 8)})
        assert most_promised(world) <= Counter({GPU: 8})


def unsaid(queue: dict[str, Any]) -> None:
    queue["metadata"]["annotations"]["slicewise.io/owned"] = "torn"


def emptied(queue: dict[str, Any]) -> None:
    """As the message asks of its admin."""
    queue["spec"] |= {"resourceGroups": [], "deserved": {}}


def apart(queue: dict[str, Any]) -> None:
    """An admin puts a resource of the plan into a group of its own, too."""
    quota = {"name": ONE, "nominalQuota": "0"}
    queue["spec"]["resourceGroups"].append(
        {"coveredResources": [ONE], "flavors": [{"name": "theirs", "resources": [quota]}]}
    )


def together(queue: dict[str, Any]) -> None:
    """Back from `apart`."""
    del queue["spec"]["resourceGroups"][1:]


def closing(queue: dict[str, Any]) -> None:
    queue["status"] = {"state": "Closing"}


def closed(queue: dict[str, Any]) -> None:
    queue["status"] = {"state": "Closed"}


SHARED = [{"name": "a", "share": 3}, {"name": "b", "share": 1}]
TURNED = [{"name": "a", "share": 1}, {"name": "b", "share": 3}]
GONE = [{"name": "b", "share": 1}]
LEFT_ALONE: dict[str, tuple[str, Any, Any, list[dict[str, Any]], int]] = {
    "it does not say what is ours, and is not listed any more": (QUEUES, unsaid, emptied, GONE, 8),
    "the same in Volcano": (VOLCANO, unsaid, emptied, GONE, 8),
    "it does not fit": (QUEUES, apart, together, TURNED, 6),
    "it closes": (VOLCANO, closing, closed, TURNED, 6),
}


@pytest.mark.parametrize(("store", "spoil", "heal", "queues", "end"), LEFT_ALONE.values(), ids=LEFT_ALONE)
async def test_nobody_gets_what_a_queue_keeps_that_is_left_as_it_stands(
    world: World, store: str, spoil: Any, heal: Any, queues: list[dict[str, Any]], end: int
) -> None:
    """It is not written at all: what it was to give back was promised to others as well."""
    world.node(exclusive("n2", gpus=8))
    world.node(mixed("n1", {"1g.10gb": 8}))
    engine = "kueue" if store == QUEUES else "volcano"
    world.plan(engine=engine, queues=SHARED)
    async with controlled(world.server) as controller:
        await eventually(lambda: right(world, {"a": (6, 6), "b": (2, 2)}))
        await world.idle(controller)
        queue = deepcopy(world.server.objects[store]["a"])
        spoil(queue)
        world.server.put(store, "a", **queue)
        world.plan(engine=engine, queues=queues)
        await eventually(lambda: "b gets more" in world.condition("Synced")["message"])
        world.server.remove("/api/v1/nodes", "n1")
        await eventually(lambda: given(world)["b"] == (0, 2), 20)
        await world.idle(controller)
        assert most_promised(world)[GPU] == 8
        queue = deepcopy(world.server.objects[store]["a"])
        heal(queue)
        world.server.put(store, "a", **queue)
        await eventually(lambda: given(world)["b"] == (0, end))
        await eventually(lambda: world.condition("Synced")["status"] == "True")
        assert most_promised(world)[GPU] == 8


async def test_what_somebody_adds_to_a_queue_keeps_it_from_giving_back_nothing_else(world: World) -> None:
    """Its other numbers were not written, and given to others all the same."""
    world.node(exclusive("n2", gpus=8))
    world.plan(queues=SHARED)
    async with controlled(world.server) as controller:
        await eventually(lambda: right(world, {"a": (0, 6), "b": (0, 2)}))
        await world.idle(controller)
        queue = deepcopy(world.server.objects[QUEUES]["a"])
        (group,) = queue["spec"]["resourceGroups"]
        group["coveredResources"].append(ONE)
        group["flavors"][0]["resources"].append({"name": ONE, "nominalQuota": "1"})
        world.server.put(QUEUES, "a", **queue)
        world.plan(queues=GONE)
        await eventually(lambda: right(world, {"a": (1, 0), "b": (0, 8)}))
        told = f"ClusterQueue a still has 1 {ONE} of {WHOLE} from QuotaPlan research"
        await eventually(lambda: told in world.condition("Synced")["message"])
        assert most_promised(world)[GPU] == 8


def test_a_cohort_of_kueue_takes_over_no_queue_that_is_called_like_it() -> None:
    pool = inventory(exclusive("n2", gpus=8))
    former = desired_of(plan("gone", queues={"lab": 1}), pool, {}, ObservedState())
    there = replace(standing(former.objects), plans={"next": None})
    found = desired_of(plan("next", queues={"b": 1}, cohort="lab"), pool, {}, there)
    assert [problem.code for problem in found.problems] == ["LeftOverQuota"]
    assert found.assigned == {WHOLE: {GPU: {"b": 0}}}


Numbers = Mapping[str, Any]
WITHHELD: dict[str, tuple[Numbers | None, Numbers, Numbers]] = {
    "what grows stays": ({"deserved": {GPU: "2"}}, {"deserved": {GPU: "6"}}, {"deserved": {GPU: "2"}}),
    "a queue that is made has none": (
        None,
        {"deserved": {GPU: "6", "cpu": "3"}, "capability": {GPU: "6"}},
        {"deserved": {GPU: "0", "cpu": "3"}, "capability": {GPU: "0"}},
    ),
    "what shrinks shrinks": (
        {"deserved": {GPU: "6"}, "capability": {GPU: "8"}},
        {"deserved": {GPU: "2"}, "capability": {GPU: "9"}},
        {"deserved": {GPU: "2"}, "capability": {GPU: "8"}},
    ),
    "what had no limit gets one": (
        {"deserved": {GPU: "2"}},
        {"deserved": {GPU: "6"}, "capability": {GPU: "6"}},
        {"deserved": {GPU: "2"}, "capability": {GPU: "6"}},
    ),
    "what is free of it grows": (
        {"deserved": {ONE: "2"}, "capability": {ONE: "3"}},
        {"deserved": {ONE: "6"}, "capability": {ONE: "9"}},
        {"deserved": {ONE: "5"}, "capability": {ONE: "6"}},
    ),
    "a queue that is made has what is free": (
        None,
        {"deserved": {ONE: "6"}, "capability": {ONE: "6"}},
        {"deserved": {ONE: "3"}, "capability": {ONE: "3"}},
    ),
    "never below the guarantee": (
        {"deserved": {GPU: "2"}},
        {"deserved": {GPU: "6"}, "guarantee": {"resource": {GPU: "4"}}},
        {"deserved": {GPU: "4"}, "guarantee": {"resource": {GPU: "4"}}},
    ),
}


@pytest.mark.parametrize(("before", "after", "wanted"), WITHHELD.values(), ids=WITHHELD)
def test_what_a_queue_of_volcano_waits_for_is_left_out_of_its_write(
    before: Numbers | None, after: Numbers, wanted: Numbers
) -> None:
    def queue(spec: Numbers) -> dict[str, Any]:
        return {"metadata": {"name": "q"}, "spec": dict(spec)}

    found = withhold(None if before is None else queue(before), queue(after), {("", GPU): 0, ("", ONE): 3})
    assert found == queue(wanted)


@pytest.mark.parametrize("engine", ["kueue", "volcano"])
@pytest.mark.parametrize("command", ["plan", "diff", "doctor"])
def test_the_command_says_what_a_queue_waits_for(
    command: str, engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = exclusive("n2", gpus=8)
    former = desired([plan("a", engine, queues={"a": 1}, **pools(WHOLE))], inventory(node), {})
    says = {"a": {**NONE, "suspend": True}, "b": pools(WHOLE)}
    plans = [
        {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "QuotaPlan",
            "metadata": {"name": name},
            "spec": {"engine": engine, "queues": [{"name": name}], **spec},
        }
        for name, spec in says.items()
    ]
    file = tmp_path / "cluster.yaml"
    file.write_text(dump([node, *plans, *former.objects]))
    main([command, "--snapshot", str(file)])
    kind = "ClusterQueue" if engine == "kueue" else "Queue"
    said = capsys.readouterr()
    assert f"{kind} b gets more {GPU} once that is given back by {kind} a" in said.out + said.err
    assert f"{kind} a gets more" not in said.out + said.err


LATER: dict[str, dict[str, Any] | None] = {
    "suspended": {**NONE, "suspend": True},
    "only reports": {**NONE, "mode": "report"},
    "without the pool": NONE,
    "without the queue": {**NONE, "queues": [{"name": "c"}]},
    "not to be read": {**NONE, "nonsense": True},
    "deleted": None,
}


@pytest.mark.parametrize("engine", ["kueue", "volcano"])
@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
async def test_a_write_that_was_under_way_when_its_plan_changed_is_made_good(
    world: World, engine: str, later: dict[str, Any] | None
) -> None:
    """Another plan has what it gives by then, and nobody may write for the one that gave it."""
    world.node(exclusive("n2", gpus=8))
    of = {"engine": engine}
    say(world, {"a": {**NONE, **of}, "b": {**NONE, **of}})
    async with controlled(world.server) as controller:
        await eventually(lambda: {"a", "b"} <= given(world).keys())
        await world.idle(controller)
        store = "clusterqueues" if engine == "kueue" else "queues"
        world.server.faults.append(Fault(method="PATCH", path=f"{store}/a", delay=30.0))
        say(world, {"a": {**pools(WHOLE), **of}})
        await eventually(
            lambda: any(one.path.endswith(f"{store}/a") for one in world.server.seen if one.method == "PATCH")
        )
        if later is None:
            world.server.remove(PLANS, "a")
        else:
            say(world, {"a": {**later, **of}})
        say(world, {"b": {**pools(WHOLE), **of}})
        await eventually(lambda: given(world)["b"] == (0, 8))
        assert given(world)["a"] == (0, 0)
        await eventually(lambda: most_promised(world)[GPU] == 16)
        await eventually(lambda: sum(gpus for _, gpus in given(world).values()) == 8)
        await world.idle(controller)
        assert sum(gpus for _, gpus in given(world).values()) == 8
        assert (world.events("PutBack"), world.events("InternalError")) == ([], [])


@pytest.mark.parametrize(("boards", "gets"), [(20, 20), (16, 16), (12, 4), (8, 0), (4, 0)])
@pytest.mark.parametrize("engine", ["kueue", "volcano"])
@pytest.mark.parametrize("says", [{"suspend": True}, {"mode": "report"}])
def test_what_an_idle_plan_keeps_is_not_there_for_the_one_that_has_the_nodes_now(
    says: dict[str, Any], engine: str, boards: int, gets: int
) -> None:
    """Each has 8. The other plan wants all that there is; what it gets of more is for `Handover` to say."""
    eight = inventory(exclusive("n1", gpus=8))
    objects = [
        each
        for name in "ab"
        for each in desired([plan(name, engine, queues={name: 1}, **pools(WHOLE))], eight, {}).objects
    ]
    plans = [
        plan("a", engine, queues={"a": 1}, **{**NONE, **says}),
        plan("b", engine, queues={"b": 1}, **pools(WHOLE)),
    ]
    there = replace(standing(objects), plans={each.name: each for each in plans})
    found = desired_of(plans[1], inventory(exclusive("n1", gpus=boards)), {}, there)
    assert found.assigned[WHOLE][GPU] == {"b": gets}


A100 = "a100-80gb-exclusive"
BOTH = pools(WHOLE, A100)
Units = Mapping[str, int]
"""GPUs by pool."""
KEPT: dict[str, tuple[str, Units, str, Units, Units, int]] = {
    "nothing to give back": ("kueue", {WHOLE: 8}, "kueue", {}, {WHOLE: 4}, 0),
    "nothing to give back, and all is kept": ("kueue", {WHOLE: 8}, "kueue", {}, {WHOLE: 8}, 0),
    "what is free": ("kueue", {WHOLE: 6}, "kueue", {}, {WHOLE: 8}, 2),
    "what both have beyond the nodes": ("kueue", {WHOLE: 6}, "kueue", {WHOLE: 8}, {WHOLE: 8}, 2),
    "of one pool": ("kueue", {WHOLE: 6}, "kueue", {WHOLE: 4, A100: 4}, {WHOLE: 8, A100: 8}, 10),
    "in Volcano, nothing to give back": ("volcano", {WHOLE: 8}, "volcano", {}, {WHOLE: 4}, 0),
    "in Volcano": ("volcano", {WHOLE: 6}, "volcano", {WHOLE: 8}, {WHOLE: 8}, 2),
    "Kueue's, for Volcano": ("kueue", {WHOLE: 4}, "volcano", {WHOLE: 5, A100: 5}, {WHOLE: 8, A100: 8}, 12),
    "Kueue's beyond its own nodes, for Volcano": (
        "kueue",
        {WHOLE: 8},
        "volcano",
        {WHOLE: 4, A100: 8},
        {WHOLE: 4, A100: 8},
        8,
    ),
    "Volcano's, for Kueue": ("volcano", {WHOLE: 4}, "kueue", {WHOLE: 8}, {WHOLE: 8}, 4),
}


def test_what_a_queue_keeps_of_one_pool_in_several_flavors_adds_up() -> None:
    """An admin's flavor counts too where the queue does not say which of them are ours."""
    found = desired([plan("a", queues={"a": 1}, **pools(WHOLE))], boards({WHOLE: 5}), {})
    flavor, queue = (deepcopy(each) for each in found.objects)
    unsaid(queue)
    other = {**flavor, "metadata": {"name": "mine"}}
    (group,) = queue["spec"]["resourceGroups"]
    group["flavors"].append(
        {"name": "mine", "resources": [{"name": GPU, "nominalQuota": "2"}]},
    )
    plans = {name: plan(name, queues={name: 1}, **what) for name, what in (("a", NONE), ("b", pools(WHOLE)))}
    there = replace(standing([flavor, other, queue]), plans=plans)
    kept = desired_of(plans["b"], boards({WHOLE: 8}), {}, there).kept
    assert kept == {key_of(queue): {(WHOLE, GPU): 7}}


@pytest.mark.parametrize(("idle", "keeps", "engine", "has", "offered", "ends"), KEPT.values(), ids=KEPT)
def test_beside_an_idle_plan_another_ends_with_all_that_is_free_and_says_what_it_waits_for(
    idle: str, keeps: Units, engine: str, has: Units, offered: Units, ends: int
) -> None:
    assert beside_an_idle_plan(idle, keeps, engine, has, offered) == (ends, ["WaitsForQuota"])


def test_what_a_plan_left_that_is_gone_is_nobodys_to_give_back() -> None:
    left = desired([plan("gone", queues={"c": 1}, **BOTH)], boards({WHOLE: 3}), {}).objects
    found = beside_an_idle_plan("kueue", {WHOLE: 2}, "kueue", {WHOLE: 2}, {WHOLE: 8}, *left)
    assert found == (3, ["LeftOverQuota", "WaitsForQuota"])


def beside_an_idle_plan(
    idle: str, keeps: Units, engine: str, has: Units, offered: Units, *more: Object
) -> tuple[int, list[str]]:
    """What another plan has in the end, and what is said of it."""
    plans = {
        "a": plan("a", idle, queues={"a": 1}, **NONE, suspend=True),
        "b": plan("b", engine, queues={"b": 1}, **BOTH),
    }
    gave = [(plan("a", idle, queues={"a": 1}, **BOTH), keeps), (plans["b"], has)]
    stands = {key_of(each): each for one, units in gave for each in desired([one], boards(units), {}).objects}
    stands |= {key_of(each): each for each in more}
    for _ in range(5):
        there = replace(standing(stands.values()), plans=plans)
        found = desired_of(plans["b"], boards(offered), {}, there)
        handover = Handover(found.changes, found.kept)
        written = [given for change in found.changes if (given := handover.give(change)[0]) is not None]
        if not written:
            said = [problem.code for problem in (*found.problems, *waiting(found))]
            return sum(numbers(each)[GPU] for (_, name), each in stands.items() if name == "b"), said
        stands |= {key_of(each.document): each.document for each in written}
    raise AssertionError("it never ends")


def boards(units: Units) -> Inventory:
    """So many whole boards in each pool."""
    products = {WHOLE: "NVIDIA-H100-80GB-HBM3", A100: "NVIDIA-A100-SXM4-80GB"}
    return inventory(
        *(exclusive(pool, gpus=number, product=products[pool]) for pool, number in units.items())
    )
