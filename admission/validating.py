"""Our own objects at the door, and our labels on namespaces.

A SlicingPolicy or QuotaPlan that breaks a rule is refused with the sentence. The CRDs say most rules already; these
are the rest, and they are the ones that the readers of files apply. An object on its way out is let through whatever
it says, or a bad one could never be finalised. A namespace is never refused: a label that means nothing is warned of,
because the policy that it names may come later.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from admission.judgement.decisions import Reason
from admission.judgement.orders import MODES, nearest
from admission.judgement.outcomes import Verdict
from admission.judgement.world import World
from admission.review import Answer, BadReview
from slicewise.api import keys
from slicewise.api.policy import PLAN_KIND, POLICY_KIND, Engine, SpecError, read_plan, read_policy

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


def answer(body: bytes, world: World) -> Answer:
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
    if document is None or request.operation not in {"CREATE", "UPDATE"}:
        return _answer(request, Verdict.IGNORED)
    metadata = document.get("metadata") or {}
    if request.operation == "UPDATE" and metadata.get("deletionTimestamp"):
        return _answer(request, Verdict.IGNORED)
    if request.kind.kind == "Namespace":
        remarks = list(label_remarks(str(metadata.get("name")), metadata.get("labels") or {}, world))
        return _answer(request, Verdict.ACCEPTED, warnings=remarks)
    if reader is None:
        return _answer(request, Verdict.IGNORED)
    try:
        reader(document)
    except SpecError as error:
        return _answer(request, Verdict.REFUSED, str(error))
    return _answer(request, Verdict.ACCEPTED)


def label_remarks(name: str, labels: Mapping[str, str], world: World) -> Iterator[str]:
    """Says of each label of ours on a namespace why it means nothing, if it does."""
    named = labels.get(keys.POLICY)
    policy = world.policy(named) if named is not None else None
    if named is not None and policy is None:
        yield (
            f"namespace {name}: there is no SlicingPolicy {named!r}, so its GPU work will be refused; "
            f"did you mean {keys.POLICY}={nearest(named, world.policy_names())}?"
        )
    for key, values in ((keys.MODE, MODES), (keys.ENGINE, tuple(Engine))):
        value = labels.get(key)
        if value is not None and value not in values:
            yield f"namespace {name}: {key}={value} means nothing; write one of {', '.join(values)}"
    work = labels.get(keys.WORKLOAD_CLASS)
    if work is not None and policy is not None and work not in policy.spec.classes:
        classes = list(policy.spec.classes)
        yield (
            f"namespace {name}: policy {policy.name} has no class {work!r}; "
            f"did you mean {keys.WORKLOAD_CLASS}={nearest(work, classes)}?"
        )
    if named is None and any(
        key in labels for key in (keys.MODE, keys.WORKLOAD_CLASS, keys.QUEUE, keys.ENGINE)
    ):
        yield f"namespace {name}: has no label {keys.POLICY}, so its other labels of ours mean nothing"


def _answer(
    request: _Request, outcome: Verdict, refusal: str = "", warnings: list[str] | None = None
) -> Answer:
    response: dict[str, Any] = {"uid": request.uid, "allowed": not refusal}
    if warnings:
        response["warnings"] = warnings
    if refusal:
        response["status"] = {"message": refusal, "code": 422, "reason": "Invalid"}
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
    group = "" if request.kind.kind == "Namespace" else ".slicewise.io"
    reason = Reason.SPEC if refusal else ""
    return Answer(msgspec.json.encode(body), outcome, request.kind.kind + group, reason=reason)
