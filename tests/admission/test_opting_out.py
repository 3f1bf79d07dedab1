"""Work that is left as it was asked, because it opted out or the rollout has not reached it; and its pods with it."""

from copy import deepcopy

import pytest

from admission.decision.cluster_state import ClusterState
from admission.decision.model import Deviation
from slicewise.api import keys
from tests.admission.building import (
    GPU,
    SLICE,
    Object,
    annotated,
    asking,
    container,
    created,
    deployment,
    devices,
    labelled,
    pod,
    pod_of,
    pod_spec,
    policy,
    review,
    world,
)
from tests.admission.kinds import manifest
from tests.admission.test_kinds import REWRITTEN

INFERENCE = labelled("inference")
OUT = annotated(rewrite="false")


def at(percent: int) -> ClusterState:
    classes = {"inference": {"strategy": "mig"}}
    return world(policies=(policy(classes, rollout={"percent": percent}),))


def test_the_pods_of_a_deployment_that_opted_out_are_left_too() -> None:
    known = world()
    left = created(known, deployment(metadata={**INFERENCE, **OUT}))
    assert devices(left) == {"main": {GPU: "1"}}
    answered = review(known, pod_of(left))
    assert (answered.operations, answered.outcome) == ([], "left")


def test_applying_its_manifest_again_starts_no_rollout() -> None:
    known, sent = world(), deployment(metadata={**INFERENCE, **OUT})
    first = created(known, sent)
    again = review(known, sent, first)
    assert again.item["spec"] == first["spec"]


@pytest.mark.parametrize("everywhere", [True, False])
def test_opting_in_again_must_be_said_on_the_template_too(*, everywhere: bool) -> None:
    known = world()
    live = created(known, deployment(metadata={**INFERENCE, **OUT}))
    back = deepcopy(live)
    del back["metadata"]["annotations"]
    if everywhere:
        del back["spec"]["template"]["metadata"]["annotations"]
    answered = review(known, back, live)
    assert answered.item == back
    words = (
        'Deployment team/serve: /spec/template/metadata still has slicewise.io/rewrite="false", so its pods are '
        "left as they are asked for; remove it there too"
    )
    assert answered.warnings == ([] if everywhere else [words])
    assert (review(known, pod_of(answered.item)).outcome == "rewritten") is everywhere


def test_a_policy_that_has_not_reached_anybody_leaves_everything() -> None:
    answered = review(at(0), deployment(metadata=INFERENCE))
    assert (answered.outcome, answered.operations) == ("left", [])
    words = "policy default is rolled out to 0 percent, and has not reached it; left as it was asked; "
    words += "raise spec.rollout.percent to have it decided"
    assert answered.warnings == [f"Deployment team/serve: {words}"]
    named = review(at(0), deployment(asking({SLICE: 1}), metadata=INFERENCE))
    assert (named.outcome, named.warnings) == ("left", []), "it asks for nothing that would be rewritten"


@pytest.mark.parametrize("before", [0, 100], ids=["never reached", "reached before"])
def test_a_policy_that_has_not_reached_it_leaves_a_changed_request_too(before: int) -> None:
    live = created(at(before), deployment(container(gpus=1), metadata=INFERENCE))
    answered = review(at(0), deployment(container(gpus=2), metadata=INFERENCE), live)
    assert devices(answered.item) == {"main": {GPU: "2"}}
    assert keys.DECISION not in str(answered.item)
    (warning,) = answered.warnings
    assert warning.endswith(
        "has not reached it; left as it was asked; raise spec.rollout.percent to have it decided"
    )
    assert answered.raw.deviation == Deviation.ROLLOUT


@pytest.mark.parametrize("percent", [0, 20, 50, 80, 100])
def test_a_pod_is_never_done_when_its_deployment_was_not(percent: int) -> None:
    for number in range(20):
        item = deployment(metadata={**INFERENCE, "name": f"serve-{number}"})
        outer = created(at(percent), deepcopy(item))
        template = outer["spec"]["template"]
        made = pod_of(outer)
        made["metadata"]["labels"] = {**template["metadata"]["labels"], "pod-template-hash": "5d9c"}
        made["metadata"]["ownerReferences"][0]["name"] = f"serve-{number}-5d9c"
        assert review(at(percent), made).operations == []


# --- An MPS daemon of the cluster's own -------------------------------------------------------------------

DIRECTORY = "/tmp/nvidia-mps"  # noqa: S108  the published recipe's folder on the node
DAEMON = policy({"batch": {"strategy": "time-slicing", "pipeDirectory": DIRECTORY, "otherwise": ["mig"]}})


def test_a_pod_is_connected_to_a_daemon_beside_the_device_plugin() -> None:
    spec = pod_spec(created(world("time", policies=(DAEMON,)), pod()))
    (main,) = spec["containers"]
    assert spec["hostIPC"] is True
    assert spec["volumes"] == [
        {"name": "slicewise-mps", "hostPath": {"path": DIRECTORY, "type": "Directory"}}
    ]
    assert main["volumeMounts"] == [{"name": "slicewise-mps", "mountPath": DIRECTORY}]
    assert main["env"] == [
        {"name": "CUDA_MPS_PIPE_DIRECTORY", "value": DIRECTORY},
        {"name": "CUDA_MPS_LOG_DIRECTORY", "value": DIRECTORY},
    ]


def test_connecting_twice_is_connecting_once_and_what_people_set_stays() -> None:
    known = world("time", policies=(DAEMON,))
    item = pod()
    item["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]
    item["spec"]["containers"][0]["env"] = [{"name": "CUDA_MPS_LOG_DIRECTORY", "value": "/logs"}]
    first = created(known, item)
    assert {"name": "CUDA_MPS_LOG_DIRECTORY", "value": "/logs"} in first["spec"]["containers"][0]["env"]
    assert [each["name"] for each in first["spec"]["volumes"]] == ["data", "slicewise-mps"]
    assert review(known, first).operations == []


def test_what_falls_back_to_another_strategy_is_not_connected() -> None:
    spec = pod_spec(created(world("mixed", policies=(DAEMON,)), pod()))
    assert "hostIPC" not in spec
    assert "volumes" not in spec


SHM = [{"name": "shm", "mountPath": "/dev/shm/"}]  # noqa: S108  where containers have it


@pytest.mark.parametrize(
    ("node", "item", "warned"),
    [
        ("mps", deployment(container(volumeMounts=SHM)), True),
        ("mps", deployment(container()), False),
        ("mps", deployment(container(), container("side", None, volumeMounts=SHM)), False),
        ("mixed", deployment(container(volumeMounts=SHM)), False),
    ],
    ids=["its own", "none", "another container's", "no share"],
)
def test_a_share_of_the_plugins_own_daemon_and_shared_memory_of_ones_own_are_warned_of(
    node: str, item: Object, *, warned: bool
) -> None:
    item["metadata"] |= labelled("batch-inference")
    known = world(node)
    words = (
        "Deployment team/serve: container 'main' mounts a /dev/shm of its own and gets an MPS share, whose daemon is "
        "met there, so it may find no GPU; remove that mount or use another class"
    )
    answered = review(known, item)
    assert answered.warnings == ([words] if warned else [])
    assert review(known, answered.item, answered.item).warnings == []
    bare = deployment(container(gpus=None))
    assert review(known, item, bare).warnings == ([words] if warned else [])


# They make no pods, or have no pod spec that would take a volume of the host.
UNCONNECTED = {
    "argoproj.io_CronWorkflow",
    "argoproj.io_Workflow",
    "argoproj.io_WorkflowTemplate",
    "nvidia.com_DynamoComponentDeployment",
    "nvidia.com_DynamoGraphDeployment",
    "scheduling.volcano.sh_PodGroup",
    "scheduling.x-k8s.io_PodGroup",
    "serving.knative.dev_Configuration",
    "serving.knative.dev_Service",
    "serving.kserve.io_InferenceGraph",
    "sparkoperator.k8s.io_ScheduledSparkApplication",
    "sparkoperator.k8s.io_SparkApplication",
    "tekton.dev_PipelineRun",
    "tekton.dev_TaskRun",
    "trainer.kubeflow.org_OptimizationJob",
    "trainer.kubeflow.org_TrainJob",
}


@pytest.mark.parametrize("name", REWRITTEN)
def test_kinds_are_connected_where_they_have_a_place_for_it(name: str) -> None:
    known = world("time", policies=(DAEMON,))
    item = review(known, manifest(name)).item
    assert ("slicewise-mps" in str(item)) == (name not in UNCONNECTED)
    assert (DIRECTORY in str(item)) == (name not in UNCONNECTED)
    assert review(known, item).operations == []


@pytest.mark.parametrize("standard", ["baseline", "restricted"])
def test_a_namespace_that_would_refuse_the_pod_is_told_so(standard: str) -> None:
    known = world("time", policies=(DAEMON,), labels={keys.POD_SECURITY: standard})
    answered = review(known, pod())
    assert not answered.allowed
    assert answered.message == (
        "Pod team/work: class batch of policy default works through an MPS daemon (pipeDirectory /tmp/nvidia-mps), "
        f"which needs hostIPC and a hostPath volume, and namespace team enforces the Pod Security Standard {standard}, "
        "which allows neither; label the namespace pod-security.kubernetes.io/enforce=privileged or use another class"
    )


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_container_that_was_hidden_and_asks_for_a_gpu_now_is_shown_it(times: int) -> None:
    known = world()
    item = deployment(metadata=INFERENCE)
    hidden = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
    side = {"name": "side", "image": "busybox", **({"env": [hidden] * times} if times else {})}
    item["spec"]["template"]["spec"]["containers"].append(side)
    first = created(known, item)
    assert hidden in first["spec"]["template"]["spec"]["containers"][1]["env"]
    changed: Object = deepcopy(first)
    changed["spec"]["template"]["spec"]["containers"][1]["resources"] = {"limits": {GPU: "1"}}
    after = review(known, changed, first)
    assert pod_spec(after.item)["containers"][1]["env"] == []
    assert after.warnings == []
    assert devices(after.item).keys() == {"main", "side"}
