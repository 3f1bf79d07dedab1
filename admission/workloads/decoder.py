"""Finds the pods of a workload in its bytes, as the table of kinds says.

Two routes give the same views: kinds with one template at a fixed path and nothing beside it that matters are
decoded in one pass by a projection made for that path; others are decoded whole (`views`).
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import msgspec
from typing_extensions import Buffer

from admission.workloads.builtin_kinds import TABLE
from admission.workloads.gist import gist_of
from admission.workloads.kind import OWN_LABELS, Kind, Steering
from admission.workloads.model import (
    NO_METADATA,
    Gist,
    Inner,
    Metadata,
    Part,
    PodSpec,
    PodSpecGist,
    PodTemplate,
    PodTemplateGist,
    Template,
    Workload,
    at,
    metadata_of,
    projection,
)
from admission.workloads.path_language import Path, parse_paths, places, steps_of
from admission.workloads.pod_view import moved, single, spread


class Reader:
    """Finds the templates of one kind in the bytes of an object."""

    def __init__(self, kind: Kind, known: "Templates | None" = None) -> None:
        self.kind = kind
        self._is_pod = kind.is_pod
        self._known = known
        self._paths = parse_paths(kind.paths)
        self._side_fields = [(each.mender, steps_of(each.place), each.field) for each in kind.side_fields]
        self._suspend = steps_of(kind.queueing.suspend)
        self._decode = self._decode_gist = None
        if _projectable(kind, self._paths):
            path = self._paths[0]
            self._template = path.letter == "T"
            self._steps = path.steps if self._template else path.steps[:-1]
            self._last = path.steps[-1]
            leaf = PodTemplate if self._template else _holder(self._last)
            beside = self._suspend[-1] if self._suspend else ""
            self._decode = projection(self._steps, leaf if self._steps else PodSpec, beside).decode
            # Of Kubernetes' own kinds alone the API server has looked at what nobody reads here.
            if kind.built_in and (self._template or self._is_pod):
                leaf = PodTemplateGist if self._steps else PodSpecGist
                self._decode_gist = projection(self._steps, leaf, beside).decode

    def read(self, raw: Buffer, namespace: str) -> Workload:
        """Reads one object.

        Raises:
            msgspec.DecodeError: the bytes are no JSON object with metadata.
        """
        if self._decode is not None:
            try:
                return self._read_fixed(self._decode(raw), namespace)
            except msgspec.ValidationError:
                # A custom resource may hold anything; reading it piece by piece leaves out what is malformed.
                pass
        document = msgspec.json.decode(raw, type=dict[str, Any])
        return Workload(
            self.kind,
            namespace,
            metadata_of(document),
            tuple(self.templates(document)),
            document,
            tuple(self.parts(document)),
            tuple(self._of_unknown_kinds(document)),
            any(value is True for _, value in places(document, self._suspend)),
        )

    def gist(self, raw: Buffer) -> Gist | None:
        """Reads one object as far as it tells what is decided of it; None where it must be read as it is.

        Raises:
            msgspec.DecodeError: the bytes are no JSON.
        """
        if self._decode_gist is None:
            return None
        try:
            return gist_of(self._decode_gist(raw), self._steps, self.kind.queueing.volcano_label)
        except msgspec.ValidationError:
            return None

    def read_gist(self, gist: Gist, namespace: str) -> Workload | None:
        """Reads what is decided of, under the names of its object; None where that must be read as it is."""
        try:
            return (
                self._read_fixed(self._decode(gist.text), namespace, gist.metadata) if self._decode else None
            )
        except msgspec.ValidationError:
            return None

    def _read_fixed(self, decoded: Any, namespace: str, names: Metadata = NO_METADATA) -> Workload:
        metadata = decoded.metadata or NO_METADATA
        if names is not NO_METADATA:
            metadata = msgspec.structs.replace(metadata, name=names.name, generate_name=names.generate_name)
        found: tuple[Template, ...] = ()
        if not self._steps:
            if decoded.spec is not None:
                pod = self._is_pod
                found = (Template("", "/spec", decoded.spec, metadata if pod else None, pod),)
        else:
            holder = at(decoded, self._steps)
            spec = getattr(holder, "spec" if self._template else self._last, None)
            pointer = "/" + "/".join(self._steps)
            if spec is not None and self._template:
                found = (Template(pointer, pointer + "/spec", spec, holder.metadata, True),)
            elif spec is not None:
                found = (Template("", f"{pointer}/{self._last}", spec, None, False),)
        suspended = bool(self._suspend) and at(decoded, self._suspend) is True
        return Workload(self.kind, namespace, metadata, found, suspended=suspended)

    def templates(self, document: Mapping[str, Any]) -> Iterator[Template]:
        """Yields the pods of a whole document; what is malformed is left out."""
        seen = set()
        for path in self._paths:
            for pointer, value in places(document, path.steps):
                for template in self._of(path, pointer, value, document):
                    key = (template.spec_pointer, tuple(template.slots))
                    if key not in seen:
                        seen.add(key)
                        yield template

    def _of(self, path: Path, pointer: str, value: Any, document: Mapping[str, Any]) -> Iterator[Template]:
        try:
            if path.grouped:
                found = spread(path, pointer, value, document, self.kind.means)
            elif path.letter == "G":
                yield from self._inner(pointer, value)
                return
            else:
                found = single(path.parts[0], pointer, value, document, self.kind)
        except msgspec.ValidationError:
            return
        if found is not None:
            yield found

    def _inner(self, pointer: str, value: Any) -> Iterator[Template]:
        reader = self._inside(value)
        if reader is None:
            return
        metadata = metadata_of(value) if isinstance(value.get("metadata"), dict) else None
        inner = Inner(pointer, metadata, reader.kind, value)
        for each in reader.templates(value):
            yield moved(each, pointer, inner)

    def _of_unknown_kinds(self, document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for path in self._paths:
            if path.letter == "G":
                for pointer, value in places(document, path.steps):
                    if (
                        isinstance(value, dict)
                        and self._known
                        and self._known.reader(*_group_kind(value)) is None
                    ):
                        yield pointer, value

    def _inside(self, value: Any) -> "Reader | None":
        if self._known is None or not isinstance(value, dict):
            return None
        reader = self._known.reader(*_group_kind(value))
        return None if reader is self else reader  # a nested wrapper is refused by its own webhook

    def parts(self, document: Mapping[str, Any], base: str = "") -> Iterator[Part]:
        """Yields the places whose side fields follow the resource's name."""
        version = str(document.get("apiVersion", ""))
        for mender, steps, field in self._side_fields:
            for pointer, value in places(document, steps):
                if isinstance(value, dict):
                    yield Part(mender, base + pointer, value, version, field)
        for path in self._paths:
            if path.letter == "G":
                for pointer, value in places(document, path.steps):
                    reader = self._inside(value)
                    if reader is not None:
                        yield from reader.parts(value, base + pointer)


def _group_kind(document: Mapping[str, Any]) -> tuple[str, str]:
    return str(document.get("apiVersion", "")).rpartition("/")[0], str(document.get("kind", ""))


def _projectable(kind: Kind, paths: tuple[Path, ...]) -> bool:
    if len(paths) != 1 or kind.side_fields or kind.means is not Steering.NONE:
        return False
    path, queueing = paths[0], kind.queueing
    plain = queueing.kueue in {"", OWN_LABELS.kueue} and not queueing.volcano
    plain = plain and queueing.suspend in {"", f"{''.join(path.steps[:1])}.suspend"}
    return plain and path.fixed and not path.grouped and path.letter in {"T", "P"}


@cache
def _holder(name: str) -> type[msgspec.Struct]:
    return msgspec.defstruct("Holder", [(name, PodSpec | None, None)], frozen=True)


class Templates:
    """The table as the webhook uses it: built in, or extended by configuration."""

    def __init__(self, more: Iterable[Kind] = ()) -> None:
        self._kinds = {(kind.group, kind.kind): kind for kind in (*TABLE, *more)}
        self._readers: dict[tuple[str, str], Reader] = {}

    def reader(self, group: str, kind: str) -> Reader | None:
        """Returns the reader of a kind; None for a kind that is not in the table."""
        key = (group, kind)
        found = self._readers.get(key)
        if found is None and key in self._kinds:
            # Made when it is first asked for: the command asks for one of some seventy.
            found = self._readers[key] = Reader(self._kinds[key], self)
        return found
