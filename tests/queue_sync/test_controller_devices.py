"""The controller beside a DRA driver: quota follows what ResourceSlices publish and DeviceClasses serve."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from slicewise.kube.device_informers import DEVICE_CLASSES, RESOURCE_SLICES, TAINT_RULES
from tests.inventory.nodes import document
from tests.inventory.resource_slices import NVIDIA_CLASS, board, class_of_profile, instance, resource_slice
from tests.kube.apiserver import ApiServer
from tests.queue_sync.running import KINDS, QUICK, World, controlled, eventually
from tests.queue_sync.scenes import GPU, MIXED, ONE

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
    dra = {RESOURCE_SLICES: "ResourceSlice", DEVICE_CLASSES: "DeviceClass", TAINT_RULES[0]: "DeviceTaintRule"}
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
    async with controlled(world.server, QUICK):
        await eventually(lambda: world.quota() == {(WHOLE, GPU): "2"})
        await eventually(lambda: world.label("n1") == WHOLE)
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
