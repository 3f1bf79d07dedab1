"""The informer and objects: what it lists, what it tells, and what it makes of those that do not fit."""

import asyncio
import json
from dataclasses import replace

import pytest

from slicewise.kube import turns
from slicewise.kube.client import Client
from slicewise.kube.informer import Informer
from slicewise.kube.informer_types import Change
from tests.kube.apiserver import ApiServer, status
from tests.kube.clocks import eventually
from tests.kube.conftest import NODES, QUEUES
from tests.kube.observing import FAST, Node, following, same, sizes, truth, watched
from tests.kube.test_turns import counted
from tests.kube.wire import End, Fault

HTML = b"<html>\n<body>Bad gateway</body></html>"


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


async def test_others_have_their_turn_while_a_list_is_read_and_told(
    monkeypatch: pytest.MonkeyPatch, server: ApiServer, client: Client
) -> None:
    monkeypatch.setattr(turns, "STEP", 0.0)
    for number in range(20):
        server.put(NODES, f"n{number}")
    read, told = set[int](), set[int]()

    def decode(raw: bytes) -> int:
        read.add(turn.number)
        return len(raw)

    informer = Informer(client, NODES, decode, on_change=lambda _: told.add(turn.number))
    async with counted() as turn:
        following = asyncio.create_task(informer.run())
        await informer.synced()
        following.cancel()
    assert (len(informer.store), len(read), len(told)) == (20, 20, 20)


async def test_a_store_that_is_listed_anew_changes_at_once(
    monkeypatch: pytest.MonkeyPatch, server: ApiServer, client: Client
) -> None:
    """However long it takes to compare and to tell, nobody sees one state of the server beside another."""
    monkeypatch.setattr(turns, "STEP", 0.0)
    for number in range(10):
        server.put(NODES, f"n{number}", spec={"size": 1})
    shown: list[dict[str, int]] = []
    index: dict[str, int] = {}

    def indexed(change: Change[Node]) -> None:
        index.pop(change.key, None)
        if change.new is not None:
            index[change.key] = change.new.spec.size

    async def look() -> None:
        while True:
            shown.extend(each for each in (sizes(informer), {**index}) if each not in shown[-1:])
            await asyncio.sleep(0)

    async with following(client, settings=replace(FAST, page=4), index=indexed) as (informer, _):
        await watched(server)
        before = truth(server)
        looking = asyncio.create_task(look())
        server.end_watches()
        for number in range(8):
            server.put(NODES, f"n{number}", spec={"size": 2})
        server.remove(NODES, "n9")
        server.compact()
        await same(server, informer)
        looking.cancel()
    assert shown == [before, truth(server)]


async def test_pages_that_expire_are_read_again_from_the_start(server: ApiServer, client: Client) -> None:
    for number in range(5):
        server.put(NODES, f"n{number}")
    expired = json.dumps(status(410, "Expired")).encode()
    server.faults.append(Fault(later_page=True, status=410, body=expired))
    async with following(client, settings=replace(FAST, page=3)) as (informer, _):
        await same(server, informer)
        assert server.count(path=NODES, watch=False) == 4
        assert informer.counters.errors == 1
        assert informer.healthy().ok


async def test_the_selector_is_sent_with_lists_and_watches(server: ApiServer, client: Client) -> None:
    server.put(NODES, "in")
    server.put(NODES, "out")
    async with following(client, field_selector="metadata.name=in") as (informer, _):
        await informer.synced()
        assert list(informer.store) == ["in"]
        await watched(server)
        server.remove(NODES, "in")
        server.put(NODES, "out2")
        server.put(NODES, "in")
        await eventually(lambda: informer.counters.events == 2)
    assert list(informer.store) == ["in"]
    assert {one.query["fieldSelector"] for one in server.seen} == {"metadata.name=in"}


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
        assert (informer.counters.errors, informer.counters.relists) == (0, 0)


async def test_a_line_may_come_byte_by_byte(server: ApiServer, client: Client) -> None:
    async with following(client) as (informer, _):
        await watched(server)
        (watcher,) = server.watchers
        server.watchers.clear()
        server.put(NODES, "n1", spec={"size": 9})
        line = json.dumps({"type": "ADDED", "object": server.objects[NODES]["n1"]}) + "\n"
        for letter in line:
            watcher.frames.put_nowait(letter.encode())
        await same(server, informer)
        assert (informer.counters.errors, informer.counters.relists) == (0, 0)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"STRANGE","object":{"metadata":{"name":"n","resourceVersion":"101"}}}\n',
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
