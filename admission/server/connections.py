"""What a connection may do before it has said anything sensible, and how its answers leave.

uvicorn bounds the time between requests but neither the time that a request's head takes nor its size, so that
clients who send a byte a minute would hold connections for ever. A head that takes longer than `HEAD_SECONDS` or
more than `HEAD_BYTES` closes the connection; beyond `MOST` connections new ones are closed at once.

A connection on which nothing came yet is idle like any other: Go's client dials one for each call that finds none
free, takes whichever is free first, and keeps the one that it did not need for a later call.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS: Final = 10.0
HEAD_BYTES: Final = 64 * 1024
MOST: Final = 2000


class Joined(asyncio.Transport):
    """Sends what is written within one turn of the loop in one piece.

    uvicorn writes the head of an answer and its body apart, and each piece would cost a TLS record, a system call and
    a packet: together a seventh of all that an answer costs (docs/performance.md).
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._call_soon = loop.call_soon
        self._parts: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keeps the data until the turn is over."""
        if not self._parts:
            self._call_soon(self._flush)
        self._parts.append(data)

    def _flush(self) -> None:
        if self._parts:
            whole = b"".join(self._parts)
            self._parts.clear()
            # The client may have gone within this turn, and uvloop lets nobody write to what is closed.
            if not self._transport.is_closing():
                self._transport.write(whole)

    def close(self) -> None:
        """Sends what is kept, then closes."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._parts.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns what the transport knows."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Has the client wait."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Lets the client go on."""
        self._transport.resume_reading()


class Guarded(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a deadline and a size for the head."""

    head_seconds = HEAD_SECONDS
    head_bytes = HEAD_BYTES
    most = MOST
    _alarm: asyncio.TimerHandle | None = None
    _in_head = False
    _head = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(Joined(transport, self.loop))
        if len(self.connections) > self.most:
            transport.abort()
            return
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        self._unset_keepalive_if_required()  # which uvicorn leaves running after a reset, and with it all this
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Nearly every head is there at once, and needs no timer.
        if self._in_head and self._alarm is None and not self.transport.is_closing():
            self._await_head()
        if self._alarm is not None:
            self._head += len(data)
            if self._head > self.head_bytes:
                self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head = 0
        self._alarm = self.loop.call_later(self.head_seconds, self._overdue)

    def _head_came(self) -> None:
        self._in_head = False
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _overdue(self) -> None:
        self._alarm = None
        if not self.transport.is_closing():
            self.transport.abort()
