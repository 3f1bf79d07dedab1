"""What a decision may look at: namespaces, policies, pools and plans as they stand at this moment.

The webhook fills it from watches, the command from files. Nothing here asks a server: the path of a review
must never wait for one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from admission.decision.memo import Memo
from slicewise.api import keys
from slicewise.api.policy import BUILT_IN, Engine, QuotaPlan, SlicingPolicy, built_in
from slicewise.inventory.allocation import Allocation, NodeFilter, allocate
from slicewise.inventory.declared_pools import with_declared
from slicewise.inventory.gpu_requirement import GpuRequirement, requirement_of_class
from slicewise.inventory.plan_conflicts import followed
from slicewise.inventory.plan_selection import (
    NO_RESERVED_POOLS,
    QueueQuota,
    ReservedPools,
    as_promised,
    elsewhere,
    fed,
)
from slicewise.inventory.pools import Inventory, Pool


@dataclass(slots=True)
class ClusterState:
    """The state that reviews are answered from; its owner replaces or updates the parts in place."""

    namespaces: Mapping[str, Mapping[str, str]]
    """Labels by namespace. A namespace that is not here has not opted in."""
    policies: Mapping[str, SlicingPolicy]
    pools: Inventory
    protected: frozenset[str] = field(default=keys.SYSTEM_NAMESPACES)
    """Namespaces that are never touched, our own among them."""
    plans: Mapping[str, QuotaPlan] = field(default_factory=dict)
    """Whoever changes them says so (`replanned`)."""

    _seen: int = field(default=-1, init=False)
    _pools: tuple[Pool, ...] = field(default=(), init=False)
    _allocations: Memo = field(default_factory=lambda: Memo(_REMEMBERED, _BYTES), init=False)
    _outcomes: Memo = field(default_factory=lambda: Memo(MOST_OUTCOMES, _BYTES), init=False)
    _requirements: dict[tuple[str, str], tuple[SlicingPolicy, GpuRequirement]] = field(
        default_factory=dict, init=False
    )
    _elsewhere: Mapping[Engine, ReservedPools] = field(default_factory=dict, init=False)
    _fed: Mapping[tuple[Engine, str], QueueQuota] = field(default_factory=dict, init=False)

    def all_pools(self) -> tuple[Pool, ...]:
        """Returns every pool as it is now, with what plans declare."""
        if self._seen != self.pools.revision:
            declared = with_declared(self.pools, self.plans.values())
            self._pools = tuple(as_promised(declared, self.plans.values()))
            plans = followed(self.plans.values(), self._pools)
            self._elsewhere = elsewhere(plans, self._pools)
            self._fed = fed(plans, self._pools)
            self._allocations.clear()
            self._outcomes.clear()
            self._seen = self.pools.revision
        return self._pools

    def replanned(self) -> None:
        """Takes note that a plan changed."""
        self._seen = -1

    def outcomes(self) -> Memo:
        """Returns what became of objects while pools and plans are as now; policies and labels are for who asks."""
        self.all_pools()
        return self._outcomes

    def divided(self) -> bool:
        """True when plans say of some pools whose they are."""
        self.all_pools()
        return bool(self._elsewhere or self._fed)

    def elsewhere(self, engine: Engine | None) -> ReservedPools:
        """Returns the pools that plans give to others than an engine; none where it is not known."""
        return (
            self._elsewhere.get(engine, NO_RESERVED_POOLS)
            if engine is not None and self.divided()
            else NO_RESERVED_POOLS
        )

    def fed(self, engine: Engine | None, queue: str) -> QueueQuota | None:
        """Returns what a queue has quota of; None where no plan says."""
        return self._fed.get((engine, queue)) if engine is not None and self.divided() else None

    def allocate(
        self,
        requirement: GpuRequirement,
        engine: Engine | None = None,
        queue: str = "",
        node_filter: NodeFilter | None = None,
    ) -> Allocation:
        """Finds what a template gets; without selectors of its own, remembered until a pool or a plan changes."""
        pools, reserved, quota = self.all_pools(), NO_RESERVED_POOLS, None
        if engine is not None:
            reserved, quota = self.elsewhere(engine), self.fed(engine, queue)
        if node_filter is not None:
            return allocate(requirement, pools, node_filter, reserved, quota)
        # Anybody may make up a queue; those that plans name are few.
        key = (engine, queue if quota is not None else "", requirement)
        found: Allocation | None = self._allocations.get(key)
        if found is None:
            found = allocate(requirement, pools, None, reserved, quota)
            self._allocations.put(key, found, len(repr(requirement)), size_of(found))
        return found

    def requirement(self, policy: SlicingPolicy, class_name: str) -> GpuRequirement:
        """Returns what work of a class asks that says nothing more, remembered until its policy changes."""
        place = (policy.name, class_name)
        known = self._requirements.get(place)
        if known is None or known[0] is not policy:
            requirement = requirement_of_class(policy.spec.classes[class_name])
            known = self._requirements[place] = (policy, requirement)
        return known[1]

    def policy(self, name: str) -> SlicingPolicy | None:
        """Returns a policy by name; the built-in one stands in for `default` until somebody writes it."""
        found = self.policies.get(name)
        if found is None and name == BUILT_IN:
            return _BUILT_IN
        return found

    def policy_names(self) -> list[str]:
        """Returns the names under which a policy is found, sorted."""
        return sorted({*self.policies, BUILT_IN})


_BUILT_IN: Final = built_in()


def size_of(allocation: Allocation) -> int:
    """Returns about how many bytes an allocation has, of which nearly all say what was looked at."""
    return _STEP_BYTES * len(allocation.trace)


MOST_OUTCOMES: Final = 1024
"""Of objects that are not alike; what is remembered of them."""
_REMEMBERED: Final = 4096
_BYTES: Final = 16 * 1024 * 1024
_STEP_BYTES: Final = 160
