"""Two layers that a controller merges, objects within objects, and pods that finish what their kind cannot say."""

from copy import deepcopy
from typing import Any, Final

import msgspec
import pytest

from admission.mutating import answer
from admission.workloads.decoder import Templates
from admission.workloads.kind import Kind, Steering
from slicewise.api import keys
from tests.admission.building import (
    GPU,
    SLICE,
    Object,
    container,
    devices,
    labelled,
    owned,
    pod,
    request,
    review,
)
from tests.admission.kinds import at, cluster, manifest, mig, put

BOTH: Final[Object] = {"resources": {"limits": {GPU: "1", SLICE: "1"}}}
OURS: Final = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
TRAIN: Final = "trainer.kubeflow.org_TrainJob"
WRAPPER: Final = "workload.codeflare.dev_AppWrapper"


def decision(name: str) -> str:
    return str(at(review(mig(), manifest(name)).item, "metadata.annotations")[keys.DECISION])


# --- Merges -----------------------------------------------------------------------------------------------


def test_a_merge_that_asks_twice_is_mended_in_the_pod() -> None:
    record = {"annotations": {keys.DECISION: decision("kubeflow.org_Notebook")}}
    item = owned(pod(container("ana", None, **BOTH), container("side", None), metadata=record), "StatefulSet")
    result = review(mig(), item)
    assert result.allowed
    assert devices(result.item) == {"ana": {SLICE: "1"}}
    assert result.spec["tolerations"] == [OURS]
    assert result.spec["containers"][1]["env"] == [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}]
    assert review(mig(), result.item).operations == []


@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_what_a_controller_made_asks_for_what_its_upper_layer_got(kind: str) -> None:
    item = pod(container(gpus=None, **BOTH))
    if kind == "Job":
        item = {**item, "apiVersion": "batch/v1", "kind": "Job", "spec": {"template": {"spec": item["spec"]}}}
    made = owned(item, "JobSet", "jobset.x-k8s.io/v1alpha2")
    assert devices(review(mig(), made).item) == {"main": {SLICE: "1"}}


def test_people_who_ask_twice_are_told() -> None:
    result = review(mig(), pod(container(gpus=None, **BOTH)))
    assert not result.allowed
    assert "ask for one of them" in result.message


def test_a_record_that_the_policy_could_not_have_written_is_not_finished() -> None:
    record = decision("kubeflow.org_Notebook").replace('"class":"only"', '"class":"other"')
    slices: Object = {"resources": {"limits": {SLICE: "1"}}}
    item = owned(
        pod(container("ana", None, **slices), metadata={"annotations": {keys.DECISION: record}}), "ReplicaSet"
    )
    assert review(mig(), item).operations == []


def test_pods_of_rewritten_templates_are_left_byte_for_byte() -> None:
    template = at(review(mig(), manifest("apps_Deployment")).item, "spec.template")
    item = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "serve-1", "namespace": "team", **template["metadata"]},
        "spec": template["spec"],
    }
    assert review(mig(), owned(item, "ReplicaSet")).operations == []


# --- Steering without a pod spec --------------------------------------------------------------------------


def node_pod(train: Object) -> Object:
    """The pod that the Trainer makes: the runtime's template, the patch, and the TrainJob's resources."""
    patch = at(
        train,
        "spec.runtimePatches.0.trainingRuntimeSpec.template.spec.replicatedJobs.0.template.spec.template",
    )
    spec = deepcopy(patch.get("spec", {}))
    resources = at(train, "spec.trainer.resourcesPerNode")
    spec["containers"] = [{"name": "node", "image": "registry.example/torch:1", "resources": resources}]
    metadata = {"name": "finetune-node-0", "namespace": "team", **patch["metadata"]}
    return owned({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, "Job", "batch/v1")


def test_a_trainjob_for_whole_gpus_keeps_off_the_shares_of_the_same_name() -> None:
    where = cluster("exclusive", "whole", "time")
    train = review(where, manifest(TRAIN)).item
    made = node_pod(train)
    assert list(made["spec"]["nodeSelector"]) == [keys.POOL]
    finished = review(where, made)
    assert finished.spec["tolerations"] == [OURS]
    assert keys.POOL in str(finished.spec["affinity"])
    assert devices(finished.item) == {"node": {GPU: "1"}}
    assert review(where, finished.item).operations == []


def test_a_trainjob_with_several_pools_keeps_to_them_by_affinity() -> None:
    train = review(cluster("exclusive", "whole", "h100-both", "partly", "time"), manifest(TRAIN)).item
    spec = node_pod(train)["spec"]
    assert ("affinity" in spec) is not ("nodeSelector" in spec)


def test_an_older_trainer_is_told_by_its_own_field() -> None:
    item = put(manifest(TRAIN), "spec.podTemplateOverrides", [{"targetJobs": [{"name": "node"}]}])
    result = review(mig(), item)
    overrides = at(result.item, "spec.podTemplateOverrides")
    assert overrides[0] == {"targetJobs": [{"name": "node"}]}
    assert list(overrides[1]["metadata"]["annotations"]) == [keys.DECISION]
    assert at(result.item, "spec.runtimePatches") is None
    assert review(mig(), result.item).operations == []


def test_a_patch_of_somebody_else_stays() -> None:
    theirs = {"manager": "kueue.x-k8s.io/manager", "trainingRuntimeSpec": {}}
    result = review(mig(), put(manifest(TRAIN), "spec.runtimePatches", [theirs]))
    assert at(result.item, "spec.runtimePatches.0") == theirs
    assert at(result.item, "spec.runtimePatches.1.manager") == "slicewise.io/admission"


def bare(means: Steering) -> Templates:
    return Templates([Kind("example.com", "Trainer", ("R spec.resources",), means=means)])


TRAINER: Final[Object] = {
    "apiVersion": "example.com/v1",
    "kind": "Trainer",
    "metadata": {"name": "tiny", "namespace": "team"},
    "spec": {"resources": {"limits": {GPU: 1}}},
}


def judged(templates: Templates, *nodes: str, strategy: str = "mig") -> tuple[str, Any]:
    raw = answer(msgspec.json.encode({"apiVersion": "admission.k8s.io/v1", "request": request(TRAINER)}),
                 cluster(strategy, *nodes), templates)  # fmt: skip
    response = msgspec.json.decode(raw.body)["response"]
    return raw.outcome, response.get("status", {}).get("message", "")


def test_a_place_that_cannot_be_steered_gets_what_needs_no_steering() -> None:
    assert judged(bare(Steering.NONE), "mixed") == ("rewritten", "")
    assert judged(bare(Steering.NONE), "whole", strategy="exclusive") == ("rewritten", "")
    outcome, message = judged(bare(Steering.NONE), "whole", "time", strategy="exclusive")
    assert outcome == "refused"
    assert message.startswith("Trainer team/tiny: class only gets nvidia.com/gpu")
    assert "/spec/resources holds no pod spec" in message


def test_a_place_whose_pods_are_decided_on_is_left() -> None:
    assert judged(bare(Steering.PODS), "whole", "time", strategy="exclusive") == ("unchanged", "")


def test_knative_says_it_in_the_pod() -> None:
    where = cluster("exclusive", "whole", "time")
    template = at(review(where, manifest("serving.knative.dev_Service")).item, "spec.template")
    assert "affinity" not in template["spec"]
    item = pod(metadata={"annotations": template["metadata"]["annotations"]})
    made = review(where, owned({**item, "spec": template["spec"]}, "ReplicaSet"))
    assert keys.POOL in str(made.spec["affinity"])
    assert made.spec["tolerations"] == [OURS]


def test_a_run_of_tekton_makes_its_pod_template() -> None:
    result = review(cluster("exclusive", "whole", "time"), manifest("tekton.dev_TaskRun"))
    assert {*at(result.item, "spec.podTemplate")} == {"affinity", "tolerations"}
    assert review(cluster("exclusive", "whole", "time"), result.item).operations == []


def test_the_affinity_of_an_argo_workflow_narrows_its_templates() -> None:
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    item = put(manifest("argoproj.io_WorkflowTemplate"), "spec.affinity", {"nodeAffinity": required})
    assert "matches no node of any pool" in review(cluster("exclusive", "whole", "time"), item).message


def test_pods_of_an_argo_template_get_what_it_could_not_say() -> None:
    where = cluster("exclusive", "whole", "time")
    template = at(review(where, manifest("argoproj.io_WorkflowTemplate")).item, "spec.templates.0")
    made = pod(
        {"name": "main", **template["container"]}, container("wait", None), metadata=template["metadata"]
    )
    owner = owned(made, "Workflow", "argoproj.io/v1alpha1")
    finished = review(where, owner)
    assert keys.POOL in str(finished.spec["affinity"])
    assert finished.spec["tolerations"] == [OURS]
    assert finished.spec["containers"][1]["env"] == [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}]


# --- Objects within objects -------------------------------------------------------------------------------


def test_what_is_wrapped_is_told_what_was_decided() -> None:
    where = cluster("mig", "mixed", "whole")
    wrapped = review(where, manifest(WRAPPER, labels={keys.WORKLOAD_CLASS: "whole"}))
    for index, component in enumerate(at(wrapped.item, "spec.components")[:2]):
        inner = component["template"]
        assert inner["metadata"]["labels"][keys.WORKLOAD_CLASS] == "whole", index
        inner["metadata"]["namespace"] = "team"
        made = review(where, owned(inner, "AppWrapper", "workload.codeflare.dev/v1beta2"))
        assert made.operations == []
    assert at(wrapped.item, "spec.components.2.template.metadata") == {"name": "front"}


def test_the_class_within_counts_where_none_is_said_outside() -> None:
    item = put(
        manifest(WRAPPER), "spec.components.0.template.metadata", {"name": "inner", **labelled("whole")}
    )
    assert review(cluster("mig", "mixed", "whole"), item).decision["class"] == "whole"


def test_side_fields_within_are_mended() -> None:
    ray = at(review(mig(), manifest(WRAPPER)).item, "spec.components.1.template")
    assert at(ray, "spec.workerGroupSpecs.0.rayStartParams") == {"num-gpus": "1"}
    assert ray["metadata"]["labels"]["app"] == "ray"


def test_opting_out_outside_holds_inside() -> None:
    item = manifest(WRAPPER, annotations={keys.REWRITE: "false"})
    wrapped = review(mig(), item).item
    inner = at(wrapped, "spec.components.0.template")
    assert inner["metadata"]["annotations"] == {keys.REWRITE: "false"}
    assert at(inner, "spec.template") == at(item, "spec.components.0.template.spec.template")


def test_a_wrapper_within_a_wrapper_and_unknown_kinds_are_left() -> None:
    item = manifest(WRAPPER)
    item["spec"]["components"] = [
        {"template": manifest(WRAPPER)},
        {"template": {"kind": "Odd"}},
        {"template": 1},
    ]
    assert review(mig(), item).outcome == "unchanged"
