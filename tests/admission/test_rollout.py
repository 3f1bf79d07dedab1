"""A gradual rollout: some owners first, the same ones every time."""

import itertools

import pytest

from admission.judgement.rollout import bucket, reached
from admission.kinds.reading import Metadata, Owner, Workload
from slicewise.policy import PolicySpec, Rollout, built_in

SPEC = built_in().spec


def spec(percent: int) -> PolicySpec:
    return SPEC.model_copy(update={"rollout": Rollout(percent=percent)})


def work(kind: str, name: str, owner: Owner | None = None, **labels: str) -> Workload:
    metadata = Metadata(name=name, labels=labels or None, owner_references=[owner] if owner else None)
    return Workload("", kind, "team-a", metadata, ())


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
    "of a StatefulSet": (work("Pod", "db-0", owned_by("StatefulSet", "db")), work("StatefulSet", "db")),
}


@pytest.mark.parametrize(("pod", "owner"), PODS.values(), ids=PODS)
def test_a_pod_is_where_its_owner_is(pod: Workload, owner: Workload) -> None:
    assert bucket(pod) == bucket(owner)


def test_all_are_reached_at_a_hundred_and_none_at_zero() -> None:
    jobs = [work("Job", f"job-{number}") for number in range(200)]
    assert all(reached(job, spec(100)) for job in jobs)
    assert not any(reached(job, spec(0)) for job in jobs)


def test_what_is_reached_stays_reached_and_shares_are_about_right() -> None:
    jobs = [work("Job", f"job-{number}") for number in range(2000)]
    reached_by: dict[int, set[str | None]] = {
        percent: {job.metadata.name for job in jobs if reached(job, spec(percent))}
        for percent in (0, 10, 30, 60, 100)
    }
    steps = list(reached_by.values())
    assert all(before <= after for before, after in itertools.pairwise(steps))
    assert all(abs(len(found) / 20 - percent) < 4 for percent, found in reached_by.items())
