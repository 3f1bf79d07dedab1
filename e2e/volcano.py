"""Volcano on a bare control plane: CRDs from its Go module, its three programs, its real webhooks.

The webhooks are reached as Kueue's are, through a Service of type ExternalName. Volcano publishes its webhook
configurations as a chart template only, so the ones that guard queues and jobs are spelt out here, by the names into
which the webhook manager writes its certificate.
"""

from __future__ import annotations

import base64
from pathlib import Path

from e2e.binaries import Programs
from e2e.client import KubeClient, Object, load

NAMESPACE = "volcano-system"
SERVICE = "volcano-admission-service"
HOST = f"{SERVICE}.{NAMESPACE}.svc"
# Path served -> (API group, version, resource, operations).
ADMISSION = {
    "/jobs/mutate": ("batch.volcano.sh", "v1alpha1", "jobs", ["CREATE"]),
    "/jobs/validate": ("batch.volcano.sh", "v1alpha1", "jobs", ["CREATE", "UPDATE"]),
    "/queues/mutate": ("scheduling.volcano.sh", "v1beta1", "queues", ["CREATE"]),
    "/queues/validate": ("scheduling.volcano.sh", "v1beta1", "queues", ["CREATE", "UPDATE", "DELETE"]),
    "/podgroups/mutate": ("scheduling.volcano.sh", "v1beta1", "podgroups", ["CREATE"]),
}
# The capacity plugin, so that a queue's deserved, guarantee and capability count per resource name.
SCHEDULER = """\
actions: "enqueue, allocate, backfill, reclaim"
tiers:
- plugins:
  - name: priority
  - name: gang
    enablePreemptable: false
  - name: conformance
- plugins:
  - name: predicates
  - name: capacity
    enableHierarchy: true
  - name: nodeorder
"""


def crds(programs: Programs) -> list[Object]:
    """Every CRD: an informer of a missing one never syncs, and start-up would hang."""
    folders = ("volcano-crds", "volcano-jobflow-crds")
    namespace: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    return [namespace, *(crd for f in folders for path in programs.manifests(f) for crd in load(path))]


def webhook_configurations(port: int, authority: bytes) -> list[Object]:
    """One configuration per path, as the chart has them."""
    found: list[Object] = []
    for path, (group, version, resource, operations) in ADMISSION.items():
        _, of, verb = path.split("/")
        kind = "MutatingWebhookConfiguration" if verb == "mutate" else "ValidatingWebhookConfiguration"
        service = {"name": SERVICE, "namespace": NAMESPACE, "path": path, "port": port}
        webhook = {
            "name": f"{verb}{of.removesuffix('s')}.volcano.sh",
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": service, "caBundle": base64.b64encode(authority).decode()},
            "failurePolicy": "Fail",
            "sideEffects": "NoneOnDryRun",
            "timeoutSeconds": 10,
            "rules": [
                {
                    "apiGroups": [group],
                    "apiVersions": [version],
                    "resources": [resource],
                    "operations": operations,
                }
            ],
        }
        found.append(
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": kind,
                "metadata": {"name": f"{SERVICE}-{of}-{verb}"},
                "webhooks": [webhook],
            }
        )
    return found


def commands(
    programs: Programs, kubeconfig: Path, certificates: Path, folder: Path, port: int
) -> dict[str, list[str]]:
    """The command lines, in the order in which to start them.

    ``folder`` must hold nothing else: the scheduler watches the folder of its configuration and would reload for
    ever if its own log grew there.
    """
    (folder / "scheduler.conf").write_text(SCHEDULER)
    return {
        "vc-webhook-manager": [
            str(programs.program("vc-webhook-manager")),
            f"--kubeconfig={kubeconfig}",
            f"--tls-cert-file={certificates / 'volcano.crt'}",
            f"--tls-private-key-file={certificates / 'volcano.key'}",
            f"--ca-cert-file={certificates / 'ca.crt'}",
            "--listen-address=127.0.0.1",
            f"--port={port}",
            f"--webhook-namespace={NAMESPACE}",
            f"--webhook-service-name={SERVICE}",
            f"--enabled-admission={','.join(ADMISSION)}",
            "--enable-healthz=false",
            "--logtostderr=true",
        ],
        "vc-controller-manager": [
            str(programs.program("vc-controller-manager")),
            f"--kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--enable-healthz=false",
            "--enable-metrics=false",
            "--logtostderr=true",
        ],
        "vc-scheduler": [
            str(programs.program("vc-scheduler")),
            f"--kubeconfig={kubeconfig}",
            f"--scheduler-conf={folder / 'scheduler.conf'}",
            "--leader-elect=false",
            "--enable-healthz=false",
            "--enable-metrics=false",
            "--cache-dumper=false",
            "--logtostderr=true",
        ],
    }


def queues_open(client: KubeClient) -> bool:
    """Whether the queues that Volcano makes itself are there and open: its three programs work then."""
    queues = client.list("scheduling.volcano.sh/v1beta1", "Queue")
    states = {queue["metadata"]["name"]: queue.get("status", {}).get("state") for queue in queues}
    return states.get("default") == "Open" and "root" in states
