"""Boards that clouds sell by a name of their own: what one of them holds.

MiB as the driver reports them, which is what GPU feature discovery writes into `nvidia.com/gpu.memory` (NVIDIA's
nvidia-smi outputs in its documentation and in public issues; a node's own label always wins over this table).
"""

from math import ceil
from typing import Final

MEMORY: Final = {
    "Tesla-K80": 11441,
    "Tesla-M60": 7618,
    "Tesla-P4": 7611,
    "Tesla-P100-PCIE-16GB": 16280,
    "Tesla-V100-SXM2-16GB": 16160,
    "Tesla-V100-SXM2-32GB": 32510,
    "Tesla-V100-PCIE-16GB": 16160,
    "Tesla-T4": 15360,
    "NVIDIA-T4G": 15360,
    "NVIDIA-A10": 23028,
    "NVIDIA-A10G": 23028,
    "NVIDIA-A30": 24576,
    "NVIDIA-A40": 46068,
    "NVIDIA-L4": 23034,
    "NVIDIA-L40": 46068,
    "NVIDIA-L40S": 46068,
    "NVIDIA-A100-SXM4-40GB": 40960,
    "NVIDIA-A100-PCIE-40GB": 40960,
    "NVIDIA-A100-SXM4-80GB": 81920,
    "NVIDIA-A100-80GB-PCIe": 81920,
    "NVIDIA-A800-SXM4-80GB": 81920,
    "NVIDIA-A800-80GB-PCIe": 81920,
    "NVIDIA-H20": 97871,
    "NVIDIA-H800": 81559,
    "NVIDIA-H100-80GB-HBM3": 81559,
    "NVIDIA-H100-PCIe": 81559,
    "NVIDIA-H100-NVL": 95830,
    "NVIDIA-H200": 143771,
    "NVIDIA-B200": 183359,
    "NVIDIA-B300-SXM6-AC": 275040,
    "NVIDIA-GB200": 189471,
    "NVIDIA-GB300": 284208,
    "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition": 97887,
    "NVIDIA-RTX-A4000": 16376,
    "NVIDIA-RTX-A5000": 24564,
    "NVIDIA-RTX-A6000": 49140,
    "Quadro-RTX-4000": 8192,
    "Quadro-RTX-5000": 16384,
}


def part_name(product: str, mebibytes: int) -> str:
    """Names a part of a board that a cloud sells as a vGPU: a model of its own, told apart by its memory."""
    return f"{product}-{ceil(mebibytes / 1024)}GB"


def part(product: str, guests: int) -> tuple[str, int]:
    """Returns the name and the MiB of the part that each of so many guests has of a board of the table."""
    mebibytes = MEMORY[product] // guests
    return part_name(product, mebibytes), mebibytes


def memory_of(product: str) -> int | None:
    """Returns the MiB of one board; None where the table has none of that name."""
    return MEMORY.get(product)
