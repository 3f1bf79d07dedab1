"""The LocalQueues of one namespace: which queues of a plan take it, and the writes that are missing there.

A namespace is the unit, so that one that changes costs the same however many there are.
"""

from collections.abc import Iterator, Mapping

from queue_sync.planning.changes import Change, ChangeSet, Problem
from queue_sync.planning.kueue import objects as kueue
from queue_sync.planning.observed import Object, ObservedState, annotation
from queue_sync.planning.ownership import leaving, ours
from slicewise.api import keys
from slicewise.api.policy import PlanQueue, QuotaPlan


class QueueSelectors:
    """The queues of a plan by a label that each selects, so that a namespace is held against few of them."""

    def __init__(self, plan: QuotaPlan) -> None:
        self.plan = plan
        self._by_label: dict[tuple[str, str], list[PlanQueue]] = {}
        self._others: list[PlanQueue] = []
        for queue in plan.spec.queues:
            if queue.namespaces is not None:
                label = next(iter(queue.namespaces.match_labels.items()), None)
                same = self._others if label is None else self._by_label.setdefault(label, [])
                same.append(queue)

    def matching(self, namespace: str, labels: Mapping[str, str]) -> list[PlanQueue]:
        """Returns the queues that take a namespace with these labels, by name."""
        if namespace in keys.SYSTEM_NAMESPACES:
            return []
        near = [
            *self._others,
            *(queue for label in labels.items() for queue in self._by_label.get(label, ())),
        ]
        found = [
            queue for queue in near if queue.namespaces is not None and queue.namespaces.matches(dict(labels))
        ]
        return sorted(found, key=lambda queue: queue.name)


def by_namespace(local_queues: Mapping[str, Object]) -> dict[str, dict[str, Object]]:
    """Returns LocalQueues by namespace and name, of those by `namespace/name`."""
    found: dict[str, dict[str, Object]] = {}
    for key, document in local_queues.items():
        namespace, _, name = key.partition("/")
        found.setdefault(namespace, {})[name] = document
    return found


def changes_in(
    selectors: QueueSelectors,
    namespace: str,
    labels: Mapping[str, str] | None,
    standing: Mapping[str, Object],
    existing: ObservedState,
) -> ChangeSet:
    """What a plan wants in one namespace.

    Args:
        selectors: the plan's queues.
        namespace: its name.
        labels: its labels; None when it is gone or being deleted.
        standing: its LocalQueues by name.
        existing: what stands elsewhere; its LocalQueues are not read.
    """
    plan = selectors.plan
    matching = selectors.matching(namespace, labels) if labels is not None else []
    wanted: dict[str, PlanQueue] = {}
    objects, changes, problems = [], [], []
    for queue in matching:
        first = wanted.setdefault(kueue.local_queue_name(plan, queue), queue)
        if first is not queue:
            problems.append(_shared(plan, namespace, first, queue))
    for name, queue in wanted.items():
        document = kueue.local_queue(plan, queue, namespace)
        there = standing.get(name)
        if there is None:
            objects.append(document)
            changes.append(Change(plan.name, None, document, document))
        elif there["spec"].get("clusterQueue") == queue.name:
            objects.append(there)
        else:
            problems.append(_elsewhere(plan, queue, there, existing))
    former = [each for name, each in sorted(standing.items()) if name not in wanted]
    gone, draining = _retired(plan.name, namespace, former, existing)
    return ChangeSet(tuple(objects), (*changes, *gone), tuple(problems), draining=draining)


def _shared(plan: QuotaPlan, namespace: str, first: PlanQueue, other: PlanQueue) -> Problem:
    name = kueue.local_queue_name(plan, other)
    sentence = (
        f"LocalQueue {namespace}/{name} is wanted for the queues {first.name} and {other.name}, so nothing in that "
        f"namespace reaches {other.name}; leave localQueueName out, or have them select other namespaces"
    )
    return Problem(plan.name, "LocalQueueShared", sentence, kind=kueue.LOCAL_QUEUE_KIND, name=name)


def _elsewhere(plan: QuotaPlan, queue: PlanQueue, there: Object, existing: ObservedState) -> Problem:
    namespace, name = there["metadata"]["namespace"], there["metadata"]["name"]
    where, leads_to = f"LocalQueue {namespace}/{name}", there["spec"].get("clusterQueue")
    other = _decided_by(there, existing) if ours(there) else ""
    if other not in {"", plan.name} and (existing.plans is None or other in existing.plans):
        sentence = (
            f"{where} is wanted for the queue {queue.name} and leads to {leads_to} of QuotaPlan {other}, so nothing in "
            f"that namespace reaches {queue.name}; give one of the two another localQueueName, or have them select "
            "other namespaces"
        )
        return Problem(plan.name, "LocalQueueShared", sentence, kind=kueue.LOCAL_QUEUE_KIND, name=name)
    sentence = (
        f"{where} points to ClusterQueue {leads_to}, not {queue.name}, and Kueue never changes that; delete it and it "
        "is made anew, or rename the plan's queue"
    )
    return Problem(plan.name, "LocalQueueElsewhere", sentence, kind=kueue.LOCAL_QUEUE_KIND, name=name)


def _retired(
    plan: str, namespace: str, former: list[Object], existing: ObservedState
) -> tuple[list[Change], bool]:
    """Deletions of what the plan made and no longer wants, and whether Workloads still wait in some of it."""
    changes, draining = [], False
    for there in former:
        if not ours(there) or _decided_by(there, existing) != plan:
            continue
        if existing.use.waits(namespace, there["metadata"]["name"]):
            draining = True
        elif not leaving(there):
            changes.append(Change(plan, there, None))
    return changes, draining


def _decided_by(local_queue: Object, existing: ObservedState) -> str:
    """The plan that decides a LocalQueue: the one that has its ClusterQueue, else the one that made it."""
    behind = existing.cluster_queues.get(local_queue["spec"].get("clusterQueue", ""))
    return annotation(behind, keys.PLAN) or annotation(local_queue, keys.PLAN)


def everywhere(
    plan: QuotaPlan, namespaces: Mapping[str, Mapping[str, str]], existing: ObservedState
) -> Iterator[ChangeSet]:
    """Yields what a plan wants in each namespace, those included that are not known and hold LocalQueues."""
    selectors, standing = QueueSelectors(plan), by_namespace(existing.local_queues)
    for namespace in sorted({*namespaces, *standing}):
        yield changes_in(
            selectors, namespace, namespaces.get(namespace), standing.get(namespace, {}), existing
        )
