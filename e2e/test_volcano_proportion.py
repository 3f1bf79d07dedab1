"""The proportion plugin, which Volcano configures unless told otherwise: it reads the capability, and that acts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.harness import nodes
from e2e.harness.client import eventually
from e2e.harness.cluster import Cluster
from e2e.harness.installation import Installation, namespace
from e2e.harness.kueue import forget_plan
from e2e.harness.volcano import clear, is_open, numbers, running, says, vcjob
from e2e.harness.volcano_scheduler import count_with

OWN = "slicewise.io/v1alpha1"
ONE = "nvidia.com/mig-1g.10gb"
TEAM = "proportion-team"


@pytest.fixture
def slicewise(volcano_installation: Installation) -> Iterator[Installation]:
    """Seven slices for two queues, counted by the other plugin."""
    cluster = volcano_installation.cluster
    assert isinstance(cluster, Cluster)
    count_with(cluster, "proportion")
    namespace(cluster, TEAM, policy="default", workload_class="inference", engine="volcano", queue="part-a")
    nodes.add(cluster, nodes.mig_mixed("part-1", {"1g.10gb": 7}, gpus=1))
    queues = [{"name": "part-a"}, {"name": "part-b"}]
    spec = {"engine": "volcano", "queues": queues}
    cluster.apply({"apiVersion": OWN, "kind": "QuotaPlan", "metadata": {"name": "part"}, "spec": spec})
    yield volcano_installation
    clear(cluster, TEAM)
    forget_plan(cluster, "part")
    nodes.remove(cluster, "part-1", "part-2")
    count_with(cluster, "capacity")


def test_quotas_act_under_proportion_and_follow_the_nodes(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    eventually(lambda: numbers(cluster, "part-a", "capability") == {ONE: 4}, "the queues follow the node")
    eventually(lambda: is_open(cluster, "part-a", "part-b"), "both are open")
    cluster.create(vcjob("first", TEAM, 4))
    eventually(lambda: running(cluster, TEAM, "first") == 4, "the queue's part runs")
    cluster.create(vcjob("second", TEAM, 1))
    eventually(lambda: f"insufficient {ONE}" in says(cluster, TEAM, "second"), "its quota is used up")
    cluster.create(vcjob("other", TEAM, 3, queue="part-b"))
    eventually(lambda: running(cluster, TEAM, "other") == 3, "the other queue has its own")
    assert running(cluster, TEAM, "second") == 0
    nodes.add(cluster, nodes.mig_mixed("part-2", {"1g.10gb": 7}, gpus=1))
    eventually(lambda: running(cluster, TEAM, "second") == 1, "a new node gives both queues more")
    assert numbers(cluster, "part-a", "capability") == {ONE: 7}
