"""What the quotas may be at any time, from what the harness made the nodes offer.  Pure.

Nothing of Slicewise is used: the truth is what the harness did to the nodes, and a quota is read from the API server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

Quota = Mapping[str, int]


@dataclass(frozen=True)
class Sample:
    """The sum over the plan's queues at one moment."""

    at: float
    quota: Quota


@dataclass
class Truth:
    """What each node offers, and since when."""

    _changes: dict[str, list[tuple[float, Quota]]] = field(default_factory=dict)
    _edits: list[tuple[float, float]] = field(default_factory=list)

    def change(self, node: str, offer: Quota, at: float) -> None:
        """From now on the node offers this; one that is gone offers nothing."""
        self._changes.setdefault(node, []).append((at, offer))

    def edited(self, since: float, until: float) -> None:
        """Somebody else wrote numbers of his own into a queue, and they were put back by then."""
        self._edits.append((since, until))

    def is_edited(self, moment: float) -> bool:
        """Whether numbers of somebody else may stand in a queue at a moment."""
        return any(begin <= moment <= end for begin, end in self._edits)

    def at(self, moment: float) -> Counter[str]:
        """What all nodes offer at a moment."""
        return self.most(moment, moment)

    def most(self, since: float, until: float) -> Counter[str]:
        """The sum over the nodes of the most that each offered in this time."""
        total: Counter[str] = Counter()
        for node in self._changes:
            most: Counter[str] = Counter()
            for offer in self._in_force(node, since, until):
                most |= Counter(offer)
            total += most
        return total

    def least(self, since: float, until: float) -> Counter[str]:
        """The sum over the nodes of the least that each offered in this time."""
        total: Counter[str] = Counter()
        for node in self._changes:
            first, *rest = self._in_force(node, since, until)
            least = Counter(first)
            for offer in rest:
                least &= Counter(offer)
            total += least
        return total

    def _in_force(self, node: str, since: float, until: float) -> list[Quota]:
        changes = self._changes[node]
        before = [offer for at, offer in changes if at <= since]
        return [before[-1] if before else {}, *(offer for at, offer in changes if since < at <= until)]


def violations(truth: Truth, samples: list[Sample], bound: float) -> list[str]:
    """Says where a quota was above what nodes offered within the last ``bound`` seconds, or below all of it.

    A promise that stays broken in the same way is told once.
    """
    found: list[str] = []
    before: set[str] = set()
    for sample in samples:
        now = set() if truth.is_edited(sample.at) else set(_wrong(truth, sample, bound))
        found += [f"at {sample.at:.1f} s {words}" for words in sorted(now - before)]
        before = now
    return found


def _wrong(truth: Truth, sample: Sample, bound: float) -> Iterator[str]:
    since = sample.at - bound
    most, least = truth.most(since, sample.at), truth.least(since, sample.at)
    for name in {*most, *least, *sample.quota}:
        quota = sample.quota.get(name, 0)
        if quota > most[name]:
            yield f"{name} is {quota}, and nodes offered {most[name]} at most"
        if quota < least[name]:
            yield f"{name} is {quota}, and nodes offered {least[name]} at least"


def longest_excess(truth: Truth, samples: list[Sample]) -> float:
    """The longest time in seconds that a quota was above what nodes offered at that very moment."""
    longest, since = 0.0, None
    for sample in samples:
        offered = truth.at(sample.at)
        above = any(quota > offered[name] for name, quota in sample.quota.items())
        if above and not truth.is_edited(sample.at):
            since = sample.at if since is None else since
            longest = max(longest, sample.at - since)
        else:
            since = None
    return longest
