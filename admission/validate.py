"""Our own objects at the door: a SlicingPolicy or QuotaPlan that breaks a rule is refused with the sentence.

The CRDs say most rules already; these are the rest, and they are the ones that the readers of files apply. An
object on its way out is let through whatever it says, or a bad one could never be finalised.
"""

from typing import Any

import msgspec

from admission.review import Answer, BadReview
from slicewise.policy import PLAN_KIND, POLICY_KIND, SpecError, read_plan, read_policy

_READERS = {POLICY_KIND: read_policy, PLAN_KIND: read_plan}


class _Kind(msgspec.Struct, frozen=True):
    kind: str = ""


class _Request(msgspec.Struct, frozen=True):
    uid: str
    kind: _Kind
    operation: str = ""
    object: dict[str, Any] | None = None


class _Review(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    request: _Request


_decode = msgspec.json.Decoder(_Review).decode


def answer(body: bytes) -> Answer:
    """Answers one validating review.

    Raises:
        BadReview: the body is no AdmissionReview v1 with a request.
    """
    try:
        review = _decode(body)
    except msgspec.DecodeError as error:
        raise BadReview(f"the body is no AdmissionReview: {error}") from None
    if review.api_version != "admission.k8s.io/v1":
        raise BadReview(f"apiVersion {review.api_version} is not served; send admission.k8s.io/v1")
    request = review.request
    reader = _READERS.get(request.kind.kind)
    document = request.object
    if reader is None or document is None or request.operation not in {"CREATE", "UPDATE"}:
        return _answer(request, "ignored")
    if (document.get("metadata") or {}).get("deletionTimestamp"):
        return _answer(request, "ignored")
    try:
        reader(document)
    except SpecError as error:
        return _answer(request, "refused", str(error))
    return _answer(request, "accepted")


def _answer(request: _Request, outcome: str, refusal: str = "") -> Answer:
    response: dict[str, Any] = {"uid": request.uid, "allowed": not refusal}
    if refusal:
        response["status"] = {"message": refusal, "code": 422, "reason": "Invalid"}
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
    return Answer(msgspec.json.encode(body), outcome, f"{request.kind.kind}.slicewise.io")
