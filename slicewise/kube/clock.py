"""Clocks, pauses and randomness, handed in so that tests own them; backoff and rate limits made of them.

Durations are seconds on a monotonic clock. Times that must mean the same to the next process (those of holds on Nodes,
and of the Lease) are the cluster's: `ClusterClock`. The wall clock of this machine is written for people to read.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

T = TypeVar("T")

AGREEMENT: Final = 5.0
"""Seconds. Clocks that differ by less agree: a `Date` counts whole seconds, and takes a while to come."""
FARTHEST_AHEAD: Final = 86_400.0
"""Seconds. A Lease renewed further in the future than this was not renewed by a clock that was merely wrong."""


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


def cluster_time(server: float | None, own: float, renewed: float | None) -> float:
    """What time it is, in POSIX seconds, by three clocks of which one may be wrong by any amount.

    Time is past the moment at which the last leader renewed its Lease, so a clock that says otherwise is slow and is
    not asked. Of the others the earliest is taken, because a hold that ends too early takes quota away that is there.
    Without a Lease the server is asked alone.

    Args:
        server: the `Date` of the API server's answers; None where it sends none.
        own: this machine's wall clock.
        renewed: when the Lease was last renewed, by this clock in the process that led; None for never.
    """
    readings = [own] if server is None else [server, own]
    if renewed is None or renewed > max(readings) + FARTHEST_AHEAD:
        return readings[0]
    plausible = (reading for reading in readings if reading >= renewed - AGREEMENT)
    return max(renewed, min(plausible, default=renewed))


class ClusterClock:
    """POSIX seconds that go on as in the process that led before, and do not jump while this one leads."""

    def __init__(self, timing: Timing, server_time: Callable[[], float | None]) -> None:
        self._timing = timing
        self._server_time = server_time
        self._offset: float | None = None

    def set(self, renewed: float | None) -> None:
        """Sets the clock. Called right before leading; `renewed` is as in `cluster_time`."""
        self._offset = self._reckoned(renewed)

    def __call__(self) -> float:
        """Now."""
        if self._offset is None:
            self._offset = self._reckoned(None)
        return self._timing.now() + self._offset

    def _reckoned(self, renewed: float | None) -> float:
        own = self._timing.wall().timestamp()
        return cluster_time(self._server_time(), own, renewed) - self._timing.now()

    def moment(self) -> datetime:
        """Now, in UTC."""
        return datetime.fromtimestamp(self(), UTC)


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
