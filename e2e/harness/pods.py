"""Where the Pods of an installation run: under the kubelet that the harness plays, or in the cluster itself.

Both ways have one face, :class:`Pods`, so that the same tests run on either.
"""

from __future__ import annotations

import abc
from collections.abc import Collection, Mapping
from pathlib import Path

from e2e.harness.client import Object, Objects, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.container import Runtime, answer, as_it_stands
from e2e.harness.errors import ClusterError
from e2e.harness.external import KindCluster
from e2e.harness.kubelet import Kubelet
from e2e.harness.lifecycle import Pod
from slicewise import __version__
from slicewise.api import keys

Labels = Mapping[str, str]
IMAGES = (f"slicewise:{__version__}",)


class Pods(abc.ABC):
    """The Pods of an installation, by their labels."""

    on_this_machine: bool
    """Whether their addresses are those of this machine, so that the Service must lead here."""
    values: Object
    """The values of the chart that let them run where they do."""

    @abc.abstractmethod
    def get(self, labels: Labels, path: str) -> list[tuple[int, str]]:
        """What the operational port of each says: status and text."""

    @abc.abstractmethod
    def log(self, labels: Labels) -> str:
        """What they wrote."""

    @abc.abstractmethod
    def kill(self, labels: Labels) -> None:
        """Ends them; they stay away until released."""

    @abc.abstractmethod
    def release(self, labels: Labels) -> None:
        """Lets them run, and run again."""

    @abc.abstractmethod
    def ready(self, labels: Labels) -> int:
        """How many are ready."""

    @abc.abstractmethod
    def check(self, labels: Labels) -> None:
        """Raises ClusterError when one will not get ready."""

    @abc.abstractmethod
    def addresses(self, labels: Labels, port: str, *, ready: bool) -> list[tuple[str, int]]:
        """Where a named port of each is reached; only of those that are ready, or of all."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Waits until those are gone whose owners were deleted."""


class Played(Pods):
    """Pods of the kubelet that the harness plays."""

    on_this_machine = True

    def __init__(
        self,
        cluster: AnyCluster,
        folder: Path,
        images: Collection[str] = IMAGES,
        runtime: Runtime = as_it_stands,
    ) -> None:
        self.kubelet = Kubelet(cluster, folder, images, runtime)
        self.values = self.kubelet.placement

    def get(self, labels: Labels, path: str) -> list[tuple[int, str]]:
        return [answer(*address, path) for address in self.addresses(labels, "operations", ready=False)]

    def log(self, labels: Labels) -> str:
        return "".join(pod.program.log() for pod in self.kubelet.pods(labels) if pod.program is not None)

    def kill(self, labels: Labels) -> None:
        self.kubelet.hold(labels)

    def release(self, labels: Labels) -> None:
        self.kubelet.start()
        self.kubelet.release(labels)

    def ready(self, labels: Labels) -> int:
        return sum(pod.serving for pod in self.kubelet.pods(labels))

    def check(self, labels: Labels) -> None:
        for pod in self.kubelet.pods(labels):
            if pod.problem:
                raise ClusterError(f"{pod.name}: {pod.problem}")
            if pod.program is not None and pod.restarts > 2:
                raise ClusterError(pod.program.failure("ends again and again"))

    def addresses(self, labels: Labels, port: str, *, ready: bool) -> list[tuple[str, int]]:
        host = self.kubelet.cluster.listen_host
        return [
            (host, pod.launch.ports[port])
            for pod in self.kubelet.pods(labels)
            if pod.launch is not None and (pod.serving or (not ready and _runs(pod)))
        ]

    def stop(self) -> None:
        self.kubelet.drain()
        self.kubelet.stop()


def _runs(pod: Pod) -> bool:
    return pod.program is not None and pod.program.running


class Real(Pods):
    """Pods that the cluster runs itself, from an image that its nodes have."""

    on_this_machine = False

    def __init__(self, cluster: KindCluster) -> None:
        self._cluster = cluster
        repository, _, tag = cluster.image.partition(":")
        self.values = {"image": {"repository": repository, "tag": tag, "pullPolicy": "Never"}}

    def _all(self, labels: Labels) -> Objects:
        wanted = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self._cluster.list("v1", "Pod", keys.OWN_NAMESPACE, labels=wanted)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def get(self, labels: Labels, path: str) -> list[tuple[int, str]]:
        found = []
        for pod in self._all(labels):
            name = f"{pod['metadata']['name']}:8080"
            proxy = self._cluster.path("v1", "Pod", name, keys.OWN_NAMESPACE, "proxy")
            said = self._cluster.request("GET", proxy + path)
            found.append((said.status, str(said.body)))
        return found

    def log(self, labels: Labels) -> str:
        return "".join(
            str(
                self._cluster.request(
                    "GET", self._cluster.path("v1", "Pod", pod["metadata"]["name"], keys.OWN_NAMESPACE, "log")
                ).body
            )
            for pod in self._all(labels)
        )

    def kill(self, labels: Labels) -> None:
        name = f"slicewise-{labels['app.kubernetes.io/component']}"
        self._cluster.patch("apps/v1", "Deployment", name, {"spec": {"replicas": 0}}, keys.OWN_NAMESPACE)
        eventually(lambda: not self._all(labels), f"no Pod of {name} is left")

    def release(self, labels: Labels) -> None:
        """Nothing to do: the Deployment was applied again, with its replicas."""

    def ready(self, labels: Labels) -> int:
        return sum(
            condition["type"] == "Ready" and condition["status"] == "True"
            for pod in self._all(labels)
            for condition in pod["status"].get("conditions") or ()
        )

    def check(self, labels: Labels) -> None:
        for pod in self._all(labels):
            for status in pod["status"].get("containerStatuses") or ():
                if status["restartCount"] > 2:
                    raise ClusterError(
                        f"{pod['metadata']['name']} ends again and again:\n{self.log(labels)[-4000:]}"
                    )

    def addresses(self, labels: Labels, port: str, *, ready: bool) -> list[tuple[str, int]]:
        raise ClusterError(
            f"port {port} of a Pod of this cluster is not reached from here ({labels}, {ready})."
        )

    def stop(self) -> None:
        """They go with their Deployments."""


def pods_of(cluster: AnyCluster, folder: Path) -> Pods:
    """Where Pods run on this cluster."""
    return Real(cluster) if isinstance(cluster, KindCluster) else Played(cluster, folder)
