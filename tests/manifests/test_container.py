"""How the harness starts a container without one: what is put in place of addresses and paths, and what is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from e2e.harness.cluster import AnyCluster
from e2e.harness.container import NotYetError, launch
from e2e.harness.errors import ClusterError

Object = dict[str, Any]
SECRET: Object = {"data": {"tls.crt": "YQ==", "tls.key": "Yg=="}}


def cluster(secret: Object | None = None) -> AnyCluster:
    found = SimpleNamespace(
        listen_host="127.0.0.1",
        find=lambda *_: secret,
        kubeconfig_for=lambda account: Path("/kubeconfigs") / account,
    )
    return cast("AnyCluster", found)


def pod(**container: Any) -> Object:
    volume = {"name": "certificates", "secret": {"secretName": "tls"}}
    spec = {
        "serviceAccountName": "slicewise-webhook",
        "volumes": [volume],
        "containers": [
            {"name": "main", "image": "slicewise", "command": ["slicewise", "webhook"], **container}
        ],
    }
    return {"metadata": {"name": "a", "namespace": "b", "labels": {"team": "c"}}, "spec": spec}


def test_arguments_stand_as_they_are_but_for_addresses_and_paths(tmp_path: Path) -> None:
    mounted = {"name": "certificates", "mountPath": "/certificates"}
    found = launch(
        cluster(SECRET),
        pod(
            args=[
                "--listen=0.0.0.0:9443",
                "--drain=12s",
                "--cert=/certificates/tls.crt",
                "--as=/certificates2",
            ],
            ports=[{"name": "webhook", "containerPort": 9443}],
            volumeMounts=[mounted],
            env=[
                {"name": "SPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
                {"name": "TEAM", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['team']"}}},
            ],
        ),
        tmp_path,
    )
    port = found.ports["webhook"]
    assert found.command == [
        "slicewise",
        "webhook",
        f"--listen=127.0.0.1:{port}",
        "--drain=12s",
        f"--cert={tmp_path}/certificates/tls.crt",
        "--as=/certificates2",
    ]
    assert (tmp_path / "certificates/tls.key").read_bytes() == b"b"
    assert found.environment["SPACE"] == "b"
    assert found.environment["TEAM"] == "c"
    account = "system:serviceaccount:b:slicewise-webhook"
    assert found.environment["SLICEWISE_KUBECONFIG"] == f"/kubeconfigs/{account}"


def test_what_is_mounted_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(NotYetError, match="Secret b/tls"):
        launch(cluster(), pod(volumeMounts=[{"name": "certificates", "mountPath": "/c"}]), tmp_path)


@pytest.mark.parametrize(
    ("container", "complaint"),
    [
        ({"ports": [{"containerPort": 8080}]}, "port 8080 stands in no argument"),
        ({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {}}}]}, "resourceFieldRef"),
        ({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nowhere"}}}]}, "spec.nowhere"),
        ({"livenessProbe": {"exec": {"command": ["true"]}}}, "plays HTTP probes"),
        ({"command": []}, "names no command"),
    ],
)
def test_what_cannot_be_played_is_an_error(container: Object, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=complaint):
        launch(cluster(SECRET), pod(**container), tmp_path)
