"""Quota that queues have from another plan than the one that now feeds from the pool; no pool is promised twice.

Where the plan that gave it is gone, it stays until a plan takes the queue over, or somebody releases it: who feeds from
the pool now gives that much less. Where that plan is there, it gives back by itself: until then nobody gets more.
"""

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace

from queue_sync.planning.capacity import Feed, feeds
from queue_sync.planning.changes import Key, Problem
from queue_sync.planning.engines import ENGINES
from queue_sync.planning.observed import ObservedState
from queue_sync.planning.quota import LeftOver, Number, Numbers
from slicewise.api.policy import QuotaPlan
from slicewise.inventory.pools import Pool


def left_over(existing: ObservedState) -> Iterator[LeftOver]:
    """The GPU quota of queues whose plan is gone; nothing where the plans are not known."""
    return (each for _, each in _left_over(existing))


def _left_over(existing: ObservedState) -> Iterator[tuple[str, LeftOver]]:
    """Yields the same, each with its engine."""
    if existing.plans is not None:
        for name, engine in ENGINES.items():
            yield from ((name, each) for each in engine.left_over(existing, existing.plans))


def less_left_over(
    plan: QuotaPlan, feeding: Iterable[Feed], existing: ObservedState
) -> tuple[tuple[Feed, ...], tuple[Problem, ...]]:
    """What is left of a plan's pools once the quota of queues that it does not take over is counted; and why."""
    adopted = _adopted(plan)
    feeds, problems = list(feeding), []
    for engine, each in _left_over(existing):
        own = engine == plan.spec.engine
        if (each.queue in adopted) if own else not each.pool:
            continue
        rest = each.units
        for index, feed in enumerate(feeds):
            if each.pool in {"", feed.pool} and feed.quota.get(each.resource):
                taken = min(rest, feed.quota[each.resource])
                quota = {**feed.quota, each.resource: feed.quota[each.resource] - taken}
                feeds[index] = replace(feed, quota=quota)
                rest -= taken
        if rest < each.units:
            sentence = f"{each.sentence}, so QuotaPlan {plan.name} gives that much less; {each.fix}"
            problems.append(Problem(plan.name, "LeftOverQuota", sentence, kind=each.kind, name=each.queue))
    return tuple(feeds), tuple(problems)


def kept_by_others(
    plan: QuotaPlan,
    feeding: Iterable[Feed],
    wanted: Iterable[Number],
    pools: Iterable[Pool],
    existing: ObservedState,
) -> Mapping[Key, Numbers]:
    """What queues of plans that are there still have, of numbers that a plan is to give more of; by queue.

    Where an engine counts names over all nodes, that is a name of which the other plan has more than its pools give.
    """
    plans = existing.plans or {}
    if plans.keys() <= {plan.name} or not (resources := {resource for _, resource in wanted}):
        return {}
    fed, listed = {feed.pool for feed in feeding}, list(pools)
    kept: dict[Key, dict[Number, int]] = {}
    for name, engine in ENGINES.items():
        adopted = _adopted(plan) if name == plan.spec.engine else frozenset()
        found = [
            each
            for each in engine.left_over(existing, {plan.name})
            if each.plan in plans and each.resource in resources and each.queue not in adopted
        ]
        beyond = Counter[tuple[str, str]]()
        for each in found:
            if not each.pool:
                beyond[each.plan, each.resource] += each.units
        for giver, resource in beyond:
            beyond[giver, resource] -= _given(plans[giver], resource, listed, fed)
        for each in found:
            units = each.units
            if not each.pool:
                units = max(0, min(units, beyond[each.plan, each.resource]))
                beyond[each.plan, each.resource] -= units
            if units and each.pool in {"", *fed}:
                kept.setdefault((engine.QUEUE.name, each.queue), {})[each.number] = units
    return kept


def _given(plan: QuotaPlan | None, resource: str, pools: Iterable[Pool], but: Container[str]) -> int:
    """How much a plan has of a resource in its pools, those left out that feed another one; all of these if unread."""
    if plan is None:
        others = (pool.resources.get(resource) for pool in pools if pool.name not in but)
        return sum(each.quantity for each in others if each is not None)
    if plan.leaving:
        return 0
    return sum(feed.quota.get(resource, 0) for feed in feeds(plan.spec, pools) if feed.pool not in but)


def _adopted(plan: QuotaPlan) -> frozenset[str]:
    """The queues of its engine that a plan takes over."""
    parent = {plan.spec.cohort} if plan.spec.cohort and plan.spec.engine.cohort_is_queue else set()
    return frozenset({queue.name for queue in plan.spec.queues} | parent)
