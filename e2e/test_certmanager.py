"""The chart with `certificates.source=cert-manager`, on the real cert-manager: issued, injected, renewed, switched to.

Its injector adds what is to be trusted to what is trusted already (the feature CAInjectorMerging, on by default from
cert-manager 1.19 on, internal/cainjector/feature/features.go), and drops only what has expired.

`webhook.failurePolicy` is Fail, so a call that does not get through is a creation that fails, and the client in Go
calls beside the API server. Replicas look at their files every ten seconds, as they are shipped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.certificates import Authority
from e2e.harness.certmanager import INJECTOR, VERSION, CertManager
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster, Cluster
from e2e.harness.installation import CHART, CONFIGURATION, NAMESPACE, namespace
from e2e.harness.loopback import WEBHOOK_KINDS
from e2e.harness.release import NAME, WEBHOOK, Release
from e2e.test_certificates import API, HOST, bundles, calls, fingerprints, issuer, shown
from e2e.test_install import VALUES as INSTALLED
from e2e.test_webhook_rollout import SPACE

OWN: dict[str, Any] = {
    **{key: value for key, value in INSTALLED.items() if key.startswith("webhook.")},
    "controller.replicas": 1,
}
MANAGED = {**OWN, "certificates.source": "cert-manager"}
CERTIFICATE, AUTHORITY, SECRET = "slicewise-webhook", "slicewise-webhook-authority", "slicewise-webhook-tls"


@pytest.fixture(scope="module")
def manager(
    programs: None,  # noqa: ARG001
    cert_manager_programs: None,  # noqa: ARG001
) -> Iterator[tuple[Cluster, CertManager]]:
    """A cluster of this module's own with cert-manager."""
    with Cluster(kwok=False) as cluster, CertManager(cluster) as found:
        namespace(cluster, SPACE, policy="default")
        yield cluster, found


@pytest.fixture(scope="module")
def cert_manager(manager: tuple[Cluster, CertManager]) -> CertManager:
    return manager[1]


@pytest.fixture(scope="module")
def release(
    manager: tuple[Cluster, CertManager], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Release]:
    with Release(manager[0], tmp_path_factory.mktemp("release")) as found:
        yield found


@pytest.fixture(autouse=True)
def _story(release: Release, cert_manager: CertManager) -> Iterator[None]:
    """Says what the programs wrote when a test fails."""
    yield
    print(release.story(), cert_manager.story())


@pytest.fixture
def managed(release: Release) -> Release:
    """Installed with certificates of cert-manager."""
    upgrade(release, MANAGED)
    eventually(lambda: injected(release.cluster), "caBundle is injected")
    return release


@pytest.fixture
def own(release: Release) -> Release:
    """Installed with an authority of its own."""
    upgrade(release, OWN)
    return release


def upgrade(release: Release, values: dict[str, Any], *more: str) -> None:
    """Returns once the replicas before are gone too: as long as they drain, they look after their authority."""
    release.upgrade(values, CHART, *more)
    eventually(lambda: all(pod.serving for pod in release.pods.kubelet.pods(WEBHOOK)), "who drains is gone")


def authority(cluster: AnyCluster, secret: str = SECRET) -> str:
    data = cluster.get("v1", "Secret", secret, NAMESPACE).get("data") or {}
    return base64.b64decode(data["ca.crt"]).decode()


def injected(cluster: AnyCluster, secret: str = SECRET) -> bool:
    """Whether every entry trusts the (first) authority of a Secret."""
    wanted = fingerprints(authority(cluster, secret))[0]
    return all(wanted in fingerprints(bundle) for bundle in bundles(cluster))


def certificate(cluster: AnyCluster) -> bytes:
    return base64.b64decode(cluster.get("v1", "Secret", SECRET, NAMESPACE)["data"]["tls.crt"])


def owners(cluster: AnyCluster) -> set[str]:
    """Who owns caBundle, by the field managers of both configurations."""
    return {
        each["manager"]
        for kind in WEBHOOK_KINDS
        for each in cluster.get(API, kind, CONFIGURATION)["metadata"]["managedFields"]
        for fields in each["fieldsV1"].get("f:webhooks", {}).values()
        if "f:caBundle" in fields.get("f:clientConfig", {})
    }


def serials(release: Release) -> set[int]:
    """What the replicas show; and both are there."""
    addresses = release.pods.addresses(WEBHOOK, "webhook", ready=True)
    assert len(addresses) == 2
    return {shown(address).serial_number for address in addresses}


def test_it_issues_the_certificate_and_injects_what_to_trust(managed: Release, tmp_path: Path) -> None:
    cluster = managed.cluster
    assert owners(cluster) == {INJECTOR}
    for address in managed.pods.addresses(WEBHOOK, "webhook", ready=True):
        (trusted,) = fingerprints(authority(cluster))
        assert issuer(shown(address), authority(cluster)) == trusted
    assert cluster.find("v1", "Secret", "slicewise-webhook-ca", NAMESPACE) is None
    with calls(cluster, managed.port, tmp_path):
        managed.upgrade(MANAGED)
    assert owners(cluster) == {INJECTOR}, "an upgrade takes nothing away"


@pytest.mark.parametrize("how", ["renewed", "deleted", "with its authority"])
def test_a_renewal_is_served_without_a_failed_call(
    managed: Release, cert_manager: CertManager, tmp_path: Path, how: str
) -> None:
    cluster, before, trusted = managed.cluster, serials(managed), authority(managed.cluster)
    kept = certificate(cluster)
    with calls(cluster, managed.port, tmp_path):
        if how == "deleted":
            cluster.delete("v1", "Secret", SECRET, NAMESPACE)
            eventually(lambda: certificate(cluster) != kept, "it is issued again")
        else:
            if how == "with its authority":
                cert_manager.renew(NAMESPACE, AUTHORITY)
            cert_manager.renew(NAMESPACE, CERTIFICATE)
        eventually(lambda: not serials(managed) & before, "both replicas show the new one")
        eventually(lambda: injected(cluster), "caBundle is injected")
    assert (authority(cluster) == trusted) == (how != "with its authority")


def test_from_its_own_in_one_step_without_a_failed_call(own: Release, tmp_path: Path) -> None:
    """The injector adds its authority to that of the replicas, so that both are trusted while they are replaced."""
    cluster = own.cluster
    before = authority(cluster, "slicewise-webhook-ca")
    with calls(cluster, own.port, tmp_path):
        own.upgrade(MANAGED)
        eventually(lambda: injected(cluster), "caBundle is injected")
    assert INJECTOR in owners(cluster)
    assert all(set(fingerprints(before)) <= set(fingerprints(bundle)) for bundle in bundles(cluster))


def test_back_to_its_own_without_a_failed_call(managed: Release, tmp_path: Path) -> None:
    """In one step: the replicas find other authorities trusted, and leave them so while they take over."""
    cluster = managed.cluster
    (before,) = bundles(cluster)
    with calls(cluster, managed.port, tmp_path):
        managed.upgrade(OWN)
        mine = authority(cluster, "slicewise-webhook-ca")
        assert bundles(cluster) == {mine}
        assert set(fingerprints(before)) < set(fingerprints(mine))
    assert owners(cluster) == {"slicewise-webhook-ca"}
    assert cluster.list(VERSION, "Certificate", NAMESPACE) == []


@pytest.mark.parametrize("following", [OWN, MANAGED], ids=["own", "cert-manager"])
def test_from_a_given_one_without_a_failed_call(
    release: Release, tmp_path: Path, following: dict[str, Any]
) -> None:
    """Helm would take its caBundle away: another field manager keeps it until the next owner has written its own."""
    cluster, corporate = release.cluster, Authority("corporate")
    pair = corporate.server(HOST)
    data = {"tls.crt": pair.certificate.decode(), "tls.key": pair.key.decode()}
    metadata = {"name": "corporate", "namespace": NAMESPACE}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})
    given = {"source": "secret", "secretName": "corporate", "caBundle": corporate.pem.decode()}
    upgrade(release, {**OWN, "certificates": given}, "--force-conflicts")
    assert (bundles(cluster), owners(cluster)) == ({corporate.pem.decode()}, {"helm"})
    with calls(cluster, release.port, tmp_path):
        for kind in WEBHOOK_KINDS:
            cluster.apply(trust_of(cluster, kind), manager="keep")
        release.upgrade(following)
        own = following is OWN
        eventually(lambda: injected(cluster, "slicewise-webhook-ca" if own else SECRET), "it has written")
    assert all(set(fingerprints(corporate.pem.decode())) < set(fingerprints(one)) for one in bundles(cluster))
    assert owners(cluster) == {"slicewise-webhook-ca" if own else INJECTOR}


def trust_of(cluster: AnyCluster, kind: str) -> Object:
    """A webhook configuration with nothing but what it trusts."""
    found = cluster.get(API, kind, CONFIGURATION)
    entries = [
        {"name": entry["name"], "clientConfig": {"caBundle": entry["clientConfig"]["caBundle"]}}
        for entry in found["webhooks"]
    ]
    return {"apiVersion": API, "kind": kind, "metadata": {"name": CONFIGURATION}, "webhooks": entries}


def test_uninstalling_leaves_nothing_of_it_but_the_secrets(managed: Release) -> None:
    cluster = managed.cluster
    managed.helm("uninstall", NAME, "--wait", "--timeout", "60s")
    for kind in ("Certificate", "Issuer"):
        assert cluster.list(VERSION, kind, NAMESPACE) == []
