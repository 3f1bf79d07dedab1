"""Dynamic Resource Allocation: the devices that NVIDIA's driver publishes in ResourceSlices (resource.k8s.io/v1).

Attributes as `sigs.k8s.io/dra-driver-nvidia-gpu` 0.4.1 writes them (cmd/gpu-kubelet-plugin, deviceinfo.go and mig.go):
`type` is `gpu` or `mig` (`vfio` is no device for containers), `productName` is NVML's, `profile` that of a slice.
With partitionable boards, every placement of every profile is a device of type `mig`, and slices that hold nothing but
shared counters are part of the pool.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import msgspec

from slicewise.gpu import mig

DRIVER: Final = "gpu.nvidia.com"
API_VERSION: Final = "resource.k8s.io/v1"
GPU_TYPE: Final = "gpu"
MIG_TYPE: Final = "mig"

# The API server takes no longer text as an attribute.
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Device(msgspec.Struct, frozen=True, order=True):
    """What devices of one kind have in common."""

    product: str
    """As published, `NVIDIA H100 80GB HBM3`."""
    profile: str = ""
    """As published, `1g.10gb+me`; "" for a whole board."""


class _Attribute(msgspec.Struct, frozen=True):
    string: _Text | None = None


class _Device(msgspec.Struct, frozen=True):
    name: str
    attributes: dict[str, _Attribute] = {}

    def text(self, name: str) -> str:
        attribute = self.attributes.get(name)
        return attribute.string or "" if attribute is not None else ""


class _Pool(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    generation: int
    resource_slice_count: int


class _Spec(msgspec.Struct, frozen=True):
    pool: _Pool
    devices: list[_Device] | None = None


def published(slices: Iterable[Mapping[str, Any]]) -> tuple[set[Device], list[str]]:
    """Returns the kinds of devices in complete pools of NVIDIA's driver, and a sentence for what cannot be used.

    A pool is complete when its highest generation has as many slices as each of them says. Of two slices of one name
    the later one holds; slices of other drivers are left alone.
    """
    pools: dict[str, dict[str, _Spec]] = {}
    complaints: list[str] = []
    unreadable: set[str] = set()
    for name, item in {_name(each): each for each in slices}.items():
        raw = item.get("spec")
        if isinstance(raw, dict) and raw.get("driver") != DRIVER:
            continue
        try:
            spec = _read(item)
        except ValueError as error:
            complaints.append(
                f"ResourceSlice {name}: {error}; its pool is left out until the driver publishes it as "
                f"{API_VERSION} has it"
            )
            unreadable.add(_pool_of(raw))
        else:
            pools.setdefault(spec.pool.name, {})[name] = spec
    devices: set[Device] = set()
    for pool, specs in sorted(pools.items()):
        if pool in unreadable:
            continue
        newest = max(spec.pool.generation for spec in specs.values())
        current = [spec for spec in specs.values() if spec.pool.generation == newest]
        count = max(spec.pool.resource_slice_count for spec in current)
        if any(spec.pool.resource_slice_count != len(current) for spec in current):
            complaints.append(
                f"pool {pool} of {DRIVER}: generation {newest} has {len(current)} of {count} ResourceSlices; its "
                "devices are left out until the driver has published them all"
            )
            continue
        devices.update(_kind(device) for spec in current for device in spec.devices or () if _used(device))
    return devices, complaints


def _name(item: Mapping[str, Any]) -> str:
    return str((item.get("metadata") or {}).get("name") or "without a name")


def _pool_of(spec: object) -> str:
    pool = spec.get("pool") if isinstance(spec, dict) else None
    return str(pool.get("name")) if isinstance(pool, dict) else ""


def _read(item: Mapping[str, Any]) -> _Spec:
    """Reads a slice.

    Raises:
        ValueError: it is of another version, or a device says what none can be.
    """
    if item.get("apiVersion") != API_VERSION:
        raise ValueError(f"apiVersion {item.get('apiVersion')} is not read")
    spec = msgspec.convert(item.get("spec"), _Spec)
    for device in filter(_used, spec.devices or ()):
        kind = _kind(device)
        if not kind.product.isprintable() or not kind.product:
            raise ValueError(f"device {device.name}: productName {json.dumps(kind.product)} names no model")
        if device.text("type") == MIG_TYPE and mig.parse(kind.profile) is None:
            raise ValueError(f"device {device.name}: profile {json.dumps(kind.profile)} is no MIG profile")
    return spec


def _used(device: _Device) -> bool:
    return device.text("type") in {GPU_TYPE, MIG_TYPE}


def _kind(device: _Device) -> Device:
    profile = device.text("profile") if device.text("type") == MIG_TYPE else ""
    return Device(device.text("productName"), profile)
