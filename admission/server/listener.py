"""Sockets, and uvicorn on them: one event loop, no signals taken, nothing logged per request.

Connections are accepted here and not by the loop's own server, which knows a connection only once TLS is agreed on,
and so could neither count those that never get that far nor tell whose they are.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Coroutine, Generator
from typing import Any, Final

import uvicorn

from admission.server.app import App, Application
from admission.server.connection_table import Connection, ConnectionTable
from admission.server.fast_path import FastPathProtocol
from admission.server.http_protocol import HeadTimeoutProtocol

logger = logging.getLogger(__name__)

# API servers keep idle connections for 90 s and do not repeat a POST, so whoever closes first loses calls.
KEEP_ALIVE: Final = 120
HANDSHAKE_SECONDS: Final = 10.0
GOODBYE_SECONDS: Final = 2.0
STOP_SECONDS: Final = 5
BACKLOG: Final = 2048
PAUSE_SECONDS: Final = 0.2


class AddressError(ValueError):
    """An address that cannot be listened on; the sentence says why."""


def bind(address: str) -> socket.socket:
    """Binds HOST:PORT; port 0 picks a free one.

    Raises:
        AddressError: the text is no address, or the system refuses it.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise AddressError(f"{address!r} is no address to listen on; write HOST:PORT, such as 0.0.0.0:9443")
    host = host.removeprefix("[").removesuffix("]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol spelt out: asyncio sets TCP_NODELAY only on sockets that say they are TCP, and without it
    # every answer waits 40 ms for an acknowledgement (Kludex/uvicorn#3149).
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, int(port)))
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        raise AddressError(f"cannot listen on {address}: {error.strerror or error}") from None
    return bound


def address_of(bound: socket.socket) -> str:
    """Returns the address as HOST:PORT."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Listener(uvicorn.Server):
    """One application on one socket, until `should_exit`."""

    def __init__(
        self,
        app: App,
        bound: socket.socket,
        tls: ssl.SSLContext | None = None,
        connections: ConnectionTable | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=HeadTimeoutProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                # Whatever strangers send would be a warning each.
                log_level="error",
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=STOP_SECONDS,
                backlog=BACKLOG,
            )
        )
        self.servers: list[asyncio.base_events.Server] = []  # uvicorn's own, of which there are none
        self.connections = ConnectionTable() if connections is None else connections
        self._app = app
        self._bound = bound
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    async def run_until_stopped(self) -> None:
        """Serves; returns once `should_exit` was set and what was under way is done."""
        try:
            await self.serve(sockets=[self._bound])
        finally:
            await self._stop_accepting()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        for bound in sockets or ():
            bound.setblocking(False)
            self._start(self._accept(bound))
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._stop_accepting()
        await super().shutdown(sockets)

    async def _stop_accepting(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self, bound: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(bound)
            except OSError as error:
                if (
                    error.errno != errno.ECONNABORTED
                ):  # no file descriptors or no memory: some will be free again
                    logger.warning("no connection can be accepted", extra={"error": str(error)})
                    await asyncio.sleep(PAUSE_SECONDS)
                continue
            connection = Connection(address[0], accepted.close)
            if self.connections.add(connection):
                connection.close = self._start(self._open(connection, accepted)).cancel
            else:
                accepted.close()
            await asyncio.sleep(0)  # others have their turn, and what was started has begun

    async def _open(self, connection: Connection, accepted: socket.socket) -> None:
        """Agrees on TLS, and leaves the connection to its protocol. What fails here is the client's affair."""
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._protocol(connection),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if self._tls else None,
                ssl_shutdown_timeout=GOODBYE_SECONDS if self._tls else None,
            )
        except OSError:
            self.connections.remove(connection)
        except asyncio.CancelledError:
            self.connections.remove(connection)
            raise

    def _protocol(self, connection: Connection) -> HeadTimeoutProtocol:
        made: dict[str, Any] = {
            "connection": connection,
            "table": self.connections,
            "config": self.config,
            "server_state": self.server_state,
            "app_state": {},
        }
        return (
            FastPathProtocol(self._app, **made)
            if isinstance(self._app, Application)
            else HeadTimeoutProtocol(**made)
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # The process's owner drains first; uvicorn's own handler would close idle connections at once.
        yield
