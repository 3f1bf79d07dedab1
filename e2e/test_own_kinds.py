"""A kind that only its own platform knows: one value of the chart, and it is rewritten like the built-in ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

from e2e.harness import nodes
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import Installation, decision, namespace

API, TEAM = "ml.example.com/v1", "team-experiments"
GPU, SLICE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
EXPERIMENT: Object = {
    "group": "ml.example.com",
    "kind": "Experiment",
    "paths": ["T spec.driver.template", "spec.workers[]: P podSpec"],
}
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
DEFINITION: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "experiments.ml.example.com"},
    "spec": {
        "group": "ml.example.com",
        "names": {"kind": "Experiment", "plural": "experiments", "singular": "experiment"},
        "scope": "Namespaced",
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": OPEN}}],
    },
}


@pytest.fixture(scope="module")
def slicewise(cluster: AnyCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Slicewise with the kind among its values, a divided board and a namespace that has opted in."""
    cluster.apply(DEFINITION)
    found = Installation(
        cluster, tmp_path_factory.mktemp("slicewise"), replicas=1, webhook__kinds=[EXPERIMENT]
    )
    found.start()
    nodes.add(cluster, nodes.mig_mixed("experiments-mig", {"1g.10gb": 7}, gpus=1))
    namespace(cluster, TEAM, policy="default", workload_class="inference")
    eventually(
        lambda: asked(cluster.create(experiment("probe"), dry_run=True)) == {SLICE}, "the pool is known"
    )
    yield found
    found.stop()
    nodes.remove(cluster, "experiments-mig")
    cluster.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", "experiments.ml.example.com")


def experiment(name: str) -> Object:
    pod = {"containers": [{"name": "main", "image": "none", "resources": {"limits": {GPU: 1}}}]}
    spec = {"driver": {"template": {"spec": pod}}, "workers": [{"podSpec": copy.deepcopy(pod)}]}
    return {
        "apiVersion": API,
        "kind": "Experiment",
        "metadata": {"name": name, "namespace": TEAM},
        "spec": spec,
    }


def asked(item: Object) -> set[str]:
    """The names of what the containers ask for."""
    pods = [
        item["spec"]["driver"]["template"]["spec"],
        *(each["podSpec"] for each in item["spec"]["workers"]),
    ]
    return {name for pod in pods for one in pod["containers"] for name in one["resources"]["limits"]}


def test_it_is_rewritten_in_every_place_and_applied_again_without_a_change(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    cluster.apply(experiment("one"), manager="gitops")
    made = cluster.get(API, "Experiment", "one", TEAM)
    assert asked(made) == {SLICE}
    assert decision(made)["strategy"] == "mig"
    cluster.apply(experiment("one"), manager="gitops")
    assert cluster.get(API, "Experiment", "one", TEAM)["metadata"]["generation"] == 1


def test_it_keeps_its_request_when_the_namespace_leaves(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    cluster.apply(experiment("kept"), manager="gitops")
    namespace(cluster, TEAM, policy="default", workload_class="inference", mode="off")
    eventually(
        lambda: asked(cluster.create(experiment("plain"), dry_run=True)) == {GPU}, "the namespace is off"
    )
    cluster.apply(experiment("kept"), manager="gitops")
    assert asked(cluster.get(API, "Experiment", "kept", TEAM)) == {SLICE}
