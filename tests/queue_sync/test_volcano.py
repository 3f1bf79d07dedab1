"""What a plan wants of Volcano's Queues, one by one."""

from typing import Any

import pytest

from queue_sync.planning.changes import ChangeSet
from queue_sync.planning.desired import desired
from queue_sync.planning.observed import ObservedState
from slicewise.api.policy import QuotaPlan
from slicewise.inventory.pools import Inventory
from tests.queue_sync.scenes import FOUR, GPU, ONE, THREE, exclusive, inventory, mixed, plan, sliced
from tests.queue_sync.test_plan import applied, standing


def wants(plans: QuotaPlan, pools: Inventory, existing: ObservedState | None = None) -> ChangeSet:
    return desired([plans], pools, {}, existing or ObservedState())


def queue(found: ChangeSet, name: str) -> Any:
    return next(each for each in found.objects if each["metadata"]["name"] == name)


TEAMS = {"a": 3, "b": 1}


def test_queues_get_what_they_deserve_and_no_more_without_a_parent() -> None:
    found = wants(plan(engine="volcano", queues=TEAMS), inventory(mixed("n", {"1g.10gb": 7})))
    assert queue(found, "a")["spec"] == {"deserved": {ONE: "5"}, "capability": {ONE: "5"}}
    assert queue(found, "b")["spec"] == {"deserved": {ONE: "2"}, "capability": {ONE: "2"}}


def test_a_missing_parent_is_made_first_and_its_children_may_borrow() -> None:
    found = wants(plan(engine="volcano", queues=TEAMS, cohort="lab"), inventory(mixed("n", {"1g.10gb": 7})))
    assert [each["metadata"]["name"] for each in found.objects] == ["lab", "a", "b"]
    assert [change.document["metadata"]["name"] for change in found.changes] == ["lab", "a", "b"]
    assert queue(found, "lab")["spec"] == {"deserved": {ONE: "7"}, "capability": {ONE: "7"}}
    assert queue(found, "b")["spec"] == {"deserved": {ONE: "2"}, "capability": {ONE: "7"}, "parent": "lab"}


def test_borrowing_bounds_the_capability() -> None:
    queues = [{"name": "a", "borrowing": {"count": 1}}, {"name": "b", "borrowing": {"percent": 0}}]
    found = wants(plan(engine="volcano", queues=queues, cohort="lab"), inventory(exclusive("n")))
    assert queue(found, "a")["spec"]["capability"] == {GPU: "5"}
    assert queue(found, "b")["spec"]["capability"] == {GPU: "4"}


@pytest.mark.parametrize("cohort", ["lab", None])
def test_borrowing_a_number_of_gpus_may_use_what_is_covered_beside_them(cohort: str | None) -> None:
    queues = [{"name": "a", "borrowing": {"count": 1}}, {"name": "b"}]
    found = wants(
        plan(engine="volcano", queues=queues, cohort=cohort, cover=["cpu"]), inventory(exclusive("n"))
    )
    assert queue(found, "a")["spec"]["capability"] == {GPU: "5", "cpu": "64"}


def test_the_admins_fields_stay_and_a_guarantee_is_lowered_in_the_same_write() -> None:
    mine = {
        "apiVersion": "scheduling.volcano.sh/v1beta1",
        "kind": "Queue",
        "metadata": {"name": "a"},
        "spec": {
            "weight": 4,
            "reclaimable": False,
            "capability": {"cpu": "64", ONE: "7"},
            "guarantee": {"resource": {"cpu": "8", ONE: "6"}},
        },
    }
    found = wants(
        plan(engine="volcano", queues={"a": 1}), inventory(mixed("n", {"1g.10gb": 5})), standing([mine])
    )
    assert queue(found, "a")["spec"] == {
        "weight": 4,
        "reclaimable": False,
        "capability": {"cpu": "64", ONE: "5"},
        "deserved": {ONE: "5"},
        "guarantee": {"resource": {"cpu": "8", ONE: "5"}},
    }
    assert found.problems[0].code == "GuaranteeLowered"
    assert len(found.changes) == 1


SPLIT = {"3g.40gb": 1, "4g.40gb": 1}


DEFAULT = {
    "apiVersion": "scheduling.volcano.sh/v1beta1",
    "kind": "Queue",
    "metadata": {"name": "default"},
    "spec": {"dequeueStrategy": "traverse"},
}
"""As Volcano makes it from v1.14 on."""


def test_a_vanished_name_is_zero() -> None:
    research = plan(engine="volcano", queues={"a": 1})
    before = standing([*wants(research, inventory(mixed("n", {"1g.10gb": 7}))).objects, DEFAULT])
    found = wants(research, inventory(mixed("n", SPLIT)), before)
    assert queue(found, "a")["spec"]["deserved"] == {ONE: "0", THREE: "1", FOUR: "1"}
    assert wants(research, inventory(mixed("n", SPLIT)), applied(before, found)).changes == ()


@pytest.mark.parametrize(("traits", "left"), [({}, False), ({"dequeueStrategy": "traverse"}, True)])
@pytest.mark.parametrize("cohort", ["lab", None])
def test_a_vanished_name_is_removed_on_volcano_before_1_14(
    cohort: str | None,
    traits: Any,
    left: bool,  # noqa: FBT001
) -> None:
    research = plan(engine="volcano", queues={"a": 1}, cohort=cohort)
    made = wants(research, inventory(mixed("n", {"1g.10gb": 7}))).objects
    before = standing([{**each, "spec": {**each["spec"], **traits}} for each in made])
    found = wants(research, inventory(mixed("n", SPLIT)), before)
    for each in found.objects:
        assert (ONE in each["spec"]["deserved"]) is left
        assert (ONE in each["spec"]["capability"]) is left
    assert wants(research, inventory(mixed("n", SPLIT)), applied(before, found)).changes == ()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"queues": {"root": 1}}, "names the queue root, which belongs to Volcano itself"),
        ({"queues": {"a": 1}, "cohort": "root"}, "choose another name, or leave cohort out"),
        ({"queues": {"a": 1}, "cohort": "a"}, "has a both as cohort and as queue"),
    ],
)
def test_queues_of_volcanos_own_are_refused(spec: Any, words: str) -> None:
    found = wants(plan(engine="volcano", **spec), inventory(exclusive("n")))
    assert found.changes == ()
    assert found.problems[0].refused
    assert words in found.problems[0].sentence


def test_one_name_for_different_things_is_refused() -> None:
    found = wants(plan(engine="volcano"), inventory(exclusive("n1"), sliced("n2")))
    assert found.changes == ()
    assert (
        "takes nvidia.com/gpu from pools t4-time-slicing-x10 and h100-80gb-exclusive"
        in found.problems[0].sentence
    )
    other = inventory(exclusive("n1"), exclusive("n2", product="NVIDIA-A100-SXM4-80GB"))
    assert wants(plan(engine="volcano"), other).problems == ()


def test_a_queue_that_leaves_the_plan_gives_its_part_back() -> None:
    made = wants(plan(engine="volcano", queues=TEAMS), inventory(exclusive("n"))).objects
    before = standing([*made, DEFAULT])
    found = wants(plan(engine="volcano", queues={"a": 3}), inventory(exclusive("n")), before)
    assert queue(found, "b")["spec"] == {"deserved": {GPU: "0"}, "capability": {GPU: "0"}}
    assert [change.document["metadata"]["name"] for change in found.changes] == ["b", "a"]
