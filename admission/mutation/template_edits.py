"""A decision -> operations and marks on one template and on its object.  Pure."""

from collections.abc import Mapping
from typing import Final

from admission.decision.gpu_requests import GpuRequest, containers, plain, zero_devices
from admission.decision.model import Decision
from admission.decision.record import merged, text
from admission.mutation import template_patch
from admission.mutation.template_patch import Change, MetadataEdits, Operation
from admission.workloads.model import Template, Workload
from admission.workloads.path_language import escape
from slicewise.api import keys

NOTHING: Final = Change(frozenset({keys.GPU}), keys.GPU, 0)
_NO_CHANGES: Final[Mapping[str, Change]] = {}


def clear(each: GpuRequest) -> bool:
    """True when it can be told what a container asks for."""
    return not each.unreadable and plain(each)


def given(
    template: Template,
    asked: list[GpuRequest],
    decision: Decision,
    marks: MetadataEdits,
    former: Decision | None = None,
    withdrawn: Mapping[str, Change] = _NO_CHANGES,
) -> list[Operation]:
    """Returns the operations that give a template what was decided, in place of a former decision, and take what
    is `withdrawn`, by container pointer."""
    changes = dict(withdrawn)
    for each in asked:
        assigned = decision.containers.get(each.container.name)
        if (
            each.pointer not in changes
            and assigned is not None
            and (each.gpus or holds_still(each, decision))
        ):
            drop = {keys.GPU, *each.named} - {assigned.to}
            changes[each.pointer] = Change(frozenset(drop), assigned.to, assigned.count)
    if changes:
        changes |= _without_zeros(template, changes)
    if template.annotatable and template.pointer:
        marks.annotate(template.pointer, template.metadata, keys.DECISION, text(decision))
    return template_patch.template(template, changes, decision, former)


def _without_zeros(template: Template, changes: Mapping[str, Change]) -> dict[str, Change]:
    """Returns what takes zeros of devices out of a template that is rewritten: Kueue and Volcano count the names."""
    found = {}
    for pointer, container in containers(template.spec):
        zeros = zero_devices(container)
        if zeros and pointer in changes:
            change = changes[pointer]
            found[pointer] = Change(change.drop | (zeros - {change.name}), change.name, change.count)
        elif zeros:
            found[pointer] = Change(zeros, keys.GPU, 0)
    return found


def taken_back(template: Template, asked: list[GpuRequest]) -> list[Operation]:
    """Returns the operations by which containers ask for no GPU any more."""
    return template_patch.given_back(template, {each.pointer: NOTHING for each in asked if each.gpus}, None)


def given_back(template: Template, asked: list[GpuRequest], record: Decision) -> list[Operation]:
    """Returns the operations that leave a template as a person asks, where nothing is decided any more:
    no pod may ask for both names."""
    changes = {}
    for each in asked:
        name = _given_to(each, record)
        if each.gpus and name in each.named:
            changes[each.pointer] = Change(frozenset({name}), keys.GPU, each.gpus)
    return template_patch.given_back(template, changes, record)


def stepping_back(asked: list[GpuRequest], renamed: Mapping[str, Mapping[str, int]]) -> dict[str, Change]:
    """Returns what leaves containers what their manifest names, by container pointer."""
    changes = {}
    for each in asked:
        asks = renamed.get(each.container.name)
        if asks is not None:
            drop = ({keys.GPU, *each.named} | zero_devices(each.container)) - asks.keys()
            changes[each.pointer] = Change(frozenset(drop), keys.GPU, 0)
    return changes


def unrecorded(template: Template, workload: Workload) -> list[Operation]:
    """Returns the operations that take the record away, where nothing of what it says is so any more."""
    places = [(f"{template.pointer}/metadata", template.metadata)]
    if len(workload.templates) == 1:
        places.append(("/metadata", workload.metadata))
    key = escape(keys.DECISION)
    return [
        {"op": "remove", "path": f"{pointer}/annotations/{key}"}
        for pointer, metadata in dict(places).items()
        if metadata is not None and metadata.annotation(keys.DECISION) is not None
    ]


def holds_still(each: GpuRequest, record: Decision) -> bool:
    """True when a container still asks for what was decided, whatever it asks for beside that."""
    assigned = record.containers.get(each.container.name)
    return assigned is not None and each.named.get(assigned.to) == assigned.count


def _given_to(each: GpuRequest, record: Decision) -> str:
    assigned = record.containers.get(each.container.name)
    return assigned.to if assigned is not None else ""


def annotated(workload: Workload, results: list[tuple[Template, Decision]], marks: MetadataEdits) -> None:
    """Writes what was decided on the object, and on each object within it."""
    if results:
        marks.annotate("", workload.metadata, keys.DECISION, text(merged(results)))
    if workload.document:
        told_inside(results, marks)


def left_out(template: Template, marks: MetadataEdits) -> None:
    """Says on a template, or on an object within the workload, that its owner opted out: Pods are made of it, and
    nothing is seen there of the labels and annotations outside."""
    if template.inner is not None:
        marks.annotate(template.inner.pointer, template.inner.metadata, keys.REWRITE, "false")
    elif template.annotatable and template.pointer:
        marks.annotate(template.pointer, template.metadata, keys.REWRITE, "false")


def told_inside(results: list[tuple[Template, Decision]], marks: MetadataEdits) -> None:
    """Writes on each object within the workload what was decided: the labels outside are not seen there."""
    inner = {t.inner.pointer: t.inner.metadata for t, _ in results if t.inner is not None}
    for pointer, metadata in inner.items():
        told = merged([each for each in results if each[0].inner and each[0].inner.pointer == pointer])
        marks.annotate(pointer, metadata, keys.DECISION, text(told))
        marks.label(pointer, metadata, keys.WORKLOAD_CLASS, told.class_name)


def in_words(decision: Decision) -> str:
    """Returns what each container asked and gets, and why, for a warning."""
    moves = ", ".join(
        f"{name}: {each.source} {each.asked} -> {each.to} {each.count}"
        for name, each in decision.containers.items()
    )
    return f"{moves} ({decision.reason})"
