"""What a write says to the API server."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_sync.controllers import plan
from queue_sync.manager import Manager
from queue_sync.writer import merge_patch_of
from slicewise.api import keys
from tests.kube.apiserver import merge
from tests.kube.wire import Fault
from tests.queue_sync.running import NODES, PLANS, QUEUES, World, controlled, eventually
from tests.queue_sync.scenes import MIXED, ONE, mixed

VALUES = st.recursive(
    st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


def looks(controller: Manager) -> float:
    """How often a plan was looked at without a failure."""
    labels = {"controller": "plans", "result": "success"}
    return controller.metrics.registry.get_sample_value("slicewise_controller_reconcile_total", labels) or 0


@pytest.fixture
async def settled(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Manager]:
    """A controller whose plan is right, and that looks again only where something happens."""
    monkeypatch.setattr("queue_sync.controllers.plan.LOOK_AFTER_WRITE", 6000.0)
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.plan()
    async with controlled(world.server) as controller:
        await eventually(lambda: world.condition("Ready")["status"] == "True")
        await world.idle(controller)
        yield controller


@given(OBJECTS, OBJECTS)
def test_a_patch_makes_of_one_object_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert merge(before, merge_patch_of(before, after)) == after
    assert merge_patch_of(after, after) == {}


async def test_what_is_watched_is_written_without_being_read_first(world: World) -> None:
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.plan()
    async with controlled(world.server) as controller:
        await eventually(lambda: world.condition("Ready")["status"] == "True" and world.label("n1"))
        await world.idle(controller)
        version = world.queue()["metadata"]["resourceVersion"]
        world.node(mixed("n1", {"1g.10gb": 9}))
        await eventually(lambda: world.pool()["believed"] == {"nvidia.com/mig-1g.10gb": "9"})
        await world.idle(controller)
    single = (f"{NODES}/", f"{QUEUES}/", f"{PLANS}/")
    assert [
        each.path for each in world.server.seen if each.method == "GET" and each.path.startswith(single)
    ] == []
    patch = world.write_bodies(f"{QUEUES}/")[-1]
    assert patch["metadata"] == {"resourceVersion": version}
    assert patch["spec"].keys() == {"resourceGroups"}


async def test_a_queue_that_kueue_wrote_meanwhile_is_read_and_keeps_what_was_written(world: World) -> None:
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.plan()
    async with controlled(world.server) as controller:
        await eventually(lambda: world.condition("Ready")["status"] == "True")
        await world.idle(controller)
        # Its watch is behind, so the version that is known is an old one.
        watcher = next(each for each in world.server.watchers if each.collection == QUEUES)
        world.server.watchers.discard(watcher)
        world.server.put(QUEUES, "team-a", **{**world.queue(), "status": {"pendingWorkloads": 3}})
        world.node(mixed("n1", {"1g.10gb": 9}))
        await eventually(lambda: "9" in world.quota().values())
        assert world.queue()["status"] == {"pendingWorkloads": 3}
        assert [
            each for each in world.server.seen if each.method == "GET" and each.path == f"{QUEUES}/team-a"
        ]


async def test_a_node_that_its_kubelet_wrote_meanwhile_is_read_and_gets_its_label(world: World) -> None:
    conflict = b'{"kind":"Status","code":409,"reason":"Conflict","message":"the object has been modified"}'
    world.server.faults.append(Fault("PATCH", f"{NODES}/n1", status=409, body=conflict))
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.plan()
    async with controlled(world.server):
        await eventually(lambda: world.label("n1"))
    calls = [each.method for each in world.server.seen if each.path == f"{NODES}/n1"]
    assert calls == ["PATCH", "GET", "PATCH"]


async def test_queues_that_do_not_depend_on_each_other_do_not_wait_for_each_other(world: World) -> None:
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.plan(queues=[{"name": "team-a"}, {"name": "team-b"}, {"name": "team-c"}])
    world.server.faults.append(Fault("POST", QUEUES, delay=0.3))
    async with controlled(world.server):
        await eventually(lambda: world.condition("Synced")["status"] == "True")
    assert list(world.server.objects[QUEUES]) == ["team-b", "team-c", "team-a"]


async def test_the_first_quota_goes_after_what_it_counts_and_before_what_else_is_written_on_nodes(
    world: World,
) -> None:
    counted = [f"n{number}" for number in range(20)]
    doubted = [f"d{number}" for number in range(20)]
    for name in counted:
        world.node(mixed(name, {"1g.10gb": 7}))
    for name in doubted:
        document = mixed(name, {"1g.10gb": 7}, ready=False)
        document["metadata"]["labels"][keys.POOL] = MIXED
        world.node(document)
    world.plan(queues=[{"name": f"team-{number}"} for number in range(20)])
    async with controlled(world.server) as controller:
        await eventually(lambda: not any(world.label(name) for name in doubted))
        await world.idle(controller)
    written = [path for _, path in world.writes() if path.startswith((NODES, QUEUES))]
    assert sorted(written[:20]) == sorted(f"{NODES}/{name}" for name in counted)
    assert written[20:40] == [QUEUES] * 20
    assert sorted(written[40:]) == sorted(f"{NODES}/{name}" for name in doubted)


async def test_the_first_quota_is_written_once_though_nodes_take_a_while_to_say_what_counts(
    world: World,
) -> None:
    for number in range(4):
        world.node(mixed(f"n{number}", {"1g.10gb": 7}))
    world.server.faults.append(Fault("PATCH", NODES, delay=0.6, times=4))
    world.plan()
    async with controlled(world.server) as controller:
        await eventually(lambda: world.quota() == {(MIXED, ONE): "28"})
        await world.idle(controller)
    assert [path for _, path in world.writes() if path.startswith(QUEUES)] == [QUEUES]


async def test_what_a_node_newly_offers_is_given_when_the_node_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "STALE_RETRY", 10**6)
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.plan()
    async with controlled(world.server) as controller:
        await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
        await world.idle(controller)
        world.server.faults.append(Fault("PATCH", f"{NODES}/n2", delay=0.6))
        world.node(mixed("n2", {"1g.10gb": 7}))
        await eventually(lambda: world.quota() == {(MIXED, ONE): "14"})


async def test_where_nothing_can_be_written_on_nodes_quota_is_written_a_second_later(world: World) -> None:
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.plan()
    world.server.faults.append(Fault("PATCH", NODES, status=403, times=10**6))
    async with controlled(world.server) as controller:
        await eventually(
            lambda: (MIXED, ONE) in world.quota() and world.condition("Synced")["status"] == "True"
        )
        assert world.quota() == {(MIXED, ONE): "7"}
        world.node(mixed("n2", {"1g.10gb": 7}))
        await eventually(lambda: world.quota() == {(MIXED, ONE): "14"})
        assert not controller.node_states.unannotated()
    assert not world.kept("n1")


async def test_plans_are_looked_at_once_when_what_a_node_newly_offers_is_noted(
    world: World, settled: Manager
) -> None:
    before = looks(settled)
    world.server.faults.append(Fault("PATCH", f"{NODES}/n2", delay=0.6))
    world.node(mixed("n2", {"1g.10gb": 7}))
    await eventually(lambda: world.quota() == {(MIXED, ONE): "14"})
    assert world.kept("n2")
    await world.idle(settled)
    assert looks(settled) == before + 1


async def test_the_first_quota_waits_for_no_nodes_that_go_on_coming(world: World) -> None:
    """Nothing can be written on them, so there is always one that does not say yet what counts of it."""
    world.server.faults.append(Fault("PATCH", NODES, status=403, times=10**6))
    world.node(mixed("n0", {"1g.10gb": 7}))
    world.plan()
    async with controlled(world.server) as controller:
        for name in (f"n{number}" for number in range(1, 10)):
            await eventually(controller.node_states.unannotated)
            world.node(mixed(name, {"1g.10gb": 7}))
            await asyncio.sleep(0.5)
        assert int(world.quota()[MIXED, ONE]) >= 7


async def test_seeing_ones_own_write_is_no_reason_for_another_look_at_once(
    world: World, settled: Manager
) -> None:
    before = looks(settled)
    world.node(mixed("n1", {"1g.10gb": 9}))
    await eventually(lambda: "9" in world.quota().values())
    await world.idle(settled)
    assert looks(settled) == before + 1
    somebody = world.queue()
    somebody["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["nominalQuota"] = "99"
    world.server.put(QUEUES, "team-a", **{**somebody, "note": "edited"})
    await eventually(lambda: "9" in world.quota().values())
