"""What a connection may do before it has said anything sensible.

uvicorn bounds the time between requests but neither the time that a request's head takes nor its size, so that
clients who send a byte a minute would hold connections for ever. A head that takes longer than `HEAD_SECONDS` or
more than `HEAD_BYTES` closes the connection; beyond `MOST` connections new ones are closed at once.
"""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS: Final = 10.0
HEAD_BYTES: Final = 64 * 1024
MOST: Final = 2000


class Guarded(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a deadline and a size for the head."""

    head_seconds = HEAD_SECONDS
    head_bytes = HEAD_BYTES
    most = MOST
    _alarm: asyncio.TimerHandle | None = None
    _head = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._alarm is not None:
            self._head += len(data)
            if self._head > self.head_bytes:
                self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._alarm is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head = 0
        self._alarm = self.loop.call_later(self.head_seconds, self._overdue)

    def _head_came(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _overdue(self) -> None:
        self._alarm = None
        if not self.transport.is_closing():
            self.transport.abort()
