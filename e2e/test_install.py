"""The life of a release on a real API server with work running, by Helm and by its files: nothing people do may fail.

Install, upgrade from the version before, roll back, a version that does not start, uninstall.
`webhook.failurePolicy` is Fail throughout, so a call that does not get through is a creation that fails. Each test
brings the release to where it needs it, so each may run alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.harness import nodes
from e2e.harness.client import Object, Objects, eventually
from e2e.harness.cluster import AnyCluster, Cluster
from e2e.harness.installation import CHART, NAMESPACE, WEBHOOK_KINDS, namespace
from e2e.harness.kwok import KEEP_RUNNING
from e2e.harness.release import NAME, WEBHOOK, Release, previous, rewritten
from e2e.test_webhook_rollout import JOB, SPACE, Load
from release import manifests

OWN, KUEUE = "slicewise.io/v1alpha1", "kueue.x-k8s.io/v1beta2"
SLICE, POOL = "nvidia.com/mig-1g.10gb", "h100-80gb-mig-mixed"
VALUES: dict[str, Any] = {
    "webhook.failurePolicy": "Fail",
    # Enough for the cluster to stop sending calls; the default's twelve seconds would only be waited for.
    "webhook.drainSeconds": 2,
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

    def _create(self) -> None:
        while not self._stopping.wait(0.05):
            answer = self._cluster.try_create(JOB, dry_run=True)
            self.done += 1
            if answer.status != 201:
                self.failures.append(answer.message)


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


@pytest.fixture
def before(release: Release, tmp_path: Path) -> Release:
    """The version before, and what was stored and works with it."""
    return at_work(release, previous(tmp_path))


@pytest.fixture
def current(release: Release) -> Release:
    """The chart as it is, with the same."""
    return at_work(release, CHART)


def at_work(release: Release, chart: Path) -> Release:
    """The release at a version, its queue filled."""
    release.upgrade(VALUES, chart)
    release.cluster.apply(OLDER)
    eventually(lambda: quota(release.cluster) == {SLICE: 7}, "the quota says what the node offers")
    return release


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
        stored = cluster.get(OWN, item["kind"], item["metadata"]["name"])
        assert stored["spec"].items() >= item["spec"].items()
        path = cluster.path(OWN, item["kind"], item["metadata"]["name"])
        answer = cluster.request("PUT", path, stored, query={"dryRun": "All"})
        assert answer.status == 200, answer.message


def test_upgrade_and_rollback_with_work_running(before: Release) -> None:
    cluster = before.cluster
    assert not knows(cluster, "slicingpolicies", "whenNothingFits")
    pod = running_job(cluster, "through-upgrades")
    revision = before.helm("history", NAME, "--max", "1", "-o", "yaml").partition("revision: ")[2].split()[0]
    with Steady(cluster) as load:
        before.upgrade(VALUES)
        assert knows(cluster, "slicingpolicies", "whenNothingFits")
        assert knows(cluster, "quotaplans", "cohort")
        still_valid(cluster)
        assert quota(cluster) == {SLICE: 7}
        before.helm("rollback", NAME, revision, "--wait", "--timeout", "90s")
        assert not knows(cluster, "slicingpolicies", "whenNothingFits")
        still_valid(cluster)
    assert load.failures == []
    assert load.done > 100
    assert pod_of(cluster, "through-upgrades")["metadata"]["uid"] == pod["metadata"]["uid"]
    assert quota(cluster) == {SLICE: 7}
    cluster.delete("batch/v1", "Job", "through-upgrades", SPACE)


def test_a_version_that_does_not_start_takes_nothing_down(current: Release) -> None:
    chart, cluster = str(CHART), current.cluster
    with Steady(cluster) as load:
        broken = ("--reset-then-reuse-values", "--set", "image.tag=missing", "--wait", "--timeout", "5s")
        failed = current.try_helm("upgrade", NAME, chart, "--post-renderer", "loopback", *broken)
        assert failed.returncode != 0
        enough = load.done + 20
        eventually(lambda: load.done > enough, "work flows on")
        current.helm("rollback", NAME, "--wait", "--timeout", "90s")
    assert load.failures == []
    assert current.pods.ready(WEBHOOK) == 2


def test_helm_test_tells_whether_the_webhook_is_reached(current: Release) -> None:
    current.helm("test", NAME, "--timeout", "60s")
    assert current.cluster.find("v1", "Pod", "slicewise-test", NAMESPACE) is None
    current.pods.kill(WEBHOOK)
    try:
        assert current.try_helm("test", NAME, "--timeout", "60s").returncode != 0
        assert "failed calling webhook" in (current.folder / "slicewise-test.log").read_text()
        assert current.cluster.find("v1", "Pod", "slicewise-test", NAMESPACE) is None
    finally:
        current.pods.release(WEBHOOK)
        eventually(lambda: current.pods.ready(WEBHOOK) == 2, "the replicas are back")


def everything(cluster: AnyCluster) -> Iterator[Object]:
    """Every object of every kind that the API server lists, but events."""
    groups = cluster.request("GET", "/apis").body["groups"]
    versions = ["/api/v1", *(f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups)]
    for version in versions:
        for resource in cluster.request("GET", version).body["resources"]:
            if "list" not in resource["verbs"] or resource["kind"] in {"Event", "ComponentStatus"}:
                continue
            for item in collection(cluster, f"{version}/{resource['name']}"):
                yield {"kind": resource["kind"], **item}


def collection(cluster: AnyCluster, path: str) -> list[Object]:
    """The items of a collection; of a kind that is new, once the API server has filled its cache."""

    def read() -> Object:
        answer = cluster.request("GET", path)
        assert answer.status == 200, answer.message
        body: Object = answer.body
        return body

    return eventually(read, f"{path} is served")["items"] or []


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


def test_uninstall_leaves_queues_and_definitions_and_nothing_else(current: Release) -> None:
    cluster, kept = current.cluster, queues(current.cluster)
    assert ("ClusterQueue", "older") in kept
    assert {kind for kind, _ in ours(cluster)} >= {"Secret", "Lease", "Deployment", *WEBHOOK_KINDS}
    with Steady(cluster) as load:
        said = current.try_helm("uninstall", NAME, "--wait", "--timeout", "60s", "--debug")
        assert said.returncode == 0, said.stderr
        eventually(lambda: not current.pods.kubelet.pods(), "every replica has ended")
    assert load.failures == []
    found = set(re.findall(r'deleting resource owned by this release" kind=(\w+)', said.stderr))
    assert "Deployment" in found, said.stderr
    assert not found & set(WEBHOOK_KINDS), "the hook took them away before anything else went"

    definitions = {
        ("CustomResourceDefinition", f"{name}.slicewise.io") for name in ("slicingpolicies", "quotaplans")
    }
    of_every_namespace = {("ServiceAccount", "default"), ("ConfigMap", "kube-root-ca.crt")}
    eventually(lambda: ours(cluster) == definitions | of_every_namespace, "nothing else is left")
    assert queues(cluster) == kept
    still_valid(cluster)

    for kind, name in definitions:
        cluster.delete("apiextensions.k8s.io/v1", kind, name, wait=True)
    cluster.delete("v1", "Namespace", NAMESPACE, wait=True)
    assert queues(cluster) == kept
    stuck = [item for item in everything(cluster) if "deletionTimestamp" in item["metadata"]]
    assert stuck == []


class Files:
    """`crds.yaml` and `install.yaml` as a release of a chart has them, used with the commands of docs/upgrade.md."""

    def __init__(self, release: Release, chart: Path) -> None:
        self.cluster, self.pods = release.cluster, release.pods
        files = manifests.rendered(chart, {**VALUES, **release.pods.values})
        self.definitions: Objects = list(yaml.safe_load_all(manifests.definitions(files)))
        objects = list(yaml.safe_load_all(manifests.installed(files)))
        self.objects: Objects = rewritten(objects, release.host, release.port)

    def apply(self) -> None:
        """`kubectl apply --server-side -f crds.yaml -f install.yaml`; returns once every replica is of it and ready."""
        self.cluster.apply([*self.definitions, *self.objects], manager="kubectl", force=False)
        eventually(self._rolled_out, "both servers run as the files say")

    def _rolled_out(self) -> bool:
        for deployment in self.cluster.list("apps/v1", "Deployment", NAMESPACE):
            status, wanted = deployment["status"], deployment["spec"]["replicas"]
            counts = {status.get(key) for key in ("replicas", "updatedReplicas", "readyReplicas")}
            seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
            if not seen or counts != {wanted}:
                return False
        return True

    def delete(self) -> None:
        """`kubectl delete mutatingwebhookconfiguration,validatingwebhookconfiguration …`, then `-f install.yaml`."""
        for kind in WEBHOOK_KINDS:
            self._delete(next(item for item in self.objects if item["kind"] == kind))
        for item in reversed(self.objects):
            self._delete(item)

    def _delete(self, item: Object) -> None:
        metadata = item["metadata"]
        self.cluster.delete(item["apiVersion"], item["kind"], metadata["name"], metadata.get("namespace"))


def test_the_files_of_a_release_live_as_long_and_leave_as_little(release: Release, tmp_path: Path) -> None:
    cluster = release.cluster
    if release.try_helm("status", NAME).returncode == 0:
        release.helm("uninstall", NAME, "--wait", "--timeout", "60s")
        cluster.delete("v1", "Namespace", NAMESPACE, wait=True)
    before, current = Files(release, previous(tmp_path)), Files(release, CHART)
    before.apply()
    cluster.apply(OLDER)
    eventually(lambda: quota(cluster) == {SLICE: 7}, "the quota says what the node offers")
    eventually(lambda: cluster.try_create(JOB, dry_run=True).status == 201, "the webhook is trusted")
    pod = running_job(cluster, "through-files")
    with Steady(cluster) as load:
        current.apply()
        assert knows(cluster, "quotaplans", "cohort")
        still_valid(cluster)
        before.apply()
        assert not knows(cluster, "quotaplans", "cohort")
        still_valid(cluster)
        assert quota(cluster) == {SLICE: 7}
        kept = queues(cluster)
        before.delete()
        eventually(lambda: not release.pods.kubelet.pods(), "every replica has ended")
    assert load.failures == []
    assert load.done > 100
    assert pod_of(cluster, "through-files")["metadata"]["uid"] == pod["metadata"]["uid"]
    definitions = {
        ("CustomResourceDefinition", f"{name}.slicewise.io") for name in ("slicingpolicies", "quotaplans")
    }
    eventually(lambda: ours(cluster) == definitions, "nothing else is left")
    assert queues(cluster) == kept
    still_valid(cluster)
    cluster.delete("batch/v1", "Job", "through-files", SPACE)
