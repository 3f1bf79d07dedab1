"""The network between Slicewise's programs and the API server, which faults cut."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from e2e.harness.balancer import Balancer
from e2e.harness.cluster import Cluster
from e2e.harness.installation import NAMESPACE
from e2e.harness.processes import free_port


class RemoteCluster(Cluster):
    """A cluster whose API server Slicewise's service accounts reach by way of `network` alone."""

    def __init__(self, *, node_grace: str) -> None:
        super().__init__(kueue=True, audit=True, node_grace=node_grace)
        port, there = free_port(), self._ports["kube-apiserver"]
        self.network = Balancer("127.0.0.1", port, lambda: [("127.0.0.1", there)])
        self._remote_url = f"https://127.0.0.1:{port}"

    def up(self) -> None:
        """Starts the network, and then everything else."""
        self.network.start()
        super().up()

    def stop(self) -> None:
        """Stops everything."""
        super().stop()
        self.network.stop()

    def kubeconfig_for(self, user: str, groups: Iterable[str] = ()) -> Path:
        """A kubeconfig file for another identity."""
        path = super().kubeconfig_for(user, groups)
        if not user.startswith(f"system:serviceaccount:{NAMESPACE}:"):
            return path
        remote = path.with_name(f"remote-{path.name}")
        remote.write_text(path.read_text().replace(self._url, self._remote_url))
        remote.chmod(0o600)
        return remote
