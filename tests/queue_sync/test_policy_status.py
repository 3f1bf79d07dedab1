"""The status of SlicingPolicies: what classes get now, who uses them, whose counting they break."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from queue_sync.planning.findings import Finding
from queue_sync.status import policy_status
from slicewise.api import keys
from slicewise.api.policy import built_in
from tests.kube.apiserver import ApiServer
from tests.kube.wire import Fault
from tests.queue_sync.running import (
    KINDS,
    LIMIT_RANGES,
    POLICIES,
    RESOURCE_QUOTAS,
    World,
    controlled,
    eventually,
)
from tests.queue_sync.scenes import MIXED, exclusive, inventory, mixed, sliced

WHOLE, SHARED = "h100-80gb-exclusive", "t4-time-slicing-x10"
NOW = "2026-01-01T00:00:00Z"
COUNTS_OLD_NAME = Finding("ResourceQuota", "lab", "gpus", "ResourceQuotaMissesWork", "it counts the old name")


def status_of(*documents: Any, findings: tuple[Finding, ...] = (), unread: str = "") -> dict[str, Any]:
    pools = list(inventory(*documents))
    return policy_status.status(built_in(), 3, pools, 2, findings, unread, {}, NOW)


def condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in status["conditions"] if each["type"] == kind)
    return found


def test_classes_say_what_they_get_now() -> None:
    status = status_of(mixed("n1", {"1g.10gb": 7}), sliced("n2"), exclusive("n3"))
    assert status["classes"] == {
        "inference": {"strategy": "mig", "pools": [MIXED]},
        "notebook": {"strategy": "time-slicing", "pools": [SHARED]},
        "batch-inference": {"strategy": "mig", "pools": [MIXED]},
        "training": {"strategy": "exclusive", "pools": [WHOLE]},
        "tuning": {"strategy": "time-slicing", "pools": [SHARED]},
    }
    assert (status["namespaces"], status["observedGeneration"]) == (2, 3)
    assert [each["status"] for each in status["conditions"]] == ["True", "True", "True", "False"]


def test_a_class_that_nothing_serves_is_named_with_what_was_tried() -> None:
    status = status_of(sliced("n2"))
    assert status["classes"]["training"] == {"strategy": "exclusive", "pools": []}
    ready = condition(status, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "NothingFits")
    assert ready["message"].startswith("class inference: ")
    assert "class training: " in ready["message"]
    assert condition(status, "Accepted")["status"] == "True"


def test_rules_that_no_longer_count_are_named_and_unread_ones_unknown() -> None:
    told = condition(status_of(findings=(COUNTS_OLD_NAME,)), "QuotasMiscounted")
    assert (told["status"], told["reason"]) == ("True", "ResourceQuotaMissesWork")
    assert told["message"] == "in lab: it counts the old name"
    told = condition(status_of(unread="/api/v1/limitranges may not be read"), "QuotasMiscounted")
    assert (told["status"], told["reason"]) == ("Unknown", "NotReadable")
    assert told["message"] == "/api/v1/limitranges may not be read"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ApiServer(KINDS).running() as server:
        yield World(server)


async def test_a_status_follows_pools_and_namespaces_and_then_writes_nothing(world: World) -> None:
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.policy("research", {"inference": {"strategy": "mig"}})
    world.namespace("lab", **{keys.POLICY: "research"})
    world.namespace("dev", **{keys.POLICY: "another"})
    async with controlled(world.server) as controller:
        await eventually(lambda: world.policy_condition("Ready")["status"] == "True")
        shown = world.server.objects[POLICIES]["research"]["status"]
        assert shown["classes"] == {"inference": {"strategy": "mig", "pools": [MIXED]}}
        assert shown["namespaces"] == 1
        world.namespace("dev", **{keys.POLICY: "research"})
        await eventually(lambda: world.server.objects[POLICIES]["research"]["status"]["namespaces"] == 2)
        world.policy("research", {"training": {"strategy": "exclusive"}})
        await eventually(lambda: world.policy_condition("Ready")["reason"] == "NothingFits")
        shown = world.server.objects[POLICIES]["research"]["status"]
        assert shown["classes"].keys() == {"training"}
        world.node(exclusive("n2"))
        await eventually(lambda: world.policy_condition("Ready")["status"] == "True")
        await world.idle(controller)
        before = world.writes()
        for name in ("n1", "n2"):
            world.node(mixed("n1", {"1g.10gb": 7}) if name == "n1" else exclusive("n2"))
        world.namespace("other")
        await world.idle(controller)
        assert world.writes() == before


async def test_a_policy_that_breaks_a_rule_keeps_what_it_resolved_to(world: World) -> None:
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.policy("research", {"inference": {"strategy": "mig"}})
    async with controlled(world.server):
        await eventually(lambda: world.policy_condition("Ready")["status"] == "True")
        world.policy("research", {"inference": {"strategy": "mig"}}, defaultClass="missing")
        await eventually(lambda: world.policy_condition("Accepted")["status"] == "False")
        assert "there is no class 'missing'" in world.policy_condition("Ready")["message"]
        shown = world.server.objects[POLICIES]["research"]["status"]
        assert shown["classes"] == {"inference": {"strategy": "mig", "pools": [MIXED]}}


async def test_a_pool_that_a_plan_declares_serves_a_class(world: World) -> None:
    world.policy("research", {"training": {"strategy": "exclusive"}})
    world.node(mixed("n1", {"1g.10gb": 7}))
    async with controlled(world.server):
        await eventually(lambda: world.policy_condition("Ready")["status"] == "False")
        world.plan(maximum={"a10-exclusive": {keys.GPU: 8}})
        await eventually(lambda: world.policy_condition("Ready")["status"] == "True")
        shown = world.server.objects[POLICIES]["research"]["status"]
        assert shown["classes"] == {"training": {"strategy": "exclusive", "pools": ["a10-exclusive"]}}


async def test_rules_of_namespaces_that_use_the_policy_are_told(world: World) -> None:
    world.policy("research", {"inference": {"strategy": "mig"}})
    world.namespace("lab", **{keys.POLICY: "research"})
    world.namespace("other")
    for space in ("lab", "other"):
        world.server.put(
            RESOURCE_QUOTAS, "gpus", space, spec={"hard": {"requests.nvidia.com/gpu": "4", "cpu": "9"}}
        )
    async with controlled(world.server):
        await eventually(lambda: world.policy_condition("QuotasMiscounted")["status"] == "True")
        words = world.policy_condition("QuotasMiscounted")["message"]
        assert words.startswith("in lab: ResourceQuota lab/gpus counts requests.nvidia.com/gpu")
        world.server.put(RESOURCE_QUOTAS, "gpus", "lab", spec={"hard": {"cpu": "9"}})
        await eventually(lambda: world.policy_condition("QuotasMiscounted")["status"] == "False")
        world.server.put(
            LIMIT_RANGES,
            "defaults",
            "lab",
            spec={"limits": [{"type": "Container", "default": {keys.GPU: "1"}}]},
        )
        await eventually(
            lambda: world.policy_condition("QuotasMiscounted")["reason"] == "LimitRangeRestoresName"
        )


async def test_what_may_not_be_read_is_unknown_and_stops_nothing(world: World) -> None:
    forbidden = b'{"kind":"Status","code":403,"reason":"Forbidden","message":"may not list"}'
    for path in (RESOURCE_QUOTAS, "/api/v1/namespaces/gpu-operator/configmaps"):
        world.server.faults.append(Fault(path=path, status=403, body=forbidden, times=10**6))
    world.node(mixed("n1", {"1g.10gb": 7}))
    world.policy("research", {"inference": {"strategy": "mig"}})
    world.plan()
    async with controlled(world.server) as controller:
        await eventually(lambda: world.policy_condition("QuotasMiscounted")["status"] == "Unknown")
        assert "may not be read: may not list" in world.policy_condition("QuotasMiscounted")["message"]
        await eventually(lambda: world.condition("Synced")["status"] == "True")
        assert controller.watched.why_not() == ""
        world.server.faults.clear()
        await eventually(lambda: world.policy_condition("QuotasMiscounted")["status"] == "False")
