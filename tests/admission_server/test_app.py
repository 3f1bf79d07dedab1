"""What the review paths answer, over real TLS."""

import json
import logging
from collections.abc import Callable, Sized
from functools import partial
from typing import Final

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from admission.decision.cluster_state import ClusterState
from admission.mutating import answer
from admission.mutation.outcome import Verdict
from admission.server.app import CacheNotReadyError, duration
from admission.server.intake import Limits
from admission.server.metrics import SERIES, Metrics
from admission.wire import Answer, BadReview
from slicewise.inventory.pools import Inventory
from tests.admission_server.conftest import Served, echo, serving
from tests.kube.clocks import eventually


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


async def test_a_review_is_answered_and_counted(served: Served) -> None:
    connection = await served.connect()
    reply = await connection.ask(body=b'{"a": 1}')
    assert (reply.status, reply.body) == (200, b'{"a": 1}')
    assert reply.headers["content-type"] == "application/json"
    counted = {
        "path": "/mutate",
        "outcome": "rewritten",
        "kind": "Pod",
        "policy": "default",
        "strategy": "mig",
    }
    assert _value(served.metrics, "slicewise_admission_reviews_total", **counted) == 1
    assert _value(served.metrics, "slicewise_admission_responses_total", path="/mutate", code="200") == 1
    assert _value(served.metrics, "slicewise_admission_request_size_bytes_sum", path="/mutate") == 8


async def test_many_reviews_go_over_one_connection(served: Served) -> None:
    connection = await served.connect()
    for _ in range(20):
        assert (await connection.ask("/mutate?timeout=3s")).status == 200


async def test_nothing_about_the_server_is_told(served: Served) -> None:
    reply = await (await served.connect()).ask()
    assert set(reply.headers) == {"content-type", "content-length"}


async def test_only_post_is_served(served: Served) -> None:
    reply = await (await served.connect()).ask(method="GET")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("text/plain", 415),
        ("application/jsonp", 415),
    ],
)
async def test_the_content_type_must_be_json(served: Served, content_type: str, status: int) -> None:
    assert (await (await served.connect()).ask(content_type=content_type)).status == status


_ANNOUNCED: Final = (
    b"POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
)


async def test_a_review_of_any_size_is_refused_before_all_of_it_is_there(served: Served) -> None:
    """Of a new object the API server sends the status too, at any length, and drops it afterwards."""
    connection = await served.connect()
    await connection.send(_ANNOUNCED % (1 << 40) + _as_go_writes_it('"' + "x" * 100_000))
    reply = await connection.read()
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    response = json.loads(reply.body)["response"]
    assert (response["uid"], response["allowed"]) == ("u-1", False)
    assert "its review takes 1048576.0 MiB" in response["status"]["message"]
    await connection.send(b"x" * (8 << 20))  # who is still sending is not cut off


async def test_the_rest_of_a_body_that_was_refused_is_not_waited_for_for_ever() -> None:
    async with serving(limits=Limits(patience=0.2)) as served:
        connection = await served.connect()
        await connection.send(_ANNOUNCED % (1 << 40) + b"x" * 100_000)
        assert (await connection.read()).status == 413
        assert await connection.closed()
        await eventually(lambda: len(served.application._intake) == 0)


async def test_a_body_that_is_too_large_and_nobodys_is_a_bad_request() -> None:
    async with serving(limits=Limits(largest_body=100_000)) as served:
        connection = await served.connect()
        await connection.send(
            b"POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for _ in range(4):
            await connection.send(b"c350\r\n" + b"x" * 50_000 + b"\r\n")
        await connection.send(b"0\r\n\r\n")
        assert (await connection.read()).status == 413
        assert await connection.closed()


def _as_go_writes_it(value: str) -> bytes:
    """A review of a Pod with one string of `value`, its fields in the order of Go's structs."""
    return (
        b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u-1",'
        b'"kind":{"group":"","version":"v1","kind":"Pod"},"resource":{"group":"","version":"v1","resource":"pods"},'
        b'"name":"big","namespace":"team","operation":"CREATE","userInfo":{"username":"ada"},"object":'
        b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"big"},"spec":{"containers":[{"args":[%s]}]}}}}'
        % value.encode()
    )


@pytest.mark.parametrize("size", [1_100_000, 120_000], ids=["in many pieces", "in one piece"])
async def test_a_review_that_is_too_large_is_refused_and_not_let_through(
    size: int, caplog: pytest.LogCaptureFixture
) -> None:
    # A status code would mean yes under `failurePolicy: Ignore`, and so would another uid.
    limits = Limits(largest_body=size - 1)
    body = _as_go_writes_it('"' + "x" * size + '"')
    async with serving(limits=limits) as served:
        reply = await (await served.connect()).ask(body=body)
        assert _value(served.metrics, "slicewise_admission_refusals_total", reason="too-large") == 1
    assert reply.status == 200
    response = json.loads(reply.body)["response"]
    assert (response["uid"], response["allowed"]) == ("u-1", False)
    assert response["status"]["message"].startswith("Pod team/big: its review takes ")
    (record,) = [one for one in caplog.records if one.message == "a review was refused unread"]
    assert record.__dict__["uid"] == "u-1"


async def test_what_etcd_can_hold_is_reviewed_twice_over_as_go_escapes_it() -> None:
    old = new = b"\\u003c" * (1536 * 1024)
    body = b'{"object":"' + new + b'","oldObject":"' + old + b'"}'
    seen: list[int] = []

    def handler(body: bytes) -> Answer:
        seen.append(len(body))
        return echo(b"{}")

    async with serving(handler) as served:
        assert (await (await served.connect()).ask(body=body)).status == 200
    assert seen == [len(body)]


@pytest.mark.parametrize("depth", [2_000, 9_000])  # API servers read up to 10,000
async def test_a_review_that_is_too_deep_is_refused_and_not_let_through(depth: int) -> None:
    body = _as_go_writes_it("[" * depth + "]" * depth)
    async with serving(partial(answer, state=ClusterState({}, {}, Inventory()))) as served:
        reply = await (await served.connect()).ask(body=body)
    response = json.loads(reply.body)["response"]
    assert (reply.status, response["uid"], response["allowed"]) == (200, "u-1", False)
    assert response["status"]["message"].startswith("Pod team/big: it is nested too deeply to be read")


async def test_a_body_in_many_pieces_is_put_together(served: Served) -> None:
    body = json.dumps({"text": "x" * 200_000}).encode()
    assert (await (await served.connect()).ask(body=body)).body == body


def _raising(error: Exception) -> Callable[[bytes], Answer]:
    def judge(_: bytes) -> Answer:
        raise error

    return judge


async def test_a_malformed_review_is_a_bad_request() -> None:
    async with serving(_raising(BadReview("the body is\nno review"))) as served:
        reply = await (await served.connect()).ask()
        assert (reply.status, reply.body) == (400, b"the body is no review\n")


async def test_a_failure_of_our_own_is_an_error_without_details(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(_raising(KeyError("secret detail"))) as served:
        connection = await served.connect()
        with caplog.at_level(logging.ERROR):
            reply = await connection.ask(body=b'{"request": {"uid": "u-1"}}')
        assert (reply.status, reply.body) == (500, b"the review failed; the webhook's log says why\n")
        record = next(one for one in caplog.records if one.message == "a review failed")
        assert record.__dict__["uid"] == "u-1"
        assert record.exc_info is not None
        caplog.clear()
        assert (await connection.ask(body=b"not json")).status == 500


def _decoding(body: bytes) -> Answer:
    msgspec.json.decode(body)
    return echo(body)


async def test_a_body_too_deep_to_read_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(_decoding) as served:
        connection = await served.connect()
        deep = b'{"request":{"uid":"u","object":' + b"[" * 9000 + b"]" * 9000 + b"}}"
        assert (await connection.ask(body=deep)).status == 500
        assert (await connection.ask()).status == 200
        assert _value(served.metrics, "slicewise_admission_in_flight_requests") == 0
    caplog.clear()


async def test_a_judge_that_is_behind_has_the_question_asked_again() -> None:
    async with serving(_raising(CacheNotReadyError("namespace a is not known yet"))) as served:
        reply = await (await served.connect()).ask()
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")


async def test_nothing_is_judged_before_the_caches_are_filled(served: Served) -> None:
    served.blocked.append("nodes are being listed")
    reply = await (await served.connect()).ask()
    assert (reply.status, reply.body) == (503, b"not ready: nodes are being listed\n")
    assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")
    served.blocked.clear()
    assert (await (await served.connect()).ask()).status == 200


_HEAD = b"POST /mutate%s HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n"


def _more_than(bodies: Sized, count: int) -> bool:
    return len(bodies) > count


IN_FLIGHT = "slicewise_admission_in_flight_requests"


async def test_of_too_many_bodies_the_slowest_goes_and_the_newest_is_served() -> None:
    async with serving(limits=Limits(most_at_once=3)) as served:
        slow = [await served.connect() for _ in range(4)]
        for connection in slow[:3]:
            before = len(served.application._intake)
            await connection.send(_HEAD % b"" + b"{")
            await eventually(partial(_more_than, served.application._intake, before))
        await slow[3].send(_HEAD % b"" + b"{")
        reply = await slow[0].read()
        assert (reply.status, reply.headers["retry-after"], reply.headers["connection"]) == (
            429,
            "1",
            "close",
        )
        assert (await (await served.connect()).ask()).status == 200
        for connection in slow[1:]:
            await connection.send(b"}" + b" " * 8)
            assert (await connection.read()).status == 200
        assert _value(served.metrics, IN_FLIGHT) == 0


async def test_no_more_is_held_than_there_is_memory_for() -> None:
    async with serving(limits=Limits(most_bytes=100_000)) as served:
        slow, other = await served.connect(), await served.connect()
        head = b"POST /mutate HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 70000\r\n\r\n"
        for _ in range(2):
            await slow.send(head + b" " * 69_999)
            await eventually(lambda: served.application._intake._bytes == 69_999)
            await other.send(head + b" " * 69_999)
            assert (await slow.read()).status == 429
            await other.send(b" ")
            assert (await other.read()).status == 200
            assert served.application._intake._bytes == 0
            slow = await served.connect()


async def test_a_body_that_never_comes_is_given_up_at_the_callers_deadline(served: Served) -> None:
    connection = await served.connect()
    await connection.send(_HEAD % b"?timeout=50ms" + b"{")
    reply = await connection.read()
    assert (reply.status, reply.headers["connection"]) == (408, "close")


async def test_a_client_that_leaves_in_the_middle_harms_nobody(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    connection = await served.connect()
    await connection.send(_HEAD % b"" + b"{")
    in_flight = "slicewise_admission_in_flight_requests"
    await eventually(lambda: _value(served.metrics, in_flight) == 1)
    connection.close()
    await eventually(lambda: _value(served.metrics, in_flight) == 0)
    assert (await (await served.connect()).ask()).status == 200
    assert not caplog.records


async def test_what_people_send_cannot_make_the_metrics_grow() -> None:
    kinds = iter(range(10 * SERIES))

    def judge(body: bytes) -> Answer:
        return Answer(body, Verdict.LEFT, f"Kind{next(kinds)}.example.com", "default", "mig")

    async with serving(judge) as served:
        connection = await served.connect()
        for _ in range(SERIES + 20):
            await connection.ask()
        other = {
            "path": "/mutate",
            "outcome": "left",
            "kind": "other",
            "policy": "other",
            "strategy": "other",
        }
        assert _value(served.metrics, "slicewise_admission_reviews_total", **other) == 20


async def test_draining_asks_clients_to_go_elsewhere_and_still_answers(served: Served) -> None:
    idle = await served.connect()
    assert "connection" not in (await idle.ask()).headers
    served.application.draining = served.readiness.draining = True
    reply = await idle.ask()
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert await idle.closed()
    ready = await (await served.connect()).ask("/readyz", method="GET")
    assert (ready.status, ready.headers["connection"]) == (503, "close")
    assert "stopping" in json.loads(ready.body)["reasons"]["server"]


async def test_the_operational_routes_are_served_too(served: Served) -> None:
    connection = await served.connect()
    assert (await connection.ask("/healthz", b"", "GET")).body == b"ok"
    assert json.loads((await connection.ask("/readyz", b"", "GET")).body) == {"ready": True, "reasons": {}}
    served.readiness.checks["caches"] = lambda: "nodes are being listed"
    reply = await connection.ask("/readyz", b"", "GET")
    assert reply.status == 503
    assert json.loads(reply.body)["reasons"] == {"caches": "nodes are being listed"}
    assert (await connection.ask("/nothing", b"", "GET")).status == 404
    text = (await connection.ask("/metrics", b"", "GET")).body.decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert "slicewise_admission_review_duration_seconds" in names


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3s", 3.0),
        ("1m30s", 90.0),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("", None),
        ("3", None),
        ("s", None),
        ("3s!", None),
        ("2562047h47m16.854775807s", 9223372036.854776),
        pytest.param("1" * 60_000, None, id="a minute's search"),
    ],
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds
