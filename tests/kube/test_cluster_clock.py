"""What time it is: three clocks, of which one may be wrong."""

import pytest

from slicewise.kube.client import Client
from slicewise.kube.clock import ClusterClock, cluster_time
from slicewise.kube.leader_election import Elector
from tests.kube.apiserver import ApiServer
from tests.kube.clocks import Clock
from tests.kube.conftest import LEASES, client_of
from tests.kube.wire import Fault

NOW = 1_900_000_000.0
HOUR, DAY = 3600.0, 86_400.0


@pytest.mark.parametrize(
    ("case", "server", "own", "renewed", "time"),
    [
        ("all agree", NOW, NOW, NOW - 2, NOW),
        ("this machine is ahead", NOW, NOW + HOUR, NOW - 2, NOW),
        ("this machine is behind", NOW, NOW - HOUR, NOW - 2, NOW),
        ("the server is ahead", NOW + HOUR, NOW, NOW - 2, NOW),
        ("the server is behind", NOW - HOUR, NOW, NOW - 2, NOW),
        ("the Date of a restart within a second, this machine is ahead", NOW - 1, NOW + HOUR, NOW, NOW),
        ("the last leader's clock was ahead", NOW, NOW, NOW + HOUR, NOW + HOUR),
        ("the last leader's clock was ahead by years", NOW, NOW, NOW + 400 * DAY, NOW),
        ("nobody led for a day", NOW, NOW, NOW - DAY, NOW),
        ("nobody ever led", NOW, NOW + HOUR, None, NOW),
        ("the server says nothing", None, NOW, NOW - 2, NOW),
        ("the server says nothing, and nobody ever led", None, NOW, None, NOW),
    ],
)
def test_the_time_of_three_clocks(
    case: str, server: float | None, own: float, renewed: float | None, time: float
) -> None:
    assert cluster_time(server, own, renewed) == time, case


async def test_the_server_is_asked_by_the_date_of_its_answers(server: ApiServer) -> None:
    clock = Clock()
    server.date = lambda: NOW
    async with client_of(server.url, clock.timing) as client:
        assert client.server_time() is None
        await client.get(LEASES)
        assert client.server_time() == NOW
        clock.advance(5)
        await client.get(LEASES)  # the same second of a clock that stands still
        assert client.server_time() == NOW + 5


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 99 Nov 2026 00:00:00 GMT"])
async def test_a_date_that_cannot_be_read_is_none(server: ApiServer, client: Client, date: str) -> None:
    answer = b'{"metadata": {"resourceVersion": "1"}, "items": []}'
    server.faults.append(Fault(status=200, body=answer, headers={"Date": date}))
    await client.get(LEASES)
    assert client.server_time() is None


async def test_a_refusal_tells_the_time_too(server: ApiServer) -> None:
    """The first leader of a cluster finds no Lease, and nothing else has been answered yet."""
    clock = Clock()
    server.date = lambda: NOW
    async with client_of(server.url, clock.timing) as client:
        cluster = ClusterClock(clock.timing, client.server_time)
        elector = Elector(client, namespace="ns", name="it", clock=cluster)

        async def lead() -> None:
            assert cluster() == NOW

        await elector.run(lead)
    assert server.objects[LEASES]["ns/it"]["spec"]["renewTime"].startswith("2030-03-17T17:46:40")


async def test_the_clock_does_not_jump_while_it_leads(server: ApiServer) -> None:
    """A renewal that reads the Lease anew leaves the clock as it is."""
    clock = Clock()
    server.date = lambda: NOW
    async with client_of(server.url, clock.timing) as client:
        cluster = ClusterClock(clock.timing, client.server_time)
        elector = Elector(client, namespace="ns", name="it", clock=cluster)

        async def lead() -> None:
            server.date = lambda: NOW + HOUR
            elector._lease = None  # as after an attempt that failed
            assert await elector._try(5.0)
            assert cluster() == NOW

        await elector.run(lead)
