"""What is promised beyond what nodes offer, worked out once and read everywhere alike."""

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.drift import drift
from queue_sync.planning.observed import Object, ObservedState
from queue_sync.planning.overcommit import overcommitted, promises, unbacked_by_plan
from queue_sync.planning.ownership import Owned
from queue_sync.planning.quota import QuotaCache, QuotaCaches
from queue_sync.status.plan_status import PassResult, status
from slicewise.api import keys
from slicewise.inventory.pools import Inventory
from slicewise.kube.object_types import CLUSTER_QUEUE, COHORT, FLAVOR, VOLCANO_QUEUE
from tests.queue_sync.scenes import GPU, H100, ONE, exclusive, inventory, mixed, plan

POOLS = inventory(exclusive("n", 8), mixed("m", {"1g.10gb": 7}))
WHOLE = "h100-80gb-exclusive"
SLICED = "h100-80gb-mig-mixed"


def flavor(name: str, **labels: str) -> Object:
    return {"kind": "ResourceFlavor", "metadata": {"name": name}, "spec": {"nodeLabels": labels}}


def promising(name: str, flavor_name: str, units: int, resource: str = GPU) -> Object:
    quota = {"name": flavor_name, "resources": [{"name": resource, "nominalQuota": str(units)}]}
    groups = [{"coveredResources": [resource], "flavors": [quota]}]
    return {"kind": "ClusterQueue", "metadata": {"name": name}, "spec": {"resourceGroups": groups}}


OURS = flavor(WHOLE, **{keys.POOL: WHOLE})
BY_HAND = flavor("by-hand", **{keys.PRODUCT: H100})


def excess(existing: ObservedState, *plans: Any, pools: Inventory = POOLS) -> list[tuple[str, int]]:
    return [(each.resource, each.excess) for each in overcommitted(existing, plans, pools)]


def test_a_flavor_made_by_hand() -> None:
    existing = ObservedState(
        {FLAVOR: {"by-hand": BY_HAND}, CLUSTER_QUEUE: {"a": promising("a", "by-hand", 16)}}
    )
    assert excess(existing) == [(GPU, 8)]


def test_flavors_that_select_the_same_nodes_are_held_against_them_together() -> None:
    queues = {"a": promising("a", WHOLE, 8), "b": promising("b", "by-hand", 8)}
    existing = ObservedState({FLAVOR: {WHOLE: OURS, "by-hand": BY_HAND}, CLUSTER_QUEUE: queues})
    assert excess(existing) == [(GPU, 8)]
    (found,) = overcommitted(existing, (), POOLS)
    assert (found.flavors, found.queues) == (("by-hand", WHOLE), ("b", "a"))


def test_the_quota_of_a_cohort_comes_on_top_of_its_members() -> None:
    cohort = {**promising("c", WHOLE, 4), "kind": "Cohort"}
    existing = ObservedState(
        {FLAVOR: {WHOLE: OURS}, CLUSTER_QUEUE: {"a": promising("a", WHOLE, 8)}, COHORT: {"c": cohort}}
    )
    assert excess(existing) == [(GPU, 4)]


def test_volcano_has_what_kueues_plans_leave() -> None:
    queue = {"kind": "Queue", "metadata": {"name": "q"}, "spec": {"deserved": {GPU: "8"}}}
    existing = ObservedState({VOLCANO_QUEUE: {"q": queue}})
    assert excess(existing) == []
    assert excess(existing, plan(pools={"matchNames": ["*-exclusive"]})) == [(GPU, 8)]


def decided(queue: Object) -> Object:
    """A queue that says of its GPUs that a plan wrote them."""
    queue["metadata"]["annotations"] = {keys.OWNED: Owned(frozenset({WHOLE}), frozenset({GPU})).text()}
    return queue


def test_what_an_admin_promises_in_a_plans_queue_is_the_admins() -> None:
    queue = promising("a", "by-hand", 16)
    existing = ObservedState({FLAVOR: {"by-hand": BY_HAND}, CLUSTER_QUEUE: {"a": decided(queue)}})
    (found,) = overcommitted(existing, (plan(queues=[{"name": "a"}]),), POOLS)
    assert found.sentence.endswith("; put the queues into a QuotaPlan, or lower their nominalQuota")


@pytest.mark.parametrize(("ours", "fix"), [([], "put the queues"), ([GPU], "see with `slicewise diff`")])
def test_of_volcano_what_to_do_is_for_who_promises_too(ours: list[str], fix: str) -> None:
    metadata = {"name": "q", "annotations": {keys.OWNED: Owned(resources=frozenset(ours)).text()}}
    queue = {"kind": "Queue", "metadata": metadata, "spec": {"deserved": {GPU: "9"}}}
    existing = ObservedState({VOLCANO_QUEUE: {"q": queue}})
    (found,) = overcommitted(existing, (plan(queues=[{"name": "q"}], engine="volcano"),), POOLS)
    assert found.sentence.partition("; ")[2].startswith(fix)


OWN = "where no QuotaPlan decides it: put the queues into one, or lower their nominalQuota"


@pytest.mark.parametrize(
    ("listed", "cohort", "fix"),
    [
        ([], 0, "put the queues into a QuotaPlan, or lower their nominalQuota"),
        (
            ["a", "b"],
            0,
            "see with `slicewise diff` what their plan gives them, and in its status why that is not written",
        ),
        (
            ["a"],
            0,
            "look first at b, " + OWN,
        ),
        (
            ["a", "b"],
            1,
            "look first at Cohort c, " + OWN,
        ),
    ],
    ids=["nobodys", "a-plans", "one-is-a-plans", "a-cohort-beside"],
)
def test_what_to_do_is_for_who_promises(listed: list[str], cohort: int, fix: str) -> None:
    existing = ObservedState(
        {
            FLAVOR: {WHOLE: OURS},
            CLUSTER_QUEUE: {name: decided(promising(name, WHOLE, 8)) for name in ("a", "b")},
            COHORT: {"c": {**promising("c", WHOLE, cohort), "kind": "Cohort"}},
        }
    )
    plans = (plan(queues=[{"name": name} for name in listed], cohort="c"),) if listed else ()
    (found,) = overcommitted(existing, plans, POOLS)
    assert found.sentence.partition("; ")[2] == fix


UNITS = st.integers(0, 20)


@given(UNITS, UNITS, UNITS, UNITS, UNITS, st.sampled_from(["kueue", "volcano"]))
def test_drift_and_status_say_what_is_worked_out(
    one: int, two: int, three: int, four: int, five: int, engine: str
) -> None:
    queues = {"a": promising("a", WHOLE, one), "b": promising("b", "by-hand", two)}
    queues["s"] = promising("s", SLICED, five, ONE)
    cohorts = {"c": {**promising("c", WHOLE, three), "kind": "Cohort"}}
    volcano = {"q": {"kind": "Queue", "metadata": {"name": "q"}, "spec": {"deserved": {ONE: str(four)}}}}
    existing = ObservedState(
        {
            FLAVOR: {WHOLE: OURS, "by-hand": BY_HAND},
            CLUSTER_QUEUE: queues,
            VOLCANO_QUEUE: volcano,
            COHORT: cohorts,
        }
    )
    plans = (plan(engine=engine),)
    said = [
        each.sentence
        for each in drift(ClusterState(POOLS, plans, existing=existing, nodes_read=True))
        if each.code == "QuotaWithoutNodes"
    ]
    worked_out = [each.sentence for each in overcommitted(existing, plans, POOLS)]
    assert sorted(said) == sorted(worked_out)
    assert unbacked_by_plan(existing, plans, POOLS) == ({"research": tuple(worked_out)} if worked_out else {})
    # Nothing is forgotten and nothing counted twice.
    promised = sum(each.promised for each in promises(existing, plans, POOLS))
    assert promised == one + two + three + four + five


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", "Cohort c"]), st.integers(0, 3)), max_size=6))
def test_what_is_remembered_of_quotas_changes_no_result(history: list[dict[str, int]]) -> None:
    cache: QuotaCaches = defaultdict(QuotaCache)
    variants = {
        name: [promising(name, flavor_name, units) for flavor_name in (WHOLE, "by-hand") for units in (0, 9)]
        for name in ("a", "b", "Cohort c")
    }
    for chosen in history:
        standing = {name: variants[name][number] for name, number in chosen.items()}
        cohorts = {"c": standing.pop("Cohort c")} if "Cohort c" in standing else {}
        existing = ObservedState(
            {FLAVOR: {WHOLE: OURS, "by-hand": BY_HAND}, CLUSTER_QUEUE: standing, COHORT: cohorts}
        )
        assert list(promises(existing, (), POOLS, cache)) == list(promises(existing, (), POOLS))


@pytest.mark.parametrize(
    ("engine", "pools", "about"),
    [
        ("kueue", WHOLE, [GPU]),
        ("volcano", WHOLE, [GPU]),
        ("volcano", SLICED, [ONE]),
        ("kueue", SLICED, [ONE]),  # what this plan takes is lost to Volcano
        ("kueue", "*", [GPU, ONE]),
        ("kueue", "t4-*", []),
    ],
)
def test_a_plan_is_told_what_is_promised_of_its_own_pools(engine: str, pools: str, about: list[str]) -> None:
    """Of the whole boards Kueue promises too many, of the slices Volcano does."""
    deserves = {"q": {"kind": "Queue", "metadata": {"name": "q"}, "spec": {"deserved": {ONE: "9"}}}}
    existing = ObservedState(
        {FLAVOR: {WHOLE: OURS}, CLUSTER_QUEUE: {"a": promising("a", WHOLE, 9)}, VOLCANO_QUEUE: deserves}
    )
    found = unbacked_by_plan(existing, [plan(engine=engine, pools={"matchNames": [pools]})], POOLS)
    sentences = found.get("research", ())
    assert [name for name in (GPU, ONE) if any(f" {name}" in each for each in sentences)] == about


def test_the_condition_names_a_bounded_number_of_them() -> None:
    sentences = [f"sentence {number}" for number in range(50)]
    found = status(plan(), 1, PassResult(), POOLS, {}, ObservedState(), {}, "now", unbacked=sentences)
    ready, _, _, backed, _ = found["conditions"]
    assert (backed["type"], backed["status"], backed["reason"]) == ("Backed", "False", "QuotaWithoutNodes")
    assert backed["message"].endswith("sentence 19; and 30 more")
    assert (ready["status"], ready["reason"], ready["message"]) == (
        "True",
        "QuotaWithoutNodes",
        backed["message"],
    )
