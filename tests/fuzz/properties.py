"""What must hold of the answer to any review whatever."""

import base64
import binascii
import json
from collections.abc import Callable, Iterator
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
_TOLERATION: Final = dict(keys.TOLERATION)
_HIDDEN: Final = {"name": keys.VISIBLE_DEVICES, "value": "void"}
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_WHOLE: Final = frozenset({"affinity", "env", "tolerations"})
"""What is looked at as a whole: things of ours come and go between those of people."""


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
            only_where_it_should(before, after, kind.get("group", ""), kind.get("kind", ""), old)
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


def only_where_it_should(before: Any, after: Any, group: str, kind: str, old_object: str) -> None:
    """Checks that an object differs where an answer may change it, and nowhere else.

    Raises:
        BrokenError: it differs elsewhere.
    """
    reader = _TEMPLATES.reader(group, kind)
    # Kinds with fields beside the request may change there; others in the places below alone.
    paths = () if reader is None else reader.kind.paths
    side_fields = reader is not None and (
        reader.kind.side_fields or any(path.startswith("G") for path in paths)
    )
    records = f"{old_object} {json.dumps(after.get('metadata'))}"
    for pointer, old, new in differences(before, after):
        # An update repeats the names that the record of the old object has, whatever somebody wrote there.
        repeated = pointer[-2:-1] in {("requests",), ("limits",)} and str(pointer[-1]) in old_object
        # … and stays in the queue in which it was, whatever that is called.
        repeated = repeated or (pointer[-1:] == ("queue",) and json.dumps(new) in old_object)
        beside = side_fields and pointer[0] != "metadata" and pointer[-1] not in _WHOLE
        if not repeated and not beside and not _may(pointer, old, new, records):
            shown = "/".join(map(str, pointer))
            raise BrokenError(f"{kind} differs at {shown}: {str(old)[:100]} -> {str(new)[:100]}")


def differences(before: Any, after: Any, pointer: Pointer = ()) -> Iterator[tuple[Pointer, Any, Any]]:
    """Yields (where, before, after) of every innermost place that differs."""
    if pointer and pointer[-1] in _WHOLE and before != after:
        yield pointer, before, after
    elif isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
            yield from differences(old, new, (*pointer, key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) <= len(after):
        for index, new in enumerate(after):
            old = before[index] if index < len(before) else _ABSENT
            yield from differences(old, new, (*pointer, index))
    elif type(before) is not type(after) or before != after:
        yield pointer, before, after


def _others(items: Any, is_ours: Callable[[Any], bool]) -> Any:
    """The items of a list that are not ours, in their order; None where there are none."""
    if items is _ABSENT or not isinstance(items, list):
        return None if items is _ABSENT else items
    return [each for each in items if not is_ours(each)] or None


def _without_ours(affinity: Any, *, labelled: bool) -> Any:
    """An affinity without what keeps a pod to pools and has it prefer some; None where nothing is left."""
    if not isinstance(affinity, dict):
        return None if affinity is _ABSENT else affinity
    node = affinity.get("nodeAffinity")
    if isinstance(node, dict):
        required = node.get(_REQUIRED)
        terms = required.get("nodeSelectorTerms") if isinstance(required, dict) else None
        if isinstance(required, dict) and isinstance(terms, list):
            own = (_own_term(each, labelled=labelled) for each in terms)
            left = [each for each in own if each is not None]
            required = {**required, "nodeSelectorTerms": left}
            required = {key: value for key, value in required.items() if value}
        preferred = _others(node.get(_PREFERRED), _is_preference)
        node = {**node, _REQUIRED: required, _PREFERRED: preferred}
        node = {key: value for key, value in node.items() if value}
    return {key: value for key, value in {**affinity, "nodeAffinity": node}.items() if value} or None


def _own_term(term: Any, *, labelled: bool) -> Any:
    """An alternative without our requirement of pools, and that of boards beside it where a decision is `labelled` with
    one; None where that was all."""
    expressions = term.get("matchExpressions") if isinstance(term, dict) else None
    if not isinstance(expressions, list):
        return term
    pools = [each for each in expressions if _is_of(each, keys.POOL, {"In"})]
    if not pools:
        return term
    left = [
        each
        for each in expressions
        if each not in pools and not (labelled and _is_of(each, keys.PRODUCT, {"In", "NotIn"}))
    ]
    own = {**term, "matchExpressions": left or None}
    return {key: value for key, value in own.items() if value} or None


def _is_of(expression: Any, key: str, operators: set[str]) -> bool:
    return (
        isinstance(expression, dict)
        and expression.get("key") == key
        and expression.get("operator") in operators
    )


def _is_preference(each: Any) -> bool:
    preference = each.get("preference") if isinstance(each, dict) else None
    expressions = preference.get("matchExpressions") if isinstance(preference, dict) else None
    return isinstance(expressions, list) and [_is_of(e, keys.POOL, {"In"}) for e in expressions] == [True]


def _may(pointer: Pointer, old: Any, new: Any, records: str) -> bool:
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
    if last == "env":
        return bool(_others(old, _HIDDEN.__eq__) == _others(new, _HIDDEN.__eq__))
    if last == "tolerations":
        return bool(_others(old, _TOLERATION.__eq__) == _others(new, _TOLERATION.__eq__))
    if last == "affinity":
        labelled = "nodeLabels" in records
        return bool(_without_ours(old, labelled=labelled) == _without_ours(new, labelled=labelled))
    if last == "schedulerName":
        return bool(new == keys.VOLCANO_SCHEDULER)
    if old in (_ABSENT, None) and isinstance(new, dict):
        return all(_may((*pointer, key), _ABSENT, each, records) for key, each in new.items())
    # Slots hold the name and the count of a resource in fields of their own; queues have theirs.
    return isinstance(new, str) and (new.startswith(keys.VENDOR) or new in {"queue-a", "queue-b"})
