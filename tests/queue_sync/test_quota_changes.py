"""What changed in a queue's numbers, and the cause, a node or the plan: in words, in events, in the plan's status."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from queue_sync.planning.changes import Change
from queue_sync.planning.quota_changes import Basis, Causes, quota_changes, together
from slicewise.inventory.pools import Inventory, Pool
from tests.kube.apiserver import ApiServer
from tests.queue_sync.running import EVENTS, KINDS, NODES, PLANS, World, controlled, eventually
from tests.queue_sync.scenes import GPU, MIXED, ONE, exclusive, mixed, plan, read_node
from tests.queue_sync.test_life_of_plans import synced

SEVEN = {"1g.10gb": 7}


def pools(*nodes: dict[str, Any]) -> dict[str, Pool]:
    return {pool.name: pool for pool in Inventory(read_node(node) for node in nodes)}


TWO = pools(mixed("n1", SEVEN), mixed("n2", SEVEN))
NOTHING = "neither nodes nor the plan changed, so another plan, what runs, or somebody's edit did"
CAUSES = {
    "a node is gone": (TWO, pools(mixed("n1", SEVEN)), "node n2 is gone"),
    "a node is new": (pools(mixed("n1", SEVEN)), TWO, "node n2 has 7 in place of 0"),
    "a node has fewer": (
        TWO,
        pools(mixed("n1", SEVEN), mixed("n2", {"1g.10gb": 5})),
        "node n2 has 5 in place of 7",
    ),
    "a node is in doubt": (
        TWO,
        pools(mixed("n1", SEVEN), mixed("n2", SEVEN, ready=False)),
        "node n2 does not count: the node is not Ready",
    ),
    "a node is divided anew": (
        TWO,
        pools(mixed("n1", SEVEN), exclusive("n2")),
        "node n2 offers something else now, in pool h100-80gb-exclusive",
    ),
    "many nodes": (
        pools(*(mixed(f"n{number}", SEVEN) for number in range(6))),
        pools(mixed("n5", SEVEN)),
        "node n0 is gone; node n1 is gone; node n2 is gone; and 2 more nodes",
    ),
    "no node": (TWO, TWO, NOTHING),
    "nothing known": (None, TWO, "it is the first look at the plan since the controller started"),
}


@pytest.mark.parametrize("flavor", [MIXED, ""], ids=["one pool", "all pools"])
@pytest.mark.parametrize(("former", "now", "words"), CAUSES.values(), ids=CAUSES)
def test_the_cause_names_the_nodes(
    former: dict[str, Pool] | None, now: dict[str, Pool], words: str, flavor: str
) -> None:
    before = Basis(former) if former is not None else None
    assert Causes(before, Basis(now)).of(flavor, ONE) == words


def basis(*queues: str | dict[str, Any], shrinks: str = "", **spec: Any) -> Basis:
    """Two nodes, and a plan of these queues."""
    listed = [{"name": queue} if isinstance(queue, str) else queue for queue in queues]
    return Basis(TWO, plan("p", queues=listed, **spec), shrinks)


REFUSED, DELETED = "the plan is refused", "the plan is being deleted"
PLANS_CHANGED = {
    "queues have other names": (
        basis("team-a", "team-b"),
        basis("a", "b"),
        "queues a, b joined the plan; queues team-a, team-b left the plan",
    ),
    "many queues": (
        basis("a"),
        basis("a", *"bcdef"),
        "queues b, c, d and 2 more joined the plan",
    ),
    "a share": (basis("a", "b"), basis("a", {"name": "b", "share": 3}), "the share of queue b changed"),
    "a share of this pool": (
        basis("a", "b"),
        basis("a", {"name": "b", "shares": {MIXED: 0}}),
        "the share of queue b changed",
    ),
    "headroom": (basis("a"), basis("a", headroom={"count": 1}), "spec.headroom of the plan changed"),
    "pools": (basis("a"), basis("a", pools={"matchNames": ["h100-*"]}), "spec.pools of the plan changed"),
    "what decides no number": (basis("a"), basis("a", deletionPolicy="Release"), NOTHING),
    "a node too": (
        Basis(pools(mixed("n1", SEVEN)), basis("a").plan),
        basis("a", headroom={"count": 1}),
        "node n2 has 7 in place of 0; spec.headroom of the plan changed",
    ),
    "it is deleted": (basis("a"), basis("a", shrinks=DELETED), DELETED),
    "it is refused": (basis("a"), basis("a", shrinks=REFUSED), REFUSED),
    "it was refused before": (
        Basis(pools(mixed("n1", SEVEN)), basis("a").plan, REFUSED),
        basis("a", shrinks=REFUSED),
        "node n2 has 7 in place of 0",
    ),
    "it is followed again": (basis("a", shrinks=REFUSED), basis("a"), "the plan is followed again"),
    "it cannot be read": (
        basis("a"),
        Basis(TWO, None, "the plan cannot be read"),
        "the plan cannot be read",
    ),
}


@pytest.mark.parametrize("flavor", [MIXED, ""], ids=["one pool", "all pools"])
@pytest.mark.parametrize(("former", "now", "words"), PLANS_CHANGED.values(), ids=PLANS_CHANGED)
def test_the_cause_says_what_of_the_plan_changed(former: Basis, now: Basis, words: str, flavor: str) -> None:
    assert Causes(former, now).of(flavor, ONE) == words


def test_a_share_of_another_pool_is_no_cause() -> None:
    other = {"name": "b", "shares": {"l4-*": 0}}
    assert Causes(basis("a", "b"), basis("a", other)).of(MIXED, ONE) == NOTHING


KUEUE = {"apiVersion": "kueue.x-k8s.io/v1beta2"}


def queue(name: str, **units: int) -> dict[str, Any]:
    resources = [{"name": f"nvidia.com/{key}", "nominalQuota": str(value)} for key, value in units.items()]
    groups = [{"coveredResources": [GPU], "flavors": [{"name": MIXED, "resources": resources}]}]
    return {**KUEUE, "kind": "ClusterQueue", "metadata": {"name": name}, "spec": {"resourceGroups": groups}}


GONE = Causes(Basis(TWO), Basis(pools(mixed("n1", SEVEN))))


def changed(*changes: Change) -> list[str]:
    return [each.sentence for each in together(each for one in changes for each in quota_changes(one, GONE))]


def test_the_queues_of_a_plan_are_told_together() -> None:
    halves = [Change("p", queue(name, gpu=4, other=1), queue(name, gpu=2, other=1)) for name in ("a", "b")]
    words = f"{GPU} of flavor {MIXED} 8 → 4: {NOTHING}"
    assert changed(*halves) == [words]


def test_a_new_queue_says_so_and_other_objects_have_no_numbers() -> None:
    made = Change("p", None, queue("a", gpu=4))
    flavor = Change("p", None, {**KUEUE, "kind": "ResourceFlavor", "metadata": {"name": MIXED}, "spec": {}})
    assert changed(made, flavor) == [f"{GPU} of flavor {MIXED} 0 → 4: the queue is new"]


def test_volcanos_queues_have_numbers_over_all_pools() -> None:
    before, after = (
        {
            "apiVersion": "scheduling.volcano.sh/v1beta1",
            "kind": "Queue",
            "metadata": {"name": "a"},
            "spec": {"deserved": {ONE: count}},
        }
        for count in "92"
    )
    assert changed(Change("p", before, after)) == [f"{ONE} 9 → 2: node n2 is gone"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ApiServer(KINDS).running() as server:
        yield World(server)


def last_change(world: World) -> dict[str, str]:
    (found,) = world.server.objects[PLANS]["research"]["status"]["queues"]
    change: dict[str, str] = found["lastChange"]
    return change


def told(world: World, kind: str) -> list[str]:
    return [
        each["note"]
        for each in world.server.objects[EVENTS].values()
        if each["reason"] == "QuotaChanged" and each["regarding"]["kind"] == kind
    ]


async def test_events_and_status_name_the_node_and_a_restart_forgets_nothing(world: World) -> None:
    words = f"{ONE} of flavor {MIXED} 14 → 7: node n2 is gone"
    world.node(mixed("n1", SEVEN))
    world.node(mixed("n2", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        world.server.remove(NODES, "n2")
        await eventually(lambda: last_change(world)["message"] == words)
        await eventually(lambda: words in told(world, "QuotaPlan") and words in told(world, "ClusterQueue"))
        await synced(world, controller)
        before = last_change(world)
    async with controlled(world.server) as controller:
        await synced(world, controller)
        assert last_change(world) == before
    assert world.server.objects[PLANS]["research"]["status"]["queues"][0]["quota"] == {ONE: "7"}


async def test_the_event_says_which_queues_joined_and_left_the_plan(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan(queues=[{"name": "team-a"}])
    async with controlled(world.server) as controller:
        await synced(world, controller)
        world.plan(queues=[{"name": "a"}])
        cause = "queue a joined the plan; queue team-a left the plan"
        words = f"{ONE} of flavor {MIXED} 7 → 0: {cause}"
        await eventually(lambda: words in told(world, "ClusterQueue"))
        await synced(world, controller)
        assert world.quota("a") == {(MIXED, ONE): "7"}
