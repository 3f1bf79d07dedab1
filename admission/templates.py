"""Where each workload kind keeps its pod templates: one table, extended by configuration.

A path names the object that holds a pod spec: `T` a PodTemplateSpec, `P` the holder of a bare pod spec in
`spec` is written as the path of the PodSpec itself. `[]` goes through a list, `.*` through a map, `{a,b}`
expands as in a shell. Facts: the kinds' own API types, as docs/kinds.md lists them with sources.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

import msgspec

from admission.reading import (
    NO_METADATA,
    Metadata,
    PodSpec,
    PodTemplate,
    Template,
    Workload,
    at,
    metadata_of,
    projection,
)


class Kind(msgspec.Struct, frozen=True):
    """One kind of workload and where its templates are."""

    group: str
    kind: str
    paths: tuple[str, ...]
    safe_owners: frozenset[str] = frozenset()
    """Controllers (Kind.group) that never compare this kind with what they rendered; "*" is any."""


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
_RAY: Final = ("T {0}headGroupSpec.template", "T {0}workerGroupSpecs[].template")


def _ray(prefix: str) -> tuple[str, ...]:
    return tuple(path.format(prefix) for path in _RAY)


def _kubeflow(kind: str, field: str) -> Kind:
    return Kind("kubeflow.org", kind, (f"T spec.{field}ReplicaSpecs.*.template",), _ONCE)


_KSERVE_RUNTIME: Final = ("P spec", "P spec.workerSpec")
_LLM: Final = ("P spec.{template,worker,prefill.template,prefill.worker,router.scheduler.template}",)

TABLE: Final[tuple[Kind, ...]] = (
    Kind("", "Pod", ("P spec",), _ANY),
    Kind("", "PodTemplate", ("T template",)),
    Kind("", "ReplicationController", ("T spec.template",)),
    Kind("apps", "Deployment", ("T spec.template",), _ONCE),
    Kind("apps", "StatefulSet", ("T spec.template",), _ONCE),
    Kind("apps", "DaemonSet", ("T spec.template",), _ONCE),
    Kind("apps", "ReplicaSet", ("T spec.template",)),
    Kind("batch", "Job", ("T spec.template",), _ONCE),
    Kind("batch", "CronJob", ("T spec.jobTemplate.spec.template",), _ONCE),
    Kind("jobset.x-k8s.io", "JobSet", ("T spec.replicatedJobs[].template.spec.template",), _ONCE),
    Kind(
        "leaderworkerset.x-k8s.io",
        "LeaderWorkerSet",
        ("T spec.leaderWorkerTemplate.{leaderTemplate,workerTemplate}",),
        _ONCE,
    ),
    Kind(
        "disaggregatedset.x-k8s.io",
        "DisaggregatedSet",
        ("T spec.roles[].spec.leaderWorkerTemplate.{leaderTemplate,workerTemplate}",),
    ),
    Kind("batch.volcano.sh", "Job", ("T spec.tasks[].template",), _ONCE),
    Kind("batch.volcano.sh", "CronJob", ("T spec.jobTemplate.spec.tasks[].template",)),
    Kind("flow.volcano.sh", "JobTemplate", ("T spec.tasks[].template",)),
    Kind("flow.volcano.sh", "JobFlow", ("T spec.flows[].patch.jobSpec.tasks[].template",)),
    Kind("training.volcano.sh", "HyperJob", ("T spec.replicatedJobs[].templateSpec.tasks[].template",)),
    Kind("ray.io", "RayCluster", _ray("spec."), _ONCE),
    Kind("ray.io", "RayJob", (*_ray("spec.rayClusterSpec."), "T spec.submitterPodTemplate"), _ONCE),
    Kind("ray.io", "RayService", _ray("spec.rayClusterConfig.")),
    Kind(
        "ray.io",
        "RayCronJob",
        (*_ray("spec.jobTemplate.rayClusterSpec."), "T spec.jobTemplate.submitterPodTemplate"),
    ),
    _kubeflow("PyTorchJob", "pytorch"),
    _kubeflow("TFJob", "tf"),
    _kubeflow("XGBoostJob", "xgb"),
    _kubeflow("PaddleJob", "paddle"),
    _kubeflow("JAXJob", "jax"),
    _kubeflow("MPIJob", "mpi"),
    Kind("kubeflow.org", "Notebook", ("P spec.template.spec",)),
    Kind(
        "trainer.kubeflow.org",
        "TrainingRuntime",
        ("T spec.template.spec.replicatedJobs[].template.spec.template",),
    ),
    Kind("argoproj.io", "Rollout", ("T spec.template",)),
    Kind(
        "serving.kserve.io",
        "InferenceService",
        ("P spec.{predictor,transformer,explainer,predictor.workerSpec}",),
    ),
    Kind("serving.kserve.io", "ServingRuntime", _KSERVE_RUNTIME),
    Kind("serving.kserve.io", "LLMInferenceService", _LLM),
    Kind("serving.kserve.io", "LLMInferenceServiceConfig", _LLM),
    Kind("serving.knative.dev", "Service", ("P spec.template.spec",)),
    Kind("serving.knative.dev", "Configuration", ("P spec.template.spec",)),
    Kind("machinelearning.seldon.io", "SeldonDeployment", ("P spec.predictors[].componentSpecs[].spec",)),
    Kind("grove.io", "PodCliqueSet", ("P spec.template.cliques[].spec.podSpec",)),
    Kind("agents.x-k8s.io", "Sandbox", ("T spec.podTemplate",)),
)

_BRACES: Final = re.compile(r"\{([^{}]*)\}")


def _expand(path: str) -> Iterator[str]:
    match = _BRACES.search(path)
    if match is None:
        yield path
        return
    for choice in match[1].split(","):
        yield from _expand(path[: match.start()] + choice + path[match.end() :])


class Path(msgspec.Struct, frozen=True):
    """A path, taken apart: `[]` and `*` are steps of their own."""

    template: bool
    steps: tuple[str, ...]

    @property
    def fixed(self) -> bool:
        """True when it names one place."""
        return "[]" not in self.steps and "*" not in self.steps


def parse_paths(paths: Iterable[str]) -> tuple[Path, ...]:
    """Takes written paths apart.

    Raises:
        ValueError: a path is not `T` or `P` and a place.
    """
    found = []
    for path in itertools.chain.from_iterable(_expand(path) for path in paths):
        letter, _, place = path.partition(" ")
        if letter not in {"T", "P"} or not re.fullmatch(r"[\w-]+(\[\]|\.(\*|[\w-]+))*", place):
            raise ValueError(f"{path!r} is no path: write T or P and a place such as spec.template")
        steps = [step for step in re.split(r"\.|(\[\])", place) if step]
        found.append(Path(letter == "T", tuple(steps)))
    return tuple(found)


class Reader:
    """Finds the templates of one kind in the bytes of an object."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._paths = parse_paths(kind.paths)
        self._decode = None
        if len(self._paths) == 1 and self._paths[0].fixed:
            path = self._paths[0]
            steps = path.steps if path.template else path.steps[:-1]
            leaf = PodTemplate if path.template else _holder(path.steps[-1])
            self._decode = projection(steps, leaf).decode if steps else projection((), PodSpec).decode
            self._steps = steps

    def read(self, raw: bytes | msgspec.Raw, namespace: str) -> Workload:
        """Reads one object.

        Raises:
            msgspec.DecodeError: the bytes are no JSON object with metadata.
        """
        if self._decode is not None:
            try:
                return self._read_fixed(self._decode(raw), namespace)
            except msgspec.ValidationError:
                # A custom resource may hold anything; reading it piece by piece leaves out what is malformed.
                pass
        document = msgspec.json.decode(raw, type=dict[str, Any])
        return self._workload(metadata_of(document), namespace, tuple(self._walk(document)))

    def _workload(self, metadata: Metadata, namespace: str, templates: tuple[Template, ...]) -> Workload:
        return Workload(self.kind.group, self.kind.kind, namespace, metadata, templates)

    def _read_fixed(self, decoded: Any, namespace: str) -> Workload:
        path, metadata = self._paths[0], decoded.metadata or NO_METADATA
        if not self._steps:
            if decoded.spec is None:
                return self._workload(metadata, namespace, ())
            pod = self.kind.kind == "Pod"
            template = Template("", "/spec", decoded.spec, metadata if pod else None, pod)
            return self._workload(metadata, namespace, (template,))
        holder = at(decoded, self._steps)
        spec = getattr(holder, "spec" if path.template else path.steps[-1], None)
        if spec is None:
            return self._workload(metadata, namespace, ())
        pointer = "/" + "/".join(self._steps)
        if path.template:
            template = Template(pointer, pointer + "/spec", spec, holder.metadata, True)
        else:
            template = Template("", f"{pointer}/{path.steps[-1]}", spec, None, False)
        return self._workload(metadata, namespace, (template,))

    def _walk(self, document: Mapping[str, Any]) -> Iterator[Template]:
        seen = set()
        for path in self._paths:
            for pointer, value in places(document, path.steps):
                pod = self.kind.kind == "Pod"
                template = _template(pointer, value, is_template=path.template, pod=pod, document=document)
                if template is not None and template.spec_pointer not in seen:
                    seen.add(template.spec_pointer)
                    yield template


def _template(
    pointer: str,
    value: Any,
    *,
    is_template: bool,
    pod: bool,
    document: Mapping[str, Any],
) -> Template | None:
    try:
        if not is_template:
            metadata = metadata_of(document) if pod else None
            return Template("", pointer, msgspec.convert(value, PodSpec), metadata, pod)
        template = msgspec.convert(value, PodTemplate)
    except msgspec.ValidationError:
        return None
    if template.spec is None:
        return None
    return Template(pointer, pointer + "/spec", template.spec, template.metadata, True)


@cache
def _holder(name: str) -> type[msgspec.Struct]:
    return msgspec.defstruct("Holder", [(name, PodSpec | None, None)], frozen=True)


def places(value: Any, steps: tuple[str, ...], pointer: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (JSON pointer, value) of every place that a path names in a document."""
    if not steps:
        yield pointer, value
        return
    step, rest = steps[0], steps[1:]
    if step == "[]":
        for index, each in enumerate(value if isinstance(value, list) else ()):
            yield from places(each, rest, f"{pointer}/{index}")
    elif step == "*":
        for key, each in value.items() if isinstance(value, dict) else ():
            yield from places(each, rest, f"{pointer}/{escape(key)}")
    elif isinstance(value, dict) and step in value:
        yield from places(value[step], rest, f"{pointer}/{step}")


def escape(key: str) -> str:
    """Escapes one key for a JSON pointer (RFC 6901, section 3)."""
    return key.replace("~", "~0").replace("/", "~1")


class Templates:
    """The table as the webhook uses it: built in, or extended by configuration."""

    def __init__(self, more: Iterable[Kind] = ()) -> None:
        self._readers = {(kind.group, kind.kind): Reader(kind) for kind in (*TABLE, *more)}

    def reader(self, group: str, kind: str) -> Reader | None:
        """Returns the reader of a kind; None for a kind that is not in the table."""
        return self._readers.get((group, kind))
