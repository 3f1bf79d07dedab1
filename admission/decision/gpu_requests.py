"""What the containers of one template ask for.  Pure.

Only extended resources of NVIDIA's device plugin are looked at. A quantity that cannot be read (a template
such as `$(params.gpus)`) is reported and left alone, never guessed.
"""

from collections.abc import Iterable
from typing import Any, Final

from admission.decision.model import DevicesLeft, GpuRequest
from admission.workloads.json_pointer import escape
from admission.workloads.model import Container, PodSpec, Template
from slicewise.api import keys
from slicewise.api.quantities import QuantityError, count

_NONE: Final[frozenset[str]] = frozenset()
_FEW: Final = tuple(f"/containers/{index}" for index in range(16))
"""Pointers of as many containers as nearly all pods have."""


def containers(spec: PodSpec) -> list[tuple[str, Container]]:
    """Returns every container with its pointer from the pod spec: main ones, then init containers."""
    main, init = spec.containers or (), spec.init_containers or ()
    if len(main) <= len(_FEW) and not init:
        return [(_FEW[index], each) for index, each in enumerate(main)]
    return [
        *((f"/containers/{index}", each) for index, each in enumerate(main)),
        *((f"/initContainers/{index}", each) for index, each in enumerate(init)),
    ]


def gpu_requests(spec: PodSpec) -> list[GpuRequest]:
    """Returns the containers that ask for GPUs, slices or shares."""
    found = []
    for pointer, container in containers(spec):
        resources = container.resources
        if resources is None:
            continue
        gpus, unreadable = 0, ""
        named: dict[str, int] = {}
        for amounts in (resources.requests, resources.limits):
            for name, quantity in amounts.items() if amounts else ():
                if not name.startswith(keys.VENDOR) or not (name == keys.GPU or keys.is_slice(name)):
                    continue
                try:
                    number = _number(quantity)
                except QuantityError as error:
                    unreadable = f"{name}: {error}"
                    continue
                if name == keys.GPU:
                    gpus = max(gpus, number)
                elif number:
                    named[name] = max(named.get(name, 0), number)
        if gpus or named or unreadable:
            found.append(GpuRequest(pointer, container, gpus, named, unreadable))
    return found


def devices_left(templates: Iterable[Template]) -> DevicesLeft | None:
    """Returns what templates ask a DRA driver for by claims or implicit names; None where they ask for neither."""
    claims: list[str] = []
    names: list[str] = []
    for template in templates:
        spec = template.spec
        if isinstance(spec.resource_claims, list):
            claims += [str(each.get("name")) for each in spec.resource_claims if isinstance(each, dict)]
        for group in (spec.containers, spec.init_containers):
            for container in group or ():
                names += _named(container, keys.IMPLICIT_NAME)
    if not claims and not names:
        return None
    return DevicesLeft(tuple(dict.fromkeys(claims)), tuple(dict.fromkeys(names)))


def other_names(templates: Iterable[Template]) -> list[tuple[Container, str]]:
    """Returns names of NVIDIA's that are none of its device plugin's, each with the container that asks for it."""
    found: dict[tuple[str, str], tuple[Container, str]] = {}
    for template in templates:
        for group in (template.spec.containers, template.spec.init_containers):
            for container in group or ():
                for name in _named(container, keys.VENDOR):
                    if not keys.is_device(name):
                        found[container.name, name] = (container, name)
    return list(found.values())


def anywhere(document: Any) -> str:
    """Returns the JSON pointer at which something asks for devices, whatever that is; "" where nothing does."""
    left: list[tuple[str, Any]] = [("", document)]
    while left:
        pointer, value = left.pop()
        if isinstance(value, list):
            left += [(f"{pointer}/{index}", each) for index, each in enumerate(value)]
        elif isinstance(value, dict):
            for key, each in value.items():
                if isinstance(each, dict | list):
                    left.append((f"{pointer}/{escape(str(key))}", each))
                elif keys.is_device(str(key)) and _is_some(each):
                    return pointer
    return ""


def _is_some(quantity: Any) -> bool:
    try:
        return _number(quantity) > 0
    except QuantityError:
        return False


def _named(container: Container, prefix: str) -> list[str]:
    """Returns the names in a container's requests and limits that begin so."""
    found: list[str] = []
    resources = container.resources
    if resources is None:
        return found
    for amounts in (resources.requests, resources.limits):
        if amounts is not None:
            for name in amounts:
                if name.startswith(prefix):
                    found.append(name)  # noqa: PERF401  compiled, a loop makes no second list
    return found


def zero_devices(container: Container) -> frozenset[str]:
    """Returns the names of devices of which a container asks for none in so many words."""
    resources = container.resources
    if resources is None:
        return _NONE
    requests, limits = resources.requests, resources.limits
    zeros: list[str] = []
    for amounts in (requests, limits):
        if amounts is not None:
            for name, amount in amounts.items():
                if name.startswith(keys.VENDOR) and is_zero(amount) and keys.is_device(name):
                    zeros.append(name)
    if not zeros:
        return _NONE
    # What both name is as the limits say.
    return frozenset(
        [name for name in zeros if limits is None or name not in limits or is_zero(limits[name])]
    )


def is_zero(quantity: Any) -> bool:
    """True for a quantity that can be read and is nothing."""
    if quantity == "1":
        return False
    try:
        return _number(quantity) == 0
    except QuantityError:
        return False


def _number(quantity: Any) -> int:
    if quantity == "1":  # nearly every one
        return 1
    # Kubernetes reads null as nothing (apimachinery, resource/quantity.go, UnmarshalJSON).
    return 0 if quantity is None else count(quantity)


def of_the_pod(template: Template) -> list[str]:
    """Returns names of GPUs, slices and shares that are asked for on the level of the pod, where Kubernetes takes none
    (validation.go, validatePodResourceName); its own objects it refuses, custom ones nobody may look at."""
    resources = template.spec.resources
    if not isinstance(resources, dict):
        return []
    place = f"{template.spec_pointer}/resources/"
    if any(where.startswith(place) for slot in template.slots.values() for where, _ in slot.maps):
        return []  # the kind keeps a container's there
    maps = (resources.get("requests"), resources.get("limits"))
    names = (name for amounts in maps if isinstance(amounts, dict) for name in amounts)
    return list(dict.fromkeys(name for name in names if keys.is_device(name)))


def plain(asked: GpuRequest) -> bool:
    """True when requests and limits agree, as extended resources must (validation.go, ValidateResourceRequirements)."""
    resources = asked.container.resources
    if resources is None or not resources.requests or not resources.limits:
        return True
    before, after = resources.requests.get(keys.GPU), resources.limits.get(keys.GPU)
    return before is None or after is None or before == after or count(before) == count(after)


def unlimited(asked: GpuRequest) -> list[str]:
    """Returns the names that a container has in its requests alone, which Kubernetes refuses of extended resources
    (validation.go, ValidateResourceRequirements: "Limit must be set for non overcommitable resources")."""
    resources = asked.container.resources
    if resources is None or not resources.requests:
        return []
    requests, limits = resources.requests, resources.limits or {}
    alone = {name for name in requests if name not in limits}
    return [name for name in asked.amounts if name in alone] if alone else []
