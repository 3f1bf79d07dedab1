"""What a plan does to the Queues of Volcano that stand: the writes, and what is wrong with them.

Invariants
- Volcano holds a parent against the sums of its children, so all of a plan's tree is judged together: what an admin
  keeps on a child (a guarantee, cpu) is carried on the parent that Slicewise made.
- Nothing is placed below a Queue in which work may be: one such Queue stops all of Volcano's scheduling.
- A Queue that is Closing or Unknown takes no write; while one of a tree is, only what shrinks is written.

Failure mode: `RefusalError`, one sentence, and nothing of the plan is written; or a note about one Queue, which is
then left as it stands.
"""

from collections.abc import Collection, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

from queue_sync.planning.capacity import text
from queue_sync.planning.observed import Object, annotation
from queue_sync.planning.ownership import RefusalError, ours, owned
from queue_sync.planning.volcano import queues as volcano
from queue_sync.planning.volcano.usage import units
from queue_sync.planning.volcano.write_order import LISTS, Write, guarantee, order
from slicewise.api import keys
from slicewise.api.policy import QuotaPlan
from slicewise.api.quantities import above, scaled, value_of

_TOP: Final = frozenset({None, "", volcano.ROOT})
_CLOSING: Final = "QueueClosing"
_BUSY: Final = frozenset({"Closing", "Unknown"})


@dataclass(frozen=True, slots=True)
class Note:
    """Something that an admin should know of one Queue."""

    code: str
    sentence: str
    queue: Object


@dataclass(slots=True)
class Outcome:
    """The Queues of one plan as they should stand, and how to get there."""

    objects: list[Object] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    targets: dict[str, Object] = field(default_factory=dict)
    """By name, the form in which a Queue would be made."""
    left: set[str] = field(default_factory=set)
    """Queues that are left as they stand."""
    waiting: bool = False
    """True while a Queue takes no write."""


def outcome(
    plan: QuotaPlan,
    parts: Mapping[str, Mapping[str, Mapping[str, int]]],
    standing: Mapping[str, Object],
) -> Outcome:
    """What a plan wants of Volcano.

    Args:
        plan: the plan.
        parts: pool -> resource -> queue -> units.
        standing: every Queue that stands, by name.

    Raises:
        RefusalError: the plan's tree cannot be had.
    """
    found, cohort = Outcome(), plan.spec.cohort
    former, needed = _former(plan, standing)
    found.notes += needed
    wanted = [*volcano.queues(plan, parts), *former]
    _check_parent(plan, {queue["metadata"]["name"]: queue for queue in wanted}, standing)
    remove = volcano.is_old(standing.values())
    after: dict[str, Object] = {}
    for queue in wanted:
        name = queue["metadata"]["name"]
        found.targets[name] = queue
        if name != cohort and queue not in former and (children := sorted(_below(name, standing))):
            sentence = (
                f"Queue {name} has {', '.join(children)} below it, and one job in such a queue stops all of Volcano's "
                f"scheduling; delete what is below it or give it another parent before work is submitted to {name}"
            )
            found.notes.append(Note("QueueIsParent", sentence, queue))
        now = standing.get(name)
        note = _stuck(plan, queue, now) if now is not None else None
        if now is None or note is not None:
            after[name] = queue if now is None else now
            if note is not None:
                found.left.add(name)
                found.notes.append(note)
                found.waiting |= note.code == _CLOSING
            continue
        merged, words = volcano.merge(now, queue, remove_vanished=remove)
        after[name] = merged or now
        if name != cohort or not ours(
            now
        ):  # the guarantee of a parent of ours is but the sum of its children's
            found.notes += [Note("GuaranteeLowered", sentence, queue) for sentence in words]
    if cohort and cohort not in found.left:
        others = [queue for name, queue in standing.items() if name not in after]
        below = [queue for queue in (*after.values(), *others) if queue["spec"].get("parent") == cohort]
        after[cohort] = carry(after[cohort], below, found.targets[cohort]["spec"]["deserved"])
    found.objects = list(after.values())
    changes = [(standing.get(name), queue) for name, queue in after.items() if standing.get(name) != queue]
    found.writes = order(changes, cohort, held=bool(cohort) and found.waiting)
    return found


def _former(plan: QuotaPlan, standing: Mapping[str, Object]) -> tuple[list[Object], list[Note]]:
    """Queues that the plan no longer lists; each gives back what is ours, but for parents that others still need."""
    listed = {queue.name for queue in plan.spec.queues} | {plan.spec.cohort}
    gone = {
        name: queue
        for name, queue in standing.items()
        if name not in listed and annotation(queue, keys.PLAN) == plan.name
    }
    parents = {queue["spec"].get("parent") for queue in gone.values()}
    found, notes = [], []
    for name in sorted(gone, key=lambda each: (each in parents, each)):  # children shrink first
        queue = gone[name]
        document = {
            "apiVersion": volcano.API_VERSION,
            "kind": volcano.QUEUE,
            "metadata": queue["metadata"],
            "spec": {"deserved": {}, "capability": {}},
        }
        mine = owned(queue).resources
        below = {each: child for each, child in _below(name, standing).items() if each not in gone}
        if needing := sorted(each for each, child in below.items() if each in listed or _has(child, mine)):
            sentence = (
                f"Queue {name} is no longer in QuotaPlan {plan.name}, and keeps what it has, because "
                f"{', '.join(needing)} below it cannot have more than that; set their parent to root when nothing runs "
                f"in them, or make {name} the plan's cohort"
            )
            notes.append(Note("ParentNeeded", sentence, document))
        else:
            found.append(document)
    return found, notes


def _below(name: str, standing: Mapping[str, Object]) -> dict[str, Object]:
    """The Queues directly below one."""
    return {each: queue for each, queue in standing.items() if queue["spec"].get("parent") == name}


def _has(queue: Object, resources: Collection[str]) -> bool:
    """True when a Queue deserves or may use any of the resources."""
    return any(
        name in resources and value_of(quantity)
        for field_name in LISTS
        for name, quantity in (queue["spec"].get(field_name) or {}).items()
    )


def _stuck(plan: QuotaPlan, wanted: Object, standing: Object) -> Note | None:
    """Why a Queue cannot be written now; None when it can."""
    name, state = wanted["metadata"]["name"], standing.get("status", {}).get("state")
    if state in _BUSY:
        sentence = (
            f"Queue {name} is {state}, and Volcano takes no change of it until it is Open or Closed; "
            "what it has stays until then"
        )
        return Note(_CLOSING, sentence, wanted)
    parent, target = standing["spec"].get("parent"), wanted["spec"].get("parent")
    if target and parent not in _TOP and parent != target:
        sentence = (
            f"Queue {name} is below {parent}, and QuotaPlan {plan.name} wants it below {target}; it is left as it is: "
            f"set its parent to {target} when it runs nothing, or take it out of the plan"
        )
        return Note("QueueElsewhere", sentence, wanted)
    return None


def _check_parent(plan: QuotaPlan, wanted: Mapping[str, Object], standing: Mapping[str, Object]) -> None:
    """Refuses a parent that cannot be one.

    Raises:
        RefusalError: work may be in it, it is below one of its own children, or other Queues are below it.
    """
    cohort = plan.spec.cohort
    now = standing.get(cohort or "")
    if not cohort or now is None:
        return
    children = _below(cohort, standing)
    if not children and units(now).get("pods"):
        raise RefusalError(
            f"QuotaPlan {plan.name} makes Queue {cohort} a parent, but pods run in it, and Volcano takes no children "
            "below a queue with pods; let them finish, or name another cohort"
        )
    if not children and not ours(now):
        raise RefusalError(
            f"QuotaPlan {plan.name} makes Queue {cohort} a parent, which was not made by Slicewise and has no "
            "children; one job that waits in a parent stops all scheduling, so label it "
            f"{keys.MANAGED}=true when nothing is submitted to it, or name another cohort"
        )
    above_it: str | None = cohort
    seen: set[str] = set()
    while above_it and above_it in standing and above_it not in seen:
        seen.add(above_it)
        above_it = standing[above_it]["spec"].get("parent")
        if above_it in wanted and above_it != cohort:
            raise RefusalError(
                f"QuotaPlan {plan.name} puts {above_it} below {cohort}, and Queue {cohort} is below {above_it} now; "
                "take one of them out of the plan"
            )
    names = wanted[cohort]["spec"]["deserved"]
    for name, queue in sorted(children.items()):
        if name in wanted:
            continue
        for resource, quantity in sorted((queue["spec"].get("deserved") or {}).items()):
            if resource in names and value_of(quantity):
                raise RefusalError(
                    f"QuotaPlan {plan.name} gives all of {cohort}'s {resource} to its own queues, and Queue {name} "
                    f"below {cohort} deserves {quantity} of it too; list it in the plan, or give it another parent"
                )


def carry(parent: Object, children: Iterable[Object], names: Mapping[str, Any]) -> Object:
    """The parent with what its children keep that is not the plan's, as Volcano wants it there.

    Guarantees are summed, and so is what children deserve of other resources. A parent that Slicewise made also gets
    their limits where every child has one, because Volcano before v1.14.2 reads a missing limit of a parent as zero.

    Args:
        parent: the parent as it should stand so far.
        children: every Queue below it, as it should stand.
        names: the resources that the plan decides.
    """
    below, new = list(children), deepcopy(parent)
    spec, mine = new["spec"], ours(parent)
    reserved, least = dict(guarantee(new)), _sums(guarantee(child) for child in below)
    for name in least.keys() | (reserved.keys() & names.keys() if mine else set()):
        need = text(name, least.get(name, 0))
        short = name not in reserved or above(need, reserved[name])
        if short or (mine and name in names and above(reserved[name], need)):
            reserved[name] = need
    if reserved != guarantee(new):
        spec["guarantee"] = {**(spec.get("guarantee") or {}), "resource": reserved}
    deserved = dict(spec.get("deserved") or {})
    for name, total in _sums(child["spec"].get("deserved") or {} for child in below).items():
        if name not in names and (name not in deserved or above(text(name, total), deserved[name])):
            deserved[name] = text(name, total)
    if deserved != (spec.get("deserved") or {}):
        spec["deserved"] = deserved
    limits = dict(spec.get("capability") or {})
    if mine and below:
        listed = [child["spec"].get("capability") or {} for child in below]
        for name, total in _sums(listed).items():
            floor = text(name, max(total, _units(name, deserved.get(name, 0))))
            missing = name not in limits and all(name in each for each in listed)
            # A name that the plan gave up may be another's below its parent.
            given_up = name in limits and name not in names and above(floor, limits[name])
            if missing or given_up:
                limits[name] = floor
        if limits:
            spec["capability"] = limits
    return new


def _sums(lists: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for each in lists:
        for name, quantity in each.items():
            sums[name] = sums.get(name, 0) + _units(name, quantity)
    return dict(sorted(sums.items()))


def _units(name: str, quantity: object) -> int:
    """Whole units of a resource, rounded up; cpu in thousandths."""
    return ceil(scaled(name, quantity))
