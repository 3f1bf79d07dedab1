"""Review bodies that arrive in several pieces: how large one may be, how long it may take, and what all may hold.

When there are too many of them, or they hold too much, the one goes that has been under way longest. API servers
send a body within milliseconds, so it is never theirs that somebody slow is preferred to.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
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

    def __init__(self, head: bytes, size: int, *, is_whole: bool = False) -> None:
        super().__init__(f"{size} bytes")
        self.head, self.size, self.is_whole = head, size, is_whole


class _Body:
    __slots__ = ("held", "parts", "size", "stopped", "task")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.held = 0
        self.task = asyncio.current_task()
        self.stopped: Exception | None = None

    def stop(self, why: Exception) -> None:
        self.stopped = why
        if self.task is not None:
            self.task.cancel()


async def _next(receive: Receive) -> tuple[bytes, bool]:
    """Returns the next piece of a body, and whether it is the last.

    Raises:
        ConnectionResetError: the client has gone.
    """
    message = await receive()
    if message["type"] != "http.request":
        raise ConnectionResetError
    return message.get("body", b""), not message.get("more_body", False)


class Intake:
    """The bodies under way."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._bodies: dict[_Body, None] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._bodies)

    async def read(self, receive: Receive, seconds: float, announced: int = 0) -> bytes:
        """Reads one body.

        Args:
            receive: gives the next piece.
            seconds: how long it may take.
            announced: the size that its sender says; 0 where he says none.

        Raises:
            LateError, CrowdedError: it does not come, or makes room.
            TooLargeError: it is too large; raised as soon as it has begun, for its sender's patience passes meanwhile.
            ConnectionResetError: the client has gone.
        """
        parts = await self._within(seconds, lambda body: self._fill(body, receive, announced))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def discard(self, receive: Receive, seconds: float) -> None:
        """Reads the rest of a body and forgets it, so that its sender hears what he was answered meanwhile."""
        with suppress(LateError, CrowdedError, ConnectionResetError):
            await self._within(seconds, lambda _: self._pass(receive))

    async def _within(self, seconds: float, read: Callable[[_Body], Awaitable[list[bytes]]]) -> list[bytes]:
        body = _Body()
        # Not `asyncio.timeout`, which costs six times as much: nearly always the body is there already.
        alarm = asyncio.get_running_loop().call_later(seconds, body.stop, LateError())
        self._bodies[body] = None
        try:
            if len(self._bodies) > self._limits.most_at_once:
                self._drop_oldest(body)
            return await read(body)
        except asyncio.CancelledError:
            if body.stopped is None or body.task is None or body.task.uncancel():
                raise
            raise body.stopped from None
        finally:
            alarm.cancel()
            self._forget(body)

    async def _fill(self, body: _Body, receive: Receive, announced: int) -> list[bytes]:
        largest = self._limits.largest_body
        while True:
            part, is_last = await _next(receive)
            body.parts.append(part)
            body.held += len(part)
            self._bytes += len(part)
            if max(body.held, announced) > largest and (body.held >= min(HEAD, largest) or is_last):
                head = b"".join(body.parts)[:HEAD]
                raise TooLargeError(head, max(body.held, announced), is_whole=is_last)
            if self._bytes > self._limits.most_bytes:
                self._drop_oldest(body)
            if is_last:
                return body.parts

    async def _pass(self, receive: Receive) -> list[bytes]:
        while not (await _next(receive))[1]:
            pass
        return []

    def _forget(self, body: _Body) -> None:
        if self._bodies.pop(body, body) is None:
            self._bytes -= body.held

    def _drop_oldest(self, current: _Body) -> None:
        oldest = next(iter(self._bodies))
        if oldest is current:
            raise CrowdedError
        self._forget(oldest)
        oldest.stop(CrowdedError())
