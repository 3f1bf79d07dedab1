"""Quota that a plan gave which is no more: it stays until a plan takes the queue over, or somebody releases it.

It is counted, so that a pool is never promised twice: who feeds from the pool now gives that much less.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter

from queue_sync.planning.capacity import Feed
from queue_sync.planning.changes import Problem
from queue_sync.planning.kueue.objects import CLUSTER_QUEUE, nominal
from queue_sync.planning.observed import Object, ObservedState, annotation, pool_of
from queue_sync.planning.ownership import owned
from queue_sync.planning.volcano import usage as volcano_use
from slicewise.api import keys
from slicewise.api.policy import Engine, QuotaPlan


@dataclass(frozen=True, slots=True, order=True)
class LeftOver:
    """What one queue still has of one resource."""

    kind: str
    queue: str
    plan: str
    """The plan that gave it."""
    pool: str
    """Empty for Volcano, which counts names over all nodes."""
    resource: str
    units: int

    @property
    def sentence(self) -> str:
        """What it is, without what to do."""
        where = f" of {self.pool}" if self.pool else ""
        return (
            f"{self.kind} {self.queue} still has {self.units} {self.resource}{where} from QuotaPlan {self.plan}, "
            "which is not there any more"
        )


def left_over(existing: ObservedState) -> Iterator[LeftOver]:
    """Yields the GPU quota of queues whose plan is gone; nothing where the plans are not known."""
    if existing.plans is None:
        return
    for name, queue, plan in sorted(
        _of_gone_plans(existing.cluster_queues, existing.plans), key=itemgetter(0)
    ):
        flavors = owned(queue).flavors
        for (flavor, resource), units in sorted(nominal(queue).items()):
            if units and flavor in flavors and resource.startswith(keys.VENDOR):
                pool = pool_of(existing.flavors.get(flavor)) or flavor
                yield LeftOver(CLUSTER_QUEUE, name, plan, pool, resource, units)
    parents = {queue["spec"].get("parent") for queue in existing.queues.values()}
    for name, queue in sorted(existing.queues.items()):
        plan = annotation(queue, keys.PLAN)
        if plan and plan not in existing.plans and name not in parents:
            for resource, units in sorted(volcano_use.quota(queue).items()):
                if units and resource.startswith(keys.VENDOR):
                    yield LeftOver("Queue", name, plan, "", resource, units)


def _of_gone_plans(queues: Mapping[str, Object], plans: Container[str]) -> Iterator[tuple[str, Object, str]]:
    for name, queue in queues.items():
        notes = queue["metadata"].get("annotations")
        if notes and (plan := notes.get(keys.PLAN)) and plan not in plans:
            yield name, queue, plan


def less_left_over(
    plan: QuotaPlan, feeding: Iterable[Feed], existing: ObservedState
) -> tuple[tuple[Feed, ...], tuple[Problem, ...]]:
    """What is left of a plan's pools once the quota of queues that it does not take over is counted; and why."""
    adopted = {queue.name for queue in plan.spec.queues} | {plan.spec.cohort}
    kind = CLUSTER_QUEUE if plan.spec.engine is Engine.KUEUE else "Queue"
    feeds, problems = list(feeding), []
    for each in left_over(existing):
        if each.kind == kind and each.queue in adopted:
            continue
        if not each.pool and plan.spec.engine is not Engine.VOLCANO:
            continue
        rest = each.units
        for index, feed in enumerate(feeds):
            if each.pool in {"", feed.pool} and feed.quota.get(each.resource):
                taken = min(rest, feed.quota[each.resource])
                quota = {**feed.quota, each.resource: feed.quota[each.resource] - taken}
                feeds[index] = replace(feed, quota=quota)
                rest -= taken
        if rest < each.units:
            sentence = (
                f"{each.sentence}, so QuotaPlan {plan.name} gives that much less; list the queue in the plan, or run "
                f"slicewise release {each.plan}"
            )
            problems.append(Problem(plan.name, "LeftOverQuota", sentence, kind=each.kind, name=each.queue))
    return tuple(feeds), tuple(problems)
