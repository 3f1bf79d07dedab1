"""A cluster for reviews to be answered from: twenty pools of three nodes, one namespace that has opted in."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from admission.decision.cluster_state import ClusterState
from slicewise.api import keys
from slicewise.api.policy import SlicingPolicy, built_in
from slicewise.inventory.node import Node
from slicewise.inventory.pools import Inventory

NAMESPACE: Final = "team-a"
STRANGER: Final = "team-7"
"""One of two hundred namespaces that have not opted in."""
_NODES_EACH: Final = 3
_MODELS: Final = {
    "NVIDIA-A100-SXM4-80GB": 81920,
    "NVIDIA-H100-80GB-HBM3": 81559,
    "NVIDIA-H200": 143771,
    "NVIDIA-L4": 23034,
    "NVIDIA-L40S": 46068,
    "Tesla-T4": 15360,
    "Tesla-V100-SXM2-32GB": 32768,
}
_SLICES: Final = {
    "NVIDIA-A100-SXM4-80GB": ({"1g.10gb": (7, 9728)}, {"3g.40gb": (2, 40192)}),
    "NVIDIA-H100-80GB-HBM3": ({"1g.10gb": (7, 9984), "1g.20gb": (1, 20096)}, {"2g.20gb": (3, 20096)}),
    "NVIDIA-H200": ({"1g.18gb": (7, 16384)}, {"3g.71gb": (2, 71424)}),
}


def _node(name: str, labels: dict[str, str], resources: dict[str, int]) -> Node:
    amounts = {key: str(value) for key, value in resources.items()}
    return msgspec.convert(
        {
            "metadata": {"name": name, "labels": labels},
            "status": {
                "capacity": amounts,
                "allocatable": amounts,
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        },
        Node,
    )


def _ways(product: str, memory: int) -> Iterator[tuple[dict[str, str], dict[str, int]]]:
    """The labels and resources of a node with eight boards, as the device plugin and GFD publish each way."""
    labels = {keys.COUNT: "8", keys.MEMORY: str(memory), keys.SHARING: "none"}
    yield {**labels, keys.PRODUCT: product, keys.REPLICAS: "1"}, {keys.GPU: 8}
    shared = {**labels, keys.PRODUCT: f"{product}-SHARED", keys.REPLICAS: "4"}
    yield {**shared, keys.SHARING: "time-slicing"}, {keys.GPU: 32}
    for slices in _SLICES.get(product, ()):
        mixed = {**labels, keys.PRODUCT: product, keys.REPLICAS: "0", keys.MIG_STRATEGY: "mixed"}
        mixed[keys.MIG_CONFIG_STATE] = "success"
        resources = {keys.GPU: 0}
        for profile, (on_a_board, size) in slices.items():
            prefix = keys.MIG_PREFIX + profile
            mixed |= {f"{prefix}.count": str(8 * on_a_board), f"{prefix}.memory": str(size)}
            mixed[f"{prefix}.replicas"] = "1"
            resources[prefix] = 8 * on_a_board
        yield mixed, resources


def _nodes() -> Iterator[Node]:
    for product, memory in _MODELS.items():
        for way, (labels, resources) in enumerate(_ways(product, memory)):
            for number in range(_NODES_EACH):
                yield _node(f"{product.lower()}-{way}-{number}", labels, resources)


def world() -> ClusterState:
    """Makes the state that the webhook answers from."""
    namespaces = {f"team-{n}": {"team": str(n)} for n in range(200)}
    labels: dict[str, Any] = {keys.POLICY: "default", "team": "a"}
    return ClusterState({**namespaces, NAMESPACE: labels}, {"default": _policy()}, Inventory(_nodes()))


def _policy() -> SlicingPolicy:
    """The built-in policy, with one model for each class: the other servers know no preference among pools."""
    policy = built_in()
    models = {"inference": ("NVIDIA-A100-SXM4-80GB",), "training": ("NVIDIA-H100-80GB-HBM3",)}
    classes = {
        name: work.model_copy(update={"models": models.get(name, work.models)})
        for name, work in policy.spec.classes.items()
    }
    return policy.model_copy(update={"spec": policy.spec.model_copy(update={"classes": classes})})
