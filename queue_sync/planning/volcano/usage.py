"""What Volcano counts in its Queues: how much of each resource runs in one, and where that is above what it may have.

Volcano's scheduler writes `status.allocated` into each Queue, its parents included, about once a second.

Pure. Failure mode: a quantity that cannot be read counts as nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from queue_sync.planning.observed import Object
from queue_sync.planning.ownership import owned
from slicewise.api.policy import Engine, QuotaPlan
from slicewise.api.quantities import scaled
from slicewise.inventory.pools import Pool


def units(queue: Object | None) -> dict[str, int]:
    """What runs in a Queue, in units of each resource (cpu in thousandths)."""
    return _units(((queue or {}).get("status") or {}).get("allocated") or {})


def quota(queue: Object) -> dict[str, int]:
    """What a Queue deserves of each resource that Slicewise decides."""
    mine = owned(queue).resources
    return {name: units for name, units in deserved(queue).items() if name in mine}


def deserved(queue: Object) -> dict[str, int]:
    """What a Queue deserves, whoever decides it."""
    return _units(queue["spec"].get("deserved") or {})


def limits(queue: Object) -> dict[str, int]:
    """How much may run in a Queue: its capability, and where it names none what it deserves."""
    spec = queue["spec"]
    return _units({**(spec.get("deserved") or {}), **(spec.get("capability") or {})})


def overused(queue: Object) -> Iterator[tuple[str, int, int]]:
    """Yields (resource, running, allowed) where more runs in a Queue than it may have."""
    allowed = limits(queue)
    for name, running in sorted(units(queue).items()):
        if name in allowed and running > allowed[name]:
            yield name, running, allowed[name]


def shrunk_below(before: Object | None, after: Object) -> Iterator[tuple[str, int, int]]:
    """Yields (resource, running, allowed) where a write takes what runs already."""
    old = limits(before) if before is not None else {}
    for name, running, allowed in overused({**after, "status": (before or {}).get("status") or {}}):
        if allowed < old.get(name, allowed + 1):
            yield name, running, allowed


def running_in(
    plan: QuotaPlan, pools: Iterable[Pool], queues: Mapping[str, Object]
) -> dict[tuple[str, str], int]:
    """What runs in the Queues of a plan, by (pool, resource).

    Volcano counts names, not pools, so a name that several pools of the plan offer is left out.
    """
    if plan.spec.engine is not Engine.VOLCANO:
        return {}
    offering: dict[str, list[str]] = {}
    for pool in pools:
        for name in pool.resources:
            offering.setdefault(name, []).append(pool.name)
    found: dict[tuple[str, str], int] = {}
    for queue in plan.spec.queues:
        for name, count in units(queues.get(queue.name)).items():
            if len(offering.get(name, ())) == 1:
                key = (offering[name][0], name)
                found[key] = found.get(key, 0) + count
    return found


def hint(refusal: str) -> str:
    """What to do about a refusal of Volcano's webhook that its own words do not say; "" when there is nothing."""
    if "should less equal than capability" in refusal or "exceeds parent queue" in refusal:
        return (
            "; Volcano before v1.14.2 takes a name that a capability does not list for 0: list there whatever the "
            "queue deserves, and in its parent's whatever the queue's own lists"
        )
    if "cannot be the parent queue" in refusal:
        return "; let the work in the parent finish, or name another cohort"
    if "parent queue" in refusal and "validation failed" in refusal:
        return "; raise what its parent deserves, or make the parent the plan's cohort"
    return ""


def _units(listed: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(scaled(name, quantity)) for name, quantity in listed.items()}
