"""What an engine says of the quota in its queues, in words that are the same for every engine.  Pure."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from queue_sync.planning.observed import Object
from slicewise.api import keys
from slicewise.api.policy import QuotaPlan

T = TypeVar("T")
Number = tuple[str, str]
"""(flavor, resource); the flavor is empty in an engine that counts names over all nodes"""
Numbers = Mapping[Number, int]
"""Units of each number of a queue."""
Limit = Callable[[str, str], int]
"""(pool, resource) -> the most that may be promised."""


def less_and_more(before: Numbers, after: Numbers) -> tuple[Numbers, Numbers]:
    """Of which numbers there is less afterwards, and of which more; and by how much."""
    moves = {pair: after.get(pair, 0) - before.get(pair, 0) for pair in before.keys() | after.keys()}
    return (
        {pair: -units for pair, units in moves.items() if units < 0},
        {pair: units for pair, units in moves.items() if units > 0},
    )


DeviceQuota = tuple[tuple[str, str, int], ...]
"""(flavor, resource, units) of GPUs, zeros left out"""


@dataclass(frozen=True, slots=True, order=True)
class LeftOver:
    """What one queue still has of one resource, from a plan that is gone."""

    kind: str
    queue: str
    plan: str
    """The plan that gave it."""
    pool: str
    """Empty in an engine that counts names over all nodes."""
    resource: str
    units: int
    unsaid: bool = False
    """True where the queue does not say that it is ours, so that nobody but its admin may take it away."""

    @property
    def number(self) -> Number:
        """Which number of the queue it is; a flavor of ours is called like its pool."""
        return self.pool, self.resource

    @property
    def fix(self) -> str:
        """What to do about it."""
        if self.unsaid:
            return f"set it to 0 by hand, because the annotation {keys.OWNED} does not say whose it is"
        return f"list the queue in a plan, or run slicewise release {self.plan}"

    @property
    def sentence(self) -> str:
        """What it is, without what to do."""
        return f"{self.kept}, which is not there any more"

    @property
    def kept(self) -> str:
        """The same, whether or not the plan is there."""
        where = f" of {self.pool}" if self.pool else ""
        return f"{self.kind} {self.queue} still has {self.units} {self.resource}{where} from QuotaPlan {self.plan}"


@dataclass(frozen=True, slots=True, order=True)
class Promise:
    """What the queues of one engine promise of one resource on the same nodes, in devices."""

    engine: str
    resource: str
    pools: tuple[str, ...]
    """Empty for flavors that select no node, and where `by_name` is true."""
    flavors: tuple[str, ...]
    """Empty where `by_name` is true."""
    queues: tuple[str, ...]
    """As `Kind name` for Cohorts, else by name."""
    promised: int
    offered: int
    subject: tuple[str, str]
    """Kind and name of the object to look at first."""
    sentence: str
    """Who promises what, against what is there, and what to do; empty when all is backed."""
    by_name: bool = False
    """True when it names no pool, so that it is about every pool that offers the resource."""

    @property
    def excess(self) -> int:
        """By how much more is promised than there is; 0 when all is backed."""
        return max(0, self.promised - self.offered)


def remedy(promising: Collection[str], own: Collection[str], lower: str) -> str:
    """Returns what to do about queues that promise too much.

    Args:
        promising: the queues.
        own: those of them that promise by themselves, and not because a plan had them.
        lower: what to do with these.
    """
    if not own:
        return (
            "see with `slicewise diff` what their plan gives them, and in its status why that is not written"
        )
    if len(own) < len(promising):
        return f"look first at {', '.join(own)}, where no QuotaPlan decides it: put the queues into one, or {lower}"
    return f"put the queues into a QuotaPlan, or {lower}"


def listed_by(plans: Collection[QuotaPlan]) -> frozenset[str]:
    """The queues that these plans write, by name; in some engine a cohort is one too."""
    names = {queue.name for plan in plans for queue in plan.spec.queues}
    return frozenset(
        names | {plan.spec.cohort for plan in plans if plan.spec.cohort and plan.spec.engine.cohort_is_queue}
    )


class ObjectCache(Generic[T]):
    """What is read of objects, each once for as long as the very object stands."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Object, T]] = {}

    def read(self, objects: Iterable[tuple[str, Object]], reader: Callable[[Object], T]) -> dict[str, T]:
        """Reads all objects, by name; those that are not among them are forgotten."""
        before, self._known = self._known, {}
        for name, document in objects:
            found = before.get(name)
            if found is None or found[0] is not document:
                found = document, reader(document)
            self._known[name] = found
        return {name: read for name, (_, read) in self._known.items()}


QuotaCache = ObjectCache[DeviceQuota]
"""The GPU quota of queues and Cohorts."""
QuotaCaches = defaultdict[str, QuotaCache]
"""By engine, since a cache forgets what it is not asked for."""
