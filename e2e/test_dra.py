"""GPUs that a DRA driver hands out: whole boards, static MIG and partitionable boards, on the real scheduler and Kueue.

ResourceSlices are written as NVIDIA's driver publishes them (tests/inventory/resource_slices.py), and its DeviceClasses
are those of its own chart. The nodes have no GPU in their allocatable: whatever runs was placed by a claim that the
scheduler made of the name that the webhook wrote.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from e2e.harness import nodes
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.dra_driver import chart_objects
from e2e.harness.installation import Installation, decision, namespace
from e2e.harness.kueue import NAMESPACE as KUEUE_NAMESPACE
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
    ]
    cluster.apply(chart_objects())
    for item in items:
        cluster.create(item)
    yield cluster
    for definition in (item for item in chart_objects() if item["kind"] != "DeviceClass"):
        cluster.delete(definition["apiVersion"], definition["kind"], definition["metadata"]["name"])
    for kind in ("ResourceSlice", "DeviceClass"):
        for item in cluster.list(API, kind):
            cluster.delete(API, kind, item["metadata"]["name"])
    nodes.remove(cluster, *(each.name for each in members))


@pytest.fixture(scope="module")
def running(published: AnyCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The chart, a policy with five classes, a plan for each pool."""
    folder = tmp_path_factory.mktemp("dra")
    values: dict[str, Any] = {"keepDeviceClasses": True, "kueueNamespace": KUEUE_NAMESPACE}
    found = Installation(
        published,
        folder,
        # A driver that comes back in time has so long, on a machine that does much else.
        hold_down="12s",
        replicas=1,
        **{f"controller__{key}": each for key, each in values.items()},
    )
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


def versions_of_others(cluster: AnyCluster) -> dict[str, str]:
    """The resourceVersion of each DeviceClass that is not ours."""
    items = cluster.list(API, "DeviceClass", labels="!slicewise.io/managed")
    return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}


def kept(cluster: AnyCluster) -> dict[str, Object]:
    """The DeviceClasses that are ours, by name."""
    items = cluster.list(API, "DeviceClass", labels="slicewise.io/managed=true")
    return {item["metadata"]["name"]: item["spec"] for item in items}


@pytest.mark.usefixtures("running")
def test_the_classes_that_are_kept_are_those_that_are_printed_and_quota_follows(
    published: AnyCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deviceclasses", "--kubeconfig", str(published.kubeconfig)]) == 0
    printed = capsys.readouterr()
    classes = {each["metadata"]["name"]: each["spec"] for each in load(printed.out)}
    assert "nvidia.com/gpu is served by DeviceClass gpu.nvidia.com, which is not ours" in printed.err
    assert {ONE, THREE} <= {spec.get("extendedResourceName") for spec in classes.values()}
    eventually(lambda: kept(published) == classes, "the controller keeps what is printed")
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


@pytest.mark.usefixtures("running")
def test_the_controller_makes_and_takes_away_classes_of_its_own_alone(published: AnyCluster) -> None:
    before, name = kept(published), "dc-40gb-mig-1g-5gb"
    others = versions_of_others(published)
    small = instance("1g.5gb", "NVIDIA DC 40GB", "gpu-0-mig-0")
    published.create(resource_slice(small, name="dra-more-a", pool="dra-more"))
    eventually(lambda: name in kept(published), "a class for what is published now")
    published.delete(API, "DeviceClass", name)
    eventually(lambda: name in kept(published), "the class that somebody deleted")
    published.delete(API, "ResourceSlice", "dra-more-a")
    eventually(lambda: kept(published) == before, "the class goes with what it served")
    assert versions_of_others(published) == others


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


def test_a_controller_that_is_killed_twice_still_keeps_what_runs_and_starts_what_waits(
    published: AnyCluster, running: Installation
) -> None:
    running.controller.program.kill()
    submit(published, "later-large", "large", "dra-dynamic")
    running.controller.start()
    runs(published, "later-large")
    running.controller.program.kill()
    small = [f"later-{number}" for number in range(8)]
    for name in small:
        submit(published, name, "small", "dra-dynamic")
    running.controller.start()
    for name in small:
        runs(published, name)
    assert Quotas(published, "dra-dynamic")()[DYNAMIC, THREE] >= 1
    finish(published, "later-large", *small)


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


@pytest.mark.usefixtures("running")
def test_quota_follows_a_rule_that_taints_a_device(published: AnyCluster) -> None:
    quota, mine = Quotas(published, "dra-whole"), (WHOLE, GPU)
    quota.becomes({mine: 2})
    selector = {"driver": "gpu.nvidia.com", "pool": "dra-whole", "device": "gpu-1"}
    taint = {"key": "e2e.slicewise.io/repair", "effect": "NoSchedule"}
    spec = {"deviceSelector": selector, "taint": taint}
    published.create(
        {"apiVersion": API, "kind": "DeviceTaintRule", "metadata": {"name": "dra-repair"}, "spec": spec}
    )
    quota.becomes({mine: 1})
    published.delete(API, "DeviceTaintRule", "dra-repair")
    quota.becomes({mine: 2})


@pytest.mark.usefixtures("running")
def test_a_plan_is_refused_while_kueues_configuration_has_its_name_charged_by_counters(
    published: AnyCluster,
) -> None:
    mapping = {
        "name": "gpu-memory",
        "deviceClassNames": ["gpu.nvidia.com"],
        "sources": [{"counter": {"name": "memory", "driver": "gpu.nvidia.com"}}],
    }
    configuration = {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "resources": {"deviceClassMappings": [mapping]},
    }
    metadata = {"name": "kueue-manager-config", "namespace": KUEUE_NAMESPACE}
    data = {"controller_manager_config.yaml": json.dumps(configuration)}
    published.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    try:
        eventually(
            lambda: "it charges counters" in condition(published, "dra-whole", "Accepted")["message"],
            "the plan is refused",
        )
        assert condition(published, "dra-static", "Accepted")["status"] == "True"
    finally:
        published.delete("v1", "ConfigMap", "kueue-manager-config", KUEUE_NAMESPACE)
    eventually(
        lambda: condition(published, "dra-whole", "Accepted")["status"] == "True",
        "the plan is followed again",
    )
    Quotas(published, "dra-whole").becomes({(WHOLE, GPU): 2})
