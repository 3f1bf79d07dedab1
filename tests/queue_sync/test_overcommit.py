"""What is promised beyond what nodes offer, worked out once and read everywhere alike."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.drift import drift
from queue_sync.planning.observed import Object, ObservedState
from queue_sync.planning.overcommit import overcommitted, promises
from slicewise.api import keys
from slicewise.inventory.pools import Inventory
from tests.queue_sync.scenes import GPU, H100, ONE, exclusive, inventory, mixed, plan

POOLS = inventory(exclusive("n", 8), mixed("m", {"1g.10gb": 7}))
WHOLE = "h100-80gb-exclusive"


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
    existing = ObservedState({"by-hand": BY_HAND}, {"a": promising("a", "by-hand", 16)})
    assert excess(existing) == [(GPU, 8)]


def test_flavors_that_select_the_same_nodes_are_held_against_them_together() -> None:
    queues = {"a": promising("a", WHOLE, 8), "b": promising("b", "by-hand", 8)}
    existing = ObservedState({WHOLE: OURS, "by-hand": BY_HAND}, queues)
    assert excess(existing) == [(GPU, 8)]
    (found,) = overcommitted(existing, (), POOLS)
    assert (found.flavors, found.queues) == (("by-hand", WHOLE), ("b", "a"))


def test_the_quota_of_a_cohort_comes_on_top_of_its_members() -> None:
    cohort = {**promising("c", WHOLE, 4), "kind": "Cohort"}
    existing = ObservedState({WHOLE: OURS}, {"a": promising("a", WHOLE, 8)}, cohorts={"c": cohort})
    assert excess(existing) == [(GPU, 4)]


def test_volcano_has_what_kueues_plans_leave() -> None:
    queue = {"kind": "Queue", "metadata": {"name": "q"}, "spec": {"deserved": {GPU: "8"}}}
    existing = ObservedState(queues={"q": queue})
    assert excess(existing) == []
    assert excess(existing, plan(pools={"matchNames": ["*-exclusive"]})) == [(GPU, 8)]


UNITS = st.integers(0, 20)


@given(UNITS, UNITS, UNITS, UNITS, UNITS)
def test_what_drift_says_is_what_is_worked_out(one: int, two: int, three: int, four: int, five: int) -> None:
    queues = {"a": promising("a", WHOLE, one), "b": promising("b", "by-hand", two)}
    queues["s"] = promising("s", "h100-80gb-mig-mixed", five, ONE)
    cohorts = {"c": {**promising("c", WHOLE, three), "kind": "Cohort"}}
    volcano = {"q": {"kind": "Queue", "metadata": {"name": "q"}, "spec": {"deserved": {ONE: str(four)}}}}
    existing = ObservedState({WHOLE: OURS, "by-hand": BY_HAND}, queues, {}, volcano, cohorts=cohorts)
    said = [
        each for each in drift(ClusterState(POOLS, existing=existing)) if each.code == "QuotaWithoutNodes"
    ]
    assert len(said) == len(overcommitted(existing, (), POOLS))
    # Nothing is forgotten and nothing counted twice.
    promised = sum(each.promised for each in promises(existing, (), POOLS))
    assert promised == one + two + three + four + five
