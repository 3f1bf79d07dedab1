"""Fields that take a queue's name, set where nothing is said.  Pure."""

from typing import Any, Final

from admission.mutation.draft import Draft
from admission.workloads.json_pointer import escape
from admission.workloads.path_language import Steps, places

UNSAID: Final = (None, "")
"""What stands where nobody named a queue."""


def set_if_missing(
    draft: Draft, document: Any, steps: Steps, value: str, unsaid: tuple[str | None, ...] = UNSAID
) -> bool:
    """Sets a field wherever its place leads and nothing is said, making the objects on the way; False when nowhere."""
    lists = max((index for index, step in enumerate(steps) if step in {"[]", "*"}), default=-1)
    done = False
    for pointer, start in places(document, steps[: lists + 1]):
        holder, where, rest = start, pointer, list(steps[lists + 1 :])
        while len(rest) > 1 and isinstance(holder, dict) and isinstance(holder.get(rest[0]), dict):
            holder, where = holder[rest[0]], f"{where}/{rest.pop(0)}"
        if not isinstance(holder, dict) or holder.get(rest[0]) not in unsaid:
            continue
        new: Any = value
        for step in reversed(rest[1:]):
            new = {step: new}
        draft.field(f"{where}/{escape(rest[0])}", None, new)
        done = True
    return done
