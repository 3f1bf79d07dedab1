"""However a review arrives, the answer is the same; only what is there as a whole skips uvicorn's task."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

import pytest

from admission.server.app import Handler
from admission.server.fast_path import FastPathProtocol
from admission.server.http_protocol import HeadTimeoutProtocol
from admission.server.intake import Limits
from admission.wire import Answer, BadReview
from tests.admission_server.conftest import Connection, Served, echo, serving
from tests.kube.clocks import eventually

HEAD = b"POST /mutate?timeout=3s HTTP/1.1\r\nHost: hook\r\nContent-Type: application/json\r\n"
BODY = b'{"request": "of a Pod"}'
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = (
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + BODY[:5] + b"\r\n12\r\n" + BODY[5:] + b"\r\n0\r\n\r\n"
)


@dataclass
class Lanes:
    """A judge that notes whether it runs in a task of its own, as uvicorn has it, or within the read."""

    express: list[bool] = field(default_factory=list)

    def __call__(self, body: bytes) -> Answer:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        self.express.append(task is None)
        return echo(body)


def _with(*lines: bytes, version: bytes = b"1.1") -> bytes:
    first, rest = WHOLE.split(b"\r\n", 1)
    return first.replace(b"1.1", version) + b"".join(b"\r\n" + line for line in lines) + b"\r\n" + rest


@pytest.mark.parametrize(
    ("request_", "express"),
    [
        pytest.param(WHOLE, True, id="as the API server sends it"),
        pytest.param(CHUNKED, True, id="in chunks"),
        pytest.param(_with(b"Connection: close"), False, id="the last one on its connection"),
        pytest.param(_with(b"Connection: keep-alive", version=b"1.0"), False, id="HTTP/1.0"),
        pytest.param(WHOLE.replace(b"/mutate", b"/%6dutate"), False, id="a path that has to be unquoted"),
    ],
)
async def test_what_is_there_as_a_whole_is_answered_within_the_read(
    request_: bytes, *, express: bool
) -> None:
    lanes = Lanes()
    async with serving(lanes) as served:
        connection = await served.connect()
        await connection.send(request_)
        reply = await connection.read()
    assert (reply.status, reply.body) == (200, BODY)
    assert lanes.express == [express]


@pytest.mark.parametrize("request_", [WHOLE, CHUNKED], ids=["with its length", "in chunks"])
async def test_wherever_it_is_cut_the_answer_is_the_same(request_: bytes) -> None:
    lanes = Lanes()
    async with serving(lanes) as served:
        connection = await served.connect()
        await connection.send(request_)
        whole = await connection.read()
        for place in range(1, len(request_)):
            await connection.send(request_[:place])
            await asyncio.sleep(0.001)
            await connection.send(request_[place:])
            assert await connection.read() == whole
    assert len(lanes.express) == len(request_)
    assert False in lanes.express


HOST = b"Host: hook\r\n"
"""Where another line may stand, before the length of the body."""


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        pytest.param(WHOLE, [200], id="as the API server sends it"),
        pytest.param(
            WHOLE.replace(b"Content-Length: ", b"Content-Length: 00"), [200], id="zeros before the length"
        ),
        pytest.param(WHOLE.replace(b"POST", b"PUT", 1), [405], id="another method"),
        pytest.param(WHOLE.replace(b"POST", b"BREW", 1), [400], id="a method that is none"),
        pytest.param(WHOLE.replace(b"HTTP/1.1", b"HTTP/3.1", 1), [400], id="another version"),
        pytest.param(WHOLE.replace(b"application", b"text", 1), [415], id="another type"),
        pytest.param(WHOLE.replace(b"/mutate", b"/none", 1), [404], id="another path"),
        pytest.param(WHOLE.replace(HOST, HOST + b"Content-Length: 1\r\n", 1), [400], id="two lengths"),
        pytest.param(
            WHOLE.replace(HOST, HOST + b"content-length: 1\r\n", 1), [400], id="two, one in small letters"
        ),
        pytest.param(
            WHOLE.replace(HOST, HOST + b"Transfer-Encoding: chunked\r\n", 1), [400], id="a length and chunks"
        ),
        pytest.param(WHOLE.replace(HOST, HOST + b"a b\r\n", 1), [400], id="a line that is no header"),
        pytest.param(
            WHOLE.replace(b"Content-Length: ", b"Content-Length: x"), [400], id="a length that is no number"
        ),
        pytest.param(WHOLE + WHOLE, [200, 200], id="two requests"),
        pytest.param(HEAD + b"Content-Length: 0\r\n\r\n", [200], id="no body"),
    ],
)
async def test_what_a_head_says_is_the_same_before_and_after_it_is_known(
    sent: bytes, statuses: list[int]
) -> None:
    async with serving() as served:
        first = await _statuses(served, sent, len(statuses))
        known = await served.connect()
        await known.send(WHOLE)
        assert (await known.read()).body == BODY
        await known.send(sent)
        after = [(await known.read()).status for _ in statuses]
    assert first == after == statuses


async def _statuses(served: Served, sent: bytes, count: int) -> list[int]:
    return [status for status, _ in await _replies(await served.connect(), sent, count)]


async def test_what_ends_a_head_that_has_begun_is_no_request_of_its_own(served: Served) -> None:
    connection = await served.connect()
    await connection.send(CHUNKED[:-2])
    await asyncio.sleep(0.01)  # it is uvicorn's now, which answers when the next head has begun
    await connection.send(CHUNKED[-2:] + b"POST /mutate HTTP/1.1\r\nConnection: close\r\nx: ")
    assert (await connection.read()).body == BODY
    await connection.send(WHOLE)
    assert (await connection.read()).body == BODY
    assert await connection.closed()


async def test_a_connection_that_is_answered_at_once_is_closed_when_it_is_idle(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FastPathProtocol, "first_request_seconds", 0.05)
    connection = await served.connect()
    await connection.send(WHOLE)
    await connection.read()
    (protocol,) = served.listener.server_state.connections
    assert isinstance(protocol, FastPathProtocol)
    await asyncio.sleep(0.2)
    await connection.send(WHOLE)
    assert (await connection.read()).body == BODY
    assert protocol.timeout_keep_alive_task is not None
    assert protocol.timeout_keep_alive_task.when() - asyncio.get_running_loop().time() > 80
    protocol.timeout_keep_alive = 0.05
    protocol.timeout_keep_alive_handler()
    assert await connection.closed()


async def _replies(connection: Connection, sent: bytes, count: int) -> list[tuple[int, bytes]]:
    await connection.send(sent)
    replies = [await connection.read() for _ in range(count)]
    return [(reply.status, reply.body) for reply in replies]


async def test_requests_sent_together_are_answered_in_their_order() -> None:
    async with serving() as served:
        bodies = [b'{"number": %d}' % number for number in range(5)]
        wholes = [HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body for body in bodies]
        health = b"GET /healthz HTTP/1.1\r\nHost: hook\r\n\r\n"
        together = b"".join(wholes[:2]) + health + b"".join(wholes[2:])
        replies = await _replies(await served.connect(), together, 6)
    assert [body for _, body in replies if body.startswith(b'{"number"')] == bodies
    assert [status for status, _ in replies] == [200] * 6
    assert not replies[2][1].startswith(b'{"number"')


async def test_an_answer_that_is_asked_for_before_the_body_is_sent(served: Served) -> None:
    connection = await served.connect()
    head, _, body = _with(b"Expect: 100-continue").partition(b"\r\n\r\n")
    await connection.send(head + b"\r\n\r\n")
    assert (await connection.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    await connection.send(body)
    assert (await connection.read()).body == BODY


def _malformed(_: bytes) -> Answer:
    raise BadReview("it is none")


def _failing(_: bytes) -> Answer:
    raise KeyError("x")


@pytest.mark.parametrize(
    ("judge", "status"), [(_malformed, 400), (_failing, 500)], ids=["a bad review", "a failure of ours"]
)
async def test_a_review_that_fails_fails_alone(
    judge: Handler, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(judge) as served:
        replies = await _replies(await served.connect(), WHOLE + WHOLE, 2)
    assert [code for code, _ in replies] == [status, status]
    caplog.clear()


async def test_limits_hold_without_a_length_too() -> None:
    async with serving(limits=Limits(largest_body=10)) as served:
        for request in (WHOLE, CHUNKED):
            connection = await served.connect()
            await connection.send(request)
            assert (await connection.read()).status == 413
            assert await connection.closed()


async def test_a_chunk_that_is_none_ends_the_connection(served: Served) -> None:
    connection = await served.connect()
    await connection.send(HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\nx\r\n')
    assert (await connection.read()).status == 400
    assert await connection.closed()
    assert (await (await served.connect()).ask()).status == 200


async def test_draining_ends_the_connection_after_the_answer(served: Served) -> None:
    connection = await served.connect()
    served.application.draining = True
    reply = await connection.ask(body=BODY)
    assert (reply.status, reply.body, reply.headers["connection"]) == (200, BODY, "close")
    assert await connection.closed()


@pytest.mark.parametrize("came", [0, 10, len(HEAD)], ids=["nothing", "part of its head", "nearly its head"])
async def test_what_arrives_as_the_server_stops_is_answered(served: Served, came: int) -> None:
    """An API server sends no review twice, so one that came before the connection was closed must not be lost."""
    connection = await served.connect()
    await connection.ask(body=BODY)
    await connection.send(WHOLE[:came])
    await eventually(lambda: not came or not any(each.is_idle for each in _open(served)))
    served.application.draining = True
    connection.writer.write(
        WHOLE[came:]
    )  # at once, and the server's loop has no turn before it is told to stop
    for each in _open(served):
        each.shutdown()
    reply = await connection.read()
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert await connection.closed()


async def test_what_arrives_as_patience_ends_is_answered(served: Served) -> None:
    connection = await served.connect()
    await eventually(lambda: _open(served))
    connection.writer.write(WHOLE)
    for each in _open(served):
        each.timeout_keep_alive_handler()
    assert (await connection.read()).status == 200


async def test_an_idle_connection_is_closed_as_the_server_stops(served: Served) -> None:
    connection = await served.connect()
    await connection.ask(body=BODY)
    for each in _open(served):
        each.shutdown()
    assert await connection.closed()


def _open(served: Served) -> list[HeadTimeoutProtocol]:
    """The connections that the server has."""
    return cast("list[HeadTimeoutProtocol]", list(served.listener.server_state.connections))
