"""What the controller knows, as gauges: belief, quota, use, watches and queues."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from queue_sync import volcano_use
from queue_sync.beliefs import Beliefs
from queue_sync.existing import Object, Use
from queue_sync.kueue import nominal, owned
from queue_sync.metrics import Sample
from queue_sync.watched import Watched
from slicewise.kube import WorkQueue


class Source(Protocol):
    """What the gauges are read from."""

    leading: bool
    beliefs: Beliefs
    use: Use
    watched: Watched
    nodes: WorkQueue[str]
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
    yield from _belief(source.beliefs)
    yield from _quota(source.watched.cluster_queues.store, source.use, source.watched.queues.store)
    yield from _watches(source.watched)
    queues = {"nodes": source.nodes, "plans": source.plans, "statuses": source.statuses}
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


def _belief(beliefs: Beliefs) -> Iterator[Sample]:
    states: Counter[str] = Counter(believed=0, held=0, unbelieved=0)
    offered: Counter[tuple[str, ...]] = Counter()
    for name, seen in beliefs.shown.items():
        belief = beliefs.belief(name)
        if belief is None or belief.counted is None:
            states["unbelieved"] += 1
        else:
            states["held" if belief.reason else "believed"] += 1
        for resource in seen.offer.resources:
            offered[(seen.offer.pool, resource.name)] += resource.quantity
    believed = {
        (pool.name, name): resource.quantity
        for pool in beliefs.pools
        for name, resource in pool.resources.items()
    }
    yield (
        "slicewise_nodes",
        "GPU nodes by what is thought of their numbers.",
        ("state",),
        [((state,), number) for state, number in sorted(states.items())],
    )
    labels = ("pool", "resource")
    yield "slicewise_pool_offered", "What nodes show now, believed or not.", labels, _sorted(offered)
    yield "slicewise_pool_believed", "What is counted.", labels, _sorted(believed)


def _quota(queues: Mapping[str, Object], use: Use, volcano: Mapping[str, Object]) -> Iterator[Sample]:
    labels = ("queue", "flavor", "resource")
    quota: dict[tuple[str, ...], float] = {}
    below: dict[tuple[str, ...], float] = {}
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
    yield (
        "slicewise_quota",
        "Nominal quota that Slicewise decides (cpu in thousandths).",
        labels,
        _sorted(quota),
    )
    yield "slicewise_quota_reserved", "Reserved by Workloads.", labels, _sorted(reserved)
    yield "slicewise_quota_used", "Used by admitted Workloads.", labels, _sorted(used)
    yield "slicewise_quota_below_use", "By how much quota is below what is reserved.", labels, _sorted(below)


def _watches(watched: Watched) -> Iterator[Sample]:
    healthy = {(informer.path,): float(informer.healthy().ok) for informer in watched}
    yield "slicewise_watch_healthy", "1 while a watch follows the server.", ("path",), _sorted(healthy)
    for field in ("relists", "reconnects", "events", "dropped", "malformed", "errors"):
        numbers = {(informer.path,): float(getattr(informer.counters, field)) for informer in watched}
        yield (
            f"slicewise_watch_{field}",
            f"{field.capitalize()} since the start.",
            ("path",),
            _sorted(numbers),
        )


def _sorted(numbers: Mapping[Any, float]) -> list[tuple[tuple[str, ...], float]]:
    return sorted((key, float(number)) for key, number in numbers.items())
