"""What slipped through on Volcano: gangs that wait for names nobody offers.  Pure; sentences only."""

from collections.abc import Iterator
from typing import Final

from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.findings import Finding
from slicewise.api import keys
from slicewise.api.quantities import value_of

_WAITING: Final = frozenset({"", "Pending", "Inqueue"})
_OVER: Final = frozenset({"Succeeded", "Failed"})


def slipped(cluster: ClusterState, /) -> Iterator[Finding]:
    """Yields PodGroups that wait for names that no pool offers: they are never enqueued. See `QueueEngine`."""
    if not cluster.nodes_read:
        return
    offered = {name for pool in cluster.pools for name in pool.resources}
    for group in cluster.pod_groups:
        if str((group.get("status") or {}).get("phase") or "") not in _WAITING:
            continue
        metadata = group["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        for resource, quantity in sorted(((group.get("spec") or {}).get("minResources") or {}).items()):
            if keys.is_device(resource) and resource not in offered and value_of(quantity):
                sentence = (
                    f"PodGroup {namespace}/{name} waits for {quantity} {resource}, which no node offers, so Volcano "
                    "never enqueues it; create its job anew where the namespace has opted in, or ask for a name that "
                    "`slicewise pools` lists"
                )
                yield Finding("PodGroup", namespace, name, "NameNotOffered", sentence)
