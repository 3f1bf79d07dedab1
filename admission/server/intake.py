"""Review bodies that arrive in several pieces: how large one may be, how long it may take, and what all may hold.

When there are too many of them, or they hold too much, the one goes that has been under way longest. API servers
send a body within milliseconds, so it is never theirs that somebody slow is preferred to.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MEBIBYTE: Final = 1024 * 1024
# Objects that etcd holds (1.5 MiB), the new one and the old one, in Go's JSON, which writes `<`, `>`, `&` and control
# characters as six bytes each; and a mebibyte for what is around them.
LARGEST_BODY: Final = 2 * 6 * 1536 * 1024 + MEBIBYTE
# Enough to tell from whom a body is that will not be read as a whole.
HEAD: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them, may take."""

    largest_body: int = LARGEST_BODY
    most_read: int = 4 * LARGEST_BODY
    """Of a body that is too large as much is read and forgotten, so that its sender hears the answer."""
    most_at_once: int = 256
    most_bytes: int = 128 * MEBIBYTE
    # What a request may take to arrive when it brings no deadline of its own; the longest timeoutSeconds is 30.
    patience: float = 10.0
    most_patience: float = 30.0


class LateError(Exception):
    """The body took too long."""


class CrowdedError(Exception):
    """The body made room for others."""


class TooLargeError(Exception):
    """The body is larger than what is read; `head` is how it begins, and `size` at least its size in bytes."""

    def __init__(self, head: bytes, size: int) -> None:
        super().__init__(f"{size} bytes")
        self.head, self.size = head, size


class _Body:
    __slots__ = ("held", "parts", "size", "stopped", "task")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.held = self.size = 0
        self.task = asyncio.current_task()
        self.stopped: Exception | None = None

    def stop(self, why: Exception) -> None:
        self.stopped = why
        if self.task is not None:
            self.task.cancel()


class Intake:
    """The bodies under way."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bodies: dict[_Body, None] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._bodies)

    async def read(self, receive: Receive, seconds: float) -> bytes:
        """Reads one body.

        Raises:
            LateError, CrowdedError, TooLargeError: it is not read as a whole.
            ConnectionResetError: the client has gone.
        """
        body = _Body()
        # Not `asyncio.timeout`, which costs six times as much: nearly always the body is there already.
        alarm = asyncio.get_running_loop().call_later(seconds, body.stop, LateError())
        self._bodies[body] = None
        try:
            if len(self._bodies) > self._limits.most_at_once:
                self._drop_oldest(body)
            await self._fill(body, receive)
        except asyncio.CancelledError:
            if body.stopped is None or body.task is None or body.task.uncancel():
                raise
            raise body.stopped from None
        finally:
            alarm.cancel()
            self._forget(body)
        if body.size > self._limits.largest_body:
            raise TooLargeError(b"".join(body.parts), body.size)
        return body.parts[0] if len(body.parts) == 1 else b"".join(body.parts)

    async def _fill(self, body: _Body, receive: Receive) -> None:
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise ConnectionResetError
            part = message.get("body", b"")
            body.size += len(part)
            body.parts.append(part)
            self._hold(body, body.held + len(part))
            if body.size > self._limits.largest_body:
                body.parts = [b"".join(body.parts)[:HEAD]]
                self._hold(body, len(body.parts[0]))
            elif self._bytes > self._limits.most_bytes:
                self._drop_oldest(body)
            if body.size > self._limits.most_read or not message.get("more_body", False):
                return

    def _hold(self, body: _Body, size: int) -> None:
        self._bytes += size - body.held
        body.held = size

    def _forget(self, body: _Body) -> None:
        if self._bodies.pop(body, body) is None:
            self._bytes -= body.held

    def _drop_oldest(self, current: _Body) -> None:
        oldest = next(iter(self._bodies))
        if oldest is current:
            raise CrowdedError
        self._forget(oldest)
        oldest.stop(CrowdedError())
