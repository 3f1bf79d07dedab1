"""`/healthz`, `/readyz` and `/metrics`, and the page where there is one.

Alive means that the event loop turns. Ready means that the watches follow the cluster, leader or not, so that a
standby is ready too. The reasons of a "no" are in the answer, one a line.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from queue_sync.page.site import DATA, LOOPBACK, PATH, App
from slicewise.kube.turns import by_and_by

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


def application(
    registry: CollectorRegistry, why_not_ready: Callable[[], str], page: App | None = None
) -> Any:
    """The ASGI application; `page` answers below its own path."""

    async def answer(path: str, accept: str) -> tuple[int, str, bytes]:
        plain = "text/plain; charset=utf-8"
        if path == "/healthz":
            return 200, plain, b"ok\n"
        if path == "/readyz":
            reason = why_not_ready()
            return (503, plain, f"{reason}\n".encode()) if reason else (200, plain, b"ok\n")
        if path == "/metrics":
            return 200, *await exposition(registry, accept)
        return 404, plain, b"there are /healthz, /readyz and /metrics\n"

    async def serve(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if page is not None and (scope["path"] == PATH or scope["path"].startswith(f"{PATH}/")):
            await page(scope, receive, send)
            return
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
        status, kind, body = (
            await answer(scope["path"], accept)
            if scope["method"] in {"GET", "HEAD"}
            else (405, "text/plain", b"")
        )
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body if scope["method"] == "GET" else b""})

    return serve


async def exposition(registry: CollectorRegistry, accept: str) -> tuple[str, bytes]:
    """Returns the numbers as they stand, and their content type first: OpenMetrics for those who ask for it, which is
    what Prometheus does, else the plain text.

    There may be some ten thousand. So they are read in steps, beside other long work, and a thread writes the text.
    """
    encode, content_type = choose_encoder(accept)
    families = [family async for family in by_and_by(registry.collect())]
    read = CollectorRegistry()
    read.register(_Read(families))
    return content_type, await asyncio.to_thread(encode, read)


class _Read(Collector):
    """Numbers that were read."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        """Returns them."""
        return self._families


def guarded_paths(address: str, *, page: bool, authenticate: bool) -> frozenset[str]:
    """Returns what is told of the cluster to those alone whom it lets read it.

    Probes, and the files of the page, are the same for everybody. Where others reach the address, the page's data are
    always among them.
    """
    found = {"/metrics"} if authenticate else set()
    if page and (authenticate or not is_loopback(address)):
        found |= {PATH + path for path in DATA}
    return frozenset(found)


def is_loopback(address: str) -> bool:
    """True for a HOST:PORT that this machine alone reaches."""
    return address.rpartition(":")[0] in LOOPBACK


def bind(address: str) -> socket.socket:
    """A listening socket for HOST:PORT; port 0 takes a free one.

    Raises:
        OSError: the address is taken, or not ours; the sentence says which.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family)
    except OSError as error:
        raise OSError(f"cannot listen on {address}: {error.strerror or error}") from None


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to the program, and serves until it is cancelled."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the program's."""
        yield
