"""Slow, broken and hostile clients, and connections that idle."""

import asyncio
import socket
import ssl
from typing import Final

import pytest

from admission.mutation.outcome import Verdict
from admission.server.connection_table import Connection as PlacedConnection
from admission.server.connection_table import ConnectionLimits, ConnectionTable
from admission.server.http_protocol import (
    FIRST_REQUEST_SECONDS,
    HEAD_SECONDS,
    HeadTimeoutProtocol,
)
from admission.server.listener import KEEP_ALIVE, AddressError, address_of, bind
from admission.wire import Answer
from tests.admission_server.conftest import Connection, Served, serving
from tests.kube.clocks import eventually


async def test_idle_connections_outlive_the_api_servers(served: Served) -> None:
    # kube-apiserver closes idle connections to webhooks after 90 s; it has to be the one who does.
    assert KEEP_ALIVE > 90
    connection = await served.connect()
    await connection.ask()
    (protocol,) = served.listener.server_state.connections
    assert isinstance(protocol, HeadTimeoutProtocol)
    assert protocol._alarm is None
    protocol.timeout_keep_alive_handler()  # of the first request, which has come
    timer = protocol.timeout_keep_alive_task
    assert timer is not None
    assert timer.when() - asyncio.get_running_loop().time() > 80


HEAD = b"POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize("error", [None, ConnectionResetError()])
async def test_nothing_is_kept_of_a_connection_that_is_gone(served: Served, error: Exception | None) -> None:
    await served.connect()
    await eventually(lambda: served.listener.server_state.connections)
    (protocol,) = served.listener.server_state.connections
    assert isinstance(protocol, HeadTimeoutProtocol)
    timer = protocol.timeout_keep_alive_task
    assert timer is not None
    protocol.connection_lost(error)
    assert timer.cancelled()


@pytest.mark.parametrize("said", [b"", b"\r\n", b"P"], ids=["nothing", "an empty line", "a letter"])
async def test_a_connection_that_never_asks_is_closed(
    served: Served, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    assert FIRST_REQUEST_SECONDS + HEAD_SECONDS < KEEP_ALIVE
    monkeypatch.setattr(HeadTimeoutProtocol, "first_request_seconds", 0.05)
    monkeypatch.setattr(HeadTimeoutProtocol, "head_seconds", 0.05)
    connection = await served.connect()
    await connection.send(said)
    assert await connection.closed()


async def test_a_head_that_does_not_come_closes_the_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeadTimeoutProtocol, "head_seconds", 0.05)
    connection = await served.connect()
    await connection.send(b"POST /mutate HTTP/1.1\r\nhost:")
    assert await connection.closed()


async def test_the_second_head_has_a_deadline_too(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = await served.connect()
    assert (await connection.ask()).status == 200
    monkeypatch.setattr(HeadTimeoutProtocol, "head_seconds", 0.05)
    await connection.send(b"POST /mutate HTTP/1.1\r\nhost:")
    assert await connection.closed()


async def test_an_idle_connection_is_not_taken_for_a_slow_head(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeadTimeoutProtocol, "head_seconds", 0.05)
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


STRANGER, OTHER_STRANGER = "127.0.0.2", "127.0.0.3"
FEW = ConnectionLimits(total=20, per_address=12)


async def _answers(*connections: Connection) -> bool:
    return all([(await connection.ask()).status == 200 for connection in connections])


async def test_connections_that_never_asked_make_room_for_the_api_server() -> None:
    async with serving(connections=FEW) as served:
        api_server = [await served.connect() for _ in range(3)]
        assert await _answers(*api_server)
        for source in (STRANGER, OTHER_STRANGER):
            for _ in range(30):
                await served.connect(source)
        assert len(served.listener.connections) == FEW.total
        assert await _answers(*api_server)
        assert await _answers(*[await served.connect() for _ in range(3)])


async def test_connections_without_tls_make_room_too() -> None:
    async with serving(connections=FEW) as served:
        for source in (STRANGER, OTHER_STRANGER):
            for _ in range(30):
                await served.connect_plainly(source)
        assert await _answers(*[await served.connect() for _ in range(3)])


async def test_those_who_ask_once_and_then_hold_their_place_make_room() -> None:
    async with serving(connections=FEW) as served:
        api_server = [await served.connect() for _ in range(3)]
        assert await _answers(*api_server)
        for source in (STRANGER, OTHER_STRANGER):
            for _ in range(30):
                assert await _answers(await served.connect(source))
        assert len(served.listener.connections) == FEW.total
        assert await _answers(*api_server)
        assert await _answers(*[await served.connect() for _ in range(3)])


async def test_one_address_has_its_share_and_no_more() -> None:
    async with serving(connections=FEW) as served:
        strangers = [await served.connect(STRANGER) for _ in range(FEW.per_address)]
        another = await served.connect(STRANGER)
        assert await strangers[0].closed()
        assert await _answers(another, *strangers[1:])
        assert len(served.listener.connections) == FEW.per_address


async def test_a_request_under_way_is_never_cut_off_for_another() -> None:
    async with serving(connections=ConnectionLimits(total=2, per_address=2)) as served:
        under_way = [await served.connect() for _ in range(2)]
        for connection in under_way:
            await connection.send(HEAD + b"content-length: 2\r\n\r\n{")
        await eventually(lambda: len(served.application._intake) == len(under_way))
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await served.connect()
        for connection in under_way:
            await connection.send(b"}")
            assert (await connection.read()).status == 200
        assert await _answers(await served.connect())


async def test_nothing_is_left_of_connections_that_are_gone() -> None:
    async with serving(connections=FEW) as served:
        for connection in [await served.connect(), await served.connect_plainly()]:
            connection.close()
        await eventually(lambda: not len(served.listener.connections))
        assert not served.listener.connections._peers


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


_LONG: Final = Answer(b"x" * (8 << 20), Verdict.REWRITTEN, "Pod")
"""More than a kernel takes for somebody who does not read."""
_TAKES: Final = 1 << 16
"""Bytes that the kernel of such a client takes. Left to itself it takes more and more, and the server goes on."""
_ASKS: Final = 8
_ASKED: Final = HEAD + b"content-length: 2\r\n\r\n{}"


async def _deaf(served: Served, source: str) -> Connection:
    """A client that asks for more than a kernel takes, and reads no answer."""
    connection = await served.connect(source)
    connection.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _TAKES)
    for _ in range(_ASKS):
        connection.writer.write(_ASKED)
    return connection


async def test_those_who_read_no_answer_make_room_for_the_api_server() -> None:
    async with serving(lambda _: _LONG, connections=ConnectionLimits(total=4, per_address=2)) as served:
        for source in (STRANGER, OTHER_STRANGER) * 2:
            await _deaf(served, source)
        await eventually(lambda: [each._unread is not None for each in _protocols(served)] == [True] * 4)
        assert await _answers(*[await served.connect() for _ in range(2)])


def test_eighty_addresses_with_as_many_connections_push_no_api_server_out() -> None:
    gone: list[str] = []

    def asked(address: str) -> None:
        connection = PlacedConnection(address, lambda: gone.append(address))
        assert table.add(connection)
        table.answered_at_once(connection)

    table, kept = ConnectionTable(), 25
    strangers = [f"10.0.0.{number}" for number in range(ConnectionLimits().total // kept)]
    for address in ("api", *strangers[1:]):
        for _ in range(kept):
            asked(address)
    assert (len(table), gone) == (ConnectionLimits().total, [])
    for address in strangers:
        asked(address)
    assert "api" not in gone
    assert len(gone) == len(strangers)


def test_of_requests_under_way_those_whose_client_does_not_read_go_first() -> None:
    closed: list[str] = []

    def connected(address: str, name: str) -> PlacedConnection:
        return PlacedConnection(address, lambda: closed.append(name))

    table = ConnectionTable(ConnectionLimits(total=4, per_address=3))
    places = [
        connected(STRANGER, "a"),
        connected(STRANGER, "b"),
        connected(STRANGER, "c"),
        connected("api", "d"),
    ]
    for each in places:
        assert table.add(each)
        table.head_received(each)
    assert not table.add(connected("api", "e"))
    for each in places[:2]:
        table.stall(each)
        table.answered(each)
        table.head_received(each)  # that it asks again makes no difference
    table.flow(places[0], idle=False)
    assert table.add(connected("api", "f"))
    assert closed == ["b"]
    table.flow(places[1], idle=True)  # it is gone
    assert len(table) == 4


def _protocols(served: Served) -> list[HeadTimeoutProtocol]:
    return [
        each for each in served.listener.server_state.connections if isinstance(each, HeadTimeoutProtocol)
    ]


async def test_an_answer_that_nobody_reads_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HeadTimeoutProtocol, "answer_seconds", 0.05)
    async with serving(lambda _: _LONG) as served:
        await _deaf(served, STRANGER)
        await eventually(lambda: any(each._unread for each in _protocols(served)))
        await eventually(lambda: not len(served.listener.connections))


async def test_an_answer_that_is_read_late_arrives_whole() -> None:
    async with serving(lambda _: _LONG) as served:
        late = await _deaf(served, STRANGER)
        await eventually(lambda: any(each._unread for each in _protocols(served)))
        assert [len((await late.read()).body) for _ in range(_ASKS)] == [8 << 20] * _ASKS
        (protocol,) = _protocols(served)
        assert protocol._unread is None
