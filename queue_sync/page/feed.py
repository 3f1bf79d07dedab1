"""The page's view of a cluster, made anew while somebody looks, and what is new of it for each who does.

A reader that is slow misses versions, never changes: it is sent the difference from what it was sent last. Reading
takes a tenth of the time at most, whatever the size of the cluster, and nothing is read while nobody looks.

Failure mode: what cannot be read leaves the last view as it was, and a sentence in it (`problem`).
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from time import monotonic
from typing import Any, Final

from queue_sync.page.model import Moment, View, difference, steps_to_view
from queue_sync.turns import in_turns

MOST_READERS: Final = 32
HEARTBEAT: Final = 15.0
"""Seconds of silence after which a reader is told that the page is still there."""
_REST: Final = 9.0
"""Seconds of rest for each second of reading."""


class CannotReadError(Exception):
    """The cluster cannot be read now; the message is one sentence."""


class TooManyReadersError(Exception):
    """`MOST_READERS` are looking already."""


class Feed:
    """What the page shows now, and who is looking.

    Args:
        read: returns the cluster as it is now; raises `CannotReadError`.
        every: the least seconds between two readings; None where nothing ever changes.
    """

    def __init__(self, read: Callable[[], Awaitable[Moment]], every: float | None) -> None:
        self._read, self._every = read, every
        self._lock = asyncio.Lock()
        self._last: tuple[Moment, View] | None = None
        self._due = 0.0
        self.readers = 0

    async def now(self) -> tuple[Moment, View]:
        """Returns the cluster and the view of it, read anew where that is due.

        Raises:
            CannotReadError: it could not be read, and never was.
        """
        async with self._lock:
            if self._last is None or (self._every is not None and monotonic() >= self._due):
                began = monotonic()
                try:
                    moment = await self._read()
                    self._last = moment, await in_turns(steps_to_view(moment))
                except CannotReadError as error:
                    if self._last is None:
                        raise
                    self._last = self._last[0], {**self._last[1], "problem": str(error)}
                self._due = monotonic() + max(self._every or 0.0, _REST * (monotonic() - began))
            return self._last

    async def changes(self) -> AsyncGenerator[dict[str, Any]]:
        """Yields the whole view, then what changed of it; nothing in a dictionary says that the page is still there.

        Raises:
            CannotReadError: the cluster could not be read, and never was.
            TooManyReadersError: too many are looking.
        """
        if self.readers >= MOST_READERS:
            raise TooManyReadersError
        self.readers += 1
        sent: View = {}
        try:
            spoken = monotonic()
            while True:
                _, current = await self.now()
                news = difference(sent, current) if current is not sent else {}
                if news or monotonic() - spoken >= HEARTBEAT:
                    sent, spoken = current, monotonic()
                    yield news
                wait = HEARTBEAT if self._every is None else max(0.1, self._due - monotonic())
                await asyncio.sleep(min(wait, HEARTBEAT))
        finally:
            self.readers -= 1
