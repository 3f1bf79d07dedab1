"""Kueue: the queue is a label of the object, or of what is made of it.  Pure."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from admission.engines.fields import set_if_missing
from admission.mutation.draft import Draft
from admission.workloads.json_pointer import escape, member
from admission.workloads.model import Metadata, Template, Workload, metadata_of
from admission.workloads.path_language import places, steps_of
from slicewise.api import keys


def has_started(workload: Workload) -> bool:
    """True for a pod of work that Kueue says it has started: its nodeSelector is a flavor's (pkg/podset/podset.go).

    Kueue writes the label into the templates of what it starts, so a pod that nothing owns has it from a person.
    """
    metadata = workload.metadata
    return (
        metadata.label(keys.KUEUE_POD_SET) is not None
        and workload.row.is_pod
        and metadata.controller is not None
    )


def queue_named(workload: Workload) -> str:
    """Returns the queue that a workload names where Kueue reads it; "" when it names none."""
    place = workload.queueing.kueue
    if place == "metadata":
        return workload.metadata.label(keys.KUEUE_QUEUE) or ""
    for _, metadata in places(workload.document, steps_of(place)) if place else ():
        found = metadata.get("labels") if isinstance(metadata, dict) else None
        if isinstance(found, dict) and isinstance(queue := found.get(keys.KUEUE_QUEUE), str) and queue:
            return queue
    return ""


def queues(workload: Workload) -> bool:
    """True when a workload says itself that Kueue queues it."""
    return bool(queue_of(workload)) or has_started(workload)


def queues_template(template: Template) -> bool:  # noqa: ARG001  the label speaks for every template
    """False always: no template is queued by itself."""
    return False


def queue_of(workload: Workload) -> str:
    """Returns the queue that a workload names, perhaps where it means something for its pods alone, or nothing; ""
    when it names none."""
    if not workload.queueing.kueue:
        return ""
    if named := queue_named(workload):
        return named
    metadata = (
        workload.metadata,
        *(template.metadata for template in workload.templates if template.metadata),
        *(each for template in workload.templates for each in _around(workload, template)),
    )
    return next((queue for each in metadata if (queue := each.label(keys.KUEUE_QUEUE))), "")


def queue_of_template(template: Template) -> str:  # noqa: ARG001  likewise
    """Returns "" always."""
    return ""


def _around(workload: Workload, template: Template) -> Iterator[Metadata]:
    """Yields the metadata of what stands between a workload and its pod template: of the jobs of a JobSet."""
    value: Any = workload.document
    pointer, inner = template.spec_pointer, template.inner
    if inner is not None and inner.document is value:
        pointer = pointer.removeprefix(inner.pointer)  # which counts from the object around
    for step in pointer.split("/")[1:]:
        value = member(value, step)
        if not isinstance(value, dict | list):
            return
        if isinstance(value, dict) and isinstance(value.get("metadata"), dict):
            try:
                yield metadata_of(value)
            except msgspec.ValidationError:
                continue


def join(draft: Draft, workload: Workload, queue: str) -> None:
    """Puts a workload into a queue, unless it is in one."""
    place = workload.queueing.kueue
    if not place or queue_named(workload) or has_started(workload):
        return
    if place == "metadata":
        draft.label("", workload.metadata, keys.KUEUE_QUEUE, queue)
        return
    *holder, last = steps_of(place)
    if last != "metadata":
        set_if_missing(draft, workload.document, (*holder, last, "labels", keys.KUEUE_QUEUE), queue)
        return
    for pointer, value in places(workload.document, tuple(holder)):
        metadata = value.get("metadata") if isinstance(value, dict) else value
        if isinstance(metadata, dict | None):  # else the API server says what is wrong with it
            current = metadata_of(value) if metadata is not None else None
            draft.label(pointer, current, keys.KUEUE_QUEUE, queue)


def keep(draft: Draft, workload: Workload, old: Workload) -> None:
    """Keeps a workload in its queue through an update that leaves it out."""
    if queue := queue_named(old):
        join(draft, workload, queue)


def stays(workload: Workload, unsaid: Callable[[str], bool]) -> str:
    """Says in which queue a workload stays where its manifest names none; "" where in none."""
    queue = workload.metadata.label(keys.KUEUE_QUEUE)
    if queue is None or not unsaid(f"/metadata/labels/{escape(keys.KUEUE_QUEUE)}"):
        return ""
    return (
        f"stays in queue {queue}, where one put it; remove the label {keys.KUEUE_QUEUE}, or create it anew where Kueue "
        "takes no such change"
    )


def pins(workload: Workload, old: Workload) -> bool:
    """True while Kueue runs it: a kind of which it compares the pods with those that it admitted."""
    return bool(queue_named(old)) and not old.suspended and not workload.suspended
