"""What becomes of a new object is remembered for all that are alike: who is, who is not, and until when."""

import gc
import json
import tracemalloc
from collections.abc import Callable
from random import Random
from typing import Any, Final

import pytest

from admission.decision.cluster_state import ClusterState
from admission.decision.memo import Memo
from admission.mutating import answer
from admission.workloads import model
from admission.workloads.decoder import Templates
from slicewise.api import keys
from slicewise.inventory.pools import Inventory
from tests.admission.building import (
    NODES,
    Object,
    annotated,
    asking,
    container,
    deployment,
    labelled,
    owned,
    pod,
    pod_spec,
    policy,
    request,
    review,
    world,
)
from tests.fuzz import corpus

CLASSES: Final = {
    "training": {"strategy": "exclusive"},
    "inference": {"strategy": "mig"},
    "shares": {"strategy": "mps"},
    "daemon": {"strategy": "time-slicing", "pipeDirectory": "/run/mps"},
}


def known(**labels: str) -> ClusterState:
    return world(policies=(policy(CLASSES, whenNothingFits="leave"), policy(CLASSES, "other")), labels=labels)


def served(number: int, *containers: Object, **metadata: Any) -> Object:
    """One of many pods, as the API server shows it: with a name and the volume of a token of its own."""
    volume = f"kube-api-access-{number:05}"
    item = pod(
        *(containers or (container(), container("beside", gpus=None))),
        metadata={"name": f"work-{number}", "generateName": "work-", "uid": f"uid-{number}", **metadata},
        volumes=[{"name": volume, "projected": {"sources": [number]}}],
    )
    for each in item["spec"]["containers"]:
        each["volumeMounts"] = [
            {"name": volume, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}
        ]
        each["env"] = [{"name": "INDEX", "value": f'{{"index":\n{number}}}'}]
        each["args"] = [f"--index={number}"]
    return item


def numbered(number: int) -> Object:
    metadata = {"labels": {"app": "x", "index": str(number)}, "annotations": {"index": str(number)}}
    return owned(served(number, **metadata), "Job", "batch/v1")


def deployed(number: int) -> Object:
    item = deployment(metadata={"name": f"serve-{number}", "labels": {"app": f"serve-{number}"}})
    item["spec"]["template"] = {
        "metadata": {"labels": {"app": f"serve-{number}"}},
        "spec": served(number)["spec"],
    }
    return item


def of_a_daemon(number: int) -> Object:
    """A pod that is made of a template whose class works through an MPS daemon of its own."""
    item = numbered(number)
    item["spec"]["volumes"].insert(0, {"name": keys.MPS_VOLUME, "hostPath": {"path": "/run/mps"}})
    return item


@pytest.mark.parametrize("made", [served, numbered, deployed, of_a_daemon])
@pytest.mark.parametrize("labels", [{}, {keys.ENGINE: "kueue", keys.QUEUE: "a"}], ids=["", "queued"])
def test_objects_that_differ_in_what_decides_nothing_are_alike(
    made: Callable[[int], Object], labels: dict[str, str]
) -> None:
    cluster = known(**labels)
    for number in range(3):
        assert review(cluster, made(number)).raw == review(known(**labels), made(number)).raw
    assert len(cluster.outcomes()) == 1


def _with(item: Object, change: Callable[[Object], object]) -> Object:
    change(pod_spec(item))
    return item


def _first(**fields: Any) -> Callable[[Object], object]:
    return lambda spec: spec["containers"][0].update(fields)


def _second(**fields: Any) -> Callable[[Object], object]:
    return lambda spec: spec["containers"][1].update(fields)


@pytest.mark.parametrize("base", ["training", "inference", "shares", "daemon"])
@pytest.mark.parametrize(
    "other",
    [
        served(1, **labelled("inference")),
        served(1, **annotated(gpu_memory="8Gi")),
        served(1, **annotated(rewrite="false")),
        served(1, labels={"slicewise.io/workloadclass": "training"}),
        served(1, labels={keys.KUEUE_QUEUE: "mine"}),
        served(1, labels={}),
        served(1, annotations={}),
        served(1, annotations={keys.VOLCANO_QUEUE: "mine"}),
        owned(served(1), "Job", "batch/v1"),
        owned(served(1, labels={keys.KUEUE_POD_SET: "main"}), "Job", "batch/v1"),
        _with(served(1), _first(name="another")),
        _with(served(1), _first(resources={"limits": {"nvidia.com/gpu": "2"}})),
        _with(
            served(1),
            _first(resources={"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}}),
        ),
        _with(served(1), _first(resources={"limits": {"nvidia.com/mig-1g.10gb": "1"}})),
        _with(served(1), _first(env=[{"name": keys.VISIBLE_DEVICES, "value": "all"}])),
        _with(served(1), _second(env=[{"name": keys.VISIBLE_DEVICES, "value": "all"}])),
        _with(served(1), _second(env=[{"name": "CUDA_MPS_PIPE_DIRECTORY", "value": "/mine"}])),
        _with(served(1), _first(env=[{"name": "CUDA_MPS_LOG_DIRECTORY", "value": "/mine"}])),
        _with(served(1), lambda spec: spec["containers"][1].pop("env")),
        _with(served(1), _second(env=[])),
        _with(served(1), _first(volumeMounts=[{"name": "shm", "mountPath": "/dev/shm/"}])),  # noqa: S108
        _with(served(1), _first(volumeMounts=[{"name": "mps", "mountPath": "/run/mps"}])),
        _with(served(1), lambda spec: spec.pop("volumes")),
        _with(served(1), lambda spec: spec["volumes"].append({"name": "slicewise-mps", "emptyDir": {}})),
        _with(served(1), lambda spec: spec.update(nodeSelector={keys.PRODUCT: "none"})),
        _with(served(1), lambda spec: spec.update(nodeName="nowhere")),
        _with(served(1), lambda spec: spec.update(hostIPC=True)),
        _with(served(1), lambda spec: spec.update(schedulerName="volcano")),
        _with(served(1), lambda spec: spec.update(tolerations=[{"operator": "Exists"}])),
        _with(served(1), lambda spec: spec.update(initContainers=[container("first")])),
        _with(served(1), lambda spec: spec.update(resourceClaims=[{"name": "one"}])),
        _with(served(1), lambda spec: spec["containers"].append(container("third"))),
        deployed(1),
    ],
)
def test_objects_that_differ_in_what_decides_are_not(base: str, other: Object) -> None:
    labels = {keys.WORKLOAD_CLASS: base}
    cluster = known(**labels)
    review(cluster, served(0))
    review(cluster, numbered(0))
    assert review(cluster, other).raw == review(known(**labels), other).raw


@pytest.mark.parametrize(
    "name",
    [
        f'"{keys.VISIBLE_DEVICES}"',
        f'"\\u004e{keys.VISIBLE_DEVICES[1:]}"',
        f'"NVIDIA\\u005f{"VISIBLE_DEVICES"}"',
    ],
)
def test_a_variable_is_found_however_its_name_is_written(name: str) -> None:
    item = _with(served(1), _second(env=[{"name": "THE_NAME", "value": "all"}]))
    body = {"apiVersion": "admission.k8s.io/v1", "request": request(item)}
    answered = json.loads(answer(json.dumps(body).replace('"THE_NAME"', name).encode(), known()).body)
    assert "sets NVIDIA_VISIBLE_DEVICES" in answered["response"]["warnings"][0]


def _relabelled(cluster: ClusterState) -> None:
    cluster.namespaces = {"team": {**cluster.namespaces["team"], keys.WORKLOAD_CLASS: "inference"}}


def _relabelled_in_place(cluster: ClusterState) -> None:
    labels = dict(cluster.namespaces["team"])
    cluster.namespaces = {"team": labels}
    review(cluster, served(7))
    labels[keys.MODE] = "audit"


def _other_policy(cluster: ClusterState) -> None:
    cluster.policies = {"default": policy({"notebook": {"strategy": "time-slicing"}})}


def _fewer_pools(cluster: ClusterState) -> None:
    for name in ("whole-0", "whole-1", "whole-2"):
        cluster.pools.put(name, None)
    cluster.pools.see(NODES["whole"].node("new", spec={"taints": [{"key": "a", "effect": "NoSchedule"}]}))


def _no_pools(cluster: ClusterState) -> None:
    emptied = Inventory()
    emptied.revision = cluster.pools.revision + 1
    cluster.pools = emptied


@pytest.mark.parametrize(
    "change", [_relabelled, _relabelled_in_place, _other_policy, _fewer_pools, _no_pools]
)
def test_nothing_is_remembered_beyond_what_it_was_made_of(change: Callable[[ClusterState], None]) -> None:
    cluster, anew = known(), known()
    before = review(cluster, served(0))
    change(cluster)
    change(anew)
    after = review(cluster, served(1))
    assert after.raw == review(anew, served(1)).raw
    assert after.raw != before.raw


def test_whoever_is_not_believed_gets_what_nobody_else_does() -> None:
    item = owned(served(0, labels={keys.KUEUE_POD_SET: "main"}), "Job", "batch/v1")
    labels = {keys.ENGINE: "kueue", keys.QUEUE: "a"}
    cluster, answers = known(**labels), []
    for name in ("kube-system:job-controller", "team:deployer"):
        author = {"username": f"system:serviceaccount:{name}"}
        answers.append(review(cluster, item, userInfo=author).raw)
        assert answers[-1] == review(known(**labels), item, userInfo=author).raw
    assert answers[0] != answers[1]


def test_a_pod_that_has_the_daemons_volume_gets_no_other() -> None:
    item = _with(served(1), lambda spec: spec["volumes"].append({"name": keys.MPS_VOLUME, "emptyDir": {}}))
    paths = [each["path"] for each in review(known(**{keys.WORKLOAD_CLASS: "daemon"}), item).operations]
    assert "/spec/hostIPC" in paths
    assert not [path for path in paths if path.startswith("/spec/volumes")]


def test_words_name_the_object_that_they_are_about() -> None:
    cluster = world(policies=(policy({"notebook": {"strategy": "time-slicing"}}),))
    for number in range(2):
        refused = review(cluster, served(number, container(gpus=2)))
        assert f"Pod team/work-{number}:" in refused.message
        warned = review(cluster, served(number, labels={"slicewise.io/workloadclass": "x"}))
        assert f"Pod team/work-{number}:" in warned.warnings[0]


def test_a_rollout_is_asked_of_each() -> None:
    rule = policy({"notebook": {"strategy": "time-slicing"}}, rollout={"percent": 50})
    cluster = world(policies=(rule,))
    answers = [
        review(cluster, served(number, generateName=None, name=f"name{number}")) for number in range(30)
    ]
    assert {each.outcome for each in answers} == {"left", "rewritten"}
    for number, each in enumerate(answers):
        item = served(number, generateName=None, name=f"name{number}")
        assert each.raw == review(world(policies=(rule,)), item).raw


@pytest.mark.parametrize(
    ("gist", "whole"),
    [
        (model.PodSpecGist, model.PodSpec),
        (model.ContainerGist, model.Container),
        (model.PodTemplateGist, model.PodTemplate),
        (model.MountGist, model.Mount),
    ],
)
def test_a_gist_has_every_field_that_anybody_reads(gist: Any, whole: Any) -> None:
    left_out = {"name"} if whole is model.Mount else set()
    assert {*gist.__struct_encode_fields__} == {*whole.__struct_encode_fields__} - left_out


def _reading_whole() -> Templates:
    """Kinds of which each object is decided on as it is."""
    found = Templates()
    for group, kind in (("", "Pod"), ("apps", "Deployment"), ("batch", "Job"), ("batch", "CronJob")):
        reader = found.reader(group, kind)
        assert reader is not None
        reader._decode_gist = None
    return found


def test_a_gist_gives_what_the_object_gives() -> None:
    chance = Random(2026)  # noqa: S311
    whole, cluster = _reading_whole(), corpus.cluster.__wrapped__()
    for _ in range(400):
        body = json.dumps(corpus.review(chance)).encode()
        cluster.outcomes().clear()
        expected = answer(body, cluster, whole)
        assert answer(body, cluster) == expected
        assert answer(body, cluster) == expected, "found again"


@pytest.mark.parametrize(
    ("entries", "held"),
    [
        ([("a", 10, 0)], "a"),
        ([("a", 10, 0), ("b", 10, 10), ("c", 10, 0)], "abc"),
        ([("a", 10, 0), ("b", 10, 0), ("c", 10, 0), ("d", 10, 0)], "d"),
        ([("a", 60, 0), ("b", 10, 41)], "b"),
        ([("a", 10, 0), ("b", 0, 101)], "a"),
        ([("a", 60, 0), ("a", 50, 0)], "a"),
    ],
)
def test_a_memo_holds_so_many_results_and_so_many_bytes(
    entries: list[tuple[str, int, int]], held: str
) -> None:
    memo = Memo(3, 100)
    for key, written, more in entries:
        memo.put(key, key, written, more)
    assert "".join(key for key in "abcd" if memo.get(key)) == held
    assert len(memo) == len(held)


def test_what_people_write_at_any_length_is_not_held() -> None:
    memo = Memo(3, 1_000_000)
    memo.put("a", "a", 10_000, 0)
    assert len(memo) == 0


def test_what_asks_for_slices_by_name_is_alike_too() -> None:
    cluster = known()
    for number in range(2):
        review(cluster, served(number, asking({"nvidia.com/mig-1g.10gb": "1"})))
    assert len(cluster.outcomes()) == 1


def _many(gpus: int | None = None, **spec: Any) -> Callable[[int], Object]:
    """Pods of which no two are alike."""
    return lambda number: pod(container(f"c{number}", gpus), **spec)


NAMED: Final = [
    container("first", resources={"limits": {f"{keys.IMPLICIT_NAME}{number}": 1}}) for number in range(60)
]


@pytest.mark.parametrize(
    ("made", "labels"),
    [
        (_many(), {}),
        (_many(gpus=1), {}),
        (_many(gpus=1), {keys.WORKLOAD_CLASS: "daemon"}),
        (_many(), {f"label-{number}": "x" for number in range(200)}),
        (_many(gpus=1, tolerations=[{"key": f"{number}"} for number in range(380)]), {}),
        (_many(resourceClaims=[{"name": f"{number}"} for number in range(380)]), {}),
        (_many(initContainers=NAMED), {}),
        (lambda number: pod(*(container(f"c{number}-{index}") for index in range(4))), {}),
    ],
    ids=["no GPU", "a GPU", "a daemon", "labels", "tolerations", "claims", "names", "containers"],
)
def test_what_is_remembered_takes_no_more_memory_than_is_counted(
    made: Callable[[int], Object], labels: dict[str, str]
) -> None:
    cluster = known(**labels)
    memo = cluster.outcomes()
    review(cluster, made(0))  # what lives as long as the process
    memo.clear()
    tracemalloc.start()
    try:
        for number in range(20):
            review(cluster, made(number))
        assert len(memo) == 20
        counted = memo._held
        cluster._allocations.clear()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        memo.clear()
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0 < held - left <= counted


def test_nothing_is_remembered_of_a_namespace_of_very_many_labels() -> None:
    cluster = known(**{f"label-{number}": "x" * 60 for number in range(200)})
    review(cluster, served(0))
    assert len(cluster.outcomes()) == 0
