"""The harness plays the kubelet, and nothing else: Deployments, scheduling, quota and admission are the real ones.

A node of this run's own is registered. Its label and its taint keep all Pods away but those that name both, as an
administrator's node for infrastructure does. What the real scheduler binds to it is started as ``container.py`` says
and looked after as ``lifecycle.py`` says: readiness and liveness are probed, what ends is started again, and a Pod that
is deleted gets SIGTERM, its grace period and then SIGKILL. The state of every Pod is written back, so that the real
Deployment controller replaces replicas at its own pace.

An image that the kubelet was not given cannot be pulled: its container waits, as it would.

Not played: the read-only root filesystem, users and capabilities (the API server checks that the Pod asks for them, by
the restricted Pod Security Standard; `release/test_image.py` starts the same Pods from the image, with both), memory
limits, and the NetworkPolicy.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from e2e.harness.client import STRATEGIC_PATCH, ApiError, Object, Objects, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.container import Runtime, as_it_stands
from e2e.harness.lifecycle import FAILURES, Pod, now

LABEL = "e2e.slicewise.io/kubelet"
POLL = 0.3
"""Seconds from one look for Pods to the next: it keeps the API server busier than Slicewise at rest does."""


class Kubelet:
    """One node and the Pods that are bound to it."""

    def __init__(
        self, cluster: AnyCluster, folder: Path, images: Collection[str], runtime: Runtime = as_it_stands
    ) -> None:
        self.cluster, self.folder, self.images, self.runtime = cluster, folder, images, runtime
        self.name = f"e2e-kubelet-{secrets.token_hex(3)}"
        self.stopping = threading.Event()
        self._held: list[dict[str, str]] = []
        self._pods: dict[str, Pod] = {}
        self._hurry = False
        self._looks = 0
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    @property
    def placement(self) -> Object:
        """The values of the chart that bring Pods to this node."""
        return {
            "nodeSelector": {LABEL: self.name},
            "tolerations": [{"key": LABEL, "operator": "Exists", "effect": "NoSchedule"}],
        }

    def start(self) -> None:
        """Registers the node and begins to look after its Pods; a second time changes nothing."""
        if self._thread.is_alive():
            return
        capacity = {"cpu": "64", "memory": "256Gi", "pods": "110"}
        condition = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "lastTransitionTime": now(),
        }
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.name,
                "labels": {LABEL: self.name, "kubernetes.io/hostname": self.name},
            },
            "spec": {"taints": [{"key": LABEL, "effect": "NoSchedule"}]},
            "status": {"capacity": capacity, "allocatable": capacity, "conditions": [condition]},
        }
        self.cluster.create(node)
        self._renew()
        self._thread.start()

    def stop(self) -> None:
        """Kills what runs and takes the node away."""
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        for pod in list(self._pods.values()):
            pod.end()
        with contextlib.suppress(*FAILURES):
            self.cluster.delete("v1", "Node", self.name)
            self.cluster.delete("coordination.k8s.io/v1", "Lease", self.name, "kube-node-lease")

    def drain(self) -> None:
        """Waits until all Pods are gone that somebody deleted, without giving them time to end."""
        self._hurry = True
        if self._thread.is_alive():
            eventually(lambda: not self.pods(), f"no Pod is left on {self.name}")

    def look(self) -> None:
        """Returns once it has looked: what the cluster deleted before is told to end."""
        enough = self._looks + 2  # one may be under way
        eventually(lambda: self._looks >= enough, f"{self.name} has looked")

    def pods(self, labels: Mapping[str, str] | None = None) -> list[Pod]:
        """The Pods with these labels that are not gone, the oldest first."""
        wanted = (labels or {}).items()
        return [pod for pod in list(self._pods.values()) if not pod.done and wanted <= pod.labels.items()]

    def hold(self, labels: Mapping[str, str]) -> None:
        """Kills the containers of these Pods, as ``kill -9`` does, and does not start them again until released."""
        self._held.append(dict(labels))
        for pod in self.pods(labels):
            if pod.program is not None:
                pod.program.kill()
        eventually(
            lambda: not any(pod.ready for pod in self.pods(labels)), "what was killed is seen to be gone"
        )

    def release(self, labels: Mapping[str, str]) -> None:
        """Lets containers that were held start again."""
        self._held = [each for each in self._held if each != dict(labels)]

    def is_held(self, labels: Mapping[str, str]) -> bool:
        """Whether Pods with these labels are held."""
        return any(each.items() <= labels.items() for each in self._held)

    def write(self, item: Object, status: Object) -> None:
        """Writes the status of a Pod; one that is gone has none."""
        metadata = item["metadata"]
        path = self.cluster.path("v1", "Pod", metadata["name"], metadata["namespace"], "status")
        patch = {"metadata": {"uid": metadata["uid"]}, "status": status}
        answer = self.cluster.request("PATCH", path, patch, STRATEGIC_PATCH, {"fieldManager": "e2e-kubelet"})
        if answer.status not in (200, 404, 409):
            raise ApiError(f"status of Pod {metadata['name']}", answer)

    def forget(self, item: Object) -> None:
        """Takes a Pod that has ended out of the cluster."""
        metadata = item["metadata"]
        path = self.cluster.path("v1", "Pod", metadata["name"], metadata["namespace"])
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        self.cluster.request("DELETE", path, options)

    def _run(self) -> None:
        renewed = time.monotonic()
        while not self.stopping.wait(POLL):
            with contextlib.suppress(*FAILURES):
                bound = {item["metadata"]["uid"]: item for item in self._bound()}
                for item in bound.values():
                    self._take(item)
                for gone in self._pods.keys() - bound.keys():
                    self._pods[gone].delete(0)
                if time.monotonic() - renewed > 5:
                    self._renew()
                    renewed = time.monotonic()
                self._looks += 1

    def _bound(self) -> Objects:
        found = self.cluster.request(
            "GET", "/api/v1/pods", query={"fieldSelector": f"spec.nodeName={self.name}"}
        )
        items: Objects = found.body["items"] if found.status == 200 else []
        return items

    def _take(self, item: Object) -> None:
        metadata = item["metadata"]
        pod = self._pods.get(metadata["uid"])
        if pod is None:
            pod = self._pods[metadata["uid"]] = Pod(self, item)
        if metadata.get("deletionTimestamp"):
            pod.delete(0 if self._hurry else metadata.get("deletionGracePeriodSeconds", 0))
            if pod.done:
                self.forget(item)

    def _renew(self) -> None:
        """The lease by which the cluster knows that the node is there."""
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = {"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": at}
        metadata = {"name": self.name, "namespace": "kube-node-lease"}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        self.cluster.apply(lease, manager="e2e-kubelet")
