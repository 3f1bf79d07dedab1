"""What partitionable boards hold together, against every combination on few boards."""

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slicewise.gpu import mig
from slicewise.gpu.mig import Board
from slicewise.gpu.placement import WHOLE, always_fit, can_hold, most_alone, openings, promised


def _shape(board: Board) -> tuple[object, ...]:
    placements = (placement for name, placement in board.profiles.items() if name in names(board))
    return tuple((each.compute, each.memory, each.most, each.starts) for each in placements)


def names(board: Board) -> list[str]:
    plain = [name for name in board.profiles if (profile := mig.parse(name)) and profile.plain]
    return [WHOLE, *plain]


H100 = mig.boards()["h100-80gb"]
# Many boards are divided alike, and one of them stands for all.
PLACED = {
    next(name for name, other in mig.boards().items() if _shape(other) == shape): board
    for board in mig.boards().values()
    if board.memory_slices and (shape := _shape(board))
}
Counts = tuple[int, ...]


@cache
def geometries(board_id: str) -> tuple[Counts, ...]:
    """Every count of every profile that one board holds, by trying all of them."""
    board = PLACED[board_id]
    profiles = names(board)[1:]
    ranges = [range(board.profiles[name].most + 1) for name in profiles]
    divided = [
        (0, *counts)
        for counts in itertools.product(*ranges)
        if mig.impossible(board, dict(zip(profiles, counts, strict=True))) is None
    ]
    return (*divided, (1, *(0 for _ in profiles)))


def sums(one: Iterable[Counts], other: Iterable[Counts]) -> frozenset[Counts]:
    several = tuple(other)
    return frozenset(tuple(map(sum, zip(a, b, strict=True))) for a in one for b in several)


@cache
def held(board_id: str, boards: int) -> frozenset[Counts]:
    if boards == 1:
        return frozenset(geometries(board_id))
    return sums(held(board_id, boards - 1), geometries(board_id))


@pytest.mark.parametrize("board_id", PLACED)
@pytest.mark.parametrize("boards", [1, 2, 3])
def test_everything_that_some_boards_hold_is_found_and_nothing_next_to_it(board_id: str, boards: int) -> None:
    board, possible = PLACED[board_id], held(board_id, boards)
    profiles = names(board)
    beside = {
        (*counts[:place], counts[place] + 1, *counts[place + 1 :])
        for counts in possible
        for place in range(len(profiles))
    }
    wrong = [
        counts
        for counts in possible | beside
        if can_hold(board, boards, dict(zip(profiles, counts, strict=True))) is not (counts in possible)
    ]
    assert wrong == []


def test_seven_and_three_do_not_share_a_board_and_two_threes_do() -> None:
    assert can_hold(H100, 1, {"1g.10gb": 7})
    assert can_hold(H100, 1, {"1g.10gb": 4, "3g.40gb": 1})
    assert not can_hold(H100, 1, {"1g.10gb": 5, "3g.40gb": 1})
    assert can_hold(H100, 1, {"3g.40gb": 2})
    assert not can_hold(H100, 1, {WHOLE: 1, "1g.10gb": 1})


def test_what_makes_a_profile_scarce_is_not_published_so_it_has_a_board_to_itself() -> None:
    assert can_hold(H100, 2, {"1g.10gb+me": 1, "1g.10gb": 7})
    assert not can_hold(H100, 1, {"1g.10gb+me": 1, "1g.10gb": 1})


@pytest.mark.parametrize(
    ("board_id", "name"), [("h100-80gb", "1g.5gb"), ("thor-igpu", "1g.0gb"), ("h100-80gb", "x")]
)
def test_what_no_table_places_is_not_held(board_id: str, name: str) -> None:
    board = mig.boards()[board_id]
    assert not can_hold(board, 1, {name: 1})
    assert most_alone(board, name) == 0


PROMISES: dict[str, tuple[dict[str, int], dict[str, int | None], dict[str, int]]] = {
    "numbers, and a rest that fills": (
        {},
        {"1g.10gb": 8, "3g.40gb": None},
        {"1g.10gb": 8, "3g.40gb": 14},
    ),
    "nothing said: whole boards": ({}, {WHOLE: None}, {WHOLE: 8}),
    "what does not fit is cut, the last named first": (
        {},
        {"3g.40gb": 12, "7g.80gb": 4},
        {"3g.40gb": 12, "7g.80gb": 2},
    ),
    "what runs comes before what is wanted": (
        {"1g.10gb": 56},
        {"3g.40gb": None},
        {"1g.10gb": 56, "3g.40gb": 0},
    ),
    "what runs is part of what is wanted": (
        {"1g.10gb": 3},
        {"1g.10gb": 8, "3g.40gb": None},
        {"1g.10gb": 8, "3g.40gb": 14},
    ),
    "a rest named before numbers does not take what is theirs": (
        {},
        {"3g.40gb": None, "1g.10gb": 8},
        {"1g.10gb": 8, "3g.40gb": 14},
    ),
}


@pytest.mark.parametrize(("in_use", "wanted", "expected"), PROMISES.values(), ids=PROMISES)
def test_a_promise_on_eight_boards(
    in_use: dict[str, int], wanted: dict[str, int | None], expected: dict[str, int]
) -> None:
    assert promised(H100, 8, in_use, wanted) == expected


PROFILES = st.sampled_from(names(H100))


@given(
    st.integers(1, 50),
    st.dictionaries(PROFILES, st.integers(0, 60)),
    st.dictionaries(PROFILES, st.none() | st.integers(0, 400)),
)
def test_a_promise_can_always_be_kept_and_nothing_more_of_a_rest_could_be(
    boards: int, in_use: dict[str, int], wanted: dict[str, int | None]
) -> None:
    found = promised(H100, boards, in_use, wanted)
    assert can_hold(H100, boards, found)
    for name, number in wanted.items():
        if number is None:
            assert not can_hold(H100, boards, {**found, name: found[name] + 1})
        else:
            assert found[name] <= max(number, in_use.get(name, 0))


def test_forty_thousand_boards_take_no_longer_than_a_second() -> None:
    wanted: Mapping[str, int | None] = {"1g.10gb": 8000, "2g.20gb": 9000, "4g.40gb": 3000, "3g.40gb": None}
    start = time.process_time()
    assert promised(H100, 40_000, {"1g.10gb": 5000}, wanted)["3g.40gb"] == 70_500
    assert time.process_time() - start < 1.0


# --- In whatever order, wherever the scheduler puts each --------------------------------------------------


def spans(board: Board, name: str) -> list[int]:
    """The memory slices of each place that a profile has, one bit each."""
    if name == WHOLE:
        return [(1 << (board.memory_slices or 0)) - 1]
    placement = board.profiles[name]
    return [((1 << (placement.memory or 0)) - 1) << start for start in placement.starts or ()]


def never_waits(board: Board, states: tuple[int, ...], counts: Mapping[str, int]) -> bool:
    """Tries every order and every place, and every departure of what has been placed on the way."""
    places = {name: spans(board, name) for name in counts}

    @cache
    def safe(states: tuple[int, ...], left: tuple[tuple[str, int], ...]) -> bool:
        for name, number in left:
            if not number:
                continue
            rest = tuple((each, have - (each == name)) for each, have in left)
            free = [
                (index, span)
                for index, state in enumerate(states)
                for span in places[name]
                if not state & span
            ]
            if not free:
                return False
            for index, span in free:
                after = tuple(sorted((*states[:index], states[index] | span, *states[index + 1 :])))
                if not safe(after, rest):
                    return False
        return True

    return safe(tuple(sorted(states)), tuple(sorted(counts.items())))


STATES = st.lists(st.integers(min_value=0, max_value=255), min_size=1, max_size=3).map(tuple)
SOME = st.dictionaries(
    st.sampled_from(["1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", WHOLE]),
    st.integers(min_value=1, max_value=2),
    min_size=1,
    max_size=3,
)


@given(STATES, SOME, st.integers(min_value=0, max_value=255))
@settings(max_examples=3 * settings().max_examples)
def test_what_always_fits_never_waits_whatever_leaves_before(
    states: tuple[int, ...], counts: dict[str, int], left: int
) -> None:
    if always_fit(H100, Counter(states), counts):
        assert never_waits(H100, states, counts)
        assert never_waits(H100, (states[0] & left, *states[1:]), counts)


ALWAYS: dict[str, tuple[dict[int, int], dict[str, int], bool]] = {
    "one profile, to the last place": ({0: 2}, {"1g.10gb": 14}, True),
    "a small one may stand in any large place": ({0: 1}, {"3g.40gb": 1, "1g.10gb": 1}, True),
    "two small ones in both": ({0: 1}, {"3g.40gb": 1, "1g.10gb": 2}, False),
    "beside what stands": ({0b1111: 1, 0: 1}, {"3g.40gb": 2, "1g.10gb": 1}, True),
    "a place that is taken": ({0b10001: 1}, {"3g.40gb": 1}, False),
    "whole boards": ({0: 2, 1: 5}, {WHOLE: 2}, True),
    "a slice may stand on any board": ({0: 2, 0b1111111: 5}, {WHOLE: 2, "1g.10gb": 1}, False),
    "what no table places": ({0: 2}, {"9g.90gb": 1}, False),
}


@pytest.mark.parametrize(("states", "counts", "fits"), ALWAYS.values(), ids=ALWAYS)
def test_what_fits_in_any_order(states: dict[int, int], counts: dict[str, int], *, fits: bool) -> None:
    assert always_fit(H100, states, counts) is fits


def test_openings_go_to_what_is_named_first_and_only_so_far_as_all_of_them_can_be_kept() -> None:
    few = {0: 2}
    assert openings(H100, few, {}, [("1g.10gb", 8), ("3g.40gb", 4)]) == {"1g.10gb": 8, "3g.40gb": 0}
    assert openings(H100, few, {}, [("3g.40gb", 2), ("1g.10gb", 8)]) == {"3g.40gb": 2, "1g.10gb": 2}
    assert openings(H100, few, {"1g.10gb": 1}, [("3g.40gb", 9)]) == {"3g.40gb": 3}
    turns = [("3g.40gb", 1), ("1g.10gb", 1), ("3g.40gb", 9), ("1g.10gb", 9)]
    assert openings(H100, few, {}, turns) == {"3g.40gb": 3, "1g.10gb": 1}


def test_openings_of_forty_thousand_boards_take_less_than_a_second() -> None:
    states = dict.fromkeys(range(256), 40000 // 256)
    began = time.process_time()
    turns = [("3g.40gb", 1), ("1g.10gb", 1)] * 10 + [
        ("2g.20gb", 40_000),
        ("1g.10gb", 40_000),
        (WHOLE, 40_000),
    ]
    assert openings(H100, states, {"4g.40gb": 3}, turns)
    assert time.process_time() - began < 1
