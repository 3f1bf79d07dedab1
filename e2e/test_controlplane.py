"""The control plane itself: what the other end-to-end tests stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.harness import nodes
from e2e.harness.client import ApiError, eventually
from e2e.harness.cluster import AnyCluster, Cluster
from e2e.harness.errors import ClusterError
from e2e.harness.external import ExternalCluster
from e2e.harness.processes import free_port


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected doesn't."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


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


def test_a_port_is_handed_out_once_whoever_asks_while_nothing_listens_on_it_yet() -> None:
    one = free_port()
    script = (
        "import sys\n"
        "from e2e.harness import processes\n"
        "port = int(sys.argv[1])\n"
        "processes.PORTS = range(port, port + 1)\n"
        "processes.free_port()\n"
    )
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", script, str(one)]
    other = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert "no free port" in other.stderr


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
