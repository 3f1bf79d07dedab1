"""What slipped through on Volcano, from a snapshot."""

from typing import Any

from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.drift import drift
from queue_sync.planning.findings import Finding
from queue_sync.planning.observed import Object
from slicewise.kube.snapshot import Document, collect
from tests.queue_sync.scenes import GPU, ONE, exclusive, mixed

SCHEDULING = "scheduling.volcano.sh/v1beta1"


def found(*objects: Object) -> list[Finding]:
    documents = [Document("test", number, each) for number, each in enumerate(objects, start=1)]
    return drift(ClusterState.from_snapshot(collect(documents)))


def group(phase: str, **resources: str) -> Object:
    return {
        "apiVersion": SCHEDULING,
        "kind": "PodGroup",
        "metadata": {"name": "g", "namespace": "lab"},
        "spec": {
            "minMember": 4,
            "minResources": {name.replace("_", "/"): n for name, n in resources.items()},
        },
        "status": {"phase": phase},
    }


def queue(name: str, deserved: dict[str, str], status: Any = None, **spec: Any) -> Object:
    return {
        "apiVersion": SCHEDULING,
        "kind": "Queue",
        "metadata": {"name": name},
        "spec": {"deserved": deserved, **spec},
        "status": status or {},
    }


def plan(name: str, engine: str, pools: str) -> Object:
    return {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": name},
        "spec": {"engine": engine, "queues": [{"name": name}], "pools": {"matchNames": [pools]}},
    }


def pod(node: str, *, scheduler: str = "default-scheduler", asks: str = GPU, **labels: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "lab", "labels": labels},
        "spec": {
            "nodeName": node,
            "schedulerName": scheduler,
            "containers": [{"name": "c", "resources": {"limits": {asks: "1"}}}],
        },
        "status": {"phase": "Running"},
    }


def test_a_gang_that_waits_for_a_name_that_nobody_offers() -> None:
    waits = group("Pending", **{"nvidia.com_gpu": "4", "cpu": "1", "amd.com_gpu": "1"})
    (one,) = found(mixed("n", {"1g.10gb": 7}), waits)
    assert (one.kind, one.namespace, one.name, one.code) == ("PodGroup", "lab", "g", "NameNotOffered")
    assert "waits for 4 nvidia.com/gpu, which no node offers, so Volcano never enqueues it" in one.sentence
    assert found(exclusive("n"), waits) == []
    assert found(waits) == []  # where no node was read nothing is known
    assert found(mixed("n", {"1g.10gb": 7}), group("Running", **{"nvidia.com_gpu": "4"})) == []


def test_queues_that_deserve_what_no_node_has() -> None:
    tree = [
        queue("root", {GPU: "99"}),
        queue("lab", {GPU: "8"}, parent="root"),
        queue("a", {GPU: "8"}, parent="lab"),
    ]
    assert found(exclusive("n"), *tree) == []
    (one,) = found(exclusive("n"), *tree, queue("own", {GPU: "1", "cpu": "900"}))
    assert (one.kind, one.name, one.code) == ("Queue", "lab", "QuotaWithoutNodes")
    assert "Queues lab, own deserve 9 nvidia.com/gpu together" in one.sentence
    assert [each.name for each in found(exclusive("n"), queue("own", {ONE: "1"}))] == ["own"]
    assert found(queue("own", {ONE: "1"})) == []  # where no node was read nothing is known


def test_nodes_of_kueues_plans_back_no_queue_of_volcano() -> None:
    nodes = [exclusive("n"), mixed("m", {"1g.10gb": 7})]
    kueue = plan("k", "kueue", "*-exclusive")
    assert found(*nodes, kueue, queue("v", {ONE: "7"})) == []
    (one,) = found(*nodes, kueue, queue("v", {GPU: "8"}))
    assert "the nodes that plans of other engines leave offer 0" in one.sentence


def test_an_autoscaled_pool_backs_what_it_may_grow_to() -> None:
    grows = plan("v", "volcano", "h100-*")
    grows["spec"]["maximum"] = {"h100-80gb-exclusive": {GPU: 16}}
    other = mixed("m", {"1g.10gb": 7})
    assert found(other, grows, queue("v", {GPU: "16"})) == []
    assert found(exclusive("n"), grows, queue("v", {GPU: "16"})) == []
    assert [each.code for each in found(other, grows, queue("v", {GPU: "17"}))] == ["QuotaWithoutNodes"]


def test_a_glob_of_maximum_is_the_pools_that_it_matches_and_none_of_its_own() -> None:
    grows = plan("v", "volcano", "h100-*")
    grows["spec"]["maximum"] = {"h100-80gb-ex*": {GPU: 16}}
    assert found(exclusive("n"), grows, queue("v", {GPU: "16"})) == []
    (one,) = found(exclusive("n"), grows, queue("v", {GPU: "17"}))
    assert "the nodes that plans of other engines leave offer 16" in one.sentence


def test_a_queue_that_runs_more_than_it_may() -> None:
    status = {"state": "Open", "allocated": {ONE: "6", "cpu": "9", "pods": "6"}}
    (one,) = found(mixed("n", {"1g.10gb": 7}), queue("a", {ONE: "4"}, status, capability={ONE: "5"}))
    assert (one.kind, one.name, one.code) == ("Queue", "a", "UseAboveQuota")
    assert "runs 6 nvidia.com/mig-1g.10gb and may run 5; nobody is evicted" in one.sentence
    assert found(mixed("n", {"1g.10gb": 7}), queue("a", {ONE: "4"}, status, capability={ONE: "7"})) == []


def test_work_of_one_engine_on_nodes_of_the_other() -> None:
    nodes = [exclusive("whole"), mixed("slices", {"1g.10gb": 7})]
    plans = [plan("k", "kueue", "*-exclusive"), plan("v", "volcano", "*-mixed")]
    strays = pod("whole", scheduler="volcano")
    (one,) = found(*nodes, *plans, strays)
    assert (one.kind, one.name, one.code) == ("Pod", "p", "OnOtherEnginesNodes")
    assert (
        "is Volcano's and runs on whole of pool h100-80gb-exclusive, given by a plan to Kueue" in one.sentence
    )
    assert "--node-selector=slicewise.io/pool:POOL" in one.sentence
    (other,) = found(*nodes, *plans, pod("slices", asks=ONE, **{"kueue.x-k8s.io/queue-name": "k"}))
    assert "is Kueue's and runs on slices" in other.sentence
    at_home = [
        pod("slices", scheduler="volcano", asks=ONE),
        pod("whole", **{"kueue.x-k8s.io/managed": "true"}),
    ]
    no_gpus, nobodys = pod("whole", scheduler="volcano", asks="cpu"), pod("whole")
    for each in (*at_home, no_gpus, nobodys, {**strays, "status": {"phase": "Succeeded"}}):
        assert found(*nodes, *plans, each) == []
