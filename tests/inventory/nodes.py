"""Nodes as NVIDIA's device plugin, GPU feature discovery and MIG manager publish them.

The table follows the mode matrix of the k8s-device-plugin and GFD labels (internal/rm, internal/lm); every
row says what Slicewise must make of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from slicewise.gpu.strategies import Strategy
from slicewise.inventory.node import Node
from slicewise.inventory.pools import Inventory

Object = dict[str, Any]
NVIDIA: Final = "nvidia.com/"


def document(
    name: str,
    labels: Mapping[str, str],
    capacity: Mapping[str, int | str],
    allocatable: Mapping[str, int | str] | None = None,
    *,
    ready: bool = True,
    **parts: Any,
) -> Object:
    """One Node as the API server gives it; label and resource names without a slash are NVIDIA's."""
    metadata = {"name": name, "labels": named(labels), **parts.pop("metadata", {})}
    status = {
        "capacity": quantities(capacity),
        "allocatable": quantities(capacity if allocatable is None else allocatable),
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
    }
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status, **parts}


def named(keys: Mapping[str, str]) -> dict[str, str]:
    return {key if "/" in key else NVIDIA + key: value for key, value in keys.items()}


def quantities(amounts: Mapping[str, int | str]) -> dict[str, str]:
    device = ("gpu", "mig-", "GA", "NVIDIA_")
    return {NVIDIA + k if k.startswith(device) else k: str(v) for k, v in amounts.items()}


def read(item: Object) -> Node:
    return msgspec.convert(item, Node)


@dataclass(frozen=True)
class Shape:
    """How a node looks, and what that means."""

    labels: Mapping[str, str]
    status: Mapping[str, int]
    pool: str
    strategy: Strategy
    offers: Mapping[str, tuple[int, Strategy, int | None, str, int]]
    """Resource name -> quantity, strategy, MiB of one, profile, replicas."""
    model: str = ""
    zeros: tuple[str, ...] = field(default=())

    def document(self, name: str = "node", **parts: Any) -> Object:
        return document(name, self.labels, {**self.status, **dict.fromkeys(self.zeros, 0)}, **parts)

    def node(self, name: str = "node", **parts: Any) -> Node:
        return read(self.document(name, **parts))


def whole(product: str, count: int, memory: int, replicas: int = 1, sharing: str = "none") -> dict[str, str]:
    return {
        "gpu.product": product,
        "gpu.count": str(count),
        "gpu.replicas": str(replicas),
        "gpu.memory": str(memory),
        "gpu.sharing-strategy": sharing,
    }


def slices(
    product: str, profile: str, count: int, memory: int, replicas: int = 1, sharing: str = "none"
) -> dict[str, str]:
    """The labels of one profile under the mixed strategy."""
    prefix = f"mig-{profile}"
    return {
        f"{prefix}.product": f"{product}-MIG-{profile}" + ("-SHARED" if replicas > 1 else ""),
        f"{prefix}.count": str(count),
        f"{prefix}.replicas": str(replicas),
        f"{prefix}.memory": str(memory),
        f"{prefix}.sharing-strategy": sharing,
    }


SETTLED: Final = {"mig.capable": "true", "mig.config.state": "success"}
MIXED: Final = {**SETTLED, "mig.strategy": "mixed"}
SINGLE: Final = {**SETTLED, "mig.strategy": "single"}
H100: Final = "NVIDIA-H100-80GB-HBM3"
A100_80: Final = "NVIDIA-A100-SXM4-80GB"
A100_40: Final = "NVIDIA-A100-SXM4-40GB"
BALANCED: Final = {
    **MIXED,
    **whole(H100, 8, 81559, replicas=0),
    "mig.config": "all-balanced",
    **slices(H100, "1g.10gb", 16, 9984),
    **slices(H100, "2g.20gb", 8, 20096),
    **slices(H100, "3g.40gb", 8, 40320),
}

_MIG, _EXCLUSIVE, _TIME, _MPS, _VGPU = (
    Strategy.MIG,
    Strategy.EXCLUSIVE,
    Strategy.TIME_SLICING,
    Strategy.MPS,
    Strategy.VGPU,
)

SHAPES: Final[dict[str, Shape]] = {
    "exclusive, MIG off under strategy none": Shape(
        whole("NVIDIA-L4", 1, 23034),
        {"gpu": 1},
        "l4-exclusive",
        _EXCLUSIVE,
        {"gpu": (1, _EXCLUSIVE, 23034, "", 1)},
        "NVIDIA-L4",
    ),
    "exclusive, MIG off under strategy single": Shape(
        {**SINGLE, **whole(H100, 8, 81559), "mig.config": "all-disabled"},
        {"gpu": 8},
        "h100-80gb-exclusive",
        _EXCLUSIVE,
        {"gpu": (8, _EXCLUSIVE, 81559, "", 1)},
        H100,
    ),
    "exclusive, MIG off under strategy mixed": Shape(
        {**MIXED, **whole(A100_80, 8, 81920), "mig.config": "all-disabled"},
        {"gpu": 8},
        "a100-80gb-exclusive",
        _EXCLUSIVE,
        {"gpu": (8, _EXCLUSIVE, 81920, "", 1)},
        A100_80,
    ),
    "time-slicing, not renamed": Shape(
        {**whole("NVIDIA-A10-SHARED", 2, 23028, 4, "time-slicing"), "mig.strategy": "single"},
        {"gpu": 8},
        "a10-time-slicing-x4",
        _TIME,
        {"gpu": (8, _TIME, 23028, "", 4)},
        "NVIDIA-A10",
    ),
    "time-slicing, renamed, with the zero of the old name": Shape(
        whole("NVIDIA-A10", 2, 23028, 4, "time-slicing"),
        {"gpu.shared": 8},
        "a10-time-slicing-x4",
        _TIME,
        {"gpu.shared": (8, _TIME, 23028, "", 4)},
        "NVIDIA-A10",
        zeros=("gpu",),
    ),
    "time-slicing of T4s that call themselves Tesla": Shape(
        whole("Tesla-T4-SHARED", 4, 15360, 10, "time-slicing"),
        {"gpu": 40},
        "t4-time-slicing-x10",
        _TIME,
        {"gpu": (40, _TIME, 15360, "", 10)},
        "Tesla-T4",
    ),
    "MPS, not renamed: memory is divided": Shape(
        {**whole("NVIDIA-L4-SHARED", 1, 23034, 8, "mps"), "mps.capable": "true"},
        {"gpu": 8},
        "l4-mps-x8",
        _MPS,
        {"gpu": (8, _MPS, 2879, "", 8)},
        "NVIDIA-L4",
    ),
    "MPS, renamed": Shape(
        {**whole("NVIDIA-GeForce-RTX-4090", 8, 24564, 2, "mps"), "mps.capable": "true"},
        {"gpu.shared": 16},
        "geforce-rtx-4090-mps-x2",
        _MPS,
        {"gpu.shared": (16, _MPS, 12282, "", 2)},
        "NVIDIA-GeForce-RTX-4090",
    ),
    "MIG single": Shape(
        {**SINGLE, **whole(f"{A100_80}-MIG-1g.10gb", 14, 9728), "mig.config": "all-1g.10gb"},
        {"gpu": 14},
        "a100-80gb-mig-single-1g-10gb",
        _MIG,
        {"gpu": (14, _MIG, 9728, "1g.10gb", 1)},
        A100_80,
    ),
    "MIG single of an old driver, without the vendor's name": Shape(
        {**SINGLE, **whole("A100-PCIE-40GB-MIG-1g.5gb", 7, 4864), "mig.config": "all-1g.5gb"},
        {"gpu": 7},
        "a100-40gb-mig-single-1g-5gb",
        _MIG,
        {"gpu": (7, _MIG, 4864, "1g.5gb", 1)},
        "A100-PCIE-40GB",
    ),
    "MIG single on an A30": Shape(
        {**SINGLE, **whole("NVIDIA-A30-MIG-2g.12gb", 4, 11968), "mig.config": "all-2g.12gb"},
        {"gpu": 4},
        "a30-mig-single-2g-12gb",
        _MIG,
        {"gpu": (4, _MIG, 11968, "2g.12gb", 1)},
        "NVIDIA-A30",
    ),
    "MIG single on B200": Shape(
        {**SINGLE, **whole("NVIDIA-B200-MIG-1g.23gb", 56, 22784), "mig.config": "all-1g.23gb"},
        {"gpu": 56},
        "b200-mig-single-1g-23gb",
        _MIG,
        {"gpu": (56, _MIG, 22784, "1g.23gb", 1)},
        "NVIDIA-B200",
    ),
    "MIG single, each slice time-sliced": Shape(
        {
            **SINGLE,
            **whole(f"{A100_80}-MIG-1g.10gb-SHARED", 14, 9728, 2, "time-slicing"),
            "mig.config": "all-1g.10gb",
        },
        {"gpu": 28},
        "a100-80gb-mig-single-1g-10gb-x2",
        _TIME,
        {"gpu": (28, _TIME, 9728, "1g.10gb", 2)},
        A100_80,
    ),
    "MIG mixed, all boards divided": Shape(
        BALANCED,
        {"mig-1g.10gb": 16, "mig-2g.20gb": 8, "mig-3g.40gb": 8},
        "h100-80gb-mig-mixed",
        _MIG,
        {
            "mig-1g.10gb": (16, _MIG, 9984, "1g.10gb", 1),
            "mig-2g.20gb": (8, _MIG, 20096, "2g.20gb", 1),
            "mig-3g.40gb": (8, _MIG, 40320, "3g.40gb", 1),
        },
        H100,
    ),
    "MIG mixed on a node that was converted: the zero of the old name lingers": Shape(
        {
            **MIXED,
            **whole("NVIDIA-H200", 8, 143771, replicas=0),
            **slices("NVIDIA-H200", "1g.18gb", 16, 16384),
            **slices("NVIDIA-H200", "2g.35gb", 8, 33280),
            **slices("NVIDIA-H200", "3g.71gb", 8, 71424),
        },
        {"mig-1g.18gb": 16, "mig-2g.35gb": 8, "mig-3g.71gb": 8},
        "h200-mig-mixed",
        _MIG,
        {
            "mig-1g.18gb": (16, _MIG, 16384, "1g.18gb", 1),
            "mig-2g.35gb": (8, _MIG, 33280, "2g.35gb", 1),
            "mig-3g.71gb": (8, _MIG, 71424, "3g.71gb", 1),
        },
        "NVIDIA-H200",
        zeros=("gpu", "mig-7g.141gb"),
    ),
    "MIG mixed, some boards left whole: those are exclusive": Shape(
        {**MIXED, **whole(A100_40, 8, 40960), **slices(A100_40, "1g.5gb", 28, 4864)},
        {"gpu": 4, "mig-1g.5gb": 28},
        "a100-40gb-mig-mixed",
        _MIG,
        {"gpu": (4, _EXCLUSIVE, 40960, "", 1), "mig-1g.5gb": (28, _MIG, 4864, "1g.5gb", 1)},
        A100_40,
    ),
    "MIG mixed with media and graphics profiles": Shape(
        {
            **MIXED,
            **whole("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", 1, 97887, replicas=0),
            **slices("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "1g.24gb", 1, 24187),
            **slices("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "1g.24gb.me", 1, 24187),
            **slices("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "1g.24gb.gfx", 1, 24187),
            **slices("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "1g.24gb-me", 1, 24187),
        },
        {"mig-1g.24gb": 1, "mig-1g.24gb.me": 1, "mig-1g.24gb.gfx": 1, "mig-1g.24gb-me": 1},
        "rtx-pro-6000-blackwell-server-edition-mig-mixed",
        _MIG,
        {
            "mig-1g.24gb": (1, _MIG, 24187, "1g.24gb", 1),
            "mig-1g.24gb.me": (1, _MIG, 24187, "1g.24gb.me", 1),
            "mig-1g.24gb.gfx": (1, _MIG, 24187, "1g.24gb.gfx", 1),
            "mig-1g.24gb-me": (1, _MIG, 24187, "1g.24gb-me", 1),
        },
        "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
    ),
    "MIG mixed, one profile time-sliced and renamed": Shape(
        {
            **MIXED,
            **whole(A100_80, 2, 81920, replicas=0),
            **slices(A100_80, "1g.10gb", 4, 9728, 4, "time-slicing"),
            **slices(A100_80, "3g.40gb", 2, 40192),
        },
        {"mig-1g.10gb.shared": 16, "mig-3g.40gb": 2},
        "a100-80gb-mig-mixed-1g-10gb-x4",
        _MIG,
        {
            "mig-1g.10gb.shared": (16, _TIME, 9728, "1g.10gb", 4),
            "mig-3g.40gb": (2, _MIG, 40192, "3g.40gb", 1),
        },
        A100_80,
    ),
    "MIG mixed, every profile time-sliced, not renamed": Shape(
        {
            **MIXED,
            **whole(A100_80, 1, 81920, replicas=0),
            **slices(A100_80, "1g.10gb", 7, 9728, 2, "time-slicing"),
        },
        {"mig-1g.10gb": 14},
        "a100-80gb-mig-mixed-x2",
        _TIME,
        {"mig-1g.10gb": (14, _TIME, 9728, "1g.10gb", 2)},
        A100_80,
    ),
    "a vGPU guest": Shape(
        {**whole("NVIDIA-A10-12Q", 1, 12288), "vgpu.present": "true", "vgpu.host-driver-version": "550.54"},
        {"gpu": 1},
        "a10-12q-vgpu",
        _VGPU,
        {"gpu": (1, _VGPU, 12288, "", 1)},
        "NVIDIA-A10-12Q",
    ),
    "a GB200 tray": Shape(
        {**whole("NVIDIA-GB200", 4, 189471), "gpu.clique": "6f1a.1", "kubernetes.io/arch": "arm64"},
        {"gpu": 4},
        "gb200-exclusive",
        _EXCLUSIVE,
        {"gpu": (4, _EXCLUSIVE, 189471, "", 1)},
        "NVIDIA-GB200",
    ),
    "explicit slices without GPU feature discovery": Shape(
        {},
        {"mig-1g.10gb": 7, "cpu": 32},
        "unknown-mig-mixed",
        _MIG,
        {"mig-1g.10gb": (7, _MIG, None, "1g.10gb", 1)},
        "unknown",
    ),
    "explicit shares without GPU feature discovery": Shape(
        {},
        {"gpu.shared": 8},
        "unknown-shared",
        Strategy.SHARED,
        {"gpu.shared": (8, Strategy.SHARED, None, "", 1)},
        "unknown",
    ),
}


def cluster(*names: str) -> Inventory:
    """An inventory of the named shapes, one node each."""
    return Inventory(SHAPES[name].node(f"node-{index}") for index, name in enumerate(names))
