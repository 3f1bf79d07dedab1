"""What a person's new manifest asks for is what the pods ask for, whatever client merged it over what was given.

kubectl and Helm are the real programs. Each client puts a manifest there, then a changed one, then the changed one
again: the first says what is given, the second what it becomes, the third that nothing flaps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from admission.decision.cluster_state import ClusterState
from admission.workloads.decoder import Templates
from e2e.harness import nodes
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.definitions import permissive
from e2e.harness.installation import Installation, decision, namespace
from slicewise.cli.mutate import reapply
from slicewise.cli.webhook_inputs import world
from slicewise.kube.apply import Client as As
from slicewise.kube.snapshot import collect, read_text
from tests.manifests.tools import tool

GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"
SLICE, LARGER = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-2g.20gb"
TEAM = "team-merges"
LOOP: Final = float(os.environ.get("SLICEWISE_GITOPS_SECONDS", "8"))
"""How long a GitOps tool applies the same again and again."""
ONE: Final = {GPU: 1}


@pytest.fixture(scope="module")
def slicewise(installation: Installation) -> Iterator[Installation]:
    """Slicewise installed, with slices of two sizes, shares, whole boards, and a kind that somebody else defines."""
    cluster = installation.cluster
    boards = (
        nodes.mig_mixed("merges-mig", {"1g.10gb": 1, "2g.20gb": 3}, gpus=4),
        nodes.exclusive("merges-whole"),
    )
    nodes.add(cluster, *boards)
    cluster.apply(
        [
            permissive("kubeflow.org", "Notebook", "v1", "notebooks"),
            permissive("serving.kserve.io", "InferenceService", "v1beta1", "inferenceservices"),
        ]
    )
    namespace(cluster, TEAM, policy="default", workload_class="inference")
    probe = deployment("probe", ONE)
    installation.whoever_is_asked(
        lambda: limits(cluster.create(probe, dry_run=True)) == {SLICE: "1"}, "the slices are known"
    )
    yield installation
    for kind in KINDS:
        for item in cluster.list(*KINDS[kind][:2], TEAM):
            cluster.delete(*KINDS[kind][:2], item["metadata"]["name"], TEAM)
    for name in ("notebooks.kubeflow.org", "inferenceservices.serving.kserve.io"):
        cluster.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", name)
    nodes.remove(cluster, "merges-mig", "merges-whole")


def deployment(name: str, asks: Object | None) -> Object:
    """A kind whose lists of containers are merged by name."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": TEAM},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container(asks)]}},
        },
    }


def notebook(name: str, asks: Object | None) -> Object:
    """A kind whose lists are replaced whole."""
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "Notebook",
        "metadata": {"name": name, "namespace": TEAM, "labels": {"slicewise.io/workload-class": "inference"}},
        "spec": {"template": {"spec": {"containers": [container(asks)]}}},
    }


def service(name: str, asks: Object | None) -> Object:
    """A kind that keeps requests in a map outside of any list."""
    metadata = {"name": name, "namespace": TEAM, "labels": {"slicewise.io/workload-class": "inference"}}
    model = {"modelFormat": {"name": "none"}, "resources": container(asks)["resources"]}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": {"predictor": {"model": model}},
    }


def container(asks: Object | None) -> Object:
    return {"name": "main", "image": "none", "resources": {"limits": {"cpu": "100m", **(asks or {})}}}


KINDS: Final[dict[str, tuple[str, str, Callable[[str, Object | None], Object]]]] = {
    "Deployment": ("apps/v1", "Deployment", deployment),
    "Notebook": ("kubeflow.org/v1", "Notebook", notebook),
    "InferenceService": ("serving.kserve.io/v1beta1", "InferenceService", service),
}


def pods_of(item: Object) -> Object:
    """Where an object says of what kind its pods are."""
    spec = item["spec"]
    found: Object = spec["predictor"] if "predictor" in spec else spec["template"]["spec"]
    return found


def limits(item: Object) -> dict[str, str]:
    """What the first container asks for of NVIDIA's."""
    pods = pods_of(item)
    resources = (pods["model"] if "model" in pods else pods["containers"][0])["resources"]
    found = resources.get("limits") or {}
    return {name: str(number or 0) for name, number in found.items() if name.startswith("nvidia.com/")}


# --- Clients ----------------------------------------------------------------------------------------------


class Person:
    """Somebody with a manifest and a program that puts it into the cluster."""

    def __init__(self, cluster: AnyCluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        own = {f"HELM_{key}": str(folder / key) for key in ("CACHE_HOME", "CONFIG_HOME", "DATA_HOME")}
        self._environment = {**os.environ, **own, "KUBECONFIG": str(cluster.kubeconfig)}

    def run(self, *words: str) -> str:
        """Runs a program; returns what it said on standard error, the warnings among it."""
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=self._environment)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def kubectl(self, item: Object, *more: str) -> str:
        """Applies with kubectl."""
        path = self.folder / f"{item['metadata']['name']}.json"
        path.write_text(json.dumps(item))
        return self.run(tool("kubectl"), "apply", "-f", str(path), *more)

    def edit(self, kind: str, name: str, script: str) -> None:
        """Edits an object with kubectl; the editor is sed."""
        editor = self.folder / "editor"
        editor.write_text(f"#!/bin/sh\nexec sed -i -e '{script}' \"$1\"\n")
        editor.chmod(0o755)
        self._environment["KUBE_EDITOR"] = str(editor)
        self.run(tool("kubectl"), "edit", kind, name, "--namespace", TEAM)

    def helm(self, item: Object, *more: str) -> str:
        """Installs or upgrades a chart that holds nothing else."""
        name = item["metadata"]["name"]
        chart = self.folder / name
        (chart / "templates").mkdir(parents=True, exist_ok=True)
        (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: 1.0.0\n")
        (chart / "templates/work.yaml").write_text(json.dumps(item))
        return self.run(tool("helm"), "upgrade", name, str(chart), "--install", "--namespace", TEAM, *more)


Client = Callable[[Person, Object], str]
CLIENTS: Final[dict[str, Client]] = {
    "kubectl-apply": lambda person, item: person.kubectl(item),
    "server-side-apply": lambda person, item: person.kubectl(
        item, "--server-side", "--force-conflicts", "--field-manager=gitops"
    ),
    "helm-3": lambda person, item: person.helm(item, "--server-side=false"),
    "helm-4": lambda person, item: person.helm(item, "--server-side=true"),
}
# What the manifest says now -> what the pods ask for.
CHANGES: Final[dict[str, tuple[Object | None, dict[str, str]]]] = {
    "same": (ONE, {SLICE: "1"}),
    "slice": ({LARGER: 1}, {LARGER: "1"}),
    "share": ({SHARED: 1}, {SHARED: "1"}),
    "zero": ({GPU: 0}, {GPU: "0"}),
    "none": (None, {}),
    "more": ({GPU: 2}, {GPU: "2"}),
}
TOLD_BY_NOBODY: Final = {("helm-3", "Deployment", "none"), ("helm-3", "InferenceService", "none")}
"""Helm 3 takes away what its chart says no more: a name that is not there."""


@pytest.fixture
def person(slicewise: Installation, tmp_path: Path) -> Person:
    return Person(slicewise.cluster, tmp_path)


# --- What the command says of it beforehand ---------------------------------------------------------------

# What `slicewise mutate --as-apply` calls these clients; Helm 4 applies on the server.
AS_APPLY: Final[dict[str, As]] = {
    "kubectl-apply": As.KUBECTL,
    "server-side-apply": As.SERVER_SIDE,
    "helm-3": As.HELM,
    "helm-4": As.SERVER_SIDE,
}


@pytest.fixture(scope="module")
def known(slicewise: Installation) -> ClusterState:
    """The cluster as `slicewise snapshot` writes it down."""
    environment = {**os.environ, "KUBECONFIG": str(slicewise.cluster.kubeconfig)}
    command = [sys.executable, "-m", "slicewise", "snapshot"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return world(collect(read_text("snapshot", done.stdout)))


def foretold(known: ClusterState, client: As, before: Object, now: Object) -> tuple[Object, list[str]]:
    """What the command says that pods ask for, and its warnings, where a manifest follows another."""
    result = reapply(client, now, TEAM, known, Templates(), before)
    assert not result.refusal
    return given(result.item), result.outcome.warnings


def given(item: Object) -> Object:
    """What is ours in an object: what its pods ask for, where they are kept, and the record of it."""
    spec = pods_of(item)
    return {
        "limits": limits(item),
        "affinity": spec.get("affinity"),
        "tolerations": spec.get("tolerations") or None,
        "decision": (item["metadata"].get("annotations") or {}).get("slicewise.io/decision"),
    }


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("client", CLIENTS)
def test_pods_ask_for_what_the_manifest_says_now(
    person: Person, known: ClusterState, client: str, kind: str, change: str
) -> None:
    put, (version, _, manifest) = CLIENTS[client], KINDS[kind]
    name = f"{kind.lower()}-{client}-{change}"
    asks, right = CHANGES[change]

    def standing() -> Object:
        return person.cluster.get(version, kind, name, TEAM)

    put(person, manifest(name, ONE))
    first = standing()
    assert limits(first) == {SLICE: "1"}
    said = put(person, manifest(name, asks))
    second = standing()
    told, warned = foretold(known, AS_APPLY[client], manifest(name, ONE), manifest(name, asks))
    assert told == given(second)
    assert all(each in said for each in warned)
    if (client, kind, change) in TOLD_BY_NOBODY:
        assert "Helm" in said
        right = {SLICE: "1"}
    assert limits(second) == right
    if asks == ONE:
        assert second["metadata"]["generation"] == first["metadata"]["generation"]
        assert decision(second) == decision(first)
    put(person, manifest(name, asks))
    third = standing()
    assert limits(third) == right
    assert third["metadata"]["generation"] == second["metadata"]["generation"]


NULLS: Final = {
    "kubectl-apply": {},
    "server-side-apply": {GPU: "0"},
    "helm-3": {SLICE: "1"},
    "helm-4": {GPU: "0"},
}
"""What `nvidia.com/gpu: null` becomes, which a chart renders of a value that nobody set."""


@pytest.mark.parametrize("client", CLIENTS)
def test_a_null_is_what_the_api_server_makes_of_it(person: Person, known: ClusterState, client: str) -> None:
    put, name = CLIENTS[client], f"null-{client}"
    put(person, deployment(name, ONE))
    put(person, deployment(name, {GPU: None}))
    standing = person.cluster.get("apps/v1", "Deployment", name, TEAM)
    assert limits(standing) == NULLS[client]
    told, _ = foretold(known, AS_APPLY[client], deployment(name, ONE), deployment(name, {GPU: None}))
    assert told == given(standing)


EDITS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "another slice in place of ours": (f's|{SLICE}: "1"|{LARGER}: "1"|', {LARGER: "1"}),
    "no GPU": (rf'\|{SLICE}: "1"|d', {}),
    "another number": (f's|{SLICE}: "1"|{GPU}: "2"|', {GPU: "2"}),
    "nothing of GPUs": ("s|minReadySeconds: 5|minReadySeconds: 6|", {SLICE: "1"}),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_a_person_edits_is_what_the_pods_ask_for(person: Person, edit: str) -> None:
    script, right = EDITS[edit]
    name = "edited-" + edit.replace(" ", "-").lower()
    item = deployment(name, ONE)
    item["spec"]["minReadySeconds"] = 5
    person.kubectl(item)
    person.edit("deployment", name, script)
    standing = person.cluster.get("apps/v1", "Deployment", name, TEAM)
    assert limits(standing) == right
    assert ("slicewise.io/decision" in standing["metadata"]["annotations"]) is bool(
        right.keys() & {GPU, SLICE}
    )


PATCHES: Final[dict[str, tuple[Object | None, dict[str, str]]]] = {
    "another slice beside ours": ({LARGER: 1}, {LARGER: "1"}),
    "another slice in place of ours": ({LARGER: 1, SLICE: None}, {LARGER: "1"}),
    "the old name": ({GPU: 1}, {SLICE: "1"}),
    "more of the old name": ({GPU: 2}, {GPU: "2"}),
    "a zero": ({GPU: 0}, {GPU: "0"}),
    "ours away": ({SLICE: None}, {}),
}


@pytest.mark.parametrize("patch", PATCHES)
def test_what_a_person_patches_is_what_the_pods_ask_for(person: Person, patch: str) -> None:
    amounts, right = PATCHES[patch]
    name = "patched-" + patch.replace(" ", "-").lower()
    person.kubectl(deployment(name, ONE))
    spec = {"containers": [{"name": "main", "resources": {"limits": amounts}}]}
    person.run(
        *(tool("kubectl"), "patch", "deployment", name, "--namespace", TEAM),
        *("--patch", json.dumps({"spec": {"template": {"spec": spec}}})),
    )
    assert limits(person.cluster.get("apps/v1", "Deployment", name, TEAM)) == right


@pytest.mark.parametrize("asks", [ONE, {LARGER: 1}], ids=["what was decided", "what was named since"])
def test_a_tool_that_applies_the_same_again_and_again_causes_no_rollout(person: Person, asks: Object) -> None:
    """Argo CD and Flux, with a client-side or a server-side apply, and whoever upgrades a release by a timer."""
    cluster = person.cluster
    names = {client: f"again-{client}-{len(json.dumps(asks))}" for client in CLIENTS}
    for client, name in names.items():
        CLIENTS[client](person, running(name, ONE))
        CLIENTS[client](person, running(name, asks))
    before = {name: eventually(partial(rolled_out, cluster, name)) for name in names.values()}
    until = time.monotonic() + LOOP
    while time.monotonic() < until:
        following = time.monotonic() + 2
        for client, name in names.items():
            CLIENTS[client](person, running(name, asks))
        time.sleep(max(0, following - time.monotonic()))
    for name, stood in before.items():
        assert rolled_out(cluster, name) == stood
        cluster.delete("apps/v1", "Deployment", name, TEAM)


def running(name: str, asks: Object) -> Object:
    """A Deployment with one Pod."""
    item = deployment(name, asks)
    item["spec"] |= {"replicas": 1, "strategy": {"type": "Recreate"}}
    return item


def rolled_out(cluster: AnyCluster, name: str) -> tuple[int, Object, list[str]]:
    """The generation of a Deployment, what it asks for, and its ReplicaSets, once its controller has seen it."""
    item = cluster.get("apps/v1", "Deployment", name, TEAM)
    assert item["status"]["observedGeneration"] == item["metadata"]["generation"]
    sets = cluster.list("apps/v1", "ReplicaSet", TEAM, labels=f"app={name}")
    assert sum(each["spec"]["replicas"] for each in sets) == 1
    return item["metadata"]["generation"], limits(item), sorted(each["metadata"]["name"] for each in sets)
