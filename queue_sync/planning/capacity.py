"""What pools give a plan: quantities by flavor and resource, before they are split over queues.

Sums come from believed nodes alone, or from the plan's `maximum` where a pool is autoscaled. Headroom is taken from
GPU resources only. Quantities are whole units: devices, bytes, and thousandths of a cpu.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from queue_sync.planning import apportionment as apportion
from queue_sync.planning.promises import promise_of
from slicewise.api import keys
from slicewise.api.policy import Engine, PlanSpec, QuotaPlan
from slicewise.api.quantities import CPU, scaled
from slicewise.inventory.declared_pools import may_offer, smallest_unit
from slicewise.inventory.node import Taint
from slicewise.inventory.node_devices import PublishedDevices
from slicewise.inventory.node_resources import Resource
from slicewise.inventory.node_state import CountedNode
from slicewise.inventory.plan_selection import chosen, declared, promise_for, selects, takes
from slicewise.inventory.pools import Pool

_UNKNOWN_MEMORY: Final = 2**62


@dataclass(frozen=True, slots=True)
class Feed:
    """What one pool gives one plan."""

    pool: str
    taints: tuple[Taint, ...]
    unit: int
    """MiB of its smallest unit, which decides what is tried first; very large when nothing says."""
    believed: Mapping[str, int]
    """GPU resources as the believed nodes offer them; of partitionable boards, what is promised of them."""
    quota: Mapping[str, int]
    """All resources as they are to be split: maximum and headroom applied, covered resources included."""
    resources: Mapping[str, Resource]
    """What a unit of each GPU resource is, where a node shows it."""
    observed: bool = True
    """False for an autoscaled pool of which no node is counted now: its taints are not known."""
    cut: tuple[str, ...] = ()
    """Why less is promised of partitionable boards than the plan asks for, each in a sentence."""


FeedCache = dict[str, tuple[PlanSpec, Pool, Feed | None]]
"""By pool, what it gave; None for one that the plan does not take."""


def feeds(
    spec: PlanSpec,
    pools: Iterable[Pool],
    known: Iterable[str] = (),
    in_use: Mapping[str, Mapping[str, int]] | None = None,
    demand: Sequence[Mapping[str, int]] = (),
    devices: PublishedDevices | None = None,
    cache: FeedCache | None = None,
) -> tuple[Feed, ...]:
    """What each selected pool gives, those with the smallest unit first.

    Args:
        spec: the plan.
        pools: all pools as they are believed; those that the plan does not take give nothing.
        known: names of pools that the plan fed from before. Those without nodes still count at their `maximum`.
        in_use: what workloads hold, by pool and resource; of partitionable boards it is promised first.
        demand: what workloads wait for in the queues of the plan, by resource, the oldest first.
        devices: what DRA publishes, and what claims hold of it.
        cache: kept by the caller from call to call. It makes a call quicker and changes no result.
    """
    found: dict[str, Feed] = {}
    standing = set()
    known_feeds: FeedCache = {} if cache is None else cache
    for pool in pools:
        standing.add(pool.name)
        cached = known_feeds.get(pool.name)
        if cached is not None and cached[0] is spec and cached[1] is pool:
            feed = cached[2]
        else:
            held = (in_use or {}).get(pool.name, {})
            feed = _feed(spec, pool, held, demand, devices) if takes(spec, pool) else None
            if promise_for(spec, pool.name) is None:  # else it depends on more than the pool
                known_feeds[pool.name] = spec, pool, feed
        if feed is not None:
            found[pool.name] = feed
    for name in sorted({*known, *declared(spec)} - standing):
        sizes = apportion.maximum(name, spec.maximum) if selects(spec, name) else {}
        # What no node will ever have is no quota: nobody can be given it.
        sizes = {each: size for each, size in sizes.items() if may_offer(name, each)}
        if sizes:
            quota = _sized(spec, {}, {}, sizes)
            unit = smallest_unit(name, sizes) or _UNKNOWN_MEMORY
            found[name] = Feed(name, (), unit, {}, quota, {}, observed=False)
    useful = [feed for feed in found.values() if any(name not in spec.cover for name in feed.quota)]
    return tuple(sorted(useful, key=lambda feed: (feed.unit, feed.pool)))


def largest(plans: Iterable[QuotaPlan], pool: str) -> dict[str, int]:
    """What a pool may grow to, by resource: the most that any of the plans says."""
    found: dict[str, int] = {}
    for plan in plans:
        for resource, units in apportion.maximum(pool, plan.spec.maximum).items():
            found[resource] = max(found.get(resource, 0), units)
    return found


Split = Mapping[str, Mapping[str, int]]
"""Units by resource and queue."""


def weights_of(spec: PlanSpec, pool: str) -> dict[str, int]:
    """The share of each queue in a pool."""
    return {queue.name: queue.share_of(pool) for queue in spec.queues}


def shares_of(quota: Mapping[str, int], weights: Mapping[str, int]) -> Split:
    """Splits what a pool gives by the shares of the queues."""
    return {resource: apportion.split(total, weights) for resource, total in quota.items()}


def counted(node: CountedNode, resource: str) -> int:
    """What counts of one node: devices as they are believed, everything else as it can be allocated."""
    if resource.startswith(keys.VENDOR):
        return node.offer.quantities.get(resource, 0) if node.offer is not None else 0
    return int(scaled(resource, node.other.get(resource, 0)))


def text(resource: str, units: int) -> str:
    """Units as a Kubernetes quantity: cpu in thousandths where it must, bytes in Ki where they divide."""
    if resource == CPU:
        return f"{units}m" if units % 1000 else str(units // 1000)
    if resource.startswith(keys.VENDOR) or units < 1024 or units % 1024:
        return str(units)
    return f"{units // 1024}Ki"


def _feed(
    spec: PlanSpec,
    pool: Pool,
    in_use: Mapping[str, int],
    demand: Sequence[Mapping[str, int]],
    devices: PublishedDevices | None,
) -> Feed:
    resources = chosen(spec, pool)
    believed = {name: resource.quantity for name, resource in resources.items()}
    cut: tuple[str, ...] = ()
    if (promise := promise_of(spec, pool, in_use, demand, devices)) is not None:
        believed, cut = promise
    cover = _cover(spec, pool) if believed else {}
    sizes = {
        name: size
        for name, size in apportion.maximum(pool.name, spec.maximum).items()
        if name in pool.resources or may_offer(pool.name, name)
    }
    quota = _sized(spec, believed, cover, sizes)
    unit = min((r.memory for r in resources.values() if r.memory), default=_UNKNOWN_MEMORY)
    return Feed(
        pool.name, pool.taints, unit, believed, quota, resources, observed=bool(pool.members), cut=cut
    )


def _sized(
    spec: PlanSpec, believed: Mapping[str, int], cover: Mapping[str, int], sizes: Mapping[str, int]
) -> dict[str, int]:
    devices = {**believed, **{name: size for name, size in sizes.items() if name not in spec.cover}}
    quota = {name: spec.headroom.left_of(devices[name]) for name in sorted(devices)}
    for name in spec.cover:
        size = sizes.get(name)
        if size is not None:
            quota[name] = int(scaled(name, size))
        elif quota:
            quota[name] = cover.get(name, 0)
    return quota


def _cover(spec: PlanSpec, pool: Pool) -> dict[str, int]:
    return {name: sum(counted(member, name) for member in pool.members) for name in spec.cover}


def takers(plans: Iterable[QuotaPlan], pool: Pool) -> frozenset[Engine]:
    """The engines whose plans hand the pool out."""
    writing = (plan.spec for plan in plans if plan.writes)
    return frozenset(spec.engine for spec in writing if takes(spec, pool))
