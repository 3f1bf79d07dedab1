"""Kueue's own configuration, as far as it decides what Kueue makes of a resource name.

Source: Kueue 0.19.2, apis/config/v1beta2/configuration_types.go and pkg/dra/extended_resources.go.  Pure.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from slicewise.api import keys
from slicewise.inventory.served_names import DeviceClass, serving
from slicewise.kube import yaml


class Transformation(msgspec.Struct, frozen=True):
    """A name that Kueue turns into others before it counts."""

    input: str = ""


class ClassMapping(msgspec.Struct, frozen=True, rename="camel"):
    """What Kueue charges for devices of some DeviceClasses."""

    name: str = ""
    device_class_names: list[str] | None = None
    sources: list[object] | None = None
    """Counters or capacity that it charges; without any it counts devices, as `name`."""


class Resources(msgspec.Struct, frozen=True, rename="camel"):
    """The part `resources` of a configuration."""

    exclude_resource_prefixes: list[str] | None = None
    transformations: list[Transformation] | None = None
    device_class_mappings: list[ClassMapping] | None = None


class _Configuration(msgspec.Struct, frozen=True):
    resources: Resources | None = None


@dataclass(frozen=True, slots=True)
class Mischarged:
    """A resource name that Kueue does not charge as that name."""

    resource: str
    sentence: str
    fix: str


def is_configuration(text: object) -> bool:
    """True for a text that is meant for Kueue."""
    return "config.kueue.x-k8s.io" in str(text)


def read_resources(text: str) -> Resources:
    """Reads a configuration.

    Raises:
        slicewise.kube.yaml.YamlError: it is no YAML.
        msgspec.ValidationError: it has another shape.
    """
    return msgspec.convert(yaml.load_one(text), _Configuration).resources or Resources()


def class_mappings(config_maps: Iterable[Mapping[str, Any]]) -> tuple[ClassMapping, ...]:
    """Returns the mappings of every configuration among ConfigMaps. One that Kueue cannot read either is left out."""
    found: list[ClassMapping] = []
    for item in config_maps:
        for text in filter(is_configuration, (item.get("data") or {}).values()):
            try:
                found += read_resources(text).device_class_mappings or ()
            except (yaml.YamlError, msgspec.ValidationError):
                continue
    return tuple(found)


def mischarged(mappings: Iterable[ClassMapping], classes: Iterable[DeviceClass]) -> Iterator[Mischarged]:
    """Yields the names of NVIDIA's devices for which quota by name says nothing, because a mapping has their class."""
    mapped = list(mappings)
    for name, served in sorted(serving(classes).items()) if mapped else ():
        for mapping in mapped:
            if not name.startswith(keys.VENDOR) or served.name not in (mapping.device_class_names or ()):
                continue
            of = f"deviceClassMappings {mapping.name}"
            if mapping.sources:
                yield Mischarged(
                    name,
                    f"{of} has Kueue admit nothing that asks for {name}: it charges counters",
                    f"take the sources of {served.name} out and restart Kueue: plans give quota by name",
                )
            elif mapping.name != name:
                yield Mischarged(
                    name,
                    f"{of} has Kueue charge {mapping.name} for what asks for {name}",
                    f"name the mapping of {served.name} {name} and restart Kueue: plans give quota by that name",
                )
