"""Finds the pods of a workload in its bytes, as the table of kinds says.

Two routes give the same views: kinds with one template at a fixed path and nothing beside it that matters are
decoded in one pass by a projection made for that path; others are decoded whole. Parts of a pod that stand
outside a pod spec (`slots`) are shown as containers of it, so that a decision sees one pod whatever its kind.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

import msgspec

from admission.kinds import OWN_LABELS, Kind, Means, Rule, rules
from admission.paths import Part as Piece
from admission.paths import Path, escape, parse_paths, places, steps_of
from admission.reading import (
    NO_METADATA,
    Container,
    Inner,
    Metadata,
    Named,
    Part,
    PodSpec,
    PodTemplate,
    Resources,
    Slot,
    Template,
    Workload,
    at,
    metadata_of,
    projection,
)
from admission.table import TABLE
from slicewise import keys

__all__ = ["TABLE", "Kind", "Reader", "Rule", "Templates", "escape", "parse_paths", "places"]

# What an Argo template takes from its workflow where it says nothing itself (workflow_types.go, Template).
_INHERITED: Final = ("affinity", "nodeSelector", "tolerations", "schedulerName")


class Reader:
    """Finds the templates of one kind in the bytes of an object."""

    def __init__(self, kind: Kind, known: "Templates | None" = None) -> None:
        self.kind = kind
        self._known = known
        self._paths = parse_paths(kind.paths)
        self._menders = [(*mender.split(" "), "")[:3] for mender in kind.menders]
        self._decode = None
        if _projectable(kind, self._paths):
            path = self._paths[0]
            self._template = path.letter == "T"
            self._steps = path.steps if self._template else path.steps[:-1]
            self._last = path.steps[-1]
            leaf = PodTemplate if self._template else _holder(self._last)
            self._decode = projection(self._steps, leaf if self._steps else PodSpec).decode

    def read(self, raw: bytes | msgspec.Raw, namespace: str) -> Workload:
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
            self.kind.group,
            self.kind.kind,
            namespace,
            metadata_of(document),
            tuple(self.templates(document)),
            self.kind.queueing,
            document,
            tuple(self.parts(document)),
        )

    def _read_fixed(self, decoded: Any, namespace: str) -> Workload:
        metadata = decoded.metadata or NO_METADATA
        found: tuple[Template, ...] = ()
        if not self._steps:
            if decoded.spec is not None:
                pod = self.kind.kind == "Pod"
                found = (Template("", "/spec", decoded.spec, metadata if pod else None, pod),)
        else:
            holder = at(decoded, self._steps)
            spec = getattr(holder, "spec" if self._template else self._last, None)
            pointer = "/" + "/".join(self._steps)
            if spec is not None and self._template:
                found = (Template(pointer, pointer + "/spec", spec, holder.metadata, True),)
            elif spec is not None:
                found = (Template("", f"{pointer}/{self._last}", spec, None, False),)
        return Workload(self.kind.group, self.kind.kind, namespace, metadata, found, self.kind.queueing)

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
                found = _spread(path, pointer, value, document, self.kind.means)
            elif path.letter == "G":
                yield from self._inner(pointer, value)
                return
            else:
                found = _single(path.parts[0], pointer, value, document, self.kind)
        except msgspec.ValidationError:
            return
        if found is not None:
            yield found

    def _inner(self, pointer: str, value: Any) -> Iterator[Template]:
        reader = self._inside(value)
        if reader is None:
            return
        metadata = metadata_of(value) if "metadata" in value else None
        for each in reader.templates(value):
            yield _moved(each, pointer, Inner(pointer, metadata))

    def _inside(self, value: Any) -> "Reader | None":
        if self._known is None or not isinstance(value, dict):
            return None
        group = str(value.get("apiVersion", "")).rpartition("/")[0]
        reader = self._known.reader(group, str(value.get("kind", "")))
        return None if reader is self else reader  # a nested wrapper is refused by its own webhook

    def parts(self, document: Mapping[str, Any], base: str = "") -> Iterator[Part]:
        """Yields the places whose side fields follow the resource's name."""
        version = str(document.get("apiVersion", ""))
        for name, place, field in self._menders:
            for pointer, value in places(document, steps_of(place)):
                if isinstance(value, dict):
                    yield Part(name, base + pointer, value, version, field)
        for path in self._paths:
            if path.letter == "G":
                for pointer, value in places(document, path.steps):
                    reader = self._inside(value)
                    if reader is not None:
                        yield from reader.parts(value, base + pointer)


def _projectable(kind: Kind, paths: tuple[Path, ...]) -> bool:
    if len(paths) != 1 or kind.menders or kind.means is not Means.NONE:
        return False
    path, queueing = paths[0], kind.queueing
    plain = queueing.kueue in {"", OWN_LABELS.kueue} and not queueing.volcano
    return plain and path.fixed and not path.grouped and path.letter in {"T", "P"}


@cache
def _holder(name: str) -> type[msgspec.Struct]:
    return msgspec.defstruct("Holder", [(name, PodSpec | None, None)], frozen=True)


# --- One pod at one place ---------------------------------------------------------------------------------


def _single(
    piece: Piece, pointer: str, value: Any, document: Mapping[str, Any], kind: Kind
) -> Template | None:
    means = kind.means if kind.means is Means.RECORD else Means.SPEC
    if piece.letter == "T":
        template = msgspec.convert(value, PodTemplate)
        if template.spec is None:
            return None
        return Template(pointer, pointer + "/spec", template.spec, template.metadata, True, means)
    if piece.letter == "P":
        pod = kind.kind == "Pod" and not kind.group
        metadata = metadata_of(document) if pod else None
        return Template("", pointer, msgspec.convert(value, PodSpec), metadata, pod, means)
    if piece.letter == "I":
        metadata = _metadata(value)
        return Template(pointer, pointer, msgspec.convert(value, PodSpec), metadata, True, means)
    if piece.letter == "X":
        return None
    return _bare(pointer, list(_slots(piece, pointer, value, kind.means is Means.TOTAL)), kind.means)


def _bare(pointer: str, found: list[tuple[Container, Slot]], means: Means) -> Template | None:
    if not found:
        return None
    slots = {f"/containers/{index}": slot for index, (_, slot) in enumerate(found)}
    spec = PodSpec(containers=[container for container, _ in found])
    return Template("", pointer, spec, None, False, means, slots)


def _metadata(value: Any) -> Metadata | None:
    return metadata_of(value) if isinstance(value, dict) and "metadata" in value else None


def _moved(each: Template, base: str, inner: Inner) -> Template:
    slots = {key: _moved_slot(slot, base) for key, slot in each.slots.items()}
    return msgspec.structs.replace(
        each,
        pointer=base + each.pointer if each.annotatable else each.pointer,
        spec_pointer=base + each.spec_pointer,
        slots=slots,
        prelude=tuple((base + pointer, value) for pointer, value in each.prelude),
        inner=inner,
    )


def _moved_slot(slot: Slot, base: str) -> Slot:
    named = slot.named
    if named is not None:
        named = msgspec.structs.replace(
            named, pointer=base + named.pointer, name=base + named.name, count=base + named.count
        )
    maps = tuple((base + pointer, amounts) for pointer, amounts in slot.maps)
    return msgspec.structs.replace(slot, maps=maps, named=named)


# --- One pod in several places ----------------------------------------------------------------------------


def _spread(
    path: Path, pointer: str, value: Any, document: Mapping[str, Any], otherwise: Means
) -> Template | None:
    found: list[tuple[Container, Slot]] = []
    holder: Piece | None = None
    for piece in path.parts:
        if piece.letter in {"P", "I"}:
            holder = piece
            continue
        for where, part in places(value, piece.steps, pointer):
            found += _slots(piece, where, part, False)
    if holder is None:
        return _bare(pointer, found, otherwise)
    spec_pointer = "".join((pointer, *(f"/{step}" for step in holder.steps)))
    fields = next((part for _, part in places(value, holder.steps) if isinstance(part, dict)), None)
    prelude: list[tuple[str, Any]] = [] if fields is not None else _missing(value, pointer, holder.steps)
    written, inherited = dict(fields or {}), {}
    for _, base in places(document, holder.base) if holder.base is not None else ():
        inherited = {key: base[key] for key in _INHERITED if key in base and key not in written}
    prelude += [(f"{spec_pointer}/{key}", each) for key, each in inherited.items() if key != "schedulerName"]
    spec = msgspec.convert({**inherited, **written}, PodSpec)
    own = list(spec.containers or ())
    slots = {f"/containers/{len(own) + index}": slot for index, (_, slot) in enumerate(found)}
    spec = msgspec.structs.replace(spec, containers=own + [container for container, _ in found])
    inline = holder.letter == "I"
    metadata = _metadata(fields) if inline else None
    where = spec_pointer if inline else ""
    return Template(where, spec_pointer, spec, metadata, inline, Means.SPEC, slots, tuple(prelude))


def _missing(value: Any, pointer: str, steps: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Returns the objects on the way to a place that are not there, outermost first."""
    found: list[tuple[str, Any]] = []
    for step in steps:
        pointer += f"/{step}"
        value = value.get(step) if isinstance(value, dict) else None
        if not isinstance(value, dict):
            found.append((pointer, {}))
    return found


def _slots(piece: Piece, pointer: str, value: Any, total: bool) -> Iterator[tuple[Container, Slot]]:  # noqa: FBT001
    if piece.letter == "C":
        if isinstance(value, list):
            for index, each in enumerate(value):
                yield from _slots(piece, f"{pointer}/{index}", each, total)
        elif isinstance(value, dict):
            yield _container(piece, pointer, value)
    elif not isinstance(value, dict):
        return
    elif piece.letter == "R":
        yield _requirements(_name(piece, pointer, value), pointer, value)
    elif piece.letter == "M":
        amounts = (
            dict.fromkeys((key for key, each in value.items() if str(each) != "0"), 1) if total else value
        )
        name = _name(piece, pointer, value)
        yield Container(name, Resources(requests=amounts)), Slot(((pointer, value),), total=total)
    elif piece.letter == "N":
        name, count = piece.fields
        if count in value:
            resource = value.get(name) or keys.GPU
            quantity = value[count]
            named = Named(pointer, f"{pointer}/{name}", f"{pointer}/{count}", str(resource), quantity)
            container = Container(_name(piece, pointer, value), Resources(limits={str(resource): quantity}))
            yield container, Slot(named=named)


def _container(piece: Piece, pointer: str, value: dict[str, Any]) -> tuple[Container, Slot]:
    field = piece.fields[0]
    read = msgspec.convert({**value, "name": _name(piece, pointer, value)}, Container)
    resources = value.get(field)
    slot = Slot()
    if isinstance(resources, dict):
        container, slot = _requirements(read.name, f"{pointer}/{field}", resources)
        read = msgspec.structs.replace(read, resources=container.resources)
    return read, slot


def _requirements(name: str, pointer: str, value: dict[str, Any]) -> tuple[Container, Slot]:
    maps = tuple(
        (f"{pointer}/{kind}", value[kind])
        for kind in ("requests", "limits")
        if isinstance(value.get(kind), dict)
    )
    return Container(name, msgspec.convert(value, Resources)), Slot(maps)


def _name(piece: Piece, pointer: str, value: Mapping[str, Any]) -> str:
    own = value.get("name")
    tail = pointer.rpartition("/")[2]
    if piece.letter != "C" or not isinstance(own, str) or not own:
        own = tail if piece.letter != "R" or tail not in {"resources", "computeResources"} else "main"
    return piece.name.replace("*", own) if piece.name else own


class Templates:
    """The table as the webhook uses it: built in, or extended by configuration."""

    def __init__(self, more: Iterable[Kind] = ()) -> None:
        kinds = {(kind.group, kind.kind): kind for kind in (*TABLE, *more)}
        self.kinds: tuple[Kind, ...] = tuple(kinds.values())
        self._readers = {key: Reader(kind, self) for key, kind in kinds.items()}

    def reader(self, group: str, kind: str) -> Reader | None:
        """Returns the reader of a kind; None for a kind that is not in the table."""
        return self._readers.get((group, kind))

    def rules(self) -> list[Rule]:
        """Returns the rules of a webhook configuration that sends every kind that may be rewritten."""
        return rules(self.kinds)
