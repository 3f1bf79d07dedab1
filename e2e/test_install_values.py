"""Every value of the chart, changed on a release that runs: no field that another owns, none that cannot change.

Each change is tried as Helm would make it, by server-side apply under Helm's name without force, and without writing
anything; then many of them at once are made for real. Where a certificate comes from is the one change that needs
care, and is shown with the steps that docs and values.yaml name.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness.certificates import Authority
from e2e.harness.client import APPLY_PATCH, Objects, eventually
from e2e.harness.cluster import AnyCluster, Cluster
from e2e.harness.installation import CHART, CONFIGURATION, NAMESPACE, namespace, rendered
from e2e.harness.loopback import SERVICE, WEBHOOK_KINDS, rewritten
from e2e.harness.release import WEBHOOK, Release
from e2e.test_install import VALUES as INSTALLED
from e2e.test_install import Steady
from e2e.test_webhook_rollout import SPACE
from tests.manifests.changes import CHANGES

VALUES: dict[str, Any] = {key: value for key, value in INSTALLED.items() if key.startswith("webhook.")}
# Where pods run and as whom: the kubelet that the harness plays is one node, and not of this network.
PLACED = {"hostNetwork", "dnsPolicy", "nodeSelector", "tolerations", "serviceAccount"}
# Kinds of other projects, which this cluster does not serve.
ELSEWHERE = {"cert-manager.io/v1", "monitoring.coreos.com/v1"}


@pytest.fixture(scope="module")
def release(programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:  # noqa: ARG001
    """A release on a cluster of this module's own, and a namespace that has opted in."""
    with Cluster(kwok=False) as cluster, Release(cluster, tmp_path_factory.mktemp("values")) as found:
        namespace(cluster, SPACE, policy="default")
        found.upgrade(VALUES)
        yield found


def refusals(release: Release, standing: Objects, values: dict[str, Any]) -> list[str]:
    """What the API server says against a change of values, as Helm would send what is not as it stands."""
    cluster, found = release.cluster, []
    for item in rendered({**VALUES, **release.pods.values, **values}):
        if item in standing or item["apiVersion"] in ELSEWHERE:
            continue
        metadata = item["metadata"]
        path = cluster.path(item["apiVersion"], item["kind"], metadata["name"], metadata.get("namespace"))
        query = {"dryRun": "All", "fieldManager": "helm", "force": "false", "fieldValidation": "Strict"}
        for sent in rewritten([item], release.host, release.port):
            answer = cluster.request("PATCH", path, sent, APPLY_PATCH, query)
            if answer.status not in (200, 201):
                found.append(f"{item['kind']} {metadata['name']}: {answer.message}")
    return found


def test_every_value_may_be_changed_without_a_conflict(release: Release) -> None:
    standing, found = rendered({**VALUES, **release.pods.values}), {}
    for path, value in CHANGES.items():
        # What is mounted has to be there.
        volumes = path.replace("VolumeMounts", "Volumes")
        if said := refusals(release, standing, {volumes: CHANGES[volumes], path: value}):
            found[path] = said
    assert found == {}


def test_many_changes_at_once_roll_out_with_work_running(release: Release) -> None:
    cluster = release.cluster
    changed = {
        path: value
        for path, value in CHANGES.items()
        if (
            path.partition(".")[0] in {"log", "webhook", "controller", "podDisruptionBudget", "networkPolicy"}
            and not PLACED & set(path.split("."))
        )
        or path in {"podLabels", "podAnnotations", "priorityClassName", "affinity"}
    }
    kept = {path: VALUES[path] for path in ("webhook.failurePolicy", "webhook.timeoutSeconds")}
    with Steady(cluster) as load:
        release.upgrade({**changed, **kept})
        assert release.pods.ready(WEBHOOK) == 3
        for pod in release.pods.kubelet.pods({**WEBHOOK, "team": "platform"}):
            assert pod.launch is not None
            assert {"--log-format=text", "--log-level=debug", "--drain=3s"} <= set(pod.launch.command)
        assert cluster.find("networking.k8s.io/v1", "NetworkPolicy", "slicewise", NAMESPACE) is None
    assert load.failures == []


def bundles(cluster: AnyCluster) -> set[bytes]:
    """What the API server is told to trust."""
    api = "admissionregistration.k8s.io/v1"
    entries = [entry for kind in WEBHOOK_KINDS for entry in cluster.get(api, kind, CONFIGURATION)["webhooks"]]
    return {base64.b64decode(entry["clientConfig"].get("caBundle", "")) for entry in entries}


def test_certificates_of_ones_own_take_over_without_a_failed_call(release: Release) -> None:
    """Both authorities are trusted while replicas change; caBundle is taken over from the replicas by force, once."""
    cluster, authority = release.cluster, Authority("corporate")
    pair = authority.server(f"{SERVICE}.{NAMESPACE}.svc")
    data = {"tls.crt": pair.certificate.decode(), "tls.key": pair.key.decode()}
    metadata = {"name": "corporate", "namespace": NAMESPACE}
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})
    own = base64.b64decode(cluster.get("v1", "Secret", "slicewise-webhook-ca", NAMESPACE)["data"]["ca.crt"])
    taken = {**VALUES, "certificates.source": "secret", "certificates.secretName": "corporate"}
    with Steady(cluster) as load:
        both = (own + authority.pem).decode()
        release.upgrade({**taken, "certificates.caBundle": both}, CHART, "--force-conflicts")
        release.upgrade({**taken, "certificates.caBundle": authority.pem.decode()})
        enough = load.done + 20
        eventually(lambda: load.done > enough, "work flows on")
    assert load.failures == []
    assert bundles(cluster) == {authority.pem}
    assert cluster.find("v1", "Secret", "slicewise-webhook-ca", NAMESPACE) is None
