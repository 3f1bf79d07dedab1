"""Which resource names DeviceClasses serve: a pod that asks for one gets a device that the class selects."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from slicewise.api import keys


class DeviceClass(msgspec.Struct, frozen=True):
    """The fields of a DeviceClass (resource.k8s.io/v1) that are read."""

    name: str
    serves: str = ""
    """Its `extendedResourceName`; "" where it has none."""
    selectors: tuple[str, ...] = ()
    """CEL; a device must be taken by each."""
    created: str = ""
    ours: bool = False
    """True where the label `slicewise.io/managed` says that Slicewise made it."""


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    labels: dict[str, str] | None = None
    creation_timestamp: str | None = None


class _Cel(msgspec.Struct, frozen=True):
    expression: str


class _Selector(msgspec.Struct, frozen=True):
    cel: _Cel | None = None


class _Spec(msgspec.Struct, frozen=True, rename="camel"):
    extended_resource_name: str | None = None
    selectors: tuple[_Selector, ...] | None = None


class _Class(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _Spec = _Spec()


def read_device_class(item: Mapping[str, Any]) -> DeviceClass:
    """Reads a DeviceClass.

    Raises:
        msgspec.ValidationError: it has another shape.
    """
    read = msgspec.convert(item, _Class)
    return DeviceClass(
        read.metadata.name,
        read.spec.extended_resource_name or "",
        tuple(each.cel.expression for each in read.spec.selectors or () if each.cel is not None),
        read.metadata.creation_timestamp or "",
        (read.metadata.labels or {}).get(keys.MANAGED) == "true",
    )


def serving(classes: Iterable[DeviceClass]) -> dict[str, DeviceClass]:
    """Returns the class that serves each name: of several the one that was made last, then the lower name.

    Source: k8s.io/dynamic-resource-allocation 0.36, deviceclass/extendedresourcecache.
    """
    found: dict[str, DeviceClass] = {}
    for each in sorted(classes, key=lambda each: each.name, reverse=True):
        if each.serves and (each.serves not in found or each.created >= found[each.serves].created):
            found[each.serves] = each
    return found
