"""The fewest boards: exact, as brute force over whole boards says, and never fewer than can be placed."""

from collections.abc import Mapping
from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.gpu.mig import Board, boards
from slicewise.usage.packing import fewest_boards, geometries

DIVISIBLE = [
    name
    for name, board in boards().items()
    if all(placement.starts for placement in board.profiles.values()) and board.memory_slices
]


def plain(board: Board) -> list[str]:
    return [name for name in board.profiles if "+" not in name and "-" not in name]


@pytest.mark.parametrize(
    ("board", "demand", "fewest"),
    [
        ("h100-80gb", {}, 0),
        ("h100-80gb", {"1g.10gb": 7}, 1),
        ("h100-80gb", {"1g.10gb": 8}, 2),
        ("h100-80gb", {"3g.40gb": 3}, 2),
        # Two 3g take all the memory slices: no 1g beside them, though a compute slice is left.
        ("h100-80gb", {"3g.40gb": 2, "1g.10gb": 1}, 2),
        ("h100-80gb", {"4g.40gb": 1, "3g.40gb": 1}, 1),
        ("h100-80gb", {"4g.40gb": 2, "3g.40gb": 1}, 2),
        ("h100-80gb", {"2g.20gb": 3, "1g.20gb": 1}, 1),
        ("h100-80gb", {"7g.80gb": 20_000}, 20_000),
        # One 3g leaves room for four 1g: 5,001 such boards, and 2,500 with two 3g.
        ("h100-80gb", {"1g.10gb": 20_001, "3g.40gb": 10_000}, 7501),
        ("a30-24gb", {"1g.6gb": 5, "2g.12gb": 3}, 3),
    ],
)
def test_known_demands(board: str, demand: Mapping[str, int], fewest: int) -> None:
    assert fewest_boards(boards()[board], demand) == fewest


def test_a_profile_that_the_board_lacks_is_named() -> None:
    with pytest.raises(ValueError, match="this board has no profile"):
        fewest_boards(boards()["h100-80gb"], {"1g.5gb": 1})


@given(st.sampled_from(DIVISIBLE), st.data())
def test_brute_force_over_up_to_three_boards_agrees(name: str, data: st.DataObject) -> None:
    board = boards()[name]
    profiles = plain(board)
    counts = data.draw(st.lists(st.integers(0, 6), min_size=len(profiles), max_size=len(profiles)))
    demand = {profile: number for profile, number in zip(profiles, counts, strict=True) if number}
    columns = geometries(board, sorted(demand))
    wanted = tuple(demand[profile] for profile in sorted(demand))
    brute = next(
        (
            number
            for number in range(4)
            for chosen in combinations_with_replacement(columns, number)
            if all(sum(column[i] for column in chosen) >= wanted[i] for i in range(len(wanted)))
        ),
        None,
    )
    found = fewest_boards(board, demand)
    assert found == brute if brute is not None else found > 3


@given(st.sampled_from(DIVISIBLE), st.data())
def test_many_slices_take_neither_less_than_their_compute_nor_more_than_one_board_each(
    name: str, data: st.DataObject
) -> None:
    board = boards()[name]
    demand = {profile: data.draw(st.integers(0, 2000)) for profile in plain(board)}
    compute = sum(number * board.profiles[profile].compute for profile, number in demand.items())
    found = fewest_boards(board, demand)
    assert -(-compute // board.compute_slices) <= found <= sum(demand.values())
