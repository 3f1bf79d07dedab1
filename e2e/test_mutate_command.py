"""What the command says of a manifest beforehand is what the API server then says of it and stores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from admission.decision.cluster_state import ClusterState
from admission.workloads.decoder import Templates
from e2e.harness import nodes
from e2e.harness.client import Object
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import Installation, namespace
from slicewise.api import keys
from slicewise.api.errors import BadInput
from slicewise.cli.mutate import review
from slicewise.cli.webhook_inputs import world
from slicewise.kube.snapshot import collect, read_text
from tests.manifests.tools import tool

GPU: Final = "nvidia.com/gpu"
SLICE, LARGER = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-2g.20gb"
TEAM, AUDIT, OTHER = "team-mutate", "team-mutate-audit", "team-mutate-volcano"


@pytest.fixture(scope="module")
def cluster(installation: Installation) -> Iterator[AnyCluster]:
    """Slicewise installed, with slices, shares, whole boards, and namespaces that queue in one engine or the other."""
    found = installation.cluster
    boards = (
        nodes.mig_mixed("mutate-mig", {"1g.10gb": 3, "2g.20gb": 2}, gpus=1),
        nodes.exclusive("mutate-whole"),
    )
    nodes.add(found, *boards)
    labels = {"policy": "default", "workload_class": "inference"}
    namespace(found, TEAM, **labels, engine="kueue", queue="theirs")
    namespace(found, AUDIT, **labels, mode="audit", engine="kueue", queue="theirs")
    namespace(found, OTHER, **labels, engine="volcano", queue="theirs")
    probe = pod(container())
    installation.whoever_is_asked(
        lambda: SLICE in json.dumps(found.create(probe, dry_run=True)), "the slices are known"
    )
    yield found
    for space in (TEAM, AUDIT, OTHER):
        found.delete("v1", "Namespace", space)
    nodes.remove(found, "mutate-mig", "mutate-whole")


@pytest.fixture(scope="module")
def known(cluster: AnyCluster) -> ClusterState:
    """The cluster as `slicewise snapshot` writes it down."""
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    command = [sys.executable, "-m", "slicewise", "snapshot"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return world(collect(read_text("snapshot", done.stdout)))


def container(asks: Object | int | str = 1, name: str = "main") -> Object:
    """A container that asks for so many GPUs, or for these amounts."""
    limits = asks if isinstance(asks, dict) else {GPU: asks}
    return {"name": name, "image": "none", "resources": {"limits": limits}}


def pod(*containers: Object, space: str = TEAM, metadata: Object | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "mutate", "namespace": space, **(metadata or {})},
        "spec": {"containers": [*(containers or [container()])], **spec},
    }


def deployment(
    *containers: Object,
    kind: str = "Deployment",
    space: str = TEAM,
    metadata: Object | None = None,
    template: Object | None = None,
    **spec: Any,
) -> Object:
    body: Object = {
        "selector": {"matchLabels": {"app": "mutate"}},
        "template": {
            "metadata": {
                **(template or {}),
                "labels": {"app": "mutate", **(template or {}).get("labels", {})},
            },
            "spec": {"containers": [*(containers or [container()])], **spec},
        },
    }
    whole = {"name": "mutate", "namespace": space, **(metadata or {})}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": whole, "spec": body}


def labels(**said: str) -> Object:
    return {"labels": {f"slicewise.io/{key.replace('_', '-')}": value for key, value in said.items()}}


def notes(**said: str) -> Object:
    return {"annotations": {f"slicewise.io/{key.replace('_', '-')}": value for key, value in said.items()}}


WIDE: Final = {"kubernetes.io/os": "linux"}
MANIFESTS: Final[dict[str, Object]] = {
    "a pod": pod(),
    "whole boards": deployment(container(2), metadata=labels(workload_class="training")),
    "no GPU": pod({"name": "main", "image": "none"}),
    "one for each of many": deployment(*(container(name=f"the-container-{number}") for number in range(12))),
    "one pod per node, and a selector that is wider than the pool": deployment(
        kind="DaemonSet", nodeSelector=WIDE
    ),
    "zeros beside a GPU": deployment(container(), container("0", "zero"), container({SLICE: 0}, "slice")),
    "zeros alone": deployment(container(0)),
    "an init container and a sidecar": deployment(
        container(),
        initContainers=[container(name="first"), {**container(name="beside"), "restartPolicy": "Always"}],
    ),
    "pinned to what its class does not get": pod(
        nodeName="mutate-mig", metadata=labels(workload_class="training")
    ),
    "pinned to a node that it rules out": pod(nodeName="mutate-mig", nodeSelector={"nowhere": "true"}),
    "pinned to no node of ours": pod(nodeName="elsewhere"),
    "both names": pod(container({GPU: 1, LARGER: 1})),
    "too many shares": pod(container(3), metadata=labels(workload_class="notebook")),
    "more than a node has": pod(container(9), metadata=labels(workload_class="training")),
    "a slice that nobody offers": pod(container({"nvidia.com/mig-7g.80gb": 1})),
    "a name that is nearly one": pod(container({"nvidia.com/gpus": 1})),
    "an unknown class": pod(metadata=labels(workload_class="inferense")),
    "a memory without a unit": pod(metadata=notes(gpu_memory="16")),
    "more memory than any": pod(metadata=notes(gpu_memory="400Gi")),
    "a profile": pod(metadata=notes(profile="2g.20gb")),
    "opted out": pod(metadata=notes(rewrite="false")),
    "a word for opting out that is none": pod(metadata=notes(rewrite="no")),
    "a class as an annotation": deployment(metadata=notes(workload_class="training")),
    "a memory as a label": deployment(metadata=labels(gpu_memory="16Gi")),
    "a misspelt key": deployment(template=labels(workloadclass="training")),
    "a key under another prefix": pod(metadata={"labels": {"slicewise/workload-class": "training"}}),
    "a namespace's key": pod(metadata=labels(queue="mine")),
    "a forged decision": pod(metadata=notes(decision='{"policy": [], "containers": 7}')),
    "another engine's queue": deployment(template={"annotations": {keys.VOLCANO_QUEUE: "default"}}),
    "another engine's scheduler": pod(schedulerName="volcano"),
    "Kueue's queue where Volcano queues": deployment(
        space=OTHER, metadata={"labels": {keys.KUEUE_QUEUE: "own"}}
    ),
    "both engines": pod(metadata={"labels": {keys.KUEUE_QUEUE: "own"}}, schedulerName="volcano"),
    "audit": deployment(space=AUDIT),
    "audit of many": deployment(*(container(name=f"the-container-{n}") for n in range(12)), space=AUDIT),
    "audit of what would be refused": deployment(
        container(3, "c" * 60), space=AUDIT, metadata=labels(workload_class="notebook")
    ),
    "a variable that shows devices": pod(
        {**container(), "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]}
    ),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_command_says_what_the_api_server_then_does(
    cluster: AnyCluster, known: ClusterState, name: str
) -> None:
    item = MANIFESTS[name]
    told = review(item, TEAM, known, Templates())
    done = cluster.try_create(item, dry_run=True)
    if told.refusal:
        assert told.refusal in done.message
    else:
        assert done.status == 201, done.message
        said = [each for each in done.warnings if each.startswith("audit: ") or f" {TEAM}" in each]
        assert said == told.outcome.warnings
        assert ours(done.body) == ours(told.item)


def ours(item: Object) -> Object:
    """What the webhook may have written: what each container asks for and is shown, and what stands around them."""
    pods = item["spec"] if item["kind"] == "Pod" else item["spec"]["template"]["spec"]
    every = [*pods["containers"], *(pods.get("initContainers") or ())]
    own = item["metadata"]
    return {
        "asks": {each["name"]: amounts(each.get("resources") or {}) for each in every},
        "shown": {each["name"]: each.get("env") for each in every},
        "affinity": pods.get("affinity"),
        "tolerations": [
            each for each in pods.get("tolerations") or () if "node.kubernetes.io" not in each["key"]
        ],
        "scheduler": pods.get("schedulerName") or "default-scheduler",
        "labels": {
            key: value
            for key, value in (own.get("labels") or {}).items()
            if key != "kueue.x-k8s.io/managed"  # Kueue's webhook adds it where its pod integration is on
        },
        "decision": (own.get("annotations") or {}).get(keys.DECISION),
    }


def amounts(resources: Object) -> Object:
    found = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
    return {key: str(value or 0) for key, value in found.items() if key.startswith(keys.VENDOR)}


# An amount as it stands in a file.
WRITTEN: Final = (
    *(
        "1",
        '"1"',
        "null",
        "~",
        "",
        "0",
        "01",
        "0x1",
        "0o1",
        "0b1",
        "1.0",
        "1e0",
        "1_0",
        "+1",
        "1k",
        "0.5",
        "-1",
    ),
    *(
        "on",
        "y",
        "08",
        "1e1",
        '"one"',
        "1:00",
        "[1]",
        "{a: 1}",
        "!!str 1",
        '!!int "1"',
        ".inf",
        "1000m",
        "999m",
    ),
)


@pytest.mark.parametrize("written", WRITTEN)
def test_a_file_is_read_as_kubectl_and_the_api_server_read_it(
    cluster: AnyCluster, known: ClusterState, tmp_path: Path, written: str
) -> None:
    text = f"""
apiVersion: v1
kind: Pod
metadata: {{name: mutate, namespace: {TEAM}}}
spec:
  containers:
  - name: main
    image: none
    resources:
      limits:
        {GPU}: {written}
"""
    path = tmp_path / "pod.yaml"
    path.write_text(text)
    kubectl = [tool("kubectl"), "create", "-f", str(path), "--dry-run=server", "-o", "json"]
    environment = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    done = subprocess.run(kubectl, capture_output=True, text=True, check=False, env=environment)
    try:
        (document,) = read_text("pod.yaml", text)
    except BadInput:
        assert done.returncode, "kubectl reads it"
        return
    told = review(document.value, TEAM, known, Templates())
    if done.returncode:
        assert told.refusal or told.outcome.warnings, "the API server takes it of nobody"
        assert told.refusal in done.stderr
    else:
        assert (told.refusal, told.outcome.warnings) == ("", [])
        assert ours(told.item) == ours(json.loads(done.stdout))
