"""Which numbers of a queue a write changes, and what is the cause: nodes, or what the plan says.  Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from queue_sync.planning.capacity import counted, text
from queue_sync.planning.changes import Change
from queue_sync.planning.engines import engine_of
from queue_sync.planning.observed import Object
from queue_sync.planning.quota import Numbers, less_and_more
from slicewise.api.policy import PlanQueue, QuotaPlan
from slicewise.inventory.node_state import CountedNode
from slicewise.inventory.pools import Pool

_MOST_NAMED: Final = 3
_FIELDS: Final = ("engine", "pools", "cohort", "headroom", "cover", "maximum", "promise")
"""Of a plan's spec, what decides numbers; queues and their shares are told by name."""

Pools = Mapping[str, Pool]
"""Pools by name, at one moment."""


def moves(change: Change) -> tuple[Numbers, Numbers]:
    """Of which numbers a queue has less after a write, and of which more, by how much; none where it is no queue's."""
    return less_and_more(_numbers(change, change.before), _numbers(change, change.after))


@dataclass(frozen=True, slots=True)
class QuotaChange:
    """One number that changed, of one queue or of several together; units as in `capacity`."""

    flavor: str
    """Empty in an engine that counts names over all nodes."""
    resource: str
    before: int
    after: int
    cause: str
    """Which nodes changed, or what of the plan, in words."""

    @property
    def sentence(self) -> str:
        """The numbers and the cause: `nvidia.com/mig-1g.10gb 14 → 7: node h100-2 is gone`."""
        return f"{self.numbers}: {self.cause}"

    @property
    def numbers(self) -> str:
        """The numbers alone: `nvidia.com/mig-1g.10gb 14 → 7`."""
        where = f" of flavor {self.flavor}" if self.flavor else ""
        return (
            f"{self.resource}{where} {text(self.resource, self.before)} → {text(self.resource, self.after)}"
        )


@dataclass(frozen=True, slots=True)
class Basis:
    """What the queues of a plan are worked out of, at one moment."""

    pools: Pools
    plan: QuotaPlan | None = None
    """None where it cannot be read."""
    shrinks: str = ""
    """Why its queues only give back, as a clause; "" where they do not."""


class Causes:
    """What happened between two moments.

    Args:
        former: when the plan was written last; None when that is not known.
        now: what it is written for now.
    """

    def __init__(self, former: Basis | None, now: Basis) -> None:
        self._former, self._now = former, now
        self._known: dict[tuple[str, str], str] = {}

    def of(self, flavor: str, resource: str) -> str:
        """Says what changed that a resource in a pool, or in all pools (flavor ""), is split of."""
        key = flavor, resource
        if key not in self._known:
            self._known[key] = self._find(*key)
        return self._known[key]

    def _find(self, flavor: str, resource: str) -> str:
        former, now = self._former, self._now
        if former is None:
            return "it is the first look at the plan since the controller started"
        found = [*self._nodes(former.pools, flavor, resource), *_of_plan(former.plan, now.plan, flavor)]
        if now.shrinks and (former.shrinks != now.shrinks or not found):
            found.append(now.shrinks)
        elif former.shrinks and not now.shrinks:
            found.append("the plan is followed again")
        if not found:
            return "neither nodes nor the plan changed, so another plan, what runs, or somebody's edit did"
        return "; ".join(found)

    def _nodes(self, former: Pools, flavor: str, resource: str) -> list[str]:
        """Which nodes changed what there is of a resource."""
        names = [flavor] if flavor else sorted({*former, *self._now.pools})
        before, after = _members(names, former), _members(names, self._now.pools)
        changed = [node for node in {*before, *after} if before.get(node) is not after.get(node)]
        numbers = [
            (node, _counted(before.get(node), resource), _counted(after.get(node), resource))
            for node in sorted(changed)
        ]
        found = [self._words(node, then, now, resource) for node, then, now in numbers if then != now]
        more = len(found) - _MOST_NAMED
        return found[:_MOST_NAMED] + ([f"and {more} more nodes"] if more > 0 else [])

    def _words(self, node: str, before: int, after: int, resource: str) -> str:
        if after:
            return f"node {node} has {text(resource, after)} in place of {text(resource, before)}"
        for pool in self._now.pools.values():
            for each in pool.unsettled:
                if each.node == node:
                    return f"node {node} does not count: {each.reason}"
            if node in pool.nodes:
                return f"node {node} offers something else now, in pool {pool.name}"
        return f"node {node} is gone"


def _of_plan(former: QuotaPlan | None, now: QuotaPlan | None, flavor: str) -> Iterator[str]:
    """Yields what a plan says otherwise than before that may change numbers of a pool, or of all (flavor "")."""
    if former is None or now is None:
        return
    before, after = ({queue.name: queue for queue in plan.spec.queues} for plan in (former, now))
    if joined := sorted(after.keys() - before.keys()):
        yield f"{_queues(joined)} joined the plan"
    if left := sorted(before.keys() - after.keys()):
        yield f"{_queues(left)} left the plan"
    stayed = sorted(before.keys() & after.keys())
    if shares := [name for name in stayed if _share(before[name], flavor) != _share(after[name], flavor)]:
        yield f"the share of {_queues(shares)} changed"
    for field in _FIELDS:
        if getattr(former.spec, field) != getattr(now.spec, field):
            yield f"spec.{field} of the plan changed"


def _share(queue: PlanQueue, flavor: str) -> object:
    """What says which part of a pool a queue gets, or of all pools."""
    return queue.share_of(flavor) if flavor else (queue.share, queue.shares)


def _queues(names: list[str]) -> str:
    """Some queues, those named that fit."""
    listed = ", ".join(names[:_MOST_NAMED])
    more = len(names) - _MOST_NAMED
    return f"queue{'s' if len(names) > 1 else ''} {listed}" + (f" and {more} more" if more > 0 else "")


def quota_changes(change: Change, causes: Causes) -> Iterator[QuotaChange]:
    """Yields what a write changes in a queue's numbers."""
    before, after = _numbers(change, change.before), _numbers(change, change.after)
    for flavor, resource in sorted({*before, *after}):
        then, now = before.get((flavor, resource), 0), after.get((flavor, resource), 0)
        if then != now:
            cause = "the queue is new" if change.before is None else causes.of(flavor, resource)
            yield QuotaChange(flavor, resource, then, now, cause)


def together(changes: Iterable[QuotaChange]) -> list[QuotaChange]:
    """Adds up the changes of several queues, by flavor, resource and cause."""
    sums: dict[tuple[str, str, str], tuple[int, int]] = {}
    for each in changes:
        key = each.flavor, each.resource, each.cause
        before, after = sums.get(key, (0, 0))
        sums[key] = before + each.before, after + each.after
    return [
        QuotaChange(flavor, resource, before, after, cause)
        for (flavor, resource, cause), (before, after) in sums.items()
    ]


def _numbers(change: Change, queue: Object | None) -> Numbers:
    engine = engine_of(change.document)
    return engine.numbers(queue) if engine is not None and queue is not None else {}


def _members(names: Iterable[str], pools: Pools) -> dict[str, CountedNode]:
    return {member.name: member for name in names if name in pools for member in pools[name].members}


def _counted(node: CountedNode | None, resource: str) -> int:
    return counted(node, resource) if node is not None else 0
