"""The status of a SlicingPolicy: what its classes get now, who uses it, and whose counting it breaks.  Pure.

The built-in policy is no object, so it has no status; `slicewise explain` says what it comes to.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from queue_sync.planning.findings import Finding
from queue_sync.status.plan_status import ACCEPTED, MOST_LISTED, READY, condition, dated, unusable
from slicewise.api import keys
from slicewise.api.policy import SlicingPolicy, WorkloadClass
from slicewise.inventory.allocation import Choice, NothingFits, TooMany, allocate
from slicewise.inventory.gpu_requirement import requirement_of_class
from slicewise.inventory.pools import Pool

RESOLVED: Final = "Resolved"
MISCOUNTED: Final = "QuotasMiscounted"
MOST_POOLS: Final = 50
"""Of each class, of which there are 64 at most: see `plan_status.MOST_BYTES`."""


def users_of(policy: str, namespaces: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """The labels of the namespaces that name a policy."""
    return {name: labels for name, labels in namespaces.items() if labels.get(keys.POLICY) == policy}


def status(
    policy: SlicingPolicy,
    generation: int,
    pools: Sequence[Pool],
    users: int,
    miscounts: Sequence[Finding],
    unread: str,
    before: Mapping[str, Any],
    now: str,
) -> dict[str, Any]:
    """The status as it should stand.

    Args:
        policy: the policy.
        generation: its generation.
        pools: all pools, as they are believed.
        users: how many namespaces name it.
        miscounts: ResourceQuotas and LimitRanges of these that speak of the name that work no longer asks for.
        unread: why those are not known; "" when they are.
        before: the status as it stands, for its transition times.
        now: RFC 3339.
    """
    classes, unserved = {}, []
    for name, work in policy.spec.classes.items():
        found = allocate(requirement_of_class(work), pools).outcome
        classes[name] = _class(work, found)
        if not isinstance(found, Choice):
            unserved.append(f"class {name}: {_why(found)}")
    conditions = [
        condition(ACCEPTED, True, "Accepted", "the policy can be followed"),
        condition(
            RESOLVED,
            not unserved,
            "NothingFits" if unserved else "Resolved",
            _listed(unserved) or "a pool serves every class",
        ),
    ]
    conditions = [
        condition(
            READY, not unserved, conditions[1]["reason"] if unserved else "Ready", conditions[1]["message"]
        ),
        *conditions,
        _miscounted(miscounts, unread),
    ]
    dated(conditions, generation, before, now)
    return {
        "observedGeneration": generation,
        "conditions": conditions,
        "classes": classes,
        "namespaces": users,
    }


def unreadable(
    error: str, generation: int, users: int, before: Mapping[str, Any], now: str
) -> dict[str, Any]:
    """The status of a policy that breaks a rule: the webhook goes on with what it said before."""
    return {**unusable("Invalid", error, generation, before, now), "namespaces": users}


def _class(work: WorkloadClass, found: Choice | TooMany | NothingFits) -> dict[str, Any]:
    if isinstance(found, Choice):
        more = len(found.pools) - MOST_POOLS
        return {
            "strategy": str(found.strategy),
            "pools": list(found.pools[:MOST_POOLS]),
            **({"morePools": more} if more > 0 else {}),
        }
    return {"strategy": str(work.strategy), "pools": []}


def _why(found: TooMany | NothingFits) -> str:
    if isinstance(found, TooMany):
        return f"{found.strategy} cannot be added up"
    return "; ".join(found.tried) or "no node offers GPUs"


def _miscounted(miscounts: Sequence[Finding], unread: str) -> dict[str, Any]:
    if miscounts:
        spaces = sorted({each.namespace for each in miscounts})
        words = f"in {_listed(spaces, ', ')}: {_listed([each.sentence for each in miscounts])}"
        return condition(MISCOUNTED, True, miscounts[0].code, words)
    if unread:
        return {**condition(MISCOUNTED, False, "NotReadable", unread), "status": "Unknown"}
    return condition(
        MISCOUNTED, False, "Counted", "no rule of a namespace that uses it speaks of the old name"
    )


def _listed(words: Sequence[str], between: str = "; ") -> str:
    more = len(words) - MOST_LISTED
    return between.join(words[:MOST_LISTED]) + (f"{between}and {more} more" if more > 0 else "")
