"""What slipped through on Volcano: gangs that wait for names nobody offers, and work on nodes of the other engine.

Pure; sentences only. Volcano counts a name over all nodes that its scheduler sees. Which those are is a flag of
vc-scheduler that no object shows, so the pools that Kueue's plans take are held to be none of Volcano's.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from queue_sync.planning.capacity import taken_by
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.findings import Finding
from queue_sync.planning.observed import Object, label
from slicewise.api import keys
from slicewise.api.policy import Engine
from slicewise.api.quantities import value_of

_WAITING: Final = frozenset({"", "Pending", "Inqueue"})
_OVER: Final = frozenset({"Succeeded", "Failed"})


def slipped(cluster: ClusterState) -> Iterator[Finding]:
    """Yields everything that slipped through on Volcano."""
    yield from waiting(cluster)
    yield from astray(cluster)


def waiting(cluster: ClusterState) -> Iterator[Finding]:
    """Yields PodGroups that wait for names that no pool offers: they are never enqueued."""
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


def astray(cluster: ClusterState) -> Iterator[Finding]:
    """Yields pods that one engine placed on nodes of a pool that the other's plan hands out."""
    engine_of: dict[str, tuple[Engine, str]] = {}
    for pool in cluster.pools:
        takers = {e for e in (Engine.KUEUE, Engine.VOLCANO) if taken_by(cluster.plans, pool, e)}
        if len(takers) == 1:
            engine_of |= dict.fromkeys(pool.nodes, (takers.pop(), pool.name))
    for pod in cluster.pods:
        spec = pod.get("spec") or {}
        node, queued = spec.get("nodeName", ""), _queued_by(pod)
        if node not in engine_of or queued is None or not _asks(spec):
            continue
        if (pod.get("status") or {}).get("phase") in _OVER:
            continue
        engine, pool_name = engine_of[node]
        if engine is not queued:
            namespace, name = pod["metadata"].get("namespace", ""), pod["metadata"]["name"]
            fix = (
                f"start vc-scheduler with --node-selector={keys.POOL}:POOL for each pool of Volcano's plans"
                if queued is Engine.VOLCANO
                else f"give its queue flavors that select {keys.POOL}"
            )
            sentence = (
                f"Pod {namespace}/{name} is {queued.value.capitalize()}'s and runs on {node} of pool {pool_name}, "
                f"given by a plan to {engine.value.capitalize()}, which hands the same boards out again; {fix}"
            )
            yield Finding("Pod", namespace, name, "OnOtherEnginesNodes", sentence)


def _queued_by(pod: Object) -> Engine | None:
    if (pod.get("spec") or {}).get("schedulerName") == keys.VOLCANO_SCHEDULER:
        return Engine.VOLCANO
    if label(pod, keys.KUEUE_QUEUE) or label(pod, keys.KUEUE_MANAGED) == "true":
        return Engine.KUEUE
    return None


def _asks(spec: Mapping[str, Any]) -> bool:
    return any(
        keys.is_device(name)
        for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))
        for name in (container.get("resources") or {}).get("limits") or {}
    )
