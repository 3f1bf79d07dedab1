"""What a plan promises of partitionable boards, and what the webhook then asks of them."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from queue_sync.planning.observed import ObservedState, QuotaUsage, Workload
from slicewise.api.policy import QuotaPlan, SpecError
from slicewise.inventory.node_devices import PublishedDevices
from slicewise.inventory.plan_selection import as_promised
from slicewise.inventory.pools import Inventory
from tests.inventory.nodes import document, read
from tests.inventory.resource_slices import (
    NVIDIA_CLASS,
    claim,
    class_of_profile,
    device,
    partitionable,
    published_devices,
    resource_slice,
)
from tests.queue_sync.scenes import GPU, ONE, THREE, plan
from tests.queue_sync.test_plan import admit, wants

POOL = "h100-80gb-mig-dynamic"
CLASSES = [NVIDIA_CLASS, class_of_profile("1g.10gb"), class_of_profile("3g.40gb")]


def partitionable_slices(boards: int) -> list[dict[str, Any]]:
    """One node with partitionable boards, each of which could be seven of one profile or two of the other."""
    every = [partitionable(index) for index in range(boards)]
    return [
        resource_slice(
            name="n1-counters", count=boards + 1, devices=None, sharedCounters=[c for _, c in every]
        ),
        *(
            resource_slice(*devices, name=f"n1-{index}", count=boards + 1)
            for index, (devices, _) in enumerate(every)
        ),
    ]


def published(boards: int = 8, *claims: dict[str, Any]) -> PublishedDevices:
    """What is published of that node, and what claims hold of it."""
    return published_devices(partitionable_slices(boards), CLASSES, claims)


def pools(boards: int = 8) -> Inventory:
    return Inventory([read(document("n1", {}, {}))], devices=published(boards))


def waits(use: QuotaUsage, name: str, asked: dict[str, int], queue: str = "team-a", pods: int = 1) -> None:
    """A Workload that waits for quota."""
    spec = {"containers": [{"resources": {"limits": asked}}]}
    item = {
        "metadata": {"name": name, "namespace": "lab", "creationTimestamp": f"2026-01-01T00:00:{name}Z"},
        "spec": {"queueName": queue, "podSets": [{"count": pods, "template": {"spec": spec}}]},
    }
    use.put(f"lab/{name}", msgspec.convert(item, Workload))


def quota(found_of: QuotaPlan, existing: ObservedState | None = None, boards: int = 8) -> dict[str, int]:
    found = wants(found_of, pools(boards), existing)
    parts: Mapping[str, Mapping[str, int]] = found.assigned.get(POOL, {})
    return {resource: sum(split.values()) for resource, split in parts.items()}


PROMISES: dict[str, tuple[dict[str, Any], dict[str, int], list[str]]] = {
    "a number, and the rest": ({"1g.10gb": 8, "3g.40gb": "rest"}, {ONE: 8, THREE: 8}, []),
    "whole boards beside slices": ({"1g.10gb": 5, "gpu": "rest"}, {ONE: 5, GPU: 3}, []),
    "more than the boards hold": (
        {"3g.40gb": 16, "1g.10gb": 8},
        {ONE: 0, THREE: 16},
        [
            (
                f"0 of the 8 1g.10gb that promise asks for fit on the 8 boards of pool {POOL} beside the rest; "
                "ask for fewer"
            )
        ],
    ),
    "a profile that no class serves": (
        {"2g.20gb": 4, "gpu": "rest"},
        {GPU: 8},
        [
            (
                f"promise names nvidia.com/mig-2g.20gb, which no node of pool {POOL} offers; remove it, or apply what "
                "`slicewise deviceclasses` prints"
            )
        ],
    ),
}


@pytest.mark.parametrize(("promise", "expected", "sentences"), PROMISES.values(), ids=PROMISES)
def test_quota_is_what_is_promised_and_can_be_kept_together(
    promise: dict[str, Any], expected: dict[str, int], sentences: list[str]
) -> None:
    promising = plan(promise={"*-mig-dynamic": promise})
    assert quota(promising) == expected
    assert [each.sentence for each in wants(promising, pools()).problems] == sentences


MIXED: dict[str, Any] = {POOL: {"1g.10gb": 8, "3g.40gb": "rest"}}
SITUATIONS: dict[str, tuple[dict[str, Any], list[dict[str, int]], list[tuple[str, int]], dict[str, int]]] = {
    "nothing said, nothing runs: whole boards": ({}, [], [], {GPU: 8, ONE: 0, THREE: 0}),
    "nothing said: what waits decides": ({}, [{THREE: 1}], [], {GPU: 0, ONE: 0, THREE: 16}),
    "nothing said: the oldest first": (
        {},
        [{ONE: 8}, {THREE: 10}],
        [],
        {GPU: 0, ONE: 8, THREE: 8},
    ),
    "nothing said: what runs decides": ({}, [], [(THREE, 2)], {GPU: 0, ONE: 0, THREE: 16}),
    "a number is kept although others wait": (MIXED, [{THREE: 16}], [], {ONE: 8, THREE: 8}),
    "the rest goes to what waits": (MIXED, [{THREE: 12}], [], {ONE: 2, THREE: 14}),
    "what runs keeps its quota": ({POOL: {"3g.40gb": "rest"}}, [], [(ONE, 8)], {ONE: 8, THREE: 8}),
}


@pytest.mark.parametrize(("promise", "waiting", "running", "expected"), SITUATIONS.values(), ids=SITUATIONS)
def test_quota_goes_to_what_runs_then_to_what_waits_then_to_the_rest(
    promise: dict[str, Any],
    waiting: list[dict[str, int]],
    running: list[tuple[str, int]],
    expected: dict[str, int],
) -> None:
    use = QuotaUsage()
    for number, resources in enumerate(waiting):
        waits(use, f"{number:02}", resources)
    for resource, units in running:
        admit(use, "team-a", POOL, resource, units, f"w-{resource}")
    assert quota(plan(promise=promise), ObservedState(use=use)) == expected


def test_what_waits_in_queues_of_others_and_what_is_held_back_opens_nothing() -> None:
    use = QuotaUsage()
    waits(use, "01", {THREE: 1}, queue="somebody-s")
    waits(use, "02", {THREE: 1}, pods=0)
    assert quota(plan(), ObservedState(use=use)) == {GPU: 8, ONE: 0, THREE: 0}


def test_a_plan_of_volcano_that_promises_nothing_gives_whole_boards_and_says_so() -> None:
    found = wants(plan(engine="volcano"), pools())
    assert found.assigned[POOL] == {GPU: {"team-a": 8}}
    (problem,) = found.problems
    assert (problem.code, problem.refused) == ("PromiseCut", False)
    assert problem.sentence.startswith(
        f"pool {POOL} has partitionable boards and the plan promises no slices of it"
    )


# Where they are counts: the same eight small slices take two places of a large one, or one each on eight boards.
PLACES: dict[str, tuple[list[tuple[int, int]], bool, int]] = {
    "together": ([(0, start) for start in range(7)] + [(1, 0)], False, 13),
    "one on each board": ([(index, 0) for index in range(8)], False, 8),
    "a claim of somebody's own": ([(index, 0) for index in range(3)], True, 13),
}


@pytest.mark.parametrize(("places", "explicit", "large"), PLACES.values(), ids=PLACES)
def test_what_runs_is_where_claims_say(places: list[tuple[int, int]], *, explicit: bool, large: int) -> None:
    use = QuotaUsage()
    if not explicit:
        admit(use, "team-a", POOL, ONE, len(places))
    claims = [
        claim(f"c{index}-{start}", f"gpu-{index}-mig-1g10gb-{start}", explicit=explicit)
        for index, start in places
    ]
    existing = ObservedState(use=use, devices=published(8, *claims))
    found = quota(plan(promise={POOL: {"3g.40gb": "rest"}}), existing)
    assert found[THREE] == large


def test_a_board_with_a_fault_is_left_out() -> None:
    devices, counters = partitionable()
    tainted = [{**each, "taints": [{"key": "xid", "effect": "NoSchedule"}]} for each in devices[:2]]
    slices = [resource_slice(*tainted, *devices[2:], sharedCounters=[counters])]
    broken = Inventory([read(document("n1", {}, {}))], devices=published_devices(slices, CLASSES))
    found = wants(plan(promise={POOL: {"3g.40gb": "rest"}}), broken)
    assert found.assigned[POOL] == {THREE: {"team-a": 0}}


def test_a_board_of_no_table_is_promised_as_nothing() -> None:
    model = "NVIDIA X1"
    counters = {"name": "c", "counters": {"slots": {"value": "1"}}}
    board = device("gpu-0", type="gpu", productName=model)
    board["consumesCounters"] = [{"counterSet": "c", "counters": {"slots": {"value": "1"}}}]
    slices = [resource_slice(board, sharedCounters=[counters])]
    unknown = Inventory([read(document("n1", {}, {}))], devices=published_devices(slices, CLASSES))
    found = wants(plan(promise={"*": {"gpu": "rest"}}), unknown)
    assert [each.sentence.split(",")[0] for each in found.problems] == [
        "no table says where the slices of NVIDIA-X1 go"
    ]


def test_work_is_given_names_that_are_promised_alone() -> None:
    (promised,) = as_promised(pools(), [plan(promise={POOL: {"3g.40gb": "rest"}})])
    assert set(promised.resources) == {THREE}
    (any_of_them,) = as_promised(pools(), [plan()])
    assert set(any_of_them.resources) == {GPU, ONE, THREE}
    (volcano_s,) = as_promised(pools(), [plan(engine="volcano")])
    assert set(volcano_s.resources) == {GPU}
    (nobodys,) = as_promised(pools(), [])
    assert set(nobodys.resources) == {GPU, ONE, THREE}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no profile": ({"big": 1}, "big is no MIG profile; write one such as 1g.10gb, or gpu for whole boards"),
    "below zero": ({"gpu": -1}, "-1 is no number up to 1000000; write one, or rest"),
    "a word": ({"gpu": "all"}, "'all' is no number up to 1000000; write one, or rest"),
}


@pytest.mark.parametrize(("promise", "words"), REFUSED.values(), ids=REFUSED)
def test_a_promise_that_cannot_be_meant_is_refused(promise: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as raised:
        plan(promise={POOL: promise})
    assert raised.value.message == words
