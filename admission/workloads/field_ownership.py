"""Whether a person wrote a field that a CRD fills in by itself.  Pure.

Volcano's CRDs write `default` where no queue was said, before any webhook sees the object. Two clients tell what was
said: `kubectl apply` keeps the manifest in an annotation, and server-side apply names the fields that it applied.
Of what other clients create, nothing tells, and `default` counts as nothing said (docs/volcano.md).

Failure mode: what cannot be read tells nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from admission.workloads.path_language import Steps, places
from slicewise.api import keys


def set_by_user(document: Mapping[str, Any], steps: Steps) -> bool:
    """True when whoever sent the object is known to have written the field at this place."""
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        return False
    annotations = metadata.get("annotations")
    text = annotations.get(keys.LAST_APPLIED) if isinstance(annotations, dict) else None
    if isinstance(text, str):
        try:
            sent = msgspec.json.decode(text)
        except (msgspec.MsgspecError, RecursionError):
            return False
        return isinstance(sent, dict) and any(
            value is not None and value != "" for _, value in places(sent, steps)
        )
    return any(_names(entry, steps) for entry in _entries(metadata.get("managedFields")))


def _entries(managed: Any) -> Iterable[Mapping[str, Any]]:
    listed = managed if isinstance(managed, list) else ()
    return (entry for entry in listed if isinstance(entry, dict) and entry.get("operation") == "Apply")


def _names(entry: Mapping[str, Any], steps: Steps) -> bool:
    """True when an entry of managedFields owns the field; items of lists are keyed otherwise and tell nothing."""
    fields: Any = entry.get("fieldsV1")
    for step in steps:
        fields = fields.get(f"f:{step}") if isinstance(fields, dict) else None
    return isinstance(fields, dict)
