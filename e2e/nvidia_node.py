"""The life of a real GPU node: whole boards, no plugin, slices, boards and slices, shares; and what quota makes of it.

The kubelet, containerd, runc, NVIDIA's device plugin and GPU feature discovery are the real ones, and so are the API
server, Kueue and Slicewise. Only the GPUs are made up. Jobs ask for "a GPU", and their pods say which device they got.

It takes root and eight minutes, so it runs on request: `make nvidia-node`. `SLICEWISE_RECORD=tests/inventory/recorded`
has the Node of each step written there, for tests/inventory/test_recorded_nodes.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from e2e.harness.binaries import KUBELET
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster, Cluster
from e2e.harness.installation import Installation, namespace
from e2e.harness.nvidia import BOARDS, Machine
from e2e.harness.real_node import IMAGE, RealNode
from e2e.test_quota import KUEUE, Quota, collected, positive, quotas

pytestmark = pytest.mark.timeout(1800)

TEAM: Final = "team-node"
GPU, SLICE, SHARE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb", "nvidia.com/gpu.shared"
WHOLE_POOL, SLICES_POOL, SHARES_POOL = (
    f"h100-80gb-{kind}" for kind in ("exclusive", "mig-mixed", "time-slicing-x4")
)
SEVEN: Final = ("1g.10gb",) * 7
SHARING: Final = {"timeSlicing": {"renameByDefault": True, "resources": [{"name": GPU, "replicas": 4}]}}
HOLD_DOWN: Final = 20
# How long a kubelet remembers a plugin that has gone, in seconds.
GRACE: Final = 300


def of(*gpus: tuple[str, ...] | None, sharing: Object | None = None) -> Machine:
    return Machine(BOARDS["h100"], gpus, "mixed", sharing or {})


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(kueue=True) as found:
        yield found


@pytest.fixture(scope="module")
def slicewise(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Slicewise installed, a namespace that has opted in, and a plan over all pools."""
    found = Installation(cluster, tmp_path_factory.mktemp("slicewise"), hold_down=f"{HOLD_DOWN}s")
    found.start()
    namespace(cluster, TEAM, policy="default", queue=TEAM, team=TEAM)
    queue = {"name": TEAM, "namespaces": {"matchLabels": {"team": TEAM}}}
    plan = {"apiVersion": "slicewise.io/v1alpha1", "kind": "QuotaPlan", "metadata": {"name": TEAM}}
    cluster.apply({**plan, "spec": {"engine": "kueue", "queues": [queue]}})
    yield found
    found.stop()


@pytest.fixture
def node(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[RealNode]:
    """A node with two whole boards; what its programs said is shown when a test fails."""
    found = RealNode(cluster, "node-1", of(None, None))
    try:
        found.start()
        yield found
        if request.session.testsfailed:
            print(found.log())
    finally:
        found.stop()


def quota(cluster: AnyCluster) -> Quota:
    """What the queue promises, by flavor and resource."""
    return positive(quotas(cluster.get(KUEUE, "ClusterQueue", TEAM)))


def device(cluster: AnyCluster, workload_class: str, resource: str) -> str:
    """Runs a Job that asks for "a GPU", and returns the device that its container was given."""
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "args": ["NVIDIA_VISIBLE_DEVICES"],
        "resources": {"limits": {GPU: 1}},
    }
    spec = {"restartPolicy": "Never", "hostNetwork": True, "containers": [container]}
    made = cluster.create(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": workload_class,
                "namespace": TEAM,
                "labels": {"slicewise.io/workload-class": workload_class},
            },
            "spec": {"template": {"spec": spec}, "backoffLimit": 0},
        }
    )
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {resource: "1"}

    def ended() -> str:
        labels = f"batch.kubernetes.io/job-name={workload_class}"
        (pod,) = cluster.list("v1", "Pod", TEAM, labels=labels)
        assert pod["status"]["phase"] == "Succeeded", pod["status"]
        (status,) = pod["status"]["containerStatuses"]
        return str(status["state"]["terminated"]["message"])

    return eventually(ended, f"a pod of class {workload_class} has run")


def record(node: RealNode, step: str) -> None:
    """Writes the Node, without what Slicewise wrote and what names the machine, where `SLICEWISE_RECORD` says."""
    folder = os.environ.get("SLICEWISE_RECORD")
    print(f"{time.strftime('%X')} {step}: {node.gpus()}", flush=True)
    if not folder:
        return
    item = node.get()
    labels = {key: value for key, value in item["metadata"]["labels"].items() if "slicewise.io" not in key}
    status = item["status"]
    conditions = [{key: each[key] for key in ("type", "status", "reason")} for each in status["conditions"]]
    info = {key: status["nodeInfo"][key] for key in ("kubeletVersion", "containerRuntimeVersion")}
    kept = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels},
        "spec": {"taints": item["spec"]["taints"]},
        "status": {
            "capacity": status["capacity"],
            "allocatable": status["allocatable"],
            "conditions": conditions,
            "nodeInfo": info,
        },
    }
    target = Path(folder) / f"kubelet-{KUBELET}"
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{step}.yaml").write_text(yaml.safe_dump(kept), encoding="utf-8")


def test_quota_follows_a_node_from_whole_boards_to_slices_and_to_shares(
    slicewise: Installation, node: RealNode
) -> None:
    cluster = slicewise.cluster

    def offers(step: str, numbers: dict[str, tuple[int, int]], expected: Quota) -> None:
        """The kubelet says so, capacity and allocatable; and the queue promises that and nothing else."""

        def follows() -> None:
            assert node.gpus() == numbers
            assert quota(cluster) == expected

        eventually(follows, f"{step}: the quota follows")
        record(node, step)

    # Whole boards.
    whole = {(WHOLE_POOL, GPU): 2}
    node.discover()
    offers("1-whole", {GPU: (2, 2)}, whole)
    assert device(cluster, "training", GPU).startswith("GPU-")

    # The plugin comes back in time: nobody's quota moves. It stays away: what it offered is promised no more.
    with collected(cluster, TEAM) as seen:
        node.plugin.kill()
        eventually(lambda: node.gpus() == {GPU: (2, 0)}, "the kubelet has lost the plugin")
        node.start_plugin()
        eventually(lambda: node.gpus() == {GPU: (2, 2)}, "the plugin is back")
    assert all(positive(each) == whole for each in seen), seen
    node.plugin.kill()
    gone = time.monotonic()
    offers("2-plugin-gone", {GPU: (2, 0)}, {})
    assert time.monotonic() - gone > HOLD_DOWN

    # Slices. Before the labels follow, nothing is believed; then at once, though the old name lingers.
    slices = {(SLICES_POOL, SLICE): 14}
    node.divide(of(SEVEN, SEVEN))
    offers("3-divided-old-labels", {GPU: (2, 0), SLICE: (14, 14)}, {})
    node.discover()
    offers("4-divided", {GPU: (2, 0), SLICE: (14, 14)}, slices)
    assert device(cluster, "inference", SLICE).startswith("MIG-")

    # The kubelet starts again: it has forgotten the old name, and the plugin registers again by itself.
    with collected(cluster, TEAM) as seen:
        node.kubelet.kill()
        node.start_kubelet()
        restarted = {GPU: (0, 0), SLICE: (14, 14)}
        eventually(lambda: node.gpus() == restarted, "the plugin has registered again")
    assert all(positive(each) == slices for each in seen), seen
    record(node, "5-kubelet-restarted")

    # One board whole again.
    node.divide(of(None, SEVEN))
    node.discover()
    offers("6-half", {GPU: (1, 1), SLICE: (7, 7)}, {(SLICES_POOL, GPU): 1, (SLICES_POOL, SLICE): 7})

    # Shares under a name of their own; both old names linger.
    shared = time.monotonic()
    node.divide(of(None, None, sharing=SHARING))
    node.discover()
    shares = {(SHARES_POOL, SHARE): 8}
    offers("7-shared", {GPU: (1, 0), SLICE: (7, 0), SHARE: (8, 8)}, shares)
    assert device(cluster, "notebook", SHARE).startswith("GPU-")

    # The kubelet forgets the old names after five minutes, and keeps their keys.
    def forgotten() -> bool:
        return node.gpus() == {GPU: (0, 0), SLICE: (0, 0), SHARE: (8, 8)}

    with collected(cluster, TEAM) as seen:
        eventually(forgotten, "the old names are forgotten", timeout=GRACE + 120)
    assert time.monotonic() - shared > GRACE
    assert all(positive(each) == shares for each in seen), seen
    record(node, "8-shared-later")
