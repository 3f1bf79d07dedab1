"""What a pool of partitionable boards is promised as: per name its boards could be all of it, together they cannot.

The plan's `promise` says what to promise, by profile; nothing said means whole boards. It is cut to what the boards
hold together, what runs included, and the cut is said. Pure.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from slicewise.api.policy import REST, WHOLE, PlanSpec
from slicewise.gpu import mig, placement
from slicewise.gpu.placement import most_alone, promised
from slicewise.inventory.node_resources import Resource
from slicewise.inventory.plan_selection import chosen, promise_for
from slicewise.inventory.pools import Pool


def promise_of(
    spec: PlanSpec, pool: Pool, in_use: Mapping[str, int]
) -> tuple[dict[str, int], tuple[str, ...]] | None:
    """Returns what of a pool of partitionable boards can be promised together, and sentences about what cannot.

    None for a pool of other boards.

    Args:
        spec: the plan.
        pool: the pool.
        in_use: what workloads hold of the pool, by resource. It has quota whatever the plan says now.
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
    if not any(fnmatchcase(pool.name, glob) for glob in spec.promise):
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
    running = {profiles[name]: units for name, units in in_use.items() if units and name in profiles}
    wanted = {
        profiles[name]: None if promise[name] == REST else int(promise[name])
        for name in promise
        if name in offered
    }
    found = promised(board, boards, running, wanted)
    sentences += [
        f"{found[profile]} of the {number} {profile or WHOLE} that promise asks for fit on the {boards} boards of pool "
        f"{pool.name} beside the rest; ask for fewer"
        for profile, number in wanted.items()
        if number is not None and found[profile] < number
    ]
    units = {name: found[profile] for name, profile in profiles.items() if profile in found}
    return units, tuple(sentences)


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
