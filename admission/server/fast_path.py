"""Reviews that arrive in one piece are answered within the read that brought them.

uvicorn makes a scope, a task and two messages of each request: half of what a review of 10 kB costs, and of no use
when its body is there already and nothing has to be waited for (docs/performance.md). What is anything else (a body
that is still under way, another route, a pipelined request, HTTP/1.0) goes uvicorn's way, unchanged.
"""

from functools import lru_cache
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from admission.server.app import Application, Reply
from admission.server.http_protocol import HeadTimeoutProtocol


class FastPathProtocol(HeadTimeoutProtocol):
    """A connection to an `Application`."""

    def __init__(self, reviews: Application, **more: Any) -> None:
        super().__init__(**more)
        self._reviews = reviews
        self._path = ""
        """Of the review whose head is complete and whose body is not; "" while there is none, or uvicorn has it."""
        self._parts: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._path and not self.transport.is_closing():
            self._leave_to_uvicorn()

    def on_message_begin(self) -> None:
        # uvicorn's scope is made when it has the request.
        self._unset_keepalive_if_required()
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        path = _path(self.url)
        if self._reviews.serves(path) and self._is_plain():
            self._head_came()
            self._path = path
        else:
            self._begin_at_uvicorn()

    def on_body(self, body: bytes) -> None:
        if self._path:
            self._parts.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._path:
            super().on_message_complete()
            return
        reply = self._reviews.handle(self._path, self.headers, self._taken())
        self.transport.write(_bytes(reply))
        if reply.closes:
            self.transport.close()
        self.on_response_complete()

    def _is_plain(self) -> bool:
        """Whether nothing but the body can be in the way of an answer."""
        return (
            self.parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.expect_100_continue
            and not self.parser.should_upgrade()
            and self.parser.should_keep_alive()
            and self.parser.get_http_version() == "1.1"
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    def _taken(self) -> bytes:
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._path = ""
        return body

    def _begin_at_uvicorn(self) -> None:
        url, headers, expect = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expect
        self.headers += headers
        super().on_headers_complete()

    def _leave_to_uvicorn(self) -> None:
        body = self._taken()
        self._begin_at_uvicorn()
        if body:
            super().on_body(body)


def _bytes(reply: Reply) -> bytes:
    lines = [STATUS_LINE[reply.status]]
    for name, value in reply.headers:
        lines += (name, b": ", value, b"\r\n")
    return b"".join((*lines, b"\r\n", reply.body))


@lru_cache(maxsize=64)  # API servers say the same thing every time
def _path(url: bytes) -> str:
    try:
        return httptools.parse_url(url).path.decode("ascii")
    except (httptools.HttpParserInvalidURLError, UnicodeDecodeError, AttributeError):
        return ""
