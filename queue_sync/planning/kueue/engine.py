"""Kueue: what a plan wants of ResourceFlavors, ClusterQueues and LocalQueues.

Writes are in the order that Kueue needs: what is referred to comes first, what refers goes first, and what shrinks
comes before what grows. Nothing is ever deleted but flavors and LocalQueues of our own making that nothing names.
"""

from collections.abc import Container, Iterator, Mapping, Set
from typing import Final

from queue_sync.planning.capacity import Feed
from queue_sync.planning.changes import Change, ChangeSet, Key, key_of
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.engine import CachedFlavor, CachedQueue, ChangeSetBuilder, PlanInputs
from queue_sync.planning.findings import Finding
from queue_sync.planning.kueue import local_queues, overcommit, write_order
from queue_sync.planning.kueue import merge as merging
from queue_sync.planning.kueue import objects as kueue
from queue_sync.planning.kueue import shrink as shrinking
from queue_sync.planning.kueue import usage as use
from queue_sync.planning.kueue.configuration import mischarged
from queue_sync.planning.observed import Object, ObservedState, annotation, pool_of
from queue_sync.planning.ownership import RefusalError, leaving, ours, owned, unsaid
from queue_sync.planning.quota import LeftOver
from queue_sync.planning.steps import Steps, complete
from queue_sync.planning.work import Work, note, owner_reference
from slicewise.api import keys
from slicewise.api.policy import Engine, PlanQueue, PlanSpec, QuotaPlan
from slicewise.inventory.plan_selection import selects
from slicewise.kube.object_types import COHORT, ENGINE_OBJECTS, FLAVOR

QUEUE = ENGINE_OBJECTS[Engine.KUEUE].quota
BY_FLAVOR = IN_NAMESPACES = True
SCHEDULER = ""
STAY = f"give its queue flavors that select {keys.POOL}"
numbers = allowed = kueue.nominal
limits, withhold = kueue.limits, kueue.withhold
in_use, below_use, usage = use.in_use, use.below_use, use.usage
shrink = shrinking.shrink
promises = overcommit.promises


def check(inputs: PlanInputs, /) -> None:
    """Refuses quota by a name that Kueue's configuration has charged otherwise; see `QueueEngine`.

    All else that a plan can say can be true in Kueue; what a queue does not take is a problem of that queue alone.
    """
    existing = inputs.existing
    for each in mischarged(existing.class_mappings, existing.devices.classes):
        if any(each.resource in feed.quota for feed in inputs.feeds):
            raise RefusalError(
                f"QuotaPlan {inputs.plan.name} gives quota of {each.resource}, and {each.sentence}; {each.fix}"
            )


def desired(inputs: PlanInputs, /) -> Steps[ChangeSet]:
    """What a plan wants; see `QueueEngine`. A step is a queue that is worked out or ordered, or some namespaces."""
    return _Kueue(inputs).steps()


def release(plan: str, existing: ObservedState, /) -> ChangeSet:
    """What gives back everything that a plan has in Kueue; see `QueueEngine`."""
    made = (*existing.cluster_queues.values(), *existing.flavors.values(), *existing.local_queues.values())
    if not any(annotation(each, keys.PLAN) == plan for each in made):
        return ChangeSet()
    nothing = QuotaPlan(name=plan, spec=PlanSpec.model_construct(engine=Engine.KUEUE, queues=()))
    return complete(_Kueue(PlanInputs(nothing, (), existing, {})).steps())


def hint(_: str, /) -> str:
    """Nothing: Kueue's refusals say what is wrong."""
    return ""


def concerns(document: Object, spec: PlanSpec, /) -> bool:
    """True for the plan's queues, its Cohort and the flavors of pools that it may take; see `QueueEngine`."""
    kind, name = key_of(document)
    if kind == FLAVOR:
        return selects(spec, name)
    return (kind == COHORT and name == spec.cohort) or (
        kind == QUEUE.name and any(queue.name == name for queue in spec.queues)
    )


def names(queue: Object, /) -> frozenset[Key]:
    """The flavors of a ClusterQueue, which stops altogether when it names one that there is not."""
    groups = queue["spec"].get("resourceGroups") or ()
    return frozenset((FLAVOR, flavor["name"]) for group in groups for flavor in group["flavors"])


def queues(existing: ObservedState, /) -> Mapping[str, Object]:
    """The ClusterQueues."""
    return existing.cluster_queues


def left_over(existing: ObservedState, plans: Container[str], /) -> Iterator[LeftOver]:
    """Yields what plans that are gone gave, flavor by flavor; see `QueueEngine`."""
    named = existing.by_plan(QUEUE.name).items()
    gone = [(name, plan) for plan, names in named if plan not in plans for name in names]
    for name, plan in sorted(gone):
        if (queue := existing.cluster_queues.get(name)) is not None:
            yield from _given(name, queue, plan, existing)


def _given(name: str, queue: Object, plan: str, existing: ObservedState) -> Iterator[LeftOver]:
    """Yields the GPU quota that a plan gave a queue.

    Where the queue does not say what of it is ours, that is all of a queue of our own making, and in another one what
    has flavors of our own making.
    """
    mine, lost = owned(queue), unsaid(queue)
    for (flavor, resource), units in sorted(numbers(queue).items()):
        standing = existing.flavors.get(flavor)
        given = (ours(queue) or ours(standing)) if lost else flavor in mine.flavors
        if units and given and resource.startswith(keys.VENDOR):
            pool = pool_of(standing) or flavor
            yield LeftOver(QUEUE.kind, name, plan, pool, resource, units, resource not in mine.resources)


def knows(work: Work, /) -> bool:
    """True for what has Kueue's label, and for the pods of what has it; see `QueueEngine`."""
    return any(
        note(document, "labels", keys.KUEUE_QUEUE)
        or (note(document, "labels", keys.KUEUE_POD_SET) and owner_reference(document) is not None)
        for document in work.documents
    )


def slipped(_: ClusterState, /) -> Iterator[Finding]:
    """Nothing: Workloads that ask for what nobody offers are looked at with the pods that they are made of."""
    return iter(())


_NAMESPACES: Final = 100
"""Namespaces of one step."""
_RETIRED: Final = write_order.GROWS + 1
"""The stage in which flavors leave, after the queues that named them."""


class _Kueue(ChangeSetBuilder):
    def __init__(self, inputs: PlanInputs) -> None:
        super().__init__(inputs)
        self.namespaces, self.known = inputs.namespaces, inputs.known
        self.right_flavors = inputs.known.flavors_of(inputs.plan.name)

    def steps(self) -> Steps[ChangeSet]:
        usable = [feed for feed in self.feeds if self._flavor(feed)]
        flavor_steps, self.changes = self.changes, []
        columns = {(feed.pool, name): part for feed in usable for name, part in self.parts[feed.pool].items()}
        known, standing = self.known.queues_of(self.plan, columns), self.existing.cluster_queues
        for name, queue in known.queues.items():
            right = known.right.get(name)
            if right is not None and standing.get(name) is right.forms[1]:
                self._take_right(right)
            else:
                self._cluster_queue(queue, usable, known.right)
                yield
        self._former_queues(known.queues.keys())
        self.changes = flavor_steps + (yield from write_order.order(self.changes))
        if self.namespaces is not None:
            yield from self._local_queues(self.namespaces)
        self._retire_flavors()
        return self.result_so_far()

    def _flavor(self, feed: Feed) -> bool:
        standing = self.existing.flavors.get(feed.pool)
        right = self.right_flavors.get(feed.pool)
        if right is not None and right.feed is feed and right.standing is standing:
            self.take(standing, None, right.target)
            return True
        wanted = kueue.flavor(self.plan, feed)
        if standing is None:
            self.take(None, wanted, wanted)
            return True
        try:
            after = kueue.merge_flavor(standing, wanted, observed=feed.observed)
        except RefusalError as error:
            self.problem("FlavorRefused", str(error), wanted)
            return ours(standing)
        self.take(standing, after, wanted)
        if after is None:
            self.right_flavors[feed.pool] = CachedFlavor(feed, standing, wanted)
        return True

    def _take_right(self, known: CachedQueue) -> None:
        """Takes a queue as it stands, because it is the very one that was right."""
        self.targets[known.key] = forms = known.forms
        self.objects.append(forms[1])
        if known.empty and (uncovered := self._uncovered(forms[1], forms[0], known.empty)):
            self.problem("CoverMissing", uncovered, forms[0])

    def _cluster_queue(self, queue: PlanQueue, usable: list[Feed], known: dict[str, CachedQueue]) -> None:
        name = queue.name
        standing = self.existing.cluster_queues.get(name)
        wanted = kueue.cluster_queue(self.plan, queue, usable, self.parts)
        if standing is None:
            standing_like: Object = {**wanted, "spec": {}}
            try:  # only to hold what is made to Kueue's limits
                merging.merge(standing_like, wanted)
            except RefusalError as error:
                self.problem("QueueRefused", str(error), wanted)
                return
            self.take(None, wanted, wanted)
            return
        if found := kueue.decided_elsewhere(standing):
            self.objects.append(standing)
            self.problem(*found, wanted)
            return
        try:
            after = self._merged(standing, wanted)
        except RefusalError as error:
            self.objects.append(standing)
            self.problem("QueueRefused", str(error), wanted)
            self.leave(standing, numbers(standing), numbers(wanted))
            return
        self.take(standing, after, wanted)
        empty = _empty(after or standing, wanted)
        if uncovered := self._uncovered(after or standing, wanted, empty):
            self.problem("CoverMissing", uncovered, wanted)
        mine, target = owned(after or standing), owned(wanted)
        draining = not (mine.flavors <= target.flavors and mine.resources <= target.resources)
        self.draining |= draining
        # What drains depends on Workloads too, so it is looked at every time.
        if after is None and not draining:
            known[name] = CachedQueue(key_of(wanted), (wanted, standing), empty)

    def _merged(self, standing: Object, wanted: Object) -> Object | None:
        return merging.merge(standing, wanted, holds(self.existing, wanted["metadata"]["name"]))

    def _uncovered(self, queue: Object, wanted: Object, empty: frozenset[tuple[str, str]]) -> str:
        """What the queue counts, of which our flavors have nothing and nobody lends them any; "" when there is none."""
        if not empty:
            return ""
        name = wanted["metadata"]["name"]
        cohort = queue["spec"].get("cohortName")
        for other in self.existing.cluster_queues.values() if cohort else ():
            if other["spec"].get("cohortName") == cohort and other["metadata"]["name"] != name:
                empty -= {pair for pair, units in kueue.nominal(other).items() if units}
        if not empty:
            return ""
        names = ", ".join(sorted({resource for _, resource in empty}))
        flavors = ", ".join(sorted({flavor for flavor, _ in empty}))
        return (
            f"ClusterQueue {name} counts {names} beside the GPUs and has none of it in {flavors}, so nothing that asks "
            f"for {names} is admitted there; add cover: [{names}] to QuotaPlan {self.plan.name}, or give those flavors "
            f"{names} in the queue"
        )

    def _former_queues(self, listed: Set[str]) -> None:
        """A queue that the plan no longer lists gives back what is ours, as if its share were 0."""
        named = self.existing.by_plan(QUEUE.name).get(self.plan.name, frozenset())
        for name in sorted(named - listed):
            if (standing := self.existing.cluster_queues.get(name)) is None:
                continue
            for each in _given(name, standing, self.plan.name, self.existing):
                if each.unsaid:
                    self.draining = True
                    self.problem("QueueRefused", f"{each.kept}; {each.fix}", standing)
                    self.kept[key_of(standing)] = {
                        **self.kept.get(key_of(standing), {}),
                        each.number: each.units,
                    }
            mine = owned(standing)
            if not (mine.flavors or mine.fields) or kueue.decided_elsewhere(standing):
                continue
            spec = {key: value for key, value in standing["spec"].items() if key not in kueue.FURTHER}
            nothing: Object = {
                "apiVersion": kueue.API_VERSION,
                "kind": kueue.CLUSTER_QUEUE_KIND,
                "metadata": standing["metadata"],
                "spec": {"namespaceSelector": None, **spec, "resourceGroups": []},
            }
            try:
                self.take(standing, self._merged(standing, nothing), nothing)
                self.draining = True
            except RefusalError as error:
                self.problem("QueueRefused", str(error), standing)
                self.leave(standing, numbers(standing), {})

    def _local_queues(self, namespaces: Mapping[str, Mapping[str, str]]) -> Steps[None]:
        every = local_queues.everywhere(self.plan, namespaces, self.existing)
        for number, found in enumerate(every, start=1):
            if number % _NAMESPACES == 0:
                yield
            self.objects += found.objects
            self.changes += found.changes
            self.problems += found.problems
            self.draining |= found.draining

    def _retire_flavors(self) -> None:
        feeding = {feed.pool for feed in self.feeds}
        former = [
            (name, standing)
            for name, standing in sorted(self.existing.flavors.items())
            if name not in feeding and ours(standing) and annotation(standing, keys.PLAN) == self.plan.name
        ]
        named = {
            flavor["name"]
            for queue in (self.existing.cluster_queues.values() if former else ())
            for group in queue["spec"].get("resourceGroups") or ()
            for flavor in group["flavors"]
        }
        for name, standing in former:
            if name in named or self.existing.use.holds_flavor(name):
                self.objects.append(standing)
                self.draining = True
            elif not leaving(standing):
                self.changes.append(Change(self.plan.name, standing, None, stage=_RETIRED))


def _empty(queue: Object, wanted: Object) -> frozenset[tuple[str, str]]:
    """What the queue counts, of which our flavors have nothing, though nobody gave or added it."""
    groups = wanted["spec"]["resourceGroups"]
    ours = {flavor["name"] for group in groups for flavor in group["flavors"]}
    given = {name for group in groups for name in group["coveredResources"]} | owned(queue).added
    return frozenset(
        (flavor, resource)
        for (flavor, resource), units in kueue.nominal(queue).items()
        if flavor in ours and resource not in given and not units
    )


def holds(existing: ObservedState, queue: str) -> merging.Holds:
    """Says for one ClusterQueue which flavors and resources Workloads hold."""

    def _holds(flavor: str | None, resource: str | None) -> bool:
        return existing.use.holds(queue, flavor=flavor, resource=resource)

    return _holds
