"""What Kueue's own configuration says of resource names, as it stands; what comes of it `kueue.configuration` knows.

Source: Kueue 0.19.2, apis/config/v1beta2/configuration_types.go.  Pure.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

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
