"""(template, decision) -> the template as it should be.  Pure.

The patch is the difference (`difference`): what is there already is asked for again to no effect.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from admission.decision import mps_daemon, steering
from admission.decision.gpu_requests import containers, is_zero
from admission.decision.model import Decision
from admission.mutation.model import Change, Changes
from admission.workloads.kind import Steering
from admission.workloads.model import (
    Container,
    Named,
    PodSpec,
    Resources,
    Slot,
    Template,
    Toleration,
    Variable,
)
from slicewise.api import keys

_HIDDEN: Final = Variable(keys.VISIBLE_DEVICES, "void")
TOLERATION: Final = msgspec.convert(keys.TOLERATION, Toleration)


def desired(
    template: Template,
    changes: Changes,
    decision: Decision,
    former: Decision | None = None,
    *,
    in_requests: bool = False,
) -> Template:
    """Returns a template as a decision has it.

    Args:
        template: the template as it came.
        changes: what its containers get.
        decision: what was decided, now or before.
        former: the decision that it takes the place of.
        in_requests: True where an engine counts requests, and not limits alone.
    """
    if template.means is not Steering.SPEC:
        return with_devices(template, changes)

    def finished(container: Container) -> Container:
        if in_requests:
            container = _with_request(container, decision)
        return _visible(container, decision.pipe_directory, again=former is not None)

    spec, slots = _with_devices(template, changes, finished)
    if decision.pipe_directory:
        spec = mps_daemon.shared_with_host(spec, decision.pipe_directory)
    if decision.steered:
        spec = steering.steered(spec, decision, former)
    elif former is not None and former.steered:
        spec = steering.unsteered(spec, former)
    spec = steering.preferring(spec, decision.pools, former.pools if former is not None else ())
    return msgspec.structs.replace(template, spec=_tolerating(spec), slots=slots)


def undecided(
    template: Template, changes: Changes, former: Decision | None, *, tolerating: bool = True
) -> Template:
    """Returns a template without an earlier decision, where it is no longer ours to decide.

    Args:
        template: the template as it came.
        changes: what its containers get.
        former: what was decided before.
        tolerating: False where nobody but us wrote the toleration: it goes, unless the template asks for a device.
    """
    found = with_devices(template, changes)
    if found.means is not Steering.SPEC or former is None:
        return found
    spec = steering.unsteered(found.spec, former) if former.steered else found.spec
    spec = steering.preferring(spec, (), former.pools)
    if not tolerating and not asking(found):
        others = [each for each in spec.tolerations or () if each != TOLERATION]
        if len(others) < len(spec.tolerations or ()):
            spec = msgspec.structs.replace(spec, tolerations=others or None)
    return msgspec.structs.replace(found, spec=spec)


def asking(template: Template) -> list[str]:
    """Returns the names of the containers that ask for any device of NVIDIA's."""
    return [
        container.name
        for pointer, container in containers(template.spec)
        if (_slot_asks(template.slots[pointer]) if pointer in template.slots else _asks(container))
    ]


def device_names(template: Template) -> set[str]:
    """Returns the names of devices that the containers ask for."""
    maps: list[Mapping[str, Any] | None] = []
    for pointer, container in containers(template.spec):
        if (slot := template.slots.get(pointer)) is not None:
            maps += [amounts for _, amounts in slot.maps]
            maps += [{each.resource: each.quantity} for each in slot.named]
        elif container.resources is not None:
            maps += [container.resources.requests, container.resources.limits]
    return {
        name
        for amounts in maps
        for name, amount in (amounts or {}).items()
        if keys.is_device(name) and not is_zero(amount)
    }


# --- Devices -------------------------------------------------------------------------------------------------


def with_devices(template: Template, changes: Changes) -> Template:
    """Returns a template whose containers ask for other devices."""
    spec, slots = _with_devices(template, changes, lambda container: container)
    return msgspec.structs.replace(template, spec=spec, slots=slots)


def _with_devices(
    template: Template, changes: Changes, finished: Callable[[Container], Container]
) -> tuple[PodSpec, Mapping[str, Slot]]:
    """Returns a pod, and what stands outside its spec, with other devices; each container in the spec is `finished`."""
    changed: dict[str, Container] = {}
    slots = template.slots
    for pointer, container in containers(template.spec):
        change, after = changes.get(pointer), container
        if pointer in slots:
            # What another layer gives such a container is not known here: its pod is looked at again.
            if change is not None:
                slots = {**slots, pointer: _changed_slot(slots[pointer], change)}
            continue
        if change is not None and container.resources is not None:
            resources = _changed_resources(container.resources, change)
            after = msgspec.structs.replace(container, resources=resources)
        after = finished(after)
        if after is not container:
            changed[pointer] = after
    return _with_containers(template.spec, changed) if changed else template.spec, slots


def _changed_resources(resources: Resources, change: Change) -> Resources:
    requests, limits = resources.requests, resources.limits
    return Resources(
        _changed_amounts(requests, change) if requests else requests,
        _changed_amounts(limits, change) if limits else limits,
    )


def _changed_amounts(amounts: Mapping[str, Any], change: Change, *, total: bool = False) -> dict[str, Any]:
    """Quantities under other names; a `total` over pods stays as it is, and is the person's under the old name."""
    found = dict(amounts)
    for name in change.drop:
        found.pop(name, None)
    if change.count and (len(found) < len(amounts) or change.name in found):
        amount = _total(amounts, change) if total else str(change.count)
        if str(found.get(change.name)) != str(amount):
            found[change.name] = amount
    return found


def _total(amounts: Mapping[str, Any], change: Change) -> Any:
    """Returns the first of the quantities, above zero, that a change is about; where all are zero, its count."""
    names = (keys.GPU, *sorted(change.drop), change.name)
    return next((amounts[name] for name in names if not is_zero(amounts.get(name))), str(change.count))


def _changed_slot(slot: Slot, change: Change) -> Slot:
    """Quantities keep the type that they came in (Spark's `gpu.quantity` is an integer, Dynamo's `gpu` a string),
    because the kind's schema would refuse another."""
    maps = tuple((where, _changed_amounts(each, change, total=slot.total)) for where, each in slot.maps)
    named = (_changed_named(each, change) for each in slot.named)
    return msgspec.structs.replace(slot, maps=maps, named=tuple(each for each in named if each is not None))


def _changed_named(named: Named, change: Change) -> Named | None:
    """Returns two fields for a name and a count; None where they go."""
    if named.resource not in change.drop | {change.name}:
        return named
    if not change.count:
        return None
    quantity = named.quantity
    if str(quantity) != str(change.count):
        quantity = str(change.count) if isinstance(quantity, str) else change.count
    return msgspec.structs.replace(named, resource=change.name, quantity=quantity)


def _with_request(container: Container, decision: Decision) -> Container:
    """Has what was decided as a request too. People ask for GPUs in limits, and only in pods does Kubernetes fill in
    the requests; the pods come out the same."""
    assigned, resources = decision.containers.get(container.name), container.resources
    if assigned is None or resources is None or assigned.to not in (resources.limits or {}):
        return container
    if assigned.to in (resources.requests or {}):
        return container
    requests = {**(resources.requests or {}), assigned.to: str(assigned.count)}
    return msgspec.structs.replace(container, resources=Resources(requests, resources.limits))


# --- The pod around them -------------------------------------------------------------------------------------


def _visible(container: Container, pipe_directory: str, *, again: bool) -> Container:
    """Keeps a container without a GPU from being shown every GPU of the node (nvidia-container-toolkit: an image's
    NVIDIA_VISIBLE_DEVICES=all counts where no device was allocated). Decided `again`, one that was hidden and now asks
    for a GPU is hidden no more."""
    env = container.env or ()
    if not _asks(container):
        if _HIDDEN.name in [variable.name for variable in env]:
            return container
        return msgspec.structs.replace(container, env=[*env, _HIDDEN])
    if again and _HIDDEN in env:
        shown = [variable for variable in env if variable != _HIDDEN]
        container = msgspec.structs.replace(container, env=shown)
    return mps_daemon.client(container, pipe_directory) if pipe_directory else container


def _asks(container: Container) -> bool:
    """True when a container asks for any device of NVIDIA's."""
    resources = container.resources
    if resources is None:
        return False
    for amounts in (resources.limits, resources.requests):
        for name, amount in amounts.items() if amounts else ():
            if name.startswith(keys.VENDOR) and not is_zero(amount):
                return True
    return False


def _slot_asks(slot: Slot) -> bool:
    """Likewise of a container outside of the pod spec, as it is written."""
    return bool(slot.named) or any(
        name.startswith(keys.VENDOR) and not is_zero(amount)
        for _, amounts in slot.maps
        for name, amount in amounts.items()
    )


def _tolerating(spec: PodSpec) -> PodSpec:
    """Adds the toleration for the customary GPU taint, unless the pod has one that covers it.

    ExtendedResourceToleration would have tolerated it under the old name only (kubernetes,
    plugin/pkg/admission/extendedresourcetoleration).
    """
    if is_tolerating(spec):
        return spec
    return msgspec.structs.replace(spec, tolerations=[*(spec.tolerations or ()), TOLERATION])


def is_tolerating(spec: PodSpec) -> bool:
    """True when a pod tolerates the customary GPU taint."""
    if not spec.tolerations:
        return False
    return any(keys.tolerates(each.key, each.operator, each.effect) for each in spec.tolerations)


def _with_containers(spec: PodSpec, changed: Mapping[str, Container]) -> PodSpec:
    main, init = [*(spec.containers or ())], [*(spec.init_containers or ())]
    for pointer, container in changed.items():
        _, group, index = pointer.split("/")
        (init if group == "initContainers" else main)[int(index)] = container
    if not init:
        return msgspec.structs.replace(spec, containers=main)
    return msgspec.structs.replace(spec, containers=main or spec.containers, init_containers=init)
