"""The smallest size that would have done: the one place for the rule (docs/utilization.md says why it is this one).

A slice must hold the peak, with a margin for what a longer look would have shown, and the 95th percentile of compute.
Whole boards may be shared in time instead where the peaks of those who share one seldom meet; that is counted, never
assumed. Nothing here is ever below what was seen, and the order in which it was seen does not matter.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from slicewise.gpu.mig import Board, Placement, parse

RISK: Final = 0.05
"""How likely a slice may turn out too small for one replica within the horizon."""
FLOOR: Final = 0.05
"""Least margin above the peak, for work whose memory never moved."""
TAIL: Final = 0.2
"""The share of samples that says how far peaks reach; at least `_LEAST_TAIL` of them."""
SHARING_RISK: Final = 0.03
"""The share of boards on which replicas that share them may ask for more than there is."""
PEAK_SECONDS: Final = 1800
"""How far apart peaks are to count as two: one request's memory stays for minutes."""
_LEAST_TAIL: Final = 3
_RESERVE: Final = 0.02
"""Of a shared board's memory, for the contexts of those who share it."""
_PARTNERS: Final = 20
_LEAST_GROUPS: Final = 100
_LEAST_STEPS: Final = 20
"""That replicas must have been there together: those who never met say nothing of how they would go together."""
_MOST_GROUPS: Final = 5000
_MOST_SHARES: Final = 8


class Size(msgspec.Struct, frozen=True):
    """One way to get a GPU: a MIG profile, or the whole board (`profile` "")."""

    profile: str
    compute: float
    """Share of the board's compute."""
    memory: float
    """MiB that it really holds."""


def sizes(board: Board) -> tuple[Size, ...]:
    """Returns what one board can be cut into, smallest first, and the whole of it last.

    Where the table has no MiB for a profile, those of another one with as many memory slices are taken, else as many
    times the smallest MiB of one slice: never more than the profile has.
    """
    known = {p.memory: p.mebibytes for p in board.profiles.values() if p.mebibytes and p.memory}
    unit = min((mebibytes / slices for slices, mebibytes in known.items()), default=0.0)

    def memory(placement: Placement) -> float:
        slices = placement.memory or 0
        return placement.mebibytes or known.get(slices) or unit * slices

    found = [
        Size(name, placement.compute / board.compute_slices, memory(placement))
        for name, placement in board.profiles.items()
        if (profile := parse(name)) and profile.plain and placement.compute < board.compute_slices
    ]
    whole = max(map(memory, board.profiles.values()), default=0.0)
    return (
        *sorted((s for s in found if s.memory), key=lambda s: (s.memory, s.compute)),
        Size("", 1.0, whole),
    )


def quantile(values: Iterable[float], part: float) -> float:
    """Returns the least value that is not below that part of all; 0.0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)] if ordered else 0.0


def memory_needed(peaks: Sequence[float], horizon: int, risk: float = RISK) -> float:
    """Returns the MiB that a replica stays within for `horizon` steps, but for the risk; infinite where nothing says.

    `peaks` are the most of each step, of all replicas in any order. The upper fifth of them is taken as an exponential
    tail (peaks over threshold), so the margin grows with their spread.
    """
    ordered = sorted(peaks, reverse=True)
    number = max(_LEAST_TAIL, math.ceil(TAIL * len(ordered)))
    if len(ordered) <= number:
        return math.inf
    threshold = ordered[number]
    excess = math.fsum(peak - threshold for peak in ordered[:number]) / number
    expected = horizon * number / len(ordered)
    return max(ordered[0] * (1 + FLOOR), threshold + excess * math.log(max(1.0, expected / risk)))


def smallest(choices: Sequence[Size], memory: float, compute: float) -> Size:
    """Returns the smallest size that holds both; the last (the whole board) where none does."""
    return next((s for s in choices if s.memory >= memory and s.compute >= compute), choices[-1])


class Sharing(msgspec.Struct, frozen=True):
    """How many replicas may share one whole board in time, and what that rests on."""

    shares: int
    """1: none may."""
    groups: int = 0
    """Boards that were formed of them to see."""
    over: int = 0
    """Of those, boards on which they once asked for more memory than there is."""


def sharing(memory: Sequence[array[float]], use: Sequence[array[float]], capacity: float) -> Sharing:
    """Returns how many of these replicas may share a board of that many MiB.

    `memory` is the most of each step, `use` the mean share of a board's compute in it, aligned over the replicas.

    Each replica is put on a board with others, in many ways (not chosen for how well they go together, because the
    scheduler does not choose either), and the sum of the most of each step is looked at: a bound from above. Too few
    replicas to form boards enough are never told to share.
    """
    best = Sharing(1)
    for shares in range(2, _MOST_SHARES + 1):
        formed = over = steps = crowded = 0
        every = list(groups(len(memory), shares))
        for group in every:
            sums = _together([memory[i] for i in group])
            if len(sums) < _LEAST_STEPS:
                continue
            formed += 1
            over += max(sums) > capacity * (1 - _RESERVE)
            if over > SHARING_RISK * len(every):
                return best
            uses = _together([use[i] for i in group])
            steps += len(uses)
            crowded += sum(1 for value in uses if value > 1)
        # Three more than were seen: of a number of trials without an event, 3 are not ruled out (at 95 %).
        if formed < _LEAST_GROUPS or over + 3 > SHARING_RISK * formed or crowded > 0.05 * steps:
            return best
        best = Sharing(shares, formed, over)
    return best


def _together(replicas: Sequence[array[float]]) -> list[float]:
    """Returns the sums of the steps in which all of them were there."""
    sums = (math.fsum(values) for values in zip(*replicas, strict=True))
    return [value for value in sums if not math.isnan(value)]


def groups(number: int, shares: int) -> Iterable[tuple[int, ...]]:
    """Yields sets of `shares` different replicas in which each has the same part; of very many, evenly chosen ones."""
    stride = math.ceil(number * _PARTNERS / _MOST_GROUPS)
    for distance in range(1, _PARTNERS + 1):
        if distance * shares > number:
            return
        for first in range(distance % stride, number, stride):
            yield tuple((first + distance * i) % number for i in range(shares))
