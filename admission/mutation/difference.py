"""Two states of one thing -> the RFC 6902 operations from the one to the other.  Pure.

What is compared are plain values, and the structs of `admission.workloads.model`, which show a part of what came. So
an item of a list that stays must be the very item that was read: of what it holds besides, nothing is known here.

A patch that fails to apply is a failed request for the person, whatever the failure policy says (apiserver,
`mutating/dispatcher.go`), so nothing is removed that was not seen in the object that came, and nothing is added
under a parent that is not there. Output depends on the input alone: no times, no counters.
"""

from collections.abc import Sequence
from operator import is_
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from admission.workloads.json_pointer import escape
from admission.workloads.model import (
    Affinity,
    Container,
    Expression,
    Mount,
    NodeAffinity,
    NodeSelector,
    PodSpec,
    Resources,
    Template,
    Term,
    Toleration,
    Variable,
    Volume,
)

Operation = dict[str, Any]

_MEMBERS: Final = {
    struct: tuple(f"/{escape(name)}" for name in struct.__struct_encode_fields__)
    for struct in (PodSpec, Container, Resources, Affinity, NodeAffinity, NodeSelector, Term)
}
"""Structs that change where they stand, and the steps of a pointer to their members."""
_ITEMS: Final = frozenset({Variable, Mount, Volume, Expression, Toleration})
"""Structs that go from a list, or come at its end, and never change."""


def difference(before: Any, after: Any, pointer: str = "") -> list[Operation]:
    """Returns the operations that turn one value into another; None is a value that is not there."""
    found: list[Operation] = []
    if before is not after:
        _member(before, after, pointer, found)
    return found


def template_difference(before: Template, after: Template) -> list[Operation]:
    """Returns the operations on the pod of a template; its metadata has its own place among the object's."""
    found = difference(before.spec, after.spec, before.spec_pointer)
    for pointer, slot in before.slots.items():
        new = after.slots[pointer]
        if new is slot:
            continue
        for (where, amounts), (_, now) in zip(slot.maps, new.maps, strict=True):
            found += difference(amounts, now, where)
        named = {each.name: each for each in new.named}
        for each in slot.named:
            stays = named.get(each.name)
            if stays is None:
                found.append({"op": "remove", "path": each.name.rpartition("/")[0]})
            else:
                found += difference(each.resource, stays.resource, each.name)
                found += difference(each.quantity, stays.quantity, each.count)
    if not before.prelude:
        return found
    missing: list[Operation] = [
        {"op": "add", "path": pointer, "value": value}
        for pointer, value in before.prelude
        if any(each["path"].startswith(pointer + "/") for each in found)
    ]
    return missing + found


def _member(before: Any, after: Any, pointer: str, found: list[Operation], operation: str = "add") -> None:
    kind = type(after)
    if after is None:
        found.append({"op": "remove", "path": pointer})
    elif kind is dict and type(before) is dict:
        for key in before:
            if key not in after:
                found.append({"op": "remove", "path": f"{pointer}/{escape(key)}"})  # noqa: PERF401
        for key, new in after.items():
            old = before.get(key)
            if old is new:
                continue
            if type(new) is not str:
                _member(old, new, f"{pointer}/{escape(key)}", found)
            elif old != new:
                found.append({"op": "add", "path": f"{pointer}/{escape(key)}", "value": new})
    elif kind is list and type(before) is list:
        _items(before, after, pointer, found)
    elif kind is type(before) and (steps := _MEMBERS.get(kind)) is not None:
        olds, news = astuple(before), astuple(after)
        for index, step in enumerate(steps):
            old, new = olds[index], news[index]
            if old is not new:  # nearly everything is what came, and not looked into
                _member(old, new, pointer + step, found)
    elif kind is not type(before) or before != after:
        # `add` replaces a member that is there, but not an item (RFC 6902, section 4.1).
        found.append({"op": operation, "path": pointer, "value": msgspec.to_builtins(after)})


def _items(before: list[Any], after: list[Any], pointer: str, found: list[Operation]) -> None:
    kept = min(len(before), len(after))
    gone: Sequence[int] = range(len(after), len(before))
    if before and type(before[0]) in _ITEMS:
        if not all(map(is_, before, after)):
            staying = {id(each) for each in after}
            gone = [index for index, each in enumerate(before) if id(each) not in staying]
            kept = len(before) - len(gone)
    else:
        for index in range(kept):
            old, new = before[index], after[index]
            if old is not new:
                _member(old, new, f"{pointer}/{index}", found, "replace")
    for index in reversed(gone):
        found.append({"op": "remove", "path": f"{pointer}/{index}"})  # noqa: PERF401
    for each in after[kept:]:
        found.append({"op": "add", "path": f"{pointer}/-", "value": msgspec.to_builtins(each)})  # noqa: PERF401
