"""The fields beside a request: mended where that is possible, else refused or said, each in one sentence."""

from copy import deepcopy
from typing import Any, Final

import pytest

from admission.decision.cluster_state import ClusterState
from slicewise.api import keys
from slicewise.kube.apply import Client, applied, applied_again
from tests.admission.building import GPU, SHARED, SLICE, Object, created, review
from tests.admission.kinds import asked, at, cluster, manifest, merged, mig, put

RAY: Final = "ray.io_RayCluster"
PYTORCH: Final = "kubeflow.org_PyTorchJob"
MPI: Final = "kubeflow.org_MPIJob"
TRAIN: Final = "trainer.kubeflow.org_TrainJob"
SPARK: Final = "sparkoperator.k8s.io_SparkApplication"
ISVC: Final = "serving.kserve.io_InferenceService"
LLM: Final = "serving.kserve.io_LLMInferenceService"
DYNAMO: Final = "nvidia.com_DynamoComponentDeployment"

ONE: Final = {"multiGPU": "one"}
EACH: Final = {"multiGPU": "each"}
WORKER: Final = "spec.workerGroupSpecs.0.template.spec.containers.0.resources.limits"


def four(item: Object, *places: str) -> Object:
    """The manifest with four GPUs asked at places."""
    for place in places:
        limits = at(item, place)
        limits[GPU] = "4" if isinstance(limits[GPU], str) else 4
    return item


MENDED: Final[list[tuple[str, str, dict[str, Any], dict[str, Any], dict[str, Any]]]] = [
    # name, manifest, what is asked for instead, the class, what stands after
    (
        "Ray is told of a name that its autoscaler does not know",
        RAY,
        {},
        {},
        {
            "spec.headGroupSpec.rayStartParams": {"num-gpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104
            "spec.workerGroupSpecs.0.rayStartParams": {"num-gpus": "1"},
            "spec.workerGroupSpecs.1.rayStartParams": {},
            "spec.workerGroupSpecs.1.resources": {"CPU": "4", "GPU": "1"},
        },
    ),
    (
        "Ray's own counts follow",
        RAY,
        {
            WORKER: {GPU: 4},
            "spec.workerGroupSpecs.0.rayStartParams": {"num-gpus": "4"},
            "spec.workerGroupSpecs.1.template.spec.containers.0.resources.limits": {GPU: 4},
            "spec.workerGroupSpecs.1.resources": {"GPU": "4"},
        },
        ONE,
        {
            "spec.workerGroupSpecs.0.rayStartParams": {"num-gpus": "1"},
            "spec.workerGroupSpecs.1.resources": {"GPU": "1"},
        },
    ),
    ("a Ray group with several slices", RAY, {WORKER: {GPU: 4}}, EACH, {
        "spec.workerGroupSpecs.0.rayStartParams": {"num-gpus": "4"},
    }),
    ("an entrypoint asks for no more than there is", "ray.io_RayJob", {
        "spec.entrypointNumGpus": 4,
        "spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers.0.resources.limits": {GPU: 4},
    }, ONE, {"spec.entrypointNumGpus": 1}),
    ("a RayCronJob", "ray.io_RayCronJob", {}, {}, {
        "spec.jobTemplate.rayClusterSpec.headGroupSpec.rayStartParams": {"num-gpus": "1"},
    }),
    ("a RayService", "ray.io_RayService", {}, {}, {
        "spec.rayClusterConfig.headGroupSpec.rayStartParams": {"num-gpus": "1"},
        "spec.rayClusterConfig.workerGroupSpecs.0.rayStartParams": {"num-gpus": "1"},
    }),
    ("a total of a scheduling policy is renamed", PYTORCH, {}, {}, {
        "spec.runPolicy.schedulingPolicy.minResources": {"cpu": "12", SLICE: "3"},
        "spec.nprocPerNode": "1",
    }),
    ("processes and totals follow the count", PYTORCH, {
        "spec.nprocPerNode": "4",
        "spec.elasticPolicy.nProcPerNode": 4,
        "spec.runPolicy.schedulingPolicy.minResources": {GPU: "12"},
        "spec.pytorchReplicaSpecs.Master.template.spec.containers.0.resources.limits": {GPU: 4},
        "spec.pytorchReplicaSpecs.Worker.template.spec.containers.0.resources.limits": {GPU: 4},
    }, ONE, {
        "spec.nprocPerNode": "1",
        "spec.elasticPolicy.nProcPerNode": 1,
        "spec.runPolicy.schedulingPolicy.minResources": {SLICE: "3"},
    }),
    ("Ray's own counts are told of it where they say nothing of GPUs", RAY, {
        "spec.workerGroupSpecs.1.resources": {"CPU": "4"},
    }, {}, {"spec.workerGroupSpecs.1.resources": {"CPU": "4", "GPU": "1"}}),
    ("Ray's own counts follow under any name that Ray takes for GPUs", RAY, {
        "spec.workerGroupSpecs.1.template.spec.containers.0.resources.limits": {GPU: 4},
        "spec.workerGroupSpecs.1.resources": {GPU: "4"},
    }, ONE, {"spec.workerGroupSpecs.1.resources": {GPU: "1"}}),
    ("processes follow the role that they repeat", PYTORCH, {
        "spec.nprocPerNode": "4",
        "spec.elasticPolicy.nProcPerNode": 4,
        "spec.runPolicy.schedulingPolicy": {},
        "spec.pytorchReplicaSpecs.Worker.template.spec.containers.0.resources.limits": {GPU: 4},
    }, ONE, {"spec.nprocPerNode": "1", "spec.elasticPolicy.nProcPerNode": 1}),
    ("slots follow the workers, whatever the launcher asks for", MPI, {
        "spec.slotsPerWorker": 4,
        "spec.mpiReplicaSpecs.Launcher.template.spec.containers.0.resources": {"limits": {GPU: 1}},
        "spec.mpiReplicaSpecs.Worker.template.spec.containers.0.resources.limits": {GPU: 4},
    }, ONE, {"spec.slotsPerWorker": 1}),
    ("slots follow the count", MPI, {
        "spec.slotsPerWorker": 2,
        "spec.mpiReplicaSpecs.Worker.template.spec.containers.0.resources.limits": {GPU: 2},
    }, ONE, {"spec.slotsPerWorker": 1}),
    ("the Trainer is told how many processes", TRAIN, {}, {}, {
        "spec.trainer.numProcPerNode": 1,
        "spec.runtimePatches.0.manager": "slicewise.io/admission",
    }),
    ("a TrainJob with several slices", TRAIN, {"spec.trainer.resourcesPerNode.limits": {GPU: 4}}, EACH, {
        "spec.trainer.numProcPerNode": 4,
    }),
    ("a TrainJob that says its processes", TRAIN, {"spec.trainer.numProcPerNode": 3}, {}, {
        "spec.trainer.numProcPerNode": 3,
    }),
    ("a TrainJob within an OptimizationJob", "trainer.kubeflow.org_OptimizationJob", {}, {}, {
        "spec.trainJobTemplate.spec.trainer.numProcPerNode": 1,
    }),
    ("a torch runtime of Trainer 2.0", "trainer.kubeflow.org_TrainingRuntime", {
        "spec.mlPolicy": {"torch": {"numProcPerNode": "auto"}},
    }, {}, {"spec.mlPolicy.torch.numProcPerNode": 1}),
    ("a runtime of MPI", "trainer.kubeflow.org_TrainingRuntime", {"spec.mlPolicy": {"mpi": {}}}, {}, {
        "spec.mlPolicy.mpi": {"numProcPerNode": 1},
    }),
    ("the accelerator of a HyperJob", "training.volcano.sh_HyperJob", {}, {}, {
        "spec.replicatedJobs.0.splitPolicy": {"mode": "static", "accelerators": 4, "acceleratorType": SLICE},
    }),
    ("a total of Spark's batch scheduler", SPARK, {}, {}, {
        "spec.batchSchedulerOptions.resources": {"cpu": "8", SLICE: "3"},
    }),
    ("totals by hand keep their quantities", "scheduling.volcano.sh_PodGroup", {}, {}, {
        "spec.minResources": {"cpu": "16", SLICE: "4"},
    }),
    ("a total by hand beside a zero", "scheduling.volcano.sh_PodGroup",
        {"spec.minResources": {"nvidia.com/gpu": "4", "nvidia.com/mig-3g.40gb.shared": 0}}, {}, {
        "spec.minResources": {SLICE: "4"},
    }),
    ("a total by hand beside a null", "scheduling.volcano.sh_PodGroup",
        {"spec.minResources": {"nvidia.com/gpu": "4", "nvidia.com/mig-3g.40gb.shared": None}}, {}, {
        "spec.minResources": {SLICE: "4"},
    }),
    ("named revisions keep their name", "serving.knative.dev_Service", {}, {}, {
        "spec.template.metadata.name": "resize-v1",
        "spec.template.spec.tolerations": None,
    }),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "instead", "work", "after"), [each[1:] for each in MENDED], ids=[e[0] for e in MENDED]
)
def test_mended(name: str, instead: dict[str, Any], work: dict[str, Any], after: dict[str, Any]) -> None:
    item = manifest(name)
    for place, value in instead.items():
        put(item, place, value)
    result = review(mig(**work), item)
    assert result.allowed, result.message
    assert {place: at(result.item, place) for place in after} == after
    assert review(mig(**work), result.item).operations == []
    for sent in (item, merged(result.item, item)):
        assert review(mig(**work), sent, result.item).item == result.item


def test_another_total_by_hand_is_taken_over() -> None:
    name, place = "scheduling.volcano.sh_PodGroup", "spec.minResources"
    live = review(mig(), manifest(name)).item
    for sent in (more := put(manifest(name), place, {"cpu": "16", GPU: "8"}), merged(live, more)):
        assert at(review(mig(), sent, live).item, place) == {"cpu": "16", SLICE: "8"}


COUNTS: Final = {
    RAY: (WORKER, "spec.workerGroupSpecs.0.rayStartParams", "num-gpus", "1", "3"),
    "ray.io_RayCronJob": (
        "spec.jobTemplate.rayClusterSpec.headGroupSpec.template.spec.containers.0.resources.limits",
        "spec.jobTemplate.rayClusterSpec.headGroupSpec.rayStartParams",
        "num-gpus",
        "1",
        "3",
    ),
    TRAIN: ("spec.trainer.resourcesPerNode.limits", "spec.trainer", "numProcPerNode", 1, 3),
    "trainer.kubeflow.org_OptimizationJob": (
        "spec.trainJobTemplate.spec.trainer.resourcesPerNode.limits",
        "spec.trainJobTemplate.spec.trainer",
        "numProcPerNode",
        1,
        3,
    ),
}


@pytest.mark.parametrize("client", Client)
@pytest.mark.parametrize("name", COUNTS)
def test_a_count_that_we_wrote_follows_when_another_number_is_given(name: str, client: Client) -> None:
    limits, place, key, one, three = COUNTS[name]
    known, before = cluster("mig", "mixed", multiGPU="each"), manifest(name)
    for each in (limits, limits.replace("limits", "requests")):
        if isinstance(amounts := at(before, each), dict):
            amounts[GPU] = "1"
    put(before, f"{place}.beside", "said")
    now = deepcopy(before)
    for each in (limits, limits.replace("limits", "requests")):
        if isinstance(amounts := at(now, each), dict):
            amounts[GPU] = "3"
    live = created(known, applied(client, before))
    assert at(live, place)[key] == one
    answered = review(
        known, applied_again(client, before, now, live), live, options={"fieldManager": client.field_manager}
    )
    assert at(answered.item, limits)[SLICE] == "3"
    if client is Client.HELM and not name.startswith("ray.io_RayCluster"):
        # What Helm sends does not tell whose the count is.
        assert at(answered.item, place)[key] == one
        (warning,) = answered.warnings
        assert warning.endswith(
            f"{place}.{key} is 1, as many as its pods had, who get 3 {SLICE} now, and is left alone, as the manifest "
            "may say it; write 3 there"
        )
        return
    assert at(answered.item, place)[key] == three
    assert answered.warnings == []
    assert review(known, answered.item, live).operations == []


def test_counts_of_two_kinds_are_told_apart_by_their_pods() -> None:
    item = put(manifest(PYTORCH), "spec.runPolicy.schedulingPolicy.minResources", {GPU: "9"})
    put(item, "spec.pytorchReplicaSpecs.Worker.template.spec.containers.0.resources.limits", {GPU: 4})
    result = review(cluster("mig", "mixed", "whole"), item)
    assert at(result.item, "spec.runPolicy.schedulingPolicy.minResources") == {GPU: "8", SLICE: "1"}
    other = manifest(PYTORCH)
    for role in ("Master", "Worker"):
        put(other, f"spec.pytorchReplicaSpecs.{role}.template.spec.containers.0.resources.limits", {GPU: 3})
    for stood in (result.item, other):
        again = review(cluster("mig", "mixed", "whole"), item, stood)
        assert again.item == result.item
        assert review(cluster("mig", "mixed", "whole"), again.item, stood).operations == []


def test_a_total_keeps_nothing_of_slices_where_its_pods_get_whole_boards_now() -> None:
    known, place = cluster("mig", "mixed", "whole"), "spec.runPolicy.schedulingPolicy.minResources"
    live = created(known, manifest(PYTORCH))
    assert at(live, place) == {"cpu": "12", SLICE: "3"}
    more = put(manifest(PYTORCH), place, {"cpu": "12", GPU: "9"})
    for role in ("Master", "Worker"):
        put(more, f"spec.pytorchReplicaSpecs.{role}.template.spec.containers.0.resources.limits", {GPU: 3})
    for sent in (more, merged(live, more)):
        assert at(review(known, sent, live).item, place) == {"cpu": "12", GPU: "9"}


@pytest.mark.parametrize(
    ("name", "limits", "place", "total", "after"),
    [
        (
            "training.volcano.sh_HyperJob",
            ["spec.replicatedJobs.0.templateSpec.tasks.0.template.spec.containers.0.resources.limits"],
            "spec.replicatedJobs.0.splitPolicy.accelerators",
            8,
            4,
        ),
        (
            PYTORCH,
            [
                f"spec.pytorchReplicaSpecs.{role}.template.spec.containers.0.resources.limits"
                for role in ("Master", "Worker")
            ],
            "spec.runPolicy.schedulingPolicy.minResources",
            {GPU: "8"},
            {GPU: "4"},
        ),
    ],
)
def test_a_total_of_slices_that_are_called_as_whole_boards_are_is_reckoned_once(
    name: str, limits: list[str], place: str, total: Any, after: Any
) -> None:
    known = cluster("mig", "single", multiGPU="one")
    item = put(manifest(name), place, total)
    for each in limits:
        put(item, each, {GPU: 2})
    live = created(known, item)
    assert at(live, place) == after
    assert review(known, live, live).operations == []
    for stood in (live, manifest(name)):  # decided before, and asked for otherwise
        again = review(known, item, stood).item
        assert at(again, place) == after
        assert review(known, again, stood).operations == []


TIME: Final = cluster("time-slicing", "time-renamed")
KUBEFLOW_V1: Final = {"apiVersion": "kubeflow.org/v1"}
REFUSED: Final[list[tuple[str, ClusterState, dict[str, Any], str]]] = [
    (
        ISVC,
        TIME,
        {},
        "InferenceService team/llama: its predictor would get nvidia.com/gpu.shared, which KServe takes",
    ),
    (
        ISVC,
        mig(),
        {"spec.predictor.workerSpec": {"containers": []}},
        "multi-node serving in KServe takes nvidia.com/gpu",
    ),
    *(
        (
            ISVC,
            cluster(strategy, node),
            {"spec.predictor.workerSpec": {"containers": []}},
            f"its predictor has a workerSpec, but its class gets {strategy} (nvidia.com/gpu), and pieces",
        )
        for strategy, node in (("mig", "single"), ("time-slicing", "time"), ("mps", "mps"))
    ),
    (
        "serving.kserve.io_ServingRuntime",
        mig(),
        {"spec.workerSpec": {"containers": []}},
        "ServingRuntime team/vllm-team: its predictor has a workerSpec",
    ),
    (LLM, mig(), {"spec.parallelism.tensor": 2}, "spec.parallelism.tensor is 2, but its class gets mig"),
    (LLM, mig(), {"spec.prefill.parallelism.pipeline": 2}, "spec.prefill.parallelism.pipeline is 2"),
    (DYNAMO, mig(), {"spec.multinode": {"nodeCount": 2}}, "multinode.nodeCount is 2"),
    (DYNAMO, TIME, {}, "which Dynamo takes for no GPU"),
    (
        MPI,
        mig(),
        {
            "apiVersion": "kubeflow.org/v1",
            "spec.mpiReplicaSpecs.Launcher.template.spec.containers.0.resources": {"limits": {GPU: 1}},
        },
        "MPIJob team/allreduce: its Launcher asks for a GPU",
    ),
    (
        "trainer.kubeflow.org_TrainingRuntime",
        mig(),
        {"spec.mlPolicy.torch": {}},
        "leave GPUs out of the runtime and ask for them in spec.trainer.resourcesPerNode",
    ),
    (
        PYTORCH,
        cluster("mig", "mixed", "whole"),
        {"spec.pytorchReplicaSpecs.Worker.template.spec.containers.0.resources.limits": {GPU: 4}},
        "it cannot be told how many of each; remove it from spec.runPolicy.schedulingPolicy.minResources",
    ),
    (
        "training.volcano.sh_HyperJob",
        cluster("mig", "mixed", "whole"),
        {
            "spec.replicatedJobs.0.templateSpec.tasks": [
                {"template": {"spec": {"containers": [{"name": n, "resources": {"limits": {GPU: g}}}]}}}
                for n, g in (("a", 1), ("b", 4))
            ]
        },
        "spec.replicatedJobs[0].splitPolicy counts one resource",
    ),
]


@pytest.mark.parametrize(
    ("name", "where", "instead", "words"), REFUSED, ids=[f"{e[0]}: {e[3][-30:]}" for e in REFUSED]
)
def test_what_cannot_work_is_refused(
    name: str, where: ClusterState, instead: dict[str, Any], words: str
) -> None:
    item = manifest(name)
    for place, value in instead.items():
        put(item, place, value)
    result = review(where, item)
    assert not result.allowed
    assert words in result.message
    assert result.message.startswith(f"{item['kind']} team/")
    assert "\n" not in result.message


def test_a_model_on_several_nodes_gets_whole_gpus() -> None:
    item = put(manifest(ISVC), "spec.predictor.workerSpec", {"containers": []})
    assert review(cluster("exclusive", "whole"), item).outcome == "rewritten"


def test_a_policy_that_leaves_what_does_not_fit_leaves_it_with_the_sentence() -> None:
    result = review(cluster("time-slicing", "time-renamed", whenNothingFits="leave"), manifest(ISVC))
    assert (result.outcome, result.operations) == ("left", [])
    words = "InferenceService team/llama: its predictor would get nvidia.com/gpu.shared"
    assert result.warnings[0].startswith(words)
    where = cluster("time-slicing", "time-renamed", whenNothingFits="leave", labels={keys.MODE: "audit"})
    audited = review(where, manifest(ISVC))
    assert (audited.outcome, audited.operations) == ("audited", [])
    assert audited.warnings == [f"audit: {each}" for each in result.warnings]


@pytest.mark.parametrize(
    "executors", [None, 1], ids=["of which nothing was decided", "of which something was"]
)
def test_a_policy_that_leaves_a_total_which_cannot_be_split_leaves_it_in_an_update_too(
    executors: int | None,
) -> None:
    def application(each: int | None, total: int) -> Object:
        item = put(manifest(SPARK), "spec.driver", {"cores": 1})
        put(item, "spec.executor", {"instances": 2, "gpu": {"name": GPU, "quantity": each}} if each else {})
        if each:
            container = {"name": "driver", "resources": {"limits": {GPU: 1}}}
            put(item, "spec.driver.template", {"spec": {"containers": [container]}})
        return put(item, "spec.batchSchedulerOptions.resources", {GPU: str(total)} if total else {})

    known = cluster("mig", "mixed", "whole", whenNothingFits="leave")
    bad = application(4, 7)
    left = review(known, bad)
    assert (left.outcome, left.operations) == ("left", [])
    old = created(known, application(executors, executors * 3 if executors else 0))
    assert (keys.DECISION in str(old)) is bool(executors)
    for client in (Client.KUBECTL, Client.SERVER_SIDE):
        before = application(executors, executors * 3 if executors else 0)
        answered = review(known, applied_again(client, before, bad, old), old)
        assert (answered.outcome, answered.warnings) == ("left", left.warnings)
        assert [*asked(answered.item["spec"])] == [*asked(bad["spec"])]
        assert f"'{keys.DECISION}'" not in str(answered.item)
        assert review(known, answered.item, old).operations == []


@pytest.mark.parametrize("client", Client)
@pytest.mark.parametrize("multi", ["whole", "each", "one"])
@pytest.mark.parametrize(("first", "second"), [(1, 4), (4, 1), (2, 4)])
def test_another_count_beside_a_name_that_helm_does_not_send_again_is_one_of_gpus(
    client: Client, multi: str, first: int, second: int
) -> None:
    """Of two fields for the name and the count Helm sends the count alone: the chart's name is as it was."""
    known, place = cluster("mig", "mixed", "whole", multiGPU=multi), "spec.executor.gpu"

    def application(number: int) -> Object:
        item = put(manifest(SPARK), "spec.driver", {"cores": 1})
        put(item, "spec.batchSchedulerOptions", {})
        return put(item, f"{place}.quantity", number)

    before, now = application(first), application(second)
    old = created(known, applied(client, before))
    sent = applied_again(client, before, now, old)
    options = {"fieldManager": client.field_manager}
    answered = review(known, sent, old, options=options)
    assert at(answered.item, place) == at(created(known, now), place)
    assert review(known, answered.item, old, options=options).operations == []
    again = applied_again(client, now, now, answered.item)
    assert review(known, again, answered.item, options=options).item == answered.item


def test_audit_says_that_it_would_be_refused() -> None:
    where = cluster("time-slicing", "time-renamed", labels={keys.MODE: "audit"})
    result = review(where, manifest(ISVC))
    assert (result.outcome, result.operations) == ("audited", [])
    assert "would be refused: InferenceService" in result.warnings[0]


def test_an_update_that_changes_no_gpu_is_not_refused() -> None:
    live = review(mig(), manifest(LLM)).item
    sent = put(manifest(LLM), "spec.parallelism.tensor", 2)
    result = review(mig(), sent, live)
    assert result.allowed
    assert "spec.parallelism.tensor is 2" in result.warnings[0]
    asks = put(manifest(LLM), "spec.parallelism.tensor", 2)
    put(asks, "spec.template.containers.0.resources.limits", {GPU: "2"})
    assert (
        "spec.parallelism.tensor is 2" in review(cluster("mig", "mixed", multiGPU="each"), asks, live).message
    )


PATCH: Final = f'containers: [{{name: main, resources: {{limits: {{"{GPU}": 1}}}}}}]'
TOTAL: Final = "spec.batchSchedulerOptions.resources"
HEAD: Final = "spec.rayClusterConfig.headGroupSpec.template.spec.containers.0.resources.limits"
AMOUNT: Final = "spark.executor.resource.gpu.amount"
WARNED: Final[list[tuple[str, dict[str, Any], dict[str, Any], str]]] = [
    ("flow.volcano.sh_JobFlow", {}, {}, "Volcano takes them from the JobTemplate"),
    ("scheduling.volcano.sh_PodGroup", {}, {}, "read as a total over pods of one GPU each"),
    ("argoproj.io_Workflow", {"spec.podSpecPatch": PATCH}, {}, "podSpecPatch names nvidia.com/"),
    (
        "tekton.dev_TaskRun",
        {"spec.computeResources": {"limits": {GPU: 1}}},
        {},
        "repeats its limit on each step",
    ),
    (SPARK, {"spec.sparkConf": {AMOUNT: "1"}}, {}, f"spec.sparkConf {AMOUNT} is left alone"),
    (SPARK, {TOTAL: {GPU: "many"}}, {}, f"{TOTAL} is left alone"),
    (
        "ray.io_RayJob",
        {"spec.entrypointResources": '{"accelerator_type:H100": 1}'},
        {},
        "names an accelerator type",
    ),
    ("ray.io_RayService", {HEAD: {GPU: 2}}, ONE, "spec.serveConfigV2 asks for num_gpus"),
]


@pytest.mark.parametrize(
    ("name", "instead", "work", "words"), WARNED, ids=[f"{e[0]}: {e[3][:20]}" for e in WARNED]
)
def test_what_is_left_beside_is_said(
    name: str, instead: dict[str, Any], work: dict[str, Any], words: str
) -> None:
    item = manifest(name)
    for place, value in instead.items():
        put(item, place, value)
    result = review(mig(**work), item)
    assert result.allowed
    assert any(words in warning and warning.startswith(item["kind"]) for warning in result.warnings)


def test_names_that_every_matcher_knows_need_no_help() -> None:
    exclusive = cluster("exclusive", "whole")
    ray = review(exclusive, manifest(RAY)).item
    assert at(ray, "spec.workerGroupSpecs.0.rayStartParams") is None
    train = review(cluster("time-slicing", "time-renamed"), manifest(TRAIN)).item
    assert at(train, "spec.trainer.resourcesPerNode.limits") == {SHARED: "1"}
    assert at(train, "spec.trainer.numProcPerNode") is None


def test_a_mig_slice_is_no_multi_node_question_for_one_predictor() -> None:
    result = review(mig(), manifest(ISVC))
    assert at(result.item, "spec.predictor.model.resources.requests") == {SLICE: "1"}


@pytest.mark.parametrize(
    ("api_version", "kind", "spec", "told"),
    [
        (
            "argoproj.io/v1alpha1",
            "Workflow",
            {"templates": [{"name": "a", "container": {"image": "x"}, "podSpecPatch": PATCH}]},
            "podSpecPatch names nvidia.com/",
        ),
        (
            "sparkoperator.k8s.io/v1beta2",
            "SparkApplication",
            {"sparkConf": {AMOUNT: "1"}, "driver": {}, "executor": {}},
            f"spec.sparkConf {AMOUNT} is left alone",
        ),
    ],
    ids=["podSpecPatch", "sparkConf"],
)
def test_a_field_that_asks_where_no_container_does_is_said(
    api_version: str, kind: str, spec: Object, told: str
) -> None:
    item = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "work"}, "spec": spec}
    answered = review(mig(), item)
    (warning,) = answered.warnings
    assert told in warning
    assert (answered.operations, answered.outcome) == ([], "left")
