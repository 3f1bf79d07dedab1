"""docs/security.md, line by line, on a real API server: namespaces, nodes, service accounts and the webhook's port."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from e2e.harness import nodes
from e2e.harness.client import MERGE_PATCH, Object, eventually
from e2e.harness.installation import NAMESPACE, Installation, Server, namespace
from e2e.harness.loopback import SERVICE
from e2e.test_security import GPU, OURS, SHARE, SLICE, TEAM, WHOLE, gets, pod, populated

PLAIN = "sec-plain"


@pytest.fixture(scope="module")
def slicewise(installation: Installation) -> Iterator[Installation]:
    """Slicewise as for workloads, and a namespace that has not opted in."""
    namespace(installation.cluster, PLAIN)
    yield from populated(installation)


# --- Who may label namespaces, and nodes ---------------------------------------------------------------------


def test_whoever_may_label_a_namespace_decides_what_holds_in_it(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    owner = cluster.client_for("sec-owner")
    group = "rbac.authorization.k8s.io"
    rule = {
        "apiGroups": [""],
        "resources": ["namespaces"],
        "resourceNames": [PLAIN],
        "verbs": ["get", "patch"],
    }
    role = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "sec-owner"},
        "rules": [rule],
    }
    subject = {"kind": "User", "apiGroup": group, "name": "sec-owner"}
    binding = {
        **{key: role[key] for key in ("apiVersion", "metadata")},
        "kind": "ClusterRoleBinding",
        "subjects": [subject],
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "sec-owner"},
    }
    cluster.apply([role, binding])

    def becomes(labels: Object, expected: list[dict[str, str]]) -> None:
        owner.patch("v1", "Namespace", PLAIN, {"metadata": {"labels": labels}})
        sent = pod(space=PLAIN, labels={"slicewise.io/workload-class": "inference"})
        eventually(lambda: gets(cluster.create(sent, dry_run=True)) == expected, f"{labels} is known")

    becomes({"slicewise.io/policy": "sec-strict"}, [{SLICE: "1"}])
    becomes({"slicewise.io/mode": "off"}, [{GPU: "1"}])
    becomes({"slicewise.io/mode": None}, [{SLICE: "1"}])
    becomes({"slicewise.io/policy": None}, [{GPU: "1"}])


def test_a_pool_forged_on_a_node_is_put_right(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    nodes.label(cluster, "sec-whole", {"slicewise.io/pool": SHARE})
    eventually(
        lambda: cluster.get("v1", "Node", "sec-whole")["metadata"]["labels"]["slicewise.io/pool"] == WHOLE,
        "the label is what the node is",
    )


# --- The two service accounts ---------------------------------------------------------------------------------


ATTEMPTS: dict[str, tuple[str, str, str, str | None]] = {
    "read any secret": ("get", "v1", "Secret", "default"),
    "list secrets at home": ("list", "v1", "Secret", NAMESPACE),
    "list pods": ("list", "v1", "Pod", TEAM),
    "make pods": ("create", "v1", "Pod", TEAM),
    "make policies": ("create", OURS, "SlicingPolicy", None),
    "make plans": ("create", OURS, "QuotaPlan", None),
    "make pod templates": ("create", "v1", "PodTemplate", TEAM),
    "change namespaces": ("patch", "v1", "Namespace", None),
    "delete nodes": ("delete", "v1", "Node", None),
    "change a node's status": ("status", "v1", "Node", None),
    "give rights": ("create", "rbac.authorization.k8s.io/v1", "RoleBinding", TEAM),
    "change its own Deployment": ("patch", "apps/v1", "Deployment", NAMESPACE),
}


@pytest.mark.parametrize("role", ["webhook", "controller"])
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_what_neither_service_account_can_do(slicewise: Installation, role: str, attempt: str) -> None:
    verb, version, kind, space = ATTEMPTS[attempt]
    own = slicewise.cluster.client_for(f"system:serviceaccount:{NAMESPACE}:slicewise-{role}")
    item: Object = {"apiVersion": version, "kind": kind, "metadata": {"name": "sec-not"}}
    if space is not None:
        item["metadata"]["namespace"] = space
    subresource = "status" if verb == "status" else None
    paths = {
        "get": ("GET", own.path(version, kind, "sec-not", space), None),
        "list": ("GET", own.path(version, kind, None, space), None),
        "create": ("POST", own.path(version, kind, None, space), item),
        "delete": ("DELETE", own.path(version, kind, "sec-whole", space), None),
    }
    method, path, body = paths.get(
        verb, ("PATCH", own.path(version, kind, "sec-not", space, subresource), {})
    )
    answer = own.request(method, path, body, MERGE_PATCH if method == "PATCH" else "application/json")
    assert answer.status == 403, answer.message


# --- Who can reach the webhook's port --------------------------------------------------------------------------


def test_whoever_reaches_the_port_gets_answers_and_changes_nothing(
    slicewise: Installation, tmp_path: Path
) -> None:
    """Reviews are answered, whoever sends them: an answer is advice, and only the API server acts on it."""
    cluster = slicewise.cluster
    other = Server(cluster, "webhook", tmp_path, 1, "--listen", f"{cluster.listen_host}:0", "--drain", "0s")
    other.start()
    try:
        line = next(line for line in other.program.log().splitlines() if "listening address=" in line)
        address = line.partition("listening address=")[2].split()[0]
        secret = cluster.get("v1", "Secret", "slicewise-webhook-ca", NAMESPACE)
        context = ssl.create_default_context(cadata=base64.b64decode(secret["data"]["ca.crt"]).decode())
        name = f"{SERVICE}.{NAMESPACE}.svc"
        with urllib3.PoolManager(
            ssl_context=context, server_hostname=name, assert_hostname=name, retries=False
        ) as pool:

            def sent(body: bytes, path: str = "/mutate") -> urllib3.BaseHTTPResponse:
                headers = {"Content-Type": "application/json"}
                return pool.request("POST", f"https://{address}{path}", body=body, headers=headers)

            def deployments() -> dict[str, int]:
                """What people say of each; its state, which goes on changing, does not count."""
                found = cluster.list("apps/v1", "Deployment", TEAM)
                return {each["metadata"]["uid"]: each["metadata"]["generation"] for each in found}

            before = deployments()
            review = {
                "apiVersion": "admission.k8s.io/v1",
                "kind": "AdmissionReview",
                "request": {
                    "uid": "forged",
                    "kind": {"group": "", "version": "v1", "kind": "Pod"},
                    "operation": "CREATE",
                    "namespace": TEAM,
                    "userInfo": {"username": "system:admin", "groups": ["system:masters"]},
                    "object": pod(),
                },
            }
            answered = sent(json.dumps(review).encode())
            assert answered.status == 200
            assert answered.json()["response"]["uid"] == "forged"
            assert sent(b"{}").status == 400
            assert sent(b"junk", "/validate").status == 400
            assert pool.request("GET", f"https://{address}/mutate").status == 405
            assert deployments() == before
    finally:
        other.program.kill()
