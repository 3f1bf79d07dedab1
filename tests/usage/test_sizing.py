"""The rule for sizes: never below what was seen, safer with more history, steady, and blind to order."""

from __future__ import annotations

import math
import random
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.gpu.mig import boards
from slicewise.usage import sizing

PEAKS = st.lists(st.floats(1, 80_000, allow_nan=False), min_size=4, max_size=60)
H100 = sizing.sizes(boards()["h100-80gb"])


def process(seed: int, length: int) -> list[float]:
    """Peaks of one and the same process: a level, and now and then much more."""
    chance = random.Random(seed)  # noqa: S311  no secret
    return [20_000 + chance.expovariate(1 / 2_000) for _ in range(length)]


@given(PEAKS)
def test_it_is_never_below_what_was_seen(peaks: list[float]) -> None:
    assert sizing.memory_needed(peaks, len(peaks)) >= max(peaks) * 1.05


@given(PEAKS, st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(peaks: list[float], chance: random.Random) -> None:
    shuffled = chance.sample(peaks, len(peaks))
    assert sizing.memory_needed(shuffled, 24) == pytest.approx(sizing.memory_needed(peaks, 24))


@given(PEAKS)
def test_the_same_history_once_more_changes_nothing_but_rounding(peaks: list[float]) -> None:
    fives = peaks * 5
    assert sizing.memory_needed(fives * 2, 24) == pytest.approx(sizing.memory_needed(fives, 24))


@given(PEAKS, st.integers(1, 1000), st.integers(1, 1000))
def test_a_longer_horizon_never_needs_less(peaks: list[float], one: int, other: int) -> None:
    short, long = sorted((one, other))
    assert sizing.memory_needed(peaks, short) <= sizing.memory_needed(peaks, long)


def test_a_longer_trace_of_one_process_changes_little() -> None:
    days = [sizing.memory_needed(process(seed, 24 * 7), 168) for seed in range(20)]
    weeks = [sizing.memory_needed(process(seed + 100, 24 * 7 * 4), 168) for seed in range(20)]
    assert sum(weeks) == pytest.approx(sum(days), rel=0.05)


def test_more_history_fails_no_more_often() -> None:
    def failures(history: int) -> int:
        return sum(
            max(process(seed + 1_000, 168)) > sizing.memory_needed(process(seed, history), 168)
            for seed in range(400)
        )

    assert failures(24 * 28) <= failures(24 * 7) < failures(24)
    assert failures(24 * 28) <= 400 * 2 * sizing.RISK


@given(st.floats(100, 70_000))
def test_memory_that_never_moves_gets_the_floor(level: float) -> None:
    assert sizing.memory_needed([level] * 24, 168) == pytest.approx(level * 1.05)


def test_too_few_samples_say_nothing() -> None:
    assert sizing.memory_needed([5.0, 6.0, 7.0], 24) == float("inf")


@pytest.mark.parametrize(
    ("memory", "compute", "profile"),
    [
        (5_000, 0.1, "1g.10gb"),
        (10_000, 0.1, "1g.20gb"),
        (10_000, 0.2, "2g.20gb"),
        (30_000, 0.2, "3g.40gb"),
        (30_000, 0.5, "4g.40gb"),
        (30_000, 0.6, ""),
        (50_000, 0.1, ""),
        (float("inf"), 0.0, ""),
    ],
)
def test_the_smallest_size_holds_both_memory_and_compute(memory: float, compute: float, profile: str) -> None:
    assert sizing.smallest(H100, memory, compute).profile == profile


def test_a_profile_without_published_mebibytes_has_those_of_one_as_large() -> None:
    memory = {size.profile: size.memory for size in H100}
    assert memory["4g.40gb"] == memory["3g.40gb"] == 40_320
    assert memory[""] == 8 * 9_984


def flat(level: float, spikes: dict[int, float] | None = None) -> array[float]:
    values = array("f", [level] * 48)
    for step, value in (spikes or {}).items():
        values[step] = value
    return values


IDLE = [flat(0.05)] * 30


def test_peaks_that_never_meet_may_share_a_board() -> None:
    memory = [flat(20_000, {i: 45_000}) for i in range(30)]
    assert sizing.sharing(memory, IDLE, 80_000).shares == 2


def test_peaks_that_meet_may_not() -> None:
    memory = [flat(20_000, {7: 45_000}) for _ in range(30)]
    assert sizing.sharing(memory, IDLE, 80_000).shares == 1


def test_memory_that_fits_is_not_enough_where_compute_does_not() -> None:
    busy = [flat(0.6)] * 30
    assert sizing.sharing([flat(10_000)] * 30, busy, 80_000).shares == 1


def test_a_few_replicas_are_too_few_to_tell() -> None:
    assert sizing.sharing([flat(10_000)] * 5, IDLE[:5], 80_000).shares == 1


def test_replicas_that_never_ran_together_say_nothing() -> None:
    nothing = [math.nan] * 48
    one_by_one = [array("f", [*nothing * i, *flat(60_000), *nothing * (29 - i)]) for i in range(30)]
    assert sizing.sharing(one_by_one, [array("f", [0.05] * 48 * 30)] * 30, 80_000).shares == 1


def test_of_very_many_replicas_a_bounded_number_of_groups_is_tried() -> None:
    tried = list(sizing.groups(20_000, 2))
    assert 4_000 < len(tried) <= 5_100
    assert len({replica for group in tried for replica in group}) > 5_000
