"""The arithmetic behind a queue's numbers: what its pools give, node by node, and what becomes of that.

Built of what planning itself works with, so that nothing here can differ from what is written: pools give what
`capacity` says, queues get what `apportionment` splits, and what is wanted is read from the objects that `desired`
wants. Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from queue_sync.planning import apportionment as apportion
from queue_sync.planning.capacity import Feed, counted, shares_of, text, weights_of
from queue_sync.planning.changes import ChangeSet, Key, key_of
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.desired import desired
from queue_sync.planning.engine import QueueEngine
from queue_sync.planning.engines import ENGINES
from queue_sync.planning.left_over import less_left_over
from queue_sync.planning.observed import Object
from queue_sync.planning.ownership import owned
from queue_sync.planning.plan_diff import feeds_of, unwritten
from queue_sync.planning.quota import Numbers
from slicewise.api.policy import DeletionPolicy, PlanQueue, QuotaPlan
from slicewise.inventory.node_state import Observation
from slicewise.inventory.plan_selection import promise_for
from slicewise.inventory.pools import Pool


@dataclass(frozen=True, slots=True)
class NodePart:
    """What one node adds to a pool's resource; units as in `capacity`."""

    node: str
    counted: int
    shown: int
    """What the node shows at this moment, believed or not."""
    reason: str
    """Why what it shows is not what counts; "" when it is."""


@dataclass(frozen=True, slots=True)
class PoolPart:
    """What a queue gets of one resource of one pool."""

    pool: str
    resource: str
    units: int
    """What the queue gets: `share` of `shares` of `quota`."""
    share: int
    shares: int
    quota: int
    """What is split: what counts, or the maximum, less headroom and what is left over."""
    counted: int
    nodes: tuple[NodePart, ...]
    maximum: int | None
    """What an autoscaled pool may grow to; it replaces what counts."""
    not_together: int
    """What the nodes of partitionable boards offer of it, and may have no place for beside what else starts."""
    headroom: int
    left_over: int
    """What queues of plans that are gone still have."""


@dataclass(frozen=True, slots=True)
class Number:
    """One number of a queue, as it is wanted and as it stands."""

    flavor: str
    """Empty in an engine that counts names over all nodes."""
    resource: str
    wanted: int
    standing: int | None
    """None where the queue does not have this number."""
    limits: Mapping[str, str]
    """What bounds borrowing and lending, by the engine's own fields, where the queue is to have them."""
    pools: tuple[PoolPart, ...]
    """What adds up to it; empty where no pool of the plan gives it."""


@dataclass(frozen=True, slots=True)
class QueueBreakdown:
    """The numbers of one queue of one plan."""

    plan: str
    kind: str
    group: str
    queue: str
    cohort: str | None
    notes: tuple[str, ...]
    """Why the plan is not followed, or what else an admin should know of the queue."""
    numbers: tuple[Number, ...]
    last_change: str
    """When a number changed last, which one, and why; "" where the plan's status does not say."""

    def document(self) -> Object:
        """The breakdown as `slicewise why -o json` prints it; quantities as Kubernetes writes them."""
        return {
            "plan": self.plan,
            "kind": self.kind,
            "queue": self.queue,
            "cohort": self.cohort,
            "notes": list(self.notes),
            "lastChange": self.last_change,
            "numbers": [_number_document(each) for each in self.numbers],
        }


def quota_breakdowns(
    queue: str, cluster: ClusterState, shown: Mapping[str, Observation]
) -> tuple[QueueBreakdown, ...]:
    """The numbers of a queue, by plan that lists it; nothing where no plan does.

    Args:
        queue: its name, whatever the engine.
        cluster: plans, pools and what stands.
        shown: what nodes show at this moment, by name.
    """
    found = desired(cluster.plans, cluster.pools, cluster.namespaces, cluster.existing)
    return tuple(
        _breakdown(plan, listed, cluster, shown, found)
        for plan in cluster.plans
        for listed in plan.spec.queues
        if listed.name == queue
    )


def _breakdown(
    plan: QuotaPlan,
    queue: PlanQueue,
    cluster: ClusterState,
    shown: Mapping[str, Observation],
    found: ChangeSet,
) -> QueueBreakdown:
    engine = ENGINES[plan.spec.engine]
    standing = engine.queues(cluster.existing).get(queue.name)
    wanted = _wanted((engine.QUEUE.name, queue.name), found) or standing
    refused = any(problem.refused for problem in found.problems if problem.plan == plan.name)
    parts = [] if refused or plan.leaving else list(_pool_parts(plan, queue, cluster, shown))
    now, then = units_of(engine, standing), units_of(engine, wanted)
    given = [(each.pool if engine.BY_FLAVOR else "", each.resource) for each in parts]
    numbers = []
    for flavor, resource in dict.fromkeys(
        (*given, *decided_by_us(wanted, then), *decided_by_us(standing, now))
    ):
        number = Number(
            flavor,
            resource,
            then.get((flavor, resource), 0),
            now.get((flavor, resource)),
            engine.limits(wanted, flavor, resource) if wanted is not None else {},
            tuple(p for p in parts if p.resource == resource and flavor in {"", p.pool}),
        )
        if number.pools or number.wanted or number.standing:
            numbers.append(number)
    return QueueBreakdown(
        plan.name,
        engine.QUEUE.kind,
        engine.QUEUE.group,
        queue.name,
        plan.spec.cohort,
        _notes(plan, queue, found),
        tuple(numbers),
        cluster.last_changes.get(plan.name, {}).get(queue.name, ""),
    )


def _notes(plan: QuotaPlan, queue: PlanQueue, found: ChangeSet) -> tuple[str, ...]:
    others = {each.name for each in plan.spec.queues} - {queue.name}
    notes = [
        problem.sentence
        for problem in found.problems
        if problem.plan == plan.name and problem.name not in others
    ]
    if plan.leaving:
        gives = plan.spec.deletion_policy is DeletionPolicy.RELEASE
        does = "its queues give back what it gave" if gives else "its queues keep what it gave"
        notes.append(f"QuotaPlan {plan.name} is being deleted, and {does}")
    return tuple(dict.fromkeys([*notes, *unwritten(plan)]))


def _wanted(queue: Key, found: ChangeSet) -> Object | None:
    """The queue as it is to stand: last of the objects of a plan that is followed, else of what gives back."""
    changed = [change.after for change in found.changes if change.after is not None]
    for document in (*found.objects, *changed):
        if key_of(document) == queue:
            return document
    return None


def units_of(engine: QueueEngine, queue: Object | None) -> Numbers:
    """The numbers of a queue; none of one that does not stand."""
    return engine.numbers(queue) if queue is not None else {}


def decided_by_us(queue: Object | None, units: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the numbers that Slicewise decides."""
    mine = owned(queue)
    flavors = {"", *mine.flavors}
    return [(flavor, name) for flavor, name in units if flavor in flavors and name in mine.resources]


def _pool_parts(
    plan: QuotaPlan, queue: PlanQueue, cluster: ClusterState, shown: Mapping[str, Observation]
) -> Iterator[PoolPart]:
    feeding = feeds_of(plan, cluster.pools, cluster.existing)
    less, _ = less_left_over(plan, feeding, cluster.existing)
    for before, feed in zip(feeding, less, strict=True):
        pool = cluster.pools.pool(feed.pool)
        units = shares_of(feed.quota, weights_of(plan.spec, feed.pool))
        for resource, quota in feed.quota.items():
            nodes = tuple(_node_parts(pool, resource, shown)) if pool is not None else ()
            counts = _counted(plan, before, resource, nodes)
            maximum = apportion.maximum(feed.pool, plan.spec.maximum).get(resource)
            if maximum is not None and resource in plan.spec.cover:
                maximum = before.quota[resource]
            alone = sum(each.counted for each in nodes)
            partitionable = promise_for(plan.spec, feed.pool) is not None and maximum is None
            yield PoolPart(
                feed.pool,
                resource,
                units[resource][queue.name],
                queue.share_of(feed.pool),
                sum(each.share_of(feed.pool) for each in plan.spec.queues),
                quota,
                counts,
                nodes,
                maximum,
                max(0, alone - counts) if partitionable else 0,
                (counts if maximum is None else maximum) - before.quota[resource],
                before.quota[resource] - quota,
            )


def _counted(plan: QuotaPlan, feed: Feed, resource: str, nodes: tuple[NodePart, ...]) -> int:
    if resource in plan.spec.cover:
        return sum(each.counted for each in nodes) if feed.believed else 0
    return feed.believed.get(resource, 0)


def _node_parts(pool: Pool, resource: str, shown: Mapping[str, Observation]) -> Iterator[NodePart]:
    reasons = {each.node: each.reason for each in pool.unsettled}
    members = {member.name: member for member in pool.members}
    for name in sorted({*members, *reasons}):
        units = counted(members[name], resource) if name in members else 0
        seen = shown.get(name)
        shows = seen.offer.quantities.get(resource, units) if seen is not None else units
        if units or shows or name in reasons:
            yield NodePart(name, units, shows, reasons.get(name, ""))


def _number_document(number: Number) -> Object:
    resource, flavor = number.resource, {"flavor": number.flavor} if number.flavor else {}
    return {
        **flavor,
        "resource": resource,
        "wanted": text(resource, number.wanted),
        "standing": None if number.standing is None else text(resource, number.standing),
        **number.limits,
        "pools": [_pool_document(each) for each in number.pools],
    }


def _pool_document(part: PoolPart) -> Object:
    def quantity(units: int) -> str:
        return text(part.resource, units)

    return {
        "pool": part.pool,
        "units": quantity(part.units),
        "share": part.share,
        "shares": part.shares,
        "quota": quantity(part.quota),
        "counted": quantity(part.counted),
        "maximum": None if part.maximum is None else quantity(part.maximum),
        "notTogether": quantity(part.not_together),
        "headroom": quantity(part.headroom),
        "leftOver": quantity(part.left_over),
        "nodes": [
            {
                "node": each.node,
                "counted": quantity(each.counted),
                "shown": quantity(each.shown),
                "reason": each.reason,
            }
            for each in part.nodes
        ],
    }
