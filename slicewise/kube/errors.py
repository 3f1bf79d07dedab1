"""What can go wrong between this process and the API server, as types.

An `ApiError` is an answer: the server was reached and said no. `Unreachable` is the lack of one, and says
whether the server may have acted on the request all the same. Bodies that are no `Status` object (a proxy's
HTML page) become an `ApiError` too, with the first line of their text as the message.
"""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

LONGEST_MESSAGE = 500


class KubeError(Exception):
    """Anything that this package raises on purpose."""


class ConfigError(KubeError):
    """There is no usable way to the cluster; the sentence says what is missing."""


class LeadershipLostError(KubeError):
    """A write was about to happen, or work was going on, without a valid lease."""


class TooLargeError(KubeError):
    """A response, or one line of a watch, is larger than anything an API server should send."""


class UnreachableError(KubeError):
    """No answer. `sent` tells whether the server may have received the request."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class ApiError(KubeError):
    """The API server's refusal."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after = retry_after


class UnauthorizedError(ApiError):
    """401: the credentials are missing, wrong or expired."""


class ForbiddenError(ApiError):
    """403: RBAC, or an admission plugin, says no."""


class NotFoundError(ApiError):
    """404: no such object, or no such kind."""


class ConflictError(ApiError):
    """409: the object changed since it was read, or another manager owns the field."""


class AlreadyExistsError(ConflictError):
    """409 on create: the name is taken."""


class GoneError(ApiError):
    """410: the resource version, or the continue token, is too old."""


class InvalidError(ApiError):
    """422: the object fails validation."""


class TooManyRequestsError(ApiError):
    """429: come back later."""


_BY_STATUS: Mapping[int, type[ApiError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidError,
    429: TooManyRequestsError,
}


class _Details(msgspec.Struct):
    retryAfterSeconds: float = 0.0  # noqa: N815 - the wire's name


class Status(msgspec.Struct):
    """The part of `metav1.Status` that matters."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: _Details | None = None


_STATUS = msgspec.json.Decoder(Status)


def error_from(status: int, body: bytes | msgspec.Raw, retry_after: str | None = None) -> ApiError:
    """The error for an HTTP status of 300 or more, or (status 0) for the object of an ERROR watch event."""
    wait = _seconds(retry_after)
    try:
        said = _STATUS.decode(body)
    except msgspec.MsgspecError:
        text = bytes(body).decode("utf-8", "replace").strip()
        said = Status(message=text.splitlines()[0][:LONGEST_MESSAGE] if text else "")
    code = status or said.code or 500
    if wait is None and said.details is not None and said.details.retryAfterSeconds > 0:
        wait = said.details.retryAfterSeconds
    reason = said.reason or _phrase(code)
    kind = _BY_STATUS.get(code, ApiError)
    if reason == "AlreadyExists":
        kind = AlreadyExistsError
    return kind(code, reason, said.message[:LONGEST_MESSAGE] or "no message", wait)


def _seconds(text: str | None) -> float | None:
    """Retry-After in seconds; API servers send no dates."""
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None


def _phrase(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return "Unknown"
