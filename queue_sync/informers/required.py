"""What the controller watches: one informer a kind, each with a projection that drops what changes by itself.

A heartbeat, a status of Kueue's or a new resourceVersion changes no projection, so it is no event. Collections of
engines that are not installed are optional: they count as synced and empty, and are asked for again now and then.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, Generic, TypeVar

import msgspec

from queue_sync.planning.observed import (
    NamedPlans,
    Object,
    ObservedState,
    QuotaUsage,
    Workload,
    decode_workload,
    project,
    without_status,
)
from slicewise.api import keys
from slicewise.api.policy import (
    API_VERSION,
    PLAN_KIND,
    Engine,
    QuotaPlan,
    SpecError,
    read_plan,
    require_largest_maximum,
)
from slicewise.api.quantities import MOST, QuantityError, count
from slicewise.inventory.node import Node
from slicewise.inventory.node_devices import PublishedDevices
from slicewise.kube.client import Client
from slicewise.kube.device_informers import DeviceInformers
from slicewise.kube.informer import Informer
from slicewise.kube.informer_types import Change, WatchSettings
from slicewise.kube.object_types import (
    ENGINE_OBJECTS,
    OBJECT_TYPES,
    WORKLOAD,
    ObjectType,
    kind_of,
)

CORE: Final = "/api/v1"
OWN: Final = f"/apis/{API_VERSION}"

T = TypeVar("T")
_KEPT_VALUES: Final = 64
SHARED_TEXTS: Final = 16_384
"""Texts that are shared at most: those that were seen last."""
_LONG: Final = 256
"""Characters; longer ones, such as what a plan owns of a queue, are one object's and change with its numbers."""
_decode_node = msgspec.json.Decoder(Node).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_decode_parts = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_status = msgspec.json.Decoder(dict[str, Any] | None).decode
_NULL: Final = msgspec.Raw(b"null")


def _plan(document: dict[str, Any], largest_maximum: int) -> QuotaPlan:
    """What a plan says."""
    plan = read_plan(document)
    require_largest_maximum(plan, largest_maximum)
    return plan


class Record(msgspec.Struct, Generic[T], frozen=True):
    """A policy or a plan as it stands: what it says or why it cannot be used, and the status that it shows."""

    name: str
    uid: str
    generation: int
    value: T | None
    error: str
    status: Object
    deleting: bool = False
    finalizers: tuple[str, ...] = ()
    maximum: Object = {}
    """`spec.maximum` as far as it can be read, also where the rest cannot."""


def only_status_changed(change: Change[Record[T]]) -> bool:
    """True when an object of ours says the same as before, and somebody wrote its status, or took it away."""
    old, new = change.old, change.new
    return (
        old is not None
        and new is not None
        and (old.value, old.error, old.generation) == (new.value, new.error, new.generation)
        and (old.deleting, old.finalizers) == (new.deleting, new.finalizers)
    )


class Namespace(msgspec.Struct, frozen=True, gc=False):
    """A namespace's labels."""

    labels: dict[str, str]
    deleting: bool


def labels_changed(change: Change[Namespace]) -> frozenset[str] | None:
    """The keys of a namespace's labels that changed; None where it came, went, or began to go."""
    old, new = ({} if each is None or each.deleting else each.labels for each in (change.old, change.new))
    there, still = (each is not None and not each.deleting for each in (change.old, change.new))
    if there is not still:
        return None
    return frozenset(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def in_namespace(change: Change[Object]) -> bool:
    """True for an engine's object that is in a namespace: it passes quota on, and has none of its own."""
    return "namespace" in (change.new or change.old or {})["metadata"]


def once(value: Any) -> Any:
    """The same, each of its short texts in memory once: most are the same in thousands of objects."""
    if isinstance(value, str):
        return value if len(value) > _LONG else _shared(value)
    if isinstance(value, dict):
        return {once(key): once(each) for key, each in value.items()}
    return [once(each) for each in value] if isinstance(value, list) else value


@lru_cache(maxsize=SHARED_TEXTS)
def _shared(text: str) -> str:
    """The one that was seen first. Not `sys.intern`: what comes and goes, early releases of Python 3.12 never free.

    Source: python/cpython#113993; mended in later ones by python/cpython#123065.
    """
    return text


def decode_node(raw: msgspec.Raw) -> Node:
    """A node without its other annotations and its version, which change all the time."""
    return without_noise(_decode_node(raw))


def without_noise(node: Node) -> Node:
    """The part of a node that a belief depends on."""
    metadata, status = node.metadata, node.status
    notes = metadata.annotations or {}
    kept = {keys.OFFER: notes[keys.OFFER]} if keys.OFFER in notes else None
    ready = tuple(each for each in status.conditions or () if each.type == "Ready")
    replace = msgspec.structs.replace
    return replace(
        node,
        metadata=replace(metadata, labels=once(metadata.labels), annotations=kept, resource_version=""),
        status=replace(
            status, capacity=once(status.capacity), allocatable=once(status.allocatable), conditions=ready
        ),
    )


def record_of(kind: str, read: Callable[[Object], T]) -> Callable[[msgspec.Raw], Record[T]]:
    """A decoder of our own objects; one that breaks a rule is a record too, so that it can be told.

    An object that says the same as before has the very same value, so that what was worked out of it stands, and so
    that a write of its status does not have its rules checked anew.
    """

    @lru_cache(maxsize=_KEPT_VALUES)
    def read_text(text: bytes) -> tuple[T | None, str, Object]:
        document = _decode_object(text)
        sizes = _sizes(document)
        try:
            return read(document), "", sizes
        except SpecError as problem:
            return None, f"{problem.field}: {problem.message}", sizes

    def decode(raw: msgspec.Raw) -> Record[T]:
        parts: Object = {"apiVersion": API_VERSION, "kind": kind, **_decode_parts(raw)}
        metadata = _decode_object(parts["metadata"])
        status = _decode_status(parts.get("status", _NULL)) or {}
        said = ("name", "creationTimestamp", "deletionTimestamp")
        identity = {key: metadata[key] for key in said if key in metadata}
        value, error, maximum = read_text(
            msgspec.json.encode({**parts, "metadata": identity, "status": None})
        )
        generation = int(metadata.get("generation") or 0)
        return Record(
            metadata["name"],
            metadata.get("uid", ""),
            generation,
            value,
            error,
            status,
            deleting=bool(metadata.get("deletionTimestamp")),
            finalizers=tuple(metadata.get("finalizers") or ()),
            maximum=maximum,
        )

    return decode


def _sizes(document: Object) -> Object:
    """The sizes of autoscaled pools that are readable, whatever else of the plan is not."""
    spec = document.get("spec")
    sizes = spec.get("maximum") if isinstance(spec, dict) else None
    found: Object = {}
    for glob, resources in sizes.items() if isinstance(sizes, dict) else ():
        for name, quantity in resources.items() if isinstance(resources, dict) else ():
            with suppress(QuantityError):
                found.setdefault(glob, {})[name] = count(quantity)
    return found


def decode_namespace(raw: msgspec.Raw) -> Namespace:
    """A namespace."""
    metadata = _decode_object(raw)["metadata"]
    return Namespace(once(metadata.get("labels") or {}), bool(metadata.get("deletionTimestamp")))


def decode_for(api_version: str, kind: str) -> Callable[[msgspec.Raw], Object]:
    """A decoder of an engine's objects; list items leave out their kind, which is put back."""

    def decode(raw: msgspec.Raw) -> Object:
        found = project({**_decode_object(raw), "apiVersion": api_version, "kind": kind})
        metadata = found["metadata"]
        metadata |= {part: once(metadata[part]) for part in ("labels", "annotations") if part in metadata}
        return {**found, "spec": once(found["spec"])}

    return decode


@dataclass(frozen=True, slots=True)
class Handlers:
    """What to call when something changed."""

    node: Callable[[Change[Node]], None]
    plan: Callable[[Change[Record[QuotaPlan]]], None]
    namespace: Callable[[Change[Namespace]], None]
    document: Callable[[Change[Object]], None]
    workload: Callable[[Change[Workload]], None]
    devices: Callable[[frozenset[str]], None]
    """(nodes whose published devices changed)"""
    claims: Callable[[], None]
    """Claims hold other devices than before."""
    malformed: Callable[[str, str, Exception], None]
    """(kind, key, error)"""


class RequiredInformers:
    """All informers."""

    def __init__(
        self,
        client: Client,
        handlers: Handlers,
        devices: PublishedDevices,
        settings: WatchSettings | None = None,
        largest_maximum: int = MOST,
    ) -> None:
        def told(kind: str) -> Callable[[str, Exception], None]:
            return lambda key, error: handlers.malformed(kind, key, error)

        def named(change: Change[Object]) -> None:
            self._named.put(change.key, change.old, change.new)

        def standing(of: ObjectType, *, versions: bool) -> Informer[Object]:
            path, version, kind = of.collection
            return Informer(
                client,
                path,
                decode_for(version, kind),
                on_change=handlers.document,
                index=None if of.namespaced else named,
                on_malformed=told(kind),
                optional=True,
                versions=versions,
                settings=settings,
            )

        self.nodes = Informer(
            client,
            f"{CORE}/nodes",
            decode_node,
            on_change=handlers.node,
            on_malformed=told("Node"),
            versions=True,
            settings=settings,
        )
        self.plans = Informer(
            client,
            f"{OWN}/quotaplans",
            record_of(PLAN_KIND, partial(_plan, largest_maximum=largest_maximum)),
            on_change=handlers.plan,
            on_malformed=told(PLAN_KIND),
            versions=True,
            settings=settings,
        )
        self.namespaces = Informer(
            client, f"{CORE}/namespaces", decode_namespace, on_change=handlers.namespace, settings=settings
        )
        self._named = NamedPlans()
        # Of what is in namespaces there is too much to keep the version of each.
        self._standing = {
            each.name: standing(each, versions=each in objects.written and not each.namespaced)
            for objects in ENGINE_OBJECTS.values()
            for each in objects.standing
        }
        self.devices = devices
        self._devices = DeviceInformers(client, devices, handlers.devices, settings, handlers.claims)
        self.workloads = Informer(
            client,
            OBJECT_TYPES[WORKLOAD].collection[0],
            decode_workload,
            on_change=handlers.workload,
            on_malformed=told("Workload"),
            optional=True,
            settings=settings,
        )
        self._by_type: Mapping[str, Informer[Any]] = {**self._standing, WORKLOAD: self.workloads}

    def __iter__(self) -> Iterator[Informer[Any]]:
        """Yields every informer."""
        yield from (self.nodes, self.plans, self.namespaces)
        yield from self._by_type.values()
        yield from self._devices

    async def synced(self) -> None:
        """Returns once each informer holds a whole list, or knows that there is none to be had."""
        for informer in self:
            await informer.synced()

    def why_not(self) -> str:
        """Why what is watched cannot be trusted to follow the cluster; "" when it can."""
        return "; ".join(informer.healthy().sentence for informer in self if not informer.healthy().ok)

    def observed(self, use: QuotaUsage) -> ObservedState:
        """What stands, live, and what Workloads use of it."""
        return ObservedState(
            {name: informer.store for name, informer in self._standing.items()},
            use,
            {name: record.value for name, record in self.plans.store.items()},
            self.devices,
            named=self._named,
        )

    def version_of(self, standing: Object) -> str:
        """The resourceVersion at which an engine's object says just this; "" when another state of it was seen last."""
        informer = self._standing[kind_of(standing)]
        metadata = standing["metadata"]
        key = "/".join(metadata[part] for part in ("namespace", "name") if part in metadata)
        same = without_status(informer.store.get(key)) == without_status(standing)
        return informer.version(key) if same else ""

    def missing(self, engine: Engine) -> str:
        """Says what to install, where a kind of an engine's that quota depends on is not served; else ""."""
        objects = ENGINE_OBJECTS[engine]
        if all(self._by_type[each.name].is_served for each in (*objects.written, *objects.use)):
            return ""
        return f"/apis/{objects.quota.api_version} is not served by this cluster; install {objects.install}"
