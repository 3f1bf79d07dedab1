"""The controller beside a DRA driver: quota follows what ResourceSlices publish and DeviceClasses serve."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from slicewise.cli.main import main
from slicewise.kube.device_informers import DEVICE_CLASSES, RESOURCE_CLAIMS, RESOURCE_SLICES, TAINT_RULES
from tests.inventory.nodes import document
from tests.inventory.resource_slices import (
    A100,
    NVIDIA_CLASS,
    board,
    claim,
    class_of_profile,
    instance,
    partitionable,
    resource_slice,
)
from tests.kube.apiserver import ApiServer, kubeconfig
from tests.kube.wire import Fault
from tests.queue_sync.running import (
    CONFIG_MAPS,
    KINDS,
    QUEUES,
    QUICK,
    WORKLOADS,
    World,
    controlled,
    eventually,
)
from tests.queue_sync.scenes import GPU, MIXED, ONE, THREE, mixed
from tests.queue_sync.test_planned import metric

WHOLE = "h100-80gb-exclusive"
RULE = {
    "taint": {"key": "xid", "value": "79", "effect": "NoSchedule"},
    "deviceSelector": {"pool": "n1", "device": "gpu-1"},
}


def publish(world: World, *devices: Any, name: str = "n1-a", **spec: Any) -> None:
    item = resource_slice(*devices, name=name, **spec)
    world.server.put(RESOURCE_SLICES, name, apiVersion=item["apiVersion"], spec=item["spec"])


def serve(world: World, item: dict[str, Any]) -> None:
    world.server.put(
        DEVICE_CLASSES, item["metadata"]["name"], apiVersion=item["apiVersion"], spec=item["spec"]
    )


def boards(number: int) -> list[dict[str, Any]]:
    return [{**board(), "name": f"gpu-{index}"} for index in range(number)]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    dra = {
        RESOURCE_SLICES: "ResourceSlice",
        DEVICE_CLASSES: "DeviceClass",
        TAINT_RULES[0]: "DeviceTaintRule",
        RESOURCE_CLAIMS: "ResourceClaim",
    }
    async with ApiServer({**KINDS, **dra}).running() as server:
        one = World(server)
        node = document("n1", {}, {"cpu": 8}, spec={})
        node["metadata"]["annotations"] = {}
        one.node(node)
        serve(one, NVIDIA_CLASS)
        one.plan()
        yield one


async def test_quota_is_what_slices_publish_and_follows_taints_and_lost_slices(world: World) -> None:
    publish(world, *boards(2))
    async with controlled(world.server, QUICK) as controller:
        await eventually(lambda: world.quota() == {(WHOLE, GPU): "2"})
        await eventually(lambda: world.label("n1") == WHOLE)
        assert metric(controller, "slicewise_pool_nodes") == {(WHOLE, "dra"): 1}
        world.server.put(TAINT_RULES[0], "broken", spec=RULE)
        await eventually(lambda: world.condition("Believed")["status"] == "False")
        assert world.quota() == {(WHOLE, GPU): "2"}  # held, as the numbers of a device plugin are
        await eventually(lambda: world.quota() == {(WHOLE, GPU): "1"})
        world.server.remove(TAINT_RULES[0], "broken")
        await eventually(lambda: world.quota() == {(WHOLE, GPU): "2"})
        publish(world, *boards(2), generation=2, count=2)
        await eventually(lambda: any("generation 2 has 1 of 2" in note for note in world.events("HeldBack")))
        assert world.quota() == {(WHOLE, GPU): "2"}
        publish(world, {**board(), "name": "gpu-2"}, name="n1-b", generation=2, count=2)
        await eventually(lambda: world.quota() == {(WHOLE, GPU): "3"})
        world.server.remove(RESOURCE_SLICES, "n1-b")
        await eventually(lambda: set(world.quota().values()) <= {"0"})
        await eventually(lambda: world.label("n1") is None)


async def test_another_division_counts_once_a_class_serves_it_and_it_has_settled(world: World) -> None:
    publish(world, *boards(1))
    async with controlled(world.server):
        await eventually(lambda: world.quota() == {(WHOLE, GPU): "1"})
        publish(world, instance("1g.10gb"), generation=2)
        await eventually(lambda: any("no DeviceClass serves" in note for note in world.events("HeldBack")))
        assert world.quota() == {(WHOLE, GPU): "1"}
        serve(world, class_of_profile("1g.10gb"))
        await eventually(lambda: world.quota().get((MIXED, ONE)) == "1")
        await eventually(lambda: world.label("n1") == MIXED)


async def test_a_restart_forgets_nothing_while_slices_are_incomplete(world: World) -> None:
    publish(world, *boards(2))
    async with controlled(world.server):
        await eventually(lambda: world.kept("n1") == {GPU: 2})
    publish(world, *boards(2), generation=2, count=2)
    async with controlled(world.server) as controller:
        await eventually(lambda: controller.leading)
        await world.idle(controller)
        assert world.quota() == {(WHOLE, GPU): "2"}


DYNAMIC = "h100-80gb-mig-dynamic"


async def test_quota_of_partitionable_boards_follows_what_waits_and_where_claims_are(world: World) -> None:
    devices, counters = partitionable()
    publish(world, *devices, sharedCounters=[counters])
    for profile in ("1g.10gb", "3g.40gb"):
        serve(world, class_of_profile(profile))
    container = {"resources": {"limits": {THREE: 1}}}
    waiting = {
        "queueName": "team-a",
        "podSets": [{"count": 1, "template": {"spec": {"containers": [container]}}}],
    }

    def now(gpu: int, one: int, three: int) -> Callable[[], bool]:
        wanted = {(DYNAMIC, GPU): str(gpu), (DYNAMIC, ONE): str(one), (DYNAMIC, THREE): str(three)}
        return lambda: world.quota() == wanted

    async with controlled(world.server, QUICK):
        await eventually(now(1, 0, 0))
        world.server.put(WORKLOADS, "w", "lab", spec=waiting)
        await eventually(now(0, 0, 2))
        item = claim("c", "gpu-0-mig-1g10gb-0")
        world.server.put(RESOURCE_CLAIMS, "c", "lab", metadata=item["metadata"], status=item["status"])
        await eventually(now(0, 0, 1))
        world.server.remove(RESOURCE_CLAIMS, "lab/c")
        await eventually(now(0, 0, 2))
        world.server.remove(WORKLOADS, "lab/w")
        await eventually(now(1, 0, 0))


# --- The classes that the controller keeps ----------------------------------------------------------------


def classes(world: World) -> dict[str, str]:
    """The DeviceClasses that stand: the name that each serves."""
    standing = world.server.objects[DEVICE_CLASSES]
    return {name: each["spec"].get("extendedResourceName", "") for name, each in standing.items()}


async def test_classes_are_made_changed_and_pruned_and_another_s_is_left(world: World) -> None:
    theirs = class_of_profile("7g.80gb")
    serve(world, theirs)
    publish(world, *boards(1), instance("1g.10gb"), instance("7g.80gb", name="m7"))
    nvidias = {"gpu.nvidia.com": GPU, "mig-7g-80gb": "nvidia.com/mig-7g.80gb"}
    mine = "h100-80gb-mig-1g-10gb"
    async with controlled(world.server, QUICK, keep_device_classes=True):
        await eventually(lambda: classes(world) == {**nvidias, mine: ONE})
        labels = world.server.objects[DEVICE_CLASSES][mine]["metadata"]["labels"]
        assert labels == {"slicewise.io/managed": "true"}
        await eventually(lambda: world.quota().get((MIXED, ONE)) == "1")
        # A second model has the profile: one class over both serves the name, and that of the model gives it up.
        publish(world, instance("1g.10gb", A100), name="n2-a", pool="n2")
        both = {mine: "", "a100-80gb-mig-1g-10gb": "", "mig-1g-10gb": ONE}
        await eventually(lambda: classes(world) == {**nvidias, **both})
        world.server.remove(DEVICE_CLASSES, "mig-1g-10gb")
        await eventually(lambda: classes(world) == {**nvidias, **both})
        # Nothing is published any more: what is ours goes after the hold-down.
        world.server.remove(RESOURCE_SLICES, "n1-a")
        world.server.remove(RESOURCE_SLICES, "n2-a")
        await eventually(lambda: classes(world) == nvidias)


async def test_without_being_told_the_controller_makes_no_class(world: World) -> None:
    publish(world, *boards(1), instance("1g.10gb"))
    async with controlled(world.server) as controller:
        await eventually(lambda: world.quota().get((MIXED, GPU)) == "1")
        await world.idle(controller)
    assert classes(world) == {"gpu.nvidia.com": GPU}


def charge(world: World, mapping: dict[str, Any]) -> None:
    """Kueue's configuration, with one mapping of DeviceClasses."""
    configuration = {
        "apiVersion": "config.kueue.x-k8s.io/v1beta2",
        "kind": "Configuration",
        "resources": {"deviceClassMappings": [mapping]},
    }
    data = {"controller_manager_config.yaml": json.dumps(configuration)}
    world.server.put(CONFIG_MAPS, "kueue-manager-config", "kueue-system", data=data)


BY_COUNTERS = {
    "name": "gpu-memory",
    "deviceClassNames": ["gpu.nvidia.com"],
    "sources": [{"counter": {"name": "memory", "driver": "gpu.nvidia.com"}}],
}


async def test_a_plan_over_a_name_that_kueue_charges_by_counters_is_refused_until_it_does_not(
    world: World,
) -> None:
    publish(world, *boards(2))
    charge(world, BY_COUNTERS)
    async with controlled(world.server, kueue_namespace="kueue-system"):
        await eventually(lambda: world.condition("Accepted")["status"] == "False")
        assert world.condition("Accepted")["message"] == (
            "QuotaPlan research gives quota of nvidia.com/gpu, and deviceClassMappings gpu-memory has Kueue admit "
            "nothing that asks for nvidia.com/gpu: it charges counters; take the sources of gpu.nvidia.com out and "
            "restart Kueue: plans give quota by name"
        )
        assert not world.server.objects[QUEUES]
        charge(world, {"name": GPU, "deviceClassNames": ["gpu.nvidia.com"]})
        await eventually(lambda: world.quota() == {(WHOLE, GPU): "2"})
        await eventually(lambda: world.condition("Accepted")["status"] == "True")


async def test_a_class_that_takes_over_a_name_has_plans_looked_at_again_though_no_node_shows_anything_else(
    world: World,
) -> None:
    def nvidias_class(name: str) -> None:
        serve(world, {**NVIDIA_CLASS, "spec": {**NVIDIA_CLASS["spec"], "extendedResourceName": name}})

    nvidias_class(THREE)
    world.node(mixed("n1", {"1g.10gb": 7}))
    charge(world, BY_COUNTERS)
    async with controlled(world.server, kueue_namespace="kueue-system"):
        await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
        nvidias_class(ONE)
        await eventually(lambda: world.condition("Accepted")["status"] == "False")
        nvidias_class(THREE)
        await eventually(lambda: world.condition("Accepted")["status"] == "True")


async def test_where_nobody_is_to_read_kueues_configuration_or_may_plans_are_followed(world: World) -> None:
    publish(world, *boards(2))
    charge(world, BY_COUNTERS)
    async with controlled(world.server):
        await eventually(lambda: world.quota() == {(WHOLE, GPU): "2"})
    path = "/api/v1/namespaces/kueue-system/configmaps"
    body = b'{"kind":"Status","code":403,"reason":"Forbidden","message":"configmaps is forbidden"}'
    world.server.faults.append(Fault("GET", path, status=403, body=body, times=2))
    publish(world, *boards(3))
    async with controlled(world.server, kueue_namespace="kueue-system"):
        await eventually(lambda: world.quota() == {(WHOLE, GPU): "3"})
        # Once it may, it knows.
        await eventually(lambda: world.condition("Accepted")["status"] == "False")


REFUSED = "deviceClassMappings gpu-memory has Kueue admit nothing that asks for nvidia.com/gpu"
NOT_KNOWN = (
    "how Kueue counts is not known: /api/v1/namespaces/kueue-system/configmaps: configmaps is forbidden; "
    'say where its configuration is with --kueue-namespace, or "" to do without'
)


async def run(world: World, folder: Path, *words: str) -> int:
    """The command on the live cluster, in a thread beside the server."""
    config = kubeconfig(folder, world.server.url)
    return await asyncio.to_thread(main, [*words, "--gpu-operator-namespace", "", "--kubeconfig", config])


@pytest.mark.parametrize(
    ("words", "refused"),
    [((), True), (("--kueue-namespace", "queues"), False), (("--kueue-namespace", ""), False)],
    ids=["left out", "elsewhere", "nowhere"],
)
async def test_the_command_refuses_what_the_controller_does_by_kueues_namespace(
    words: tuple[str, ...],
    world: World,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    refused: bool,
) -> None:
    publish(world, *boards(2))
    charge(world, BY_COUNTERS)
    assert await run(world, tmp_path, "plan", *words) == (2 if refused else 0)
    assert (REFUSED in capsys.readouterr().err) == refused
    assert await run(world, tmp_path, "why", "team-a", *words, "-o", "json") == 0
    assert (REFUSED in capsys.readouterr().out) == refused
    # What is written of the cluster says the same, and of Kueue's configuration no more than that.
    assert await run(world, tmp_path, "snapshot") == 0
    file = tmp_path / "cluster.yaml"
    file.write_text(written := capsys.readouterr().out)
    assert "memory" in written
    assert main(["plan", "--snapshot", str(file), *words]) == (2 if refused else 0)
    assert main(["doctor", "--snapshot", str(file), *words]) == 1
    assert ("PlanRefused" in capsys.readouterr().out) == refused


async def test_the_command_says_that_it_may_not_read_kueues_configuration(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(world, *boards(2))
    charge(world, BY_COUNTERS)
    path = "/api/v1/namespaces/kueue-system/configmaps"
    body = b'{"kind":"Status","code":403,"reason":"Forbidden","message":"configmaps is forbidden"}'
    world.server.faults.append(Fault("GET", path, status=403, body=body))
    assert await run(world, tmp_path, "plan") == 0
    assert NOT_KNOWN in capsys.readouterr().err.splitlines()
