"""By how much queues promise more GPUs than nodes offer: the one place where that is added up over the engines.

Everybody's promises count, ours or others'. How an engine's objects promise is its own business (`engines`). What a
pool may grow to (`maximum`) counts as there.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from queue_sync.planning.engines import ENGINES
from queue_sync.planning.observed import ObservedState
from queue_sync.planning.quota import Promise, QuotaCache, QuotaCaches
from slicewise.api.policy import QuotaPlan
from slicewise.inventory.plan_selection import chosen, takes
from slicewise.inventory.pools import Inventory, Pool


def promises(
    existing: ObservedState, plans: Iterable[QuotaPlan], pools: Inventory, caches: QuotaCaches | None = None
) -> Iterator[Promise]:
    """Yields every promise of GPUs, backed or not, in a stable order.

    `caches` are kept by the caller from call to call. They make a call quicker and change no result.
    """
    listed, known = list(plans), defaultdict(QuotaCache) if caches is None else caches
    for name, engine in ENGINES.items():
        yield from engine.promises(existing, listed, pools, known[name])


def overcommitted(
    existing: ObservedState, plans: Iterable[QuotaPlan], pools: Inventory, caches: QuotaCaches | None = None
) -> tuple[Promise, ...]:
    """The promises that nodes do not back."""
    return tuple(each for each in promises(existing, plans, pools, caches) if each.excess)


def unbacked_by_plan(
    existing: ObservedState, plans: Iterable[QuotaPlan], pools: Inventory, caches: QuotaCaches | None = None
) -> dict[str, tuple[str, ...]]:
    """What of the pools of each plan is promised beyond what nodes offer, whoever promises it, as sentences.

    Plans whose pools are backed are left out.
    """
    listed = list(plans)
    excessive = overcommitted(existing, listed, pools, caches)
    found = {}
    for plan in listed if excessive else ():
        taken = [pool for pool in pools if takes(plan.spec, pool)]
        if sentences := tuple(each.sentence for each in excessive if _concerns(each, plan, taken)):
            found[plan.name] = sentences
    return found


def _concerns(promise: Promise, plan: QuotaPlan, taken: Iterable[Pool]) -> bool:
    """True when a promise is about GPUs of the pools that the plan takes."""
    if promise.by_name:
        return any(promise.resource in chosen(plan.spec, pool) for pool in taken)
    return any(pool.name in promise.pools for pool in taken)
