"""Damaged reviews over HTTPS, to the application as it is served: what strangers see, and how much is read."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from random import Random

import pytest

from admission.mutating import answer
from admission.server.intake import Limits
from tests.admission_server.conftest import Connection, Served, serving
from tests.fuzz import corpus, damage
from tests.fuzz.__main__ import made
from tests.fuzz.properties import verified

MEBIBYTE = 1024 * 1024
HEAD = "POST /mutate HTTP/1.1\r\nhost: hook\r\ncontent-type: application/json\r\n"


@pytest.fixture
async def webhook() -> AsyncIterator[Served]:
    async with serving(partial(answer, state=corpus.cluster())) as one:
        yield one


async def test_damaged_reviews_are_answered_or_said_to_be_bad(webhook: Served) -> None:
    connection = await webhook.connect()
    for number in range(300):
        reply = await connection.ask(body=made(2, number))
        assert reply.status in {200, 400}, reply
        assert b"Traceback" not in reply.body
        assert b'File "' not in reply.body
        if reply.status == 200:
            verified(json.loads(reply.body), None)
        else:
            assert reply.body.count(b"\n") == 1


async def test_damaged_requests_do_not_disturb_the_others(webhook: Served) -> None:
    rng = Random(3)  # noqa: S311  nothing here is secret
    other = await webhook.connect()
    for number in range(100):
        body = made(4, number)
        head = HEAD + f"content-length: {len(body)}"
        connection = await webhook.connect()
        await connection.send(damage.torn(rng, head.encode() + b"\r\n\r\n") + body)
        said = await _heard(connection)
        assert b"Traceback" not in said
        assert b" 500 " not in said.partition(b"\r\n")[0]
        connection.close()
        assert (await other.ask(body=made(5, 0))).status in {200, 400}


async def _heard(connection: Connection) -> bytes:
    """What comes back within a moment; nothing where the server still waits for more."""
    try:
        return await asyncio.wait_for(connection.reader.read(65536), 0.05)
    except (TimeoutError, ConnectionError):
        return b""


async def test_no_more_than_an_api_server_sends_is_read_of_a_body_without_a_length(webhook: Served) -> None:
    connection = await webhook.connect()
    head = HEAD + "transfer-encoding: chunked\r\n\r\n"
    await connection.send(head.encode())
    answered = asyncio.create_task(connection.read())
    chunk = b"%x\r\n" % MEBIBYTE + b" " * MEBIBYTE + b"\r\n"
    sent = 0
    try:
        while not answered.done() and sent < 160:
            await asyncio.wait_for(connection.send(chunk), 5)
            sent += 1
    except (TimeoutError, ConnectionError):
        pass
    assert (await answered).status == 413
    # The limit, and what the systems' socket buffers on both ends take by themselves.
    assert Limits().largest_body / MEBIBYTE <= sent < Limits().largest_body / MEBIBYTE + 32


async def test_an_answer_comes_in_one_piece(webhook: Served) -> None:
    connection = await webhook.connect()
    body = json.dumps(corpus.enveloped(json.loads(corpus.objects()[0]), "team")).encode()
    head = HEAD + f"content-length: {len(body)}\r\n\r\n"
    await connection.send(head.encode() + body)
    first = await connection.reader.read(65536)
    assert first.startswith(b"HTTP/1.1 200 ")
    assert first.endswith(b"}")
