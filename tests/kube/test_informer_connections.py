"""The informer and the connection: what it survives, how it comes back, and how it says that it cannot."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from slicewise.kube.client import Client
from tests.kube.apiserver import ApiServer, status
from tests.kube.clocks import Clock, eventually
from tests.kube.conftest import NODES
from tests.kube.observing import FAST, following, same, sizes, watched
from tests.kube.wire import Fault

HTML = b"<html>\n<body>Bad gateway</body></html>"


def _ends(server: ApiServer) -> list[tuple[str, Callable[[], None]]]:
    return [
        ("a clean end", lambda: server.end_watches("close")),
        ("a cut", lambda: server.end_watches("cut")),
        ("a cut in mid-line", lambda: server.end_watches("cut", b'{"type":"ADDED","object":{"meta')),
        ("a clean end in mid-line", lambda: server.end_watches("close", b'{"type":"DELETED",')),
        ("silence", lambda: server.end_watches("silence")),
        ("silence in mid-line", lambda: server.end_watches("silence", b'{"type":')),
    ]


@pytest.mark.parametrize("number", range(6))
async def test_a_lost_connection_is_resumed_where_it_was(
    server: ApiServer, client: Client, number: int
) -> None:
    server.put(NODES, "n1", spec={"size": 1})
    async with following(client, settings=replace(FAST, inactivity=0.1)) as (informer, seen):
        await watched(server)
        _, end = _ends(server)[number]
        end()
        server.put(NODES, "n1", spec={"size": 2})
        server.remove(NODES, "n1")
        server.put(NODES, "n2", spec={"size": 3})
        await same(server, informer)
        assert informer.counters.relists == 0
        assert informer.counters.reconnects >= 1
    assert seen.changes == [("n1", None, 1), ("n1", 1, 2), ("n1", 2, None), ("n2", None, 3)]


async def test_silence_is_no_trouble_but_a_server_that_never_answers_is(
    server: ApiServer, client: Client
) -> None:
    settings = replace(FAST, inactivity=0.05, patience=0.0)
    async with following(client, settings=settings) as (informer, _):
        await eventually(lambda: informer.counters.reconnects >= 4)
        # On a busy machine an answer may take longer than the silence that is borne here, but not each of them.
        errors = informer.counters.errors
        assert errors < informer.counters.reconnects
        server.faults.append(Fault(watch=True, end="silence", times=1000))
        await eventually(lambda: informer.counters.errors > errors)
        await eventually(lambda: not informer.healthy().ok)


@pytest.mark.parametrize("kind", ["BOOKMARK", "ADDED"])
async def test_a_server_whose_versions_go_backwards_is_read_anew(
    server: ApiServer, client: Client, kind: str
) -> None:
    """Restored from a backup, it would otherwise be followed from a point that it may never reach."""
    server.put(NODES, "n1", spec={"size": 1})
    server.put(NODES, "n2", spec={"size": 2})
    async with following(client) as (informer, seen):
        await watched(server)
        del server.objects[NODES]["n2"]
        server.history.clear()
        server.say(kind, {**server.objects[NODES]["n1"], "metadata": {"name": "n1", "resourceVersion": "50"}})
        await same(server, informer)
        assert informer.counters.relists == 1
    assert seen.changes[2:] == [("n2", 2, None)]


@pytest.mark.parametrize("as_status", [True, False])
async def test_a_forgotten_version_means_a_list_and_the_differences(
    server: ApiServer, client: Client, *, as_status: bool
) -> None:
    for number in range(4):
        server.put(NODES, f"n{number}", spec={"size": number})
    async with following(client) as (informer, seen):
        await watched(server)
        gone = json.dumps(status(410, "Gone")).encode()
        if as_status:
            server.faults.append(Fault(watch=True, status=410, body=gone))
        server.end_watches()
        server.put(NODES, "n0", spec={"size": 10})
        server.remove(NODES, "n1")
        server.put(NODES, "n4", spec={"size": 4})
        server.compact()
        await same(server, informer)
        assert informer.counters.relists == 1
        await watched(server)
    assert sorted(seen.changes[4:]) == [("n0", 0, 10), ("n1", 1, None), ("n4", None, 4)]
    assert informer.healthy().ok


async def test_a_later_page_is_asked_for_again_without_losing_the_first(
    server: ApiServer, client: Client
) -> None:
    for number in range(5):
        server.put(NODES, f"n{number}")
    server.faults.append(Fault(later_page=True, status=500))
    async with following(client) as (informer, _):
        await same(server, informer)
        assert informer.counters.errors == 0
        assert server.count(path=NODES, watch=False) == 4


async def test_a_server_that_ends_every_watch_at_once_is_not_hammered(
    server: ApiServer, client: Client, clock: Clock
) -> None:
    server.faults.append(Fault(watch=True, raw=b"", times=7))
    async with following(client):
        await watched(server)
    assert clock.slept[:7] == [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]


async def test_the_backoff_starts_again_only_after_a_good_while(
    server: ApiServer, client: Client, clock: Clock
) -> None:
    server.faults.append(Fault(watch=True, status=500, times=2))
    async with following(client):
        await watched(server)
        clock.advance(30)
        server.end_watches("cut")
        await eventually(lambda: len(clock.slept) == 3)
        await watched(server)
        clock.advance(61)
        server.end_watches("cut")
        await eventually(lambda: len(clock.slept) == 4)
    assert clock.slept == [0.8, 1.6, 3.2, 0.8]


@pytest.mark.parametrize("watch", [True, False])
async def test_retry_after_is_honoured(
    server: ApiServer, client: Client, clock: Clock, *, watch: bool
) -> None:
    server.faults.append(Fault(watch=watch, status=429, headers={"Retry-After": "17"}))
    async with following(client) as (informer, _):
        await watched(server)
        assert clock.slept == [17.8]
        assert informer.counters.relists == (0 if watch else 1)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=429),
        Fault(status=403),
        Fault(status=401),
        Fault(status=502, body=HTML),
        Fault(status=404),
        Fault(status=400),
        Fault(raw=HTML),
        Fault(raw=b"{}"),
        Fault(raw=b'{"metadata":{},"items":[]}'),
        Fault(raw=b'{"kind":"Status","metadata":{},"status":"Failure"}'),
        Fault(raw=b'{"metadata":{"resourceVersion":"9"},"items":[', end="cut"),
        Fault(end="cut"),
    ],
)
@pytest.mark.parametrize("watch", [None, False])
async def test_no_failure_empties_the_store(
    server: ApiServer, client: Client, fault: Fault, *, watch: bool | None
) -> None:
    server.put(NODES, "n1", spec={"size": 1})
    async with following(client) as (informer, seen):
        await watched(server)
        server.faults.append(replace(fault, path=NODES, watch=watch, times=12))
        server.version += 1
        server.compact()
        server.end_watches()
        before = len(server.seen)
        await eventually(lambda: len(server.seen) >= before + 8)
        assert sizes(informer) == {"n1": 1}
        assert informer.has_synced
        server.put(NODES, "n1", spec={"size": 2})
        await same(server, informer)
    assert seen.changes == [("n1", None, 1), ("n1", 1, 2)]


async def test_errors_that_repeat_without_news_lead_to_a_list(server: ApiServer, client: Client) -> None:
    server.faults.append(Fault(watch=True, status=500, times=3))
    async with following(client) as (informer, _):
        await watched(server)
        assert informer.counters.relists == 1


@pytest.mark.parametrize("optional", [True, False])
async def test_an_api_that_is_not_served_is_a_state_of_its_own(
    server: ApiServer, client: Client, clock: Clock, *, optional: bool
) -> None:
    path = "/apis/scheduling.volcano.sh/v1beta1/queues"
    async with following(client, path, optional=optional) as (informer, _):
        await eventually(lambda: len(clock.slept) >= 3)
        assert set(clock.slept) == {30.0}
        assert informer.is_served is False
        assert informer.has_synced == optional
        assert not informer.store
        assert informer.healthy().ok == optional
        server.collections[path] = "Queue"
        server.objects[path] = {}
        server.put(path, "default")
        await eventually(lambda: "default" in informer.store)
        assert informer.healthy() == (True, f"{path}: following, 1 objects")


async def test_an_api_that_went_and_came_back_is_read_anew(server: ApiServer, client: Client) -> None:
    server.put(NODES, "n1", spec={"size": 1})
    server.faults.append(Fault(watch=True, status=404))
    async with following(client) as (informer, _):
        await watched(server)
        assert informer.counters.relists == 1
        assert sizes(informer) == {"n1": 1}


@pytest.mark.parametrize(("code", "ok"), [(500, True), (429, True), (401, False), (403, False)])
async def test_health_is_patient_with_outages_and_strict_with_refusals(
    server: ApiServer, client: Client, code: int, *, ok: bool
) -> None:
    async with following(client, settings=replace(FAST, patience=1e9)) as (informer, _):
        assert informer.healthy() == (False, f"{NODES}: the first list is under way")
        await watched(server)
        assert informer.healthy() == (True, f"{NODES}: following, 0 objects")
        trouble = Fault(status=code, times=1_000_000)
        server.faults.append(trouble)
        server.end_watches("cut")
        await eventually(lambda: informer.counters.errors >= 2)
        assert informer.healthy().ok == ok
        trouble.times = 0
        await watched(server)
        await eventually(lambda: informer.healthy().sentence.endswith("following, 0 objects"))


async def test_an_outage_that_lasts_is_told_with_its_cause(server: ApiServer, client: Client) -> None:
    async with following(client) as (informer, _):
        await watched(server)
        server.faults.append(Fault(status=500, body=HTML, times=1_000_000))
        server.end_watches("cut")
        await eventually(lambda: not informer.healthy().ok)
        assert "500 Internal Server Error: <html>" in informer.healthy().sentence


async def test_a_first_list_that_fails_is_told_at_once(server: ApiServer, client: Client) -> None:
    server.faults.append(Fault(status=500, times=1_000_000))
    async with following(client, settings=replace(FAST, patience=1e9)) as (informer, _):
        await eventually(lambda: informer.counters.errors)
        assert "500" in informer.healthy().sentence


async def test_a_page_of_some_proxy_is_no_quiet_watch(server: ApiServer, client: Client) -> None:
    server.faults.append(Fault(watch=True, raw=HTML, times=2))
    async with following(client) as (informer, _):
        await watched(server)
        assert informer.counters.errors == 2


async def test_stopping_is_prompt_whatever_it_waits_for(server: ApiServer, client: Client) -> None:
    server.faults.append(Fault(watch=False, end="silence"))
    async with following(client):
        await eventually(lambda: server.seen)
    async with following(client):
        await watched(server)
    await eventually(lambda: not server.watchers)
