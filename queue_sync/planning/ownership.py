"""What of an engine's object is ours, as the object itself says it: the label and the annotations that we write."""

from functools import lru_cache
from typing import Any

import msgspec

from queue_sync.planning.observed import Object, annotation, label
from slicewise.api import keys


class RefusalError(ValueError):
    """What is wanted of an object cannot be had; the message is one sentence that says what to do."""


def ours(document: Object | None) -> bool:
    """True when Slicewise made the object."""
    return label(document, keys.MANAGED) == "true"


def leaving(document: Object) -> bool:
    """True when the object is being deleted already."""
    return bool(document["metadata"].get("deletionTimestamp"))


def metadata(plan: str, name: str, namespace: str = "") -> Object:
    """The metadata of an object that Slicewise makes for a plan."""
    found: Object = {"name": name}
    if namespace:
        found["namespace"] = namespace
    return {**found, "labels": {keys.MANAGED: "true"}, "annotations": {keys.PLAN: plan}}


class Owned(msgspec.Struct, frozen=True):
    """What of a queue is ours, as its annotation `slicewise.io/owned` keeps it.

    A pair of `flavors` and `resources` is ours; of these resources, `added` were not covered before we came.
    """

    flavors: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    added: frozenset[str] = frozenset()
    fields: dict[str, Any] = msgspec.field(default_factory=dict)
    """What we wrote beside quota, by path: `preemption.withinClusterQueue`."""
    limits: frozenset[tuple[str, str]] = frozenset()
    """Limits that we wrote into an adopted queue: (resource, `borrowingLimit` or `lendingLimit`)."""

    def has(self, flavor: str, resource: str) -> bool:
        """True for a number that is ours; `flavor` is "" in an engine that counts names over all nodes."""
        return resource in self.resources and (not flavor or flavor in self.flavors)

    def text(self) -> str:
        """The annotation; `owned` is its inverse."""
        said = msgspec.to_builtins(self, order="sorted")
        kept = {key: value for key, value in said.items() if value or key not in {"fields", "limits"}}
        return msgspec.json.encode(kept).decode()


def owned(document: Object | None) -> Owned:
    """What of a queue is ours; nothing where the annotation is missing or cannot be read."""
    return _read(annotation(document, keys.OWNED)) or Owned()


def unsaid(document: Object) -> bool:
    """True for a queue that does not say what of it is ours, or not so that it can be read."""
    return _read(annotation(document, keys.OWNED)) is None


@lru_cache(maxsize=1024)
def _read(text: str) -> Owned | None:
    """Hundreds of queues say the same."""
    try:
        return msgspec.json.decode(text, type=Owned)
    except (msgspec.MsgspecError, RecursionError):
        return None
