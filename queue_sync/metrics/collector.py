"""What the controller knows, as gauges: belief, plans, quota, use, watches and queues.

Labels name pools, queues, flavors, resources, plans and nodes, of which there are as many as an admin makes; never
the workloads of people. Of nodes only those in doubt are named, and of these no more than `NODES`.

What depends on belief has no samples on replicas that do not lead, because only the leader judges nodes.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any, Final, Protocol

from queue_sync.controllers.node_states import NodeStates
from queue_sync.controllers.overcommitment import Overcommitment
from queue_sync.controllers.plan import PlanReconciler
from queue_sync.controllers.reconciler import Controller
from queue_sync.informers.required import RequiredInformers
from queue_sync.metrics.registry import Sample
from queue_sync.planning.engine import QueueEngine
from queue_sync.planning.engines import ENGINES
from queue_sync.planning.observed import Object, ObservedState
from queue_sync.planning.overcommit import promises
from queue_sync.planning.quota import ObjectCache
from queue_sync.planning.quota_breakdown import decided_by_us
from slicewise.api.quantities import CPU

NODES: Final = 200
_UNITS: Final = "CPU in cores, memory in bytes"
Key = tuple[str, ...]
NumberCaches = defaultdict[str, ObjectCache[list[tuple[tuple[str, str, str], float]]]]
"""By engine, the samples of each queue's quota: some ten thousand may be, of which few change between two looks."""


class Source(Protocol):
    """What the gauges are read from."""

    leading: bool
    node_states: NodeStates
    watched: RequiredInformers
    plans: PlanReconciler
    overcommitment: Overcommitment
    controllers: tuple[Controller, ...]


def samples(source: Source, caches: NumberCaches) -> Iterator[Sample]:
    """Yields every gauge with its samples. `caches` are kept by the caller from call to call."""
    yield (
        "slicewise_controller_leading",
        "1 while this replica is the leader.",
        (),
        [((), float(source.leading))],
    )
    believed = {
        (pool.name, name): resource.quantity
        for pool in source.node_states.pools
        for name, resource in pool.resources.items()
    }
    yield from _belief(source.node_states, believed)
    yield from _plans(source)
    above: Counter[Key] = Counter()
    if source.node_states.nodes_believed:
        existing, plans = source.plans.existing(), source.plans.plans()
        for each in promises(existing, plans, source.node_states.pools, source.overcommitment.quotas):
            above[("+".join(each.pools), each.resource)] += each.excess
    yield from _quota(source.plans.existing(), caches)
    yield (
        "slicewise_quota_above_truth",
        "By how much all queues together have more GPU quota than believed nodes offer.",
        ("pool", "resource"),
        _sorted(above),
    )
    yield from _watches(source.watched)
    queues = {each.name: each.queue for each in source.controllers}
    yield (
        "slicewise_controller_failing_keys",
        "Keys whose last reconcile failed, and that wait for their backoff.",
        ("controller",),
        [((name,), queue.failing) for name, queue in queues.items()],
    )
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


def _belief(beliefs: NodeStates, believed: Mapping[tuple[str, str], int]) -> Iterator[Sample]:
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
    yield (
        "slicewise_pool_nodes",
        "Nodes that are counted, by where their facts come from.",
        ("pool", "source"),
        _sorted(Counter((pool.name, node.source) for pool in beliefs.pools for node in pool.members)),
    )


def _plans(source: Source) -> Iterator[Sample]:
    accepted: dict[Key, float] = {}
    synced: dict[Key, float] = {}
    queues: dict[Key, float] = {}
    for name, record in source.watched.plans.store.items() if source.leading else ():
        result = source.plans.results.get(name)
        if record.value is not None:
            queues |= {(name, queue.name): 1 for queue in record.value.spec.queues}
        if record.value is None:
            accepted[(name,)] = 0
        elif result is not None:
            accepted[(name,)] = float(not any(problem.refused for problem in result.problems))
            synced[(name, str(record.value.spec.mode))] = float(not result.waiting)
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
    yield (
        "slicewise_plan_queue_info",
        "Always 1; the labels say which queues a QuotaPlan lists.",
        ("plan", "queue"),
        _sorted(queues),
    )


def _quota(existing: ObservedState, caches: NumberCaches) -> Iterator[Sample]:
    labels = ("queue", "flavor", "resource")
    quota: list[tuple[Key, float]] = []
    reserved: dict[Key, float] = {}
    used: dict[Key, float] = {}
    below: dict[Key, float] = {}
    for kind, engine in ENGINES.items():
        queues = engine.queues(existing)
        ours = caches[kind].read(sorted(queues.items()), partial(_ours, engine))
        quota += chain.from_iterable(ours.values())
        in_use = engine.in_use(queues.keys(), existing)
        for name in {name for name, *_ in in_use}:
            allowed = engine.allowed(queues[name])
            for key, _ in ours[name]:
                if key in in_use:
                    _, flavor, resource = key
                    held, runs = in_use[key]
                    reserved[key], used[key] = _whole(resource, held), _whole(resource, runs)
                    if held > (most := allowed[flavor, resource]):
                        below[key] = _whole(resource, held - most)
    yield "slicewise_quota", f"Nominal quota that Slicewise decides; {_UNITS}.", labels, quota
    yield "slicewise_quota_reserved", f"Reserved by Workloads; {_UNITS}.", labels, _sorted(reserved)
    yield "slicewise_quota_used", f"Used by admitted Workloads; {_UNITS}.", labels, _sorted(used)
    yield (
        "slicewise_quota_below_use",
        f"By how much quota is below what is reserved; {_UNITS}.",
        labels,
        _sorted(below),
    )


def _ours(engine: QueueEngine, queue: Object) -> list[tuple[tuple[str, str, str], float]]:
    """The numbers of a queue that Slicewise decides."""
    numbers, name = engine.numbers(queue), queue["metadata"]["name"]
    return [((name, *pair), _whole(pair[1], numbers[pair])) for pair in sorted(decided_by_us(queue, numbers))]


def _watches(watched: RequiredInformers) -> Iterator[Sample]:
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


def _whole(resource: str, units: float) -> float:
    """Cores and not thousandths of them."""
    return units / 1000 if resource == CPU else float(units)


def _sorted(numbers: Mapping[Any, float]) -> list[tuple[Key, float]]:
    return sorted((key, float(number)) for key, number in numbers.items())
