"""What a pool of partitionable boards is promised as: per name its boards could be all of it, together they cannot.

The plan's `promise` says what to promise, by profile; where it says nothing, what runs and what waits decide, and
whole boards where there is neither. What runs has its quota. What may start besides is so much that each of it has a
place wherever the scheduler puts the others: work that waits comes first, the oldest before the rest.  Pure.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from slicewise.api.policy import REST, WHOLE, PlanSpec
from slicewise.gpu import mig, placement
from slicewise.gpu.placement import most_alone, openings, promised
from slicewise.inventory.node_devices import PublishedDevices
from slicewise.inventory.node_resources import Resource
from slicewise.inventory.plan_selection import chosen, promise_for
from slicewise.inventory.pools import Pool

# So many of those that wait are looked at one by one; more of them would start no sooner.
_MOST_WAITING: Final = 200


def promise_of(
    spec: PlanSpec,
    pool: Pool,
    in_use: Mapping[str, int],
    demand: Sequence[Mapping[str, int]] = (),
    devices: PublishedDevices | None = None,
) -> tuple[dict[str, int], tuple[str, ...]] | None:
    """Returns what of a pool of partitionable boards has quota, and sentences about what cannot have it.

    None for a pool of other boards.

    Args:
        spec: the plan.
        pool: the pool.
        in_use: what workloads hold of the pool, by resource. It has quota whatever the plan says now.
        demand: what waits for quota, by resource, the oldest first.
        devices: what DRA publishes, and what claims hold of it; left out, every board is free.
    """
    promise = promise_for(spec, pool.name)
    if promise is None:
        return None
    offered = chosen(spec, pool)
    sentences = [
        f"promise names {name}, which no node of pool {pool.name} offers; remove it, or apply what "
        "`slicewise deviceclasses` prints"
        for name in promise
        if pool.resources and name not in pool.resources
    ]
    if not (spec.engine.knows_demand or any(fnmatchcase(pool.name, glob) for glob in spec.promise)):
        sentences.append(
            f"pool {pool.name} has partitionable boards and the plan promises no slices of it, so whole boards alone "
            f"have quota; say what to promise, such as promise: {{{pool.name}: {{1g.10gb: 8, gpu: rest}}}}"
        )
    board, boards = _boards(pool)
    if board is None:
        sentences.append(
            f"no table says where the slices of {pool.model} go, so nothing of pool {pool.name} is promised; divide "
            "its boards statically"
        )
        return dict.fromkeys(offered, 0), tuple(sentences)
    profiles = {name: _profile(name) for name in pool.resources}
    states, placed = _taken(pool, boards, devices or PublishedDevices())
    running = dict(placed)
    if spec.engine.knows_demand:
        running = {profiles[name]: units for name, units in in_use.items() if units and name in profiles}
    waiting = [
        (profiles[name], number)
        for each in demand[:_MOST_WAITING]
        for name, number in each.items()
        if name in offered
    ]
    if promise:
        wanted = {
            profiles[name]: None if promise[name] == REST else int(promise[name])
            for name in promise
            if name in offered
        }
    else:
        active = dict.fromkeys([*(name for name, _ in waiting), *running])
        wanted = dict.fromkeys(active or (profiles[name] for name in _largest(offered)))
    found = promised(board, boards, running, wanted) if promise else {}
    sentences += [
        f"{found[profile]} of the {number} {profile or WHOLE} that promise asks for fit on the {boards} boards of pool "
        f"{pool.name} beside the rest; ask for fewer"
        for profile, number in wanted.items()
        if number and found[profile] < number
    ]
    most = {
        name: found[name] - running.get(name, 0) if promise else boards * most_alone(board, name)
        for name in wanted
    }
    placing = {name: units - placed[name] for name, units in running.items() if units > placed[name]}
    more = openings(board, states, placing, list(_turns(most, waiting)))
    units = {
        name: running.get(profile, 0) + more.get(profile, 0)
        for name, profile in profiles.items()
        if name in offered or running.get(profile)
    }
    return units, tuple(sentences)


def _turns(most: Mapping[str, int], waiting: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Yields how much of which profile is to be had, the most urgent first.

    Each of what waits has its turn; then more of the same, for queues that share have each a part of it; then the rest.
    """
    left = dict(most)
    asked: dict[str, None] = {}
    for name, number in waiting:
        if number <= left.get(name, 0):
            yield name, number
            left[name] -= number
            asked[name] = None
    yield from ((name, left.pop(name)) for name in asked)
    yield from left.items()


def _taken(pool: Pool, boards: int, devices: PublishedDevices) -> tuple[Counter[int], Counter[str]]:
    """Returns how many boards are in which state, and what the scheduler gave out of them, by profile."""
    states: Counter[int] = Counter()
    placed: Counter[str] = Counter()
    for name in pool.nodes:
        held = devices.allocated(name)
        states.update(held.boards)
        placed.update({_profile(resource): number for resource, number in held.resources.items()})
    states[0] = max(0, boards - states.total())
    return states, +placed


def _largest(offered: Mapping[str, Resource]) -> Iterator[str]:
    """Yields whole boards, or else the largest slices that are offered."""
    most = max((resource.memory or 0 for resource in offered.values()), default=0)
    return (name for name, resource in offered.items() if (resource.memory or 0) == most)


def _boards(pool: Pool) -> tuple[mig.Board | None, int]:
    """Returns the kind of board that a pool has, and how many are free of faults; one with any is left out."""
    found: Counter[str] = Counter()
    tables = {}
    for member in pool.members:
        board = mig.board_of(member.model)
        if board is None or member.offer is None:
            continue
        table = board.products[0]
        tables[table] = board
        found[table] += min(_on_node(board, member.offer.resources), default=0)
    if not found:
        return None, 0
    ((table, number),) = found.most_common(1)
    return tables[table], number


def _on_node(board: mig.Board, resources: Iterable[Resource]) -> Iterable[int]:
    for resource in resources:
        if most := most_alone(board, _profile(resource.name)):
            yield resource.quantity // most


def _profile(resource: str) -> str:
    profile = mig.of_resource(resource)
    return profile.name if profile is not None else placement.WHOLE
