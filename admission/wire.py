"""AdmissionReview v1 as bytes: the requests that API servers send, and the answers that they take.

The answer echoes the uid, and carries patch and patchType together or not at all (apiserver,
`webhook/request/admissionreview.go`, VerifyAdmissionResponse): anything else counts as a call that failed, and so
does every HTTP status but 200. Under `failurePolicy: Ignore` a failed call means yes.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from admission.mutation.difference import Operation
from admission.mutation.outcome import Verdict
from admission.workloads.model import Owner

_REFUSAL_LIMIT: Final = 2_000
# API servers cut each warning at its 256th character where all of them, other webhooks' too, have more than 4096
# together (apiserver, pkg/endpoints/filters/warning.go). The fix stands last.
_WARNING_LIMIT: Final = 250
_WARNINGS: Final = 15
_WARNINGS_LIMIT: Final = 2_000
"""What warnings may have together before each is cut here, in its middle."""
_CUT: Final = " … "

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError)
"""What msgspec raises for what is no JSON, and for JSON of other types."""


class BadReview(ValueError):  # noqa: N818  it is the sender's mistake, and named for it
    """The body is no AdmissionReview v1 with a request; the server answers 400."""


class TooDeep(BadReview):
    """It is nested more deeply than can be read."""


class Kind(msgspec.Struct, frozen=True):
    """The group and kind of an object."""

    group: str = ""
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


class User(msgspec.Struct, frozen=True):
    """Who sent the object to the API server."""

    username: str = ""
    groups: list[str] = []


class Options(msgspec.Struct, frozen=True, rename="camel"):
    """How the object was sent (meta/v1, CreateOptions, UpdateOptions, PatchOptions)."""

    field_manager: str = ""
    """The program's own name for itself: `kubectl-client-side-apply`, `helm`."""


class Request(msgspec.Struct, frozen=True, rename="camel"):
    """What a review asks about. The objects are as they came: who needs them reads the fields that he needs."""

    uid: str
    kind: Kind = Kind()
    name: str = ""
    namespace: str = ""
    operation: str = ""
    user_info: User = User()
    dry_run: bool = False
    options: Options | None = None
    object: msgspec.Raw = msgspec.Raw(b"null")
    old_object: msgspec.Raw = msgspec.Raw(b"null")

    def __str__(self) -> str:
        """Names the object as people do."""
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind.kind or 'object'} {name}".rstrip("/ ")


class Notice(msgspec.Struct, frozen=True):
    """What the owner of a controller's object is to be told: the controller throws warnings away."""

    owner: Owner
    namespace: str
    outcome: Verdict
    warnings: list[str]


class Response(msgspec.Struct, frozen=True):
    """What becomes of the object."""

    outcome: Verdict
    refusal: str = ""
    """The sentence of a no; "" is a yes."""
    code: int = 403
    status_reason: str = "Forbidden"
    operations: list[Operation] = []
    warnings: list[str] = []
    policy: str = ""
    strategy: str = ""
    reason: str = ""
    """Why it is refused, in a word; "" when it is not."""
    deviation: str = ""
    """Why it is left as it was asked, or given other than it asked, in a word; "" when it is neither."""
    notice: Notice | None = None
    patch: bytes = b""
    """The operations as an answer has them, in base64 and quotes, where somebody has written them already."""


class Answer(msgspec.Struct, frozen=True):
    """The response's bytes, and what to count it under."""

    body: bytes
    outcome: Verdict
    kind: str
    policy: str = ""
    strategy: str = ""
    reason: str = ""
    deviation: str = ""
    notice: Notice | None = None


class _Review(msgspec.Struct, frozen=True, rename="camel"):
    request: Request
    api_version: str = ""


class _Status(msgspec.Struct, frozen=True):
    message: str
    code: int
    reason: str


class _Response(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    uid: str
    allowed: bool
    status: _Status | None = None
    patch: bytes | msgspec.Raw = b""
    """The operations as JSON, which msgspec writes in base64; or as it has written them."""
    patch_type: str = ""
    warnings: list[str] = []


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    response: _Response
    api_version: str = "admission.k8s.io/v1"
    kind: str = "AdmissionReview"


_OBJECT: Final = b',"object":'
_NO_OLD: Final = b',"oldObject":null'
_STAND_IN: Final = b"0"
_SMALL: Final = 4 * 1024
"""Bytes of a review that is read as a whole as fast."""
_NEAR: Final = 8 * 1024
"""Bytes at either end of a review within which all stands that is not the object."""
_decode = msgspec.json.Decoder(_Review).decode
_encode = msgspec.json.Encoder().encode


def _review(body: bytes) -> _Review:
    """Reads a review, of whose object no byte is looked at here where it can be told where it begins and ends.

    It is whoever reads the object who finds out whether it is JSON. What is around it is, with a number in its place,
    and is a request with that number for its object: so in the whole, what was taken out is the object.
    """
    if len(body) < _SMALL:
        return _decode(body)
    begin = body.find(_OBJECT, 0, _NEAR) + len(_OBJECT)
    end = body.rfind(_NO_OLD, max(begin, len(body) - _NEAR))
    if begin >= len(_OBJECT) and end > 0:
        try:
            around = _decode(b"%b%b%b" % (body[:begin], _STAND_IN, body[end:]))
        except (*UNREADABLE, RecursionError):
            return _decode(body)
        if bytes(around.request.object) == _STAND_IN:
            request = msgspec.structs.replace(around.request, object=msgspec.Raw(body[begin:end]))
            return _Review(request, around.api_version)
    return _decode(body)


def answer(body: bytes, handler: Callable[[Request], Response]) -> Answer:
    """Answers one review.

    Raises:
        BadReview: the body is no AdmissionReview v1 with a request, or its object cannot be read.
    """
    try:
        review = _review(body)
        if review.api_version != "admission.k8s.io/v1":
            raise BadReview(f"apiVersion {review.api_version[:64]!r} is not served; send admission.k8s.io/v1")
        request = review.request
        response = handler(request)
    except RecursionError:
        raise TooDeep("the review is nested too deeply") from None
    except UNREADABLE as error:
        raise BadReview(f"the body is no AdmissionReview that can be read: {error}") from None
    return Answer(
        encode(request.uid, response),
        response.outcome,
        str(request.kind),
        response.policy,
        response.strategy,
        response.reason,
        response.deviation,
        None if request.dry_run else response.notice,
    )


def encode(uid: str, response: Response) -> bytes:
    """Writes the answer to the review of this uid."""
    refusal, operations = (
        response.refusal and shortened(response.refusal, _REFUSAL_LIMIT),
        response.operations,
    )
    patch = msgspec.Raw(response.patch) if response.patch else _encode(operations) if operations else b""
    return _encode(
        _Answer(
            _Response(
                uid,
                not refusal,
                _Status(refusal, response.code, response.status_reason) if refusal else None,
                patch,
                "JSONPatch" if patch else "",
                bounded(response.warnings) if response.warnings else [],
            )
        )
    )


_AFTER_NAMES: Final = b',"userInfo":'


def request_of_head(head: bytes) -> Request | None:
    """Reads the beginning of a review, without its objects; None when no API server wrote it.

    Go writes the fields in the order of its struct (k8s.io/api/admission/v1): the names of the object, then userInfo,
    then what people wrote. Quotes within names are escaped, so nobody can bring this end forward.
    """
    names, found, _ = head.partition(_AFTER_NAMES)
    try:
        return msgspec.json.decode(names + b"}}", type=_Review).request if found else None
    except (*UNREADABLE, RecursionError):
        return None


def too_large(request: Request, why: str) -> bytes:
    """Writes a no to what is too large or too deep to be read."""
    response = Response(Verdict.REFUSED, f"{request}: {why}", code=413, status_reason="RequestEntityTooLarge")
    return encode(request.uid, response)


def bounded(warnings: list[str]) -> list[str]:
    """Cuts warnings to what API servers pass on, as far as that is ours to do."""
    shown = warnings[:_WARNINGS]
    if sum(map(len, shown)) > _WARNINGS_LIMIT:
        shown = [shortened(warning, _WARNING_LIMIT) for warning in shown]
    more = len(warnings) - len(shown)
    return [*shown, f"… and {more} more"] if more else shown


def shortened(sentence: str, limit: int) -> str:
    """Cuts what is too long to be read in its middle: what it is about stands first, and the fix last."""
    if len(sentence) <= limit:
        return sentence
    half = (limit - len(_CUT)) // 2
    return f"{sentence[:half]}{_CUT}{sentence[-half:]}"
