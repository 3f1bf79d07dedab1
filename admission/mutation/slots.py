"""Writes to containers that their kind keeps outside a pod spec.  Pure.

Quantities keep the type that they came in (Spark's `gpu.quantity` is an integer, Dynamo's `gpu` a string),
because the kind's schema would refuse another.
"""

from typing import Any

from admission.workloads.model import Slot, Template
from admission.workloads.path_language import escape

Operation = dict[str, Any]


def devices(slot: Slot, drop: frozenset[str], name: str, count: int) -> list[Operation]:
    """Moves what a slot asks to another name; with a count of 0 it asks for nothing any more."""
    found: list[Operation] = []
    for pointer, amounts in slot.maps:
        old = sorted(drop & amounts.keys())
        if not old and name not in amounts:
            continue
        # A total under the old name is what a person says now; under ours it is what he said before.
        value = amounts[old[0] if old else name] if slot.total else str(count)
        found += [{"op": "remove", "path": f"{pointer}/{escape(each)}"} for each in old]
        if count and str(amounts.get(name)) != str(value):
            found.append({"op": "add", "path": f"{pointer}/{escape(name)}", "value": value})
    for named in slot.named:
        if named.resource not in drop | {name}:
            continue
        if not count:
            found.append({"op": "remove", "path": named.name.rpartition("/")[0]})
            continue
        if named.resource != name:
            found.append({"op": "add", "path": named.name, "value": name})
        if str(named.quantity) != str(count):
            value = str(count) if isinstance(named.quantity, str) else count
            found.append({"op": "add", "path": named.count, "value": value})
    return found


def prelude(template: Template, operations: list[Operation]) -> list[Operation]:
    """Returns what must be there before the operations: members that they would write beneath."""
    return [
        {"op": "add", "path": pointer, "value": value}
        for pointer, value in template.prelude
        if any(str(each["path"]).startswith(pointer + "/") for each in operations)
    ]
