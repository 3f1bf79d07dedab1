"""The informer as a specification: what it shows, what it survives, and what it never does."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import msgspec
import pytest

from slicewise.kube import Change, Client, Informer, WatchSettings
from tests.kube.apiserver import ApiServer, End, Fault, status
from tests.kube.clocks import Clock, eventually
from tests.kube.conftest import NODES, QUEUES

FAST = WatchSettings(page=2, inactivity=5.0)
HTML = b"<html>\n<body>Bad gateway</body></html>"


class Metadata(msgspec.Struct):
    name: str
    labels: dict[str, str] = {}


class Spec(msgspec.Struct):
    size: int = 0


class Node(msgspec.Struct):
    """A projection: everything that is not here does not exist."""

    metadata: Metadata
    spec: Spec = msgspec.field(default_factory=Spec)


class Seen:
    """What an informer told."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, int | None, int | None]] = []
        self.malformed: list[str] = []

    def change(self, change: Change[Node]) -> None:
        old = change.old.spec.size if change.old else None
        new = change.new.spec.size if change.new else None
        self.changes.append((change.key, old, new))

    def bad(self, key: str, error: Exception) -> None:
        assert str(error)
        self.malformed.append(key)


@asynccontextmanager
async def following(
    client: Client, path: str = NODES, settings: WatchSettings = FAST, **options: object
) -> AsyncIterator[tuple[Informer[Node], Seen]]:
    seen = Seen()
    informer = Informer(
        client,
        path,
        Node,
        on_change=seen.change,
        on_malformed=seen.bad,
        settings=settings,
        **options,  # type: ignore[arg-type]
    )
    task = asyncio.create_task(informer.run(), name="informer")
    try:
        yield informer, seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def sizes(informer: Informer[Node]) -> dict[str, int]:
    return {key: node.spec.size for key, node in informer.store.items()}


def truth(server: ApiServer, path: str = NODES) -> dict[str, int]:
    return {key: thing.get("spec", {}).get("size", 0) for key, thing in server.objects[path].items()}


async def same(server: ApiServer, informer: Informer[Node]) -> None:
    await eventually(lambda: informer.has_synced and sizes(informer) == truth(server))


async def watched(server: ApiServer) -> None:
    await eventually(lambda: server.watchers)


# -- lists ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 5])
async def test_a_list_is_read_page_by_page(server: ApiServer, client: Client, count: int) -> None:
    for number in range(count):
        server.put(NODES, f"n{number}", spec={"size": number})
    async with following(client) as (informer, seen):
        await informer.synced()
        assert sizes(informer) == truth(server)
        assert len(seen.changes) == count
        assert server.count(path=NODES, watch=False) == max(1, -(-count // 2))
        await watched(server)
    assert server.seen[-1].query["resourceVersion"] == str(server.version)
    assert server.seen[-1].query["allowWatchBookmarks"] == "true"
    assert server.seen[-1].query["timeoutSeconds"] == "290"


async def test_pages_that_expire_are_read_again_from_the_start(server: ApiServer, client: Client) -> None:
    for number in range(5):
        server.put(NODES, f"n{number}")
    server.faults.append(Fault(path=NODES, watch=False, times=0))
    expired = json.dumps(status(410, "Expired")).encode()
    async with following(client, settings=replace(FAST, page=3)) as (informer, _):
        server.faults[:] = [
            Fault(path=NODES, watch=False, delay=0.02),
            Fault(watch=False, status=410, body=expired),
        ]
        await same(server, informer)
        assert server.count(path=NODES, watch=False) == 4
        assert informer.counters.errors == 1
        assert informer.healthy().ok


async def test_selectors_are_sent_with_lists_and_watches(server: ApiServer, client: Client) -> None:
    server.put(NODES, "in", metadata={"labels": {"gpu": "yes"}})
    server.put(NODES, "out")
    async with following(client, label_selector="gpu=yes", field_selector="spec.a!=b") as (informer, _):
        await informer.synced()
        assert list(informer.store) == ["in"]
        await watched(server)
        server.put(NODES, "in2", metadata={"labels": {"gpu": "yes"}})
        server.put(NODES, "out2")
        await eventually(lambda: "in2" in informer.store)
    assert "out2" not in informer.store
    for one in server.seen:
        assert (one.query["labelSelector"], one.query["fieldSelector"]) == ("gpu=yes", "spec.a!=b")


async def test_namespaced_objects_are_kept_by_namespace_and_name(server: ApiServer, client: Client) -> None:
    server.put(QUEUES, "q", namespace="a")
    server.put(QUEUES, "q", namespace="b")
    async with following(client, QUEUES) as (informer, _):
        await informer.synced()
        assert sorted(informer.store) == ["a/q", "b/q"]


async def test_a_function_may_decode(server: ApiServer, client: Client) -> None:
    server.put(NODES, "n1")
    informer = Informer(client, NODES, lambda raw: len(raw) > 2)
    task = asyncio.create_task(informer.run())
    await informer.synced()
    task.cancel()
    assert informer.store == {"n1": True}


# -- events --------------------------------------------------------------------------------------------------------


async def test_changes_are_told_once_with_old_and_new(server: ApiServer, client: Client) -> None:
    server.put(NODES, "n1", spec={"size": 1})
    async with following(client) as (informer, seen):
        await watched(server)
        server.put(NODES, "n1", spec={"size": 2})
        server.put(NODES, "n2", spec={"size": 3})
        server.remove(NODES, "n1")
        await same(server, informer)
    assert seen.changes == [("n1", None, 1), ("n1", 1, 2), ("n2", None, 3), ("n1", 2, None)]


async def test_what_the_projection_does_not_show_is_dropped(server: ApiServer, client: Client) -> None:
    server.put(NODES, "n1", spec={"size": 1})
    async with following(client) as (informer, seen):
        await watched(server)
        for beat in range(5):
            server.put(NODES, "n1", spec={"size": 1}, status={"heartbeat": beat})
        server.repeat()
        await eventually(lambda: informer.counters.events == 6)
        assert informer.counters.dropped == 6
        assert len(seen.changes) == 1
        assert informer.counters.last_event is not None


async def test_bookmarks_move_the_point_to_resume_from(server: ApiServer, client: Client) -> None:
    async with following(client) as (informer, seen):
        await watched(server)
        server.put(QUEUES, "elsewhere", namespace="a")
        server.bookmark()
        server.end_watches()
        await eventually(lambda: server.count(watch=True) == 2)
        await watched(server)
        assert server.seen[-1].query["resourceVersion"] == str(server.version)
        assert (informer.counters.relists, seen.changes) == (0, [])


async def test_a_huge_object_is_one_line_like_any_other(server: ApiServer, client: Client) -> None:
    async with following(client) as (informer, _):
        await watched(server)
        server.put(NODES, "big", spec={"size": 9, "filler": "x" * 3 * 1024 * 1024})
        await same(server, informer)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"STRANGE","object":{"metadata":{"name":"n","resourceVersion":"5"}}}\n',
        b'{"type":"BOOKMARK","object":{"metadata":null}}\n',
        b'{"type":"BOOKMARK","object":{}}\n',
        b"\n\n",
        b"not json\n",
        HTML + b"\n",
        b'{"type":"ADDED"}\n',
        b'{"type":"ERROR","object":null}\n',
        b'{"type":"ERROR","object":{"code":"odd"}}\n',
        b'{"type":"ERROR","object":{"code":99999,"message":"?"}}\n',
        b'{"type":"ERROR","object":{"code":500,"reason":"InternalError"}}\n',
        b'{"type":"ADDED","object":{"metadata":{"name":"cut"',
        b'{"type":"DELETED","object":{"metadata":{}}}\n',
    ],
)
@pytest.mark.parametrize("end", ["close", "cut"])
async def test_nonsense_on_a_watch_is_survived(
    server: ApiServer, client: Client, raw: bytes, end: End
) -> None:
    server.put(NODES, "n1", spec={"size": 1})
    server.faults.append(Fault(watch=True, raw=raw, end=end))
    async with following(client) as (informer, seen):
        await watched(server)
        server.put(NODES, "n1", spec={"size": 2})
        await same(server, informer)
    assert seen.changes == [("n1", None, 1), ("n1", 1, 2)]
    assert informer.counters.relists == 0


# -- objects that do not fit -----------------------------------------------------------------------------------------


async def test_one_malformed_object_is_reported_and_the_rest_goes_on(
    server: ApiServer, client: Client
) -> None:
    for name, size in (("n1", 1), ("n2", "two"), ("n3", 3)):
        server.put(NODES, name, spec={"size": size})
    async with following(client) as (informer, seen):
        await informer.synced()
        assert sizes(informer) == {"n1": 1, "n3": 3}
        assert seen.malformed == ["n2"]
        assert list(informer.malformed) == ["n2"]

        await watched(server)
        server.put(NODES, "n2", spec={"size": 2})
        await same(server, informer)
        assert not informer.malformed


async def test_the_last_version_that_fitted_stays(server: ApiServer, client: Client) -> None:
    server.put(NODES, "n1", spec={"size": 1})
    async with following(client) as (informer, seen):
        await watched(server)
        server.put(NODES, "n1", spec={"size": None})
        await eventually(lambda: seen.malformed)
        server.compact()
        server.put(NODES, "n2", spec={"size": 2})
        server.end_watches()
        await eventually(lambda: "n2" in informer.store)
        assert sizes(informer) == {"n1": 1, "n2": 2}
        await watched(server)
        server.remove(NODES, "n1")
        await same(server, informer)
        assert not informer.malformed


async def test_an_object_without_a_name_keeps_others_from_being_deleted(
    server: ApiServer, client: Client
) -> None:
    server.put(NODES, "n1", spec={"size": 1})
    async with following(client) as (informer, seen):
        await watched(server)
        server.objects[NODES] = {"n1": {"metadata": {}}}
        server.version += 1
        server.compact()
        server.end_watches()
        await eventually(lambda: informer.counters.relists)
        await eventually(lambda: seen.malformed)
        assert sizes(informer) == {"n1": 1}


async def test_a_callback_that_raises_stops_nothing(
    server: ApiServer, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def bad(_: Change[Node]) -> None:
        raise RuntimeError("a bug elsewhere")

    server.put(NODES, "n1")
    informer = Informer(client, NODES, Node, on_change=bad)
    task = asyncio.create_task(informer.run())
    await watched(server)
    server.put(NODES, "n2")
    await same(server, informer)
    task.cancel()
    assert "a callback failed" in caplog.text


# -- connections -----------------------------------------------------------------------------------------------------


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
        await eventually(lambda: informer.counters.reconnects >= 2)
        assert informer.counters.errors == 0
        server.faults.append(Fault(watch=True, end="silence", times=1000))
        await eventually(lambda: informer.counters.errors >= 1)
        await eventually(lambda: not informer.healthy().ok)


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
async def test_no_failure_empties_the_store(server: ApiServer, client: Client, fault: Fault) -> None:
    server.put(NODES, "n1", spec={"size": 1})
    async with following(client) as (informer, seen):
        await watched(server)
        server.faults.append(replace(fault, path=NODES, times=12))
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


# -- APIs that are not there, and health -----------------------------------------------------------------------------


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


async def test_health_is_patient_with_outages_and_strict_with_refusals(
    server: ApiServer, client: Client
) -> None:
    async with following(client) as (informer, _):
        assert informer.healthy() == (False, f"{NODES}: the first list is under way")
        await watched(server)
        assert informer.healthy() == (True, f"{NODES}: following, 0 objects")
        outage = Fault(status=500, times=1000)
        server.faults.append(outage)
        server.end_watches("cut")
        await eventually(lambda: informer.counters.errors >= 2)
        assert informer.healthy().ok
        await eventually(lambda: not informer.healthy().ok)
        assert "no news for" in informer.healthy().sentence
        outage.times = 0
        await eventually(lambda: informer.healthy().ok)
        server.faults.append(Fault(status=403, times=1))
        await watched(server)
        server.end_watches("cut")
        await eventually(lambda: not informer.healthy().ok or not server.faults[-1].times)


async def test_stopping_is_prompt_whatever_it_waits_for(server: ApiServer, client: Client) -> None:
    server.faults.append(Fault(watch=False, end="silence"))
    async with following(client):
        await eventually(lambda: server.seen)
    async with following(client):
        await watched(server)
    await eventually(lambda: not server.watchers)
