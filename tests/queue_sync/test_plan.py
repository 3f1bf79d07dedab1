"""What one or more plans want of Kueue, against what stands."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from queue_sync.planning.changes import ChangeSet
from queue_sync.planning.desired import desired, find_conflicts
from queue_sync.planning.engine import PlanCache
from queue_sync.planning.observed import Object, ObservedState, QuotaUsage, Workload, project
from queue_sync.planning.ownership import owned
from queue_sync.planning.plan_diff import desired_of, steps_to
from slicewise.api import keys
from slicewise.api.policy import QuotaPlan
from slicewise.inventory.plan_selection import fed
from slicewise.inventory.pools import Inventory
from slicewise.kube.object_types import CLUSTER_QUEUE, STANDING, kind_of
from tests.queue_sync.scenes import FOUR, GPU, MIXED, ONE, THREE, exclusive, inventory, mixed, plan, sliced

NAMESPACES: Mapping[str, Mapping[str, str]] = {
    "lab": {"team": "a"},
    "other": {"team": "b"},
    "kube-system": {"team": "a"},
}
WHOLE = "h100-80gb-exclusive"
SHARED = "t4-time-slicing-x10"


def standing(objects: Iterable[Object], use: QuotaUsage | None = None) -> ObservedState:
    """A cluster where these objects stand."""
    stores: dict[str, dict[str, Object]] = {}
    for each in objects:
        metadata = each["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}" if "namespace" in metadata else metadata["name"]
        stores.setdefault(kind_of(each), {})[key] = project(each)
    return ObservedState(stores, use or QuotaUsage())


def applied(existing: ObservedState, wanted: ChangeSet) -> ObservedState:
    """The cluster after every change was taken."""
    stores = {kind: dict(existing.of(kind)) for kind in STANDING}
    for change in wanted.changes:
        metadata = change.document["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}" if "namespace" in metadata else metadata["name"]
        store = stores[kind_of(change.document)]
        if change.after is None:
            del store[key]
        else:
            store[key] = project(change.after)
    return ObservedState(stores, existing.use)


def nominals(queue: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """The nominal quota of a ClusterQueue by (flavor, resource)."""
    return {
        (flavor["name"], quota["name"]): quota["nominalQuota"]
        for group in queue["spec"].get("resourceGroups") or ()
        for flavor in group["flavors"]
        for quota in flavor["resources"]
    }


def wants(
    plans: QuotaPlan | list[QuotaPlan], pools: Inventory, existing: ObservedState | None = None
) -> ChangeSet:
    listed = plans if isinstance(plans, list) else [plans]
    return desired(listed, pools, NAMESPACES, existing or ObservedState())


def admit(use: QuotaUsage, queue: str, flavor: str, resource: str, quantity: int, name: str = "w") -> None:
    """A Workload that runs."""
    document = {
        "metadata": {"name": name, "namespace": "lab"},
        "spec": {"queueName": queue},
        "status": {
            "conditions": [{"type": "Admitted", "status": "True"}],
            "admission": {
                "clusterQueue": queue,
                "podSetAssignments": [
                    {
                        "name": "main",
                        "count": 1,
                        "flavors": {resource: flavor},
                        "resourceUsage": {resource: str(quantity)},
                    }
                ],
            },
        },
    }
    use.put(f"lab/{name}", msgspec.convert(document, Workload))


TEAMS = {"team-a": 3, "team-b": 1}


def test_a_plan_for_an_empty_cluster_says_what_would_be_made() -> None:
    research = plan(
        queues=[
            {"name": "team-a", "share": 3, "namespaces": {"matchLabels": {"team": "a"}}},
            {"name": "team-b"},
        ],
        cohort="research",
    )
    found = wants(research, inventory(mixed("n1", {"1g.10gb": 7}), exclusive("n2")))
    assert [(each["kind"], each["metadata"]["name"]) for each in found.objects] == [
        ("ResourceFlavor", MIXED),
        ("ResourceFlavor", WHOLE),
        ("ClusterQueue", "team-a"),
        ("ClusterQueue", "team-b"),
        ("LocalQueue", "team-a"),
    ]
    assert [change.verb for change in found.changes] == ["create"] * 5
    flavor, _, queue, other, local = found.objects
    assert flavor["spec"] == {
        "nodeLabels": {keys.POOL: MIXED},
        "tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}],
    }
    assert queue["apiVersion"] == "kueue.x-k8s.io/v1beta2"
    assert queue["spec"]["cohortName"] == "research"
    assert queue["spec"]["namespaceSelector"] == {"matchLabels": {"team": "a"}}
    assert other["spec"]["namespaceSelector"] == {}
    group = queue["spec"]["resourceGroups"][0]
    assert group["coveredResources"] == [GPU, ONE]
    assert [each["name"] for each in group["flavors"]] == [MIXED, WHOLE]
    assert nominals(queue) == {(MIXED, GPU): "0", (MIXED, ONE): "5", (WHOLE, GPU): "6", (WHOLE, ONE): "0"}
    assert nominals(other)[(MIXED, ONE)] == "2"
    assert local["metadata"]["namespace"] == "lab"
    assert local["spec"] == {"clusterQueue": "team-a"}


def test_steady_state_wants_no_write() -> None:
    pools = inventory(mixed("n1", {"1g.10gb": 7}), exclusive("n2"), sliced("n3"))
    first = wants(plan(queues=TEAMS), pools)
    again = wants(plan(queues=TEAMS), pools, standing(first.objects))
    assert again.changes == ()
    assert again.objects == tuple(project(each) for each in first.objects)


def test_a_repartition_adds_the_new_names_and_drops_the_old() -> None:
    research = plan(queues=TEAMS)
    before = standing(wants(research, inventory(mixed("n1", {"1g.10gb": 7}))).objects)
    split = inventory(mixed("n1", {"3g.40gb": 1, "4g.40gb": 1}))
    found = wants(research, split, before)
    queue = next(each for each in found.objects if each["metadata"]["name"] == "team-a")
    assert nominals(queue) == {(MIXED, THREE): "1", (MIXED, FOUR): "1"}


def test_a_name_in_use_goes_to_zero_and_leaves_when_nothing_holds_it() -> None:
    research, use = plan(queues={"team-a": 1}), QuotaUsage()
    before = standing(wants(research, inventory(mixed("n1", {"1g.10gb": 7}))).objects, use)
    admit(use, "team-a", MIXED, ONE, 3)
    split = inventory(mixed("n1", {"3g.40gb": 1, "4g.40gb": 1}))
    draining = applied(before, wants(research, split, before))
    assert nominals(draining.cluster_queues["team-a"]) == {
        (MIXED, ONE): "0",
        (MIXED, THREE): "1",
        (MIXED, FOUR): "1",
    }
    assert wants(research, split, draining).changes == ()
    use.put("lab/w", None)
    drained = applied(draining, wants(research, split, draining))
    assert nominals(drained.cluster_queues["team-a"]) == {(MIXED, THREE): "1", (MIXED, FOUR): "1"}
    assert wants(research, split, drained).changes == ()


def test_a_flavor_is_zeroed_drained_dereferenced_and_deleted_in_this_order() -> None:
    research, use = plan(queues={"team-a": 1}), QuotaUsage()
    both = inventory(mixed("n1", {"1g.10gb": 7}), exclusive("n2"))
    full = standing(wants(research, both).objects, use)
    admit(use, "team-a", WHOLE, GPU, 2)
    less = inventory(mixed("n1", {"1g.10gb": 7}))
    zeroed = applied(full, wants(research, less, full))
    assert nominals(zeroed.cluster_queues["team-a"])[(WHOLE, GPU)] == "0"
    assert WHOLE in zeroed.flavors
    use.put("lab/w", None)
    found = wants(research, less, zeroed)
    assert [(change.verb, change.document["kind"]) for change in found.changes] == [
        ("update", "ClusterQueue")
    ]
    dereferenced = applied(zeroed, found)
    assert nominals(dereferenced.cluster_queues["team-a"]) == {(MIXED, ONE): "7"}
    last = wants(research, less, dereferenced)
    assert [
        (change.verb, change.document["kind"], change.document["metadata"]["name"]) for change in last.changes
    ] == [("delete", "ResourceFlavor", WHOLE)]
    assert wants(research, less, applied(dereferenced, last)).changes == ()


def test_the_last_node_gone_leaves_queues_without_groups() -> None:
    research = plan(queues={"team-a": 1})
    full = standing(wants(research, inventory(exclusive("n"))).objects)
    empty = applied(full, wants(research, inventory(), full))
    assert empty.cluster_queues["team-a"]["spec"]["resourceGroups"] == []
    after = applied(empty, wants(research, inventory(), empty))
    assert after.flavors == {}
    back = applied(after, wants(research, inventory(exclusive("n")), after))
    assert nominals(back.cluster_queues["team-a"]) == {(WHOLE, GPU): "8"}


def test_headroom_and_shares_by_pool() -> None:
    queues = [{"name": "a", "share": 1}, {"name": "b", "share": 1, "shares": {"h100-80gb-exclusive": 0}}]
    research = plan(queues=queues, headroom={"percent": 10, "count": 1})
    found = wants(research, inventory(exclusive("n1"), sliced("n2")))
    one, other = (each for each in found.objects if each["kind"] == "ClusterQueue")
    assert nominals(one) == {(WHOLE, GPU): "6", (SHARED, GPU): "4"}
    assert nominals(other) == {(WHOLE, GPU): "0", (SHARED, GPU): "4"}


def test_the_smallest_unit_is_tried_first() -> None:
    found = wants(plan(), inventory(exclusive("n1"), sliced("n2"), mixed("n3", {"1g.10gb": 7})))
    assert [each["metadata"]["name"] for each in found.objects if each["kind"] == "ResourceFlavor"] == [
        MIXED,
        SHARED,
        WHOLE,
    ]


def test_covered_resources_come_from_the_same_nodes() -> None:
    research = plan(queues={"a": 1, "b": 2}, cover=["cpu", "memory"])
    nodes = (exclusive("n1", other={"cpu": "63500m"}), exclusive("n2", other={"memory": "100Ki"}))
    queue, other = (e for e in wants(research, inventory(*nodes)).objects if e["kind"] == "ClusterQueue")
    assert queue["spec"]["resourceGroups"][0]["coveredResources"] == [GPU, "cpu", "memory"]
    assert nominals(queue)[(WHOLE, "cpu")] == "42500m"
    assert nominals(other)[(WHOLE, "cpu")] == "85"
    assert nominals(queue)[(WHOLE, "memory")] == "178957004Ki"


def test_an_autoscaled_pool_counts_at_its_maximum_even_without_nodes() -> None:
    research = plan(queues={"a": 1}, maximum={WHOLE: {GPU: 64}}, headroom={"count": 4})
    full = wants(research, inventory(exclusive("n1")))
    assert nominals(full.objects[-1]) == {(WHOLE, GPU): "60"}
    assert wants(research, inventory(), standing(full.objects)).changes == ()
    assert nominals(wants(research, inventory()).objects[-1]) == {(WHOLE, GPU): "60"}


@pytest.mark.parametrize(("pool", "resource"), [("l4", GPU), ("l4-exclusive", "nvidia.com/mig-1g.5gb")])
def test_what_no_node_of_an_autoscaled_pool_will_ever_have_is_no_quota(pool: str, resource: str) -> None:
    research = plan(queues={"a": 1}, maximum={WHOLE: {GPU: 64}, pool: {resource: 8}})
    assert nominals(wants(research, inventory(exclusive("n1"))).objects[-1]) == {(WHOLE, GPU): "64"}


def test_a_pool_of_whole_boards_has_no_quota_of_shares() -> None:
    research = plan(queues={"a": 1}, maximum={WHOLE: {GPU: 64, "nvidia.com/gpu.shared": 8}})
    assert nominals(wants(research, inventory(exclusive("n1"))).objects[-1]) == {(WHOLE, GPU): "64"}


def test_an_autoscaled_pool_has_its_place_among_the_others_before_it_has_a_node() -> None:
    research = plan(queues={"a": 1}, maximum={"a10-exclusive": {GPU: 8}, "a100-80gb-exclusive": {GPU: 8}})
    queue = wants(research, inventory(exclusive("n1"))).objects[-1]
    flavors = queue["spec"]["resourceGroups"][0]["flavors"]
    assert [flavor["name"] for flavor in flavors] == ["a10-exclusive", WHOLE, "a100-80gb-exclusive"]


def test_limits_are_percentages_of_the_queue_itself() -> None:
    queues = [{"name": "a", "borrowing": {"percent": 50}, "lending": {"percent": 50}}]
    found = wants(plan(queues=queues, cohort="all"), inventory(mixed("n", {"1g.10gb": 7})))
    quota = found.objects[-1]["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]
    assert quota == {"name": ONE, "nominalQuota": "7", "borrowingLimit": "3", "lendingLimit": "3"}


def test_a_limit_in_gpus_leaves_what_is_covered_to_follow_them() -> None:
    queues = [{"name": "a", "borrowing": {"count": 4}, "lending": {"count": 0}}]
    found = wants(plan(queues=queues, cohort="all", cover=["cpu"]), inventory(exclusive("n")))
    assert found.objects[-1]["spec"]["resourceGroups"][0]["flavors"][0]["resources"] == [
        {"name": GPU, "nominalQuota": "8", "borrowingLimit": "4", "lendingLimit": "0"},
        {"name": "cpu", "nominalQuota": "64", "lendingLimit": "0"},
    ]


def test_an_autoscaled_pool_keeps_its_taints_while_none_of_its_nodes_counts() -> None:
    taint = {"key": GPU, "effect": "NoSchedule", "value": "present"}
    research = plan(queues={"a": 1}, maximum={WHOLE: {GPU: 64}})
    before = wants(research, inventory(exclusive("n", taints=(taint,))))
    lost = inventory(exclusive("n", taints=(taint,), ready=False))
    assert wants(research, lost, standing(before.objects)).changes == ()


def test_match_strategies_chooses_offers_and_match_names_pools() -> None:
    pools = inventory(mixed("n1", {"1g.10gb": 7}), exclusive("n2"), sliced("n3"))
    by_strategy = wants(plan(pools={"matchStrategies": ["mig"]}), pools)
    assert nominals(by_strategy.objects[-1]) == {(MIXED, ONE): "7"}
    by_name = wants(plan(pools={"matchNames": ["t4-*"]}), pools)
    assert nominals(by_name.objects[-1]) == {(SHARED, GPU): "10"}


def test_each_supply_of_nodes_with_the_same_lasting_taints_has_a_flavor_with_them() -> None:
    gpu = {"key": GPU, "effect": "NoSchedule", "value": "present"}
    own = {"key": "team", "effect": "NoExecute"}
    pools = inventory(exclusive("n1", taints=(gpu,)), exclusive("n2", taints=(own, gpu)))
    flavors = [item for item in wants(plan(), pools).objects if item["kind"] == "ResourceFlavor"]
    assert [flavor["spec"].get("nodeTaints") for flavor in flavors] == [None, [own]]
    assert [flavor["spec"]["tolerations"] for flavor in flavors] == [[dict(keys.TOLERATION)]] * 2


def test_a_flavor_of_somebody_else_is_left_and_told() -> None:
    foreign = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ResourceFlavor",
        "metadata": {"name": WHOLE},
        "spec": {"nodeLabels": {"a": "b"}},
    }
    found = wants(plan(), inventory(exclusive("n")), standing([foreign]))
    assert [change.document["kind"] for change in found.changes] == ["ClusterQueue"]
    assert "label it slicewise.io/managed=true" in found.problems[0].sentence
    assert nominals(found.objects[-1]) == {}


def test_a_flavor_keeps_what_others_put_there() -> None:
    made = wants(plan(), inventory(exclusive("n"))).objects
    flavor = project(made[0])
    flavor["metadata"]["labels"]["mine"] = "too"
    flavor["spec"] |= {"tolerations": [{"operator": "Exists"}], "nodeLabels": {"wrong": "one"}}
    change = wants(plan(), inventory(exclusive("n")), standing([flavor, *made[1:]])).changes[0]
    assert change.after is not None
    assert change.after["metadata"]["labels"] == {keys.MANAGED: "true", "mine": "too"}
    assert change.after["spec"]["nodeLabels"] == {keys.POOL: WHOLE}
    assert {"operator": "Exists"} in change.after["spec"]["tolerations"]


def test_a_topology_is_set_once() -> None:
    research = plan(topology={"h100-*": "rack"})
    made = wants(research, inventory(exclusive("n"))).objects
    assert made[0]["spec"]["topologyName"] == "rack"
    assert wants(research, inventory(exclusive("n")), standing(made)).changes == ()
    other = wants(plan(topology={"*": "block"}), inventory(exclusive("n")), standing(made))
    assert other.changes == ()
    assert "Kueue never changes it" in other.problems[0].sentence


def aged(of: QuotaPlan, created: str) -> QuotaPlan:
    return of.model_copy(update={"created": created})


def test_of_two_plans_over_one_pool_the_older_is_followed() -> None:
    young = aged(plan("one", queues={"a": 1}), "2026-02-01T00:00:00Z")
    old = aged(plan("two", queues={"b": 1}, engine="volcano"), "2026-01-01T00:00:00Z")
    found = wants([young, old], inventory(exclusive("n")))
    assert {change.plan for change in found.changes} == {"two"}
    assert [(problem.plan, problem.code, problem.refused) for problem in found.problems] == [
        ("one", "PoolInTwoPlans", True)
    ]
    assert (
        "QuotaPlan one takes the pool h100-80gb-exclusive, which QuotaPlan two, the older one, has"
        in found.problems[0].sentence
    )


@pytest.mark.parametrize(
    ("created", "refused"),
    [
        (("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"), "two"),
        (("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z"), "one"),
        (("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), "two"),
        (("", "2026-01-01T00:00:00Z"), "one"),
        (("", ""), "two"),
    ],
)
def test_age_decides_then_the_name_and_what_is_not_created_yet_is_the_youngest(
    created: tuple[str, str], refused: str
) -> None:
    one, two = plan("one", queues={"a": 1}), plan("two", queues={"b": 1})
    plans = [aged(one, created[0]), aged(two, created[1])]
    assert set(find_conflicts(plans, inventory(exclusive("n")))) == {refused}


def test_a_plan_that_is_being_deleted_is_in_nobodys_way_and_gives_back() -> None:
    pools = inventory(exclusive("n"))
    says: dict[str, Any] = {"pools": {"matchNames": ["h100-*"]}, "deletionPolicy": "Release"}
    old = aged(plan("one", queues={"a": 1}, **says), "2026-01-01T00:00:00Z")
    new = plan("two", queues={"b": 1})
    there = applied(standing([]), wants([old], pools))
    leaving = old.model_copy(update={"leaving": True})
    found = wants([leaving, new], pools, there)
    assert found.problems == ()
    assert nominals(found.objects[-1]) == {(WHOLE, GPU): "8"}
    assert found.changes[0].plan == "one", "it gives back first"
    assert (len(fed([old], list(pools))), fed([leaving], list(pools))) == (1, {})


def test_a_plan_that_is_refused_is_in_nobodys_way() -> None:
    pools = inventory(exclusive("n"), sliced("t"))
    first = plan("a", queues={"a": 1}, pools={"matchNames": ["h100-*"]})
    both = plan("b", queues={"b": 1})
    last = plan("c", queues={"c": 1}, pools={"matchNames": ["t4-*"]})
    assert set(find_conflicts([first, both, last], pools)) == {"b"}


def test_of_two_plans_that_wait_for_one_autoscaled_pool_the_older_is_followed() -> None:
    sizes = {WHOLE: {GPU: 64}}
    one, other = plan("one", queues={"a": 1}, maximum=sizes), plan("two", queues={"b": 1}, maximum=sizes)
    narrow = plan("two", queues={"b": 1}, maximum=sizes, pools={"matchNames": ["t4-*"]})
    assert [problem.code for problem in wants([one, other], inventory()).problems] == ["PoolInTwoPlans"]
    assert wants([one, narrow], inventory()).problems == ()


def test_a_pool_that_a_plan_no_longer_takes_gives_it_no_maximum() -> None:
    sizes = {"*": {GPU: 64}}
    pools = inventory(mixed("n1", {"1g.10gb": 7}), exclusive("n2"))
    before = applied(ObservedState(), wants(plan(maximum=sizes), pools))
    slices = wants(plan(maximum=sizes, pools={"matchStrategies": ["mig"]}), pools, before)
    (queue,) = (each for each in slices.objects if each["kind"] == "ClusterQueue")
    assert {flavor for flavor, _ in nominals(queue)} == {MIXED}


def test_one_queue_in_two_plans_is_refused_per_engine() -> None:
    pools = inventory(exclusive("n1"), sliced("n2"))
    one = plan("one", queues={"a": 1}, pools={"matchNames": ["h100*"]})
    two = plan("two", queues={"a": 1}, pools={"matchNames": ["t4*"]})
    assert {problem.code for problem in wants([one, two], pools).problems} == {"QueueInTwoPlans"}
    volcano = plan("two", queues={"a": 1}, pools={"matchNames": ["t4*"]}, engine="volcano")
    assert wants([one, volcano], pools).problems == ()


def test_a_plan_that_only_reports_stops_nobody() -> None:
    one, other = plan("one", queues={"a": 1}), plan("two", queues={"b": 1}, mode="report")
    found = wants([one, other], inventory(exclusive("n")))
    assert {change.plan for change in found.changes} == {"one"}
    assert [problem.plan for problem in found.problems] == ["two"]


def test_a_local_queue_that_points_elsewhere_is_left_and_told() -> None:
    research = plan(queues=[{"name": "team-a", "namespaces": {}}])
    mine = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "LocalQueue",
        "metadata": {"name": "team-a", "namespace": "lab"},
        "spec": {"clusterQueue": "elsewhere"},
    }
    found = wants(research, inventory(exclusive("n")), standing([mine]))
    assert [
        s.document["metadata"]["namespace"] for s in found.changes if s.document["kind"] == "LocalQueue"
    ] == ["other"]
    assert "points to ClusterQueue elsewhere" in found.problems[0].sentence


def test_two_queues_that_want_one_local_queue_are_told() -> None:
    queues = [{"name": name, "namespaces": {"matchLabels": {"team": "a"}}} for name in ("a", "b")]
    research = plan(queues=queues, kueue={"localQueueName": "same"})
    namespaces = {"lab": {"team": "a"}, "other": {"team": "b"}}
    found = desired([research], inventory(exclusive("n")), namespaces, ObservedState())
    made = [each.document for each in found.changes if each.document["kind"] == "LocalQueue"]
    assert [(each["metadata"]["namespace"], each["spec"]["clusterQueue"]) for each in made] == [("lab", "a")]
    (problem,) = found.problems
    assert problem.code == "LocalQueueShared"
    assert "LocalQueue lab/same is wanted for the queues a and b" in problem.sentence


@pytest.mark.parametrize("suspend", [False, True], ids=["both-write", "older-suspended"])
@pytest.mark.parametrize("older", ["one", "two"])
def test_a_local_queue_that_two_plans_want_is_the_older_writers_and_told_of_the_other(
    older: str,
    suspend: bool,  # noqa: FBT001  a case
) -> None:
    pools, namespaces = inventory(exclusive("n1"), sliced("n2")), {"lab": {"team": "a"}, "other": {}}
    plans = [
        plan(
            name,
            queues=[{"name": f"of-{name}", "namespaces": {"matchLabels": {"team": "a"}}}],
            pools={"matchNames": [glob]},
            kueue={"localQueueName": "gpu"},
            suspend=suspend and name == older,
        ).model_copy(update={"created": f"2026-01-0{1 if name == older else 2}T00:00:00Z"})
        for name, glob in [("one", "h100-*"), ("two", "t4-*")]
    ]
    names = {"one", "two"}
    (has,) = names - {older} if suspend else {older}
    (wants_too,) = names - {has}
    told = (
        f"LocalQueue lab/gpu is wanted for the queue of-{wants_too} and leads to of-{has} of QuotaPlan {has}, so "
        f"nothing in that namespace reaches of-{wants_too}; give one of the two another localQueueName, or have them "
        "select other namespaces"
    )
    existing = ObservedState()
    for _ in range(2):  # before anything stands, and when it does
        found = desired(plans, pools, namespaces, existing)
        assert [(each.plan, each.code, each.sentence) for each in found.problems] == [
            (wants_too, "LocalQueueShared", told)
        ]
        existing = applied(existing, found)
        queues = {name: each["spec"]["clusterQueue"] for name, each in existing.local_queues.items()}
        assert queues == {"lab/gpu": f"of-{has}"}


def test_a_local_queue_leaves_with_its_namespace_once_nothing_waits_in_it() -> None:
    before, use = plan(queues=[{"name": "q", "namespaces": {}}]), QuotaUsage()
    full = standing(wants(before, inventory(exclusive("n"))).objects, use)
    admit(use, "q", WHOLE, GPU, 1)
    after = plan(queues=[{"name": "q", "namespaces": {"matchLabels": {"team": "b"}}}])
    kinds = [(s.verb, s.document["kind"]) for s in wants(after, inventory(exclusive("n")), full).changes]
    assert kinds == [("update", "ClusterQueue")]
    use.put("lab/w", None)
    last = wants(after, inventory(exclusive("n")), full).changes[-1]
    assert (last.verb, last.document["metadata"].get("namespace")) == ("delete", "lab")


def test_a_queue_that_another_plan_took_over_keeps_its_local_queues_until_that_one_drops_them() -> None:
    lab = [{"name": "q", "namespaces": {"matchLabels": {"team": "a"}}}]
    pools = inventory(exclusive("n1"), sliced("n2"))
    first = plan("one", queues=lab, pools={"matchNames": ["h100-*"]})
    rest = plan("one", queues={"other": 1}, pools={"matchNames": ["h100-*"]})
    taker = plan("two", queues=lab, pools={"matchNames": ["t4-*"]})
    existing = applied(ObservedState(), wants(first, pools))
    existing = applied(existing, wants(taker, pools, existing))
    kept = wants(rest, pools, existing)
    assert [change for change in kept.changes if change.document["kind"] == "LocalQueue"] == []
    existing = applied(existing, kept)
    dropped = wants([rest, plan("two", queues={"q": 1}, pools={"matchNames": ["t4-*"]})], pools, existing)
    assert [
        (change.verb, change.plan) for change in dropped.changes if change.document["kind"] == "LocalQueue"
    ] == [("delete", "two")]


@pytest.mark.parametrize(("engine", "other"), [("kueue", "volcano"), ("volcano", "kueue")])
def test_a_plan_that_changes_its_engine_gives_back_what_it_had_in_the_other(engine: str, other: str) -> None:
    pools = inventory(exclusive("n"))
    lab = [{"name": "team-a", "namespaces": {"matchLabels": {"team": "a"}}}]
    cohort = "lab" if engine == "volcano" else None
    existing = applied(ObservedState(), wants(plan(engine=engine, queues=lab, cohort=cohort), pools))
    moved = plan(engine=other, queues=lab)
    while (found := wants(moved, pools, existing)).changes:
        existing = applied(existing, found)
    assert found.problems == ()
    kueues = {
        pair: text for each in existing.cluster_queues.values() for pair, text in nominals(each).items()
    }
    volcanos = {text for each in existing.queues.values() for text in each["spec"]["deserved"].values()}
    if other == "kueue":
        assert (kueues, volcanos) == ({(WHOLE, GPU): "8"}, set())
    else:
        assert (kueues, volcanos) == ({}, {"8"})
        assert (existing.flavors, existing.local_queues) == ({}, {})


def test_a_queue_that_leaves_the_plan_gives_its_quota_back() -> None:
    full = standing(wants(plan(queues=TEAMS), inventory(exclusive("n"))).objects)
    found = wants(plan(queues={"team-a": 3}), inventory(exclusive("n")), full)
    after = applied(full, found)
    assert nominals(after.cluster_queues["team-a"]) == {(WHOLE, GPU): "8"}
    assert nominals(after.cluster_queues["team-b"]) == {}
    assert not owned(after.cluster_queues["team-b"]).flavors


def test_a_queue_that_leaves_the_plan_loses_what_the_plan_said_of_it() -> None:
    held = plan(queues=TEAMS, kueue={"stopPolicy": "Hold"})
    full = standing(wants(held, inventory(exclusive("n"))).objects)
    after = applied(full, wants(plan(queues={"team-a": 3}), inventory(exclusive("n")), full))
    assert ["stopPolicy" in each["spec"] for each in after.cluster_queues.values()] == [False, False]
    assert not owned(after.cluster_queues["team-b"]).fields


ELSEWHERE = {
    "orchestration": ({"status": {"effectiveQuotas": [{"flavor": "x"}]}}, {}, "OrchestratedElsewhere"),
    "multikueue": (
        {
            "status": {
                "conditions": [
                    {"type": "Active", "status": "True"},
                    {
                        "type": "MultiKueueManagerQuotaAutomation",
                        "status": "True",
                        "reason": "QuotaAutomated",
                        "lastTransitionTime": "2026-01-01T00:00:00Z",
                    },
                ]
            }
        },
        {},
        "OrchestratedElsewhere",
    ),
    "an admin": ({}, {"slicewise.io/manage": "false"}, "LeftToOthers"),
}


@pytest.mark.parametrize(("more", "notes", "code"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_queues_that_others_decide_are_left(more: Any, notes: dict[str, str], code: str) -> None:
    made = wants(plan(), inventory(exclusive("n"))).objects
    metadata = {**made[-1]["metadata"], "annotations": {**made[-1]["metadata"]["annotations"], **notes}}
    queue = project({**made[-1], "metadata": metadata, **more})
    found = wants(plan(), inventory(exclusive("n", gpus=4)), standing([made[0], queue]))
    assert (found.changes, found.problems[0].code) == ((), code)
    gone = wants(plan(queues=[{"name": "team-b"}]), inventory(exclusive("n")), standing([made[0], queue]))
    assert not [change for change in gone.changes if change.document["metadata"]["name"] == "team-a"]


def test_a_multikueue_queue_whose_quota_is_not_automated_is_ours() -> None:
    made = wants(plan(), inventory(exclusive("n"))).objects
    conditions = [{"type": "MultiKueueManagerQuotaAutomation", "status": "False"}]
    queue = project({**made[-1], "status": {"conditions": conditions}})
    found = wants(plan(), inventory(exclusive("n", gpus=4)), standing([made[0], queue]))
    assert [change.verb for change in found.changes] == ["update"]


def test_more_flavors_than_a_queue_can_report_are_refused() -> None:
    nodes = [exclusive(f"n{index}", product=f"NVIDIA-X{index}") for index in range(65)]
    found = wants(plan(), inventory(*nodes))
    assert [problem.code for problem in found.problems] == ["QueueRefused"]
    assert "would have 65 flavors, and Kueue takes 64" in found.problems[0].sentence


@pytest.mark.parametrize(("pools", "refused"), [(16, False), (17, True)])
def test_concurrent_admission_takes_sixteen_flavors(pools: int, *, refused: bool) -> None:
    made = wants(plan(), inventory(exclusive("n0", product="NVIDIA-X0"))).objects
    queue = {**made[-1], "spec": {**made[-1]["spec"], "concurrentAdmissionPolicy": {"mode": "TryAll"}}}
    nodes = [exclusive(f"n{index}", product=f"NVIDIA-X{index}") for index in range(pools)]
    found = wants(plan(), inventory(*nodes), standing([made[0], queue]))
    sentences = [problem.sentence for problem in found.problems]
    assert bool(sentences) is refused
    if refused:
        words = "narrow the plan's pools, or take concurrentAdmissionPolicy out of the queue"
        assert sentences == [f"ClusterQueue team-a would have 17 flavors, and Kueue takes 16; {words}"]


def test_concurrent_admission_takes_one_resource_group() -> None:
    queue = with_cpu(cpu="8")
    queue["spec"]["resourceGroups"][0]["coveredResources"] = ["cpu"]
    queue["spec"]["resourceGroups"][0]["flavors"][0]["resources"] = [{"name": "cpu", "nominalQuota": "8"}]
    queue["spec"]["concurrentAdmissionPolicy"] = {"mode": "TryAll"}
    found = wants(plan(), inventory(exclusive("n")), standing([queue]))
    assert "would have 2 resource groups, and Kueue takes 1" in found.problems[0].sentence


def with_cpu(*, cohort: str = "", cpu: str = "0", gpus: str = "0") -> Object:
    """A ClusterQueue made by hand that counts cpu beside GPUs."""
    quotas = [{"name": GPU, "nominalQuota": gpus}, {"name": "cpu", "nominalQuota": cpu}]
    group = {"coveredResources": [GPU, "cpu"], "flavors": [{"name": "old", "resources": quotas}]}
    spec = {"namespaceSelector": {}, "resourceGroups": [group], **({"cohortName": cohort} if cohort else {})}
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ClusterQueue",
        "metadata": {"name": "team-a"},
        "spec": spec,
    }


def test_a_queue_that_counts_what_its_plan_no_longer_covers_is_told() -> None:
    pools = inventory(exclusive("n"))
    covered = applied(standing([with_cpu()]), wants(plan(cover=["cpu"]), pools, standing([with_cpu()])))
    assert nominals(covered.cluster_queues["team-a"])[WHOLE, "cpu"] != "0"
    assert wants(plan(cover=["cpu"]), pools, covered).problems == ()
    dropped = wants(plan(), pools, covered)
    (problem,) = dropped.problems
    assert (problem.code, problem.kind, problem.name) == ("CoverMissing", "ClusterQueue", "team-a")
    assert not problem.refused
    assert problem.sentence == (
        "ClusterQueue team-a counts cpu beside the GPUs and has none of it in h100-80gb-exclusive, so nothing that "
        "asks for cpu is admitted there; add cover: [cpu] to QuotaPlan research, or give those flavors cpu in the queue"
    )
    after, known = applied(covered, dropped), PlanCache()
    for _ in range(2):  # and as long as it is so
        assert desired_of(plan(), pools, NAMESPACES, after, known).problems == (problem,)
    given = deepcopy(after.cluster_queues["team-a"])
    for flavor in given["spec"]["resourceGroups"][0]["flavors"]:
        for quota in flavor["resources"]:
            quota["nominalQuota"] = "9" if quota["name"] == "cpu" else quota["nominalQuota"]
    assert wants(plan(), pools, standing([given, *after.flavors.values()])).problems == ()


def test_what_a_cohort_has_of_a_resource_may_be_borrowed(monkeypatch: pytest.MonkeyPatch) -> None:
    pools, research = inventory(exclusive("n")), plan(cover=["cpu"], cohort="lab")
    covered = applied(
        standing([with_cpu(cohort="lab")]), wants(research, pools, standing([with_cpu(cohort="lab")]))
    )
    lender = deepcopy(covered.cluster_queues["team-a"])
    lender["metadata"] = {"name": "lender"}
    everything = [*covered.flavors.values(), *covered.cluster_queues.values()]
    without = plan(cohort="lab")
    assert wants(without, pools, standing([*everything, lender])).problems == ()
    assert [each.code for each in wants(without, pools, standing(everything)).problems] == ["CoverMissing"]
    # Another queue decides this too, so what a pass remembers of a queue must not answer for it.
    known, after = PlanCache(), applied(standing([*everything, lender]), wants(without, pools, covered))
    assert desired_of(without, pools, NAMESPACES, after, known).problems == ()
    monkeypatch.delattr("queue_sync.planning.kueue.merge.merge")  # it is remembered now, and not merged again
    alone = replace(
        after, objects={**after.objects, CLUSTER_QUEUE: {"team-a": after.cluster_queues["team-a"]}}
    )
    assert [each.code for each in desired_of(without, pools, NAMESPACES, alone, known).problems] == [
        "CoverMissing"
    ]


def test_a_queue_that_is_worked_out_anew_or_written_is_a_step_and_one_that_was_right_is_none() -> None:
    """So a plan of hundreds of queues keeps nobody waiting, neither at the start nor at an event."""
    pools, research, known = inventory(exclusive("n")), plan(queues=TEAMS), PlanCache()
    existing = standing([])
    for steps in (2 * len(TEAMS), len(TEAMS), 0):
        assert sum(1 for _ in steps_to(research, pools, NAMESPACES, existing, known)) == steps
        existing = applied(existing, desired_of(research, pools, NAMESPACES, existing))


def test_the_order_of_everything_that_comes_in_changes_nothing() -> None:
    nodes = [mixed("n1", {"1g.10gb": 7}), exclusive("n2"), sliced("n3")]
    one = wants([plan("b", queues=TEAMS)], inventory(*nodes))
    other = wants([plan("b", queues=dict(reversed(TEAMS.items())))], inventory(*reversed(nodes)))
    assert one == other


@pytest.mark.parametrize("mode", ["write", "report"])
def test_the_mode_changes_nothing_in_what_is_wanted(mode: str) -> None:
    assert wants(plan(mode=mode), inventory(exclusive("n"))).changes
