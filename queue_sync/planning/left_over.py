"""Quota that queues have from another plan than the one that now feeds from the pool; no pool is promised twice.

Where the plan that gave it is gone, it stays until a plan takes the queue over, or somebody releases it: who feeds from
the pool now gives that much less. Where that plan is there, it gives back by itself: until then nobody gets more.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace

from queue_sync.planning.capacity import Feed, feeds
from queue_sync.planning.changes import Change, Key, Problem
from queue_sync.planning.engines import ENGINES
from queue_sync.planning.observed import ObservedState
from queue_sync.planning.quota import LeftOver, Number, Numbers
from queue_sync.planning.quota_changes import moves
from queue_sync.planning.steps import Steps
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
        if _take(feeds, each.number, each.units) < each.units:
            sentence = f"{each.sentence}, so QuotaPlan {plan.name} gives that much less; {each.fix}"
            problems.append(Problem(plan.name, "LeftOverQuota", sentence, kind=each.kind, name=each.queue))
    return tuple(feeds), tuple(problems)


def _take(feeds: list[Feed], number: Number, units: int) -> int:
    """Takes so much of a number off what pools give; returns what is not there to be taken."""
    pool, resource = number
    for index, feed in enumerate(feeds):
        if pool in {"", feed.pool} and feed.quota.get(resource):
            taken = min(units, feed.quota[resource])
            feeds[index] = replace(feed, quota={**feed.quota, resource: feed.quota[resource] - taken})
            units -= taken
    return units


def less_kept_for_good(
    plan: QuotaPlan, feeding: Sequence[Feed], pools: Sequence[Pool], existing: ObservedState
) -> Sequence[Feed]:
    """What pools give a plan, less what plans that write nothing keep of it, where it has more than the rest.

    Those do not give back by themselves: what a write has given that was under way when such a plan was suspended, and
    what nodes have lost since. A plan that has no more than the rest gives nothing back: it waits, which is said.
    """
    plans = existing.plans or {}
    silent = {name for name, each in plans.items() if each is not None and each.idle and name != plan.name}
    if not silent:
        return feeding
    resources = {resource for feed in feeding for resource in feed.quota}
    kept, has = Counter[Number](), Counter[Number]()
    for numbers in _kept_by(silent, plan, feeding, resources, pools, existing).values():
        kept.update(numbers)
    for engine in ENGINES.values():
        for each in engine.left_over(existing, plans.keys() - {plan.name}):
            if each.plan == plan.name:
                has[each.number] += each.units
    over_all = {resource for pool, resource in (*kept, *has) if not pool}

    def compared(number: Number) -> Number:
        """The same of all pools, where an engine counts the name so."""
        return ("", number[1]) if number[1] in over_all else number

    def given(number: Number) -> int:
        return sum(feed.quota.get(number[1], 0) for feed in feeding if number[0] in {"", feed.pool})

    shared, own = Counter[Number](), Counter[Number]()
    for number, units in kept.items():
        shared[compared(number)] += min(units, given(number))
    for number, units in has.items():
        own[compared(number)] += units
    feeds = list(feeding)
    for number, units in sorted(kept.items()):
        both = compared(number)
        if own[both] > max(0, given(both) - shared[both]):
            _take(feeds, number, units)
    return feeds


def kept_by_others(
    plan: QuotaPlan,
    feeding: Iterable[Feed],
    changes: Iterable[Change],
    pools: Iterable[Pool],
    existing: ObservedState,
) -> Steps[Mapping[Key, Numbers]]:
    """What queues of plans that are there still have, of numbers that a plan is to give more of; by queue.

    Where an engine counts names over all nodes, that is a name of which the other plan has more than its pools give.
    """
    others = (existing.plans or {}).keys() - {plan.name}
    resources: set[str] = set()
    for change in changes if others else ():
        resources |= {resource for _, resource in moves(change)[1]}
        yield
    if not resources:
        return {}
    return _kept_by(others, plan, feeding, resources, pools, existing)


def _kept_by(
    others: Set[str],
    plan: QuotaPlan,
    feeding: Iterable[Feed],
    resources: Set[str],
    pools: Iterable[Pool],
    existing: ObservedState,
) -> Mapping[Key, Numbers]:
    """What queues of these other plans have of what a plan feeds from; by queue."""
    plans = existing.plans or {}
    fed, listed = {feed.pool for feed in feeding}, list(pools)
    kept = defaultdict[Key, Counter[Number]](Counter)
    for name, engine in ENGINES.items():
        adopted = _adopted(plan) if name == plan.spec.engine else frozenset()
        found = [
            each
            for each in engine.left_over(existing, {plan.name})
            if each.plan in others and each.resource in resources and each.queue not in adopted
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
                kept[engine.QUEUE.name, each.queue][each.number] += units
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
