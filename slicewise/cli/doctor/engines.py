"""Kueue and Volcano: what their versions and their objects make impossible or risky."""

import re
from collections.abc import Iterator
from typing import Final

import msgspec
from pydantic import ValidationError

from queue_sync.planning.kueue.configuration import mischarged
from queue_sync.planning.kueue_configuration import is_configuration, read_resources
from queue_sync.planning.volcano.queues import ROOT
from slicewise.api import keys
from slicewise.api.policy import Engine, LabelSelector, engine_label
from slicewise.cli.doctor.cluster import Patient, named, space
from slicewise.cli.doctor.findings import Finding
from slicewise.kube import yaml
from slicewise.kube.object_types import (
    CLUSTER_QUEUE,
    CONFIG_MAP,
    DEFINITION,
    DEPLOYMENT,
    ENGINE_OBJECTS,
    LOCAL_QUEUE,
    POD_GROUP,
    VOLCANO_QUEUE,
    EngineObjects,
)
from slicewise.kube.snapshot import Object

_IMAGE: Final = re.compile(r"(?:^|/)(kueue|vc-scheduler)(?::v?(\d{1,4})\.(\d{1,4})\.(\d{1,4}))")
_PLUGIN: Final = re.compile(r"^\s*-\s*name:\s*[\"']?([\w-]+)", re.MULTILINE)
_MOST_FLAVORS: Final = 64
_STOPPING: Final = ("Hold", "HoldAndDrain")
# Volcano, docs/design/capacity-card.md: card types without a quota in the annotation default to 0.
_IGNORING_DESERVED: Final = {
    "proportion": "does not read what a queue deserves; only its capability holds",
    "capacity-card": (
        "counts GPUs by the queue's annotation volcano.sh/card.quota alone; what it does not name there is 0"
    ),
}


def check(patient: Patient) -> Iterator[Finding]:
    """Everything about both engines."""
    yield from _missing(patient)
    yield from _kueue_versions(patient)
    yield from _kueue_configuration(patient)
    yield from _kueue_queues(patient)
    yield from _volcano(patient)


def definition_of(patient: Patient, objects: EngineObjects) -> Object | None:
    """The definition of an engine's queues; None where the engine is not installed."""
    definitions = patient.snapshot.of(DEFINITION)
    return next((item for item in definitions if named(item) == objects.definition), None)


def is_missing(patient: Patient, objects: EngineObjects) -> bool:
    """True when it is known that the engine is not installed."""
    return patient.saw(DEFINITION) and definition_of(patient, objects) is None


def _missing(patient: Patient) -> Iterator[Finding]:
    users = [(Engine(plan.spec.engine), "QuotaPlan", name) for name, plan in patient.snapshot.plans.items()]
    for name, labels in patient.opted_in.items():
        engine = engine_label(labels)
        if engine in ENGINE_OBJECTS:
            users.append((Engine(engine), "Namespace", name))
    for engine, kind, name in users:
        objects = ENGINE_OBJECTS[engine]
        if is_missing(patient, objects):
            sentence = f"it queues with {engine}, which is not installed"
            fix = f"Install {objects.install}, or name another engine."
            yield Finding("EngineMissing", kind, name, sentence, fix)


def version(patient: Patient, program: str) -> tuple[int, ...] | None:
    """The version of `kueue` or `vc-scheduler`, from the image of its Deployment; None when none tells."""
    if not patient.saw(DEPLOYMENT):
        return None
    for item in patient.snapshot.of(DEPLOYMENT):
        template = (item.get("spec") or {}).get("template") or {}
        for container in (template.get("spec") or {}).get("containers") or ():
            match = _IMAGE.search(str(container.get("image", "")))
            if match and match[1] == program:
                return tuple(int(part) for part in match.groups()[1:])
    return None


# --- Kueue ------------------------------------------------------------------------------------------------


def _kueue_versions(patient: Patient) -> Iterator[Finding]:
    definition = definition_of(patient, ENGINE_OBJECTS[Engine.KUEUE])
    if definition is not None:
        served = {v["name"] for v in definition["spec"].get("versions") or () if v.get("served")}
        stored = set((definition.get("status") or {}).get("storedVersions") or ())
        kind, name = "CustomResourceDefinition", named(definition)
        if "v1beta2" not in served:
            shown = ", ".join(sorted(served)) or "nothing"
            sentence = f"it serves {shown}; Slicewise writes v1beta2, which Kueue serves from 0.15 on"
            yield Finding("KueueTooOld", kind, name, sentence, "Upgrade Kueue to 0.17 or later.")
        elif "v1beta1" in stored:
            sentence = "objects may still be stored as v1beta1, which Kueue 0.20 no longer reads"
            fix = "Before upgrading to 0.20, rewrite them with Kueue's hack/migrate-to-v1beta2.sh."
            yield Finding("KueueStoresOldVersion", kind, name, sentence, fix)
    installed = version(patient, "kueue")
    uses = any(plan.spec.engine is Engine.KUEUE for plan in patient.snapshot.plans.values())
    if installed is not None and installed < (0, 19, 1) and uses:
        sentence = (
            f"Kueue {'.'.join(map(str, installed))} does not retry waiting Workloads when only the labels or taints "
            "of a flavor change"
        )
        fix = "Upgrade to 0.19.1 or later; until then, create work that stays pending anew."
        yield Finding("KueueRetriesLate", "Deployment", "kueue-controller-manager", sentence, fix)


def _kueue_configuration(patient: Patient) -> Iterator[Finding]:
    for item in patient.snapshot.of(CONFIG_MAP):
        for text in (item.get("data") or {}).values():
            if not is_configuration(text):
                continue
            try:
                resources = read_resources(text)
            except (yaml.YamlError, msgspec.ValidationError) as error:
                fix = "Correct it; Kueue does not start with a configuration that it cannot read."
                sentence = f"this is not a configuration of Kueue: {error}"
                yield Finding("ConfigUnreadable", "ConfigMap", named(item), sentence, fix, space(item))
                continue
            prefixes = [
                prefix
                for prefix in resources.exclude_resource_prefixes or ()
                if prefix.startswith(keys.VENDOR) or keys.VENDOR.startswith(prefix)
            ]
            if prefixes:
                sentence = (
                    f"excludeResourcePrefixes {', '.join(prefixes)} has Kueue count nothing whose name begins so, "
                    "whatever quota there is"
                )
                fix = "Take the prefix out and restart Kueue."
                yield Finding("KueueExcludesNames", "ConfigMap", named(item), sentence, fix, space(item))
            mappings = resources.device_class_mappings or ()
            for each in mischarged(mappings, patient.snapshot.devices.classes):
                fix = f"{each.fix[0].upper()}{each.fix[1:]}."
                yield Finding("KueueMapsClasses", "ConfigMap", named(item), each.sentence, fix, space(item))
            inputs = [each.input for each in resources.transformations or ()]
            changed = sorted(name for name in inputs if name.startswith(keys.VENDOR))
            if changed:
                sentence = f"Kueue turns {', '.join(changed)} into something else before it counts"
                fix = "Take the transformation out: quotas are written for the names that pods ask for."
                yield Finding("KueueTransformsNames", "ConfigMap", named(item), sentence, fix, space(item))


def _kueue_queues(patient: Patient) -> Iterator[Finding]:
    local_queues = patient.snapshot.of(LOCAL_QUEUE)
    wanted = {(o["kind"], named(o)) for o in patient.desired.objects}
    there = {named(item) for item in patient.snapshot.of(CLUSTER_QUEUE)}
    feeding: dict[str, list[Object]] = {}
    for item in local_queues:
        target = str((item.get("spec") or {}).get("clusterQueue", ""))
        feeding.setdefault(target, []).append(item)
        stop = (item.get("spec") or {}).get("stopPolicy")
        if space(item) in patient.opted_in and stop in _STOPPING:
            sentence = f"it has stopPolicy {stop}, so Kueue admits nothing from it"
            fix = "Set it to None when work is to go on."
            yield Finding("QueueInactive", "LocalQueue", named(item), sentence, fix, space(item))
        if space(item) not in patient.opted_in or target in there or ("ClusterQueue", target) in wanted:
            continue
        sentence = f"it points to the ClusterQueue {target}, which does not exist"
        fix = "Create the ClusterQueue, or put the queue into a QuotaPlan."
        yield Finding("LocalQueueDangling", "LocalQueue", named(item), sentence, fix, space(item))
    planned = {queue.name for plan in patient.snapshot.plans.values() for queue in plan.spec.queues}
    for item in patient.snapshot.of(CLUSTER_QUEUE):
        users = [each for each in feeding.get(named(item), ()) if space(each) in patient.opted_in]
        if users or named(item) in planned:
            yield from _cluster_queue(patient, item, users)
            manage = ((item.get("metadata") or {}).get("annotations") or {}).get(keys.MANAGE, "false")
            if manage not in ("true", "false") and named(item) in planned:
                sentence = (
                    f"its annotation {keys.MANAGE}={manage} means nothing, so the plan decides its quota"
                )
                fix = "Write false to leave it as it is, or remove it."
                yield Finding("LabelUnknown", "ClusterQueue", named(item), sentence, fix)


def _left_out(patient: Patient, selector: Object, users: list[Object]) -> list[str]:
    """The namespaces of LocalQueues that a ClusterQueue's selector does not select."""
    try:
        parsed = LabelSelector.model_validate(selector)
    except ValidationError:
        return []  # the API server takes no such selector, so it is none of a cluster's
    return sorted({space(each) for each in users if not parsed.matches(dict(patient.opted_in[space(each)]))})


def _cluster_queue(patient: Patient, item: Object, users: list[Object]) -> Iterator[Finding]:
    spec, kind, name = item.get("spec") or {}, "ClusterQueue", named(item)
    for condition in (item.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "Active" and condition.get("status") == "False":
            said = condition.get("message") or condition.get("reason")
            sentence = f"Kueue admits nothing from it ({condition.get('reason')}): {said}"
            yield Finding("QueueInactive", kind, name, sentence, "Mend what the message names.")
    if users and spec.get("namespaceSelector") is None:
        sentence = f"it has no namespaceSelector, which selects nobody, and {space(users[0])} queues there"
        yield Finding("QueueSelectsNobody", kind, name, sentence, "Write namespaceSelector: {}.")
    elif left := _left_out(patient, spec.get("namespaceSelector") or {}, users):
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        sentence = f"its namespaceSelector leaves out {left[0]}{more}, which queues there"
        fix = "Label the namespace as it selects, or correct the selector: its plan's namespaces, if it is a plan's."
        yield Finding("QueueSelectsNobody", kind, name, sentence, fix)
    flavors = sum(len(group.get("flavors") or ()) for group in spec.get("resourceGroups") or ())
    if flavors > _MOST_FLAVORS:
        sentence = f"it has {flavors} flavors; Kueue cannot write the status of more than {_MOST_FLAVORS}"
        fix = "Make several plans, each with its own queues (spec.pools)."
        yield Finding("TooManyFlavors", kind, name, sentence, fix)


# --- Volcano ----------------------------------------------------------------------------------------------


def _volcano(patient: Patient) -> Iterator[Finding]:
    queues = {named(item): item for item in patient.snapshot.of(VOLCANO_QUEUE)}
    parents = {str(parent) for q in queues.values() if (parent := (q.get("spec") or {}).get("parent"))}
    parents -= {ROOT}
    yield from _plugins(patient)
    yield from _hierarchy(patient, queues, parents)
    for name in sorted(parents - queues.keys()):
        children = ", ".join(sorted(n for n, q in queues.items() if q["spec"].get("parent") == name))
        sentence = (
            f"it is the parent of {children} and does not exist, which stops all scheduling in a hierarchy"
        )
        yield Finding("VolcanoParentMissing", "Queue", name, sentence, "Create it, or correct spec.parent.")
    for group in patient.snapshot.of(POD_GROUP):
        queue = str((group.get("spec") or {}).get("queue", ""))
        if queue in parents and (group.get("status") or {}).get("phase") != "Completed":
            sentence = (
                f"it sits in {queue}, which has children; one such group stops all scheduling in a hierarchy"
            )
            fix = "Delete it and submit the work to a queue without children."
            yield Finding("VolcanoWorkInParent", "PodGroup", named(group), sentence, fix, space(group))


def _plugins(patient: Patient) -> Iterator[Finding]:
    """Of Volcano's plugins for quota only `capacity` reads what a queue deserves of GPUs."""
    plans = [p for _, p in sorted(patient.snapshot.plans.items()) if p.spec.engine is Engine.VOLCANO]
    for item in patient.snapshot.of(CONFIG_MAP):
        for key, text in (item.get("data") or {}).items():
            if not plans or key != "volcano-scheduler.conf":
                continue
            plugins = _PLUGIN.findall(str(text))
            for plugin in _IGNORING_DESERVED.keys() & plugins if "capacity" not in plugins else ():
                sentence = f"the plugin {plugin} {_IGNORING_DESERVED[plugin]}"
                fix = f"Replace {plugin} by capacity, which QuotaPlans are written for."
                yield Finding("VolcanoIgnoresDeserved", "ConfigMap", named(item), sentence, fix, space(item))


def _hierarchy(patient: Patient, queues: dict[str, Object], parents: set[str]) -> Iterator[Finding]:
    if not parents:
        return
    installed = version(patient, "vc-scheduler")
    if installed is not None:
        old, which = installed < (1, 14, 0), f"Volcano {'.'.join(map(str, installed))}"
    else:  # Queues have a dequeueStrategy from v1.14 on.
        old = not any("dequeueStrategy" in (queue.get("spec") or {}) for queue in queues.values())
        which = "Volcano before v1.14"
    if old:
        sentence = f"{which} with a hierarchy stops all scheduling when a capability exceeds what nodes show"
        yield Finding(
            "VolcanoHierarchyFragile", "Queue", sorted(parents)[0], sentence, "Upgrade to v1.14 or later."
        )
