"""Volcano: what a plan wants of Queues."""

from collections.abc import Iterator

from queue_sync.planning.capacity import text
from queue_sync.planning.changes import Change, ChangeSet
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.engine import PlanInputs, PlanWork, Steps
from queue_sync.planning.findings import Finding
from queue_sync.planning.observed import ObservedState, annotation
from queue_sync.planning.volcano import hierarchy, queues
from queue_sync.planning.volcano import usage as volcano_use
from slicewise.api import keys
from slicewise.api.policy import Engine, PlanSpec, QuotaPlan


def check(inputs: PlanInputs, /) -> None:
    """Refuses what cannot be true in Volcano; see `queues.check`."""
    queues.check(inputs.plan, inputs.feeds)


def desired(inputs: PlanInputs, /) -> Steps:
    """What a plan wants; see `QueueEngine`. A tree is worked out as a whole, in one step."""
    yield
    return _Volcano(inputs).result()


def release(plan: str, existing: ObservedState, /) -> ChangeSet:
    """What gives back everything that a plan has in Volcano; see `QueueEngine`."""
    if not any(annotation(each, keys.PLAN) == plan for each in existing.queues.values()):
        return ChangeSet()
    nothing = QuotaPlan(name=plan, spec=PlanSpec.model_construct(engine=Engine.VOLCANO, queues=()))
    return _Volcano(PlanInputs(nothing, (), existing)).result()


def usage(cluster: ClusterState, /) -> Iterator[Finding]:
    """Yields Queues in which more runs than they may have. Nobody is evicted for it."""
    for name, queue in sorted(cluster.existing.queues.items()):
        for resource, running, allowed in volcano_use.overused(queue):
            sentence = (
                f"Queue {name} runs {text(resource, running)} {resource} and may run {text(resource, allowed)}; nobody "
                "is evicted, and nothing new starts until work finishes"
            )
            yield Finding(queues.QUEUE, "", name, "UseAboveQuota", sentence)


class _Volcano(PlanWork):
    def result(self) -> ChangeSet:
        found = hierarchy.outcome(self.plan, self.parts, self.existing.queues)
        self.objects += found.objects
        for note in found.notes:
            self.problem(note.code, note.sentence, note.queue)
        written: set[str] = set()
        for tier, before, after in found.writes:
            name = after["metadata"]["name"]
            target = found.targets[name] if name not in written else None
            self.changes.append(Change(self.plan.name, before, after, target, tier))
            written.add(name)
        for name, target in found.targets.items():
            if name in self.existing.queues:
                self.targets[(queues.QUEUE, name)] = target
        return self.result_so_far()
