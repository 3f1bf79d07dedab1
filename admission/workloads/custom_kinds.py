"""Kinds of an admin's own, from a YAML or JSON file: rows of the table like the built-in ones.

A row with the group and kind of a built-in one takes its place. The format is in docs/kinds.md.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from admission.workloads.builtin_kinds import TABLE
from admission.workloads.kind import Kind, Queueing, SideField, Steering
from admission.workloads.path_language import Steps, parse_paths, resolve, steps_of
from slicewise.api.policy import Engine
from slicewise.kube import yaml


class KindsError(ValueError):
    """The file breaks the format; the message names the entry and the field."""


class _SideFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    totals: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    kind: str
    paths: tuple[str, ...]
    group: str = ""
    versions: tuple[str, ...] = ("v1",)
    resource: str = ""
    scope: str = "Namespaced"
    owners: tuple[str, ...] = ()
    means: str = "none"
    every_node: bool = False
    side_fields: _SideFields = _SideFields()
    queueing: Queueing = Queueing()


def read_kinds(text: str) -> tuple[Kind, ...]:
    """Reads a file of kinds.

    Raises:
        KindsError: the file breaks the format.
    """
    try:
        document = yaml.load_one(text)
    except yaml.YamlError as error:
        where = f" in line {error.line}" if error.line else ""
        raise KindsError(f"the file is no YAML{where}: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("kinds"), list) or len(document) != 1:
        raise KindsError("the file must be one map with the one field kinds: a list of kinds")
    found: dict[tuple[str, str], Kind] = {}
    for index, raw in enumerate(document["kinds"]):
        kind = _kind(f"kinds[{index}]", raw)
        if (kind.group, kind.kind) in found:
            raise KindsError(
                f"kinds[{index}] ({kind.kind}): the same group and kind stands above; write it once"
            )
        found[kind.group, kind.kind] = kind
    return tuple(found.values())


def _kind(where: str, raw: Any) -> Kind:
    if isinstance(raw, dict) and isinstance(raw.get("kind"), str):
        where = f"{where} ({raw['kind']})"
    try:
        entry = msgspec.convert(raw, _Entry)
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at `$")
        field = place.removesuffix("`")
        raise KindsError(f"{where}{field}: {words}") from None
    _check(where, entry)
    try:
        paths = resolve(entry.paths, _spec_paths(entry.group))
        parse_paths(paths)
    except ValueError as error:
        raise KindsError(f"{where}.paths: {error}") from None
    return Kind(
        entry.group,
        entry.kind,
        paths,
        frozenset(entry.owners),
        entry.versions,
        entry.resource,
        entry.scope == "Namespaced",
        Steering(entry.means),
        (*_mended("total", entry.side_fields.totals), *_mended("follow", entry.side_fields.counts)),
        entry.queueing,
        entry.every_node,
    )


def _check(where: str, entry: _Entry) -> None:
    if not entry.kind.isalnum() or not entry.kind[:1].isupper():
        raise KindsError(
            f"{where}.kind: {entry.kind!r} is no kind; write it as apiVersion's neighbour has it"
        )
    if "/" in entry.group:
        raise KindsError(f"{where}.group: {entry.group!r} has a version in it; write the group alone")
    if not entry.versions:
        raise KindsError(f"{where}.versions: it is empty; write the served versions, such as [v1]")
    if not entry.paths:
        raise KindsError(f"{where}.paths: it is empty; write at least one, such as T spec.template")
    if entry.scope not in {"Namespaced", "Cluster"}:
        raise KindsError(f"{where}.scope: {entry.scope!r} is neither Namespaced nor Cluster")
    if entry.means not in {Steering.NONE, Steering.RECORD, Steering.PODS, Steering.TOTAL}:
        raise KindsError(f"{where}.means: {entry.means!r} is none of none, record, pods and total")
    keeper, suspend = entry.queueing.keeper, entry.queueing.suspend
    if keeper not in {"", *Engine}:
        raise KindsError(
            f"{where}.queueing.keeper: {keeper!r} is no engine; write one of {', '.join(Engine)}"
        )
    if suspend and ("[" in suspend or "{" in suspend or ".".join(steps_of(suspend)) != suspend):
        raise KindsError(f"{where}.queueing.suspend: {suspend!r} is no place such as spec.suspend")
    for owner in entry.owners:
        if "." not in owner and owner != "*" and not owner.isalnum():
            raise KindsError(f"{where}.owners: {owner!r} is no Kind.group")
    for name, places in (("totals", entry.side_fields.totals), ("counts", entry.side_fields.counts)):
        for place in places:
            if "{" in place or len(_steps(where, name, place)) < 2:
                raise KindsError(
                    f"{where}.sideFields.{name}: {place!r} is no place such as spec.minResources"
                )


def _steps(where: str, name: str, place: str) -> Steps:
    steps = steps_of(place)
    if not steps or ".".join(steps).replace(".[]", "[]") != place:
        raise KindsError(f"{where}.sideFields.{name}: {place!r} is no place such as spec.minResources")
    return steps


def _mended(mender: str, places: tuple[str, ...]) -> tuple[SideField, ...]:
    return tuple(SideField(mender, *place.split(".", 1)) for place in places)


def _spec_paths(group: str) -> Mapping[str, tuple[str, ...]]:
    """What `@Kind` may name: kinds of the table, those of the same group first, whose paths begin with `spec`."""
    ordered = sorted(TABLE, key=lambda kind: kind.group == group)
    return {
        kind.kind: kind.paths
        for kind in ordered
        if all(path.partition(" ")[2].startswith("spec") or path.startswith("spec") for path in kind.paths)
    }
