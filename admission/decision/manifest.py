"""What a person's manifest asks of a container, where a merge left ours standing beside it.  Pure.

kubectl writes the manifest that it applies into an annotation, server-side apply the fields that it sets into
managedFields, and Helm sends what changed alone, so that a device name that was not there before is the person's.

Failure mode: what cannot be read tells nothing.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, Final

import msgspec
from typing_extensions import Buffer

from admission.decision.gpu_requests import zero_devices
from admission.workloads.json_pointer import member, unescape
from admission.workloads.kind import Kind
from admission.workloads.model import Container, Slot, Template
from slicewise.api import keys
from slicewise.api.quantities import QuantityError, count

_GROUPS: Final = ("containers", "initContainers")
Amounts = Mapping[str, int]
"""Devices by name, above zero; empty where none is asked for."""


HELM: Final = "helm"
"""What Helm calls itself as an owner of fields, and Flux's helm-controller begins with (helm, pkg/kube/client.go)."""


class _Metadata(msgspec.Struct, rename="camel"):
    annotations: dict[str, Any] | None = None
    managed_fields: list[dict[str, Any]] | None = None


class _Object(msgspec.Struct):
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)


class Manifests:
    """The manifests behind an UPDATE, read when somebody asks."""

    def __init__(self, raw: Buffer, old: Buffer, field_manager: str = "") -> None:
        self._new, self._old = _metadata(raw), _metadata(old)
        self._field_manager = field_manager

    def asks(
        self, template: Template, pointer: str, container: Container, was: Container | None, given: str
    ) -> Amounts | None:
        """Returns the devices that the manifest asks of a container now; None where nothing in the request tells.

        Args:
            template: the template as it came.
            pointer: the container's place in its pod spec.
            container: the container as it came.
            was: the container as it stood; None for a new one.
            given: the name that was given to it before, which a merge leaves standing.
        """
        if keys.GPU in _named(container):
            return None  # the request asks for GPUs itself, whatever an update took from those who applied before
        slot = template.slots.get(pointer)
        said = (
            self._applied_by_kubectl(template, container.name)
            if slot is None
            else self._slot_applied_by_kubectl(slot)
        )
        if said is None:
            said = self._applied_by_server(template, container, slot)
        return said if said is not None else _added(container, was, given)

    def recounted(self, slot: Slot | None, container: Container, was: Container | None, given: str) -> int:
        """Returns how many GPUs a chart asks for now at two fields for a name and a count, of which Helm sends the
        count alone, as the chart's name is the same and `given` stands there; 0 where it sends none."""
        if slot is None or not slot.named or was is None or not self.merged_by_helm:
            return 0
        now, stood = _named(container).get(given, 0), _named(was).get(given, 0)
        return now if stood and now != stood else 0

    def are_silent(self, kind: Kind, slot: Slot | None) -> bool:
        """True for an upgrade by Helm's three-way merge.

        Of kinds that its library knows, Helm compares the chart with what stands. A chart that still asks for
        `nvidia.com/gpu` sends it, because it does not stand. One that asks no more sends nothing of it, and so does one
        that never asked.

        Of other kinds it compares the chart with the chart before, and sends lists whole. Of a map outside of lists (a
        `slot`) it sends nothing, whether the chart still asks or not.
        """
        compares = kind.built_in or (slot is not None and not any(map(_is_in_list, slot.maps)))
        return compares and self.merged_by_helm

    @property
    def merged_by_helm(self) -> bool:
        """True for an upgrade by Helm's three-way merge, which tells nothing of what the chart says at other places."""
        applied = any(
            entry.get("operation") == "Apply" and entry.get("manager") == self._field_manager
            for entry in self._new.managed_fields or ()
        )
        return self._field_manager.startswith(HELM) and not applied

    def leaves_out(self, pointer: str) -> bool:
        """True when the manifest is known to say nothing at a place of the object."""
        if isinstance(_text(self._new), str):
            return self._sent is not None and _at(self._sent, pointer) is None
        applied = [each for each in self._new.managed_fields or () if each.get("operation") == "Apply"]
        return bool(applied) and not any(_owns(each.get("fieldsV1"), pointer) for each in applied)

    @cached_property
    def _sent(self) -> Any:
        """What kubectl applied last; it is as long as the object, and asked about for each place of it."""
        return _decoded(_text(self._new))

    @cached_property
    def _sent_before(self) -> Any:
        return _decoded(_text(self._old))

    @cached_property
    def _is_applied(self) -> bool:
        """False where kubectl applied nothing, or the same again."""
        text = _text(self._new)
        return isinstance(text, str) and text != _text(self._old)

    def _applied_by_kubectl(self, template: Template, name: str) -> Amounts | None:
        if not self._is_applied:
            return None
        spec = _at(self._sent, template.spec_pointer)
        if not isinstance(spec, dict):
            return None
        for group in _GROUPS:
            for each in spec.get(group) or () if isinstance(spec.get(group), list) else ():
                if isinstance(each, dict) and each.get("name") == name:
                    return _amounts(each.get("resources"))
        return None

    def _slot_applied_by_kubectl(self, slot: Slot) -> Amounts | None:
        """Likewise of a container outside of the pod spec, of which no name tells whether the manifest has it."""
        if not self._is_applied:
            return None
        now, then = (_slot_amounts(each, slot) for each in (self._sent, self._sent_before))
        return now if now or then else None

    def _applied_by_server(
        self, template: Template, container: Container, slot: Slot | None
    ) -> Amounts | None:
        now, before = (
            frozenset(
                _applied_names(metadata, template, container.name)
                if slot is None
                else _slot_names(metadata, slot)
            )
            for metadata in (self._new, self._old)
        )
        if now == before:
            return None
        return {name: number for name, number in _named(container).items() if name in now}


def _metadata(raw: Buffer) -> _Metadata:
    try:
        return msgspec.json.decode(raw, type=_Object).metadata
    except (msgspec.MsgspecError, RecursionError):
        return _Metadata()


def _text(metadata: _Metadata) -> Any:
    return (metadata.annotations or {}).get(keys.LAST_APPLIED)


def _is_in_list(placed: tuple[str, Any]) -> bool:
    return any(step.isdecimal() for step in placed[0].split("/"))


def _decoded(text: Any) -> Any:
    try:
        return msgspec.json.decode(text) if isinstance(text, str) else None
    except (msgspec.MsgspecError, RecursionError):
        return None


def _slot_amounts(sent: Any, slot: Slot) -> Amounts:
    """Returns the devices that a manifest asks at the places of a slot; of a total, each as one."""
    found: dict[str, int] = {}
    for where, _ in slot.maps:
        found |= _amounts({"limits": _at(sent, where)})
    for each in slot.named:
        name = _at(sent, each.name) or keys.GPU
        if isinstance(name, str):
            found |= _amounts({"limits": {name: _at(sent, each.count)}})
    return dict.fromkeys(found, 1) if slot.total else found


def _slot_names(metadata: _Metadata, slot: Slot) -> Iterator[str]:
    """Yields the devices that server-side apply set at the places of a slot; items of lists are keyed otherwise."""
    for entry in metadata.managed_fields or ():
        for where, _ in slot.maps:
            fields: Any = entry.get("fieldsV1") if entry.get("operation") == "Apply" else None
            for step in where.split("/")[1:]:
                fields = fields.get(f"f:{unescape(step)}") if isinstance(fields, dict) else None
            for key in fields if isinstance(fields, dict) else ():
                if keys.is_device(key.removeprefix("f:")):
                    yield key.removeprefix("f:")


def _added(container: Container, was: Container | None, given: str) -> Amounts | None:
    """Returns what was added beside the former name, or another number of it: nobody but the person sends one."""
    if was is None:
        return None
    now, stood = _named(container), _named(was)
    zeros, before = zero_devices(container), stood.keys() | zero_devices(was)
    added = {
        name: number
        for name, number in now.items()
        if (name in stood and stood[name] != number if name == given else name not in before)
    }
    if added or keys.GPU in zeros - before:
        return added
    return None


def _named(container: Container) -> dict[str, int]:
    resources = container.resources
    if resources is None:
        return {}
    return _amounts({"requests": resources.requests, "limits": resources.limits})


def _amounts(resources: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for side in ("requests", "limits"):
        amounts = resources.get(side) if isinstance(resources, dict) else None
        for name, quantity in amounts.items() if isinstance(amounts, dict) else ():
            try:
                number = count(quantity) if keys.is_device(name) else 0
            except QuantityError:
                continue
            if number:
                found[name] = max(found.get(name, 0), number)
    return found


def _at(document: Any, pointer: str) -> Any:
    for step in pointer.split("/")[1:]:
        document = member(document, step)
    return document


def _owns(fields: Any, pointer: str) -> bool:
    """True when an entry of managedFields has the field at a place, or all that it is in; items of lists are keyed
    otherwise, and may be anybody's."""
    for step in pointer.split("/")[1:]:
        if not isinstance(fields, dict) or not fields or step.isdecimal():
            return True
        if (fields := fields.get(f"f:{unescape(step)}")) is None:
            return False
    return True


def _applied_names(metadata: _Metadata, template: Template, name: str) -> Iterator[str]:
    """Yields the devices of a container that server-side apply set; items of other lists are keyed otherwise."""
    for entry in metadata.managed_fields or ():
        fields: Any = entry.get("fieldsV1") if entry.get("operation") == "Apply" else None
        for step in template.spec_pointer.split("/")[1:]:
            fields = fields.get(f"f:{unescape(step)}") if isinstance(fields, dict) else None
        for group in _GROUPS:
            items = fields.get(f"f:{group}") if isinstance(fields, dict) else None
            item = items.get(f'k:{{"name":"{name}"}}') if isinstance(items, dict) else None
            resources = item.get("f:resources") if isinstance(item, dict) else None
            for side in ("f:requests", "f:limits"):
                amounts = resources.get(side) if isinstance(resources, dict) else None
                for key in amounts if isinstance(amounts, dict) else ():
                    if keys.is_device(key.removeprefix("f:")):
                        yield key.removeprefix("f:")
