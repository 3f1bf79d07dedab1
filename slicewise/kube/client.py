"""The client: verbs on paths, with retries where they are safe and a gate before every write.

Reads are repeated on 429, 5xx and lost connections. Writes are repeated only where the server cannot have acted:
429, 503 with Retry-After, or a connection that never came about. A 401 has the credentials read again, once.

`before_write` is the fence of leader election: it is called right before each attempt at a write, raises when
leadership is lost, and may return for how many seconds a write may still be under way.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec

from slicewise import __version__
from slicewise.kube.clock import REAL, Backoff, Timing
from slicewise.kube.config import Access, Credentials, Kubeconfig, find_credentials
from slicewise.kube.errors import (
    ApiError,
    KubeError,
    TooManyRequestsError,
    UnauthorizedError,
    UnreachableError,
)
from slicewise.kube.transport import Query, Request, Response, Transport

READS = frozenset({"GET", "HEAD"})
ATTEMPTS = 5
LONGEST_WAIT = 60.0
TIMEOUT = 30.0

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"

Fence = Callable[[], float | None]
Body = Mapping[str, Any] | msgspec.Struct | bytes


class Client:
    """One API server, one identity, one pool of connections."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        component: str = "client",
        before_write: Fence | None = None,
        timing: Timing = REAL,
        transport: Transport | None = None,
    ) -> None:
        self._credentials = credentials
        self._transport = transport or Transport(user_agent(component), timing)
        self._before_write = before_write
        self.timing = timing

    @classmethod
    def from_kubeconfig(
        cls,
        kubeconfig: Kubeconfig | str | Path | None = None,
        *,
        component: str = "client",
        timing: Timing = REAL,
    ) -> Self:
        """From the file; else as kubectl finds one; else in-cluster. Raises ConfigError."""
        return cls(find_credentials(kubeconfig, timing), component=component, timing=timing)

    def fenced_by(self, before_write: Fence) -> "Client":
        """The same client and connections, with every write behind `before_write`."""
        return Client(
            self._credentials, before_write=before_write, timing=self.timing, transport=self._transport
        )

    def server_time(self) -> float | None:
        """POSIX seconds by the API server's clock; None before an answer that says."""
        return self._transport.server_time()

    def moment(self) -> datetime:
        """Now in UTC, by the API server's clock where it has said: who checks what we sign goes by it."""
        said = self.server_time()
        return self.timing.wall() if said is None else datetime.fromtimestamp(said, UTC)

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Body | None = None,
        content_type: str = JSON,
        timeout: float = TIMEOUT,  # noqa: ASYNC109 - each attempt's own, and retries come on top
        attempts: int = ATTEMPTS,
    ) -> Response:
        """One request, repeated up to `attempts` times where that is safe."""
        data = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        headers = {"Content-Type": content_type} if data is not None else None
        request = Request(method, path, query, data, headers)
        backoff = Backoff(0.2, 5.0, self.timing)
        while True:
            try:
                return await self._once(request, timeout)
            except (ApiError, UnreachableError) as error:
                wait = _again_after(method, error)
                if wait is None or backoff.failures + 1 >= attempts:
                    raise
                await self.timing.sleep(min(LONGEST_WAIT, wait + backoff.next()))

    async def _once(self, request: Request, limit: float) -> Response:
        access = await self._credentials.access()
        try:
            return await self._exchange(access, request, limit)
        except UnauthorizedError:
            return await self._exchange(await self._credentials.access(rejected=access), request, limit)

    async def _exchange(self, access: Access, request: Request, limit: float) -> Response:
        if self._before_write is not None and request.method not in READS:
            left = self._before_write()
            limit = limit if left is None else min(limit, left)
        try:
            return await self._transport.exchange(access, request, limit)
        except TimeoutError as error:
            sentence = f"no answer to {request.method} {request.path} in {limit:g} s"
            raise UnreachableError(sentence, sent=True) from error

    @asynccontextmanager
    async def lines(
        self, path: str, *, query: Query | None = None, inactivity: float = 70.0
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A streaming GET, line by line, never repeated. TimeoutError after `inactivity` seconds of silence."""
        request = Request("GET", path, query, headers={"Accept-Encoding": "identity"})
        access = await self._credentials.access()
        try:
            async with self._transport.lines(access, request, inactivity) as lines:
                yield lines
        except UnauthorizedError:
            await self._credentials.access(rejected=access)
            raise

    async def get(self, path: str, *, query: Query | None = None) -> Response:
        return await self.request("GET", path, query=query)

    async def create(self, path: str, body: Body, *, query: Query | None = None) -> Response:
        """POST to a collection. Raises AlreadyExistsError."""
        return await self.request("POST", path, query=query, body=body)

    async def replace(self, path: str, body: Body, *, query: Query | None = None) -> Response:
        """PUT. With `metadata.resourceVersion` in the body, ConflictError when somebody was faster."""
        return await self.request("PUT", path, query=query, body=body)

    async def merge_patch(self, path: str, patch: Body, *, query: Query | None = None) -> Response:
        """RFC 7396. With `metadata.resourceVersion` in the patch, ConflictError when somebody was faster."""
        return await self.request("PATCH", path, query=query, body=patch, content_type=MERGE_PATCH)

    async def apply(self, path: str, body: Body, *, field_manager: str, force: bool = False) -> Response:
        """Server-side apply: the body holds exactly the fields that `field_manager` owns.

        Without `force`, fields of other managers raise ConflictError.
        """
        query = {"fieldManager": field_manager, "force": "true" if force else "false"}
        return await self.request("PATCH", path, query=query, body=body, content_type=APPLY)

    async def delete(
        self, path: str, *, uid: str | None = None, resource_version: str | None = None
    ) -> Response:
        """Background deletion, on the condition that the object is still the one that was seen."""
        seen = {"uid": uid, "resourceVersion": resource_version}
        conditions = {name: value for name, value in seen.items() if value is not None}
        body: dict[str, Any] = {"propagationPolicy": "Background"}
        if conditions:
            body["preconditions"] = conditions
        return await self.request("DELETE", path, body=body)


def user_agent(component: str) -> str:
    """The part before the slash is also the default field manager."""
    return f"slicewise/{__version__} ({component})"


def _again_after(method: str, error: KubeError) -> float | None:
    """How long to wait, on top of the backoff, before the request may be repeated; None for never."""
    if isinstance(error, UnreachableError):
        return 0.0 if method in READS or not error.sent else None
    if not isinstance(error, ApiError):
        return None
    if isinstance(error, TooManyRequestsError):
        return error.retry_after or 0.0
    if error.status == 503 and error.retry_after is not None:
        return error.retry_after
    return (error.retry_after or 0.0) if method in READS and error.status >= 500 else None
