"""What planning asks of an engine that queues work; `engines` has the list of them.

An engine is a folder, whose module `engine` has the functions of `QueueEngine`. No engine imports another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from queue_sync.planning.capacity import Feed, Split, shares_of
from queue_sync.planning.changes import Change, ChangeSet, Problem
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.findings import Finding
from queue_sync.planning.observed import Object, ObservedState
from slicewise.api.policy import QuotaPlan


@dataclass(frozen=True, slots=True)
class CachedQueue:
    """A ClusterQueue that was right when last looked at: of what it was worked out, and both its forms."""

    plan: QuotaPlan
    units: tuple[Any, ...]
    standing: Object
    target: Object
    empty: frozenset[tuple[str, str]]
    """Pairs that it counts of which our flavors have nothing; others of its cohort may lend some."""


class PlanCache:
    """What need not be worked out again, because what it was worked out of has not changed."""

    def __init__(self) -> None:
        self.queues: dict[str, CachedQueue] = {}
        """ClusterQueues that were right, by name."""
        self._shares: dict[tuple[str, str], tuple[QuotaPlan, Mapping[str, int], Split]] = {}
        """By plan and pool."""

    def shares_of(self, plan: QuotaPlan, feed: Feed) -> Split:
        """Splits what a pool gives a plan, as `capacity.shares_of` does."""
        found = self._shares.get((plan.name, feed.pool))
        if found is None or found[0] is not plan or found[1] != feed.quota:
            found = plan, feed.quota, shares_of(plan.spec, feed)
            self._shares[plan.name, feed.pool] = found
        return found[2]


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

    def check(self, inputs: PlanInputs, /) -> None:
        """Refuses what cannot be true in this engine.

        Raises:
            RefusalError: one sentence; nothing of the plan is then written.
        """

    def desired(self, inputs: PlanInputs, /) -> ChangeSet:
        """What a plan of this engine wants, and the writes that are missing, in the order that the engine needs."""

    def release(self, plan: str, existing: ObservedState, /) -> ChangeSet:
        """What gives back everything that a plan has here: 0 first, and what nothing uses any more leaves.

        Nothing where it has nothing. The plan need not be there.
        """

    def usage(self, cluster: ClusterState, /) -> Iterator[Finding]:
        """Queues that use more than they have."""


class PlanWork:
    """Objects, changes and problems of one plan while they are collected."""

    def __init__(self, inputs: PlanInputs) -> None:
        self.plan, self.feeds, self.existing = inputs.plan, inputs.feeds, inputs.existing
        self.parts = {feed.pool: inputs.known.shares_of(self.plan, feed) for feed in self.feeds}
        self.objects: list[Object] = []
        self.changes: list[Change] = []
        self.problems = [
            Problem(self.plan.name, "PromiseCut", words) for feed in self.feeds for words in feed.cut
        ]
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

    def result_so_far(self) -> ChangeSet:
        return ChangeSet(
            tuple(self.objects),
            tuple(self.changes),
            tuple(self.problems),
            self.parts,
            self.targets,
            self.draining,
        )
