"""What Queues of a plan that is not followed give back, name by name, children before their parent.  Pure."""

from collections.abc import Collection
from typing import Any

from queue_sync.planning.apportionment import split
from queue_sync.planning.changes import Change
from queue_sync.planning.observed import ObservedState, annotation, copied
from queue_sync.planning.quota import Limit
from queue_sync.planning.volcano.usage import quota
from queue_sync.planning.volcano.write_order import LISTS, order
from slicewise.api import keys
from slicewise.api.quantities import above


def shrink(plan: str, limit: Limit, pools: Collection[str], existing: ObservedState, /) -> list[Change]:
    """The writes that leave each name no more than the pools together may promise; see `QueueEngine`."""
    mine = {
        queue_name: queue
        for queue_name, queue in sorted(existing.queues.items())
        if annotation(queue, keys.PLAN) == plan
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
    return [Change(plan, write.before, write.after, None, write.tier) for write in order(changed, parent)]


def _cap(spec: dict[str, Any], resource: str, deserved: int, most: int) -> None:
    for field, units in zip(LISTS, (deserved, most), strict=True):
        numbers = spec.get(field) or {}
        if resource in numbers and above(numbers[resource], units):
            numbers[resource] = str(units)
    reserved = (spec.get("guarantee") or {}).get("resource") or {}
    if resource in reserved and above(reserved[resource], deserved):
        reserved[resource] = str(deserved)
