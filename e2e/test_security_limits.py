"""docs/security.md on a real API server: nothing gets past the webhook by size, depth, birth or force."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
from collections.abc import Iterator

import pytest
import yaml

from e2e.harness.client import APPLY_PATCH, KubeClient, Object
from e2e.harness.installation import NAMESPACE, Installation
from e2e.harness.loopback import SERVICE
from e2e.test_security import GPU, OURS, TEAM, gets, pod, populated

INFERENCE = {"slicewise.io/workload-class": "inference"}
# Go writes `<` as six bytes, so this is 8 MB of a review; it is never run.
BALLAST = ["<" * 100_000] * 13
NOTEBOOKS: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "notebooks.kubeflow.org"},
    "spec": {
        "group": "kubeflow.org",
        "names": {"kind": "Notebook", "plural": "notebooks"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


@pytest.fixture(scope="module")
def slicewise(installation: Installation) -> Iterator[Installation]:
    """Slicewise and Ada, as for workloads."""
    yield from populated(installation)


@pytest.fixture
def ada(slicewise: Installation) -> KubeClient:
    """Somebody who may write workloads."""
    return slicewise.cluster.client_for("ada", ["engineers"])


def _pod_template(gpus: int, ballast: list[str]) -> Object:
    """Of a kind that Kueue's webhooks, which read no more than 7 MiB, do not look at."""
    spec = pod(gpus)["spec"]
    spec["containers"][0]["lifecycle"] = {"preStop": {"exec": {"command": ["true", *ballast]}}}
    metadata = {"name": "heavy", "namespace": TEAM, "labels": INFERENCE}
    return {"apiVersion": "v1", "kind": "PodTemplate", "metadata": metadata, "template": {"spec": spec}}


def test_an_object_that_fits_into_etcd_is_reviewed_however_go_writes_it(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    answer = cluster.try_create(_pod_template(8, BALLAST), dry_run=True)
    assert answer.status == 403, answer.message
    assert "inference" in answer.message
    answer = cluster.try_create(_pod_template(1, BALLAST), dry_run=True)
    assert answer.status == 201, answer.message
    assert GPU not in answer.body["template"]["spec"]["containers"][0]["resources"]["limits"]


def test_an_update_is_reviewed_with_both_of_its_objects(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    cluster.create(_pod_template(1, BALLAST))
    try:
        path = cluster.path("v1", "PodTemplate", "heavy", TEAM)
        answer = cluster.request("PUT", path, _pod_template(8, BALLAST))
        assert answer.status == 403, answer.message
        assert "inference" in answer.message
        assert cluster.request("PUT", path, _pod_template(1, ["light"])).status == 200
    finally:
        cluster.delete("v1", "PodTemplate", "heavy", TEAM)


LONG = f'&long "{"<" * 1_000_000}"'
REPEATED = {
    "status": f"status:\n  message: {LONG}\n  conditions:\n" + 5 * "  - {type: a, message: *long}\n",
    "spec": f"  volumes:\n  - name: {LONG}\n    projected:\n      sources:\n"
    + 5 * "      - {podCertificate: {signerName: *long}}\n",
}


@pytest.mark.parametrize("place", REPEATED)
def test_a_pod_that_is_longer_than_can_be_sent_is_refused(ada: KubeClient, place: str) -> None:
    """The API server sends on what it will drop, a status or fields that are off: YAML repeats, no etcd bounds it."""
    document = yaml.safe_dump(pod(8, labels=INFERENCE)) + REPEATED[place]
    headers = {**ada._headers, "Content-Type": "application/yaml"}
    path = ada.path("v1", "Pod", None, TEAM) + "?dryRun=All"
    answer = ada._pool.request("POST", ada.server + path, body=document.encode(), headers=headers)
    text = answer.data.decode()[:1000]
    assert answer.status in {413, 500}, text  # in a sentence; or the API server is too slow to send it
    assert "admission.slicewise.io" in text


def test_a_pod_of_more_names_than_the_api_server_goes_through_is_refused(ada: KubeClient) -> None:
    """To go through these costs more than one expression may, and what fails to be asked is let through."""
    item = pod(8, labels=INFERENCE)
    zeros = {f"a/{number}": "0" for number in range(800)}
    more = [{"name": f"c{number}", "image": "none", "resources": {"limits": zeros}} for number in range(100)]
    item["spec"]["containers"] = [*more, *item["spec"]["containers"]]
    answer = ada.try_create(item, dry_run=True)
    assert answer.status == 403, answer.message[:1000]
    assert "inference" in answer.message


def test_an_object_too_deep_to_be_read_is_refused(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    cluster.apply(NOTEBOOKS)
    try:
        item = {
            "apiVersion": "kubeflow.org/v1",
            "kind": "Notebook",
            "metadata": {"name": "deep", "namespace": TEAM},
            "spec": {"template": {"spec": pod(8)["spec"]}, "deep": 1},
        }
        deep = json.dumps(item).replace('"deep": 1', '"deep": ' + '{"a": ' * 2_000 + "1" + "}" * 2_000)
        # Neither this text nor an answer that repeats it can be read as JSON in Python.
        path = cluster.path("kubeflow.org/v1", "Notebook", None, TEAM)
        headers = {**cluster._headers, "Content-Type": "application/json"}
        answer = cluster._pool.request("POST", cluster.server + path, body=deep.encode(), headers=headers)
        assert answer.status == 413, answer.data[:1000]
        assert f"Notebook {TEAM}/deep: it is nested too deeply" in answer.data.decode()
    finally:
        cluster.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", "notebooks.kubeflow.org")


def test_an_object_that_is_born_dying_is_reviewed(ada: KubeClient) -> None:
    item = pod(8, labels=INFERENCE)
    del item["metadata"]["generateName"]
    item["metadata"] |= {"name": "dying", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    path = ada.path("v1", "Pod", "dying", TEAM)
    answer = ada.request("PATCH", path, item, APPLY_PATCH, {"fieldManager": "ada", "force": "true"})
    assert answer.status == 403, answer.message
    assert "inference" in answer.message


@pytest.mark.parametrize("directory", ["/etc", "/var/lib/kubelet", "/run/nvidia/mps/../../../etc", "/a/.."])
def test_a_policy_mounts_no_directory_that_the_installation_does_not_allow(
    slicewise: Installation, directory: str
) -> None:
    work = {"strategy": "time-slicing", "pipeDirectory": directory}
    item = {
        "apiVersion": OURS,
        "kind": "SlicingPolicy",
        "metadata": {"name": "mounting"},
        "spec": {"defaultClass": "a", "classes": {"a": work}},
    }
    answer = slicewise.cluster.try_create(item, dry_run=True)
    assert answer.status == 422, answer.message
    assert "pipeDirectory" in answer.message
    work["pipeDirectory"] = "/run/nvidia/mps"
    assert slicewise.cluster.try_create(item, dry_run=True).status == 201


def test_the_api_server_is_served_while_a_pod_holds_thousands_of_connections(
    slicewise: Installation, ada: KubeClient
) -> None:
    secret = slicewise.cluster.get("v1", "Secret", "slicewise-webhook-ca", NAMESPACE)
    context = ssl.create_default_context(cadata=base64.b64decode(secret["data"]["ca.crt"]).decode())
    targets = slicewise.pods.addresses(slicewise.webhook.labels, "webhook", ready=True)
    created = left = 0
    first: list[ssl.SSLSocket] = []
    with contextlib.ExitStack() as held:
        for number in range(2_100):
            for target in targets:
                plain = socket.create_connection(target, timeout=30, source_address=("127.0.0.2", 0))
                held.callback(plain.close)
                tls = context.wrap_socket(plain, server_hostname=f"{SERVICE}.{NAMESPACE}.svc")
                held.callback(tls.close)
                first = first or [tls]
            if number % 20 == 0:
                answer = ada.try_create(pod(labels=INFERENCE), dry_run=True)
                assert answer.status == 201, answer.message
                created += 1
                left += GPU in gets(answer.body)[0]
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert first[0].recv(1) == b""  # it never asked: closed after ten seconds, or to make room
    assert (created, left) == (105, 0)
