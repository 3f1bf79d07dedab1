"""Leader election: at most one leader at any time, and before long one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any

import pytest

from slicewise.kube.client import Client
from slicewise.kube.errors import LeadershipLostError
from slicewise.kube.leader_election import Elector, LeaseSettings, own_identity
from slicewise.kube.transport import Response
from tests.kube.apiserver import ApiServer, Object
from tests.kube.clocks import Clock, eventually, rounds
from tests.kube.conftest import LEASES, client_of
from tests.kube.wire import Fault

KEY = "ns/it"


class Candidate:
    """An elector whose work is to be counted."""

    def __init__(self, client: Client, name: str, settings: LeaseSettings | None = None) -> None:
        self.told: list[str] = []
        self.working = False
        self.led_at_the_end = False
        self.stop = asyncio.Event()
        self.elector = Elector(client, namespace="ns", name="it", identity=name, settings=settings)
        self.task = asyncio.create_task(self.elector.run(self.lead), name=name)

    async def lead(self) -> None:
        self.working = True
        self.told.append("lead")
        try:
            await self.stop.wait()
        finally:
            self.working = False
            self.led_at_the_end = self.elector.is_leader()
            self.told.append("end")

    async def end(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError, LeadershipLostError):
            await self.task

    async def die(self, clock: Clock) -> None:
        """As by SIGKILL: nothing is released."""
        self.elector._renewed_at = None
        await self.end()
        clock.advance(0)


@pytest.fixture
def clock() -> Clock:
    return Clock(chance=0.5)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as one:
        yield one


async def candidate(server: ApiServer, clock: Clock, stack: AsyncExitStack, name: str) -> Candidate:
    client = await stack.enter_async_context(client_of(server.url, clock.timing, name))
    one = Candidate(client, name)
    stack.push_async_callback(one.end)
    return one


def spec(server: ApiServer) -> Object:
    return server.objects[LEASES][KEY]["spec"] if KEY in server.objects[LEASES] else {}


async def tick(clock: Clock, seconds: float, *candidates: Candidate) -> None:
    """Let time pass in small steps, watching that never two lead."""
    for _ in range(int(seconds / 0.5)):
        clock.advance(0.5)
        await asyncio.sleep(0.002)
        await rounds(20)  # a busy machine may wake up late, and an exchange takes several turns
        assert sum(one.elector.is_leader() for one in candidates) <= 1
        assert sum(one.working for one in candidates) <= 1


async def until_leads(clock: Clock, which: Candidate, *candidates: Candidate) -> float:
    start = clock.at
    while not which.working:
        assert clock.at - start < 300, "nobody took over"
        await tick(clock, 0.5, *candidates)
    return clock.at - start


async def test_the_first_one_leads_and_renews(server: ApiServer, clock: Clock, stack: AsyncExitStack) -> None:
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)
    first = dict(spec(server))
    assert (first["holderIdentity"], first["leaseDurationSeconds"], first["leaseTransitions"]) == (
        "one",
        15,
        0,
    )
    assert one.elector.check() == pytest.approx(15)
    assert one.elector.holder == "one"
    await tick(clock, 60, one)
    await eventually(lambda: spec(server)["renewTime"] > first["renewTime"])
    assert spec(server)["acquireTime"] == first["acquireTime"]
    assert one.told == ["lead"]


async def test_renewing_needs_no_reading(server: ApiServer, clock: Clock, stack: AsyncExitStack) -> None:
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)
    await tick(clock, 30, one)
    assert server.count("GET") == 1
    assert server.count("PUT") > 2


async def test_a_stop_hands_over_at_once(server: ApiServer, clock: Clock, stack: AsyncExitStack) -> None:
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)
    two = await candidate(server, clock, stack, "two")
    await tick(clock, 20, one, two)
    assert not two.working
    await one.end()
    assert one.told == ["lead", "end"]
    assert one.led_at_the_end, "the lease is let go of after the work has ended"
    assert (spec(server)["holderIdentity"], spec(server)["leaseDurationSeconds"]) == ("", 1)
    assert await until_leads(clock, two, one, two) < 10
    assert spec(server)["leaseTransitions"] == 1


async def test_work_that_ends_by_itself_releases_too(
    server: ApiServer, clock: Clock, stack: AsyncExitStack
) -> None:
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)
    one.stop.set()
    await one.task
    assert spec(server)["holderIdentity"] == ""


async def test_a_leader_that_dies_is_replaced_when_its_lease_ran_out(
    server: ApiServer, clock: Clock, stack: AsyncExitStack
) -> None:
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)
    two = await candidate(server, clock, stack, "two")
    await tick(clock, 5, one, two)
    await one.die(clock)
    assert spec(server)["holderIdentity"] == "one"
    assert await until_leads(clock, two, one, two) >= 5
    assert spec(server)["leaseTransitions"] == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=403),
        Fault(status=409),
        Fault(end="silence"),
        Fault(end="cut"),
        Fault(raw=b"not JSON"),
    ],
)
async def test_a_leader_that_cannot_renew_stops_before_another_starts(
    server: ApiServer, clock: Clock, stack: AsyncExitStack, fault: Fault
) -> None:
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)
    two = await candidate(server, clock, stack, "two")
    await tick(clock, 3, one, two)
    server.faults.append(replace(fault, agent="(one)", times=100_000))
    await until_leads(clock, two, one, two)
    assert one.told == ["lead", "end"]
    with pytest.raises(LeadershipLostError):
        await one.task
    with pytest.raises(LeadershipLostError):
        one.elector.check()
    assert two.elector.is_leader()


async def test_renewing_that_stops_for_any_reason_ends_leadership_at_once(
    server: ApiServer, clock: Clock, stack: AsyncExitStack
) -> None:
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)
    (renewing,) = [task for task in asyncio.all_tasks() if task.get_name() == "renew it"]
    renewing.cancel()
    with pytest.raises(LeadershipLostError):
        await one.task
    assert one.told == ["lead", "end"]
    assert not one.led_at_the_end


async def test_leadership_is_over_at_the_deadline_whatever_is_under_way(
    server: ApiServer, clock: Clock, stack: AsyncExitStack
) -> None:
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)
    clock.at += 9.9  # a process that slept: nothing had a chance to run
    assert one.elector.is_leader()
    assert one.elector.check() == pytest.approx(5.1)
    clock.at += 0.2
    assert not one.elector.is_leader()
    with pytest.raises(LeadershipLostError):
        one.elector.check()


@pytest.mark.parametrize("how", ["deleted and taken", "given away"])
async def test_whoever_sees_that_another_holds_the_lease_leads_no_more(
    server: ApiServer, clock: Clock, stack: AsyncExitStack, how: str
) -> None:
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)
    theirs = {**spec(server), "holderIdentity": "two"}
    if how == "deleted and taken":
        server.remove(LEASES, KEY)
    server.put(LEASES, "it", namespace="ns", spec=theirs)
    clock.advance(3.2)  # when it renews
    await eventually(lambda: server.count("PUT"))
    clock.advance(3.2)
    await eventually(lambda: one.told == ["lead", "end"])
    assert not one.led_at_the_end
    assert spec(server) == theirs


async def test_answers_that_are_slow_and_come_lose_no_lease(
    server: ApiServer, clock: Clock, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)
    request = one.elector._client.request

    async def slow(*given: Any, **more: Any) -> Response:
        await clock.sleep(4.5)
        return await request(*given, **more)

    monkeypatch.setattr(one.elector._client, "request", slow)
    await tick(clock, 60, one)
    assert one.told == ["lead"]
    monkeypatch.undo()


@pytest.mark.parametrize("fault", [Fault(method="PUT", lost=True), Fault(method="PUT", status=500)])
async def test_a_renewal_that_came_to_nothing_keeps_no_stop_from_handing_over(
    server: ApiServer, clock: Clock, stack: AsyncExitStack, fault: Fault
) -> None:
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)
    server.faults.append(replace(fault))
    clock.advance(3.2)
    await eventually(lambda: one.elector._lease is None)
    await one.end()
    assert spec(server)["holderIdentity"] == ""


async def test_a_renewal_whose_answer_was_lost_is_found_out(
    server: ApiServer, clock: Clock, stack: AsyncExitStack
) -> None:
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)
    server.faults.append(Fault(method="PUT", lost=True))
    await tick(clock, 30, one)
    assert server.faults[0].times == 0
    assert one.told == ["lead"]
    assert one.elector.is_leader()


async def test_a_change_by_somebody_else_costs_one_attempt(
    server: ApiServer, clock: Clock, stack: AsyncExitStack
) -> None:
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)
    server.put(LEASES, "it", namespace="ns", metadata={"labels": {"who": "else"}}, spec=spec(server))
    await tick(clock, 30, one)
    assert one.told == ["lead"]
    assert one.elector.is_leader()
    assert server.objects[LEASES][KEY]["metadata"]["labels"] == {"who": "else"}


@pytest.mark.parametrize(
    "odd", [{}, {"spec": None}, {"spec": {"holderIdentity": None}}, {"spec": {"holderIdentity": ""}}]
)
async def test_a_lease_that_nobody_holds_is_taken(
    server: ApiServer, clock: Clock, stack: AsyncExitStack, odd: Object
) -> None:
    server.put(LEASES, "it", namespace="ns", **odd)
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)


async def test_clocks_of_others_do_not_matter(server: ApiServer, clock: Clock, stack: AsyncExitStack) -> None:
    future = {
        "holderIdentity": "gone",
        "leaseDurationSeconds": 15,
        "renewTime": "2999-01-01T00:00:00.000000Z",
    }
    server.put(LEASES, "it", namespace="ns", spec=future)
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.elector.holder == "gone")
    assert 14 <= await until_leads(clock, one, one) <= 25


async def test_work_that_fails_says_so(server: ApiServer, clock: Clock) -> None:
    async def lead() -> None:
        raise ValueError("broken work")

    async with client_of(server.url, clock.timing) as client:
        elector = Elector(client, namespace="ns", name="it", identity="one")
        with pytest.raises(ValueError, match="broken work"):
            await elector.run(lead)
    assert spec(server)["holderIdentity"] == ""


async def test_a_release_that_fails_is_no_drama(
    server: ApiServer, clock: Clock, stack: AsyncExitStack
) -> None:
    one = await candidate(server, clock, stack, "one")
    await eventually(lambda: one.working)
    server.faults.append(Fault(method="PUT", status=500))
    await one.end()
    assert not one.elector.is_leader()
    await rounds()


def test_durations_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="does not hold"):
        LeaseSettings(lease_duration=10, renew_deadline=10)


def test_no_two_processes_share_an_identity() -> None:
    assert own_identity() != own_identity()
