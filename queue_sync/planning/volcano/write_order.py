"""The order in which Volcano's Queues are written, so that its webhook takes every single write.

On each write the webhook holds a Queue against its parent, its sisters and its children as it knows them, so a
change of many goes in tiers: parents up, children down, children up, parents down. Parents that the plan does not list
any more go down as soon as their children have. What stands between two tiers is valid by itself. Within a tier no
write depends on another; between two the webhook must have seen the former.

Volcano 1.13 to 1.14.1 compares whole resources, where a name that is not listed is zero; from 1.14.2 on it compares
name by name. Every state on the way meets both.
"""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from enum import IntEnum
from typing import Any, Final, NamedTuple

from queue_sync.planning.capacity import text
from queue_sync.planning.observed import Object, copied
from queue_sync.planning.quota import Numbers
from slicewise.api.quantities import above, scaled

LISTS: Final = ("deserved", "capability")


class Tier(IntEnum):
    """Which part of a change a write is."""

    PARENTS_UP = 1
    CHILDREN_DOWN = 2
    FORMER_PARENTS_DOWN = 3
    CHILDREN_UP = 4
    PARENTS_DOWN = 5


class Write(NamedTuple):
    """One write of one Queue: as it stands before (None: not at all), and after."""

    tier: Tier
    before: Object | None
    after: Object


def order(
    changes: Iterable[tuple[Object | None, Object]], parent: str | None, *, held: bool = False
) -> list[Write]:
    """The writes that take each Queue from its first form to its second, as Volcano's webhook accepts them.

    Several writes of one Queue follow each other where its numbers both grow and shrink.

    Args:
        changes: each Queue as it stands and as it should.
        parent: the name of the one that the others are children of.
        held: a Queue of the tree cannot be written now, so that only what shrinks is sure to be taken.
    """
    listed = list(changes)
    parents = [change for change in listed if change[1]["metadata"]["name"] == parent]
    children = [change for change in listed if change[1]["metadata"]["name"] != parent]
    writes: list[Write] = []
    state: dict[str, Object | None] = {after["metadata"]["name"]: before for before, after in listed}

    def write(tier: Tier, after: Object) -> None:
        before = state[after["metadata"]["name"]]
        if before != after:
            writes.append(Write(tier, before, after))
            state[after["metadata"]["name"]] = after

    if not held:
        for before, after in parents:
            below = [now for now, _ in children if now is not None and now["spec"].get("parent") == parent]
            write(Tier.PARENTS_UP, _roomy(before, _between(before, after, larger=True), below))
    former = {before["spec"].get("parent") for before, _ in children if before is not None}
    for before, after in sorted(children, key=lambda change: change[1]["metadata"]["name"] in former):
        if before is not None and _shrinks(before, after) and not (held and _moves(before, after)):
            smaller = _between(before, after, larger=False)
            if _moves(before, after):  # it comes below its parent when its sisters have made room
                smaller["spec"]["parent"] = before["spec"].get("parent") or "root"
            last = after["metadata"]["name"] in former
            write(Tier.FORMER_PARENTS_DOWN if last else Tier.CHILDREN_DOWN, smaller)
    if not held:
        for _, after in children:
            write(Tier.CHILDREN_UP, after)
        for _, after in parents:
            write(Tier.PARENTS_DOWN, after)
    return writes


def withhold(before: Object | None, after: Object, more: Numbers, /) -> Object:
    """A Queue as it should stand, but with only so much more of these names; see `QueueEngine`.

    Its guarantee stays covered, and what had no limit gets the one that it is to have.
    """
    new, least = copied(after), guarantee(after)
    for field in LISTS:
        has: Mapping[str, Any] = {} if before is None else before["spec"].get(field) or {}
        listed = new["spec"].get(field) or {}
        for (_, name), units in more.items():
            if name not in listed:
                continue
            most = has.get(name, "0" if before is None or field == "deserved" else listed[name])
            if units:
                most = text(name, int(scaled(name, most)) + units)
            if above(listed[name], most):
                listed[name] = most if not above(least.get(name, "0"), most) else least[name]
    return new


def guarantee(queue: Object) -> Mapping[str, Any]:
    """What a Queue keeps from everybody else."""
    return (queue["spec"].get("guarantee") or {}).get("resource") or {}


def _between(before: Object | None, after: Object, *, larger: bool) -> Object:
    """The Queue with the larger, or the smaller, of its two numbers for each name, and never below its guarantee."""
    if before is None:
        return after
    new = deepcopy(after)
    if larger:
        reserved = dict(guarantee(new))
        for name, quantity in guarantee(before).items():
            if above(quantity, reserved.get(name, "0")):
                reserved[name] = quantity
        if reserved:
            new["spec"]["guarantee"] = {**(new["spec"].get("guarantee") or {}), "resource": reserved}
    least = guarantee(new)
    for field in LISTS:
        old: Mapping[str, Any] = before["spec"].get(field) or {}
        numbers = dict(new["spec"].get(field) or {})
        for name in old.keys() | numbers.keys():
            # What a capability does not name has no limit.
            one = old.get(name, "0" if field == "deserved" else numbers.get(name, "0"))
            other = numbers.get(name, "0")
            if larger and above(one, other):
                numbers[name] = one
            elif not larger and above(other, one):
                reserve = least.get(name, "0")
                numbers[name] = reserve if above(reserve, one) else one
        if numbers:
            new["spec"][field] = numbers
    return new


def _roomy(before: Object | None, parent: Object, children: list[Object]) -> Object:
    """The parent with room in limits that it did not have before: for itself, and for its children as they are."""
    old: Mapping[str, Any] = ((before or {}).get("spec") or {}).get("capability") or {}
    numbers = dict(parent["spec"].get("capability") or {})
    own = [parent["spec"].get("deserved") or {}, guarantee(parent)]
    for limits in (*own, *(child["spec"].get("capability") or {} for child in children)):
        for name in limits.keys() & numbers.keys() - old.keys():
            if above(limits[name], numbers[name]):
                numbers[name] = limits[name]
    if numbers == (parent["spec"].get("capability") or {}):
        return parent
    return {**parent, "spec": {**parent["spec"], "capability": numbers}}


def _shrinks(before: Object, after: Object) -> bool:
    for field in LISTS:
        new = after["spec"].get(field) or {}
        if any(
            above(quantity, new.get(name, "0"))
            for name, quantity in (before["spec"].get(field) or {}).items()
        ):
            return True
    new_reserve = guarantee(after)
    return any(above(quantity, new_reserve.get(name, "0")) for name, quantity in guarantee(before).items())


def _moves(before: Object, after: Object) -> bool:
    """True when the Queue gets another parent, which must have grown before."""
    return bool(before["spec"].get("parent") != after["spec"].get("parent"))
