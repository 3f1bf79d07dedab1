"""The controller against an API server over real sockets: what it writes, when, and what it leaves alone."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from queue_sync.manager import Manager
from queue_sync.planning.kueue import merge as merging
from slicewise.api import keys
from tests.kube.apiserver import ApiServer
from tests.kube.clocks import HurriedLoop
from tests.kube.wire import Fault, Seen
from tests.queue_sync.running import (
    FLAVORS,
    KINDS,
    KUEUE,
    LOCAL,
    NODES,
    PLANS,
    POLICIES,
    QUEUES,
    QUICK,
    VOLCANO,
    WORKLOADS,
    World,
    controlled,
    eventually,
)
from tests.queue_sync.scenes import FOUR, GPU, MIXED, ONE, THREE, exclusive, mixed, mixed_labels, node, sliced

WHOLE = "h100-80gb-exclusive"
SEVEN = {"1g.10gb": 7}
SPLIT = {"3g.40gb": 1, "4g.40gb": 1}


async def synced(world: World, controller: Manager, plan: str = "research") -> None:
    await eventually(lambda: world.condition("Synced", plan)["status"] == "True")
    await world.idle(controller)


async def test_a_first_sync_writes_everything_and_the_steady_state_nothing(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.node(exclusive("n2"))
    world.namespace("lab", team="a")
    world.plan(queues=[{"name": "team-a", "namespaces": {"matchLabels": {"team": "a"}}}])
    async with controlled(world.server) as controller:
        await synced(world, controller)
        assert world.quota() == {(MIXED, GPU): "0", (MIXED, ONE): "7", (WHOLE, GPU): "8", (WHOLE, ONE): "0"}
        assert world.server.objects[LOCAL]["lab/team-a"]["spec"] == {"clusterQueue": "team-a"}
        assert (world.label("n1"), world.label("n2")) == (MIXED, WHOLE)
        assert world.kept("n1") == {ONE: 7}
        pools = {each["name"]: each for each in world.server.objects[PLANS]["research"]["status"]["pools"]}
        assert pools[MIXED] == {
            "name": MIXED,
            "nodes": 1,
            "offered": {ONE: "7"},
            "believed": {ONE: "7"},
            "heldBack": {},
            "assigned": {ONE: "7"},
            "reserved": {},
            "used": {},
        }
        before, events = world.writes(), controller.watched.nodes.counters.events
        lists = world.server.count("GET", QUEUES, watch=False)
        for name in ("n1", "n2"):  # heartbeats
            shown = world.server.objects[NODES][name]
            world.server.put(NODES, name, **{**shown, "heartbeat": "now"})
        world.server.compact()
        world.server.end_watches()
        await eventually(lambda: controller.watched.nodes.counters.events >= events + 2)
        await eventually(lambda: world.server.count("GET", QUEUES, watch=False) > lists)
        await world.idle(controller)
        assert world.writes() == before


async def test_a_node_has_those_queues_worked_out_that_it_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was written in between: the status of a plan has the plan read anew, and says nothing else of it."""
    looked_at: set[str] = set()

    def noted(standing: Any, wanted: Any, *rest: Any) -> Any:
        looked_at.add(wanted["metadata"]["name"])
        return merge(standing, wanted, *rest)

    merge = merging.merge
    monkeypatch.setattr(merging, "merge", noted)
    world.node(mixed("n1", SEVEN))
    world.plan(queues=[{"name": f"team-{number}"} for number in range(4)])
    async with controlled(world.server) as controller:
        await synced(world, controller)
        standing = world.server.objects[PLANS]["research"]
        world.server.put(PLANS, "research", **{**standing, "status": {**standing["status"], "pools": []}})
        await eventually(lambda: world.server.objects[PLANS]["research"]["status"] == standing["status"])
        await world.idle(controller)
        looked_at.clear()
        world.node(mixed("n1", {"1g.10gb": 8}))
        await eventually(lambda: sum(int(world.quota(f"team-{n}")[MIXED, ONE]) for n in range(4)) == 8)
        await world.idle(controller)
        assert len(looked_at) == 1


async def test_what_is_written_on_a_node_comes_back_as_no_change_of_a_pool(world: World) -> None:
    """Nor is it written twice; what somebody takes off the node is written again, and that is all."""
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        pools, told = controller.node_states.pools, controller.watched.nodes.counters
        await synced(world, controller)

        def looks() -> tuple[int, int]:
            return pools.revision, world.writes().count(("PATCH", f"{NODES}/n1"))

        await eventually(lambda: told.events >= 1)
        await world.idle(controller)
        assert looks() == (1, 1)
        bare = {
            **world.server.objects[NODES]["n1"]["metadata"],
            "annotations": {},
            "labels": mixed_labels(SEVEN),
        }
        world.server.put(NODES, "n1", **{**world.server.objects[NODES]["n1"], "metadata": bare})
        await eventually(lambda: (world.label("n1"), world.kept("n1")) == (MIXED, {ONE: 7}))
        await eventually(lambda: told.events >= 3)
        await world.idle(controller)
        assert looks() == (1, 2)
        pending = {**mixed_labels(SEVEN), keys.MIG_CONFIG: "all-balanced", keys.MIG_CONFIG_STATE: "pending"}
        world.node(node("n1", pending, {ONE: 7}))
        await eventually(lambda: world.label("n1") is None)
        await eventually(lambda: told.events >= 5)
        await world.idle(controller)
        assert looks() == (2, 3)


async def test_quota_follows_a_repartition_once_it_has_settled(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        pending = {**mixed_labels(SEVEN), keys.MIG_CONFIG: "all-balanced", keys.MIG_CONFIG_STATE: "pending"}
        world.node(node("n1", pending, {ONE: 7}))
        await eventually(lambda: world.label("n1") is None)
        assert world.quota() == {(MIXED, ONE): "7"}
        await eventually(lambda: world.condition("Believed")["status"] == "False")
        world.node(mixed("n1", SPLIT))
        await eventually(lambda: world.quota() == {(MIXED, THREE): "1", (MIXED, FOUR): "1"})
        await eventually(lambda: world.label("n1") == MIXED)
        assert world.kept("n1") == {THREE: 1, FOUR: 1}
        assert any("pending, not success" in note for note in world.events("HeldBack"))


async def test_a_lost_node_is_held_and_then_leaves(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.node(mixed("n2", SEVEN))
    world.plan()
    async with controlled(world.server, QUICK) as controller:
        await synced(world, controller)
        world.node(mixed("n2", SEVEN, ready=False))
        await eventually(lambda: world.condition("Believed")["status"] == "False")
        assert world.quota() == {(MIXED, ONE): "14"}
        await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
        await eventually(lambda: world.label("n2") is None)
        assert not world.kept("n2")
        world.node(mixed("n2", SEVEN))
        await eventually(lambda: world.quota() == {(MIXED, ONE): "14"})


async def test_a_deleted_node_leaves_at_once(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.node(mixed("n2", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        world.server.remove(NODES, "n2")
        await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})


async def test_an_empty_list_is_never_a_zero(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        gone = world.server.objects[NODES].pop("n1")
        world.namespace("later")  # so that no watch of nodes may go on from where it was
        world.server.compact()
        world.server.end_watches()
        await eventually(lambda: not controller.watched.nodes.store)
        await world.idle(controller)
        assert world.quota() == {(MIXED, ONE): "7"}
        world.server.put(NODES, "n1", **gone)
        await eventually(lambda: controller.watched.nodes.store)
        await world.idle(controller)
        assert world.quota() == {(MIXED, ONE): "7"}
    del world.server.objects[NODES]["n1"]
    async with controlled(world.server) as controller:
        await eventually(lambda: world.condition("Synced")["reason"] == "NoNodes")
        await world.idle(controller)
        assert world.quota() == {(MIXED, ONE): "7"}


async def test_the_last_node_gone_for_the_hold_down_is_gone(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server, QUICK) as controller:
        await synced(world, controller)
        world.server.remove(NODES, "n1")
        await eventually(lambda: world.quota() == {})
        await eventually(lambda: not world.server.objects[FLAVORS])


async def test_errors_of_the_server_are_no_zeros(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    world.server.faults += [
        Fault("GET", NODES, times=3, status=500),
        Fault("GET", QUEUES, times=2, status=429),
    ]
    async with controlled(world.server) as controller:
        await synced(world, controller)
        wanted = world.queue()["spec"]["resourceGroups"]
        # As often as the server made it be written, and never with another number.
        written = [body["spec"]["resourceGroups"] for body in world.write_bodies("clusterqueues")]
        assert [each for each in written if each != wanted] == []
        world.server.faults.append(Fault("GET", NODES, times=4, status=503))
        world.server.compact()
        world.server.end_watches("cut")
        await eventually(lambda: not world.server.faults[-1].times)
        await world.idle(controller)
        right = world.queue()["spec"]["resourceGroups"]
        # Whatever was written, and however often: never anything but what is right.
        assert all(body["spec"]["resourceGroups"] == right for body in world.write_bodies("clusterqueues"))
        assert world.quota() == {(MIXED, ONE): "7"}


async def test_conflicts_are_read_again_and_retried(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    conflict = b'{"kind":"Status","code":409,"reason":"Conflict","message":"the object has been modified"}'
    async with controlled(world.server) as controller:
        await synced(world, controller)
        world.server.faults.append(Fault("PATCH", QUEUES, times=7, status=409, body=conflict))
        world.node(mixed("n2", SEVEN))
        await eventually(lambda: world.quota() == {(MIXED, ONE): "14"})


async def test_what_the_server_refuses_is_told_and_tried_again(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan(queues=[{"name": "team-a"}, {"name": "team-b"}])
    said = b'{"kind":"Status","code":403,"reason":"Forbidden","message":"admission webhook denied the request: no"}'
    fault = Fault("POST", QUEUES, times=2, status=403, body=said)
    world.server.faults.append(fault)
    async with controlled(world.server) as controller:
        await eventually(lambda: world.events("ServerRefused"))
        assert "ClusterQueue team-a was refused by the API server: admission webhook denied" in str(
            world.events("ServerRefused")
        )
        await synced(world, controller)
        assert world.quota() == {(MIXED, ONE): "4"}
        assert world.quota("team-b") == {(MIXED, ONE): "3"}


async def test_a_flavor_that_cannot_be_made_is_not_referred_to(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    said = b'{"kind":"Status","code":422,"reason":"Invalid","message":"no such flavor"}'
    fault = Fault("POST", FLAVORS, times=1000, status=422, body=said)
    world.server.faults.append(fault)
    async with controlled(world.server) as controller:
        await eventually(lambda: world.condition("Synced")["reason"] == "ServerRefused")
        assert QUEUES not in [path for _, path in world.writes()]
        fault.times = 0
        await synced(world, controller)
        paths = [path for _, path in world.writes() if "kueue" in path]
        assert {*paths[: paths.index(QUEUES)]} == {FLAVORS}


async def test_an_edit_is_put_back_once_and_a_rival_is_left_alone(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()

    def edit() -> None:
        queue = world.queue()
        queue = {**queue, "spec": {**queue["spec"], "resourceGroups": []}}
        world.server.put(QUEUES, "team-a", **queue)

    async with controlled(world.server) as controller:
        await synced(world, controller)
        for _ in range(5):
            edit()
            await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
            await world.idle(controller)
        assert "was put back" in world.events("PutBack")[0]
        edit()
        await eventually(lambda: world.condition("Synced")["reason"] == "WriteConflict")
        await world.idle(controller)
        assert world.quota() == {}
        assert "somebody else keeps writing" in world.events("WriteConflict")[0]
        await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})  # the pause is over


async def test_a_status_that_was_taken_away_is_written_again(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    world.policy("research", {"training": {"strategy": "mig"}})
    async with controlled(world.server) as controller:
        await synced(world, controller)
        await eventually(lambda: world.policy_condition("Ready"))
        await world.idle(controller)
        for collection in (PLANS, POLICIES):
            shown = world.server.objects[collection]["research"]
            world.server.put(collection, "research", **{**shown, "status": {}})
        await eventually(lambda: world.condition("Ready"))
        await eventually(lambda: world.policy_condition("Ready"))
        await world.idle(controller)
        before = world.writes()
        await world.idle(controller)
        assert world.writes() == before


@pytest.mark.parametrize(("collection", "kind"), [(PLANS, "QuotaPlan"), (POLICIES, "SlicingPolicy")])
async def test_a_status_that_cannot_be_written_is_counted_and_tried_again(
    world: World, collection: str, kind: str
) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    world.policy("research", {"training": {"strategy": "mig"}})
    world.server.faults.append(Fault("PATCH", collection, times=2, status=500))
    async with controlled(world.server) as controller:
        await eventually(lambda: world.condition("Ready"))
        await eventually(lambda: world.policy_condition("Ready"))
        registry, labels = controller.metrics.registry, {"kind": kind, "verb": "update"}
        failed = {**labels, "result": "failed"}
        assert registry.get_sample_value("slicewise_controller_writes_total", failed) == 2


async def test_a_change_of_mind_right_after_a_write_is_no_edit(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()

    def gone_again(write: Seen) -> None:
        if write.path == f"{QUEUES}/team-a" and "n2" in world.server.objects[NODES]:
            world.server.remove(NODES, "n2")

    async with controlled(world.server) as controller:
        await synced(world, controller)
        world.server.on_write = gone_again
        world.node(mixed("n2", SEVEN))
        await eventually(lambda: len(world.write_bodies(QUEUES)) == 3)
        await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
        await world.idle(controller)
        assert world.events("PutBack") == []


async def test_the_way_from_event_to_write_is_measured_once_it_is_made(world: World) -> None:
    def measured(controller: Manager) -> float:
        return (
            controller.metrics.registry.get_sample_value("slicewise_controller_event_to_write_seconds_count")
            or 0
        )

    world.node(mixed("n1", SEVEN))
    world.plan(mode="report")
    async with controlled(world.server) as controller:
        await eventually(lambda: world.condition("Synced")["reason"] == "ReportOnly")
        world.node(mixed("n2", SEVEN))
        await eventually(lambda: world.pool()["nodes"] == 2)
        await world.idle(controller)
        world.plan()
        await eventually(lambda: world.quota() == {(MIXED, ONE): "14"})
        await world.idle(controller)
        assert measured(controller) == 0, "nothing was to be written when the nodes came"
        world.server.faults.append(Fault("PATCH", QUEUES, status=409, times=5))
        world.node(mixed("n3", SEVEN))
        await eventually(lambda: world.quota() == {(MIXED, ONE): "21"})
        await world.idle(controller)
        assert measured(controller) == 1


async def test_the_admins_own_fields_are_no_edit(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        queue = world.queue()
        world.server.put(QUEUES, "team-a", **{**queue, "spec": {**queue["spec"], "stopPolicy": "Hold"}})
        world.node(mixed("n2", SEVEN))
        await eventually(lambda: world.quota() == {(MIXED, ONE): "14"})
        assert world.queue()["spec"]["stopPolicy"] == "Hold"
        assert world.events("PutBack") == []


async def test_a_name_in_use_drains_before_it_leaves(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server, QUICK) as controller:
        await synced(world, controller)
        world.admitted("team-a", 5)
        world.node(mixed("n1", SPLIT))
        await eventually(
            lambda: world.quota() == {(MIXED, ONE): "0", (MIXED, THREE): "1", (MIXED, FOUR): "1"}
        )
        await eventually(lambda: "5 are in use; nobody is evicted" in str(world.events("QuotaBelowUse")))
        await world.idle(controller)
        world.server.remove(WORKLOADS, "lab/w")
        await eventually(lambda: world.quota() == {(MIXED, THREE): "1", (MIXED, FOUR): "1"})


async def test_use_shows_in_the_status(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        world.admitted("team-a", 3)
        await eventually(lambda: world.pool()["reserved"] == {ONE: "3"})
        assert world.pool()["used"] == {ONE: "3"}


async def test_a_plan_that_only_reports_writes_its_status_alone(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan(mode="report")
    async with controlled(world.server) as controller:
        await eventually(lambda: world.condition("Synced")["reason"] == "ReportOnly")
        await world.idle(controller)
        assert "would create ResourceFlavor h100-80gb-mig-mixed" in world.condition("Synced")["message"]
        assert not [path for _, path in world.writes() if KUEUE in path]


async def test_a_newer_plan_over_the_same_pool_waits_until_the_older_one_is_gone(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        world.plan("other", queues=[{"name": "team-b"}])
        await eventually(lambda: world.condition("Accepted", "other")["reason"] == "PoolInTwoPlans")
        world.node(mixed("n2", SEVEN))
        await eventually(lambda: world.quota() == {(MIXED, ONE): "14"})
        assert world.condition("Accepted")["status"] == "True"
        world.plan(pools={"matchStrategies": ["exclusive"]})
        await eventually(lambda: world.quota("team-b") == {(MIXED, ONE): "14"})
        await eventually(lambda: world.condition("Accepted", "other")["status"] == "True")


async def test_a_plan_that_breaks_a_rule_is_told_and_the_rest_goes_on(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan("broken", engine="slurm")
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        assert world.condition("Accepted", "broken")["status"] == "False"
        assert "spec.engine" in world.condition("Accepted", "broken")["message"]


async def test_deleting_a_plan_leaves_everything_as_it_is(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        before = world.writes()
        world.server.remove(PLANS, "research")
        await eventually(lambda: not controller.watched.plans.store)
        await world.idle(controller)
        assert world.writes() == before
        assert world.quota() == {(MIXED, ONE): "7"}


async def test_a_node_that_cannot_be_read_is_told_and_left_out(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        world.server.put(NODES, "odd", spec={"taints": "none"}, status={})
        await eventually(lambda: world.events("Unparsable"))
        world.node(mixed("n2", {"1g.10gb": 5}))
        await eventually(lambda: world.quota() == {(MIXED, ONE): "12"})


async def test_queues_that_kueue_orchestrates_are_left(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.server.put(
        QUEUES, "team-a", spec={"namespaceSelector": {}}, status={"effectiveQuotas": [{"name": "x"}]}
    )
    world.plan()
    async with controlled(world.server) as controller:
        await eventually(lambda: world.condition("Synced")["reason"] == "OrchestratedElsewhere")
        await world.idle(controller)
        assert world.quota() == {}


async def test_without_kueue_the_plan_says_so() -> None:
    kinds = {path: kind for path, kind in KINDS.items() if not path.startswith(KUEUE)}
    async with ApiServer(kinds).running() as server:
        world = World(server)
        world.node(mixed("n1", SEVEN))
        world.plan()
        async with controlled(server):
            await eventually(lambda: world.condition("Synced")["reason"] == "EngineMissing")
            assert "install Kueue" in world.condition("Synced")["message"]
            await eventually(lambda: world.label("n1") == MIXED)


async def test_volcano_queues_are_written_in_an_order_that_volcano_takes(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan(engine="volcano", cohort="lab", queues=[{"name": "a", "share": 3}, {"name": "b"}])
    async with controlled(world.server) as controller:
        await synced(world, controller)
        queues = world.server.objects[VOLCANO]
        assert queues["lab"]["spec"]["deserved"] == {ONE: "7"}
        assert queues["a"]["spec"] == {"deserved": {ONE: "5"}, "capability": {ONE: "7"}, "parent": "lab"}
        assert [body["metadata"]["name"] for body in world.write_bodies("queues")] == ["lab", "a", "b"]


async def test_a_node_replaced_by_another_of_its_name_is_a_new_node(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.node(sliced("n2"))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        del world.server.objects[NODES]["n1"]
        world.node(exclusive("n1"))
        world.server.compact()
        world.server.end_watches()
        await eventually(lambda: world.quota().get((WHOLE, GPU)) == "8")
        assert world.label("n1") == WHOLE


# --- Killed between any two writes ------------------------------------------------------------------------


def stands(world: World) -> dict[str, Any]:
    """What is left when all is done, but for times and versions."""
    kinds: dict[str, Any] = {}
    for path in (FLAVORS, QUEUES, LOCAL):
        kinds[path] = {key: each["spec"] for key, each in world.server.objects[path].items()}
    kinds["labels"] = {name: world.label(name) for name in world.server.objects[NODES]}
    kinds["kept"] = {name: world.kept(name) for name in world.server.objects[NODES]}
    return kinds


def scene(world: World) -> None:
    """A cluster that was synced for other nodes, so that there is something to make, change, drain and delete."""
    world.namespace("lab", team="a")
    world.node(mixed("n1", SPLIT))
    world.node(sliced("n2"))
    queues = [
        {"name": "team-a", "share": 3, "namespaces": {"matchLabels": {"team": "a"}}},
        {"name": "team-b"},
    ]
    world.plan(queues=queues)


def change(world: World) -> None:
    """What the killed controller is in the middle of: a flavor leaves, a node and a namespace come."""
    world.server.remove(NODES, "n0")
    world.node(mixed("n3", SEVEN))
    world.namespace("late", team="a")


async def settled(world: World, controller: Manager) -> None:
    await eventually(lambda: WHOLE not in world.server.objects[FLAVORS])
    await synced(world, controller)


async def result(kill_after: int | None = None) -> dict[str, Any]:
    """What stands in the end, of a life without or with a violent death after so many writes."""
    async with ApiServer(KINDS).running() as server:
        world = World(server)
        world.node(exclusive("n0"))
        scene(world)
        async with controlled(server) as controller:
            await synced(world, controller)
        change(world)
        if kill_after is not None:
            await killed(world, kill_after)
        async with controlled(server) as controller:
            await settled(world, controller)
        return stands(world)


@pytest.fixture(scope="module")
def undisturbed() -> dict[str, Any]:
    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        return runner.run(result())


@pytest.mark.parametrize("after", range(9))
async def test_killed_after_any_write_and_restarted_the_result_is_the_same(
    after: int, undisturbed: dict[str, Any]
) -> None:
    assert await result(kill_after=after) == undisturbed


async def given_back(world: World, _: Manager) -> None:
    await eventually(lambda: not world.server.objects[PLANS]["research"]["metadata"]["finalizers"])


@pytest.mark.parametrize("after", range(6))
async def test_killed_while_a_deleted_plan_gives_back_the_next_process_gives_back_the_rest(
    world: World, after: int
) -> None:
    world.node(mixed("n1", SEVEN))
    world.namespace("lab", team="a")
    queues = [{"name": "team-a", "namespaces": {"matchLabels": {"team": "a"}}}, {"name": "team-b"}]
    world.plan(queues=queues, deletionPolicy="Release")
    async with controlled(world.server) as controller:
        await synced(world, controller)
        await eventually(lambda: "lab/team-a" in world.server.objects[LOCAL])
    before = len(world.writes())
    deleted = world.server.objects[PLANS]["research"]
    world.server.put(
        PLANS, "research", **{**deleted, "metadata": {**deleted["metadata"], "deletionTimestamp": "now"}}
    )
    await killed(world, after, given_back)
    assert len(world.writes()) > before
    async with controlled(world.server) as controller:
        await given_back(world, controller)
    left = [world.server.objects[path] for path in (FLAVORS, LOCAL)]
    assert (world.quota("team-a"), world.quota("team-b"), left) == ({}, {}, [{}, {}])


DOUBTED = mixed("n1", SEVEN, ready=False)
GIVEN: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "a node that was never seen": ([], mixed("n1", SEVEN)),
    "a node that offers more": ([mixed("n1", {"1g.10gb": 5})], mixed("n1", SEVEN)),
    "a node that comes beside another": ([mixed("n0", SEVEN)], mixed("n1", SEVEN)),
}


@pytest.mark.parametrize("after", range(7))
@pytest.mark.parametrize(("before", "shows"), GIVEN.values(), ids=GIVEN)
async def test_killed_after_any_write_the_next_process_holds_whatever_was_given(
    world: World, before: list[dict[str, Any]], shows: dict[str, Any], after: int
) -> None:
    """The node is in doubt when it looks: what was given and kept nowhere was 0 at once."""
    world.plan(queues=[{"name": "team-a"}, {"name": "team-b"}])
    for document in before:
        world.node(document)
    if before:
        async with controlled(world.server) as controller:
            await synced(world, controller)
    world.node(shows)
    await killed(world, after, synced)
    given = stands(world)[QUEUES]
    world.node(DOUBTED)
    async with controlled(world.server) as controller:
        await eventually(
            lambda: controller.node_states.complete and world.condition("Synced")["status"] == "True"
        )
        await world.idle(controller)
        units = {name: world.quota(name).get((MIXED, ONE), "0") for name in ("team-a", "team-b")}
    for name, spec in given.items():
        for group in spec["resourceGroups"]:
            assert int(units[name]) >= int(group["flavors"][0]["resources"][0]["nominalQuota"])


async def killed(
    world: World, after: int, done: Callable[[World, Manager], Coroutine[Any, Any, None]] = settled
) -> None:
    """Runs a controller until it has written so often, and lets no later write arrive."""
    dead = asyncio.Event()
    written = 0

    def count(_: object) -> None:
        nonlocal written
        written += 1
        if written > after:
            dead.set()
            raise ConnectionError  # the connection dies with the process

    async with controlled(world.server) as controller:
        world.server.on_write = count
        ends = [asyncio.create_task(dead.wait()), asyncio.create_task(done(world, controller))]
        _, pending = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
    world.server.on_write = None


async def test_a_label_of_a_namespace_that_nobody_reads_wakes_nothing(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.namespace("lab", team="a")
    world.plan(queues=[{"name": "team-a", "namespaces": {"matchLabels": {"team": "a"}}}])
    world.policy("research", {"training": {"strategy": "mig"}})
    async with controlled(world.server) as controller:
        await synced(world, controller)
        registry = controller.metrics.registry

        def reconciles() -> float:
            return sum(
                sample.value
                for metric in registry.collect()
                if metric.name == "slicewise_controller_reconcile"
                for sample in metric.samples
                # What all plans are promised is looked at some seconds after the last change, which may be now.
                if sample.name.endswith("_total") and sample.labels["controller"] != "overcommitment"
            )

        before, events = reconciles(), controller.watched.namespaces.counters.events
        world.namespace("lab", team="a", mood="fine")
        await eventually(lambda: controller.watched.namespaces.counters.events > events)
        await world.idle(controller)
        assert reconciles() == before
        world.namespace("lab", team="b", mood="fine")
        await eventually(lambda: not world.server.objects[LOCAL])
