"""Volcano: the queue is a field, a label or an annotation, as each kind has it (docs/kinds.md, "Queues").  Pure.

The CRDs of its own kinds write `default` where nothing was said, before any webhook sees the object. So it counts as
nothing said there, unless the client tells otherwise (`field_ownership`). Anywhere else a person wrote it.
"""

from collections.abc import Callable, Iterator
from typing import Final

from admission.decision import template_matching
from admission.engines.fields import UNSAID, set_if_missing
from admission.mutation.draft import Draft
from admission.workloads.field_ownership import set_by_user
from admission.workloads.json_pointer import escape
from admission.workloads.model import Template, Workload
from admission.workloads.path_language import places, steps_of
from slicewise.api import keys

_DEFAULT_SCHEDULER: Final = "default-scheduler"


def queues(workload: Workload) -> bool:
    """True when a workload says itself that Volcano queues it."""
    queueing = workload.queueing
    if queueing.engine == "volcano":
        return True
    if queueing.volcano_label and workload.metadata.label(queueing.volcano_label):
        return True
    if queueing.volcano_scheduler:
        found = places(workload.document, steps_of(queueing.volcano_scheduler))
        return any(value == keys.VOLCANO_SCHEDULER for _, value in found)
    return any(_fields(workload))


def queues_template(template: Template) -> bool:
    """True when a template says itself that Volcano schedules its pods."""
    return template.spec.scheduler_name == keys.VOLCANO_SCHEDULER


def queue_of(workload: Workload) -> str:
    """Returns the queue that a workload names; "" when it names none."""
    said: list[str | None] = [*_fields(workload)]
    if label := workload.queueing.volcano_label:
        said.append(workload.metadata.label(label))
    said.append(workload.metadata.annotation(keys.VOLCANO_QUEUE))
    return next(filter(None, said), "")


def queue_of_template(template: Template) -> str:
    """Returns the queue that a template names for its pods; "" when it names none."""
    return (template.metadata and template.metadata.annotation(keys.VOLCANO_QUEUE)) or ""


def has_started(workload: Workload) -> bool:  # noqa: ARG001  its quota is of names, not of nodes
    """False always: Volcano keeps no pod to the nodes of a quota."""
    return False


def _fields(workload: Workload) -> Iterator[str]:
    """Yields the queues that the fields of a workload name."""
    for place in workload.queueing.volcano:
        steps = steps_of(place)
        for _, value in places(workload.document, steps):
            if isinstance(value, str) and (
                value not in _unsaid(workload) or set_by_user(workload.document, steps)
            ):
                yield value


def _unsaid(workload: Workload) -> tuple[str | None, ...]:
    """Returns what stands in a field where nobody named a queue."""
    return (*UNSAID, "default") if workload.queueing.engine == "volcano" else UNSAID


def join(draft: Draft, workload: Workload, queue: str) -> None:
    """Puts a workload that names no queue into one."""
    queueing = workload.queueing
    _join_by_field(draft, workload, queue)
    if (label := queueing.volcano_label) and not workload.metadata.label(label):
        draft.label("", workload.metadata, label, queue)
    if queueing.volcano_annotation and not workload.metadata.annotation(keys.VOLCANO_QUEUE):
        draft.annotate("", workload.metadata, keys.VOLCANO_QUEUE, queue)
    if queueing.volcano_templates:
        for template in workload.templates:
            _join_by_template(draft, template, queue)


def _join_by_field(draft: Draft, workload: Workload, queue: str) -> None:
    queueing, document = workload.queueing, workload.document
    if any(set_by_user(document, steps_of(place)) for place in queueing.volcano):
        return
    scheduler = steps_of(queueing.volcano_scheduler)
    if scheduler and any(
        value not in (None, "", keys.VOLCANO_SCHEDULER) for _, value in places(document, scheduler)
    ):
        return
    unsaid = _unsaid(workload)
    joined = [set_if_missing(draft, document, steps_of(place), queue, unsaid) for place in queueing.volcano]
    if scheduler and any(joined):
        set_if_missing(draft, document, scheduler, keys.VOLCANO_SCHEDULER)


def _join_by_template(draft: Draft, template: Template, queue: str) -> None:
    scheduler = template.spec.scheduler_name
    if not template.annotatable or scheduler not in {None, _DEFAULT_SCHEDULER, keys.VOLCANO_SCHEDULER}:
        return
    if template.metadata is None or not template.metadata.annotation(keys.VOLCANO_QUEUE):
        draft.annotate(template.pointer, template.metadata, keys.VOLCANO_QUEUE, queue)
    draft.field(template.spec_pointer + "/schedulerName", scheduler, keys.VOLCANO_SCHEDULER)


def keep(draft: Draft, workload: Workload, old: Workload) -> None:
    """Keeps a workload in its queue through an update that leaves it out."""
    queueing, unsaid = workload.queueing, _unsaid(workload)
    for place in (*queueing.volcano, queueing.volcano_scheduler):
        said = [value for _, value in places(old.document, steps_of(place)) if isinstance(value, str)]
        values = {value for value in said if value not in unsaid}
        if place and len(values) == 1:
            set_if_missing(draft, workload.document, steps_of(place), values.pop(), unsaid)
    label = queueing.volcano_label
    if label and (queue := old.metadata.label(label)) and not workload.metadata.label(label):
        draft.label("", workload.metadata, label, queue)
    queue = old.metadata.annotation(keys.VOLCANO_QUEUE)
    if queueing.volcano_annotation and queue and not workload.metadata.annotation(keys.VOLCANO_QUEUE):
        draft.annotate("", workload.metadata, keys.VOLCANO_QUEUE, queue)
    before = template_matching.match_templates(workload, old)
    for template in workload.templates:
        was = before.get(template.spec_pointer)
        queue = was.metadata.annotation(keys.VOLCANO_QUEUE) if was and was.metadata else None
        if queue and was and was.spec.scheduler_name == keys.VOLCANO_SCHEDULER:
            _join_by_template(draft, template, queue)


def stays(workload: Workload, unsaid: Callable[[str], bool]) -> str:
    """Says in which queue a workload stays where its manifest names none; "" where in none."""
    for pointer, queue in _named(workload):
        if queue not in UNSAID and unsaid(pointer):
            return f"stays in queue {queue} of Volcano's, where one put it; create it anew to have it in none"
    return ""


def _named(workload: Workload) -> Iterator[tuple[str, object]]:
    """Yields each place that may name a queue, with what it says."""
    annotation = f"/metadata/annotations/{escape(keys.VOLCANO_QUEUE)}"
    for place in workload.queueing.volcano:
        yield from places(workload.document, steps_of(place))
    if label := workload.queueing.volcano_label:
        yield f"/metadata/labels/{escape(label)}", workload.metadata.label(label)
    yield annotation, workload.metadata.annotation(keys.VOLCANO_QUEUE)
    for template in workload.templates:
        if template.metadata is not None:
            yield f"{template.pointer}{annotation}", template.metadata.annotation(keys.VOLCANO_QUEUE)


def pins(workload: Workload, old: Workload) -> bool:  # noqa: ARG001  whatever it is asked to become
    """True always: Volcano refuses an update of the tasks of its Jobs."""
    return True
