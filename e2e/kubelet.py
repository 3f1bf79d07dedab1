"""The harness plays the kubelet, and nothing else: Deployments, scheduling, quota and admission are the real ones.

A node of this run's own is registered. Its label and its taint keep all Pods away but those that name both, as an
administrator's node for infrastructure does. What the real scheduler binds to it is started as ``container.py`` says;
readiness and liveness are probed, what ends is started again, and a Pod that is deleted gets SIGTERM, its grace period
and then SIGKILL. The state of every Pod is written back, so that the real Deployment controller replaces replicas at
its own pace.

An image that the kubelet was not given cannot be pulled: its container waits, as it would.

Not played: the read-only root filesystem, users and capabilities (the API server checks that the Pod asks for them, by
the restricted Pod Security Standard), memory limits, and the NetworkPolicy.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

import urllib3

from e2e.client import STRATEGIC_PATCH, ApiError, Object, Objects, eventually
from e2e.cluster import AnyCluster
from e2e.container import Launch, NotYetError, Process, launch, mount
from e2e.errors import ClusterError

LABEL = "e2e.slicewise.io/kubelet"
TICK = 0.1
FAILURES = (ApiError, urllib3.exceptions.HTTPError)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Pod:
    """One Pod of the node, looked after by a thread of its own until it is gone."""

    def __init__(self, kubelet: Kubelet, item: Object) -> None:
        self.item = item
        self.name: str = item["metadata"]["name"]
        self.labels: dict[str, str] = item["metadata"].get("labels", {})
        self.launch: Launch | None = None
        self.program: Process | None = None
        self.ready = False
        self.restarts = 0
        self.problem = ""
        self._kubelet = kubelet
        self._folder = kubelet.folder / self.name
        self._deleted: float | None = None
        self._reported: Object = {}
        self._was_held = False
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether nothing is left to do for it."""
        return not self._thread.is_alive()

    def delete(self, grace: float) -> None:
        """It is to end, within so many seconds."""
        if self._deleted is None or grace < self._deleted:
            self._deleted = grace

    @property
    def serving(self) -> bool:
        """Whether a Service sends new connections here."""
        return self.ready and self._deleted is None

    def end(self) -> None:
        """Kills it at once."""
        self._kubelet.stopping.set()
        self._thread.join()

    def _run(self) -> None:
        # What has no end here, such as a cluster that was stopped, is nothing to report: the run is over.
        with contextlib.suppress(*FAILURES):
            try:
                self._live()
            except ClusterError as error:
                self.problem = str(error)
                self._report("Pending", waiting="CreateContainerError")
                self._until_deleted()
            finally:
                if self.program is not None:
                    self.program.kill()
            if self._deleted is not None:
                self._kubelet.forget(self.item)

    def _live(self) -> None:
        if not self._prepared():
            return
        assert self.program is not None
        self.program.start()
        refreshed = time.monotonic()
        while not self._over():
            if self._kubelet.is_held(self.labels):
                self._was_held = True
                self.program.kill()
            elif not self.program.running and self._ended():
                self._until_deleted()
                return
            self._look()
            if time.monotonic() - refreshed > 1:
                refreshed = time.monotonic()
                with contextlib.suppress(NotYetError):
                    mount(self._kubelet.cluster, self.item, self.item["spec"]["containers"][0], self._folder)
            time.sleep(TICK)
        self._terminate()

    def _prepared(self) -> bool:
        (spec,) = self.item["spec"]["containers"]
        while not self._over():
            if spec["image"] in self._kubelet.images:
                with contextlib.suppress(NotYetError):
                    self.launch = launch(self._kubelet.cluster, self.item, self._folder)
                    self.program = Process(
                        self.name, self.launch.command, self._kubelet.folder, self.launch.environment
                    )
                    return True
                self._report("Pending", waiting="ContainerCreating")
            else:
                self._report("Pending", waiting="ErrImagePull")
            time.sleep(TICK)
        return False

    def _look(self) -> None:
        """Probes, and reports what changed."""
        assert self.launch is not None
        assert self.program is not None
        host, running = self._kubelet.cluster.listen_host, self.program.running
        probe, alive = self.launch.readiness, self.launch.liveness
        if probe is not None and not running:
            probe.forget()
        self.ready = running and (probe is None or probe.look(host))
        self._report("Running")
        if running and alive is not None:
            alive.look(host)
            if alive.failures >= alive.failures_allowed:
                alive.failures = 0
                self.program.kill()

    @property
    def _again(self) -> bool:
        """Whether a container that ends is started again."""
        return bool(self.item["spec"].get("restartPolicy", "Always") == "Always")

    def _ended(self) -> bool:
        """What becomes of a container that has ended: whether that is the end of the Pod."""
        assert self.program is not None
        if not self._again:
            status = self.program.status
            self._report("Succeeded" if status == 0 else "Failed", code=status)
            return True
        if not self._was_held:
            self.restarts += 1
            self._look()
            time.sleep(min(5.0, 0.5 * self.restarts))
        self._was_held = False
        if not self._kubelet.is_held(self.labels):
            self.program.start()
        return False

    def _terminate(self) -> None:
        if self.program is None or self._kubelet.stopping.is_set() or not self.program.running:
            return
        self.ready = False
        self.program.terminate()
        told = time.monotonic()
        while self.program.running and time.monotonic() - told < (self._deleted or 0):
            if self._kubelet.stopping.is_set():
                return
            time.sleep(TICK)

    def _over(self) -> bool:
        return self._deleted is not None or self._kubelet.stopping.is_set()

    def _until_deleted(self) -> None:
        while not self._over():
            time.sleep(TICK)

    def _report(self, phase: str, *, waiting: str = "", code: int | None = None) -> None:
        ready = self.ready and phase == "Running"
        (spec,) = self.item["spec"]["containers"]
        state: Object = {"running": {}} if self.program is not None else {"waiting": {"reason": waiting}}
        if code is not None:
            state = {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}}
        status = {
            "phase": phase,
            "podIP": "127.0.0.1",
            "podIPs": [{"ip": "127.0.0.1"}],
            "containerStatuses": [
                {
                    "name": spec["name"],
                    "image": spec["image"],
                    "imageID": "",
                    "ready": ready,
                    "restartCount": self.restarts,
                    "state": state,
                }
            ],
            "conditions": [
                {"type": kind, "status": str(holds)}
                for kind, holds in (("Initialized", True), ("ContainersReady", ready), ("Ready", ready))
            ],
        }
        if status != self._reported:
            at = {"lastTransitionTime": _now()}
            sent = status | {"conditions": [each | at for each in status["conditions"]], "startTime": _now()}  # type: ignore[operator]
            self._kubelet.write(self.item, sent)
            self._reported = status


class Kubelet:
    """One node and the Pods that are bound to it."""

    def __init__(self, cluster: AnyCluster, folder: Path, images: Collection[str]) -> None:
        self.cluster, self.folder, self.images = cluster, folder, images
        self.name = f"e2e-kubelet-{secrets.token_hex(3)}"
        self.stopping = threading.Event()
        self._held: list[dict[str, str]] = []
        self._pods: dict[str, Pod] = {}
        self._hurry = False
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
            "lastTransitionTime": _now(),
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
            eventually(lambda: not self.pods(), 60, f"no Pod is left on {self.name}")

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
            lambda: not any(pod.ready for pod in self.pods(labels)), 30, "what was killed is seen to be gone"
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
        while not self.stopping.wait(TICK):
            with contextlib.suppress(*FAILURES):
                for item in self._bound():
                    self._take(item)
                if time.monotonic() - renewed > 5:
                    self._renew()
                    renewed = time.monotonic()

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
