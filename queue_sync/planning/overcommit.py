"""By how much queues promise more GPUs than believed nodes offer, or than an autoscaled pool may grow to offer."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from queue_sync.planning.capacity import declared, largest
from queue_sync.planning.kueue.objects import nominal
from queue_sync.planning.observed import ObservedState
from queue_sync.planning.volcano import usage as volcano_use
from slicewise.api import keys
from slicewise.api.policy import QuotaPlan

Key = tuple[str, str]
"""Pool and resource; the pool is empty for Volcano, which counts names over all nodes."""


def overcommitted(
    existing: ObservedState, plans: Sequence[QuotaPlan], believed: Mapping[Key, int]
) -> dict[Key, int]:
    """What is promised beyond what backs it, in devices, 0 where all is backed; queues of others count too."""
    promised = _promised(existing)
    pools = {pool for pool, _ in believed} | {name for plan in plans for name in declared(plan.spec)}
    truth: dict[Key, int] = defaultdict(int)
    for pool, resource in promised:
        for each in [pool] if pool else pools:
            more = largest(plans, each).get(resource, 0)
            truth[(pool, resource)] += max(believed.get((each, resource), 0), more)
    return {key: max(0, units - truth[key]) for key, units in promised.items()}


def _promised(existing: ObservedState) -> dict[Key, int]:
    promised: dict[Key, int] = defaultdict(int)
    for queue in existing.cluster_queues.values():
        for (flavor, resource), units in nominal(queue).items():
            standing = existing.flavors.get(flavor) or {}
            pool = (standing.get("spec", {}).get("nodeLabels") or {}).get(keys.POOL)
            if pool is not None and resource.startswith(keys.VENDOR):
                promised[(pool, resource)] += units
    # A parent in Volcano's tree deserves what its children do together.
    parents = {queue["spec"].get("parent") for queue in existing.queues.values()}
    for name, queue in existing.queues.items():
        for resource, units in volcano_use.quota(queue).items() if name not in parents else ():
            if resource.startswith(keys.VENDOR):
                promised[("", resource)] += units
    return promised
