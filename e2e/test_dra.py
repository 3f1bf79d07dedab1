"""GPUs that a DRA driver hands out: whole boards, static MIG and partitionable boards, on the real scheduler and Kueue.

ResourceSlices are written as NVIDIA's driver publishes them (tests/inventory/resource_slices.py), and its DeviceClasses
are those of its chart 0.4.1. The nodes have no GPU in their allocatable: whatever runs was placed by a claim that the
scheduler made of the name that the webhook wrote.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from e2e.harness import nodes
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import Installation, decision, namespace
from e2e.harness.kueue import forget_plan
from e2e.harness.kwok import KEEP_RUNNING
from e2e.test_quota import KUEUE, ONE, OWN, THREE, Quotas, condition, workload
from slicewise.cli import main
from slicewise.kube.yaml import load
from tests.inventory.resource_slices import H100, instance, partitionable, resource_slice

API = "resource.k8s.io/v1"
GPU = "nvidia.com/gpu"
SPACE = "dra"
DYNAMIC = "h100-80gb-mig-dynamic"
WHOLE, STATIC = "da-80gb-exclusive", "db-80gb-mig-mixed"
WORDS = "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == "
# deployments/helm/dra-driver-nvidia-gpu/templates/deviceclass-*.yaml of the driver's chart, 0.4.1.
NVIDIAS: dict[str, Object] = {
    "gpu.nvidia.com": {
        "selectors": [{"cel": {"expression": f"{WORDS}'gpu'"}}],
        "extendedResourceName": GPU,
    },
    "mig.nvidia.com": {"selectors": [{"cel": {"expression": f"{WORDS}'mig'"}}]},
    "vfio.gpu.nvidia.com": {"selectors": [{"cel": {"expression": f"{WORDS}'vfio'"}}]},
}


def boards(number: int, product: str) -> list[Object]:
    return [
        {
            "name": f"gpu-{index}",
            "attributes": {"type": {"string": "gpu"}, "productName": {"string": product}},
            "capacity": {"memory": {"value": "81559Mi"}},
        }
        for index in range(number)
    ]


def slices_of(node: str, number: int) -> list[Object]:
    """Partitionable boards, one slice each, and the slice with their counters."""
    every = [partitionable(index, H100) for index in range(number)]
    counters = [counter for _, counter in every]
    shared = resource_slice(
        name=f"{node}-counters", pool=node, count=number + 1, devices=None, sharedCounters=counters
    )
    return [
        shared,
        *(
            resource_slice(*devices, name=f"{node}-gpu-{index}", pool=node, count=number + 1)
            for index, (devices, _) in enumerate(every)
        ),
    ]


def policy() -> Object:
    classes: dict[str, Any] = {
        "training": {"strategy": "exclusive", "models": ["NVIDIA-DA-*"]},
        "inference": {"strategy": "mig", "models": ["NVIDIA-DB-*"]},
        "notebook": {"strategy": "time-slicing", "models": ["NVIDIA-DB-*"], "otherwise": ["mig"]},
        "small": {"strategy": "mig", "size": {"profile": "1g.10gb"}, "models": ["NVIDIA-H100-*"]},
        "large": {"strategy": "mig", "size": {"profile": "3g.40gb"}, "models": ["NVIDIA-H100-*"]},
    }
    spec = {"defaultClass": "training", "classes": classes}
    return {"apiVersion": OWN, "kind": "SlicingPolicy", "metadata": {"name": "dra"}, "spec": spec}


def plan(name: str, pool: str, **spec: Any) -> Object:
    queues = [{"name": name, "namespaces": {"matchLabels": {"kubernetes.io/metadata.name": SPACE}}}]
    body = {"engine": "kueue", "pools": {"matchNames": [pool]}, "queues": queues, **spec}
    return {"apiVersion": OWN, "kind": "QuotaPlan", "metadata": {"name": name}, "spec": body}


PLANS = (
    plan("dra-whole", WHOLE),
    plan("dra-static", STATIC),
    plan("dra-dynamic", DYNAMIC, promise={DYNAMIC: {"1g.10gb": 8, "3g.40gb": "rest"}}),
)


@pytest.fixture(scope="module")
def published(cluster: AnyCluster) -> Iterator[AnyCluster]:
    """Three nodes without any GPU of their own, what the driver publishes for them, and its DeviceClasses."""
    members = [nodes.GpuNode(name, {}, {}) for name in ("dra-whole", "dra-static", "dra-dynamic")]
    nodes.add(cluster, *members)
    seven = [instance("1g.10gb", "NVIDIA DB 80GB", f"gpu-0-mig-{index}") for index in range(7)]
    items = [
        resource_slice(*boards(2, "NVIDIA DA 80GB"), name="dra-whole-a", pool="dra-whole"),
        resource_slice(*seven, name="dra-static-a", pool="dra-static"),
        *slices_of("dra-dynamic", 2),
        *(
            {"apiVersion": API, "kind": "DeviceClass", "metadata": {"name": name}, "spec": spec}
            for name, spec in NVIDIAS.items()
        ),
    ]
    for item in items:
        cluster.create(item)
    yield cluster
    for kind in ("ResourceSlice", "DeviceClass"):
        for item in cluster.list(API, kind):
            cluster.delete(API, kind, item["metadata"]["name"])
    nodes.remove(cluster, *(each.name for each in members))


@pytest.fixture(scope="module")
def running(published: AnyCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The chart, a policy with five classes, a plan for each pool."""
    found = Installation(published, tmp_path_factory.mktemp("dra"))
    try:
        found.start()
        published.apply(policy())
        namespace(published, SPACE, policy="dra", engine="kueue")
        yield found
    finally:
        for each in PLANS:
            forget_plan(published, each["metadata"]["name"])
        found.stop()


@pytest.fixture(autouse=True)
def _log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Shows the end of what the programs said when a test fails."""
    yield
    if "running" in request.fixturenames:
        for name, text in request.getfixturevalue("running").log_tails().items():
            print(name, text)


def submit(cluster: AnyCluster, name: str, work: str, queue: str) -> Object:
    """A Job that asks for one GPU and keeps running, as a person writes it."""
    container = {"name": "main", "image": "none", "resources": {"limits": {GPU: 1}}}
    template = {
        "metadata": {"annotations": {KEEP_RUNNING: "true"}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    labels = {"slicewise.io/workload-class": work, "kueue.x-k8s.io/queue-name": queue}
    return cluster.create(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "namespace": SPACE, "labels": labels},
            "spec": {"suspend": True, "template": template},
        }
    )


def pod_of(cluster: AnyCluster, job: str) -> Object:
    (found,) = [
        each
        for each in cluster.list("v1", "Pod", SPACE)
        if each["metadata"]["labels"].get("batch.kubernetes.io/job-name") == job
    ]
    return found


def runs(cluster: AnyCluster, job: str) -> Object:
    """Waits until a Job's pod runs; returns the pod."""
    eventually(lambda: is_admitted_in(cluster, job), f"Job {job} is admitted")

    def placed() -> Object:
        pod = pod_of(cluster, job)
        assert pod["status"]["phase"] == "Running", pod["status"]
        return pod

    return eventually(placed, f"the pod of {job} runs")


def is_admitted_in(cluster: AnyCluster, job: str) -> bool:
    conditions = workload(cluster, job, SPACE).get("status", {}).get("conditions") or []
    return any(each["type"] == "Admitted" and each["status"] == "True" for each in conditions)


def finish(cluster: AnyCluster, *jobs: str) -> None:
    for job in jobs:
        cluster.delete("batch/v1", "Job", job, SPACE)


def revise(cluster: AnyCluster, name: str, **spec: Any) -> None:
    item = cluster.get(API, "ResourceSlice", name)
    item["spec"].update(spec)
    item["spec"]["pool"]["generation"] += 1
    cluster.replace(item)


@pytest.mark.usefixtures("running")
def test_the_classes_that_are_printed_serve_what_the_driver_publishes(
    published: AnyCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deviceclasses", "--kubeconfig", str(published.kubeconfig)]) == 0
    printed = capsys.readouterr()
    classes = load(printed.out)
    assert "nvidia.com/gpu is served by DeviceClass gpu.nvidia.com, which is not ours" in printed.err
    served = {each["spec"].get("extendedResourceName") for each in classes}
    assert {ONE, THREE} <= served
    for each in classes:
        published.apply(each)
    for each in PLANS:
        published.apply(each)
    Quotas(published, "dra-whole").becomes({(WHOLE, GPU): 2})
    Quotas(published, "dra-static").becomes({(STATIC, ONE): 7})
    # Eight small slices may come to stand on all four halves of the two boards, so larger ones wait to be asked for.
    Quotas(published, "dra-dynamic").becomes({(DYNAMIC, ONE): 8})
    eventually(
        lambda: condition(published, "dra-dynamic", "Synced")["status"] == "True",
        "the plan says that it is synced",
    )


CLASSES = {
    "training": ("dra-whole", GPU, "dra-whole"),
    "inference": ("dra-static", ONE, "dra-static"),
    "notebook": ("dra-static", ONE, "dra-static"),
    "small": ("dra-dynamic", ONE, "dra-dynamic"),
    "large": ("dra-dynamic", THREE, "dra-dynamic"),
}


@pytest.mark.parametrize(("work", "expected"), CLASSES.items(), ids=CLASSES)
@pytest.mark.usefixtures("running")
def test_a_job_of_each_class_is_rewritten_admitted_and_placed(
    published: AnyCluster, work: str, expected: tuple[str, str, str]
) -> None:
    queue, resource, node = expected
    job = submit(published, f"one-{work}", work, queue)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {resource: "1"}
    assert decision(job)["containers"]["main"]["to"] == resource
    pod = runs(published, f"one-{work}")
    assert pod["spec"]["nodeName"] == node
    claim = pod["status"]["extendedResourceClaimStatus"]["resourceClaimName"]
    (device,) = published.get(API, "ResourceClaim", claim, SPACE)["status"]["allocation"]["devices"][
        "results"
    ]
    assert device["driver"] == "gpu.nvidia.com"
    finish(published, f"one-{work}")


@pytest.mark.usefixtures("running")
def test_what_boards_cannot_hold_together_waits_its_turn_and_runs(published: AnyCluster) -> None:
    for name in ("large-1", "large-2"):
        submit(published, name, "large", "dra-dynamic")
        runs(published, name)
    submit(published, "large-3", "large", "dra-dynamic")
    small = [f"small-{number}" for number in range(7)]
    for name in small:
        submit(published, name, "small", "dra-dynamic")
        runs(published, name)
    assert not is_admitted_in(published, "large-3")
    finish(published, "large-1")
    runs(published, "large-3")
    finish(published, "large-2", "large-3", *small)


@pytest.mark.usefixtures("running")
def test_quota_by_name_alone_admits_what_no_board_has_room_for(published: AnyCluster) -> None:
    """The hole: Kueue counts each name by itself, so it starts a third slice of a board that holds two."""
    taint = {"key": "e2e", "value": "hand", "effect": "NoSchedule"}
    nodes.add(published, nodes.GpuNode("dra-hand", {"e2e": "hand"}, {}, taints=(taint,)))
    for item in slices_of("dra-hand", 1):
        published.create(item)
    quotas = [{"name": ONE, "nominalQuota": 7}, {"name": THREE, "nominalQuota": 2}]
    group = {"coveredResources": [ONE, THREE], "flavors": [{"name": "dra-hand", "resources": quotas}]}
    flavor = {"nodeLabels": {"e2e": "hand"}, "nodeTaints": [taint]}
    space = "dra-hand"
    namespace(published, space)
    for kind, place, spec in (
        ("ResourceFlavor", {}, flavor),
        ("ClusterQueue", {}, {"namespaceSelector": {}, "resourceGroups": [group]}),
        ("LocalQueue", {"namespace": space}, {"clusterQueue": "dra-hand"}),
    ):
        published.apply(
            {"apiVersion": KUEUE, "kind": kind, "metadata": {"name": "dra-hand", **place}, "spec": spec}
        )

    def start(name: str, resource: str) -> None:
        tolerations = [{"key": "e2e", "operator": "Exists"}]
        container = {"name": "main", "image": "none", "resources": {"limits": {resource: 1}}}
        template = {
            "metadata": {"annotations": {KEEP_RUNNING: "true"}},
            "spec": {"restartPolicy": "Never", "containers": [container], "tolerations": tolerations},
        }
        labels = {"kueue.x-k8s.io/queue-name": "dra-hand"}
        published.create(
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": name, "namespace": space, "labels": labels},
                "spec": {"suspend": True, "template": template},
            }
        )

    def admitted(name: str) -> bool:
        conditions = workload(published, name, space).get("status", {}).get("conditions") or []
        return any(each["type"] == "Admitted" and each["status"] == "True" for each in conditions)

    def is_running(name: str) -> bool:
        return phase(name) == "Running"

    def phase(name: str) -> str:
        pods = published.list("v1", "Pod", space)
        found = [each for each in pods if each["metadata"]["labels"]["batch.kubernetes.io/job-name"] == name]
        return str(found[0]["status"]["phase"]) if found else ""

    try:
        for name, resource in (("small", ONE), ("large-1", THREE)):
            start(name, resource)
            eventually(partial(is_running, name), f"{name} runs")
        start("large-2", THREE)
        eventually(lambda: admitted("large-2"), "Kueue admits what fits its numbers")
        end = time.monotonic() + 10
        while time.monotonic() < end:
            assert phase("large-2") in {"", "Pending"}
            time.sleep(0.5)
    finally:
        for name in ("small", "large-1", "large-2"):
            published.delete("batch/v1", "Job", name, space)
        published.delete(KUEUE, "ClusterQueue", "dra-hand")
        nodes.remove(published, "dra-hand")


@pytest.mark.usefixtures("running")
def test_quota_follows_taints_generations_and_lost_slices(published: AnyCluster) -> None:
    quota, mine = Quotas(published, "dra-whole"), (WHOLE, GPU)
    both = boards(2, "NVIDIA DA 80GB")
    quota.becomes({mine: 2})
    tainted = copy.deepcopy(both)
    tainted[1]["taints"] = [{"key": "gpu.nvidia.com/xid", "value": "79", "effect": "NoSchedule"}]
    revise(published, "dra-whole-a", devices=tainted)
    quota.becomes({mine: 1})
    revise(published, "dra-whole-a", devices=both)
    quota.becomes({mine: 2})
    # The driver is upgraded: its slices go and come back within the hold-down, and nothing is taken away.
    whole = published.get(API, "ResourceSlice", "dra-whole-a")
    published.delete(API, "ResourceSlice", "dra-whole-a")
    eventually(lambda: condition(published, "dra-whole", "Believed")["status"] == "False", "it is noticed")
    assert quota() == {mine: 2}
    for field in ("resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"):
        whole["metadata"].pop(field, None)
    published.create(whole)
    eventually(
        lambda: condition(published, "dra-whole", "Believed")["status"] == "True", "it is believed again"
    )
    # A new generation of which half is missing counts for nothing new, and for nothing once the hold-down is over.
    generation = {
        "name": "dra-whole",
        "generation": whole["spec"]["pool"]["generation"] + 1,
        "resourceSliceCount": 2,
    }
    revise(published, "dra-whole-a", pool={**generation, "generation": generation["generation"] - 1})
    eventually(lambda: not sum(quota().values()), "what is incomplete is held and then leaves")
    published.create(
        resource_slice(
            {**both[0], "name": "gpu-2"},
            name="dra-whole-b",
            pool="dra-whole",
            generation=generation["generation"],
            count=2,
        )
    )
    quota.becomes({mine: 3})
    published.delete(API, "ResourceSlice", "dra-whole-b")
    revise(published, "dra-whole-a", pool={**generation, "resourceSliceCount": 1})
    quota.becomes({mine: 2})
