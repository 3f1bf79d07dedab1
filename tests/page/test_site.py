"""The page over HTTP: what is answered, what is refused, and what a reader is sent."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from queue_sync.page import feed as feeding
from queue_sync.page.feed import CannotReadError, Feed
from queue_sync.page.model import Moment, view
from queue_sync.page.site import MOST_BYTES, POLICY, Site, local
from slicewise.api.errors import BadInput
from tests.page.test_model import moment
from tests.queue_sync.scenes import exclusive


class Answer:
    """What one request was answered."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.body = b""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message["body"]
            self.pieces.put_nowait(message["body"])


class Browser:
    """Asks a site as a browser would."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app

    async def ask(
        self, path: str, method: str = "GET", body: bytes = b"", host: str = "localhost:8090", kind: str = ""
    ) -> Answer:
        answer, left = Answer(), [{"type": "http.request", "body": body}]

        async def receive() -> dict[str, Any]:
            return left.pop() if left else await asyncio.Event().wait() and {}

        await self._app(scope(path, method, host, kind), receive, answer.send)
        return answer


def scope(path: str, method: str = "GET", host: str = "localhost:8090", kind: str = "") -> dict[str, Any]:
    path, _, query = path.partition("?")
    headers = [(b"host", host.encode())] + ([(b"content-type", kind.encode())] if kind else [])
    return {
        "type": "http",
        "path": path,
        "query_string": query.encode(),
        "method": method,
        "headers": headers,
    }


async def explain(text: str, namespace: str) -> str:
    if text == "bad":
        raise BadInput("manifest: is not YAML; check it with a YAML linter")
    return f"{namespace}: {text}"


def constant(now: Moment) -> Feed:
    async def read() -> Moment:
        return now

    return Feed(read, None)


@pytest.fixture
def browser() -> Browser:
    return Browser(local(Site(constant(moment(exclusive("a"))), explain)))


YAML = "application/yaml"


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        ({"path": "/page"}, 308, ""),
        ({"path": "/page/"}, 200, "<title>Slicewise</title>"),
        ({"path": "/page/page.js"}, 200, "use strict"),
        ({"path": "/page/page.css"}, 200, "prefers-color-scheme"),
        ({"path": "/page/icon.svg"}, 200, "<svg"),
        ({"path": "/page/../secret"}, 404, "the page is /page/"),
        ({"path": "/page/view", "method": "POST"}, 405, "takes GET"),
        ({"path": "/page/explain"}, 405, "takes POST"),
        ({"path": "/page/nodes?pool=h100-80gb-exclusive"}, 200, '"total":1'),
        ({"path": "/page/nodes?pool=h100-80gb-exclusive&words=b"}, 200, '"total":0'),
        (
            {"path": "/page/nodes?pool=x&first=-1"},
            400,
            "first: '-1' is no number; write how many nodes to leave out",
        ),
        ({"path": "/page/nodes?pool=x&first=99999999"}, 400, "is no number"),
        ({"path": "/page/explain", "method": "POST", "body": b"a", "kind": YAML}, 200, "default: a"),
        ({"path": "/page/explain?namespace=b", "method": "POST", "body": b"a", "kind": YAML}, 200, "b: a"),
        (
            {"path": "/page/explain", "method": "POST", "body": b"bad", "kind": YAML},
            400,
            "check it with a YAML linter",
        ),
        (
            {"path": "/page/explain", "method": "POST", "body": b"a", "kind": "text/plain"},
            415,
            "send manifests",
        ),
        (
            {"path": "/page/explain", "method": "POST", "body": b"\xff", "kind": YAML},
            400,
            "are not UTF-8 text",
        ),
        (
            {"path": "/page/explain", "method": "POST", "body": b"a" * (MOST_BYTES + 1), "kind": YAML},
            413,
            "64 KiB",
        ),
        ({"path": "/page/view", "host": "rebound.example:8090"}, 421, "is not this machine"),
        ({"path": "/page/view", "host": "[::1]:8090"}, 200, "pool/h100"),
    ],
)
async def test_requests_and_their_answers(
    browser: Browser, request_: dict[str, Any], status: int, words: str
) -> None:
    answer = await browser.ask(**request_)
    assert (answer.status, words in answer.body.decode()) == (status, True), answer.body[:200]
    assert answer.headers[b"content-security-policy"] == POLICY.encode()
    assert answer.headers[b"x-content-type-options"] == b"nosniff"


async def test_the_view_is_the_whole_view() -> None:
    now = moment(exclusive("a"))
    answer = await Browser(Site(constant(now))).ask("/page/view")
    assert json.loads(answer.body) == view(now)


async def test_nothing_is_explained_where_nobody_can() -> None:
    answer = await Browser(Site(constant(moment()))).ask("/page/explain", "POST", b"a", kind=YAML)
    assert (answer.status, answer.body) == (404, b"nothing is explained here; run slicewise page\n")


@pytest.fixture
async def streaming() -> AsyncIterator[Callable[[Feed], Answer]]:
    tasks: list[asyncio.Task[None]] = []

    def start(feed: Feed) -> Answer:
        answer = Answer()

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

        tasks.append(asyncio.create_task(Site(feed)(scope("/page/events"), receive, answer.send)))
        return answer

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def event(answer: Answer) -> dict[str, Any]:
    async with asyncio.timeout(5):
        while True:
            piece = await answer.pieces.get()
            if piece.startswith(b"data: "):
                found: dict[str, Any] = json.loads(piece.removeprefix(b"data: "))
                return found


async def test_a_reader_is_sent_the_view_and_then_what_changed(
    streaming: Callable[[Feed], Answer],
) -> None:
    now = moment(exclusive("a"))
    failing = False

    async def read() -> Moment:
        if failing:
            raise CannotReadError("the server is away")
        return now

    answer = streaming(Feed(read, 0.01))
    assert await event(answer) == view(now)
    assert answer.headers[b"content-type"] == b"text/event-stream"
    now = moment(exclusive("a", 4))
    assert (await event(answer))["pool/h100-80gb-exclusive"]["resources"][0]["counted"] == 4
    failing = True
    assert await event(answer) == {"problem": "the server is away"}
    failing = False
    assert await event(answer) == {"problem": None}


async def test_a_silent_reader_is_told_that_the_page_is_there(
    monkeypatch: pytest.MonkeyPatch, streaming: Callable[[Feed], Answer]
) -> None:
    monkeypatch.setattr(feeding, "HEARTBEAT", 0.01)
    answer = streaming(constant(moment()))
    await event(answer)
    async with asyncio.timeout(5):
        assert await answer.pieces.get() == b":\n\n"


async def test_readers_are_bounded(
    monkeypatch: pytest.MonkeyPatch, streaming: Callable[[Feed], Answer]
) -> None:
    monkeypatch.setattr(feeding, "MOST_READERS", 1)
    feed = constant(moment())
    await event(streaming(feed))
    refused = streaming(feed)
    async with asyncio.timeout(5):
        assert b"close one, or wait" in await refused.pieces.get()
    assert refused.status == 503


async def test_a_reader_who_leaves_makes_room() -> None:
    feed, answer = constant(moment()), Answer()
    left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    task = asyncio.create_task(Site(feed)(scope("/page/events"), receive, answer.send))
    await event(answer)
    assert feed.readers == 1
    left.set()
    await asyncio.wait_for(task, 5)
    assert feed.readers == 0


async def test_what_was_never_read_is_a_sentence() -> None:
    async def read() -> Moment:
        raise CannotReadError("no cluster to read")

    for path in ("/page/view", "/page/events", "/page/nodes"):
        answer = await Browser(Site(Feed(read, 1.0))).ask(path)
        assert (answer.status, answer.body) == (503, b"no cluster to read\n")


async def test_nothing_is_read_while_it_is_not_due() -> None:
    times = 0

    async def read() -> Moment:
        nonlocal times
        times += 1
        return moment()

    feed = Feed(read, 60.0)
    for _ in range(3):
        await feed.now()
    assert times == 1
