"""One object as it should be: it begins as it came, and the patch is the difference.  Pure."""

from typing import Any

from admission.mutation.difference import Operation, difference, template_difference
from admission.workloads.model import NO_METADATA, Metadata, Template

_Edits = dict[str, str | None]


class Draft:
    """What is wanted of one object, gathered while it is decided."""

    def __init__(self) -> None:
        self._templates: dict[int, tuple[Template, Template]] = {}
        """By the identity of the template that came."""
        self._fields: list[tuple[str, Any, Any]] = []
        self._metadata: dict[str, tuple[Metadata | None, _Edits, _Edits]] = {}

    def template(self, before: Template, after: Template) -> None:
        """Wants a template so."""
        self._templates[id(before)] = (before, after)

    def wanted(self, template: Template) -> Template:
        """Returns a template as it is wanted, or as it came."""
        return self._templates.get(id(template), (template, template))[1]

    def field(self, pointer: str, before: Any, after: Any) -> None:
        """Wants a field so; `before` is None where there is none."""
        self._fields.append((pointer, before, after))

    def annotate(self, pointer: str, current: Metadata | None, key: str, value: str | None) -> None:
        """Wants an annotation, or none, on the object at `pointer`, whose metadata is `current` (None: it has none)."""
        self._edits(pointer, current)[0][key] = value

    def label(self, pointer: str, current: Metadata | None, key: str, value: str) -> None:
        """Wants a label on the object at `pointer`."""
        self._edits(pointer, current)[1][key] = value

    def _edits(self, pointer: str, current: Metadata | None) -> tuple[_Edits, _Edits]:
        return self._metadata.setdefault(pointer, (current, {}, {}))[1:]

    def operations(self) -> list[Operation]:
        """Returns the patch."""
        found: list[Operation] = []
        for before, after in self._templates.values():
            found += template_difference(before, after)
        for pointer, old, new in self._fields:
            found += difference(old, new, pointer)
        for pointer, (current, annotations, labels) in self._metadata.items():
            place = pointer + "/metadata"
            if current is None or current is NO_METADATA:
                wanted = {"annotations": _edited(None, annotations), "labels": _edited(None, labels)}
                found += difference(None, {name: each for name, each in wanted.items() if each}, place)
                continue
            for name, present, edits in (
                ("annotations", current.annotations, annotations),
                ("labels", current.labels, labels),
            ):
                if edits:
                    found += difference(present, _edited(present, edits), f"{place}/{name}")
        return found


def _edited(present: dict[str, str] | None, edits: _Edits) -> dict[str, str] | None:
    if not edits:
        return present
    wanted = {**(present or {}), **edits}
    return {key: value for key, value in wanted.items() if value is not None}
