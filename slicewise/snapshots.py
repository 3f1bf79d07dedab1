"""Files of Kubernetes objects, as `kubectl get -o yaml` prints them, and what is found in them.

A snapshot is a List, or documents, in YAML or JSON. Objects of ours and nodes are read into the vocabulary;
all others are kept as they came, by kind. Every complaint names file, document and field.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import msgspec
import yaml

from slicewise.nodes.projection import Node
from slicewise.policy import (
    PLAN_KIND,
    POLICY_KIND,
    QuotaPlan,
    SlicingPolicy,
    SpecError,
    read_plan,
    read_policy,
)
from slicewise.pools import Inventory

Object = dict[str, Any]


class BadInput(ValueError):  # noqa: N818  it is the caller's mistake, and named for it
    """A file that cannot be used: one line with file, document, field, what is wrong and what would be right."""


class _Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: timestamps stay text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
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
        return str(self.value.get("kind", "")).endswith("List") and isinstance(self.value.get("items"), list)

    def objects(self) -> Iterator[Object]:
        """Yields the object, or each item of a List.

        Raises:
            BadInput: something in it is no Kubernetes object.
        """
        if not self.is_list:
            yield _checked(self.where, self.value)
            return
        of = str(self.value["kind"]).removesuffix("List")
        for index, item in enumerate(self.value["items"]):
            where = f"{self.where}: items[{index}]"
            if isinstance(item, dict) and of:
                # The items of a typed list, as the API server answers it, leave out what the list says.
                item = {"apiVersion": self.value.get("apiVersion"), "kind": of, **item}  # noqa: PLW2901
            yield _checked(where, item)


def _checked(where: str, value: Any) -> Object:
    if not isinstance(value, dict):
        raise BadInput(f"{where}: is a {type(value).__name__}, not an object; write a Kubernetes object")
    for key in ("apiVersion", "kind"):
        if not isinstance(value.get(key), str) or not value[key]:
            raise BadInput(f"{where}: {key}: is missing; write what `kubectl get -o yaml` prints")
    if not isinstance(value.get("metadata", {}), dict):
        raise BadInput(f"{where}: metadata: is no map; write metadata: {{name: …}}")
    return value


def read_text(source: str, text: str) -> list[Document]:
    """Reads the documents of one text.

    Raises:
        BadInput: it is not YAML, or a document is no map.
    """
    try:
        values = list(yaml.load_all(text, Loader=_Loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise BadInput(f"{source}: is not YAML{line}: {problem}; check it with a YAML linter") from None
    documents = []
    for number, value in enumerate((v for v in values if v is not None), start=1):
        if not isinstance(value, dict):
            raise BadInput(f"{source}: document {number}: is no object; write a Kubernetes object or a List")
        try:
            documents.append(Document(source, number, _unshared(value) if "&" in text else value))
        except RecursionError:
            raise BadInput(
                f"{source}: document {number}: holds itself; write out what the alias means"
            ) from None
    return documents


def _unshared(value: Any) -> Any:
    """Copies what YAML aliases share: two places that were written alike are patched one by one."""
    if isinstance(value, dict):
        return {key: _unshared(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_unshared(each) for each in value]
    return value


def read_file(name: str, stdin: TextIO) -> list[Document]:
    """Reads a file, the YAML and JSON files of a directory, or standard input (`-`).

    Raises:
        BadInput: it cannot be read.
    """
    if name == "-":
        return read_text("standard input", stdin.read())
    path = Path(name)
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.suffix in {".yaml", ".yml", ".json"} and p.is_file())
        if not inside:
            raise BadInput(f"{name}: holds no .yaml, .yml or .json file; name a file")
        return [document for each in inside for document in read_file(str(each), stdin)]
    try:
        return read_text(name, path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{name}: cannot be read: {error.strerror}; name a file that is there") from None
    except UnicodeDecodeError:
        raise BadInput(f"{name}: is not UTF-8 text; name a YAML or JSON file") from None


class _NamespaceMetadata(msgspec.Struct, frozen=True):
    name: str
    labels: dict[str, str] | None = None


class _Namespace(msgspec.Struct, frozen=True):
    """The fields of a v1 Namespace that anything here reads."""

    metadata: _NamespaceMetadata


@dataclass(slots=True)
class Snapshot:
    """A cluster at one moment."""

    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    policies: dict[str, SlicingPolicy] = field(default_factory=dict)
    plans: dict[str, QuotaPlan] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    others: dict[str, list[Object]] = field(default_factory=dict)
    """Every other object, by `Kind.group` (`Pod`, `ClusterQueue.kueue.x-k8s.io`)."""

    @property
    def pools(self) -> Inventory:
        """The pools that the nodes make."""
        return Inventory(self.nodes)

    def of(self, kind: str) -> list[Object]:
        """Returns the objects of one `Kind.group`."""
        return self.others.get(kind, [])


def kind_of(item: Object) -> str:
    """Returns `Kind.group` of an object, `Kind` alone for the core group."""
    group = str(item["apiVersion"]).rpartition("/")[0]
    return f"{item['kind']}.{group}" if group else str(item["kind"])


def collect(documents: Iterable[Document]) -> Snapshot:
    """Reads documents into one snapshot; of two objects of one name the later one holds.

    Raises:
        BadInput: an object of ours, a node or a namespace cannot be read.
    """
    found = Snapshot()
    nodes: dict[str, Node] = {}
    for document in documents:
        for index, item in enumerate(document.objects()):
            where = f"{document.where}: items[{index}]" if document.is_list else document.where
            try:
                _take(found, nodes, item)
            except SpecError as error:
                raise BadInput(f"{where}: {error.field}: {error.message}") from None
            except msgspec.ValidationError as error:
                raise BadInput(f"{where}: {item['kind']}: {error}; give the object as it stands") from None
    found.nodes = list(nodes.values())
    return found


def _take(found: Snapshot, nodes: dict[str, Node], item: Object) -> None:
    match kind_of(item):
        case "Node":
            node = msgspec.convert(item, Node)
            nodes[node.name] = node
        case "Namespace":
            metadata = msgspec.convert(item, _Namespace).metadata
            found.namespaces[metadata.name] = metadata.labels or {}
        case kind if kind == f"{POLICY_KIND}.slicewise.io":
            policy = read_policy(item)
            found.policies[policy.name] = policy
        case kind if kind == f"{PLAN_KIND}.slicewise.io":
            plan = read_plan(item)
            found.plans[plan.name] = plan
        case kind:
            found.others.setdefault(kind, []).append(item)
