"""The ways a GPU is divided, and what each of them means for somebody who asks for more than one."""

from enum import StrEnum
from typing import Final, Literal


class Strategy(StrEnum):
    """How a GPU is divided (reference: NVIDIA k8s-device-plugin, README "Shared Access to GPUs")."""

    MIG = "mig"
    TIME_SLICING = "time-slicing"
    MPS = "mps"
    VGPU = "vgpu"
    EXCLUSIVE = "exclusive"
    SHARED = "shared"
    """A share of which nothing says how it is made. It counts; no class asks for it."""


ClassStrategy = Literal[Strategy.MIG, Strategy.TIME_SLICING, Strategy.MPS, Strategy.VGPU, Strategy.EXCLUSIVE]
"""What a class may ask for."""


class MultiGPU(StrEnum):
    """What a request for more than one GPU becomes."""

    WHOLE = "whole"
    EACH = "each"
    ONE = "one"
    REFUSE = "refuse"


class Need(StrEnum):
    """What somebody needs of a GPU; the decision tree turns it into a strategy."""

    HARDWARE_ISOLATION = "hardware-isolation"
    THROUGHPUT = "throughput"
    BURST = "burst"


# Shares cannot be added up (k8s-device-plugin, failRequestsGreaterThanOne); a vGPU guest's devices can.
MULTI_GPU_DEFAULT: Final = {
    Strategy.MIG: MultiGPU.WHOLE,
    Strategy.TIME_SLICING: MultiGPU.REFUSE,
    Strategy.MPS: MultiGPU.REFUSE,
    Strategy.VGPU: MultiGPU.EACH,
    Strategy.EXCLUSIVE: MultiGPU.EACH,
}

DECISION_TREE: Final[dict[Need, ClassStrategy]] = {
    Need.HARDWARE_ISOLATION: Strategy.MIG,
    Need.THROUGHPUT: Strategy.MPS,
    Need.BURST: Strategy.TIME_SLICING,
}
