"""People who submit work: what the command answers to those who have Kubernetes' own role `view`, and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from e2e.harness import nodes
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import namespace
from slicewise.cli.main import main

RBAC = "rbac.authorization.k8s.io/v1"
SPACE, BOUND, NARROW = "team-people", "people-for-the-cluster", "people-of-one-namespace"
JOB: Object = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "train", "namespace": SPACE, "labels": {"kueue.x-k8s.io/queue-name": "nowhere"}},
    "spec": {
        "suspend": True,
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "containers": [
                    {"name": "main", "image": "x", "resources": {"limits": {"nvidia.com/gpu": 1}}}
                ],
            }
        },
    },
}


@pytest.fixture(scope="module", autouse=True)
def world(installed: AnyCluster) -> Iterator[None]:
    """A node, a namespace that opted in, a Job that Kueue makes a Workload of, and two people with the role `view`."""
    nodes.add(installed, nodes.exclusive("people-node", gpus=2))
    namespace(installed, SPACE, policy="default")
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}

    def user(name: str) -> list[Object]:
        return [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}]

    installed.apply(
        [
            {
                "apiVersion": RBAC,
                "kind": "ClusterRoleBinding",
                "metadata": {"name": BOUND},
                "roleRef": role,
                "subjects": user(BOUND),
            },
            {
                "apiVersion": RBAC,
                "kind": "RoleBinding",
                "metadata": {"name": NARROW, "namespace": SPACE},
                "roleRef": role,
                "subjects": user(NARROW),
            },
            JOB,
        ]
    )
    yield
    nodes.remove(installed, "people-node")
    installed.request("DELETE", installed.path(RBAC, "ClusterRoleBinding", BOUND))


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(installed: AnyCluster, capsys: pytest.CaptureFixture[str]) -> Ask:
    def call(user: str, *words: str) -> tuple[int, str, str]:
        status = main([*words, "--kubeconfig", str(installed.kubeconfig_for(user))])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(JOB))
    return str(file)


def test_view_for_the_cluster_is_enough_for_pools_explain_why_and_drift(ask: Ask, manifest: str) -> None:
    def aggregated() -> bool:
        return ask(BOUND, "pools")[0] == 0

    eventually(aggregated, "the cluster has added the reader's rights to view")
    assert "h100-80gb-exclusive" in ask(BOUND, "pools")[1]
    status, out, _ = ask(BOUND, "explain", "-f", manifest)
    assert (status, out.splitlines()[:2]) == (
        0,
        [
            f"Job {SPACE}/train",
            "  chosen      class training gets exclusive; the smallest offered is a whole GPU",
        ],
    )
    waits = f"Job {SPACE}/train: it waits for quota in LocalQueue {SPACE}/nowhere"
    eventually(lambda: ask(BOUND, "why", "job/train", "-n", SPACE)[1].startswith(waits), "Kueue has seen it")
    assert ask(BOUND, "drift", "-n", SPACE)[:2] == (0, "Nothing slipped through.\n")


def test_view_in_one_namespace_is_enough_for_why_and_the_rest_is_a_sentence(ask: Ask) -> None:
    waits = f"Job {SPACE}/train: it waits for quota in LocalQueue {SPACE}/nowhere"

    def told() -> str:
        """Once the cluster has added the reader's rights to view, and Kueue has seen the Job."""
        status, out, err = ask(NARROW, "why", "job/train", "-n", SPACE)
        assert (status, out.startswith(waits)) == (0, True), (status, out, err)
        return err

    err = eventually(told, "why it waits is told")
    assert err == "you may not list clusterqueues, so what they say is left out\n"
    status, out, err = ask(NARROW, "pools")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "check what this identity may read" in err
