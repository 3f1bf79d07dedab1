"""The engine's own queue label, annotation or field, where the namespace names a queue and the workload none.  Pure.

Where each kind takes it is data (`Queueing`; docs/kinds.md, "Queues"). A workload that carries its own queue
keeps it. Volcano's CRDs write `default` where nothing was said before any webhook sees the object, so that
`default` counts as nothing said, unless the client tells otherwise (`meant`).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from admission.decision import template_matching
from admission.mutation.template_patch import MetadataEdits, Operation
from admission.workloads.field_ownership import meant
from admission.workloads.model import Template, Workload, metadata_of
from admission.workloads.path_language import Steps, escape, places, steps_of
from slicewise.api import keys
from slicewise.api.policy import Engine

Labels = Mapping[str, str]

_DEFAULT_SCHEDULER: Final = "default-scheduler"
_UNSAID: Final = (None, "", "default")


def joined(workload: Workload, labels: Labels, marks: MetadataEdits) -> list[Operation]:
    """Puts new work into the queue that its namespace names; returns what `marks` cannot hold."""
    queue = labels.get(keys.QUEUE)
    engine = labels.get(keys.ENGINE, Engine.KUEUE)
    if not queue or workload.metadata.controller is not None:
        return []
    if engine == Engine.KUEUE:
        return _labelled(workload, queue, marks)
    if engine == Engine.VOLCANO:
        return [*_fields(workload, queue), *_volcano(workload, queue, marks)]
    return []


def kept(workload: Workload, old: Workload, marks: MetadataEdits) -> list[Operation]:
    """Keeps a queue through an UPDATE that re-applies a manifest without it."""
    operations: list[Operation] = []
    queue = _kueue_of(old)
    if queue is not None:
        operations += _labelled(workload, queue, marks)
    queueing = workload.queueing
    for place in (*queueing.volcano, queueing.volcano_scheduler):
        said = [value for _, value in places(old.document, steps_of(place)) if isinstance(value, str)]
        values = {value for value in said if value not in _UNSAID}
        if place and len(values) == 1:
            operations += setting(workload.document, steps_of(place), values.pop())
    if queueing.volcano_label and (queue := old.metadata.label(queueing.volcano_label)):
        _label_once(workload, queueing.volcano_label, queue, marks)
    if queueing.volcano_annotation and (queue := old.metadata.annotation(keys.VOLCANO_QUEUE)):
        _annotate_once(workload, queue, marks)
    stood = template_matching.stood(workload, old)
    for template in workload.templates:
        was = stood.get(template.spec_pointer)
        queue = was.metadata.annotation(keys.VOLCANO_QUEUE) if was and was.metadata else None
        if queue and was and was.spec.scheduler_name == keys.VOLCANO_SCHEDULER:
            operations += _template(template, queue, marks)
    return operations


def engine_of(workload: Workload, template: Template, labels: Labels) -> Engine | None:
    """Returns who queues a workload: what it says itself, else what its namespace says; None where nobody says, or
    it says both."""
    kueue = _kueue_of(workload) is not None
    volcano = _is_volcanos(workload, template)
    if kueue or volcano:
        return None if kueue and volcano else Engine.KUEUE if kueue else Engine.VOLCANO
    said = labels.get(keys.ENGINE, Engine.KUEUE if labels.get(keys.QUEUE) else Engine.NONE)
    return Engine(said) if said in {Engine.KUEUE, Engine.VOLCANO} else None


def queue_of(workload: Workload, template: Template, labels: Labels, engine: Engine | None) -> str:
    """Returns the queue in which an engine will count a workload; "" where nobody says."""
    named = labels.get(keys.QUEUE, "")
    if engine is Engine.KUEUE:
        return _kueue_of(workload) or named
    if engine is not Engine.VOLCANO:
        return ""
    queueing = workload.queueing
    said = [value for place in queueing.volcano for _, value in places(workload.document, steps_of(place))]
    said += [workload.metadata.label(queueing.volcano_label)] if queueing.volcano_label else []
    said += [workload.metadata.annotation(keys.VOLCANO_QUEUE)]
    said += [template.metadata.annotation(keys.VOLCANO_QUEUE)] if template.metadata else []
    return next((str(value) for value in said if value not in _UNSAID), named)


def _is_volcanos(workload: Workload, template: Template) -> bool:
    queueing = workload.queueing
    if workload.group.endswith(".volcano.sh") or template.spec.scheduler_name == keys.VOLCANO_SCHEDULER:
        return True
    if queueing.volcano_label and workload.metadata.label(queueing.volcano_label):
        return True
    document = workload.document
    if queueing.volcano_scheduler:
        found = places(document, steps_of(queueing.volcano_scheduler))
        return any(value == keys.VOLCANO_SCHEDULER for _, value in found)
    return any(
        value not in _UNSAID for place in queueing.volcano for _, value in places(document, steps_of(place))
    )


def keeper(workload: Workload, old: Workload) -> str:
    """Returns the engine that keeps an object to what its pods ask for now; "" where a change is as any other."""
    engine = old.queueing.keeper
    if engine == Engine.KUEUE and (_kueue_of(old) is None or old.suspended or workload.suspended):
        return ""
    return engine


def volcano_queue(workload: Workload, labels: Labels) -> str:
    """Returns Volcano's queue for work that is new and names none; "" when there is none."""
    if labels.get(keys.ENGINE) != Engine.VOLCANO or workload.metadata.controller is not None:
        return ""
    return labels.get(keys.QUEUE, "")


def _kueue_of(workload: Workload) -> str | None:
    place = workload.queueing.kueue
    if place == "metadata":
        return workload.metadata.label(keys.KUEUE_QUEUE)
    for _, metadata in places(workload.document, steps_of(place)) if place else ():
        found = metadata.get("labels") if isinstance(metadata, dict) else None
        if isinstance(found, dict) and isinstance(found.get(keys.KUEUE_QUEUE), str):
            return str(found[keys.KUEUE_QUEUE])
    return None


def _labelled(workload: Workload, queue: str, marks: MetadataEdits) -> list[Operation]:
    place = workload.queueing.kueue
    if not place or _kueue_of(workload) is not None or workload.metadata.label(keys.KUEUE_QUEUE) is not None:
        return []
    if place == "metadata":
        marks.label("", workload.metadata, keys.KUEUE_QUEUE, queue)
        return []
    *holder, last = steps_of(place)
    if last != "metadata":
        return list(setting(workload.document, (*holder, last, "labels", keys.KUEUE_QUEUE), queue))
    for pointer, value in places(workload.document, tuple(holder)):
        metadata = value.get("metadata") if isinstance(value, dict) else value
        if isinstance(metadata, dict | None):  # else the API server says what is wrong with it
            marks.label(
                pointer, metadata_of(value) if metadata is not None else None, keys.KUEUE_QUEUE, queue
            )
    return []


def _fields(workload: Workload, queue: str) -> list[Operation]:
    queueing, document = workload.queueing, workload.document
    if any(meant(document, steps_of(place)) for place in queueing.volcano):
        return []
    scheduler: list[Operation] = []
    if queueing.volcano_scheduler:
        steps = steps_of(queueing.volcano_scheduler)
        if any(value not in (None, "", keys.VOLCANO_SCHEDULER) for _, value in places(document, steps)):
            return []
        scheduler = list(setting(document, steps, keys.VOLCANO_SCHEDULER))
    said = [op for place in queueing.volcano for op in setting(document, steps_of(place), queue)]
    return [*said, *scheduler] if said else []


def setting(document: Any, steps: Steps, value: str) -> Iterator[Operation]:
    """Yields what sets a field wherever its place leads and nothing is said, making the objects on the way."""
    lists = max((index for index, step in enumerate(steps) if step in {"[]", "*"}), default=-1)
    for pointer, start in places(document, steps[: lists + 1]):
        holder, where, rest = start, pointer, list(steps[lists + 1 :])
        while len(rest) > 1 and isinstance(holder, dict) and isinstance(holder.get(rest[0]), dict):
            holder, where = holder[rest[0]], f"{where}/{rest.pop(0)}"
        if not isinstance(holder, dict) or holder.get(rest[0]) not in _UNSAID:
            continue
        new: Any = value
        for step in reversed(rest[1:]):
            new = {step: new}
        yield {"op": "add", "path": f"{where}/{escape(rest[0])}", "value": new}


def _volcano(workload: Workload, queue: str, marks: MetadataEdits) -> list[Operation]:
    queueing = workload.queueing
    if queueing.volcano_label:
        _label_once(workload, queueing.volcano_label, queue, marks)
    if queueing.volcano_annotation:
        _annotate_once(workload, queue, marks)
    if not queueing.volcano_templates:
        return []
    return [operation for template in workload.templates for operation in _template(template, queue, marks)]


def _label_once(workload: Workload, label: str, queue: str, marks: MetadataEdits) -> None:
    if workload.metadata.label(label) is None:
        marks.label("", workload.metadata, label, queue)


def _annotate_once(workload: Workload, queue: str, marks: MetadataEdits) -> None:
    if workload.metadata.annotation(keys.VOLCANO_QUEUE) is None:
        marks.annotate("", workload.metadata, keys.VOLCANO_QUEUE, queue)


def _template(template: Template, queue: str, marks: MetadataEdits) -> list[Operation]:
    said = template.metadata.annotation(keys.VOLCANO_QUEUE) if template.metadata else None
    scheduler = template.spec.scheduler_name
    if not template.annotatable or said:
        return []
    if scheduler not in {None, _DEFAULT_SCHEDULER, keys.VOLCANO_SCHEDULER}:
        return []
    marks.annotate(template.pointer, template.metadata, keys.VOLCANO_QUEUE, queue)
    if scheduler == keys.VOLCANO_SCHEDULER:
        return []
    path = template.spec_pointer + "/schedulerName"
    return [{"op": "add", "path": path, "value": keys.VOLCANO_SCHEDULER}]
