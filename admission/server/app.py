"""The webhook as an ASGI application: reviews by a switch in front, everything else by FastAPI.

Invariants
- A failure of our own is an HTTP error, never `allowed: false`: only then does the configuration's failurePolicy
  decide what happens to the object.
- Whatever a client does, it holds no more than one body of `largest_body` for no longer than `patience` (or the
  API server's own deadline), and all clients together no more than `most_at_once` bodies and `most_bytes`.
- What goes out in case of failure is one fixed line; the details are logged with the review's uid.

Failure mode: an exception of the judgement is a 500 for that review alone.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from admission.review import Answer, BadReview
from admission.server.metrics import Metrics

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Judge = Callable[[bytes], Answer]

_JSON: Final = b"application/json"
_CLOSE: Final = (b"connection", b"close")
_RETRY: Final = (b"retry-after", b"1")


class BehindError(Exception):
    """Raised by a judge that cannot answer yet, such as for a namespace that its cache does not hold yet.

    The API server is told to ask again in a second.
    """


class FailedReviewError(Exception):
    """Stands in the log for what a judge raised, whose own message may quote the object. It names the type."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them, may take."""

    # Two objects of the largest size that etcd holds and a mebibyte for the rest, as controller-runtime has it.
    largest_body: int = 7 * 1024 * 1024
    most_at_once: int = 256
    most_bytes: int = 128 * 1024 * 1024
    # What a request may take to arrive when it brings no deadline of its own; the longest timeoutSeconds is 30.
    patience: float = 10.0
    most_patience: float = 30.0


class Reply(msgspec.Struct, gc=False):
    """An HTTP response with a body."""

    status: int
    body: bytes
    headers: Headers

    @property
    def closes(self) -> bool:
        """Whether the connection ends with it."""
        return _CLOSE in self.headers


class Application:
    """The switch: review paths go to their judge, the rest to `operations`."""

    def __init__(
        self,
        judges: Mapping[str, Judge],
        operations: App,
        *,
        blocked: Callable[[], str | None],
        metrics: Metrics,
        limits: Limits | None = None,
    ) -> None:
        """`blocked` says why none can be judged."""
        self._judges = dict(judges)
        self._operations = operations
        self._blocked = blocked
        self._metrics = metrics
        self._limits = limits or Limits()
        self._in_flight = 0
        metrics.in_flight.set_function(lambda: self._in_flight)
        self._held = 0
        self.draining = False
        """True asks every client to open its next connection elsewhere."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] in self._judges:
            await self._review(scope, receive, send)
        elif self.draining:
            await self._operations(scope, receive, _closing(send))
        else:
            await self._operations(scope, receive, send)

    def serves(self, path: str) -> bool:
        """Whether reviews are answered under this path."""
        return path in self._judges

    def at_once(self, path: str, headers: Headers, body: bytes) -> Reply:
        """Answers a review that is there as a whole; `path` is one that this serves, the method was POST."""
        started = time.perf_counter()
        self._in_flight += 1
        try:
            reply = self._refusal("POST", headers) or self._judged(path, body)
        finally:
            self._in_flight -= 1
        return self._counted(path, reply, started)

    async def _review(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        started = time.perf_counter()
        self._in_flight += 1
        try:
            reply = self._refusal(scope["method"], scope["headers"])
            reply = reply or await self._awaited(path, scope["query_string"], receive)
        except ConnectionResetError:
            return
        finally:
            self._in_flight -= 1
        reply = self._counted(path, reply, started)
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body})

    def _counted(self, path: str, reply: Reply, started: float) -> Reply:
        self._metrics.responded(path, reply.status, time.perf_counter() - started)
        if self.draining and not reply.closes:
            reply.headers.append(_CLOSE)
        return reply

    def _refusal(self, method: str, headers: Headers) -> Reply | None:
        """What can be said without reading the body."""
        if method != "POST":
            return _sentence(405, "only POST is served here", (b"allow", b"POST"), _CLOSE)
        # A client that is told to come back may meet another replica, if it comes on another connection.
        if (why := self._blocked()) is not None:
            return _sentence(503, f"not ready: {why}", _RETRY, _CLOSE)
        # Here it keeps its connection: a handshake costs five reviews, which is no help when there are too many.
        if self._in_flight > self._limits.most_at_once:
            return _sentence(429, "too many reviews at once; try again", _RETRY)
        content_type = length = b""
        for name, value in headers:
            if name == b"content-type":
                content_type = value
            elif name == b"content-length":
                length = value
        if content_type != _JSON and content_type.partition(b";")[0].strip().lower() != _JSON:
            return _sentence(415, "the content type must be application/json", _CLOSE)
        if length.isdigit() and int(length) > self._limits.largest_body:
            return self._too_large()
        return None

    def _too_large(self) -> Reply:
        return _sentence(413, f"the body exceeds {self._limits.largest_body} bytes", _CLOSE)

    async def _awaited(self, path: str, query: bytes, receive: Receive) -> Reply:
        parts: list[bytes] = []
        alarm = _Alarm(self._patience(query))
        try:
            refusal = await self._receive(receive, parts)
        except asyncio.CancelledError:
            if not alarm.was_it():
                raise
            refusal = _sentence(408, "the body did not arrive in time", _CLOSE)
        finally:
            alarm.off()
            self._held -= sum(map(len, parts))
        return refusal or self._judged(path, parts[0] if len(parts) == 1 else b"".join(parts))

    def _judged(self, path: str, body: bytes) -> Reply:
        if len(body) > self._limits.largest_body:
            return self._too_large()
        self._metrics.received(path, len(body))
        try:
            answer = self._judges[path](body)
        except BadReview as error:
            return _sentence(400, str(error))
        except BehindError as error:
            return _sentence(503, str(error), _RETRY)
        except Exception as error:
            told = FailedReviewError(type(error).__name__)
            where = (FailedReviewError, told, error.__traceback__)
            logger.exception("a review failed", exc_info=where, extra={"uid": _uid(body), "path": path})
            return _sentence(500, "the review failed; the webhook's log says why")
        self._metrics.reviewed(path, answer.outcome, answer.kind, answer.policy, answer.strategy)
        if answer.reason:
            self._metrics.refused(answer.reason)
        return _reply(200, answer.body, _JSON)

    async def _receive(self, receive: Receive, parts: list[bytes]) -> Reply | None:
        """Fills `parts` with the body; returns why not. Raises ConnectionResetError."""
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise ConnectionResetError
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            self._held += len(part)
            if size > self._limits.largest_body:
                return self._too_large()
            if self._held > self._limits.most_bytes:
                return _sentence(429, "too much is being sent at once; try again", _RETRY, _CLOSE)
            if not message.get("more_body", False):
                return None

    def _patience(self, query: bytes) -> float:
        """How long the API server waits for this answer, as it says itself in `?timeout=`."""
        return min(_said(query) or self._limits.patience, self._limits.most_patience)


class _Alarm:
    """`asyncio.timeout` for one wait, at a sixth of its price: nearly always the body is there already."""

    __slots__ = ("_rang", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._rang = False
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._rang = True
        if self._task is not None:
            self._task.cancel()

    def was_it(self) -> bool:
        """True when nobody else cancelled the task; then it is no longer cancelled."""
        return self._rang and self._task is not None and self._task.uncancel() == 0

    def off(self) -> None:
        """Stops the clock."""
        self._timer.cancel()


@lru_cache(maxsize=64)  # API servers say the same thing every time
def _said(query: bytes) -> float | None:
    said = parse_qs(query.decode("latin-1")).get("timeout")
    return duration(said[0]) if said else None


def _reply(status: int, body: bytes, content_type: bytes, *headers: tuple[bytes, bytes]) -> Reply:
    length = b"%d" % len(body)
    return Reply(status, body, [(b"content-type", content_type), (b"content-length", length), *headers])


def _sentence(status: int, text: str, *headers: tuple[bytes, bytes]) -> Reply:
    line = text.replace("\n", " ").replace("\r", " ")
    return _reply(status, f"{line}\n".encode(), b"text/plain; charset=utf-8", *headers)


def _closing(send: Send) -> Send:
    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], _CLOSE]
        await send(message)

    return closing


class _Request(msgspec.Struct):
    uid: str = ""


class _Envelope(msgspec.Struct):
    request: _Request = msgspec.field(default_factory=_Request)


def _uid(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Envelope).request.uid
    except (msgspec.MsgspecError, RecursionError):
        return ""


_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNIT: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
# The longest that Go writes is 2562047h47m16.854775807s; a search through much more would hold up everybody.
_LONGEST: Final = 32


def duration(text: str) -> float | None:
    """Reads a Go duration such as `3s` or `1m30s`, in seconds; None when it is none."""
    if not text or len(text) > _LONGEST or _PART.sub("", text):
        return None
    return sum(float(number) * _UNIT[unit] for number, unit in _PART.findall(text))
