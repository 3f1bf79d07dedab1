"""A stream of jobs on partitionable boards: nothing that is admitted waits for a place, and no place is left empty."""

import pytest

from tests.benchmarks.promises import JOBS, live, stream


@pytest.mark.parametrize("anywhere", [False, True], ids=["the first free place", "any free place"])
def test_what_is_admitted_is_placed_and_no_more_than_a_twentieth_is_left_empty(*, anywhere: bool) -> None:
    found = live("Slicewise", stream(1, JOBS), 1 if anywhere else None)
    assert (found.late, found.longest) == (0, 0.0)
    assert found.share(found.stranded) <= 0.05


def test_quota_by_names_and_by_counters_admits_what_has_no_place() -> None:
    assert live("names", stream(1, JOBS)).late > 0
    assert live("counters", stream(1, JOBS)).late > 0
