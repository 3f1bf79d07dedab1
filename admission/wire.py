"""AdmissionReview v1 as bytes: the requests that API servers send, and the answers that they take.

The answer echoes the uid, and carries patch and patchType together or not at all (apiserver,
`webhook/request/admissionreview.go`, VerifyAdmissionResponse): anything else counts as a call that failed, and so
does every HTTP status but 200. Under `failurePolicy: Ignore` a failed call means yes.
"""

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Kind(msgspec.Struct, frozen=True):
    """The group and kind of an object."""

    group: str = ""
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


class Request(msgspec.Struct, frozen=True):
    """What a review asks about."""

    uid: str
    kind: Kind = Kind()
    name: str = ""
    namespace: str = ""

    def __str__(self) -> str:
        """Names the object as people do."""
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return f"{self.kind.kind or 'object'} {name}".rstrip("/ ")


class _Review(msgspec.Struct, frozen=True):
    request: Request


class _Status(msgspec.Struct, frozen=True):
    message: str
    code: int
    reason: str


class _Response(msgspec.Struct, frozen=True):
    uid: str
    status: _Status
    allowed: bool = False


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    response: _Response
    api_version: str = "admission.k8s.io/v1"
    kind: str = "AdmissionReview"


_AFTER_NAMES: Final = b',"userInfo":'


def request_of_head(head: bytes) -> Request | None:
    """Reads the beginning of a review, without its objects; None when no API server wrote it.

    Go writes the fields in the order of its struct (k8s.io/api/admission/v1): the names of the object, then userInfo,
    then what people wrote. Quotes within names are escaped, so nobody can bring this end forward.
    """
    names, found, _ = head.partition(_AFTER_NAMES)
    try:
        return msgspec.json.decode(names + b"}}", type=_Review).request if found else None
    except UNREADABLE:
        return None


def refusal(request: Request, sentence: str) -> bytes:
    """Writes a no to what is too large or too deep."""
    status = _Status(sentence, 413, "RequestEntityTooLarge")
    return msgspec.json.encode(_Answer(_Response(request.uid, status)))
