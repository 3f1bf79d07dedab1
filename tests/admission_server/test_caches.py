"""The world that reviews are answered from follows the cluster, and is never emptied by a failure."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from admission.decision.cluster_state import ClusterState
from admission.server.caches import NAMESPACES, NODES, PLANS, POLICIES, Caches
from slicewise.api.policy import Engine
from slicewise.kube.device_informers import DEVICE_CLASSES, RESOURCE_SLICES
from tests.inventory.resource_slices import NVIDIA_CLASS, board, resource_slice
from tests.kube.apiserver import ApiServer
from tests.kube.clocks import Clock, eventually
from tests.kube.conftest import client_of
from tests.kube.wire import Fault

KINDS = {NAMESPACES: "Namespace", NODES: "Node", POLICIES: "SlicingPolicy", PLANS: "QuotaPlan"}


def _policy(default: str = "training", **extra: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "defaultClass": default,
        "classes": {"training": {"strategy": "exclusive"}},
        **extra,
    }
    return {"apiVersion": "slicewise.io/v1alpha1", "spec": spec}


def _node(gpus: int) -> dict[str, Any]:
    status = {
        "capacity": {"nvidia.com/mig-1g.10gb": str(gpus)},
        "allocatable": {"nvidia.com/mig-1g.10gb": str(gpus)},
        "conditions": [{"type": "Ready", "status": "True"}],
    }
    return {"status": status}


def _malformed(caches: Caches, name: str) -> int:
    return next(age.malformed for age in caches.ages() if age.name == name)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(KINDS).running() as one:
        yield one


@asynccontextmanager
async def started(server: ApiServer) -> AsyncIterator[Caches]:
    async with client_of(server.url, Clock(hurried=True).timing) as client:
        caches = Caches(client, "own")
        task = asyncio.create_task(caches.run())
        yield caches
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def caches(server: ApiServer) -> AsyncIterator[Caches]:
    async with started(server) as one:
        yield one


async def test_the_world_follows_the_cluster(server: ApiServer, caches: Caches) -> None:
    await eventually(lambda: caches.why_not_ready() is None)
    world = caches.world
    server.put(NAMESPACES, "a", metadata={"labels": {"slicewise.io/policy": "default"}})
    server.put(NAMESPACES, "b")
    server.put(POLICIES, "strict", **_policy())
    server.put(NODES, "n1", **_node(7))
    await eventually(
        lambda: (len(world.namespaces), len(world.policies), len(list(world.pools))) == (2, 1, 1)
    )
    assert world.namespaces["a"] == {"slicewise.io/policy": "default"}
    assert world.namespaces["b"] == {}
    (pool,) = world.pools
    assert pool.resources["nvidia.com/mig-1g.10gb"].quantity == 7
    assert "own" in world.protected
    server.remove(NODES, "n1")
    server.remove(NAMESPACES, "b")
    await eventually(lambda: not list(world.pools) and set(world.namespaces) == {"a"})


async def test_a_policy_that_mounts_another_directory_is_not_followed(
    server: ApiServer, caches: Caches, caplog: pytest.LogCaptureFixture
) -> None:
    work = {"strategy": "time-slicing", "pipeDirectory": "/etc"}
    server.put(POLICIES, "old", **_policy(classes={"training": work}))
    await eventually(lambda: caches.why_not_ready() is None)
    assert not caches.world.policies
    assert "SlicingPolicy old: spec.classes.training.pipeDirectory: /etc would be mounted" in caplog.text


async def test_a_policy_that_breaks_a_rule_leaves_the_last_good_one(
    server: ApiServer, caches: Caches, caplog: pytest.LogCaptureFixture
) -> None:
    await eventually(lambda: caches.why_not_ready() is None)
    server.put(POLICIES, "strict", **_policy())
    await eventually(lambda: "strict" in caches.world.policies)
    server.put(POLICIES, "strict", **_policy("missing"))
    await eventually(lambda: _malformed(caches, "slicingpolicies") == 1)
    assert "SlicingPolicy strict: spec.defaultClass: there is no class" in caplog.text
    assert "its last good version stays in force" in caplog.text
    assert caches.world.policies["strict"].spec.default_class == "training"
    server.put(POLICIES, "strict", **_policy(whenNothingFits="leave"))
    await eventually(lambda: _malformed(caches, "slicingpolicies") == 0)
    assert caches.world.policies["strict"].spec.when_nothing_fits == "leave"


async def test_it_is_not_ready_before_every_collection_was_listed(server: ApiServer) -> None:
    server.faults.append(Fault(path="nodes", status=503, times=1000))
    async with started(server) as caches:
        await eventually(lambda: "slicingpolicies" not in str(caches.why_not_ready()))
        assert "/api/v1/nodes" in str(caches.why_not_ready())
        server.faults.clear()
        await eventually(lambda: caches.why_not_ready() is None)


async def test_without_the_definitions_there_are_no_policies_and_plans() -> None:
    async with (
        ApiServer({NAMESPACES: "Namespace", NODES: "Node"}).running() as server,
        started(server) as caches,
    ):
        await eventually(lambda: caches.why_not_ready() is None)
        assert not caches.world.policies
        assert not caches.world.plans


async def test_what_goes_wrong_later_makes_nothing_unready(server: ApiServer, caches: Caches) -> None:
    server.put(NODES, "n1", **_node(7))
    await eventually(lambda: caches.why_not_ready() is None)
    server.faults.append(Fault(path="", status=403, times=1000))
    server.end_watches()
    await eventually(lambda: server.faults[0].times < 990)
    assert caches.why_not_ready() is None
    assert len(list(caches.world.pools)) == 1


async def test_the_age_of_each_cache_is_known(server: ApiServer, caches: Caches) -> None:
    await eventually(lambda: caches.why_not_ready() is None)
    server.put(NODES, "n1", **_node(7))
    await eventually(lambda: {one.name: one.objects for one in caches.ages()}["nodes"] == 1)
    ages = {one.name: one for one in caches.ages()}
    assert ages["nodes"].seconds is not None
    assert ages["nodes"].synced


async def test_the_world_follows_the_plans_and_keeps_the_last_good_one(
    server: ApiServer, caches: Caches, caplog: pytest.LogCaptureFixture
) -> None:
    await eventually(lambda: caches.why_not_ready() is None)
    world = caches.world
    server.put(NODES, "n1", **_node(7))
    await eventually(lambda: len(world.all_pools()) == 1)
    assert not world.divided()
    spec = {"engine": "volcano", "pools": {"matchNames": ["*"]}, "queues": [{"name": "fast"}]}
    server.put(PLANS, "lab", apiVersion="slicewise.io/v1alpha1", spec=spec)
    await eventually(world.divided)
    assert set(world.elsewhere(Engine.KUEUE).values()) == {"QuotaPlan lab gives to Volcano"}
    server.put(PLANS, "lab", apiVersion="slicewise.io/v1alpha1", spec={**spec, "queues": []})
    await eventually(lambda: "QuotaPlan lab: spec.queues" in caplog.text)
    assert "its last good version stays in force" in caplog.text
    assert world.divided()
    server.remove(PLANS, "lab")
    await eventually(lambda: not world.divided())


async def test_what_is_remembered_outlasts_a_status_that_changes_nothing(
    server: ApiServer, caches: Caches, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan: dict[str, Any] = {"apiVersion": "slicewise.io/v1alpha1"}
    plan["spec"] = {"engine": "kueue", "queues": [{"name": "fast"}]}
    server.put(PLANS, "lab", **plan)
    await eventually(lambda: caches.why_not_ready() is None and "lab" in caches.world.plans)
    told: list[set[str]] = []
    monkeypatch.setattr(ClusterState, "replanned", lambda _: told.append(set(caches.world.plans)))
    server.put(PLANS, "lab", **plan, status={"message": "14 of mig-1g.10gb"})
    server.put(PLANS, "next", **plan)
    await eventually(lambda: told and "next" in told[-1])
    assert len(told) == 1
    server.put(PLANS, "lab", **plan, status={"pools": [{"name": "h100-80gb-exclusive"}]})
    await eventually(lambda: len(told) == 2)
    assert caches.world.plans["lab"].fed_pools == ("h100-80gb-exclusive",)


async def test_what_dra_publishes_is_a_pool_and_follows_its_class() -> None:
    dra = {RESOURCE_SLICES: "ResourceSlice", DEVICE_CLASSES: "DeviceClass"}
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    async with ApiServer({**KINDS, **dra}).running() as server:
        server.put(NODES, "n1", status=status)
        server.put(RESOURCE_SLICES, "n1-a", spec=resource_slice(board())["spec"])
        async with started(server) as caches:
            await eventually(lambda: caches.why_not_ready() is None)
            (pool,) = caches.world.pools
            assert (pool.name, pool.nodes) == ("h100-80gb-exclusive", ())
            server.put(DEVICE_CLASSES, "gpu.nvidia.com", spec=NVIDIA_CLASS["spec"])
            await eventually(lambda: [each.nodes for each in caches.world.pools] == [("n1",)])
            server.remove(RESOURCE_SLICES, "n1-a")
            await eventually(lambda: not list(caches.world.pools))
