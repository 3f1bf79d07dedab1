"""Metric, status, drift and doctor say the same of what is promised beyond what nodes offer, whoever promises it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from slicewise.api import keys
from slicewise.cli.main import main
from tests.kube.apiserver import ApiServer, kubeconfig
from tests.queue_sync.running import FLAVORS, KINDS, QUEUES, VOLCANO, World, controlled, eventually
from tests.queue_sync.scenes import GPU, H100, exclusive
from tests.queue_sync.test_life_of_plans import above_truth, synced

WHOLE = "h100-80gb-exclusive"
COHORTS = "/apis/kueue.x-k8s.io/v1beta2/cohorts"


def quotas(flavor: str, units: int) -> dict[str, Any]:
    each = {"name": flavor, "resources": [{"name": GPU, "nominalQuota": str(units)}]}
    return {"resourceGroups": [{"coveredResources": [GPU], "flavors": [each]}], "namespaceSelector": {}}


def nobody(_: World) -> None:
    """The plan's own queue has all that there is, and nobody else has anything."""


def a_queue(world: World) -> None:
    world.server.put(QUEUES, "own", spec=quotas(WHOLE, 3))


def a_flavor_over_the_same_nodes(world: World) -> None:
    world.server.put(FLAVORS, "by-hand", spec={"nodeLabels": {keys.PRODUCT: H100}})
    world.server.put(QUEUES, "own", spec=quotas("by-hand", 3))


def a_cohort(world: World) -> None:
    world.server.put(COHORTS, "all", spec={"resourceGroups": quotas(WHOLE, 3)["resourceGroups"]})


def a_queue_of_volcano(world: World) -> None:
    world.server.put(VOLCANO, "own", spec={"deserved": {GPU: "3"}})


@pytest.mark.parametrize(
    ("promise", "excess"),
    [(nobody, 0), (a_queue, 3), (a_flavor_over_the_same_nodes, 3), (a_cohort, 3), (a_queue_of_volcano, 3)],
)
async def test_all_agree(
    promise: Any, excess: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ApiServer({**KINDS, COHORTS: "Cohort"}).running() as server:
        world = World(server)
        world.node(exclusive("n1"))
        world.plan()
        async with controlled(server) as controller:
            await synced(world, controller)
            promise(world)
            await world.idle(controller)
            await eventually(lambda: above_truth(controller) == excess)
            await eventually(lambda: (world.condition("Backed")["status"] == "False") is bool(excess))
            reason = world.condition("Ready")["reason"]
            assert reason == ("QuotaWithoutNodes" if excess else "Ready")
        found = {}
        for command in ("drift", "doctor"):
            words = [command, "-o", "json", "--kubeconfig", kubeconfig(tmp_path, server.url)]
            await asyncio.to_thread(main, words)
            printed = json.loads(capsys.readouterr().out)
            found[command] = printed["findings"] if command == "doctor" else printed
    assert [each["code"] for each in found["drift"]] == (["QuotaWithoutNodes"] if excess else [])
    said = {each["code"] for each in found["doctor"]} & {"QuotaWithoutNodes", "FlavorsOverlap"}
    assert bool(said) is bool(excess)
