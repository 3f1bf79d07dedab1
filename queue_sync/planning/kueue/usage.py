"""What Workloads use of ClusterQueues, and where that is above their quota. Nobody is evicted for it.  Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from queue_sync.planning.capacity import text
from queue_sync.planning.changes import Change
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.findings import Finding
from queue_sync.planning.kueue.objects import CLUSTER_QUEUE_KIND, COHORT_KIND, nominal
from queue_sync.planning.observed import ObservedState


def in_use(
    queues: Collection[str], existing: ObservedState, /
) -> Mapping[tuple[str, str, str], tuple[int, int]]:
    """What Workloads hold, reserved and admitted; see `QueueEngine`."""
    use = existing.use
    return {key: (units, use.used[key]) for key, units in use.reserved.items() if key[0] in queues}


def below_use(change: Change, existing: ObservedState, /) -> Iterator[str]:
    """Yields what shrinks below what is reserved; see `QueueEngine`."""
    if change.after is None:
        return
    queue = change.document["metadata"]["name"]
    before = nominal(change.before) if change.before is not None else {}
    for (flavor, resource), units in sorted(nominal(change.after).items()):
        reserved = existing.use.reserved[(queue, flavor, resource)]
        if units < reserved and units < before.get((flavor, resource), 0):
            yield (
                f"ClusterQueue {queue} has quota for {text(resource, units)} {resource} of flavor {flavor} and "
                f"{text(resource, reserved)} are in use; nobody is evicted, nothing new is admitted until "
                "work finishes"
            )


def usage(cluster: ClusterState, /) -> Iterator[Finding]:
    """Yields queues, or cohorts that share, that use more of a flavor than they have. Nobody is evicted for it.

    Use is what Workloads have been assigned, or what Kueue reports of the queue where that is more.
    """
    existing = cluster.existing
    users: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for key in {*existing.use.reserved, *cluster.reported}:
        users[key[0]].append(key)
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, queue in sorted(existing.cluster_queues.items()):
        cohort = queue["spec"].get("cohortName")
        members[(COHORT_KIND, cohort) if cohort else (CLUSTER_QUEUE_KIND, name)].append(name)
    for (kind, name), queues in sorted(members.items()):
        used: dict[tuple[str, str], int] = defaultdict(int)
        for key in (key for queue_name in queues for key in users.get(queue_name, ())):
            used[key[1:]] += max(existing.use.reserved[key], cluster.reported.get(key, 0))
        quota: dict[tuple[str, str], int] = defaultdict(int)
        for queue_name in queues if used else ():
            for pair, units in nominal(existing.cluster_queues[queue_name]).items():
                quota[pair] += units
        for (flavor, resource), units in sorted(used.items()):
            if units > quota[(flavor, resource)]:
                sentence = (
                    f"{kind} {name} uses {text(resource, units)} {resource} of flavor {flavor} and has quota for "
                    f"{text(resource, quota[(flavor, resource)])}; nobody is evicted, and nothing new is admitted "
                    "until work finishes"
                )
                yield Finding(kind, "", name, "UseAboveQuota", sentence)
