"""The checker that judges a run of chaos: between the least and the most that nodes offered lately."""

from __future__ import annotations

import pytest

from e2e.chaos.checker import Quota, Sample, Truth, longest_excess, violations
from e2e.chaos.scene import has_led


def made(*changes: tuple[str, Quota, float]) -> Truth:
    truth = Truth()
    for change in changes:
        truth.change(*change)
    return truth


GROWN = made(("a", {"gpu": 7}, 0), ("b", {"gpu": 7}, 100))
SHRUNK = made(("a", {"gpu": 7}, 0), ("b", {"gpu": 7}, 0), ("b", {}, 100))
CASES = {
    "as much as there is": (GROWN, Sample(90, {"gpu": 7}), []),
    "growth that has not come yet": (GROWN, Sample(110, {"gpu": 7}), []),
    "growth that never comes": (GROWN, Sample(121, {"gpu": 7}), ["7, and nodes offered 14 at least"]),
    "more than there ever was": (GROWN, Sample(110, {"gpu": 15}), ["15, and nodes offered 14 at most"]),
    "a node that is held": (SHRUNK, Sample(110, {"gpu": 14}), []),
    "a node that is held for ever": (SHRUNK, Sample(121, {"gpu": 14}), ["14, and nodes offered 7 at most"]),
    "a false zero": (SHRUNK, Sample(101, {"gpu": 0}), ["0, and nodes offered 7 at least"]),
    "a name that is not there": (SHRUNK, Sample(50, {}), ["0, and nodes offered 14 at least"]),
    "a name that nobody has": (GROWN, Sample(50, {"gpu": 7, "odd": 1}), ["1, and nodes offered 0 at most"]),
}


@pytest.mark.parametrize(("truth", "sample", "expected"), CASES.values(), ids=CASES)
def test_a_quota_is_between_the_least_and_the_most_that_nodes_offered(
    truth: Truth, sample: Sample, expected: list[str]
) -> None:
    found = violations(truth, [sample], bound=20)
    assert len(found) == len(expected)
    assert all(words in sentence for words, sentence in zip(expected, found, strict=True))


def test_numbers_of_somebody_else_are_not_held_against_it_until_they_are_put_back() -> None:
    truth = made(("a", {"gpu": 7}, 0))
    truth.edited(50, 60)
    assert violations(truth, [Sample(55, {"gpu": 500})], bound=20) == []
    assert len(violations(truth, [Sample(61, {"gpu": 500})], bound=20)) == 1


def test_the_longest_excess_is_measured_from_its_first_sample() -> None:
    samples = [Sample(at, {"gpu": 14 if at < 112 else 7}) for at in range(90, 120)]
    assert longest_excess(SHRUNK, samples) == 11


LEASES = {
    "renewed": ({}, {"renewTime": "2"}, True),
    "not renewed, as after both were killed": ({}, {}, False),
    "taken by another": ({}, {"renewTime": "2", "holderIdentity": "b", "leaseTransitions": 1}, False),
    "taken twice": ({}, {"renewTime": "2", "leaseTransitions": 2}, False),
    "given up": ({"holderIdentity": ""}, {"renewTime": "2", "holderIdentity": ""}, False),
}


@pytest.mark.parametrize(("before", "after", "led"), LEASES.values(), ids=LEASES)
def test_it_is_steady_only_while_one_leads_all_the_time(
    before: dict[str, object], after: dict[str, object], led: object
) -> None:
    """Both were killed seven seconds before a pause: the next leader wrote a status in the middle of it."""
    lease = {"renewTime": "1", "holderIdentity": "a", "leaseTransitions": 0}
    assert has_led({**lease, **before}, {**lease, **after}) is led
