"""What the chart renders, as a real API server judges it: every object of every combination, without writing any."""

from __future__ import annotations

import pytest

from e2e.harness.client import APPLY_PATCH, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import NAMESPACE, shipped
from tests.manifests.test_chart import rendered

COMBINATIONS = {
    "default": [],
    "fail": ['webhook={"failurePolicy": "Fail", "timeoutSeconds": 30, "drainSeconds": 60, "replicas": 5}'],
    "placed": [
        'nodeSelector={"kubernetes.io/os": "linux"}',
        'tolerations=[{"key": "infra", "operator": "Exists", "effect": "NoSchedule"}]',
        'image={"digest": "sha256:' + "0" * 64 + '", "pullSecrets": ["pull"]}',
        'priorityClassName=""',
        'podLabels={"team": "platform"}',
        'podAnnotations={"note": "yes"}',
    ],
}


@pytest.fixture(scope="module")
def ground(cluster: AnyCluster) -> AnyCluster:
    """A cluster with the namespace and the definitions."""
    cluster.apply([item for item in shipped() if item["kind"] in {"Namespace", "CustomResourceDefinition"}])
    return cluster


def _refusals(cluster: AnyCluster, objects: list[dict[str, object]]) -> list[str]:
    found = []
    for item in objects:
        metadata = item["metadata"]
        assert isinstance(metadata, dict)
        path = cluster.path(
            str(item["apiVersion"]), str(item["kind"]), metadata["name"], metadata.get("namespace")
        )
        query = {"dryRun": "All", "fieldManager": "e2e-chart", "force": "true", "fieldValidation": "Strict"}
        answer = cluster.request("PATCH", path, item, APPLY_PATCH, query)
        if answer.status not in (200, 201) or answer.warnings:
            found.append(f"{item['kind']} {metadata['name']}: {answer.message[:300]} {answer.warnings}")
    return found


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_every_rendering_is_taken_without_a_warning(ground: AnyCluster, combination: str) -> None:
    objects = list(rendered(*COMBINATIONS[combination], namespace=NAMESPACE).values())
    assert _refusals(ground, objects) == []


def test_the_base_is_taken_without_a_warning(ground: AnyCluster) -> None:
    assert _refusals(ground, shipped()) == []


def test_the_pods_pass_the_restricted_standard_that_the_namespace_enforces(ground: AnyCluster) -> None:
    for item in shipped():
        if item["kind"] != "Deployment":
            continue
        template = item["spec"]["template"]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**template["metadata"], "generateName": "e2e-", "namespace": NAMESPACE},
            "spec": template["spec"],
        }

        def taken(pod: dict[str, object] = pod) -> None:
            answer = ground.try_create(pod, dry_run=True)
            assert answer.status == 201, answer.message

        eventually(taken, "the pod is taken")
    bad = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "e2e-", "namespace": NAMESPACE},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    }
    answer = ground.try_create(bad, dry_run=True)
    assert answer.status == 403
    assert "PodSecurity" in answer.message
