"""What all plans want together, against what stands: the one function that the command and the controller share.

`desired` takes every plan; the controller, which works plan by plan, asks `find_conflicts`, then `desired_of` or, for a
plan that is not followed, `given_back_by`. All are pure and give the same result for the same input, whatever order it
comes in.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from queue_sync.planning.changes import ChangeSet, Problem, key_of
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.engine import PlanCache
from queue_sync.planning.handover import waiting
from queue_sync.planning.observed import ObservedState
from queue_sync.planning.plan_diff import released, steps_to
from queue_sync.planning.shrink import shrunk
from queue_sync.planning.steps import Steps, complete
from slicewise.api.policy import DeletionPolicy, QuotaPlan
from slicewise.inventory import plan_conflicts
from slicewise.inventory.pools import Pool
from slicewise.kube.object_types import LOCAL_QUEUE, kind_of

NOTHING = ObservedState()


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
    return complete(_desired(plans, pools, namespaces, existing))


def _desired(
    plans: Iterable[QuotaPlan],
    pools: Iterable[Pool],
    namespaces: Mapping[str, Mapping[str, str]],
    existing: ObservedState,
) -> Steps[ChangeSet]:
    every, pooled = sorted(plans, key=lambda plan: plan.name), list(pools)
    refused = find_conflicts(every, pooled)
    followed = plan_conflicts.followed(every, pooled)
    by_plan = {}
    for plan in sorted(plan_conflicts.by_age(every), key=lambda plan: plan.idle):
        if plan.leaving:
            gives = plan.spec.deletion_policy is DeletionPolicy.RELEASE
            by_plan[plan.name] = released(plan.name, existing) if gives else ChangeSet()
        elif plan.name in refused:
            by_plan[plan.name] = given_back_by(plan, followed, pooled, existing)
        else:
            by_plan[plan.name] = yield from steps_to(plan, pooled, namespaces, existing, PlanCache())
            existing = _with_local_queues(existing, by_plan[plan.name])
    found = [by_plan[plan.name] for plan in every]
    waits = [problem for one in found for problem in waiting(one)]
    # What gives back comes first, so that nothing is promised twice on the way.
    found.sort(key=lambda one: bool(one.objects))
    return ChangeSet(
        tuple(each for one in found for each in one.objects),
        tuple(each for one in found for each in one.changes),
        tuple(each for problems in refused.values() for each in problems)
        + tuple(each for one in found for each in one.problems)
        + tuple(waits),
        {pool: split for one in found for pool, split in one.assigned.items()},
        {key: target for one in found for key, target in one.targets.items()},
        any(one.draining for one in found),
        {queue: numbers for one in found for queue, numbers in one.kept.items()},
    )


def _with_local_queues(existing: ObservedState, found: ChangeSet) -> ObservedState:
    """What stands, with the LocalQueues that a plan makes: to a younger one that wants the same they are another's."""
    made = {
        key_of(change.document)[1]: change.document
        for change in found.changes
        if change.before is None and kind_of(change.document) == LOCAL_QUEUE
    }
    if not made:
        return existing
    return replace(existing, objects={**existing.objects, LOCAL_QUEUE: {**existing.local_queues, **made}})


def wanted(cluster: ClusterState) -> ChangeSet:
    """What the plans of a cluster want; where no Node was read, nothing but what is wrong with them."""
    return complete(steps_to_wanted(cluster))


def steps_to_wanted(cluster: ClusterState) -> Steps[ChangeSet]:
    """What the plans of a cluster want, in steps."""
    if cluster.plans and not cluster.nodes_read:
        refused = find_conflicts(cluster.plans, ()).values()
        return ChangeSet(problems=tuple(each for problems in refused for each in problems))
    return (yield from _desired(cluster.plans, cluster.pools, cluster.namespaces, cluster.existing))


def find_conflicts(plans: Iterable[QuotaPlan], pools: Iterable[Pool]) -> dict[str, tuple[Problem, ...]]:
    """Plans that are not followed because an older one has what they want, by name."""
    return {
        name: tuple(Problem(name, each.code, each.sentence, refused=True) for each in conflicts)
        for name, conflicts in plan_conflicts.find_conflicts(plans, pools).items()
    }


def given_back_by(
    plan: QuotaPlan, followed: Iterable[QuotaPlan], pools: Iterable[Pool], existing: ObservedState
) -> ChangeSet:
    """What the queues of a plan that can be read and is not followed give back."""
    return shrunk(plan.name, plan.spec, plan.spec.maximum, followed, pools, existing)
