"""From install to uninstall on a real API server with work running, by each way that the documentation names.

One test is one life: installed from the version before, upgraded, rolled back, taken away, and nothing that people do
may fail on the way. `webhook.failurePolicy` is Fail throughout, so a call that does not get through is a creation that
fails. Helm's test has besides, in the same life, what were tests of their own: a version that does not start, and
`helm test` while the webhook is there and while it is away.

Every command is taken out of docs/install.md and docs/upgrade.md as it stands there, so a page that says something else
fails here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.harness import nodes
from e2e.harness.client import Object, Objects, eventually
from e2e.harness.cluster import AnyCluster, Cluster
from e2e.harness.installation import CHART, MANIFESTS, NAMESPACE, namespace
from e2e.harness.kwok import KEEP_RUNNING
from e2e.harness.loopback import WEBHOOK_KINDS, rewritten
from e2e.harness.release import BEFORE, NAME, REGISTRY, WEBHOOK, Release, packaged, previous
from e2e.test_webhook_rollout import JOB, SPACE, Load
from release import manifests
from slicewise import __version__
from tests.docs.pages import page
from tests.manifests.tools import tool

OWN, KUEUE = "slicewise.io/v1alpha1", "kueue.x-k8s.io/v1beta2"
SLICE, POOL = "nvidia.com/mig-1g.10gb", "h100-80gb-mig-mixed"
DEFINITIONS = {
    ("CustomResourceDefinition", f"{name}.slicewise.io") for name in ("slicingpolicies", "quotaplans")
}
VALUES: dict[str, Any] = {
    "webhook.failurePolicy": "Fail",
    # Enough for the cluster to stop sending calls; the default's twelve seconds would only be waited for.
    "webhook.drainSeconds": 5,
    # What takes longer on a machine that does much else is not what fails here.
    "webhook.timeoutSeconds": 30,
    # While it is replaced there are two all the same.
    "controller.replicas": 1,
    "controller.settle": "1s",
    "controller.holdDown": "4s",
}
# Stored while the version before is there, in the shape that it knows.
OLDER: Objects = [
    {
        "apiVersion": OWN,
        "kind": "SlicingPolicy",
        "metadata": {"name": "older"},
        "spec": {"defaultClass": "a", "classes": {"a": {"strategy": "mig", "otherwise": ["exclusive"]}}},
    },
    {
        "apiVersion": OWN,
        "kind": "QuotaPlan",
        "metadata": {"name": "older"},
        "spec": {
            "engine": "kueue",
            "queues": [{"name": "older", "share": 1, "namespaces": {"matchLabels": {"team": "older"}}}],
        },
    },
]


class Steady(Load):
    """The same at a pace that leaves a small machine time for what it is about."""

    pause = 0.2


@pytest.fixture(scope="module")
def release(programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:  # noqa: ARG001
    """Helm on a cluster of this module's own, with a node and a namespace that has opted in."""
    folder = tmp_path_factory.mktemp("release")
    with Cluster(kueue=True) as cluster, Release(cluster, folder) as found:
        nodes.add(cluster, nodes.mig_mixed("older-1", {"1g.10gb": 7}, gpus=1))
        namespace(cluster, SPACE, policy="default", workload_class="inference", queue="older", team="older")
        yield found


@pytest.fixture(autouse=True)
def _replicas(release: Release) -> Iterator[None]:
    """Says what became of the replicas when a test fails."""
    yield
    print(release.story())


def quota(cluster: AnyCluster) -> dict[str, int]:
    """What Kueue may hand out in the plan's queue."""
    groups = cluster.get(KUEUE, "ClusterQueue", "older")["spec"]["resourceGroups"]
    (flavor,) = (flavor for group in groups for flavor in group["flavors"] if flavor["name"] == POOL)
    return {each["name"]: int(each["nominalQuota"]) for each in flavor["resources"]}


def running_job(cluster: AnyCluster, name: str) -> Object:
    """A Job that runs on a slice; returns its Pod."""
    container = {"name": "main", "image": "none", "resources": {"limits": {"nvidia.com/gpu": 1}}}
    template = {
        "metadata": {"annotations": {KEEP_RUNNING: "true"}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    metadata = {"name": name, "namespace": SPACE}
    spec = {"suspend": True, "template": template}
    made = cluster.create({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})
    limits = made["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {SLICE: "1"}
    return eventually(lambda: pod_of(cluster, name), f"{name} runs")


def pod_of(cluster: AnyCluster, job: str) -> Object:
    (pod,) = cluster.list("v1", "Pod", SPACE, labels=f"batch.kubernetes.io/job-name={job}")
    assert pod["status"].get("phase") == "Running", pod["status"]
    return pod


def knows(cluster: AnyCluster, kind: str, field: str) -> bool:
    """Whether the definition that is served has a field of the spec."""
    name = f"{kind}.slicewise.io"
    (version,) = cluster.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", name)["spec"]["versions"]
    return field in version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]


def still_valid(cluster: AnyCluster) -> None:
    """What was stored is served as it was, and may be written again as it is."""
    for item in OLDER:
        path = cluster.path(OWN, item["kind"], item["metadata"]["name"])

        def written(path: str = path, spec: Object = item["spec"]) -> None:
            """Again where the controller has written its status since it was read."""
            stored = cluster.request("GET", path).body
            assert stored["spec"].items() >= spec.items()
            answer = cluster.request("PUT", path, stored, query={"dryRun": "All"})
            assert answer.status == 200, answer.message

        eventually(written, f"{item['kind']} is as it was and may be written")


def everything(cluster: AnyCluster) -> Iterator[Object]:
    """Every object of every kind that the API server lists, but events."""
    groups = cluster.request("GET", "/apis").body["groups"]
    versions = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
    for version in versions:
        answer = cluster.request("GET", version)
        if answer.status == 404:  # its last definition has gone
            continue
        assert answer.status == 200, answer.message
        for resource in answer.body["resources"]:
            if "list" not in resource["verbs"] or resource["kind"] in {"Event", "ComponentStatus"}:
                continue
            for item in collection(cluster, f"{version}/{resource['name']}"):
                yield {"kind": resource["kind"], **item}


def collection(cluster: AnyCluster, path: str) -> list[Object]:
    """The items of a collection; of a kind that is new, once the API server has filled its cache."""

    def read() -> Object:
        answer = cluster.request("GET", path)
        if answer.status == 404:  # it has gone since it was listed
            return {"items": []}
        assert answer.status == 200, answer.message
        body: Object = answer.body
        return body

    return eventually(read, f"{path} is served")["items"] or []


def going(cluster: AnyCluster) -> list[str]:
    """What was deleted and is not gone yet."""
    return [
        item["metadata"]["name"] for item in everything(cluster) if "deletionTimestamp" in item["metadata"]
    ]


def ours(cluster: AnyCluster) -> set[tuple[str, str]]:
    """What is of the release: by its label, by Helm's, or by standing in its namespace."""
    found = set()
    for item in everything(cluster):
        metadata = item["metadata"]
        labels = metadata.get("labels", {})
        if (
            labels.get("app.kubernetes.io/name") == "slicewise"
            or labels.get("owner") == "helm"
            or metadata.get("namespace") == NAMESPACE
        ):
            found.add((item["kind"], metadata["name"]))
    return found


def queues(cluster: AnyCluster) -> dict[tuple[str, str], Object]:
    """The spec of each of Kueue's objects that the controller made."""
    found = {}
    for kind in ("ClusterQueue", "LocalQueue", "ResourceFlavor"):
        for item in cluster.list(KUEUE, kind):
            found[kind, item["metadata"]["name"]] = item["spec"]
            kept = [*item["metadata"].get("finalizers", ()), *item["metadata"].get("ownerReferences", ())]
            assert "slicewise" not in str(kept), kept
    return found


def documented(name: str, begins: str) -> list[str]:
    """The words of a page's one command that begins so, in a block or in a sentence."""
    found = set(re.findall(rf"(?:^\$ |^|`)({re.escape(begins)}[^`\n]*)", page(name).text, re.MULTILINE))
    assert len(found) == 1, f"{name} says {found or 'nothing'} that begins with {begins}"
    return str(*found).split()


def images(cluster: AnyCluster) -> set[str]:
    """What the Deployments run."""
    found = cluster.list("apps/v1", "Deployment", NAMESPACE)
    return {each["spec"]["template"]["spec"]["containers"][0]["image"] for each in found}


def at_work(cluster: AnyCluster, job: str) -> Object:
    """Stores policy and plan, and runs a Job in the queue; returns its Pod."""
    cluster.apply(OLDER)
    eventually(lambda: quota(cluster) == {SLICE: 7}, "the quota says what the node offers")
    eventually(lambda: cluster.try_create(JOB, dry_run=True).status == 201, "the webhook is trusted")
    return running_job(cluster, job)


def is_of(cluster: AnyCluster, version: str) -> None:
    """The version is installed, from the reader's registry, and what was stored and counted is as before."""
    assert images(cluster) == {f"{REGISTRY}:{version}"}
    for kind, field in (("slicingpolicies", "whenNothingFits"), ("quotaplans", "cohort")):
        assert knows(cluster, kind, field) is (version == __version__)
    still_valid(cluster)
    assert quota(cluster) == {SLICE: 7}


def nothing_is_left(
    cluster: AnyCluster, kept: dict[tuple[str, str], Object], *others: tuple[str, str]
) -> None:
    """Nothing but the definitions, what was stored under them, and the queues with their numbers."""
    eventually(lambda: ours(cluster) == {*DEFINITIONS, *others}, "nothing else is left")
    assert queues(cluster) == kept
    assert ("ClusterQueue", "older") in kept
    still_valid(cluster)


def definitions_go(cluster: AnyCluster, kept: dict[tuple[str, str], Object]) -> None:
    """With them go all policies and plans, and no queue."""
    for kind, name in DEFINITIONS:
        cluster.delete("apiextensions.k8s.io/v1", kind, name, wait=True)
    assert queues(cluster) == kept


def helm(release: Release, *command: str, chart: Path | None = None) -> str:
    """A documented command, with the packaged chart in place of the tree's; waits until all is ready."""
    words = [str(chart) if word == "charts/slicewise" else word for word in command]
    assert words[0] == "helm"
    return release.helm(*words[1:], "--wait", "--timeout", "90s")


def test_the_packaged_chart_from_install_to_uninstall(release: Release, tmp_path: Path) -> None:
    cluster = release.cluster
    before, current = packaged(previous(tmp_path), tmp_path), packaged(CHART, tmp_path)
    install = documented("install.md", "helm install slicewise charts/slicewise")
    helm(release, *install, *release.loopback, *release.given(VALUES), chart=before)
    pod = at_work(cluster, "through-upgrades")
    is_of(cluster, BEFORE)
    upgrade = documented("upgrade.md", "helm upgrade slicewise charts/slicewise")
    with Steady(cluster) as load:
        helm(release, *upgrade, *release.loopback, chart=current)
        is_of(cluster, __version__)
        helm(release, *documented("upgrade.md", "helm rollback"), NAME)
        is_of(cluster, BEFORE)
        a_version_that_does_not_start_takes_nothing_down(release, upgrade, current, load)
        helm(release, "helm", "rollback", NAME, "2")
        is_of(cluster, __version__)
        eventually(partial(load.reaches, 100), "the load was one")
    assert load.failures == []
    helm_test_tells_whether_the_webhook_is_reached(release)
    what_would_stay_is_said(cluster)

    kept = queues(cluster)
    assert {kind for kind, _ in ours(cluster)} >= {"Secret", "Lease", "Deployment", *WEBHOOK_KINDS}
    with Steady(cluster) as load:
        uninstall = documented("upgrade.md", "helm uninstall slicewise")
        said = release.try_helm(*uninstall[1:], "--wait", "--timeout", "60s", "--debug")
        assert said.returncode == 0, said.stderr
        eventually(lambda: not release.pods.kubelet.pods(), "every replica has ended")
    assert load.failures == []
    found = set(re.findall(r'deleting resource owned by this release" kind=(\w+)', said.stderr))
    assert "Deployment" in found, said.stderr
    assert not found & set(WEBHOOK_KINDS), "the hook took them away before anything else went"
    assert pod_of(cluster, "through-upgrades")["metadata"]["uid"] == pod["metadata"]["uid"]
    nothing_is_left(cluster, kept, ("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt"))
    cluster.delete("batch/v1", "Job", "through-upgrades", SPACE)
    cluster.delete("v1", "Namespace", NAMESPACE, wait=True)
    definitions_go(cluster, kept)
    eventually(lambda: not going(cluster), "nothing is stuck on its way out")


def a_version_that_does_not_start_takes_nothing_down(
    release: Release, upgrade: list[str], chart: Path, load: Load
) -> None:
    words = [str(chart) if word == "charts/slicewise" else word for word in upgrade[1:]]
    broken = ("--set", "image.tag=missing", "--wait", "--timeout", "5s")
    assert release.try_helm(*words, *release.loopback, *broken).returncode != 0
    enough = load.done + 20
    eventually(lambda: load.done > enough, "work flows on")


def helm_test_tells_whether_the_webhook_is_reached(release: Release) -> None:
    release.helm("test", NAME, "--timeout", "60s")
    assert release.cluster.find("v1", "Pod", "slicewise-test", NAMESPACE) is None
    release.pods.kill(WEBHOOK)
    try:
        assert release.try_helm("test", NAME, "--timeout", "60s").returncode != 0
        assert "failed calling webhook" in (release.folder / "slicewise-test.log").read_text()
        assert release.cluster.find("v1", "Pod", "slicewise-test", NAMESPACE) is None
    finally:
        release.pods.release(WEBHOOK)
        eventually(lambda: release.pods.ready(WEBHOOK) == 2, "the replicas are back")


def what_would_stay_is_said(cluster: AnyCluster) -> None:
    command = documented("upgrade.md", "slicewise uninstall --check")
    said = subprocess.run(
        [sys.executable, "-m", *command, "--kubeconfig", str(cluster.kubeconfig)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 1, said.stderr
    assert "QuotaPlan older\n  deletionPolicy Retain: it stays" in said.stdout


class Files:
    """A folder with what a reader has: `crds.yaml` and `install.yaml` of a release, the tree's base, and an overlay."""

    def __init__(self, release: Release, chart: Path, folder: Path) -> None:
        self.cluster, self.folder = release.cluster, folder
        values = {**VALUES, **release.pods.values}
        found = {
            path: yaml.safe_dump_all(
                rewritten(list(yaml.safe_load_all(text)), release.host, release.port), sort_keys=False
            )
            for path, text in manifests.rendered(chart, values).items()
        }
        bases = (file.relative_to(MANIFESTS) for file in MANIFESTS.rglob("kustomization.yaml"))
        overlay = next(
            block.text
            for block in page("install.md").blocks("yaml")
            if "overlay/kustomization.yaml" in block.text
        )
        of_release = {
            path: text.replace("image: slicewise:", f"image: {REGISTRY}:") for path, text in found.items()
        }
        for path, text in {
            **{f"manifests/{path}": text for path, text in found.items()},
            **{f"manifests/{path}": (MANIFESTS / path).read_text() for path in bases},
            "overlay/kustomization.yaml": overlay,
            "crds.yaml": manifests.definitions(of_release),
            "install.yaml": manifests.installed(of_release),
        }.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)

    def kubectl(self, *command: str) -> None:
        """Runs a documented command in the folder; nothing may be left to complain about."""
        assert command[0] == "kubectl"
        own = {"KUBECONFIG": str(self.cluster.kubeconfig), "KUBECACHEDIR": str(self.folder / "cache")}
        done = subprocess.run(
            [tool("kubectl"), *command[1:]],
            cwd=self.folder,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), f"{' '.join(command)}: {done.stderr}"

    def apply(self, *commands: list[str]) -> None:
        """Installs, or upgrades; returns once every replica is of it and ready."""
        for command in commands:
            self.kubectl(*command)
        eventually(self._rolled_out, "both servers run as the files say")

    def _rolled_out(self) -> bool:
        for deployment in self.cluster.list("apps/v1", "Deployment", NAMESPACE):
            status, wanted = deployment["status"], deployment["spec"]["replicas"]
            counts = {status.get(key) for key in ("replicas", "updatedReplicas", "readyReplicas")}
            seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
            if not seen or counts != {wanted}:
                return False
        return True


CONFIGURATIONS_GO = "kubectl delete mutatingwebhookconfiguration,validatingwebhookconfiguration"
THE_REST_GOES = "kubectl delete --ignore-not-found -k overlay/"


def test_the_files_of_a_release_from_install_to_uninstall(release: Release, tmp_path: Path) -> None:
    cluster = release.cluster
    before = Files(release, previous(tmp_path), tmp_path / "before")
    current = Files(release, CHART, tmp_path / "current")
    install = documented("install.md", "kubectl apply --server-side -f crds.yaml")
    upgrade = documented("upgrade.md", "kubectl apply --server-side -f crds.yaml")
    before.apply(install)
    pod = at_work(cluster, "through-files")
    with Steady(cluster) as load:
        current.apply(upgrade)
        is_of(cluster, __version__)
        before.apply(upgrade)  # "the older files"
        is_of(cluster, BEFORE)
        kept = queues(cluster)
        before.kubectl(*documented("upgrade.md", CONFIGURATIONS_GO))
        rest = " ".join(documented("upgrade.md", THE_REST_GOES))
        before.kubectl(*rest.replace("-k overlay/", "-f install.yaml").split())
        eventually(lambda: not release.pods.kubelet.pods(), "every replica has ended")
        eventually(partial(load.reaches, 100), "the load was one")
    assert load.failures == []
    assert pod_of(cluster, "through-files")["metadata"]["uid"] == pod["metadata"]["uid"]
    nothing_is_left(cluster, kept)
    definitions_go(cluster, kept)
    cluster.delete("batch/v1", "Job", "through-files", SPACE)


def test_an_overlay_from_install_to_uninstall(release: Release, tmp_path: Path) -> None:
    cluster, files = release.cluster, Files(release, CHART, tmp_path)
    definitions, rest = (
        "kubectl apply --server-side -k manifests/crds",
        "kubectl apply --server-side -k overlay/",
    )
    files.apply(documented("install.md", definitions), documented("install.md", rest))
    pod = at_work(cluster, "through-an-overlay")
    with Steady(cluster) as load:
        files.apply(documented("upgrade.md", definitions), documented("upgrade.md", rest))
        is_of(cluster, __version__)
        kept = queues(cluster)
        files.kubectl(*documented("upgrade.md", CONFIGURATIONS_GO))
        files.kubectl(*documented("upgrade.md", THE_REST_GOES))
    assert load.failures == []
    assert pod_of(cluster, "through-an-overlay")["metadata"]["uid"] == pod["metadata"]["uid"]
    nothing_is_left(cluster, kept)
    for everything_of in ("kubectl delete -k", "kubectl label nodes --all", "kubectl annotate nodes --all"):
        files.kubectl(*documented("upgrade.md", everything_of))
    written = [
        key
        for node in cluster.list("v1", "Node")
        for kind in ("labels", "annotations")
        for key in node["metadata"].get(kind, ())
        if key.startswith("slicewise.io/")
    ]
    assert written == []
    eventually(lambda: ours(cluster) == set(), "nothing of it is left")
    assert queues(cluster) == kept
    cluster.delete("batch/v1", "Job", "through-an-overlay", SPACE)
