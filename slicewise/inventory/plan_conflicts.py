"""Plans in each other's way: two over one pool, or one queue in two of the same engine. The older goes on.  Pure.

Age is `creationTimestamp`, then the name; a plan that was not created yet is the youngest. A plan that only reports
stops nobody; it is told what would happen. One that is being deleted takes nothing any more.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from slicewise.api.policy import PlanMode, QuotaPlan
from slicewise.inventory.plan_selection import declared, takes
from slicewise.inventory.pools import Pool

_MOST_NODES: Final = 20


@dataclass(frozen=True, slots=True)
class PlanConflict:
    """Why a plan is not followed."""

    code: str
    """PoolInTwoPlans or QueueInTwoPlans."""
    refusal: str
    """Who has what the plan takes, and the fix."""
    sentence: str
    """The same, with what happens until then."""


def find_conflicts(plans: Iterable[QuotaPlan], pools: Iterable[Pool]) -> dict[str, tuple[PlanConflict, ...]]:
    """Says for each plan that is not followed which older one has what it wants, by the plan's name."""
    listed, pooled = [plan for plan in plans if not plan.leaving], list(pools)
    if len(listed) < 2:
        return {}
    owners: dict[_Claim, QuotaPlan] = {}
    found: dict[str, tuple[PlanConflict, ...]] = {}
    for plan in by_age(listed):
        wants = list(_wants(plan, pooled))
        conflicts = {
            claim.code: _conflict(claim, plan, owners[claim], pooled)
            for claim in reversed(wants)
            if claim in owners
        }
        if conflicts:
            found[plan.name] = tuple(conflicts[code] for code in sorted(conflicts, reverse=True))
        elif plan.spec.mode is not PlanMode.REPORT:
            owners |= dict.fromkeys(wants, plan)
    return found


def followed(plans: Iterable[QuotaPlan], pools: Iterable[Pool]) -> list[QuotaPlan]:
    """The plans that no older one is in the way of, and that stay."""
    listed = [plan for plan in plans if not plan.leaving]
    refused = find_conflicts(listed, pools)
    return [plan for plan in listed if plan.name not in refused]


def by_age(plans: Iterable[QuotaPlan]) -> list[QuotaPlan]:
    """Writers before those that only report, the older first."""

    def key(plan: QuotaPlan) -> tuple[bool, bool, str, str]:
        return plan.spec.mode is PlanMode.REPORT, not plan.created, plan.created, plan.name

    return sorted(plans, key=key)


class _Claim(NamedTuple):
    """What only one plan may have."""

    code: str
    name: str
    """Of a pool, or of a queue."""
    engine: str = ""
    """Whose queue it is."""


def _wants(plan: QuotaPlan, pools: list[Pool]) -> Iterator[_Claim]:
    """Yields everything that a plan takes and only one may have."""
    names = {queue.name for queue in plan.spec.queues}
    if plan.spec.engine.cohort_is_queue and plan.spec.cohort:
        names.add(plan.spec.cohort)
    for name in sorted(names):
        yield _Claim("QueueInTwoPlans", name, plan.spec.engine)
    seen = set()
    for pool in pools:
        if takes(plan.spec, pool):
            yield _Claim("PoolInTwoPlans", pool.name)
        seen.add(pool.name)
    for name in sorted(declared(plan.spec) - seen):
        yield _Claim("PoolInTwoPlans", name)


def _conflict(claim: _Claim, plan: QuotaPlan, owner: QuotaPlan, pools: list[Pool]) -> PlanConflict:
    what = f"the queue {claim.name}" if claim.engine else f"the pool {claim.name}"
    pool = next((pool for pool in pools if not claim.engine and pool.name == claim.name), None)
    why = ""
    if pool is not None and owner.spec.engine is not plan.spec.engine:
        why = _divide(pool, sorted({owner.spec.engine.title(), plan.spec.engine.title()}))
    refusal = (
        f"QuotaPlan {plan.name} takes {what}, which QuotaPlan {owner.name}, the older one, has, and only one may{why}; "
        "take it out of one of them"
    )
    return PlanConflict(
        claim.code,
        refusal,
        f"{refusal}: until then {owner.name} is followed, and {plan.name} only gives back",
    )


def _divide(pool: Pool, engines: Iterable[str]) -> str:
    """Why two engines cannot have one pool, with the nodes that both would hand out."""
    nodes = sorted(pool.nodes)
    more = f" and {len(nodes) - _MOST_NODES} more" if len(nodes) > _MOST_NODES else ""
    listed = ", ".join(nodes[:_MOST_NODES]) or "none now"
    return f": {' and '.join(engines)} would each hand out all of its nodes ({listed}{more})"
