"""By how much queues promise more GPUs than nodes offer: the one place where that is worked out.

Everybody's promises count: ClusterQueues, Kueue's Cohorts (their quota comes on top of their members'), Volcano's
topmost Queues, ours or others'. Flavors that select the same nodes promise the same GPUs, so they are held against
those nodes together. Volcano counts a name over all nodes that Kueue's plans leave it, because which nodes its
scheduler sees is a flag of it that no object shows. What a pool may grow to (`maximum`) counts as there.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from queue_sync.planning.capacity import largest, taken_by
from queue_sync.planning.kueue.objects import nominal
from queue_sync.planning.observed import Object, ObservedState, pool_of, value_of
from slicewise.api import keys
from slicewise.api.policy import Engine, QuotaPlan
from slicewise.inventory.plan_selection import chosen, declared, takes
from slicewise.inventory.pools import Inventory, Pool

_ROOT = "root"
DeviceQuota = tuple[tuple[str, str, int], ...]
"""(flavor, resource, units) of GPUs, zeros left out"""


@dataclass(frozen=True, slots=True, order=True)
class Promise:
    """What the queues of one engine promise of one resource on the same nodes, in devices."""

    engine: Engine
    resource: str
    pools: tuple[str, ...]
    """Empty for Volcano, and for flavors that select no node at all."""
    flavors: tuple[str, ...]
    """Empty for Volcano."""
    queues: tuple[str, ...]
    """As `Kind name` for Cohorts, else by name."""
    promised: int
    offered: int

    @property
    def excess(self) -> int:
        """By how much more is promised than there is; 0 when all is backed."""
        return max(0, self.promised - self.offered)

    @property
    def sentence(self) -> str:
        """Who promises what, against what is there, and what to do."""
        queues = ", ".join(self.queues)
        if self.engine is Engine.VOLCANO:
            return (
                f"Queues {queues} deserve {self.promised} {self.resource} together, the nodes that Kueue's plans leave "
                f"offer {self.offered}; put the queues into a QuotaPlan, or lower what they deserve"
            )
        kind = "ResourceFlavors" if len(self.flavors) > 1 else "ResourceFlavor"
        return (
            f"{kind} {', '.join(self.flavors)}: ClusterQueues {queues} promise {self.promised} {self.resource}, the "
            f"nodes offer {self.offered}; put the queues into a QuotaPlan, or lower their nominalQuota"
        )

    def concerns(self, plan: QuotaPlan, taken: Iterable[Pool]) -> bool:
        """True when it is about GPUs of the pools that the plan takes.

        Volcano's promises name no pool, so they are about every pool that offers the name.
        """
        if self.engine is Engine.VOLCANO:
            return any(self.resource in chosen(plan.spec, pool) for pool in taken)
        return any(pool.name in self.pools for pool in taken)


class QuotaCache:
    """The GPU quota of ClusterQueues and Cohorts, each read once for as long as the very object stands."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Object, DeviceQuota]] = {}

    def read(self, objects: Iterable[tuple[str, Object]]) -> dict[str, DeviceQuota]:
        """Reads the quota of all objects, by name; those that are not among them are forgotten."""
        before, self._known = self._known, {}
        for name, document in objects:
            found = before.get(name)
            if found is None or found[0] is not document:
                found = document, _device_quota(document)
            self._known[name] = found
        return {name: quota for name, (_, quota) in self._known.items()}


def _device_quota(document: Object) -> DeviceQuota:
    return tuple(
        (flavor, resource, units)
        for (flavor, resource), units in nominal(document).items()
        if units and keys.is_device(resource)
    )


def promises(
    existing: ObservedState, plans: Iterable[QuotaPlan], pools: Inventory, cache: QuotaCache | None = None
) -> Iterator[Promise]:
    """Yields every promise of GPUs, backed or not, in a stable order.

    `cache` is kept by the caller from call to call. It makes a call quicker and changes no result.
    """
    listed = list(plans)
    kueue = [plan for plan in listed if plan.spec.engine is Engine.KUEUE]
    yield from _kueue(existing, kueue, pools, cache or QuotaCache())
    yield from _volcano(existing, listed, pools)


def overcommitted(
    existing: ObservedState, plans: Iterable[QuotaPlan], pools: Inventory, cache: QuotaCache | None = None
) -> tuple[Promise, ...]:
    """The promises that nodes do not back."""
    return tuple(each for each in promises(existing, plans, pools, cache) if each.excess)


def unbacked_by_plan(
    existing: ObservedState, plans: Iterable[QuotaPlan], pools: Inventory, cache: QuotaCache | None = None
) -> dict[str, tuple[str, ...]]:
    """What of the pools of each plan is promised beyond what nodes offer, whoever promises it, as sentences.

    Plans whose pools are backed are left out.
    """
    listed = list(plans)
    excessive = overcommitted(existing, listed, pools, cache)
    found = {}
    for plan in listed if excessive else ():
        taken = [pool for pool in pools if takes(plan.spec, pool)]
        if sentences := tuple(each.sentence for each in excessive if each.concerns(plan, taken)):
            found[plan.name] = sentences
    return found


def _kueue(
    existing: ObservedState, plans: Sequence[QuotaPlan], pools: Inventory, cache: QuotaCache
) -> Iterator[Promise]:
    units: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    queues: dict[tuple[str, str], list[str]] = defaultdict(list)
    cohorts = ((f"Cohort {name}", cohort) for name, cohort in existing.cohorts.items())
    for name, quota in sorted(cache.read((*existing.cluster_queues.items(), *cohorts)).items()):
        for flavor, resource, number in quota:
            units[resource][flavor] += number
            queues[resource, flavor].append(name)
    nodes = _selected(
        {flavor: existing.flavors.get(flavor) for per in units.values() for flavor in per}, pools
    )
    for resource, per_flavor in sorted(units.items()):
        for flavors in _overlapping(sorted(per_flavor), nodes):
            members = {pair for flavor in flavors for pair in nodes[flavor]}
            names = tuple(sorted({pool for pool, _ in members}))
            yield Promise(
                Engine.KUEUE,
                resource,
                names,
                flavors,
                tuple(dict.fromkeys(name for flavor in flavors for name in queues[resource, flavor])),
                sum(per_flavor[flavor] for flavor in flavors),
                _offered(members, names, resource, plans, pools),
            )


def _selected(
    flavors: Mapping[str, Object | None], pools: Inventory
) -> dict[str, frozenset[tuple[str, str]]]:
    """The nodes that flavors select, as (pool, node), and a pool as a whole also as (pool, "").

    A flavor that does not stand is held to be the one of the pool of that name. Where each flavor selects a pool as a
    whole, nobody asks for the nodes.
    """
    whole = {name: name if flavor is None else pool_of(flavor) for name, flavor in flavors.items()}
    found = {name: {(pool_name, "")} for name, pool_name in whole.items() if pool_name}
    if len(found) == len(flavors):
        return {name: frozenset(selected) for name, selected in found.items()}
    for name, flavor in flavors.items():
        labels = ((flavor or {}).get("spec") or {}).get("nodeLabels") or {}
        chosen = found.setdefault(name, set())
        for pool in pools if not whole[name] else filter(None, [pools.pool(whole[name])]):
            chosen |= {
                (pool.name, member.name)
                for member in pool.members
                if whole[name] or labels.items() <= member.labels.items()
            }
    return {name: frozenset(selected) for name, selected in found.items()}


def _overlapping(
    flavors: Sequence[str], nodes: Mapping[str, frozenset[tuple[str, str]]]
) -> list[tuple[str, ...]]:
    """Groups flavors that share nodes, directly or through others."""
    groups: list[tuple[list[str], set[tuple[str, str]]]] = []
    for flavor in flavors:
        mine = [group for group in groups if group[1] & nodes[flavor]]
        merged = ([flavor], set(nodes[flavor]))
        for names, shared in mine:
            merged[0].extend(names)
            merged[1].update(shared)
        groups = [group for group in groups if group not in mine] + [merged]
    return sorted(tuple(sorted(names)) for names, _ in groups)


def _offered(
    members: Iterable[tuple[str, str]],
    names: Iterable[str],
    resource: str,
    plans: Sequence[QuotaPlan],
    pools: Inventory,
) -> int:
    """What the selected nodes offer, or a pool that is selected as a whole may grow to."""
    selected: dict[str, set[str]] = defaultdict(set)
    for pool_name, node in members:
        selected[pool_name].add(node)
    total = 0
    for name in names:
        pool = pools.pool(name)
        if "" in selected[name]:
            offered = pool.resources[resource].quantity if pool and resource in pool.resources else 0
            total += max(offered, largest(plans, name).get(resource, 0))
        elif pool is not None:
            total += sum(
                member.offer.quantities.get(resource, 0)
                for member in pool.members
                if member.offer is not None and member.name in selected[name]
            )
    return total


def _volcano(existing: ObservedState, plans: Sequence[QuotaPlan], pools: Inventory) -> Iterator[Promise]:
    deserved: dict[str, int] = defaultdict(int)
    queues: dict[str, list[str]] = defaultdict(list)
    for name, queue in sorted(existing.queues.items()):
        if name == _ROOT or queue["spec"].get("parent") not in {None, "", _ROOT}:
            continue
        for resource, quantity in (queue["spec"].get("deserved") or {}).items():
            if keys.is_device(resource) and (units := int(value_of(quantity))):
                deserved[resource] += units
                queues[resource].append(name)
    backing = _left_to_volcano(plans, pools) if deserved else {}
    for resource, units in sorted(deserved.items()):
        yield Promise(
            Engine.VOLCANO, resource, (), (), tuple(queues[resource]), units, backing.get(resource, 0)
        )


def _left_to_volcano(plans: Sequence[QuotaPlan], pools: Inventory) -> Mapping[str, int]:
    """What the nodes that Kueue's plans leave offer, or may grow to where a plan of Volcano's says so."""
    own = [plan for plan in plans if plan.spec.engine is Engine.VOLCANO]
    found: dict[str, int] = defaultdict(int)
    seen = set()
    for pool in pools:
        seen.add(pool.name)
        if taken_by(plans, pool, Engine.KUEUE):
            continue
        grown = largest(own, pool.name)
        for resource in pool.resources.keys() | grown.keys():
            offered = pool.resources[resource].quantity if resource in pool.resources else 0
            found[resource] += max(offered, grown.get(resource, 0))
    for name in {name for plan in own for name in declared(plan.spec)} - seen:
        for resource, units in largest(own, name).items():
            found[resource] += units
    return found
