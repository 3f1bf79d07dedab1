"""(template, decision) -> the template as it should be.  Pure.

The patch is the difference (`difference`): what is there already is asked for again to no effect.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from admission.decision import mps_daemon, steering
from admission.decision.gpu_requests import containers, is_zero
from admission.decision.model import Decision
from admission.workloads.kind import Means
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

_HIDDEN: Final = Variable("NVIDIA_VISIBLE_DEVICES", "void")
_TOLERATION: Final = msgspec.convert(keys.TOLERATION, Toleration)


class Change(msgspec.Struct, frozen=True):
    """What becomes of one container's devices: names to drop, and the one to ask for."""

    drop: frozenset[str]
    name: str
    count: int
    """0: nothing is asked for any more."""


Changes = Mapping[str, Change]
"""By pointer of the container, from the pod spec."""


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
    found = with_devices(template, changes)
    if in_requests:
        found = _with_requests(found, decision)
    if found.means is not Means.SPEC:
        return found
    spec = _visible(found, decision.pipe_directory, again=former is not None)
    if decision.pipe_directory:
        spec = mps_daemon.shared_with_host(spec, decision.pipe_directory)
    if decision.steered:
        spec = steering.steered(spec, decision, former)
    elif former is not None and former.steered:
        spec = steering.unsteered(spec, former)
    spec = steering.preferring(spec, decision.pools, former.pools if former is not None else ())
    return msgspec.structs.replace(found, spec=_tolerating(spec))


def undecided(template: Template, changes: Changes, former: Decision | None) -> Template:
    """Returns a template without an earlier decision, where it is no longer ours to decide."""
    found = with_devices(template, changes)
    if found.means is not Means.SPEC or former is None:
        return found
    spec = steering.unsteered(found.spec, former) if former.steered else found.spec
    return msgspec.structs.replace(found, spec=steering.preferring(spec, (), former.pools))


# --- Devices -------------------------------------------------------------------------------------------------


def with_devices(template: Template, changes: Changes) -> Template:
    """Returns a template whose containers ask for other devices."""
    changed: dict[str, Container] = {}
    slots = template.slots
    for pointer, container in containers(template.spec) if changes else ():
        change = changes.get(pointer)
        if change is None:
            continue
        if pointer in slots:
            slots = {**slots, pointer: _changed_slot(slots[pointer], change)}
        elif container.resources is not None:
            resources = _changed_resources(container.resources, change)
            changed[pointer] = msgspec.structs.replace(container, resources=resources)
    return msgspec.structs.replace(template, spec=_with_containers(template.spec, changed), slots=slots)


def _changed_resources(resources: Resources, change: Change) -> Resources:
    requests, limits = resources.requests, resources.limits
    return Resources(
        _changed_amounts(requests, change) if requests else requests,
        _changed_amounts(limits, change) if limits else limits,
    )


def _changed_amounts(amounts: Mapping[str, Any], change: Change, *, total: bool = False) -> dict[str, Any]:
    """Quantities under other names; a `total` over pods stays as it is, and is the person's under the old name."""
    dropped = sorted(change.drop & amounts.keys())
    found = {name: amount for name, amount in amounts.items() if name not in change.drop}
    if change.count and (dropped or change.name in found):
        amount = amounts[dropped[0] if dropped else change.name] if total else str(change.count)
        if str(found.get(change.name)) != str(amount):
            found[change.name] = amount
    return found


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


def _with_requests(template: Template, decision: Decision) -> Template:
    """Has what was decided as a request too. People ask for GPUs in limits, and only in pods does Kubernetes fill in
    the requests; the pods come out the same."""
    changed = {}
    for pointer, container in containers(template.spec):
        assigned, resources = decision.containers.get(container.name), container.resources
        if assigned is None or resources is None or assigned.to not in (resources.limits or {}):
            continue
        if assigned.to not in (resources.requests or {}):
            requests = {**(resources.requests or {}), assigned.to: str(assigned.count)}
            changed[pointer] = msgspec.structs.replace(
                container, resources=Resources(requests, resources.limits)
            )
    return msgspec.structs.replace(template, spec=_with_containers(template.spec, changed))


# --- The pod around them -------------------------------------------------------------------------------------


def _visible(template: Template, pipe_directory: str, *, again: bool) -> PodSpec:
    """Keeps containers without a GPU from being shown every GPU of the node (nvidia-container-toolkit: an image's
    NVIDIA_VISIBLE_DEVICES=all counts where no device was allocated). Decided `again`, a container that was hidden and
    now asks for a GPU is hidden no more.

    What another layer gives a container outside a pod spec is not known here: its pod is looked at again.
    """
    changed = {}
    for pointer, container in containers(template.spec):
        if pointer in template.slots:
            continue
        env = container.env
        if not _asks(container):
            if not any(variable.name == _HIDDEN.name for variable in env or ()):
                changed[pointer] = msgspec.structs.replace(container, env=[*(env or ()), _HIDDEN])
            continue
        if again and _HIDDEN in (env or ()):
            shown = [variable for variable in env or () if variable != _HIDDEN]
            container = changed[pointer] = msgspec.structs.replace(container, env=shown)  # noqa: PLW2901
        if pipe_directory:
            changed[pointer] = mps_daemon.client(container, pipe_directory)
    return _with_containers(template.spec, changed)


def _asks(container: Container) -> bool:
    """True when a container asks for any device of NVIDIA's."""
    resources = container.resources
    return resources is not None and any(
        name.startswith(keys.VENDOR) and not is_zero(amount)
        for amounts in (resources.requests, resources.limits)
        for name, amount in (amounts or {}).items()
    )


def _tolerating(spec: PodSpec) -> PodSpec:
    """Adds the toleration for the customary GPU taint, unless the pod has one that covers it.

    ExtendedResourceToleration would have tolerated it under the old name only (kubernetes,
    plugin/pkg/admission/extendedresourcetoleration).
    """
    if is_tolerating(spec):
        return spec
    return msgspec.structs.replace(spec, tolerations=[*(spec.tolerations or ()), _TOLERATION])


def is_tolerating(spec: PodSpec) -> bool:
    """True when a pod tolerates the customary GPU taint."""
    return any(keys.tolerates(each.key, each.operator, each.effect) for each in spec.tolerations or ())


def _with_containers(spec: PodSpec, changed: Mapping[str, Container]) -> PodSpec:
    if not changed:
        return spec
    return msgspec.structs.replace(
        spec,
        containers=_with_changed(spec.containers, changed, "/containers/"),
        init_containers=_with_changed(spec.init_containers, changed, "/initContainers/"),
    )


def _with_changed(
    group: list[Container] | None, changed: Mapping[str, Container], prefix: str
) -> list[Container] | None:
    return group and [changed.get(f"{prefix}{index}", each) for index, each in enumerate(group)]
