"""The main job: a request for "a GPU" is rewritten, charged to a quota that came from nodes, admitted and run."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.harness import nodes
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import CONFIGURATION, Installation, decision, namespace
from e2e.harness.kueue import forget_plan
from e2e.harness.kwok import KEEP_RUNNING

KUEUE = "kueue.x-k8s.io/v1beta2"
GPU = "nvidia.com/gpu"
SLICE = "nvidia.com/mig-1g.10gb"
TEAM, PLAIN = "team-main", "team-plain"
CLASSES = {
    "inference": (SLICE, "h100-80gb-mig-mixed"),
    "notebook": (GPU, "t4-time-slicing-x10"),
    "batch-inference": (GPU, "l4-mps-x8"),
    "training": (GPU, "h100-80gb-exclusive"),
    "tuning": (GPU, "t4-time-slicing-x10"),
}


@pytest.fixture(scope="module")
def slicewise(installation: Installation) -> Iterator[Installation]:
    """Slicewise and all that the main job needs."""
    with main_job(installation.cluster):
        yield installation


@contextmanager
def main_job(cluster: AnyCluster) -> Iterator[None]:
    """A node of each kind, a plan, one namespace that has opted in and one that has not."""
    namespace(cluster, TEAM, policy="default", queue="main", team="main")
    namespace(cluster, PLAIN, team="main")
    members = [
        nodes.mig_mixed("main-mig", {"1g.10gb": 7}, gpus=1),
        nodes.time_slicing("main-ts", 10),
        nodes.mps("main-mps", 8),
        nodes.exclusive("main-whole"),
    ]
    nodes.add(cluster, *members)
    queue = {"name": "main", "share": 1, "namespaces": {"matchLabels": {"team": "main"}}}
    cluster.apply(
        {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "QuotaPlan",
            "metadata": {"name": "main"},
            "spec": {"engine": "kueue", "queues": [queue]},
        }
    )
    eventually(
        lambda: quota(cluster, "h100-80gb-mig-mixed", SLICE) == 7, "the quota says what the node offers"
    )
    eventually(lambda: is_active(cluster), "the ClusterQueue is active")
    yield
    forget_plan(cluster, "main")
    nodes.remove(cluster, *(node.name for node in members))


def quota(cluster: AnyCluster, flavor: str, resource: str, queue: str = "main") -> int:
    """The nominalQuota that stands for a flavor and a resource."""
    groups = cluster.get(KUEUE, "ClusterQueue", queue)["spec"]["resourceGroups"]
    for group in groups:
        for each in group["flavors"]:
            for found in each["resources"]:
                if (each["name"], found["name"]) == (flavor, resource):
                    return int(found["nominalQuota"])
    raise LookupError(f"{queue} has no quota of {resource} in {flavor}")


def decided(cluster: AnyCluster, item: Object, *pools: str) -> Object:
    """Creates a Job once the webhook gives it these pools: a replica hears of nodes and plans by its own watches."""

    def known() -> Object:
        for _ in range(4):
            assert decision(cluster.create(item, dry_run=True))["pools"] == list(pools)
        return cluster.create(item)

    return eventually(known, f"{item['metadata']['name']} gets {' or '.join(pools)}")


def is_active(cluster: AnyCluster, queue: str = "main") -> bool:
    """Whether Kueue uses the queue."""
    conditions = cluster.get(KUEUE, "ClusterQueue", queue)["status"]["conditions"]
    return any(c["type"] == "Active" and c["status"] == "True" for c in conditions)


def job(name: str, space: str, gpus: object = 1, **labels: str) -> Object:
    """A Job that asks for GPUs in its limits and keeps running."""
    container = {"name": "main", "image": "none", "resources": {"limits": {GPU: gpus}}}
    template = {
        "metadata": {"annotations": {KEEP_RUNNING: "true"}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": space, "labels": labels},
        "spec": {"template": template, "suspend": True},
    }


def of_class(name: str) -> dict[str, str]:
    return {"slicewise.io/workload-class": name}


def pod_of(cluster: AnyCluster, space: str, name: str) -> Object:
    """The only pod of a Job, once it runs."""
    (pod,) = cluster.list("v1", "Pod", space, labels=f"batch.kubernetes.io/job-name={name}")
    assert pod["status"].get("phase") == "Running", pod["status"]
    return pod


def workload_of(cluster: AnyCluster, space: str, name: str) -> Object:
    """Kueue's Workload for a Job."""
    found = [
        w
        for w in cluster.list(KUEUE, "Workload", space)
        if w["metadata"]["ownerReferences"][0]["name"] == name
    ]
    return found[0]


@pytest.mark.parametrize("workload_class", CLASSES)
def test_each_class_runs_on_what_its_policy_names(slicewise: Installation, workload_class: str) -> None:
    runs_on_what_its_policy_names(slicewise, workload_class)


def runs_on_what_its_policy_names(slicewise: Installation, workload_class: str) -> None:
    """A Job of the class is rewritten, admitted, charged and run."""
    cluster, name = slicewise.cluster, f"runs-{workload_class}"
    resource, pool = CLASSES[workload_class]
    made = decided(cluster, job(name, TEAM, **of_class(workload_class)), pool)
    container = made["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {resource: "1"}
    assert container["resources"].get("requests", {resource: "1"}) == {resource: "1"}
    assert decision(made)["class"] == workload_class

    pod = eventually(lambda: pod_of(cluster, TEAM, name), f"the {workload_class} pod runs")

    assert (
        cluster.get("v1", "Node", pod["spec"]["nodeName"])["metadata"]["labels"]["slicewise.io/pool"] == pool
    )
    assignment = workload_of(cluster, TEAM, name)["status"]["admission"]["podSetAssignments"][0]
    assert assignment["flavors"] == {resource: pool}
    assert assignment["resourceUsage"] == {resource: "1"}
    cluster.delete("batch/v1", "Job", name, TEAM)


def test_the_same_job_in_a_namespace_without_the_label_is_untouched_and_waits(
    slicewise: Installation,
) -> None:
    cluster = slicewise.cluster
    sent = job("same", PLAIN, **{"kueue.x-k8s.io/queue-name": "main"}, **of_class("inference"))
    sent["spec"]["template"]["spec"]["nodeSelector"] = {"slicewise.io/pool": "h100-80gb-mig-mixed"}
    made = cluster.create(copy.deepcopy(sent))
    assert made["spec"]["template"]["spec"]["containers"][0]["resources"] == {"limits": {GPU: "1"}}
    assert "annotations" not in made["metadata"]
    assert "affinity" not in made["spec"]["template"]["spec"]

    def says_why() -> None:
        conditions = workload_of(cluster, PLAIN, "same")["status"]["conditions"]
        (reserved,) = [c for c in conditions if c["type"] == "QuotaReserved"]
        assert reserved["status"] == "False"
        assert GPU in reserved["message"]

    eventually(says_why, "Kueue says why the Job waits")
    cluster.delete("batch/v1", "Job", "same", PLAIN)


def test_a_refusal_says_what_to_change(slicewise: Installation) -> None:
    answer = slicewise.cluster.try_create(job("greedy", TEAM, 2, **of_class("notebook")))
    assert answer.status == 403
    assert "Job team-main/greedy: container 'main' asks for 2 GPUs" in answer.message
    assert (
        "ask for nvidia.com/gpu: 1, or label the workload slicewise.io/workload-class=training"
        in answer.message
    )


def test_audit_warns_and_patches_nothing(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    namespace(cluster, "team-audit", policy="default", mode="audit")
    sent = job("watched", "team-audit", **of_class("inference"))

    def warned() -> None:
        answer = cluster.try_create(sent, dry_run=True)
        assert answer.status == 201
        assert any("nvidia.com/gpu 1 -> nvidia.com/mig-1g.10gb 1" in warning for warning in answer.warnings)
        container = answer.body["spec"]["template"]["spec"]["containers"][0]
        assert container["resources"]["limits"] == {GPU: "1"}

    eventually(warned, "the webhook knows of the namespace")


def test_work_without_gpus_never_reaches_the_webhook(slicewise: Installation) -> None:
    def reviews() -> float:
        return slicewise.webhook.metric("slicewise_admission_reviews_total", kind="Job.batch")

    cluster, before = slicewise.cluster, reviews()
    plain = job("plain", TEAM)
    del plain["spec"]["template"]["spec"]["containers"][0]["resources"]
    cluster.create(plain)
    assert reviews() == before
    cluster.create(job("asking", TEAM, **of_class("inference")))
    assert reviews() > before
    for name in ("plain", "asking"):
        cluster.delete("batch/v1", "Job", name, TEAM)


def test_without_the_webhook_the_failure_policy_holds(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    found = cluster.get("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", CONFIGURATION)
    failing = [webhook["name"] for webhook in found["webhooks"] if webhook["failurePolicy"] != "Ignore"]
    assert failing == ["long-pods.admission.slicewise.io"]
    slicewise.webhook.program.kill()
    try:
        answer = cluster.try_create(job("meanwhile", TEAM, **of_class("inference")), dry_run=True)
        assert answer.status == 201
        container = answer.body["spec"]["template"]["spec"]["containers"][0]
        assert container["resources"]["limits"] == {GPU: "1"}
        # What the API server drops may be so long that it gives up while it sends it. What it keeps is not.
        pod: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "meanwhile", "namespace": TEAM},
            "spec": {"containers": [{"name": "main", "image": "none", "resources": {"limits": {GPU: "8"}}}]},
        }
        for kept in (
            {},
            {"phase": "Running", "message": "as kubectl prints it"},
            {"message": "a" * 1_500_000},
        ):
            assert cluster.try_create({**pod, "status": kept}, dry_run=True).status == 201
        args = [{**container, "args": ["a" * 1_600_000]} for container in pod["spec"]["containers"]]
        for long in ({"status": {"message": "a" * 1_600_000}}, {"spec": {"containers": args}}):
            refused = cluster.try_create({**pod, **long}, dry_run=True)
            assert refused.status == 500
            assert "long-pods.admission.slicewise.io" in refused.message
    finally:
        slicewise.webhook.start()
    again = cluster.try_create(job("afterwards", TEAM, **of_class("inference")), dry_run=True)
    assert again.body["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {SLICE: "1"}
