"""Time that tests own, and waiting for what real sockets deliver when they do."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from slicewise.kube.clock import Timing

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


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
