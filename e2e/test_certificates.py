"""Certificates on a real API server, changed under load: the whole of a rotation, what heals, files that change.

Every call counts: `webhook.failurePolicy` is Fail, so one that does not get through is a creation that fails, and a
client in Go that keeps connections alive calls beside the API server. The periods of a rotation are those of
`hasty.py`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from admission.tls.x509 import read_bundle
from e2e.harness.balancer import Balancer
from e2e.harness.certificates import Authority
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import CONFIGURATION, NAMESPACE, Installation, Server, namespace
from e2e.harness.keepalive import Caller
from e2e.harness.loopback import SERVICE, WEBHOOK_KINDS
from e2e.harness.processes import free_port
from e2e.test_install import Steady
from e2e.test_webhook_rollout import JOB, SPACE

API, SECRET = "admissionregistration.k8s.io/v1", "slicewise-webhook-ca"
HOST = f"{SERVICE}.{NAMESPACE}.svc"
REVIEW: Object = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {
        "uid": "kept-alive",
        "kind": {"group": "batch", "version": "v1", "kind": "Job"},
        "resource": {"group": "batch", "version": "v1", "resource": "jobs"},
        "operation": "CREATE",
        "namespace": SPACE,
        "userInfo": {"username": "e2e"},
        "object": JOB,
        "dryRun": True,
    },
}


class Replica(Server):
    """A webhook with the periods of `hasty.py`."""

    def __init__(self, cluster: AnyCluster, folder: Path, number: int, *arguments: str) -> None:
        self.address = (cluster.listen_host, free_port())
        listen = ("--listen", f"{self.address[0]}:{self.address[1]}", "--drain", "0s")
        super().__init__(cluster, "webhook", folder, number, *listen, *arguments)
        command = self.program.command
        command[command.index("slicewise")] = "e2e.harness.hasty"

    def leaf(self) -> x509.Certificate:
        """What it shows to a new connection."""
        return shown(self.address)


def shown(address: tuple[str, int]) -> x509.Certificate:
    """The certificate that a server shows to a new connection."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(address, timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as connection,
    ):
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


def bundles(cluster: AnyCluster) -> set[str]:
    """What the API server trusts, entry by entry."""
    entries = [entry for kind in WEBHOOK_KINDS for entry in cluster.get(API, kind, CONFIGURATION)["webhooks"]]
    return {base64.b64decode(entry["clientConfig"].get("caBundle", "")).decode() for entry in entries}


@dataclass(frozen=True)
class Hook:
    """Two replicas behind one address."""

    cluster: AnyCluster
    replicas: list[Replica]
    port: int

    def bundles(self) -> set[str]:
        return bundles(self.cluster)

    def secret(self) -> dict[str, str]:
        data = self.cluster.get("v1", "Secret", SECRET, NAMESPACE).get("data") or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


@pytest.fixture(scope="module")
def hook(cluster: AnyCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hook]:
    """Two replicas that start at once where nothing is left of an authority."""
    folder = tmp_path_factory.mktemp("certificates")
    installation = Installation(cluster, folder, webhook__failurePolicy="Fail")
    cluster.delete("v1", "Secret", SECRET, NAMESPACE)
    installation.apply()
    namespace(cluster, SPACE, policy="default")
    replicas = [Replica(cluster, folder, 20 + number) for number in range(2)]
    balancer = Balancer(cluster.listen_host, installation.port, lambda: [one.address for one in replicas])
    balancer.start()
    try:
        for one in replicas:
            one.start(ready=False)
        for one in replicas:
            one.program.wait_ready(one.is_ready)
        installation.trusted()
        yield Hook(cluster, replicas, installation.port)
    finally:
        installation.stop()
        for one in replicas:
            one.program.kill()
        balancer.stop()


@contextmanager
def calls(cluster: AnyCluster, port: int, folder: Path) -> Iterator[None]:
    """The API server and the client in Go call all the while; nothing that they ask may fail.

    The client is told of another caBundle as the API server's watch tells it: a moment later.
    """
    url = f"https://{cluster.listen_host}:{port}/mutate"
    (trusted,) = bundles(cluster)
    done = threading.Event()

    def follow() -> None:
        while not done.wait(0.2):
            found = bundles(cluster)
            if len(found) == 1:
                caller.trust(found.pop())

    with Steady(cluster) as load, Caller(folder, url, HOST, REVIEW, trusted) as caller:
        following = threading.Thread(target=follow)
        following.start()
        try:
            yield
            enough = load.done + 40
            eventually(lambda: load.done > enough, "the load flows")
        finally:
            done.set()
            following.join()
    assert load.failures == []
    assert (caller.result.failed, caller.result.errors) == (0, None)
    assert caller.result.reused > caller.result.connections > 0


def issuer(leaf: x509.Certificate, trusted: str) -> str:
    """The fingerprint of the authority among those trusted that signed a certificate; empty when none did."""
    for one in read_bundle(trusted):
        with contextlib.suppress(ValueError, TypeError, InvalidSignature):
            leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(one.pem.encode()))
            return one.fingerprint
    return ""


def fingerprints(pem: str) -> list[str]:
    return [one.fingerprint for one in read_bundle(pem)]


def test_replicas_that_start_at_once_agree(hook: Hook) -> None:
    (bundle,) = hook.bundles()
    assert bundle == hook.secret()["ca.crt"]
    (authority,) = fingerprints(bundle)
    assert [issuer(one.leaf(), bundle) for one in hook.replicas] == [authority] * 2


GARBAGE = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n").decode()


@pytest.mark.parametrize(
    "damage",
    [
        None,
        {"ca.crt": GARBAGE},
        {"ca.key": GARBAGE},
        {"ca.crt": GARBAGE, "ca.key": "", "retired.json": "AAAA"},
    ],
    ids=["deleted", "certificate", "key", "everything"],
)
def test_a_damaged_secret_heals_without_a_failed_call(
    hook: Hook, tmp_path: Path, damage: dict[str, str] | None
) -> None:
    cluster, whole = hook.cluster, hook.secret()
    with calls(hook.cluster, hook.port, tmp_path):
        if damage is None:
            cluster.delete("v1", "Secret", SECRET, NAMESPACE)
        else:
            cluster.patch("v1", "Secret", SECRET, {"data": damage}, NAMESPACE)
            assert hook.secret() != whole
        eventually(lambda: hook.secret() == whole, "the Secret is whole again")
    assert hook.bundles() == {whole["ca.crt"]}


@dataclass(frozen=True)
class Seen:
    """One look at everything."""

    served: tuple[x509.Certificate, ...]
    bundles: frozenset[str]
    signer: str
    upcoming: str
    retired: frozenset[str]

    @property
    def phase(self) -> tuple[str, str, frozenset[str]]:
        return self.signer, self.upcoming, self.retired


def look(hook: Hook) -> Seen:
    """What is served is looked at first, so that it cannot be newer than what is said of the rest."""
    served = tuple(one.leaf() for one in hook.replicas)
    bundles = frozenset(hook.bundles())
    kept = hook.secret()
    signer, *_ = fingerprints(kept["ca.crt"])
    upcoming = "".join(fingerprints(kept["next.crt"])) if "next.crt" in kept else ""
    return Seen(served, bundles, signer, upcoming, frozenset(json.loads(kept["retired.json"])))


def test_a_rotation_goes_through_its_three_phases_without_a_failed_call(hook: Hook, tmp_path: Path) -> None:
    began = look(hook)
    old, nobody = began.signer, frozenset[str]()
    assert began.phase == (old, "", nobody)
    seen = [began]

    def over() -> bool:
        seen.append(look(hook))
        last = seen[-1]
        return not last.retired and [fingerprints(one) for one in last.bundles] == [[last.signer]] != [[old]]

    with calls(hook.cluster, hook.port, tmp_path):
        rotate = {"metadata": {"annotations": {"slicewise.io/rotate": "now"}}}
        hook.cluster.patch("v1", "Secret", SECRET, rotate, NAMESPACE)
        eventually(over, "the old authority is gone")
    new = seen[-1].signer
    phases = [(old, "", nobody), (old, new, nobody), (new, "", frozenset({old})), (new, "", nobody)]
    assert list(dict.fromkeys(one.phase for one in seen)) == phases

    for one in seen:
        issuers = [{issuer(leaf, bundle) for bundle in one.bundles} for leaf in one.served]
        assert "" not in set().union(*issuers), "everybody trusts what is served"
        if one.signer == old:
            assert issuers == [{old}, {old}], "nothing is signed by an authority before it is the signer"
    assert any(
        {issuer(leaf, bundle) for leaf in one.served for bundle in one.bundles} == {new} for one in seen
    )
    published = [one for one in seen if one.phase == phases[1] and len(one.bundles) == 1]
    assert [fingerprints(*one.bundles) for one in published[-1:]] == [[old, new]]


def test_files_change_without_a_failed_call(hook: Hook, tmp_path: Path) -> None:
    """Another authority and its pair, three times: trusted too, certificate, key, trusted alone."""
    authority = Authority("first")
    certificate, key = authority.server(HOST).write(tmp_path, "tls")
    files = ("--tls-cert-file", str(certificate), "--tls-private-key-file", str(key))
    replica = Replica(hook.cluster, tmp_path, 30, *files)
    url = f"https://{replica.address[0]}:{replica.address[1]}/mutate"

    def serves(wanted: Authority) -> bool:
        return bool(issuer(replica.leaf(), wanted.pem.decode()))

    def flow() -> None:
        def answered() -> float:
            return replica.metric("slicewise_admission_responses_total", path="/mutate")

        enough = answered() + 100
        eventually(lambda: answered() > enough, "the load flows")

    try:
        replica.start()
        with Caller(tmp_path, url, HOST, REVIEW, authority.pem.decode()) as caller:
            flow()
            for number, name in enumerate(("second", "third", "fourth"), start=1):
                following = Authority(name)
                pair = following.server(HOST)
                caller.trust((authority.pem + following.pem).decode())
                certificate.write_bytes(pair.certificate)
                eventually(partial(_kept, replica, number), "half a pair is not taken")
                assert serves(authority)
                key.write_bytes(pair.key)
                eventually(partial(serves, following), f"the {name} is served")
                flow()
                caller.trust(following.pem.decode())
                flow()
                authority = following
    finally:
        replica.program.kill()
    assert (caller.result.failed, caller.result.errors) == (0, None)
    assert caller.result.leaves == 4
    assert caller.result.reused > caller.result.connections


def _kept(replica: Replica, times: int) -> bool:
    return replica.program.log().count("serving certificate kept") == times
