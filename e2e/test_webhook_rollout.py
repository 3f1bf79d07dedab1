"""Replicas replaced under steady load on a real API server: no creation may fail, even where failures would count."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from e2e.harness.balancer import Balancer
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import CONFIGURATION, Installation, Server, namespace
from e2e.harness.processes import free_port

SPACE = "e2e-rollout"
JOB: Object = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"generateName": "e2e-", "namespace": SPACE},
    "spec": {
        "suspend": True,
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "containers": [
                    {"name": "main", "image": "none", "resources": {"limits": {"nvidia.com/mig-1g.10gb": 1}}}
                ],
            }
        },
    },
}


class Load:
    """Creations that are only tried, one after the other in several threads, and what became of them."""

    pause = 0.05
    """Seconds of each thread from one to the next: a gap is longer than what all of them leave out."""

    def __init__(self, cluster: AnyCluster) -> None:
        self.done = 0
        self.failures: list[str] = []
        self._cluster = cluster
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._create, daemon=True) for _ in range(4)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def reaches(self, number: int) -> bool:
        return self.done >= number

    def _create(self) -> None:
        while not self._stopping.wait(self.pause):
            answer = self._cluster.try_create(JOB, dry_run=True)
            self.done += 1
            if answer.status != 201:
                self.failures.append(answer.message)


def has_stopped(server: Server) -> bool:
    return not server.program.running


@pytest.fixture
def slicewise(cluster: AnyCluster, tmp_path: Path) -> Iterator[Installation]:
    """Installed with failurePolicy Fail: a call that does not get through is a creation that fails."""
    found = Installation(cluster, tmp_path)
    found.apply()
    namespace(cluster, SPACE, policy="default")
    for number in range(5):
        fail = [{"op": "replace", "path": f"/webhooks/{number}/failurePolicy", "value": "Fail"}]
        path = cluster.path("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", CONFIGURATION)
        assert cluster.request("PATCH", path, fail, "application/json-patch+json").status == 200
    yield found
    found.stop()


def test_a_rolling_update_fails_no_creation(
    slicewise: Installation, cluster: AnyCluster, tmp_path: Path
) -> None:
    replicas: list[tuple[Server, int]] = []

    def newest() -> list[tuple[str, int]]:
        return [(cluster.listen_host, port) for _, port in replicas[-1:]]

    def roll_out(number: int) -> None:
        port = free_port()
        listen = f"{cluster.listen_host}:{port}"
        replica = Server(cluster, "webhook", tmp_path, 10 + number, "--listen", listen, "--drain", "5s")
        replica.start()
        replicas.append((replica, port))

    service = Balancer(cluster.listen_host, slicewise.port, newest)
    service.start()
    try:
        roll_out(0)
        slicewise.trusted()
        with Load(cluster) as load:
            for number in range(1, 4):
                eventually(partial(load.reaches, load.done + 50), "the load flows")
                roll_out(number)
                old, _ = replicas[-2]
                os.kill(old.program.pid, signal.SIGTERM)
                eventually(partial(has_stopped, old), "the old replica has stopped")
            eventually(partial(load.reaches, 200), "the load was one")
        assert load.failures == []
        for replica, _ in replicas:
            assert replica.program.running is (replica is replicas[-1][0])
    finally:
        for replica, _ in replicas:
            replica.program.kill()
        service.stop()
