"""What ClusterQueues of a plan that is not followed give back, flavor by flavor.  Pure."""

from collections.abc import Collection, Iterator

from queue_sync.planning.apportionment import split
from queue_sync.planning.changes import Change
from queue_sync.planning.kueue.objects import lowered, nominal
from queue_sync.planning.observed import ObservedState, annotation, pool_of
from queue_sync.planning.ownership import owned
from queue_sync.planning.quota import Limit
from slicewise.api import keys


def shrink(plan: str, limit: Limit, _: Collection[str], existing: ObservedState, /) -> Iterator[Change]:
    """Yields the writes that leave each flavor no more than its pool may promise; see `QueueEngine`."""
    mine = {
        queue_name: (queue, owned(queue).flavors)
        for queue_name, queue in sorted(existing.cluster_queues.items())
        if annotation(queue, keys.PLAN) == plan
    }
    given: dict[tuple[str, str], dict[str, int]] = {}
    for queue_name, (queue, flavors) in mine.items():
        for (flavor, resource), units in nominal(queue).items():
            if flavor in flavors and resource.startswith(keys.VENDOR) and units:
                given.setdefault((flavor, resource), {})[queue_name] = units
    less: dict[str, dict[tuple[str, str], int]] = {}
    for (flavor, resource), parts in given.items():
        most = limit(pool_of(existing.flavors.get(flavor)) or flavor, resource)
        if sum(parts.values()) > most:
            for queue_name, units in split(most, parts).items():
                less.setdefault(queue_name, {})[flavor, resource] = units
    for queue_name, numbers in less.items():
        before = mine[queue_name][0]
        yield Change(plan, before, lowered(before, numbers))
