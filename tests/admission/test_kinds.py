"""Every kind of the table: what is asked anywhere becomes what was decided, once, and again when re-applied."""

from copy import deepcopy
from itertools import cycle
from typing import Any, Final

import pytest

from admission.workloads.builtin_kinds import TABLE
from slicewise.api import keys
from tests.admission.building import GPU, SLICE, Object, review
from tests.admission.kinds import NAMES, asked, at, cluster, manifest, merged, mig, patched, varied

# Never rewritten: cluster-scoped, immutable, totals of others, or decided on in their pods.
LEFT: Final = {
    "apps.nvidia.com_NIMBuild": "unchanged",
    "apps.nvidia.com_NIMCache": "unchanged",
    "apps.nvidia.com_NIMPipeline": "unchanged",
    "apps.nvidia.com_NIMService": "unchanged",
    "apps.nvidia.com_NemoCustomizer": "unchanged",
    "argoproj.io_ClusterWorkflowTemplate": "ignored",
    "instancetype.kubevirt.io_VirtualMachineInstancetype": "unchanged",
    "kubeflow.org_WorkspaceKind": "ignored",
    "kubevirt.io_VirtualMachine": "unchanged",
    "kubevirt.io_VirtualMachineInstance": "unchanged",
    "scheduling.x-k8s.io_ElasticQuota": "unchanged",
    "serving.knative.dev_Revision": "unchanged",
    "serving.kserve.io_ClusterServingRuntime": "ignored",
    "tekton.dev_Pipeline": "unchanged",
    "tekton.dev_Task": "unchanged",
    "trainer.kubeflow.org_ClusterTrainingRuntime": "ignored",
}
REWRITTEN: Final = [name for name in NAMES if name not in LEFT]
# Where the kind has no pod of its own, or its pods' own admission adds it.
UNTOLERATED: Final = {
    "argoproj.io_CronWorkflow",
    "argoproj.io_Workflow",
    "argoproj.io_WorkflowTemplate",
    "scheduling.volcano.sh_PodGroup",
    "scheduling.x-k8s.io_PodGroup",
    "serving.knative.dev_Configuration",
    "serving.knative.dev_Service",
    "trainer.kubeflow.org_OptimizationJob",
    "trainer.kubeflow.org_TrainJob",
}
# Places that are decided on in the pods, within a kind that is rewritten elsewhere.
IN_PODS: Final = {"tekton.dev_PipelineRun": "/spec/pipelineSpec"}


def known(item: Object) -> tuple[str, str]:
    return item["apiVersion"].rpartition("/")[0], item["kind"]


def test_every_kind_of_the_table_has_a_manifest() -> None:
    assert {known(manifest(name)) for name in NAMES} == {(kind.group, kind.kind) for kind in TABLE}


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", NAMES)
def test_the_order_in_which_keys_are_written_changes_nothing(name: str) -> None:
    item, known = varied(manifest(name), cycle((1, 4, 2))), cluster("mig", "mixed", "whole")
    one, other = review(known, item), review(known, reversed_keys(item))
    assert (one.outcome, one.item, one.warnings) == (other.outcome, other.item, other.warnings)


@pytest.mark.parametrize("name", REWRITTEN)
def test_every_request_becomes_what_was_decided(name: str) -> None:
    item = manifest(name)
    result = review(mig(), item)
    assert result.allowed, result.message
    assert result.outcome == "rewritten"
    in_pods = IN_PODS.get(name, "\0")
    before = {
        (place, SLICE if each == GPU and not place.startswith(in_pods) else each, count)
        for place, each, count in asked(item)
    }
    after = set(asked(result.item))
    assert {each for each in before if each[1] == SLICE or each[1] == GPU} <= after
    assert {each for each in after if each[1] == GPU} == {each for each in before if each[1] == GPU}
    assert result.decision["containers"]
    added = str(result.item).count("'operator': 'Exists'") - str(item).count("'operator': 'Exists'")
    assert bool(added) is (name not in UNTOLERATED)


@pytest.mark.parametrize("name", LEFT)
def test_what_must_be_left_is_left(name: str) -> None:
    item = manifest(name)
    result = review(mig(), item)
    assert (result.outcome, result.operations, result.warnings) == (LEFT[name], [], [])


@pytest.mark.parametrize("name", REWRITTEN)
def test_a_second_pass_changes_nothing(name: str) -> None:
    once = review(mig(), manifest(name)).item
    assert review(mig(), once).operations == []


@pytest.mark.parametrize("name", [name for name in REWRITTEN if name != "core_Pod"])
@pytest.mark.parametrize("way", ["replaced", "merged", "wiped"])
def test_an_unchanged_manifest_applied_again_comes_out_the_same(name: str, way: str) -> None:
    item = manifest(name)
    live = review(mig(), item).item
    sent = merged(live, item) if way == "merged" else deepcopy(item)
    if way == "replaced":
        sent["metadata"] = deepcopy(live["metadata"])
    result = review(mig(), sent, live)
    assert result.item == live
    assert all(each != GPU for place, each, _ in asked(result.item) if name not in IN_PODS)


DIFFERENT: Final = {
    "whole GPUs beside shares": lambda: cluster("exclusive", "whole", "time"),
    "slices beside whole GPUs": lambda: cluster("mig", "mixed", "whole"),
    "both on one board": lambda: cluster("mig", "h100-both", "whole", "time"),
    "slices that bear the plain name": lambda: cluster("mig", "single", "whole"),
}


@pytest.mark.parametrize("where", DIFFERENT)
@pytest.mark.parametrize("name", [name for name in REWRITTEN if name != "core_Pod"])
def test_parts_that_get_different_things_come_out_the_same_again(name: str, where: str) -> None:
    world = DIFFERENT[where]()
    item = varied(manifest(name), cycle((1, 4)))
    result = review(world, item)
    if not result.allowed:
        assert result.message.startswith(f"{item['kind']} team/")
        return
    assert review(world, result.item).operations == []
    for sent in (item, merged(result.item, item), patched(result.item, item)):
        assert review(world, sent, result.item).item == result.item


@pytest.mark.parametrize("name", [name for name in REWRITTEN if name != "core_Pod"])
def test_a_namespace_that_opts_in_changes_nothing_that_stands(name: str) -> None:
    item = manifest(name)
    touched = manifest(name, labels={"touched": "yes"})
    assert review(mig(), touched, item).operations == []


@pytest.mark.parametrize("name", REWRITTEN)
def test_who_opts_out_is_left(name: str) -> None:
    item = manifest(name, annotations={keys.REWRITE: "false"})
    result = review(mig(), item)
    assert set(asked(result.item)) == set(asked(item))


def test_quantities_keep_the_type_that_their_schema_has() -> None:
    spark = review(mig(), manifest("sparkoperator.k8s.io_SparkApplication")).item
    assert at(spark, "spec.executor.gpu") == {"name": SLICE, "quantity": 1}
    dynamo = review(mig(), manifest("nvidia.com_DynamoComponentDeployment")).item
    assert at(dynamo, "spec.resources.requests") == {"gpu": "1", "gpuType": SLICE}


def test_an_argo_template_takes_the_decision_to_its_pods() -> None:
    result = review(mig(), manifest("argoproj.io_Workflow"))
    assert keys.DECISION in at(result.item, "spec.templates.1.metadata.annotations")
    assert at(result.item, "spec.templates.1.metadata.labels") == {"stage": "two"}
    assert all("tolerations" not in each for each in at(result.item, "spec.templates"))


@pytest.mark.parametrize("name", ["tekton.dev_TaskRun", "argoproj.io_WorkflowTemplate"])
def test_a_quantity_that_is_a_template_is_left_with_a_warning(name: str) -> None:
    item = manifest(name)
    text = {
        "tekton.dev_TaskRun": "$(params.gpus)",
        "argoproj.io_WorkflowTemplate": "{{inputs.parameters.gpus}}",
    }
    spec = item["spec"]
    place = spec["taskSpec"]["steps"][0]["computeResources"] if "taskSpec" in spec else None
    place = place or spec["templates"][0]["container"]["resources"]
    place["limits"][GPU] = text[name]
    result = review(mig(), item)
    assert result.operations == []
    assert "is left alone" in result.warnings[0]
    assert text[name] in result.warnings[0]


def test_malformed_places_are_left_out() -> None:
    item = manifest("argoproj.io_Workflow")
    item["spec"]["templates"][1]["sidecars"] = {"not": "a list of containers", "resources": "many"}
    item["spec"]["templates"].append("no template")
    assert review(mig(), item).outcome == "rewritten"


def test_layers_of_one_container_that_ask_for_different_numbers_are_told_apart() -> None:
    item = manifest("tekton.dev_TaskRun")
    item["spec"]["stepSpecs"][0]["computeResources"]["limits"] = {GPU: 2}
    result = review(mig(multiGPU="each"), item)
    assert at(result.item, "spec.stepSpecs.0.computeResources.limits") == {SLICE: "2"}
    assert at(result.item, "spec.taskSpec.steps.0.computeResources.limits") == {SLICE: "1"}
    assert review(mig(multiGPU="each"), result.item).operations == []


def test_containers_of_a_run_are_recorded_by_the_names_that_its_pod_gives_them() -> None:
    item = manifest("tekton.dev_TaskRun")
    del item["spec"]["taskSpec"]
    decision = review(mig(), item).decision
    assert decision is not None
    assert {*decision["containers"]} == {"step-run", "sidecar-server"}


def test_requests_and_limits_that_disagree_are_left() -> None:
    item = manifest("nvidia.com_DynamoComponentDeployment")
    item["spec"]["resources"]["requests"]["gpu"] = "4"
    assert review(mig(), item).operations == []


def test_a_decision_of_a_whole_says_which_part_got_what() -> None:
    item = varied(manifest("serving.kserve.io_LLMInferenceService"), cycle((1, 4)))
    decision = review(cluster("mig", "mixed", "whole"), item).decision
    first, second = decision["templates"].values()
    assert (first["strategy"], second["strategy"]) == ("mig", "exclusive")
    assert (first["steered"], second["steered"]) == (False, True)
    assert "templates" not in review(mig(), manifest("serving.kserve.io_LLMInferenceService")).decision
