"""A queue of keys that need looking at: coalescing, debounced, with delays, backoff and a rate limit.

Invariants
- A key is never with two workers at once, and never lost: added while it is worked on, it comes again after.
- Adding a key that already waits changes nothing but, within its window, when it is due.
- A debounced key is due `window` seconds after the last addition, and `max_wait` after the first at the latest.

The queue holds keys, not events: a worker looks at the whole present state of its key ("level-based"), so a
thousand changes of one key are one piece of work.
"""

import asyncio
import heapq
import logging
import math
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from slicewise.kube.clock import REAL, Backoff, Timing, TokenBucket

K = TypeVar("K", bound=Hashable)
logger = logging.getLogger(__name__)


class QueueClosed(Exception):  # noqa: N818 - an end, not an error
    """Nothing will come any more."""


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """Seconds throughout; failures are delayed exponentially per key, and by `rate` and `burst` over all keys."""

    window: float = 0.0
    max_wait: float = 10.0
    first_backoff: float = 0.005
    most_backoff: float = 300.0
    rate: float = 10.0
    burst: int = 100


@dataclass(slots=True)
class _Dirty:
    since: float
    due: float


class WorkQueue(Generic[K]):
    """For one event loop; nothing here is thread-safe."""

    def __init__(self, settings: QueueSettings | None = None, timing: Timing = REAL) -> None:
        self._settings = settings or QueueSettings()
        self._timing = timing
        self._bucket = TokenBucket(self._settings.rate, self._settings.burst, timing)
        self._dirty: dict[K, _Dirty] = {}
        self._later: dict[K, float] = {}
        # At each of these times the key is looked at; when it is really due stands elsewhere.
        self._alarms: list[tuple[float, int, K]] = []
        self._ready: dict[K, None] = {}
        self._in_flight: set[K] = set()
        self._backoffs: dict[K, Backoff] = {}
        self._numbered = 0
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def depth(self) -> int:
        """Keys that wait, those with a delay not counted."""
        return len(self._dirty)

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def failing(self) -> int:
        """Keys whose last work failed; they come again after their backoff."""
        return len(self._backoffs)

    def oldest_age(self) -> float:
        """For how long the key that has waited longest has waited; 0 when none does."""
        since = min((dirty.since for dirty in self._dirty.values()), default=None)
        return 0.0 if since is None else max(0.0, self._timing.now() - since)

    def failures(self, key: K) -> int:
        """Failures of this key since it was last forgotten."""
        backoff = self._backoffs.get(key)
        return backoff.failures if backoff else 0

    def add(self, key: K) -> None:
        """Something about this key changed."""
        now = self._timing.now()
        dirty = self._dirty.get(key)
        if dirty is None:
            self._dirty[key] = _Dirty(now, now + self._settings.window)
            self._look_at(key, now + self._settings.window)
        elif dirty.due > now:
            dirty.due = min(now + self._settings.window, dirty.since + self._settings.max_wait)

    def add_after(self, key: K, seconds: float) -> None:
        """Look at this key again in a while. Of several such wishes for a key the earliest counts."""
        when = self._timing.now() + seconds
        if when < self._later.get(key, math.inf):
            self._later[key] = when
            self._look_at(key, when)

    def fail(self, key: K) -> float:
        """This key's work failed: have it again after its backoff, which is returned."""
        if key not in self._backoffs:
            settings = self._settings
            self._backoffs[key] = Backoff(settings.first_backoff, settings.most_backoff, self._timing)
        delay = max(self._backoffs[key].next(), self._bucket.reserve())
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """This key's work succeeded: its backoff starts from the bottom again."""
        self._backoffs.pop(key, None)

    async def get(self) -> K:
        """The next key, which is then in flight until `done`. Raises QueueClosed."""
        while not self._closed:
            self._promote()
            if self._ready:
                key = next(iter(self._ready))
                del self._ready[key]
                del self._dirty[key]
                self._in_flight.add(key)
                return key
            await self._wait()
        raise QueueClosed

    def done(self, key: K) -> None:
        """The worker let go of this key, whatever came of it."""
        self._in_flight.discard(key)
        self._consider(key, self._timing.now())
        if self._ready:
            self._changed.set()

    def close(self) -> None:
        """Every `get`, waiting or to come, raises QueueClosed."""
        self._closed = True
        self._changed.set()

    def _look_at(self, key: K, when: float) -> None:
        self._numbered += 1
        heapq.heappush(self._alarms, (when, self._numbered, key))
        self._changed.set()

    def _promote(self) -> None:
        now = self._timing.now()
        while self._alarms and self._alarms[0][0] <= now:
            self._consider(heapq.heappop(self._alarms)[2], now)

    def _consider(self, key: K, now: float) -> None:
        """Make the key ready if it is time and nobody has it. An alarm too many does no harm."""
        if self._later.get(key, math.inf) <= now:
            del self._later[key]
            self._dirty.setdefault(key, _Dirty(now, now)).due = now
        dirty = self._dirty.get(key)
        if dirty is None or key in self._in_flight:
            return
        if dirty.due <= now:
            self._ready[key] = None
        else:  # put off since the alarm was set
            self._look_at(key, dirty.due)

    async def _wait(self) -> None:
        """Until something changes or the next alarm."""
        self._changed.clear()
        if not self._alarms:
            await self._changed.wait()
            return
        pause = max(0.0, self._alarms[0][0] - self._timing.now())
        alarm = asyncio.ensure_future(self._timing.sleep(pause))
        alarm.add_done_callback(self._rung)
        try:
            await self._changed.wait()
        finally:
            alarm.cancel()

    def _rung(self, alarm: "asyncio.Future[None]") -> None:
        """One that was cancelled rings for nobody: of two workers each would wake the other for ever."""
        if not alarm.cancelled():
            self._changed.set()


async def run_worker(
    queue: WorkQueue[K], reconcile: Callable[[K], Awaitable[float | None]], *, name: str = "worker"
) -> None:
    """Work until the queue closes. `reconcile` may return after how many seconds it wants the key again.

    What it raises is logged in one line and has the key tried again later. A key whose work is cancelled goes back
    to the queue.
    """
    while True:
        try:
            key = await queue.get()
        except QueueClosed:
            return
        try:
            again = await reconcile(key)
        except Exception as error:  # noqa: BLE001 - whatever one key does, the others go on
            delay = queue.fail(key)
            told = {"worker": name, "key": str(key), "error": repr(error)[:300], "again_in": round(delay, 3)}
            logger.warning("work failed", extra=told)
        except BaseException:
            queue.add(key)
            raise
        else:
            queue.forget(key)
            if again is not None:
                queue.add_after(key, again)
        finally:
            queue.done(key)
        # Where thousands of keys wait and none of them waits for anything, others still have their turn.
        await asyncio.sleep(0)
