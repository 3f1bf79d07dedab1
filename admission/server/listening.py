"""Sockets, and uvicorn on them: one event loop, no signals taken, nothing logged per request."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Generator
from typing import Any, Final

import uvicorn

from admission.server.app import App
from admission.server.connections import Guarded

# API servers keep idle connections for 90 s and do not repeat a POST, so whoever closes first loses calls.
KEEP_ALIVE: Final = 120
HANDSHAKE_SECONDS: Final = 10.0
GOODBYE_SECONDS: Final = 2.0
STOP_SECONDS: Final = 5
BACKLOG: Final = 2048


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


class Joined(asyncio.Transport):
    """Sends what is written within one turn of the loop in one piece.

    uvicorn writes the head of an answer and its body apart, and each piece would cost a TLS record, a system call and
    a packet: together a seventh of all that an answer costs (docs/performance.md).
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._call_soon = loop.call_soon
        self._parts: list[bytes | bytearray | memoryview] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keeps the data until the turn is over."""
        if not self._parts:
            self._call_soon(self._flush)
        self._parts.append(data)

    def _flush(self) -> None:
        if self._parts:
            whole = b"".join(self._parts)
            self._parts.clear()
            self._transport.write(whole)

    def close(self) -> None:
        """Sends what is kept, then closes."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Closes at once."""
        self._parts.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns what the transport knows."""
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Has the client wait."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Lets the client go on."""
        self._transport.resume_reading()


class _Connection(Guarded):
    def connection_made(self, transport: Any) -> None:
        super().connection_made(Joined(transport, self.loop))


class Listener(uvicorn.Server):
    """One application on one socket, until `should_exit`."""

    def __init__(self, app: App, bound: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=Guarded,
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
        self.servers: list[asyncio.base_events.Server] = []
        self._bound = bound
        self._tls = tls

    async def run_until_stopped(self) -> None:
        """Serves; returns once `should_exit` was set and what was under way is done."""
        await self.serve(sockets=[self._bound])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # As uvicorn does it, with deadlines for TLS: a client that never says anything must not stay.
        for bound in sockets or ():
            server = await asyncio.get_running_loop().create_server(
                self._protocol,
                sock=bound,
                ssl=self._tls,
                backlog=BACKLOG,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if self._tls else None,
                ssl_shutdown_timeout=GOODBYE_SECONDS if self._tls else None,
            )
            self.servers.append(server)
        self.started = True

    def _protocol(self) -> Guarded:
        return _Connection(config=self.config, server_state=self.server_state, app_state={})

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # The process's owner drains first; uvicorn's own handler would close idle connections at once.
        yield
