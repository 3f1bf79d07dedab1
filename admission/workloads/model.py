"""The fields of a workload that a decision reads, decoded straight from the bytes that came.

Everything else is skipped while decoding and never touched: patches are written against paths, so unknown
fields survive.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from admission.workloads.kind import Kind, Queueing, Steering


class Owner(Struct, frozen=True, rename="camel"):
    """An owner reference."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    controller: bool = False
    uid: str = ""

    @property
    def group_kind(self) -> str:
        """`Kind.group`, the kind alone for the core group."""
        group = self.api_version.partition("/")[0] if "/" in self.api_version else ""
        return f"{self.kind}.{group}".rstrip(".")


class Metadata(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What is read of an object's or a template's metadata."""

    name: str | None = None
    generate_name: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[Owner] | None = None

    @property
    def controller(self) -> Owner | None:
        """The owner that controls the object."""
        for owner in self.owner_references or ():
            if owner.controller:
                return owner
        return None

    def label(self, key: str) -> str | None:
        """Returns one label."""
        return self.labels.get(key) if self.labels else None

    def annotation(self, key: str) -> str | None:
        """Returns one annotation."""
        return self.annotations.get(key) if self.annotations else None


NO_METADATA: Final = Metadata()


class Resources(Struct, frozen=True):
    """Resource requirements; values are quantities as they were written."""

    requests: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None


class Variable(Struct, frozen=True, omit_defaults=True):
    """An environment variable, as far as it is said outright."""

    name: str = ""
    value: str | None = None


class Mount(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Where a volume is mounted."""

    name: str = ""
    mount_path: str = ""


class Volume(Struct, frozen=True, omit_defaults=True):
    """A volume, as far as it is one of the host's."""

    name: str = ""
    host_path: Any = field(name="hostPath", default=None)


class Container(Struct, frozen=True):
    """What is read of a container."""

    name: str = ""
    resources: Resources | None = None
    env: list[Variable] | None = None
    volume_mounts: list[Mount] | None = field(name="volumeMounts", default=None)
    restart_policy: str | None = field(name="restartPolicy", default=None)
    """Of an init container: `Always` makes it a sidecar."""


class Expression(Struct, frozen=True, omit_defaults=True):
    """A node selector requirement."""

    key: str
    operator: str
    values: list[str] | None = None


class Term(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One alternative of a node selector."""

    match_expressions: list[Expression] | None = None
    match_fields: list[Expression] | None = None


class NodeSelector(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """Required node affinity: alternatives."""

    node_selector_terms: list[Term] | None = None


class NodeAffinity(Struct, frozen=True, omit_defaults=True):
    """What is read of node affinity."""

    required: NodeSelector | None = field(name="requiredDuringSchedulingIgnoredDuringExecution", default=None)
    preferred: Any = field(name="preferredDuringSchedulingIgnoredDuringExecution", default=None)
    """Weighed terms, as they were written."""


class Affinity(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """What is read of affinity."""

    node_affinity: NodeAffinity | None = None


class Toleration(Struct, frozen=True, omit_defaults=True):
    """A toleration."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


class PodSpec(Struct, frozen=True, rename="camel"):
    """What is read of a pod spec."""

    containers: list[Container] | None = None
    init_containers: list[Container] | None = None
    node_name: str | None = None
    node_selector: dict[str, str] | None = None
    affinity: Affinity | None = None
    tolerations: list[Toleration] | None = None
    scheduler_name: str | None = None
    volumes: list[Volume] | None = None
    resource_claims: Any = None
    """Claims of devices, as they were written."""
    resources: Any = None
    """Of the pod as a whole; where a kind keeps pod fields inline, whatever it keeps under this name."""
    host_ipc: bool | None = field(name="hostIPC", default=None)


class PodTemplate(Struct, frozen=True):
    """A pod template: metadata and spec."""

    metadata: Metadata | None = None
    spec: PodSpec | None = None


class MountGist(Struct, omit_defaults=True, rename="camel"):
    """A mount, without the name of its volume, which each pod may have for itself (`kube-api-access-…`)."""

    mount_path: Raw | UnsetType = UNSET


class ContainerGist(Struct, omit_defaults=True, rename="camel"):
    """A container as its bytes, each member apart."""

    name: Raw | UnsetType = UNSET
    resources: Raw | UnsetType = UNSET
    env: Raw | UnsetType = UNSET
    volume_mounts: list[MountGist] | None = None
    restart_policy: Raw | UnsetType = UNSET


class PodSpecGist(Struct, omit_defaults=True, rename="camel"):
    """A pod spec as its bytes, likewise."""

    containers: list[ContainerGist] | None = None
    init_containers: list[ContainerGist] | None = None
    node_name: Raw | UnsetType = UNSET
    node_selector: Raw | UnsetType = UNSET
    affinity: Raw | UnsetType = UNSET
    tolerations: Raw | UnsetType = UNSET
    scheduler_name: Raw | UnsetType = UNSET
    volumes: Raw | UnsetType = UNSET
    resource_claims: Raw | UnsetType = UNSET
    resources: Raw | UnsetType = UNSET
    host_ipc: Raw | UnsetType = field(name="hostIPC", default=UNSET)


class PodTemplateGist(Struct, omit_defaults=True):
    """A pod template: metadata, and the spec as its bytes."""

    metadata: Metadata | None = None
    spec: PodSpecGist | None = None


class Gist(Struct, frozen=True):
    """What a decision reads of a new object, apart from whose it is."""

    metadata: Metadata
    """Its own, all of it."""
    text: bytes
    """JSON of an object of its kind. All of which it is the same get the same, as far as nothing has to be said of
    them, for which they would need names."""


class Named(Struct, frozen=True):
    """Two fields of an object that hold a resource's name and how many are asked."""

    name: str
    count: str
    """JSON pointers of the fields."""
    resource: str
    """The name as it is."""
    quantity: Any


class Slot(Struct, frozen=True):
    """A container that the kind keeps outside a pod spec, or a part of one: where it is written to."""

    maps: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Resource maps: JSON pointer and what they hold."""
    named: tuple[Named, ...] = ()
    total: bool = False
    """True where quantities are totals over pods, and stay as they are."""


class Inner(Struct, frozen=True):
    """The object with a kind of its own that holds a template within a workload."""

    pointer: str
    metadata: Metadata | None
    row: Kind
    document: Mapping[str, Any]


class Template(Struct, frozen=True):
    """One pod template of a workload and where it stands."""

    pointer: str
    """JSON pointer of the object that holds `spec` (and `metadata`); "" for a Pod itself."""
    spec_pointer: str
    spec: PodSpec
    metadata: Metadata | None
    """None where the template has none yet, or the kind keeps no metadata beside its pod spec."""
    annotatable: bool
    """True when `metadata` may be written at `pointer`."""
    means: Steering = Steering.SPEC
    """What keeps its pods to their pools."""
    slots: Mapping[str, Slot] = {}
    """Containers that are not in the pod spec, by the pointer that they have in `spec`."""
    prelude: tuple[tuple[str, Any], ...] = ()
    """Members to be added (pointer, value) before anything is written beneath them."""
    inner: Inner | None = None

    @property
    def said(self) -> Metadata | None:
        """The labels and annotations that speak for its pods: those of an inner object, then its own."""
        if self.inner is None or self.inner.metadata is None:
            return self.metadata
        own, outer = self.metadata or NO_METADATA, self.inner.metadata
        return Metadata(
            labels={**(own.labels or {}), **(outer.labels or {})},
            annotations={**(own.annotations or {}), **(outer.annotations or {})},
        )


class Part(Struct, frozen=True):
    """One place of an object whose side fields a mender looks after."""

    mender: str
    pointer: str
    value: Mapping[str, Any]
    api_version: str
    field: str = ""
    """The place beneath it that a mender for any field looks after."""


class Workload(Struct, frozen=True):
    """One object as it came: what it is called, its metadata and its templates."""

    row: Kind
    """What the table says of its kind."""
    namespace: str
    metadata: Metadata
    templates: tuple[Template, ...]
    document: Mapping[str, Any] = {}
    """The whole object; empty for kinds of which no more is read than their one template."""
    parts: tuple[Part, ...] = ()
    of_unknown_kinds: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Objects within it whose kind is not known here, each with its JSON pointer."""
    suspended: bool = False
    """True when the field by which Kueue keeps it from running says so."""

    @property
    def kind(self) -> str:
        """Its kind, without the group."""
        return self.row.kind

    @property
    def queueing(self) -> Queueing:
        """Where the engines read its queue."""
        return self.row.queueing

    @property
    def title(self) -> str:
        """The object in words, as sentences name it."""
        name = self.metadata.name or f"{self.metadata.generate_name or '(unnamed)'}*"
        return f"{self.kind} {self.namespace}/{name}" if self.namespace else f"{self.kind} {name}"


class _Root(Struct, frozen=True):
    metadata: Metadata = NO_METADATA


@cache
def projection(path: tuple[str, ...], leaf: type[Struct], beside: str = "") -> msgspec.json.Decoder[Any]:
    """Returns a decoder that reads metadata, the template at one fixed path of an object, and a flag `beside` the
    second step of the path."""
    if not path:
        return msgspec.json.Decoder(msgspec.defstruct("Bare", [("spec", leaf | None, None)], bases=(_Root,)))
    inner: Any = leaf
    for depth, name in enumerate(reversed(path[1:])):
        fields: list[tuple[str, Any, Any]] = [(name, inner | None, None)]
        if beside and depth == len(path) - 2:
            fields.append((beside, bool | None, None))
        inner = msgspec.defstruct(f"Level{depth}", fields, frozen=True)
    return msgspec.json.Decoder(
        msgspec.defstruct("Object", [(path[0], inner | None, None)], bases=(_Root,), frozen=True)
    )


def at(value: Any, path: tuple[str, ...]) -> Any:
    """Follows attribute names through decoded projections; None where one is absent."""
    for name in path:
        if value is None:
            return None
        value = getattr(value, name)
    return value


def metadata_of(document: Mapping[str, Any]) -> Metadata:
    """Reads the metadata of a whole document; `NO_METADATA` itself where it has none.

    Raises:
        msgspec.ValidationError: the metadata is not an object's.
    """
    found = document.get("metadata")
    return NO_METADATA if found is None else msgspec.convert(found, Metadata)
