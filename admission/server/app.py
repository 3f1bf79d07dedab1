"""The webhook as an ASGI application: reviews by a switch in front, everything else by FastAPI.

Invariants
- A failure of our own is an HTTP error, never `allowed: false`: only then does the configuration's failurePolicy
  decide what happens to the object.
- What an API server sends is never turned away by a status code for being too large or too deep: under
  `failurePolicy: Ignore` that would mean yes. It is refused in a sentence, before all of it is there: an API server
  gives up after seconds, and that means yes as well.
- Whatever clients do, the bodies under way are bounded in size, time and number (`admission.server.intake`).
- What goes out in case of failure is one fixed line; the details are logged with the review's uid.

Failure mode: an exception of a handler is a 500 for that review alone.
"""

import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from admission.decision.model import Reason
from admission.mutation.outcome import Verdict
from admission.server.intake import (
    HEAD,
    MEBIBYTE,
    CrowdedError,
    Intake,
    LateError,
    Limits,
    TooLargeError,
)
from admission.server.metrics import Metrics
from admission.wire import Answer, BadReview, Notice, TooDeep, request_of_head, too_large

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
Handler = Callable[[bytes], Answer]

_JSON: Final = b"application/json"
_JSON_TYPE: Final = (b"content-type", _JSON)
_CLOSE: Final = (b"connection", b"close")
_RETRY: Final = (b"retry-after", b"1")
_TOO_DEEP: Final = "it is nested too deeply to be read; take out what is nested hundreds of levels deep"


class CacheNotReadyError(Exception):
    """Raised by a handler that cannot answer yet, such as for a namespace that its cache does not hold yet.

    The API server is told to ask again in a second.
    """


class FailedReviewError(Exception):
    """Stands in the log for what a handler raised, whose own message may quote the object. It names the type."""


class Reply(msgspec.Struct, gc=False):
    """An HTTP response with a body."""

    status: int
    body: bytes
    headers: Headers
    early: bool = False
    """True when the rest of the request's body is still to come."""

    @property
    def closes(self) -> bool:
        """Whether the connection ends with it."""
        return _CLOSE in self.headers


class Application:
    """The switch: review paths go to their handler, the rest to `operations`."""

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        operations: App,
        *,
        blocked: Callable[[], str | None],
        metrics: Metrics,
        limits: Limits | None = None,
        notify: Callable[[Notice], None] | None = None,
    ) -> None:
        """`blocked` says why no review can be answered; `notify` tells an owner, and returns at once."""
        self._handlers = dict(handlers)
        self._operations = operations
        self._blocked = blocked
        self._metrics = metrics
        self._notify = notify
        self._limits = limits or Limits()
        self._intake = Intake(self._limits)
        metrics.in_flight.set_function(lambda: len(self._intake))
        self.draining = False
        """True asks every client to open its next connection elsewhere."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] in self._handlers:
            await self._review(scope, receive, send)
        elif self.draining:
            await self._operations(scope, receive, _closing(send))
        else:
            await self._operations(scope, receive, send)

    def serves(self, path: str) -> bool:
        """Whether reviews are answered under this path."""
        return path in self._handlers

    def handle(self, path: str, headers: Headers, body: bytes) -> Reply:
        """Answers a review that is there as a whole; `path` is one that this serves, the method was POST."""
        started = time.perf_counter()
        return self._counted(path, self._refusal("POST", headers) or self._answer(path, body), started)

    async def _review(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        started = time.perf_counter()
        reply = self._refusal(scope["method"], scope["headers"])
        patience = self._patience(scope["query_string"])
        try:
            reply = reply or await self._receive(path, patience, _length(scope["headers"]), receive)
        except ConnectionResetError:
            return
        reply = self._counted(path, reply, started)
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
        await send({"type": "http.response.body", "body": reply.body, "more_body": reply.early})
        if reply.early:
            await self._intake.discard(receive, patience)
            await send({"type": "http.response.body", "body": b""})

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
        if _JSON_TYPE in headers:  # nearly always, letter for letter
            return None
        content_type = next((value for name, value in headers if name == b"content-type"), b"")
        if content_type.partition(b";")[0].strip().lower() != _JSON:
            return _sentence(415, "the content type must be application/json", _CLOSE)
        return None

    async def _receive(self, path: str, patience: float, announced: int, receive: Receive) -> Reply:
        try:
            body = await self._intake.read(receive, patience, announced)
        except TooLargeError as error:
            reply = self._too_large(path, error)
            reply.early = not error.is_whole
            return reply
        except LateError:
            return _sentence(408, "the body did not arrive in time", _CLOSE)
        except CrowdedError:
            return _sentence(429, "too much is being sent at once; try again", _RETRY, _CLOSE)
        return self._answer(path, body)

    def _too_large(self, path: str, error: TooLargeError) -> Reply:
        size, most = f"{error.size / MEBIBYTE:.1f}", f"{self._limits.largest_body / MEBIBYTE:.1f}"
        why = f"its review takes {size} MiB, and at most {most} MiB are read; make the object smaller"
        return self._refuse(path, error.head, why, _CLOSE) or _sentence(
            413, f"the body has more than {most} MiB", _CLOSE
        )

    def _refuse(self, path: str, head: bytes, why: str, *headers: tuple[bytes, bytes]) -> Reply | None:
        """Says no to a review of an API server that no handler can read; None when it is nobody's."""
        if (request := request_of_head(head)) is None:
            return None
        logger.warning("a review was refused unread", extra={"uid": request.uid, "path": path, "why": why})
        self._metrics.reviewed(path, Verdict.REFUSED, str(request.kind), "", "")
        self._metrics.refused(Reason.TOO_LARGE)
        return _reply(200, too_large(request, why), _JSON, *headers)

    def _answer(self, path: str, body: bytes) -> Reply:
        if len(body) > self._limits.largest_body:
            return self._too_large(path, TooLargeError(body[:HEAD], len(body), is_whole=True))
        self._metrics.received(path, len(body))
        try:
            answer = self._handlers[path](body)
        except TooDeep as error:
            return self._refuse(path, body[:HEAD], _TOO_DEEP) or _sentence(400, str(error))
        except BadReview as error:
            return _sentence(400, str(error))
        except CacheNotReadyError as error:
            return _sentence(503, str(error), _RETRY)
        except Exception as error:
            told = FailedReviewError(type(error).__name__)
            where = (FailedReviewError, told, error.__traceback__)
            logger.exception("a review failed", exc_info=where, extra={"uid": _uid(body), "path": path})
            return _sentence(500, "the review failed; the webhook's log says why")
        self._metrics.reviewed(path, answer.outcome, answer.kind, answer.policy, answer.strategy)
        if answer.reason:
            self._metrics.refused(answer.reason)
        if answer.deviation:
            self._metrics.deviated(answer.deviation)
        if answer.notice is not None and self._notify is not None:
            self._notify(answer.notice)
        return _reply(200, answer.body, _JSON)

    def _patience(self, query: bytes) -> float:
        """How long the API server waits for this answer, as it says itself in `?timeout=`."""
        return min(_said(query) or self._limits.patience, self._limits.most_patience)


def _length(headers: Headers) -> int:
    """Returns the size in bytes that a body is said to have; 0 where that is not said."""
    said = next((value for name, value in headers if name == b"content-length"), b"")
    return int(said) if said.isdigit() and len(said) < _LONGEST else 0


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
