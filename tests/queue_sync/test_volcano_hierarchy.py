"""What is judged of a plan's Queues together: parents, states, what runs, and the sentences about them."""

from typing import Any

import pytest

from queue_sync.planning.changes import Change, ChangeSet
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.desired import desired
from queue_sync.planning.observed import Object, ObservedState, project, without_status
from queue_sync.planning.volcano import usage as volcano_use
from slicewise.kube.object_types import VOLCANO_QUEUE
from tests.queue_sync.scenes import GPU, ONE, exclusive, inventory, mixed, plan
from tests.queue_sync.test_plan import applied, standing
from tests.queue_sync.volcano_webhook import find_conflicts

SEVEN = inventory(mixed("n", {"1g.10gb": 7}))
TEAMS = {"a": 3, "b": 1}
MANAGED = {"labels": {"slicewise.io/managed": "true"}}


def queue(name: str, spec: Any = None, status: Any = None, **metadata: Any) -> Object:
    """A Queue as Volcano v1.14 has it."""
    return {
        "apiVersion": "scheduling.volcano.sh/v1beta1",
        "kind": "Queue",
        "metadata": {"name": name, **metadata},
        "spec": {"dequeueStrategy": "traverse", "parent": "root", **(spec or {})},
        "status": status or {"state": "Open"},
    }


def wants(*queues: Object, pools: Any = SEVEN, cohort: str | None = "lab", **spec: Any) -> ChangeSet:
    research = plan(engine="volcano", queues=spec.pop("queues", TEAMS), cohort=cohort, **spec)
    return desired([research], pools, {}, standing([queue("default"), *queues]))


def refused(found: ChangeSet) -> str:
    (problem,) = found.problems
    assert problem.refused
    assert found.changes == ()
    return problem.sentence


def test_a_queue_with_pods_is_no_parent() -> None:
    busy = queue("lab", status={"state": "Open", "allocated": {"pods": "2", "cpu": "1"}}, **MANAGED)
    assert "makes Queue lab a parent, but pods run in it" in refused(wants(busy))


def test_a_queue_in_which_work_may_wait_is_no_parent_until_somebody_says_so() -> None:
    assert "label it slicewise.io/managed=true when nothing is submitted to it" in refused(
        wants(queue("lab"))
    )
    assert wants(queue("lab", **MANAGED)).problems == ()
    assert wants(queue("lab"), queue("other", {"parent": "lab"})).problems == ()


def test_a_parent_is_not_below_its_children() -> None:
    found = wants(queue("lab", {"parent": "mid"}, **MANAGED), queue("mid", {"parent": "a"}), queue("a"))
    assert "puts a below lab, and Queue lab is below a now" in refused(found)


def test_what_the_plan_gives_away_is_deserved_by_nobody_else_below_the_parent() -> None:
    other = queue("other", {"parent": "lab", "deserved": {ONE: "1"}})
    assert "Queue other below lab deserves 1 of it too; list it in the plan" in refused(
        wants(queue("lab"), other)
    )
    idle = queue("other", {"parent": "lab", "deserved": {ONE: "0", "cpu": "4"}})
    found = wants(queue("lab", {"deserved": {"cpu": "4"}}), idle)
    assert found.problems == ()


def test_a_queue_below_another_parent_is_left() -> None:
    found = wants(queue("a", {"parent": "elsewhere"}))
    (problem,) = found.problems
    assert (problem.code, problem.refused) == ("QueueElsewhere", False)
    assert "set its parent to lab when it runs nothing, or take it out of the plan" in problem.sentence
    assert [change.document["metadata"]["name"] for change in found.changes] == ["lab", "b"]


@pytest.mark.parametrize("cohort", [None, "other"])
@pytest.mark.parametrize("slices", [7, 3])
def test_a_former_parent_keeps_what_its_children_have(cohort: str | None, slices: int) -> None:
    before = applied(standing([queue("default")]), wants())
    moved = plan(engine="volcano", queues=TEAMS, cohort=cohort)
    found = desired([moved], inventory(mixed("n", {"1g.10gb": slices})), {}, before)
    (problem,) = (each for each in found.problems if each.code == "ParentNeeded")
    assert "Queue lab is no longer in QuotaPlan research" in problem.sentence
    assert "because a, b below it cannot have more than that; set their parent to root" in problem.sentence
    assert "lab" not in {change.document["metadata"]["name"] for change in found.changes}
    stand = dict(before.queues)
    for change in found.changes:
        assert change.after is not None
        assert list(find_conflicts(change.after, stand, per_key=True)) == []
        stand[change.after["metadata"]["name"]] = change.after
    freed = {**stand, "a": queue("a"), "b": queue("b")}
    found = desired([moved], SEVEN, {}, ObservedState({VOLCANO_QUEUE: freed}))
    (lab,) = (each for each in found.objects if each["metadata"]["name"] == "lab")
    assert lab["spec"]["deserved"] == {ONE: "0"}


def test_a_name_that_the_plan_gives_up_stays_with_others_below_its_parent() -> None:
    before = applied(standing([queue("default")]), wants(pools=inventory(exclusive("n"))))
    guest = queue("guest", {"parent": "lab", "deserved": {GPU: "5"}, "capability": {GPU: "5"}})
    stand = {**before.queues, "guest": guest}
    found = desired(
        [plan(engine="volcano", queues=TEAMS, cohort="lab")], SEVEN, {}, ObservedState({VOLCANO_QUEUE: stand})
    )
    (lab,) = (each for each in found.objects if each["metadata"]["name"] == "lab")
    assert lab["spec"]["deserved"] == lab["spec"]["capability"] == {GPU: "5", ONE: "7"}


def test_a_queue_comes_below_the_parent_when_its_sisters_have_made_room() -> None:
    before = applied(standing([queue("default")]), wants(queues={"b": 1}))
    full = queue("a", {"deserved": {ONE: "9"}, "capability": {ONE: "9"}})
    stand: dict[str, Object] = {**before.queues, "a": full}
    found = desired(
        [plan(engine="volcano", queues=TEAMS, cohort="lab")], SEVEN, {}, ObservedState({VOLCANO_QUEUE: stand})
    )
    for change in found.changes:
        assert change.after is not None
        assert list(find_conflicts(change.after, stand, per_key=True)) == []
        stand[change.after["metadata"]["name"]] = change.after
    assert stand["a"]["spec"]["parent"] == "lab"


def test_a_parent_that_becomes_a_queue_is_told() -> None:
    before = applied(standing([queue("default")]), wants())
    found = desired([plan(engine="volcano", queues={"lab": 1})], SEVEN, {}, before)
    assert [problem.code for problem in found.problems] == ["QueueIsParent"]
    assert "Queue lab has a, b below it" in found.problems[0].sentence
    alone = {name: each for name, each in before.queues.items() if name not in TEAMS}
    found = desired(
        [plan(engine="volcano", queues={"lab": 1})], SEVEN, {}, ObservedState({VOLCANO_QUEUE: alone})
    )
    assert found.problems == ()


@pytest.mark.parametrize("state", ["Closing", "Unknown"])
def test_a_queue_that_takes_no_write_is_waited_for(state: str) -> None:
    before = applied(ObservedState({VOLCANO_QUEUE: {"default": project(queue("default"))}}), wants())
    closing = {**before.queues["a"], "status": {"state": state}}
    before = ObservedState({VOLCANO_QUEUE: {**before.queues, "a": closing}})
    less = plan(engine="volcano", queues=TEAMS, cohort="lab")
    found = desired([less], inventory(mixed("n", {"1g.10gb": 3})), {}, before)
    assert f"Queue a is {state}, and Volcano takes no change of it" in found.problems[0].sentence
    assert not found.problems[0].refused
    # b may give back what it has; neither it nor their parent may count on a.
    assert [change.document["metadata"]["name"] for change in found.changes] == ["b"]
    flat = plan(engine="volcano", queues=TEAMS)
    found = desired(
        [flat], SEVEN, {}, standing([queue("default"), queue("a", status={"state": state}), queue("b")])
    )
    assert [change.document["metadata"]["name"] for change in found.changes] == ["b"]


def test_a_guarantee_is_carried_by_a_parent_and_given_back() -> None:
    kept = queue(
        "a",
        {"deserved": {ONE: "4"}, "guarantee": {"resource": {ONE: "4"}}},
    )
    found = wants(kept)
    (lab,) = (each for each in found.objects if each["metadata"]["name"] == "lab")
    assert lab["spec"]["guarantee"] == {"resource": {ONE: "4"}}
    assert found.problems == ()
    before = applied(standing([queue("default"), kept]), found)
    less = desired(
        [plan(engine="volcano", queues=TEAMS, cohort="lab")],
        inventory(mixed("n", {"1g.10gb": 2})),
        {},
        before,
    )
    assert [problem.code for problem in less.problems] == ["GuaranteeLowered"]
    (lab,) = (each for each in less.objects if each["metadata"]["name"] == "lab")
    assert lab["spec"]["guarantee"] == {"resource": {ONE: "2"}}
    assert wants_nothing(applied(before, less))


def wants_nothing(existing: ObservedState) -> bool:
    research = plan(engine="volcano", queues=TEAMS, cohort="lab")
    return desired([research], inventory(mixed("n", {"1g.10gb": 2})), {}, existing).changes == ()


def test_what_runs_is_no_edit_and_no_write() -> None:
    before = applied(ObservedState({VOLCANO_QUEUE: {"default": project(queue("default"))}}), wants())
    busy = {
        name: {**each, "status": {"state": "Open", "allocated": {ONE: "1"}}}
        for name, each in before.queues.items()
    }
    found = desired(
        [plan(engine="volcano", queues=TEAMS, cohort="lab")], SEVEN, {}, ObservedState({VOLCANO_QUEUE: busy})
    )
    assert found.changes == ()
    assert without_status(busy["a"]) == without_status(before.queues["a"])


def test_of_a_status_only_what_is_spoken_about_is_kept() -> None:
    allocated = {
        "cpu": "3",
        "memory": "1Gi",
        "pods": "40",
        ONE: "2",
        "nvidia.com/gpu": "0",
        "amd.com/gpu": "1",
    }
    found = project(
        queue("a", {"deserved": {"memory": "2Gi"}}, {"state": "Open", "allocated": allocated, "pending": 3})
    )
    assert found["status"] == {"state": "Open", "allocated": {"memory": "1Gi", "pods": "1", ONE: "2"}}


def test_use_is_held_against_what_may_run() -> None:
    owned = '{"flavors":[],"resources":["nvidia.com/mig-1g.10gb","cpu"],"added":[]}'
    spec = {"deserved": {ONE: "1", "cpu": "2"}, "capability": {ONE: "3"}}
    busy = queue(
        "a", spec, {"allocated": {ONE: "4", "cpu": "2500m"}}, annotations={"slicewise.io/owned": owned}
    )
    assert volcano_use.quota(busy) == {ONE: 1, "cpu": 2000}
    existing = ObservedState({VOLCANO_QUEUE: {"a": busy}})
    over = [each.sentence for each in volcano_use.usage(ClusterState(existing=existing, nodes_read=True))]
    assert [words.split("; ")[0] for words in over] == [
        "Queue a runs 2500m cpu and may run 2",
        f"Queue a runs 4 {ONE} and may run 3",
    ]
    assert list(volcano_use.below_use(Change("lab", busy, busy), existing)) == []
    less = {**busy, "spec": {**spec, "capability": {ONE: "2"}}}
    (below,) = volcano_use.below_use(Change("lab", busy, less), existing)
    assert below.startswith(f"Queue a may run 2 {ONE} and 4 run in it; nobody is evicted")
    assert list(volcano_use.below_use(Change("lab", None, less), ObservedState())) == []


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ("deserved should less equal than capability", "list there whatever the queue deserves"),
        (
            "queue lab cannot be the parent queue of queue a because it has allocated Pods: 2",
            "name another cohort",
        ),
        ("parent queue org validation failed: sum of children's deserved", "raise what its parent deserves"),
        ("something else", ""),
    ],
)
def test_a_refusal_of_the_webhook_gets_a_fix(refusal: str, words: str) -> None:
    assert words in volcano_use.hint(refusal)
    assert bool(words) == bool(volcano_use.hint(refusal))


def test_a_pool_for_both_engines_is_refused_with_its_nodes() -> None:
    one, two = plan("k", "kueue"), plan("v", "volcano", {"q": 1})
    found = desired([one, two], inventory(exclusive("n2"), exclusive("n1")), {}, ObservedState())
    assert {change.plan for change in found.changes} == {"k"}
    assert [problem.plan for problem in found.problems] == ["v"]
    assert all("each hand out all of its nodes (n1, n2)" in problem.sentence for problem in found.problems)
    same = desired([one, plan("l")], inventory(exclusive("n1")), {}, ObservedState())
    assert all("hand out" not in problem.sentence for problem in same.problems)


def test_other_names_of_other_vendors_and_of_volcanos_own_sharing_are_left() -> None:
    own = {"volcano.sh/vgpu-number": "8", "volcano.sh/vgpu-memory": "80000", "huawei.com/Ascend910": "4"}
    found = wants(
        queue("a", {"deserved": own, "capability": own}), cohort=None, pools=inventory(exclusive("n"))
    )
    (spec,) = (each["spec"] for each in found.objects if each["metadata"]["name"] == "a")
    assert spec["deserved"] == {**own, GPU: "6"}
    assert spec["capability"] == {**own, GPU: "6"}
