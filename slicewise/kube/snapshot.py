"""Files of Kubernetes objects, as `kubectl get -o yaml` prints them, and what is found in them.

A snapshot is a List, or documents, in YAML or JSON. Objects of ours and nodes are read into the vocabulary;
all others are kept as they came, by kind. Every complaint names file, document and field.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec

from slicewise.api import keys
from slicewise.api.errors import BadInput
from slicewise.api.policy import (
    PLAN_KIND,
    POLICY_KIND,
    QuotaPlan,
    SlicingPolicy,
    SpecError,
    last_changes,
    read_plan,
    read_policy,
    require_largest_maximum,
)
from slicewise.inventory import gpu_operator
from slicewise.inventory.gpu_operator import Configs
from slicewise.inventory.node import Node
from slicewise.inventory.node_devices import PublishedDevices
from slicewise.inventory.node_state import CUSTOMARY, NodeRules
from slicewise.inventory.pools import Inventory
from slicewise.inventory.served_names import read_device_class
from slicewise.inventory.sources.dra import read_claim, read_slice, read_taint_rule
from slicewise.kube import yaml
from slicewise.kube.object_types import (
    CONFIG_MAP,
    DEVICE_CLASS,
    DEVICE_TAINT_RULE,
    OBJECT_TYPES,
    RESOURCE_CLAIM,
    RESOURCE_SLICE,
    SHAPES,
    kind_of,
)

Object = dict[str, Any]

KUEUE_NAMESPACE: Final = "kueue-system"
"""Where Kueue's manifests and its chart put Kueue."""

# What pools depend on beside nodes must be readable at once.
_SHAPES: Final[dict[str, Callable[[Object], object]]] = {
    CONFIG_MAP: lambda item: msgspec.convert(item, SHAPES[CONFIG_MAP]),
    DEVICE_CLASS: read_device_class,
    DEVICE_TAINT_RULE: read_taint_rule,
    RESOURCE_CLAIM: read_claim,
}


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file."""

    source: str
    number: int
    value: Object

    @property
    def where(self) -> str:
        """Names the document."""
        return f"{self.source}: document {self.number}"

    @property
    def is_list(self) -> bool:
        """True for a List of objects."""
        kind = str(self.value.get("kind", ""))
        group = str(self.value.get("apiVersion", "")).rpartition("/")[0]
        return kind.endswith("List") and ("items" in self.value or group in keys.BUILT_IN)

    def objects(self) -> Iterator[Object]:
        """Yields the object, or each item of a List.

        Raises:
            BadInput: something in it is no Kubernetes object.
        """
        if self.is_list:
            yield from _items(self.where, self.value)
        else:
            yield _checked(self.where, self.value)


def _items(where: str, value: Object) -> Iterator[Object]:
    """Yields the items of a List, and those of a List within it, as kubectl does."""
    items = value.get("items")
    if not isinstance(items, list | None):
        raise BadInput(f"{where}: items: is no list; write the objects as a list")
    of = str(value["kind"]).removesuffix("List")
    for index, each in enumerate(items or ()):
        place = f"{where}: items[{index}]"
        item = each
        if isinstance(item, dict) and of:
            # The items of a typed list, as the API server answers it, leave out what the list says.
            item = {"apiVersion": value.get("apiVersion"), "kind": of, **item}
        item = _checked(place, item)
        if item["kind"] == "List":
            yield from _items(place, item)
        else:
            yield item


def _checked(where: str, value: Any) -> Object:
    if not isinstance(value, dict):
        raise BadInput(f"{where}: is no object; write a Kubernetes object")
    for key in ("apiVersion", "kind"):
        if not isinstance(value.get(key), str) or not value[key]:
            raise BadInput(f"{where}: {key}: is missing; write what `kubectl get -o yaml` prints")
    if not isinstance(value.get("metadata", {}), dict):
        raise BadInput(f"{where}: metadata: is no map; write metadata: {{name: …}}")
    if wrong := _wrong(value.get("metadata", {})):
        raise BadInput(f"{where}: metadata.{wrong}")
    return value


def _wrong(metadata: Object) -> str:
    """Says which field of an object's metadata is not what it is for every kind; "" when all are."""
    for field_name in ("name", "generateName", "namespace"):
        if not isinstance(metadata.get(field_name), str | None):
            return f"{field_name}: {json.dumps(metadata[field_name])} is no text; put it in quotes"
    for field_name in ("labels", "annotations"):
        said = metadata.get(field_name)
        if not isinstance(said, dict | None):
            return f"{field_name}: is no map; write key: value"
        for key, word in (said or {}).items():
            if not isinstance(word, str):
                return f"{field_name}[{key}]: {json.dumps(word)} is no text; put it in quotes"
    owners = metadata.get("ownerReferences")
    if not isinstance(owners, list | None) or not all(isinstance(each, dict) for each in owners or ()):
        return "ownerReferences: is no list of owners; write what `kubectl get -o yaml` prints"
    return ""


def read_text(source: str, text: str) -> list[Document]:
    """Reads the documents of one text.

    Raises:
        BadInput: it is not YAML, or a document is no map.
    """
    try:
        values = yaml.load(text)
    except yaml.YamlError as error:
        if error.document is not None:
            raise BadInput(f"{source}: document {error.document}: {error.problem}") from None
        line = f" at line {error.line}" if error.line else ""
        raise BadInput(f"{source}: is not YAML{line}: {error.problem}; check it with a YAML linter") from None
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise BadInput(f"{source}: document {number}: is no object; write a Kubernetes object or a List")
    return [Document(source, number, value) for number, value in enumerate(values, start=1)]


def read_file(name: str, stdin: TextIO | None) -> list[Document]:
    """Reads a file, the YAML and JSON files of a directory, or standard input (`-`; None: it is closed).

    Raises:
        BadInput: it cannot be read, or holds no objects: whoever names it means that there are some.
    """
    documents = read_documents(name, stdin)
    if not documents:
        source = "standard input" if name == "-" else name
        raise BadInput(f"{source}: holds no objects; give what `kubectl get -o yaml` prints")
    return documents


def read_documents(name: str, stdin: TextIO | None) -> list[Document]:
    """Reads as `read_file` does, of what may hold nothing.

    Raises:
        BadInput: it cannot be read.
    """
    if not name:
        raise BadInput("the name is empty; name a file, a directory, or - for standard input")
    source, path = "standard input" if name == "-" else name, Path(name)
    try:
        if name == "-":
            if stdin is None:
                raise BadInput("standard input: is closed; name a file")
            return read_text(source, stdin.read())
        if path.is_dir():
            inside = sorted(
                p for p in path.rglob("*") if p.suffix in {".yaml", ".yml", ".json"} and p.is_file()
            )
            if not inside:
                raise BadInput(f"{name}: holds no .yaml, .yml or .json file; name a file")
            return [document for each in inside for document in read_documents(str(each), stdin)]
        return read_text(name, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{source}: cannot be read: {error.strerror}; name a file that is there") from None
    except UnicodeDecodeError:
        raise BadInput(f"{source}: is not UTF-8 text; name a YAML or JSON file") from None


class _NamespaceMetadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    labels: dict[str, str] | None = None
    deletion_timestamp: str | None = None


class _Namespace(msgspec.Struct, frozen=True):
    """The fields of a v1 Namespace that anything here reads."""

    metadata: _NamespaceMetadata


@dataclass(slots=True)
class Snapshot:
    """A cluster at one moment."""

    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    """Namespaces that are being deleted: nothing new can be made in them."""
    policies: dict[str, SlicingPolicy] = field(default_factory=dict)
    plans: dict[str, QuotaPlan] = field(default_factory=dict)
    last_changes: dict[str, dict[str, str]] = field(default_factory=dict)
    """By plan and queue, when the quota changed last and why."""
    nodes: list[Node] = field(default_factory=list)
    others: dict[str, list[Object]] = field(default_factory=dict)
    """Every other object, by `Kind.group` (`Pod`, `ClusterQueue.kueue.x-k8s.io`)."""

    rules: NodeRules = CUSTOMARY
    """What is said of the nodes besides what they say themselves."""
    kueue_namespace: str = KUEUE_NAMESPACE
    """Where Kueue's configuration is; what looks like one elsewhere is none. "" for nowhere."""

    @property
    def configs(self) -> Configs:
        """What the GPU operator's files plan for nodes."""
        return gpu_operator.collect(self.of("ConfigMap"))[0]

    @property
    def devices(self) -> PublishedDevices:
        """What DRA publishes."""
        found = PublishedDevices()
        for item in self.of(RESOURCE_SLICE):
            found.put_slice(_name(item), read_slice(item))
        for item in self.of(DEVICE_CLASS):
            found.put_class(_name(item), read_device_class(item))
        for item in self.of(DEVICE_TAINT_RULE):
            found.put_rule(_name(item), read_taint_rule(item))
        for item in self.of(RESOURCE_CLAIM):
            found.put_claim(_key(item), read_claim(item))
        return found

    @property
    def pools(self) -> Inventory:
        """The pools that the nodes make."""
        return Inventory(self.nodes, self.configs, self.rules, self.devices)

    def of(self, kind: str) -> list[Object]:
        """Returns the objects of one `Kind.group`."""
        return self.others.get(kind, [])


def _name(item: Object) -> str:
    return str((item.get("metadata") or {}).get("name", ""))


def _key(item: Object) -> str:
    return f"{(item.get('metadata') or {}).get('namespace', '')}/{_name(item)}"


def check_shape(item: Object, what: str) -> None:
    """Holds an object that is kept as it came to the shape that an API server gives it.

    Raises:
        BadInput: it has another.
    """
    shape = SHAPES.get(kind_of(item))
    if shape is None:
        return
    try:
        msgspec.convert(item, shape)
    except msgspec.ValidationError as error:
        raise BadInput(f"{what}: {error}; give the object as it stands") from None


def collect(documents: Iterable[Document], rules: NodeRules = CUSTOMARY) -> Snapshot:
    """Reads documents into one snapshot; of two objects of one name the later one holds.

    Raises:
        BadInput: an object of ours, a node or a namespace cannot be read.
    """
    found = Snapshot(rules=rules)
    nodes: dict[str, Node] = {}
    for document in documents:
        for index, item in enumerate(document.objects()):
            where = f"{document.where}: items[{index}]" if document.is_list else document.where
            try:
                _take(found, nodes, item)
            except SpecError as error:
                raise BadInput(f"{where}: {error.field}: {error.message}") from None
            except BadInput as error:
                raise BadInput(f"{where}: {error}") from None
            except msgspec.ValidationError as error:
                title = f"{item['kind']} {_name(item)}".strip()
                raise BadInput(f"{where}: {title}: {error}; give the object as it stands") from None
    found.nodes = list(nodes.values())
    return found


def _require_version(item: Object) -> None:
    read = OBJECT_TYPES.get(kind_of(item))
    if read is not None and item["apiVersion"] != read.api_version:
        group, _, version = read.api_version.rpartition("/")
        said = str(item["apiVersion"]).rpartition("/")[2]
        raise BadInput(
            f"{read.kind} {item['metadata'].get('name')} is in version {said}, and only {version} is read; "
            f"get it as kubectl get {read.plural}.{version}.{group} -o yaml prints it"
        )


def _take(found: Snapshot, nodes: dict[str, Node], item: Object) -> None:
    _require_version(item)
    match kind_of(item):
        case "Node":
            node = msgspec.convert(item, Node)
            nodes[node.name] = node
        case "Namespace":
            metadata = msgspec.convert(item, _Namespace).metadata
            found.namespaces[metadata.name] = metadata.labels or {}
            (found.leaving.add if metadata.deletion_timestamp else found.leaving.discard)(metadata.name)
        case kind if kind == f"{POLICY_KIND}.slicewise.io":
            policy = read_policy(item)
            found.policies[policy.name] = policy
        case kind if kind == f"{PLAN_KIND}.slicewise.io":
            plan = read_plan(item)
            require_largest_maximum(plan, found.rules.largest_maximum)
            found.plans[plan.name] = plan
            found.last_changes[plan.name] = dict(last_changes(item))
        case kind:
            if shape := _SHAPES.get(kind):
                shape(item)
            found.others.setdefault(kind, []).append(item)
