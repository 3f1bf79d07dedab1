"""The fewest boards that hold a number of slices of each profile, exactly, under the placement rules of the vendor.

Every full geometry of one board is a column; how many boards of each is an integer covering problem with a handful
of rows. Its linear relaxation is solved in fractions (no rounding), its whole part is taken, and the small rest is
searched exhaustively. Where that does not meet the relaxation's bound, a larger rest is searched, at last all of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache
from math import ceil

from slicewise.gpu.mig import Board, impossible

Column = tuple[int, ...]


def fewest_boards(board: Board, demand: Mapping[str, int]) -> int:
    """Returns the least number of boards on which every slice finds its place.

    `demand` is the number of slices by profile name, as the board's table has it.

    Raises:
        ValueError: the board has no such profile.
    """
    profiles = tuple(sorted(name for name, number in demand.items() if number > 0))
    if not profiles:
        return 0
    for name in profiles:
        if why := impossible(board, {name: 1}):
            raise ValueError(why)
    wanted = tuple(demand[name] for name in profiles)
    columns = geometries(board, profiles)
    bound, shares = _relaxed(columns, wanted)
    whole = [int(share) for share in shares]
    while True:
        rest = _less(wanted, columns, whole)
        boards = sum(whole) + _covered(columns, rest)
        if boards == ceil(bound) or not any(whole):
            return boards
        whole = [max(0, number - 1) for number in whole]


def geometries(board: Board, profiles: Sequence[str]) -> tuple[Column, ...]:
    """Returns every geometry of the profiles that one board holds and nothing can be added to, as counts."""
    nothing = (0,) * len(profiles)
    # What a board holds it holds with one slice less too, so each is reached by adding slices, one at a time.
    fitting, tried, left = {nothing}, {nothing}, [nothing]
    while left:
        for larger in _one_more(left.pop()):
            if larger not in tried:
                tried.add(larger)
                if impossible(board, dict(zip(profiles, larger, strict=True))) is None:
                    fitting.add(larger)
                    left.append(larger)
    return tuple(sorted(each for each in fitting if any(each) and fitting.isdisjoint(_one_more(each))))


def _one_more(counts: Column) -> Iterator[Column]:
    """Yields the counts with one slice more of each profile."""
    for row, number in enumerate(counts):
        yield (*counts[:row], number + 1, *counts[row + 1 :])


def _less(wanted: Column, columns: Sequence[Column], taken: Sequence[int]) -> Column:
    """Returns what is still wanted beside that many boards of each geometry."""
    return tuple(
        max(0, number - sum(times * column[row] for times, column in zip(taken, columns, strict=True)))
        for row, number in enumerate(wanted)
    )


def _relaxed(columns: Sequence[Column], wanted: Column) -> tuple[Fraction, list[Fraction]]:
    """Returns the optimum of the linear relaxation and the boards of each geometry in it.

    The dual (the most that slices may be worth where no geometry is worth more than its board) starts feasible:
    the simplex method with Bland's rule solves it, and leaves the primal solution in the costs of its slacks.
    """
    rows, height = len(wanted), len(columns)
    tableau = [
        [Fraction(n) for n in column] + [Fraction(int(i == j)) for j in range(height)] + [Fraction(1)]
        for i, column in enumerate(columns)
    ]
    costs = [Fraction(-n) for n in wanted] + [Fraction(0)] * (height + 1)
    basis = list(range(rows, rows + height))
    while (entering := next((i for i, cost in enumerate(costs[:-1]) if cost < 0), None)) is not None:
        _, _, leaving = min(
            (line[-1] / line[entering], basis[i], i) for i, line in enumerate(tableau) if line[entering] > 0
        )
        pivot = tableau[leaving]
        pivot[:] = [value / pivot[entering] for value in pivot]
        for line in (*(each for i, each in enumerate(tableau) if i != leaving), costs):
            if factor := line[entering]:
                line[:] = [value - factor * other for value, other in zip(line, pivot, strict=True)]
        basis[leaving] = entering
    return costs[-1], costs[rows:-1]


def _covered(columns: Sequence[Column], wanted: Column) -> int:
    """Returns the fewest boards by search over everything that can matter."""

    @cache
    def fewest(rest: Column) -> int:
        row = next((i for i, number in enumerate(rest) if number), None)
        if row is None:
            return 0
        # Some board holds a slice of the first profile that is still wanted; every such geometry is tried.
        useful = {
            tuple(max(0, n - c) for n, c in zip(rest, column, strict=True))
            for column in columns
            if column[row]
        }
        return 1 + min(map(fewest, sorted(useful)))

    return fewest(wanted)
