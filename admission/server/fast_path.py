"""Reviews that arrive in one piece are answered within the read that brought them.

uvicorn makes a scope, a task and two messages of each request: half of what a review of 10 kB costs, and of no use
when its body is there already and nothing has to be waited for (docs/performance.md). What is anything else (a body
that is still under way, another route, a pipelined request, HTTP/1.0) goes uvicorn's way, unchanged.

An API server begins every review with the same head but for the length of the body, so what a head says is remembered,
and a review that is all that has arrived is not put through the parser at all.
"""

from functools import lru_cache
from typing import Any, Final, NamedTuple

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from admission.server.app import Application, Headers, Reply
from admission.server.http_protocol import HeadTimeoutProtocol

_LENGTH: Final = b"\r\nContent-Length: "
"""As Go writes it."""
_LARGEST_HEAD: Final = 1024
"""Of those that are remembered; an API server's has a quarter of that."""
_MOST_DIGITS: Final = 8


class _Head(NamedTuple):
    path: str
    headers: Headers
    """But for the length of the body."""


class FastPathProtocol(HeadTimeoutProtocol):
    """A connection to an `Application`."""

    def __init__(self, reviews: Application, **more: Any) -> None:
        super().__init__(**more)
        self._reviews = reviews
        self._path = ""
        """Of the review whose head is complete and whose body is not; "" while there is none, or uvicorn has it."""
        self._parts: list[bytes] = []
        self._is_parsing = False
        """True when the parser has seen the beginning of a request and not its end."""

    def data_received(self, data: bytes) -> None:
        if self.is_idle and not self._is_parsing and self._answers_whole(data):
            return
        super().data_received(data)
        if self._path and not self.transport.is_closing():
            self._leave_to_uvicorn()

    def _answers_whole(self, data: bytes) -> bool:
        """Answers what is one plain review and no more; False where it is anything else."""
        end = data.find(b"\r\n\r\n", 0, _LARGEST_HEAD) + 4
        begin, _, rest = data[:end].partition(_LENGTH)
        digits, _, more = rest.partition(b"\r\n")
        if not digits.isdigit() or len(digits) > _MOST_DIGITS or len(data) - end != int(digits):
            return False
        head = _plain(begin, more)
        if head is None or not self._reviews.serves(head.path):
            return False
        reply = self._reviews.handle(head.path, head.headers, data[end:])
        self.transport.write(_bytes(reply))
        if reply.closes:
            self.transport.close()
        self.answered_at_once()
        return True

    def on_message_begin(self) -> None:
        self._is_parsing = True
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
        self._is_parsing = False
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


class _Parsed:
    """What httptools finds in one head."""

    def __init__(self) -> None:
        self.url, self.headers = b"", Headers()
        self.is_plain, self.requests = False, 0
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        names = [name for name, _ in self.headers]
        self.is_plain = (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and names.count(b"content-length") == 1
            and not {b"expect", b"upgrade", b"transfer-encoding"} & {*names}
        )

    def on_message_complete(self) -> None:
        self.requests += 1


@lru_cache(maxsize=64)
def _plain(begin: bytes, more: bytes) -> _Head | None:
    """Reads a head by what stands before the length of the body and behind it; None where more than the body may be in
    the way of an answer."""
    parsed = _Parsed()
    try:
        parsed.parser.feed_data(b"%b%b0\r\n%b" % (begin, _LENGTH, more))
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    if not parsed.is_plain or parsed.requests != 1:
        return None
    return _Head(_path(parsed.url), [each for each in parsed.headers if each[0] != b"content-length"])
