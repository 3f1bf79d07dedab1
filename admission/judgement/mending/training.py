"""Side fields of what trains and computes: Ray, Kubeflow's operators, Volcano, Spark, Argo, Tekton.  Pure.

Each function mends one place of one kind (`mending.Case`); docs/kinds.md says why, with sources.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from admission.judgement.decisions import Assigned
from admission.judgement.mending.fields import WHOLE, Case, rename_total
from admission.kinds.paths import places, steps_of
from slicewise import keys
from slicewise.quantities import QuantityError, count, parse

MANAGER: Final = "slicewise.io/admission"
"""Who owns our entry in a TrainJob's runtimePatches."""


def _dicts(value: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    yield from (
        (i, each) for i, each in enumerate(value if isinstance(value, list) else ()) if isinstance(each, dict)
    )


def _map(value: Any) -> dict[str, Any]:
    """What may be no object is none: a custom resource is admitted before its schema is looked at."""
    return value if isinstance(value, dict) else {}


def _follow(holder: dict[str, Any], key: str, got: Iterable[Assigned]) -> None:
    """Lets a count that repeats what some container asked follow what that one was given."""
    each = next((each for each in got if str(holder.get(key)) == str(each.asked)), None)
    if each is not None and each.count != each.asked:
        holder[key] = str(each.count) if isinstance(holder[key], str) else each.count


def total(case: Case) -> None:
    """A resource map of any kind that is a total over its pods, each counted once."""
    place = f"{case.pointer[1:].replace('/', '.')}.{case.field}"
    for _, amounts in places(case.value, steps_of(case.field)):
        rename_total(case, amounts, place, {})


def follow(case: Case) -> None:
    """A field of any kind that repeats how many GPUs a container asks for."""
    *holder, last = steps_of(case.field)
    got = [each for _, each in case.all()]
    for _, value in places(case.value, tuple(holder)):
        if isinstance(value, dict):
            _follow(value, last, got)


# --- Ray --------------------------------------------------------------------------------------------------


def ray(case: Case) -> None:
    """Says `num-gpus` where Ray would not count the new name: its autoscaler knows the suffix `gpu` alone."""
    head = case.value.get("headGroupSpec")
    groups = [("/headGroupSpec", head)] if isinstance(head, dict) else []
    groups += [(f"/workerGroupSpecs/{i}", each) for i, each in _dicts(case.value.get("workerGroupSpecs"))]
    for pointer, group in groups:
        got = dict(case.at(f"{pointer}/template/spec"))
        first = _first_container(group)
        if first not in got:
            continue
        each, own = got[first], group.get("resources")
        parameters = group.get("rayStartParams")
        if isinstance(own, dict) and own:
            # It rules num-gpus, and both together are refused; a key that ends so means it (utils/resources.go).
            known = [key for key in own if key.lower().endswith("gpu")]
            for key in known:
                _follow(own, key, [each])
            if not known and not each.to.endswith("gpu"):
                own["GPU"] = str(each.count)
        elif isinstance(parameters, dict) and "num-gpus" in parameters:
            _follow(parameters, "num-gpus", [each])
        elif not each.to.endswith("gpu"):
            if not isinstance(parameters, dict):
                parameters = group["rayStartParams"] = {}
            parameters["num-gpus"] = str(each.count)


def _first_container(group: Mapping[str, Any]) -> str:
    found = _map(_map(group.get("template")).get("spec")).get("containers")
    return str(_map(found[0]).get("name", "")) if isinstance(found, list) and found else ""


def rayjob(case: Case) -> None:
    """The entrypoint may not ask Ray for more GPUs than its largest group has now."""
    most = max((each.count for _, each in case.all()), default=0)
    try:
        wanted = parse(case.value.get("entrypointNumGpus") or 0)
    except QuantityError:
        return
    if wanted > most and any(each.count < each.asked for _, each in case.all()):
        case.value["entrypointNumGpus"] = most
        case.warn(f"spec.entrypointNumGpus is {most} now, as no group has more")
    if "accelerator_type" in str(case.value.get("entrypointResources", "")):
        case.warn("spec.entrypointResources names an accelerator type and is left alone")


def rayservice(case: Case) -> None:
    """A Serve configuration is a text of its own; what it asks for is left, and said where it no longer fits."""
    fewer = any(each.count < each.asked for _, each in case.all())
    if fewer and "num_gpus" in str(case.value.get("serveConfigV2", "")):
        case.warn(
            "spec.serveConfigV2 asks for num_gpus and is left alone, but its groups have fewer GPUs now"
        )


# --- Kubeflow ---------------------------------------------------------------------------------------------


def kubeflow(case: Case) -> None:
    """Totals and processes of training-operator and MPI operator jobs."""
    spec = case.value
    policy = _map(_map(spec.get("runPolicy")).get("schedulingPolicy"))
    replicas = {
        f"{case.pointer}/{field}/{role}/template/spec": _number(each.get("replicas", 1))
        for field, roles in spec.items()
        if field.endswith("ReplicaSpecs") and isinstance(roles, dict)
        for role, each in roles.items()
        if isinstance(each, dict)
    }
    rename_total(case, policy.get("minResources"), "spec.runPolicy.schedulingPolicy.minResources", replicas)
    got = [each for _, each in case.all()]
    _follow(spec, "nprocPerNode", got)
    _follow(spec, "slotsPerWorker", [each for _, each in case.at("/mpiReplicaSpecs/Worker/template/spec")])
    if isinstance(spec.get("elasticPolicy"), dict):
        _follow(spec["elasticPolicy"], "nProcPerNode", got)
    launcher = [each.to for _, each in case.at("/mpiReplicaSpecs/Launcher/template/spec")]
    if case.api_version == "kubeflow.org/v1" and any("gpu" not in name for name in launcher):
        raise case.unfit(
            f"its Launcher asks for a GPU and would get {launcher[0]}, which kubeflow.org/v1 does not know for a "
            f"GPU and hides from it; ask for GPUs in the Worker alone, use kubeflow.org/v2beta1, or {WHOLE}"
        )


def _number(value: Any) -> int:
    try:
        return count(value)
    except QuantityError:
        return 1


def trainjob(case: Case) -> None:
    """The Trainer counts GPUs by the letters "gpu" and keeps no pod spec: it is told how many processes, and a
    patch of the runtime carries the steering and the decision to the pods."""
    trainer = case.value.get("trainer")
    got = [each for _, each in case.all()]
    if not isinstance(trainer, dict) or not got:
        return
    each, processes = got[0], trainer.get("numProcPerNode")
    if "gpu" not in each.to.lower() and processes in (None, "auto", "gpu"):
        trainer["numProcPerNode"] = each.count
    else:
        _follow(trainer, "numProcPerNode", got)
    _, decision = case.given[0]
    record = {keys.DECISION: msgspec.json.encode(decision).decode()}
    spec: dict[str, Any] = {}
    if decision.steered and len(decision.pools) == 1:
        # A map merges with the runtime's own; node affinity would replace it.
        spec["nodeSelector"] = {keys.POOL: decision.pools[0]}
    elif decision.steered:
        expression = {"key": keys.POOL, "operator": "In", "values": list(decision.pools)}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
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
    if case.queue:
        jobs = {"metadata": {"annotations": {keys.VOLCANO_QUEUE: case.queue}}, **jobs}
    entry = {"manager": MANAGER, "trainingRuntimeSpec": {"template": jobs}}
    stood = next((e for _, e in _dicts(case.before.get("runtimePatches")) if _is_patch(e)), None)
    now = next((e for _, e in _dicts(case.value.get("runtimePatches")) if _is_patch(e)), None)
    same = next((e for e in (now, stood) if e is not None and record[keys.DECISION] in str(e)), None)
    patches = case.value.get("runtimePatches")
    if not isinstance(patches, list):
        patches = case.value["runtimePatches"] = []
    _put(patches, dict(same) if same is not None else entry, _is_patch)


def _is_patch(entry: Mapping[str, Any]) -> bool:
    return entry.get("manager") == MANAGER


def _is_override(entry: Mapping[str, Any]) -> bool:
    return keys.DECISION in _map(_map(entry.get("metadata")).get("annotations"))


def _put(entries: list[Any], entry: dict[str, Any], ours: Callable[[Mapping[str, Any]], bool]) -> None:
    for index, each in _dicts(entries):
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
        _follow(plugin, "numProcPerNode", got)
        if "gpu" in each.to.lower() or str(plugin.get("numProcPerNode", "")).isdigit():
            continue
        if name == "torch" and "numProcPerNode" not in plugin:
            raise case.unfit(
                f"its pods get {each.to}, which the Trainer does not count as a GPU, and would start one process "
                f"per CPU; leave GPUs out of the runtime and ask for them in spec.trainer.resourcesPerNode of the "
                f"TrainJob, or {WHOLE}"
            )
        plugin["numProcPerNode"] = each.count


# --- Volcano and other schedulers -------------------------------------------------------------------------


def hyperjob(case: Case) -> None:
    """`acceleratorType` is a resource name; it follows its own replicated job."""
    for index, job in _dicts(case.value.get("replicatedJobs")):
        policy = job.get("splitPolicy")
        if not isinstance(policy, dict) or policy.get("acceleratorType") != keys.GPU:
            continue
        base = f"{case.pointer}/replicatedJobs/{index}/"
        beneath = [each for each in case.given if each[0].spec_pointer.startswith(base)]
        part = Case(case.title, case.api_version, base, {}, {}, beneath)
        got = {each.to: each for _, each in part.all()}
        if len(got) > 1:
            raise case.unfit(
                f"spec.replicatedJobs[{index}].splitPolicy counts one resource, but its tasks get "
                f"{' and '.join(sorted(got))}; ask for the same number of GPUs in each task, or {WHOLE}"
            )
        for name, each in got.items():
            policy["acceleratorType"] = name
            if each.count != each.asked and isinstance(policy.get("accelerators"), int):
                policy["accelerators"] = policy["accelerators"] * each.count // each.asked


def jobflow(case: Case) -> None:
    """Volcano does not read `patch` yet."""
    case.warn("spec.flows[].patch asks for GPUs, but Volcano takes them from the JobTemplate; ask there")


def podgroup(case: Case) -> None:
    """A total does not say how many GPUs each pod asks for."""
    if case.names:
        case.warn(
            f"spec.minResources is read as a total over pods of one GPU each, so it asks for {', '.join(case.names)}"
        )


# --- Pipelines and Spark ----------------------------------------------------------------------------------


def argo(case: Case) -> None:
    """Patches of pod specs are texts, applied last."""
    spec = case.value
    texts = [spec.get("podSpecPatch"), _map(spec.get("templateDefaults")).get("podSpecPatch")]
    texts += [each.get("podSpecPatch") for _, each in _dicts(spec.get("templates"))]
    if any(keys.VENDOR in str(text) for text in texts):
        case.warn(f"podSpecPatch names {keys.VENDOR}… and is left alone; each pod is mended when it is made")


def taskrun(case: Case) -> None:
    """Task-level limits are repeated on every step."""
    steps = _map(case.value.get("taskSpec")).get("steps")
    if isinstance(steps, list) and len(steps) > 1 and any(name == "main" for name, _ in case.all()):
        case.warn(
            "spec.computeResources repeats its limit on each step; ask for GPUs in one step's own instead"
        )


def spark(case: Case) -> None:
    """Spark's own settings speak of `gpu` alone; totals of the batch scheduler follow the pods."""
    options = case.value.get("batchSchedulerOptions")
    if isinstance(options, dict):
        executors = _number(_map(case.value.get("executor")).get("instances", 1))
        replicas = {
            f"{case.pointer}/executor": executors,
            f"{case.pointer}/executor/template/spec": executors,
        }
        rename_total(case, options.get("resources"), "spec.batchSchedulerOptions.resources", replicas)
    sparkconf(case)


def sparkconf(case: Case) -> None:
    """Settings that make Spark ask by itself are left: it schedules tasks by the word `gpu`."""
    settings = case.value.get("sparkConf")
    found = [key for key in settings if ".resource.gpu." in key] if isinstance(settings, dict) else []
    if found:
        case.warn(f"spec.sparkConf {sorted(found)[0]} is left alone; its pods are mended when they are made")
