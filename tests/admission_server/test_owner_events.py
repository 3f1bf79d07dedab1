"""Owners are told in Events what was warned of in their objects: once, counted after, and only so many of them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest

from admission.mutation.outcome import Verdict
from admission.server.owner_events import OwnerEvents
from admission.wire import Answer, Notice
from admission.workloads.model import Owner
from slicewise.kube.client import Client
from tests.admission_server.conftest import serving
from tests.kube.apiserver import ApiServer, Object
from tests.kube.clocks import Clock, eventually
from tests.kube.conftest import EVENTS, KINDS, client_of

JOB = Owner("batch/v1", "Job", "train", controller=True, uid="u1")


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(KINDS).running() as one:
        yield one


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[Client]:
    async with client_of(server.url, Clock().timing) as one:
        yield one


@pytest.fixture
async def events(client: Client) -> AsyncIterator[OwnerEvents]:
    one = OwnerEvents(client)
    task = asyncio.create_task(one.run())
    yield one
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def notice(owner: Owner = JOB, outcome: Verdict = Verdict.LEFT, *warnings: str) -> Notice:
    return Notice(owner, "team", outcome, list(warnings or ("no pool fits",)))


def written(server: ApiServer) -> list[Object]:
    return list(server.objects[EVENTS].values())


@pytest.mark.parametrize(
    ("outcome", "reason", "kind"),
    [
        (Verdict.LEFT, "LeftAsAsked", "Warning"),
        (Verdict.AUDITED, "AuditMode", "Normal"),
        (Verdict.REWRITTEN, "GivenWithWarning", "Warning"),
    ],
)
async def test_the_owner_is_told_in_its_namespace(
    server: ApiServer, events: OwnerEvents, outcome: Verdict, reason: str, kind: str
) -> None:
    events.report(notice(JOB, outcome, "one thing", "another"))
    await eventually(lambda: len(written(server)) == 1)
    (event,) = written(server)
    regarding = {"apiVersion": "batch/v1", "kind": "Job", "name": "train", "namespace": "team", "uid": "u1"}
    assert event["regarding"] == regarding
    assert event["metadata"]["namespace"] == "team"
    assert (event["reason"], event["type"], event["action"]) == (reason, kind, "Admit")
    assert (event["note"], event["reportingController"]) == ("one thing; another", "slicewise.io/webhook")


async def test_a_thousand_pods_of_one_owner_are_one_event(server: ApiServer, events: OwnerEvents) -> None:
    for _ in range(1000):
        events.report(notice())
    events.report(notice(JOB, Verdict.LEFT, "something else"))
    await eventually(lambda: len(written(server)) == 2)


async def test_invented_owners_together_get_no_more_than_a_bounded_number(
    server: ApiServer, events: OwnerEvents
) -> None:
    for number in range(1000):
        events.report(notice(Owner("v1", "Thing", f"invented-{number}", controller=True, uid=str(number))))
    await eventually(lambda: len(written(server)) == 100)
    await asyncio.sleep(0.05)
    assert len(written(server)) == 100


@pytest.fixture
def answer() -> Callable[[bytes], Answer]:
    return lambda body: Answer(body, Verdict.LEFT, "Pod", deviation="nothing-fits", notice=notice())


async def test_an_answer_is_counted_by_reason_and_its_owner_told(answer: Callable[[bytes], Answer]) -> None:
    told: list[Notice] = []
    async with serving(answer, notify=told.append) as served:
        assert (await (await served.connect()).ask()).status == 200
        count = served.metrics.registry.get_sample_value(
            "slicewise_admission_deviations_total", {"reason": "nothing-fits"}
        )
    assert (count, told) == (1, [notice()])
