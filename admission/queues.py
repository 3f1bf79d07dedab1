"""The engine's own queue label or annotation, where the namespace names a queue and the workload none.  Pure.

Kueue reads the label on the parent (on the Job inside a CronJob), Volcano the annotation on the pod template
together with `schedulerName` (docs/kinds.md, "Queues"). A workload that carries its own queue keeps it.
"""

from collections.abc import Mapping
from typing import Final

from admission.patch import Marks, Operation
from admission.reading import Workload
from slicewise import keys
from slicewise.policy import Engine

Labels = Mapping[str, str]

# Kinds that no engine queues as a whole: their pods would be queued one by one or not at all.
_UNQUEUED: Final = frozenset(
    {"ReplicaSet", "ReplicationController", "DaemonSet", "PodTemplate", "TrainingRuntime"}
)
_DEFAULT_SCHEDULER: Final = "default-scheduler"


def joined(workload: Workload, labels: Labels, marks: Marks) -> list[Operation]:
    """Puts new work into the queue that its namespace names; returns what `marks` cannot hold."""
    queue = labels.get(keys.QUEUE)
    engine = labels.get(keys.ENGINE, Engine.KUEUE)
    if not queue or workload.metadata.controller is not None or workload.kind in _UNQUEUED:
        return []
    if engine == Engine.KUEUE and workload.kind != "CronJob":
        if workload.metadata.label(keys.KUEUE_QUEUE) is None:
            marks.label("", workload.metadata, keys.KUEUE_QUEUE, queue)
    elif engine == Engine.VOLCANO:
        return _volcano(workload, queue, marks)
    return []


def kept(workload: Workload, old: Workload, marks: Marks) -> None:
    """Keeps the Kueue label through an UPDATE that re-applies a manifest without it."""
    queue = old.metadata.label(keys.KUEUE_QUEUE)
    if queue is not None and workload.metadata.label(keys.KUEUE_QUEUE) is None:
        marks.label("", workload.metadata, keys.KUEUE_QUEUE, queue)


def _volcano(workload: Workload, queue: str, marks: Marks) -> list[Operation]:
    operations: list[Operation] = []
    for template in workload.templates:
        if not template.annotatable or (
            template.metadata and template.metadata.annotation(keys.VOLCANO_QUEUE)
        ):
            continue
        if template.spec.scheduler_name not in {None, _DEFAULT_SCHEDULER, keys.VOLCANO_SCHEDULER}:
            continue
        marks.annotate(template.pointer, template.metadata, keys.VOLCANO_QUEUE, queue)
        if template.spec.scheduler_name != keys.VOLCANO_SCHEDULER:
            path = template.spec_pointer + "/schedulerName"
            operations.append({"op": "add", "path": path, "value": keys.VOLCANO_SCHEDULER})
    return operations
