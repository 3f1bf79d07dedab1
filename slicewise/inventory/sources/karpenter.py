"""Karpenter on AWS, and EKS Auto Mode, which writes the same labels under a prefix of its own.

Source: karpenter.sh, NodePools, "Well-Known Labels"; docs.aws.amazon.com, EKS Auto Mode. They tell the board of the
instance type and nothing of sharing, so a node whose plugin shares its boards disagrees with them. EC2 counts 0 boards
of p5.4xlarge and of the g6f and gr6f families (karpenter-provider-aws 8368), whose boards are parts of an L4 behind a
vGPU driver: the memory is the part's, the name the whole board's (8324).
"""

from collections.abc import Mapping
from typing import Final

from slicewise.gpu import boards
from slicewise.inventory.sources.facts import Facts, misread, number

SOURCE: Final = "karpenter"
LABELS: Final = ("karpenter.k8s.aws/instance-gpu-", "eks.amazonaws.com/instance-gpu-")
PRODUCTS: Final = {
    "k80": "Tesla-K80",
    "m60": "Tesla-M60",
    "v100": "Tesla-V100-SXM2-16GB",
    "t4": "Tesla-T4",
    "t4g": "NVIDIA-T4G",
    "a10g": "NVIDIA-A10G",
    "l4": "NVIDIA-L4",
    "l40s": "NVIDIA-L40S",
    "a100": "NVIDIA-A100-SXM4-40GB",
    "h100": "NVIDIA-H100-80GB-HBM3",
    "h200": "NVIDIA-H200",
    "b200": "NVIDIA-B200",
    "b300": "NVIDIA-B300-SXM6-AC",
    "gb200": "NVIDIA-GB200",
    "gb300": "NVIDIA-GB300",
    "rtx-pro-server-6000": "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
}
# Boards that one name stands for, told apart by their memory in GiB.
_BY_MEMORY: Final = {("a100", 80): "NVIDIA-A100-SXM4-80GB", ("v100", 32): "Tesla-V100-SXM2-32GB"}

# EC2 and the driver differ by some hundredths in what they call the memory of one board.
_LEAST_OF_A_BOARD: Final = 0.75


def read(labels: Mapping[str, str]) -> Facts | None:
    """Reads the labels; None on other nodes."""
    for prefix in LABELS:
        name = labels.get(prefix + "name", "").lower()
        if name and labels.get(prefix + "manufacturer", "nvidia") == "nvidia":
            memory = number(labels, prefix + "memory")
            devices = number(labels, prefix + "count") or None
            model = _BY_MEMORY.get((name, round((memory or 0) / 1024)), PRODUCTS.get(name, name))
            board = boards.memory_of(model)
            if part := memory is not None and board is not None and memory < _LEAST_OF_A_BOARD * board:
                model = boards.part_name(model, memory)
            return Facts(
                source=SOURCE,
                model=model,
                says_plain=True,
                devices=devices,
                memory=memory or None,
                vgpu=part,
                problems=misread(labels, prefix + "count", prefix + "memory"),
            )
    return None
