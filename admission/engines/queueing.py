"""Which engine queues a workload, and in which queue: its own word first, then its namespace's labels.  Pure."""

from collections.abc import Mapping

from admission.engines.registry import ENGINES
from admission.mutation.draft import Draft
from admission.workloads.model import Template, Workload
from slicewise.api import keys
from slicewise.api.policy import Engine

Labels = Mapping[str, str]


def engine_of(workload: Workload, template: Template, labels: Labels) -> Engine | None:
    """Returns who queues a workload: what it says itself, else what its namespace says; None where nobody says, or
    it says more than one."""
    own = [name for name, engine in ENGINES.items() if engine.queues(workload, template)]
    if own:
        return own[0] if len(own) == 1 else None
    said = labels.get(keys.ENGINE, Engine.KUEUE if labels.get(keys.QUEUE) else Engine.NONE)
    return Engine(said) if said in ENGINES else None


def queue_of(workload: Workload, template: Template, labels: Labels, engine: Engine | None) -> str:
    """Returns the queue in which an engine will count a workload; "" where nobody says."""
    if engine is None:
        return ""
    return ENGINES[engine].queue_of(workload, template) or labels.get(keys.QUEUE, "")


def queue_to_join(workload: Workload, labels: Labels, engine: Engine) -> str:
    """Returns the queue of an engine that the namespace names for new work; "" when it names none."""
    if labels.get(keys.ENGINE, Engine.KUEUE) != engine or workload.metadata.controller is not None:
        return ""
    return labels.get(keys.QUEUE, "")


def join(draft: Draft, workload: Workload, labels: Labels) -> None:
    """Puts new work into the queue that its namespace names."""
    if keys.QUEUE not in labels:
        return
    for name, engine in ENGINES.items():
        if queue := queue_to_join(workload, labels, name):
            engine.join(draft, workload, queue)


def keep(draft: Draft, workload: Workload, old: Workload) -> None:
    """Keeps a queue through an update that applies a manifest without it."""
    for engine in ENGINES.values():
        engine.keep(draft, workload, old)


def pinning_engine(workload: Workload, old: Workload) -> str:
    """Returns the engine that keeps an object to what its pods ask for now; "" where a change is as any other."""
    name = old.queueing.keeper
    engine = ENGINES.get(Engine(name)) if name else None
    return name if engine is not None and engine.pins(workload, old) else ""
