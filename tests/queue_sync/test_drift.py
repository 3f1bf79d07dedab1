"""What slipped through, from a snapshot."""

from typing import Any

import pytest

from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.desired import desired
from queue_sync.planning.drift import drift
from queue_sync.planning.findings import Finding
from queue_sync.planning.observed import Object
from slicewise.api import keys
from slicewise.kube.snapshot import Document, collect
from tests.queue_sync.scenes import GPU, ONE, exclusive, inventory, mixed, plan

WHOLE = "h100-80gb-exclusive"


PLAN = {
    "apiVersion": "slicewise.io/v1alpha1",
    "kind": "QuotaPlan",
    "metadata": {"name": "research"},
    "spec": {"engine": "kueue", "queues": [{"name": "team-a"}]},
}


def found(*objects: Object) -> list[Finding]:
    """What slipped through where the plan `research` stands, unless another one is given."""
    plans = [] if any(each["kind"] == "QuotaPlan" for each in objects) else [PLAN]
    documents = [Document("test", number, each) for number, each in enumerate([*plans, *objects], start=1)]
    return drift(ClusterState.from_snapshot(collect(documents)))


def namespace(name: str, **labels: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def pod(resource: str, **changes: Any) -> Object:
    container = {"name": "c", "resources": {"limits": {resource: "1"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "lab"},
        "spec": {"containers": [container], **changes},
        "status": {"phase": "Pending"},
    }


def workload(resource: str, *, quantity: int = 0, flavor: str = WHOLE, queue: str = "team-a") -> Object:
    container = {"name": "c", "resources": {"requests": {resource: "1"}}}
    document: Object = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": "w", "namespace": "lab"},
        "spec": {"queueName": queue, "podSets": [{"template": {"spec": {"containers": [container]}}}]},
    }
    if quantity:
        document["status"] = {
            "conditions": [
                {"type": "QuotaReserved", "status": "True"},
                {"type": "Admitted", "status": "True"},
            ],
            "admission": {
                "clusterQueue": queue,
                "podSetAssignments": [{"flavors": {resource: flavor}, "resourceUsage": {resource: quantity}}],
            },
        }
    return document


def queues(gpus: int = 8, **spec: Any) -> list[Object]:
    return list(desired([plan(**spec)], inventory(exclusive("n", gpus=gpus)), {}).objects)


def test_nothing_slipped_through() -> None:
    assert found(exclusive("n"), *queues(), workload(GPU, quantity=8), pod(GPU)) == []


def test_work_that_asks_for_what_nobody_offers() -> None:
    names = [
        (each.kind, each.name, each.code)
        for each in found(mixed("n", {"1g.10gb": 7}), pod(GPU), workload(GPU))
    ]
    assert names == [("Pod", "p", "NameNotOffered"), ("Workload", "w", "NameNotOffered")]
    assert found(mixed("n", {"1g.10gb": 7}), pod(ONE), workload(ONE), pod("cpu")) == []


@pytest.mark.parametrize("changes", [{"nodeName": "n"}])
def test_pods_that_run_are_no_concern(changes: Any) -> None:
    assert found(mixed("n", {"1g.10gb": 7}), pod(GPU, **changes)) == []


def test_quota_that_no_node_backs() -> None:
    (one,) = found(exclusive("n", gpus=4), *queues())
    assert (one.kind, one.name, one.code) == ("ResourceFlavor", WHOLE, "QuotaWithoutNodes")
    assert "ClusterQueues team-a promise 8 nvidia.com/gpu, the nodes offer 4" in one.sentence


def test_where_no_node_was_read_nobody_knows_what_is_offered() -> None:
    assert found(pod(GPU), *queues()) == []


def test_a_hand_made_flavor_is_backed_by_the_nodes_it_selects() -> None:
    flavor = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ResourceFlavor",
        "metadata": {"name": "mine"},
        "spec": {"nodeLabels": {keys.PRODUCT: "NVIDIA-H100-80GB-HBM3"}},
    }
    queue = queues()[-1]
    queue["spec"]["resourceGroups"][0]["flavors"][0]["name"] = "mine"
    assert found(exclusive("n"), flavor, queue) == []
    assert [each.code for each in found(exclusive("n", gpus=2), flavor, queue)] == ["QuotaWithoutNodes"]
    assert [each.code for each in found(exclusive("n"), queue)] == ["QuotaWithoutNodes"]


def test_an_autoscaled_pool_is_backed_by_its_maximum() -> None:
    spec = {"queues": [{"name": "team-a"}], "maximum": {WHOLE: {GPU: "64"}}, "engine": "kueue"}
    document = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": "research"},
        "spec": spec,
    }
    assert found(*queues(gpus=8, maximum={WHOLE: {GPU: "64"}}), document) == []


def test_use_above_quota() -> None:
    (one,) = found(exclusive("n"), *queues(), workload(GPU, quantity=9))
    assert (one.kind, one.name, one.code) == ("ClusterQueue", "team-a", "UseAboveQuota")
    assert "uses 9 nvidia.com/gpu of flavor h100-80gb-exclusive and has quota for 8" in one.sentence


def test_use_that_kueue_reports_counts_without_its_workloads() -> None:
    *flavors, queue = queues()
    for field, total in (("flavorsUsage", "9"), ("flavorsReservation", 10)):
        used = [{"name": WHOLE, "resources": [{"name": GPU, "total": total, "borrowed": "0"}]}]
        queue["status"] = {**queue.get("status", {}), field: used}
    (one,) = found(exclusive("n"), *flavors, queue, workload(GPU, quantity=9))
    assert (one.kind, one.name, one.code) == ("ClusterQueue", "team-a", "UseAboveQuota")
    assert "uses 10 nvidia.com/gpu of flavor h100-80gb-exclusive and has quota for 8" in one.sentence


def test_a_namespace_that_is_being_deleted_wants_no_queue() -> None:
    leaving = namespace("lab", team="a")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    documents = [Document("test", n, each) for n, each in enumerate([leaving, namespace("home", team="a")])]
    assert list(ClusterState.from_snapshot(collect(documents)).namespaces) == ["home"]


def test_borrowing_within_a_cohort_is_no_drift() -> None:
    shared = queues(cohort="lab", queues={"team-a": 1, "team-b": 1})
    assert found(exclusive("n"), *shared, workload(GPU, quantity=8)) == []
    (one,) = found(exclusive("n"), *shared, workload(GPU, quantity=9))
    assert (one.kind, one.name) == ("Cohort", "lab")


def test_rules_about_the_old_name_in_namespaces_that_opted_in() -> None:
    rules: list[Object] = [
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "rq", "namespace": "lab"},
            "spec": {"hard": {f"requests.{GPU}": "4"}},
        },
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "lr", "namespace": "lab"},
            "spec": {"limits": [{"type": "Container", "default": {GPU: "1"}}]},
        },
    ]
    opted_in = namespace("lab", **{keys.POLICY: "default"})
    assert [each.code for each in found(opted_in, *rules)] == [
        "LimitRangeRestoresName",
        "ResourceQuotaMissesWork",
    ]
    assert found(namespace("lab"), *rules) == []
    for rule in rules:
        rule["metadata"]["namespace"] = "kube-system"  # which the webhook never touches
    assert found(namespace("kube-system", **{keys.POLICY: "default"}), *rules) == []
