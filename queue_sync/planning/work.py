"""Work that asks for GPUs, as far as it shows who queues it: what makes pods, or a pod.  Pure."""

from dataclasses import dataclass

from queue_sync.planning.observed import Object


@dataclass(frozen=True, slots=True)
class Work:
    """One object that makes pods, or a pod, with the pod specs in it."""

    kind: str
    group: str
    namespace: str
    name: str
    documents: tuple[Object, ...]
    """Where labels and annotations may stand: the object, then its templates or its pods."""
    specs: tuple[Object, ...]


def note(document: Object, part: str, key: str) -> str:
    """A label or an annotation (`part`); "" where there is none, also in an object of another shape."""
    return str(((document.get("metadata") or {}).get(part) or {}).get(key, ""))


def owner_reference(document: Object) -> Object | None:
    """What of an object's owners controls it; None where nothing does."""
    references = (document.get("metadata") or {}).get("ownerReferences") or ()
    return next((each for each in references if each.get("controller")), None)
