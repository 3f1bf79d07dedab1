"""Kueue on a bare control plane: its real manifests, its real webhooks, without a kubelet.

Purpose: the manifests come from the Go module that the program was built from and are changed in memory as
``kustomize`` would change them: names, namespace, port, and the conversion stanza of the CRDs.

How the webhooks are reached: their Service is of type ExternalName and names an address of loopback, so the API server
dials that and still verifies the certificate for ``SERVICE.NAMESPACE.svc``. Each cluster has an address of its own and
all have one port, so that definitions and webhook configurations are the same in every cluster. Kueue makes that
certificate itself and keeps it in a Secret; :class:`SecretMirror` copies the Secret into the folder that Kueue serves
from, as a kubelet would.
"""

from __future__ import annotations

import base64
import contextlib
import threading
from pathlib import Path
from typing import Any

import urllib3
import yaml

from e2e.harness.binaries import Programs
from e2e.harness.certificates import write_private
from e2e.harness.client import ApiError, KubeClient, Object, load
from e2e.harness.definitions import undescribed

NAMESPACE = "kueue-system"
SERVICE = "kueue-webhook-service"
SECRET = "kueue-webhook-server-cert"
PORT = 9443
METRICS_PORT = "e2e.slicewise.io/kueue-metrics-port"
OWN_GROUP = "kueue.x-k8s.io"
# The kinds whose CRDs Kueue's certificate rotation wants to find converted by its webhook.
CONVERTED = ("localqueues", "clusterqueues", "cohorts", "workloads", "multikueueclusters")
FRAMEWORKS = (
    "batch/job",
    "pod",
    "deployment",
    "statefulset",
    "leaderworkerset.x-k8s.io/leaderworkerset",
    "jobset.x-k8s.io/jobset",
    "ray.io/raycluster",
    "ray.io/rayjob",
    "ray.io/rayservice",
    "kubeflow.org/mpijob",
    "kubeflow.org/paddlejob",
    "kubeflow.org/pytorchjob",
    "kubeflow.org/tfjob",
    "kubeflow.org/xgboostjob",
    "kubeflow.org/jaxjob",
    "trainer.kubeflow.org/trainjob",
    "workload.codeflare.dev/appwrapper",
)
USER_NAMESPACES = {
    "matchExpressions": [
        {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", NAMESPACE]}
    ]
}


def configuration(host: str, metrics: int, health: int, certificates: Path) -> Object:
    """Kueue's own configuration file: everything on loopback, every job integration that exists."""
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "namespace": NAMESPACE,
        "health": {"healthProbeBindAddress": f"127.0.0.1:{health}"},
        "metrics": {"bindAddress": f"127.0.0.1:{metrics}", "enableClusterQueueResources": True},
        "webhook": {"host": host, "port": PORT, "certDir": str(certificates)},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {
            "enable": True,
            "webhookServiceName": SERVICE,
            "webhookSecretName": SECRET,
        },
        "clientConnection": {"qps": 300, "burst": 500},
        "managedJobsNamespaceSelector": USER_NAMESPACES,
        "integrations": {"frameworks": list(FRAMEWORKS)},
    }


def whereabouts(host: str, metrics: int) -> list[Object]:
    """Where this cluster's Kueue is: its Service, and the namespace of that."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": SERVICE,
                "namespace": NAMESPACE,
                # There is no Pod to ask; a test run that was only given the kubeconfig finds the port here.
                "annotations": {METRICS_PORT: str(metrics)},
            },
            "spec": {"type": "ExternalName", "externalName": host},
        },
    ]


def manifests(programs: Programs) -> list[Object]:
    """What is the same in every cluster that has Kueue, in order: Secret, CRDs, webhooks."""
    service = {"namespace": NAMESPACE, "name": SERVICE, "port": PORT}
    objects: list[Object] = [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": NAMESPACE}},
    ]
    for path in programs.manifests("kueue-crds"):
        for crd in load(path):
            if crd["spec"]["names"]["plural"] in CONVERTED:
                crd["spec"]["conversion"] = {
                    "strategy": "Webhook",
                    "webhook": {
                        "clientConfig": {"service": service | {"path": "/convert"}},
                        "conversionReviewVersions": ["v1"],
                    },
                }
            objects.append(undescribed(crd))
    for path in programs.manifests("kueue-webhooks"):
        objects += [_webhooks(configured, service) for configured in load(path)]
    return objects


def _webhooks(configured: Object, service: dict[str, Any]) -> Object:
    configured["metadata"]["name"] = f"kueue-{configured['metadata']['name']}"
    for webhook in configured["webhooks"]:
        webhook["clientConfig"]["service"] |= service
        if not any(OWN_GROUP in rule["apiGroups"] for rule in webhook["rules"]):
            webhook["namespaceSelector"] = USER_NAMESPACES
    return configured


def command(programs: Programs, kubeconfig: Path, configuration_file: Path) -> list[str]:
    """The command line. Visibility is off: it would need an aggregated API server and its certificates."""
    return [
        str(programs.program("kueue")),
        f"--config={configuration_file}",
        f"--kubeconfig={kubeconfig}",
        "--feature-gates=VisibilityOnDemand=false",
        "--zap-log-level=2",
    ]


def write_configuration(path: Path, content: Object) -> None:
    """Writes the configuration file."""
    path.write_text(yaml.safe_dump(content))


def serves(client: KubeClient) -> bool:
    """Whether the webhooks answer with a certificate that the API server accepts, and the conversion too."""
    flavor = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ResourceFlavor",
        "metadata": {"name": "slicewise-e2e-probe"},
    }
    queue = {
        "apiVersion": "kueue.x-k8s.io/v1beta1",
        "kind": "ClusterQueue",
        "metadata": {"name": "slicewise-e2e-probe"},
    }
    with contextlib.suppress(ApiError, urllib3.exceptions.HTTPError):
        # The second is asked for in the old version, so that it goes through the conversion webhook.
        return all(client.try_create(obj, dry_run=True).status == 201 for obj in (flavor, queue))
    return False


class SecretMirror:
    """Keeps a folder equal to the data of a Secret, as a kubelet does for a mounted one.

    Invariants: files are replaced as a whole, and only when they differ. An API server that is away is no reason to
    stop, nor to remove a file.
    """

    def __init__(self, client: KubeClient, namespace: str, name: str, folder: Path) -> None:
        self._client = client
        self._path = client.path("v1", "Secret", name, namespace)
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mirror of {name}", daemon=True)
        folder.mkdir(exist_ok=True)

    def start(self) -> None:
        """Begins copying."""
        self._thread.start()

    def stop(self) -> None:
        """Ends copying."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        # What Kueue signed once it leaves as it is for years.
        while not self._stop.wait(0.25 if not any(self._folder.iterdir()) else 10.0):
            with contextlib.suppress(ApiError, urllib3.exceptions.HTTPError):
                self.copy()

    def copy(self) -> None:
        """Copies once."""
        answer = self._client.request("GET", self._path)
        data = (answer.body.get("data") or {}) if answer.status == 200 else {}
        for name, encoded in data.items():
            content = base64.b64decode(encoded)
            target = self._folder / name
            if content and not (target.exists() and target.read_bytes() == content):
                partial = self._folder / f".{name}.partial"
                write_private(partial, content)
                partial.replace(target)


def forget_plan(cluster: KubeClient, name: str) -> None:
    """Deletes a QuotaPlan and takes back what its queues have: a plan that goes leaves them as they are."""
    cluster.delete("slicewise.io/v1alpha1", "QuotaPlan", name)
    for api_version, kind in (
        (f"{OWN_GROUP}/v1beta2", "ClusterQueue"),
        ("scheduling.volcano.sh/v1beta1", "Queue"),
    ):
        for queue in _of_plan(cluster, api_version, kind, name):
            if kind == "ClusterQueue":
                cluster.delete(api_version, kind, queue["metadata"]["name"])
            else:
                given = {"deserved", "capability", "guarantee"}
                queue["spec"] = {key: value for key, value in queue["spec"].items() if key not in given}
                cluster.replace(queue)


def _of_plan(cluster: KubeClient, api_version: str, kind: str, name: str) -> list[Object]:
    if not cluster.serves(api_version, kind):  # a cluster without this engine
        return []
    found = cluster.list(api_version, kind)
    return [
        each for each in found if each["metadata"].get("annotations", {}).get("slicewise.io/plan") == name
    ]
