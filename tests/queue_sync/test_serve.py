"""The program: it answers its probes, leads alone, hands over, and stops in order."""

import asyncio
import os
import signal
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from queue_sync.health_server import bind
from queue_sync.serve import Options, serve
from slicewise.kube.leader_election import Elector, LeaseSettings
from tests.kube.apiserver import ApiServer, kubeconfig
from tests.kube.wire import Fault
from tests.queue_sync.running import KINDS, LEASES, World, eventually
from tests.queue_sync.scenes import MIXED, ONE, mixed


@asynccontextmanager
async def program(server: ApiServer, folder: Path) -> AsyncIterator[tuple[str, asyncio.Task[int]]]:
    """The controller in this process: where it listens, and its end."""
    file = kubeconfig(folder, server.url)
    options = Options(file, operations_listen="127.0.0.1:0", settle=0.2, hold_down=1.0)
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(options, address.set_result))
    try:
        yield await address, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def get(address: str, path: str) -> tuple[int, str]:
    def fetch() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    return await asyncio.to_thread(fetch)


async def becomes(address: str, path: str, status: int) -> str:
    deadline = asyncio.get_running_loop().time() + 60
    while True:
        found, text = await get(address, path)
        if found == status:
            return text
        assert asyncio.get_running_loop().time() < deadline, f"{path} never answered {status}: {text}"
        await asyncio.sleep(0.05)


async def test_it_answers_leads_and_stops_in_order(tmp_path: Path) -> None:
    async with ApiServer(KINDS).running() as server:
        world = World(server)
        world.node(mixed("n1", {"1g.10gb": 7}))
        world.plan()
        async with program(server, tmp_path) as (address, task):
            assert await get(address, "/healthz") == (200, "ok\n")
            await becomes(address, "/readyz", 200)
            await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
            await eventually(lambda: world.condition("Ready")["status"] == "True")
            _, text = await get(address, "/metrics")
            assert "slicewise_controller_leading 1.0" in text
            assert 'slicewise_nodes{state="believed"} 1.0' in text
            assert (
                'slicewise_quota{flavor="h100-80gb-mig-mixed",queue="team-a",resource="nvidia.com/mig-1g.10gb"} 7.0'
                in text
            )
            assert (await get(address, "/nothing"))[0] == 404
            (lease,) = server.objects[LEASES].values()
            assert lease["spec"]["holderIdentity"]
            os.kill(os.getpid(), signal.SIGTERM)
            assert await task == 0
            (lease,) = server.objects[LEASES].values()
            assert lease["spec"]["holderIdentity"] == ""


async def test_it_is_not_ready_while_it_cannot_follow(tmp_path: Path) -> None:
    async with ApiServer(KINDS).running() as server:
        server.faults.append(Fault("GET", "/api/v1/nodes", times=1000, status=500))
        async with program(server, tmp_path) as (address, _):
            assert "/api/v1/nodes" in await becomes(address, "/readyz", 503)
            server.faults.clear()
            await becomes(address, "/readyz", 200)


async def test_whoever_loses_the_lease_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hasty = LeaseSettings(retry_period=0.2)
    monkeypatch.setattr("queue_sync.serve.Elector", partial(Elector, settings=hasty))
    async with ApiServer(KINDS).running() as server:
        World(server).node(mixed("n1", {"1g.10gb": 7}))
        async with program(server, tmp_path) as (address, task):
            await becomes(address, "/readyz", 200)
            await eventually(lambda: server.objects[LEASES])
            (lease,) = server.objects[LEASES].values()
            server.put(
                LEASES,
                "slicewise-controller",
                "slicewise-system",
                spec={**lease["spec"], "holderIdentity": "x"},
            )
            assert await task == 1


async def test_without_a_cluster_it_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert await serve(Options(str(tmp_path / "none"), operations_listen="127.0.0.1:0")) == 2
    assert f"no kubeconfig at {tmp_path}/none" in caplog.text


async def test_without_its_address_it_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with bind("127.0.0.1:0") as one:
        taken = f"127.0.0.1:{one.getsockname()[1]}"
        file = kubeconfig(tmp_path, "http://127.0.0.1:1")
        assert await serve(Options(file, operations_listen=taken)) == 2
    assert f"cannot listen on {taken}: Address already in use" in caplog.text
