"""Gangs on slices: what Volcano counts is rewritten, so that a gang runs whole, or waits and says for which slice."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

from e2e.harness import nodes
from e2e.harness.client import ApiError, Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import CONFIGURATION, Installation, decision, namespace
from e2e.harness.kueue import forget_plan
from e2e.harness.kwok import KEEP_RUNNING
from e2e.harness.volcano import (
    BATCH,
    GPU,
    SCHEDULING,
    clear,
    is_open,
    numbers,
    pod_group,
    running,
    says,
    vcjob,
)

SLICE = "nvidia.com/mig-1g.10gb"
TEAM, PLAIN = "gang-team", "gang-plain"
ADMISSION = "admissionregistration.k8s.io/v1"


@pytest.fixture(scope="module")
def slicewise(volcano_installation: Installation) -> Iterator[Installation]:
    """Seven slices, a queue that has them, one namespace that has opted in and one that has not."""
    cluster = volcano_installation.cluster
    nodes.add(cluster, nodes.mig_mixed("gang-1", {"1g.10gb": 7}, gpus=1))
    namespace(cluster, TEAM, policy="default", workload_class="inference", engine="volcano", queue="gang")
    namespace(cluster, PLAIN)
    cluster.apply(
        {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "QuotaPlan",
            "metadata": {"name": "gang"},
            "spec": {"engine": "volcano", "queues": [{"name": "gang"}]},
        }
    )
    eventually(lambda: numbers(cluster, "gang") == {SLICE: 7}, "the queue deserves what the node offers")
    eventually(lambda: is_open(cluster, "gang"), "the queue is open")
    probe = vcjob("probe", TEAM, 4)
    volcano_installation.whoever_is_asked(
        lambda: limits(cluster.create(probe, dry_run=True)) == [{SLICE: "1"}], "the webhook knows the slices"
    )
    yield volcano_installation
    forget_plan(cluster, "gang")
    nodes.remove(cluster, "gang-1")


@pytest.fixture(autouse=True)
def clean(slicewise: Installation) -> Iterator[None]:
    """Each test leaves the slices free."""
    yield
    cluster = slicewise.cluster
    for space in (TEAM, PLAIN):
        clear(cluster, space)


def limits(job: Object) -> list[Object]:
    return [task["template"]["spec"]["containers"][0]["resources"]["limits"] for task in job["spec"]["tasks"]]


def phase(cluster: AnyCluster, space: str, job: str) -> str | None:
    found: str | None = pod_group(cluster, space, job).get("status", {}).get("phase")
    return found


def test_a_gang_runs_whole_on_slices_and_the_next_waits_whole(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    made = cluster.create(vcjob("first", TEAM, 4))
    assert limits(made) == [{SLICE: "1"}]
    assert made["spec"]["queue"] == "gang"
    assert decision(made)["pools"] == ["h100-80gb-mig-mixed"]

    eventually(lambda: running(cluster, TEAM, "first") == 4, "the whole gang runs")
    wanted = pod_group(cluster, TEAM, "first")["spec"]["minResources"]
    assert wanted[SLICE] == "4"
    assert not any(name.endswith(GPU) for name in wanted)

    cluster.create(vcjob("second", TEAM, 4))
    eventually(lambda: SLICE in says(cluster, TEAM, "second"), "Volcano says for what the second waits")
    assert running(cluster, TEAM, "second") == 0
    cluster.delete(BATCH, "Job", "first", TEAM)
    eventually(lambda: running(cluster, TEAM, "second") == 4, "the second runs whole after the first")


def test_a_gang_that_never_fits_stays_pending_and_the_message_names_the_slice(
    slicewise: Installation,
) -> None:
    cluster = slicewise.cluster
    cluster.create(vcjob("too-large", TEAM, 8))
    eventually(lambda: f"insufficient {SLICE}" in says(cluster, TEAM, "too-large"), "Volcano names the slice")
    eventually(lambda: phase(cluster, TEAM, "too-large") == "Pending", "it is pending")
    cluster.create(vcjob("fits", TEAM, 7))
    eventually(lambda: running(cluster, TEAM, "fits") == 7, "a gang that fits passes it")
    assert not cluster.list("v1", "Pod", TEAM, labels="volcano.sh/job-name=too-large")


def test_without_the_label_the_same_gang_is_never_enqueued(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    made = cluster.create(vcjob("same", PLAIN, 4, queue="gang", requests=True))
    assert limits(made) == [{GPU: "1"}]
    eventually(lambda: f"insufficient {GPU}" in says(cluster, PLAIN, "same"), "Volcano waits for a name")
    cluster.create(vcjob("same", TEAM, 4, requests=True))
    eventually(lambda: running(cluster, TEAM, "same") == 4, "with the label it runs")
    eventually(lambda: phase(cluster, PLAIN, "same") == "Pending", "without it is pending")
    assert not cluster.list("v1", "Pod", PLAIN)


def test_rewriting_pods_alone_would_be_a_deadlock(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    configuration = cluster.get(ADMISSION, "MutatingWebhookConfiguration", CONFIGURATION)
    without = {
        "webhooks": [
            {**webhook, "rules": [r for r in webhook["rules"] if "batch.volcano.sh" not in r["apiGroups"]]}
            for webhook in configuration["webhooks"]
        ]
    }
    without["webhooks"] = [webhook for webhook in without["webhooks"] if webhook["rules"]]
    cluster.patch(ADMISSION, "MutatingWebhookConfiguration", CONFIGURATION, without)
    try:
        sent = vcjob("pods-alone", TEAM, 2, queue="gang", requests=True)

        def untouched() -> bool:
            probe = vcjob("probe", TEAM, 2)
            return limits(cluster.try_create(probe, dry_run=True).body) == [{GPU: "1"}]

        eventually(untouched, "vcjobs no longer reach the webhook")
        cluster.create(sent)
        eventually(lambda: f"insufficient {GPU}" in says(cluster, TEAM, "pods-alone"), "it is not enqueued")
        # Its pods would be rewritten, and there are none: Volcano makes them once the gang is enqueued.
        pod = pod_of_volcano("alone", TEAM)
        assert cluster.try_create(pod, dry_run=True).body["spec"]["containers"][0]["resources"]["limits"] == {
            SLICE: "1"
        }
        assert not cluster.list("v1", "Pod", TEAM)
    finally:
        whole = {"webhooks": configuration["webhooks"]}
        cluster.patch(ADMISSION, "MutatingWebhookConfiguration", CONFIGURATION, whole)
        eventually(lambda: not untouched(), "vcjobs reach the webhook again")


def pod_of_volcano(name: str, space: str) -> Object:
    container = {"name": "main", "image": "none", "resources": {"limits": {GPU: 1}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": space, "annotations": {KEEP_RUNNING: "true"}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }


def test_plain_pods_and_deployments_follow_the_namespaces_engine_and_queue(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    made = cluster.create(pod_of_volcano("single", TEAM))
    assert made["spec"]["schedulerName"] == "volcano"
    assert made["metadata"]["annotations"]["scheduling.volcano.sh/queue-name"] == "gang"
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod_of_volcano("web", TEAM)["spec"]}
    template["spec"].pop("restartPolicy")
    cluster.create(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": TEAM},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template},
        }
    )

    def all_run() -> bool:
        pods = cluster.list("v1", "Pod", TEAM)
        assert {pod["spec"]["schedulerName"] for pod in pods} == {"volcano"}
        return len(pods) == 3 and all(pod["status"].get("phase") == "Running" for pod in pods)

    eventually(all_run, "Volcano runs the pod and the Deployment's")
    groups = cluster.list(SCHEDULING, "PodGroup", TEAM)
    assert {group["spec"]["queue"] for group in groups} == {"gang"}
    assert all(GPU not in group["spec"].get("minResources", {}) for group in groups)
    cluster.delete("apps/v1", "Deployment", "web", TEAM)
    cluster.delete("v1", "Pod", "single", TEAM)


def test_an_operators_pod_group_counts_slices(slicewise: Installation) -> None:
    made = slicewise.cluster.create(
        {
            "apiVersion": SCHEDULING,
            "kind": "PodGroup",
            "metadata": {"name": "by-hand", "namespace": TEAM},
            "spec": {"minMember": 2, "minResources": {GPU: "2", "cpu": "1"}},
        }
    )
    assert made["spec"]["minResources"] == {SLICE: "2", "cpu": "1"}
    assert made["spec"]["queue"] == "gang"
    slicewise.cluster.delete(SCHEDULING, "PodGroup", "by-hand", TEAM)


def test_what_is_explicit_is_kept(slicewise: Installation) -> None:
    cluster = slicewise.cluster

    def queue_of(queue: str | None = None) -> str:
        answer = cluster.try_create(vcjob("explicit", TEAM, 1, queue=queue), dry_run=True)
        return str(answer.body["spec"]["queue"])

    assert queue_of() == "gang"
    cluster.apply({"apiVersion": SCHEDULING, "kind": "Queue", "metadata": {"name": "other"}, "spec": {}})
    eventually(lambda: is_open(cluster, "other"), "the other queue is open")
    assert queue_of("other") == "other"
    own = pod_of_volcano("own", TEAM)
    own["metadata"]["annotations"]["scheduling.volcano.sh/queue-name"] = "other"
    own["spec"]["schedulerName"] = "somebody-elses"
    made = cluster.try_create(own, dry_run=True).body
    assert made["metadata"]["annotations"]["scheduling.volcano.sh/queue-name"] == "other"
    assert made["spec"]["schedulerName"] == "somebody-elses"
    cluster.delete(SCHEDULING, "Queue", "other")


def test_the_default_that_was_meant_is_told_from_the_default_that_was_filled_in(
    slicewise: Installation,
) -> None:
    cluster = slicewise.cluster
    meant = vcjob("meant", TEAM, 1, queue="default")
    # Made with `kubectl create`, nothing tells the two apart.
    assert cluster.try_create(meant, dry_run=True).body["spec"]["queue"] == "gang"
    # `kubectl apply --server-side` says which fields it applied.
    path = cluster.path(BATCH, "Job", "meant", TEAM)
    query = {"fieldManager": "somebody", "dryRun": "All"}
    applied = cluster.request("PATCH", path, meant, "application/apply-patch+yaml", query)
    assert applied.body["spec"]["queue"] == "default"
    unsaid = cluster.request("PATCH", path, vcjob("meant", TEAM, 1), "application/apply-patch+yaml", query)
    assert unsaid.body["spec"]["queue"] == "gang"


@pytest.mark.parametrize("space", [TEAM, PLAIN])
def test_what_volcano_takes_when_a_manifest_is_applied_again_it_takes_with_us(
    slicewise: Installation, space: str
) -> None:
    cluster = slicewise.cluster
    sent = vcjob("again", space, 2, {GPU: 1} if space == TEAM else {SLICE: 1}, queue="gang")
    bare = copy.deepcopy(sent)
    sent["spec"]["tasks"][0]["maxRetry"] = 3  # Volcano fills it in at creation and takes no list without it
    (made,) = cluster.apply(sent, manager="person")
    eventually(lambda: running(cluster, space, "again") == 2, "the gang runs")
    with pytest.raises(ApiError, match="may not change fields other than"):
        cluster.apply(bare, manager="person")
    (again,) = cluster.apply(sent, manager="person")
    for each in (made, again):
        assert [{name: str(count) for name, count in found.items()} for found in limits(each)] == [
            {SLICE: "1"}
        ]
    sent["spec"]["tasks"][0]["replicas"] = 3
    cluster.apply(sent, manager="person")
    eventually(lambda: running(cluster, space, "again") == 3, "the third joins")


def test_a_gang_that_runs_keeps_its_request_and_a_warning_says_so(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    sent = vcjob("steady", TEAM, 2)
    sent["spec"]["tasks"][0]["maxRetry"] = 3
    cluster.apply(sent, manager="person")
    eventually(lambda: running(cluster, TEAM, "steady") == 2, "the gang runs")
    pods = {pod["metadata"]["uid"] for pod in cluster.list("v1", "Pod", TEAM)}
    sent["spec"]["tasks"][0]["template"]["spec"]["containers"][0]["resources"]["limits"] = {GPU: 2}
    sent["spec"]["tasks"][0]["replicas"] = 3
    path = cluster.path(BATCH, "Job", "steady", TEAM)
    query = {"fieldManager": "person", "force": "true"}
    answer = cluster.request("PATCH", path, sent, "application/apply-patch+yaml", query)
    assert answer.status == 200, answer.message
    assert any("Volcano has taken it with 1 nvidia.com/mig-1g.10gb" in each for each in answer.warnings)
    assert [str(each[SLICE]) for each in limits(answer.body)] == ["1"]
    # The rest of the update is followed: a third joins the two that run on, and the gang counts as before.
    eventually(lambda: running(cluster, TEAM, "steady") == 3, "the third joins")
    assert pods < {pod["metadata"]["uid"] for pod in cluster.list("v1", "Pod", TEAM)}
    assert pod_group(cluster, TEAM, "steady")["spec"]["minResources"][SLICE] == "2"
