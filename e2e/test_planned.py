"""What is planned for nodes, from the GPU operator's own ConfigMaps, on the real API server and the real Kueue.

The controller has the rights that the kustomize component `manifests/gpu-operator` gives, and in one test none of them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from e2e.harness import nodes
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import MANIFESTS, Server
from e2e.harness.kueue import forget_plan
from tests.manifests.tools import tool

KUEUE, OWN = "kueue.x-k8s.io/v1beta2", "slicewise.io/v1alpha1"
OPERATOR, NAME = "gpu-operator", "planned"
POOL = "h100-80gb-mig-mixed"
ONE, THREE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
TIMES = ("--settle", "1s", "--hold-down", "20s")
GEOMETRIES = """
version: v1
mig-configs:
  everybody:
  - {devices: all, mig-enabled: true, mig-devices: {1g.10gb: 7}}
  research:
  - {devices: all, mig-enabled: true, mig-devices: {3g.40gb: 2}}
  too-much:
  - {devices: all, mig-enabled: true, mig-devices: {3g.40gb: 2, 1g.10gb: 1}}
"""
SHARES = "version: v1\nsharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 10}]}}\n"


@pytest.fixture(scope="module")
def installed(installed: AnyCluster) -> Iterator[AnyCluster]:
    """The GPU operator's namespace with its files beside what is shipped; nothing runs."""
    cluster = installed
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPERATOR}})
    files = {"custom-mig-parted-config": {"config.yaml": GEOMETRIES}, "device-plugin-config": {"ten": SHARES}}
    for name, data in files.items():
        metadata = {"name": name, "namespace": OPERATOR}
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    yield cluster
    for name in files:
        cluster.delete("v1", "ConfigMap", name, OPERATOR)


@pytest.fixture
def rights(installed: AnyCluster) -> Iterator[None]:
    """The right to read the files."""
    given = list(yaml.safe_load_all((MANIFESTS / "gpu-operator/rbac.yaml").read_text()))
    installed.apply(given)
    yield
    for each in given:
        installed.delete(each["apiVersion"], each["kind"], each["metadata"]["name"], OPERATOR)


@pytest.fixture
def controller(installed: AnyCluster, tmp_path: Path) -> Iterator[Server]:
    """The controller, not started."""
    server = Server(installed, "controller", tmp_path, 27, *TIMES, "--gpu-operator-namespace", OPERATOR)
    yield server
    server.program.kill()
    print(server.program.log()[-6000:])


@pytest.fixture
def planned(installed: AnyCluster) -> Iterator[None]:
    """A node divided as `everybody` says, and a plan."""
    cluster = installed
    nodes.add(cluster, nodes.mig_mixed("pl-1", {"1g.10gb": 7}, gpus=1, config="everybody"))
    spec = {"engine": "kueue", "queues": [{"name": NAME}], "pools": {"matchNames": [POOL]}}
    cluster.apply({"apiVersion": OWN, "kind": "QuotaPlan", "metadata": {"name": NAME}, "spec": spec})
    yield
    forget_plan(cluster, NAME)
    nodes.remove(cluster, "pl-1")


def quota(cluster: AnyCluster) -> dict[str, int]:
    """What the ClusterQueue has, zeros left out."""
    queue = cluster.find(KUEUE, "ClusterQueue", NAME) or {"spec": {}}
    return {
        quota["name"]: int(quota["nominalQuota"])
        for group in queue["spec"].get("resourceGroups") or ()
        for flavor in group["flavors"]
        for quota in flavor["resources"]
        if int(quota["nominalQuota"])
    }


def label(cluster: AnyCluster) -> str | None:
    found: str | None = cluster.get("v1", "Node", "pl-1")["metadata"]["labels"].get("slicewise.io/pool")
    return found


def events(cluster: AnyCluster, reason: str) -> list[str]:
    """What was said of the node."""
    return [
        each["note"]
        for each in cluster.list("events.k8s.io/v1", "Event", "default")
        if each["reason"] == reason and each["regarding"]["name"] == "pl-1"
    ]


def pool_status(cluster: AnyCluster) -> Object:
    """The plan's status of the pool."""
    pools = cluster.get(OWN, "QuotaPlan", NAME).get("status", {}).get("pools", ())
    found: Object = next((each for each in pools if each["name"] == POOL), {})
    return found


def test_the_component_gives_the_rights_and_says_where(tmp_path: Path) -> None:
    # Kustomize takes relative paths alone, and the component from anywhere.
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(MANIFESTS, tmp_path.resolve())],
        "components": [os.path.relpath(MANIFESTS / "gpu-operator", tmp_path.resolve())],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    done = subprocess.run(
        [tool("kubectl"), "kustomize", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = [each for each in yaml.safe_load_all(done.stdout) if each]
    roles = [each for each in made if each["kind"] == "Role" and each["metadata"]["namespace"] == OPERATOR]
    right = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"]}
    assert [role["rules"] for role in roles] == [[right], [right]]
    pods = [each["spec"]["template"]["spec"] for each in made if each["kind"] == "Deployment"]
    flags = [pod["containers"][0]["args"][-1] for pod in pods]
    assert flags == [f"--gpu-operator-namespace={OPERATOR}"] * 2


@pytest.mark.usefixtures("rights", "planned")
def test_a_node_on_its_way_to_a_custom_geometry_is_known_to_be(
    installed: AnyCluster, controller: Server
) -> None:
    cluster = installed
    controller.start()
    eventually(lambda: (quota(cluster), label(cluster)) == ({ONE: 7}, POOL), "the slices count")
    before = nodes.mig_mixed("pl-1", {"1g.10gb": 7}, gpus=1, config="everybody")
    after = nodes.mig_mixed("pl-1", {"3g.40gb": 2}, gpus=1, config="research")
    steps = {step.name: step for step in nodes.repartition(before, after)}
    # Nothing has happened but the label: the old success still stands beside it.
    steps["asked"].apply(cluster, "pl-1")
    eventually(lambda: label(cluster) is None, "nothing is steered there any more")
    assert quota(cluster) == {ONE: 7}
    words = "asks for research, which is 3g.40gb; the node shows 1g.10gb"
    eventually(lambda: any(words in note for note in events(cluster, "HeldBack")), "an event says why")
    for rest in ("pending", "plugin-gone", "applied", "registered", "discovered"):
        steps[rest].apply(cluster, "pl-1")
    eventually(lambda: (quota(cluster), label(cluster)) == ({THREE: 2}, POOL), "the new ones count")
    eventually(lambda: "notAsPlanned" not in pool_status(cluster), "the plan says so too")


@pytest.mark.usefixtures("rights", "planned")
def test_what_cannot_be_is_told_before_anyone_waits(installed: AnyCluster, controller: Server) -> None:
    cluster = installed
    controller.start()
    eventually(lambda: quota(cluster) == {ONE: 7}, "the slices count")
    asked = {"nvidia.com/mig.config": "too-much", "nvidia.com/device-plugin.config": "eleven"}
    nodes.label(cluster, "pl-1", asked)
    eventually(
        lambda: all(events(cluster, reason) for reason in ("ImpossibleGeometry", "MissingPluginConfig")),
        "both are events",
    )
    assert "2 × 3g.40gb + 1 × 1g.10gb cannot be placed" in events(cluster, "ImpossibleGeometry")[0]
    assert "'eleven', which does not exist (there are: ten)" in events(cluster, "MissingPluginConfig")[0]
    eventually(lambda: len(pool_status(cluster).get("notAsPlanned", ())) == 2, "the plan says so too")
    eventually(
        lambda: controller.metric("slicewise_node_not_as_planned", node="pl-1") == 2, "and so does the metric"
    )
    nodes.label(
        cluster, "pl-1", {"nvidia.com/mig.config": "everybody", "nvidia.com/device-plugin.config": None}
    )
    eventually(lambda: "notAsPlanned" not in pool_status(cluster), "all is well again")
    eventually(lambda: (quota(cluster), label(cluster)) == ({ONE: 7}, POOL), "and the node is believed")


@pytest.mark.usefixtures("planned")
def test_without_the_right_it_is_said_once_and_quota_goes_on(
    installed: AnyCluster, controller: Server
) -> None:
    cluster = installed
    controller.start()
    eventually(lambda: quota(cluster) == {ONE: 7}, "the slices count")

    def told() -> list[str]:
        return [line for line in controller.program.log().splitlines() if "configmaps" in line]

    eventually(told, "it is said")
    (once,) = told()
    assert "done without" in once
    assert controller.is_ready()
