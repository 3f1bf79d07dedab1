"""Who may read what a server tells of the cluster: the API server is asked, and its answers are kept for a moment.

A bearer token is reviewed by TokenReview, and whoever it belongs to by SubjectAccessReview: rules of RBAC say with
`nonResourceURLs` who may `get` or `post` which path. An answer that is kept is no older than `KEPT` seconds.

Failure mode: while the API server does not answer, nobody is let in (503).
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from slicewise.kube.client import Client
from slicewise.kube.errors import KubeError

KEPT: Final = 30.0
_MOST_KEPT: Final = 1024
_MOST_ASKED: Final = 8
"""Reviews at once."""
_LONGEST: Final = 16 * 1024
_TOKENS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class _Token(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()


class _TokenReview(msgspec.Struct, frozen=True):
    status: _Token = _Token()


class _Access(msgspec.Struct, frozen=True):
    allowed: bool = False


class _AccessReview(msgspec.Struct, frozen=True):
    status: _Access = _Access()


class Gate:
    """Lets those through whom the cluster lets.

    Args:
        client: asks the API server; it needs `create` on TokenReviews and SubjectAccessReviews.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kept: dict[tuple[bytes, str, str], tuple[float, tuple[int, str]]] = {}
        self._asking = asyncio.Semaphore(_MOST_ASKED)

    async def verdict(self, token: str, method: str, path: str) -> tuple[int, str]:
        """Returns 200, or the status to answer and a sentence why."""
        if not token or len(token) > _LONGEST:
            return 401, "no bearer token was sent; send one of the cluster, as kubectl create token prints it"
        key = (hashlib.sha256(token.encode()).digest(), method, path)
        now = self._client.timing.now()
        at, answer = self._kept.get(key, (now - KEPT, (0, "")))
        if now - at < KEPT:
            return answer
        try:
            async with self._asking:
                answer = await self._ask(token, method, path)
        except KubeError as error:
            return 503, f"who you are cannot be asked of the API server: {error}; try again in a moment"
        self._kept.pop(key, None)
        while len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = now, answer
        return answer

    async def _ask(self, token: str, method: str, path: str) -> tuple[int, str]:
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token},
        }
        found = (await self._client.create(_TOKENS, body)).decode(_TokenReview).status
        if not found.authenticated:
            return 401, "the cluster does not know this token; send a new one"
        user, verb = found.user, method.lower()
        spec = {
            "user": user.username,
            "uid": user.uid,
            "groups": user.groups,
            "extra": user.extra,
            "nonResourceAttributes": {"path": path, "verb": verb},
        }
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        if (await self._client.create(_ACCESS, body)).decode(_AccessReview).status.allowed:
            return 200, ""
        return 403, (
            f"{user.username} may not {verb} {path}; bind it to a ClusterRole with nonResourceURLs: [{path}]"
        )


def guarded(app: App, gate: Gate, paths: frozenset[str]) -> App:
    """Returns the application with these paths behind a gate."""

    async def serve(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path = str(scope["path"])
        if path in paths:
            sent = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            kind, _, token = sent.partition(" ")
            method = "GET" if scope["method"] == "HEAD" else str(scope["method"])
            status, sentence = await gate.verdict(
                token.strip() if kind.lower() == "bearer" else "", method, path
            )
            if status != 200:
                await _refuse(send, status, sentence)
                return
        await app(scope, receive, send)

    return serve


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = f"{sentence}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
