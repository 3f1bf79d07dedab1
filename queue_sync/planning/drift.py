"""What slipped through: work that can never run as it is written, and queues that promise what no node has.

Nothing here changes anything. Every finding is one sentence that names the object, what is wrong, and the fix.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from queue_sync.planning.bypass import bypassing, group_of
from queue_sync.planning.capacity import takers
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.engines import ENGINES
from queue_sync.planning.findings import Finding
from queue_sync.planning.left_over import left_over
from queue_sync.planning.observed import Object, ObservedState
from queue_sync.planning.overcommit import overcommitted
from queue_sync.planning.quota import Promise
from queue_sync.planning.work import Work
from slicewise.api import keys
from slicewise.api.quantities import value_of
from slicewise.inventory.pools import Inventory

_FINISHED: Final = frozenset({"Succeeded", "Failed"})
_ADMITTED: Final = frozenset({"Finished", "QuotaReserved"})
_OVER: Final = frozenset({"Complete", "Completed", "Failed", "Finished", "Succeeded"})


class Parent(NamedTuple):
    """A workload that makes pods, and the specs of those: who reads kinds is not here."""

    kind: str
    document: Object
    specs: Sequence[Object]

    @property
    def over(self) -> bool:
        """True once it makes no more pods; a status of another shape says nothing."""
        status = self.document.get("status")
        conditions = status.get("conditions") if isinstance(status, dict) else None
        return any(
            isinstance(each, dict) and each.get("type") in _OVER and each.get("status") == "True"
            for each in (conditions if isinstance(conditions, list) else ())
        )


def drift(cluster: ClusterState, parents: Iterable[Parent] = ()) -> list[Finding]:
    """Everything that slipped through in a cluster, in a stable order."""
    parents = list(parents)
    owners = [(each.kind, each.document, each.specs) for each in parents if not each.over]
    found = [
        *bypassing(cluster.namespaces, cluster.pods, owners, cluster.pools),
        *(_against_nodes(cluster, parents) if cluster.nodes_read else ()),
        *orphaned(cluster.existing),
        *(
            finding
            for engine in ENGINES.values()
            for finding in (*engine.usage(cluster), *engine.slipped(cluster))
        ),
        *astray(cluster),
        *miscounted(cluster.namespaces, cluster.resource_quotas, cluster.limit_ranges),
        *claimed(cluster.existing, cluster.pools),
    ]
    return sorted(found)


def _against_nodes(cluster: ClusterState, parents: Iterable[Parent]) -> Iterator[Finding]:
    """What is asked for or promised beyond what nodes offer."""
    yield from unoffered(cluster.pods, cluster.workloads, cluster.pools, parents)
    yield from unbacked(overcommitted(cluster.existing, cluster.plans, cluster.pools))


# --- Work that asks for names that nobody offers ----------------------------------------------------------


def unoffered(
    pods: Iterable[Object], workloads: Iterable[Object], pools: Inventory, parents: Iterable[Parent] = ()
) -> Iterator[Finding]:
    """Pods that wait for a node, Workloads that wait for quota, and what makes pods, that ask for what no pool
    offers."""
    offered = {name for pool in pools for name in pool.resources}
    for pod in pods:
        if pod.get("status", {}).get("phase") in _FINISHED or pod.get("spec", {}).get("nodeName"):
            continue
        if keys.MIRROR_POD in (pod["metadata"].get("annotations") or {}):
            continue
        yield from _unoffered("Pod", pod, [pod.get("spec") or {}], offered)
    for workload in workloads:
        conditions = workload.get("status", {}).get("conditions") or ()
        if any(each.get("type") in _ADMITTED and each.get("status") == "True" for each in conditions):
            continue
        sets = workload.get("spec", {}).get("podSets") or ()
        specs = [(each.get("template") or {}).get("spec") or {} for each in sets]
        yield from _unoffered("Workload", workload, specs, offered)
    for parent in parents:
        if not parent.over:
            yield from _unoffered(parent.kind, parent.document, parent.specs, offered)


def _unoffered(kind: str, document: Object, specs: Iterable[Object], offered: set[str]) -> Iterator[Finding]:
    asked = {name for spec in specs for name in _asked(spec)}
    metadata = document.get("metadata") or {}
    namespace = metadata.get("namespace", "")
    name = metadata.get("name") or metadata.get("generateName", "(unnamed)")
    for resource in sorted(asked - offered):
        sentence = (
            f"{kind} {namespace}/{name} asks for {resource}, which no node offers; "
            "create it anew where the namespace has opted in, or ask for a name that `slicewise pools` lists"
        )
        yield Finding(kind, namespace, name, "NameNotOffered", sentence, group_of(document))


def _asked(spec: Mapping[str, Any]) -> Iterator[str]:
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        resources = container.get("resources") or {}
        for listed in (resources.get("requests"), resources.get("limits")):
            for name, quantity in (listed or {}).items():
                if keys.is_device(name) and value_of(quantity):
                    yield name


# --- Work on nodes of another engine ----------------------------------------------------------------------


def astray(cluster: ClusterState) -> Iterator[Finding]:
    """Yields pods that one engine placed on nodes of a pool that plans of another hand out."""
    given: dict[str, tuple[str, str]] = {}
    for pool in cluster.pools:
        engines = takers(cluster.plans, pool)
        if len(engines) == 1:
            given |= dict.fromkeys(pool.nodes, (next(iter(engines)), pool.name))
    for pod in cluster.pods:
        spec = pod.get("spec") or {}
        node, queued = spec.get("nodeName", ""), _queued_by(pod)
        if node not in given or not queued or not any(True for _ in _asked(spec)):
            continue
        engine, pool_name = given[node]
        if engine != queued and (pod.get("status") or {}).get("phase") not in _FINISHED:
            namespace, name = pod["metadata"].get("namespace", ""), pod["metadata"]["name"]
            sentence = (
                f"Pod {namespace}/{name} is {queued.title()}'s and runs on {node} of pool {pool_name}, given by a plan "
                f"to {engine.title()}, which hands the same boards out again; {ENGINES[queued].STAY}"
            )
            yield Finding("Pod", namespace, name, "OnOtherEnginesNodes", sentence)


def _queued_by(pod: Object) -> str:
    """The engine whose scheduler places a pod, or else which knows of it; "" for none."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    work = Work("Pod", "", metadata.get("namespace", ""), metadata.get("name", ""), (pod,), (spec,))
    scheduler = spec.get("schedulerName") or None
    placing = (name for name, each in ENGINES.items() if scheduler == each.SCHEDULER)
    return next(placing, "") or next((name for name, each in ENGINES.items() if each.knows(work)), "")


# --- Quota that no node backs -----------------------------------------------------------------------------


def unbacked(excessive: Iterable[Promise]) -> Iterator[Finding]:
    """Yields what queues together promise beyond what nodes offer."""
    for each in excessive:
        kind, name = each.subject
        yield Finding(kind, "", name, "QuotaWithoutNodes", each.sentence)


def orphaned(existing: ObservedState) -> Iterator[Finding]:
    """Yields queues that keep what a plan gave which is no more."""
    for each in left_over(existing):
        yield Finding(each.kind, "", each.queue, "LeftOverQuota", f"{each.sentence}; {each.fix}")


# --- Claims beside quota ----------------------------------------------------------------------------------


def claimed(existing: ObservedState, pools: Inventory) -> Iterator[Finding]:
    """Yields claims of people that hold devices of nodes that are counted: quota by name knows nothing of them."""
    pool_of_node = {node: pool.name for pool in pools for node in pool.nodes}
    for key, nodes in existing.devices.claimed():
        namespace, _, name = key.rpartition("/")
        holds = sorted({pool_of_node[node] for node in nodes if node in pool_of_node})
        if holds:
            sentence = (
                f"ResourceClaim {key} holds devices of {', '.join(holds)} ({sum(nodes.values())}) that quota by name "
                "does not count; ask for a name that a DeviceClass serves, or keep claims off these nodes"
            )
            yield Finding("ResourceClaim", namespace, name, "ClaimBesideQuota", sentence)


# --- Namespaced rules about the old name ------------------------------------------------------------------


def miscounted(
    namespaces: Mapping[str, Mapping[str, str]],
    resource_quotas: Iterable[Object],
    limit_ranges: Iterable[Object],
) -> Iterator[Finding]:
    """ResourceQuotas and LimitRanges of opted-in namespaces that speak of `nvidia.com/gpu`."""
    opted_in = {name for name, labels in namespaces.items() if keys.opted_in(name, labels)}
    for quota in resource_quotas:
        namespace, name = quota["metadata"].get("namespace", ""), quota["metadata"]["name"]
        counted = f"requests.{keys.GPU}"
        if namespace in opted_in and counted in (quota.get("spec", {}).get("hard") or {}):
            sentence = (
                f"ResourceQuota {namespace}/{name} counts {counted}, and work here is rewritten to other names; "
                f"count those with `kubectl edit resourcequota {name} -n {namespace}`, or leave counting to the queue"
            )
            yield Finding("ResourceQuota", namespace, name, "ResourceQuotaMissesWork", sentence)
    for limits in limit_ranges:
        namespace, name = limits["metadata"].get("namespace", ""), limits["metadata"]["name"]
        items = limits.get("spec", {}).get("limits") or ()
        restores = any(
            keys.GPU in (item.get(part) or {}) for item in items for part in ("default", "defaultRequest")
        )
        if namespace in opted_in and restores:
            sentence = (
                f"LimitRange {namespace}/{name} gives every container a default of {keys.GPU}, which brings the "
                "name back after it was rewritten; take it out of default and defaultRequest with "
                f"`kubectl edit limitrange {name} -n {namespace}`"
            )
            yield Finding("LimitRange", namespace, name, "LimitRangeRestoresName", sentence)
