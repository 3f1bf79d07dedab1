"""What a plan that is not followed gives back: its queues never keep more than nodes offer and nobody else has.

Nothing grows here and nothing moves: each queue keeps its part of what is left. GPU resources only.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from queue_sync.planning.apportionment import maximum, split
from queue_sync.planning.changes import Change, ChangeSet
from queue_sync.planning.kueue.objects import nominal
from queue_sync.planning.observed import Object, ObservedState, annotation, copied, pool_of
from queue_sync.planning.ownership import owned
from queue_sync.planning.volcano.usage import quota
from queue_sync.planning.volcano.write_order import LISTS, order
from slicewise.api import keys
from slicewise.api.policy import PlanSpec, QuotaPlan
from slicewise.api.quantities import above
from slicewise.inventory.plan_selection import declared, selects, takes
from slicewise.inventory.pools import Pool

Sizes = Mapping[str, Mapping[str, int | str]]
"""Glob on a pool's name -> resource -> quantity."""
_Limit = Callable[[str, str], int]
"""(pool, resource) -> the most that may be promised."""


def shrunk(
    name: str,
    spec: PlanSpec | None,
    sizes: Sizes,
    followed: Iterable[QuotaPlan],
    pools: Iterable[Pool],
    existing: ObservedState,
) -> ChangeSet:
    """The writes by which the queues of a plan that is not followed give back.

    Args:
        name: the plan.
        spec: what it says; None when it cannot be read.
        sizes: its `maximum`, as far as that can be read.
        followed: the plans that are followed, whose pools this one has nothing of.
        pools: all pools as they are believed.
        existing: what stands.
    """
    others, by_name = list(followed), {pool.name: pool for pool in pools}

    def taken(pool_name: str) -> bool:
        pool = by_name.get(pool_name)
        return any(
            takes(plan.spec, pool) if pool is not None else pool_name in declared(plan.spec)
            for plan in others
        )

    def limit(pool_name: str, resource: str) -> int:
        if taken(pool_name):
            return 0
        pool = by_name.get(pool_name)
        offered = pool.resources[resource].quantity if pool and resource in pool.resources else 0
        return max(offered, maximum(pool_name, sizes).get(resource, 0))

    feeding = {pool for pool in {*by_name, *sizes} if spec is None or selects(spec, pool)}
    return ChangeSet(changes=(*_kueue(name, limit, existing), *_volcano(name, limit, feeding, existing)))


def _kueue(name: str, limit: _Limit, existing: ObservedState) -> Iterable[Change]:
    mine = {
        queue_name: (queue, owned(queue).flavors)
        for queue_name, queue in sorted(existing.cluster_queues.items())
        if annotation(queue, keys.PLAN) == name
    }
    given: dict[tuple[str, str], dict[str, int]] = {}
    for queue_name, (queue, flavors) in mine.items():
        for (flavor, resource), units in nominal(queue).items():
            if flavor in flavors and resource.startswith(keys.VENDOR) and units:
                given.setdefault((flavor, resource), {})[queue_name] = units
    less: dict[str, dict[tuple[str, str], int]] = {}
    for (flavor, resource), parts in given.items():
        most = limit(pool_of(existing.flavors.get(flavor)) or flavor, resource)
        if sum(parts.values()) > most:
            for queue_name, units in split(most, parts).items():
                less.setdefault(queue_name, {})[flavor, resource] = units
    for queue_name, numbers in less.items():
        before = mine[queue_name][0]
        yield Change(name, before, _lowered(before, numbers))


def _lowered(queue: Object, numbers: Mapping[tuple[str, str], int]) -> Object:
    new = copied(queue)
    for group in new["spec"]["resourceGroups"]:
        for flavor in group["flavors"]:
            for each in flavor["resources"]:
                units = numbers.get((flavor["name"], each["name"]))
                if units is not None:
                    each["nominalQuota"] = str(units)
                    if "lendingLimit" in each and above(each["lendingLimit"], each["nominalQuota"]):
                        each["lendingLimit"] = each["nominalQuota"]
    return new


def _volcano(name: str, limit: _Limit, pools: Iterable[str], existing: ObservedState) -> Iterable[Change]:
    mine = {
        queue_name: queue
        for queue_name, queue in sorted(existing.queues.items())
        if annotation(queue, keys.PLAN) == name
    }
    parents = {queue["spec"].get("parent") for queue in mine.values()} & mine.keys()
    resources = {each for queue in mine.values() for each in quota(queue) if each.startswith(keys.VENDOR)}
    new = {queue_name: copied(queue) for queue_name, queue in mine.items()}
    for resource in sorted(resources):
        most = sum(limit(pool, resource) for pool in pools)
        leaves = {each: quota(queue).get(resource, 0) for each, queue in mine.items() if each not in parents}
        parts = split(most, leaves) if sum(leaves.values()) > most else leaves
        for queue_name, queue in new.items():
            _cap(queue["spec"], resource, parts.get(queue_name, most), most)
    changed = [(mine[each], queue) for each, queue in new.items() if queue != mine[each]]
    parent = next(iter(sorted(parents)), None)
    return [Change(name, write.before, write.after, None, write.tier) for write in order(changed, parent)]


def _cap(spec: dict[str, Any], resource: str, deserved: int, most: int) -> None:
    for field, units in zip(LISTS, (deserved, most), strict=True):
        numbers = spec.get(field) or {}
        if resource in numbers and above(numbers[resource], units):
            numbers[resource] = str(units)
    reserved = (spec.get("guarantee") or {}).get("resource") or {}
    if resource in reserved and above(reserved[resource], deserved):
        reserved[resource] = str(deserved)
