"""Two queues fed from different pools: the same Job gets what its own queue has quota of, and runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from e2e.harness import nodes
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import Installation, namespace
from e2e.harness.kueue import forget_plan
from e2e.test_main_job import decided, is_active, job, of_class, pod_of, quota, workload_of

# queue: the only pool that feeds it, and the slice that is offered there
FED = {
    "own-large": ("h100-80gb-mig-mixed", "nvidia.com/mig-1g.10gb"),
    "own-small": ("a30-mig-mixed", "nvidia.com/mig-1g.6gb"),
}


def plan(queue: str, pool: str) -> Object:
    return {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": queue},
        "spec": {
            "engine": "kueue",
            "pools": {"matchNames": [pool]},
            "queues": [{"name": queue, "namespaces": {"matchLabels": {"team": queue}}}],
        },
    }


@pytest.fixture(scope="module")
def slicewise(installation: Installation) -> Iterator[Installation]:
    """Slicewise installed, a node and a plan for each queue, and a namespace that queues there."""
    cluster = installation.cluster
    members = [
        nodes.mig_mixed("own-h100", {"1g.10gb": 7}, gpus=1),
        nodes.mig_mixed("own-a30", {"1g.6gb": 4}, nodes.A30, gpus=1),
    ]
    nodes.add(cluster, *members)
    for queue, (pool, _) in FED.items():
        namespace(cluster, queue, policy="default", queue=queue, team=queue)
        cluster.apply(plan(queue, pool))
        eventually(partial(_stands, cluster, queue), f"{queue} has its quota and is active")
    yield installation
    for queue in FED:
        forget_plan(cluster, queue)
    nodes.remove(cluster, *(node.name for node in members))


@pytest.mark.parametrize("queue", FED)
def test_it_gets_what_its_own_queue_has_quota_of(slicewise: Installation, queue: str) -> None:
    """By the order of what fits alone, both would get the A30's slice, and one would wait for ever."""
    cluster, (pool, resource) = slicewise.cluster, FED[queue]
    made = decided(cluster, job("serve", queue, **of_class("inference")), pool)
    assert made["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {resource: "1"}
    eventually(lambda: pod_of(cluster, queue, "serve"), "its pod runs")
    (assigned,) = workload_of(cluster, queue, "serve")["status"]["admission"]["podSetAssignments"]
    assert assigned["flavors"] == {resource: pool}
    cluster.delete("batch/v1", "Job", "serve", queue)


def _stands(cluster: AnyCluster, queue: str) -> bool:
    return quota(cluster, *FED[queue], queue) > 0 and is_active(cluster, queue)
