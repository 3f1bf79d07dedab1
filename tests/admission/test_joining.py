"""Which queue work joins: the one that it names anywhere, else its namespace's, and nothing of another engine."""

import json
from copy import deepcopy
from typing import Any, Final

import pytest

from slicewise.api import keys
from slicewise.kube.apply import Client, applied_again
from tests.admission.building import (
    GPU,
    SLICE,
    Object,
    asking,
    container,
    created,
    deployment,
    devices,
    labelled,
    owned,
    pod,
    pod_of,
    pod_spec,
    review,
    spec_of,
    world,
)
from tests.admission.kinds import at

KUEUE: Final = {keys.ENGINE: "kueue", keys.QUEUE: "theirs"}
VOLCANO: Final = {keys.ENGINE: "volcano", keys.QUEUE: "theirs"}


def labelled_for_kueue() -> Object:
    item = deployment(metadata=labelled("inference"))
    item["metadata"]["labels"][keys.KUEUE_QUEUE] = "own"
    return item


def annotated_template(**fields: Any) -> Object:
    return deployment(
        metadata=labelled("inference"), template={"annotations": {keys.VOLCANO_QUEUE: "own"}}, **fields
    )


def custom(api_version: str, kind: str, spec: Object, **labels: str) -> Object:
    metadata = {"name": "work", "namespace": "team", "labels": {keys.WORKLOAD_CLASS: "inference", **labels}}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def training() -> Object:
    policy = {"schedulingPolicy": {"queue": "own"}}
    roles = {"Worker": {"replicas": 1, "template": {"spec": spec_of(container("pytorch"))}}}
    return custom("kubeflow.org/v1", "PyTorchJob", {"runPolicy": policy, "pytorchReplicaSpecs": roles})


def ray() -> Object:
    head = {"rayStartParams": {}, "template": {"spec": spec_of()}}
    return custom("ray.io/v1", "RayCluster", {"headGroupSpec": head}, **{"volcano.sh/queue-name": "own"})


def volcano_job() -> Object:
    tasks = [{"name": "main", "replicas": 1, "template": {"spec": spec_of()}}]
    return custom("batch.volcano.sh/v1alpha1", "Job", {"queue": "own", "tasks": tasks})


def labelled_template() -> Object:
    return deployment(metadata=labelled("inference"), template={"labels": {keys.KUEUE_QUEUE: "own"}})


def cron_job() -> Object:
    template = {"spec": {"template": {"spec": spec_of()}}}
    return custom("batch/v1", "CronJob", {"jobTemplate": template}, **{keys.KUEUE_QUEUE: "own"})


def wrapped(inner: Object) -> Object:
    return custom("workload.codeflare.dev/v1beta2", "AppWrapper", {"components": [{"template": inner}]})


def job_set() -> Object:
    template = {"metadata": {"labels": {keys.KUEUE_QUEUE: "own"}}, "spec": {"template": {"spec": spec_of()}}}
    return custom(
        "jobset.x-k8s.io/v1alpha2", "JobSet", {"replicatedJobs": [{"name": "a", "template": template}]}
    )


def workflow() -> Object:
    templates = [{"name": "main", "container": container()}]
    return custom("argoproj.io/v1alpha1", "Workflow", {"templates": templates}, **{keys.KUEUE_QUEUE: "own"})


@pytest.mark.parametrize(
    ("item", "place"),
    [
        (labelled_template(), "metadata.labels"),
        (job_set(), "metadata.labels"),
        (wrapped(labelled_for_kueue()), "metadata.labels"),
        (cron_job(), "spec.jobTemplate.metadata.labels"),
        (workflow(), "spec.podMetadata.labels"),
    ],
    ids=["Deployment", "JobSet", "AppWrapper", "CronJob", "Workflow"],
)
def test_a_queue_that_is_named_where_kueue_does_not_look_is_its_queue_everywhere(
    item: Object, place: str
) -> None:
    known = world("mixed", labels=KUEUE)
    made = review(known, item).item
    assert at(made, place)[keys.KUEUE_QUEUE] == "own"
    assert "theirs" not in json.dumps(made)
    assert review(known, made).operations == []


@pytest.mark.parametrize("components", [[], [None], [1], [[]], [{}], [{"template": [1]}], {"0": 1}], ids=str)
@pytest.mark.parametrize("labels", [{}, KUEUE], ids=["no queue", "a queue"])
def test_the_place_of_an_object_within_another_is_not_looked_for_within_it_again(
    components: Any, labels: dict[str, str]
) -> None:
    spec = {"template": {"spec": spec_of()}, "components": components}
    answered = review(world("mixed", labels=labels), wrapped(custom("batch/v1", "Job", spec)))
    inner = at(answered.item, "spec.components")[0]["template"]
    assert devices(inner) == {"main": {SLICE: "1"}}


@pytest.mark.parametrize(
    "item",
    [
        annotated_template(),
        pod(metadata=labelled("inference") | {"annotations": {keys.VOLCANO_QUEUE: "own"}}),
    ],
    ids=lambda item: item["kind"],
)
def test_an_annotation_alone_keeps_no_work_from_volcano(item: Object) -> None:
    """Its queue is one of Volcano's, and only Volcano's scheduler counts it there."""
    known = world("mixed", labels=VOLCANO)
    live = review(known, item).item
    assert pod_spec(live)["schedulerName"] == keys.VOLCANO_SCHEDULER
    assert "theirs" not in json.dumps(live)
    assert review(known, live).operations == []
    if item["kind"] != "Pod":
        assert pod_spec(review(known, item, live).item)["schedulerName"] == keys.VOLCANO_SCHEDULER


def leader_workers() -> Object:
    template = {"size": 2, "workerTemplate": {"spec": spec_of()}}
    return custom("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", {"leaderWorkerTemplate": template})


@pytest.mark.parametrize(
    ("item", "place", "key"),
    [
        (ray(), "labels", "volcano.sh/queue-name"),
        (leader_workers(), "annotations", keys.VOLCANO_QUEUE),
    ],
    ids=["RayCluster", "LeaderWorkerSet"],
)
def test_an_empty_name_is_no_queue_of_volcano(item: Object, place: str, key: str) -> None:
    known = world("mixed", labels=VOLCANO)
    emptied = deepcopy(item)
    emptied["metadata"][place] = {**item["metadata"].get(place, {}), key: ""}
    live = created(known, emptied)
    assert live["metadata"][place][key] == "theirs"
    emptied = deepcopy(live)
    emptied["metadata"][place][key] = ""
    assert review(known, emptied, live).item["metadata"][place][key] == "theirs"


def test_an_update_puts_nothing_into_a_queue_that_its_pods_alone_name() -> None:
    """Kueue takes no label of work that runs."""
    known = world("mixed")
    live = created(known, labelled_template())
    after = review(known, labelled_template(), live).item
    assert keys.KUEUE_QUEUE not in after["metadata"]["labels"]


@pytest.mark.parametrize(
    ("item", "namespace", "foreign"),
    [
        (labelled_for_kueue(), VOLCANO, "volcano"),
        (labelled_template(), VOLCANO, "volcano"),
        (cron_job(), VOLCANO, "volcano"),
        (workflow(), VOLCANO, "volcano"),
        (job_set(), VOLCANO, "volcano"),
        (wrapped(labelled_for_kueue()), VOLCANO, "volcano"),
        (wrapped(training()), KUEUE, "kueue"),
        (wrapped(ray()), KUEUE, "kueue"),
        (wrapped(ray()), VOLCANO, "theirs"),
        (annotated_template(), KUEUE, "kueue"),
        (annotated_template(schedulerName="volcano"), KUEUE, "kueue"),
        (training(), KUEUE, "kueue"),
        (ray(), KUEUE, "kueue"),
        (volcano_job(), KUEUE, "kueue"),
        (annotated_template(), VOLCANO, "theirs"),
        (training(), VOLCANO, "theirs"),
        (ray(), VOLCANO, "theirs"),
        (volcano_job(), VOLCANO, "theirs"),
    ],
    ids=lambda each: each.get("kind") or each[keys.ENGINE] if isinstance(each, dict) else each,
)
def test_work_that_names_a_queue_keeps_it_and_gets_nothing_of_another_engine(
    item: Object, namespace: dict[str, str], foreign: str
) -> None:
    answered = review(world("mixed", labels=namespace), item)
    written = [each for each in answered.operations if keys.DECISION not in json.dumps(each)]
    assert SLICE in json.dumps(answered.item)
    assert foreign not in json.dumps(written)


OF_VOLCANO: Final = "and not in Kueue as its namespace does, so no quota of Kueue's counts it; "
SUBMIT: Final = "submit it where slicewise.io/engine is volcano"
TAKE_OUT: Final = f"take out what names Volcano, or {SUBMIT}"
OF_KUEUE: Final = (
    "queues in Kueue (queue own), as it says itself, and not in Volcano as its namespace does, so no quota of "
    "Volcano's counts it; take out what names Kueue, or submit it where slicewise.io/engine is kueue"
)
OF_BOTH: Final = "names Kueue and Volcano (queue own), and each counts it against a quota of its own; "
OUT: Final = "take out what names Volcano"
ELSEWHERE: Final = [
    (
        annotated_template(),
        KUEUE,
        f"Deployment team/serve: queues in Volcano (queue own), as it says itself, {OF_VOLCANO}{TAKE_OUT}",
    ),
    (
        training(),
        KUEUE,
        f"PyTorchJob team/work: queues in Volcano (queue own), as it says itself, {OF_VOLCANO}{TAKE_OUT}",
    ),
    (
        ray(),
        {keys.QUEUE: "theirs"},
        f"RayCluster team/work: queues in Volcano (queue own), as it says itself, {OF_VOLCANO}{TAKE_OUT}",
    ),
    (
        deployment(schedulerName="volcano"),
        {keys.ENGINE: "kueue"},
        f"Deployment team/serve: queues in Volcano, as it says itself, {OF_VOLCANO}{TAKE_OUT}",
    ),
    (
        volcano_job(),
        KUEUE,
        f"Job team/work: queues in Volcano (queue own), as its kind does, {OF_VOLCANO}{SUBMIT}",
    ),
    (labelled_for_kueue(), VOLCANO, f"Deployment team/serve: {OF_KUEUE}"),
    (labelled_template(), VOLCANO, f"Deployment team/serve: {OF_KUEUE}"),
    (cron_job(), VOLCANO, f"CronJob team/work: {OF_KUEUE}"),
    (job_set(), VOLCANO, f"JobSet team/work: {OF_KUEUE}"),
    (
        wrapped(ray()),
        KUEUE,
        f"AppWrapper team/work: queues in Volcano (queue own), as it says itself, {OF_VOLCANO}{TAKE_OUT}",
    ),
    (
        {**labelled_for_kueue(), "spec": annotated_template()["spec"]},
        KUEUE,
        f"Deployment team/serve: {OF_BOTH}{OUT}",
    ),
    (annotated_template(), VOLCANO, ""),
    (labelled_for_kueue(), KUEUE, ""),
    (annotated_template(), {keys.ENGINE: "none"}, ""),
    (annotated_template(), {}, ""),
]


@pytest.mark.parametrize(("item", "namespace", "words"), ELSEWHERE)
def test_work_that_another_engine_has_than_its_namespace_says_so(
    item: Object, namespace: dict[str, str], words: str
) -> None:
    known = world("mixed", "whole", labels=namespace)
    answered = review(known, item)
    assert answered.warnings == ([words] if words else [])
    assert review(known, item, answered.item).warnings == [], "said once, when it is new"
    known = world("mixed", "whole", labels={**namespace, keys.MODE: "audit"})
    assert [each for each in review(known, item).warnings if "names" in each] == (
        [f"audit: {words}"] if words else []
    )


def for_kueue() -> Object:
    return deployment(metadata={"labels": {**labelled("inference")["labels"], keys.KUEUE_QUEUE: "own"}})


MOVES: Final = [
    (VOLCANO, for_kueue(), "volcano", "names Kueue and Volcano (queue theirs)"),
    (KUEUE, annotated_template(schedulerName="volcano"), "kueue", "names Volcano and Kueue (queue theirs)"),
]


@pytest.mark.parametrize(("namespace", "now", "former", "words"), MOVES)
def test_work_that_moves_to_another_engine_by_an_update_is_not_put_back(
    namespace: dict[str, str], now: Object, former: str, words: str
) -> None:
    known = world("mixed", labels=namespace)
    before = deployment(metadata=labelled("inference"))
    live = created(known, before)
    replaced = review(known, now, live)
    written = [each for each in replaced.operations if keys.DECISION not in json.dumps(each)]
    assert former not in json.dumps(written)
    assert replaced.warnings == []
    merged = review(known, applied_again(Client.KUBECTL, before, now, live), live)
    (warning,) = merged.warnings
    assert warning.startswith(f"Deployment team/serve: {words}, and each counts it")
    assert review(known, merged.item, merged.item).warnings == []


@pytest.mark.parametrize(
    ("labels", "fields"),
    [(KUEUE, {}), (VOLCANO, {}), (VOLCANO, {"schedulerName": "volcano"})],
    ids=["Kueue", "Volcano", "with Volcano's scheduler"],
)
@pytest.mark.parametrize("asks", [asking({SLICE: "1"}), container()], ids=["by name", "decided"])
def test_a_bare_pod_that_is_replaced_by_its_manifest_stays_in_its_queue(
    labels: dict[str, str], fields: Object, asks: Object
) -> None:
    known = world("mixed", labels=labels)
    manifest = pod(asks, metadata=labelled("inference"), **fields)
    live = created(known, manifest)
    assert "theirs" in json.dumps(live["metadata"])
    replaced = review(known, deepcopy(manifest), live)
    assert replaced.item == live
    assert review(known, replaced.item, live).operations == []
    marked = deepcopy(live)
    marked["metadata"]["labels"]["more"] = "x"
    assert review(known, marked, live).operations == []


def test_the_owner_of_such_pods_is_told_and_pods_of_what_was_decided_say_nothing() -> None:
    known = world("mixed", labels=KUEUE)
    metadata = labelled("inference") | {"annotations": {keys.VOLCANO_QUEUE: "own"}}
    answered = review(known, owned(pod(metadata=metadata), "CloneSet", "apps.kruise.io/v1"))
    assert answered.raw.notice is not None
    assert "queues in Volcano (queue own)" in answered.raw.notice.warnings[0]
    assert review(known, pod_of(created(known, annotated_template()))).warnings == []


@pytest.mark.parametrize(
    ("kind", "api"), [("Workflow", "argoproj.io/v1alpha1"), ("CloneSet", "apps.kruise.io/v1")]
)
def test_a_pod_whose_parent_asked_for_no_gpu_joins_the_namespaces_queue(kind: str, api: str) -> None:
    made = review(world("mixed", labels=KUEUE), owned(pod(metadata=labelled("inference")), kind, api)).item
    assert made["metadata"]["labels"][keys.KUEUE_QUEUE] == "theirs"
    made = review(world("mixed", labels=VOLCANO), owned(pod(metadata=labelled("inference")), kind, api)).item
    assert made["metadata"]["annotations"][keys.VOLCANO_QUEUE] == "theirs"
    assert made["spec"]["schedulerName"] == "volcano"


def test_a_pod_of_a_template_that_is_in_a_queue_joins_none() -> None:
    known = world("mixed", labels=KUEUE)
    made = pod_of(created(known, deployment(metadata=labelled("inference"))))
    assert review(known, made).operations == []


def test_a_pod_that_asks_for_more_than_its_record_is_decided_anew() -> None:
    known = world("mixed", "whole")
    made = pod_of(created(known, deployment(metadata=labelled("inference"))))
    made["spec"]["containers"] = [asking({SLICE: 1, GPU: 3})]
    assert devices(review(known, made).item) == {"main": {GPU: "3"}}


def test_audit_says_all_that_would_change() -> None:
    known = world("mixed", "whole", labels={**KUEUE, keys.MODE: "audit"})
    (warning,) = review(known, deployment(metadata=labelled("training"))).warnings
    assert warning.startswith(
        "audit: Deployment team/serve: main: nvidia.com/gpu 1 -> nvidia.com/gpu 1; kept to h100-80gb-exclusive, "
        "tolerating nvidia.com/gpu, "
        "in queue theirs (class training gets exclusive"
    )


@pytest.mark.parametrize("labels", [KUEUE, VOLCANO], ids=["Kueue", "Volcano"])
def test_audit_says_the_queue_of_what_names_its_slice_itself(labels: dict[str, str]) -> None:
    known = world("mixed", labels={**labels, keys.MODE: "audit"})
    item = deployment(asking({SLICE: "1"}), metadata=labelled("inference"))
    answered = review(known, item)
    assert answered.operations == []
    words = "audit: Deployment team/serve: stays as it is asked for, in queue theirs"
    assert answered.warnings == [words]
    assert review(known, created(world("mixed", labels=labels), item)).warnings == [], "it is in it"


def test_audit_says_it_whole_of_many_containers_and_once_of_many_templates() -> None:
    known = world("mixed", labels={**KUEUE, keys.MODE: "audit", keys.WORKLOAD_CLASS: "inference"})
    many = [container(f"the-container-number-{number}") for number in range(12)]
    where = "free to run in h100-80gb-mig-mixed, tolerating nvidia.com/gpu, in queue theirs"
    why = "(class inference gets mig; the smallest offered is a slice 1g.10gb)"
    (warning,) = review(known, deployment(*many)).warnings
    assert warning == (
        "audit: Deployment team/serve: the-container-number-0, the-container-number-1, the-container-number-2 and 9 "
        "more: nvidia.com/gpu 1 -> "
        f"{SLICE} 1; {where} {why}"
    )
    tasks = [{"name": name, "replicas": 1, "template": {"spec": spec_of()}} for name in ("a", "b")]
    gang = custom("jobset.x-k8s.io/v1alpha2", "JobSet", {})
    gang["spec"]["replicatedJobs"] = [
        {**task, "template": {"spec": {"template": task["template"]}}} for task in tasks
    ]
    (warning,) = review(known, gang).warnings
    assert warning == f"audit: JobSet team/work: main: nvidia.com/gpu 1 -> {SLICE} 1; {where} {why}"


def test_audit_keeps_the_fix_of_a_refusal_whole() -> None:
    known = world("time", labels={**KUEUE, keys.MODE: "audit"})
    (warning,) = review(known, deployment(container("c" * 60, gpus=3), metadata=labelled("tuning"))).warnings
    assert warning.startswith("audit: would be refused: Deployment team/serve: container 'ccc")
    assert warning.endswith(
        "; ask for nvidia.com/gpu: 1, or label the workload slicewise.io/workload-class=training to get whole GPUs"
    )
