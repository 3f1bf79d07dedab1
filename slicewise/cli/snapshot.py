"""`slicewise snapshot`: a file of a live cluster that may be shown to others.

What is kept is listed here; everything else is left out: no Secret is read, of ConfigMaps only the files are kept
that plan how nodes are divided and what Kueue charges for DeviceClasses, no environment, command or image of a
workload is kept and of its annotations the recorded decision and what has it left alone. Of devices nothing is kept
that tells one board from all others. Pods, Workloads, PodGroups and ResourceClaims go by a digest of their names,
which are often people's. So does what controls a pod, and so do containers and pod sets, because people and controllers
call them as their work. Labels are kept where the product or the plans read them; of work, those that name its class
and queue.
"""

import hashlib
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from admission.decision.record import recorded, text
from admission.workloads.model import Metadata
from queue_sync.planning.kueue_configuration import is_configuration, read_resources
from queue_sync.planning.work import owner_reference
from slicewise.api import keys
from slicewise.cli.inputs import (
    READ_ALWAYS,
    READ_WORK,
    kueue_argument,
    live_arguments,
    operator_argument,
    operator_files,
    read_quota,
)
from slicewise.cli.output import tell, to_yaml, write
from slicewise.cli.progress import progress
from slicewise.inventory.sources import SOURCES
from slicewise.inventory.sources.dra import DRIVER, EXTENDED_RESOURCE_CLAIM
from slicewise.kube import yaml
from slicewise.kube.object_types import ENGINE_OBJECTS
from slicewise.kube.snapshot import Object

_LABELS: Final = (
    keys.NAME,  # under our prefix, and under those that are written for it
    *(prefix for source in SOURCES for prefix in source.LABELS),
    "kubernetes.io/",
    "node.kubernetes.io/",
    "topology.kubernetes.io/",
    "eks.amazonaws.com/nodegroup",
    "kubernetes.azure.com/agentpool",
)
_WORK: Final = frozenset({"Pod", "Workload", "PodGroup", "ResourceClaim"})
# Of work, the labels that say its class and which queue it is in; others carry names: of its job, its group, its owner.
_WORK_LABELS: Final = (
    keys.WORKLOAD_CLASS,
    keys.KUEUE_QUEUE,
    keys.VOLCANO_QUEUE,
    "volcano.sh/queue-name",
)
_NODE_SPEC: Final = ("unschedulable", "taints")
_POD_SPEC: Final = ("nodeName", "nodeSelector", "tolerations", "schedulerName")
# Kinds that are quotas and policies through and through: their spec is kept whole, and of their status what counts.
_WHOLE: Final = frozenset(
    {
        "SlicingPolicy",
        "QuotaPlan",
        "Cohort",
        *(each.kind for objects in ENGINE_OBJECTS.values() for each in objects.written),
        "ResourceQuota",
        "LimitRange",
        "DeviceTaintRule",
    }
)
_WORK_ANNOTATIONS: Final = (keys.REWRITE, keys.MIRROR_POD, EXTENDED_RESOURCE_CLAIM)
# Attributes of a device that tell it from all others (NVIDIA's DRA driver 0.4.1).
_IDENTITIES: Final = frozenset(
    {"uuid", "parentUUID", "pciBusID", "resource.kubernetes.io/pciBusID", "resource.kubernetes.io/pcieRoot"}
)
# What a file of the MIG manager's or the device plugin's has at its top (sources: slicewise/inventory/gpu_operator.py).
_PLANNING: Final = frozenset({"version", "mig-configs", "flags", "resources", "sharing", "imex", "health"})


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `snapshot`."""
    live_arguments(parser)
    operator_argument(parser)
    kueue_argument(parser)


def run(options: Namespace) -> int:
    """Writes a snapshot of the live cluster to standard output."""
    from slicewise.cli.live import live  # noqa: PLC0415  the libraries of the network load slowly

    with progress("reading the cluster"):
        items = [
            item
            for document in live(
                options, READ_ALWAYS, read_quota(options), READ_WORK, operator_files(options)
            )
            for item in document.objects()
        ]
    tell(f"{len(items)} objects")
    write(to_yaml([{"apiVersion": "v1", "kind": "List", "items": list(reduced(items))}]), end="")
    return 0


def reduced(items: Iterable[Object]) -> Iterable[Object]:
    """Yields what of each object may be shown."""
    every = list(items)
    read = _read_by_plans(every)
    for item in every:
        kind = item["kind"]
        kept: Object = {"apiVersion": item["apiVersion"], "kind": kind, "metadata": _metadata(item, read)}
        spec, status = item.get("spec") or {}, item.get("status") or {}
        if kind == "Node":
            kept["spec"] = _only(spec, _NODE_SPEC)
            kept["status"] = _only(status, ("capacity", "allocatable"))
            kept["status"]["conditions"] = [
                _only(condition, ("type", "status")) for condition in status.get("conditions") or ()
            ]
        elif kind == "Pod":
            kept["spec"] = _pod_spec(spec)
            kept["status"] = _only(status, ("phase",))
        elif kind == "Workload":
            kept["spec"] = {
                **_only(spec, ("queueName", "active", "priority")),
                "podSets": [_pod_set(each) for each in spec.get("podSets") or ()],
            }
            kept["status"] = _of_pod_sets(status)
            kept["status"]["conditions"] = [
                _only(condition, ("type", "status", "reason")) for condition in status.get("conditions") or ()
            ]
        elif kind == "PodGroup":
            kept["spec"] = _only(spec, ("minMember", "queue", "minResources"))
            kept["status"] = _only(status, ("phase",))
        elif kind == "ResourceSlice":
            if spec.get("driver") != DRIVER:
                continue
            kept["spec"] = {**spec, "devices": [_device(each) for each in spec.get("devices") or ()]}
        elif kind == "DeviceClass":
            kept["spec"] = _only(spec, ("extendedResourceName", "selectors"))
            kept["metadata"].update(_only(item["metadata"], ("creationTimestamp",)))
        elif kind == "ResourceClaim":
            results = ((status.get("allocation") or {}).get("devices") or {}).get("results") or ()
            ours = [_only(each, ("driver", "pool", "device")) for each in results if each["driver"] == DRIVER]
            if not ours:
                continue
            kept["status"] = {"allocation": {"devices": {"results": ours}}}
        elif kind == "ConfigMap":
            kept["data"] = {
                key: shown for key, text in (item.get("data") or {}).items() if (shown := _shown(text))
            }
        elif kind in _WHOLE:
            kept["spec"] = spec
            if status:
                kept["status"] = status
        yield {key: value for key, value in kept.items() if value}


def _metadata(item: Object, read: frozenset[str]) -> Object:
    metadata = item["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    kept: Object = _only(metadata, ("name", "namespace", "deletionTimestamp"))
    if item["kind"] in _WORK:
        kept["name"] = _digest(metadata["name"])
        left = {
            key: value or _digest(labels[key])
            for key, value in keys.LEFT.items()
            if keys.is_left(_only(labels, (key,)))
        }
        started = {key: _digest(labels[key]) for key in (keys.KUEUE_POD_SET,) if labels.get(key)}
        kept["labels"] = {**_only(labels, _WORK_LABELS), **left, **started}
        kept["annotations"] = {**_only(annotations, _WORK_ANNOTATIONS), **_decision(annotations)}
        if item["kind"] == "Pod" and (owner := owner_reference(item)):
            shown = _only(owner, ("apiVersion", "kind", "controller"))
            kept["ownerReferences"] = [{**shown, "name": _digest(owner["name"])}]
    else:
        kept["labels"] = {
            key: value for key, value in labels.items() if key.startswith(_LABELS) or key in read
        }
        kept["annotations"] = {k: v for k, v in annotations.items() if k.startswith(keys.PREFIX)}
    return {key: value for key, value in kept.items() if value}


def _decision(annotations: Mapping[str, str]) -> dict[str, str]:
    """Returns the annotation with what was decided, its containers under the names that they have here."""
    decision = recorded(Metadata(annotations=dict(annotations)))
    if decision is None:
        return {}
    containers = {_digest(name): assigned for name, assigned in decision.containers.items()}
    return {keys.DECISION: text(msgspec.structs.replace(decision, containers=containers, templates={}))}


def _read_by_plans(items: Iterable[Object]) -> frozenset[str]:
    """Returns the labels that plans and queues select namespaces by, and flavors nodes."""
    found = {keys.POD_SECURITY}
    for item in items:
        spec = item.get("spec") or {}
        found |= set(spec.get("nodeLabels") or {})
        selectors = [queue.get("namespaces") for queue in spec.get("queues") or () if isinstance(queue, dict)]
        for selector in (*selectors, spec.get("namespaceSelector")):
            if isinstance(selector, dict):
                found |= set(selector.get("matchLabels") or {})
                found |= {each["key"] for each in selector.get("matchExpressions") or ()}
    return frozenset(found)


def _shown(text: str) -> str:
    """Returns what of a file in a ConfigMap may be shown; "" for nothing."""
    if not is_configuration(text):
        return text if _plans(text) else ""
    try:
        mappings = read_resources(text).device_class_mappings
    except (yaml.YamlError, msgspec.ValidationError):
        return ""
    resources = {"deviceClassMappings": msgspec.to_builtins(mappings)}
    kept = {"apiVersion": "config.kueue.x-k8s.io/v1beta2", "kind": "Configuration", "resources": resources}
    return to_yaml([kept]) if mappings else ""


def _plans(text: str) -> bool:
    """True for a file of which every part is known to speak of GPUs alone."""
    try:
        (value,) = yaml.load(text)
    except ValueError:
        return False
    return isinstance(value, dict) and value.keys() <= _PLANNING


def _pod_spec(spec: Mapping[str, Any]) -> Object:
    kept = _only(spec, _POD_SPEC)
    if on_nodes := (spec.get("affinity") or {}).get("nodeAffinity"):
        kept["affinity"] = {"nodeAffinity": on_nodes}  # affinity between pods names whose they are
    for group in ("containers", "initContainers"):
        if spec.get(group):
            kept[group] = [
                {"name": _digest(container["name"]), **_resources(container)} for container in spec[group]
            ]
    return kept


def _resources(container: Mapping[str, Any]) -> Object:
    amounts = _only(
        container.get("resources") or {}, ("requests", "limits")
    )  # claims have names of their own
    return {"resources": amounts} if amounts else {}


def _of_pod_sets(status: Mapping[str, Any]) -> Object:
    """Returns what Kueue has admitted of a Workload, its pod sets under the names that they have here."""
    kept: Object = {}
    if admission := status.get("admission"):
        assigned = [_renamed(each) for each in admission.get("podSetAssignments") or ()]
        kept["admission"] = {**admission, "podSetAssignments": assigned}
    if reclaimable := status.get("reclaimablePods"):
        kept["reclaimablePods"] = [_renamed(each) for each in reclaimable]
    return kept


def _renamed(named: Mapping[str, Any]) -> Object:
    return {**named, "name": _digest(named["name"])}


def _pod_set(pod_set: Mapping[str, Any]) -> Object:
    template = pod_set.get("template") or {}
    return {
        **_renamed(_only(pod_set, ("name", "count"))),
        "template": {"spec": _pod_spec(template.get("spec") or {})},
    }


def _device(device: Mapping[str, Any]) -> Object:
    attributes = device.get("attributes") or {}
    return {**device, "attributes": {key: attributes[key] for key in attributes if key not in _IDENTITIES}}


def _only(value: Mapping[str, Any], names: Iterable[str]) -> Object:
    return {name: value[name] for name in names if name in value}


def _digest(name: str) -> str:
    return "x" + hashlib.sha256(name.encode()).hexdigest()[:12]
