"""What damaged reviews brought to light, each as small as it gets."""

import json
from copy import deepcopy
from typing import Any

import pytest

from slicewise.api import keys
from tests.admission.building import GPU, asking, created, deployment, labelled, review
from tests.admission.kinds import at, manifest, put
from tests.fuzz.corpus import cluster, enveloped
from tests.fuzz.properties import check

Object = dict[str, Any]
WHOLE = {
    "policy": "default",
    "class": "inference",
    "classFrom": "default",
    "strategy": "mig",
    "pools": ["a100-80gb-mig-single-1g-10gb"],
    "containers": {"minResources": {"from": GPU, "to": GPU, "count": 1, "asked": 1}},
    "reason": "class inference gets mig; the smallest offered is a slice 1g.10gb",
    "steered": True,
}
_WRAPPER = "workload.codeflare.dev_AppWrapper"


def outcome(item: Object, operation: str = "CREATE", old: Object | None = None) -> str:
    review = enveloped(item, item["metadata"]["namespace"], operation, old)
    return check(json.dumps(review).encode(), cluster())


def test_a_new_decision_on_update_stands_when_the_webhook_is_called_again() -> None:
    # The second call sees the object with the class that the first wrote inside it, beside the same old object.
    old, new = manifest(_WRAPPER), manifest(_WRAPPER)
    old["spec"]["components"] = []
    assert outcome(new, "UPDATE", old) == "rewritten"


def test_a_renamed_container_keeps_its_record_when_the_webhook_is_called_again() -> None:
    first = deployment(asking({GPU: "1"}), metadata=labelled("exact"))
    new = deployment(asking({GPU: "1"}, "renamed"), metadata=labelled("exact"))
    old = created(cluster(), first)
    assert outcome(new, "UPDATE", old) == "rewritten"


@pytest.mark.parametrize(
    ("name", "place", "space"),
    [
        ("kubeflow.org_TFJob", "spec.tfReplicaSpecs.Worker.template.spec.containers.0", "lenient"),
        ("batch.volcano.sh_Job", "spec.tasks.0.template.spec.containers.0", "kueue"),
    ],
)
def test_one_of_several_templates_asks_for_more_and_the_webhook_is_called_again(
    name: str, place: str, space: str
) -> None:
    item = manifest(name, namespace=space, **labelled("exact"))
    old = created(cluster(), item)
    more = put(deepcopy(item), f"{place}.resources.limits", {GPU: 2})
    assert outcome(more, "UPDATE", old) == "rewritten"


@pytest.mark.parametrize("beside", [None, "3"])
def test_a_total_keeps_its_own_quantity_whatever_stands_beside_it(beside: str | None) -> None:
    totals = {GPU: 2, "nvidia.com/mig-1g.10gb.shared": beside}
    more = put(manifest("scheduling.x-k8s.io_PodGroup"), "spec.minResources", totals)
    old = put(deepcopy(more), "metadata.annotations", {keys.DECISION: json.dumps(WHOLE)})
    assert outcome(more, "UPDATE", old) == "repeated"
    answered = review(cluster(), more, old)
    assert answered.item["spec"]["minResources"][GPU] == 2
    assert answered.decision == WHOLE


def test_metadata_that_is_none_is_left_for_the_api_server_to_refuse() -> None:
    item = put(manifest("batch_CronJob", namespace="kueue"), "spec.jobTemplate.metadata", 7)
    assert outcome(item) == "rewritten"


def test_a_step_whose_own_zero_goes_keeps_its_name_when_the_webhook_is_called_again() -> None:
    item = manifest("tekton.dev_TaskRun", namespace="kueue")
    item["spec"]["stepSpecs"] = [{"name": "run", "computeResources": {"limits": {GPU: "0"}}}]
    item["spec"]["taskSpec"]["steps"][0]["computeResources"] = {"limits": {GPU: 1}}
    assert outcome(item) == "rewritten"


def test_a_step_that_newly_asks_under_a_second_name_is_refused_as_a_new_one_is() -> None:
    item = manifest("tekton.dev_TaskRun", namespace="kueue", **labelled("exact"))
    old = created(cluster(), item)
    both = put(
        deepcopy(item), "spec.sidecarSpecs.0.computeResources.limits", {GPU: 1, "nvidia.com/mig-1g.10gb": "1"}
    )
    assert outcome(both, "UPDATE", old) == outcome(both) == "refused"


def test_a_record_that_names_containers_that_are_not_there_says_nothing_of_them() -> None:
    live = created(
        cluster(), manifest("sparkoperator.k8s.io_SparkApplication", **labelled("batch-inference"))
    )
    forged = deepcopy(live)
    record = json.loads(forged["metadata"]["annotations"][keys.DECISION])
    record["containers"]["nobody"] = record["containers"].pop("spark-kubernetes-executor")
    forged["metadata"]["annotations"][keys.DECISION] = json.dumps(record)
    old = put(live, "spec.driver.gpu.quantity", "Infinity")
    assert outcome(forged, "UPDATE", old) == "repeated"


def test_what_one_of_several_templates_got_stays_recorded_when_the_webhook_is_called_again() -> None:
    # Neither was decided before. Under its old name, what the leader got looks as if it had not changed at all.
    old = manifest("leaderworkerset.x-k8s.io_LeaderWorkerSet", namespace="lenient", **labelled("exact"))
    more = put(
        deepcopy(old), "spec.leaderWorkerTemplate.leaderTemplate.spec.containers.0.resources.limits", {GPU: 9}
    )
    renamed = put(more, "spec.leaderWorkerTemplate.workerTemplate.spec.containers.0.name", "renamed")
    assert outcome(renamed, "UPDATE", old) == "rewritten"


@pytest.mark.parametrize(
    ("name", "rest", "place"),
    [
        (
            "ray.io_RayCronJob",
            "spec.jobTemplate.rayClusterSpec.headGroupSpec.template.spec.containers.0.resources.limits",
            "spec.jobTemplate.submitterPodTemplate.spec.containers.0.resources.limits",
        ),
        (
            "leaderworkerset.x-k8s.io_LeaderWorkerSet",
            "spec.leaderWorkerTemplate.leaderTemplate.spec.containers.0.resources.limits",
            "spec.leaderWorkerTemplate.workerTemplate.spec.containers.0.resources.limits",
        ),
        (
            "serving.kserve.io_InferenceService",
            "spec.predictor.model.resources.limits",
            "spec.transformer.containers.0.resources.limits",
        ),
    ],
)
def test_one_of_several_asks_for_none_any_more_and_the_webhook_is_called_again(
    name: str, rest: str, place: str
) -> None:
    first = put(manifest(name, namespace="lenient", **labelled("sized")), rest, {GPU: 1})
    put(first, place, {GPU: 1})
    old = created(cluster(), put(first, f"{place.removesuffix('.resources.limits')}.name", "other"))
    left = deepcopy(old)
    at(left, place)[GPU] = 0
    del left["metadata"]["annotations"]
    assert outcome(left, "UPDATE", old) == "rewritten"


def test_a_step_that_lost_its_name_is_nobodys_decision_when_the_webhook_is_called_again() -> None:
    first = manifest("tekton.dev_TaskRun", namespace="lenient", **labelled("sized"))
    old = created(cluster(), put(first, "spec.taskSpec.sidecars.0.name", "beside"))
    new = deepcopy(old)
    del new["spec"]["stepSpecs"][0]["name"], new["metadata"]["annotations"]
    new["spec"]["taskSpec"]["sidecars"][0]["computeResources"]["limits"][GPU] = 0
    assert outcome(new, "UPDATE", old) == "rewritten"


def test_one_is_decided_beside_one_that_names_a_slice_and_the_webhook_is_called_again() -> None:
    name = "sparkoperator.k8s.io_SparkApplication"
    slices = {"limits": {"nvidia.com/mig-1g.10gb": 9}}
    new = manifest(name, namespace="lenient", **labelled("sized"))
    put(new, "spec.driver.initContainers", [{"name": "fetch", "resources": slices}])
    old = created(cluster(), put(deepcopy(new), "spec.driver.gpu", None))
    assert outcome(new, "UPDATE", old) == "rewritten"


def test_a_total_goes_with_the_slices_when_a_container_names_others_beside_them() -> None:
    worker = "spec.pytorchReplicaSpecs.Worker.template.spec.containers.0.resources.limits"
    first = manifest("kubeflow.org_PyTorchJob", namespace="strict", **labelled("sized"))
    old = created(cluster(), put(first, "spec.pytorchReplicaSpecs.Master.template.spec.containers", []))
    new = deepcopy(old)
    at(new, worker)["nvidia.com/mig-1g.10gb"] = 1
    assert outcome(new, "UPDATE", old) == "left"


def test_what_was_not_decided_is_not_steered_because_an_engine_keeps_it() -> None:
    head = "spec.components.1.template.spec.headGroupSpec.template.spec.containers.0.resources.limits"
    old = put(created(cluster(), put(manifest(_WRAPPER, namespace="kueue"), head, {})), head, {GPU: 9})
    assert outcome(put(deepcopy(old), head, {GPU: 1}), "UPDATE", old) == "repeated"


def test_steps_of_one_name_with_requests_in_a_field_that_means_nothing_there_are_read() -> None:
    item = manifest("tekton.dev_TaskRun")
    step = {"name": "report", "image": "registry.example/report:1", "resources": {"limits": {GPU: 1}}}
    item["spec"]["taskSpec"]["steps"] = [step, deepcopy(step)]
    assert outcome(item) == "rewritten"


def test_a_number_that_is_larger_than_any_is_no_matter_where_nobody_reads_it() -> None:
    item = deployment(asking({GPU: "1"}), metadata=labelled("exact"), number=0)
    review = json.dumps(enveloped(item, item["metadata"]["namespace"], "CREATE", None))
    assert check(review.replace('"number": 0', '"number": 1e999').encode(), cluster()) == "rewritten"


@pytest.mark.parametrize(
    ("times", "own"), [(2, []), (1, [{"key": keys.POOL, "operator": "Exists"}])], ids=["twice", "beside"]
)
def test_what_kept_a_pod_to_its_pools_goes_and_nothing_else(times: int, own: list[Object]) -> None:
    old = created(cluster(), manifest("batch_Job", namespace="volcano"))
    new = deepcopy(old)
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    (term,) = at(new, f"spec.template.spec.affinity.nodeAffinity.{required}.nodeSelectorTerms")
    term["matchExpressions"] = own + term["matchExpressions"] * times
    put(new, "spec.template.spec.containers.0.resources", {})
    assert outcome(new, "UPDATE", old) == "left"


def test_a_renamed_template_gets_a_record_of_its_own_containers_alone() -> None:
    old = created(cluster(), manifest("batch.volcano.sh_Job", namespace="volcano"))
    renamed = put(deepcopy(old), "spec.tasks.1.name", "renamed")
    del renamed["spec"]["tasks"][1]["template"]["metadata"]
    assert outcome(renamed, "UPDATE", old) == "rewritten"


def test_a_record_put_back_for_one_template_says_nothing_of_a_new_one_that_names_a_slice() -> None:
    # Both have a container of that name; neither has metadata that could tell them apart.
    new = created(cluster(), manifest("serving.kserve.io_InferenceService", namespace="lenient"))
    old = deepcopy(new)
    del old["spec"]["explainer"], new["metadata"]["annotations"]
    put(new, "spec.explainer.art.resources.limits", {"nvidia.com/mig-2g.20gb": 1, GPU: 0})
    assert outcome(new, "UPDATE", old) == "repeated"


_HEAD = "spec.components.1.template.spec.headGroupSpec.template.spec.containers.0"
_WORKER = "spec.components.1.template.spec.workerGroupSpecs.0.template.spec.containers.0"


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        (_WRAPPER, _HEAD, _WORKER),
        (
            "jobset.x-k8s.io_JobSet",
            "spec.replicatedJobs.0.template.spec.template.spec.containers.0",
            "spec.replicatedJobs.1.template.spec.template.spec.containers.0",
        ),
        (
            "leaderworkerset.x-k8s.io_LeaderWorkerSet",
            "spec.leaderWorkerTemplate.leaderTemplate.spec.containers.0",
            "spec.leaderWorkerTemplate.workerTemplate.spec.containers.0",
        ),
        (
            "ray.io_RayCluster",
            "spec.headGroupSpec.template.spec.containers.0",
            "spec.workerGroupSpecs.0.template.spec.containers.0",
        ),
        (
            "serving.kserve.io_LLMInferenceService",
            "spec.template.containers.0",
            "spec.prefill.template.containers.0",
        ),
        (
            "sparkoperator.k8s.io_SparkConnect",
            "spec.server.template.spec.containers.0",
            "spec.executor.template.spec.containers.0",
        ),
    ],
)
@pytest.mark.parametrize("asks", [GPU, "nvidia.com/mig-2g.20gb"])
@pytest.mark.parametrize("recorded", [True, False])
def test_a_container_that_gets_the_name_of_another_templates_gets_no_record_of_it(
    name: str, one: str, other: str, asks: str, *, recorded: bool
) -> None:
    first = manifest(name, namespace="lenient", **labelled("sized"))
    for place in (one, other):
        put(first, f"{place}.resources", {"limits": {GPU: 1}})
    put(first, f"{one}.name", "one")
    old = created(cluster(), put(first, f"{other}.name", "other"))
    new = put(deepcopy(old), f"{one}.name", "other")
    put(new, f"{one}.resources.limits", {"nvidia.com/mig-2g.20gb": 1})
    put(new, f"{other}.resources.limits", {asks: 1})
    if not recorded:
        del new["metadata"]["annotations"][keys.DECISION]
    outcome(new, "UPDATE", old)
    answered = review(cluster(), new, old)
    (container,) = [each for each in answered.decision["containers"] if each.endswith("other")]
    assert container.endswith(("/spec:other", "/template:other"))
    assert at(answered.item, f"{other}.resources.limits") == {
        "nvidia.com/mig-2g.20gb": "1" if asks == GPU else 1
    }


def test_a_new_template_that_gets_what_one_of_its_name_has_is_told_apart_from_it() -> None:
    # Of kinds without metadata around their pod specs, the object's record is all there is.
    name = "machinelearning.seldon.io_SeldonDeployment"
    old = created(cluster(), manifest(name, namespace="lenient", **labelled("sized")))
    new = deepcopy(old)
    specs = at(new, "spec.predictors.0.componentSpecs")
    specs.append(deepcopy(manifest(name)["spec"]["predictors"][0]["componentSpecs"][0]))
    assert outcome(new, "UPDATE", old) == "rewritten"


def test_a_pod_spec_with_two_containers_of_one_name_is_left_with_a_word() -> None:
    old = created(cluster(), deployment(asking({GPU: "1"}), metadata=labelled("inference")))
    twice = deployment(asking({GPU: "1"}), asking({GPU: "2"}), metadata=labelled("inference"))
    assert outcome(twice) == outcome(twice, "UPDATE", old) == "left"
    for answered in (review(cluster(), twice), review(cluster(), twice, old)):
        (warning,) = answered.warnings
        assert warning.startswith(
            "Deployment team/serve: /spec/template/spec has two containers called 'main'"
        )


def test_a_sidecar_with_the_name_of_an_init_container_of_its_pod_is_told_apart_from_it() -> None:
    item = manifest("argoproj.io_Workflow", **labelled("sized"))
    template = next(each for each in item["spec"]["templates"] if "container" in each)
    template["initContainers"] = [asking({GPU: "1"}, "fetch")]
    template["sidecars"] = [asking({GPU: "2"}, "fetch")]
    assert outcome(item) == "rewritten"
    names = review(cluster(), item).decision["containers"]
    assert {each["asked"] for name, each in names.items() if name.startswith("fetch")} == {1, 2}


def test_an_object_within_another_records_where_its_pods_stand_in_itself() -> None:
    inner = manifest("serving.kserve.io_LLMInferenceService", **labelled("sized"))
    for place in ("spec.template", "spec.prefill.template"):
        put(inner, f"{place}.containers.0.name", "main")
        put(inner, f"{place}.containers.0.resources.limits", {GPU: 1})
    wrapper = put(manifest(_WRAPPER, **labelled("sized")), "spec.components", [{"template": inner}])
    answered = review(cluster(), wrapper)
    within = json.loads(
        answered.item["spec"]["components"][0]["template"]["metadata"]["annotations"][keys.DECISION]
    )
    assert [*within["containers"]] == ["/spec/template:main", "/spec/prefill/template:main"]


def test_requests_and_limits_that_differ_stay_as_they_are_written_and_are_said() -> None:
    name, place = "flow.volcano.sh_JobTemplate", "spec.tasks.0.template.spec.containers.0.resources"
    live = created(cluster(), manifest(name, namespace="kueue", **labelled("sized")))
    new = deepcopy(live)
    at(new, place)["requests"] = {GPU: 2}
    at(new, place)["limits"][GPU] = 1
    assert outcome(new, "UPDATE", live) == "left"
    answered = review(cluster(), new, live)
    assert at(answered.item, place) == {"requests": {GPU: 2}, "limits": {GPU: 1}}
    (warning,) = answered.warnings
    assert "its requests and limits of nvidia.com/gpu differ" in warning


def test_slices_of_a_total_go_when_what_asked_for_them_outside_a_pod_spec_gets_others() -> None:
    name, total = "sparkoperator.k8s.io_SparkApplication", "spec.batchSchedulerOptions.resources"
    first = manifest(name, **labelled("exact"))
    limits = {"limits": {"nvidia.com/mig-2g.20gb": 1}}
    live = created(
        cluster(), put(first, "spec.driver.initContainers", [{"name": "fetch", "resources": limits}])
    )
    slices = {each for each in at(live, total) if each.startswith("nvidia.com/mig-")}
    assert slices
    new = put(deepcopy(live), "spec.driver.initContainers.0.resources.limits", {GPU: 1})
    assert outcome(new, "UPDATE", live) == "rewritten"
    assert slices.isdisjoint(at(review(cluster(), new, live).item, total))
