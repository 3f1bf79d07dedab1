"""Splits are exact, deterministic and fair to the unit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_sync.planning.apportionment import borrowing, lending, maximum, split
from slicewise.api.policy import Headroom, Limit

SHARES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.integers(0, 1000), min_size=1, max_size=12
)
TOTALS = st.integers(0, 100_000)


@pytest.mark.parametrize(
    ("total", "shares", "parts"),
    [
        (7, {"a": 3, "b": 1}, {"a": 5, "b": 2}),
        (7, {"b": 1, "a": 1}, {"a": 4, "b": 3}),
        (1, {"c": 1, "a": 1, "b": 1}, {"a": 1, "b": 0, "c": 0}),
        (10, {"a": 0, "b": 5}, {"a": 0, "b": 10}),
        (10, {"a": 0, "b": 0}, {"a": 0, "b": 0}),
        (0, {"a": 2, "b": 1}, {"a": 0, "b": 0}),
        (56, {"a": 3, "b": 1}, {"a": 42, "b": 14}),
        (28, {"a": 3, "b": -2}, {"a": 28, "b": 0}),
        (28, {"a": 1, "b": -1}, {"a": 28, "b": 0}),
        (-5, {"a": 1, "b": 1}, {"a": 0, "b": 0}),
    ],
)
def test_largest_remainder_with_ties_by_name(
    total: int, shares: dict[str, int], parts: dict[str, int]
) -> None:
    assert split(total, shares) == parts


@given(TOTALS, SHARES)
def test_the_parts_add_up_unless_every_share_is_zero(total: int, shares: dict[str, int]) -> None:
    parts = split(total, shares)
    assert sum(parts.values()) == (total if any(shares.values()) else 0)
    weight = sum(shares.values()) or 1
    for name, part in parts.items():
        assert total * shares[name] // weight <= part <= -(-total * shares[name] // weight)


@given(TOTALS, SHARES)
def test_the_order_of_queues_changes_nothing(total: int, shares: dict[str, int]) -> None:
    assert split(total, shares) == split(total, dict(reversed(shares.items())))


@given(TOTALS, SHARES, st.data())
def test_a_larger_share_never_gets_less(total: int, shares: dict[str, int], data: st.DataObject) -> None:
    parts = split(total, shares)
    one, other = data.draw(st.sampled_from(sorted(shares))), data.draw(st.sampled_from(sorted(shares)))
    if shares[one] > shares[other]:
        assert parts[one] >= parts[other]
    raised = {**shares, one: shares[one] + data.draw(st.integers(0, 100))}
    if any(shares.values()):
        assert split(total, raised)[one] >= parts[one]


@pytest.mark.parametrize(
    ("quantity", "headroom", "left"),
    [
        (100, Headroom(percent=10), 90),
        (7, Headroom(percent=1), 6),
        (7, Headroom(percent=10, count=2), 4),
        (1, Headroom(count=5), 0),
        (7, Headroom(percent=100), 0),
        (0, Headroom(percent=50), 0),
    ],
)
def test_headroom_rounds_up_and_never_below_zero(quantity: int, headroom: Headroom, left: int) -> None:
    assert headroom.left_of(quantity) == left


def test_limits_follow_the_quantity_of_the_queue() -> None:
    assert borrowing(None, 7) is None
    assert borrowing(Limit(percent=50), 7) == 3
    assert borrowing(Limit(count=9), 7) == 9
    assert borrowing(Limit(percent=200), 7) == 14
    assert lending(Limit(count=9), 7) == 7
    assert lending(Limit(percent=50), 7) == 3
    assert lending(Limit(percent=300), 7) == 7
    assert lending(None, 7) is None


def test_a_limit_in_gpus_limits_nothing_else_but_by_zero() -> None:
    assert borrowing(Limit(count=9), 64_000, covered=True) is None
    assert lending(Limit(count=9), 64_000, covered=True) is None
    assert borrowing(Limit(count=0), 64_000, covered=True) == 0
    assert lending(Limit(count=0), 64_000, covered=True) == 0
    assert borrowing(Limit(percent=50), 64_000, covered=True) == 32_000


def test_the_first_glob_gives_the_maximum() -> None:
    sizes: dict[str, dict[str, int | str]] = {"h100-*": {"nvidia.com/gpu": "64"}, "*": {"nvidia.com/gpu": 8}}
    assert maximum("h100-80gb-exclusive", sizes) == {"nvidia.com/gpu": 64}
    assert maximum("t4-exclusive", sizes) == {"nvidia.com/gpu": 8}
    assert maximum("t4-exclusive", {}) == {}
