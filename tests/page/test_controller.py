"""The page that the controller serves: what it watches, by leader and standby, and to whom."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from queue_sync.health_server import guarded_paths
from queue_sync.metrics.drift import samples
from queue_sync.page.live import moment
from queue_sync.page.model import view
from queue_sync.planning.node_trust import Settings
from queue_sync.serve import Options, serve
from slicewise.cli.servers import judge
from slicewise.kube import turns as turns_of_work
from slicewise.kube.authentication import Gate
from tests.cli.test_command import INFERENCE, job
from tests.kube.apiserver import ApiServer, kubeconfig
from tests.kube.wire import Fault
from tests.queue_sync.running import (
    FLAVORS,
    KINDS,
    NODES,
    QUEUES,
    QUICK,
    SLOW,
    World,
    client_of,
    controlled,
    eventually,
)
from tests.queue_sync.scenes import GPU, mixed

POOL = "pool/h100-80gb-mig-mixed"
TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"


@asynccontextmanager
async def program(server: ApiServer, folder: Path, **options: Any) -> AsyncIterator[str]:
    """The controller in this process: where it listens."""
    file = kubeconfig(folder, server.url)
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    given = Options(file, operations_listen="127.0.0.1:0", page=True, judge=judge(), **options)
    task = asyncio.create_task(serve(given, address.set_result))
    try:
        yield f"http://{await address}"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask(url: str, body: str | None = None) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            "GET" if body is None else "POST", url, data=body, headers={"Content-Type": "application/yaml"}
        ) as answer,
    ):
        return answer.status, await answer.text()


async def test_it_shows_what_the_controller_counts_and_explains_with_its_policies(tmp_path: Path) -> None:
    async with ApiServer(KINDS).running() as server:
        world = World(server)
        world.node(mixed("n1", {"1g.10gb": 7}))
        world.namespace("team-a", **{"slicewise.io/policy": "default"})
        async with program(server, tmp_path) as url:

            async def drawn() -> Any:
                status, text = await ask(f"{url}/page/view")
                found = json.loads(text) if status == 200 else {}
                return (
                    found if found.get("cluster", {}).get("source") == "what the controller counts" else None
                )

            found = await eventually_async(drawn)
            (resource,) = found[POOL]["resources"]
            assert (resource["counted"], resource["used"]) == (7, None)
            assert "doctor" not in found  # nobody looked
            assert found["cluster"]["unseen"]
            status, words = await ask(f"{url}/page/explain", body=json.dumps(job(**INFERENCE)))
            assert status == 200
            assert "nvidia.com/gpu 1 -> nvidia.com/mig-1g.10gb 1" in words


async def eventually_async(check: Any) -> Any:
    async with asyncio.timeout(60):
        while True:
            if found := await check():
                return found
            await asyncio.sleep(0.1)


@pytest.mark.hurried
async def test_a_standby_shows_nodes_as_the_command_sees_them() -> None:
    async with ApiServer(KINDS).running() as server:
        World(server).node(mixed("n1", {"1g.10gb": 7}))
        async with controlled(server) as manager:
            await eventually(
                lambda: manager.node_states.complete and manager.node_states.pools.pool(POOL[5:])
            )
            leading = view(await moment(manager))[POOL]
            manager.node_states.complete = False
            standby = view(await moment(manager))
        assert standby["cluster"]["source"] == "a standby of the controller"
        assert standby[POOL] == leading


@pytest.mark.hurried
@pytest.mark.parametrize(
    ("settings", "believed"), [(SLOW, False), (QUICK, True)], ids=["before the hold-down", "after it"]
)
async def test_of_a_cluster_without_nodes_the_page_says_what_the_gauge_says(
    settings: Settings, *, believed: bool
) -> None:
    async with ApiServer(KINDS).running() as server:
        world = World(server)
        world.node(mixed("n1", {"1g.10gb": 7}))
        world.plan(mode="report")
        group = {
            "coveredResources": [GPU],
            "flavors": [{"name": "all", "resources": [{"name": GPU, "nominalQuota": "8"}]}],
        }
        server.put(QUEUES, "theirs", spec={"resourceGroups": [group]})
        server.put(FLAVORS, "all", spec={})
        async with controlled(server, settings) as manager:
            await eventually(lambda: world.condition("Synced")["reason"] == "ReportOnly")
            server.remove(NODES, "n1")
            await eventually(lambda: not manager.watched.nodes.store)
            await eventually(lambda: manager.node_states.nodes_believed is believed)
            seen = await moment(manager)
            (gauge,) = samples(manager)
            counted = {labels[0]: number for labels, number in gauge[3]}.get("QuotaWithoutNodes", 0)
            told = [each for each in seen.drift if each.code == "QuotaWithoutNodes"]
            assert (len(told), bool(told), seen.cluster.nodes_read) == (counted, believed, believed)


@pytest.mark.parametrize(
    ("address", "page", "authenticate", "guarded"),
    [
        ("0.0.0.0:8080", False, False, False),
        ("0.0.0.0:8080", True, False, True),
        ("127.0.0.1:8080", True, False, False),
        ("127.0.0.1:8080", True, True, True),
    ],
)
def test_the_page_is_open_on_loopback_alone(
    address: str, *, page: bool, authenticate: bool, guarded: bool
) -> None:
    paths = guarded_paths(address, page=page, authenticate=authenticate)
    assert ("/page/view" in paths, "/metrics" in paths) == (guarded, authenticate)
    assert not paths & {"/healthz", "/readyz", "/page/", "/page/page.js"}


REVIEWED = {"status": {"authenticated": True, "user": {"username": "ann", "groups": ["ops"]}}}


def answers(path: str, status: dict[str, Any], times: int = 1) -> Fault:
    return Fault(path=path, status=201, body=json.dumps(status).encode(), times=times)


async def test_nobody_gets_in_whom_the_cluster_does_not_let(tmp_path: Path) -> None:
    async with ApiServer(KINDS).running() as server, program(server, tmp_path, authenticate=True) as url:
        for path in ("/metrics", "/page/view", "/page/nodes", "/page/events"):
            status, words = await ask(url + path)
            assert (status, words.startswith("no bearer token was sent; send one")) == (401, True)
        assert (await ask(f"{url}/page/"))[0] == 200
        assert (await ask(f"{url}/healthz"))[0] == 200


async def test_the_cluster_says_who_may_read_what() -> None:
    async with ApiServer(KINDS).running() as server, client_of(server) as client:
        server.faults = [answers(TOKENS, REVIEWED), answers(ACCESS, {"status": {"allowed": True}})]
        gate = Gate(client)
        assert await gate.verdict("t", "GET", "/metrics") == (200, "")
        assert await gate.verdict("t", "GET", "/metrics") == (200, "")  # kept for a moment
        token, access = [json.loads(each.body)["spec"] for each in server.seen]
        assert token == {"token": "t"}
        assert access == {
            "user": "ann",
            "uid": "",
            "groups": ["ops"],
            "extra": {},
            "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
        }


@pytest.mark.parametrize(
    ("reviews", "status", "words"),
    [
        ([answers(TOKENS, {"status": {}})], 401, "the cluster does not know this token; send a new one"),
        (
            [answers(TOKENS, REVIEWED), answers(ACCESS, {"status": {}})],
            403,
            "ann may not get /metrics; bind it to a ClusterRole with nonResourceURLs: [/metrics]",
        ),
        ([Fault(path=TOKENS, status=403, body=b"{}", times=9)], 503, "try again in a moment"),
    ],
)
async def test_a_no_is_a_sentence(reviews: list[Fault], status: int, words: str) -> None:
    async with ApiServer(KINDS).running() as server, client_of(server) as client:
        server.faults = reviews
        found = await Gate(client).verdict("t", "GET", "/metrics")
        assert (found[0], words in found[1]) == (status, True), found


async def test_a_token_longer_than_any_is_asked_of_nobody() -> None:
    async with ApiServer(KINDS).running() as server, client_of(server) as client:
        assert (await Gate(client).verdict("t" * 20_000, "GET", "/metrics"))[0] == 401
        assert server.seen == []


@pytest.mark.hurried
async def test_others_have_their_turn_while_the_cluster_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_of_work, "STEP", 0.0)
    async with ApiServer(KINDS).running() as server:
        world = World(server)
        world.node(mixed("n1", {"1g.10gb": 7}))
        world.plan(queues=[{"name": f"team-{number}"} for number in range(5)])
        async with controlled(server) as manager:
            await eventually(lambda: manager.node_states.complete and "team-4" in server.objects[QUEUES])
            reading = asyncio.create_task(moment(manager))
            turns = 0
            while not reading.done():
                await asyncio.sleep(0)
                turns += 1
            assert turns > 5  # each queue is a step
            assert "plan/research" in view(await reading)
