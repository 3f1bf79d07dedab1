"""AdmissionReview v1 in and out: bytes to bytes, with the judgement between.

Own failures are exceptions (the server answers 5xx and the failure policy applies); `allowed: false` is said
only for a refusal that is meant. The answer echoes the uid, and carries patch and patchType together or not
at all (apiserver, `webhook/request/admissionreview.go`, VerifyAdmissionResponse).
"""

import binascii
from typing import Final

import msgspec

from admission.judgement import workloads
from admission.judgement.authors import Author
from admission.judgement.decisions import Refusal
from admission.judgement.outcomes import Verdict
from admission.judgement.world import World
from admission.kinds.templates import Templates

_TEMPLATES: Final = Templates()
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError)
_WARNING_LIMIT: Final = 250  # the API server may cut warnings longer than 256 characters
_WARNINGS: Final = 15  # ... and those beyond 4096 characters together


class BadReview(ValueError):  # noqa: N818  it is the sender's mistake, and named for it
    """The body is no AdmissionReview v1 with a request; the server answers 400."""


class TooDeep(BadReview):
    """It is nested more deeply than can be read."""


class _Kind(msgspec.Struct, frozen=True):
    group: str = ""
    kind: str = ""


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    groups: list[str] = []


class _Request(msgspec.Struct, frozen=True, rename="camel"):
    uid: str
    kind: _Kind
    operation: str
    namespace: str = ""
    user_info: _User = _User()
    object: msgspec.Raw = msgspec.Raw(b"null")
    old_object: msgspec.Raw = msgspec.Raw(b"null")


class _Review(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    request: _Request


class _Status(msgspec.Struct, frozen=True):
    message: str
    code: int = 403
    reason: str = "Forbidden"


class _Response(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    uid: str
    allowed: bool
    status: _Status | None = None
    patch: str = ""
    patch_type: str = ""
    warnings: list[str] = []


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    response: _Response
    api_version: str = "admission.k8s.io/v1"
    kind: str = "AdmissionReview"


class Answer(msgspec.Struct, frozen=True):
    """The response's bytes, and what to count it under."""

    body: bytes
    outcome: Verdict
    kind: str
    policy: str = ""
    strategy: str = ""
    reason: str = ""
    """Why it is refused, in a word; "" when it is not."""


_decode = msgspec.json.Decoder(_Review).decode
_encode = msgspec.json.Encoder().encode


def answer(body: bytes, world: World, templates: Templates = _TEMPLATES) -> Answer:
    """Answers one mutating review.

    Raises:
        BadReview: the body is no AdmissionReview v1 with a request.
    """
    try:
        review = _decode(body)
    except RecursionError as error:
        raise TooDeep(f"the body is no AdmissionReview: {error}") from None
    except _UNREADABLE as error:
        raise BadReview(f"the body is no AdmissionReview: {error}") from None
    if review.api_version != "admission.k8s.io/v1":
        raise BadReview(f"apiVersion {review.api_version} is not served; send admission.k8s.io/v1")
    request = review.request
    kind = f"{request.kind.kind}.{request.kind.group}" if request.kind.group else request.kind.kind
    reader = templates.reader(request.kind.group, request.kind.kind)
    if reader is None or request.operation not in {"CREATE", "UPDATE"}:
        return Answer(_respond(_Response(request.uid, True)), Verdict.IGNORED, kind)
    try:
        outcome = workloads.judge(
            reader,
            bytes(request.object),
            bytes(request.old_object) if request.operation == "UPDATE" else None,
            request.namespace,
            world,
            Author(request.user_info.username, frozenset(request.user_info.groups)),
        )
    except RecursionError as error:
        raise TooDeep(f"the object of the review cannot be read: {error}") from None
    except _UNREADABLE as error:
        raise BadReview(f"the object of the review cannot be read: {error}") from None
    except Refusal as refusal:
        response = _Response(request.uid, False, _Status(str(refusal)))
        return Answer(_respond(response), Verdict.REFUSED, kind, reason=refusal.reason)
    response = _Response(
        request.uid,
        True,
        patch=binascii.b2a_base64(_encode(outcome.operations), newline=False).decode()
        if outcome.operations
        else "",
        patch_type="JSONPatch" if outcome.operations else "",
        warnings=_bounded(outcome.warnings),
    )
    return Answer(_respond(response), outcome.name, kind, outcome.policy, outcome.strategy)


def _respond(response: _Response) -> bytes:
    return _encode(_Answer(response))


def _bounded(warnings: list[str]) -> list[str]:
    shown = [_cut(warning) for warning in warnings[:_WARNINGS]]
    more = len(warnings) - len(shown)
    return [*shown, f"… and {more} more"] if more else shown


def _cut(warning: str) -> str:
    return warning if len(warning) <= _WARNING_LIMIT else warning[: _WARNING_LIMIT - 1] + "…"
