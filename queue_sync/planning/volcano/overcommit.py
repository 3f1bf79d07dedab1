"""What Volcano's topmost Queues promise of GPUs, ours or others'.

Volcano counts a name over all nodes that plans of other engines leave it, because which nodes its scheduler sees is
a flag of it that no object shows.  Pure.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from queue_sync.planning.capacity import largest, takers
from queue_sync.planning.observed import ObservedState
from queue_sync.planning.ownership import owned
from queue_sync.planning.quota import Promise, QuotaCache, listed_by, remedy
from queue_sync.planning.volcano.queues import QUEUE, ROOT
from slicewise.api import keys
from slicewise.api.policy import Engine, QuotaPlan
from slicewise.api.quantities import value_of
from slicewise.inventory.plan_selection import declared
from slicewise.inventory.pools import Inventory


def promises(
    existing: ObservedState, plans: Iterable[QuotaPlan], pools: Inventory, _: QuotaCache, /
) -> Iterator[Promise]:
    """Yields what is promised of each name; see `QueueEngine`."""
    deserved: dict[str, int] = defaultdict(int)
    queues: dict[str, list[str]] = defaultdict(list)
    for name, queue in sorted(existing.queues.items()):
        if name == ROOT or queue["spec"].get("parent") not in {None, "", ROOT}:
            continue
        for resource, quantity in (queue["spec"].get("deserved") or {}).items():
            if keys.is_device(resource) and (units := int(value_of(quantity))):
                deserved[resource] += units
                queues[resource].append(name)
    listed = list(plans)
    backing = _left_to_volcano(listed, pools) if deserved else {}
    for resource, units in sorted(deserved.items()):
        promising, offered = tuple(queues[resource]), backing.get(resource, 0)
        sentence = ""
        if units > offered:
            theirs = listed_by([plan for plan in listed if plan.spec.engine is Engine.VOLCANO])
            own = [
                name
                for name in promising
                if not (name in theirs and owned(existing.queues[name]).has("", resource))
            ]
            sentence = (
                f"Queues {', '.join(promising)} deserve {units} {resource} together, the nodes that plans of "
                f"other engines leave offer {offered}; {remedy(promising, own, 'lower what they deserve')}"
            )
        yield Promise(
            Engine.VOLCANO,
            resource,
            (),
            (),
            promising,
            units,
            offered,
            (QUEUE, promising[0]),
            sentence,
            by_name=True,
        )


def _left_to_volcano(plans: Sequence[QuotaPlan], pools: Inventory) -> Mapping[str, int]:
    """What the nodes that plans of other engines leave offer, or may grow to where a plan of Volcano's says so."""
    own = [plan for plan in plans if plan.spec.engine is Engine.VOLCANO]
    found: dict[str, int] = defaultdict(int)
    seen = set()
    for pool in pools:
        seen.add(pool.name)
        if takers(plans, pool) - {Engine.VOLCANO}:
            continue
        grown = largest(own, pool.name)
        for resource in pool.resources.keys() | grown.keys():
            offered = pool.resources[resource].quantity if resource in pool.resources else 0
            found[resource] += max(offered, grown.get(resource, 0))
    for name in {name for plan in own for name in declared(plan.spec)} - seen:
        for resource, units in largest(own, name).items():
            found[resource] += units
    return found
