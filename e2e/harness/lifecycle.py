"""The life of one Pod under the kubelet that the harness plays: prepared, started, probed, started again, ended."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import urllib3

from e2e.harness.client import ApiError, Object
from e2e.harness.cluster import AnyCluster
from e2e.harness.container import Launch, NotYetError, Process, Runtime, launch, mount
from e2e.harness.errors import ClusterError

TICK = 0.1
FAILURES = (ApiError, urllib3.exceptions.HTTPError)


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Node(Protocol):
    """What a Pod asks of the kubelet."""

    cluster: AnyCluster
    folder: Path
    images: Collection[str]
    runtime: Runtime
    stopping: threading.Event

    def is_held(self, labels: Mapping[str, str]) -> bool: ...
    def write(self, item: Object, status: Object) -> None: ...
    def forget(self, item: Object) -> None: ...


class Pod:
    """One Pod of the node, looked after by a thread of its own until it is gone."""

    def __init__(self, kubelet: Node, item: Object) -> None:
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
            with contextlib.suppress(*FAILURES):
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
                with contextlib.suppress(NotYetError, *FAILURES):
                    mount(self._kubelet.cluster, self.item, self.item["spec"]["containers"][0], self._folder)
            time.sleep(TICK)
        self._terminate()

    def _prepared(self) -> bool:
        (spec,) = self.item["spec"]["containers"]
        while not self._over():
            if spec["image"] in self._kubelet.images:
                with contextlib.suppress(NotYetError, *FAILURES):
                    found = launch(self._kubelet.cluster, self.item, self._folder)
                    self.launch = self._kubelet.runtime(found, self._folder)
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
        status: Object = {
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
            at = {"lastTransitionTime": now()}
            sent = status | {"conditions": [each | at for each in status["conditions"]], "startTime": now()}
            # An API server that is away for a moment hears of it at the next tick.
            with contextlib.suppress(*FAILURES):
                self._kubelet.write(self.item, sent)
                self._reported = status
