"""Time that tests own, and waiting for what real sockets deliver when they do."""

import asyncio
import select
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar, TypeVarTuple

from slicewise.kube.clock import Timing

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
PACE: Final = 1000.0
"""Fast enough to wait for nothing, slow enough for the kernel to bring what was sent."""
RESOLUTION: Final = time.get_clock_info("monotonic").resolution
"""Seconds by which asyncio ends a sleep too early at most. Each turn of the loop takes as long: several who sleep for
the rest of it would else keep each other busy for ever."""
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(eq=False)
class Clock:
    """Stands still unless advanced. With `hurried`, sleeping itself moves it, and takes no time."""

    hurried: bool = False
    at: float = 1000.0
    slept: list[float] = field(default_factory=list)
    waiting: list[tuple[float, asyncio.Future[None]]] = field(default_factory=list)
    chance: float = 0.0

    def now(self) -> float:
        return self.at

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self.at)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if self.hurried:
            self.at += max(0.0, seconds)
            await asyncio.sleep(0.001)
            return
        future = asyncio.get_running_loop().create_future()
        entry = (self.at + seconds, future)
        if seconds <= 0:
            future.set_result(None)
        self.waiting.append(entry)
        try:
            await future
        finally:
            self.waiting.remove(entry)

    def advance(self, seconds: float) -> None:
        self.at += seconds
        for when, future in self.waiting:
            if when <= self.at and not future.done():
                future.set_result(None)

    @property
    def timing(self) -> Timing:
        return Timing(self.now, self.sleep, lambda: self.chance, self.wall)


async def eventually(condition: Callable[[], object], within: float = 60.0) -> None:
    """Return once the condition holds; it is an AssertionError if it never does."""
    deadline = asyncio.get_running_loop().time() + within
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it never came true"
        await asyncio.sleep(0.002)


async def rounds(count: int = 10) -> None:
    """Let everything run that is ready to."""
    for _ in range(count):
        await asyncio.sleep(0)


class _Waiting(selectors.DefaultSelector):
    """Waits for sockets as ever, and knows how long that was on a clock that only goes while it waits."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.passed += RESOLUTION
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready or super().select(timeout)
        pace = 1.0 if self.threads else PACE
        began = time.perf_counter()
        select.select([self.fileno()], [], [], timeout / pace)
        self.passed += min(timeout, (time.perf_counter() - began) * pace)
        return super().select(0)


class HurriedLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still while there is anything to do, and runs `PACE` times as fast while all wait.

    For tests whose two ends of each socket are in this loop: however slow the machine is, no time passes between a
    request and its answer but what is slept. While a thread works, which may be asking this loop for something, the
    clock goes as everybody's does.
    """

    def __init__(self) -> None:
        self._waiting = _Waiting()
        super().__init__(self._waiting)

    def time(self) -> float:
        return self._waiting.passed

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._waiting.threads += 1
        future.add_done_callback(self._ended)
        return future

    def _ended(self, _: object) -> None:
        self._waiting.threads -= 1


LOOP_TIME: Final = Timing(now=lambda: asyncio.get_running_loop().time())
"""The clock of the loop that runs, whatever that is."""
