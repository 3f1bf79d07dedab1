"""Pools of several sizes, and one without a node: Kueue admits, an autoscaler brings the node, the scheduler places.

KWOK plays the autoscaler's node: it appears after the Job was admitted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest

from e2e.harness import nodes
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import Installation, namespace
from e2e.test_main_job import GPU, decided, is_active, job, pod_of, quota, workload_of

ZERO, SIZES = "team-zero", "team-sizes"
L4, A10, H100 = "l4-exclusive", "a10-exclusive", "h100-80gb-exclusive"
SMALL = nodes.Board(product="NVIDIA-A10", memory=23028, family="ampere", compute="8.6")


def plan(name: str, pools: list[str], **spec: object) -> Object:
    queue = {"name": name, "namespaces": {"matchLabels": {"team": name}}}
    return {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": name},
        "spec": {
            "engine": "kueue",
            "pools": {"matchNames": pools},
            "queues": [queue],
            "deletionPolicy": "Release",
            **spec,
        },
    }


def _released(cluster: AnyCluster) -> bool:
    return not any(cluster.find("slicewise.io/v1alpha1", "QuotaPlan", name) for name in ("zero", "sizes"))


@pytest.fixture(scope="module")
def slicewise(installation: Installation) -> Iterator[Installation]:
    """Slicewise installed, one small board and two nodes of large ones, and a plan for a pool without a node."""
    cluster = installation.cluster
    for space, queue in ((ZERO, "zero"), (SIZES, "sizes")):
        namespace(cluster, space, policy="default", queue=queue, team=queue)
    members = [
        nodes.exclusive("sizes-a10", board=SMALL, gpus=1),
        nodes.exclusive("sizes-h100-1", gpus=4),
        nodes.exclusive("sizes-h100-2", gpus=4),
    ]
    nodes.add(cluster, *members)
    maximum, per_node = {L4: {GPU: 8}}, {L4: {GPU: 4}}
    cluster.apply(plan("zero", [L4], maximum=maximum, perNode=per_node))
    cluster.apply(plan("sizes", [A10, H100]))
    eventually(lambda: quota(cluster, L4, GPU, "zero") == 8, "the quota says what may come")
    eventually(lambda: quota(cluster, H100, GPU, "sizes") == 8, "the quota says what the nodes offer")
    for queue in ("zero", "sizes"):
        eventually(partial(is_active, cluster, queue), "the ClusterQueue is active")
    yield installation
    for name in ("zero", "sizes"):
        cluster.delete("slicewise.io/v1alpha1", "QuotaPlan", name)
    eventually(partial(_released, cluster), "what the plans gave is given back")
    nodes.remove(cluster, *(node.name for node in members))


def test_a_job_for_a_pool_without_nodes_is_admitted_and_runs_when_its_node_comes(
    slicewise: Installation,
) -> None:
    cluster = slicewise.cluster
    made = decided(cluster, job("waits", ZERO, 4), L4)
    assert made["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {GPU: "4"}

    def admitted() -> None:
        status = workload_of(cluster, ZERO, "waits")["status"]
        assert status["admission"]["podSetAssignments"][0]["flavors"] == {GPU: L4}
        (pod,) = cluster.list("v1", "Pod", ZERO, labels="batch.kubernetes.io/job-name=waits")
        assert "nodeName" not in pod["spec"]

    eventually(admitted, "Kueue admits the Job, and its pod waits for a node")
    # As an autoscaler makes it: the node group gives the pool's label.
    node = nodes.exclusive("zero-l4", board=nodes.L4, gpus=4)
    nodes.add(cluster, replace(node, labels={**node.labels, "slicewise.io/pool": L4}))
    pod = eventually(lambda: pod_of(cluster, ZERO, "waits"), "the pod runs")
    assert pod["spec"]["nodeName"] == "zero-l4"
    assert quota(cluster, L4, GPU, "zero") == 8
    cluster.delete("batch/v1", "Job", "waits", ZERO)
    nodes.remove(cluster, "zero-l4")


def test_a_job_that_no_node_to_come_can_hold_is_refused(slicewise: Installation) -> None:
    answer = slicewise.cluster.try_create(job("greedy", ZERO, 8))
    assert answer.status == 403
    assert "the most on one node is 4" in answer.message


def test_work_falls_over_to_larger_boards_when_the_small_one_is_taken(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    groups = cluster.get("kueue.x-k8s.io/v1beta2", "ClusterQueue", "sizes")["spec"]["resourceGroups"]
    assert [flavor["name"] for flavor in groups[0]["flavors"]] == [A10, H100]
    names = [f"one-{number}" for number in range(6)]
    for name in names:
        decided(cluster, job(name, SIZES), A10, H100)
    pods = [eventually(partial(pod_of, cluster, SIZES, name), f"{name} runs") for name in names]
    ran_on = [pod["spec"]["nodeName"] for pod in pods]
    assert ran_on.count("sizes-a10") == 1
    assert all(name.startswith("sizes-") for name in ran_on)
    for name in names:
        cluster.delete("batch/v1", "Job", name, SIZES)
