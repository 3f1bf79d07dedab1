"""What is wanted, against what stands: the one function that the command and the controller share.

`desired` takes every plan; the controller, which works plan by plan, asks `find_conflicts`, then `desired_of`.
All are pure and give the same result for the same input, whatever order it comes in.

A refused plan wants nothing: what it wrote last stays in force.
"""

from collections.abc import Iterable, Mapping

from queue_sync.planning import capacity
from queue_sync.planning.observed import ObservedState
from queue_sync.planning.plan_diff import Change, ChangeSet, Problem, desired_of
from slicewise.api.policy import Engine, PlanMode, QuotaPlan
from slicewise.inventory.plan_selection import takes
from slicewise.inventory.pools import Pool

__all__ = ["Change", "ChangeSet", "Problem", "desired", "desired_of", "find_conflicts"]

NOTHING = ObservedState()
_MOST_NODES = 20


def desired(
    plans: Iterable[QuotaPlan],
    pools: Iterable[Pool],
    namespaces: Mapping[str, Mapping[str, str]],
    existing: ObservedState = NOTHING,
) -> ChangeSet:
    """Every object that the plans want, in the order in which they must be written.

    Args:
        plans: all QuotaPlans that can be read.
        pools: the pools as they are believed.
        namespaces: labels by namespace, of those that are not being deleted.
        existing: what stands; left out, nothing does.
    """
    every, pooled = sorted(plans, key=lambda plan: plan.name), list(pools)
    refused = find_conflicts(every, pooled)
    found = [
        desired_of(plan, pooled, namespaces, existing)
        for plan in every
        if not any(refused.get(plan.name, ()))
    ]
    return ChangeSet(
        tuple(each for one in found for each in one.objects),
        tuple(each for one in found for each in one.changes),
        tuple(each for problems in refused.values() for each in problems)
        + tuple(each for one in found for each in one.problems),
        {pool: split for one in found for pool, split in one.assigned.items()},
        {key: target for one in found for key, target in one.targets.items()},
        any(one.draining for one in found),
    )


def find_conflicts(plans: Iterable[QuotaPlan], pools: Iterable[Pool]) -> dict[str, tuple[Problem, ...]]:
    """Plans that get in each other's way, by name: two over one pool, or one queue in two of the same engine.

    A plan that only reports never stops one that writes; it is told what would happen.
    """
    every, pooled = sorted(plans, key=lambda plan: plan.name), list(pools)
    found: dict[str, list[Problem]] = {}
    reporting = {plan.name for plan in every if plan.spec.mode is PlanMode.REPORT}
    by_queue: dict[tuple[Engine, str], list[str]] = {}
    for plan in every:
        names = {queue.name for queue in plan.spec.queues}
        if plan.spec.engine is Engine.VOLCANO and plan.spec.cohort:
            names.add(plan.spec.cohort)
        for name in sorted(names):
            by_queue.setdefault((plan.spec.engine, name), []).append(plan.name)
    shared = [(f"the queue {name}", "QueueInTwoPlans", takers, "") for (_, name), takers in by_queue.items()]
    for pool in pooled:
        takers = [plan.name for plan in every if takes(plan.spec, pool)]
        engines = {plan.spec.engine for plan in every if plan.name in takers}
        why = _divide(pool) if len(engines) > 1 else ""
        shared.append((f"the pool {pool.name}", "PoolInTwoPlans", takers, why))
    declared = {plan.name: capacity.declared(plan.spec) for plan in every}
    for absent in sorted(
        {name for each in declared.values() for name in each} - {pool.name for pool in pooled}
    ):
        takers = [name for name, pools_of in declared.items() if absent in pools_of]
        shared.append((f"the pool {absent}", "PoolInTwoPlans", takers, ""))
    for what, code, takers, why in shared:
        for plan_name in takers:
            rivals = [name for name in takers if name != plan_name and name not in reporting]
            if not rivals or any(problem.code == code for problem in found.get(plan_name, ())):
                continue
            first, *rest = sorted({plan_name, *rivals})
            others = " and ".join(f"QuotaPlan {other}" for other in rest)
            sentence = (
                f"QuotaPlan {first} and {others} both take {what}, which only one may{why}; "
                "until one of them leaves it, what was written last stays"
            )
            found.setdefault(plan_name, []).append(Problem(plan_name, code, sentence, refused=True))
    return {name: tuple(problems) for name, problems in sorted(found.items())}


def _divide(pool: Pool) -> str:
    """Why two engines cannot have one pool, with the nodes that both would hand out."""
    nodes = sorted(pool.nodes)
    more = f" and {len(nodes) - _MOST_NODES} more" if len(nodes) > _MOST_NODES else ""
    listed = ", ".join(nodes[:_MOST_NODES]) or "none now"
    return f": Kueue and Volcano would each hand out all of its nodes ({listed}{more})"
