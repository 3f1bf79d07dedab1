"""Which pools a plan takes, which queues they feed, and which are therefore another engine's.  Pure.

`matchNames` chooses pools, `matchStrategies` offers. Volcano and Kueue each believe that they own the nodes that they
see, so a pool of which a plan takes any offer is its engine's as a whole.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from slicewise.api import keys
from slicewise.api.policy import REST, WHOLE, Engine, PlanSpec, QuotaPlan
from slicewise.gpu import mig
from slicewise.inventory.node_resources import Resource
from slicewise.inventory.pool_name import MIG_DYNAMIC, PoolName
from slicewise.inventory.pools import Pool

ReservedPools = Mapping[str, str]
"""Pools that are another engine's: name of the pool -> which plan gives it to whom, in words."""
NO_RESERVED_POOLS: Final[ReservedPools] = {}
GLOB_CHARACTERS: Final = frozenset("*?[")
QueueQuota = Mapping[str, frozenset[str]]
"""What a queue has quota of: name of the pool -> names of resources."""


def selects(spec: PlanSpec, pool: str) -> bool:
    """True when the plan's globs take a pool of this name."""
    globs = spec.pools.match_names
    return not globs or any(fnmatchcase(pool, glob) for glob in globs)


def declared(spec: PlanSpec) -> frozenset[str]:
    """The pools that a plan feeds from by their full names in `maximum`, whether any node is in them or not."""
    return frozenset(name for name in spec.maximum if not GLOB_CHARACTERS & set(name) and selects(spec, name))


def promise_for(spec: PlanSpec, pool: str) -> Mapping[str, int | str] | None:
    """What the plan promises of a pool of partitionable boards, by resource; None for a pool of other boards.

    Empty where it says nothing and the engine knows what runs and what waits: that decides. Else whole boards.
    """
    parsed = PoolName.parse(pool)
    if parsed is None or parsed.division != MIG_DYNAMIC:
        return None
    unsaid: Mapping[str, int | str] = {} if spec.engine.knows_demand else {WHOLE: REST}
    asked = next((each for glob, each in spec.promise.items() if fnmatchcase(pool, glob)), unsaid)
    profiles = ((mig.parse(name), number) for name, number in asked.items())
    return {profile.resource if profile else keys.GPU: number for profile, number in profiles}


def chosen(spec: PlanSpec, pool: Pool) -> dict[str, Resource]:
    """The offers of a pool that the plan takes: those of the strategies it names, or all; of them what it promises."""
    strategies, promise = spec.pools.match_strategies, promise_for(spec, pool.name)
    return {
        name: resource
        for name, resource in pool.resources.items()
        if (not strategies or resource.strategy in strategies) and (not promise or name in promise)
    }


def as_promised(pools: Iterable[Pool], plans: Iterable[QuotaPlan]) -> Iterator[Pool]:
    """Yields the pools; those of partitionable boards that a plan takes with what it promises of them alone."""
    writing = [plan for plan in plans if plan.writes]
    for pool in pools:
        takers = [plan.spec for plan in writing if takes(plan.spec, pool)]
        if takers and promise_for(takers[0], pool.name) is not None:
            offers = {name: each for spec in takers for name, each in chosen(spec, pool).items()}
            yield msgspec.structs.replace(pool, resources=offers)
        else:
            yield pool


def takes(spec: PlanSpec, pool: Pool) -> bool:
    """True when the plan feeds from the pool; one that offers nothing now is taken by the strategy of its nodes."""
    if not selects(spec, pool.name):
        return False
    strategies = spec.pools.match_strategies
    return bool(chosen(spec, pool)) or not strategies or (not pool.resources and pool.strategy in strategies)


def elsewhere(plans: Iterable[QuotaPlan], pools: Iterable[Pool]) -> Mapping[Engine, ReservedPools]:
    """Says for each engine which pools are the other's, where any is.

    A plan that only reports gives nobody anything, and one that names no pools says nothing against the other engine.
    What plans of both engines take is nobody's: both are refused, and what was written last stays, which is not known
    here.
    """
    writing = sorted((plan for plan in plans if plan.writes), key=lambda plan: plan.name)
    found: dict[Engine, dict[str, str]] = {}
    for pool in pools:
        takers = [plan for plan in writing if takes(plan.spec, pool)]
        engines = {plan.spec.engine for plan in takers}
        if len(engines) != 1:
            continue
        (owner,) = engines
        giver = next(filter(_names_pools, takers), None)
        if giver is None:
            continue
        words = f"QuotaPlan {giver.name} gives to {owner.title()}"
        for engine in Engine:
            if engine is not owner:
                found.setdefault(engine, {})[pool.name] = words
    return found


def fed(plans: Iterable[QuotaPlan], pools: Sequence[Pool]) -> Mapping[tuple[Engine, str], QueueQuota]:
    """Says for each queue of a plan that names pools what it has quota of, by engine and name.

    Plans in each other's way are left out: both are refused, and what was written last stays, which is not known here.
    A queue without a share may still borrow what its cohort has.
    """
    writing = [plan for plan in plans if plan.writes]
    taken = {plan.name: [pool for pool in pools if takes(plan.spec, pool)] for plan in writing}
    takers = Counter(pool.name for each in taken.values() for pool in each)
    listed = Counter((plan.spec.engine, queue.name) for plan in writing for queue in plan.spec.queues)
    found: dict[tuple[Engine, str], QueueQuota] = {}
    for plan in filter(_names_pools, writing):
        spec = plan.spec
        if any(takers[pool.name] > 1 for pool in taken[plan.name]):
            continue
        for queue in spec.queues:
            if listed[spec.engine, queue.name] == 1:
                found[spec.engine, queue.name] = {
                    pool.name: frozenset(chosen(spec, pool))
                    for pool in taken[plan.name]
                    if spec.cohort or queue.share_of(pool.name)
                }
    return found


def _names_pools(plan: QuotaPlan) -> bool:
    return bool(plan.spec.pools.match_names or plan.spec.pools.match_strategies)
