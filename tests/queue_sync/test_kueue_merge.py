"""Adopting a hand-made ClusterQueue: ours is put right, everything else stays."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_sync.planning.kueue.merge import merge
from queue_sync.planning.kueue.objects import FURTHER, leaves
from queue_sync.planning.observed import Object
from queue_sync.planning.ownership import Owned, RefusalError, owned
from slicewise.api import keys
from slicewise.api.quantities import equal


def queue(
    groups: list[Object], *, plan: str = "", mine: Owned | None = None, managed: bool = False, **spec: Any
) -> Object:
    notes = {"comment": "by hand"}
    if plan:
        notes[keys.PLAN] = plan
    if mine is not None:
        notes[keys.OWNED] = mine.text()
    metadata: Object = {"name": "q", "annotations": notes}
    if managed:
        metadata["labels"] = {keys.MANAGED: "true"}
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ClusterQueue",
        "metadata": metadata,
        "spec": {"namespaceSelector": {}, "resourceGroups": groups, **spec},
    }


def group(covered: list[str], flavors: dict[str, list[int | str | dict[str, Any]]]) -> Object:
    return {
        "coveredResources": covered,
        "flavors": [
            {
                "name": name,
                "resources": [
                    {"name": resource, **(quota if isinstance(quota, dict) else {"nominalQuota": quota})}
                    for resource, quota in zip(covered, quotas, strict=True)
                ],
            }
            for name, quotas in flavors.items()
        ],
    }


def wanted(covered: list[str], flavors: dict[str, list[int | str | dict[str, Any]]], **spec: Any) -> Object:
    groups = [group(covered, flavors)] if flavors else []
    return queue(groups, plan="p", managed=True, **spec)


def result(standing: Object, want: Object, **more: Any) -> Object:
    new = merge(standing, want, **more)
    assert new is not None
    assert merge(new, want, **more) is None
    return new


GPUS = wanted(["g", "m"], {"small": ["0", "7"], "large": ["8", "0"]})


def test_a_hand_made_queue_gets_a_group_of_its_own_when_nothing_overlaps() -> None:
    cpu = group(["cpu"], {"default": ["64"]})
    new = result(queue([cpu], preemption={"withinClusterQueue": "LowerPriority"}), GPUS)
    assert new["spec"]["resourceGroups"] == [
        cpu,
        group(["g", "m"], {"small": ["0", "7"], "large": ["8", "0"]}),
    ]
    assert new["spec"]["preemption"] == {"withinClusterQueue": "LowerPriority"}
    assert new["metadata"]["annotations"]["comment"] == "by hand"
    assert new["metadata"]["annotations"][keys.PLAN] == "p"
    assert "labels" not in new["metadata"]


def test_foreign_flavors_and_their_numbers_stay_in_a_shared_group() -> None:
    standing = queue([group(["m"], {"amd": ["3"], "large": [1]})])
    new = result(standing, GPUS)
    assert new["spec"]["resourceGroups"] == [
        group(["m", "g"], {"amd": ["3", "0"], "small": ["7", "0"], "large": ["0", "8"]})
    ]
    assert owned(new) == Owned(frozenset({"small", "large"}), frozenset({"g", "m"}), frozenset({"g"}))


def test_the_admins_order_of_flavors_stays_and_new_ones_find_their_place() -> None:
    want = wanted(["m"], {"a": ["1"], "b": ["2"], "c": ["3"], "d": ["4"]})
    new = result(queue([group(["m"], {"c": ["0"], "mine": ["9"], "b": ["0"]})]), want)
    assert [each["name"] for each in new["spec"]["resourceGroups"][0]["flavors"]] == [
        "a",
        "c",
        "mine",
        "b",
        "d",
    ]


def test_lending_is_lowered_in_the_same_write() -> None:
    standing = queue([group(["m"], {"small": [{"nominalQuota": 9, "lendingLimit": 8, "borrowingLimit": 2}]})])
    new = result(standing, wanted(["m"], {"small": ["3"]}))
    assert new["spec"]["resourceGroups"][0]["flavors"][0]["resources"] == [
        {"name": "m", "nominalQuota": "3", "lendingLimit": "3", "borrowingLimit": 2}
    ]


def test_limits_in_a_queue_of_our_own_are_the_plans() -> None:
    standing = queue([group(["m"], {"small": [{"nominalQuota": 9, "lendingLimit": 8}]})], managed=True)
    new = result(standing, wanted(["m"], {"small": ["9"]}))
    assert new["spec"]["resourceGroups"][0]["flavors"][0]["resources"] == [{"name": "m", "nominalQuota": 9}]


def test_equal_values_keep_their_text() -> None:
    mine = Owned(frozenset({"small"}), frozenset({"m"}), frozenset({"m"}))
    standing = queue([group(["m"], {"small": ["7000m"]})], plan="p", mine=mine)
    assert merge(standing, wanted(["m"], {"small": ["7"]})) is None


def test_the_cohort_of_an_adopted_queue_is_changed_only_when_the_plan_names_one() -> None:
    standing = queue([], cohortName="theirs")
    assert result(standing, GPUS)["spec"]["cohortName"] == "theirs"
    assert result(standing, wanted(["m"], {"a": ["1"]}, cohortName="ours"))["spec"]["cohortName"] == "ours"


def test_our_names_in_two_groups_are_refused() -> None:
    standing = queue([group(["g"], {"one": [1]}), group(["m"], {"two": [1]})])
    with pytest.raises(
        RefusalError, match=r"ClusterQueue q has g, m in more than one resource group.*move them"
    ):
        merge(standing, GPUS)


def test_a_resource_that_the_plan_does_not_cover_is_refused() -> None:
    standing = queue([group(["cpu", "g"], {"default": ["64", "8"]})])
    with pytest.raises(RefusalError, match=r"add cover: \[cpu\] to the plan"):
        merge(standing, GPUS)
    cover = wanted(["g", "cpu"], {"small": ["4", "16"]})
    assert result(standing, cover)["spec"]["resourceGroups"] == [
        group(["cpu", "g"], {"default": ["64", "8"], "small": ["16", "4"]})
    ]


def test_what_is_no_longer_covered_goes_to_zero_but_the_column_of_others_stays() -> None:
    first = result(
        queue([group(["cpu", "g"], {"default": ["0", "8"]})]), wanted(["g", "cpu"], {"small": ["4", "16"]})
    )
    new = result(first, wanted(["g"], {"small": ["4"]}))
    assert new["spec"]["resourceGroups"] == [
        group(["cpu", "g"], {"default": ["0", "8"], "small": ["0", "4"]})
    ]
    assert owned(new).resources == {"g"}


def test_a_flavor_that_other_fields_name_stays_at_zero() -> None:
    checks = {"admissionChecks": [{"name": "c", "onFlavors": ["large"]}]}
    first = result(queue([], admissionChecksStrategy=checks), GPUS)
    new = result(first, wanted(["m"], {"small": ["7"]}))
    assert new["spec"]["resourceGroups"] == [group(["m"], {"small": ["7"], "large": ["0"]})]


def test_numbers_that_an_admin_put_on_our_flavor_stay_with_it() -> None:
    first = result(queue([]), GPUS)
    first["spec"]["resourceGroups"][0]["coveredResources"].append("ib")
    for flavor in first["spec"]["resourceGroups"][0]["flavors"]:
        flavor["resources"].append({"name": "ib", "nominalQuota": 4})
    new = result(first, wanted(["m"], {"small": ["7"]}))
    assert new["spec"]["resourceGroups"] == [group(["m", "ib"], {"small": ["7", 4], "large": ["0", 4]})]


NEVER = {"withinClusterQueue": "Never"}
RECLAIMS = {"withinClusterQueue": "Never", "reclaimWithinCohort": "Any"}


@pytest.mark.parametrize("managed", [True, False])
@pytest.mark.parametrize(
    ("case", "said", "edited", "says", "left"),
    [
        ("a field", {"stopPolicy": "Hold"}, {}, {}, {}),
        (
            "one of two",
            {"stopPolicy": "Hold", "preemption": NEVER},
            {},
            {"preemption": NEVER},
            {"preemption": NEVER},
        ),
        ("a part of a field", {"preemption": RECLAIMS}, {}, {"preemption": NEVER}, {"preemption": NEVER}),
        (
            "a part, beside what Kueue defaults",
            {"preemption": NEVER},
            {"preemption": {**NEVER, "reclaimWithinCohort": "Never"}},
            {},
            {"preemption": {"reclaimWithinCohort": "Never"}},
        ),
        (
            "a quantity in other words",
            {"fairSharing": {"weight": "2"}},
            {"fairSharing": {"weight": 2}},
            {},
            {},
        ),
        (
            "a list",
            {"admissionChecksStrategy": {"admissionChecks": [{"name": "c"}]}},
            {},
            {},
            {},
        ),
        (
            "what somebody has changed since",
            {"stopPolicy": "Hold"},
            {"stopPolicy": "HoldAndDrain"},
            {},
            {"stopPolicy": "HoldAndDrain"},
        ),
    ],
)
def test_what_the_plan_says_no_more_goes(
    case: str,
    said: dict[str, Any],
    edited: dict[str, Any],
    says: dict[str, Any],
    left: dict[str, Any],
    *,
    managed: bool,
) -> None:
    first = result(queue([], managed=managed), wanted(["m"], {"small": ["7"]}, **said))
    first["spec"] |= edited
    new = result(first, wanted(["m"], {"small": ["7"]}, **says))
    kept = {name: value for name, value in new["spec"].items() if name in FURTHER}
    assert kept == left, case
    assert owned(new).fields == leaves(says), case


def test_what_an_admin_says_in_the_same_words_stays_the_admins() -> None:
    standing = queue([], stopPolicy="Hold")
    new = result(standing, wanted(["m"], {"small": ["7"]}, stopPolicy="Hold"))
    assert owned(new).fields == {}
    assert result(new, wanted(["m"], {"small": ["8"]}))["spec"]["stopPolicy"] == "Hold"


@pytest.mark.parametrize("path", ["resourceGroups", "namespaceSelector", "stopPolicy.deep", "preemption"])
@pytest.mark.parametrize("value", [[], {}, None, "Hold"])
def test_an_annotation_takes_nothing_that_a_plan_cannot_say(path: str, value: Any) -> None:
    standing = queue([], mine=Owned(fields={path: value}), stopPolicy="Hold")
    spec = result(standing, wanted(["m"], {"small": ["7"]}))["spec"]
    assert (spec["stopPolicy"], spec["namespaceSelector"]) == ("Hold", {})


def test_a_limit_that_the_plan_says_no_more_goes_from_an_adopted_queue() -> None:
    limited = {"nominalQuota": "7", "borrowingLimit": "3", "lendingLimit": "4"}
    standing = queue([group(["m"], {"small": [{"nominalQuota": "7", "lendingLimit": "4"}]})])
    first = result(standing, wanted(["m"], {"small": [limited]}))
    assert first["spec"]["resourceGroups"] == [group(["m"], {"small": [limited]})]
    new = result(first, wanted(["m"], {"small": ["7"]}))
    # The admin had the same lendingLimit before the plan did.
    assert new["spec"]["resourceGroups"] == [
        group(["m"], {"small": [{"nominalQuota": "7", "lendingLimit": "4"}]})
    ]
    assert owned(new).limits == frozenset()


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"flavors": 3}', '{"fields": ' + "[" * 9999])
def test_an_annotation_that_cannot_be_read_owns_nothing(text: str) -> None:
    assert owned({"metadata": {"name": "q", "annotations": {keys.OWNED: text}}}) == Owned()


# --- Properties -------------------------------------------------------------------------------------------

NUMBERS = st.integers(0, 20).map(str) | st.integers(0, 20)
OUR_FLAVORS = ["p1", "p2", "p3"]
OUR_NAMES = ["g1", "g2", "g3"]


@st.composite
def groups(draw: st.DrawFn, names: list[str], flavors: list[str]) -> Object:
    covered = draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    listed = draw(st.lists(st.sampled_from(flavors), unique=True, min_size=1))
    return group(covered, {name: [draw(NUMBERS) for _ in covered] for name in listed})


@st.composite
def adoptions(draw: st.DrawFn) -> Object:
    """A hand-made queue: a foreign group, and maybe one where some of our names have foreign flavors."""
    found = [draw(groups(["cpu", "memory"], ["default", "spot"]))]
    if draw(st.booleans()):
        found.insert(draw(st.integers(0, 1)), draw(groups(OUR_NAMES, ["amd", "intel"])))
    return queue(found, stopPolicy=draw(st.sampled_from(["None", "Hold"])))


@st.composite
def wishes(draw: st.DrawFn) -> Object:
    covered = sorted(draw(st.sets(st.sampled_from(OUR_NAMES), min_size=1)))
    flavors = draw(st.lists(st.sampled_from(OUR_FLAVORS), unique=True))
    return wanted(covered, {name: [str(draw(st.integers(0, 20))) for _ in covered] for name in flavors})


def foreign_pairs(document: Object) -> dict[tuple[str, str], Any]:
    """What is not ours, zeros left out."""
    return {
        (flavor["name"], quota["name"]): quota["nominalQuota"]
        for each in document["spec"]["resourceGroups"]
        for flavor in each["flavors"]
        for quota in flavor["resources"]
        if flavor["name"] not in OUR_FLAVORS and not equal(quota["nominalQuota"], 0)
    }


@given(
    adoptions(), st.lists(st.tuples(wishes(), st.sets(st.sampled_from(OUR_FLAVORS + OUR_NAMES))), max_size=6)
)
def test_merging_keeps_what_is_foreign_and_comes_to_rest(
    standing: Object, wants: list[tuple[Object, set[str]]]
) -> None:
    before = deepcopy(standing)
    order = [f["name"] for each in before["spec"]["resourceGroups"] for f in each["flavors"]]
    for want, held in wants:

        def holds(flavor: str | None, resource: str | None, held: set[str] = held) -> bool:
            return flavor in held or resource in held

        kept = deepcopy(standing)
        try:
            new = merge(standing, want, holds)
        except RefusalError:
            assert standing == kept
            continue
        assert standing == kept
        if new is not None:
            assert merge(new, want, holds) is None
            standing = new
        assert foreign_pairs(standing) == foreign_pairs(before)
        assert standing["spec"]["stopPolicy"] == before["spec"]["stopPolicy"]
        shown = [f["name"] for each in standing["spec"]["resourceGroups"] for f in each["flavors"]]
        assert [name for name in shown if name in order] == order
        assert len(set(shown)) == len(shown)
        for each in standing["spec"]["resourceGroups"]:
            for flavor in each["flavors"]:
                assert [quota["name"] for quota in flavor["resources"]] == each["coveredResources"]
        pairs = {
            (f["name"], q["name"]): q["nominalQuota"]
            for each in standing["spec"]["resourceGroups"]
            for f in each["flavors"]
            for q in f["resources"]
        }
        asked = {
            (f["name"], q["name"]): q["nominalQuota"]
            for each in want["spec"]["resourceGroups"]
            for f in each["flavors"]
            for q in f["resources"]
        }
        for pair, quantity in pairs.items():
            if pair[0] in OUR_FLAVORS and pair[1] in OUR_NAMES:
                assert equal(quantity, asked.get(pair, 0))
        assert asked.keys() <= pairs.keys()
