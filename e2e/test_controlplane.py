"""The control plane itself: what the other end-to-end tests stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.harness import nodes
from e2e.harness.client import ApiError, KubeClient, Object, eventually
from e2e.harness.cluster import AnyCluster, Cluster
from e2e.harness.errors import ClusterError
from e2e.harness.external import ExternalCluster
from e2e.harness.kwok import KEEP_RUNNING

KUEUE = "kueue.x-k8s.io/v1beta2"
SLICE = "nvidia.com/mig-1g.10gb"


def flavor(name: str) -> Object:
    """A flavor for nodes labelled ``e2e: NAME``."""
    spec = {"nodeLabels": {"e2e": name}}
    return {"apiVersion": KUEUE, "kind": "ResourceFlavor", "metadata": {"name": name}, "spec": spec}


def cluster_queue(name: str, quota: Object) -> Object:
    """A ClusterQueue with one flavor of the same name and one resource."""
    resource = {"name": SLICE, **quota}
    group = {"coveredResources": [SLICE], "flavors": [{"name": name, "resources": [resource]}]}
    spec = {"namespaceSelector": {}, "cohortName": f"{name}-cohort", "resourceGroups": [group]}
    return {"apiVersion": KUEUE, "kind": "ClusterQueue", "metadata": {"name": name}, "spec": spec}


def local_queue(name: str) -> Object:
    """A LocalQueue of the same name, in the default namespace."""
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": KUEUE, "kind": "LocalQueue", "metadata": metadata, "spec": {"clusterQueue": name}}


def job(name: str, queue: str, slices: int = 1) -> Object:
    """A Job whose pod asks for slices and keeps running."""
    limits = {SLICE: str(slices)}
    container = {"name": "main", "image": "none", "resources": {"limits": limits}}
    template = {
        "metadata": {"annotations": {KEEP_RUNNING: "true"}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"kueue.x-k8s.io/queue-name": queue},
        },
        "spec": {"template": template},
    }


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected doesn't."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def running_pods(client: KubeClient, of: str) -> int:
    """How many pods of a Job run."""
    pods = client.list("v1", "Pod", "default", labels=f"batch.kubernetes.io/job-name={of}")
    return sum(pod["status"].get("phase") == "Running" for pod in pods)


def workloads(client: KubeClient, queue: str) -> list[Object]:
    """The Workloads of a LocalQueue in the default namespace."""
    return [w for w in client.list(KUEUE, "Workload", "default") if w["spec"]["queueName"] == queue]


def test_a_job_that_asks_for_a_slice_is_admitted_and_runs(cluster: AnyCluster) -> None:
    if isinstance(cluster, Cluster):
        print(f"ready in {cluster.seconds_to_ready:.1f} s")
    node = nodes.mig_mixed("runs", {"1g.10gb": 7}, gpus=1)
    nodes.add(cluster, node)
    nodes.label(cluster, "runs", {"e2e": "runs"})
    assert nodes.advertised(cluster, "runs") == {SLICE: 7}
    cluster.apply([flavor("runs"), cluster_queue("runs", {"nominalQuota": 7}), local_queue("runs")])
    cluster.create(job("one", "runs"))

    eventually(lambda: running_pods(cluster, "one") == 1, "the pod of the Job runs")

    (workload,) = workloads(cluster, "runs")
    assert workload["status"]["admission"]["podSetAssignments"][0]["resourceUsage"] == {SLICE: "1"}
    (pod,) = cluster.list("v1", "Pod", "default", labels="batch.kubernetes.io/job-name=one")
    assert pod["spec"]["nodeName"] == "runs"
    eventually(lambda: 'kueue_admitted_active_workloads{cluster_queue="runs"' in cluster.kueue_metrics())
    cluster.delete("batch/v1", "Job", "one", "default")
    nodes.remove(cluster, "runs")


def test_a_job_beyond_the_quota_waits(cluster: AnyCluster) -> None:
    cluster.apply([flavor("waits"), cluster_queue("waits", {"nominalQuota": 7}), local_queue("waits")])
    cluster.create(job("eight", "waits", slices=8))

    def is_refused() -> None:
        (workload,) = workloads(cluster, "waits")
        (reserved,) = [c for c in workload["status"]["conditions"] if c["type"] == "QuotaReserved"]
        assert reserved["status"] == "False"
        assert SLICE in reserved["message"]

    eventually(is_refused, "Kueue says why the Job waits")
    assert running_pods(cluster, "eight") == 0
    cluster.delete("batch/v1", "Job", "eight", "default")


def test_kueue_refuses_to_lend_more_than_there_is(cluster: AnyCluster) -> None:
    queue = cluster_queue("lends", {"nominalQuota": 2, "lendingLimit": 3})
    answer = cluster.try_create(queue)
    assert answer.status == 403
    assert "vclusterqueue.kb.io" in answer.message
    assert "lendingLimit" in answer.message


def test_nodes_do_what_real_ones_do(cluster: AnyCluster) -> None:
    before, after = nodes.exclusive("turns"), nodes.mig_single("turns", "1g.10gb")
    nodes.add(cluster, before)
    seen = []
    for step in nodes.repartition(before, after):
        step.apply(cluster, "turns")
        seen.append((step.name, nodes.advertised(cluster, "turns")))
    assert seen == [
        ("asked", {nodes.GPU: 8}),
        ("pending", {nodes.GPU: 8}),
        ("plugin-gone", {nodes.GPU: 0}),
        ("applied", {nodes.GPU: 0}),
        ("registered", {nodes.GPU: 56}),
        ("discovered", {nodes.GPU: 56}),
    ]
    labels = cluster.get("v1", "Node", "turns")["metadata"]["labels"]
    assert after.labels.items() <= labels.items()

    nodes.plugin_gone(cluster, "turns")
    assert nodes.advertised(cluster, "turns") == {nodes.GPU: 0}
    nodes.plugin_back(cluster, "turns")
    assert nodes.advertised(cluster, "turns") == {nodes.GPU: 56}
    nodes.not_ready(cluster, "turns")
    assert nodes.advertised(cluster, "turns") == {nodes.GPU: 56}
    nodes.ready(cluster, "turns")
    assert nodes.advertised(cluster, "turns") == {nodes.GPU: 56}
    nodes.cordon(cluster, "turns")
    assert cluster.get("v1", "Node", "turns")["spec"]["unschedulable"] is True
    nodes.uncordon(cluster, "turns")
    nodes.remove(cluster, "turns")


def test_another_identity_may_do_what_rbac_says(cluster: AnyCluster) -> None:
    user = "system:serviceaccount:default:reader"
    with cluster.client_for(user) as reader:
        answer = reader.request("GET", "/api/v1/nodes")
    assert answer.status == 403
    assert user in answer.message


def test_a_cluster_that_was_there_before_is_used_as_it_is(cluster: AnyCluster) -> None:
    external = ExternalCluster(cluster.kubeconfig)
    try:
        external.up()
        with external.client_for("somebody", ["people"]) as somebody:
            answer = somebody.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
        assert answer.body["status"]["userInfo"]["username"] == "somebody"
        with external.client_for("system:serviceaccount:default:reader") as reader:
            answer = reader.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})
        assert answer.body["status"]["userInfo"]["username"] == "system:serviceaccount:default:reader"
        with pytest.raises(ClusterError, match="cannot be killed"):
            external.kill("etcd")
    finally:
        external.stop()


def test_a_cluster_with_real_gpu_nodes_is_refused(cluster: AnyCluster) -> None:
    real = nodes.exclusive("real").manifest()
    del real["metadata"]["annotations"]
    cluster.create(real)
    external = ExternalCluster(cluster.kubeconfig)
    try:
        with pytest.raises(ClusterError, match=r"node real .* not a cluster for tests"):
            external.up()
    finally:
        nodes.remove(cluster, "real")


@pytest.mark.usefixtures("volcano_programs")
def test_volcano_runs_a_gang_and_refuses_a_queue_that_promises_too_much() -> None:
    with Cluster(volcano=True) as own:  # its node must not count in the shared one
        queues, jobs = "scheduling.volcano.sh/v1beta1", "batch.volcano.sh/v1alpha1"
        nodes.add(own, nodes.mig_mixed("gang", {"1g.10gb": 7}, gpus=1))

        def queue(name: str, guarantee: int) -> Object:
            limits = {"deserved": {SLICE: "3"}, "capability": {SLICE: "3"}}
            spec = {**limits, "guarantee": {"resource": {SLICE: str(guarantee)}}}
            return {"apiVersion": queues, "kind": "Queue", "metadata": {"name": name}, "spec": spec}

        answer = own.try_create(queue("greedy", guarantee=5))
        assert answer.status == 400
        assert "guarantee should less equal than" in answer.message
        own.create(queue("gang", guarantee=2))
        eventually(lambda: own.get(queues, "Queue", "gang")["status"]["state"] == "Open")

        for size in (3, 4):
            template = job("unused", "unused")["spec"]["template"]
            task = {"name": "main", "replicas": size, "template": template}
            spec = {"schedulerName": "volcano", "queue": "gang", "minAvailable": size, "tasks": [task]}
            metadata = {"name": f"of-{size}", "namespace": "default"}
            own.create({"apiVersion": jobs, "kind": "Job", "metadata": metadata, "spec": spec})

        def phase(name: str) -> str:
            return str(own.get(jobs, "Job", name, "default")["status"]["state"]["phase"])

        eventually(lambda: phase("of-3") == "Running", "the gang of three runs")
        assert phase("of-4") == "Pending"


@pytest.mark.usefixtures("programs")
def test_a_component_can_be_killed_and_started_again() -> None:
    with Cluster(scheduler=False, controller_manager=False, kwok=False) as small:
        small.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept"}})
        for name in ("kube-apiserver", "etcd"):
            small.kill(name)
            assert small.failures()
            small.start(name)
        eventually(lambda: small.get("v1", "Namespace", "kept"), "what was written is still there")
        with pytest.raises(ApiError):
            small.get("v1", "Namespace", "never")


@pytest.mark.usefixtures("programs")
def test_nothing_is_left_when_the_run_is_killed() -> None:
    script = (
        "import threading\n"
        "from e2e.harness.cluster import Cluster\n"
        "cluster = Cluster(scheduler=False, controller_manager=False, kwok=False)\n"
        # From a thread that ends: a program must not end with the thread that started it.
        "starter = threading.Thread(target=cluster.up)\n"
        "starter.start()\n"
        "starter.join()\n"
        "assert cluster.request('GET', '/readyz').status == 200\n"
        "print(*cluster.pids(), flush=True)\n"
        "threading.Event().wait()\n"
    )
    root = Path(__file__).parent.parent
    with subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        pids = [int(pid) for pid in run.stdout.readline().split()]
        assert len(pids) == 4
        assert all(is_alive(pid) for pid in pids)
        os.kill(run.pid, signal.SIGKILL)
    eventually(lambda: not any(is_alive(pid) for pid in pids), f"none of {pids} runs any more")
