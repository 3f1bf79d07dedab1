"""A listener of ours on loopback with real TLS, handlers that do as they are told, and a client that hides nothing."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from admission.mutation.outcome import Verdict
from admission.server.app import Application, Handler
from admission.server.connection_table import ConnectionLimits, ConnectionTable
from admission.server.intake import Limits
from admission.server.listener import Listener, bind
from admission.server.metrics import Metrics
from admission.server.operations import Readiness, operations
from admission.tls.reload import ReloadingContext
from admission.tls.x509 import Authority, make_authority, make_leaf
from admission.wire import Answer, Notice
from tests.kube.clocks import eventually

NAME = "hook.space.svc"
AUTHORITY = make_authority(datetime.now(UTC))


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Connection:
    """One connection, and what is sent on it byte for byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def read(self) -> Reply:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await self.reader.readexactly(int(headers["content-length"]))
        return Reply(int(first.split()[1]), headers, body)

    async def ask(
        self, path: str = "/mutate", body: bytes = b"{}", method: str = "POST", **headers: str
    ) -> Reply:
        given = {"host": "hook", "content-type": "application/json", "content-length": str(len(body))}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name.title()}: {value}\r\n" for name, value in given.items())
        await self.send(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body)
        return await self.read()

    async def closed(self) -> bool:
        """Whether the server ends the connection; waits for it to."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 60) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.transport.abort()


@dataclass
class Served:
    """A running listener with everything that a test may turn."""

    address: tuple[str, int]
    listener: Listener
    application: Application
    tls: ReloadingContext
    metrics: Metrics
    readiness: Readiness
    blocked: list[str] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)

    async def connect(self, source: str = "127.0.0.1", authority: Authority = AUTHORITY) -> Connection:
        """`source`: the address that the client has."""
        context = ssl.create_default_context(cadata=authority.certificate.pem)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return await self._opened(ssl=context, server_hostname=NAME, local_addr=(source, 0))

    async def connect_plainly(self, source: str = "127.0.0.1") -> Connection:
        """TCP and not a word of TLS."""
        return await self._opened(local_addr=(source, 0))

    async def _opened(self, **tls: Any) -> Connection:
        reader, writer = await asyncio.open_connection(*self.address, **tls)
        connection = Connection(reader, writer)
        self.connections.append(connection)
        return connection


def echo(body: bytes) -> Answer:
    return Answer(body, Verdict.REWRITTEN, "Pod", "default", "mig")


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@asynccontextmanager
async def serving(
    handler: Handler = echo,
    limits: Limits | None = None,
    connections: ConnectionLimits | None = None,
    notify: Callable[[Notice], None] | None = None,
) -> AsyncIterator[Served]:
    """Serves one handler on /mutate until the block ends."""
    blocked: list[str] = []
    metrics, readiness, tls = Metrics(), Readiness(), ReloadingContext()
    leaf = make_leaf(AUTHORITY, [NAME], datetime.now(UTC))
    tls.use(leaf.pem, leaf.key)
    application = Application(
        {"/mutate": handler},
        operations(readiness, metrics),
        blocked=lambda: blocked[0] if blocked else None,
        metrics=metrics,
        limits=limits,
        notify=notify,
    )
    with bind("127.0.0.1:0") as bound:
        listener = Listener(application, bound, tls.context, ConnectionTable(connections))
        served = Served(bound.getsockname(), listener, application, tls, metrics, readiness, blocked)
        task = asyncio.create_task(listener.run_until_stopped())
        try:
            yield served
        finally:
            for connection in served.connections:
                connection.close()
            # Not as it stops in earnest (test_serve.py has that), which waits a fifth of a second.
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await eventually(lambda: not listener.server_state.connections)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as one:
        yield one
