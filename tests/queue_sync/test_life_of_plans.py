"""Plans that get in each other's way, that are deleted, and that come after one that was."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from queue_sync.controllers import expectations
from queue_sync.manager import Manager
from queue_sync.planning.node_trust import Settings
from slicewise.cli.main import main
from slicewise.inventory.node_state import NodeRules
from tests.kube.apiserver import ApiServer
from tests.kube.wire import Fault
from tests.queue_sync.running import (
    FLAVORS,
    KINDS,
    LOCAL,
    NODES,
    PLANS,
    QUEUES,
    VOLCANO,
    WORKLOADS,
    World,
    controlled,
    eventually,
)
from tests.queue_sync.scenes import MIXED, ONE, exclusive, mixed

SEVEN = {"1g.10gb": 7}
WHOLE = "h100-80gb-exclusive"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ApiServer(KINDS).running() as server:
        yield World(server)


async def synced(world: World, controller: Manager, plan: str = "research") -> None:
    await eventually(lambda: world.condition("Synced", plan)["status"] == "True")
    await world.idle(controller)


OF_TEAM_A = [{"name": "team-a", "namespaces": {"matchLabels": {"team": "a"}}}]


@asynccontextmanager
async def releasing(world: World) -> AsyncIterator[Manager]:
    """A controller that follows a plan which gives back what it gave, a LocalQueue included."""
    world.node(mixed("n1", SEVEN))
    world.namespace("lab", team="a")
    world.plan(deletionPolicy="Release", queues=OF_TEAM_A)
    async with controlled(world.server) as controller:
        await synced(world, controller)
        await eventually(lambda: "lab/team-a" in world.server.objects[LOCAL])
        yield controller


def above_truth(controller: Manager) -> float:
    return sum(
        sample.value
        for metric in controller.metrics.registry.collect()
        if metric.name == "slicewise_quota_above_truth"
        for sample in metric.samples
    )


def delete(world: World, plan: str = "research") -> None:
    """As the API server does it: with a finalizer the plan stays until that is gone."""
    document = world.server.objects[PLANS][plan]
    if document["metadata"].get("finalizers"):
        metadata = {**document["metadata"], "deletionTimestamp": "2026-11-29T00:00:00Z"}
        world.server.put(PLANS, plan, **{**document, "metadata": metadata})
    else:
        world.server.remove(PLANS, plan)


async def test_a_second_plan_by_mistake_does_not_stop_the_first(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.node(mixed("n2", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        world.plan("oops", queues=[{"name": "other"}], pools={"matchNames": ["h100-*"]})
        await eventually(lambda: world.condition("Accepted", "oops")["status"] == "False")
        assert "the older one" in world.condition("Ready", "oops")["message"]
        world.server.remove(NODES, "n2")
        await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
        await synced(world, controller)
        assert world.condition("Ready")["status"] == "True"
        assert set(world.server.objects[QUEUES]) == {"team-a"}


async def test_a_plan_that_is_refused_later_gives_back_what_the_older_one_has(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.node(exclusive("n2"))
    world.plan("a-first", pools={"matchNames": ["*-exclusive"]}, queues=[{"name": "team-a"}])
    world.plan("second", pools={"matchNames": ["*-mixed"]}, queues=[{"name": "team-b"}])
    async with controlled(world.server) as controller:
        await synced(world, controller, "second")
        assert world.quota("team-b") == {(MIXED, ONE): "7"}
        world.plan("a-first", pools={"matchNames": ["h100-*"]}, queues=[{"name": "team-a"}])
        await eventually(lambda: world.condition("Accepted", "second")["status"] == "False")
        await eventually(lambda: world.quota("team-b") == {(MIXED, ONE): "0"})
        await eventually(lambda: world.quota("team-a")[MIXED, ONE] == "7")
        assert above_truth(controller) == 0


@pytest.mark.parametrize("broken", [{"queues": [{"name": "team-a", "share": -1}]}, {"nonsense": True}])
async def test_a_plan_that_cannot_be_read_still_shrinks(world: World, broken: dict[str, Any]) -> None:
    world.node(mixed("n1", SEVEN))
    world.node(mixed("n2", SEVEN))
    world.node(exclusive("n3"))
    growing: dict[str, Any] = {"maximum": {WHOLE: {"nvidia.com/gpu": 16}}}
    world.plan(**growing)
    async with controlled(world.server) as controller:
        await synced(world, controller)
        world.plan(**growing, **broken)
        await eventually(lambda: world.condition("Accepted")["reason"] == "Invalid")
        world.server.remove(NODES, "n2")
        await eventually(lambda: world.quota()[MIXED, ONE] == "7")
        await world.idle(controller)
        assert world.quota()[WHOLE, "nvidia.com/gpu"] == "16", "what it may grow to is not taken away"


async def test_a_deleted_plan_leaves_its_queues_and_that_is_said(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.node(mixed("n2", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        delete(world)
        await eventually(lambda: world.events("QueuesLeft"))
        assert "slicewise release research" in world.events("QueuesLeft")[0]
        world.server.remove(NODES, "n2")
        await world.idle(controller)
        assert world.quota() == {(MIXED, ONE): "14"}
        assert above_truth(controller) == 7
        findings = controller.metrics.registry.get_sample_value
        assert findings("slicewise_drift_findings", {"code": "LeftOverQuota"}) == 1
        world.plan("next", queues=[{"name": "lab"}])
        await eventually(lambda: world.condition("Ready", "next")["reason"] == "LeftOverQuota")
        assert world.quota("lab") == {(MIXED, ONE): "0"}, "what is left over is not promised a second time"
        world.plan("next", queues=[{"name": "lab"}, {"name": "team-a"}])
        await synced(world, controller, "next")
        assert (world.quota("lab"), world.quota()) == ({(MIXED, ONE): "4"}, {(MIXED, ONE): "3"})
        assert above_truth(controller) == 0


async def test_a_deleted_plan_that_releases_gives_everything_back_before_it_goes(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan(deletionPolicy="Release")
    async with controlled(world.server) as controller:
        await synced(world, controller)
        finalizers = world.server.objects[PLANS]["research"]["metadata"]["finalizers"]
        assert finalizers == ["slicewise.io/quota"]
        world.admitted("team-a", 2)
        await world.idle(controller)
        delete(world)
        await eventually(lambda: world.quota() == {(MIXED, ONE): "0"})
        await world.idle(controller)
        assert world.server.objects[PLANS], "a Workload still holds the flavor"
        world.server.remove(WORKLOADS, "lab/w")
        await eventually(lambda: not world.server.objects[PLANS]["research"]["metadata"]["finalizers"])
        assert (world.quota(), world.server.objects[FLAVORS]) == ({}, {})
        await eventually(lambda: world.events("QuotaReleased"))
        world.server.remove(PLANS, "research")
        await world.idle(controller)
        assert world.events("QueuesLeft") == []


@pytest.mark.parametrize(
    "says", [{"queues": []}, {"suspend": True}, {"mode": "report"}, {"pools": {"matchNames": ["t4-*"]}}]
)
async def test_whatever_a_plan_says_in_the_end_it_gives_back_what_it_gave(
    world: World, says: dict[str, Any]
) -> None:
    """It cannot be read, or writes nothing any more: what stands is what counts."""
    async with releasing(world) as controller:
        world.plan(**{"deletionPolicy": "Release", "queues": OF_TEAM_A, **says})
        await world.idle(controller)
        delete(world)
        await eventually(lambda: not world.server.objects[PLANS]["research"]["metadata"]["finalizers"])
        assert (world.quota(), world.server.objects[FLAVORS], world.server.objects[LOCAL]) == ({}, {}, {})


async def test_on_volcano_too(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan(engine="volcano", deletionPolicy="Release", cohort="research", queues=[{"name": "team-a"}])
    async with controlled(world.server) as controller:
        await synced(world, controller)
        delete(world)
        await eventually(lambda: not world.server.objects[PLANS]["research"]["metadata"]["finalizers"])
        queues = world.server.objects[VOLCANO]
        assert {json.dumps(queue["spec"]["deserved"]) for queue in queues.values()} <= {
            "{}",
            json.dumps({ONE: "0"}),
        }


async def test_the_finalizer_follows_the_policy(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan(deletionPolicy="Release")
    async with controlled(world.server) as controller:
        await synced(world, controller)
        assert world.server.objects[PLANS]["research"]["metadata"]["finalizers"]
        world.plan(deletionPolicy="Retain")
        await world.idle(controller)
        await eventually(lambda: not world.server.objects[PLANS]["research"]["metadata"].get("finalizers"))


async def test_a_suspended_plan_writes_nothing_and_says_so(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await synced(world, controller)
        world.plan(suspend=True)
        await eventually(lambda: world.condition("Ready")["reason"] == "Suspended")
        world.node(mixed("n2", SEVEN))
        await world.idle(controller)
        assert world.quota() == {(MIXED, ONE): "7"}
        world.plan()
        await eventually(lambda: world.quota() == {(MIXED, ONE): "14"})


async def test_a_plan_that_promises_more_than_the_installation_allows_is_not_followed(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.plan(maximum={"h100-*": {ONE: 65}})
    settings = Settings(settle=2.0, hold_down=6000.0, rules=NodeRules(largest_maximum=64))
    async with controlled(world.server, settings):
        await eventually(lambda: world.condition("Accepted")["status"] == "False")
        assert "65 is more than the 64 that this installation lets" in world.condition("Ready")["message"]
        assert not world.server.objects[QUEUES]
        world.plan(maximum={"h100-*": {ONE: 64}})
        await eventually(lambda: world.quota() == {(MIXED, ONE): "64"})


def test_the_command_refuses_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = {"engine": "kueue", "queues": [{"name": "a"}], "maximum": {"h100-*": {ONE: 65}}}
    item = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": "p"},
        "spec": spec,
    }
    file = tmp_path / "cluster.yaml"
    file.write_text(json.dumps(item))
    for largest, status in (("64", 2), ("65", 0)):
        assert main(["plan", "--snapshot", str(file), "--largest-maximum", largest]) == status
    assert "spec.maximum.h100-*.nvidia.com/mig-1g.10gb: 65 is more than the 64" in capsys.readouterr().err


async def test_a_plan_that_releases_stays_until_what_was_written_for_it_is_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its queue was made a moment ago, and no watch has shown it yet: the plan went, and the queue kept its quota."""
    world.node(mixed("n1", SEVEN))
    send = world.server._send

    def all_but_queues(collection: str, kind: str, thing: Any) -> None:
        if collection != QUEUES:
            send(collection, kind, thing)

    async with controlled(world.server) as controller:
        await world.idle(controller)
        monkeypatch.setattr(world.server, "_send", all_but_queues)
        monkeypatch.setattr("queue_sync.controllers.plan.STALE_RETRY", 5.0)  # nothing is dirty in between
        world.plan(deletionPolicy="Release")
        await eventually(lambda: world.server.objects[QUEUES])
        delete(world)
        await world.idle(controller)
        assert world.server.objects[PLANS]["research"]["metadata"]["finalizers"]
        monkeypatch.undo()
        world.server.end_watches()
        await eventually(lambda: not world.server.objects[PLANS]["research"]["metadata"]["finalizers"])
        assert (world.quota(), world.server.objects[FLAVORS]) == ({}, {})


async def test_a_local_queue_that_is_being_made_when_its_plan_is_deleted_does_not_outlive_it(
    world: World,
) -> None:
    world.node(mixed("n1", SEVEN))
    world.namespace("lab", team="a")
    queues = [{"name": "team-a", "namespaces": {"matchLabels": {"team": "a"}}}]
    world.server.faults.append(Fault("POST", "localqueues", delay=20.0))
    world.plan(deletionPolicy="Release", queues=queues)
    async with controlled(world.server):
        await eventually(lambda: world.server.count("POST", "localqueues"))
        delete(world)
        await eventually(lambda: not world.server.objects[PLANS]["research"]["metadata"]["finalizers"])
        assert [path for method, path in world.writes() if "localqueues" in path and method == "DELETE"]
        assert (world.server.objects[LOCAL], world.quota()) == ({}, {})


async def test_a_plan_that_releases_waits_for_nothing_that_is_seen(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expectations, "LONGEST_UNSEEN", 10**9)
    async with releasing(world):
        delete(world)
        await eventually(lambda: not world.server.objects[PLANS]["research"]["metadata"]["finalizers"])
        assert (world.server.objects[LOCAL], world.quota()) == ({}, {})
