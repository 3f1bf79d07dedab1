"""Slow, broken and hostile clients, and connections that idle."""

import asyncio

import pytest

from admission.server.connections import Guarded, Joined
from admission.server.listening import KEEP_ALIVE, AddressError, address_of, bind
from tests.admission_server.conftest import Served
from tests.kube.clocks import eventually, rounds


@pytest.mark.parametrize("used", [True, False])
async def test_idle_connections_outlive_the_api_servers(served: Served, *, used: bool) -> None:
    # kube-apiserver closes idle connections to webhooks after 90 s; it has to be the one who does.
    assert KEEP_ALIVE > 90
    connection = await served.connect()
    if used:
        await connection.ask()
    await eventually(lambda: served.listener.server_state.connections)
    (protocol,) = served.listener.server_state.connections
    assert isinstance(protocol, Guarded)
    assert protocol._alarm is None
    timer = protocol.timeout_keep_alive_task
    assert timer is not None
    assert timer.when() - asyncio.get_running_loop().time() > 80


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
async def test_nothing_is_kept_of_a_connection_that_is_gone(served: Served, error: Exception | None) -> None:
    await served.connect()
    await eventually(lambda: served.listener.server_state.connections)
    (protocol,) = served.listener.server_state.connections
    assert isinstance(protocol, Guarded)
    timer = protocol.timeout_keep_alive_task
    assert timer is not None
    protocol.connection_lost(error)
    assert timer.cancelled()


async def test_a_connection_on_which_nothing_ever_comes_is_closed_in_the_end(served: Served) -> None:
    served.listener.config.timeout_keep_alive = 0
    assert await (await served.connect()).closed()


async def test_a_head_that_does_not_come_closes_the_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guarded, "head_seconds", 0.05)
    connection = await served.connect()
    await connection.send(b"POST /mutate HTTP/1.1\r\nhost:")
    assert await connection.closed()


async def test_the_second_head_has_a_deadline_too(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = await served.connect()
    assert (await connection.ask()).status == 200
    monkeypatch.setattr(Guarded, "head_seconds", 0.05)
    await connection.send(b"POST /mutate HTTP/1.1\r\nhost:")
    assert await connection.closed()


async def test_an_idle_connection_is_not_taken_for_a_slow_head(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guarded, "head_seconds", 0.05)
    connection = await served.connect()
    assert (await connection.ask()).status == 200
    await asyncio.sleep(0.2)
    assert (await connection.ask()).status == 200


async def test_a_head_without_end_closes_the_connection(served: Served) -> None:
    connection = await served.connect()
    await connection.send(b"POST /mutate HTTP/1.1\r\nx: ")
    await connection.send(b"x" * 200_000)
    assert await connection.closed()
    assert (await (await served.connect()).ask()).status == 200


async def test_connections_beyond_the_limit_are_closed_at_once(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guarded, "most", 2)
    first, second = await served.connect(), await served.connect()
    third = await served.connect()
    assert await third.closed()
    assert (await first.ask()).status == (await second.ask()).status == 200


class Closed(asyncio.Transport):
    """As uvloop has it: whoever writes to it is told that it is closed."""

    def is_closing(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        raise RuntimeError(f"{bytes(data)!r}: the handler is closed")


async def test_an_answer_to_a_client_that_left_within_the_turn_is_dropped() -> None:
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    Joined(Closed(), loop).write(b"an answer")
    await rounds()
    assert not complaints


@pytest.mark.parametrize(
    "garbage", [b"\x00" * 100, b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"POST / HTTP/9.9\r\n\r\n"]
)
async def test_garbage_is_answered_or_dropped_and_the_rest_served(served: Served, garbage: bytes) -> None:
    for connection in (await served.connect(), await served.connect_plainly()):
        await connection.send(garbage)
        connection.writer.write_eof() if connection.writer.can_write_eof() else connection.close()
    assert (await (await served.connect()).ask()).status == 200


@pytest.mark.parametrize("address", ["9443", "localhost:", "localhost:http", "0.0.0.0:99999", "256.1.1.1:1"])
def test_an_address_that_cannot_be_listened_on_is_named(address: str) -> None:
    with pytest.raises(AddressError, match=address):
        bind(address)


def test_a_taken_port_is_named() -> None:
    with bind("127.0.0.1:0") as taken, pytest.raises(AddressError, match="in use"):
        bind(address_of(taken))
