"""Events: said once, counted after, within a budget, and never raising."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from slicewise.kube.client import Client
from slicewise.kube.clock import micro_time
from slicewise.kube.events import EventSettings, Recorder, Regarding
from tests.kube.apiserver import ApiServer, Object
from tests.kube.clocks import Clock, eventually, rounds
from tests.kube.conftest import EVENTS, client_of
from tests.kube.wire import Fault

QUEUE = Regarding("kueue.x-k8s.io/v1beta2", "ClusterQueue", "team-a", uid="u1")
LOCAL = Regarding("kueue.x-k8s.io/v1beta2", "LocalQueue", "team-a", namespace="a")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def client(server: ApiServer, clock: Clock) -> AsyncIterator[Client]:
    async with client_of(server.url, clock.timing) as one:
        yield one


@pytest.fixture
async def recorder(client: Client) -> AsyncIterator[Recorder]:
    one = Recorder(
        client, controller="slicewise.io/controller", instance="pod-1", settings=EventSettings(burst=3)
    )
    task = asyncio.create_task(one.run(), name="events")
    yield one
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def written(server: ApiServer) -> list[Object]:
    return list(server.objects[EVENTS].values())


async def test_an_event_has_what_the_api_asks_for(server: ApiServer, recorder: Recorder) -> None:
    recorder.emit(QUEUE, "QuotaShrunk", "taken; add nodes", action="Align", kind="Warning")
    await eventually(lambda: recorder.written == 1)
    (event,) = written(server)
    assert event["metadata"]["name"].startswith("team-a.")
    assert event["metadata"]["namespace"] == "default"
    assert event["regarding"] == {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ClusterQueue",
        "name": "team-a",
        "uid": "u1",
    }
    assert (event["reason"], event["action"], event["type"]) == ("QuotaShrunk", "Align", "Warning")
    assert (event["reportingController"], event["reportingInstance"]) == ("slicewise.io/controller", "pod-1")
    assert event["eventTime"].endswith("Z")
    assert event["note"] == "taken; add nodes"
    assert "series" not in event


@pytest.mark.parametrize("letters", ["x", "é", "漢", "🙂", "x漢"])
async def test_a_note_is_cut_in_its_middle_to_what_an_event_may_have(
    server: ApiServer, recorder: Recorder, letters: str
) -> None:
    recorder.emit(QUEUE, "QuotaShrunk", f"what: {letters * 2000}; the fix", action="Align")
    await eventually(lambda: recorder.written == 1)
    (event,) = written(server)
    assert 1000 < len(event["note"].encode()) <= 1024
    assert (event["note"][:6], event["note"][-9:]) == ("what: ", "; the fix")


async def test_the_same_thing_again_is_counted_not_repeated(
    server: ApiServer, recorder: Recorder, clock: Clock
) -> None:
    for _ in range(5):
        recorder.emit(LOCAL, "Stuck", "still", action="Align")
        await asyncio.sleep(0.005)
    await eventually(lambda: recorder.written == 1)
    for _ in range(3):
        clock.advance(20)
        recorder.emit(LOCAL, "Stuck", "still", action="Align")
    await eventually(lambda: recorder.written == 2)
    (event,) = written(server)
    assert event["metadata"]["namespace"] == "a"
    assert event["series"] == {"count": 8, "lastObservedTime": micro_time(clock.wall())}
    assert server.count("POST") + server.count("PATCH") == 2


async def test_what_happens_during_a_write_is_counted_in_the_next(
    server: ApiServer, recorder: Recorder, clock: Clock
) -> None:
    server.faults.append(Fault(method="POST", delay=0.02))
    recorder.emit(LOCAL, "Stuck", "still", action="Align")
    await eventually(lambda: server.seen)
    recorder.emit(LOCAL, "Stuck", "still", action="Align")
    await eventually(lambda: recorder.written == 1)
    await rounds()
    assert server.count("PATCH") == 0
    clock.advance(61)
    await eventually(lambda: recorder.written == 2)
    assert written(server)[0]["series"]["count"] == 2


async def test_an_object_has_a_budget_for_each_reason(
    server: ApiServer, recorder: Recorder, clock: Clock
) -> None:
    for number in range(10):
        recorder.emit(QUEUE, "Noise", f"number {number}", action="Align")
    recorder.emit(LOCAL, "Noise", "another object", action="Align")
    recorder.emit(QUEUE, "News", "another reason", action="Align")
    await eventually(lambda: recorder.written == 5)
    clock.advance(300)
    recorder.emit(QUEUE, "Noise", "later", action="Align")
    await eventually(lambda: recorder.written == 6)
    assert len(written(server)) == 6


async def test_pods_are_never_written_about(server: ApiServer, recorder: Recorder) -> None:
    recorder.emit(Regarding("v1", "Pod", "p", "a"), "Mutated", "x", action="Rewrite")
    recorder.emit(QUEUE, "Said", "x", action="Align")
    await eventually(lambda: recorder.written == 1)
    assert [event["reason"] for event in written(server)] == ["Said"]


@pytest.mark.parametrize("code", [400, 403, 404, 422])
async def test_an_event_that_is_refused_is_dropped(server: ApiServer, recorder: Recorder, code: int) -> None:
    server.faults.append(Fault(method="POST", status=code))
    recorder.emit(QUEUE, "Refused", "x", action="Align")
    await eventually(lambda: not recorder._series)
    recorder.emit(QUEUE, "Refused", "x", action="Align")
    await eventually(lambda: recorder.written == 1)


async def test_an_event_that_was_forgotten_while_it_was_refused_fails_no_work(
    server: ApiServer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(client, controller="c", instance="i", settings=EventSettings(remembered=1))
    task = asyncio.create_task(recorder.run(), name="events")
    server.faults.append(Fault(method="POST", status=404, delay=0.05))
    recorder.emit(QUEUE, "Refused", "x", action="Align")
    await eventually(lambda: server.seen)
    recorder.emit(LOCAL, "Written", "x", action="Align")
    await eventually(lambda: recorder.written == 1)
    assert "work failed" not in caplog.text
    task.cancel()


@pytest.mark.parametrize(("failures", "arrives"), [(2, True), (100, False)])
async def test_an_outage_is_sat_out_for_a_while(
    server: ApiServer, recorder: Recorder, clock: Clock, failures: int, *, arrives: bool
) -> None:
    server.faults.append(Fault(method="POST", status=500, times=failures))
    recorder.emit(QUEUE, "Later", "x", action="Align")

    def over() -> bool:
        clock.advance(1)
        return recorder.written > 0 or not recorder._series

    await eventually(over)
    assert bool(recorder.written) == arrives


async def test_memory_is_bounded(client: Client) -> None:
    recorder = Recorder(client, controller="c", instance="i", settings=EventSettings(remembered=2))
    for number in range(5):
        recorder.emit(Regarding("v1", "Node", f"n{number}"), "Many", "x", action="Look")
    assert len(recorder._series) == 2
    assert len(recorder._budgets) == 2
