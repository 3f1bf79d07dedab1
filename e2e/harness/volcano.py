"""Volcano on a bare control plane: CRDs from its Go module, its three programs, its real webhooks.

The webhooks are reached as Kueue's are, through a Service of type ExternalName. Volcano publishes its webhook
configurations as a chart template only, so the ones that guard queues and jobs are spelt out here, by the names into
which the webhook manager writes its certificate.
"""

from __future__ import annotations

import base64
from pathlib import Path

from e2e.harness.binaries import Programs
from e2e.harness.client import KubeClient, Object, eventually, load
from e2e.harness.definitions import undescribed
from e2e.harness.kwok import KEEP_RUNNING

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
    found = (crd for f in folders for path in programs.manifests(f) for crd in load(path))
    return [namespace, *map(undescribed, found)]


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


# What tests make and look at.

BATCH, SCHEDULING = "batch.volcano.sh/v1alpha1", "scheduling.volcano.sh/v1beta1"
GPU = "nvidia.com/gpu"


def vcjob(
    name: str,
    namespace: str,
    replicas: int,
    asks: dict[str, int] | None = None,
    *,
    queue: str | None = None,
    min_available: int | None = None,
    requests: bool = False,
) -> Object:
    """A gang that asks for GPUs in its limits, as people do, and keeps running; with `requests` in these too."""
    wanted = dict(asks or {GPU: 1})
    resources = {"limits": wanted, "requests": {"cpu": "300m", **(wanted if requests else {})}}
    template = {
        "metadata": {"annotations": {KEEP_RUNNING: "true"}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "none", "resources": resources}],
        },
    }
    spec: Object = {
        "minAvailable": replicas if min_available is None else min_available,
        "tasks": [{"name": "worker", "replicas": replicas, "template": template}],
    }
    if queue is not None:
        spec["queue"] = queue
    return {
        "apiVersion": BATCH,
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def numbers(client: KubeClient, queue: str, field: str = "deserved") -> dict[str, int]:
    """What a Queue deserves, or may have, of each GPU resource; ``guarantee`` is what it keeps."""
    spec = client.get(SCHEDULING, "Queue", queue)["spec"]
    listed = (spec.get("guarantee") or {}).get("resource") if field == "guarantee" else spec.get(field)
    return {
        name: int(quantity) for name, quantity in (listed or {}).items() if name.startswith("nvidia.com/")
    }


def is_open(client: KubeClient, *queues: str) -> bool:
    """Whether Volcano takes work into all of these Queues: as it says, and as its webhook knows, which looks itself."""
    found = [client.get(SCHEDULING, "Queue", queue).get("status", {}).get("state") for queue in queues]
    return set(found) == {"Open"} and all(_is_known_to_be_open(client, queue) for queue in queues)


def _is_known_to_be_open(client: KubeClient, queue: str) -> bool:
    probe = vcjob("probe", "default", 1, {"cpu": 1}, queue=queue)
    return "can only submit job to queue with state" not in client.try_create(probe, dry_run=True).message


def pod_group(client: KubeClient, namespace: str, job: str) -> Object:
    """The PodGroup that Volcano made for a vcjob."""
    groups = client.list(SCHEDULING, "PodGroup", namespace)
    (found,) = (g for g in groups if g["metadata"]["ownerReferences"][0]["name"] == job)
    return found


def running(client: KubeClient, namespace: str, job: str) -> int:
    """How many pods of a vcjob run."""
    pods = client.list("v1", "Pod", namespace, labels=f"volcano.sh/job-name={job}")
    return sum(pod["status"].get("phase") == "Running" for pod in pods)


def says(client: KubeClient, namespace: str, job: str) -> str:
    """All that Volcano says of a vcjob's PodGroup: its conditions and its events."""
    group = pod_group(client, namespace, job)
    words = [c.get("message", "") for c in group.get("status", {}).get("conditions") or ()]
    words += [
        event["message"]
        for event in client.list("v1", "Event", namespace)
        if event["involvedObject"]["name"] == group["metadata"]["name"]
    ]
    return "\n".join(words)


def clear(client: KubeClient, namespace: str) -> None:
    """Nothing that was submitted to a namespace is left in it; pods go at once, as there is no kubelet to ask."""
    for version, kind in (("apps/v1", "Deployment"), (BATCH, "Job"), ("v1", "Pod")):
        for item in client.list(version, kind, namespace):
            path = client.path(version, kind, item["metadata"]["name"], namespace)
            client.request("DELETE", path, {"propagationPolicy": "Background", "gracePeriodSeconds": 0})
    eventually(lambda: _empty(client, namespace), f"nothing is left in {namespace}")


def _empty(client: KubeClient, namespace: str) -> bool:
    for pod in client.list("v1", "Pod", namespace):
        path = client.path("v1", "Pod", pod["metadata"]["name"], namespace)
        client.request("DELETE", path, {"gracePeriodSeconds": 0})
    left = (("v1", "Pod"), (BATCH, "Job"), (SCHEDULING, "PodGroup"))
    return not any(client.list(version, kind, namespace) for version, kind in left)
