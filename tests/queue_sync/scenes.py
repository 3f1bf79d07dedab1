"""Nodes and plans in a line each, as tests want them."""

from collections.abc import Mapping
from typing import Any

import msgspec

from slicewise.api import keys
from slicewise.api.policy import QuotaPlan, read_plan
from slicewise.inventory.node import Node
from slicewise.inventory.node_state import Observation
from slicewise.inventory.planned_geometry import observe
from slicewise.inventory.pools import Inventory

GPU = "nvidia.com/gpu"
ONE = "nvidia.com/mig-1g.10gb"
THREE = "nvidia.com/mig-3g.40gb"
FOUR = "nvidia.com/mig-4g.40gb"
MIXED = "h100-80gb-mig-mixed"
H100 = "NVIDIA-H100-80GB-HBM3"
_MEMORY = {"1g.10gb": 9728, "2g.20gb": 19968, "3g.40gb": 40192, "4g.40gb": 40192}


def node(
    name: str,
    labels: Mapping[str, str],
    allocatable: Mapping[str, int],
    *,
    capacity: Mapping[str, int] | None = None,
    ready: bool = True,
    cordoned: bool = False,
    annotations: Mapping[str, str] | None = None,
    taints: tuple[Mapping[str, str], ...] = (),
    other: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A v1 Node."""
    more = {"cpu": "64", "memory": "512Gi", **(other or {})}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": dict(labels), "annotations": dict(annotations or {})},
        "spec": {"unschedulable": cordoned, "taints": [dict(taint) for taint in taints]},
        "status": {
            "capacity": {**more, **{k: str(v) for k, v in (capacity or allocatable).items()}},
            "allocatable": {**more, **{k: str(v) for k, v in allocatable.items()}},
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
        },
    }


def mixed_labels(slices: Mapping[str, int], boards: int = 1, product: str = H100) -> dict[str, str]:
    """The labels of a node in strategy mixed; slices by profile, over all its boards."""
    labels = {
        keys.PRODUCT: product,
        keys.COUNT: str(boards),
        keys.REPLICAS: "0",
        keys.MEMORY: "81559",
        keys.MIG_STRATEGY: "mixed",
        keys.MIG_CONFIG_STATE: "success",
    }
    for profile, number in slices.items():
        prefix = keys.MIG_PREFIX + profile
        labels |= {
            f"{prefix}.count": str(number),
            f"{prefix}.replicas": "1",
            f"{prefix}.memory": str(_MEMORY[profile]),
        }
    return labels


def mixed(name: str, slices: Mapping[str, int], product: str = H100, **changes: Any) -> dict[str, Any]:
    """A node whose boards are all divided, strategy mixed."""
    amounts = {keys.MIG_PREFIX + profile: number for profile, number in slices.items()}
    return node(name, mixed_labels(slices, product=product), amounts, **changes)


def exclusive(name: str, gpus: int = 8, product: str = H100, **changes: Any) -> dict[str, Any]:
    """A node with whole boards."""
    labels = {keys.PRODUCT: product, keys.COUNT: str(gpus), keys.REPLICAS: "1", keys.MEMORY: "81559"}
    return node(name, labels, {GPU: gpus}, **changes)


def sliced(name: str, replicas: int = 10, gpus: int = 1, **changes: Any) -> dict[str, Any]:
    """A T4 node with time-slicing, not renamed."""
    labels = {
        keys.PRODUCT: "Tesla-T4-SHARED",
        keys.COUNT: str(gpus),
        keys.REPLICAS: str(replicas),
        keys.SHARING: "time-slicing",
        keys.MEMORY: "15360",
    }
    return node(name, labels, {GPU: gpus * replicas}, **changes)


def read_node(document: Mapping[str, Any]) -> Node:
    """The projection of a node."""
    return msgspec.convert(document, Node)


def look(document: Mapping[str, Any]) -> Observation:
    """One look at a GPU node."""
    seen = observe(read_node(document))
    assert seen is not None
    return seen


def inventory(*documents: Mapping[str, Any]) -> Inventory:
    """The pools of some nodes."""
    return Inventory(read_node(document) for document in documents)


def plan(name: str = "research", engine: str = "kueue", queues: Any = None, **spec: Any) -> QuotaPlan:
    """A QuotaPlan; queues as a dict of shares, or as they are written."""
    if isinstance(queues, Mapping):
        queues = [{"name": queue, "share": share} for queue, share in queues.items()]
    body = {"engine": engine, "queues": queues or [{"name": "team-a"}], **spec}
    return read_plan(
        {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "QuotaPlan",
            "metadata": {"name": name},
            "spec": body,
        }
    )
