"""Clocks, pauses and randomness, handed in so that tests own them; backoff and rate limits made of them.

Durations are seconds on a monotonic clock; the wall clock is only ever written into objects for people to read.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

T = TypeVar("T")


def _wall() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Timing:
    """Everything that is not a function of its arguments."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    random: Callable[[], float] = random.random
    wall: Callable[[], datetime] = _wall

    def jittered(self, seconds: float, share: float = 0.5) -> float:
        """Between `seconds` less `share` of it, and `seconds`."""
        return seconds * (1 - share * self.random())


REAL = Timing()


def micro_time(moment: datetime) -> str:
    """`metav1.MicroTime` as the API server prints it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def within(timing: Timing, seconds: float, work: Coroutine[Any, Any, T], name: str) -> T:
    """The result of `work`, or TimeoutError once `seconds` have passed on the given clock."""
    task = asyncio.create_task(work, name=name)
    alarm = asyncio.ensure_future(timing.sleep(seconds))
    try:
        await asyncio.wait({task, alarm}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return await task
        raise TimeoutError
    finally:
        await reap(task, alarm)


async def reap(*futures: asyncio.Future[Any]) -> None:
    """Cancel what still runs and wait until it has ended, whatever it ends with."""
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)


class Backoff:
    """Exponential delays with jitter; the caller says when it has been well for long enough."""

    def __init__(self, first: float, most: float, timing: Timing = REAL) -> None:
        self._first = first
        self._most = most
        self._timing = timing
        self._failures = 0

    def next(self) -> float:
        """The pause before the next attempt: half to all of first, 2*first, 4*first ... `most`."""
        delay = min(self._most, self._first * 2.0 ** min(self._failures, 62))
        self._failures += 1
        return self._timing.jittered(delay)

    def reset(self) -> None:
        self._failures = 0

    @property
    def failures(self) -> int:
        return self._failures


class TokenBucket:
    """At most `burst` at once and `rate` a second in the long run."""

    def __init__(self, rate: float, burst: int, timing: Timing = REAL) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._timing = timing
        self._tokens = float(burst)
        self._at = timing.now()

    def take(self) -> bool:
        """One token, if there is one now."""
        self._refill()
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def reserve(self) -> float:
        """One token, maybe a future one: how long to wait for it."""
        self._refill()
        self._tokens -= 1
        return 0.0 if self._tokens >= 0 else -self._tokens / self._rate

    def _refill(self) -> None:
        now = self._timing.now()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
