"""What planning asks of an engine that queues work; `engines` has the list of them.

An engine is a folder, whose module `engine` has the functions of `QueueEngine`. No engine imports another.
"""

from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol

from queue_sync.planning.capacity import Feed, FeedCache, Split, shares_of, weights_of
from queue_sync.planning.changes import Change, ChangeSet, Key, Problem, key_of
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.findings import Finding
from queue_sync.planning.observed import Object, ObservedState
from queue_sync.planning.ownership import owned
from queue_sync.planning.quota import LeftOver, Limit, Numbers, Promise, QuotaCache, less_and_more
from queue_sync.planning.steps import Steps
from queue_sync.planning.work import Work
from slicewise.api.policy import PlanQueue, PlanSpec, QuotaPlan
from slicewise.inventory.pools import Inventory
from slicewise.kube.object_types import ObjectType


@dataclass(frozen=True, slots=True)
class CachedQueue:
    """A ClusterQueue that was right when last looked at, in both its forms."""

    key: Key
    forms: tuple[Object, Object]
    """As it would be made, and as it stands."""
    empty: frozenset[Key]
    """Pairs that it counts of which our flavors have nothing; others of its cohort may lend some."""


@dataclass(frozen=True, slots=True)
class CachedFlavor:
    """A ResourceFlavor that was right when last looked at, in both its forms, and what it was made of."""

    feed: Feed
    standing: Object
    target: Object


Columns = Mapping[tuple[str, str], Mapping[str, int]]
"""(pool, resource) -> queue -> units, in the order in which a queue lists them"""


@dataclass(slots=True)
class CachedPlan:
    """The queues of a plan and what is known of them."""

    plan: QuotaPlan
    columns: Columns
    queues: Mapping[str, PlanQueue]
    """All of them in the order of their names."""
    right: dict[str, CachedQueue] = field(default_factory=dict)
    """Those that were right and are to get the same as then, by name."""


@dataclass(frozen=True, slots=True)
class _CachedSplit:
    plan: QuotaPlan
    weights: Mapping[str, int]
    quota: Mapping[str, int]
    split: Split


class PlanCache:
    """What need not be worked out again, because what it was worked out of has not changed."""

    def __init__(self) -> None:
        self._plans: dict[str, CachedPlan] = {}
        self._shares: dict[str, dict[str, _CachedSplit]] = {}
        """By plan and pool."""
        self._feeds: dict[str, FeedCache] = {}
        self._flavors: dict[str, dict[str, CachedFlavor]] = {}

    def forget(self, plan: str) -> None:
        """The plan is gone."""
        self._plans.pop(plan, None)
        self._shares.pop(plan, None)
        self._feeds.pop(plan, None)
        self._flavors.pop(plan, None)

    def feeds_of(self, plan: str) -> FeedCache:
        """What pools gave a plan, for `capacity.feeds`."""
        return self._feeds.setdefault(plan, {})

    def flavors_of(self, plan: str) -> dict[str, CachedFlavor]:
        """The flavors of a plan that were right, by pool; the caller adds to them."""
        return self._flavors.setdefault(plan, {})

    def queues_of(self, plan: QuotaPlan, columns: Columns) -> CachedPlan:
        """The queues of a plan, and which of them were right; the caller adds to these."""
        known = self._plans.get(plan.name)
        if known is None or known.plan is not plan or list(known.columns) != list(columns):
            ordered = sorted(plan.spec.queues, key=attrgetter("name"))
            known = self._plans[plan.name] = CachedPlan(
                plan, columns, {queue.name: queue for queue in ordered}
            )
        for key, now in columns.items():
            if (before := known.columns[key]) is not now:
                for queue in [name for name, units in now.items() if units != before.get(name)]:
                    known.right.pop(queue, None)
        known.columns = columns
        return known

    def shares_of(self, plan: QuotaPlan, feed: Feed) -> Split:
        """Splits what a pool gives a plan, as `capacity.shares_of` does."""
        known = self._shares.setdefault(plan.name, {})
        found = known.get(feed.pool)
        if found is None or found.plan is not plan or found.quota != feed.quota:
            weights = found.weights if found and found.plan is plan else weights_of(plan.spec, feed.pool)
            split = shares_of(feed.quota, weights)
            found = known[feed.pool] = _CachedSplit(plan, weights, feed.quota, split)
        return found.split


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """What an engine works out a plan of."""

    plan: QuotaPlan
    feeds: tuple[Feed, ...]
    """What the pools give, less what plans that are gone still have."""
    existing: ObservedState
    namespaces: Mapping[str, Mapping[str, str]] | None = None
    """Labels by name; None leaves out what is made namespace by namespace."""
    known: PlanCache = field(default_factory=PlanCache)
    """Kept by the caller from call to call. It makes a call quicker and changes no result."""


class QueueEngine(Protocol):
    """The functions of an engine's module. All are pure."""

    QUEUE: ObjectType
    """What its queues are in Kubernetes."""
    BY_FLAVOR: bool
    """True where a queue has its numbers by flavor, each named for its pool; False where by name over all nodes."""
    IN_NAMESPACES: bool
    """True where a plan writes in namespaces too, which `controllers.local_queue` does."""

    SCHEDULER: str
    """The scheduler by which it places its work; "" for Kubernetes' own."""
    STAY: str
    """What to do where its work runs on nodes that plans give to another engine."""

    # --- What a plan writes

    def check(self, inputs: PlanInputs, /) -> None:
        """Refuses what cannot be true in this engine.

        Raises:
            RefusalError: one sentence; nothing of the plan is then written.
        """

    def desired(self, inputs: PlanInputs, /) -> Steps[ChangeSet]:
        """What a plan of this engine wants, and the writes that are missing, in the order that the engine needs.

        What stands may change between two steps: a write that is then out of date is not made, and another look
        follows.
        """

    def release(self, plan: str, existing: ObservedState, /) -> ChangeSet:
        """What gives back everything that a plan has here: 0 first, and what nothing uses any more leaves.

        Nothing where it has nothing. The plan need not be there.
        """

    def shrink(
        self, plan: str, limit: Limit, pools: Collection[str], existing: ObservedState, /
    ) -> Iterable[Change]:
        """The writes by which the queues of a plan that is not followed give back GPUs beyond `limit`.

        Nothing grows and nothing moves. `pools` are those that the plan may feed from.
        """

    def hint(self, refusal: str, /) -> str:
        """What to do about a refusal of the engine's webhook that its own words do not say; "" for none."""

    # --- What stands

    def concerns(self, document: Object, spec: PlanSpec, /) -> bool:
        """True when a change of an engine's object may change what a plan of this engine has to write."""

    def names(self, queue: Object, /) -> frozenset[Key]:
        """What must stand before a queue may name it."""

    def queues(self, existing: ObservedState, /) -> Mapping[str, Object]:
        """Its queues, by name."""

    def numbers(self, queue: Object, /) -> Numbers:
        """The quota of a queue."""

    def limits(self, queue: Object, flavor: str, resource: str, /) -> dict[str, str]:
        """What bounds borrowing and lending of one number, as the queue's own fields say it."""

    def withhold(self, before: Object | None, after: Object, more: Numbers, /) -> Object:
        """A queue as it should stand, but of these numbers with only so many units more than it has."""

    def left_over(self, existing: ObservedState, plans: Container[str], /) -> Iterator[LeftOver]:
        """GPU quota that queues still have from plans that are not among these; those that only sum up are left out."""

    def promises(
        self, existing: ObservedState, plans: Iterable[QuotaPlan], pools: Inventory, cache: QuotaCache, /
    ) -> Iterator[Promise]:
        """What its queues promise of GPUs, whoever made them; it alone uses the `cache`."""

    # --- Who uses it

    def in_use(
        self, queues: Collection[str], existing: ObservedState, /
    ) -> Mapping[tuple[str, str, str], tuple[int, int]]:
        """(queue, flavor, resource) -> units reserved, and of these units used."""

    def allowed(self, queue: Object, /) -> Numbers:
        """Above how much in use a queue is above its quota."""

    def below_use(self, change: Change, existing: ObservedState, /) -> Iterator[str]:
        """Yields a sentence for each number that a write of a queue takes below its use."""

    def usage(self, cluster: ClusterState, /) -> Iterator[Finding]:
        """Queues that use more than they have."""

    def knows(self, work: Work, /) -> bool:
        """True when the engine queues the work, in whatever queue."""

    def slipped(self, cluster: ClusterState, /) -> Iterator[Finding]:
        """Work of this engine that can never start."""


class ChangeSetBuilder:
    """Objects, changes and problems of one plan while they are collected."""

    def __init__(self, inputs: PlanInputs) -> None:
        self.plan, self.feeds, self.existing = inputs.plan, inputs.feeds, inputs.existing
        self.parts = {feed.pool: inputs.known.shares_of(self.plan, feed) for feed in self.feeds}
        self.objects: list[Object] = []
        self.changes: list[Change] = []
        self.problems = [
            Problem(self.plan.name, "PromiseCut", words) for feed in self.feeds for words in feed.cut
        ]
        self.targets: dict[Key, tuple[Object, Object]] = {}
        self.draining = False
        self.kept: dict[Key, Numbers] = {}

    def problem(self, code: str, sentence: str, document: Object) -> None:
        kind, name = document["kind"], document["metadata"]["name"]
        self.problems.append(Problem(self.plan.name, code, sentence, kind=kind, name=name))

    def take(self, before: Object | None, after: Object | None, target: Object) -> None:
        """Notes an object as it should stand, and the write when it does not (`after` None: it does)."""
        wanted = after if after is not None else before
        if wanted is not None:
            self.objects.append(wanted)
        if before is not None:
            self.targets[key_of(target)] = target, before
        if after is not None:
            self.changes.append(Change(self.plan.name, before, after, target))

    def leave(self, standing: Object, has: Numbers, wanted: Numbers) -> None:
        """Notes what a queue keeps of what the plan decides, because it is left as it stands."""
        mine = owned(standing)
        kept = {
            (flavor, resource): units
            for (flavor, resource), units in less_and_more(has, wanted)[0].items()
            if (flavor, resource) in wanted or mine.has(flavor, resource)
        }
        if kept:
            self.kept[key_of(standing)] = kept

    def result_so_far(self) -> ChangeSet:
        return ChangeSet(
            tuple(self.objects),
            tuple(self.changes),
            tuple(self.problems),
            self.parts,
            self.targets,
            self.draining,
            self.kept,
        )
