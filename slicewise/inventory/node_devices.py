"""What DRA offers on each node: slices, DeviceClasses and taint rules -> names and numbers.  Pure.

A device counts under the name that a DeviceClass serves, and only where the name says what the device is: whole boards
as `nvidia.com/gpu`, MIG devices as `nvidia.com/mig-<profile>`. Of a partitionable board each name counts as often as
the board alone could hold it; what can be promised together is worked out by `slicewise.gpu.placement`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final, TypeVar

import msgspec

from slicewise.api import keys
from slicewise.gpu import boards, mig
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.device_selector import SelectorError, selects
from slicewise.inventory.node_resources import Doubt, Resource
from slicewise.inventory.pool_name import MIG_DYNAMIC, MIG_MIXED
from slicewise.inventory.served_names import DeviceClass, serving
from slicewise.inventory.sources.dra import (
    Claim,
    Device,
    DevicePool,
    PublishedDevice,
    Slice,
    TaintRule,
    device_pool,
)

T = TypeVar("T")
_REMEDY: Final = "apply what `slicewise deviceclasses` prints"


class NodeDevices(msgspec.Struct, frozen=True):
    """What the DRA driver publishes for one node, under the names that DeviceClasses serve."""

    model: str = ""
    """As GPU feature discovery would write it, `NVIDIA-H100-80GB-HBM3`."""
    division: str = Strategy.EXCLUSIVE
    """As in a pool's name."""
    resources: tuple[Resource, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    remark: str = ""
    """What of the devices does not count, beside others that do, and why."""


class AllocatedDevices(msgspec.Struct, frozen=True):
    """What claims hold of one node's devices."""

    boards: tuple[int, ...] = ()
    """Which memory slices of a partitionable board are taken, one bit each; boards with none taken are left out."""
    resources: Mapping[str, int] = {}
    """Devices by resource name that the scheduler gave out for such names; claims of people are not among them."""


NONE_ALLOCATED: Final = AllocatedDevices()


class PublishedDevices:
    """Everything that DRA says of the cluster's NVIDIA devices; what it offers on a node is worked out when asked."""

    def __init__(
        self,
        slices: Iterable[Slice] = (),
        classes: Iterable[DeviceClass] = (),
        rules: Iterable[TaintRule] = (),
    ) -> None:
        self._slices: dict[str, Slice] = {}
        self._by_node: dict[str, dict[str, Slice]] = {}
        self._classes = {each.name: each for each in classes}
        self._rules = {str(number): each for number, each in enumerate(rules)}
        self._serving = serving(self._classes.values())
        self._known: dict[str, NodeDevices] = {}
        self._node_of: dict[str, str] = {}
        self._claims: dict[str, Claim] = {}
        self._claims_on: dict[str, dict[str, Claim]] = {}
        self._allocated: dict[str, AllocatedDevices] = {}
        for each in slices:
            self.put_slice(each.name, each)

    def put_slice(self, name: str, new: Slice | None) -> frozenset[str]:
        """Replaces one slice (None: it is gone, or another driver's); returns the nodes that this is about."""
        old = self._slices.pop(name, None)
        if old is not None:
            members = self._by_node[old.node]
            del members[name]
            if not members:
                del self._by_node[old.node]
        if new is not None:
            self._slices[name] = new
            self._node_of[new.pool] = new.node
            self._by_node.setdefault(new.node, {})[name] = new
        nodes = frozenset(each.node for each in (old, new) if each is not None) if old != new else frozenset()
        for node in nodes:
            self._known.pop(node, None)
            self._allocated.pop(node, None)
        return nodes

    def put_class(self, name: str, new: DeviceClass | None) -> frozenset[str]:
        """Replaces one DeviceClass; returns the nodes that this is about: all, where it serves another name."""
        _replace(self._classes, name, new)
        now = serving(self._classes.values())
        if now == self._serving:
            return frozenset()
        self._serving = now
        return self._everywhere()

    def put_rule(self, name: str, new: TaintRule | None) -> frozenset[str]:
        """Replaces one rule (None: it is gone, or keeps nobody out); returns the nodes that this is about."""
        old = self._rules.get(name)
        if old == new:
            return frozenset()
        _replace(self._rules, name, new)
        pools = {rule.pool for rule in (old, new) if rule is not None}
        if "" in pools:
            return self._everywhere()
        nodes = frozenset(each.node for each in self._slices.values() if each.pool in pools)
        for node in nodes:
            self._known.pop(node, None)
        return nodes

    def put_claim(self, name: str, new: Claim | None) -> bool:
        """Replaces one claim, by `namespace/name` (None: it has no device any more); True when it differs."""
        old = self._claims.get(name)
        if old == new:
            return False
        _replace(self._claims, name, new)
        for claim, value in ((old, None), (new, new)):
            for pool in {pool for pool, _ in claim.devices} if claim is not None else ():
                _replace(self._claims_on.setdefault(pool, {}), name, value)
        for claim in (old, new):
            for pool, _ in claim.devices if claim is not None else ():
                self._allocated.pop(self._node_of.get(pool, ""), None)
        return True

    def allocated(self, node: str) -> AllocatedDevices:
        """Returns what claims hold of a node's devices, as far as slices say what those are."""
        if node not in self._allocated:
            self._allocated[node] = self._held_on(node)
        return self._allocated[node]

    def claimed(self) -> Iterator[tuple[str, Mapping[str, int]]]:
        """Yields claims that the scheduler did not make of a name: `namespace/name`, and devices by node."""
        for name, claim in sorted(self._claims.items()):
            if claim.explicit:
                nodes = Counter(self._node_of[pool] for pool, _ in claim.devices if pool in self._node_of)
                yield name, nodes

    def _held_on(self, node: str) -> AllocatedDevices:
        slices = self._by_node.get(node, {}).values()
        if not any(self._claims_on.get(each.pool) for each in slices):
            return NONE_ALLOCATED
        published = {(each.pool, device.name): device for each in slices for device in each.devices}
        boards: dict[str, int] = {}
        resources: Counter[str] = Counter()
        pools = {each.pool for each in slices}
        for claim in (claim for pool in pools for claim in self._claims_on.get(pool, {}).values()):
            for device in (published[key] for key in claim.devices if key in published):
                counters, taken = device.memory_slices
                boards[counters] = boards.get(counters, 0) | taken
                resources[_resource(device)] += not claim.explicit
        return AllocatedDevices(tuple(filter(None, boards.values())), resources)

    def _everywhere(self) -> frozenset[str]:
        self._known.clear()
        return frozenset(self._by_node)

    @property
    def classes(self) -> tuple[DeviceClass, ...]:
        """Every DeviceClass of the cluster."""
        return tuple(self._classes.values())

    def kinds(self) -> frozenset[Device]:
        """Returns the kinds of devices in complete pools."""
        pools: dict[str, list[Slice]] = {}
        for each in self._slices.values():
            pools.setdefault(each.pool, []).append(each)
        read = (device_pool(name, members) for name, members in pools.items())
        return frozenset(device.kind for pool in read for device in pool.devices)

    def of(self, node: str) -> NodeDevices | None:
        """Returns what a node offers; None where the driver publishes nothing for it."""
        if node not in self._by_node:
            return None
        if node not in self._known:
            pools: dict[str, list[Slice]] = {}
            for each in self._by_node[node].values():
                pools.setdefault(each.pool, []).append(each)
            read = [device_pool(name, members) for name, members in sorted(pools.items())]
            self._known[node] = _node_devices(read, self._serving, self._rules.values())
        return self._known[node]


def _replace(known: dict[str, T], name: str, new: T | None) -> None:
    known.pop(name, None)
    if new is not None:
        known[name] = new


def _node_devices(
    pools: Iterable[DevicePool], served: Mapping[str, DeviceClass], rules: Iterable[TaintRule]
) -> NodeDevices:
    doubts: list[Doubt] = []
    remarks: dict[str, None] = {}
    groups: dict[str, list[PublishedDevice]] = {}
    units: dict[str, PublishedDevice] = {}
    sums: dict[str, int] = {}
    every = [device for pool in pools for device in pool.devices]
    several = tuple(rules)
    for pool in pools:
        if pool.problem:
            doubts.append(Doubt("slices", pool.problem))
        groups.clear()
        for device in pool.devices:
            name = _resource(device)
            units.setdefault(name, device)
            usable = not device.tainted and not any(rule.selects(pool.name, device.name) for rule in several)
            groups.setdefault(name, []).extend([device] if usable else [])
        for name, devices in groups.items():
            sums[name] = sums.get(name, 0) + _most(devices, pool.counters)
    models = sorted({_model(device) for device in every})
    if len(models) > 1:
        words = f"the node has boards of more than one model ({', '.join(models)}); give each node boards of one model"
        doubts.append(Doubt("two-models", words))
    resources = []
    nameless = [name for name in sorted(units) if name not in served]
    for name in sorted(units.keys() - set(nameless)):
        if unserved := _unserved(name, every, served[name]):
            remarks[unserved] = None
        else:
            resources.append(_counted(name, sums[name], units[name]))
    if nameless:
        remarks[f"no DeviceClass serves {', '.join(nameless)}; {_REMEDY}"] = None
    if every and not resources:
        doubts.append(Doubt("unserved", "; ".join(remarks)))
        remarks.clear()
    return NodeDevices(
        models[0] if models else "", _division(every), tuple(resources), tuple(doubts), "; ".join(remarks)
    )


def _resource(device: PublishedDevice) -> str:
    profile = mig.parse(device.kind.profile)
    return profile.resource if profile is not None else keys.GPU


def _model(device: PublishedDevice) -> str:
    return device.kind.product.replace(" ", "-")


def _division(devices: Iterable[PublishedDevice]) -> str:
    every = list(devices)
    if any(device.consumes for device in every):
        return MIG_DYNAMIC
    return MIG_MIXED if any(device.kind.profile for device in every) else Strategy.EXCLUSIVE


def _unserved(name: str, devices: Iterable[PublishedDevice], found: DeviceClass) -> str:
    """Says why the class of a name does not get a pod the devices that the name says; "" when it does."""
    try:
        taken = {_resource(device) for device in devices if all(selects(e, device) for e in found.selectors)}
    except SelectorError as error:
        return (
            f"the selector of DeviceClass {found.name}, which serves {name}, is not read here: {error}; "
            "write it with ==, !=, in, && and ||"
        )
    if name not in taken:
        return f"DeviceClass {found.name} serves {name} and selects no such device of this node; {_REMEDY}"
    if others := sorted(taken - {name}):
        also = ", ".join(others)
        return f"DeviceClass {found.name} serves {name} with other devices too ({also}); narrow its selector"
    return ""


def _counted(name: str, quantity: int, device: PublishedDevice) -> Resource:
    profile = mig.parse(device.kind.profile)
    model = _model(device)
    board = mig.board_of(model)
    placement = board.placement(profile) if board and profile else None
    memory = device.memory or (placement.mebibytes if placement else None)
    if profile is None:
        return Resource(name, quantity, Strategy.EXCLUSIVE, memory or boards.memory_of(model))
    return Resource(name, quantity, Strategy.MIG, memory, profile.compute, profile.dotted)


def _most(devices: Iterable[PublishedDevice], counters: Mapping[tuple[str, str], Decimal]) -> int:
    """Returns how many devices of one kind can be had at once.

    Placements of one profile on a board either are the same memory slices or share none, so to take them one by one
    while the counters last gives the most.
    """
    left = dict(counters)
    number = 0
    for device in devices:
        if all(left.get(key, Decimal(0)) >= amount for key, amount in device.consumes.items()):
            number += 1
            for key, amount in device.consumes.items():
                left[key] -= amount
    return number
