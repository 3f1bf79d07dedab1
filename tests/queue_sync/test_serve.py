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
from queue_sync.manager import Manager
from queue_sync.serve import Options, serve
from slicewise.kube.errors import LeadershipLostError
from slicewise.kube.leader_election import Elector, LeaseSettings
from tests.kube.apiserver import ApiServer, kubeconfig
from tests.kube.wire import Fault
from tests.queue_sync.running import KINDS, LEASES, World, eventually
from tests.queue_sync.scenes import MIXED, ONE, mixed

pytestmark = pytest.mark.own_clock


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


async def test_whoever_loses_the_lease_stands_by_and_leads_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty = LeaseSettings(retry_period=0.2)
    monkeypatch.setattr("queue_sync.serve.Elector", partial(Elector, settings=hasty))
    async with ApiServer(KINDS).running() as server:
        world = World(server)
        world.node(mixed("n1", {"1g.10gb": 7}))
        world.plan()
        async with program(server, tmp_path) as (address, task):
            await eventually(lambda: world.quota() == {(MIXED, ONE): "7"})
            (lease,) = server.objects[LEASES].values()
            first = lease["spec"]["holderIdentity"]

            def take(holder: str) -> None:
                spec = {**lease["spec"], "holderIdentity": holder, "leaseDurationSeconds": 3600}
                server.put(LEASES, "slicewise-controller", "slicewise-system", spec=spec)

            take("thief")
            await leading(address, "0.0")
            await becomes(address, "/readyz", 200)
            seen = len(world.writes())
            world.node(mixed("n2", {"1g.10gb": 7}))
            await asyncio.sleep(1)
            assert world.writes()[seen:] == []
            take("")
            await eventually(lambda: world.quota() == {(MIXED, ONE): "14"})
            await leading(address, "1.0")
            (lease,) = server.objects[LEASES].values()
            assert lease["spec"]["holderIdentity"] not in {"", "thief", first}
            os.kill(os.getpid(), signal.SIGTERM)
            assert await task == 0


async def leading(address: str, value: str) -> None:
    """Returns once the metric says so; a replica that just lost the lease may be slow to answer, never away."""
    deadline = asyncio.get_running_loop().time() + 60
    while f"slicewise_controller_leading {value}" not in (await get(address, "/metrics"))[1]:
        assert asyncio.get_running_loop().time() < deadline, f"never leading {value}"
        await asyncio.sleep(0.05)


async def test_a_part_that_fails_ends_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_self: Manager) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Manager, "watch", fail)
    async with ApiServer(KINDS).running() as server, program(server, tmp_path) as (_, task):
        assert await task == 1


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (LeadershipLostError("gone"), 2),
        (ExceptionGroup("lead", [LeadershipLostError("gone"), LeadershipLostError("gone")]), 2),
        (ExceptionGroup("lead", [LeadershipLostError("gone"), RuntimeError("broken")]), 1),
        (RuntimeError("broken"), 1),
    ],
)
async def test_only_a_lost_lease_is_stood_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, number: int
) -> None:
    terms = []

    async def run(_self: Elector, _lead: object) -> None:
        terms.append(error)
        raise error if len(terms) == 1 else RuntimeError("the second term")

    monkeypatch.setattr(Elector, "run", run)
    async with ApiServer(KINDS).running() as server, program(server, tmp_path) as (_, task):
        assert await task == 1
        assert len(terms) == number


async def test_without_a_cluster_it_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert await serve(Options(str(tmp_path / "none"), operations_listen="127.0.0.1:0")) == 2
    assert f"no kubeconfig at {tmp_path}/none" in caplog.text


async def test_without_its_address_it_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with bind("127.0.0.1:0") as one:
        taken = f"127.0.0.1:{one.getsockname()[1]}"
        file = kubeconfig(tmp_path, "http://127.0.0.1:1")
        assert await serve(Options(file, operations_listen=taken)) == 2
    assert f"cannot listen on {taken}: Address already in use" in caplog.text
