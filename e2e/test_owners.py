"""Controllers that nobody listed, played here: one creates once, one puts back what it rendered. Neither loops."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest

from e2e.harness import nodes
from e2e.harness.client import ApiError, KubeClient, Object, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import Installation, namespace
from e2e.harness.kwok import KEEP_RUNNING

GPU, SLICE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
TEAM: Final = "team-owners"
ACCOUNT: Final = f"system:serviceaccount:{TEAM}:operator"
WATCHED: Final = 8.0
"""For how many seconds a controller goes on, four times a second."""


@pytest.fixture(scope="module")
def slicewise(installation: Installation) -> Iterator[Installation]:
    """Slicewise installed, with slices, whole boards and an account that may do everything in one namespace."""
    cluster = installation.cluster
    nodes.add(cluster, nodes.mig_mixed("owners-mig", {"1g.10gb": 7}, gpus=1), nodes.exclusive("owners-whole"))
    namespace(cluster, TEAM, policy="default", workload_class="inference")
    cluster.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "operator", "namespace": TEAM},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "cluster-admin",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": TEAM}],
        }
    )
    probe = child("Job", "probe", {})
    del probe["metadata"]["ownerReferences"]
    installation.whoever_is_asked(
        lambda: asked(cluster.create(probe, dry_run=True)) == {SLICE: "1"}, "the slices are known"
    )
    yield installation
    cluster.delete("v1", "Namespace", TEAM)
    nodes.remove(cluster, "owners-mig", "owners-whole")


def child(kind: str, name: str, owner: Object) -> Object:
    """What a controller renders for an object of a kind of its own."""
    spec: Object = {"containers": [{"name": "main", "image": "none", "resources": {"limits": {GPU: 1}}}]}
    template = {"metadata": {"labels": {"app": name}, "annotations": {KEEP_RUNNING: "true"}}, "spec": spec}
    body: Object = {"template": template}
    if kind == "Job":
        spec["restartPolicy"] = "Never"
    else:
        body |= {"replicas": 1, "selector": {"matchLabels": {"app": name}}}
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": TEAM, "ownerReferences": [{**owner, "controller": True}]},
        "spec": body,
    }


def asked(item: Object) -> dict[str, str]:
    spec = item["spec"] if item["kind"] == "Pod" else item["spec"]["template"]["spec"]
    found: dict[str, str] = spec["containers"][0]["resources"]["limits"]
    return found


@dataclass
class Controller:
    """It keeps a child for its object, as far as its kind goes."""

    client: KubeClient
    rendered: Object
    puts_back: bool
    writes: int = 0

    def reconcile(self) -> None:
        """Creates the child; puts its template back where that is what this controller does."""
        wanted = self.rendered
        place = wanted["apiVersion"], wanted["kind"], wanted["metadata"]["name"], TEAM
        stands = self.client.find(*place)
        if stands is None:
            self.client.create(copy.deepcopy(wanted))
            self.writes += 1
        elif self.puts_back and asked(stands) != {GPU: "1"}:
            stands["spec"]["template"] = copy.deepcopy(wanted["spec"]["template"])
            try:
                self.client.replace(stands)
            except ApiError as error:
                if error.status != 409:
                    raise
                return  # somebody wrote it since it was read: controllers look again
            self.writes += 1

    def run(self) -> None:
        """Reconciles again and again, for as long as somebody would look."""
        until = time.monotonic() + WATCHED
        while time.monotonic() < until:
            self.reconcile()
            time.sleep(0.25)


def owner(cluster: AnyCluster, name: str) -> Object:
    """An object that owns: of a kind that the webhook knows nothing of."""
    metadata = {"name": name, "namespace": TEAM}
    made = cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    return {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": made["metadata"]["uid"]}


def only_pod(cluster: AnyCluster, name: str, **right: Any) -> Object:
    def check() -> Object:
        pods = cluster.list("v1", "Pod", TEAM, labels=f"app={name}")
        (pod,) = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
        assert pod["status"]["phase"] == "Running"
        return pod

    return eventually(check, f"{name} has one running pod", **right)


def left_as_asked(cluster: AnyCluster, space: str) -> list[Object]:
    events = cluster.list("events.k8s.io/v1", "Event", space)
    found = [event for event in events if event["reason"] == "LeftAsAsked"]
    assert found
    return found


@pytest.mark.parametrize("kind", ["Job", "Deployment"])
def test_what_a_controller_creates_once_is_decided_and_stays(slicewise: Installation, kind: str) -> None:
    """Katib's trials, KEDA's ScaledJobs, Flyte's tasks."""
    cluster, name = slicewise.cluster, f"once-{kind.lower()}"
    rendered = child(kind, name, owner(cluster, name))
    controller = Controller(cluster.client_for(ACCOUNT), rendered, puts_back=False)
    controller.run()
    stands = cluster.get(rendered["apiVersion"], kind, name, TEAM)
    assert asked(stands) == {SLICE: "1"}
    assert controller.writes == 1
    assert asked(only_pod(cluster, name)) == {SLICE: "1"}


def test_who_puts_back_what_it_rendered_wins_once_and_its_pods_get_slices(slicewise: Installation) -> None:
    """Operators that compare a child with what they rendered; none of them is in a list."""
    cluster, name = slicewise.cluster, "fights"
    rendered = child("Deployment", name, owner(cluster, name))
    controller = Controller(cluster.client_for(ACCOUNT), rendered, puts_back=True)
    controller.run()
    assert controller.writes == 2, "created, put back, and left in peace"
    stands = cluster.get("apps/v1", "Deployment", name, TEAM)
    assert asked(stands) == {GPU: "1"}
    assert len(cluster.list("apps/v1", "ReplicaSet", TEAM, labels=f"app={name}")) <= 2
    assert asked(only_pod(cluster, name)) == {SLICE: "1"}, "its pods are decided one by one"


def test_the_owner_of_pods_that_are_left_is_told_why_where_people_look(slicewise: Installation) -> None:
    cluster, space = slicewise.cluster, f"{TEAM}-told"
    classes = {"small": {"strategy": "vgpu"}}
    cluster.apply(
        {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "SlicingPolicy",
            "metadata": {"name": "owners-leave"},
            "spec": {"defaultClass": "small", "classes": classes, "whenNothingFits": "leave"},
        }
    )
    namespace(cluster, space, policy="owners-leave")
    job = child("Job", "left", {})
    job["metadata"] = {"name": "left", "namespace": space}
    try:
        slicewise.whoever_is_asked(
            lambda: bool(cluster.try_create(job, dry_run=True).warnings), "the policy is known"
        )
        made = cluster.create(job)
        told = eventually(lambda: left_as_asked(cluster, space), "the Job is told")
    finally:
        cluster.delete("v1", "Namespace", space)
        cluster.delete("slicewise.io/v1alpha1", "SlicingPolicy", "owners-leave")
    assert {event["regarding"]["uid"] for event in told} == {made["metadata"]["uid"]}
    assert {(event["regarding"]["kind"], event["type"]) for event in told} == {("Job", "Warning")}
    (note,) = {event["note"] for event in told}
    assert note.startswith(f"Pod {space}/left-")
    assert note.endswith("left as it was asked")


def test_a_controllers_own_update_is_left_as_it_is(slicewise: Installation) -> None:
    cluster, name = slicewise.cluster, "renewed"
    rendered = child("Deployment", name, owner(cluster, name))
    operator = cluster.client_for(ACCOUNT)
    stands = operator.create(copy.deepcopy(rendered))
    assert asked(stands) == {SLICE: "1"}
    stands = operator.patch("apps/v1", "Deployment", name, {"metadata": {"labels": {"round": "2"}}}, TEAM)
    assert asked(stands) == {SLICE: "1"}
    limits = {GPU: "2", SLICE: None}
    containers = [{"name": "main", "image": "none", "resources": {"limits": limits}}]
    stands = operator.patch(
        "apps/v1", "Deployment", name, {"spec": {"template": {"spec": {"containers": containers}}}}, TEAM
    )
    assert asked(stands) == {GPU: "2"}
