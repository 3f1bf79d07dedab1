"""A cluster at one moment -> what the page shows of it, as JSON.  Pure.

Everything is read from what the commands print from: pools are those of `slicewise pools`, quotas the objects of
`slicewise plan`, findings those of `slicewise drift` and `slicewise doctor`. So the page can say nothing else.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any, Final

from queue_sync.page.boards import Amount, boards
from queue_sync.planning.capacity import text
from queue_sync.planning.changes import ChangeSet, Key, key_of
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.engines import ENGINES
from queue_sync.planning.findings import Finding
from queue_sync.planning.observed import Object
from queue_sync.planning.overcommit import promises
from queue_sync.planning.quota_breakdown import decided_by_us, units_of
from queue_sync.planning.steps import Steps, complete
from slicewise.api import keys
from slicewise.api.policy import PlanQueue, QuotaPlan
from slicewise.api.quantities import value_of
from slicewise.inventory.node_resources import Resource
from slicewise.inventory.node_state import CountedNode, Observation
from slicewise.inventory.pools import Pool

MOST_LISTED: Final = 200
"""Findings of one list that are sent; how many there are is sent too."""
MOST_CHANGES: Final = 50
MOST_UNSETTLED: Final = 20
MOST_NODES: Final = 120
"""Nodes of one answer."""
_POOL: Final = frozenset({"name", "strategy", "model", "sources"})
"""What is shown of a pool as `slicewise pools` prints it."""
_QUEUES: Final = 20
"""Queues of one step."""
_OVER: Final = frozenset({"Succeeded", "Failed"})

View = Mapping[str, Any]
"""What the page shows, by key: `cluster`, `pool/NAME`, `plan/NAME`, `promises`, `drift`, `doctor`, `changes`."""


@dataclass(frozen=True)
class Moment:
    """What the page is drawn from."""

    source: str
    """Where it was read: a file's name, or a cluster."""
    live: bool
    """False for what never changes."""
    cluster: ClusterState
    wanted: ChangeSet
    """What the plans want, as `slicewise plan` prints it."""
    shown: Mapping[str, Observation]
    """What GPU nodes show at this moment, by name."""
    drift: Sequence[Finding] = ()
    doctor: Sequence[Object] | None = None
    """Documents of findings, as `slicewise doctor -o json` prints them; None where nobody looked."""
    unseen: Sequence[str] = ()
    """What could not be looked at, a sentence each."""
    used: Mapping[tuple[str, str], int] | None = field(default=None)
    """Units that pods use, by node and resource; None where pods are not known."""


def used_by_pods(pods: Iterable[Object]) -> dict[tuple[str, str], int]:
    """Returns the units of devices that pods ask for, by (node, resource), of those that have a node and run on."""
    found: Counter[tuple[str, str]] = Counter()
    for pod in pods:
        spec = pod.get("spec") or {}
        node = spec.get("nodeName")
        if node and (pod.get("status") or {}).get("phase") not in _OVER:
            for resource, units in _requests(spec).items():
                found[str(node), resource] += units
    return dict(found)


def _requests(spec: Object) -> dict[str, int]:
    """What a pod asks of its node: its containers together, or an init container that asks for more."""
    together: Counter[str] = Counter()
    largest: dict[str, int] = {}
    for container in spec.get("containers") or ():
        together.update(dict(_devices(container)))
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            together.update(dict(_devices(container)))
            continue
        for resource, units in _devices(container):
            largest[resource] = max(largest.get(resource, 0), units)
    return {name: max(together[name], largest.get(name, 0)) for name in {*together, *largest}}


def _devices(container: Object) -> Iterator[tuple[str, int]]:
    resources = container.get("resources") or {}
    for name, quantity in {**(resources.get("limits") or {}), **(resources.get("requests") or {})}.items():
        if keys.is_device(name):
            yield name, int(value_of(quantity))


def view(now: Moment) -> View:
    """Returns what the page shows, but for the nodes: `nodes` gives those of one pool."""
    return complete(steps_to_view(now))


def steps_to_view(now: Moment) -> Steps[View]:
    """Works out what the page shows; a step is a pool, or some queues."""
    pools = {pool.name: pool for pool in now.cluster.pools}
    drawn: dict[str, Any] = {}
    for name, pool in pools.items():
        drawn[f"pool/{name}"] = _pool(pool, now)
        yield
    wanted = _wanted(now.wanted)
    for plan in now.cluster.plans:
        drawn[f"plan/{plan.name}"] = yield from _plan(plan, wanted, pools, now)
    drawn["cluster"] = {
        "source": now.source,
        "live": now.live,
        "nodes": len(now.shown),
        "counted": sum(len(pool.nodes) for pool in pools.values()),
        "unsettled": sum(len(pool.unsettled) for pool in pools.values()),
        "podsKnown": now.used is not None,
        "unseen": list(now.unseen),
    }
    drawn["promises"] = [
        {
            "engine": str(each.engine),
            "resource": each.resource,
            "pools": list(each.pools),
            "queues": list(each.queues),
            "promised": each.promised,
            "offered": each.offered,
            "excess": each.excess,
        }
        for each in promises(now.cluster.existing, now.cluster.plans, now.cluster.pools)
    ]
    drawn["drift"] = _listed([{"code": each.code, "sentence": each.sentence} for each in now.drift])
    if now.doctor is not None:
        drawn["doctor"] = _listed(now.doctor)
    drawn["changes"] = _changes(now, pools)
    return drawn


def difference(old: View, new: View) -> dict[str, Any]:
    """Returns what changed, by key; None is what is no more."""
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    return changed | dict.fromkeys(old.keys() - new.keys())


def nodes(now: Moment, pool: str, first: int = 0, words: str = "") -> dict[str, Any]:
    """Returns nodes of one pool with their boards, in the order of their names.

    Args:
        now: the cluster.
        pool: the pool's name; one that is not there has no nodes.
        first: how many to leave out.
        words: a part of the names, or of the reason why a node does not count; "" for all.
    """
    found = now.cluster.pools.pool(pool)
    if found is None:
        return {"pool": pool, "total": 0, "first": first, "nodes": []}
    reasons = {each.node: each.reason for each in found.unsettled}
    members = {member.name: member for member in found.members}
    names = sorted({*members, *reasons})
    if words:
        names = [name for name in names if words in name or words in reasons.get(name, "")]
    return {
        "pool": pool,
        "total": len(names),
        "first": first,
        "nodes": [
            _node(name, members.get(name), reasons.get(name, ""), now)
            for name in names[first : first + MOST_NODES]
        ],
    }


def _pool(pool: Pool, now: Moment) -> dict[str, Any]:
    members = {member.name: member for member in pool.members}
    everyone = members.keys() | {each.node for each in pool.unsettled}
    amounts: dict[str, list[Amount]] = {}
    for name in sorted(everyone):
        for amount in _amounts(name, members.get(name), now):
            amounts.setdefault(amount.resource.name, []).append(amount)
    resources = [
        {
            "name": name,
            "strategy": str(each[0].resource.strategy),
            "memory": pool.resources[name].memory if name in pool.resources else each[0].resource.memory,
            "sharedBy": each[0].resource.sharers,
            **_sum(each),
        }
        for name, each in sorted(amounts.items())
    ]
    return {
        **{key: value for key, value in pool.document().items() if key in _POOL},
        "nodes": len(pool.nodes),
        "resources": resources,
        "unsettled": [{"node": e.node, "reason": e.reason} for e in pool.unsettled[:MOST_UNSETTLED]],
        "unsettledNodes": len(pool.unsettled),
        "revision": _revision(pool, amounts),
    }


def _revision(pool: Pool, amounts: Mapping[str, Sequence[Amount]]) -> str:
    """Changes when anything does that is drawn of the pool's nodes."""
    drawn = [
        (name, [(e.counted, e.shown, e.usable, e.used) for e in each])
        for name, each in sorted(amounts.items())
    ]
    return hashlib.sha256(repr((pool.nodes, pool.unsettled, drawn)).encode()).hexdigest()[:16]


def _sum(amounts: Sequence[Amount]) -> dict[str, int | None]:
    known = amounts[0].used is not None
    return {
        "counted": sum(each.counted for each in amounts),
        "shown": sum(each.shown for each in amounts),
        "usable": sum(each.usable for each in amounts),
        "drawn": sum(each.drawn for each in amounts),
        "used": sum(each.used or 0 for each in amounts) if known else None,
    }


def _amounts(name: str, member: CountedNode | None, now: Moment) -> list[Amount]:
    """How much of each resource a node has: what it shows, and what counts."""
    seen = now.shown.get(name)
    shown: Mapping[str, Resource] = {r.name: r for r in seen.offer.resources} if seen else {}
    offer = member.offer if member else None
    counted: Mapping[str, Resource] = {r.name: r for r in offer.resources} if offer else {}
    return [
        Amount(
            counted.get(resource) or shown[resource],
            counted[resource].quantity if resource in counted else 0,
            shown[resource].quantity if resource in shown else 0,
            seen is not None and seen.settled,
            None if now.used is None else now.used.get((name, resource), 0),
        )
        for resource in sorted({*shown, *counted})
    ]


def _node(name: str, member: CountedNode | None, reason: str, now: Moment) -> dict[str, Any]:
    amounts = _amounts(name, member, now)
    seen = now.shown.get(name)
    model = member.model if member else seen.offer.model if seen else ""
    number = seen.facts.devices if seen is not None and seen.facts.bounds else None
    return {
        "name": name,
        "state": "uncounted" if member is None else "held" if reason else "counted",
        "reason": reason,
        "resources": [{"name": each.resource.name, **_sum([each])} for each in amounts],
        "boards": boards(amounts, model, number),
    }


_Queues = Mapping[Key, Object]
"""Queues by kind and name."""


def _plan(plan: QuotaPlan, wanted: _Queues, pools: Mapping[str, Pool], now: Moment) -> Steps[dict[str, Any]]:
    problems = [each for each in now.wanted.problems if each.plan == plan.name]
    names = {queue.name for queue in plan.spec.queues}
    in_use = ENGINES[plan.spec.engine].in_use(names, now.cluster.existing)
    queues = []
    for number, queue in enumerate(plan.spec.queues, start=1):
        queues.append(_queue(plan, queue, wanted, in_use, pools, now))
        if number % _QUEUES == 0:
            yield
    return {
        "name": plan.name,
        "engine": str(plan.spec.engine),
        "cohort": plan.spec.cohort,
        "mode": "suspended" if plan.spec.suspend else str(plan.spec.mode),
        "refused": any(each.refused for each in problems),
        "problems": list(dict.fromkeys(each.sentence for each in problems)),
        "queues": queues,
    }


def _queue(
    plan: QuotaPlan,
    queue: PlanQueue,
    every: _Queues,
    in_use: Mapping[tuple[str, str, str], tuple[int, int]],
    pools: Mapping[str, Pool],
    now: Moment,
) -> dict[str, Any]:
    existing = now.cluster.existing
    engine = ENGINES[plan.spec.engine]
    standing = engine.queues(existing).get(queue.name)
    wanted = every.get((engine.QUEUE.name, queue.name), standing)
    then, stands = units_of(engine, wanted), units_of(engine, standing)
    numbers = []
    for flavor, resource in dict.fromkeys((*decided_by_us(wanted, then), *decided_by_us(standing, stands))):
        key = (queue.name, flavor, resource)
        used = max(in_use.get(key, (0, 0))[0], now.cluster.reported.get(key, 0))
        units = {
            "wanted": then.get((flavor, resource), 0),
            "standing": stands.get((flavor, resource)),
            "used": used,
            "offered": _offered(pools, flavor, resource),
        }
        if any(units.values()):
            words = {name: None if n is None else text(resource, n) for name, n in units.items()}
            numbers.append({"flavor": flavor, "resource": resource, "units": units, "words": words})
    changed = now.cluster.last_changes.get(plan.name, {}).get(queue.name, "")
    return {"name": queue.name, "kind": engine.QUEUE.kind, "changed": changed, "numbers": numbers}


def _wanted(found: ChangeSet) -> _Queues:
    """The queues as they are to stand, by kind and name: the objects of plans that are followed come first."""
    changed = [change.after for change in found.changes if change.after is not None]
    every = (*found.objects, *changed)
    return {key_of(each): each for each in reversed(every)}


def _offered(pools: Mapping[str, Pool], flavor: str, resource: str) -> int | None:
    """What nodes offer of a resource, in the pool of a flavor or in all; None for what is no device."""
    if not keys.is_device(resource):
        return None
    chosen = [pools[flavor]] if flavor in pools else [] if flavor else list(pools.values())
    return sum(pool.resources[resource].quantity for pool in chosen if resource in pool.resources)


def _changes(now: Moment, pools: Mapping[str, Pool]) -> list[dict[str, str]]:
    """The last changes of nodes, newest first, as the annotation on each node keeps them."""
    reasons = {each.node: each.reason for pool in pools.values() for each in pool.unsettled}
    found = []
    for name, seen in now.shown.items():
        kept = seen.kept
        if kept is None:
            continue
        offers = ", ".join(f"{resource}={n}" for resource, n in kept.offer.quantities.items())
        found.append((kept.since, name, f"offers {offers or 'nothing'} in {kept.offer.pool}"))
        if kept.held_since:
            found.append((kept.held_since, name, f"held back: {reasons.get(name, 'shows less than before')}"))
    return [
        {"at": at, "node": name, "words": words}
        for at, name, words in nlargest(MOST_CHANGES, (each for each in found if each[0]))
    ]


def _listed(findings: Sequence[Any]) -> dict[str, Any]:
    return {"total": len(findings), "first": list(findings[:MOST_LISTED])}
