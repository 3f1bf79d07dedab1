"""What is decided of a new object by, as JSON: the object without all that nothing is decided by.  Pure.

Pods of one workload differ in their names, in the volume with their token, and often in a label that numbers them. None
of it decides anything, so what was decided of one holds for all (`admission.mutation.mutate`). It is read from nothing
but the text that is made here, so that nothing can decide which is not in it.
"""

from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from admission.workloads.model import (
    NO_METADATA,
    Gist,
    Metadata,
    Owner,
    PodSpecGist,
    PodTemplateGist,
    Volume,
    at,
)
from slicewise.api import keys

_encode: Final = msgspec.json.Encoder().encode
_NO_ITEMS: Final = Raw(b"[]")
_BACKSLASH: Final = ord("\\")
_VARIABLES: Final = (keys.VISIBLE_DEVICES.encode(), b"CUDA_MPS_")
"""Those that somebody looks for."""
_VOLUMES: Final = (keys.MPS_VOLUME.encode(),)
"""Likewise."""
_OURS_ALONE: Final = Raw(_encode([Volume(keys.MPS_VOLUME)]))
_decode_volumes: Final = msgspec.json.Decoder(list[Volume]).decode
_OWNED: Final = [Owner(controller=False)]
_CONTROLLED: Final = [Owner(controller=True)]


def gist_of(decoded: Any, steps: tuple[str, ...], label: str) -> Gist | None:
    """Returns the gist of an object that was decoded for it; None where it has no pod spec.

    Args:
        decoded: a projection that ends in a `PodTemplateGist` or, without steps, in a `PodSpecGist`; it is changed.
        steps: where in the object it ends.
        label: a label of the object's by which it may be queued; "" for none.
    """
    metadata: Metadata = decoded.metadata
    first = steps[0] if steps else "spec"
    if not steps:
        spec: PodSpecGist | None = decoded.spec
    else:
        template: PodTemplateGist | None = at(decoded, steps)
        spec = None if template is None else template.spec
        if template is not None and template.metadata is not None:
            template.metadata = _spoken(template.metadata, label)
    if spec is None:
        return None
    for group in (spec.containers, spec.init_containers):
        for container in group or ():
            container.env = _without(container.env, _VARIABLES)
    spec.volumes = _ours(spec.volumes)
    said = b"" if metadata is NO_METADATA else b'"metadata":%b,' % _encode(_spoken(metadata, label))
    text = b'{%b"%b":%b}' % (said, first.encode(), _encode(getattr(decoded, first)))
    return Gist(metadata, text)


def _spoken(metadata: Metadata, label: str) -> Metadata:
    """Returns what metadata says of how its pods are to be treated, which they may have in common."""
    owners = metadata.owner_references
    if owners:
        owners = _CONTROLLED if metadata.controller is not None else _OWNED
    return msgspec.structs.replace(
        metadata,
        name=None,
        generate_name=None,
        labels=_meant(metadata.labels, label),
        annotations=_meant(metadata.annotations, label),
        owner_references=owners,
    )


def _meant(written: dict[str, str] | None, label: str) -> dict[str, str] | None:
    """Returns the labels or annotations that mean something, or are nearly ones that do."""
    if not written:
        return written
    return {
        key: value
        for key, value in written.items()
        if key.startswith(keys.NAME) or key in keys.OF_ENGINES or key == label
    }


def _without(items: Raw | UnsetType, known: tuple[bytes, ...]) -> Raw | UnsetType:
    """Returns no items in place of those of a list in which none that are known can be."""
    if items is UNSET:
        return items
    text = bytes(items)
    # `in` for several bytes makes an exception first, and forgets it; for one byte it is the quickest there is.
    if _BACKSLASH in text and text.find(b"\\u") >= 0:  # which may write any letter
        return items
    if not text.startswith(b"["):
        return items
    for name in known:
        if text.find(name) >= 0:
            return items
    return _NO_ITEMS


def _ours(volumes: Raw | UnsetType) -> Raw | UnsetType:
    """Returns no volumes but ours, which pods have that are made of a template that got it."""
    kept = _without(volumes, _VOLUMES)
    if kept is UNSET or kept is _NO_ITEMS:
        return kept
    try:
        names = [each.name for each in _decode_volumes(kept)]
    except msgspec.ValidationError:
        return kept
    return _OURS_ALONE if keys.MPS_VOLUME in names else _NO_ITEMS
