"""Clusters as people have them: lasting taints, lost boards, an old device plugin, two clouds.

Kueue admits, the scheduler places.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from e2e.harness import nodes
from e2e.harness.client import eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import Installation, decision, namespace
from e2e.test_from_zero import plan
from e2e.test_main_job import GPU, KUEUE, decided, is_active, job, of_class, pod_of, quota, workload_of

OWN = "slicewise.io/v1alpha1"
TAINTED, LOST, XID, SUFFIXED, CLOUDS = "team-tainted", "team-lost", "team-xid", "team-suffixed", "team-clouds"
L4, A10, T4, L40S = "l4-exclusive", "a10-exclusive", "t4-time-slicing-x3", "l40s-exclusive"
SHARES, SLICES = "t4-time-slicing-x4", "a100-80gb-mig-mixed"
TAINT = {"key": "team", "value": "x", "effect": "NoSchedule"}
# The pools that feed the queue of each kind of cluster.
QUEUES = {"tainted": [f"{L4}*"], "lost": [A10], "xid": [SHARES], "suffixed": [SLICES], "clouds": [T4, L40S]}
GKE = {
    "cloud.google.com/gke-accelerator": "nvidia-tesla-t4",
    "cloud.google.com/gke-accelerator-count": "2",
    "cloud.google.com/gke-gpu-sharing-strategy": "time-sharing",
    "cloud.google.com/gke-max-shared-clients-per-gpu": "3",
}
KARPENTER = {
    "karpenter.k8s.aws/instance-gpu-manufacturer": "nvidia",
    "karpenter.k8s.aws/instance-gpu-name": "l40s",
    "karpenter.k8s.aws/instance-gpu-count": "3",
    "karpenter.k8s.aws/instance-gpu-memory": "46068",
}


def members() -> list[nodes.GpuNode]:
    small = nodes.Board(product="NVIDIA-A10", memory=23028, family="ampere", compute="8.6")
    kept = nodes.exclusive("real-kept", board=nodes.L4, gpus=1)
    before, after = (nodes.exclusive("real-lost", board=small, gpus=gpus) for gpus in (4, 3))
    geometry = {"1g.10gb": 6, "1g.10gb.me": 1}
    customary = {"key": GPU, "value": "present", "effect": "NoSchedule"}
    return [
        nodes.exclusive("real-plain", board=nodes.L4, gpus=1),
        nodes.GpuNode(kept.name, kept.labels, kept.resources, taints=(TAINT,)),
        nodes.lost(before, after),
        nodes.unhealthy(nodes.time_slicing("real-xid", 4)),
        nodes.mig_mixed("real-suffixed", geometry, nodes.A100_80GB, gpus=1, old_plugin=True),
        nodes.GpuNode("real-gke", GKE, {GPU: 6}, taints=(customary,)),
        nodes.GpuNode("real-eks", KARPENTER, {GPU: 3}),
    ]


def _released(cluster: AnyCluster) -> bool:
    return not any(cluster.find(OWN, "QuotaPlan", name) for name in QUEUES)


@pytest.fixture(scope="module")
def slicewise(installation: Installation) -> Iterator[Installation]:
    """Slicewise installed, the nodes, and a plan and a team for each kind of cluster."""
    cluster = installation.cluster
    made = members()
    nodes.add(cluster, *made)
    for name, pools in QUEUES.items():
        namespace(cluster, f"team-{name}", policy="default", queue=name, team=name)
        cluster.apply(plan(name, pools))
    for name in QUEUES:
        eventually(partial(is_active, cluster, name), f"the ClusterQueue {name} is active")
    yield installation
    for name in QUEUES:
        for each in cluster.list("batch/v1", "Job", f"team-{name}"):
            cluster.delete("batch/v1", "Job", each["metadata"]["name"], f"team-{name}")
        cluster.delete(OWN, "QuotaPlan", name)
    eventually(partial(_released, cluster), "what the plans gave is given back")
    nodes.remove(cluster, *(node.name for node in made))


def has(cluster: AnyCluster, queue: str, number: int, flavor: str, resource: str = GPU) -> None:
    """Waits until a queue has so many."""
    eventually(lambda: quota(cluster, flavor, resource, queue) == number, f"{queue} has {number} of {flavor}")


def ran_on(cluster: AnyCluster, space: str, name: str) -> str:
    """The node of a Job's only pod, once it runs."""
    pod = eventually(partial(pod_of, cluster, space, name), f"{name} runs")
    return str(pod["spec"]["nodeName"])


def test_nodes_with_a_lasting_taint_are_another_flavor_that_only_tolerant_work_gets(
    slicewise: Installation,
) -> None:
    cluster = slicewise.cluster
    label = cluster.get("v1", "Node", "real-kept")["metadata"]["labels"].get("slicewise.io/pool")
    assert label is not None
    assert label.startswith(f"{L4}-")
    for flavor, taints in ((L4, None), (label, [TAINT])):
        has(cluster, "tainted", 1, flavor)
        assert cluster.get(KUEUE, "ResourceFlavor", flavor)["spec"].get("nodeTaints") == taints

    decided(cluster, job("first", TAINTED), L4)
    assert ran_on(cluster, TAINTED, "first") == "real-plain"
    cluster.create(job("second", TAINTED))

    def waits() -> bool:
        conditions = workload_of(cluster, TAINTED, "second")["status"]["conditions"]
        return any((c["type"], c["status"]) == ("QuotaReserved", "False") for c in conditions)

    eventually(waits, "no quota is left for work that does not tolerate the taint")
    tolerant = job("third", TAINTED)
    tolerant["spec"]["template"]["spec"]["tolerations"] = [TAINT]
    decided(cluster, tolerant, L4, label)
    assert ran_on(cluster, TAINTED, "third") == "real-kept"
    assert waits()


def test_a_lost_board_takes_no_other_with_it(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    has(cluster, "lost", 3, A10)
    decided(cluster, job("three", LOST, 3), A10)
    answer = cluster.try_create(job("four", LOST, 4))
    assert answer.status == 403
    assert "the most on one node is 3" in answer.message
    assert ran_on(cluster, LOST, "three") == "real-lost"


def test_a_board_with_an_error_costs_one_of_its_shares(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    has(cluster, "xid", 15, SHARES)
    decided(cluster, job("share", XID, **of_class("notebook")), SHARES)
    assert ran_on(cluster, XID, "share") == "real-xid"


def test_slices_of_a_suffixed_profile_count_under_the_name_that_an_old_plugin_gives_them(
    slicewise: Installation,
) -> None:
    cluster, name = slicewise.cluster, "nvidia.com/mig-1g.10gb"
    has(cluster, "suffixed", 7, SLICES, name)
    made = decided(cluster, job("slice", SUFFIXED, **of_class("inference")), SLICES)
    assert decision(made)["containers"]["main"]["to"] == name
    assert ran_on(cluster, SUFFIXED, "slice") == "real-suffixed"


@pytest.mark.parametrize(
    ("workload_class", "gpus", "pool", "node"),
    [("notebook", 1, T4, "real-gke"), ("training", 3, L40S, "real-eks")],
    ids=["GKE's time-sharing", "Karpenter's whole boards"],
)
def test_two_clouds_on_one_cluster(
    slicewise: Installation, workload_class: str, gpus: int, pool: str, node: str
) -> None:
    cluster = slicewise.cluster
    has(cluster, "clouds", 6, T4)
    has(cluster, "clouds", 3, L40S)
    decided(cluster, job(f"a-{workload_class}", CLOUDS, gpus, **of_class(workload_class)), pool)
    assert ran_on(cluster, CLOUDS, f"a-{workload_class}") == node
    admission = workload_of(cluster, CLOUDS, f"a-{workload_class}")["status"]["admission"]
    assert admission["podSetAssignments"][0]["flavors"] == {GPU: pool}
