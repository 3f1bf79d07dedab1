"""What ClusterQueues and Cohorts promise of GPUs, ours or others', against the nodes that their flavors select.

A Cohort's quota comes on top of its members'. Flavors that select the same nodes promise the same GPUs, so they are
held against those nodes together.  Pure.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from queue_sync.planning.capacity import largest
from queue_sync.planning.kueue.objects import FLAVOR_KIND, nominal
from queue_sync.planning.observed import Object, ObservedState, pool_of
from queue_sync.planning.ownership import owned
from queue_sync.planning.quota import DeviceQuota, Promise, QuotaCache, listed_by, remedy
from slicewise.api import keys
from slicewise.api.policy import Engine, QuotaPlan
from slicewise.inventory.pools import Inventory


def promises(
    existing: ObservedState, plans: Iterable[QuotaPlan], pools: Inventory, cache: QuotaCache, /
) -> Iterator[Promise]:
    """Yields what is promised by flavors that share nodes; see `QueueEngine`."""
    listed = [plan for plan in plans if plan.spec.engine is Engine.KUEUE]
    units: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    queues: dict[tuple[str, str], list[str]] = defaultdict(list)
    cohorts = ((f"Cohort {name}", cohort) for name, cohort in existing.cohorts.items())
    standing = (*existing.cluster_queues.items(), *cohorts)
    for name, quota in sorted(cache.read(standing, _device_quota).items()):
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
            promising = tuple(dict.fromkeys(name for flavor in flavors for name in queues[resource, flavor]))
            promised = sum(per_flavor[flavor] for flavor in flavors)
            offered = _offered(members, names, resource, listed, pools)
            sentence = ""
            if promised > offered:
                kind = f"{FLAVOR_KIND}s" if len(flavors) > 1 else FLAVOR_KIND
                own = _own(flavors, resource, queues, existing, listed)
                sentence = (
                    f"{kind} {', '.join(flavors)}: ClusterQueues {', '.join(promising)} promise {promised} {resource}, "
                    f"the nodes offer {offered}; {remedy(promising, own, 'lower their nominalQuota')}"
                )
            yield Promise(
                Engine.KUEUE,
                resource,
                names,
                flavors,
                promising,
                promised,
                offered,
                (FLAVOR_KIND, flavors[0]),
                sentence,
            )


def _own(
    flavors: Iterable[str],
    resource: str,
    queues: Mapping[tuple[str, str], Sequence[str]],
    existing: ObservedState,
    plans: Sequence[QuotaPlan],
) -> tuple[str, ...]:
    """Of those who promise, who does so by numbers that no plan wrote."""
    standing, listed = existing.cluster_queues, listed_by(plans)
    return tuple(
        dict.fromkeys(
            name
            for flavor in flavors
            for name in queues[resource, flavor]
            if not (name in listed and owned(standing.get(name)).has(flavor, resource))
        )
    )


def _device_quota(document: Object) -> DeviceQuota:
    return tuple(
        (flavor, resource, units)
        for (flavor, resource), units in nominal(document).items()
        if units and keys.is_device(resource)
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
