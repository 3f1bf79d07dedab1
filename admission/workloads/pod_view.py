"""One line of the table and one place in a document -> the pod that it is a view of.  Pure.

Parts of a pod that stand outside a pod spec (`slots`) are shown as containers of it, so that a decision sees
one pod whatever its kind; what is written goes to where the part was read.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from admission.workloads.kind import Kind, Steering
from admission.workloads.model import (
    Container,
    Inner,
    Metadata,
    Named,
    PodSpec,
    PodTemplate,
    Resources,
    Slot,
    Template,
    metadata_of,
)
from admission.workloads.path_language import Path, Piece, places
from slicewise.api import keys
from slicewise.api.quantities import equal

# --- One pod at one place ---------------------------------------------------------------------------------


def single(
    piece: Piece, pointer: str, value: Any, document: Mapping[str, Any], kind: Kind
) -> Template | None:
    """Returns the pod of a line with one part; None where there is none.

    Raises:
        msgspec.ValidationError: the place is malformed.
    """
    means = kind.means if kind.means is Steering.RECORD else Steering.SPEC
    if piece.letter == "T":
        template = msgspec.convert(value, PodTemplate)
        if template.spec is None:
            return None
        return Template(pointer, pointer + "/spec", template.spec, template.metadata, True, means)
    if piece.letter == "P":
        metadata = metadata_of(document) if kind.is_pod else None
        return Template("", pointer, msgspec.convert(value, PodSpec), metadata, kind.is_pod, means)
    if piece.letter == "I":
        metadata = _metadata(value)
        return Template(pointer, pointer, msgspec.convert(value, PodSpec), metadata, True, means)
    if piece.letter == "X":
        return None
    return _bare(pointer, list(_slots(piece, pointer, value, total=kind.means is Steering.TOTAL)), kind.means)


def _bare(pointer: str, found: list[tuple[Container, Slot]], means: Steering) -> Template | None:
    if not found:
        return None
    slots = {f"/containers/{index}": slot for index, (_, slot) in enumerate(found)}
    spec = PodSpec(containers=[container for container, _ in found])
    return Template("", pointer, spec, None, False, means, slots)


def _metadata(value: Any) -> Metadata | None:
    return metadata_of(value) if isinstance(value, dict) and isinstance(value.get("metadata"), dict) else None


def moved(each: Template, base: str, inner: Inner) -> Template:
    """Returns a pod of an object within another, as seen from the outer one."""
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
    named = tuple(
        msgspec.structs.replace(each, name=base + each.name, count=base + each.count) for each in slot.named
    )
    maps = tuple((base + pointer, amounts) for pointer, amounts in slot.maps)
    return msgspec.structs.replace(slot, maps=maps, named=named)


# --- One pod in several places ----------------------------------------------------------------------------


def spread(
    path: Path, pointer: str, value: Any, document: Mapping[str, Any], otherwise: Steering
) -> Template | None:
    """Returns the pod whose parts are spread over an object; None where it has none.

    Raises:
        msgspec.ValidationError: a part is malformed.
    """
    found: list[tuple[Container, Slot]] = []
    holder: Piece | None = None
    for piece in path.parts:
        if piece.letter in {"P", "I"}:
            holder = piece
            continue
        for where, part in places(value, piece.steps, pointer):
            found += _slots(piece, where, part)
    if holder is None:
        return _bare(pointer, _told_apart(found), otherwise)
    if not isinstance(value, dict):
        return None
    spec_pointer = "".join((pointer, *(f"/{step}" for step in holder.steps)))
    fields = next((part for _, part in places(value, holder.steps) if isinstance(part, dict)), None)
    if fields is None and _blocked(value, holder.steps):
        return None
    prelude: list[tuple[str, Any]] = [] if fields is not None else _missing(value, pointer, holder.steps)
    written, inherited = dict(fields or {}), {}
    for _, base in places(document, holder.base) if holder.base is not None else ():
        inherited = {key: base[key] for key in holder.inherited if key in base and key not in written}
    prelude += [
        (f"{spec_pointer}/{key}", each) for key, each in inherited.items() if isinstance(each, dict | list)
    ]
    spec = msgspec.convert({**inherited, **written}, PodSpec)
    own = list(spec.containers or ())
    found = _told_apart(found, [*own, *(spec.init_containers or ())])
    slots = {f"/containers/{len(own) + index}": slot for index, (_, slot) in enumerate(found)}
    spec = msgspec.structs.replace(spec, containers=own + [container for container, _ in found])
    inline = holder.letter == "I"
    metadata = _metadata(fields) if inline else None
    where = spec_pointer if inline else ""
    means = Steering.RECORD if otherwise is Steering.RECORD else Steering.SPEC
    return Template(where, spec_pointer, spec, metadata, inline, means, slots, tuple(prelude))


def _blocked(value: Any, steps: tuple[str, ...]) -> bool:
    """True when something that is no object stands on the way to a place: it is left, not replaced."""
    for step in steps:
        if not isinstance(value, dict):
            return value is not None
        value = value.get(step)
    return value is not None and not isinstance(value, dict)


def _missing(value: Any, pointer: str, steps: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Returns the objects on the way to a place that are not there, outermost first."""
    found: list[tuple[str, Any]] = []
    for step in steps:
        pointer += f"/{step}"
        value = value.get(step) if isinstance(value, dict) else None
        if not isinstance(value, dict):
            found.append((pointer, {}))
    return found


def _slots(
    piece: Piece, pointer: str, value: Any, *, total: bool = False
) -> Iterator[tuple[Container, Slot]]:
    if piece.letter == "C":
        if isinstance(value, list):
            for index, each in enumerate(value):
                yield from _slots(piece, f"{pointer}/{index}", each, total=total)
        elif isinstance(value, dict):
            yield _container(piece, pointer, value)
    elif not isinstance(value, dict):
        return
    elif piece.letter == "R":
        yield _requirements(_name(piece, pointer, value), pointer, value)
    elif piece.letter == "M":
        amounts = {key: int(not _is_nothing(each)) for key, each in value.items()} if total else value
        container = Container(_name(piece, pointer, value), _side(pointer, amounts))
        yield container, Slot(((pointer, value),), total=total)
    elif piece.letter == "N":
        name, count = piece.fields
        if count in value:
            resource, quantity = str(value.get(name) or keys.GPU), value[count]
            named = Named(f"{pointer}/{name}", f"{pointer}/{count}", resource, quantity)
            container = Container(_name(piece, pointer, value), _side(pointer, {resource: quantity}))
            yield container, Slot(named=(named,))


def _side(pointer: str, amounts: dict[str, Any]) -> Resources:
    return Resources(requests=amounts) if "/requests" in pointer else Resources(limits=amounts)


def _told_apart(
    found: list[tuple[Container, Slot]], own: Iterable[Container] = ()
) -> list[tuple[Container, Slot]]:
    """Joins the parts of one container that hold a name or a map alone, and gives a name of its own to every further
    part of one name that asks for devices, after those of the pod's `own` containers: a decision is by name. How many
    they ask for makes no difference, because that is what a decision changes."""
    joined: list[tuple[Container, Slot]] = []
    for container, slot in found:
        if joined and _alone(slot) and _alone(joined[-1][1]) and joined[-1][0].name == container.name:
            joined[-1] = _both(joined[-1], (container, slot))
        else:
            joined.append((container, slot))
    names = {each.name for each in own if _asks_for_devices(each)}
    for index, (container, slot) in enumerate(joined):
        if not _asks_for_devices(container):
            continue
        if container.name in names:
            where = slot.named[0].count if slot.named else slot.maps[0][0]
            joined[index] = (msgspec.structs.replace(container, name=f"{container.name} ({where})"), slot)
        names.add(container.name)
    return joined


def _alone(slot: Slot) -> bool:
    return bool(slot.named) or (
        len(slot.maps) == 1 and not slot.maps[0][0].endswith(("/requests", "/limits"))
    )


def _both(one: tuple[Container, Slot], other: tuple[Container, Slot]) -> tuple[Container, Slot]:
    (container, slot), (more, beside) = one, other
    mine, theirs = container.resources or Resources(), more.resources or Resources()
    resources = Resources(
        {**(mine.requests or {}), **(theirs.requests or {})} or None,
        {**(mine.limits or {}), **(theirs.limits or {})} or None,
    )
    joined = Slot(slot.maps + beside.maps, slot.named + beside.named)
    return msgspec.structs.replace(container, resources=resources), joined


def _asks_for_devices(container: Container) -> bool:
    resources = container.resources or Resources()
    both = {**(resources.requests or {}), **(resources.limits or {})}
    # Zeros go from what is rewritten: names must be the same without them.
    return any(name.startswith(keys.VENDOR) and not _is_nothing(amount) for name, amount in both.items())


def _is_nothing(amount: Any) -> bool:
    return amount is None or equal(amount, 0)


def _container(piece: Piece, pointer: str, value: dict[str, Any]) -> tuple[Container, Slot]:
    field = piece.fields[0]
    resources = value.get(field)  # which is called `resources` there need not be what counts
    fields = {**value, "name": _name(piece, pointer, value), "resources": resources}
    read = msgspec.convert(fields, Container)
    return read, _slot(f"{pointer}/{field}", resources) if isinstance(resources, dict) else Slot()


def _requirements(name: str, pointer: str, value: dict[str, Any]) -> tuple[Container, Slot]:
    return Container(name, msgspec.convert(value, Resources)), _slot(pointer, value)


def _slot(pointer: str, value: dict[str, Any]) -> Slot:
    return Slot(
        tuple(
            (f"{pointer}/{kind}", value[kind])
            for kind in ("requests", "limits")
            if isinstance(value.get(kind), dict)
        )
    )


def _name(piece: Piece, pointer: str, value: Mapping[str, Any]) -> str:
    own = value.get("name")
    tail = pointer.rpartition("/")[2]
    if piece.letter != "C" or not isinstance(own, str) or not own:
        own = tail if piece.letter != "R" or tail not in {"resources", "computeResources"} else "main"
    return piece.name.replace("*", own) if piece.name else own
