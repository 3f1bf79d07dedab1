"""UPDATE repeats the recorded decision; only a person who changes the request is asked anew."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.api import keys
from slicewise.api.quantities import count
from tests.admission.building import (
    EVERY,
    GPU,
    SHARED,
    SLICE,
    Object,
    annotated,
    asking,
    container,
    created,
    deployment,
    devices,
    labelled,
    notebook,
    owned,
    pod,
    pod_of,
    pod_spec,
    policy,
    review,
    spec_of,
    world,
)
from tests.admission.generating import FLEETS, POLICY, REQUIRED, all_containers, asked, items, prune
from tests.admission.kinds import NAMES, manifest, put

Build = Callable[..., Object]


def jobset(*containers: Object, metadata: Object | None = None) -> Object:
    """A custom resource that holds its templates in a list."""
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": "set", "namespace": "team", **(metadata or {})},
        "spec": {
            "replicatedJobs": [
                {"name": name, "template": {"spec": {"template": {"spec": pod(*containers)["spec"]}}}}
                for name in ("one", "two")
            ]
        },
    }


def limits(item: Object) -> Object:
    """The limits of the first container."""
    found: Object = pod_spec(item)["containers"][0]["resources"]["limits"]
    return found


def wiped(item: Object) -> Object:
    """The same object after its owner has written back labels and annotations as it rendered them."""
    bare = deepcopy(item)
    bare["metadata"].pop("annotations", None)
    if "metadata" in bare["spec"].get("template", {}):
        bare["spec"]["template"]["metadata"].pop("annotations", None)
    return bare


def both(live: Object, manifest: Object) -> Object:
    """What a three-way apply of the manifest makes of the live object: keys are added, none are taken."""
    merged = deepcopy(live)
    limits(merged).update(limits(manifest))
    return merged


CASES: dict[str, tuple[Build, str, tuple[str, ...], int]] = {
    f"{build.__name__} {class_name} on {'+'.join(nodes)}": (build, class_name, nodes, number)
    for build in (deployment, notebook)
    for class_name, nodes, number in (
        ("inference", ("mixed",), 1),
        ("inference", ("single", "whole"), 1),
        ("inference", ("mixed", "whole"), 2),
        ("notebook", ("time",), 1),
        ("notebook", ("time-renamed",), 1),
        ("training", ("whole",), 4),
    )
}


@pytest.mark.parametrize(("build", "class_name", "nodes", "number"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("how", ["old name only", "both names", "annotations wiped", "nothing"])
def test_applying_the_manifest_again_changes_nothing(
    build: Build, class_name: str, nodes: tuple[str, ...], number: int, how: str
) -> None:
    known = world(*nodes)
    manifest = build(container(gpus=number), container("side", None), metadata=labelled(class_name))
    live = created(known, manifest)
    new = {
        "old name only": lambda: deepcopy(manifest),
        "both names": lambda: both(live, manifest),
        "annotations wiped": lambda: wiped(live),
        "nothing": lambda: deepcopy(live),
    }[how]()
    answered = review(known, new, live)
    assert json.dumps(normal(answered.item), sort_keys=True) == json.dumps(normal(live), sort_keys=True)
    assert answered.outcome == ("repeated" if answered.operations else "unchanged")
    assert review(known, answered.item, live).operations == []


def normal(item: Object) -> Object:
    """The same object with one spelling for each number of GPUs: a quantity means the same in all of them."""
    text = json.dumps(item)
    found: Object = json.loads(
        text, object_hook=lambda o: {key: count(each) if key == GPU else each for key, each in o.items()}
    )
    return found


@pytest.mark.parametrize("class_name", ["inference", "training"])
def test_a_list_of_templates_that_is_replaced_is_rewritten_again(class_name: str) -> None:
    known = world("mixed", "whole")
    manifest = jobset(metadata=labelled(class_name))
    live = created(known, manifest)
    replaced = {**deepcopy(live), "spec": deepcopy(manifest["spec"])}
    assert review(known, replaced, live).item == live
    assert review(known, deepcopy(manifest), live).item == live


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {keys.POLICY: "other"}},
        {"labels": {keys.POLICY: "nobody"}},
        {"labels": {keys.WORKLOAD_CLASS: "training"}},
        {"labels": {keys.MODE: "off"}},
        {"labels": {keys.MODE: "audit"}},
        {"labels": {keys.POLICY: ""}},
        {"nodes": ("whole",)},
        {"policies": (policy({"training": {"strategy": "exclusive"}}),)},
    ],
    ids=["policy", "a policy that is not there", "class", "off", "audit", "opted out", "other pools", "another policy"],
)  # fmt: skip
def test_a_decision_stands_whatever_became_of_the_namespace_and_the_cluster(change: Object) -> None:
    manifest = deployment(metadata=labelled("inference"))
    live = created(world("mixed"), manifest)
    later = world(*change.pop("nodes", EVERY), **change)
    assert review(later, both(live, manifest), live).item == live


@pytest.mark.parametrize(
    ("key", "metadata"),
    [
        (keys.WORKLOAD_CLASS, labelled("training")),
        (keys.GPU_MEMORY, {**labelled("inference"), **annotated(gpu_memory="30Gi")}),
        (keys.PROFILE, {**labelled("inference"), **annotated(profile="3g.40gb")}),
        (keys.NEEDS, {**labelled("inference"), **annotated(needs="throughput")}),
        (keys.REWRITE, {**labelled("inference"), **annotated(rewrite="false")}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("build", [deployment, jobset])
def test_a_decision_stands_whatever_a_person_says_of_it_later_and_he_is_told(
    key: str, metadata: Object, build: Build
) -> None:
    known = world("mixed", "whole")
    live = created(known, build(metadata=labelled("inference")))
    answered = review(known, build(metadata=metadata), live)
    assert answered.item["spec"] == live["spec"]
    (warning,) = answered.warnings
    assert warning == (
        f"{live['kind']} team/{live['metadata']['name']}: what was decided when it asked for its GPUs stands, "
        f"although {key} says something else now; create it anew to have it decided again"
    )
    assert review(known, answered.item, answered.item).warnings == []


def test_what_is_wiped_is_not_said_anew() -> None:
    known = world("mixed")
    live = created(known, deployment(metadata={**labelled("inference"), **annotated(gpu_memory="8Gi")}))
    assert review(known, wiped(live), live).warnings == []


# --- A changed request ------------------------------------------------------------------------------------


@pytest.mark.parametrize("merged", [True, False], ids=["both names", "new manifest"])
def test_another_count_decides_anew(*, merged: bool) -> None:
    known = world("mixed", "whole")
    manifest = deployment(container(gpus=1), metadata=labelled("inference"))
    live = created(known, manifest)
    more = deployment(container(gpus=2), metadata=labelled("inference"))
    answered = review(known, both(live, more) if merged else more, live)
    assert devices(answered.item) == {"main": {GPU: "2"}}
    assert answered.decision["pools"] == ["h100-80gb-exclusive"]
    assert answered.outcome == "rewritten"
    assert answered.item == review(known, answered.item, answered.item).item


def test_a_new_decision_takes_the_old_steering_with_it() -> None:
    known = world("single", "whole")
    live = created(known, deployment(metadata=labelled("inference")))
    assert "a100-80gb-mig-single-1g-10gb" in str(pod_spec(live)["affinity"])
    more = both(live, deployment(container(gpus=2)))
    answered = review(known, more, live)
    assert answered.allowed
    (term,) = pod_spec(answered.item)["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [
        {"key": keys.POOL, "operator": "In", "values": ["h100-80gb-exclusive"]}
    ]
    assert answered.decision["pools"] == ["h100-80gb-exclusive"]


def test_back_from_whole_gpus_to_a_slice() -> None:
    known = world("mixed", "whole")
    live = created(known, deployment(container(gpus=2), metadata=labelled("inference")))
    answered = review(known, both(live, deployment(container(gpus=1))), live)
    assert devices(answered.item) == {"main": {SLICE: "1"}}
    assert "h100-80gb-exclusive" not in str(pod_spec(answered.item))


def test_a_container_that_asks_for_the_first_time_decides_anew() -> None:
    known = world("mixed")
    live = created(known, deployment(container(), container("late", None), metadata=labelled("inference")))
    more = deepcopy(live)
    pod_spec(more)["containers"][1]["resources"] = {"limits": {GPU: 1}}
    assert devices(review(known, more, live).item) == {"main": {SLICE: "1"}, "late": {SLICE: "1"}}


def test_a_changed_request_that_the_policy_refuses_is_refused() -> None:
    known = world("time-renamed")
    live = created(known, deployment(metadata=labelled("notebook")))
    answered = review(known, both(live, deployment(container(gpus=2))), live)
    assert "asks for 2 GPUs, but class notebook" in answered.message


@pytest.mark.parametrize("class_name", ["inference", "training"])
def test_a_template_that_asks_for_nothing_any_more_is_left_alone(class_name: str) -> None:
    known = world("mixed", "whole")
    live = created(known, deployment(metadata=labelled(class_name)))
    none = deployment(container(gpus=None), metadata=labelled(class_name))
    assert review(known, none, live).operations == []


def test_a_slice_that_a_person_names_instead_is_left_alone() -> None:
    known = world("single", "mixed")
    live = created(known, deployment(metadata=labelled("inference")))
    named = deployment(asking({"nvidia.com/mig-3g.40gb": 1}), metadata=labelled("inference"))
    assert review(known, named, live).operations == []


def test_another_number_of_the_slice_that_was_given_is_a_persons_own_request() -> None:
    known = world("mixed")
    manifest = deployment(container(), container("other"), metadata=labelled("inference"))
    live = created(known, manifest)
    edited = deepcopy(live)
    limits(edited)[SLICE] = "3"
    answered = review(known, edited, live)
    assert devices(answered.item) == {"main": {SLICE: "3"}, "other": {SLICE: "1"}}
    assert review(known, deepcopy(manifest), answered.item).item == live


NO_MORE: dict[str, tuple[Object, Object]] = {
    "opted out": ({"labels": {keys.POLICY: "default", keys.MODE: "off"}}, {}),
    "in audit": ({"labels": {keys.MODE: "audit"}}, {}),
    "the workload opts out": ({}, annotated(rewrite="false")),
    "nothing fits": (
        {
            "policies": (
                policy(
                    {"inference": {"strategy": "vgpu"}, "notebook": {"strategy": "vgpu"}},
                    whenNothingFits="leave",
                ),
            )
        },
        {},
    ),
}


@pytest.mark.parametrize(("change", "metadata"), NO_MORE.values(), ids=NO_MORE)
@pytest.mark.parametrize("nodes", [("mixed", "whole"), ("time-renamed", "whole")], ids="+".join)
def test_no_pod_ever_asks_for_both_names(change: Object, metadata: Object, nodes: tuple[str, ...]) -> None:
    class_name = "inference" if "mixed" in nodes else "notebook"
    live = created(world(*nodes), deployment(metadata=labelled(class_name)))
    more = both(live, deployment(container(gpus=3)))
    more["metadata"]["annotations"] |= metadata.get("annotations", {})
    answered = review(world(*nodes, **change), more, live)
    assert answered.allowed
    assert devices(answered.item) == {"main": {GPU: "3"}}


@pytest.mark.parametrize(("change", "metadata"), NO_MORE.values(), ids=NO_MORE)
def test_what_is_left_keeps_no_record_of_what_it_was_given(change: Object, metadata: Object) -> None:
    live = created(world(), deployment(metadata=labelled("inference")))
    edited = deepcopy(live)
    edited["metadata"]["annotations"] |= metadata.get("annotations", {})
    limits(edited).clear()
    limits(edited)[GPU] = 3
    answered = review(world(**change), edited, live)
    assert devices(answered.item) == {"main": {GPU: "3"}}
    assert keys.DECISION not in str(answered.item)
    assert review(world(**change), answered.item, live).operations == []
    assert review(world(), answered.item, answered.item).operations == [], (
        "it was as it is when nothing was decided"
    )


# --- What stood before ------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [deployment, notebook, jobset])
def test_opting_in_under_running_work_changes_nothing(build: Build) -> None:
    live = build(metadata=labelled("inference"))
    for new in (live, {**live, "metadata": {**live["metadata"], "labels": {"x": "y"}}}):
        answered = review(world(), deepcopy(new), live)
        assert (answered.outcome, answered.operations) == ("unchanged", [])


def test_work_from_before_is_decided_once_a_person_changes_its_request() -> None:
    live = deployment(container(gpus=1), metadata=labelled("inference"))
    answered = review(
        world("mixed", "whole"), deployment(container(gpus=2), metadata=labelled("inference")), live
    )
    assert devices(answered.item) == {"main": {GPU: "2"}}
    assert answered.outcome == "rewritten"


def test_a_queue_label_is_kept_through_an_update() -> None:
    known = world(labels={keys.QUEUE: "fast"})
    manifest = deployment()
    live = created(known, manifest)
    assert review(known, manifest, live).item["metadata"]["labels"] == {keys.KUEUE_QUEUE: "fast"}


# --- Owners and children ----------------------------------------------------------------------------------


def replica_set(**parts: Any) -> Object:
    return {**deployment(**parts), "kind": "ReplicaSet"}


@pytest.mark.parametrize(
    ("child", "owner", "version"),
    [
        (replica_set(), "Deployment", "apps/v1"),
        (replica_set(), "Rollout", "argoproj.io/v1alpha1"),
        ({**deployment(), "kind": "StatefulSet"}, "Notebook", "kubeflow.org/v1"),
        (deployment(), "InferenceService", "serving.kserve.io/v1beta1"),
        ({**deployment(), "kind": "StatefulSet"}, "LeaderWorkerSet", "leaderworkerset.x-k8s.io/v1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_child_that_its_owner_compares_is_never_touched(child: Object, owner: str, version: str) -> None:
    item = owned(child, owner, version)
    assert review(world(), item).operations == []
    assert review(world(), item, item).operations == []
    bad = owned({**child, "metadata": {**child["metadata"], **labelled("nonsense")}}, owner, version)
    assert review(world(), bad).outcome == "ignored"


def job(**parts: Any) -> Object:
    item = {**deployment(**parts), "apiVersion": "batch/v1", "kind": "Job"}
    item["spec"] = {"template": item["spec"]["template"]}
    return item


def test_a_job_of_a_cronjob_is_rewritten_and_then_done() -> None:
    known = world("mixed")
    item = owned(job(metadata=labelled("inference")), "CronJob", "batch/v1")
    assert devices(created(known, item)) == {"main": {SLICE: "1"}}

    manifest = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly", "namespace": "team", **labelled("inference")},
        "spec": {"schedule": "@daily", "jobTemplate": {"spec": job()["spec"]}},
    }
    cron = created(known, manifest)
    assert review(known, deepcopy(manifest), cron).item == cron
    child = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "nightly-1", "namespace": "team"},
        "spec": cron["spec"]["jobTemplate"]["spec"],
    }
    assert devices(child) == {"main": {SLICE: "1"}}
    assert review(known, owned(child, "CronJob", "batch/v1")).operations == []


@pytest.mark.parametrize(("build", "class_name", "nodes", "number"), CASES.values(), ids=CASES)
def test_a_pod_of_a_rewritten_template_is_done(
    build: Build, class_name: str, nodes: tuple[str, ...], number: int
) -> None:
    # ... whose own labels say nothing of the class that the object has.
    known = world(*nodes, "whole")
    live = created(
        known, build(container(gpus=number), container("side", None), metadata=labelled(class_name))
    )
    answered = review(known, pod_of(live))
    assert (answered.allowed, answered.operations, answered.warnings) == (True, [], [])


@pytest.mark.parametrize("build", [deployment, notebook])
def test_a_pod_of_a_rewritten_template_is_done_while_its_pool_is_gone(build: Build) -> None:
    live = created(world("time"), build(metadata=labelled("notebook")))
    assert review(world("whole"), pod_of(live)).operations == []


def test_a_pod_that_a_controller_steers_to_what_no_class_gets_is_decided() -> None:
    known = world("mixed", "whole", policies=(ONLY,))
    term = {"matchExpressions": [{"key": keys.POOL, "operator": "In", "values": ["h100-80gb-exclusive"]}]}
    affinity = {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}
    item = owned(pod(affinity=affinity), "ReplicaSet")
    assert "no pool can serve class inference" in review(known, item).message


def test_a_bare_pod_whose_manifest_is_applied_again_stays_as_it_is() -> None:
    known = world("mixed")
    manifest = pod(container(), container("side", None), metadata=labelled("inference"))
    live = created(known, manifest)
    again = deepcopy(live)
    again["spec"]["containers"][0]["resources"]["limits"][GPU] = 1
    assert review(known, again, live).item == live


@pytest.mark.parametrize("gpus", [None, 2], ids=["a label", "a count, which the API server refuses"])
def test_a_pods_other_changes_are_none_of_ours(gpus: int | None) -> None:
    known = world("mixed", "whole")
    live = created(known, pod(metadata=labelled("inference")))
    new = deepcopy(live)
    new["metadata"]["labels"]["more"] = "x"
    if gpus:
        new["spec"]["containers"][0]["resources"]["limits"][GPU] = gpus
    assert review(known, new, live).operations == []


# --- Forged decisions -------------------------------------------------------------------------------------

ONLY = policy({"inference": {"strategy": "mig"}, "lab": {"strategy": "time-slicing"}})


def forged(to: str, count: int, strategy: str, *pools: str, class_name: str = "inference") -> Object:
    """A pod that says itself what was decided about it, and is steered as it says."""
    record = {
        "policy": "default",
        "class": class_name,
        "classFrom": "label",
        "strategy": strategy,
        "pools": list(pools),
        "containers": {"main": {"from": GPU, "to": to, "count": count, "asked": count}},
        "reason": "because",
        "steered": to == GPU,
    }
    term = {"matchExpressions": [{"key": keys.POOL, "operator": "In", "values": list(pools)}]}
    affinity = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    }
    return pod(
        asking({to: count}), metadata={"annotations": {keys.DECISION: json.dumps(record)}}, affinity=affinity
    )


FORGED: dict[str, Object] = {
    "a whole GPU where no class gets one": forged(GPU, 1, "exclusive", "h100-80gb-exclusive"),
    "a whole GPU called a share": forged(GPU, 1, "time-slicing", "h100-80gb-exclusive", class_name="lab"),
    "a whole GPU called a slice": forged(GPU, 1, "mig", "h100-80gb-exclusive"),
    "a share and a whole GPU at once": forged(
        GPU, 1, "time-slicing", "a10-time-slicing-x4", "h100-80gb-exclusive", class_name="lab"
    ),
    "shares added up": forged(GPU, 3, "time-slicing", "a10-time-slicing-x4", class_name="lab"),
    "a class that is none": forged(GPU, 1, "exclusive", "h100-80gb-exclusive", class_name="mine"),
}


@pytest.mark.parametrize("item", FORGED.values(), ids=FORGED)
@pytest.mark.parametrize("made_by", [None, "ReplicaSet"])
def test_a_forged_decision_is_worth_no_more_than_a_label(item: Object, made_by: str | None) -> None:
    known = world("mixed", "whole", "time", policies=(ONLY,))
    answered = review(known, owned(item, made_by) if made_by else item)
    # The pod's own affinity narrows the pools, so that nothing the policy gives is left, or shares are too many.
    assert not answered.allowed or answered.decision["reason"] != "because"


def test_a_decision_as_the_policy_would_have_made_it_is_taken_at_its_word() -> None:
    known = world("mixed", "whole", "time", policies=(ONLY,))
    assert (
        review(known, forged(GPU, 1, "time-slicing", "a10-time-slicing-x4", class_name="lab")).operations
        == []
    )
    assert review(known, forged(GPU, 4, "exclusive", "h100-80gb-exclusive")).operations == []


@pytest.mark.parametrize(
    "text",
    ["", "{}", "null", "not json", "[" * 100_000, '{"x": ' + "[" * 100_000, '{"policy": 1}'],
    ids=lambda text: text[:10],
)
def test_a_decision_that_cannot_be_read_is_none(text: str) -> None:
    item = deployment(metadata={"annotations": {keys.DECISION: text}, **labelled("inference")})
    answered = review(world("mixed"), item)
    assert devices(answered.item) == {"main": {SLICE: "1"}}
    assert review(world("mixed"), item, item).operations == []


def test_renamed_shares_may_stand_on_a_pod_by_name() -> None:
    assert review(world("time-renamed"), pod(asking({SHARED: 1}))).operations == []


# --- Whatever comes ---------------------------------------------------------------------------------------


@given(items(), FLEETS)
def test_whatever_came_applying_it_again_changes_nothing(item: Object, fleet: tuple[str, ...]) -> None:
    known = world(*fleet, policies=(POLICY,))
    answered = review(known, item)
    if not answered.operations:
        return
    live = answered.item
    assert review(known, unshared(live), live).operations == []
    assert normal(review(known, unshared(item), live).item) == normal(live)
    assert normal(review(world("vgpu"), unshared(item), live).item) == normal(live), (
        "whatever the cluster is now"
    )
    merged = unshared(live)
    for now, before in zip(all_containers(merged), all_containers(item), strict=True):
        for kind, amounts in (before.get("resources") or {}).items():
            if amounts:
                now["resources"][kind].update(amounts)
    assert normal(review(known, merged, live).item) == normal(live)


@given(items(), FLEETS, st.sampled_from([1, 2, 4]))
def test_whatever_came_a_changed_request_is_decided_as_if_it_were_new(
    item: Object, fleet: tuple[str, ...], number: int
) -> None:
    known = world(*fleet, policies=(POLICY,))
    answered = review(known, item)
    if not answered.operations or item["kind"] == "Pod":
        return
    live, changed, merged = answered.item, unshared(item), unshared(answered.item)
    for each in (changed, merged):
        for one in all_containers(each):
            if one["name"] in asked(item):
                for amounts in one["resources"].values():
                    if GPU in (amounts or {}) or any(
                        name.startswith("nvidia.com/") for name in amounts or {}
                    ):
                        amounts[GPU] = number
    if asked(changed) == asked(item) or number in record_of(live):
        return
    fresh = review(known, changed)
    for new in (changed, merged):
        updated = review(known, new, live)
        assert updated.allowed == fresh.allowed
        if updated.allowed:
            assert devices(updated.item) == devices(fresh.item)
            assert required_of(updated.item) == required_of(fresh.item)
            assert updated.decision == fresh.decision
            assert review(known, unshared(updated.item), updated.item).operations == []


def unshared(item: Object) -> Object:
    found: Object = json.loads(json.dumps(item))
    return found


def record_of(live: Object) -> set[int]:
    """Every count that the record of an object knows."""
    record = json.loads(live["metadata"]["annotations"][keys.DECISION])
    return {each[field] for each in record["containers"].values() for field in ("count", "asked")}


def required_of(item: Object) -> Any:
    node = (pod_spec(item).get("affinity") or {}).get("nodeAffinity") or {}
    return prune(node.get(REQUIRED))


# A Dynamo graph asks by a count alone, and a pod's requests never change.
@pytest.mark.parametrize("name", [name for name in NAMES if "Dynamo" not in name and name != "core_Pod"])
def test_asking_for_the_first_time_is_like_being_created(name: str) -> None:
    """A creation is an update of nothing, and so is an update of what asked for nothing."""
    item = manifest(name)
    before = json.loads(re.sub(r'"nvidia\.com/[^"]+"', '"example.com/none"', json.dumps(item)))
    known = world("mixed", "whole", "time")
    assert review(known, item, before).item == review(known, item).item


def test_a_record_that_names_some_parts_otherwise_is_no_record_of_them() -> None:
    """As an earlier version wrote it: all is decided anew, and comes to the same while the policy does."""
    known = world("mixed")
    item = manifest("tekton.dev_TaskRun", **labelled("inference"))
    live = created(known, item)
    old = deepcopy(live)
    record = json.loads(old["metadata"]["annotations"][keys.DECISION])
    record["containers"] = {name: each for name, each in record["containers"].items() if "(" not in name}
    assert record["containers"]
    old["metadata"]["annotations"][keys.DECISION] = json.dumps(record)
    assert review(known, deepcopy(old), old).allowed
    answered = review(known, item, old)
    assert answered.outcome == "rewritten"
    assert answered.item == live


# --- What a new object would be refused for ---------------------------------------------------------------

ELSEWHERE = {"zone": "nowhere"}
_TERM = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["nowhere"]}]}


@pytest.mark.parametrize(
    "fields",
    [
        {"nodeSelector": ELSEWHERE},
        {"nodeName": "nobody"},
        {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [_TERM]}}}},
        {"initContainers": [asking({"nvidia.com/mig-7g.80gb": 1}, "fetch")]},
        {"initContainers": [asking({SLICE: 99}, "fetch")]},
    ],
    ids=["selector", "node", "affinity", "a slice of other boards", "too many slices"],
)
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("again", [True, False], ids=["the manifest", "what stands"])
def test_an_update_says_what_a_new_object_would_be_refused_for(
    fields: Object, *, whole: bool, again: bool
) -> None:
    known = world("whole") if whole else world("mixed")
    metadata = labelled("training" if whole else "inference")
    live = created(known, deployment(metadata=metadata))
    wanted = deployment(metadata=metadata, **fields)
    refused = review(known, wanted)
    assert not refused.allowed
    new = wanted if again else deepcopy(live)
    if not again:
        spec = pod_spec(new)
        ours = spec.pop("affinity", None) if "affinity" in fields else None
        spec |= deepcopy(fields)
        if ours is not None:
            (term,) = ours["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
            spec["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"][0]["matchExpressions"] += term[
                "matchExpressions"
            ]
    answered = review(known, new, live)
    *others, words = answered.warnings
    assert words == f"{refused.message}; what was decided before stands, so its pods may wait for ever"
    assert all("which no pool offers" in each for each in others)
    assert devices(answered.item)["main"] == devices(live)["main"]
    assert review(known, answered.item, live).operations == []
    assert review(known, answered.item, answered.item).warnings == []  # it stood before


WRITTEN: dict[str, Object] = {
    "a slice that no pool offers": deployment(asking({"nvidia.com/mig-7g.80gb": "1"})),
    "a name that is nearly one": deployment(asking({"nvidia.com/gpus": "1"})),
    "a key that is nearly one": deployment(
        asking({SLICE: "1"}), metadata={"labels": {"slicewise.io/memory": "9Gi"}}
    ),
    "no number": deployment(container(gpus="many")),
    "for the pod as a whole": deployment(container(gpus=None), resources={"limits": {GPU: 1}}),
    "in requests alone": deployment({"name": "main", "image": "x", "resources": {"requests": {SLICE: "1"}}}),
    "a pipeline's patch": {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": "etl", "namespace": "team"},
        "spec": {"podSpecPatch": f'{{"containers":[{{"resources":{{"limits":{{"{GPU}":1}}}}}}]}}'},
    },
}


@pytest.mark.parametrize("mode", ["enforce", "audit"])
@pytest.mark.parametrize("item", WRITTEN.values(), ids=WRITTEN)
def test_an_update_says_of_what_it_brings_in_what_is_said_of_a_new_object(item: Object, mode: str) -> None:
    known = world("mixed", labels={keys.MODE: mode})
    new = review(known, item)
    assert new.warnings
    old = deepcopy(item)
    old["metadata"].pop("labels", None)
    if "template" in old["spec"]:
        old["spec"]["template"]["spec"] = spec_of(container(gpus=None))
    else:
        old["spec"] = {}
    answered = review(known, deepcopy(item), old)
    assert [each.removeprefix("audit: ") for each in answered.warnings] == [
        each.removeprefix("audit: ") for each in new.warnings
    ]
    assert answered.raw.deviation
    assert review(known, deepcopy(item), item).warnings == [], "it stood before"
    assert review(world("mixed", labels={keys.MODE: "off"}), deepcopy(item), old).warnings == []


@pytest.mark.parametrize(
    "said", [labelled("nobodys"), annotated(gpu_memory="many"), annotated(rewrite="no")], ids=str
)
def test_what_is_decided_on_in_its_pods_says_in_an_update_nothing_that_a_new_one_may_not(
    said: Object,
) -> None:
    known = world("mixed")
    asks = {"computeResources": {"limits": {GPU: 1}}}

    def task(metadata: Object, step: Object) -> Object:
        spec = {"steps": [{"name": "run", "image": "x", **step}]}
        metadata = {"name": "evaluate", "namespace": "team", **metadata}
        return {"apiVersion": "tekton.dev/v1", "kind": "Task", "metadata": metadata, "spec": spec}

    refused = review(known, task(said, asks))
    assert not refused.allowed
    for old in (task({}, asks), task(said, {}), task({}, {})):
        assert review(known, task(said, asks), old).message == refused.message
    assert review(known, task(said, asks), task(said, asks)).operations == []


def test_an_update_says_that_its_nodes_are_of_other_pools_than_what_was_decided() -> None:
    known = world("mixed", "single")
    live = created(known, deployment(metadata=labelled("inference")))
    selecting = {keys.POOL: "h100-80gb-mig-mixed"}
    answered = review(known, deployment(metadata=labelled("inference"), nodeSelector=selecting), live)
    (warning,) = answered.warnings
    assert warning == (
        "Deployment team/serve: what was decided before stands, with pools a100-80gb-mig-single-1g-10gb, although its "
        "nodeSelector, affinity, nodeName, tolerations or slices ask for h100-80gb-mig-mixed now; create it anew to "
        "have it decided again"
    )
    assert review(known, answered.item, answered.item).warnings == []


def test_an_update_that_the_pools_can_serve_is_no_news() -> None:
    known = world("mixed")
    live = created(known, deployment(metadata=labelled("inference")))
    fields: Object = {
        "nodeSelector": {keys.POOL: "h100-80gb-mig-mixed"},
        "tolerations": [{"operator": "Exists"}],
    }
    assert review(known, deployment(metadata=labelled("inference"), **fields), live).warnings == []


@pytest.mark.parametrize(
    "said",
    [
        {"gpu_memory": "rubbish"},
        {"profile": "16Gi"},
        {"needs": "speed"},
        {"gpu_memory": "16Gi", "profile": "1g.10gb"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "before", [{GPU: "1"}, {SLICE: "2"}], ids=["it was given a slice", "it named its slices before"]
)
def test_what_means_nothing_is_refused_of_an_update_too_that_names_its_slices_itself(
    said: dict[str, str], before: Object
) -> None:
    known = world("mixed")
    live = created(known, deployment(asking(before), metadata=labelled("inference")))
    metadata = {**labelled("inference"), **annotated(**said)}
    wanted = deployment(asking({"nvidia.com/mig-2g.20gb": 1}), metadata=metadata)
    assert review(known, wanted, live).message == review(known, wanted).message
    stood = put(deepcopy(live), "metadata.annotations", metadata["annotations"])
    assert review(known, wanted, stood).allowed


def test_a_spark_application_that_names_its_slices_anew_is_refused_what_a_new_one_is() -> None:
    known = world("mixed", policies=(policy({"inference": {"strategy": "mig"}}, allow=[]),))
    first = manifest("sparkoperator.k8s.io_SparkApplication")
    live = created(known, first)
    wanted = put(deepcopy(first), "spec.executor.gpu", {"name": "nvidia.com/mig-2g.20gb", "quantity": 1})
    put(wanted, "metadata.annotations", {keys.PROFILE: "2g.20gb"})
    assert review(known, wanted, live).message == review(known, wanted).message
