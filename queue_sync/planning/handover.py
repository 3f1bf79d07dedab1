"""What queues get while others still keep what they are to give back.  Pure.

Of each number, the queues of a plan may grow by as much as they are to grow by, less what others keep of it: that is
free. Those that are written first get it first, and the last ones wait. So all together never have more than there is,
and nothing is held up that nobody keeps.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from queue_sync.planning.changes import Change, ChangeSet, Key, Problem, key_of, kind_and_name
from queue_sync.planning.engines import engine_of
from queue_sync.planning.observed import Object
from queue_sync.planning.quota import Number, Numbers
from queue_sync.planning.quota_changes import moves


class Handover:
    """Gives out what is free, change by change, in the order in which they are written.

    Args:
        changes: all that are to be written.
        kept: by queue, what it keeps beyond what it is to have.
        standing: what a change starts from, where that is not what the object says now.
        unannotated: what counts of nodes that are annotated with it in a moment.
    """

    def __init__(
        self,
        changes: Iterable[Change],
        kept: Mapping[Key, Numbers],
        standing: Callable[[Change], Object | None] = lambda change: change.before,
        unannotated: Numbers = MappingProxyType({}),
    ) -> None:
        self._changes, self._standing = tuple(changes), standing
        self._kept, self._unannotated = dict(kept), unannotated
        self._unsaid: set[Key] = set()
        """Queues that keep something of which nobody is told, because it is over in a moment."""
        self._given: set[int] = set()
        """Changes, by identity, that were let through while nobody kept anything."""
        self._left: Counter[Number] | None = None
        """Of the growth that is still to come, and of what was held back of it; None while nobody keeps anything."""
        self._waiting: set[Number] = set()
        """Numbers that an earlier change waits for: below a parent that waits, no limit of a child may grow either."""

    def keep(self, change: Change, *, said: bool) -> None:
        """Notes that a change was not made. `said` is False where no problem says so, since it will be in a moment."""
        if less := moves(change)[0]:
            key = key_of(change.document)
            self._kept[key] = {**self._kept.get(key, {}), **less}
            if not said:
                self._unsaid.add(key)

    def give(self, change: Change) -> tuple[Change | None, frozenset[Number]]:
        """Returns a change as it may be written, None when nothing of it is left, and the numbers that it waits for."""
        if not self._kept and not self._unannotated:
            self._given.add(id(change))
            return change, frozenset()
        if self._left is None:
            self._left = Counter()
            for each in self._changes:
                if id(each) not in self._given:
                    self._left.update(self._growth(each))
        more: dict[Number, int] = {}
        for number, units in self._growth(change).items():
            free = units
            kept = sum(_of(number, each) for each in (*self._kept.values(), self._unannotated))
            if kept:
                free = max(0, min(units, self._left[number] - kept))
            self._left[number] -= free
            if free < units:
                more[number] = free
        self._waiting.update(more)
        less = (
            self._withhold(change, {**dict.fromkeys(self._waiting, 0), **more}) if self._waiting else change
        )
        if less is change:
            return change, frozenset(more)
        return less, frozenset(more or self._waiting)

    def _growth(self, change: Change) -> Numbers:
        return moves(replace(change, before=self._standing(change)))[1]

    def _withhold(self, change: Change, more: Numbers) -> Change | None:
        """A write of a queue that gets only so much more of these numbers; None when nothing is left of it."""
        engine, after = engine_of(change.document), change.after
        if engine is None or after is None:
            return change
        less = engine.withhold(self._standing(change), after, more)
        if less == after:
            return change
        # What is made is on its way to its form: the server adds to it, which is nobody's edit.
        target = change.target if change.before is not None else None
        return None if less == change.before else replace(change, after=less, target=target)

    def over_soon(self, waiting: Collection[Number]) -> bool:
        """True when a queue that waits for these numbers may get more of them in a moment."""
        nodes = any(_of(number, self._unannotated) for number in waiting)
        return nodes or not self._unsaid.isdisjoint(self._keepers(waiting))

    def _keepers(self, waiting: Collection[Number]) -> set[Key]:
        """The queues that keep something of these numbers."""
        return {key for key, kept in self._kept.items() if any(_of(number, kept) for number in waiting)}

    def problem(self, change: Change, waiting: Collection[Number]) -> Problem | None:
        """Says what a queue waits for, and who keeps it; None where that is over in a moment."""
        keepers = sorted(self._keepers(waiting) - self._unsaid)
        if not keepers:
            return None
        kind, name = kind_and_name(change.document)
        resources = ", ".join(sorted({resource for _, resource in waiting}))
        keeper = f"{keepers[0][0].partition('.')[0]} {keepers[0][1]}"
        others = " and others" if len(keepers) > 1 else ""
        sentence = f"{kind} {name} gets more {resources} once that is given back by {keeper}{others}"
        return Problem(change.plan, "WaitsForQuota", sentence, kind=kind, name=name)


def waiting(found: ChangeSet) -> Iterator[Problem]:
    """Yields what queues would wait for if all was written now, and every write was taken."""
    handover = Handover(found.changes, found.kept)
    for change in found.changes:
        _, numbers = handover.give(change)
        if numbers and (problem := handover.problem(change, numbers)) is not None:
            yield problem


def _of(number: Number, kept: Numbers) -> int:
    """How much of what is kept may be of the same boards as a number.

    A number without a flavor is of all nodes, so it is of each pool's too: a plan may go from one engine to another.
    """
    flavor, resource = number
    return sum(
        units
        for (other, name), units in kept.items()
        if name == resource and (flavor == other or not flavor or not other)
    )
