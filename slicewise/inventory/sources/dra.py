"""Dynamic Resource Allocation: the devices that NVIDIA's driver publishes in ResourceSlices (resource.k8s.io/v1).

Attributes as `sigs.k8s.io/dra-driver-nvidia-gpu` 0.4.1 writes them (cmd/gpu-kubelet-plugin, deviceinfo.go, mig.go and
partitions.go): `type` is `gpu` or `mig` (`vfio` is no device for containers), `productName` is NVML's, `profile` that
of a slice. With partitionable boards, every placement of every profile is a device of type `mig` that consumes counters
of its board, and slices that hold nothing but shared counters are part of the pool.

Older versions of the API are not read: resources that a DeviceClass serves came with v1 (Kubernetes 1.34).
"""

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec

from slicewise.api.quantities import mebibytes, parse
from slicewise.gpu import mig

DRIVER: Final = "gpu.nvidia.com"
API_VERSION: Final = "resource.k8s.io/v1"
GPU_TYPE: Final = "gpu"
MIG_TYPE: Final = "mig"
SOURCE: Final = "dra"
# On a claim that the scheduler made of a resource name (k8s.io/api/resource/v1, ExtendedResourceClaimAnnotation).
EXTENDED_RESOURCE_CLAIM: Final = "resource.kubernetes.io/extended-resource-claim"
_MEMORY_SLICE: Final = "memory-slice-"

# The API server takes no longer text as an attribute.
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Attribute = str | int | bool


class Device(msgspec.Struct, frozen=True, order=True):
    """What devices of one kind have in common."""

    product: str
    """As published, `NVIDIA H100 80GB HBM3`."""
    profile: str = ""
    """As published, `1g.10gb+me`; "" for a whole board."""


class PublishedDevice(msgspec.Struct, frozen=True):
    """One device of a slice: a board, a MIG device, or one placement of a profile on a partitionable board."""

    name: str
    kind: Device
    attributes: Mapping[str, Attribute]
    memory: int | None = None
    """MiB; None where the driver does not say."""
    consumes: Mapping[tuple[str, str], Decimal] = {}
    """What it takes of the counters that it shares with others, by counter set and counter."""
    tainted: bool = False
    """True when a taint of its own keeps everybody from it."""

    @property
    def memory_slices(self) -> tuple[str, int]:
        """The counters that it shares, and which memory slices of the board it takes, one bit each; 0 for none."""
        found, counters = 0, ""
        for name, counter in self.consumes:
            number = counter.removeprefix(_MEMORY_SLICE)
            if number != counter and number.isdecimal():
                found, counters = found | 1 << int(number), name
        return counters, found


class Slice(msgspec.Struct, frozen=True):
    """One ResourceSlice of NVIDIA's driver."""

    name: str
    pool: str
    node: str = ""
    generation: int = 0
    count: int = 1
    """Slices that the pool has in this generation."""
    devices: tuple[PublishedDevice, ...] = ()
    counters: Mapping[tuple[str, str], Decimal] = {}
    problem: str = ""
    """Why it cannot be used, in a sentence; "" when it can."""


class DevicePool(msgspec.Struct, frozen=True):
    """The devices of the newest generation of a pool; none while that is not complete."""

    name: str
    devices: tuple[PublishedDevice, ...] = ()
    counters: Mapping[tuple[str, str], Decimal] = {}
    problem: str = ""
    """Why nothing of it is used, in a sentence; "" when it is."""


class TaintRule(msgspec.Struct, frozen=True):
    """A DeviceTaintRule that keeps pods from the devices it selects; "" selects any."""

    pool: str = ""
    device: str = ""

    def selects(self, pool: str, device: str) -> bool:
        """True when the rule is about a device of NVIDIA's driver."""
        return self.pool in {"", pool} and self.device in {"", device}


class Claim(msgspec.Struct, frozen=True):
    """The devices of NVIDIA's driver that a ResourceClaim has been given."""

    devices: tuple[tuple[str, str], ...]
    """(pool, device)."""
    explicit: bool = False
    """True for a claim of somebody's own; False for one that the scheduler made of a resource name."""


class _Attribute(
    msgspec.Struct,
    frozen=True,
    rename={"text": "string", "truth": "bool", "number": "int", "version": "version"},
):
    text: _Text | None = None
    truth: bool | None = None
    number: int | None = None
    version: str | None = None

    @property
    def value(self) -> Attribute | None:
        found = (self.text, self.truth, self.number, self.version)
        return next((each for each in found if each is not None), None)


class _Quantity(msgspec.Struct, frozen=True):
    value: str | int


class _CounterSet(msgspec.Struct, frozen=True):
    name: str
    counters: dict[str, _Quantity] = {}


class _Consumption(msgspec.Struct, frozen=True, rename="camel"):
    counter_set: str
    counters: dict[str, _Quantity] = {}


class _Taint(msgspec.Struct, frozen=True):
    effect: str = ""

    @property
    def keeps_out(self) -> bool:
        return self.effect in {"NoSchedule", "NoExecute"}


class _Device(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    attributes: dict[str, _Attribute] = {}
    capacity: dict[str, _Quantity] = {}
    consumes_counters: list[_Consumption] = []
    taints: list[_Taint] = []

    def text(self, name: str) -> str:
        attribute = self.attributes.get(name)
        return attribute.text or "" if attribute is not None else ""

    @property
    def used(self) -> bool:
        return self.text("type") in {GPU_TYPE, MIG_TYPE}


class _Pool(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    generation: int
    resource_slice_count: int


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    pool: _Pool
    node_name: str = ""
    devices: list[_Device] | None = None
    shared_counters: list[_CounterSet] | None = None


class _Selector(msgspec.Struct, frozen=True):
    driver: str | None = None
    pool: str | None = None
    device: str | None = None


class _RuleSpec(msgspec.Struct, frozen=True, rename="camel"):
    taint: _Taint = _Taint()
    device_selector: _Selector | None = None


class _Rule(msgspec.Struct, frozen=True):
    spec: _RuleSpec


class _Allocated(msgspec.Struct, frozen=True):
    driver: str = ""
    pool: str = ""
    device: str = ""


class _AllocatedDevices(msgspec.Struct, frozen=True):
    results: list[_Allocated] | None = None


class _Allocation(msgspec.Struct, frozen=True):
    devices: _AllocatedDevices = _AllocatedDevices()


class _ClaimStatus(msgspec.Struct, frozen=True):
    allocation: _Allocation | None = None


class _ClaimMetadata(msgspec.Struct, frozen=True):
    annotations: dict[str, str] | None = None


class _Claim(msgspec.Struct, frozen=True):
    metadata: _ClaimMetadata
    status: _ClaimStatus = _ClaimStatus()


def read_slice(item: Mapping[str, Any]) -> Slice | None:
    """Reads a ResourceSlice; None for one of another driver. One that cannot be read has a `problem`."""
    name = str((item.get("metadata") or {}).get("name") or "without a name")
    raw = item.get("spec")
    if isinstance(raw, dict) and raw.get("driver") != DRIVER:
        return None
    try:
        spec = _spec(item)
        devices = tuple(_device(device) for device in spec.devices or () if device.used)
        counters = _counters((each.name, each.counters) for each in spec.shared_counters or ())
    except ValueError as error:
        words = (
            f"ResourceSlice {name}: {error}; its pool is left out until the driver publishes it as v1 has it"
        )
        return Slice(name, _pool_of(raw), _text_of(raw, "nodeName"), problem=words)
    pool = spec.pool
    return Slice(
        name, pool.name, spec.node_name, pool.generation, pool.resource_slice_count, devices, counters
    )


def read_taint_rule(item: Mapping[str, Any]) -> TaintRule | None:
    """Reads a DeviceTaintRule; None for one that keeps nobody from a device of NVIDIA's.

    A rule without a selector selects nothing, an empty selector everything (k8s.io/api, DeviceTaintRuleSpec).

    Raises:
        msgspec.ValidationError: it is no such object.
    """
    spec = msgspec.convert(item, _Rule).spec
    selector = spec.device_selector
    if selector is None or not spec.taint.keeps_out or selector.driver not in {None, DRIVER}:
        return None
    return TaintRule(selector.pool or "", selector.device or "")


def read_claim(item: Mapping[str, Any]) -> Claim | None:
    """Reads a ResourceClaim; None for one that has no device of NVIDIA's driver.

    Raises:
        msgspec.ValidationError: it is no such object.
    """
    claim = msgspec.convert(item, _Claim)
    allocation = claim.status.allocation
    results = (allocation.devices.results if allocation is not None else None) or ()
    devices = tuple((each.pool, each.device) for each in results if each.driver == DRIVER)
    explicit = (claim.metadata.annotations or {}).get(EXTENDED_RESOURCE_CLAIM) != "true"
    return Claim(devices, explicit) if devices else None


def device_pool(name: str, slices: Iterable[Slice]) -> DevicePool:
    """Returns what the slices of one pool publish together.

    A pool is complete when its highest generation has as many slices as each of them says.
    """
    members = list(slices)
    problems = [each.problem for each in members if each.problem]
    if problems:
        return DevicePool(name, problem="; ".join(problems))
    newest = max(each.generation for each in members)
    current = sorted((each for each in members if each.generation == newest), key=lambda each: each.name)
    count = max(each.count for each in current)
    if any(each.count != len(current) for each in current):
        return DevicePool(
            name,
            problem=f"pool {name} of {DRIVER}: generation {newest} has {len(current)} of {count} ResourceSlices; its "
            "devices are left out until the driver has published them all",
        )
    counters = {key: amount for each in current for key, amount in each.counters.items()}
    return DevicePool(name, tuple(device for each in current for device in each.devices), counters)


def published(slices: Iterable[Mapping[str, Any]]) -> tuple[set[Device], list[str]]:
    """Returns the kinds of devices in complete pools of NVIDIA's driver, and a sentence for what cannot be used.

    Of two slices of one name the later one holds; slices of other drivers are left alone.
    """
    pools: dict[str, dict[str, Slice]] = {}
    for item in slices:
        if (found := read_slice(item)) is not None:
            pools.setdefault(found.pool, {})[found.name] = found
    read = [device_pool(name, members.values()) for name, members in sorted(pools.items())]
    devices = {device.kind for pool in read for device in pool.devices}
    return devices, [pool.problem for pool in read if pool.problem]


def _spec(item: Mapping[str, Any]) -> _Spec:
    if item.get("apiVersion") != API_VERSION:
        raise ValueError(f"apiVersion {item.get('apiVersion')} is not read")
    return msgspec.convert(item.get("spec"), _Spec)


def _pool_of(spec: object) -> str:
    return _text_of(spec.get("pool") if isinstance(spec, dict) else None, "name")


def _text_of(value: object, field: str) -> str:
    return str(value.get(field) or "") if isinstance(value, dict) else ""


def _device(device: _Device) -> PublishedDevice:
    """Reads a device.

    Raises:
        ValueError: it says what none can be.
    """
    profile = device.text("profile") if device.text("type") == MIG_TYPE else ""
    product = device.text("productName")
    if not product.isprintable() or not product:
        raise ValueError(f"device {device.name}: productName {json.dumps(product)} names no model")
    if device.text("type") == MIG_TYPE and mig.parse(profile) is None:
        raise ValueError(f"device {device.name}: profile {json.dumps(profile)} is no MIG profile")
    attributes = {
        name: value for name, each in device.attributes.items() if (value := each.value) is not None
    }
    memory = device.capacity.get("memory")
    return PublishedDevice(
        device.name,
        Device(product, profile),
        attributes,
        mebibytes(memory.value) if memory is not None else None,
        _counters((each.counter_set, each.counters) for each in device.consumes_counters),
        any(taint.keeps_out for taint in device.taints),
    )


def _counters(sets: Iterable[tuple[str, Mapping[str, _Quantity]]]) -> dict[tuple[str, str], Decimal]:
    return {
        (name, counter): parse(each.value) for name, counters in sets for counter, each in counters.items()
    }
