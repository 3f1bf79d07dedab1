"""A plan's Volcano Queues as the controller writes them: what failed, what was edited, and what runs."""

from collections.abc import AsyncIterator
from copy import deepcopy
from typing import Any

import pytest

from queue_sync.manager import Manager
from tests.kube.apiserver import ApiServer
from tests.kube.wire import Fault
from tests.queue_sync.running import KINDS, NODES, VOLCANO, World, controlled, eventually
from tests.queue_sync.scenes import ONE, mixed

SEVEN = {"1g.10gb": 7}
TREE: dict[str, Any] = {
    "engine": "volcano",
    "cohort": "lab",
    "queues": [{"name": "a", "share": 3}, {"name": "b"}],
}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ApiServer(KINDS).running() as server:
        yield World(server)


async def is_synced(world: World, controller: Manager) -> None:
    await eventually(lambda: world.condition("Synced")["status"] == "True")
    await world.idle(controller)


def deserved(world: World, queue: str) -> Any:
    return world.server.objects[VOLCANO][queue]["spec"].get("deserved")


def change(world: World, name: str, **parts: Any) -> None:
    """Somebody else writes parts of a Queue."""
    now = deepcopy(world.server.objects[VOLCANO][name])
    world.server.put(VOLCANO, name, **{**now, **parts})


SAID = b'{"kind":"Status","code":403,"reason":"Forbidden","message":"deserved should less equal than capability"}'


async def test_what_builds_on_a_refused_write_is_not_tried(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan(**TREE)
    world.server.faults.append(Fault("POST", VOLCANO, times=3, status=403, body=SAID))
    async with controlled(world.server) as controller:
        await eventually(lambda: world.events("ServerRefused"))
        assert "list there whatever the queue deserves" in world.events("ServerRefused")[0]
        await is_synced(world, controller)
        # The parent was refused each time, and no child was tried before it stood.
        written = [body["metadata"]["name"] for body in world.write_bodies("queues")]
        assert written == [*["lab"] * 3, "lab", "a", "b"]


async def test_a_webhook_that_has_not_seen_the_write_before_is_asked_again(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan(**TREE)
    async with controlled(world.server) as controller:
        await is_synced(world, controller)
        world.server.faults.append(Fault("PATCH", f"{VOLCANO}/a", times=2, status=403, body=SAID))
        world.node(mixed("n2", SEVEN))
        await eventually(
            lambda: deserved(world, "lab") == {ONE: "14"} and deserved(world, "a") == {ONE: "11"}
        )
        assert world.events("ServerRefused") == []


async def test_an_edit_is_put_back_and_told_and_what_runs_is_none(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan(**TREE)
    async with controlled(world.server) as controller:
        await is_synced(world, controller)
        change(world, "a", status={"state": "Open", "allocated": {ONE: "2", "pods": "2"}})
        await world.idle(controller)
        assert world.events("PutBack") == []
        await eventually(lambda: world.pool()["used"] == {ONE: "2"})
        spec = world.server.objects[VOLCANO]["a"]["spec"]
        change(world, "a", spec={**spec, "deserved": {ONE: "1"}})
        await eventually(lambda: deserved(world, "a") == {ONE: "5"})
        await eventually(lambda: world.events("PutBack"))
        assert "Queue a was edited where QuotaPlan research decides" in world.events("PutBack")[0]


async def test_a_node_that_goes_takes_what_runs_below_its_quota_and_that_is_told(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.node(mixed("n2", SEVEN))
    world.plan(**TREE)
    async with controlled(world.server) as controller:
        await is_synced(world, controller)
        change(world, "lab", status={"state": "Open", "allocated": {ONE: "12"}})
        await world.idle(controller)
        world.server.remove(NODES, "n2")
        await eventually(lambda: deserved(world, "lab") == {ONE: "7"})
        await eventually(lambda: world.events("QuotaBelowUse"))
        assert "Queue lab may run 7" in world.events("QuotaBelowUse")[0]
