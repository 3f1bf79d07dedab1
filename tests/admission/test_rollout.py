"""A gradual rollout: some owners first, the same ones every time."""

import itertools

import pytest

from admission.decision.rollout import bucket, in_rollout
from admission.workloads.kind import Kind
from admission.workloads.model import Metadata, Owner, Workload
from slicewise.api.policy import PolicySpec, Rollout, built_in

SPEC = built_in().spec


def spec(percent: int) -> PolicySpec:
    return SPEC.model_copy(update={"rollout": Rollout(percent=percent)})


def work(kind: str, name: str, owner: Owner | None = None, **labels: str) -> Workload:
    metadata = Metadata(name=name, labels=labels or None, owner_references=[owner] if owner else None)
    return Workload(Kind("", kind, ()), "team-a", metadata, ())


def generated(kind: str, name: str) -> Workload:
    """An object as it comes: it gets its name after admission."""
    return Workload(Kind("", kind, ()), "team-a", Metadata(generate_name=name), ())


def owned_by(kind: str, name: str) -> Owner:
    return Owner("apps/v1", kind, name, True)


PODS = {
    "of a Deployment": (
        work("Pod", "chat-5d9c-x7k2", owned_by("ReplicaSet", "chat-5d9c"), **{"pod-template-hash": "5d9c"}),
        work("Deployment", "chat"),
    ),
    "of a Job": (work("Pod", "train-x7k2", owned_by("Job", "train")), work("Job", "train")),
    "of a CronJob's Job": (
        work("Pod", "nightly-29123456-x", owned_by("Job", "nightly-29123456")),
        work("CronJob", "nightly"),
    ),
    "of a Job that is called after a day": (
        work("Pod", "load-20261123-x7k2p", owned_by("Job", "load-20261123")),
        work("Job", "load-20261123"),
    ),
    "of a Job with a generated name": (
        work("Pod", "train-x7k2p-4zzbq", owned_by("Job", "train-x7k2p")),
        generated("Job", "train-"),
    ),
    "of a RayJob's cluster": (
        work("Pod", "tune-x7k2p-head-4zzbq", owned_by("RayCluster", "tune-x7k2p")),
        work("RayJob", "tune"),
    ),
    "of a RayService's cluster, as KubeRay once called them": (
        work("Pod", "tune-raycluster-x7k2p-head", owned_by("RayCluster", "tune-raycluster-x7k2p")),
        work("RayService", "tune"),
    ),
    "of a RayCronJob's RayJob's cluster": (
        work("Pod", "tune-4zzbq-x7k2p-head", owned_by("RayCluster", "tune-4zzbq-x7k2p")),
        work("RayCronJob", "tune"),
    ),
    "of a JobSet's Job": (
        work(
            "Pod",
            "train-workers-0-0-x7k2p",
            owned_by("Job", "train-workers-0"),
            **{"jobset.sigs.k8s.io/jobset-name": "train"},
        ),
        work("TrainJob", "train"),
    ),
    "of a LeaderWorkerSet's group": (
        work(
            "Pod",
            "serve-0-1",
            owned_by("StatefulSet", "serve-0"),
            **{"leaderworkerset.sigs.k8s.io/name": "serve"},
        ),
        work("LeaderWorkerSet", "serve"),
    ),
    "of an MPIJob's launcher": (
        work(
            "Pod",
            "reduce-launcher-x7k2p",
            owned_by("Job", "reduce-launcher"),
            **{"training.kubeflow.org/job-name": "reduce"},
        ),
        work("MPIJob", "reduce"),
    ),
    "of an InferenceService's Deployment": (
        work(
            "Pod",
            "chat-predictor-5d9c-x7k2p",
            owned_by("ReplicaSet", "chat-predictor-5d9c"),
            **{"pod-template-hash": "5d9c", "serving.kserve.io/inferenceservice": "chat"},
        ),
        work("InferenceService", "chat"),
    ),
    "of a Knative Service's revision": (
        work(
            "Pod",
            "chat-00001-deployment-5d9c-x7k2p",
            owned_by("ReplicaSet", "chat-00001-deployment-5d9c"),
            **{"pod-template-hash": "5d9c", "serving.knative.dev/configuration": "chat"},
        ),
        work("Service", "chat"),
    ),
    "of a JobSet in an AppWrapper": (
        work(
            "Pod",
            "inner-workers-0-0-x7k2p",
            owned_by("Job", "inner-workers-0"),
            **{"jobset.sigs.k8s.io/jobset-name": "inner", "workload.codeflare.dev/appwrapper": "outer"},
        ),
        work("AppWrapper", "outer"),
    ),
    "of a StatefulSet": (work("Pod", "db-0", owned_by("StatefulSet", "db")), work("StatefulSet", "db")),
}


@pytest.mark.parametrize(("pod", "owner"), PODS.values(), ids=PODS)
def test_a_pod_is_where_its_owner_is(pod: Workload, owner: Workload) -> None:
    assert bucket(pod) == bucket(owner)


def test_all_are_reached_at_a_hundred_and_none_at_zero() -> None:
    jobs = [work("Job", f"job-{number}") for number in range(200)]
    assert all(in_rollout(job, spec(100)) for job in jobs)
    assert not any(in_rollout(job, spec(0)) for job in jobs)


def test_what_is_reached_stays_reached_and_shares_are_about_right() -> None:
    jobs = [work("Job", f"job-{number}") for number in range(2000)]
    reached_by: dict[int, set[str | None]] = {
        percent: {job.metadata.name for job in jobs if in_rollout(job, spec(percent))}
        for percent in (0, 10, 30, 60, 100)
    }
    steps = list(reached_by.values())
    assert all(before <= after for before, after in itertools.pairwise(steps))
    assert all(abs(len(found) / 20 - percent) < 4 for percent, found in reached_by.items())
