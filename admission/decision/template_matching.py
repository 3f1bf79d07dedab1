"""Which template of an object is which of the object as it stood.  Pure.

Items of lists are told by name, where they have one, so that a template put before another moves no decision. Those
without are told by position.
"""

from collections.abc import Mapping
from typing import Any, Final

from admission.workloads.json_pointer import unescape
from admission.workloads.model import Template, Workload

_NAMES: Final = ("name", "groupName")


def match_templates(workload: Workload, old: Workload) -> dict[str, Template]:
    """Returns the templates as they stood, by the pointer of the pod spec that each has now."""
    before = {_stable_path(old.document, each.spec_pointer): each for each in old.templates}
    found = {}
    for template in workload.templates:
        was = before.get(_stable_path(workload.document, template.spec_pointer))
        if was is not None:
            found[template.spec_pointer] = was
    return found


def _stable_path(document: Mapping[str, Any], pointer: str) -> str:
    """A pointer with the names of list items in the place of their positions."""
    if not document:
        return pointer  # of a kind with one template at a fixed place
    value: Any = document
    steps = []
    for step in pointer.split("/")[1:]:
        if isinstance(value, list):
            value = value[int(step)]
            name = (
                next((value[key] for key in _NAMES if value.get(key)), None)
                if isinstance(value, dict)
                else None
            )
            steps.append(f"[{name}]" if isinstance(name, str) else step)
        else:
            value = value.get(unescape(step)) if isinstance(value, dict) else None
            steps.append(step)
    return "".join(f"/{step}" for step in steps)
