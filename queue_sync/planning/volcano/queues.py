"""The Volcano Queues that a plan wants, and each of them merged into the one that stands.

Ours are the GPU names and covered resources in `deserved` and `capability` (and `guarantee`, where it would stand
above `deserved`); everything else in a Queue is left. `root` and `default` are never touched. What a plan's Queues are
to each other is judged in `hierarchy`, and their order in `write_order`.

Failure mode: `RefusalError`, one sentence; nothing of the plan is then written.
"""

from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from typing import Final

from queue_sync.planning import apportionment as apportion
from queue_sync.planning.capacity import Feed, text
from queue_sync.planning.observed import Object
from queue_sync.planning.ownership import Owned, RefusalError, metadata, owned
from queue_sync.planning.volcano.write_order import LISTS
from slicewise.api import keys
from slicewise.api.policy import QuotaPlan
from slicewise.api.quantities import above, equal

API_VERSION: Final = "scheduling.volcano.sh/v1beta1"
QUEUE: Final = "Queue"
ROOT: Final = "root"
_RESERVED: Final = frozenset({ROOT, "default"})

Units = Mapping[str, int]


def check(plan: QuotaPlan, feeds: Iterable[Feed]) -> None:
    """Refuses what cannot be true in Volcano.

    Raises:
        RefusalError: a queue is one of Volcano's own, the parent is one of the queues, or pools of the plan give one
            name to different things, which Volcano would add up.
    """
    names = {queue.name for queue in plan.spec.queues}
    if reserved := sorted(_RESERVED & (names | {plan.spec.cohort or ""})):
        raise RefusalError(
            f"QuotaPlan {plan.name} names the queue {reserved[0]}, which belongs to Volcano itself; "
            "choose another name, or leave cohort out"
        )
    if plan.spec.cohort in names:
        raise RefusalError(
            f"QuotaPlan {plan.name} has {plan.spec.cohort} both as cohort and as queue, and Volcano places no work "
            "in a parent; give the cohort a name of its own"
        )
    seen: dict[str, tuple[str, tuple[str, str, int]]] = {}
    for feed in feeds:
        for name, resource in feed.resources.items():
            thing = (str(resource.strategy), resource.profile, resource.replicas)
            pool, other = seen.setdefault(name, (feed.pool, thing))
            if other != thing:
                raise RefusalError(
                    f"QuotaPlan {plan.name} takes {name} from pools {pool} and {feed.pool}, where it means different "
                    f"things ({_words(other)}, {_words(thing)}), and Volcano adds up names; make a plan for each"
                )


def _words(thing: tuple[str, str, int]) -> str:
    strategy, profile, replicas = thing
    return " ".join(filter(None, (strategy, profile, f"x{replicas}" if replicas > 1 else "")))


def queues(plan: QuotaPlan, parts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[Object]:
    """The Queues of a plan, as they are made; the parent, when there is one, first.

    Args:
        plan: the plan.
        parts: pool -> resource -> queue -> units.
    """
    deserved: dict[str, dict[str, int]] = {queue.name: {} for queue in plan.spec.queues}
    totals: dict[str, int] = {}
    for resources in parts.values():
        for resource, split in resources.items():
            for name, units in split.items():
                deserved[name][resource] = deserved[name].get(resource, 0) + units
                totals[resource] = totals.get(resource, 0) + units
    cohort = plan.spec.cohort
    found = [_queue(plan, cohort, totals, totals)] if cohort else []
    for queue in plan.spec.queues:
        own = {name: deserved[queue.name].get(name, 0) for name in totals}
        capability = dict(own)
        for name, units in own.items():
            more = apportion.borrowing(queue.borrowing, units, covered=name in plan.spec.cover)
            if more is not None:
                capability[name] = min(units + more, totals[name]) if cohort else units + more
            elif cohort or queue.borrowing:
                capability[name] = totals[name]
        found.append(_queue(plan, queue.name, own, capability, cohort))
    return found


def _queue(
    plan: QuotaPlan, name: str, deserved: Units, capability: Units, parent: str | None = None
) -> Object:
    spec: Object = {
        "deserved": {resource: text(resource, deserved[resource]) for resource in sorted(deserved)},
        "capability": {resource: text(resource, capability[resource]) for resource in sorted(capability)},
    }
    if parent:
        spec["parent"] = parent
    document: Object = {
        "apiVersion": API_VERSION,
        "kind": QUEUE,
        "metadata": metadata(plan.name, name),
        "spec": spec,
    }
    names = frozenset(deserved)
    document["metadata"]["annotations"][keys.OWNED] = Owned(frozenset(), names, names).text()
    return document


def merge(
    standing: Object, wanted: Object, *, remove_vanished: bool = False
) -> tuple[Object | None, tuple[str, ...]]:
    """The Queue as it should stand (None when nothing differs), and in words what an admin should know.

    Args:
        standing: the Queue as it is.
        wanted: the same Queue as `queues` would make it.
        remove_vanished: True for Volcano before v1.14, where a name that no node has stops all scheduling of a
            hierarchy even at 0; from then on a missing name means no limit, so 0 is what is safe.
    """
    new = deepcopy(standing)
    spec, want = new.setdefault("spec", {}), wanted["spec"]
    before = owned(standing)
    vanished = before.resources - want["deserved"].keys()
    for field in LISTS:
        numbers = dict(spec.get(field) or {})
        for name, quantity in want[field].items():
            if not equal(numbers.get(name), quantity):
                numbers[name] = quantity
        for name in vanished & numbers.keys():
            if remove_vanished:
                del numbers[name]
            elif not equal(numbers[name], 0):
                numbers[name] = "0"
        if numbers or field in spec:
            spec[field] = numbers
    words = _lower_guarantee(
        new, [*want["deserved"], *sorted(vanished)], remove=vanished if remove_vanished else ()
    )
    if "parent" in want and spec.get("parent") in {None, "", ROOT}:
        spec["parent"] = want["parent"]
    notes = new["metadata"].setdefault("annotations", {})
    notes[keys.PLAN] = wanted["metadata"]["annotations"][keys.PLAN]
    kept = frozenset(want["deserved"]) | (frozenset() if remove_vanished else vanished)
    mine = Owned(frozenset(), kept, kept)
    if mine != before:
        notes[keys.OWNED] = mine.text()
    return (None if new == standing else new), words


def _lower_guarantee(queue: Object, names: Iterable[str], *, remove: Collection[str]) -> tuple[str, ...]:
    """Volcano refuses a guarantee above deserved; an admin's own is lowered in the same write, and said."""
    spec = queue["spec"]
    reserved = (spec.get("guarantee") or {}).get("resource") or {}
    words = []
    for name in names:
        deserved = (spec.get("deserved") or {}).get(name, "0")
        if name in reserved and above(reserved[name], deserved):
            words.append(
                f"Queue {queue['metadata']['name']} guaranteed {reserved[name]} {name}; lowered to {deserved}, "
                "because a guarantee above what is deserved is refused"
            )
            reserved[name] = deserved
        if name in remove:
            reserved.pop(name, None)
    return tuple(words)


def is_old(standing: Iterable[Object]) -> bool:
    """True on Volcano before v1.14, whose Queues had no `dequeueStrategy` yet; later ones have it by default.

    Whether its scheduler reads a hierarchy cannot be seen, so the worst is assumed. Nothing is lost by that: a name
    that comes back is listed again at once, and until a node shows it nothing can use it.
    """
    found = list(standing)
    return bool(found) and not any("dequeueStrategy" in queue["spec"] for queue in found)
