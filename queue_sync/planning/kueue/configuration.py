"""What Kueue makes of a resource name other than it says, because its configuration has it so.

Source: Kueue 0.19.2, pkg/dra/extended_resources.go.  Pure.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from queue_sync.planning.kueue_configuration import ClassMapping
from slicewise.api import keys
from slicewise.inventory.served_names import DeviceClass, serving


@dataclass(frozen=True, slots=True)
class Mischarged:
    """A resource name that Kueue does not charge as that name."""

    resource: str
    sentence: str
    fix: str


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
