"""The built-in table of kinds.  Data; the sources of every path are in docs/kinds.md."""

from collections.abc import Iterable
from typing import Any, Final

from admission.workloads.kind import UNQUEUED, Kind, Queueing, SideField, Steering
from admission.workloads.path_language import resolve

# Their children are made once and not compared (docs/kinds.md, "Owners").
_ONCE: Final = frozenset(
    {
        "CronJob.batch",
        "JobSet.jobset.x-k8s.io",
        "AppWrapper.workload.codeflare.dev",
        "RayCronJob.ray.io",
        "Workflow.argoproj.io",
        "CronWorkflow.argoproj.io",
        "ScheduledSparkApplication.sparkoperator.k8s.io",
        "JobFlow.flow.volcano.sh",
        "CronJob.batch.volcano.sh",
        "NIMService.apps.nvidia.com",
        "NIMBuild.apps.nvidia.com",
    }
)
_ANY: Final = frozenset({"*"})
_V1ALPHA1: Final = ("v1alpha1",)
_SUSPENDED: Final = Queueing(keeper="kueue", suspend="spec.suspend")

_JOBSET: Final = "T spec.replicatedJobs[].template.spec.template"
_LWS: Final = "leaderWorkerTemplate.{leaderTemplate,workerTemplate}"
_RAY: Final = ("T spec.headGroupSpec.template", "T spec.workerGroupSpecs[].template")
_RAYJOB: Final = ("@RayCluster spec.rayClusterSpec", "T spec.submitterPodTemplate")
# An Argo template's own affinity or tolerations would replace those of the templates that call it and of its
# workflow (workflowpod.go, addSchedulingConstraints); its pods carry its annotations. What it does not say itself it
# takes from its workflow (workflow_types.go, Template).
_SCHEDULED: Final = "(affinity,nodeSelector,tolerations,schedulerName)"
_CONTAINERS: Final = "C container=main + C script=main + C sidecars + C containerSet.containers"
_ARGO: Final = tuple(
    f"{place}: I . from {base}{_SCHEDULED} + {_CONTAINERS}"
    for place, base in (
        ("spec.templateDefaults", "spec"),
        ("spec.templates[]", "spec"),
        ("spec.templates[].steps[][].inline", "spec"),
        ("spec.templates[].dag.tasks[].inline", "spec"),
    )
)
# Containers of its pods are called step-NAME and sidecar-NAME (pkg/pod/pod.go).
_TASK: Final = "C {steps,stepTemplate}(computeResources)=step-* + C sidecars(computeResources)=sidecar-*"
_STEPS: Final = (
    "P podTemplate + R computeResources"
    " + C stepSpecs(computeResources)=step-* + C sidecarSpecs(computeResources)=sidecar-*"
)
_TASKRUN_SPECS: Final = f"spec.taskRunSpecs[]: {_STEPS}"
_SPARK: Final = (
    "spec.driver: P . + N gpu=spark-kubernetes-driver + C sidecars",
    "spec.executor: P . + N gpu=spark-kubernetes-executor + C sidecars",
    "T spec.{driver,executor}.template",
)
# v1beta1 PredictorSpec
_FRAMEWORKS: Final = "model,sklearn,xgboost,tensorflow,pytorch,triton,onnx,huggingface,pmml,lightgbm,paddle"
_PREDICTOR: Final = f"P . + C {{{_FRAMEWORKS}}}=kserve-container"
_LLM: Final = ("P spec.{template,worker,prefill.template,prefill.worker,router.scheduler.template}",)
_DYNAMO_V1ALPHA1: Final = (
    "spec: P extraPodSpec + C extraPodSpec.mainContainer=main"
    " + N resources.{requests,limits}(gpuType,gpu)=main + M resources.{requests,limits}.custom=main"
)
_DYNAMO: Final = (_DYNAMO_V1ALPHA1, "T spec.podTemplate")
_SPEC_PATHS: Final = {
    "RayCluster": _RAY,
    "RayJob": tuple(resolve(_RAYJOB, {"RayCluster": _RAY})),
    "TrainJob": ("spec.trainer: R resourcesPerNode=node",),
    "Workflow": _ARGO,
    "SparkApplication": _SPARK,
    "Task": (f"spec: {_TASK}",),
    "Pipeline": (f"spec.{{tasks,finally}}[].taskSpec: {_TASK}",),
    "DynamoComponentDeployment": _DYNAMO,
}


def _k(
    group: str,
    kinds: str,
    paths: str | Iterable[str],
    owners: frozenset[str] = frozenset(),
    menders: tuple[str, ...] = (),
    **rest: Any,
) -> tuple[Kind, ...]:
    """Rows for kinds of one shape; each of `menders` is a mender's name and a place."""
    written = resolve((paths,) if isinstance(paths, str) else paths, _SPEC_PATHS)
    side_fields = tuple(SideField(*each.split()) for each in menders)
    return tuple(
        Kind(group, kind, written, owners, side_fields=side_fields, **rest) for kind in kinds.split()
    )


def _kubeflow(kind: str, field: str, versions: tuple[str, ...] = ("v1",)) -> tuple[Kind, ...]:
    return _k(
        "kubeflow.org",
        kind,
        f"T spec.{field}ReplicaSpecs.*.template",
        _ONCE,
        versions=versions,
        menders=("kubeflow spec",),
        queueing=Queueing(
            volcano=("spec.runPolicy.schedulingPolicy.queue",),
            keeper="kueue",
            suspend="spec.runPolicy.suspend",
        ),
        pod_label="training.kubeflow.org/job-name",
    )


def _ray(
    kind: str, paths: Iterable[str], menders: tuple[str, ...], suspend: str = "spec.suspend", **rest: Any
) -> tuple[Kind, ...]:
    keeper = "kueue" if suspend else ""
    queueing = Queueing(volcano_label="volcano.sh/queue-name", keeper=keeper, suspend=suspend)
    return _k("ray.io", kind, paths, menders=menders, queueing=queueing, **rest)


def _knative(kinds: str) -> tuple[Kind, ...]:
    # Knative refuses affinity, tolerations and a scheduler's name in a revision unless flags allow them (serving,
    # config-features).
    queueing = Queueing(volcano_templates=False)
    return _k(
        "serving.knative.dev",
        kinds,
        "T spec.template",
        means=Steering.RECORD,
        queueing=queueing,
        pod_label="serving.knative.dev/configuration",
    )


def _vcjob(
    group: str,
    kind: str,
    path: str,
    queue: str,
    owners: frozenset[str] = frozenset(),
    menders: tuple[str, ...] = (),
    keeper: str = "",
) -> tuple[Kind, ...]:
    # `minResources` of a gang is the sum of its templates' requests (pkg/controllers/util, GetPodQuotaUsage).
    queueing = Queueing(
        engine="volcano",
        counts_requests=True,
        kueue="",
        volcano=(queue,) if queue else (),
        volcano_templates=False,
        keeper=keeper,
    )
    return _k(group, kind, path, owners, versions=_V1ALPHA1, queueing=queueing, menders=menders)


_CORE: Final = (
    *_k("", "Pod", "P spec", _ANY),
    *_k("", "PodTemplate", "T template", queueing=UNQUEUED),
    *_k("", "ReplicationController", "T spec.template", queueing=UNQUEUED),
    *_k("apps", "Deployment", "T spec.template", _ONCE),
    *_k("apps", "StatefulSet", "T spec.template", _ONCE, queueing=Queueing(keeper="kueue")),
    *_k("apps", "DaemonSet", "T spec.template", _ONCE, queueing=UNQUEUED, every_node=True),
    *_k("apps", "ReplicaSet", "T spec.template", queueing=UNQUEUED),
    *_k("batch", "Job", "T spec.template", _ONCE, queueing=_SUSPENDED),
    *_k(
        "batch",
        "CronJob",
        "T spec.jobTemplate.spec.template",
        _ONCE,
        queueing=Queueing(kueue="spec.jobTemplate.metadata"),
    ),
    *_k(
        "workload.codeflare.dev",
        "AppWrapper",
        "G spec.components[].template",
        versions=("v1beta2",),
        queueing=_SUSPENDED,
        pod_label="workload.codeflare.dev/appwrapper",
    ),
    *_k(
        "jobset.x-k8s.io",
        "JobSet",
        _JOBSET,
        _ONCE,
        versions=("v1alpha2",),
        queueing=_SUSPENDED,
        pod_label="jobset.sigs.k8s.io/jobset-name",
    ),
    *_k(
        "leaderworkerset.x-k8s.io",
        "LeaderWorkerSet",
        f"T spec.{_LWS}",
        _ONCE,
        queueing=Queueing(volcano_annotation=True, keeper="kueue"),
        pod_label="leaderworkerset.sigs.k8s.io/name",
    ),
    *_k("disaggregatedset.x-k8s.io", "DisaggregatedSet", f"T spec.roles[].spec.{_LWS}"),
    *_k(
        "agents.x-k8s.io",
        "Sandbox",
        "T spec.podTemplate",
        versions=_V1ALPHA1,
        plural="sandboxes",
        queueing=Queueing(kueue="spec.podTemplate.metadata"),
    ),
)

_VOLCANO: Final = (
    *_vcjob("batch.volcano.sh", "Job", "T spec.tasks[].template", "spec.queue", _ONCE, keeper="volcano"),
    *_vcjob(
        "batch.volcano.sh",
        "CronJob",
        "T spec.jobTemplate.spec.tasks[].template",
        "spec.jobTemplate.spec.queue",
    ),
    *_vcjob("flow.volcano.sh", "JobTemplate", "T spec.tasks[].template", "spec.queue"),
    *_vcjob(
        "flow.volcano.sh",
        "JobFlow",
        "T spec.flows[].patch.jobSpec.tasks[].template",
        "",
        menders=("jobflow spec",),
    ),
    *_vcjob(
        "training.volcano.sh",
        "HyperJob",
        "T spec.replicatedJobs[].templateSpec.tasks[].template",
        "spec.replicatedJobs[].templateSpec.queue",
        menders=("hyperjob spec",),
    ),
    *_k(
        "scheduling.volcano.sh",
        "PodGroup",
        "M spec.minResources",
        versions=("v1beta1",),
        means=Steering.TOTAL,
        menders=("podgroup spec",),
        queueing=Queueing(engine="volcano", kueue="", volcano=("spec.queue",), volcano_templates=False),
    ),
    *_k(
        "scheduling.x-k8s.io",
        "PodGroup",
        "M spec.minResources",
        versions=_V1ALPHA1,
        means=Steering.TOTAL,
        menders=("podgroup spec",),
        queueing=UNQUEUED,
    ),
    *_k("scheduling.x-k8s.io", "ElasticQuota", (), versions=_V1ALPHA1, queueing=UNQUEUED),
)

_RAY_IO: Final = ("v1", "v1alpha1")
_TRAINING: Final = (
    *_ray("RayCluster", _RAY, ("ray spec",), owners=_ONCE, versions=_RAY_IO),
    *_ray("RayJob", _RAYJOB, ("ray spec.rayClusterSpec", "rayjob spec"), owners=_ONCE, versions=_RAY_IO),
    *_ray(
        "RayService",
        ("@RayCluster spec.rayClusterConfig",),
        ("ray spec.rayClusterConfig", "rayservice spec"),
        suspend="spec.rayClusterConfig.suspend",
        versions=_RAY_IO,
    ),
    *_ray(
        "RayCronJob",
        ("@RayJob spec.jobTemplate",),
        ("ray spec.jobTemplate.rayClusterSpec", "rayjob spec.jobTemplate"),
        suspend="",
    ),
    *_kubeflow("PyTorchJob", "pytorch"),
    *_kubeflow("TFJob", "tf"),
    *_kubeflow("XGBoostJob", "xgb"),
    *_kubeflow("PaddleJob", "paddle"),
    *_kubeflow("JAXJob", "jax"),
    *_kubeflow("MPIJob", "mpi", ("v1", "v2beta1")),
    *_k(
        "trainer.kubeflow.org",
        "TrainJob",
        "@TrainJob spec",
        versions=_V1ALPHA1,
        means=Steering.MENDER,
        menders=("trainjob spec",),
        queueing=Queueing(volcano_templates=False, keeper="kueue", suspend="spec.suspend"),
    ),
    *_k(
        "trainer.kubeflow.org",
        "TrainingRuntime",
        "T spec.template.spec.replicatedJobs[].template.spec.template",
        versions=_V1ALPHA1,
        menders=("runtime spec",),
        queueing=UNQUEUED,
    ),
    *_k(
        "trainer.kubeflow.org",
        "ClusterTrainingRuntime",
        "T spec.template.spec.replicatedJobs[].template.spec.template",
        versions=_V1ALPHA1,
        namespaced=False,
        queueing=UNQUEUED,
    ),
    *_k(
        "trainer.kubeflow.org",
        "OptimizationJob",
        "@TrainJob spec.trainJobTemplate.spec",
        versions=_V1ALPHA1,
        means=Steering.MENDER,
        menders=("trainjob spec.trainJobTemplate.spec",),
        queueing=Queueing(kueue="spec.trainJobTemplate.metadata", volcano_templates=False),
    ),
)

_SPARK_QUEUE: Final = {
    place: Queueing(
        volcano=(f"{place}.batchSchedulerOptions.queue",),
        volcano_scheduler=f"{place}.batchScheduler",
        volcano_templates=False,
        keeper="kueue" if place == "spec" else "",
        suspend="spec.suspend",
    )
    for place in ("spec", "spec.template")
}
_ARGO_QUEUE: Final = Queueing(kueue="spec.podMetadata")
_FLOWS: Final = (
    *_k(
        "argoproj.io",
        "Workflow WorkflowTemplate",
        "@Workflow spec",
        versions=_V1ALPHA1,
        means=Steering.RECORD,
        menders=("argo spec",),
        queueing=_ARGO_QUEUE,
    ),
    *_k(
        "argoproj.io",
        "ClusterWorkflowTemplate",
        "@Workflow spec",
        versions=_V1ALPHA1,
        namespaced=False,
        queueing=UNQUEUED,
    ),
    *_k(
        "argoproj.io",
        "CronWorkflow",
        "@Workflow spec.workflowSpec",
        versions=_V1ALPHA1,
        means=Steering.RECORD,
        menders=("argo spec.workflowSpec",),
        queueing=Queueing(kueue="spec.workflowSpec.podMetadata"),
    ),
    *_k("argoproj.io", "Rollout", "T spec.template", versions=_V1ALPHA1),
    *_k("tekton.dev", "Task", "@Task spec", means=Steering.PODS, queueing=UNQUEUED),
    *_k("tekton.dev", "Pipeline", "@Pipeline spec", means=Steering.PODS, queueing=UNQUEUED),
    *_k(
        "tekton.dev",
        "TaskRun",
        f"spec: {_STEPS} + C taskSpec.{{steps,stepTemplate}}(computeResources)=step-*"
        " + C taskSpec.sidecars(computeResources)=sidecar-*",
        menders=("taskrun spec",),
    ),
    *_k(
        "tekton.dev",
        "PipelineRun",
        (
            "@Pipeline spec.pipelineSpec",
            _TASKRUN_SPECS,
        ),
        means=Steering.PODS,
    ),
    *_k(
        "sparkoperator.k8s.io",
        "SparkApplication",
        _SPARK,
        _ONCE,
        versions=("v1beta2",),
        menders=("spark spec",),
        queueing=_SPARK_QUEUE["spec"],
    ),
    *_k(
        "sparkoperator.k8s.io",
        "ScheduledSparkApplication",
        "@SparkApplication spec.template",
        versions=("v1beta2",),
        menders=("spark spec.template",),
        queueing=_SPARK_QUEUE["spec.template"],
    ),
    *_k(
        "sparkoperator.k8s.io",
        "SparkConnect",
        "T spec.{server,executor}.template",
        versions=_V1ALPHA1,
        menders=("sparkconf spec",),
    ),
)

_KSERVE: Final = ("P spec", "P spec.workerSpec")
_SERVING: Final = (
    *_k(
        "serving.kserve.io",
        "InferenceService",
        (
            f"spec.predictor: {_PREDICTOR}",
            f"spec.canary[].predictor: {_PREDICTOR}",
            "P spec.transformer",
            "spec.explainer: P . + C art=kserve-container",
            "P spec.predictor.workerSpec",
        ),
        versions=("v1beta1",),
        menders=("kserve spec.predictor", "kserve spec.canary[].predictor"),
        pod_label="serving.kserve.io/inferenceservice",
    ),
    *_k(
        "serving.kserve.io",
        "ServingRuntime",
        _KSERVE,
        versions=_V1ALPHA1,
        menders=("kserve spec",),
        queueing=UNQUEUED,
    ),
    *_k(
        "serving.kserve.io",
        "ClusterServingRuntime",
        _KSERVE,
        versions=_V1ALPHA1,
        namespaced=False,
        queueing=UNQUEUED,
    ),
    *_k("serving.kserve.io", "InferenceGraph", "spec: P . + R resources", versions=_V1ALPHA1),
    *_k(
        "serving.kserve.io",
        "LLMInferenceService",
        _LLM,
        versions=("v1alpha1", "v1alpha2"),
        menders=("llm spec",),
    ),
    *_k(
        "serving.kserve.io",
        "LLMInferenceServiceConfig",
        _LLM,
        versions=("v1alpha1", "v1alpha2"),
        menders=("llm spec",),
        queueing=UNQUEUED,
    ),
    *_k("kubeflow.org", "Notebook", "P spec.template.spec", versions=("v1", "v1beta1", "v1alpha1")),
    *_k(
        "kubeflow.org",
        "WorkspaceKind",
        "R spec.podTemplate.options.podConfig.values[].spec.resources",
        versions=("v1beta1",),
        namespaced=False,
        queueing=UNQUEUED,
    ),
    *_knative("Service Configuration"),
    *_k("serving.knative.dev", "Revision", "X spec"),
    *_k(
        "machinelearning.seldon.io",
        "SeldonDeployment",
        ("P spec.predictors[].componentSpecs[].spec", "R spec.predictors[].svcOrchSpec.resources"),
        versions=("v1", "v1alpha3", "v1alpha2"),
        means=Steering.PODS,
    ),
    *_k("grove.io", "PodCliqueSet", "P spec.template.cliques[].spec.podSpec", versions=_V1ALPHA1),
)

_NVIDIA: Final = (
    *_k("apps.nvidia.com", "NIMService NIMBuild", "X spec.resources", versions=_V1ALPHA1),
    *_k("apps.nvidia.com", "NIMPipeline", "X spec.services[].spec.resources", versions=_V1ALPHA1),
    *_k("apps.nvidia.com", "NIMCache", (), versions=_V1ALPHA1),
    *_k(
        "apps.nvidia.com",
        "NemoCustomizer",
        "R spec.{resources,trainingConfig.resources}",
        versions=_V1ALPHA1,
        means=Steering.PODS,
        queueing=UNQUEUED,  # its pods get labels from spec.labels, never from its metadata (GetServiceLabels)
    ),
    *_k(
        "nvidia.com",
        "DynamoComponentDeployment",
        _DYNAMO,
        versions=("v1alpha1", "v1beta1"),
        menders=("dynamo spec",),
    ),
    *_k(
        "nvidia.com",
        "DynamoGraphDeployment",
        ("@DynamoComponentDeployment spec.{services.*,components[]}",),
        versions=("v1alpha1", "v1beta1"),
        menders=("dynamo spec.services.*", "dynamo spec.components[]"),
    ),
    *_k("kubevirt.io", "VirtualMachine", "X spec.template.spec.domain.devices"),
    *_k(
        "kubevirt.io",
        "VirtualMachineInstance",
        "X spec.domain.devices",
        homes=("kubevirt", "kubevirt-hyperconverged", "openshift-cnv", "harvester-system"),
    ),
    *_k("instancetype.kubevirt.io", "VirtualMachineInstancetype", "X spec.gpus", versions=("v1beta1",)),
)

TABLE: Final[tuple[Kind, ...]] = (*_CORE, *_VOLCANO, *_TRAINING, *_FLOWS, *_SERVING, *_NVIDIA)


def group_kinds(kind: str) -> list[str]:
    """Returns the rows (`Kind.group`) that are called so in whatever group, in upper or lower case."""
    return [each.group_kind for each in TABLE if each.kind.lower() == kind.lower()]


HOMES: Final = frozenset(home for kind in TABLE for home in kind.homes)
"""The namespaces in which controllers run whose word about what they make is believed."""

POD_LABELS: Final = tuple(dict.fromkeys(kind.pod_label for kind in TABLE if kind.pod_label))
"""The labels by which pods say whose they are: kinds that wrap others first."""

COMPARING_OWNERS: Final = frozenset(kind.group_kind for kind in TABLE) - _ONCE
"""Controllers (Kind.group) that compare their children with what they rendered from a template that was decided there.

Nobody can list all other controllers (Katib, KEDA, Flyte …): what they make is decided as a person's is.
"""
