"""A whole cluster read from Kubernetes objects, for the command: live lists and snapshot files look the same.

Failure mode: an object that does not fit is left out and told in `unread`, one sentence each; the rest goes on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from queue_sync import kueue, volcano
from queue_sync.existing import Existing, Object, Use, Workload, trimmed
from slicewise.nodes import Node
from slicewise.policy import PLAN_KIND, QuotaPlan, SpecError, read_plan
from slicewise.pools import Inventory

KEPT_WHOLE = ("Pod", "LimitRange", "ResourceQuota")


@dataclass(slots=True)
class Cluster:
    """What quota depends on."""

    pools: Inventory = field(default_factory=Inventory)
    plans: list[QuotaPlan] = field(default_factory=list)
    namespaces: dict[str, Mapping[str, str]] = field(default_factory=dict)
    existing: Existing = field(default_factory=Existing)
    others: dict[str, list[Object]] = field(default_factory=dict)
    """Pods, LimitRanges, ResourceQuotas and Workloads as they are, by kind."""
    errors: list[SpecError] = field(default_factory=list)
    """QuotaPlans that break a rule."""
    unread: list[str] = field(default_factory=list)


def read(objects: Iterable[Mapping[str, Any]]) -> Cluster:
    """Reads a cluster from objects in any order; kinds that quota does not depend on are skipped.

    Each object needs `apiVersion` and `kind`, as `kubectl get -o yaml` prints them; Lists must be taken apart.
    """
    flavors: dict[str, Object] = {}
    cluster_queues: dict[str, Object] = {}
    local_queues: dict[str, Object] = {}
    queues: dict[str, Object] = {}
    use = Use()
    found = Cluster(existing=Existing(flavors, cluster_queues, local_queues, queues, use))
    stores = {
        kueue.FLAVOR: flavors,
        kueue.CLUSTER_QUEUE: cluster_queues,
        kueue.LOCAL_QUEUE: local_queues,
        volcano.QUEUE: queues,
    }
    for document in objects:
        kind, name = str(document.get("kind", "")), _name(document)
        try:
            if kind in stores and _group(document) in {"kueue.x-k8s.io", "scheduling.volcano.sh"}:
                stores[kind][name] = trimmed(document)
            else:
                _take(found, kind, name, document)
        except SpecError as error:
            found.errors.append(error)
        except (msgspec.MsgspecError, AttributeError, TypeError) as error:
            found.unread.append(f"{kind} {name or '(unnamed)'} cannot be read and is left out: {error}")
    return found


def _take(found: Cluster, kind: str, name: str, document: Mapping[str, Any]) -> None:
    group = _group(document)
    if kind == "Node" and not group:
        found.pools.see(msgspec.convert(document, Node))
    elif kind == "Namespace" and not group:
        if not document["metadata"].get("deletionTimestamp"):
            found.namespaces[name] = document["metadata"].get("labels") or {}
    elif kind == PLAN_KIND:
        found.plans.append(read_plan(dict(document)))
    elif kind == "Workload" and group == "kueue.x-k8s.io":
        found.existing.use.put(name, msgspec.convert(document, Workload))
        found.others.setdefault(kind, []).append(dict(document))
    elif kind in KEPT_WHOLE and not group:
        found.others.setdefault(kind, []).append(dict(document))


def _group(document: Mapping[str, Any]) -> str:
    version = str(document.get("apiVersion", ""))
    return version.rpartition("/")[0]


def _name(document: Mapping[str, Any]) -> str:
    """`namespace/name`, or the name alone."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        return ""
    namespace, name = metadata.get("namespace"), str(metadata.get("name", ""))
    return f"{namespace}/{name}" if namespace else name
