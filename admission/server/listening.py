"""Sockets, and uvicorn on them: one event loop, no signals taken, nothing logged per request."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Generator
from typing import Any, Final

import uvicorn

from admission.server.app import App, Application
from admission.server.connections import Guarded
from admission.server.express import Express

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
        self._app = app
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
        made: dict[str, Any] = {"config": self.config, "server_state": self.server_state, "app_state": {}}
        return Express(self._app, **made) if isinstance(self._app, Application) else Guarded(**made)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # The process's owner drains first; uvicorn's own handler would close idle connections at once.
        yield
