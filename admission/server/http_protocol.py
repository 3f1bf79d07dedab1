"""What a connection may do before it has said anything sensible.

uvicorn bounds the time between requests but neither the time that a request's head takes nor its size, so that
clients who send a byte a minute would hold connections for ever. A head that takes longer than `HEAD_SECONDS` or
more than `HEAD_BYTES` closes the connection, and so does no head at all for `FIRST_REQUEST_SECONDS`, or an answer that
nobody reads for `ANSWER_SECONDS`, for which uvicorn would wait for ever. How many there are is the affair of
`admission.server.connection_table`, which is told here when a request begins and ends.
"""

import asyncio
import select
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from admission.server.connection_table import Connection, ConnectionTable

HEAD_SECONDS: Final = 10.0
HEAD_BYTES: Final = 64 * 1024
# Go's client dials a connection for each call that finds none free, takes whichever is free first, and keeps the one
# that it did not need: ten seconds are ample for a client that means to call.
FIRST_REQUEST_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 10.0
LOOK_AGAIN_SECONDS: Final = 0.02
"""Before a connection is closed: from one look for what is arriving to the next."""


class HeadTimeoutProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a deadline and a size for the head, in a table of connections."""

    head_seconds = HEAD_SECONDS
    head_bytes = HEAD_BYTES
    first_request_seconds = FIRST_REQUEST_SECONDS
    answer_seconds = ANSWER_SECONDS
    _alarm: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _awaiting_head = True
    _head = 0
    _last_answer = 0.0
    """When a request was last answered at once, which leaves the timer of idle connections as it is."""

    def __init__(self, connection: Connection, table: ConnectionTable, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._connection = connection
        self._table = table

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._connection.close = transport.abort
        self.timeout_keep_alive_task = self.loop.call_later(
            self.first_request_seconds, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._table.remove(self._connection)
        self._head_came()
        self._read_on()
        self._unset_keepalive_if_required()  # which uvicorn leaves running after a reset, and with it all this
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # Nearly every head is there at once and needs no alarm; uvicorn waits for the first byte of the next.
        if (
            self._awaiting_head
            and self.timeout_keep_alive_task is None
            and self._alarm is None
            and not self.transport.is_closing()
        ):
            self._await_head()
        if self._alarm is not None:
            self._head += len(data)
            if self._head > self.head_bytes:
                self.transport.abort()

    @property
    def is_idle(self) -> bool:
        """True between two requests, of which no part of the second has come, when an answer can be written."""
        return (
            self.timeout_keep_alive_task is not None
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def answered_at_once(self) -> None:
        """Takes note of a request that came when the connection was idle, and is answered."""
        self._table.answered_at_once(self._connection)
        self._last_answer = self.loop.time()

    def timeout_keep_alive_handler(self) -> None:
        left = self._last_answer + self.timeout_keep_alive - self.loop.time()
        if not self._last_answer or left <= 0:
            if not self._has_unread():
                super().timeout_keep_alive_handler()
                return
            left = LOOK_AGAIN_SECONDS
        self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)

    def shutdown(self) -> None:
        """Closes the connection when it is idle to the last byte; what has begun to arrive is answered first."""
        if self.transport.is_closing():
            return
        if self._alarm is not None or self._has_unread():
            self.loop.call_later(LOOK_AGAIN_SECONDS, self.shutdown)
        else:
            super().shutdown()

    def _has_unread(self) -> bool:
        """Whether something came since the loop looked last, which on a busy machine may be a while ago."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._table.stall(self._connection)
        self._unread = self._unread or self.loop.call_later(self.answer_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._table.flow(self._connection, idle=self._awaiting_head)
        self._read_on()

    def _read_on(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def on_message_begin(self) -> None:
        self._unset_keepalive_if_required()  # part of a head may come in one piece with the request before it
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_came()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        self._awaiting_head = True
        self._table.answered(self._connection)
        super().on_response_complete()

    def _await_head(self) -> None:
        self._head = 0
        self._alarm = self.loop.call_later(self.head_seconds, self._overdue)

    def _head_came(self) -> None:
        self._awaiting_head = False
        self._table.head_received(self._connection)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _overdue(self) -> None:
        self._alarm = None
        if not self.transport.is_closing():
            self.transport.abort()
