"""Where each kind takes its queue, for both engines."""

from typing import Final

import pytest

from slicewise.api import keys
from tests.admission.building import SLICE, Object, asking, deployment, review
from tests.admission.kinds import NAMES, at, manifest, merged, mig, put
from tests.admission.test_kinds import REWRITTEN

KUEUE: Final = mig(labels={keys.QUEUE: "gpus"})
VOLCANO: Final = mig(labels={keys.QUEUE: "gpus", keys.ENGINE: "volcano"})
LABEL: Final = {keys.KUEUE_QUEUE: "gpus"}

# Kinds that take Kueue's label elsewhere than on themselves, or not at all.
ELSEWHERE: Final = {
    "agents.x-k8s.io_Sandbox": "spec.podTemplate.metadata.labels",
    "argoproj.io_CronWorkflow": "spec.workflowSpec.podMetadata.labels",
    "argoproj.io_Workflow": "spec.podMetadata.labels",
    "argoproj.io_WorkflowTemplate": "spec.podMetadata.labels",
    "batch_CronJob": "spec.jobTemplate.metadata.labels",
    "trainer.kubeflow.org_OptimizationJob": "spec.trainJobTemplate.metadata.labels",
}
NOWHERE: Final = {
    "apps_DaemonSet",
    "apps_ReplicaSet",
    "batch.volcano.sh_CronJob",
    "batch.volcano.sh_Job",
    "core_PodTemplate",
    "core_ReplicationController",
    "flow.volcano.sh_JobFlow",
    "flow.volcano.sh_JobTemplate",
    "scheduling.volcano.sh_PodGroup",
    "scheduling.x-k8s.io_PodGroup",
    "serving.kserve.io_LLMInferenceServiceConfig",
    "serving.kserve.io_ServingRuntime",
    "trainer.kubeflow.org_TrainingRuntime",
    "training.volcano.sh_HyperJob",
}
FIELDS: Final = {
    "batch.volcano.sh_Job": "spec.queue",
    "batch.volcano.sh_CronJob": "spec.jobTemplate.spec.queue",
    "flow.volcano.sh_JobTemplate": "spec.queue",
    "training.volcano.sh_HyperJob": "spec.replicatedJobs.0.templateSpec.queue",
    "scheduling.volcano.sh_PodGroup": "spec.queue",
    "kubeflow.org_PyTorchJob": "spec.runPolicy.schedulingPolicy.queue",
    "kubeflow.org_TFJob": "spec.runPolicy.schedulingPolicy.queue",
    "kubeflow.org_MPIJob": "spec.runPolicy.schedulingPolicy.queue",
    "sparkoperator.k8s.io_SparkApplication": "spec.batchSchedulerOptions.queue",
    "sparkoperator.k8s.io_ScheduledSparkApplication": "spec.template.batchSchedulerOptions.queue",
}


@pytest.mark.parametrize("name", REWRITTEN)
def test_kueue_finds_its_label_where_it_reads_it(name: str) -> None:
    item = manifest(name)
    result = review(KUEUE, item)
    place = "" if name in NOWHERE else ELSEWHERE.get(name, "metadata.labels")
    assert str(result.item).count(keys.KUEUE_QUEUE) == (1 if place else 0)
    if place and name != "core_Pod":
        assert at(result.item, place)[keys.KUEUE_QUEUE] == "gpus"
        assert review(KUEUE, item, result.item).item == result.item


@pytest.mark.parametrize(
    "item",
    [
        put(manifest("tekton.dev_PipelineRun"), "spec.taskRunSpecs", []),
        deployment(asking({SLICE: 1})),
    ],
    ids=["it is decided on in its pods", "it names its slice itself"],
)
def test_what_is_left_as_it_is_asked_keeps_its_queue_too(item: Object) -> None:
    live = review(KUEUE, item).item
    assert at(live, "metadata.labels")[keys.KUEUE_QUEUE] == "gpus"
    again = review(KUEUE, item, live)
    assert (again.outcome, again.item) == ("repeated", live)


@pytest.mark.parametrize(("name", "place"), FIELDS.items(), ids=list(FIELDS))
def test_volcano_finds_its_queue_in_the_field_that_it_reads(name: str, place: str) -> None:
    item = manifest(name)
    result = review(VOLCANO, item)
    assert at(result.item, place) == "gpus"
    for sent in (item, merged(result.item, item)):
        assert review(VOLCANO, sent, result.item).item == result.item
    assert at(review(VOLCANO, put(manifest(name), place, "own")).item, place) == "own"


@pytest.mark.parametrize("name", ["ray.io_RayCluster", "ray.io_RayJob", "ray.io_RayService"])
def test_kuberay_reads_a_label(name: str) -> None:
    assert at(review(VOLCANO, manifest(name)).item, "metadata.labels") == {"volcano.sh/queue-name": "gpus"}


@pytest.mark.parametrize("kind", ["Service", "Configuration"])
def test_knative_refuses_a_schedulers_name(kind: str) -> None:
    result = review(VOLCANO, manifest(f"serving.knative.dev_{kind}"))
    assert result.outcome == "rewritten"
    assert at(result.item, "spec.template.spec.schedulerName") is None


def test_a_leaderworkerset_takes_an_annotation() -> None:
    item = review(VOLCANO, manifest("leaderworkerset.x-k8s.io_LeaderWorkerSet")).item
    assert at(item, "metadata.annotations")[keys.VOLCANO_QUEUE] == "gpus"


def test_spark_names_its_scheduler_and_keeps_another() -> None:
    name = "sparkoperator.k8s.io_SparkApplication"
    assert at(review(VOLCANO, manifest(name)).item, "spec.batchScheduler") == "volcano"
    other = review(VOLCANO, put(manifest(name), "spec.batchScheduler", "yunikorn")).item
    assert at(other, "spec.batchSchedulerOptions.queue") is None


def test_a_trainjob_carries_it_in_its_runtime_patch() -> None:
    name = "trainer.kubeflow.org_TrainJob"
    live = review(VOLCANO, manifest(name)).item
    template = at(live, "spec.runtimePatches.0.trainingRuntimeSpec.template")
    assert template["metadata"]["annotations"] == {keys.VOLCANO_QUEUE: "gpus"}
    assert review(VOLCANO, manifest(name), live).item == live


def test_every_name_is_a_manifest() -> None:
    assert {*ELSEWHERE, *NOWHERE, *FIELDS} <= set(NAMES)
