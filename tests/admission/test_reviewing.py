"""AdmissionReview v1 in and out: the envelope, refusals, warnings, and what is left alone byte for byte."""

import base64
import json
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from admission.mutating import answer
from admission.wire import BadReview, shortened
from slicewise.api import keys
from tests.admission.building import (
    GPU,
    SLICE,
    UID,
    Object,
    annotated,
    asking,
    container,
    deployment,
    labelled,
    notebook,
    owned,
    pod,
    policy,
    request,
    review,
    world,
)
from tests.admission.kinds import manifest

V1 = "admission.k8s.io/v1"


def body(**fields: Any) -> Object:
    return {"apiVersion": V1, "kind": "AdmissionReview", "request": request(pod()), **fields}


def sent(review: Any) -> Object:
    found: Object = json.loads(answer(json.dumps(review).encode(), world()).body)
    return found


# --- The envelope -----------------------------------------------------------------------------------------


def test_an_answer_echoes_the_uid_and_carries_a_patch_with_its_type() -> None:
    whole = sent(body())
    assert {key: whole[key] for key in ("apiVersion", "kind")} == {
        "apiVersion": V1,
        "kind": "AdmissionReview",
    }
    response = whole["response"]
    assert (response["uid"], response["allowed"], response["patchType"]) == (UID, True, "JSONPatch")
    assert isinstance(json.loads(base64.b64decode(response["patch"], validate=True)), list)


def test_an_answer_without_changes_has_neither_patch_nor_type() -> None:
    assert sent(body(request=request(pod(container(gpus=None))))) == {
        "apiVersion": V1,
        "kind": "AdmissionReview",
        "response": {"uid": UID, "allowed": True},
    }


def test_a_refusal_is_a_status_that_people_read() -> None:
    response = sent(body(request=request(pod(metadata=labelled("nonsense")))))["response"]
    assert response == {
        "uid": UID,
        "allowed": False,
        "status": {"code": 403, "reason": "Forbidden", "message": response["status"]["message"]},
    }
    assert response["status"]["message"].startswith("Pod team/work: its label gives it the class 'nonsense'")


@pytest.mark.parametrize(
    "fields",
    [{"dryRun": True}, {"subResource": ""}, {"userInfo": {"username": "x"}, "options": None}],
    ids=str,
)
def test_other_fields_of_a_request_change_nothing(fields: Object) -> None:
    assert review(world(), pod(), **fields).operations == review(world(), pod()).operations


BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{",
    "no object": b"[]",
    "no request": json.dumps({"apiVersion": V1, "kind": "AdmissionReview"}).encode(),
    "null for a request": json.dumps(body(request=None)).encode(),
    "another version": json.dumps(body(apiVersion="admission.k8s.io/v1beta1")).encode(),
    "no version": json.dumps({"request": request(pod())}).encode(),
    "no uid": json.dumps(body(request={**request(pod()), "uid": None})).encode(),
    "no kind": json.dumps(body(request={**request(pod()), "kind": "Pod"})).encode(),
    "no object in it": json.dumps(body(request=request(None, kind={"group": "", "kind": "Pod"}))).encode(),
    "an object that is a list": json.dumps(body(request={**request(pod()), "object": []})).encode(),
    "metadata that is a list": json.dumps(
        body(request={**request(pod()), "object": {"metadata": [1]}})
    ).encode(),
    "labels that are numbers": json.dumps(
        body(request={**request(pod()), "object": pod(metadata={"labels": {"a": 1}})})
    ).encode(),
    "no old object for an update": json.dumps(
        body(request={**request(deployment()), "operation": "UPDATE"})
    ).encode(),
    "text that is no UTF-8": json.dumps(body()).encode().replace(b'"main"', b'"\xff\xfe"'),
    "half a surrogate": json.dumps(body()).encode().replace(b'"main"', b'"\\ud800"'),
    "nesting without end": json.dumps(body()).encode().replace(b'"busybox"', b"[" * 200_000 + b"]" * 200_000),
    "nesting without end around it": b'{"x":' * 200_000,
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_what_is_no_review_is_said_to_its_sender(raw: bytes) -> None:
    with pytest.raises(BadReview) as caught:
        answer(raw, world())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("operation", ["DELETE", "CONNECT", ""])
def test_only_creation_and_update_are_judged(operation: str) -> None:
    item = pod(metadata=labelled("nonsense"))
    answered = review(world(), item, operation=operation)
    assert (answered.outcome, answered.operations) == ("ignored", [])


@pytest.mark.parametrize(
    "kind",
    [("", "Service"), ("apps", "Pod"), ("autoscaling", "Scale")],
)
def test_kinds_without_templates_are_none_of_ours(kind: tuple[str, str]) -> None:
    item = {**pod(), "apiVersion": f"{kind[0]}/v1".lstrip("/"), "kind": kind[1]}
    assert review(world(), item).outcome == "ignored"


# --- Refusals and warnings --------------------------------------------------------------------------------


def test_a_warning_is_whole_where_there_is_room_and_else_cut_in_its_middle() -> None:
    name = "nvidia.com/mig-9g.99gb"
    fix = "ask for nvidia.com/gpu and let the policy choose"
    (warning,) = review(world(), pod(asking({name: 1}, "x" * 300))).warnings
    assert len(warning) > 300
    assert warning.endswith(f"asks for {name}, which no pool offers; {fix}")
    many = review(world(), pod(*(asking({name: 1}, f"{index}" * 300) for index in range(10)))).warnings
    assert all(len(each) <= 256 and " … " in each and each.endswith(fix) for each in many)


@pytest.mark.parametrize("limit", [9, 10, 250])
def test_what_is_cut_is_no_longer_than_its_limit(limit: int) -> None:
    assert limit - 1 <= len(shortened("x" * 1000, limit)) <= limit


def test_warnings_are_not_without_end() -> None:
    many = pod(*(asking({"nvidia.com/mig-9g.99gb": 1}, f"container-{index}") for index in range(200)))
    warnings = review(world(), many).warnings
    assert sum(len(warning) for warning in warnings) <= 4096
    assert warnings[-1] == "… and 185 more"


def test_what_people_wrote_is_shown_in_bounds() -> None:
    long = {"annotations": {keys.GPU_MEMORY: "9" * 10_000}}
    assert len(review(world(), pod(metadata=long)).message) < 1000
    odd = {"annotations": {keys.NEEDS: "a\nb\x1b"}}
    assert "'a\\nb\\x1b'" in review(world(), pod(metadata=odd)).message


# --- Left alone, byte for byte ----------------------------------------------------------------------------


def with_metadata(**fields: Any) -> Object:
    """Work that would be refused if it were looked at."""
    metadata = labelled("nonsense")
    labels = {**metadata["labels"], **fields.pop("labels", {})}
    return pod(metadata={"labels": labels, **fields})


ALONE: dict[str, Object] = {
    "a virt-launcher pod": with_metadata(labels={"kubevirt.io": "virt-launcher"}),
    "a mirror pod": with_metadata(annotations={"kubernetes.io/config.mirror": "abc"}),
    "a copy of MultiKueue": with_metadata(labels={"kueue.x-k8s.io/multikueue-origin": "hub"}),
    "work that comes with its Workload": with_metadata(labels={"kueue.x-k8s.io/prebuilt-workload-name": "w"}),
    "a ReplicaSet of a Deployment": owned(
        {**deployment(metadata=labelled("nonsense")), "kind": "ReplicaSet"}, "Deployment"
    ),
    "a name that is backed by DRA": pod(
        asking({"deviceclass.resource.kubernetes.io/gpu.nvidia.com": 1}), metadata=labelled("nonsense")
    ),
    "claims of devices": pod(
        container(gpus=None, resources={"claims": [{"name": "gpu"}]}),
        metadata=labelled("nonsense"),
        resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "gpu"}],
    ),
    "another vendor's GPU": pod(asking({"amd.com/gpu": 1}), metadata=labelled("nonsense")),
    "another device of NVIDIA's": pod(asking({"nvidia.com/GA102GL_A10": 1}), metadata=labelled("nonsense")),
    "a virtual GPU for machines": pod(
        asking({"nvidia.com/NVIDIA_A10-12Q": 1}), metadata=labelled("nonsense")
    ),
    "zero GPUs": pod(asking({GPU: 0}), metadata=labelled("nonsense")),
    "no containers": {**pod(), "spec": {}},
    "no spec": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "work", "namespace": "team"}},
}


@pytest.mark.parametrize("item", ALONE.values(), ids=ALONE)
def test_what_must_be_left_alone_is(item: Object) -> None:
    for old in (None, item):
        answered = review(world(), item, old)
        assert (answered.allowed, answered.operations, answered.warnings) == (True, [], [])


# --- Whatever comes ---------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["1", "$(x)", GPU, SLICE, keys.POOL, "In", "Exists", "inference", "false", "10Gi", "{}"]),
)
MEMBERS = st.sampled_from(
    [
        "metadata",
        "spec",
        "template",
        "labels",
        "annotations",
        "containers",
        "initContainers",
        "resources",
        "limits",
        "requests",
        GPU,
        SLICE,
        "env",
        "name",
        "affinity",
        "nodeAffinity",
        "nodeSelectorTerms",
        "matchExpressions",
        "requiredDuringSchedulingIgnoredDuringExecution",
        "tolerations",
        "key",
        "operator",
        "values",
        "nodeSelector",
        "ownerReferences",
        "controller",
        keys.WORKLOAD_CLASS,
        keys.DECISION,
        keys.GPU_MEMORY,
        keys.REWRITE,
    ]
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=4),
    max_leaves=12,
)
BASES = [
    pod(
        container(),
        container("side", None),
        metadata=labelled("inference"),
        tolerations=[{"operator": "Exists"}],
    ),
    deployment(container(gpus=2), metadata=labelled("notebook"), template={"annotations": {"a": "b"}}),
    notebook(container(resources={"limits": {GPU: 1}, "requests": {GPU: "1"}})),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


@st.composite
def spoilt(draw: st.DrawFn) -> Object:
    """An object in which one to three places hold something else than they should."""
    item: Any = json.loads(json.dumps(draw(st.sampled_from(BASES))))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from([place for place in places(item) if place]))
        holder = item
        for step in way:
            holder = holder[step]
        if isinstance(holder, dict) and draw(st.booleans()):
            holder[draw(MEMBERS)] = draw(ANYTHING)
        else:
            holder[last] = draw(ANYTHING)
    spoilt_item: Object = item
    return spoilt_item


@given(spoilt(), st.none() | spoilt())
def test_whatever_comes_is_answered_and_the_patch_applies(item: Object, old: Object | None) -> None:
    groups = {"Deployment": "apps", "Notebook": "kubeflow.org"}
    kind = str(item.get("kind")) if str(item.get("kind")) in groups else "Pod"
    wanted = {
        "uid": UID,
        "kind": {"kind": kind, "group": groups.get(kind, "")},
        "operation": "UPDATE" if old else "CREATE",
        "namespace": "team",
        "object": item,
        "oldObject": old,
    }
    raw = json.dumps({"apiVersion": V1, "kind": "AdmissionReview", "request": wanted}).encode()
    try:
        found = json.loads(answer(raw, world()).body)["response"]
    except BadReview:
        return
    if "patch" in found:
        operations = json.loads(base64.b64decode(found["patch"]))
        after = jsonpatch.apply_patch(json.loads(json.dumps(item)), operations)
        wanted |= {"object": after}
        again = json.dumps({"apiVersion": V1, "kind": "AdmissionReview", "request": wanted}).encode()
        assert "patch" not in json.loads(answer(again, world()).body)["response"]


# --- Why, in a word ---------------------------------------------------------------------------------------

NEITHER = policy({"inference": {"strategy": "mig"}}, allow=[])
WHY: dict[str, tuple[Object, Object, str]] = {
    "a mode that is none": ({"labels": {keys.MODE: "x"}}, {}, "namespace"),
    "an engine that is none": ({"labels": {keys.ENGINE: "x"}}, {}, "namespace"),
    "a policy that is not there": ({"labels": {keys.POLICY: "x"}}, {}, "namespace"),
    "a class that is none": ({}, labelled("x"), "class"),
    "words that mean nothing": ({}, annotated(needs="x"), "annotation"),
    "a size that is none": ({}, annotated(gpu_memory="x"), "annotation"),
    "a profile that is none": ({}, annotated(profile="x"), "annotation"),
    "an opting out that is none": ({}, annotated(rewrite="x"), "annotation"),
    "words that are not allowed": ({"policies": (NEITHER,)}, annotated(profile="1g.10gb"), "not-allowed"),
    "nothing that fits": ({}, annotated(profile="7g.80gb"), "nothing-fits"),
}


@pytest.mark.parametrize(("change", "metadata", "reason"), WHY.values(), ids=WHY)
def test_a_refusal_has_a_reason(change: Object, metadata: Object, reason: str) -> None:
    answered = review(world("mixed", **change), pod(metadata=metadata))
    assert (answered.outcome, answered.raw.reason) == ("refused", reason)


def test_too_many_and_both_names_are_reasons_too() -> None:
    shares = review(world("time"), pod(container(gpus=2), metadata=labelled("notebook")))
    assert shares.raw.reason == "too-many"
    both = review(world("mixed"), pod(asking({GPU: 1, SLICE: 1}), metadata=labelled("inference")))
    assert both.raw.reason == "both-names"


def test_what_cannot_work_with_a_kind_is_a_reason() -> None:
    known = world("time-renamed", labels={keys.WORKLOAD_CLASS: "notebook"})
    assert review(known, manifest("serving.kserve.io_InferenceService")).raw.reason == "kind"


def test_what_is_allowed_has_no_reason() -> None:
    assert review(world("mixed"), pod(metadata=labelled("inference"))).raw.reason == ""
