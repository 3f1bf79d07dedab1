"""HTTP over a pool of connections: one exchange, or one stream of lines. No retries, no judgement.

Every failure leaves as an error of `slicewise.kube.errors`. TCP keepalive finds peers that vanished; idle
connections are dropped well before the API server's 90 s, so that a write never meets one that is closing.
"""

import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import aiohttp
import msgspec
from multidict import CIMultiDict
from yarl import URL

from slicewise.kube.clock import REAL, Timing
from slicewise.kube.config import Access
from slicewise.kube.errors import TooLargeError, UnreachableError, error_from

T = TypeVar("T")

CONNECT_TIMEOUT = 10.0
IDLE = 30.0
CHUNK = 64 * 1024
LARGEST_BODY = 128 * 1024 * 1024
LARGEST_LINE = 32 * 1024 * 1024
LARGEST_ERROR = 64 * 1024
KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}

Query = Mapping[str, str]
# Failures that happen before the first byte of a request is written.
NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer, below 300."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def decode(self, kind: type[T]) -> T:
        return msgspec.json.decode(self.body, type=kind)


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask for; where and as whom is the `Access`'s business."""

    method: str
    path: str
    query: Query | None = None
    body: bytes | None = None
    headers: Mapping[str, str] | None = None


class Transport:
    """The connection pool. Made inside a running loop; closed once."""

    def __init__(self, user_agent: str, timing: Timing = REAL) -> None:
        self._user_agent = user_agent
        self._timing = timing
        self._session: aiohttp.ClientSession | None = None
        self._date = ""
        self._server_ahead: float | None = None

    async def close(self) -> None:
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def server_time(self) -> float | None:
        """POSIX seconds by the API server's clock, from the `Date` of its last answer, to a second.

        None before the first answer with a date that can be read.
        """
        return None if self._server_ahead is None else self._timing.now() + self._server_ahead

    def _dated(self, date: str) -> None:
        """Notes the `Date` of an answer the first time that it comes, which is when its second is youngest."""
        if date == self._date:
            return
        self._date = date
        with suppress(ValueError):
            self._server_ahead = parsedate_to_datetime(date).timestamp() - self._timing.now()

    async def exchange(
        self, access: Access, request: Request, limit: float, largest: int = LARGEST_BODY
    ) -> Response:
        """Send, and read the whole answer. Raises `ApiError` from 300 on."""
        limits = aiohttp.ClientTimeout(total=limit, sock_connect=CONNECT_TIMEOUT)
        async with self._open(access, request, limits) as answer:
            body = await _read(answer, largest)
            return Response(answer.status, answer.headers, body)

    @asynccontextmanager
    async def lines(
        self, access: Access, request: Request, inactivity: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The answer's lines as they come. Silence for `inactivity` seconds raises TimeoutError.

        An end in the middle of a line is no end: UnreachableError.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=inactivity)
        async with self._open(access, request, limits) as answer, aclosing(_lines(answer)) as lines:
            yield lines

    @asynccontextmanager
    async def _open(
        self, access: Access, request: Request, limits: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._request(access, request, limits) as answer:
                self._dated(answer.headers.get("Date", ""))
                if answer.status >= 300:
                    body = await _read(answer, LARGEST_ERROR, cut=True)
                    raise error_from(answer.status, body, answer.headers.get("Retry-After"))
                yield answer
        except aiohttp.SocketTimeoutError as error:
            raise TimeoutError("the API server fell silent") from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise _unreachable(error, access.host) from error

    def _request(
        self, access: Access, request: Request, limits: aiohttp.ClientTimeout
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = CIMultiDict({"Accept": "application/json", **(request.headers or {})})
        headers.extend(access.impersonation)
        if access.authorization:
            headers["Authorization"] = access.authorization
        url = URL(access.host + request.path, encoded=True)
        return self._pool().request(
            request.method,
            url.update_query(request.query) if request.query else url,
            data=request.body,
            headers=headers,
            timeout=limits,
            ssl=access.tls or True,
            server_hostname=access.server_name if access.tls else None,
            proxy=access.proxy,
            allow_redirects=False,
        )

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE, socket_factory=_socket),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": self._user_agent, "Accept-Encoding": "gzip"},
                read_bufsize=CHUNK,
                middlewares=(_only_once,),
            )
        return self._session


def _socket(address: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol = address[:3]
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


async def _read(answer: aiohttp.ClientResponse, largest: int, *, cut: bool = False) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_chunked(CHUNK):
        body += chunk
        if len(body) > largest:
            if cut:
                break
            raise TooLargeError(f"the answer to {answer.method} {answer.url.path} exceeds {largest} bytes")
    return bytes(body)


async def _lines(answer: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    started: list[bytes] = []
    size = 0
    async for chunk in answer.content.iter_any():
        *complete, rest = chunk.split(b"\n")
        for part in complete:
            line = b"".join([*started, part])
            started.clear()
            size = 0
            if line.strip():
                yield line
        if rest:
            started.append(rest)
            size += len(rest)
        if size > LARGEST_LINE:
            raise TooLargeError(f"one line of {answer.url.path} exceeds {LARGEST_LINE} bytes")
    if size:
        raise UnreachableError(f"{answer.url.path} ended in the middle of a line", sent=True)


async def _only_once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Hide lost connections from the library, which would send a PUT or DELETE again, past every fence."""
    try:
        return await send(request)
    except aiohttp.SocketTimeoutError:
        raise
    except (aiohttp.ClientConnectionError, ConnectionError) as error:
        raise _unreachable(error, str(request.url.origin())) from error


def _unreachable(error: Exception, host: str) -> UnreachableError:
    # The library's own words hold the address of an object in memory.
    cause = error.os_error.strerror if isinstance(error, aiohttp.ClientConnectorError) else error
    return UnreachableError(
        f"{host}: {cause or error or type(error).__name__}", sent=not isinstance(error, NEVER_SENT)
    )
