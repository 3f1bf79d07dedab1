"""Replicas replaced under steady load on a real API server: no creation may fail, even where failures would count."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from e2e.harness.balancer import pipe
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


class Service:
    """What kube-proxy does for a Service: new connections go to a ready replica, open ones stay where they are."""

    def __init__(self, port: int) -> None:
        self.target = 0
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", self._port)
        await self._stopping.wait()
        server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            await asyncio.gather(pipe(reader, back), pipe(there, writer))
        finally:
            for end in (writer, back):
                end.transport.abort()

    def stop(self) -> None:
        """Ends it with the connections that it carries."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()


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
    service = Service(slicewise.port)
    replicas: list[tuple[Server, int]] = []

    def roll_out(number: int) -> None:
        port = free_port()
        replica = Server(
            cluster, "webhook", tmp_path, 10 + number, "--listen", f"127.0.0.1:{port}", "--drain", "2s"
        )
        replica.start()
        replicas.append((replica, port))
        service.target = port

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
        assert load.failures == []
        assert load.done > 200
        for replica, _ in replicas:
            assert replica.program.running is (replica is replicas[-1][0])
    finally:
        for replica, _ in replicas:
            replica.program.kill()
        service.stop()
