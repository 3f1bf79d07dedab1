"""An unchanged manifest that is applied again changes nothing: no rollout, no second name, no immutable-field error."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness import nodes
from e2e.harness.client import Object, Response, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import Installation, decision, namespace
from e2e.harness.kueue import forget_plan
from e2e.harness.kwok import KEEP_RUNNING

GPU = "nvidia.com/gpu"
SLICE = "nvidia.com/mig-1g.10gb"
TEAM, KEPT = "team-again", "team-kept"
KUEUE = "kueue.x-k8s.io/v1beta2"
APPLY = "application/apply-patch+yaml"
STRATEGIC = "application/strategic-merge-patch+json"


@pytest.fixture(scope="module")
def slicewise(installation: Installation) -> Iterator[Installation]:
    """Slicewise installed, with slices, whole GPUs and a namespace for inference."""
    cluster = installation.cluster
    nodes.add(cluster, nodes.mig_mixed("again-mig", {"1g.10gb": 7}, gpus=1), nodes.exclusive("again-whole"))
    namespace(cluster, TEAM, policy="default", workload_class="inference")
    probe = manifest("Job", "probe")
    installation.whoever_is_asked(
        lambda: limits(cluster.create(probe, dry_run=True)) == {SLICE: "1"}, "the webhook knows its world"
    )
    yield installation
    nodes.remove(cluster, "again-mig", "again-whole")


def manifest(kind: str, name: str, gpus: int = 1, **spec: Any) -> Object:
    """A manifest as a person keeps it: limits alone, and nothing of ours."""
    container = {"name": "main", "image": "none", "resources": {"limits": {GPU: gpus}}}
    template: Object = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    if kind == "Job":
        template["spec"]["restartPolicy"] = "Never"
        spec.setdefault("suspend", True)
    else:
        spec |= {"selector": {"matchLabels": {"app": name}}, "replicas": 0}
    group = "batch/v1" if kind == "Job" else "apps/v1"
    metadata = {"name": name, "namespace": TEAM}
    return {"apiVersion": group, "kind": kind, "metadata": metadata, "spec": {**spec, "template": template}}


def limits(item: Object) -> dict[str, str]:
    found: dict[str, str] = item["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    return found


def stable(item: Object) -> Object:
    """An object without what every write changes."""
    found = copy.deepcopy(item)
    for key in ("managedFields", "resourceVersion"):
        found["metadata"].pop(key, None)
    found.pop("status", None)
    return found


def client_side(cluster: AnyCluster, sent: Object) -> Object:
    """What `kubectl apply` sends for an unchanged file: what the file says and the live object does not."""
    container = sent["spec"]["template"]["spec"]["containers"][0]
    patch = {
        "spec": {
            "template": {"spec": {"containers": [{"name": "main", "resources": container["resources"]}]}}
        }
    }
    path = cluster.path(sent["apiVersion"], sent["kind"], sent["metadata"]["name"], TEAM)
    answer = cluster.request("PATCH", path, patch, STRATEGIC)
    assert answer.status == 200, answer.message
    found: Object = answer.body
    return found


def server_side(cluster: AnyCluster, sent: Object) -> Object:
    """What `kubectl apply --server-side`, Argo CD and Flux send: the whole file, under their own manager."""
    path = cluster.path(sent["apiVersion"], sent["kind"], sent["metadata"]["name"], TEAM)
    answer = cluster.request("PATCH", path, sent, APPLY, {"fieldManager": "gitops", "force": "true"})
    assert answer.status in {200, 201}, answer.message
    found: Object = answer.body
    return found


def replaced(cluster: AnyCluster, sent: Object) -> Object:
    """What `kubectl replace` sends: the file in place of everything."""
    standing = cluster.get(sent["apiVersion"], sent["kind"], sent["metadata"]["name"], TEAM)
    whole = copy.deepcopy(sent)
    if sent["kind"] == "Job":  # what the server made for the Job cannot be left out by anybody
        for key in ("selector", "template"):
            own = standing["spec"][key]
            whole["spec"][key] = (
                {**own, **whole["spec"].get(key, {})} if key == "selector" else whole["spec"][key]
            )
        labels = standing["spec"]["template"]["metadata"]["labels"]
        whole["spec"]["template"]["metadata"]["labels"] = labels
    return cluster.replace(whole)


WAYS = {"client-side apply": client_side, "server-side apply": server_side, "replace": replaced}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_applying_an_unchanged_manifest_again_changes_nothing(
    slicewise: Installation, kind: str, way: Any
) -> None:
    cluster, name = slicewise.cluster, f"{kind}-{way.__name__}".lower().replace("_", "-")
    sent = manifest(kind, name)
    first = server_side(cluster, sent) if way is server_side else cluster.create(copy.deepcopy(sent))
    assert limits(first) == {SLICE: "1"}
    again = way(cluster, sent)
    assert stable(again)["spec"] == stable(first)["spec"]
    assert decision(again) == decision(first)


@pytest.mark.parametrize(
    ("patch", "content_type", "parameters"),
    [
        pytest.param({}, STRATEGIC, {}, id="client-side apply"),
        pytest.param(
            {"apiVersion": "v1", "kind": "Pod"},
            APPLY,
            {"fieldManager": "gitops", "force": "true"},
            id="server-side apply",
        ),
    ],
)
def test_a_bare_pod_can_be_applied_again(
    slicewise: Installation, patch: Object, content_type: str, parameters: dict[str, str]
) -> None:
    """Without us the old name would come back, which the API server takes for a change of what can never change."""
    cluster, name = slicewise.cluster, f"bare-{content_type[12:20]}".rstrip("-")
    spec = manifest("Job", name)["spec"]["template"]["spec"]
    metadata = {"name": name, "namespace": TEAM}
    first = cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    assert first["spec"]["containers"][0]["resources"]["limits"] == {SLICE: "1"}
    sent = {**patch, "metadata": metadata, "spec": {"containers": spec["containers"]}}
    answer = cluster.request("PATCH", cluster.path("v1", "Pod", name, TEAM), sent, content_type, parameters)
    assert answer.status == 200, answer.message
    assert answer.body["spec"]["containers"] == first["spec"]["containers"]
    assert decision(answer.body) == decision(first)


def test_a_bare_pod_that_is_replaced_by_its_manifest_stays_in_its_queue(slicewise: Installation) -> None:
    """It names its slice itself, so that nothing was decided of it."""
    cluster, space = slicewise.cluster, "team-queued"
    namespace(cluster, space, policy="default", engine="volcano", queue="theirs")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bare", "namespace": space},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "main", "image": "none", "resources": {"limits": {SLICE: 1}}}],
        },
    }

    def queued() -> bool:
        return bool(cluster.create(copy.deepcopy(pod), dry_run=True)["metadata"].get("annotations"))

    eventually(queued, "the labels are known")
    first = cluster.create(copy.deepcopy(pod))
    assert first["spec"]["schedulerName"] == "volcano"
    again = cluster.replace(copy.deepcopy(pod))
    assert again["spec"] == first["spec"]
    assert again["metadata"]["annotations"] == first["metadata"]["annotations"]
    cluster.delete("v1", "Namespace", space)


def test_a_changed_request_is_decided_anew(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    cluster.create(manifest("Deployment", "grows"))
    after = client_side(cluster, manifest("Deployment", "grows", 2))
    assert limits(after) == {GPU: "2"}
    assert decision(after)["strategy"] == "exclusive"


def test_an_update_that_no_node_can_serve_any_more_stands_and_is_said(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    cluster.create(manifest("Deployment", "moves"))
    elsewhere = {"spec": {"template": {"spec": {"nodeSelector": {"zone": "nowhere"}}}}}
    answer = cluster.request(
        "PATCH", cluster.path("apps/v1", "Deployment", "moves", TEAM), elsewhere, STRATEGIC
    )
    assert answer.status == 200, answer.message
    assert limits(answer.body) == {SLICE: "1"}
    (warning,) = answer.warnings
    assert warning.startswith(
        "Deployment team-again/moves: no pool can serve class inference of policy default ("
    )
    assert warning.endswith("; what was decided before stands, so its pods may wait for ever")


def test_a_changed_namespace_label_is_no_change_of_mind(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    first = cluster.create(manifest("Deployment", "stays"))
    namespace(cluster, TEAM, policy="default", workload_class="training")
    slicewise.whoever_is_asked(
        lambda: limits(cluster.create(manifest("Job", "probe"), dry_run=True)) == {GPU: "1"},
        "the label is known",
    )
    try:
        again = client_side(cluster, manifest("Deployment", "stays"))
        assert stable(again)["spec"] == stable(first)["spec"]
    finally:
        namespace(cluster, TEAM, policy="default", workload_class="inference")
        slicewise.whoever_is_asked(
            lambda: limits(cluster.create(manifest("Job", "probe"), dry_run=True)) == {SLICE: "1"},
            "it is back",
        )


def test_a_namespace_that_opts_in_under_a_running_deployment_causes_no_rollout(
    slicewise: Installation,
) -> None:
    cluster, space = slicewise.cluster, "team-late"
    namespace(cluster, space)
    sent = manifest("Deployment", "early")
    sent["metadata"]["namespace"], sent["spec"]["replicas"] = space, 1
    cluster.create(copy.deepcopy(sent))

    def replica_sets() -> list[Object]:
        return cluster.list("apps/v1", "ReplicaSet", space)

    eventually(lambda: len(replica_sets()) == 1, "the Deployment has made its ReplicaSet")
    namespace(cluster, space, policy="default", workload_class="inference")
    late = manifest("Deployment", "late")
    late["metadata"]["namespace"] = space
    slicewise.whoever_is_asked(
        lambda: limits(cluster.create(late, dry_run=True)) == {SLICE: "1"}, "the label is known"
    )

    cluster.patch("apps/v1", "Deployment", "early", {"metadata": {"labels": {"touched": "yes"}}}, space)
    cluster.patch("apps/v1", "Deployment", "early", {"spec": {"replicas": 2}}, space)

    def scaled() -> None:
        (only,) = replica_sets()
        assert only["spec"]["replicas"] == 2
        assert limits(only) == {GPU: "1"}
        found = cluster.get("apps/v1", "Deployment", "early", space)
        assert found["status"]["observedGeneration"] == found["metadata"]["generation"]

    eventually(scaled, "one ReplicaSet, as it was, with two replicas")
    pods = eventually(lambda: _two(cluster.list("v1", "Pod", space)), "its pods are there")
    assert {SLICE} in [set(pod["spec"]["containers"][0]["resources"]["limits"]) for pod in pods]
    assert not [
        pod for pod in pods if {GPU, SLICE} <= set(pod["spec"]["containers"][0]["resources"]["limits"])
    ]
    cluster.delete("apps/v1", "Deployment", "early", space)


def _two(pods: list[Object]) -> list[Object]:
    assert len(pods) == 2
    return pods


@pytest.mark.parametrize(
    "leaving", [{}, {"policy": "default", "mode": "off"}], ids=["label taken off", "mode off"]
)
def test_a_namespace_that_left_still_gets_no_second_name(
    slicewise: Installation, leaving: dict[str, str]
) -> None:
    cluster = slicewise.cluster
    name = f"leaves-{len(leaving)}"
    first = cluster.create(manifest("Deployment", name))
    assert limits(first) == {SLICE: "1"}
    namespace(cluster, TEAM, **leaving)
    probe = manifest("Job", "probe")
    try:
        slicewise.whoever_is_asked(
            lambda: limits(cluster.create(probe, dry_run=True)) == {GPU: "1"}, "it is known to have left"
        )
        again = client_side(cluster, manifest("Deployment", name))
        assert limits(again) == {SLICE: "1"}
        assert stable(again)["spec"] == stable(first)["spec"]
        assert limits(cluster.create(manifest("Deployment", f"{name}-new"))) == {GPU: "1"}
    finally:
        namespace(cluster, TEAM, policy="default", workload_class="inference")
        slicewise.whoever_is_asked(
            lambda: limits(cluster.create(probe, dry_run=True)) == {SLICE: "1"}, "it is back"
        )


def test_a_misspelt_label_on_a_namespace_is_warned_of(slicewise: Installation) -> None:
    labels = {"slicewise.io/policy": "defualt"}
    answer = slicewise.cluster.try_create(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "misspelt", "labels": labels}},
        dry_run=True,
    )
    assert answer.status == 201
    assert any("did you mean slicewise.io/policy=default?" in warning for warning in answer.warnings)


# --- While an engine runs it -------------------------------------------------------------------------------

RAY = "ray.io/v1"


@pytest.fixture(scope="module")
def queued(slicewise: Installation) -> Iterator[Installation]:
    """A namespace whose work goes through Kueue, and RayClusters that nobody but Kueue looks after."""
    cluster = slicewise.cluster
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    version["subresources"] = {"status": {}}
    names = {"kind": "RayCluster", "plural": "rayclusters", "singular": "raycluster"}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "rayclusters.ray.io"},
        "spec": {"group": "ray.io", "names": names, "scope": "Namespaced", "versions": [version]},
    }
    cluster.apply(definition)
    if cluster.owned:
        # Kueue looks for kinds that were not there when it started ever less often, down to once in two minutes
        # (pkg/controller/jobframework/setup.go, WaitForAPI); started anew it finds them.
        cluster.kill("kueue")
        cluster.start("kueue")
    namespace(cluster, KEPT, policy="default", workload_class="inference", queue="kept", team="kept")
    queue = {"name": "kept", "namespaces": {"matchLabels": {"team": "kept"}}}
    plan = {"apiVersion": "slicewise.io/v1alpha1", "kind": "QuotaPlan", "metadata": {"name": "kept"}}
    cluster.apply(plan | {"spec": {"engine": "kueue", "queues": [queue]}})
    eventually(lambda: cluster.get(KUEUE, "LocalQueue", "kept", KEPT)["status"], "the queue is there")
    yield slicewise
    forget_plan(cluster, "kept")
    cluster.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", "rayclusters.ray.io")


def in_queue(kind: str, name: str, gpus: int = 1, **spec: Any) -> Object:
    sent = manifest(kind, name, gpus, **spec)
    sent["metadata"]["namespace"] = KEPT
    sent["spec"]["template"]["metadata"]["annotations"] = {KEEP_RUNNING: "true"}
    return sent


def ray(name: str, gpus: int = 1, **spec: Any) -> Object:
    def template(asks: Object) -> Object:
        return {"spec": {"containers": [{"name": "main", "image": "none", "resources": {"limits": asks}}]}}

    worker = {"groupName": "workers", "replicas": 1, "minReplicas": 1, "maxReplicas": 1, "rayStartParams": {}}
    head = {"rayStartParams": {}, "template": template({})}
    groups = [worker | {"template": template({GPU: gpus})}]
    metadata = {"name": name, "namespace": KEPT}
    body = {"headGroupSpec": head, "workerGroupSpecs": groups, **spec}
    return {"apiVersion": RAY, "kind": "RayCluster", "metadata": metadata, "spec": body}


def worker_limits(item: Object) -> dict[str, str]:
    (group,) = item["spec"]["workerGroupSpecs"]
    found: dict[str, str] = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    return found


def started(cluster: AnyCluster, sent: Object) -> Object:
    """The object once Kueue has started it."""
    cluster.apply(copy.deepcopy(sent), manager="gitops")
    name = sent["metadata"]["name"]

    def runs() -> Object:
        found = cluster.get(sent["apiVersion"], sent["kind"], name, KEPT)
        assert found["spec"]["suspend"] is False
        return found

    return eventually(runs, f"Kueue starts {name}")


def workload(cluster: AnyCluster, owner: str) -> str:
    """The UID of the Workload that Kueue has for an object."""
    (found,) = (
        item["metadata"]["uid"]
        for item in cluster.list(KUEUE, "Workload", KEPT)
        if item["metadata"]["ownerReferences"][0]["name"] == owner
    )
    return str(found)


def applied(cluster: AnyCluster, sent: Object) -> Response:
    path = cluster.path(sent["apiVersion"], sent["kind"], sent["metadata"]["name"], KEPT)
    answer = cluster.request("PATCH", path, sent, APPLY, {"fieldManager": "gitops", "force": "true"})
    assert answer.status == 200, answer.message
    return answer


def test_what_kueue_has_started_keeps_its_request_and_runs_on(queued: Installation) -> None:
    cluster = queued.cluster
    started(cluster, ray("steady"))
    before = workload(cluster, "steady")
    answer = applied(cluster, ray("steady", 2))
    assert worker_limits(answer.body) == {SLICE: "1"}
    (warning,) = answer.warnings
    assert "RayCluster team-kept/steady: Kueue has taken it with 1 nvidia.com/mig-1g.10gb" in warning
    # What Kueue is told later it has acted on; so it has looked at this too.
    started(cluster, ray("later"))
    assert workload(cluster, "steady") == before
    assert not [
        event
        for event in cluster.list("v1", "Event", KEPT)
        if event["involvedObject"]["name"] == "steady" and event["reason"] == "Stopped"
    ]
    # Suspended by the same update, it is decided anew, queued anew and started again.
    answer = applied(cluster, ray("steady", 2, suspend=True))
    assert list(worker_limits(answer.body)) == [GPU]
    assert decision(answer.body)["strategy"] == "exclusive"

    def again() -> bool:
        assert workload(cluster, "steady") != before
        return cluster.get(RAY, "RayCluster", "steady", KEPT)["spec"]["suspend"] is False

    eventually(again, "Kueue starts it anew")
    for name in ("steady", "later"):
        cluster.delete(RAY, "RayCluster", name, KEPT)


def test_a_job_that_kueue_has_started_keeps_its_request_instead_of_an_error(queued: Installation) -> None:
    cluster = queued.cluster
    standing = started(cluster, in_queue("Job", "busy"))
    more = in_queue("Job", "busy", 2)
    del more["spec"]["suspend"]
    answer = applied(cluster, more)
    assert limits(answer.body) == {SLICE: "1"}
    assert any("so that stays" in warning for warning in answer.warnings)
    assert answer.body["metadata"]["generation"] == standing["metadata"]["generation"]
    cluster.delete("batch/v1", "Job", "busy", KEPT)


def test_a_stateful_set_of_kueues_does_not_run_more_than_its_quota(queued: Installation) -> None:
    cluster = queued.cluster
    sent = in_queue("StatefulSet", "served", serviceName="served")
    sent["spec"]["replicas"] = 1
    cluster.apply(copy.deepcopy(sent), manager="gitops")

    def running() -> Object:
        (pod,) = cluster.list("v1", "Pod", KEPT, labels="app=served")
        assert pod["status"]["phase"] == "Running"
        return pod

    pod = eventually(running, "its pod runs")
    more = in_queue("StatefulSet", "served", 2, serviceName="served")
    more["spec"]["replicas"] = 1
    answer = applied(cluster, more)
    assert limits(answer.body) == {SLICE: "1"}
    assert any("so that stays" in warning for warning in answer.warnings)
    assert running()["metadata"]["uid"] == pod["metadata"]["uid"]
    assert answer.body["metadata"]["generation"] == 1
    cluster.delete("apps/v1", "StatefulSet", "served", KEPT)


@pytest.mark.parametrize(
    ("more", "gets"),
    [
        pytest.param({"large": {"strategy": "exclusive"}}, GPU, id="another class of the policy gets it"),
        pytest.param({}, SLICE, id="no class of the policy gets it"),
    ],
)
def test_a_pod_whose_parent_was_left_is_made_in_the_flavor_that_kueue_started_it_in(
    queued: Installation, more: Object, gets: str
) -> None:
    cluster, space = queued.cluster, f"{KEPT}-{gets.rpartition('/')[2].replace('.', '-')}"
    policy: Object = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "SlicingPolicy",
        "metadata": {"name": space},
    }
    classes = {"small": {"strategy": "mig"}, **more}
    cluster.apply({**policy, "spec": {"defaultClass": "small", "classes": classes}})
    namespace(cluster, space, policy=space, queue="kept", team="kept")
    eventually(lambda: cluster.get(KUEUE, "LocalQueue", "kept", space)["status"], "the queue is there")
    # A kind that is in the list of owners that compare: what it owns is left as it is.
    metadata = {"name": "owner", "namespace": space}
    template = {"spec": {"containers": [{"name": "main", "image": "none"}]}}
    owner = cluster.create(
        {"apiVersion": "v1", "kind": "PodTemplate", "metadata": metadata, "template": template}
    )
    reference = {"apiVersion": "v1", "kind": "PodTemplate", "name": "owner"}
    sent = in_queue("Job", "left")
    sent["metadata"] |= {
        "namespace": space,
        "labels": {"kueue.x-k8s.io/queue-name": "kept"},
        "ownerReferences": [{**reference, "uid": owner["metadata"]["uid"], "controller": True}],
    }
    try:
        assert limits(cluster.create(sent)) == {GPU: "1"}

        def made() -> Object:
            (found,) = cluster.list("v1", "Pod", space)
            return found

        pod = eventually(made, "its pod is made")

        def told() -> bool:
            events = cluster.list("events.k8s.io/v1", "Event", space)
            return any(
                "Kueue has" in each.get("note", "") and each["regarding"]["name"] == "left" for each in events
            )

        eventually(told, "its Job is told")
    finally:
        cluster.delete("v1", "Namespace", space)
        cluster.delete(policy["apiVersion"], policy["kind"], space)
    assert "pool" in str(pod["spec"]["nodeSelector"]), "Kueue wrote it from the flavor"
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {gets: "1"}
