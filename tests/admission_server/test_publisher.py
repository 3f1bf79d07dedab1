"""The authority's Secret and the caBundles, against an API server over real sockets."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest

from admission.tls import rotation
from admission.tls.ca_bundle import FIELD_MANAGER, GROUP, Identity
from admission.tls.publisher import Publisher
from admission.tls.reload import ReloadingContext
from admission.tls.x509 import LEAF_LIFE, CertificateError, Leaf, read_bundle
from slicewise.api import keys
from tests.kube.apiserver import ApiServer
from tests.kube.clocks import Clock, eventually
from tests.kube.conftest import client_of
from tests.kube.wire import Fault

SECRETS = "/api/v1/secrets"
MUTATING = f"{GROUP}/mutatingwebhookconfigurations"
VALIDATING = f"{GROUP}/validatingwebhookconfigurations"
NAME = "admission.slicewise.io"
KEY = "slicewise-system/slicewise-webhook-ca"
Make = Callable[[], Publisher]


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    kinds = {
        SECRETS: "Secret",
        MUTATING: "MutatingWebhookConfiguration",
        VALIDATING: "ValidatingWebhookConfiguration",
    }
    async with ApiServer(kinds).running() as one:
        yield one


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def make(server: ApiServer, clock: Clock) -> AsyncIterator[Make]:
    server.date = lambda: clock.wall().timestamp()
    async with client_of(server.url, clock.timing) as client:
        yield lambda: Publisher(client, ReloadingContext(), Identity())


def _configure(
    server: ApiServer, *, bundle: str = "", collections: tuple[str, ...] = (MUTATING, VALIDATING)
) -> None:
    encoded = base64.b64encode(bundle.encode()).decode()
    service = {"name": "slicewise-webhook", "namespace": "slicewise-system"}
    for collection in collections:
        entry = {"name": "a.slicewise.io", "clientConfig": {"service": service, "caBundle": encoded}}
        server.put(collection, NAME, webhooks=[entry])


def _held(server: ApiServer, collection: str) -> list[str]:
    (entry,) = server.objects[collection][NAME]["webhooks"]
    pem = base64.b64decode(entry["clientConfig"].get("caBundle", "")).decode()
    return [one.fingerprint for one in read_bundle(pem)] if pem else []


def _issuer(publisher: Publisher) -> str:
    assert isinstance(publisher.leaf, Leaf)
    return publisher.leaf.issuer


def _later(clock: Clock) -> bool:
    clock.advance(1)
    return True


def _writes(server: ApiServer) -> int:
    return sum(seen.method != "GET" for seen in server.seen)


async def test_the_first_round_makes_everything_and_the_next_ones_write_nothing(
    server: ApiServer, make: Make
) -> None:
    _configure(server)
    publisher = make()
    assert publisher.why_untrusted() == "the serving certificate has not been made yet"
    await publisher.round()
    assert publisher.why_untrusted() is None
    assert _held(server, MUTATING) == _held(server, VALIDATING) == [_issuer(publisher)]
    writes = _writes(server)
    for _ in range(3):
        await publisher.round()
    assert _writes(server) == writes == 3


async def test_the_caBundle_alone_is_applied_with_a_manager_of_its_own(server: ApiServer, make: Make) -> None:  # noqa: N802
    _configure(server, collections=(MUTATING,))
    await make().round()
    (seen,) = [one for one in server.seen if one.method == "PATCH"]
    assert seen.query["fieldManager"] == FIELD_MANAGER
    body = json.loads(seen.body)
    assert set(body) == {"apiVersion", "kind", "metadata", "webhooks"}
    assert set(body["metadata"]) == {"name", "resourceVersion"}
    assert [set(entry) for entry in body["webhooks"]] == [{"name", "clientConfig"}]
    assert [set(entry["clientConfig"]) for entry in body["webhooks"]] == [{"caBundle"}]


async def test_without_configurations_nothing_is_created_but_the_secret(
    server: ApiServer, make: Make
) -> None:
    publisher = make()
    await publisher.round()
    assert publisher.why_untrusted() is None
    assert [seen.method for seen in server.seen if seen.method != "GET"] == ["POST"]


async def test_entries_that_call_somebody_else_are_left_alone(server: ApiServer, make: Make) -> None:
    service = {"name": "slicewise-webhook", "namespace": "elsewhere"}
    server.put(MUTATING, NAME, webhooks=[{"name": "a", "clientConfig": {"service": service}}])
    await make().round()
    assert server.count("PATCH") == 0


async def test_replicas_that_start_at_once_agree(server: ApiServer, make: Make) -> None:
    _configure(server)
    replicas = [make() for _ in range(5)]
    await asyncio.gather(*(one.round() for one in replicas))
    await asyncio.gather(*(one.round() for one in replicas))
    assert len({_issuer(one) for one in replicas}) == 1
    assert [one.why_untrusted() for one in replicas] == [None] * 5
    assert server.count("POST", SECRETS.replace("/secrets", "")) >= 1
    assert _held(server, MUTATING) == [_issuer(replicas[0])]


async def test_a_stripped_bundle_is_put_back(server: ApiServer, make: Make, clock: Clock) -> None:
    publisher = make()
    task = asyncio.create_task(publisher.run())
    _configure(server)
    await eventually(lambda: _later(clock) and publisher.leaf is not None)
    await eventually(lambda: _later(clock) and _held(server, MUTATING))
    _configure(server)
    assert not _held(server, MUTATING)
    await eventually(lambda: _later(clock) and _held(server, MUTATING) == [_issuer(publisher)])
    await eventually(lambda: _later(clock) and _held(server, VALIDATING) == [_issuer(publisher)])
    task.cancel()


@pytest.mark.parametrize("damage", ["deleted", "emptied", "garbled"])
async def test_a_lost_secret_is_healed_from_memory(server: ApiServer, make: Make, damage: str) -> None:
    _configure(server)
    publisher = make()
    await publisher.round()
    issuer = _issuer(publisher)
    if damage == "deleted":
        server.remove(SECRETS, KEY)
    else:
        name, namespace = "slicewise-webhook-ca", "slicewise-system"
        data = {"ca.crt": "AAAA"} if damage == "garbled" else {}
        server.put(SECRETS, name, namespace, data=data)
    await publisher.round()
    assert (_issuer(publisher), publisher.why_untrusted()) == (issuer, None)
    other = make()
    await other.round()
    assert _issuer(other) == issuer


async def test_a_newcomer_that_heals_keeps_those_trusted_that_serve(
    server: ApiServer, make: Make, clock: Clock
) -> None:
    _configure(server)
    old, newcomer = make(), make()
    await old.round()
    before = _issuer(old)
    server.remove(SECRETS, KEY)
    await newcomer.round()
    assert _held(server, MUTATING) == [_issuer(newcomer), before]
    assert "API servers may not know it yet" in (newcomer.why_untrusted() or "")
    await old.round()
    assert (_issuer(old), old.why_untrusted()) == (before, None)
    clock.advance(5)
    assert newcomer.why_untrusted() is None
    clock.advance(61)
    await old.round()
    assert _issuer(old) == _issuer(newcomer)


async def test_rotation_goes_through_its_phases_and_nobody_is_ever_untrusted(
    server: ApiServer, make: Make, clock: Clock
) -> None:
    _configure(server)
    replicas = [make(), make()]

    async def everybody() -> list[str]:
        for one in replicas:
            await one.round()
            assert [each.why_untrusted() for each in replicas if each.leaf] == [None] * len(replicas)
        return _held(server, MUTATING)

    await replicas[0].round()
    await replicas[1].round()
    (old,) = await everybody()
    server.put(
        SECRETS,
        "slicewise-webhook-ca",
        "slicewise-system",
        **{k: v for k, v in server.objects[SECRETS][KEY].items() if k not in ("metadata", "kind")},
        metadata={"annotations": {keys.ROTATE: "now", "kept": "yes"}},
    )
    signer, upcoming = await everybody()
    assert signer == old
    assert server.objects[SECRETS][KEY]["metadata"]["annotations"] == {"kept": "yes"}
    clock.advance(61)
    assert await everybody() == [upcoming, old]
    assert {_issuer(one) for one in replicas} == {upcoming}
    clock.advance((LEAF_LIFE + rotation.MARGIN).total_seconds())
    assert await everybody() == [upcoming]


async def test_a_rotation_that_is_asked_for_survives_a_healing(server: ApiServer, make: Make) -> None:
    _configure(server)
    publisher = make()
    await publisher.round()
    annotations = {keys.ROTATE: "now"}
    server.put(
        SECRETS, "slicewise-webhook-ca", "slicewise-system", metadata={"annotations": annotations}, data={}
    )
    await publisher.round()
    assert server.objects[SECRETS][KEY]["metadata"]["annotations"] == annotations
    await publisher.round()
    assert not server.objects[SECRETS][KEY]["metadata"]["annotations"]
    assert len(_held(server, MUTATING)) == 2


async def test_a_write_that_somebody_overtakes_is_thought_over(server: ApiServer, make: Make) -> None:
    _configure(server)
    publisher = make()
    server.faults.append(Fault(method="PATCH", status=409, body=b"{}"))
    await publisher.round()
    assert publisher.why_untrusted() is None
    assert server.count("GET", f"/mutatingwebhookconfigurations/{NAME}") == 2


async def test_without_the_api_server_the_certificate_stays(server: ApiServer, make: Make) -> None:
    _configure(server)
    publisher = make()
    await publisher.round()
    leaf = publisher.leaf
    server.faults.append(Fault(path="webhookconfigurations", status=403, times=99))
    with pytest.raises(Exception, match="403"):
        await publisher.round()
    assert (publisher.leaf, publisher.why_untrusted()) == (leaf, None)


async def test_a_secret_that_is_never_free_to_write_is_left_for_later(server: ApiServer, make: Make) -> None:
    server.faults.append(Fault(method="POST", path="secrets", status=409, times=99))
    with pytest.raises(Exception, match="trying again later"):
        await make().round()


async def test_a_bundle_that_may_not_be_written_says_why(server: ApiServer, make: Make) -> None:
    _configure(server)
    because = json.dumps({"code": 422, "reason": "Invalid", "message": "policy guard says no"}).encode()
    server.faults.append(Fault(method="PATCH", status=422, body=because, times=100))
    with pytest.raises(CertificateError, match="policy guard says no"):
        await make().round()


@pytest.mark.parametrize("hours", [-24 * 400, -3, 3, 24 * 400])
async def test_who_has_a_wrong_clock_signs_by_the_one_of_who_checks(
    server: ApiServer, clock: Clock, make: Make, hours: int
) -> None:
    """A certificate that begins tomorrow, or ended yesterday, is taken by no API server."""
    right = clock.wall() + timedelta(hours=hours)
    server.date = right.timestamp
    _configure(server)
    publisher = make()
    await publisher.round()
    assert isinstance(publisher.leaf, Leaf)
    assert publisher.leaf.not_before < right < publisher.leaf.not_after
    assert right - publisher.leaf.not_before < timedelta(minutes=10)
    assert publisher.state is not None
    assert right < publisher.state.signer.certificate.not_after


@pytest.mark.parametrize("left", [True, False], ids=["what entries trust stays", "nothing stays"])
async def test_who_starts_where_nothing_is_left_trusts_nothing_of_before(
    server: ApiServer, make: Make, *, left: bool
) -> None:
    """How an authority whose key somebody read is trusted no more: no replica remembers it, and no entry holds it."""
    _configure(server)
    await make().round()
    (stolen,) = _held(server, MUTATING)
    del server.objects[SECRETS][KEY]
    if not left:
        _configure(server)
    await make().round()
    assert (stolen in _held(server, MUTATING)) is left
    assert _held(server, MUTATING)[0] != stolen
