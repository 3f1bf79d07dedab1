"""The cluster as doctor looks at it: a snapshot, what of it could not be read, and which kinds were seen at all.

A kind that was not seen says nothing: its absence is told to the person and is never a finding.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import msgspec

from admission.decision import cluster_state as webhook
from queue_sync.planning.changes import ChangeSet
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.desired import desired
from slicewise.api import keys
from slicewise.api.policy import PLAN_KIND, POLICY_KIND, Engine, SpecError, read_plan, read_policy
from slicewise.cli.doctor.findings import Finding
from slicewise.inventory import gpu_operator, planned_geometry
from slicewise.inventory.declared_pools import with_declared
from slicewise.inventory.node import Node
from slicewise.inventory.node_state import CUSTOMARY, NodeRules, Observation
from slicewise.inventory.pools import Pool
from slicewise.kube.object_types import CONFIG_MAP, DEFINITION, DEPLOYMENT, MUTATING, kind_of
from slicewise.kube.snapshot import Document, Object, Snapshot, check_shape, collect

POLICY, PLAN = f"{POLICY_KIND}.slicewise.io", f"{PLAN_KIND}.slicewise.io"

_ENGINES: Final = " and ".join(engine.title() for engine in Engine)
# What goes unlooked at where none of these kinds was seen.
TOPICS: Final = (
    ("Node", "nodes, so every check of pools and policies"),
    ("Namespace", "the labels of namespaces"),
    (MUTATING, "the order, selectors and trust of the webhook"),
    (DEFINITION, f"which versions of {_ENGINES} and of our own definitions are served"),
    (DEPLOYMENT, f"whether our replicas run, and the versions of {_ENGINES}"),
    (CONFIG_MAP, "the configuration of the MIG manager, the device plugin and Kueue"),
)
NEVER: Final = (
    (
        "Secrets are never read: when the webhook's certificates end is in its metric "
        "slicewise_certificate_expiry_timestamp_seconds."
    ),
)


@dataclass(frozen=True)
class Patient:
    """One cluster at one moment."""

    snapshot: Snapshot
    seen: frozenset[str]
    """Kinds that were read, even where there was none."""
    now: datetime
    told: tuple[Finding, ...] = ()
    """What was found while reading."""
    forbidden: frozenset[str] = frozenset()
    """Kinds that the caller may not list: nothing may be said of their absence."""

    def saw(self, *kinds: str) -> bool:
        """True when at least one of the kinds was looked for."""
        return not self.seen.isdisjoint(kinds)

    @cached_property
    def cluster(self) -> ClusterState:
        """What quota depends on."""
        return ClusterState.from_snapshot(self.snapshot)

    @cached_property
    def pools(self) -> tuple[Pool, ...]:
        """The pools, as they are believed, with what plans declare."""
        return with_declared(self.cluster.pools, self.snapshot.plans.values())

    @cached_property
    def configs(self) -> gpu_operator.Configs:
        """What is planned for nodes."""
        return self.snapshot.configs

    @cached_property
    def gpu_nodes(self) -> tuple[tuple[Node, Observation], ...]:
        """The nodes that have to do with GPUs, and how each looks beside what is planned for it."""
        rules, devices = self.snapshot.rules, self.snapshot.devices
        looks = (
            (node, planned_geometry.observe(node, self.configs, rules, devices.of(node.name)))
            for node in self.snapshot.nodes
        )
        return tuple((node, seen) for node, seen in looks if seen is not None)

    @cached_property
    def desired(self) -> ChangeSet:
        """What the plans want, against what stands."""
        known = self.cluster
        return desired(known.plans, known.pools, known.namespaces, known.existing)

    @cached_property
    def world(self) -> webhook.ClusterState:
        """What the webhook would know."""
        return webhook.ClusterState(
            self.snapshot.namespaces,
            self.snapshot.policies,
            self.cluster.pools,
            plans=self.snapshot.plans,
        )

    @cached_property
    def opted_in(self) -> Mapping[str, Mapping[str, str]]:
        """Labels of the namespaces in which work is judged, enforced or audited."""
        return {
            name: labels
            for name, labels in sorted(self.snapshot.namespaces.items())
            if keys.opted_in(name, labels)
        }

    def unseen(self) -> list[str]:
        """What could not be looked at, a sentence each."""
        found = [
            f"Nothing is known of {what}: no {kind.partition('.')[0]} was read."
            for kind, what in TOPICS
            if kind not in self.seen
        ]
        return [*found, *NEVER]


def admit(
    documents: Iterable[Document],
    now: datetime,
    seen: Iterable[str] = (),
    told: Iterable[Finding] = (),
    forbidden: frozenset[str] = frozenset(),
    rules: NodeRules = CUSTOMARY,
) -> Patient:
    """Reads documents; what cannot be used of them becomes findings, where the other commands give up.

    Raises:
        BadInput: a document is no Kubernetes object, or one of another shape than such objects have.
    """
    kinds, findings = set(seen), list(told)
    usable: list[Document] = []
    for document in documents:
        if document.is_list and document.value["kind"] != "List":
            kind = {**document.value, "kind": str(document.value["kind"]).removesuffix("List")}
            if kind.get("apiVersion"):
                kinds.add(kind_of(kind))
        for number, item in enumerate(document.objects(), start=1):
            check_shape(item, f"{document.where}: object {number}: {item['kind']}")
            # Others' Deployments say nothing of whether ours are there.
            if kind_of(item) != DEPLOYMENT or space(item) == keys.OWN_NAMESPACE or is_installed(item):
                kinds.add(kind_of(item))
            finding = _unusable(item)
            if finding is not None:
                findings.append(finding)
            else:
                usable.append(Document(f"{document.where}: object {number}", 1, item))
    return Patient(collect(usable, rules), frozenset(kinds), now, tuple(findings), forbidden)


def _unusable(item: Object) -> Finding | None:
    kind, name = kind_of(item), str((item.get("metadata") or {}).get("name", "(unnamed)"))
    try:
        if kind == POLICY:
            read_policy(item)
        elif kind == PLAN:
            read_plan(item)
        elif kind == "Node":
            msgspec.convert(item, Node)
    except SpecError as error:
        code = "PolicyUnusable" if kind == POLICY else "PlanUnusable"
        stays = (
            "work in namespaces that name it is refused" if kind == POLICY else "what was written last stays"
        )
        sentence = f"{error.field}: {error.message}"
        return Finding(
            code, item["kind"], name, sentence, f"Correct the field {error.field}; until then {stays}."
        )
    except msgspec.ValidationError as error:
        fix = "Look at the object with kubectl; the controller leaves it out too."
        return Finding("NodeUnusable", "Node", name, f"the node cannot be read: {error}", fix)
    return None


def named(item: Mapping[str, Any]) -> str:
    """The name of an object."""
    return str((item.get("metadata") or {}).get("name", "(unnamed)"))


def space(item: Mapping[str, Any]) -> str:
    """The namespace of an object; "" when it has none."""
    return str((item.get("metadata") or {}).get("namespace", ""))


def is_installed(item: Mapping[str, Any]) -> bool:
    """True for what the chart and the manifests of Slicewise label as theirs."""
    return (item["metadata"].get("labels") or {}).get("app.kubernetes.io/name") == "slicewise"


def webhook_entries(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The webhooks of a configuration."""
    return [entry for entry in item.get("webhooks") or () if isinstance(entry, dict)]


def is_our_webhook(item: Mapping[str, Any]) -> bool:
    """True for a webhook configuration of Slicewise, under whatever name it was installed."""
    return named(item) == keys.CONFIGURATION or any(
        str(entry.get("name", "")).endswith(f".{keys.CONFIGURATION}") for entry in webhook_entries(item)
    )
