"""Everything stopped, and started again from what etcd keeps, the webhook last, under failurePolicy Fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness import nodes
from e2e.harness.client import Object, Response, eventually
from e2e.harness.cluster import Cluster
from e2e.harness.installation import NAMESPACE, Installation, namespace
from e2e.harness.kwok import KEEP_RUNNING

GPU, SLICE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
TEAM, PLAIN = "restart-team", "restart-plain"
KUEUE = "kueue.x-k8s.io/v1beta2"
FIRST = ("etcd", "kube-apiserver")
CLASS = {"slicewise.io/workload-class": "inference"}


@pytest.fixture
def slicewise(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Installation]:
    """Slicewise with failurePolicy Fail on a cluster of its own, with a node and a plan."""
    request.getfixturevalue("programs")
    with Cluster(kueue=True) as cluster:
        found = Installation(cluster, tmp_path, webhook__failurePolicy="Fail")
        found.start()
        try:
            nodes.add(cluster, nodes.mig_mixed("restart-mig", {"1g.10gb": 7}, gpus=1))
            namespace(cluster, TEAM, policy="default", queue="restart", team="restart")
            namespace(cluster, PLAIN)
            queue = {"name": "restart", "namespaces": {"matchLabels": {"team": "restart"}}}
            plan = {
                "apiVersion": "slicewise.io/v1alpha1",
                "kind": "QuotaPlan",
                "metadata": {"name": "restart"},
            }
            cluster.apply(plan | {"spec": {"engine": "kueue", "queues": [queue]}})
            eventually(lambda: quota(cluster) == "7", "the quota stands")
            eventually(lambda: gets(tried(cluster)) == {SLICE: "1"}, "work is rewritten")
            yield found
        finally:
            found.stop()


def quota(cluster: Cluster) -> str:
    (group,) = cluster.get(KUEUE, "ClusterQueue", "restart")["spec"]["resourceGroups"]
    return str(group["flavors"][0]["resources"][0]["nominalQuota"])


def job(space: str = TEAM, resources: Object | None = None) -> Object:
    asked = {"limits": {GPU: "1"}} if resources is None else resources
    container = {"name": "main", "image": "none", "resources": asked}
    template = {
        "metadata": {"annotations": {KEEP_RUNNING: "true"}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    metadata = {"generateName": "restart-", "namespace": space, "labels": CLASS}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"template": template, "suspend": True},
    }


def tried(cluster: Cluster, space: str = TEAM, resources: Object | None = None) -> Response:
    return cluster.try_create(job(space, resources), dry_run=True)


def gets(answer: Response) -> object:
    assert answer.status == 201, answer.message
    return answer.body["spec"]["template"]["spec"]["containers"][0]["resources"].get("limits")


def test_a_cluster_started_from_nothing_comes_up(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    assert isinstance(cluster, Cluster)
    rest = [name for name in cluster.components if name not in FIRST]

    # Everything stops; what etcd has on disk is all that is left.
    slicewise.webhook.program.kill()
    slicewise.controller.program.kill()
    for name in reversed(cluster.components):
        cluster.kill(name)
    for name in (*FIRST, *rest):
        cluster.start(name)

    # The cluster itself needs no webhook: nodes join, system namespaces and namespaces that did not opt in work.
    nodes.add(cluster, nodes.time_slicing("restart-new", 10))
    for space in ("kube-system", PLAIN):
        assert gets(tried(cluster, space)) == {GPU: "1"}
    assert gets(tried(cluster, TEAM, {})) is None, "work without GPUs goes on where policies hold, too"

    # Nor do the Pods of our own: they are made anew, and the controller works.
    for item in cluster.list("v1", "Pod", NAMESPACE):
        cluster.delete("v1", "Pod", item["metadata"]["name"], NAMESPACE)
    slicewise.controller.start()
    grown = nodes.mig_mixed("restart-more", {"1g.10gb": 7}, gpus=1)
    nodes.add(cluster, grown)
    eventually(lambda: quota(cluster) == "14", "the quota follows the nodes")

    # GPU work where policies hold is refused, and not let through unseen.
    answer = tried(cluster)
    assert answer.status == 500
    assert "failed calling webhook" in answer.message

    slicewise.webhook.start()
    slicewise.trusted()
    eventually(lambda: gets(tried(cluster)) == {SLICE: "1"}, "work is rewritten again")
    made = cluster.create(job())

    def runs() -> None:
        (pod,) = cluster.list(
            "v1", "Pod", TEAM, labels=f"batch.kubernetes.io/job-name={made['metadata']['name']}"
        )
        assert pod["status"].get("phase") == "Running", pod["status"]

    eventually(runs, "and runs")
