"""Google Kubernetes Engine's own labels.

Source: cloud.google.com/kubernetes-engine/docs, "About GPUs", "GPU time-sharing", "Multi-instance GPUs" and "NVIDIA
MPS": under sharing `nvidia.com/gpu` is boards × clients, with a partition size it is slices; docs.cloud.google.com,
Compute Engine, "G4 machine series" (parts of a board), and the accelerators of virtual workstations (`-vws`), which are
the same boards under another licence (GoogleCloudPlatform/container-engine-accelerators, nri_device_injector).
"""

from collections.abc import Mapping
from typing import Final

from slicewise.gpu import boards, mig
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.sources.facts import INSTANCE_TYPE, Facts, misread, number

SOURCE: Final = "gke"
_PREFIX: Final = "cloud.google.com/gke-"
LABELS: Final = (_PREFIX,)
_COUNT: Final = _PREFIX + "accelerator-count"
_CLIENTS: Final = _PREFIX + "max-shared-clients-per-gpu"
_PARTITION: Final = _PREFIX + "gpu-partition-size"
_SHARED_BY: Final = _PREFIX + "gpu-sharing-strategy"
_SHARING: Final = {"time-sharing": Strategy.TIME_SLICING, "mps": Strategy.MPS}
PRODUCTS: Final = {
    "nvidia-tesla-k80": "Tesla-K80",
    "nvidia-tesla-p4": "Tesla-P4",
    "nvidia-tesla-p100": "Tesla-P100-PCIE-16GB",
    "nvidia-tesla-v100": "Tesla-V100-SXM2-16GB",
    "nvidia-tesla-t4": "Tesla-T4",
    "nvidia-l4": "NVIDIA-L4",
    "nvidia-tesla-a100": "NVIDIA-A100-SXM4-40GB",
    "nvidia-a100-80gb": "NVIDIA-A100-SXM4-80GB",
    "nvidia-h100-80gb": "NVIDIA-H100-80GB-HBM3",
    "nvidia-h100-mega-80gb": "NVIDIA-H100-80GB-HBM3",
    "nvidia-h200-141gb": "NVIDIA-H200",
    "nvidia-b200": "NVIDIA-B200",
    "nvidia-b300": "NVIDIA-B300-SXM6-AC",
    "nvidia-gb200": "NVIDIA-GB200",
    "nvidia-gb300": "NVIDIA-GB300",
    "nvidia-rtx-pro-6000": "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
}

# Machine types that have one part of a board, behind a vGPU driver: the board, and how many guests it has.
PARTS: Final = {
    "g4-standard-6": (PRODUCTS["nvidia-rtx-pro-6000"], 8),
    "g4-standard-12": (PRODUCTS["nvidia-rtx-pro-6000"], 4),
    "g4-standard-24": (PRODUCTS["nvidia-rtx-pro-6000"], 2),
}


def read(labels: Mapping[str, str]) -> Facts | None:
    """Reads the labels; None on other nodes."""
    accelerator = labels.get(_PREFIX + "accelerator", "").removesuffix("-vws")
    if not accelerator.startswith("nvidia"):
        return None
    model = PRODUCTS.get(accelerator, accelerator)
    devices, memory = number(labels, _COUNT), None
    if (machine := labels.get(INSTANCE_TYPE, "")) in PARTS:
        devices, (model, memory) = 1, boards.part(*PARTS[machine])
    partition, sharing = labels.get(_PARTITION, ""), labels.get(_SHARED_BY, "")
    profile = mig.parse(partition)
    problems = [*misread(labels, _COUNT, _CLIENTS)]
    if partition and profile is None:
        problems.append(f"the label {_PARTITION} says {partition}, which is no MIG profile; correct it")
    if sharing and sharing not in _SHARING:
        problems.append(f"the label {_SHARED_BY} says {sharing}, which is not read here; correct it")
    if profile is not None:
        board = mig.board_of(model)
        placement = board.placement(profile) if board else None
        devices = devices * placement.most if devices is not None and placement else None
    return Facts(
        source=SOURCE,
        model=model,
        says_plain=True,
        profile=profile.dotted if profile else "",
        devices=devices,
        replicas=number(labels, _CLIENTS),
        sharing=_SHARING.get(sharing),
        memory=memory,
        vgpu=memory is not None,
        problems=tuple(problems),
    )
