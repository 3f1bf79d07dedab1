"""The definitions that the projects themselves publish for their kinds, from nothing but the Go module proxy.

Purpose: what Slicewise writes must pass the schema that a real cluster has: its pruning, defaults and rules.
``python -m e2e.harness.schemas`` fetches them and prints their folder.

Invariants: ``kindschemas/go.sum`` says which versions, and Go refuses anything that differs from it; of each module
nothing is kept but the definitions, in a folder of the cache that is complete when it exists (see ``binaries.py``).

Failure: :class:`ClusterError` with Go's own words, or with the file that is not where the table says.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from admission.workloads.builtin_kinds import TABLE
from e2e.harness.binaries import cache_folder, locked, toolchain
from e2e.harness.client import Object, load
from e2e.harness.errors import ClusterError

PINS = Path(__file__).parents[1] / "kindschemas"


class Source(NamedTuple):
    """Where a Go module keeps the definitions of some kinds of one group."""

    module: str
    file: str
    """Its path in the module; ``{group}``, ``{plural}`` and ``{kind}`` (in lower case) are the kind's."""
    group: str
    kinds: str


_BASES = "config/crd/bases/{group}_{plural}.yaml"
_MANIFESTS = "manifests/base/crds/{group}_{plural}.yaml"
_ARGO = "github.com/argoproj/argo-workflows/v3"
_KSERVE = "github.com/kserve/kserve"
_VOLCANO = "volcano.sh/volcano"
_VOLCANO_BASES = "config/crd/volcano/bases/{group}_{plural}.yaml"
SOURCES = (
    Source(
        "sigs.k8s.io/jobset", "config/components/crd/bases/{group}_{plural}.yaml", "jobset.x-k8s.io", "JobSet"
    ),
    Source("sigs.k8s.io/lws", _BASES, "leaderworkerset.x-k8s.io", "LeaderWorkerSet"),
    Source("sigs.k8s.io/lws", _BASES, "disaggregatedset.x-k8s.io", "DisaggregatedSet"),
    Source("github.com/project-codeflare/appwrapper", _BASES, "workload.codeflare.dev", "AppWrapper"),
    Source("sigs.k8s.io/agent-sandbox", "k8s/crds/{group}_{plural}.yaml", "agents.x-k8s.io", "Sandbox"),
    Source("sigs.k8s.io/scheduler-plugins", _BASES, "scheduling.x-k8s.io", "PodGroup ElasticQuota"),
    Source(_VOLCANO, _VOLCANO_BASES, "batch.volcano.sh", "Job CronJob"),
    Source(_VOLCANO, _VOLCANO_BASES, "scheduling.volcano.sh", "PodGroup"),
    Source(
        _VOLCANO, "config/crd/jobflow/bases/{group}_{plural}.yaml", "flow.volcano.sh", "JobFlow JobTemplate"
    ),
    Source(
        "github.com/ray-project/kuberay/ray-operator",
        _BASES,
        "ray.io",
        "RayCluster RayJob RayService RayCronJob",
    ),
    Source(
        "github.com/kubeflow/training-operator",
        _MANIFESTS,
        "kubeflow.org",
        "PyTorchJob TFJob XGBoostJob PaddleJob JAXJob",
    ),
    Source(
        "github.com/kubeflow/mpi-operator", "manifests/base/{group}_{plural}.yaml", "kubeflow.org", "MPIJob"
    ),
    Source(
        "github.com/kubeflow/trainer/v2",
        _MANIFESTS,
        "trainer.kubeflow.org",
        "TrainJob TrainingRuntime ClusterTrainingRuntime",
    ),
    Source(
        _ARGO,
        "manifests/base/crds/full/{group}_{plural}.yaml",
        "argoproj.io",
        "Workflow WorkflowTemplate ClusterWorkflowTemplate CronWorkflow",
    ),
    Source("github.com/argoproj/argo-rollouts", "manifests/crds/{kind}-crd.yaml", "argoproj.io", "Rollout"),
    Source(
        "github.com/tektoncd/pipeline",
        "config/300-crds/300-{kind}.yaml",
        "tekton.dev",
        "Task Pipeline TaskRun PipelineRun",
    ),
    Source(
        "github.com/kubeflow/spark-operator/v2",
        _BASES,
        "sparkoperator.k8s.io",
        "SparkApplication ScheduledSparkApplication SparkConnect",
    ),
    Source(
        _KSERVE,
        "config/crd/full/{group}_{plural}.yaml",
        "serving.kserve.io",
        "InferenceService ServingRuntime ClusterServingRuntime InferenceGraph",
    ),
    Source(
        _KSERVE,
        "config/crd/full/llmisvc/{group}_{plural}.yaml",
        "serving.kserve.io",
        "LLMInferenceService LLMInferenceServiceConfig",
    ),
    Source(
        "knative.dev/serving",
        "config/core/300-resources/{kind}.yaml",
        "serving.knative.dev",
        "Service Configuration Revision",
    ),
)


class Published(NamedTuple):
    """The definition of one kind in a Go module."""

    module: str
    version: str
    file: str


def pinned(folder: Path) -> dict[str, str]:
    """The versions of the modules that the ``go.sum`` of a folder names."""
    lines = (folder / "go.sum").read_text().splitlines()
    return dict(line.split()[:2] for line in lines if "/go.mod " not in line)


@cache
def published() -> dict[tuple[str, str], Published]:
    """(group, kind) -> where its definition is published."""
    pins = pinned(PINS)
    plurals = {(kind.group, kind.kind): kind.resource for kind in TABLE}
    return {
        (source.group, kind): Published(
            source.module,
            pins[source.module],
            source.file.format(group=source.group, plural=plurals[source.group, kind], kind=kind.lower()),
        )
        for source in SOURCES
        for kind in source.kinds.split()
    }


def definition(group: str, kind: str, version: str) -> Object | None:
    """The published definition of a kind, serving one version of it alone; None where none is published.

    The schema is exactly the project's. Its conversion webhook is not here, so no other version is served.
    """
    if (group, kind) not in published():
        return None
    found: Object = json.loads((ensure() / f"{group}_{kind}.json").read_text())
    found["spec"].pop("conversion", None)
    (served,) = (each for each in found["spec"]["versions"] if each["name"] == version)
    found["spec"]["versions"] = [{**served, "served": True, "storage": True}]
    return {key: found[key] for key in ("apiVersion", "kind", "metadata", "spec")}


@cache
def ensure() -> Path:
    """The folder of all published definitions, as JSON; fetched now unless it is in the cache."""
    digest = hashlib.sha256((PINS / "go.sum").read_bytes() + repr(SOURCES).encode()).hexdigest()
    target = cache_folder() / f"kindschemas-{digest[:12]}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(target.with_suffix(".lock")):
        if not target.is_dir():
            partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=target.parent))
            try:
                _fetch(partial)
                partial.chmod(0o755)
                partial.rename(target)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    return target


def _fetch(folder: Path) -> None:
    print(f"e2e: fetching the definitions of {len(published())} kinds (once)", file=sys.stderr, flush=True)
    modules = dict(downloaded(PINS, {f"{each.module}@{each.version}" for each in published().values()}))
    for (group, kind), found in published().items():
        file = modules[found.module] / found.file
        definitions = load(file) if file.exists() else []
        crd = next((each for each in definitions if each["spec"]["names"]["kind"] == kind), None)
        if crd is None or crd["spec"]["group"] != group:
            raise ClusterError(f"{found.module}@{found.version} has no {kind}.{group} in {found.file}.")
        (folder / f"{group}_{kind}.json").write_text(json.dumps(crd))


def downloaded(pins: Path, modules: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Yields each of ``modules`` (``PATH@VERSION``) and the folder of its source, as Go verified it by ``pins``."""
    go, environment = toolchain(cache_folder(), {})
    command = [go, "mod", "download", "-json", *sorted(modules)]
    answer = subprocess.run(command, cwd=pins, env=environment, capture_output=True, text=True, check=False)
    rest, decoder = answer.stdout.strip(), json.JSONDecoder()
    if not rest:
        raise ClusterError(f"Go modules cannot be fetched: {answer.stderr.strip()}")
    while rest:
        module, end = decoder.raw_decode(rest)
        rest = rest[end:].strip()
        if "Error" in module:
            raise ClusterError(f"{module['Path']} cannot be fetched: {module['Error']}")
        yield module["Path"], Path(module["Dir"])


def main() -> int:
    """``python -m e2e.harness.schemas``: fetches, and prints the folder."""
    try:
        print(ensure())
    except ClusterError as error:
        print(f"e2e: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
