"""While an engine runs it: what Kueue would stop and Volcano would refuse keeps its request, with a warning."""

from copy import deepcopy
from itertools import repeat
from typing import Any, Final

import pytest

from admission.decision.cluster_state import ClusterState
from admission.workloads.builtin_kinds import TABLE
from slicewise.api import keys
from tests.admission.building import GPU, SLICE, Object, created, review, world
from tests.admission.kinds import NAMES, asked, at, cluster, manifest, put, varied

KINDS: Final = {f"{kind.group or 'core'}_{kind.kind}": kind for kind in TABLE}
KEPT: Final = [name for name in NAMES if KINDS[name].queueing.keeper]
SUSPENDED: Final = [name for name in KEPT if KINDS[name].queueing.suspend]
LABELS: Final = {keys.KUEUE_QUEUE: "fast"}


def known(**spec: Any) -> ClusterState:
    """Slices alone, as many as anybody asks for."""
    return cluster("mig", "mixed", multiGPU="each", **spec)


def submitted(name: str, gpus: int = 1, *, suspend: bool = False) -> Object:
    """A manifest for Kueue's queue, as a person keeps it, that asks for this many GPUs in every place."""
    item: Object = varied(manifest(name, labels=dict(LABELS)), repeat(gpus))
    for role in ("driver", "executor") if name.startswith("sparkoperator") else ():
        item["spec"][role]["gpu"]["quantity"] = gpus
    if suspend:
        put(item, KINDS[name].queueing.suspend, True)
    return item


def live(name: str, *, suspend: bool = False) -> Object:
    """What stands of it, with one slice in every place."""
    return created(known(), submitted(name, suspend=suspend))


def slices(item: Object) -> set[str]:
    return {number for _, resource, number in asked(item) if resource == SLICE and number}


@pytest.mark.parametrize("name", KEPT)
def test_what_an_engine_runs_keeps_its_request_and_says_so(name: str) -> None:
    standing = live(name)
    answered = review(known(), submitted(name, 2), standing)
    assert answered.allowed, answered.message
    assert [each for each in asked(answered.item) if each not in list(asked(standing))] == []
    assert answered.decision == review(known(), standing, standing).decision
    engine = KINDS[name].queueing.keeper.title()
    (said,) = {each for each in answered.warnings if "so that stays" in each}
    assert said.startswith(f"{standing['kind']} team/")
    assert f"{engine} has taken it with 1 {SLICE}" in said
    assert review(known(), answered.item, standing).item == answered.item


def test_it_stays_byte_for_byte() -> None:
    standing = live("ray.io_RayCluster")
    answered = review(known(), submitted("ray.io_RayCluster", 2), standing)
    assert answered.item == standing


NOT_RUN: Final = [
    *((name, "without a queue") for name in KEPT if KINDS[name].queueing.keeper == "kueue"),
    *((name, how) for name in SUSPENDED for how in ("suspended", "suspended by the same update")),
]


@pytest.mark.parametrize(("name", "how"), NOT_RUN)
def test_what_no_engine_runs_is_decided_anew(name: str, how: str) -> None:
    standing, wanted = live(name, suspend=how == "suspended"), submitted(name, 2, suspend="suspended" in how)
    if how == "without a queue":
        del standing["metadata"]["labels"], wanted["metadata"]["labels"]
    answered = review(known(), wanted, standing)
    assert answered.allowed, answered.message
    assert "2" in slices(answered.item)
    assert "1" not in slices(answered.item)
    assert not [each for each in answered.warnings if "so that stays" in each]


def test_every_kind_that_kueue_suspends_is_kept() -> None:
    # kueue v0.19.2, pkg/controller/jobs: the integrations with IsSuspended, and two whose webhooks refuse.
    kueues = {name.partition("_")[2] for name in KEPT if KINDS[name].queueing.keeper == "kueue"}
    assert kueues == {
        *("AppWrapper", "JAXJob", "Job", "JobSet", "LeaderWorkerSet", "MPIJob", "PaddleJob", "PyTorchJob"),
        *("RayCluster", "RayJob", "RayService", "SparkApplication", "StatefulSet", "TFJob", "TrainJob"),
        "XGBoostJob",
    }
    assert [name for name in KEPT if KINDS[name].queueing.keeper == "volcano"] == ["batch.volcano.sh_Job"]


def ray(*workers: Object) -> Object:
    item = submitted("ray.io_RayCluster")
    item["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"] = list(workers)
    return item


def worker(name: str, gpus: int | None = 1) -> Object:
    return {
        "name": name,
        "image": "none",
        "resources": {"limits": {"cpu": 1} | ({GPU: gpus} if gpus else {})},
    }


def test_a_container_that_asks_for_the_first_time_gets_nothing_while_it_runs() -> None:
    standing = created(known(), ray(worker("ray-worker"), worker("beside", None)))
    answered = review(known(), ray(worker("ray-worker"), worker("beside")), standing)
    assert answered.item == standing
    assert len(answered.warnings) == 1


def test_a_container_that_named_a_slice_itself_keeps_it_while_it_runs() -> None:
    named = worker("beside", None)
    named["resources"]["limits"]["nvidia.com/mig-2g.20gb"] = 3
    standing = created(known(), ray(worker("ray-worker"), named))
    answered = review(known(), ray(worker("ray-worker"), worker("beside", 8)), standing)
    assert {*asked(answered.item)} == {*asked(standing)}
    assert "so that stays" in answered.warnings[0]


def test_a_template_that_asks_for_the_first_time_gets_nothing_while_it_runs() -> None:
    standing = created(known(), ray(worker("other", None)))
    answered = review(known(), ray(worker("other")), standing)
    assert list(asked(answered.item)) == list(asked(standing))
    assert "has taken it with no GPU there" in answered.warnings[0]


def test_spark_that_asks_for_the_first_time_gets_nothing_while_it_runs() -> None:
    name = "sparkoperator.k8s.io_SparkApplication"
    without = submitted(name)
    del without["spec"]["driver"]["gpu"]
    standing = created(known(), without)
    answered = review(known(), submitted(name), standing)
    assert "gpu" not in answered.item["spec"]["driver"]
    assert list(asked(answered.item)) == list(asked(standing))


def test_a_new_worker_group_is_decided_as_kueue_stops_the_cluster_for_it() -> None:
    standing = live("ray.io_RayCluster")
    more = submitted("ray.io_RayCluster")
    more["spec"]["workerGroupSpecs"].append(
        deepcopy(more["spec"]["workerGroupSpecs"][0]) | {"groupName": "third"}
    )
    answered = review(known(), more, standing)
    assert slices(answered.item) == {"1"}
    assert len(list(asked(answered.item))) > len(list(asked(standing)))


def test_what_changes_nothing_for_the_pods_is_decided_anew() -> None:
    one = cluster("mig", "mixed", multiGPU="one")
    standing = created(one, submitted("ray.io_RayCluster"))
    answered = review(one, submitted("ray.io_RayCluster", 2), standing)
    assert slices(answered.item) == {"1"}
    assert answered.outcome == "rewritten"
    assert not [each for each in answered.warnings if "so that stays" in each]


@pytest.mark.parametrize("rule", ["refuse", "whole"])
def test_it_is_kept_whether_what_is_asked_could_be_had_or_not(rule: str) -> None:
    refusing = cluster("mig", "mixed", multiGPU=rule)
    standing = created(refusing, submitted("ray.io_RayCluster"))
    answered = review(refusing, submitted("ray.io_RayCluster", 2), standing)
    assert answered.item == standing
    assert len(answered.warnings) == 1
    del standing["metadata"]["labels"]
    assert not review(refusing, submitted("ray.io_RayCluster", 2), standing).allowed


@pytest.mark.parametrize("labels", [{keys.MODE: "off"}, {keys.MODE: "audit"}], ids=["off", "audit"])
def test_where_nothing_is_enforced_the_request_is_as_a_person_asks(labels: dict[str, str]) -> None:
    standing = live("ray.io_RayCluster")
    answered = review(known(labels=labels), submitted("ray.io_RayCluster", 2), standing)
    assert {number for _, name, number in asked(answered.item) if name == GPU} == {"2"}


def test_work_from_before_is_decided_although_kueue_runs_it() -> None:
    # Nothing of ours is there to be kept, and Kueue stops it for what the person changed.
    standing = submitted("ray.io_RayCluster")
    answered = review(known(), submitted("ray.io_RayCluster", 2), standing)
    assert slices(answered.item) == {"2"}


@pytest.mark.parametrize("flag", [True, False, None, "yes"])
def test_what_suspends_a_job_is_read_beside_its_template(flag: Any) -> None:
    standing, wanted = live("batch_Job"), submitted("batch_Job", 2)
    if flag is not None:
        put(standing, "spec.suspend", flag)
    answered = review(known(), wanted, standing)
    number = at(answered.item, "spec.template.spec.containers.0.resources.limits")[SLICE]
    assert str(number) == ("2" if flag is True else "1")


def test_a_deployment_in_kueues_queue_is_decided_anew() -> None:
    standing = created(
        world("mixed", "whole"),
        manifest("apps_Deployment", labels={**LABELS, keys.WORKLOAD_CLASS: "inference"}),
    )
    more = varied(manifest("apps_Deployment", labels={**LABELS, keys.WORKLOAD_CLASS: "inference"}), repeat(2))
    assert review(world("mixed", "whole"), more, standing).outcome == "rewritten"
