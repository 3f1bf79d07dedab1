"""Whatever happens on the way: once things are quiet, cache and workers have what the server has."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from slicewise.kube.informer import Informer
from slicewise.kube.informer_types import Change, WatchSettings
from slicewise.kube.workqueue import QueueSettings, WorkQueue, run_worker
from tests.kube.apiserver import ApiServer
from tests.kube.clocks import Clock, eventually
from tests.kube.conftest import KINDS, NODES, client_of
from tests.kube.wire import End, Fault

NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
ENDS = st.sampled_from(["close", "cut", "silence"])
PARTIAL = st.sampled_from([b"", b'{"type":"DEL', b'{"type":"ADDED","object":{}}\n', b"\n"])
FAULTS = st.sampled_from(
    [
        Fault(status=429, headers={"Retry-After": "3"}),
        Fault(status=500, times=4),
        Fault(status=502, body=b"<html>"),
        Fault(status=404),
        Fault(status=410, body=b'{"reason":"Expired"}'),
        Fault(end="cut", times=2),
        Fault(raw=b"<html>\n"),
        Fault(raw=b'{"type":"ERROR","object":{"code":410}}\n'),
        Fault(raw=b'{"type":"ERROR","object":{"code":"?"}}\n', end="cut"),
    ]
)


class Spec(msgspec.Struct):
    size: int = 0


class Node(msgspec.Struct):
    spec: Spec


class Following(RuleBasedStateMachine):
    """Two workers copy, key by key, what the informer shows."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.server = ApiServer(KINDS)
        self.copied: dict[str, int] = {}
        self.busy: set[str] = set()
        self.tasks: list[asyncio.Task[None]] = []

    @initialize()
    def start(self) -> None:
        self.loop.run(self._start())

    async def _start(self) -> None:
        clock = Clock(hurried=True)
        await self.stack.enter_async_context(self.server.running())
        client = await self.stack.enter_async_context(client_of(self.server.url, clock.timing))
        self.queue: WorkQueue[str] = WorkQueue(QueueSettings(window=0.5, most_backoff=1), clock.timing)
        self.informer = Informer(
            client,
            NODES,
            Node,
            on_change=self._changed,
            settings=WatchSettings(page=2, inactivity=0.05, absent_retry=1.0),
        )
        works = [self.informer.run(), *(run_worker(self.queue, self._copy) for _ in range(2))]
        self.tasks = [asyncio.create_task(work, name="part") for work in works]

    def _changed(self, change: Change[Node]) -> None:
        assert change.old != change.new
        self.queue.add(change.key)

    async def _copy(self, key: str) -> float | None:
        assert key not in self.busy, "two workers had the same key"
        self.busy.add(key)
        try:
            node = self.informer.store.get(key)
            await asyncio.sleep(0.001)
            if node is None:
                self.copied.pop(key, None)
                return None
            self.copied[key] = node.spec.size
            if node.spec.size % 5 == 4 and self.queue.failures(key) < 2:
                raise ValueError("a worker's bad day")
            return 5.0 if node.spec.size % 5 == 3 and self.queue.failures(key) else None
        finally:
            self.busy.discard(key)

    @rule(name=NAMES, size=st.integers(0, 9))
    def put(self, name: str, size: int) -> None:
        self.server.put(NODES, name, spec={"size": size})

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        if name in self.server.objects[NODES]:
            self.server.remove(NODES, name)

    @rule(end=ENDS, partial=PARTIAL)
    def drop(self, end: End, partial: bytes) -> None:
        self.server.end_watches(end, partial)

    @rule()
    def compact(self) -> None:
        self.server.version += 1
        self.server.compact()

    @rule()
    def repeat(self) -> None:
        self.server.repeat()

    @rule()
    def bookmark(self) -> None:
        self.server.bookmark()

    @rule(fault=FAULTS, watch=st.booleans())
    def fail(self, fault: Fault, watch: bool) -> None:  # noqa: FBT001 - Hypothesis names it
        values: dict[str, Any] = {
            name: getattr(fault, name) for name in ("status", "headers", "body", "times")
        }
        self.server.faults.append(Fault(path=NODES, watch=watch, raw=fault.raw, end=fault.end, **values))

    @rule(milliseconds=st.integers(0, 5))
    def breathe(self, milliseconds: int) -> None:
        self.loop.run(asyncio.sleep(milliseconds / 1000))

    @rule()
    def settle(self) -> None:
        self.loop.run(eventually(self._is_quiet))

    def _is_quiet(self) -> bool:
        for task in self.tasks:
            assert not task.done(), "a part ended"
        truth = {key: thing["spec"]["size"] for key, thing in self.server.objects[NODES].items()}
        shown = {key: node.spec.size for key, node in self.informer.store.items()}
        idle = self.queue.depth == self.queue.in_flight == 0
        return self.informer.has_synced and idle and truth == shown == self.copied

    def teardown(self) -> None:
        try:
            if self.tasks:
                self.settle()
        finally:
            self.loop.run(self._stop())
            self.loop.close()

    async def _stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.stack.aclose()


Following.TestCase.settings = settings(stateful_step_count=25)
TestFollowing = Following.TestCase
