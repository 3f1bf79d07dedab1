"""The webhook's server on a real API server: trust, what is sent to it, and what happens without it."""

from __future__ import annotations

import base64
import copy
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.client import JSON_PATCH, ApiError, KubeClient, Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import (
    CONFIGURATION,
    NAMESPACE,
    Installation,
    Server,
    namespace,
    page_reader,
    rendered,
    token,
)
from e2e.harness.loopback import SERVICE, WEBHOOK_KINDS

API = "admissionregistration.k8s.io/v1"
SECRET = "slicewise-webhook-ca"
SPACE, PLAIN, OFF = "e2e-server", "e2e-server-plain", "e2e-server-off"
GPU: Object = {"limits": {"nvidia.com/gpu": "1"}}
MUTATE = {"path": "/mutate"}


@pytest.fixture(scope="module")
def slicewise(cluster: AnyCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The webhook alone, installed from the manifests, and namespaces: opted in, not, and switched off."""
    found = Installation(cluster, tmp_path_factory.mktemp("server"))
    found.apply()
    found.webhook.start()
    found.trusted()
    namespace(cluster, SPACE, policy="default")
    namespace(cluster, PLAIN)
    namespace(cluster, OFF, policy="default", mode="off")
    yield found
    found.stop()


def _bundles(cluster: AnyCluster) -> set[str]:
    entries = [one for kind in WEBHOOK_KINDS for one in cluster.get(API, kind, CONFIGURATION)["webhooks"]]
    return {base64.b64decode(one["clientConfig"].get("caBundle", "")).decode() for one in entries}


def _authority(cluster: AnyCluster) -> str:
    return base64.b64decode(cluster.get("v1", "Secret", SECRET, NAMESPACE)["data"]["ca.crt"]).decode()


def _all_hold(cluster: AnyCluster, bundle: str) -> bool:
    return _bundles(cluster) == {bundle}


@pytest.mark.usefixtures("slicewise")
def test_the_authority_is_made_and_published_by_a_manager_of_its_own(cluster: AnyCluster) -> None:
    assert _all_hold(cluster, _authority(cluster))
    for kind in WEBHOOK_KINDS:
        found = cluster.get(API, kind, CONFIGURATION)
        (own,) = [
            one for one in found["metadata"]["managedFields"] if one["manager"] == "slicewise-webhook-ca"
        ]
        for key, fields in own["fieldsV1"]["f:webhooks"].items():
            assert key.startswith('k:{"name":')
            assert set(fields) == {".", "f:clientConfig", "f:name"} or set(fields) == {"f:clientConfig"}
            assert set(fields["f:clientConfig"]) == {"f:caBundle"}


def test_installing_again_fights_with_nobody(slicewise: Installation, cluster: AnyCluster) -> None:
    bundle = _authority(cluster)
    slicewise.apply()
    assert _all_hold(cluster, bundle)


def _strip(cluster: AnyCluster) -> None:
    for kind in WEBHOOK_KINDS:
        found = cluster.get(API, kind, CONFIGURATION)
        for entry in found["webhooks"]:
            entry["clientConfig"].pop("caBundle", None)
        cluster.replace(found)


def test_a_stripped_bundle_is_put_back(slicewise: Installation, cluster: AnyCluster) -> None:
    bundle = _authority(cluster)
    _strip(cluster)
    eventually(lambda: _all_hold(cluster, bundle), "the bundle is back")
    slicewise.trusted()


@pytest.mark.parametrize("damage", ["deleted", "garbled"])
def test_a_lost_secret_comes_back_without_a_failed_call(
    slicewise: Installation, cluster: AnyCluster, damage: str
) -> None:
    bundle = _authority(cluster)
    if damage == "deleted":
        cluster.delete("v1", "Secret", SECRET, NAMESPACE)
    else:
        cluster.patch("v1", "Secret", SECRET, {"data": {"ca.key": ""}}, NAMESPACE)

    def back() -> bool:
        slicewise.trusted()
        return (
            _authority(cluster) == bundle
            and cluster.get("v1", "Secret", SECRET, NAMESPACE)["data"]["ca.key"] != ""
        )

    eventually(back, "the same authority is back")
    assert _all_hold(cluster, bundle)


@pytest.mark.usefixtures("slicewise")
def test_a_second_replica_serves_under_the_same_authority(cluster: AnyCluster, tmp_path: Any) -> None:
    other = Server(cluster, "webhook", tmp_path, 1, "--listen", f"{cluster.listen_host}:0", "--drain", "0s")
    other.start()
    try:
        line = next(line for line in other.program.log().splitlines() if "listening address=" in line)
        host, _, port = line.partition("listening address=")[2].split()[0].rpartition(":")
        context = ssl.create_default_context(cadata=_authority(cluster))
        with socket.create_connection((host, int(port))) as plain:
            context.wrap_socket(plain, server_hostname=f"{SERVICE}.{NAMESPACE}.svc").close()
    finally:
        other.program.kill()


@pytest.mark.usefixtures("slicewise")
def test_metrics_are_for_those_whom_the_cluster_lets_read_them(cluster: AnyCluster, tmp_path: Path) -> None:
    """With `webhook.authenticate` the API server is asked: whose the token is, and whether they may."""
    rights = [
        item for item in rendered({"webhook": {"authenticate": True}}) if item["kind"].startswith("Cluster")
    ]
    cluster.apply([*rights, page_reader("metrics-reader")])
    listen = f"{cluster.listen_host}:0"
    replica = Server(cluster, "webhook", tmp_path, 2, "--listen", listen, "--drain", "0s", "--authenticate")
    replica.start()
    try:
        assert replica.get("/healthz")[0] == 200
        nobody = "no bearer token was sent; send one of the cluster, as kubectl create token prints it\n"
        assert replica.get("/metrics") == (401, nobody)
        unknown = "the cluster does not know this token; send a new one\n"
        assert replica.get("/metrics", "made-up") == (401, unknown)
        account = f"system:serviceaccount:{NAMESPACE}:metrics-nobody"
        unbound = (
            f"{account} may not get /metrics; bind it to a ClusterRole with nonResourceURLs: [/metrics]\n"
        )
        assert replica.get("/metrics", token(cluster, "metrics-nobody")) == (403, unbound)
        status, text = replica.get("/metrics", token(cluster, "metrics-reader"))
        assert status == 200
        assert "slicewise_" in text
    finally:
        replica.program.kill()


def test_it_may_do_what_it_must_and_nothing_more(slicewise: Installation, cluster: AnyCluster) -> None:
    own = cluster.client_for(f"system:serviceaccount:{NAMESPACE}:slicewise-webhook")
    for attempt in (
        lambda: own.get("v1", "Secret", "other", NAMESPACE),
        lambda: own.list("v1", "Secret", NAMESPACE),
        lambda: own.get("v1", "Secret", SECRET, "default"),
        lambda: own.get("v1", "Namespace", "default"),
        lambda: own.get(API, "MutatingWebhookConfiguration", "other"),
        lambda: own.delete("v1", "Secret", SECRET, NAMESPACE),
    ):
        with pytest.raises(ApiError) as refused:
            attempt()
        assert refused.value.status == 403
    assert " 403 " not in slicewise.webhook.program.log()


# --- What is sent to it ------------------------------------------------------------------------------------


def _reviewed(slicewise: Installation) -> float:
    return slicewise.webhook.metric("slicewise_admission_responses_total", **MUTATE)


def _pod_spec(resources: Object | None, *, init: bool = False) -> Object:
    plain = {"name": "main", "image": "none"}
    asking = {"name": "gpu", "image": "none", **({"resources": resources} if resources else {})}
    if init:
        return {"restartPolicy": "Never", "initContainers": [asking], "containers": [plain]}
    return {"restartPolicy": "Never", "containers": [plain, asking]}


def _object(kind: str, resources: Object | None, space: str = SPACE, *, init: bool = False) -> Object:
    spec = _pod_spec(resources, init=init)
    metadata: Object = {"generateName": "e2e-", "namespace": space}
    labels = {"metadata": {"labels": {"app": "e2e"}}}
    selector = {"matchLabels": {"app": "e2e"}}
    served = {**labels, "spec": {**spec, "restartPolicy": "Always"}}
    bodies: dict[str, tuple[str, Object]] = {
        "Pod": ("v1", {"spec": spec}),
        "PodTemplate": ("v1", {"template": {**labels, "spec": spec}}),
        "ReplicationController": (
            "v1",
            {"spec": {"replicas": 0, "selector": {"app": "e2e"}, "template": served}},
        ),
        "Job": ("batch/v1", {"spec": {"suspend": True, "template": {"spec": spec}}}),
        "CronJob": (
            "batch/v1",
            {"spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": spec}}}}},
        ),
        "Deployment": ("apps/v1", {"spec": {"replicas": 0, "selector": selector, "template": served}}),
        "StatefulSet": (
            "apps/v1",
            {"spec": {"replicas": 0, "serviceName": "x", "selector": selector, "template": served}},
        ),
        "DaemonSet": ("apps/v1", {"spec": {"selector": selector, "template": served}}),
        "ReplicaSet": ("apps/v1", {"spec": {"replicas": 0, "selector": selector, "template": served}}),
    }
    version, body = bodies[kind]
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **copy.deepcopy(body)}


KINDS = [
    "Pod", "PodTemplate", "ReplicationController", "Job", "CronJob", "Deployment", "StatefulSet", "DaemonSet",
    "ReplicaSet",
]  # fmt: skip


def _calls(slicewise: Installation, cluster: AnyCluster, document: Object) -> float:
    """How often the webhook is called for a creation that is only tried."""
    before = _reviewed(slicewise)
    answer = cluster.try_create(document, dry_run=True)
    assert answer.status in (201, 403), answer.message
    assert "failed calling webhook" not in answer.message
    return _reviewed(slicewise) - before


@pytest.mark.parametrize("kind", KINDS)
def test_only_objects_that_ask_for_a_gpu_are_sent(
    slicewise: Installation, cluster: AnyCluster, kind: str
) -> None:
    assert _calls(slicewise, cluster, _object(kind, None)) == 0
    assert _calls(slicewise, cluster, _object(kind, {"limits": {"cpu": "1", "amd.com/gpu": "1"}})) == 0
    assert _calls(slicewise, cluster, _object(kind, GPU)) >= 1
    assert _calls(slicewise, cluster, _object(kind, GPU, init=True)) >= 1
    assert _calls(slicewise, cluster, _object(kind, {"limits": {"nvidia.com/mig-1g.10gb": 1}})) >= 1


@pytest.mark.parametrize("space", [PLAIN, OFF, "kube-system", NAMESPACE])
def test_namespaces_that_did_not_opt_in_send_nothing(
    slicewise: Installation, cluster: AnyCluster, space: str
) -> None:
    def label(policy: str | None) -> None:
        cluster.patch("v1", "Namespace", space, {"metadata": {"labels": {"slicewise.io/policy": policy}}})

    system = space in ("kube-system", NAMESPACE)
    if system:
        label("default")
    try:
        assert _calls(slicewise, cluster, _object("Job", GPU, space)) == 0
    finally:
        if system:
            label(None)


def test_updates_that_change_nothing_of_ours_are_not_sent(
    slicewise: Installation, cluster: AnyCluster
) -> None:
    stored = cluster.create(_object("Deployment", {"limits": {"nvidia.com/mig-1g.10gb": 1}}))
    name = stored["metadata"]["name"]

    def calls(patch: Object) -> float:
        before = _reviewed(slicewise)
        cluster.patch("apps/v1", "Deployment", name, patch, SPACE)
        return _reviewed(slicewise) - before

    try:
        assert calls({"metadata": {"finalizers": ["e2e.slicewise.io/held"]}}) == 0
        assert calls({"metadata": {"labels": {"a": "b"}}}) >= 1
        assert calls({"spec": {"minReadySeconds": 1}}) >= 1
        cluster.delete("apps/v1", "Deployment", name, SPACE)
        assert calls({"metadata": {"finalizers": None}}) == 0
    finally:
        cluster.delete("apps/v1", "Deployment", name, SPACE)


def test_a_request_that_was_taken_away_is_still_sent(slicewise: Installation, cluster: AnyCluster) -> None:
    stored = cluster.create(_object("Deployment", {"limits": {"nvidia.com/mig-1g.10gb": 1}}))
    name = stored["metadata"]["name"]
    try:
        before = _reviewed(slicewise)
        removal = [{"op": "remove", "path": "/spec/template/spec/containers/1/resources"}]
        path = cluster.path("apps/v1", "Deployment", name, SPACE)
        assert cluster.request("PATCH", path, removal, JSON_PATCH).status == 200
        assert _reviewed(slicewise) - before >= 1
    finally:
        cluster.delete("apps/v1", "Deployment", name, SPACE)


def test_replicasets_of_a_deployment_are_never_sent(slicewise: Installation, cluster: AnyCluster) -> None:
    owned = _object("ReplicaSet", GPU)
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "u", "controller": True}
    owned["metadata"]["ownerReferences"] = [owner]
    assert _calls(slicewise, cluster, owned) == 0


# --- Own objects -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("slicewise")
def test_a_policy_is_refused_with_the_sentence_that_files_get(cluster: AnyCluster) -> None:
    policy = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "SlicingPolicy",
        "metadata": {"name": "bad"},
        "spec": {"defaultClass": "a", "classes": {"a": {"strategy": "mig", "size": {"profile": "huge"}}}},
    }
    answer = cluster.try_create(policy, dry_run=True)
    assert answer.status == 422
    assert "SlicingPolicy bad: spec.classes.a.size.profile: 'huge' is no MIG profile" in answer.message


# --- Without it --------------------------------------------------------------------------------------------


def test_an_answer_to_come_back_is_followed(slicewise: Installation, cluster: AnyCluster) -> None:
    """The API server repeats an admission call that was answered 503 with Retry-After, within its timeout."""
    slicewise.webhook.program.kill()
    rbac = ("rbac.authorization.k8s.io/v1", "ClusterRole", "slicewise-webhook")
    granted = cluster.get(*rbac)["rules"]
    # Without the right to list nodes its caches never fill, so it answers 503 to everything.
    cluster.patch(*rbac, {"rules": [rule for rule in granted if "nodes" not in rule["resources"]]}, None)
    account = cluster.client_for(f"system:serviceaccount:{NAMESPACE}:slicewise-webhook")
    try:
        eventually(lambda: _may_not_list_nodes(account), "the API server has heard of it")
        slicewise.webhook.start(ready=False)
        eventually(
            lambda: _unfilled(slicewise) == 2, "both replicas serve, and lack nothing but their caches"
        )
        before = _reviewed(slicewise)
        answer = cluster.try_create(_object("Job", GPU), dry_run=True)
        assert answer.status == 201, "failurePolicy Ignore"
        asked = _reviewed(slicewise) - before
        assert asked > 1, f"asked {asked:g} times"
    finally:
        cluster.patch(*rbac, {"rules": granted}, None)
        slicewise.webhook.program.kill()
        slicewise.webhook.start()
        slicewise.trusted()


def _may_not_list_nodes(account: KubeClient) -> bool:
    return account.request("GET", "/api/v1/nodes").status == 403


def _unfilled(slicewise: Installation) -> int:
    """How many replicas wait for their caches alone: one without a certificate yet cannot be asked anything."""
    answers = [json.loads(text) for status, text in slicewise.webhook.answers("/readyz") if status == 503]
    return sum(answer["reasons"].keys() == {"caches"} for answer in answers)


def test_without_a_replica_work_goes_on_and_only_our_own_objects_wait(
    slicewise: Installation, cluster: AnyCluster
) -> None:
    slicewise.webhook.program.kill()
    try:
        assert cluster.try_create(_object("Job", GPU), dry_run=True).status == 201
        policy = {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "SlicingPolicy",
            "metadata": {"name": "waits"},
            "spec": {"defaultClass": "a", "classes": {"a": {"strategy": "mig"}}},
        }
        answer = cluster.try_create(policy, dry_run=True)
        assert answer.status == 500
        assert "failed calling webhook" in answer.message
    finally:
        slicewise.webhook.start()
        slicewise.trusted()
