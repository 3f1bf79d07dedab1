"""Work that slipped through, running or not, by whom it belongs to."""

import json
from typing import Any

import pytest

from queue_sync.planning.bypass import bypassing
from queue_sync.planning.observed import Object
from slicewise.api import keys
from tests.queue_sync.scenes import GPU, MIXED, ONE, exclusive, inventory, mixed

POOLS = inventory(mixed("n1", {"1g.10gb": 7}), exclusive("n2"))
OPTED_IN = {keys.POLICY: "default"}
QUEUED = {**OPTED_IN, keys.QUEUE: "team-a"}
DECISION = json.dumps(
    {"policy": "default", "pools": [MIXED], "steered": True, "containers": {"c": {"to": ONE, "count": 1}}}
)


def pod(
    resource: str,
    *,
    labels: Any = None,
    annotations: Any = None,
    owner: tuple[str, str] | None = None,
    phase: str = "Running",
    **spec: Any,
) -> Object:
    metadata = {"name": "p", "namespace": "lab", "labels": labels or {}, "annotations": annotations or {}}
    if owner:
        metadata["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "controller": True}]
    container = {"name": "c", "resources": {"limits": {resource: "1"}}}
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [container], **spec},
        "status": {"phase": phase},
    }


def found(*pods: Object, labels: Any = None, owners: Any = ()) -> list[tuple[str, str, str]]:
    findings = bypassing({"lab": OPTED_IN if labels is None else labels}, pods, owners, POOLS)
    return [(each.kind, each.name, each.code) for each in findings]


@pytest.mark.parametrize("phase", ["Pending", "Running"])
def test_work_without_a_decision_is_told_whether_it_runs_or_not(phase: str) -> None:
    assert found(pod(GPU, phase=phase, nodeName="n2")) == [("Pod", "p", "WorkWithoutDecision")]


@pytest.mark.parametrize(
    ("kind", "api_version", "restarts"),
    [("Deployment", "apps/v1", True), ("Job", "batch/v1", False), ("Deployment", "else.io/v1", False)],
)
def test_a_restart_is_advised_where_kubectl_can(kind: str, api_version: str, restarts: bool) -> None:  # noqa: FBT001
    owner = {"apiVersion": api_version, "metadata": {"name": "w", "namespace": "lab"}}
    (finding,) = bypassing({"lab": OPTED_IN}, (), [(kind, owner, [pod(GPU)["spec"]])], POOLS)
    assert "create it anew while the webhook answers" in finding.sentence
    assert ("kubectl rollout restart" in finding.sentence) is restarts


def test_pods_are_told_once_by_their_owner() -> None:
    labels = {"pod-template-hash": "5f6d"}
    pods = [pod(GPU, labels=labels, owner=("ReplicaSet", "serve-5f6d")) for _ in range(7)]
    assert found(*pods) == [("Deployment", "serve", "WorkWithoutDecision")]
    deployment = {
        "kind": "Deployment",
        "metadata": {"name": "serve", "namespace": "lab"},
        "spec": {"template": {"metadata": {}, "spec": pods[0]["spec"]}},
    }
    owners = [("Deployment", deployment, [pods[0]["spec"]])]
    assert found(*pods, owners=owners) == [("Deployment", "serve", "WorkWithoutDecision")]


@pytest.mark.parametrize(
    "changes",
    [
        {"phase": "Succeeded"},
        {"annotations": {keys.REWRITE: "false"}},
        {"annotations": {keys.MIRROR_POD: "x"}},
        {"labels": {"kubevirt.io": "virt-launcher"}},
        {"labels": {"kueue.x-k8s.io/multikueue-origin": "manager"}},
        {"labels": {"kueue.x-k8s.io/prebuilt-workload-name": "copy"}},
    ],
)
def test_what_is_left_on_purpose_is_no_drift(changes: Any) -> None:
    assert found(pod(GPU, **changes)) == []


def test_other_objects_of_kubevirts_are_work_like_any_other() -> None:
    assert found(pod(GPU, labels={"kubevirt.io": "virt-handler"})) == [("Pod", "p", "WorkWithoutDecision")]


@pytest.mark.parametrize("labels", [{}, {**OPTED_IN, keys.MODE: "audit"}, {**OPTED_IN, keys.MODE: "off"}])
def test_namespaces_that_are_not_enforced_are_not_looked_at(labels: Any) -> None:
    assert found(pod(GPU), labels=labels) == []


def test_a_slice_that_was_asked_for_by_name_needs_no_decision() -> None:
    assert found(pod(ONE)) == []


def test_what_was_decided_and_is_followed_is_no_drift() -> None:
    assert found(pod(ONE, annotations={keys.DECISION: DECISION}, nodeName="n1")) == []


def test_another_name_or_pool_than_decided() -> None:
    renamed = pod(GPU, annotations={keys.DECISION: DECISION})
    assert found(renamed) == [("Pod", "p", "DecisionNotFollowed")]
    moved = pod(ONE, annotations={keys.DECISION: DECISION}, nodeName="n2")
    assert found(moved) == [("Pod", "p", "DecisionNotFollowed")]


@pytest.mark.parametrize(
    ("containers", "codes"),
    [
        ({"/spec/a:c": ONE, "/spec/b:c": ONE}, ["DecisionNotFollowed"]),
        ({"/spec/a:c": ONE, "/spec/b:c": GPU}, []),
        ({"/spec/a:d": ONE}, []),
    ],
    ids=["the same for all", "as one of them", "of another name"],
)
def test_containers_that_are_told_apart_by_their_template_are_held_to_any_of_theirs(
    containers: dict[str, str], codes: list[str]
) -> None:
    told = {name: {"to": to, "count": 1} for name, to in containers.items()}
    record = json.dumps({"policy": "default", "pools": [MIXED], "containers": told})
    assert [code for _, _, code in found(pod(GPU, annotations={keys.DECISION: record}))] == codes


@pytest.mark.parametrize(
    ("labels", "changes", "codes"),
    [
        (QUEUED, {}, ["QueueBypassed"]),
        (QUEUED, {"labels": {keys.KUEUE_QUEUE: "other"}}, []),
        (QUEUED, {"labels": {keys.KUEUE_QUEUE: ""}}, ["QueueBypassed"]),
        (QUEUED, {"labels": {"kueue.x-k8s.io/managed": "true"}}, ["QueueBypassed"]),
        (QUEUED, {"labels": {keys.KUEUE_POD_SET: "main"}}, ["QueueBypassed"]),
        (QUEUED, {"labels": {keys.KUEUE_POD_SET: "main"}, "owner": ("Anything", "x")}, []),
        ({**QUEUED, keys.ENGINE: "none"}, {}, []),
        ({**QUEUED, keys.ENGINE: "volcano"}, {}, ["QueueBypassed"]),
        ({**QUEUED, keys.ENGINE: "volcano"}, {"schedulerName": keys.VOLCANO_SCHEDULER}, []),
        (OPTED_IN, {}, []),
    ],
)
def test_work_outside_the_queue_of_its_namespace(labels: Any, changes: Any, codes: list[str]) -> None:
    work = pod(ONE, annotations={keys.DECISION: DECISION}, **changes)
    assert [code for _, _, code in found(work, labels=labels)] == codes


@pytest.mark.parametrize(
    ("labels", "outside"), [(OPTED_IN, ""), (QUEUED, "team-a")], ids=["no-queue", "a-queue"]
)
def test_work_that_nobody_decided_is_one_finding_that_names_the_queue_too(labels: Any, outside: str) -> None:
    (finding,) = bypassing({"lab": labels}, [pod(GPU, nodeName="n2")], (), POOLS)
    said = f", and no quota counts it: it is outside the queue {outside}" if outside else ""
    assert finding.sentence == (
        f"Pod lab/p asks for nvidia.com/gpu and carries no decision, though its namespace has opted in{said}; "
        "create it anew while the webhook answers"
    )
