"""The whole server as a process: ready, drained, stopped, and refusing what it cannot use."""

import asyncio
import base64
import json
import os
import re
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from admission.decision.cluster_state import ClusterState
from admission.server.app import CacheNotReadyError
from admission.server.caches import NAMESPACES, NODES, POLICIES
from admission.server.connection_table import ConnectionLimits
from admission.server.serve import Options, handlers, serve
from admission.tls.ca_bundle import GROUP
from admission.tls.x509 import make_leaf
from slicewise.api import keys
from slicewise.inventory.pools import Inventory
from tests.admission_server.conftest import AUTHORITY, Connection, Reply
from tests.admission_server.program import started
from tests.kube.apiserver import ApiServer, kubeconfig
from tests.kube.wire import Fault

SECRETS = "/api/v1/secrets"
MUTATING = f"{GROUP}/mutatingwebhookconfigurations"
VALIDATING = f"{GROUP}/validatingwebhookconfigurations"
KINDS = {
    NAMESPACES: "Namespace",
    NODES: "Node",
    POLICIES: "SlicingPolicy",
    SECRETS: "Secret",
    MUTATING: "MutatingWebhookConfiguration",
    VALIDATING: "ValidatingWebhookConfiguration",
}
NAME = "slicewise-webhook.slicewise-system.svc"


@dataclass
class Process:
    """A running server: where it listens, and how to reach it."""

    child: BaseProcess
    listening: int
    operations: int
    connections: list[Connection] = field(default_factory=list)

    async def call(self, authority: str, source: str = "127.0.0.1") -> Connection:
        context = ssl.create_default_context(cadata=authority)
        tls: dict[str, Any] = {"ssl": context, "server_hostname": NAME, "local_addr": (source, 0)}
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.listening, **tls))
        self.connections.append(connection)
        return connection

    def send_signal(self, number: signal.Signals) -> None:
        assert self.child.pid is not None
        os.kill(self.child.pid, number)

    async def ended(self) -> int | None:
        await asyncio.to_thread(self.child.join, 60)
        return self.child.exitcode

    async def ready(self) -> Reply:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.operations))
        try:
            return await connection.ask("/readyz", b"", "GET")
        finally:
            connection.close()

    async def until(self, wanted: set[str]) -> dict[str, str]:
        """Waits until exactly these checks say why the server is not ready; returns what they say."""
        deadline = asyncio.get_running_loop().time() + 60
        while True:
            reply = await self.ready()
            reasons: dict[str, str] = json.loads(reply.body)["reasons"]
            assert (reply.status == 200) is not bool(reasons)
            if reasons.keys() == wanted:
                return reasons
            assert asyncio.get_running_loop().time() < deadline, reasons
            await asyncio.sleep(0.02)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(KINDS).running() as one:
        yield one


@asynccontextmanager
async def running(server: ApiServer, folder: Path, **options: Any) -> AsyncIterator[Process]:
    file = kubeconfig(folder, server.url)
    child, lines = started(Options(file, listen="127.0.0.1:0", operations_listen="127.0.0.1:0", **options))
    ports: dict[str, int] = {}
    try:
        while len(ports) < 2:
            words = (await asyncio.to_thread(lines.recv)).split()
            if len(words) == 2 and words[1].startswith("address="):
                ports[words[0]] = int(words[1].rpartition(":")[2])
        process = Process(child, ports["listening"], ports["operations"])
        yield process
        for connection in process.connections:
            connection.close()
        await asyncio.sleep(0)
    finally:
        child.kill()
        await asyncio.to_thread(child.join)
        child.close()
        lines.close()


def _authority(server: ApiServer) -> str:
    secret = server.objects[SECRETS]["slicewise-system/slicewise-webhook-ca"]
    return base64.b64decode(secret["data"]["ca.crt"]).decode()


async def test_ready_then_drained_then_stopped_by_a_second_signal(server: ApiServer, tmp_path: Path) -> None:
    service = {"name": "slicewise-webhook", "namespace": "slicewise-system"}
    server.put(
        MUTATING, "admission.slicewise.io", webhooks=[{"name": "a", "clientConfig": {"service": service}}]
    )
    async with running(server, tmp_path, drain=3600.0) as process:
        await process.until(set())
        idle = await process.call(_authority(server))
        reply = await idle.ask()
        assert (reply.status, reply.headers.get("connection")) == (200, None)
        process.send_signal(signal.SIGTERM)
        assert "stopping" in (await process.until({"server"}))["server"]
        reply = await idle.ask()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        fresh = await process.call(_authority(server))
        assert (await fresh.ask()).headers["connection"] == "close"
        process.send_signal(signal.SIGTERM)  # the second one stops it at once
        assert await process.ended() == 0


async def test_metrics_are_for_those_whom_the_cluster_lets_read_them_on_both_ports(
    server: ApiServer, tmp_path: Path
) -> None:
    user = {"authenticated": True, "user": {"username": "prometheus"}}
    for path, answered in (("/tokenreviews", user), ("/subjectaccessreviews", {"allowed": True})):
        body = json.dumps({"status": answered}).encode()
        server.faults.append(Fault("POST", path, status=201, body=body, times=9))
    async with running(server, tmp_path, authenticate=True) as process:
        await process.until(set())  # probes have no token
        plain = Connection(*await asyncio.open_connection("127.0.0.1", process.operations))
        process.connections.append(plain)
        for connection in (plain, await process.call(_authority(server))):
            refused = await connection.ask("/metrics", b"", "GET")
            assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert refused.body.startswith(b"no bearer token was sent")
            told = await connection.ask("/metrics", b"", "GET", authorization="Bearer t")
            assert (told.status, b"slicewise_admission_connections" in told.body) == (200, True)
        assert (await connection.ask()).status == 200  # the API server sends none to webhooks


async def test_the_api_server_is_served_while_others_take_all_places(
    server: ApiServer, tmp_path: Path
) -> None:
    """The process with uvloop, as it is installed; 200 places instead of 2,000, and two that want them all."""
    limits = ConnectionLimits(total=200, per_address=150)
    async with running(server, tmp_path, connections=limits) as process:
        await process.until(set())
        authority = _authority(server)
        api_server = [await process.call(authority) for _ in range(5)]
        for connection in api_server:
            assert (await connection.ask()).status == 200
        for _ in range(60):
            for source in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
                stranger = await process.call(authority, source)
                assert (await stranger.ask("/mutate", b"nonsense")).status == 200
                plain = await asyncio.open_connection("127.0.0.1", process.listening, local_addr=(source, 0))
                process.connections.append(Connection(*plain))
            another = await process.call(authority)
            assert (await another.ask()).status == 200
            another.close()
        for connection in api_server:
            assert (await connection.ask()).status == 200
        scraped = (await api_server[0].ask("/metrics", b"", "GET")).body.decode()
    (held,) = re.findall(r"^slicewise_admission_connections ([0-9.]+)$", scraped, re.MULTILINE)
    assert 190 < float(held) <= limits.total


async def test_given_files_are_served_and_no_secret_is_made(server: ApiServer, tmp_path: Path) -> None:
    leaf = make_leaf(AUTHORITY, [NAME], datetime.now(UTC))
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_text(leaf.pem)
    key.write_text(leaf.key)
    given = {"tls_cert_file": str(certificate), "tls_private_key_file": str(key)}
    async with running(server, tmp_path, drain=0.05, **given) as process:
        await process.until(set())
        connection = await process.call(AUTHORITY.certificate.pem)
        assert (await connection.ask()).status == 200
        metrics = await connection.ask("/metrics", b"", "GET")
        expiry = b'slicewise_certificate_expiry_timestamp_seconds{certificate="serving"}'
        assert expiry in metrics.body
        connection.close()
        assert not server.objects[SECRETS]
        process.send_signal(signal.SIGINT)
        assert await process.ended() == 0


async def test_it_is_not_ready_and_judges_nothing_without_the_cluster(
    server: ApiServer, tmp_path: Path
) -> None:
    del server.collections[NODES]
    async with running(server, tmp_path) as process:
        assert "/api/v1/nodes" in (await process.until({"caches"}))["caches"]
        answer = await (await process.call(_authority(server))).ask()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")


def _review(namespace: str, *gpus: str, **request: Any) -> bytes:
    containers = [{"name": "main", "resources": {"limits": {keys.GPU: count}}} for count in gpus]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}}
    sent = {
        "uid": "u",
        "operation": "CREATE",
        "namespace": namespace,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "object": pod,
        **request,
    }
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": sent}
    ).encode()


def test_work_of_a_namespace_that_is_not_known_yet_is_asked_for_again() -> None:
    world = ClusterState(namespaces={"old": {}}, policies={}, pools=Inventory())
    handler = handlers(world)["/mutate"]
    with pytest.raises(CacheNotReadyError, match="namespace new is not known here yet"):
        handler(_review("new"))
    assert handler(_review("old")).outcome == "ignored"
    assert handler(_review("kube-system")).outcome == "ignored"


@pytest.mark.parametrize(
    ("name", "dry_run", "outcome"),
    [
        (keys.PROBE, True, "probed"),
        (keys.PROBE, False, "refused"),
        ("work", True, "refused"),
        ("work", False, "refused"),
    ],
)
def test_nothing_but_the_self_check_goes_uncounted(name: str, *, dry_run: bool, outcome: str) -> None:
    """The self-check is never kept; whoever calls work by its name and means it is refused like anybody."""
    world = ClusterState(namespaces={"team": {keys.POLICY: "missing"}}, policies={}, pools=Inventory())
    answer = handlers(world)["/mutate"](_review("team", "1", name=name, dryRun=dry_run))
    assert (answer.outcome, bool(answer.reason)) == (outcome, outcome == "refused")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kubeconfig": "/nowhere"}, "no kubeconfig at /nowhere"),
        ({"listen": "nonsense"}, "'nonsense' is no address to listen on"),
        ({"tls_cert_file": "/nowhere"}, "--tls-private-key-file is missing"),
        ({"tls_private_key_file": "/nowhere"}, "--tls-cert-file is missing"),
        ({"tls_cert_file": "/nowhere", "tls_private_key_file": "/nowhere"}, "/nowhere: No such file"),
    ],
)
async def test_what_cannot_be_used_is_said_in_a_sentence(
    options: dict[str, Any], sentence: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given: dict[str, Any] = {"kubeconfig": kubeconfig(tmp_path, "http://127.0.0.1:1"), **options}
    assert await serve(Options(**given)) == 2
    assert sentence in caplog.text
