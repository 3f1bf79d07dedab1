"""The page over HTTP: files for a browser, the view, its changes as server-sent events, nodes, and an explanation.

Every answer forbids what the page does not need: no script, style or image but its own, no frame around it, no request
to anybody else. Nothing is written; what is sent to be explained is read, judged and forgotten.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from importlib.resources import files
from time import monotonic
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from queue_sync.page.feed import MOST_READERS, CannotReadError, Feed, TooManyReadersError
from queue_sync.page.model import nodes
from slicewise.api.errors import BadInput

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Explain = Callable[[str, str], Awaitable[str]]
"""(manifests, namespace of objects that name none) -> what would become of them; raises `BadInput`."""

PATH: Final = "/page"
LONGEST: Final = 600.0
"""Seconds after which a stream of changes ends and the reader asks for another, so that it is authorized anew."""
MOST_BYTES: Final = 64 * 1024
"""Of manifests that are explained."""
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types"
)
_HEADERS: Final = (
    (b"content-security-policy", POLICY.encode()),
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_FILES: Final = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
DATA: Final = ("/view", "/events", "/nodes", "/explain")
"""What tells of the cluster; everything else is the same for everybody."""
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_DIGITS: Final = 7
_TEXT: Final = "text/plain; charset=utf-8"


class _AnswerError(Exception):
    """A request that gets no more than a status and a sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Site:
    """The ASGI application below `PATH`.

    Args:
        feed: what to show.
        explain: judges manifests; None where the page cannot.
    """

    def __init__(self, feed: Feed, explain: Explain | None = None) -> None:
        self._feed, self._explain = feed, explain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        try:
            await self._route(str(scope["path"]).removeprefix(PATH), scope, receive, send)
        except _AnswerError as error:
            await _answer(send, error.status, _TEXT, f"{error}\n".encode())
        except CannotReadError as error:
            await _answer(send, 503, _TEXT, f"{error}\n".encode(), (b"retry-after", b"5"))

    async def _route(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        allowed = "POST" if path == "/explain" else "GET"
        if scope["method"] != allowed:
            raise _AnswerError(405, f"{PATH}{path} takes {allowed}")
        match path:
            case "":
                await _answer(send, 308, _TEXT, b"", (b"location", f"{PATH}/".encode()))
            case "/view":
                _, view = await self._feed.now()
                await _answer(send, 200, "application/json", msgspec.json.encode(view))
            case "/events":
                await self._stream(receive, send)
            case "/nodes":
                await self._nodes(scope, send)
            case "/explain":
                await self._explained(scope, receive, send)
            case _ if path in _FILES:
                name, kind = _FILES[path]
                await _answer(send, 200, kind, _file(name))
            case _:
                raise _AnswerError(404, f"the page is {PATH}/")

    async def _stream(self, receive: Receive, send: Send) -> None:
        """Sends the view, then what changes of it, until the reader leaves."""
        gone = asyncio.create_task(_left(receive), name="page reader")
        changes = self._feed.changes()
        try:
            first = await anext(
                changes
            )  # before the status, so that what cannot be read is a status of its own
            head = [(b"content-type", b"text/event-stream"), *_HEADERS]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await _event(send, first)
            closes = monotonic() + LONGEST
            while not gone.done() and monotonic() < closes:
                following = asyncio.ensure_future(anext(changes))
                await asyncio.wait({gone, following}, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    following.cancel()
                    await asyncio.gather(following, return_exceptions=True)
                    return
                await _event(send, following.result())
            await send({"type": "http.response.body", "body": b""})
        except TooManyReadersError:
            sentence = f"{MOST_READERS} readers look at the page already; close one, or wait\n"
            await _answer(send, 503, _TEXT, sentence.encode(), (b"retry-after", b"15"))
        finally:
            gone.cancel()
            await changes.aclose()

    async def _nodes(self, scope: Scope, send: Send) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        first = query.get("first", ["0"])[0]
        if not first.isdecimal() or len(first) > _DIGITS:
            raise _AnswerError(400, f"first: {first[:20]!r} is no number; write how many nodes to leave out")
        moment, _ = await self._feed.now()
        found = nodes(moment, query.get("pool", [""])[0], int(first), query.get("words", [""])[0])
        await _answer(send, 200, "application/json", msgspec.json.encode(found))

    async def _explained(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._explain is None:
            raise _AnswerError(404, "nothing is explained here; run slicewise page")
        # A page of somebody else's can have a browser send plain text anywhere, but not this type.
        if dict(scope["headers"]).get(b"content-type", b"").split(b";")[0] != b"application/yaml":
            raise _AnswerError(415, "content-type: is not application/yaml; send manifests as YAML or JSON")
        text = await _body(receive)
        query = parse_qs(scope["query_string"].decode("latin-1"))
        try:
            words = await self._explain(text, query.get("namespace", ["default"])[0])
        except BadInput as error:
            raise _AnswerError(400, str(error)) from None
        await _answer(send, 200, _TEXT, words.encode())


def local(site: Site) -> App:
    """Returns the site for a loopback address: it answers no request that was addressed by another name.

    Otherwise a page of somebody else's, whose name is made to point here, could read it (DNS rebinding).
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        host = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        if host.rpartition(":")[0] in LOOPBACK or host in LOOPBACK:
            await site(scope, receive, send)
        else:
            await _answer(send, 421, _TEXT, b"host: is not this machine; open http://localhost\n")

    return serve


async def _body(receive: Receive) -> str:
    """Returns what was sent, up to `MOST_BYTES`."""
    found = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _AnswerError(400, "the manifests were not sent whole")
        found += message.get("body", b"")
        if len(found) > MOST_BYTES:
            raise _AnswerError(
                413, f"the manifests are longer than {MOST_BYTES // 1024} KiB; send fewer at once"
            )
        more = message.get("more_body", False)
    try:
        return found.decode()
    except UnicodeDecodeError:
        raise _AnswerError(400, "the manifests are not UTF-8 text; send YAML or JSON") from None


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _event(send: Send, news: dict[str, Any]) -> None:
    # A comment keeps what is between us and the reader from thinking that nobody is there.
    body = b"data: " + msgspec.json.encode(news) + b"\n\n" if news else b":\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _answer(send: Send, status: int, kind: str, body: bytes, *more: tuple[bytes, bytes]) -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        *_HEADERS,
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@cache
def _file(name: str) -> bytes:
    return files("queue_sync.page").joinpath("static", name).read_bytes()
