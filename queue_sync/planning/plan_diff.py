"""What one plan wants, against what stands: objects, the writes that are missing, and what is wrong.

How an engine's objects look, and in which order they are written, is its own business (`engines`).
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce

from queue_sync.planning.capacity import Feed, feeds
from queue_sync.planning.changes import ChangeSet, Problem
from queue_sync.planning.engine import PlanCache, PlanInputs
from queue_sync.planning.engines import ENGINES
from queue_sync.planning.left_over import kept_by_others, less_kept_for_good, less_left_over
from queue_sync.planning.observed import ObservedState, annotation
from queue_sync.planning.ownership import RefusalError, ours
from queue_sync.planning.steps import Steps, complete
from slicewise.api import keys
from slicewise.api.policy import PlanMode, QuotaPlan
from slicewise.inventory.pools import Pool


def desired_of(
    plan: QuotaPlan,
    pools: Iterable[Pool],
    namespaces: Mapping[str, Mapping[str, str]] | None,
    existing: ObservedState,
    known: PlanCache | None = None,
) -> ChangeSet:
    """What one plan wants: `steps_to` at once."""
    return complete(steps_to(plan, pools, namespaces, existing, known or PlanCache()))


def steps_to(
    plan: QuotaPlan,
    pools: Iterable[Pool],
    namespaces: Mapping[str, Mapping[str, str]] | None,
    existing: ObservedState,
    known: PlanCache,
) -> Steps[ChangeSet]:
    """What one plan wants; whether it gets in the way of others is not looked at.

    `namespaces` are labels by name; None leaves LocalQueues out, which the controller looks at namespace by namespace.
    `known` is kept by the caller from call to call. It changes no result, because a queue is worked out of what it is
    and what it is to get alone: the very object that was found right, and that is to get the same, is right.
    What the plan had in another engine is given back first, which else would hand its boards out too.
    """
    pooled = list(pools)
    fed, left = less_left_over(plan, feeds_of(plan, pooled, existing, known), existing)
    feeding = tuple(less_kept_for_good(plan, fed, pooled, existing))
    engine = ENGINES[plan.spec.engine]
    inputs = PlanInputs(plan, feeding, existing, namespaces, known)
    try:
        engine.check(inputs)
        found = yield from engine.desired(inputs)
    except RefusalError as error:
        return ChangeSet(problems=(Problem(plan.name, "Refused", str(error), refused=True),))
    former = (other.release(plan.name, existing) for other in ENGINES.values() if other is not engine)
    kept = yield from kept_by_others(plan, feeding, found.changes, pooled, existing)
    return reduce(_with, (*former, found), ChangeSet(problems=left, kept=kept))


def feeds_of(
    plan: QuotaPlan, pools: Iterable[Pool], existing: ObservedState, known: PlanCache | None = None
) -> tuple[Feed, ...]:
    """What the pools give a plan, those included that it fed from before; what is left over is not yet taken off."""
    cache = known.feeds_of(plan.name) if known is not None else None
    fed = {
        name
        for name, document in existing.flavors.items()
        if ours(document) and annotation(document, keys.PLAN) == plan.name
    }
    in_use: dict[str, dict[str, int]] = {}
    for (_, flavor, resource), units in existing.use.reserved.items():
        held = in_use.setdefault(flavor, {})
        held[resource] = held.get(resource, 0) + units
    demand = [each.resources for each in existing.use.demand({queue.name for queue in plan.spec.queues})]
    return feeds(plan.spec, pools, fed, in_use, demand, existing.devices, cache)


def unwritten(plan: QuotaPlan) -> Iterator[str]:
    """Yields why nothing of what a plan wants is written, if that is so."""
    if plan.spec.suspend:
        yield f"QuotaPlan {plan.name} has suspend: true, so nothing is written"
    elif plan.spec.mode is PlanMode.REPORT:
        yield f"QuotaPlan {plan.name} has mode: report, so nothing is written"


def released(name: str, existing: ObservedState) -> ChangeSet:
    """What gives back everything that a plan gave, there or not, in whatever engine."""
    return reduce(_with, (engine.release(name, existing) for engine in ENGINES.values()), ChangeSet())


def _with(first: ChangeSet, then: ChangeSet) -> ChangeSet:
    return ChangeSet(
        (*first.objects, *then.objects),
        (*first.changes, *then.changes),
        (*first.problems, *then.problems),
        then.assigned,
        {**first.targets, **then.targets},
        first.draining or then.draining,
        {**first.kept, **then.kept},
    )
