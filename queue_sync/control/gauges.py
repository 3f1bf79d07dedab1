"""What the controller knows, as gauges: belief, plans, quota, use, watches and queues.

Labels name pools, queues, flavors, resources, plans and nodes, of which there are as many as an admin makes; never
the workloads of people. Of nodes only those in doubt are named, and of these no more than `NODES`.

What depends on belief has no samples on replicas that do not lead, because only the leader judges nodes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

from queue_sync.control.beliefs import Beliefs
from queue_sync.control.metrics import Sample
from queue_sync.control.syncing import Syncer
from queue_sync.control.watched import Watched
from queue_sync.judgement import apportion
from queue_sync.judgement.capacity import CPU
from queue_sync.judgement.existing import Object, Use
from queue_sync.judgement.kueue import nominal, owned
from queue_sync.judgement.volcano import use as volcano_use
from slicewise import keys
from slicewise.kube import WorkQueue
from slicewise.policy import QuotaPlan

NODES: Final = 200
_GLOB: Final = frozenset("*?[")
Key = tuple[str, ...]


class Source(Protocol):
    """What the gauges are read from."""

    leading: bool
    beliefs: Beliefs
    use: Use
    watched: Watched
    syncer: Syncer
    nodes: WorkQueue[str]
    marks: WorkQueue[str]
    plans: WorkQueue[str]
    statuses: WorkQueue[str]


def samples(source: Source) -> Iterator[Sample]:
    """Yields every gauge with its samples."""
    yield (
        "slicewise_controller_leading",
        "1 while this replica is the leader.",
        (),
        [((), float(source.leading))],
    )
    believed: dict[Key, int] = {
        (pool.name, name): resource.quantity
        for pool in source.beliefs.pools
        for name, resource in pool.resources.items()
    }
    yield from _belief(source.beliefs, believed)
    yield from _plans(source)
    yield from _quota(source.watched.cluster_queues.store, source.use, source.watched.queues.store)
    yield (
        "slicewise_quota_above_truth",
        "By how much all queues together have more GPU quota than believed nodes offer.",
        ("pool", "resource"),
        _sorted(_above_truth(source, believed)),
    )
    yield from _watches(source.watched)
    queues = {
        "nodes": source.nodes,
        "marks": source.marks,
        "plans": source.plans,
        "statuses": source.statuses,
    }
    yield (
        "slicewise_controller_queue_depth",
        "Keys that wait to be worked on.",
        ("queue",),
        [((name,), queue.depth) for name, queue in queues.items()],
    )
    yield (
        "slicewise_controller_queue_oldest_seconds",
        "For how long the oldest key has waited.",
        ("queue",),
        [((name,), queue.oldest_age()) for name, queue in queues.items()],
    )


def _belief(beliefs: Beliefs, believed: Mapping[Key, int]) -> Iterator[Sample]:
    states: Counter[str] = Counter(believed=0, held=0, unbelieved=0)
    offered: Counter[Key] = Counter()
    unsettled: dict[Key, float] = {}
    for name, seen in beliefs.shown.items():
        belief = beliefs.belief(name)
        if belief is None or belief.counted is None:
            states["unbelieved"] += 1
        else:
            states["held" if belief.reason else "believed"] += 1
        if belief is None or belief.reason:
            unsettled[(name,)] = 1
        for resource in seen.offer.resources:
            offered[(seen.offer.pool, resource.name)] += resource.quantity
    yield (
        "slicewise_nodes",
        "GPU nodes by what is thought of their numbers.",
        ("state",),
        [((state,), number) for state, number in sorted(states.items())],
    )
    yield (
        "slicewise_node_unsettled",
        f"1 for each node that is not simply believed, {NODES} of them at most.",
        ("node",),
        _sorted(unsettled)[:NODES],
    )
    labels = ("pool", "resource")
    yield "slicewise_pool_offered", "What nodes show now, believed or not.", labels, _sorted(offered)
    yield "slicewise_pool_believed", "What is counted.", labels, _sorted(believed)


def _plans(source: Source) -> Iterator[Sample]:
    accepted: dict[Key, float] = {}
    synced: dict[Key, float] = {}
    for name, record in source.watched.plans.store.items() if source.leading else ():
        result = source.syncer.results.get(name)
        if record.plan is None:
            accepted[(name,)] = 0
        elif result is not None:
            accepted[(name,)] = float(not any(problem.refused for problem in result.problems))
            synced[(name, str(record.plan.spec.mode))] = float(not result.waiting)
    yield (
        "slicewise_plan_accepted",
        "1 while a QuotaPlan is followed, 0 while it is refused or breaks a rule.",
        ("plan",),
        _sorted(accepted),
    )
    yield (
        "slicewise_plan_synced",
        "1 while every queue of a QuotaPlan says what it should.",
        ("plan", "mode"),
        _sorted(synced),
    )


def _above_truth(source: Source, believed: Mapping[Key, int]) -> dict[Key, float]:
    """By pool and resource, with an empty pool for Volcano, which counts names over all nodes."""
    if not source.beliefs.complete:
        return {}
    watched = source.watched
    promised: dict[Key, int] = defaultdict(int)
    for queue in watched.cluster_queues.store.values():
        for (flavor, resource), units in nominal(queue).items():
            standing = watched.flavors.store.get(flavor) or {}
            pool = (standing.get("spec", {}).get("nodeLabels") or {}).get(keys.POOL)
            if pool is not None and resource.startswith(keys.VENDOR):
                promised[(pool, resource)] += units
    # A parent in Volcano's tree deserves what its children do together.
    parents = {queue["spec"].get("parent") for queue in watched.queues.store.values()}
    for name, queue in watched.queues.store.items():
        for resource, units in volcano_use.quota(queue).items() if name not in parents else ():
            if resource.startswith(keys.VENDOR):
                promised[("", resource)] += units
    plans = source.syncer.plans()
    pools = {pool for pool, _ in believed} | {
        name for plan in plans for name in plan.spec.maximum if not _GLOB & set(name)
    }
    truth: dict[Key, int] = defaultdict(int)
    for pool, resource in promised:
        for each in [pool] if pool else pools:
            truth[(pool, resource)] += _backing(each, resource, plans, believed)
    return {key: max(0, units - truth[key]) for key, units in promised.items()}


def _backing(pool: str, resource: str, plans: list[QuotaPlan], believed: Mapping[Key, int]) -> int:
    """What may be promised of a pool: what is believed of it, or what an autoscaled one may grow to."""
    sizes = (apportion.maximum(pool, plan.spec.maximum).get(resource, 0) for plan in plans)
    return max(believed.get((pool, resource), 0), *sizes, 0)


def _quota(queues: Mapping[str, Object], use: Use, volcano: Mapping[str, Object]) -> Iterator[Sample]:
    labels = ("queue", "flavor", "resource")
    quota: dict[Key, float] = {}
    below: dict[Key, float] = {}
    for name, queue in queues.items():
        mine = owned(queue)
        for (flavor, resource), units in nominal(queue).items():
            key = (name, flavor, resource)
            if flavor in mine.flavors:
                quota[key] = units
                if use.reserved[key] > units:
                    below[key] = use.reserved[key] - units
    reserved = {key: float(units) for key, units in use.reserved.items() if key in quota}
    used = {key: float(use.used[key]) for key in reserved}
    # A Queue of Volcano's counts names over all nodes: no flavor, and what is reserved runs.
    for name, queue in volcano.items():
        running = volcano_use.units(queue)
        for resource, units in volcano_use.quota(queue).items():
            key = (name, "", resource)
            quota[key] = units
            if running.get(resource):
                reserved[key] = used[key] = running[resource]
        for resource, count, allowed in volcano_use.overused(queue):
            if (name, "", resource) in quota:
                below[(name, "", resource)] = count - allowed
    yield "slicewise_quota", "Nominal quota that Slicewise decides.", labels, _whole(quota)
    yield "slicewise_quota_reserved", "Reserved by Workloads.", labels, _whole(reserved)
    yield "slicewise_quota_used", "Used by admitted Workloads.", labels, _whole(used)
    yield "slicewise_quota_below_use", "By how much quota is below what is reserved.", labels, _whole(below)


def _watches(watched: Watched) -> Iterator[Sample]:
    healthy = {(informer.path,): float(informer.healthy().ok) for informer in watched}
    yield "slicewise_watch_healthy", "1 while a watch follows the server.", ("path",), _sorted(healthy)
    for field in ("relists", "reconnects", "events", "dropped", "malformed", "errors"):
        numbers = {(informer.path,): float(getattr(informer.counters, field)) for informer in watched}
        yield (
            f"slicewise_watch_{field}_total",
            f"{field.capitalize()} since the start.",
            ("path",),
            _sorted(numbers),
        )


def _whole(numbers: Mapping[Any, float]) -> list[tuple[Key, float]]:
    """Cores and not thousandths of them; the last label is the resource."""
    return [(key, number / 1000 if key[-1] == CPU else number) for key, number in _sorted(numbers)]


def _sorted(numbers: Mapping[Any, float]) -> list[tuple[Key, float]]:
    return sorted((key, float(number)) for key, number in numbers.items())
