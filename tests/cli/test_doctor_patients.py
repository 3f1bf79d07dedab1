"""Clusters that doctor is shown: a healthy one, and what it takes to break it."""

import base64
from collections.abc import Iterable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from admission.tls.x509 import make_authority
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.desired import desired
from slicewise.api import keys
from slicewise.cli.doctor import admit, findings
from slicewise.cli.doctor.findings import Finding
from slicewise.kube.snapshot import Document, collect
from tests.queue_sync.scenes import GPU, exclusive, mixed

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MANIFESTS = Path(__file__).parents[2] / "manifests"
WHOLE = "h100-80gb-exclusive"
Object = dict[str, Any]

GEOMETRIES = """
version: v1
mig-configs:
  all-disabled: [{devices: all, mig-enabled: false}]
  all-1g.10gb: [{devices: all, mig-enabled: true, mig-devices: {1g.10gb: 7}}]
  two: [{devices: all, mig-enabled: true, mig-devices: {1g.10gb: 2}}]
  too-much: [{devices: all, mig-enabled: true, mig-devices: {1g.10gb: 9}}]
"""
SHARING = """
version: v1
sharing:
  timeSlicing:
    failRequestsGreaterThanOne: true
    resources: [{name: nvidia.com/gpu, replicas: 10}]
"""
KUEUE = "apiVersion: config.kueue.x-k8s.io/v1beta2\nkind: Configuration\n"


@cache
def authority(days: int = 365) -> str:
    made = (
        make_authority(NOW, timedelta(days=days))
        if days > 0
        else make_authority(NOW - timedelta(9), timedelta(1))
    )
    return base64.b64encode(made.certificate.pem.encode()).decode()


@cache
def shipped(name: str) -> Object:
    """A webhook configuration as it is shipped."""
    found: Object = yaml.load((MANIFESTS / f"{name}.yaml").read_text(), Loader=yaml.CSafeLoader)
    return found


def thing(api_version: str, kind: str, name: str, namespace: str = "", **parts: Any) -> Object:
    metadata: Object = {"name": name, **parts.pop("metadata", {})}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **parts}


def namespace(name: str, **labels: str) -> Object:
    return thing(
        "v1",
        "Namespace",
        name,
        metadata={"labels": {f"slicewise.io/{k.replace('_', '-')}": v for k, v in labels.items()}},
    )


def policy(name: str = "default", **spec: Any) -> Object:
    spec = {"defaultClass": "a", "classes": {"a": {"strategy": "exclusive"}}, **spec}
    return thing("slicewise.io/v1alpha1", "SlicingPolicy", name, spec=spec)


def definition(name: str, *served: str, stored: Iterable[str] = ()) -> Object:
    versions = [{"name": each, "served": True} for each in served]
    return thing(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        name,
        spec={"versions": versions},
        status={"storedVersions": list(stored)},
    )


def deployment(part: str, image: str = "slicewise", available: int = 2) -> Object:
    ours = (
        {"app.kubernetes.io/name": "slicewise", "app.kubernetes.io/component": part}
        if image == "slicewise"
        else {}
    )
    template = {"spec": {"containers": [{"name": "main", "image": image}]}}
    return thing(
        "apps/v1",
        "Deployment",
        f"slicewise-{part}" if ours else part,
        keys.OWN_NAMESPACE,
        metadata={"labels": ours},
        spec={"replicas": 2, "template": template},
        status={"availableReplicas": available},
    )


def config_map(name: str, text: str, key: str = "config.yaml") -> Object:
    return thing("v1", "ConfigMap", name, "gpu-operator", data={key: text})


def hooks(name: str, path: str = "", entry: str = "mpod.kb.io") -> Object:
    webhook = {"name": entry, "clientConfig": {"service": {"name": "hooks", "namespace": "x", "path": path}}}
    return thing("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", name, webhooks=[webhook])


def volcano_queue(name: str, **spec: Any) -> Object:
    return thing("scheduling.volcano.sh/v1beta1", "Queue", name, spec={"dequeueStrategy": "traverse", **spec})


class Patient:
    """Objects by `Kind namespace/name`."""

    def __init__(self, *objects: Object) -> None:
        self.objects: dict[str, Object] = {}
        self.add(*objects)

    def add(self, *objects: Object) -> None:
        for item in objects:
            self.objects[self.key(item)] = deepcopy(item)

    @staticmethod
    def key(item: Object) -> str:
        where = item["metadata"].get("namespace")
        return (
            f"{item['kind']} {where}/{item['metadata']['name']}"
            if where
            else f"{item['kind']} {item['metadata']['name']}"
        )

    def __getitem__(self, key: str) -> Object:
        return self.objects[key]

    def drop(self, *starts: str) -> None:
        self.objects = {key: item for key, item in self.objects.items() if not key.startswith(starts)}

    def label(self, key: str, **labels: str | None) -> None:
        for name, value in labels.items():
            own = self[key]["metadata"].setdefault("labels", {})
            own.pop(keys.PREFIX + name.replace("_", "-"), None)
            if value is not None:
                own[keys.PREFIX + name.replace("_", "-")] = value

    def documents(self) -> list[Document]:
        return [Document("test", number, item) for number, item in enumerate(self.objects.values(), start=1)]

    def settle(self) -> None:
        """Gives the plans the queues that they want."""
        bad = ("PlanUnusable", "PolicyUnusable", "NodeUnusable")
        skipped = {f"{f.kind} {f.name}" for f in admit(self.documents(), NOW).told if f.code in bad}
        usable = [d for d in self.documents() if self.key(d.value) not in skipped]
        known = ClusterState.from_snapshot(collect(usable))
        for item in desired(known.plans, known.pools, known.namespaces, known.existing).objects:
            self.objects.setdefault(self.key(item), item)

    def found(self) -> list[Finding]:
        return findings(admit(self.documents(), NOW))


def healthy() -> Patient:
    ours = [deepcopy(shipped(name)) for name in ("mutating", "validating")]
    for item in ours:
        for entry in item["webhooks"]:
            entry["clientConfig"]["caBundle"] = authority()
    queue = {"name": "team-a", "namespaces": {"matchLabels": {"slicewise.io/queue": "team-a"}}}
    patient = Patient(
        namespace("team-a", policy="default", engine="kueue", queue="team-a"),
        namespace("plain"),
        exclusive("whole"),
        mixed("sliced", {"1g.10gb": 7}),
        thing("slicewise.io/v1alpha1", "QuotaPlan", "research", spec={"engine": "kueue", "queues": [queue]}),
        *ours,
        hooks("kueue-mutating-webhook-configuration", "/mutate-kueue-x-k8s-io-v1beta2-clusterqueue"),
        hooks("volcano-admission-service-jobs-mutate", "/jobs/mutate", "mutatejob.volcano.sh"),
        definition("slicingpolicies.slicewise.io", "v1alpha1"),
        definition("quotaplans.slicewise.io", "v1alpha1"),
        definition("clusterqueues.kueue.x-k8s.io", "v1beta2", stored=["v1beta2"]),
        definition("queues.scheduling.volcano.sh", "v1beta1"),
        deployment("webhook"),
        deployment("controller"),
        deployment("kueue-controller-manager", "registry.k8s.io/kueue/kueue:v0.19.2"),
        config_map("mig-parted", GEOMETRIES),
        config_map("sharing", SHARING, "ten"),
        config_map("kueue-manager-config", KUEUE, "controller_manager_config.yaml"),
    )
    for name, pool in (("whole", WHOLE), ("sliced", "h100-80gb-mig-mixed")):
        patient.label(f"Node {name}", pool=pool)
    # A name that lingers with 0 is how kubelets are.
    patient["Node sliced"]["status"]["allocatable"][GPU] = "0"
    return patient


def test_a_healthy_cluster_has_nothing_to_find() -> None:
    patient = healthy()
    patient.settle()
    assert patient.found() == []
