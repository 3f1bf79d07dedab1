"""What must hold of the answer to any review whatever."""

import base64
import binascii
import json
from collections.abc import Iterator
from math import isinf
from typing import Any, Final

import jsonpatch

from admission.decision.cluster_state import ClusterState
from admission.mutating import answer
from admission.wire import BadReview
from admission.workloads.decoder import Templates
from slicewise.api import keys

Object = dict[str, Any]
Pointer = tuple[Any, ...]

_TEMPLATES: Final = Templates()
_OURS: Final = (keys.PREFIX, keys.KUEUE_QUEUE, keys.VOLCANO_QUEUE, "volcano.sh/queue-name")
_MEMBERS: Final = {"apiVersion", "kind", "response"}
_FIELDS: Final = {"uid", "allowed", "status", "patch", "patchType", "warnings"}
_ABSENT: Final = object()


class BrokenError(AssertionError):
    """A property does not hold; the message says which and how."""


def check(body: bytes, world: ClusterState) -> str:
    """Checks the answer to one review; returns what became of it.

    Raises:
        BrokenError: a property does not hold.
    """
    try:
        answered = answer(body, world)
    except BadReview:
        return "bad"
    except Exception as error:
        raise BrokenError(f"raises {type(error).__name__}: {str(error)[:200]}") from error
    try:
        review = json.loads(body.decode(), parse_float=_finite)
    except (ValueError, RecursionError):
        # The decoder skips what nobody reads without looking into it; no API server sends such text.
        verified(json.loads(answered.body)["response"], None)
        return answered.outcome
    response = verified(json.loads(answered.body), review["request"]["uid"])
    if "patch" in response:
        request = review["request"]
        before = json.loads(json.dumps(request["object"]))
        try:
            after = applied(request["object"], response)
        except RecursionError:
            return answered.outcome  # jsonpatch copies by recursion, the API server does not
        kind = request["kind"]
        try:
            old = json.dumps(request.get("oldObject"))
            _only_where_it_should(before, after, kind.get("group", ""), kind.get("kind", ""), old)
        except RecursionError:
            return answered.outcome  # deeper than can be compared here
        _settled(review, world)
    return answered.outcome


def _finite(text: str) -> float:
    """Reads a number; one that is too large for any would be written as what is no JSON."""
    if isinf(number := float(text)):
        raise ValueError(text)
    return number


def verified(whole: Object, uid: str | None) -> Object:
    """What the API server asks of an answer (webhook/request/admissionreview.go, VerifyAdmissionResponse)."""
    if uid is None:
        return whole
    if whole.get("apiVersion") != "admission.k8s.io/v1" or whole.get("kind") != "AdmissionReview":
        raise BrokenError("the answer is no AdmissionReview v1")
    if set(whole) != _MEMBERS:
        raise BrokenError(f"the answer has {sorted(whole)}")
    response: Object = whole["response"]
    if response.get("uid") != uid:
        raise BrokenError(f"the uid is {response.get('uid')!r}")
    if not isinstance(response.get("allowed"), bool) or not set(response) <= _FIELDS:
        raise BrokenError(f"the response has {response.keys()}")
    if ("patch" in response) != ("patchType" in response) or response.get(
        "patchType", "JSONPatch"
    ) != "JSONPatch":
        raise BrokenError("patch and patchType do not go together")
    if not response["allowed"]:
        status = response.get("status") or {}
        if not status.get("message") or status.get("code", 0) < 400 or "patch" in response:
            raise BrokenError(f"the refusal is {status}")
    warnings = response.get("warnings", [])
    if any(not each or each.startswith("Warning:") for each in warnings):
        raise BrokenError(f"the warnings are {warnings}")
    # Where all webhooks' together are more than 4096 characters, the API server cuts each at its 256th.
    if sum(map(len, warnings)) > 2_100 and any(len(each) > 256 for each in warnings):
        raise BrokenError("the warnings are more than the API server passes on")
    return response


def applied(item: Any, response: Object) -> Any:
    """Applies the patch of a response to the object."""
    try:
        operations = json.loads(base64.b64decode(response["patch"], validate=True))
    except (ValueError, binascii.Error) as error:
        raise BrokenError(f"the patch cannot be read: {error}") from error
    if not operations:
        raise BrokenError("the patch is empty")
    try:
        return jsonpatch.apply_patch(item, operations, in_place=True)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise BrokenError(f"the patch does not apply: {type(error).__name__}: {error}") from error


def _settled(review: Object, world: ClusterState) -> None:
    """A second pass over what was patched changes nothing, as reinvocation has it."""
    try:
        answered = answer(json.dumps(review).encode(), world)
    except BadReview as error:
        raise BrokenError(f"what was patched cannot be read: {error}") from error
    response = json.loads(answered.body)["response"]
    if not response["allowed"]:
        raise BrokenError(f"the second pass refuses: {response['status']['message'][:200]}")
    if "patch" in response:
        operations = base64.b64decode(response["patch"]).decode()
        raise BrokenError(f"the second pass changes: {operations[:300]}")


# --- Where it may differ ----------------------------------------------------------------------------------


def _only_where_it_should(before: Any, after: Any, group: str, kind: str, old_object: str) -> None:
    reader = _TEMPLATES.reader(group, kind)
    # Kinds with fields beside the request may change there; others in the places below alone.
    paths = () if reader is None else reader.kind.paths
    side_fields = reader is not None and (
        reader.kind.side_fields or any(path.startswith("G") for path in paths)
    )
    for pointer, old, new in differences(before, after):
        # An update repeats the names that the record of the old object has, whatever somebody wrote there.
        repeated = pointer[-2:-1] in {("requests",), ("limits",)} and str(pointer[-1]) in old_object
        # … and stays in the queue in which it was, whatever that is called.
        repeated = repeated or (pointer[-1:] == ("queue",) and json.dumps(new) in old_object)
        if not repeated and not _may(pointer, old, new) and not (side_fields and pointer[0] != "metadata"):
            shown = "/".join(map(str, pointer))
            raise BrokenError(f"{kind} differs at {shown}: {str(old)[:100]} -> {str(new)[:100]}")


def differences(before: Any, after: Any, pointer: Pointer = ()) -> Iterator[tuple[Pointer, Any, Any]]:
    """Yields (where, before, after) of every innermost place that differs."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
            yield from differences(old, new, (*pointer, key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) <= len(after):
        for index, new in enumerate(after):
            old = before[index] if index < len(before) else _ABSENT
            yield from differences(old, new, (*pointer, index))
    elif type(before) is not type(after) or before != after:
        yield pointer, before, after


def _may(pointer: Pointer, old: Any, new: Any) -> bool:
    last: object = pointer[-1]
    above = pointer[-2] if len(pointer) > 1 else None
    if isinstance(last, str) and last.startswith(keys.VENDOR) and "metadata" not in pointer:
        return True
    if above in {"annotations", "labels"}:
        return str(last).startswith(_OURS)
    if last in {"annotations", "labels"} and old in (_ABSENT, None) and isinstance(new, dict):
        return all(key.startswith(_OURS) for key in new)
    if last == "metadata" and old in (_ABSENT, None) and isinstance(new, dict):
        return set(new) <= {"annotations", "labels"}
    hidden = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
    if old in (_ABSENT, None) and (new == [hidden] if last == "env" else above == "env" and new == hidden):
        return True
    if last == "env" and old == [hidden] and new == []:
        return True  # nothing is decided any more
    if new is _ABSENT and "affinity" in pointer and keys.POOL in str(old):
        return True  # what kept a pod to pools goes with the decision
    if "affinity" in pointer or last == "affinity" or "tolerations" in pointer or last == "tolerations":
        ours = dict(keys.TOLERATION)
        taken_back = new is _ABSENT and (keys.POOL in str(old) or old in (ours, [ours]))
        if isinstance(old, list) and isinstance(new, list):
            stays = [each for each in old if each in new]
            gone = [each for each in old if each not in new]
            come = [each for each in new if each not in old]
            taken_back = new == [*stays, *come] and all(
                each == ours or keys.POOL in str(each) for each in gone
            )
        return (
            old in (_ABSENT, None, [], {}) or taken_back or "values" in pointer or last == "nodeSelectorTerms"
        )
    if last == "schedulerName":
        return bool(new == keys.VOLCANO_SCHEDULER)
    if old in (_ABSENT, None) and isinstance(new, dict):
        return all(_may((*pointer, key), _ABSENT, each) for key, each in new.items())
    # Slots hold the name and the count of a resource in fields of their own; queues have theirs.
    return isinstance(new, str) and (new.startswith(keys.VENDOR) or new in {"queue-a", "queue-b"})
