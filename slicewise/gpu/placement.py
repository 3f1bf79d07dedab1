"""What partitionable boards can hold together: counts of profiles over many boards of one kind.  Pure.

Per name a board looks like a box (seven of this, two of that); together it is much less. The search is constructive, so
what it finds can be placed: profiles that take most memory go first, each to the start that leaves most to the smaller
ones. That it also finds whatever can be placed is checked against every combination on few boards
(tests/gpu/test_placement.py). Boards in the same state are one number, so tens of thousands cost no more than a few.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Final

from slicewise.gpu import mig
from slicewise.gpu.mig import Board, Placement

WHOLE: Final = ""
"""Stands for a whole board where a profile's name is expected."""


def can_hold(board: Board, boards: int, counts: Mapping[str, int]) -> bool:
    """True when so many boards hold all of it together; profiles by name, `WHOLE` for whole boards."""
    wanted = sorted(
        (
            (placement, number)
            for name, number in counts.items()
            if number and (placement := _placement(board, name))
        ),
        key=lambda each: _largest_first(each[0]),
    )
    if sum(map(bool, counts.values())) != len(wanted):
        return False
    states = Counter({0: boards})
    later = tuple(placement for placement, _ in wanted)
    for position, (placement, number) in enumerate(wanted):
        left = number
        while left:
            found = _best(states, placement, later[position + 1 :])
            if found is None:
                return False
            before, after = found
            taken = min(left, states[before])
            states[before] -= taken
            states[after] += taken
            left -= taken
    return True


def promised(
    board: Board, boards: int, in_use: Mapping[str, int], wanted: Mapping[str, int | None]
) -> dict[str, int]:
    """Returns how much of each profile can be promised together.

    Args:
        board: the kind of board.
        boards: how many there are.
        in_use: what runs; it comes first, and is never promised away.
        wanted: what to promise besides, by profile, in the order in which it is cut last; None takes what is left. What
            is in use is part of it.
    """
    found: dict[str, int] = {}
    fixed = {name: number for name, number in wanted.items() if number is not None}
    rest = dict.fromkeys(name for name, number in wanted.items() if number is None)
    for group in (in_use, fixed, rest):
        for name, number in group.items():
            most = boards * most_alone(board, name)
            found[name] = _largest(board, boards, found, name, most if number is None else min(number, most))
    return found


def openings(
    board: Board,
    states: Mapping[int, int],
    placing: Mapping[str, int],
    wanted: Sequence[tuple[str, int]],
) -> dict[str, int]:
    """Returns how many more of each profile may start, in any order, wherever the scheduler puts each of them.

    Where `promised` looks for one arrangement that holds everything, this holds for every arrangement: none of what may
    start can be kept waiting by the rest of it.

    Args:
        board: the kind of board.
        states: the boards as they stand: which memory slices are taken, one bit each -> number of boards.
        placing: what has been let in and has no device yet, by profile; it comes first.
        wanted: (profile, at most so many more), the most urgent first; a profile may come again.
    """
    counts, full = Counter(placing), set[str]()
    for name, number in wanted:
        start = counts[name]
        wished = start + (0 if name in full else number)
        counts[name] = _most(start, wished, partial(_start_as, board, states, counts, name))
        if counts[name] < start + number:
            full.add(name)
    return {name: counts[name] - placing.get(name, 0) for name, _ in wanted}


def _start_as(
    board: Board, states: Mapping[int, int], counts: Mapping[str, int], name: str, number: int
) -> bool:
    return always_fit(board, states, {**counts, name: number})


def always_fit(board: Board, states: Mapping[int, int], counts: Mapping[str, int]) -> bool:
    """True when all of it can be placed one after another, whichever free place each of it is given.

    So many of one profile take away at most the sum of their greatest losses from another, and none from their own.
    """
    wanted = {name: number for name, number in counts.items() if number}
    placements = {name: placement for name in wanted if (placement := _placement(board, name))}
    if len(placements) < len(wanted):
        return False
    for name, number in wanted.items():
        free = sum(_free(state, placements[name]) * boards for state, boards in states.items())
        lost = sum(
            _most_lost(states, placements[other], placements[name], wanted[other])
            for other in wanted
            if other != name
        )
        if free - lost < number:
            return False
    return True


def most_alone(board: Board, name: str) -> int:
    """Returns how many of a profile one board holds when it holds nothing else; 0 where that is not known."""
    placement = _placement(board, name)
    return min(placement.most, len(placement.starts or ())) if placement else 0


def _largest(board: Board, boards: int, others: Mapping[str, int], name: str, number: int) -> int:
    """Returns the largest count up to `number` that fits beside the others; never less than is there already."""
    least = others.get(name, 0)
    return _most(least, number, lambda n: can_hold(board, boards, {**others, name: n}))


def _most(least: int, most: int, fits: Callable[[int], bool]) -> int:
    """Returns the largest number from `least`, which fits, up to `most` that fits; if one fits, all smaller do."""
    while least < most:
        middle = (least + most + 1) // 2
        if fits(middle):
            least = middle
        else:
            most = middle - 1
    return least


def _placement(board: Board, name: str) -> Placement | None:
    if board.memory_slices is None:
        return None
    profile = mig.parse(name)
    if name == WHOLE or (profile is not None and profile.attributes):
        # Of what makes `+me` and the like scarce nothing is published but their most, so each has a board to itself.
        return Placement(board.compute_slices, board.memory_slices, 1, None, (0,))
    placement = board.placement(profile) if profile else None
    return placement if placement and placement.starts and placement.memory else None


def _largest_first(placement: Placement) -> tuple[int, int]:
    return -(placement.memory or 0), len(placement.starts or ())


def _span(placement: Placement, start: int) -> int:
    return ((1 << (placement.memory or 0)) - 1) << start


def _best(states: Counter[int], placement: Placement, later: tuple[Placement, ...]) -> tuple[int, int] | None:
    """Returns the state of a board to use, and what becomes of it: that which costs the later ones least."""
    choices = (
        (
            _loss(state, state | _span(placement, start), later),
            -state.bit_count(),
            state,
            state | _span(placement, start),
        )
        for state, number in states.items()
        if number
        for start in placement.starts or ()
        if not state & _span(placement, start)
    )
    best = min(choices, default=None)
    return (best[2], best[3]) if best is not None else None


def _most_lost(states: Mapping[int, int], placement: Placement, other: Placement, number: int) -> int:
    """Returns how many free starts of another profile so many of one can take away at most."""
    losses: Counter[int] = Counter()
    for state, boards in states.items():
        for loss in _losses(state, placement, other):
            losses[loss] += boards
    lost = 0
    for loss in sorted(losses, reverse=True):
        taken = min(number, losses[loss])
        lost, number = lost + taken * loss, number - taken
    return lost


@cache
def _losses(state: int, placement: Placement, other: Placement) -> tuple[int, ...]:
    """Returns how many starts of another profile the first, the second … of one take away, the most first."""
    free = [
        _span(placement, start) for start in placement.starts or () if not state & _span(placement, start)
    ]
    losses = []
    while free:
        loss, span = max((_free(state, other) - _free(state | span, other), span) for span in free)
        losses.append(loss)
        state |= span
        free.remove(span)
    return tuple(losses)


@cache
def _loss(before: int, after: int, later: tuple[Placement, ...]) -> tuple[int, ...]:
    return tuple(_free(before, each) - _free(after, each) for each in later)


def _free(state: int, placement: Placement) -> int:
    """Starts of one profile never overlap each other, so those that are free can all be taken."""
    return sum(not state & _span(placement, start) for start in placement.starts or ())
