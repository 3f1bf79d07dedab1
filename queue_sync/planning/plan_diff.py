"""What one plan wants, against what stands: objects, the writes that are missing, and what is wrong.

Steps are in the order that the engines need: what is referred to comes first, what refers goes first, and what
shrinks comes before what grows. Nothing is ever deleted but flavors and LocalQueues of our own making that nothing
names any more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from queue_sync.planning.capacity import Feed, feeds, shares_of
from queue_sync.planning.changes import Change, ChangeSet, Problem
from queue_sync.planning.kueue import local_queues
from queue_sync.planning.kueue import merge as merging
from queue_sync.planning.kueue import objects as kueue
from queue_sync.planning.left_over import less_left_over
from queue_sync.planning.observed import Object, ObservedState, annotation
from queue_sync.planning.volcano import hierarchy as volcano_tree
from queue_sync.planning.volcano import queues as volcano
from slicewise.api import keys
from slicewise.api.policy import Engine, PlanQueue, PlanSpec, QuotaPlan
from slicewise.inventory.pools import Pool


@dataclass(frozen=True, slots=True)
class Right:
    """A ClusterQueue that was right when last looked at: of what it was worked out, and both its forms."""

    plan: QuotaPlan
    units: tuple[Any, ...]
    standing: Object
    target: Object
    empty: frozenset[tuple[str, str]]
    """Pairs that it counts of which our flavors have nothing; others of its cohort may lend some."""


Known = dict[str, Right]
"""Queues that were right, by name."""


def desired_of(
    plan: QuotaPlan,
    pools: Iterable[Pool],
    namespaces: Mapping[str, Mapping[str, str]] | None,
    existing: ObservedState,
    known_right: Known | None = None,
) -> ChangeSet:
    """What one plan wants; whether it gets in the way of others is not looked at.

    `namespaces` are labels by name; None leaves LocalQueues out, which the controller looks at namespace by namespace.
    `known_right` is kept by the caller from call to call. It changes no result, because a queue is worked out of what
    it is and what it is to get alone: the very object that was found right, and that is to get the same, is right.
    """
    feeding, left = less_left_over(plan, feeds_of(plan, pools, existing), existing)
    try:
        if plan.spec.engine is Engine.VOLCANO:
            volcano.check(plan, feeding)
            found = _Volcano(plan, feeding, existing).result()
        else:
            right = {} if known_right is None else known_right
            found = _Kueue(plan, feeding, namespaces, existing, right).result()
        return _with(replace(_given_back(plan, existing), problems=left), found)
    except kueue.RefusalError as error:
        return ChangeSet(problems=(Problem(plan.name, "Refused", str(error), refused=True),))


def feeds_of(plan: QuotaPlan, pools: Iterable[Pool], existing: ObservedState) -> tuple[Feed, ...]:
    """What the pools give a plan, those included that it fed from before; what is left over is not yet taken off."""
    known = {
        name
        for name, document in existing.flavors.items()
        if kueue.ours(document) and annotation(document, keys.PLAN) == plan.name
    }
    in_use: dict[str, dict[str, int]] = {}
    for (_, flavor, resource), units in existing.use.reserved.items():
        held = in_use.setdefault(flavor, {})
        held[resource] = held.get(resource, 0) + units
    return feeds(plan.spec, pools, known, in_use)


def released(name: str, existing: ObservedState) -> ChangeSet:
    """What gives back everything that a plan gave, there or not: 0 first, and what nothing uses any more leaves."""
    nothing = QuotaPlan(name=name, spec=PlanSpec.model_construct(engine=Engine.KUEUE, queues=()))
    return _with(_Volcano(nothing, (), existing).result(), _Kueue(nothing, (), {}, existing, {}).result())


def _given_back(plan: QuotaPlan, existing: ObservedState) -> ChangeSet:
    """What becomes of the queues that the plan had in the other engine, which else would hand its boards out too."""
    nothing = QuotaPlan(name=plan.name, spec=plan.spec.model_copy(update={"queues": (), "cohort": None}))
    if plan.spec.engine is Engine.KUEUE:
        had = any(annotation(each, keys.PLAN) == plan.name for each in existing.queues.values())
        return _Volcano(nothing, (), existing).result() if had else ChangeSet()
    made = (*existing.cluster_queues.values(), *existing.flavors.values())
    had = any(annotation(each, keys.PLAN) == plan.name for each in made)
    return _Kueue(nothing, (), {}, existing, {}).result() if had else ChangeSet()


def _with(first: ChangeSet, then: ChangeSet) -> ChangeSet:
    return ChangeSet(
        (*first.objects, *then.objects),
        (*first.changes, *then.changes),
        (*first.problems, *then.problems),
        then.assigned,
        {**first.targets, **then.targets},
        first.draining or then.draining,
    )


class _Work:
    """Objects, changes and problems of one plan while they are collected."""

    def __init__(self, plan: QuotaPlan, feeding: tuple[Feed, ...], existing: ObservedState) -> None:
        self.plan, self.feeds, self.existing = plan, feeding, existing
        self.parts = {feed.pool: shares_of(plan.spec, feed) for feed in feeding}
        self.objects: list[Object] = []
        self.changes: list[Change] = []
        self.problems = [Problem(plan.name, "PromiseCut", words) for feed in feeding for words in feed.cut]
        self.targets: dict[tuple[str, str], Object] = {}
        self.draining = False

    def problem(self, code: str, sentence: str, document: Object) -> None:
        kind, name = document["kind"], document["metadata"]["name"]
        self.problems.append(Problem(self.plan.name, code, sentence, kind=kind, name=name))

    def take(self, before: Object | None, after: Object | None, target: Object) -> None:
        """Notes an object as it should stand, and the write when it does not (`after` None: it does)."""
        wanted = after if after is not None else before
        if wanted is not None:
            self.objects.append(wanted)
        if before is not None:
            self.targets[(target["kind"], target["metadata"]["name"])] = target
        if after is not None:
            self.changes.append(Change(self.plan.name, before, after, target))

    def desired(self) -> ChangeSet:
        return ChangeSet(
            tuple(self.objects),
            tuple(self.changes),
            tuple(self.problems),
            self.parts,
            self.targets,
            self.draining,
        )


class _Kueue(_Work):
    def __init__(
        self,
        plan: QuotaPlan,
        feeding: tuple[Feed, ...],
        namespaces: Mapping[str, Mapping[str, str]] | None,
        existing: ObservedState,
        known_right: Known,
    ) -> None:
        super().__init__(plan, feeding, existing)
        self.namespaces = namespaces
        self.known_right = known_right

    def result(self) -> ChangeSet:
        usable = [feed for feed in self.feeds if self._flavor(feed)]
        flavor_steps, self.changes = self.changes, []
        shape = tuple((feed.pool, tuple(self.parts[feed.pool])) for feed in usable)
        for queue in sorted(self.plan.spec.queues, key=lambda queue: queue.name):
            given = tuple(
                tuple(split[queue.name] for split in self.parts[feed.pool].values()) for feed in usable
            )
            self._cluster_queue(queue, usable, (shape, given))
        self._former_queues()
        # What shrinks goes first, so that the queues together never promise more than there is.
        self.changes = flavor_steps + sorted(self.changes, key=_direction)
        if self.namespaces is not None:
            self._local_queues(self.namespaces)
        self._retire_flavors()
        return self.desired()

    def _flavor(self, feed: Feed) -> bool:
        wanted = kueue.flavor(self.plan, feed)
        standing = self.existing.flavors.get(feed.pool)
        if standing is None:
            self.take(None, wanted, wanted)
            return True
        try:
            self.take(standing, kueue.merge_flavor(standing, wanted, observed=feed.observed), wanted)
        except kueue.RefusalError as error:
            self.problem("FlavorRefused", str(error), wanted)
            return kueue.ours(standing)
        return True

    def _cluster_queue(self, queue: PlanQueue, usable: list[Feed], units: tuple[Any, ...]) -> None:
        name = queue.name
        standing = self.existing.cluster_queues.get(name)
        right = self.known_right.get(name)
        if (
            right is not None
            and right.standing is standing
            and right.plan is self.plan
            and right.units == units
        ):
            self.take(standing, None, right.target)
            if uncovered := self._uncovered(standing, right.target, right.empty):
                self.problem("CoverMissing", uncovered, right.target)
            return
        wanted = kueue.cluster_queue(self.plan, queue, usable, self.parts)
        if standing is None:
            standing_like: Object = {**wanted, "spec": {}}
            try:  # only to hold what is made to Kueue's limits
                merging.merge(standing_like, wanted)
            except kueue.RefusalError as error:
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
        except kueue.RefusalError as error:
            self.objects.append(standing)
            self.problem("QueueRefused", str(error), wanted)
            return
        self.take(standing, after, wanted)
        empty = _empty(after or standing, wanted)
        if uncovered := self._uncovered(after or standing, wanted, empty):
            self.problem("CoverMissing", uncovered, wanted)
        mine, target = kueue.owned(after or standing), kueue.owned(wanted)
        draining = not (mine.flavors <= target.flavors and mine.resources <= target.resources)
        self.draining |= draining
        # What drains depends on Workloads too, so it is looked at every time.
        if after is None and not draining:
            self.known_right[name] = Right(self.plan, units, standing, wanted, empty)

    def _merged(self, standing: Object, wanted: Object) -> Object | None:
        return merging.merge(standing, wanted, holds(self.existing, wanted["metadata"]["name"]))

    def _uncovered(self, queue: Object, wanted: Object, empty: frozenset[tuple[str, str]]) -> str:
        """What the queue counts, of which our flavors have nothing and nobody lends them any; "" when there is none."""
        name = wanted["metadata"]["name"]
        cohort = queue["spec"].get("cohortName")
        for other in self.existing.cluster_queues.values() if cohort and empty else ():
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

    def _former_queues(self) -> None:
        """A queue that the plan no longer lists gives back what is ours, as if its share were 0."""
        listed = {queue.name for queue in self.plan.spec.queues}
        for name, standing in sorted(self.existing.cluster_queues.items()):
            if name in listed or annotation(standing, keys.PLAN) != self.plan.name:
                continue
            mine = kueue.owned(standing)
            if not (mine.flavors or mine.fields) or kueue.decided_elsewhere(standing):
                continue
            spec = {key: value for key, value in standing["spec"].items() if key not in kueue.FURTHER}
            nothing: Object = {
                "kind": kueue.CLUSTER_QUEUE,
                "metadata": standing["metadata"],
                "spec": {"namespaceSelector": None, **spec, "resourceGroups": []},
            }
            try:
                self.take(standing, self._merged(standing, nothing), nothing)
                self.draining = True
            except kueue.RefusalError as error:
                self.problem("QueueRefused", str(error), standing)

    def _local_queues(self, namespaces: Mapping[str, Mapping[str, str]]) -> None:
        for found in local_queues.everywhere(self.plan, namespaces, self.existing):
            self.objects += found.objects
            self.changes += found.changes
            self.problems += found.problems
            self.draining |= found.draining

    def _retire_flavors(self) -> None:
        named = {
            flavor["name"]
            for queue in self.existing.cluster_queues.values()
            for group in queue["spec"].get("resourceGroups") or ()
            for flavor in group["flavors"]
        }
        feeding = {feed.pool for feed in self.feeds}
        for name, standing in sorted(self.existing.flavors.items()):
            mine = kueue.ours(standing) and annotation(standing, keys.PLAN) == self.plan.name
            if not mine or name in feeding:
                continue
            if name in named or self.existing.use.holds_flavor(name):
                self.objects.append(standing)
                self.draining = True
            elif not kueue.leaving(standing):
                self.changes.append(Change(self.plan.name, standing, None))


class _Volcano(_Work):
    def result(self) -> ChangeSet:
        found = volcano_tree.outcome(self.plan, self.parts, self.existing.queues)
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
                self.targets[(volcano.QUEUE, name)] = target
        return self.desired()


def _empty(queue: Object, wanted: Object) -> frozenset[tuple[str, str]]:
    """What the queue counts, of which our flavors have nothing, though nobody gave or added it."""
    groups = wanted["spec"]["resourceGroups"]
    ours = {flavor["name"] for group in groups for flavor in group["flavors"]}
    given = {name for group in groups for name in group["coveredResources"]} | kueue.owned(queue).added
    return frozenset(
        (flavor, resource)
        for (flavor, resource), units in kueue.nominal(queue).items()
        if flavor in ours and resource not in given and not units
    )


def _direction(change: Change) -> int:
    """0 for a queue whose quota only shrinks, 2 for one that only grows, 1 between."""
    before = kueue.nominal(change.before) if change.before is not None else {}
    after = kueue.nominal(change.after) if change.after is not None else {}
    pairs = before.keys() | after.keys()
    grows = any(after.get(pair, 0) > before.get(pair, 0) for pair in pairs)
    shrinks = any(after.get(pair, 0) < before.get(pair, 0) for pair in pairs)
    return 1 + grows - shrinks


def holds(existing: ObservedState, queue: str) -> merging.Holds:
    """Says for one ClusterQueue which flavors and resources Workloads hold."""

    def _holds(flavor: str | None, resource: str | None) -> bool:
        return existing.use.holds(queue, flavor=flavor, resource=resource)

    return _holds
