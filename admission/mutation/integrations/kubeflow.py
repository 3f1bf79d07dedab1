"""Side fields of Kubeflow's operators: the training operator, the MPI operator and the Trainer.  Pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from admission.decision.steering import requirements
from admission.mutation.integrations.malformed import dicts, mapping, number
from admission.mutation.integrations.side_fields import (
    WHOLE,
    Case,
    follow_count,
    forget_count,
    rename_total,
    renew_count,
    without_total,
)
from slicewise.api import keys
from slicewise.api.policy import Engine

_MANAGER: Final = "slicewise.io/admission"
"""Who owns our entry in a TrainJob's runtimePatches."""


def kubeflow(case: Case) -> None:
    """Totals and processes of training-operator and MPI operator jobs."""
    spec = case.value
    policy = mapping(mapping(spec.get("runPolicy")).get("schedulingPolicy"))
    replicas = {
        f"{case.pointer}/{field}/{role}/template/spec": number(each.get("replicas", 1))
        for field, roles in spec.items()
        if field.endswith("ReplicaSpecs") and isinstance(roles, dict)
        for role, each in roles.items()
        if isinstance(each, dict)
    }
    rename_total(case, policy.get("minResources"), "spec.runPolicy.schedulingPolicy.minResources", replicas)
    got = [each for _, each in case.all()]
    follow_count(spec, "nprocPerNode", got)
    workers = [each for _, each in case.at("/mpiReplicaSpecs/Worker/template/spec")]
    follow_count(spec, "slotsPerWorker", workers)
    if isinstance(spec.get("elasticPolicy"), dict):
        follow_count(spec["elasticPolicy"], "nProcPerNode", got)
    launcher = [each.to for _, each in case.at("/mpiReplicaSpecs/Launcher/template/spec")]
    if case.api_version == "kubeflow.org/v1" and any("gpu" not in name for name in launcher):
        raise case.unfit(
            f"its Launcher asks for a GPU and would get {launcher[0]}, which kubeflow.org/v1 does not know for a "
            f"GPU and hides from it; ask for GPUs in the Worker alone, use kubeflow.org/v2beta1, or {WHOLE}"
        )


def without_minimum(case: Case) -> None:
    """Takes what its pods asked for out of the gang's total, where they ask for no GPU any more."""
    policy = mapping(mapping(case.value.get("runPolicy")).get("schedulingPolicy"))
    without_total(case, policy.get("minResources"))


def trainjob(case: Case) -> None:
    """The Trainer counts GPUs by the letters "gpu" and keeps no pod spec: it is told how many processes, and a
    patch of the runtime carries the steering and the decision to the pods."""
    trainer = case.value.get("trainer")
    got = [each for _, each in case.all()]
    if not isinstance(trainer, dict) or not got:
        return
    each, given = got[0], case.had(f"{case.pointer}/trainer").values()
    had = [before for before in given if "gpu" not in before.to.lower()]
    stood = mapping(case.before.get("trainer")).get("numProcPerNode")
    renew_count(case, trainer, "numProcPerNode", "/trainer/numProcPerNode", stood, had, each)
    processes = trainer.get("numProcPerNode")
    if "gpu" not in each.to.lower() and processes in (None, "auto", "gpu"):
        trainer["numProcPerNode"] = each.count
    else:
        follow_count(trainer, "numProcPerNode", got)
    _, decision = case.given[0]
    record = {keys.DECISION: msgspec.json.encode(decision).decode()}
    spec: dict[str, Any] = {}
    if decision.steered and len(decision.pools) == 1 and not decision.node_labels:
        # A map merges with the runtime's own; node affinity would replace it.
        spec["nodeSelector"] = {keys.POOL: decision.pools[0]}
    elif decision.steered:
        wanted = msgspec.to_builtins(requirements(decision.pools, decision.node_labels))
        terms = {"nodeSelectorTerms": [{"matchExpressions": wanted}]}
        spec["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    pod: dict[str, Any] = {"metadata": {"annotations": record}}
    if spec:
        pod["spec"] = spec
    if isinstance(case.value.get("podTemplateOverrides"), list):
        _put(case.value["podTemplateOverrides"], {"targetJobs": [{"name": "node"}], **pod}, _is_override)
        return
    jobs: dict[str, Any] = {
        "spec": {"replicatedJobs": [{"name": "node", "template": {"spec": {"template": pod}}}]}
    }
    if queue := case.queue_of(Engine.VOLCANO):
        jobs = {"metadata": {"annotations": {keys.VOLCANO_QUEUE: queue}}, **jobs}
    entry = {"manager": _MANAGER, "trainingRuntimeSpec": {"template": jobs}}
    stood = next((e for _, e in dicts(case.before.get("runtimePatches")) if _is_patch(e)), None)
    now = next((e for _, e in dicts(case.value.get("runtimePatches")) if _is_patch(e)), None)
    same = next((e for e in (now, stood) if e is not None and record[keys.DECISION] in str(e)), None)
    patches = case.value.get("runtimePatches")
    if not isinstance(patches, list):
        patches = case.value["runtimePatches"] = []
    _put(patches, dict(same) if same is not None else entry, _is_patch)


def without_patch(case: Case) -> None:
    """Takes our patch of the runtime and our number of processes away from a TrainJob that asks for no GPU any more."""
    trainer = mapping(case.value.get("trainer"))
    processes = mapping(case.before.get("trainer")).get("numProcPerNode")
    had = case.had(f"{case.pointer}/trainer").values()
    forget_count(case, trainer, "numProcPerNode", "/trainer/numProcPerNode", processes, had)
    for field, ours in (("runtimePatches", _is_patch), ("podTemplateOverrides", _is_override)):
        entries = case.value.get(field)
        if isinstance(entries, list):
            left = [each for each in entries if not (isinstance(each, dict) and ours(each))]
            if len(left) < len(entries):
                case.value[field] = left


def _is_patch(entry: Mapping[str, Any]) -> bool:
    return entry.get("manager") == _MANAGER


def _is_override(entry: Mapping[str, Any]) -> bool:
    return keys.DECISION in mapping(mapping(entry.get("metadata")).get("annotations"))


def _put(entries: list[Any], entry: dict[str, Any], ours: Callable[[Mapping[str, Any]], bool]) -> None:
    for index, each in dicts(entries):
        if ours(each):
            entries[index] = entry
            return
    entries.append(entry)


def runtime(case: Case) -> None:
    """A runtime says how many processes where its policy has a place for it; else the request belongs elsewhere."""
    policy = case.value.get("mlPolicy")
    got = [each for _, each in case.all()]
    if not isinstance(policy, dict) or not got:
        return
    each = got[0]
    for name in ("torch", "mpi"):
        plugin = policy.get(name)
        if not isinstance(plugin, dict):
            continue
        follow_count(plugin, "numProcPerNode", got)
        if "gpu" in each.to.lower() or str(plugin.get("numProcPerNode", "")).isdigit():
            continue
        if name == "torch" and "numProcPerNode" not in plugin:
            raise case.unfit(
                f"its pods get {each.to}, which the Trainer does not count as a GPU, and would start one process "
                f"per CPU; leave GPUs out of the runtime and ask for them in spec.trainer.resourcesPerNode of the "
                f"TrainJob, or {WHOLE}"
            )
        plugin["numProcPerNode"] = each.count
