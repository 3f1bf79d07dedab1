"""Whose a pod is, and what was decided for it: from the objects of a cluster, or from what the source says of them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from slicewise.api import keys
from slicewise.api.policy import BUILT_IN, SlicingPolicy, built_in
from slicewise.inventory.pools import Pool
from slicewise.kube.snapshot import Snapshot
from slicewise.usage.series import Usage

UNKNOWN: Final = "unknown"
_CRON: Final = re.compile(r"(?P<name>.+)-\d{8,10}")


class Owner(msgspec.Struct, frozen=True, order=True):
    """What makes a pod, and the next one like it."""

    namespace: str
    kind: str
    name: str

    @property
    def words(self) -> str:
        """As `kubectl` names it, with the namespace in front."""
        return f"{self.namespace}/{self.kind}/{self.name}"


class Work(msgspec.Struct, frozen=True):
    """What is known of one pod beside its use."""

    owner: Owner
    class_name: str = UNKNOWN
    policy: str = ""
    strategy: str = ""
    node: str = ""
    running: bool = False
    devices: Mapping[str, int] = {}
    """What its containers hold: resource name -> count."""


class _Assigned(msgspec.Struct, frozen=True):
    to: str = ""
    count: int = 0


class _Decision(msgspec.Struct, frozen=True, rename={"class_name": "class"}):
    """The fields of the annotation `slicewise.io/decision` that are read here (docs/reference.md)."""

    class_name: str = ""
    policy: str = ""
    strategy: str = ""
    containers: dict[str, _Assigned] = {}


def works(pods: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Work]:
    """Returns what is known of each pod of a snapshot, by (namespace, name)."""
    found = {}
    for pod in pods:
        metadata = pod.get("metadata") or {}
        name, namespace = str(metadata.get("name", "")), str(metadata.get("namespace") or "default")
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        decision = _decision(annotations.get(keys.DECISION))
        spec, status = pod.get("spec") or {}, pod.get("status") or {}
        found[namespace, name] = Work(
            _owner(namespace, name, metadata, labels),
            decision.class_name or labels.get(keys.WORKLOAD_CLASS) or UNKNOWN,
            decision.policy,
            decision.strategy,
            str(spec.get("nodeName") or ""),
            bool(spec.get("nodeName")) and status.get("phase", "Running") in {"Running", "Pending"},
            _devices(spec),
        )
    return found


def _decision(text: object) -> _Decision:
    try:
        return msgspec.json.decode(text, type=_Decision) if isinstance(text, str) else _Decision()
    except (msgspec.DecodeError, RecursionError):
        return _Decision()


def _owner(namespace: str, name: str, metadata: Mapping[str, Any], labels: Mapping[str, str]) -> Owner:
    owners = metadata.get("ownerReferences") or ()
    owner = next((each for each in owners if each.get("controller")), None)
    if owner is None:
        return Owner(namespace, "Pod", name)
    kind, owner_name = str(owner.get("kind", "")), str(owner.get("name", ""))
    template = labels.get("pod-template-hash", "")
    if kind == "ReplicaSet" and template and owner_name.endswith(f"-{template}"):
        return Owner(namespace, "Deployment", owner_name.removesuffix(f"-{template}"))
    return named(namespace, kind, owner_name)


def named(namespace: str, kind: str, name: str) -> Owner:
    """Returns the owner behind a controller's name: the CronJob of a Job that is called as CronJobs call theirs."""
    scheduled = _CRON.fullmatch(name) if kind == "Job" else None
    return Owner(namespace, "CronJob", scheduled["name"]) if scheduled else Owner(namespace, kind, name)


def _devices(spec: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for container in spec.get("containers") or ():
        resources = container.get("resources") or {}
        for resource, quantity in (
            {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
        ).items():
            if keys.is_device(resource) and str(quantity).isdecimal():
                found[resource] = found.get(resource, 0) + int(quantity)
    return found


def policy_of(
    namespace: str, namespaces: Mapping[str, Mapping[str, str]], policies: Mapping[str, SlicingPolicy]
) -> SlicingPolicy | None:
    """Returns the policy that a namespace has opted in to; None where it has not."""
    name = namespaces.get(namespace, {}).get(keys.POLICY)
    if name is None:
        return None
    return policies.get(name) or (built_in() if name == BUILT_IN else None)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What is known of a cluster beside the use of its GPUs."""

    works: Mapping[tuple[str, str], Work] = field(default_factory=dict)
    pools: tuple[Pool, ...] = ()
    pool_of_node: Mapping[str, str] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    policies: Mapping[str, SlicingPolicy] = field(default_factory=dict)

    def work(self, namespace: str, pod: str, usage: Usage) -> Work:
        """Returns what is known of a pod: as its object says, else as the usage says, else that it is its own owner."""
        known = self.works.get((namespace, pod))
        if known is not None:
            return known
        owner = usage.owners.get((namespace, pod))
        return Work(
            named(namespace, *owner) if owner else Owner(namespace, "Pod", pod),
            usage.classes.get((namespace, pod), UNKNOWN),
        )


def remember(usage: Usage, cluster: Cluster) -> None:
    """Puts the owners and classes of the pods into the usage, so that a saved file needs no Pod objects beside it."""
    for each in usage.series:
        pod = each.key.namespace, each.key.pod
        if work := cluster.works.get(pod):
            usage.owners[pod] = work.owner.kind, work.owner.name
            usage.classes[pod] = work.class_name


def cluster_of(snapshot: Snapshot) -> Cluster:
    """Reads a snapshot."""
    pools = tuple(snapshot.pools)
    return Cluster(
        works(snapshot.of("Pod")),
        pools,
        {node: pool.name for pool in pools for node in pool.nodes},
        snapshot.namespaces,
        snapshot.policies,
    )
