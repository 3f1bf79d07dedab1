"""What stands in the cluster: queues and flavors as they are, and who uses them.

Objects of the queueing engines are plain dictionaries, because everything in them that is not ours must survive a
write; only what changes by itself (status, managed fields, versions) is dropped. Workloads are many, so of them only
admissions are kept, and sums are kept up to date rather than made anew.

Failure mode: a quantity in a Workload that cannot be read counts as one, so that what it uses is never taken away.
"""

from collections import Counter
from collections.abc import Container, Mapping, Set
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import msgspec

from queue_sync.planning.kueue_configuration import ClassMapping
from slicewise.api import keys
from slicewise.api.policy import QuotaPlan
from slicewise.api.quantities import scaled, value_of
from slicewise.inventory.node_devices import PublishedDevices
from slicewise.kube.object_types import (
    CLUSTER_QUEUE,
    COHORT,
    FLAVOR,
    LOCAL_QUEUE,
    OBJECT_TYPES,
    VOLCANO_QUEUE,
    kind_of,
)

Object = dict[str, Any]

_KEPT_METADATA: Final = ("name", "namespace", "uid", "labels", "annotations", "deletionTimestamp")


def project(document: Mapping[str, Any]) -> Object:
    """An object without what the server changes by itself, and of its status what quota depends on."""
    metadata = document.get("metadata") or {}
    kept: Object = {key: document[key] for key in ("apiVersion", "kind") if key in document}
    kept["metadata"] = {key: metadata[key] for key in _KEPT_METADATA if metadata.get(key)}
    kept["spec"] = document.get("spec") or {}
    if status := OBJECT_TYPES[kind_of(document)].status(document):
        kept["status"] = status
    return kept


def without_status(document: Object | None) -> Object | None:
    """An object without what its engine counts in it, which is no edit."""
    if document is None or "status" not in document or not OBJECT_TYPES[kind_of(document)].counts:
        return document
    return {key: value for key, value in document.items() if key != "status"}


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    namespace: str = ""
    creation_timestamp: str = ""


class _Condition(msgspec.Struct, frozen=True):
    type: str
    status: str = ""


class _Assignment(msgspec.Struct, frozen=True, rename="camel"):
    name: str = "main"
    flavors: dict[str, str] | None = None
    resource_usage: dict[str, str | int] | None = None
    count: int = 1


class _Reclaimable(msgspec.Struct, frozen=True):
    name: str
    count: int = 0


class _Admission(msgspec.Struct, frozen=True, rename="camel"):
    cluster_queue: str
    pod_set_assignments: tuple[_Assignment, ...] = ()


class _WorkloadStatus(msgspec.Struct, frozen=True, rename="camel"):
    conditions: tuple[_Condition, ...] | None = None
    admission: _Admission | None = None
    reclaimable_pods: tuple[_Reclaimable, ...] | None = None


class _Resources(msgspec.Struct, frozen=True):
    requests: dict[str, str | int | float] | None = None
    limits: dict[str, str | int | float] | None = None


class _Container(msgspec.Struct, frozen=True):
    resources: _Resources | None = None


class _PodSpec(msgspec.Struct, frozen=True):
    containers: tuple[_Container, ...] = ()


class _Template(msgspec.Struct, frozen=True):
    spec: _PodSpec = _PodSpec()


class _PodSet(msgspec.Struct, frozen=True):
    template: _Template = _Template()
    count: int = 1


class _WorkloadSpec(msgspec.Struct, frozen=True, rename="camel"):
    queue_name: str = ""
    active: bool | None = None
    pod_sets: tuple[_PodSet, ...] | None = None


class Workload(msgspec.Struct, frozen=True):
    """The fields of a kueue.x-k8s.io/v1beta2 Workload that quota depends on."""

    metadata: _Metadata
    spec: _WorkloadSpec = _WorkloadSpec()
    status: _WorkloadStatus = _WorkloadStatus()

    def is_true(self, condition: str) -> bool:
        """Whether a condition holds."""
        return any(each.type == condition and each.status == "True" for each in self.status.conditions or ())


def decode_workload(raw: msgspec.Raw) -> Workload:
    """A Workload, with its pod sets only while it waits for quota: nothing else is asked of them."""
    workload = _decode_workload(raw)
    if waits(workload) or workload.spec.pod_sets is None:
        return workload
    return msgspec.structs.replace(workload, spec=msgspec.structs.replace(workload.spec, pod_sets=None))


_decode_workload = msgspec.json.Decoder(Workload).decode


def waits(workload: Workload) -> bool:
    """True while a Workload waits for quota."""
    held_back = workload.spec.active is False or workload.is_true("Finished")
    return workload.status.admission is None and not held_back


def asked_for(workload: Workload) -> dict[str, int]:
    """What the pods of a Workload ask for together, by device name."""
    found: Counter[str] = Counter()
    for pod_set in workload.spec.pod_sets or ():
        for container in pod_set.template.spec.containers:
            resources = container.resources or _Resources()
            for name, quantity in {**(resources.limits or {}), **(resources.requests or {})}.items():
                if keys.is_device(name):
                    found[name] += int(value_of(quantity)) * pod_set.count
    return dict(+found)


@dataclass(frozen=True, slots=True)
class Demand:
    """A Workload that waits for quota."""

    created: str
    workload: str
    queue: str
    """Its LocalQueue's name, which is that of the plan's queue."""
    resources: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """What one Workload takes of one ClusterQueue's flavor, in units of the resource (cpu in thousandths)."""

    queue: str
    flavor: str
    resource: str
    quantity: int
    admitted: bool


def usage_entries(workload: Workload) -> tuple[UsageEntry, ...]:
    """What a Workload takes; nothing once it has finished or while it has no reservation."""
    admission = workload.status.admission
    if admission is None or workload.is_true("Finished"):
        return ()
    admitted = workload.is_true("Admitted")
    back = {each.name: each.count for each in workload.status.reclaimable_pods or ()}
    found = []
    for part in admission.pod_set_assignments:
        pods = max(1, part.count)
        left = max(0, pods - back.get(part.name, 0))
        for resource, flavor in (part.flavors or {}).items():
            taken = scaled(resource, (part.resource_usage or {}).get(resource, 0), unreadable=1)
            usage = int(taken) * left // pods
            found.append(UsageEntry(admission.cluster_queue, flavor, resource, usage, admitted))
    return tuple(found)


class QuotaUsage:
    """Who uses which quota, by (queue, flavor, resource); kept up to date one Workload at a time."""

    def __init__(self) -> None:
        self._charges: dict[str, tuple[UsageEntry, ...]] = {}
        self._demand: dict[str, Demand] = {}
        self._waiting: dict[str, tuple[str, str]] = {}
        self.reserved: Counter[tuple[str, str, str]] = Counter()
        self.used: Counter[tuple[str, str, str]] = Counter()
        self._holders: Counter[tuple[str, str, str]] = Counter()
        self._flavors: Counter[str] = Counter()
        self._local_queues: Counter[tuple[str, str]] = Counter()

    def put(self, key: str, workload: Workload | None) -> frozenset[str]:
        """Takes in one Workload as it is now (None: gone); returns the queues whose use or demand changed."""
        changed = self._wait(key, workload)
        new = usage_entries(workload) if workload is not None else ()
        old = self._charges.pop(key, ())
        if new:
            self._charges[key] = new
        self._place(key, workload)
        if new == old:
            return changed
        for charge in old:
            self._add(charge, -1)
        for charge in new:
            self._add(charge, 1)
        return changed | {charge.queue for charge in (*old, *new)}

    def keys(self) -> tuple[str, ...]:
        """The Workloads that take something."""
        return tuple(self._charges)

    def holds(self, queue: str, *, flavor: str | None = None, resource: str | None = None) -> bool:
        """True when a Workload's assignment in this queue names the flavor, the resource, or the two together."""
        return any(
            number > 0
            for (its_queue, its_flavor, its_resource), number in self._holders.items()
            if its_queue == queue and flavor in {None, its_flavor} and resource in {None, its_resource}
        )

    def holds_flavor(self, flavor: str) -> bool:
        """True when any Workload's assignment names the flavor."""
        return self._flavors[flavor] > 0

    def waits(self, namespace: str, queue: str) -> bool:
        """True when an unfinished Workload is in this LocalQueue."""
        return self._local_queues[(namespace, queue)] > 0

    def demand(self, queues: Container[str]) -> list[Demand]:
        """What waits for quota in these queues, the oldest first."""
        found = [each for each in self._demand.values() if each.queue in queues]
        return sorted(found, key=lambda each: (each.created, each.workload))

    def _wait(self, key: str, workload: Workload | None) -> frozenset[str]:
        old = self._demand.pop(key, None)
        new = None
        if workload is not None and waits(workload) and (resources := asked_for(workload)):
            new = Demand(workload.metadata.creation_timestamp, key, workload.spec.queue_name, resources)
            self._demand[key] = new
        return frozenset(each.queue for each in (old, new) if each is not None) if old != new else frozenset()

    def _place(self, key: str, workload: Workload | None) -> None:
        place = None
        if workload is not None and not workload.is_true("Finished"):
            place = (workload.metadata.namespace, workload.spec.queue_name)
        old = self._waiting.pop(key, None)
        if old is not None:
            self._local_queues[old] -= 1
            if not self._local_queues[old]:
                del self._local_queues[old]
        if place is not None:
            self._waiting[key] = place
            self._local_queues[place] += 1

    def _add(self, charge: UsageEntry, sign: int) -> None:
        key = (charge.queue, charge.flavor, charge.resource)
        self._holders[key] += sign
        self._flavors[charge.flavor] += sign
        self.reserved[key] += sign * charge.quantity
        if charge.admitted:
            self.used[key] += sign * charge.quantity
        if not self._holders[key]:
            del self._holders[key], self.reserved[key], self.used[key]
        if not self._flavors[charge.flavor]:
            del self._flavors[charge.flavor]


class NamedPlans:
    """Which objects of the engines say which plan they are of; kept up to date one object at a time.

    Otherwise each look at a plan would ask hundreds of queues. What is in namespaces is left out.
    """

    def __init__(self) -> None:
        self._names: dict[str, dict[str, set[str]]] = {}

    def put(self, name: str, old: Object | None, new: Object | None) -> None:
        """Takes in an object that came, went or changed."""
        document = new or old or {}
        if "namespace" in document["metadata"]:
            return
        by_plan = self._names.setdefault(kind_of(document), {})
        before, after = annotation(old, keys.PLAN), annotation(new, keys.PLAN)
        if before == after:
            return
        if before:
            by_plan[before].discard(name)
            if not by_plan[before]:
                del by_plan[before]
        if after:
            by_plan.setdefault(after, set()).add(name)

    def of(self, kind: str) -> Mapping[str, Set[str]]:
        """The names of a kind's objects, by plan."""
        return self._names.get(kind, _NONE)


@dataclass(frozen=True, slots=True)
class ObservedState:
    """The objects of the engines that stand now, and what they depend on."""

    objects: Mapping[str, Mapping[str, Object]] = field(default_factory=dict)
    """By `Kind.group`, then by name or `namespace/name`."""
    use: QuotaUsage = field(default_factory=QuotaUsage)
    plans: Mapping[str, QuotaPlan | None] | None = None
    """All QuotaPlans by name, None for one that cannot be read; None when they are not known."""
    devices: PublishedDevices = field(default_factory=PublishedDevices)
    """What DRA publishes, and what claims hold of it."""
    class_mappings: tuple[ClassMapping, ...] = ()
    """Of Kueue's configuration, as far as it is known."""
    named: NamedPlans | None = None
    """Kept by those who follow the objects; it changes no result."""

    def of(self, kind: str) -> Mapping[str, Object]:
        """The objects of a kind (`Kind.group`), by name or `namespace/name`."""
        return self.objects.get(kind, _NONE)

    def by_plan(self, kind: str) -> Mapping[str, Set[str]]:
        """The names of a kind's objects by the plan that they say they are of; none in namespaces."""
        named = self.named
        if named is None:
            named = NamedPlans()
            for name, document in self.of(kind).items():
                named.put(name, None, document)
        return named.of(kind)

    @property
    def flavors(self) -> Mapping[str, Object]:
        """Kueue's ResourceFlavors."""
        return self.of(FLAVOR)

    @property
    def cluster_queues(self) -> Mapping[str, Object]:
        """Kueue's ClusterQueues."""
        return self.of(CLUSTER_QUEUE)

    @property
    def local_queues(self) -> Mapping[str, Object]:
        """Kueue's LocalQueues."""
        return self.of(LOCAL_QUEUE)

    @property
    def cohorts(self) -> Mapping[str, Object]:
        """Kueue's Cohorts, whose own quota comes on top of their members'."""
        return self.of(COHORT)

    @property
    def queues(self) -> Mapping[str, Object]:
        """Volcano's Queues."""
        return self.of(VOLCANO_QUEUE)


_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


def copied(document: Object) -> Object:
    """A copy that shares nothing: JSON is much quicker at this than `copy.deepcopy`."""
    found: Object = msgspec.json.decode(msgspec.json.encode(document))
    return found


def annotation(document: Object | None, key: str) -> str:
    """An annotation of an object; "" when there is none."""
    return str(((document or {}).get("metadata", {}).get("annotations") or {}).get(key, ""))


def label(document: Object | None, key: str) -> str:
    """A label of an object; "" when there is none."""
    return str(((document or {}).get("metadata", {}).get("labels") or {}).get(key, ""))


def pool_of(flavor: Object | None) -> str:
    """The pool whose nodes a ResourceFlavor selects; "" when it selects by other labels."""
    return str((((flavor or {}).get("spec") or {}).get("nodeLabels") or {}).get(keys.POOL, ""))
