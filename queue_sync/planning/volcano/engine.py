"""Volcano: what a plan wants of Queues."""

from collections.abc import Container, Iterator, Mapping

from queue_sync.planning.changes import Change, ChangeSet, Key, key_of
from queue_sync.planning.engine import ChangeSetBuilder, PlanInputs
from queue_sync.planning.observed import Object, ObservedState, annotation
from queue_sync.planning.ownership import unsaid
from queue_sync.planning.quota import LeftOver
from queue_sync.planning.steps import Steps
from queue_sync.planning.volcano import drift, hierarchy, overcommit, write_order
from queue_sync.planning.volcano import queues as queue_objects
from queue_sync.planning.volcano import shrink as shrinking
from queue_sync.planning.volcano import usage as volcano_use
from queue_sync.planning.work import Work
from slicewise.api import keys
from slicewise.api.policy import Engine, PlanSpec, QuotaPlan
from slicewise.kube.object_types import ENGINE_OBJECTS, kind_of

QUEUE = ENGINE_OBJECTS[Engine.VOLCANO].quota
BY_FLAVOR = IN_NAMESPACES = False
SCHEDULER = keys.VOLCANO_SCHEDULER
STAY = f"start vc-scheduler with --node-selector={keys.POOL}:POOL for each pool of Volcano's plans"
allowed = volcano_use.allowed
in_use, below_use, usage = volcano_use.in_use, volcano_use.below_use, volcano_use.usage
hint = volcano_use.hint
numbers, limits = volcano_use.numbers, volcano_use.limits
shrink = shrinking.shrink
withhold = write_order.withhold
promises = overcommit.promises
slipped = drift.slipped


def check(inputs: PlanInputs, /) -> None:
    """Refuses what cannot be true in Volcano; see `queues.check`."""
    queue_objects.check(inputs.plan, inputs.feeds)


def desired(inputs: PlanInputs, /) -> Steps[ChangeSet]:
    """What a plan wants; see `QueueEngine`. A tree is worked out as a whole, in one step."""
    yield
    return _Volcano(inputs).result()


def release(plan: str, existing: ObservedState, /) -> ChangeSet:
    """What gives back everything that a plan has in Volcano; see `QueueEngine`."""
    if not any(annotation(each, keys.PLAN) == plan for each in existing.queues.values()):
        return ChangeSet()
    nothing = QuotaPlan(name=plan, spec=PlanSpec.model_construct(engine=Engine.VOLCANO, queues=()))
    return _Volcano(PlanInputs(nothing, (), existing)).result()


def knows(work: Work, /) -> bool:
    """True for Volcano's Jobs, and for what its scheduler places; see `QueueEngine`."""
    return all(spec.get("schedulerName") == keys.VOLCANO_SCHEDULER for spec in work.specs) or (
        work.kind == "Job" and any("volcano" in str(each.get("apiVersion")) for each in work.documents)
    )


def concerns(document: Object, spec: PlanSpec, /) -> bool:
    """True for the plan's queues, their parent and its other children; see `QueueEngine`."""
    name, parent = document["metadata"]["name"], document["spec"].get("parent", "")
    ours = name == spec.cohort or any(queue.name == name for queue in spec.queues)
    return kind_of(document) == QUEUE.name and (ours or parent == spec.cohort)


def names(_: Object, /) -> frozenset[Key]:
    """Nothing: a tree is written in tiers, and what builds on a write that was not made waits."""
    return frozenset()


def queues(existing: ObservedState, /) -> Mapping[str, Object]:
    """The Queues."""
    return existing.queues


def left_over(existing: ObservedState, plans: Container[str], /) -> Iterator[LeftOver]:
    """Yields what plans that are gone gave, name by name; see `QueueEngine`."""
    parents = {queue["spec"].get("parent") for queue in existing.queues.values()}
    for name, queue in sorted(existing.queues.items()):
        plan = annotation(queue, keys.PLAN)
        if plan and plan not in plans and name not in parents:
            yield from _given(name, queue, plan)


def _given(name: str, queue: Object, plan: str) -> Iterator[LeftOver]:
    """Yields the GPU quota that a plan gave a Queue; all of it where the Queue does not say what of it is ours."""
    lost = unsaid(queue)
    quota = volcano_use.deserved(queue) if lost else volcano_use.quota(queue)
    for resource, units in sorted(quota.items()):
        if units and resource.startswith(keys.VENDOR):
            yield LeftOver(QUEUE.kind, name, plan, "", resource, units, lost)


class _Volcano(ChangeSetBuilder):
    def result(self) -> ChangeSet:
        found = hierarchy.outcome(self.plan, self.parts, self.existing.queues)
        self.objects += found.objects
        for note in found.notes:
            self.problem(note.code, note.sentence, note.queue)
        listed = {queue.name for queue in self.plan.spec.queues} | {self.plan.spec.cohort}
        for name, queue in sorted(self.existing.queues.items()):
            if name not in listed and annotation(queue, keys.PLAN) == self.plan.name and unsaid(queue):
                for each in _given(name, queue, self.plan.name):
                    self.draining = True
                    self.problem("QueueRefused", f"{each.kept}; {each.fix}", queue)
                    self.kept[key_of(queue)] = {**self.kept.get(key_of(queue), {}), each.number: each.units}
        written: set[str] = set()
        for tier, before, after in found.writes:
            name = after["metadata"]["name"]
            target = found.targets[name] if name not in written else None
            self.changes.append(Change(self.plan.name, before, after, target, tier))
            written.add(name)
        for name, target in found.targets.items():
            if (standing := self.existing.queues.get(name)) is not None:
                self.targets[QUEUE.name, name] = target, standing
                if name in found.left:
                    self.leave(standing, numbers(standing), numbers(target))
        return self.result_so_far()
