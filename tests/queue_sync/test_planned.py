"""The controller and the files that plan divisions: beliefs, events, status and metrics."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from admission.server.caches import Caches
from queue_sync.manager import Manager
from slicewise.api import keys
from slicewise.cli.main import main
from slicewise.inventory.pools import Pool
from tests.kube.apiserver import ApiServer, kubeconfig
from tests.kube.wire import Fault
from tests.queue_sync.running import (
    CONFIG_MAPS,
    KINDS,
    OPERATOR,
    QUICK,
    World,
    client_of,
    controlled,
    eventually,
)
from tests.queue_sync.scenes import FOUR, MIXED, ONE, THREE, mixed
from tests.queue_sync.test_node_config_drift import MIG_FILE, SEVEN, SHARES, SPLIT, asked, labelled


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ApiServer(KINDS).running() as server:
        yield World(server)


def metric(controller: Manager, name: str) -> dict[tuple[str, ...], float]:
    families = [each for each in controller.metrics.registry.collect() if each.name == name]
    return {tuple(sample.labels.values()): sample.value for each in families for sample in each.samples}


async def test_a_node_on_its_way_to_a_custom_geometry_is_held_from_the_first_moment(world: World) -> None:
    world.file("mig", config=MIG_FILE)
    world.node(mixed("n1", SEVEN))
    world.plan()
    async with controlled(world.server):
        await eventually(lambda: world.label("n1") == MIXED and world.quota() == {(MIXED, ONE): "7"})
        # The label is asked for anew, and the old `success` still stands beside it.
        world.node(asked(mixed("n1", SEVEN), "research"))
        await eventually(lambda: world.label("n1") is None)
        assert world.quota() == {(MIXED, ONE): "7"}
        await eventually(lambda: bool(world.events("HeldBack")))
        assert "which is 3g.40gb, 4g.40gb; the node shows 1g.10gb" in world.events("HeldBack")[0]
        world.node(asked(mixed("n1", SPLIT), "research"))
        await eventually(lambda: world.quota() == {(MIXED, THREE): "1", (MIXED, FOUR): "1"})


async def test_a_restart_does_not_believe_a_node_before_the_files_are_read(world: World) -> None:
    world.file("mig", config=MIG_FILE)
    world.node(asked(mixed("n1", SEVEN), "research"))
    world.plan()
    async with controlled(world.server) as controller:
        await eventually(lambda: world.events("NotBelieved"))
        await world.idle(controller)
        assert world.label("n1") is None


async def test_an_edited_file_is_looked_at_with_every_node(world: World) -> None:
    world.node(asked(mixed("n1", SPLIT), "research"))
    world.plan()
    async with controlled(world.server, QUICK):
        await eventually(lambda: world.label("n1") == MIXED)
        world.file("mig", config=MIG_FILE.replace("3g.40gb: 1, 4g.40gb: 1", "1g.10gb: 7"))
        await eventually(lambda: world.label("n1") is None)
        world.file("mig", config=MIG_FILE)
        await eventually(lambda: world.label("n1") == MIXED)


async def test_what_cannot_come_right_is_told_on_the_node_the_plan_and_in_metrics(world: World) -> None:
    world.file("mig", config=MIG_FILE)
    world.file("plugin", ten=SHARES)
    world.node(labelled(asked(mixed("n1", SEVEN), "too-much"), "eleven"))
    world.node(mixed("n2", SEVEN))
    world.plan()
    async with controlled(world.server) as controller:
        await eventually(lambda: world.events("ImpossibleGeometry") and world.events("MissingPluginConfig"))
        assert (
            "Node n1: nvidia.com/mig.config too-much is impossible here"
            in world.events("ImpossibleGeometry")[0]
        )

        def reasons() -> list[Any]:
            return [each["reason"] for each in world.pool()["notAsPlanned"]]

        await eventually(lambda: len(reasons()) == 2)
        assert "is impossible here" in reasons()[0]
        assert "asks for 'eleven', which does not exist (there are: ten)" in reasons()[1]
        assert metric(controller, "slicewise_node_not_as_planned") == {
            ("n1", "ImpossibleGeometry"): 1.0,
            ("n1", "MissingPluginConfig"): 1.0,
        }
        world.node(mixed("n1", SEVEN))
        await eventually(lambda: "notAsPlanned" not in world.pool())
        assert metric(controller, "slicewise_node_not_as_planned") == {}


async def test_a_result_that_differs_counts_and_is_told_once_it_has_stood(world: World) -> None:
    world.file("mig", config=MIG_FILE)
    world.node(asked(mixed("n1", {"1g.10gb": 6}), "all-1g.10gb"))
    world.plan()
    async with controlled(world.server):
        await eventually(lambda: world.quota() == {(MIXED, ONE): "6"})
        await eventually(lambda: world.events("GeometryDiffers"))
        assert (
            "7 × 1g.10gb is planned, 6 × 1g.10gb is shown; what is shown counts"
            in world.events("GeometryDiffers")[0]
        )
        await eventually(lambda: world.pool()["notAsPlanned"])


async def test_a_file_that_cannot_be_read_takes_nothing_from_the_others(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.file("broken", config="mig-configs: 1")
    world.file("mig", config=MIG_FILE)
    world.file("unrelated", script="echo")
    world.node(asked(mixed("n1", SEVEN), "research"))
    async with controlled(world.server) as controller:
        await eventually(lambda: world.events("NotBelieved"))
        world.server.remove(CONFIG_MAPS, f"{OPERATOR}/mig")
        await eventually(lambda: world.label("n1") == MIXED)
        maps = controller.advisory.config_maps
        assert maps is not None
        assert maps.store[f"{OPERATOR}/unrelated"]["data"] == {}
    told = [record for record in caplog.records if record.message == "a configuration cannot be used"]
    assert len(told) == 1


async def test_drift_is_counted(world: World) -> None:
    world.node(mixed("n1", SEVEN))
    world.namespace("lab", **{keys.POLICY: "default"})
    world.server.put("/api/v1/resourcequotas", "gpus", "lab", spec={"hard": {"requests.nvidia.com/gpu": "4"}})
    world.plan()
    async with controlled(world.server) as controller:
        await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
        world.server.put(
            "/apis/kueue.x-k8s.io/v1beta2/clusterqueues",
            "by-hand",
            spec={
                "resourceGroups": [
                    {
                        "coveredResources": [ONE],
                        "flavors": [{"name": MIXED, "resources": [{"name": ONE, "nominalQuota": "5"}]}],
                    }
                ]
            },
        )
        wanted = {
            "LeftOverQuota": 0,
            "ResourceQuotaMissesWork": 1,
            "QuotaWithoutNodes": 1,
            "UseAboveQuota": 0,
            "LimitRangeRestoresName": 0,
        }
        await eventually(
            lambda: metric(controller, "slicewise_drift_findings") == {(k,): v for k, v in wanted.items()}
        )


@asynccontextmanager
async def webhook(server: ApiServer) -> AsyncIterator[Caches]:
    """The webhook's caches, filled."""
    async with client_of(server) as client:
        caches = Caches(client, operator_namespace=OPERATOR)
        task = asyncio.create_task(caches.run())
        await eventually(lambda: caches.why_not_ready() is None)
        yield caches
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def told(pools: Iterable[Pool]) -> list[dict[str, Any]]:
    """Pools as `slicewise pools -o json` prints what was compared."""
    return [
        {
            "name": pool.name,
            "resources": {name: each.quantity for name, each in pool.resources.items()},
            "unsettled": [{"node": each.node, "reason": each.reason} for each in pool.unsettled],
        }
        for pool in pools
    ]


async def test_webhook_controller_and_command_believe_the_same_of_the_same_nodes(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.file("mig", config=MIG_FILE)
    world.node(asked(mixed("n1", SEVEN), "research"))
    world.node(asked(mixed("n2", SEVEN), "no-file-has-this"))
    async with controlled(world.server) as controller, webhook(world.server) as caches:
        for text, counted in ((MIG_FILE, 7), (MIG_FILE.replace("3g.40gb: 1, 4g.40gb: 1", "1g.10gb: 7"), 14)):
            world.file("mig", config=text)
            await eventually(lambda: told(caches.world.pools)[0]["resources"] == {ONE: counted})  # noqa: B023
            await eventually(lambda: told(controller.node_states.pools) == told(caches.world.pools))
            arguments = ["pools", "-o", "json", "--kubeconfig", kubeconfig(tmp_path, world.server.url)]
            assert await asyncio.to_thread(main, arguments) == 0
            printed = json.loads(capsys.readouterr().out)
            keys_of = ("name", "resources", "unsettled")
            assert [{key: pool[key] for key in keys_of} for pool in printed] == told(caches.world.pools)


async def test_the_webhook_goes_by_what_nodes_show_where_it_may_not_read_the_files(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admission.server.caches._FORBIDDEN_RETRY", 0.5)
    path = f"/api/v1/namespaces/{OPERATOR}/configmaps"
    body = b'{"kind":"Status","code":403,"reason":"Forbidden","message":"configmaps is forbidden"}'
    world.server.faults.append(Fault("GET", path, status=403, body=body, times=2))
    world.file("mig", config=MIG_FILE)
    world.node(asked(mixed("n1", SEVEN), "research"))
    async with webhook(world.server) as caches:
        assert told(caches.world.pools)[0]["resources"] == {ONE: 7}
        assert "configmaps" not in {age.name for age in caches.ages()}
        lines = [each for each in caplog.records if each.message == "what is planned for nodes is not known"]
        assert len(lines) == 1
        # Once it may, it knows what the others know.
        await eventually(lambda: told(caches.world.pools)[0]["resources"] == {})
