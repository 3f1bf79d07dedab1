"""The client: what it sends, what it raises, what it repeats and what it never repeats."""

import gzip
import json
from dataclasses import replace

import pytest

from slicewise.kube.client import Client
from slicewise.kube.errors import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    LeadershipLostError,
    NotFoundError,
    TooLargeError,
    TooManyRequestsError,
    UnauthorizedError,
    UnreachableError,
)
from slicewise.kube.transport import Request, Transport
from tests.kube.apiserver import ApiServer, status
from tests.kube.clocks import Clock
from tests.kube.conftest import NODES, client_of
from tests.kube.wire import Fault

HTML = b"<html>\n<body>Bad gateway</body></html>"


async def test_the_verbs_do_what_their_names_say(server: ApiServer, client: Client) -> None:
    one = f"{NODES}/n1"
    created = (await client.create(NODES, {"metadata": {"name": "n1"}, "spec": {"a": 1}})).json()
    assert (await client.get(one)).json() == created

    changed = (await client.replace(one, {**created, "spec": {"a": 2}})).json()
    assert changed["spec"] == {"a": 2}
    with pytest.raises(ConflictError):
        await client.replace(one, {**created, "spec": {"a": 3}})

    await client.merge_patch(one, {"spec": {"a": None}})
    await client.apply(one, {"spec": {"c": 1}}, field_manager="tests", force=True)
    assert server.objects[NODES]["n1"]["spec"] == {"c": 1}
    assert server.seen[-1].query == {"fieldManager": "tests", "force": "true"}
    assert server.seen[-1].headers["content-type"] == "application/apply-patch+yaml"

    with pytest.raises(ConflictError):
        await client.delete(one, uid="somebody else's")
    await client.delete(one, uid=created["metadata"]["uid"])
    assert server.objects[NODES] == {}


async def test_it_says_who_it_is(server: ApiServer, client: Client) -> None:
    await client.get(NODES)
    agent = server.seen[-1].headers["user-agent"]
    assert agent.startswith("slicewise/")
    assert agent.endswith("(client)")


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", ApiError),
        (403, "Forbidden", ForbiddenError),
        (404, "NotFound", NotFoundError),
        (409, "Conflict", ConflictError),
        (409, "AlreadyExists", AlreadyExistsError),
        (410, "Expired", GoneError),
        (422, "Invalid", InvalidError),
        (429, "TooManyRequests", TooManyRequestsError),
        (500, "InternalError", ApiError),
        (301, "Moved", ApiError),
        (599, "Odd", ApiError),
    ],
)
async def test_a_refusal_is_a_typed_error(
    server: ApiServer, client: Client, code: int, reason: str, kind: type[ApiError]
) -> None:
    body = json.dumps(status(code, reason, "because")).encode()
    server.faults.append(Fault(status=code, body=body))
    with pytest.raises(kind) as caught:
        await client.request("GET", NODES, attempts=1)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.reason, caught.value.message) == (code, reason, "because")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (HTML, "<html>"),
        (b"", "no message"),
        (b"\xff\xfe", "��"),
        (b"[]", "[]"),
        (b'{"code": "x"}', '{"code": "x"}'),
    ],
)
async def test_a_body_that_is_no_status_still_makes_a_sentence(
    server: ApiServer, client: Client, body: bytes, message: str
) -> None:
    server.faults.append(Fault(status=502, body=body))
    with pytest.raises(ApiError) as caught:
        await client.request("GET", NODES, attempts=1)
    assert (caught.value.status, caught.value.reason, caught.value.message) == (502, "Bad Gateway", message)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500, times=2),
        Fault(status=503, body=HTML, times=2),
        Fault(status=429, headers={"Retry-After": "7"}, times=2),
        Fault(end="cut", times=2),
        Fault(raw=b"{", end="cut", times=2),
    ],
)
async def test_reads_are_repeated(server: ApiServer, client: Client, fault: Fault) -> None:
    server.faults.append(fault)
    assert (await client.get(NODES)).json()["items"] is None


@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    ("fault", "repeated"),
    [
        (Fault(status=429), True),
        (Fault(status=503, headers={"Retry-After": "1"}), True),
        (Fault(status=503), False),
        (Fault(status=500), False),
        (Fault(status=504, headers={"Retry-After": "1"}), False),
        (Fault(raw=b"{", end="cut"), False),
        (Fault(lost=True), False),
    ],
)
async def test_writes_are_repeated_only_where_the_server_cannot_have_acted(
    server: ApiServer, client: Client, verb: str, fault: Fault, *, repeated: bool
) -> None:
    server.put(NODES, "n1")
    server.faults.append(replace(fault))
    path = NODES if verb == "POST" else f"{NODES}/n1"
    write = client.request(
        verb, path, body={"metadata": {"name": "n2"}}, content_type="application/merge-patch+json"
    )
    if repeated:
        await write
    else:
        with pytest.raises((ApiError, UnreachableError)):
            await write
    assert server.count(verb) == (2 if repeated else 1)


async def test_a_write_that_never_left_is_repeated(clock: Clock) -> None:
    async with ApiServer({}).running() as gone:
        url = gone.url
    async with client_of(url, clock.timing) as client:
        with pytest.raises(UnreachableError) as caught:
            await client.create(NODES, {})
    assert not caught.value.sent
    assert len(clock.slept) == 4


async def test_retry_after_is_honoured_on_top_of_the_backoff(
    server: ApiServer, client: Client, clock: Clock
) -> None:
    server.faults.append(Fault(status=429, headers={"Retry-After": "7"}))
    server.faults.append(Fault(status=429, body=json.dumps({"details": {"retryAfterSeconds": 9}}).encode()))
    await client.get(NODES)
    assert clock.slept == [7.2, 9.4]


async def test_giving_up_comes_after_a_bounded_number_of_attempts(server: ApiServer, client: Client) -> None:
    server.faults.append(Fault(status=500, times=100))
    with pytest.raises(ApiError):
        await client.get(NODES)
    assert server.count() == 5


async def test_compressed_answers_are_understood(server: ApiServer, client: Client) -> None:
    body = gzip.compress(b'{"items":[]}')
    server.faults.append(Fault(status=200, body=body, headers={"Content-Encoding": "gzip"}))
    assert (await client.get(NODES)).json() == {"items": []}
    assert server.seen[-1].headers["accept-encoding"] == "gzip"


@pytest.mark.hurried
async def test_silence_is_unreachable(server: ApiServer, client: Client) -> None:
    server.faults.append(Fault(end="silence"))
    with pytest.raises(UnreachableError) as caught:
        await client.request("POST", NODES, body={}, timeout=0.05)
    assert caught.value.sent


async def test_an_answer_without_end_is_cut_off(server: ApiServer, client: Client) -> None:
    server.put(NODES, "n1", filler="x" * 1000)
    transport = Transport("tests")
    access = await client._credentials.access()
    with pytest.raises(TooLargeError):
        await transport.exchange(access, Request("GET", NODES), 5.0, largest=500)
    await transport.close()


async def test_the_fence_stands_before_every_attempt_at_a_write(server: ApiServer, client: Client) -> None:
    answers = iter([5.0, None])

    def fence() -> float | None:
        for answer in answers:
            return answer
        raise LeadershipLostError("gone")

    fenced = client.fenced_by(fence)
    await fenced.get(NODES)
    server.faults.append(Fault(status=429, method="POST"))
    await fenced.create(NODES, {"metadata": {"name": "n1"}})
    with pytest.raises(LeadershipLostError):
        await fenced.create(NODES, {"metadata": {"name": "n2"}})
    assert list(server.objects[NODES]) == ["n1"]
    await client.create(NODES, {"metadata": {"name": "n3"}})


async def test_the_fence_limits_how_long_a_write_takes(server: ApiServer, client: Client) -> None:
    server.faults.append(Fault(end="silence"))
    with pytest.raises(UnreachableError):
        await client.fenced_by(lambda: 0.05).create(NODES, {})


async def test_an_unauthorized_answer_has_credentials_read_again(server: ApiServer, client: Client) -> None:
    server.token = "new"
    with pytest.raises(UnauthorizedError):
        await client.get(NODES)
    assert server.count() == 2
