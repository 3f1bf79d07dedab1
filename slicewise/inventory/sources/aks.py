"""Azure Kubernetes Service: one label that says "NVIDIA", and an instance type that tells the board.

Source: learn.microsoft.com, "Use GPUs on AKS" and "Multi-instance GPU". Whole boards and slices of strategy `single`
are both `nvidia.com/gpu`, and no label tells which, so a plain name is not believed on these labels alone.
"""

import re
from collections.abc import Mapping
from typing import Final

from slicewise.gpu import boards
from slicewise.inventory.sources.facts import HAND_SET, INSTANCE_TYPE, Facts

SOURCE: Final = "aks"
_ACCELERATOR: Final = "kubernetes.azure.com/accelerator"
LABELS: Final = (_ACCELERATOR,)
# learn.microsoft.com, "GPU-accelerated virtual machine sizes".
PRODUCTS: Final = {
    r"Standard_NC\d+as_T4_v3": "Tesla-T4",
    r"Standard_NC\d+r?s_v3": "Tesla-V100-PCIE-16GB",
    r"Standard_NC\d+ads_A100_v4": "NVIDIA-A100-80GB-PCIe",
    r"Standard_NCC?\d+adi?s_H100_v5": "NVIDIA-H100-NVL",
    r"Standard_NV(36adm?|72ad)s_A10_v5": "NVIDIA-A10",
    r"Standard_ND\d+asr_(A100_)?v4": "NVIDIA-A100-SXM4-40GB",
    r"Standard_ND\d+amsr_A100_v4": "NVIDIA-A100-SXM4-80GB",
    r"Standard_ND\d+isr_H100_v5": "NVIDIA-H100-80GB-HBM3",
    r"Standard_ND\d+isr_H200_v5": "NVIDIA-H200",
}

# Sizes that have a part of a board, behind a vGPU driver: the board, and how many guests it has.
PARTS: Final = {
    "Standard_NV6ads_A10_v5": ("NVIDIA-A10", 6),
    "Standard_NV12ads_A10_v5": ("NVIDIA-A10", 3),
    "Standard_NV18ads_A10_v5": ("NVIDIA-A10", 2),
}


def read(labels: Mapping[str, str]) -> Facts | None:
    """Reads the labels; None on other nodes."""
    if labels.get(_ACCELERATOR) != "nvidia":
        return None
    instance = labels.get(INSTANCE_TYPE, "")
    model = next((name for pattern, name in PRODUCTS.items() if re.fullmatch(pattern, instance)), "")
    memory = None
    if instance in PARTS:
        model, memory = boards.part(*PARTS[instance])
    return Facts(
        source=SOURCE,
        model=model,
        unsaid=f"the label {_ACCELERATOR} does not say whether nvidia.com/gpu is a whole board or a slice; "
        f"set {HAND_SET} on the node pool",
        memory=memory,
        vgpu=memory is not None,
    )
