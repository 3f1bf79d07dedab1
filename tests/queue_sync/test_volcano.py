"""What a plan wants of Volcano, and in which order it may be written."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_sync import volcano
from queue_sync.existing import Existing, Object
from queue_sync.plan import Desired, desired
from slicewise.policy import QuotaPlan
from slicewise.pools import Inventory
from tests.queue_sync.scenes import FOUR, GPU, ONE, THREE, exclusive, inventory, mixed, plan, sliced
from tests.queue_sync.test_plan import applied, standing


def wants(plans: QuotaPlan, pools: Inventory, existing: Existing | None = None) -> Desired:
    return desired([plans], pools, {}, existing or Existing())


def queue(found: Desired, name: str) -> Any:
    return next(each for each in found.objects if each["metadata"]["name"] == name)


TEAMS = {"a": 3, "b": 1}


def test_queues_get_what_they_deserve_and_no_more_without_a_parent() -> None:
    found = wants(plan(engine="volcano", queues=TEAMS), inventory(mixed("n", {"1g.10gb": 7})))
    assert queue(found, "a")["spec"] == {"deserved": {ONE: "5"}, "capability": {ONE: "5"}}
    assert queue(found, "b")["spec"] == {"deserved": {ONE: "2"}, "capability": {ONE: "2"}}


def test_a_missing_parent_is_made_first_and_its_children_may_borrow() -> None:
    found = wants(plan(engine="volcano", queues=TEAMS, cohort="lab"), inventory(mixed("n", {"1g.10gb": 7})))
    assert [each["metadata"]["name"] for each in found.objects] == ["lab", "a", "b"]
    assert [step.document["metadata"]["name"] for step in found.steps] == ["lab", "a", "b"]
    assert queue(found, "lab")["spec"] == {"deserved": {ONE: "7"}, "capability": {ONE: "7"}}
    assert queue(found, "b")["spec"] == {"deserved": {ONE: "2"}, "capability": {ONE: "7"}, "parent": "lab"}


def test_borrowing_bounds_the_capability() -> None:
    queues = [{"name": "a", "borrowing": {"count": 1}}, {"name": "b", "borrowing": {"percent": 0}}]
    found = wants(plan(engine="volcano", queues=queues, cohort="lab"), inventory(exclusive("n")))
    assert queue(found, "a")["spec"]["capability"] == {GPU: "5"}
    assert queue(found, "b")["spec"]["capability"] == {GPU: "4"}


def test_the_admins_fields_stay_and_a_guarantee_is_lowered_in_the_same_write() -> None:
    mine = {
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
    assert len(found.steps) == 1


SPLIT = {"3g.40gb": 1, "4g.40gb": 1}


def test_a_vanished_name_is_zero() -> None:
    research = plan(engine="volcano", queues={"a": 1})
    before = standing(wants(research, inventory(mixed("n", {"1g.10gb": 7}))).objects)
    found = wants(research, inventory(mixed("n", SPLIT)), before)
    assert queue(found, "a")["spec"]["deserved"] == {ONE: "0", THREE: "1", FOUR: "1"}
    assert wants(research, inventory(mixed("n", SPLIT)), applied(before, found)).steps == ()


@pytest.mark.parametrize(("traits", "left"), [({}, False), ({"dequeueStrategy": "traverse"}, True)])
def test_a_vanished_name_is_removed_on_hierarchical_volcano_before_1_14(traits: Any, left: bool) -> None:  # noqa: FBT001
    research = plan(engine="volcano", queues={"a": 1}, cohort="lab")
    made = wants(research, inventory(mixed("n", {"1g.10gb": 7}))).objects
    before = standing([{**each, "spec": {**each["spec"], **traits}} for each in made])
    found = wants(research, inventory(mixed("n", SPLIT)), before)
    for name in ("lab", "a"):
        assert (ONE in queue(found, name)["spec"]["deserved"]) is left
    assert wants(research, inventory(mixed("n", SPLIT)), applied(before, found)).steps == ()


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
    assert found.steps == ()
    assert found.problems[0].refused
    assert words in found.problems[0].sentence


def test_one_name_for_different_things_is_refused() -> None:
    found = wants(plan(engine="volcano"), inventory(exclusive("n1"), sliced("n2")))
    assert found.steps == ()
    assert (
        "takes nvidia.com/gpu from pools t4-time-slicing-x10 and h100-80gb-exclusive"
        in found.problems[0].sentence
    )
    other = inventory(exclusive("n1"), exclusive("n2", product="NVIDIA-A100-SXM4-80GB"))
    assert wants(plan(engine="volcano"), other).problems == ()


def test_a_queue_that_leaves_the_plan_gives_its_part_back() -> None:
    before = standing(wants(plan(engine="volcano", queues=TEAMS), inventory(exclusive("n"))).objects)
    found = wants(plan(engine="volcano", queues={"a": 3}), inventory(exclusive("n")), before)
    assert queue(found, "b")["spec"] == {"deserved": {GPU: "0"}, "capability": {GPU: "0"}}
    assert [step.document["metadata"]["name"] for step in found.steps] == ["b", "a"]


# --- The order of writes, against a model of Volcano's own validation -------------------------------------

AMOUNTS = st.dictionaries(st.sampled_from(["x", "y", "z"]), st.integers(0, 9), min_size=1)


def accepted(queues: dict[str, Object]) -> bool:
    """v1.14's webhook: guarantee <= deserved <= capability, and children within their parent."""
    for each in queues.values():
        spec = each["spec"]
        if any(int(n) > int(spec["capability"].get(name, 0)) for name, n in spec["deserved"].items()):
            return False
        parent = queues.get(spec.get("parent", ""))
        if spec.get("parent") and parent is None:
            return False
        if parent is not None and any(
            int(n) > int(parent["spec"]["capability"].get(name, 0)) for name, n in spec["capability"].items()
        ):
            return False
    parent = queues.get("lab")
    if parent is None:
        return True
    sums: dict[str, int] = {}
    for each in queues.values():
        if each["spec"].get("parent"):
            for name, n in each["spec"]["deserved"].items():
                sums[name] = sums.get(name, 0) + int(n)
    return all(name in parent["spec"]["deserved"] for name in sums) and all(
        n <= int(parent["spec"]["deserved"][name]) for name, n in sums.items()
    )


def family(parts: dict[str, dict[str, int]], *, zeros: frozenset[str] = frozenset()) -> dict[str, Object]:
    research = plan(engine="volcano", queues=dict.fromkeys(parts, 1), cohort="lab")
    names = {name for amounts in parts.values() for name in amounts} | zeros
    split = {"pool": {name: {q: amounts.get(name, 0) for q, amounts in parts.items()} for name in names}}
    return {each["metadata"]["name"]: each for each in volcano.queues(research, split)}


@given(
    st.fixed_dictionaries(dict.fromkeys("abc", AMOUNTS)), st.fixed_dictionaries(dict.fromkeys("abc", AMOUNTS))
)
def test_every_write_on_the_way_is_one_that_volcano_takes(
    before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]
) -> None:
    names = frozenset(name for amounts in before.values() for name in amounts)
    old, new = family(before), family(after, zeros=names)
    state = dict(old)
    assert accepted(state)
    for _, document in volcano.order([(old[name], new[name]) for name in new], "lab"):
        state[document["metadata"]["name"]] = document
        assert accepted(state)
    assert state == new
    fresh: dict[str, Object] = {}
    for _, document in volcano.order([(None, each) for each in new.values()], "lab"):
        fresh[document["metadata"]["name"]] = document
        assert accepted(fresh)
    assert fresh == new
