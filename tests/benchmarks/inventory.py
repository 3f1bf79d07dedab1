"""Pools of many nodes of mixed sources: built from a snapshot, and kept by events, beside building them anew."""

import json
import statistics
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from slicewise.inventory.pools import Inventory
from slicewise.kube.snapshot import collect, read_text

NAME = "inventory"
HELP = "pools of 5,000 nodes: from a snapshot, and by one event"
NODES: Final = 5_000
EVENTS: Final = 200
ROUNDS: Final = 5
_MIXED: Final = {
    "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    "nvidia.com/gpu.count": "2",
    "nvidia.com/gpu.replicas": "0",
    "nvidia.com/mig.strategy": "mixed",
    "nvidia.com/mig-1g.10gb.count": "14",
    "nvidia.com/mig-1g.10gb.replicas": "1",
}
_WHOLE: Final = {
    "nvidia.com/gpu.product": "NVIDIA-L4",
    "nvidia.com/gpu.count": "4",
    "nvidia.com/gpu.replicas": "1",
}
_GKE: Final = {
    "cloud.google.com/gke-accelerator": "nvidia-tesla-t4",
    "cloud.google.com/gke-accelerator-count": "2",
    "cloud.google.com/gke-gpu-sharing-strategy": "time-sharing",
    "cloud.google.com/gke-max-shared-clients-per-gpu": "3",
}
_KARPENTER: Final = {
    "karpenter.k8s.aws/instance-gpu-name": "l40s",
    "karpenter.k8s.aws/instance-gpu-count": "4",
    "karpenter.k8s.aws/instance-gpu-manufacturer": "nvidia",
}
_SOURCES: Final[tuple[tuple[dict[str, str], dict[str, str]], ...]] = (
    (_MIXED, {"nvidia.com/mig-1g.10gb": "14"}),
    (_WHOLE, {"nvidia.com/gpu": "4"}),
    (_GKE, {"nvidia.com/gpu": "6"}),
    (_KARPENTER, {"nvidia.com/gpu": "4"}),
    ({"aliyun.accelerator/nvidia_name": "NVIDIA-A10"}, {"nvidia.com/gpu": "1"}),
    ({"gpu.nvidia.com/class": "H200", "gpu.nvidia.com/count": "8"}, {"nvidia.com/gpu": "8"}),
)


def _node(number: int) -> dict[str, Any]:
    labels, devices = _SOURCES[number % len(_SOURCES)]
    ready = [{"type": "Ready", "status": "True"}]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"n{number}", "labels": labels},
        "status": {"capacity": devices, "allocatable": devices, "conditions": ready},
    }


def run(_arguments: Sequence[str]) -> int:
    """Prints the milliseconds of CPU of a build from text and of one event, and the ratio of the two."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [_node(i) for i in range(NODES)]})
    builds, events = [], []
    for _ in range(ROUNDS):
        begin = time.process_time()
        snapshot = collect(read_text("nodes", text))
        count = len(list(snapshot.pools))
        builds.append((time.process_time() - begin) * 1000)
        inventory, nodes = Inventory(snapshot.nodes), snapshot.nodes[:EVENTS]
        gone = [
            msgspec.structs.replace(node, status=msgspec.structs.replace(node.status, allocatable={}))
            for node in nodes
        ]
        begin = time.process_time()
        for before, after in zip(nodes, gone, strict=True):
            inventory.see(after)
            list(inventory)
            inventory.see(before)
            list(inventory)
        events.append((time.process_time() - begin) * 1000 / (2 * EVENTS))
    build, event = statistics.median(builds), statistics.median(events)
    print(f"{NODES} nodes, {count} pools: {build:.0f} ms from a snapshot, {event:.2f} ms an event,")
    print(f"  ratio {build / event:.0f} (median of {ROUNDS} rounds, CPU time)")
    return 0
