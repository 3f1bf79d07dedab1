"""What fails is seen, is tried again, and is nobody else's fault.

Faults that a review once proved, and the tests that keep them away (here where no file is named):

- an edit while writes are refused counts as many: `test_one_edit_while_writes_are_refused_is_put_back…`
- failures while much happens make the next try wait for minutes: `test_an_outage_in_which_much_happens…`
- a silent watch makes a person's edits a fight: `test_edits_that_a_silent_watch_hides_are_no_fight`
- a pass that always raises is invisible: `test_a_reconcile_that_raises_is_a_condition_an_event_and_a_number`
- a flavor that cannot be changed stops its queues: `test_a_flavor_that_stands_and_cannot_be_changed_stops_no_queue`
- a second plan stops the first: test_life_of_plans, `test_a_second_plan_by_mistake_does_not_stop_the_first`
- a deleted plan's quota is unseen: test_life_of_plans, `test_a_deleted_plan_leaves_its_queues_and_that_is_said`
- metric, status, drift and doctor disagree: test_overcommit, test_overcommit_agreed
- what a pass remembers changes its result: test_plan, `test_what_a_cohort_has…`; test_truth
- a long repartition is believed at once: test_node_trust, `test_a_repartition_settles_however_long_it_takes`
- a restart with a wrong clock ends a hold: test_clocks
- others get what a queue whose write is refused still has: `test_what_a_queue_cannot_give_back_nobody_else_gets`
- the engine that a plan comes to hands out what the one it leaves still has: `test_what_the_former_engine_cannot_…`
- quota that was left over and is given back goes to nobody: `test_what_is_left_over_goes_to_others_as_soon_as_…`
- two queues that swap both have it while one is refused: `test_queues_that_swap_have_nothing_twice_…`
- a flavor that is refused freezes every shrink: `test_a_flavor_that_cannot_be_made_keeps_no_queue_from_giving_back`
- LocalQueues that cannot be made leave the plan Ready: `test_local_queues_that_cannot_be_made_are_the_plans_condition`
- two programs write on one node as fast as they can: `test_somebody_who_keeps_taking_our_label_off_a_node…`
- a label that nobody reads wakes every plan: test_controller, `test_a_label_of_a_namespace_that_nobody_reads…`
- a node event costs queues times namespaces: test_local_queues, `test_a_node_event_holds_no_namespace…`
"""

import json
from copy import deepcopy
from functools import partial
from typing import Any

import pytest

from queue_sync.controllers import local_queue
from queue_sync.controllers import plan as plan_controller
from queue_sync.manager import Manager
from queue_sync.metrics import drift as drift_gauge
from queue_sync.planning import edit_conflicts
from queue_sync.planning.changes import ChangeSet
from queue_sync.planning.edit_conflicts import MOST_PUT_BACK
from queue_sync.planning.kueue.local_queues import QueueSelectors, changes_in
from queue_sync.planning.plan_diff import steps_to
from queue_sync.status import plan_status, policy_status
from slicewise.api import keys
from slicewise.inventory import planned_geometry
from tests.kube.wire import Fault
from tests.queue_sync.running import (
    FLAVORS,
    LOCAL,
    NODES,
    PLANS,
    QUEUES,
    VOLCANO,
    World,
    controlled,
    eventually,
)
from tests.queue_sync.scenes import GPU, MIXED, ONE, exclusive, inventory, mixed, sliced

SEVEN = {"1g.10gb": 7}


def refusal(code: int, message: str) -> bytes:
    return json.dumps({"kind": "Status", "apiVersion": "v1", "code": code, "message": message}).encode()


def sample(manager: Manager, name: str, /, **labels: str) -> float:
    return manager.metrics.registry.get_sample_value(name, labels) or 0.0


async def synced(world: World, controller: Manager) -> None:
    await eventually(lambda: world.condition("Synced")["status"] == "True")
    await world.idle(controller)


def emptied(world: World) -> None:
    """Somebody takes the numbers out of the queue."""
    queue = world.queue()
    world.server.put(QUEUES, "team-a", **{**queue, "spec": {**queue["spec"], "resourceGroups": []}})


@pytest.mark.parametrize(
    ("code", "message", "reason"),
    [
        (500, "failed calling webhook vclusterqueue.kb.io: connection refused", "WriteFailed"),
        (422, "borrowingLimit must be nil when cohort is empty", "ServerRefused"),
    ],
)
async def test_one_edit_while_writes_are_refused_is_put_back_as_soon_as_one_is_taken(
    world: World, code: int, message: str, reason: str
) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        fault = Fault(
            method="PATCH", path="clusterqueues", status=code, body=refusal(code, message), times=1000
        )
        world.server.faults.append(fault)
        emptied(world)
        await eventually(lambda: 1000 - fault.times >= 8)
        await eventually(lambda: world.condition("Synced")["reason"] == reason)
        assert message in world.condition("Synced")["message"]
        assert sample(controller, "slicewise_controller_failing_keys", controller="plans") == 1
        fault.times = 0
        await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
        await synced(world, controller)
        put_back = {"kind": "ClusterQueue", "name": "team-a"}
        assert sample(controller, "slicewise_controller_put_back_total", **put_back) == 1
        assert (len(world.events("PutBack")), world.events("WriteConflict")) == (1, [])
        assert sample(controller, "slicewise_controller_failing_keys", controller="plans") == 0


async def test_an_outage_in_which_much_happens_is_made_good_soon_after(world: World) -> None:
    """Each event is another try that fails, and none of them makes the next one wait for minutes."""
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        message = "failed calling webhook vclusterqueue.kb.io: connection refused"
        fault = Fault(
            method="PATCH", path="clusterqueues", status=500, body=refusal(500, message), times=1000
        )
        world.server.faults.append(fault)
        emptied(world)

        def failed_times(number: int) -> bool:
            return 1000 - fault.times >= number

        for tries in range(1, 15):
            await eventually(partial(failed_times, tries))
            world.node(mixed("n1", {"1g.10gb": 7 + tries}))
        await world.idle(controller)
        assert controller.plans.queue.failures("research") >= 14
        fault.times = 0
        await eventually(lambda: world.quota() == {(MIXED, ONE): "21"}, seconds=100)


async def test_edits_that_a_silent_watch_hides_are_no_fight(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()

    def edit(units: str) -> None:
        queue = json.loads(json.dumps(world.queue()))
        queue["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["nominalQuota"] = units
        world.server.put(QUEUES, "team-a", **queue)

    async with controlled(world.server) as controller:
        await synced(world, controller)
        edit("9")
        monkeypatch.setattr(world.server, "_send", lambda *_: None)
        edit("8")
        stale = {"kind": "ClusterQueue", "verb": "update", "result": "stale"}
        await eventually(lambda: sample(controller, "slicewise_controller_writes_total", **stale) >= 8)
        assert world.events("WriteConflict") == []
        monkeypatch.undo()
        world.server.end_watches()
        await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})


async def test_a_flavor_that_stands_and_cannot_be_changed_stops_no_queue(world: World) -> None:
    """Kueue refuses changes of some flavors with a topology; nodes die all the same."""
    for name in ("n1", "n2"):
        world.node(mixed(name, SEVEN))
    world.plan(topology={"*": "rack"})
    async with controlled(world.server) as controller:
        await synced(world, controller)
        body = refusal(422, "resourceFlavorSpec are immutable when topologyName is set")
        world.server.faults.append(
            Fault(method="PATCH", path="resourceflavors", status=422, body=body, times=10**6)
        )
        flavor = deepcopy(world.server.objects[FLAVORS][MIXED])
        flavor["spec"]["nodeTaints"] = [{"key": "theirs", "effect": "NoSchedule"}]
        world.server.put(FLAVORS, MIXED, **flavor)
        await eventually(lambda: world.condition("Synced")["reason"] == "ServerRefused")
        world.server.remove(NODES, "n2")
        await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
        assert world.server.objects[FLAVORS][MIXED]["spec"] == flavor["spec"]


NEVER = 10**6


def queue_refused(world: World, engine: str, name: str = "team-a") -> Fault:
    """From now on the server takes no write of this queue."""
    kind = "clusterqueues" if engine == "kueue" else "queues"
    body = refusal(422, "not now")
    fault = Fault(method="PATCH", path=f"/{kind}/{name}", status=422, body=body, times=NEVER)
    world.server.faults.append(fault)
    return fault


def given(world: World, *stores: str, resource: str = GPU) -> dict[str, int]:
    """What the queues have of a resource in all flavors and engines, by name."""
    found: dict[str, int] = {}
    for store in stores:
        for name, queue in world.server.objects[store].items():
            groups = queue["spec"].get("resourceGroups") or ()
            pairs = [
                (q["name"], q["nominalQuota"]) for g in groups for f in g["flavors"] for q in f["resources"]
            ]
            pairs += (queue["spec"].get("deserved") or {}).items()
            found[name] = found.get(name, 0) + sum(int(units) for each, units in pairs if each == resource)
    return found


@pytest.mark.parametrize(("engine", "store"), [("kueue", QUEUES), ("volcano", VOLCANO)])
@pytest.mark.parametrize("others", [{"team-b": 3}, {"team-b": 1, "team-c": 2}])
async def test_what_a_queue_cannot_give_back_nobody_else_gets(
    world: World, engine: str, store: str, others: dict[str, int]
) -> None:
    """Else both have it while the refusal lasts: 12 were promised of 8."""
    world.node(exclusive("n1", gpus=8))

    def shares(**of: int) -> None:
        world.plan(engine=engine, queues=[{"name": name, "share": share} for name, share in of.items()])

    shares(**{"team-a": 3, "team-b": 1})
    async with controlled(world.server) as controller:
        await synced(world, controller)
        assert given(world, store) == {"team-a": 6, "team-b": 2}
        fault = queue_refused(world, engine)
        shares(**{"team-a": 1, **others})
        await eventually(lambda: world.condition("Synced")["reason"] == "ServerRefused")
        last = sorted(others)[-1]
        kind = "ClusterQueue" if engine == "kueue" else "Queue"
        told = f"{last} gets more {GPU} once that is given back by {kind} team-a"
        await eventually(lambda: told in world.condition("Synced")["message"])
        assert sum(given(world, store).values()) == 8
        fault.times = 0
        right = {"team-a": 2, **{name: 2 * share for name, share in others.items()}}
        await eventually(lambda: given(world, store) == right)
        await synced(world, controller)


@pytest.mark.parametrize(
    ("former", "engine", "store"), [("volcano", "kueue", QUEUES), ("kueue", "volcano", VOLCANO)]
)
async def test_what_the_former_engine_cannot_give_back_the_other_does_not_hand_out(
    world: World, former: str, engine: str, store: str
) -> None:
    """One counts by name, the other by pool, and the boards are the same: 16 were promised of 8."""
    world.node(exclusive("n1", gpus=8))
    world.plan(engine=former)
    async with controlled(world.server) as controller:
        await synced(world, controller)
        fault = queue_refused(world, former)
        world.plan(engine=engine)
        kind = "ClusterQueue" if former == "kueue" else "Queue"
        told = f"team-a gets more {GPU} once that is given back by {kind} team-a"
        await eventually(lambda: told in world.condition("Synced")["message"])
        assert given(world, QUEUES, VOLCANO) == {"team-a": 8}
        fault.times = 0
        await eventually(lambda: given(world, store) == {"team-a": 8})
        await synced(world, controller)
        assert given(world, QUEUES, VOLCANO) == {"team-a": 8}


async def test_a_write_on_an_old_copy_has_others_wait_and_is_no_news(world: World) -> None:
    """The next look is a moment away: the plan was not Synced, with a warning that named no cause."""
    world.node(exclusive("n1", gpus=8))
    world.plan(queues=[{"name": "team-a", "share": 3}, {"name": "team-b"}])
    async with controlled(world.server) as controller:
        await synced(world, controller)
        fault = queue_refused(world, "kueue")
        fault.status, fault.body = 409, refusal(409, "the object has been modified")
        world.plan(queues=[{"name": "team-a"}, {"name": "team-b", "share": 3}])
        stale = {"kind": "ClusterQueue", "verb": "update", "result": "stale"}
        await eventually(lambda: sample(controller, "slicewise_controller_writes_total", **stale) >= 3)
        assert given(world, QUEUES) == {"team-a": 6, "team-b": 2}
        fault.times = 0
        await eventually(lambda: given(world, QUEUES) == {"team-a": 2, "team-b": 6})
        await synced(world, controller)
        assert world.events("WaitsForQuota") == []


WHOLE = "h100-80gb-exclusive"


def shares_by_pool(world: World, **of: tuple[int, int]) -> None:
    """A plan whose queues get these shares of the slices, and of the whole boards."""
    world.plan(
        queues=[{"name": name, "shares": {MIXED: slices, WHOLE: gpus}} for name, (slices, gpus) in of.items()]
    )


def by_pool(world: World) -> dict[str, tuple[int, int]]:
    """What the queues have of the slices, and of the whole boards."""
    slices, gpus = given(world, QUEUES, resource=ONE), given(world, QUEUES)
    return {name: (slices[name], gpus[name]) for name in gpus}


async def test_a_queue_that_waits_keeps_what_it_was_to_give_back(world: World) -> None:
    """Else the third has what the second was not written for: 12 were promised of 8."""
    world.node(mixed("n1", {"1g.10gb": 8}))
    world.node(exclusive("n2", gpus=8))
    shares_by_pool(world, **{"team-a": (3, 0), "team-b": (1, 3), "team-c": (0, 1)})
    async with controlled(world.server) as controller:
        await synced(world, controller)
        assert by_pool(world) == {"team-a": (6, 0), "team-b": (2, 6), "team-c": (0, 2)}
        fault = queue_refused(world, "kueue")
        shares_by_pool(world, **{"team-a": (1, 0), "team-b": (3, 1), "team-c": (0, 3)})
        await eventually(lambda: "team-b gets more" in world.condition("Synced")["message"])
        await eventually(lambda: controller.plans.queue.failures("research") >= 2)
        assert [sum(units) for units in zip(*by_pool(world).values(), strict=True)] == [8, 8]
        fault.times = 0
        await eventually(lambda: by_pool(world) == {"team-a": (2, 0), "team-b": (6, 2), "team-c": (0, 6)})
        await synced(world, controller)


@pytest.mark.parametrize(("engine", "store"), [("kueue", QUEUES), ("volcano", VOLCANO)])
@pytest.mark.parametrize("how", ["removed", "set to 0"])
async def test_what_is_left_over_goes_to_others_as_soon_as_it_is_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch, engine: str, store: str, how: str
) -> None:
    """The plan that gave it is gone and the other one lists no such queue, so it was woken by nothing."""
    monkeypatch.setattr(plan_controller, "LOOK_AFTER_WRITE", 10**6)
    world.node(exclusive("n1", gpus=8))
    world.plan(engine=engine)
    async with controlled(world.server) as controller:
        await synced(world, controller)
        world.server.remove(PLANS, "research")
        world.plan("next", engine=engine, queues=[{"name": "lab"}])
        await eventually(lambda: world.condition("Ready", "next")["reason"] == "LeftOverQuota")
        await world.idle(controller)
        assert given(world, store) == {"team-a": 8, "lab": 0}
        if how == "removed":
            world.server.remove(store, "team-a")
        else:
            queue = deepcopy(world.server.objects[store]["team-a"])
            queue["spec"] |= {"resourceGroups": []} if engine == "kueue" else {"deserved": {}}
            world.server.put(store, "team-a", **queue)
        await eventually(lambda: given(world, store)["lab"] == 8)
        await eventually(lambda: world.condition("Ready", "next")["status"] == "True")


@pytest.mark.parametrize("refused", ["team-a", "team-b"])
async def test_queues_that_swap_have_nothing_twice_whichever_write_is_refused(
    world: World, refused: str
) -> None:
    """What one gives back it gives before the other grows: 12 were promised of 8 each."""
    world.node(mixed("n1", {"1g.10gb": 8}))
    world.node(exclusive("n2", gpus=8))
    shares_by_pool(world, **{"team-a": (3, 1), "team-b": (1, 3)})
    async with controlled(world.server) as controller:
        await synced(world, controller)
        assert by_pool(world) == {"team-a": (6, 2), "team-b": (2, 6)}
        fault = queue_refused(world, "kueue", refused)
        shares_by_pool(world, **{"team-a": (1, 3), "team-b": (3, 1)})
        await eventually(lambda: world.condition("Synced")["reason"] == "ServerRefused")
        await eventually(lambda: controller.plans.queue.failures("research") >= 2)
        assert all(sum(units) <= 8 for units in zip(*by_pool(world).values(), strict=True))
        fault.times = 0
        await eventually(lambda: by_pool(world) == {"team-a": (2, 6), "team-b": (6, 2)})
        await synced(world, controller)
        assert world.events("PutBack") == []
        last = controller.plans.last_changes["research"][refused]
        assert ("6 → 2" in last, "2 → 6" in last) == (True, True), "it was written twice in one pass"


async def test_a_flavor_that_cannot_be_made_keeps_no_queue_from_giving_back(world: World) -> None:
    """The new pool's flavor was named in the same write: 14 slices were promised of 7."""
    for name in ("n1", "n2"):
        world.node(mixed(name, SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        fault = Fault(
            method="POST", path="resourceflavors", status=422, body=refusal(422, "not now"), times=NEVER
        )
        world.server.faults.append(fault)
        world.node(exclusive("n3", gpus=8))
        await eventually(lambda: world.condition("Synced")["reason"] == "ServerRefused")
        assert world.quota() == {(MIXED, ONE): "14"}
        world.server.remove(NODES, "n2")
        await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
        fault.times = 0
        await eventually(lambda: by_pool(world) == {"team-a": (7, 8)})
        await synced(world, controller)


async def test_edits_of_a_queue_that_is_put_back_in_two_writes_count_once_each(world: World) -> None:
    """Somebody who swaps numbers of two queues is one that edits each of them."""
    world.node(mixed("n1", {"1g.10gb": 8}))
    world.node(exclusive("n2", gpus=8))
    shares_by_pool(world, **{"team-a": (3, 1), "team-b": (1, 3)})
    async with controlled(world.server) as controller:
        await synced(world, controller)
        specs = {name: deepcopy(world.queue(name)["spec"]) for name in ("team-a", "team-b")}
        for name, other in (("team-a", "team-b"), ("team-b", "team-a")):
            world.server.put(QUEUES, name, **{**world.queue(name), "spec": specs[other]})
        await eventually(lambda: by_pool(world) == {"team-a": (6, 2), "team-b": (2, 6)})
        await synced(world, controller)
        put_back = {
            name: sample(controller, "slicewise_controller_put_back_total", kind="ClusterQueue", name=name)
            for name in specs
        }
        assert put_back == {"team-a": 1, "team-b": 1}


def broken(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("a fault of ours")


async def test_a_reconcile_that_raises_is_a_condition_an_event_and_a_number(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        good = steps_to
        monkeypatch.setattr(plan_controller, "steps_to", broken)
        world.node(mixed("n2", SEVEN))
        await eventually(lambda: world.condition("Ready")["reason"] == "InternalError")
        assert "ZeroDivisionError: a fault of ours" in world.condition("Ready")["message"]
        assert world.quota() == {(MIXED, ONE): "7"}
        assert len(world.events("InternalError")) == 1
        failed = {"controller": "plans", "result": "internal_error"}
        await eventually(lambda: sample(controller, "slicewise_controller_reconcile_total", **failed) > 1)
        assert sample(controller, "slicewise_controller_reconcile_errors_total", controller="plans") > 1
        assert sample(controller, "slicewise_controller_failing_keys", controller="plans") == 1
        monkeypatch.setattr(plan_controller, "steps_to", good)
        await eventually(lambda: world.quota() == {(MIXED, ONE): "14"})
        await eventually(lambda: world.condition("Ready")["status"] == "True")
        assert sample(controller, "slicewise_controller_failing_keys", controller="plans") == 0


@pytest.mark.parametrize("fault", ["the server fails", "the program fails"])
async def test_local_queues_that_cannot_be_made_are_the_plans_condition(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    world.node(mixed("n1", SEVEN))
    world.namespace("lab", team="a")
    world.plan(queues=[{"name": "team-a", "namespaces": {"matchLabels": {"team": "a"}}}])
    message = "failed calling webhook mlocalqueue.kb.io: connection refused"
    away = Fault(method="POST", path="localqueues", status=500, body=refusal(500, message), times=1000)
    if fault == "the server fails":
        world.server.faults.append(away)
        reason, words = (
            "WriteFailed",
            f"LocalQueue lab/team-a could not be written: 500 Internal Server Error: {message}",
        )
    else:
        monkeypatch.setattr(local_queue, "changes_in", broken)
        reason, words = (
            "InternalError",
            "LocalQueues of namespace lab: the controller failed with ZeroDivisionError",
        )
    async with controlled(world.server) as controller:
        await eventually(lambda: world.condition("Ready")["reason"] == reason)
        assert world.condition("Ready")["status"] == "False"
        assert words in world.condition("Synced")["message"]
        await eventually(lambda: any(words in each for each in world.events(reason)))
        assert world.quota() == {(MIXED, ONE): "7"}
        monkeypatch.undo()
        away.times = 0
        await eventually(lambda: "lab/team-a" in world.server.objects[LOCAL])
        await synced(world, controller)
        assert world.condition("Ready")["status"] == "True"


async def test_what_fails_of_one_plan_in_a_namespace_is_said_of_that_plan_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    teams = {
        "first": ("team-a", mixed("n1", SEVEN)),
        "second": ("team-b", exclusive("n2")),
        "third": ("team-c", sliced("n3")),
    }

    def failing(selectors: QueueSelectors, *rest: Any) -> ChangeSet:
        found: ChangeSet = broken() if selectors.plan.name == "second" else changes_in(selectors, *rest)
        return found

    monkeypatch.setattr(local_queue, "changes_in", failing)
    world.namespace("lab", team="a")
    for plan, (queue, node) in teams.items():
        world.node(node)
        queues = [{"name": queue, "namespaces": {"matchLabels": {"team": "a"}}}]
        world.plan(plan, pools={"matchNames": [pool.name for pool in inventory(node)]}, queues=queues)
    async with controlled(world.server) as controller:
        await eventually(lambda: world.condition("Ready", "second")["reason"] == "InternalError")
        await eventually(lambda: world.server.objects[LOCAL].keys() == {"lab/team-a", "lab/team-c"})
        await eventually(lambda: controller.local_queues.queue.failing > 0)
        await world.idle(controller)
        assert [world.condition("Ready", plan)["status"] for plan in teams] == ["True", "False", "True"]
        assert len(world.events("InternalError")) == 1
        failed = {"controller": "local_queues", "result": "internal_error"}
        assert sample(controller, "slicewise_controller_reconcile_total", **failed) > 0
        monkeypatch.undo()
        await eventually(lambda: world.condition("Ready", "second")["status"] == "True")
        assert world.server.objects[LOCAL].keys() == {"lab/team-a", "lab/team-b", "lab/team-c"}


async def test_somebody_who_keeps_taking_our_label_off_a_node_is_left_alone_for_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once put back at once, in the end not for minutes: no two programs write on one node as fast as they can."""
    monkeypatch.setattr(edit_conflicts, "FIRST_PAUSE", 10**6)
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)

        def written() -> int:
            return sum(path == f"{NODES}/n1" for _, path in world.writes())

        def take_off() -> None:
            node = deepcopy(world.server.objects[NODES]["n1"])
            del node["metadata"]["labels"][keys.POOL]
            world.server.put(NODES, "n1", **node)

        before = written()
        for number in range(1, MOST_PUT_BACK + 1):
            take_off()
            await eventually(lambda: world.label("n1") == MIXED)
            assert written() == before + number
        take_off()
        await eventually(lambda: world.events("WriteConflict"))
        await world.idle(controller)
        assert (world.label("n1"), written()) == (None, before + MOST_PUT_BACK)
        put_back = {"kind": "Node", "name": "n1"}
        assert sample(controller, "slicewise_controller_put_back_total", **put_back) == MOST_PUT_BACK
        (told,) = world.events("PutBack")  # counted by its event
        assert told.startswith(f"Node n1: somebody else wrote {keys.POOL} or {keys.OFFER}")
        # What is believed changes: that is written whoever fights about what was.
        world.node(mixed("n1", {"1g.10gb": 8}))
        await eventually(lambda: world.kept("n1") == {ONE: 8})
        assert world.label("n1") == MIXED
        assert len(world.events("WriteConflict")) == 1


async def test_a_node_that_comes_anew_under_its_name_was_edited_by_nobody(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        await eventually(lambda: world.kept("n1") == {ONE: 7})
        world.server.remove(NODES, "n1")
        world.node(mixed("n1", SEVEN))
        await eventually(lambda: world.kept("n1") == {ONE: 7})
        await world.idle(controller)
        assert world.events("PutBack") == []


async def test_gauges_that_cannot_be_worked_out_leave_the_others_and_are_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        quota = {"queue": "team-a", "flavor": MIXED, "resource": ONE}
        monkeypatch.setattr(drift_gauge, "findings", broken)
        registry = controller.metrics.registry
        assert "slicewise_drift_findings" not in {metric.name for metric in registry.collect()}
        assert sample(controller, "slicewise_quota", **quota) == 7
        failed = {"controller": "metrics", "result": "internal_error"}
        before = sample(controller, "slicewise_controller_reconcile_total", **failed)
        assert before > 0
        monkeypatch.undo()
        assert "slicewise_drift_findings" in {metric.name for metric in registry.collect()}
        assert sample(controller, "slicewise_controller_reconcile_total", **failed) == before


@pytest.mark.parametrize("module", [plan_status, policy_status])
async def test_a_status_that_cannot_be_worked_out_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    world.node(mixed("n1", SEVEN))
    monkeypatch.setattr(module, "status", broken)
    world.plan()
    world.policy("research", {"training": {"strategy": "mig"}})
    condition = world.condition if module is plan_status else world.policy_condition
    async with controlled(world.server):
        await eventually(lambda: condition("Ready")["reason"] == "InternalError")
        assert condition("Ready")["status"] == "False"


async def test_a_node_that_cannot_be_compared_with_its_plan_stops_no_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planned_geometry, "concerns", broken)
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server):
        await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
        await eventually(lambda: world.events("InternalError"))
        assert "ZeroDivisionError: a fault of ours" in world.events("InternalError")[0]
