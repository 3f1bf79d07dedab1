"""Quota that a plan gave which is no more: it stays until a plan takes the queue over, or somebody releases it.

It is counted, so that a pool is never promised twice: who feeds from the pool now gives that much less.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from queue_sync.planning.capacity import Feed
from queue_sync.planning.changes import Problem
from queue_sync.planning.engines import ENGINES
from queue_sync.planning.observed import ObservedState
from queue_sync.planning.quota import LeftOver
from slicewise.api.policy import QuotaPlan


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
    adopted = {queue.name for queue in plan.spec.queues} | {plan.spec.cohort}
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
