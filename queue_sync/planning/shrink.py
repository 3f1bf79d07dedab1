"""What a plan that is not followed gives back: its queues never keep more than nodes offer and nobody else has.

Nothing grows here and nothing moves: each queue keeps its part of what is left. GPU resources only.
"""

from collections.abc import Iterable, Mapping
from itertools import chain

from queue_sync.planning.apportionment import maximum
from queue_sync.planning.changes import ChangeSet
from queue_sync.planning.engines import ENGINES
from queue_sync.planning.observed import ObservedState
from slicewise.api.policy import PlanSpec, QuotaPlan
from slicewise.inventory.plan_selection import declared, selects, takes
from slicewise.inventory.pools import Pool

Sizes = Mapping[str, Mapping[str, int | str]]
"""Glob on a pool's name -> resource -> quantity."""


def shrunk(
    name: str,
    spec: PlanSpec | None,
    sizes: Sizes,
    followed: Iterable[QuotaPlan],
    pools: Iterable[Pool],
    existing: ObservedState,
) -> ChangeSet:
    """The writes by which the queues of a plan that is not followed give back.

    Args:
        name: the plan.
        spec: what it says; None when it cannot be read.
        sizes: its `maximum`, as far as that can be read.
        followed: the plans that are followed, whose pools this one has nothing of.
        pools: all pools as they are believed.
        existing: what stands.
    """
    others, by_name = list(followed), {pool.name: pool for pool in pools}

    def taken(pool_name: str) -> bool:
        pool = by_name.get(pool_name)
        return any(
            takes(plan.spec, pool) if pool is not None else pool_name in declared(plan.spec)
            for plan in others
        )

    def limit(pool_name: str, resource: str) -> int:
        if taken(pool_name):
            return 0
        pool = by_name.get(pool_name)
        offered = pool.resources[resource].quantity if pool and resource in pool.resources else 0
        return max(offered, maximum(pool_name, sizes).get(resource, 0))

    feeding = {pool for pool in {*by_name, *sizes} if spec is None or selects(spec, pool)}
    changes = (engine.shrink(name, limit, feeding, existing) for engine in ENGINES.values())
    return ChangeSet(changes=tuple(chain.from_iterable(changes)))
