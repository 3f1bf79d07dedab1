"""CoreWeave's Kubernetes service.

Source: docs.coreweave.com, "Node labels": class (`H100_NVLINK_80GB`), model, count, and vram in GB of one board.
"""

from collections.abc import Mapping
from typing import Final

from slicewise.gpu import boards
from slicewise.inventory.sources.facts import Facts, misread, number

SOURCE: Final = "coreweave"
_PREFIX: Final = "gpu.nvidia.com/"
LABELS: Final = (_PREFIX,)
PRODUCTS: Final = {
    "A40": "NVIDIA-A40",
    "A100": "NVIDIA-A100-SXM4-80GB",
    "A100_NVLINK": "NVIDIA-A100-SXM4-40GB",
    "A100_NVLINK_80GB": "NVIDIA-A100-SXM4-80GB",
    "A100_PCIE_40GB": "NVIDIA-A100-PCIE-40GB",
    "A100_PCIE_80GB": "NVIDIA-A100-80GB-PCIe",
    "H100": "NVIDIA-H100-80GB-HBM3",
    "H100_NVLINK_80GB": "NVIDIA-H100-80GB-HBM3",
    "H100_PCIE": "NVIDIA-H100-PCIe",
    "H200": "NVIDIA-H200",
    "H200_NVLINK_141GB": "NVIDIA-H200",
    "B200": "NVIDIA-B200",
    "B200_NVLINK": "NVIDIA-B200",
    "B300": "NVIDIA-B300-SXM6-AC",
    "GB200": "NVIDIA-GB200",
    "GB200_4X": "NVIDIA-GB200",
    "GB300": "NVIDIA-GB300",
    "L40": "NVIDIA-L40",
    "L40S": "NVIDIA-L40S",
    "RTX_PRO_6000": "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
    "QUADRO_RTX_4000": "Quadro-RTX-4000",
    "QUADRO_RTX_5000": "Quadro-RTX-5000",
    "RTX_A4000": "NVIDIA-RTX-A4000",
    "RTX_A5000": "NVIDIA-RTX-A5000",
    "RTX_A6000": "NVIDIA-RTX-A6000",
    "TESLA_V100_NVLINK": "Tesla-V100-SXM2-16GB",
}


def read(labels: Mapping[str, str]) -> Facts | None:
    """Reads the labels; None on other nodes."""
    names = [labels.get(_PREFIX + key, "") for key in ("class", "model")]
    if not any(names):
        return None
    known = [PRODUCTS[name.upper()] for name in names if name.upper() in PRODUCTS]
    model = known[0] if known else next(name for name in names if name)
    gigabytes = number(labels, _PREFIX + "vram")
    return Facts(
        source=SOURCE,
        model=model,
        says_plain=True,
        devices=number(labels, _PREFIX + "count"),
        memory=gigabytes * 1024 if gigabytes and boards.memory_of(model) is None else None,
        problems=misread(labels, _PREFIX + "count"),
    )
