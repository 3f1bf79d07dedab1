"""What somebody can make of it who may write workloads and not label namespaces; docs/security.md names these tests."""

import json
import re
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from admission.decision.cluster_state import ClusterState
from admission.mutating import answer
from admission.workloads.builtin_kinds import HOMES
from slicewise.api import keys
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
    policy,
    request,
    review,
    world,
)
from tests.admission.kinds import manifest
from tests.inventory.nodes import A100_80, SINGLE, document, read
from tests.inventory.nodes import whole as whole_board

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/security.md").read_text()
SHARES = policy({"notebook": {"strategy": "time-slicing", "multiGPU": "refuse"}}, allow=[])
GENEROUS = policy({"training": {"strategy": "exclusive"}}, "generous")
"""Of other namespaces."""
WHOLE, SHARE = "h100-80gb-exclusive", "a10-time-slicing-x4"
PERSON: Object = {"username": "ada", "groups": ["system:authenticated"]}


def account(namespace: str, name: str = "controller") -> Object:
    return {"username": f"system:serviceaccount:{namespace}:{name}", "groups": ["system:serviceaccounts"]}


def record(to: str, count: int, *pools: str, strategy: str = "time-slicing", **fields: Any) -> Object:
    """Annotations with a decision that nobody made."""
    forged = {
        "policy": "default",
        "class": "notebook",
        "classFrom": "label",
        "strategy": strategy,
        "pools": list(pools),
        "containers": {"main": {"from": GPU, "to": to, "count": count, "asked": 1}},
        "reason": "because",
        "steered": True,
        **fields,
    }
    return {"annotations": {keys.DECISION: json.dumps(forged)}}


def steered(*pools: str) -> Object:
    term = {"matchExpressions": [{"key": keys.POOL, "operator": "In", "values": list(pools)}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"affinity": {"nodeAffinity": required}}


def is_a_share(item: Object) -> bool:
    """True for one share, kept to the pool of shares."""
    required = pod_spec(item)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return devices(item) == {"main": {GPU: "1"}} and all(
        {SHARE}
        == set.intersection(*(set(e["values"]) for e in term["matchExpressions"] if e["key"] == keys.POOL))
        for term in required["nodeSelectorTerms"]
    )


@pytest.mark.parametrize("made_by", [None, "Job"], ids=["by a person", "as if by a controller"])
def test_a_forged_decision_that_does_not_say_where_is_not_believed(made_by: str | None) -> None:
    known = world("whole", "time", policies=(SHARES,))
    item = pod(metadata=record(GPU, 1, SHARE, steered=False))
    answered = review(known, owned(item, made_by, "batch/v1") if made_by else item)
    assert answered.allowed
    assert is_a_share(answered.item)


@pytest.mark.parametrize("pools", [[WHOLE], [SHARE, WHOLE]], ids=["alone", "beside a true one"])
def test_a_forged_decision_for_a_pool_that_is_empty_now_is_not_believed(pools: list[str]) -> None:
    """An autoscaler would make the pool larger for this very pod."""
    known = world("time", policies=(SHARES,))
    answered = review(known, pod(metadata=record(GPU, 1, *pools), **steered(*pools)))
    assert not answered.allowed or is_a_share(answered.item)


@pytest.mark.parametrize(("size", "gets_it"), [({}, True), ({"size": {"profile": "1g.10gb"}}, False)])
def test_who_selects_nodes_of_larger_slices_gets_them_where_the_class_names_no_size(
    size: Object, *, gets_it: bool
) -> None:
    larger = "a100-80gb-mig-single-7g-80gb"
    known = world("single", policies=(policy({"inference": {"strategy": "mig", **size}}, allow=[]),))
    labels = {**SINGLE, **whole_board(f"{A100_80}-MIG-7g.80gb", 8, 80896), "mig.config": "all-7g.80gb"}
    known.pools.see(read(document("large", labels, {"gpu": 8})))
    free, selecting = review(known, pod()), review(known, pod(**steered(larger)))
    assert larger not in free.decision["pools"][:1]
    assert selecting.allowed == gets_it
    if gets_it:
        assert selecting.decision["pools"] == [larger]


@pytest.mark.parametrize(("make", "made_by"), [(pod, None), (pod, "Job"), (deployment, None)])
@pytest.mark.parametrize("decided", ["in full", "with the pool as a label", ""])
def test_a_forged_decision_takes_nobody_to_another_model_of_the_same_pool(
    make: Callable[..., Object], made_by: str | None, decided: str
) -> None:
    """A pool may have boards that are packaged otherwise; a class names one of them, a record the pool."""
    mine, other, pool = "NVIDIA-A100-PCIE-80GB", A100_80, "a100-80gb-exclusive"
    both = policy({"training": {"strategy": "exclusive", "models": ["*PCIE*"]}}, allow=[])
    known = world("whole", policies=(both,))
    for name, product in (("a", mine), ("b", other)):
        known.pools.see(read(document(name, whole_board(product, 8, 81920), {"gpu": 8})))
    says: Object = {"class": "training"}
    if decided == "with the pool as a label":
        says["nodeLabels"] = [{"key": keys.POOL, "operator": "In", "values": [pool]}]
    forged = record(GPU, 1, pool, strategy="exclusive", **says) if decided else {}
    item = make(metadata=forged, **steered(pool))
    answered = review(known, owned(item, made_by, "batch/v1") if made_by else item)
    assert answered.allowed, answered.message
    required = answered.spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = required["nodeSelectorTerms"]
    assert {"key": keys.PRODUCT, "operator": "In", "values": [mine]} in term["matchExpressions"]


@pytest.mark.parametrize(
    "first",
    [container(gpus=None), asking({SLICE: 1}), asking({SLICE: 2})],
    ids=["nothing", "another name", "more of another name"],
)
@pytest.mark.parametrize(
    "forged",
    [
        record(GPU, 8, WHOLE),
        record(GPU, 8, WHOLE, strategy="exclusive"),
        record(GPU, 1, WHOLE),
        record(GPU, 1, SHARE, steered=False),
        record(GPU, 8, SHARE),
        record(GPU, 1, WHOLE, policy="mine"),
        record(GPU, 1, WHOLE, strategy="exclusive", policy="generous", **{"class": "training"}),
    ],
    ids=["eight", "eight, whole", "one, whole", "anywhere", "added up", "of no policy", "of another policy"],
)
@pytest.mark.parametrize("where", ["object", "template"])
def test_an_update_does_not_repeat_what_somebody_wrote_beside_other_work(
    first: Object, forged: Object, where: str
) -> None:
    known = world("mixed", "whole", "time", policies=(SHARES, GENEROUS))
    marks = (
        {"metadata": forged} if where == "object" else {"template": {"labels": {"app": "serve"}, **forged}}
    )
    live = created(known, deployment(first, **marks))
    new = deepcopy(live)
    new["spec"]["template"]["spec"]["containers"][0] = container()
    answered = review(known, new, live)
    assert answered.allowed, answered.message
    assert is_a_share(answered.item)


EIGHT: Object = {"from": GPU, "to": GPU, "count": 8, "asked": 8}


@pytest.mark.parametrize("beside", [[], [container("beside", gpus=None)]], ids=["added", "given a GPU"])
def test_an_update_does_not_repeat_what_somebody_wrote_of_another_container(beside: list[Object]) -> None:
    """What is said of the container that asked for a slice by its name is true."""
    known = world("mixed", "whole", "time", policies=(SHARES,))
    true = {"from": GPU, "to": SLICE, "count": 1, "asked": 1}
    forged = record(SLICE, 1, WHOLE, strategy="exclusive", containers={"main": true, "beside": EIGHT})
    live = created(known, deployment(asking({SLICE: 1}), *beside, metadata=forged))
    new = deepcopy(live)
    new["spec"]["template"]["spec"]["containers"][1:] = [container("beside", gpus=8)]
    assert "asks for 8 GPUs, but class notebook" in review(known, new, live).message


@pytest.mark.parametrize("first", [container(), container(gpus=None)], ids=["decided", "asks for nothing"])
def test_a_decision_that_comes_with_an_update_is_worth_no_more_than_a_label(first: Object) -> None:
    """As if the webhook were called again, and had just decided so itself."""
    known = world("whole", "time", policies=(SHARES, GENEROUS))
    live = created(known, deployment(first))
    forged = record(GPU, 8, WHOLE, strategy="exclusive", policy="generous", containers={"main": EIGHT})
    forged = {
        "annotations": {keys.DECISION: forged["annotations"][keys.DECISION].replace("notebook", "training")}
    }
    answered = review(
        known, deployment(container(gpus=8), metadata=forged, template=forged, **steered(WHOLE)), live
    )
    assert not answered.allowed


@pytest.mark.parametrize("number", [0, -1])
def test_a_forged_decision_about_no_gpu_is_none(number: int) -> None:
    """A total over pods follows what each of them asked for and got, in proportion."""
    item = manifest("kubeflow.org_PyTorchJob")
    container = {"name": "pytorch", "resources": {"limits": {SLICE: 1}}}
    for role in item["spec"]["pytorchReplicaSpecs"].values():
        role["template"]["spec"]["containers"] = [container]
    forged = {"from": GPU, "to": SLICE, "count": 1, "asked": number}
    item["metadata"] |= record(SLICE, 1, "h100-80gb-mig-mixed", containers={"pytorch": forged})
    live = created(world("mixed"), item)
    assert review(world("mixed"), item, live).operations == []


def test_what_changed_while_no_webhook_answered_is_still_repeated() -> None:
    known = world("mixed", "whole", "time")
    live = created(known, deployment(metadata=labelled("inference")))
    missed = deepcopy(live)
    missed["spec"]["template"]["spec"]["containers"][0] = container()
    answered = review(known, deepcopy(missed), missed)
    assert devices(answered.item) == {"main": {SLICE: "1"}}


MARKS: dict[str, Object] = {
    "virtual machine": {"kubevirt.io": "virt-launcher"},
    "copy": {"kueue.x-k8s.io/multikueue-origin": "hub"},
    "prebuilt": {"kueue.x-k8s.io/prebuilt-workload-name": "w"},
}


@pytest.mark.parametrize("labels", MARKS.values(), ids=MARKS)
@pytest.mark.parametrize(
    ("author", "believed"),
    [
        (PERSON, False),
        (account("team", "kubevirt-controller"), False),
        (account("kube-system", "job-controller"), False),
        ({"username": "system:kube-controller-manager"}, False),
        (account("kueue-system", "multikueue-sa"), True),
        ({"username": "admin", "groups": ["system:masters"]}, True),
        *((account(namespace, "kubevirt-controller"), True) for namespace in sorted(HOMES)),
    ],
    ids=lambda value: value["username"] if isinstance(value, dict) else str(value),
)
def test_labels_that_keep_work_as_it_is_are_believed_of_those_who_make_such_work(
    labels: Object, author: Object, *, believed: bool
) -> None:
    known = world("whole", "time", policies=(SHARES,))
    answered = review(known, pod(metadata={"labels": labels}), userInfo=author)
    assert answered.allowed
    assert (answered.operations == []) is believed
    live = deployment(container(gpus=None), metadata={"labels": labels})
    new = deployment(metadata={"labels": labels})
    assert (review(known, new, live, userInfo=author).operations == []) is believed


def test_an_owner_that_somebody_made_up_moves_the_decision_to_the_pod() -> None:
    known = world("whole", "time", policies=(SHARES,))
    assert is_a_share(review(known, owned(deployment(), "Any", "example.com/v1"), userInfo=PERSON).item)
    item = owned(deployment(), "InferenceService", "serving.kserve.io/v1beta1")
    assert review(known, item, userInfo=PERSON).operations == []
    assert is_a_share(review(known, pod_of(item), userInfo=account("kube-system")).item)


STARTED: Object = {"labels": {keys.KUEUE_POD_SET: "main"}}
DECIDED = record(GPU, 1, WHOLE, strategy="exclusive", **{"class": "training", "classFrom": "default"})


@pytest.mark.parametrize("engine", ["kueue", "volcano"])
@pytest.mark.parametrize(
    ("item", "author"),
    [
        (pod(metadata=STARTED), {}),
        (pod(metadata=STARTED), account("kube-system")),
        (owned(pod(metadata=STARTED), "Job", "batch/v1"), PERSON),
        (owned(pod(metadata=STARTED), "Job", "batch/v1"), account("team")),
        (owned(pod(metadata={**STARTED, **DECIDED}, **steered(WHOLE)), "Job", "batch/v1"), PERSON),
        (pod(metadata={"labels": {keys.KUEUE_QUEUE: ""}}), {}),
        (deployment(metadata={"labels": {keys.KUEUE_QUEUE: ""}}, template=STARTED), {}),
    ],
    ids=[
        "by nobody",
        "copied",
        "an owner made up",
        "by an account of his own",
        "decided too",
        "no queue",
        "beside it",
    ],
)
def test_no_label_of_a_person_keeps_work_out_of_its_queue(engine: str, item: Object, author: Object) -> None:
    known = world("whole", labels={keys.ENGINE: engine, keys.QUEUE: "theirs"})
    after = review(known, item, userInfo=author).item
    if engine == "kueue":
        assert after["metadata"]["labels"][keys.KUEUE_QUEUE] == "theirs"
    else:
        assert pod_spec(after)["schedulerName"] == keys.VOLCANO_SCHEDULER


@pytest.mark.parametrize(
    "author",
    [
        account("kube-system", "job-controller"),
        {"username": "system:kube-controller-manager"},
        account("kubeflow", "training-operator"),
        {"username": "admin", "groups": ["system:masters"]},
    ],
    ids=lambda author: author["username"],
)
def test_a_pod_that_kueue_has_started_is_believed_of_those_who_make_pods_of_owners(author: Object) -> None:
    known = world("whole", labels={keys.ENGINE: "kueue", keys.QUEUE: "theirs"})
    answered = review(known, owned(pod(metadata=STARTED), "Job", "batch/v1"), userInfo=author)
    assert keys.KUEUE_QUEUE not in answered.item["metadata"]["labels"]


def test_an_update_to_no_queue_leaves_work_in_its_queue() -> None:
    known = world("whole", labels={keys.ENGINE: "kueue", keys.QUEUE: "theirs"})
    live = created(known, deployment())
    emptied = deepcopy(live)
    emptied["metadata"]["labels"][keys.KUEUE_QUEUE] = ""
    answered = review(known, emptied, live, userInfo=PERSON)
    assert answered.item["metadata"]["labels"][keys.KUEUE_QUEUE] == "theirs"


def test_a_mirror_annotation_on_anything_but_a_pod_means_nothing() -> None:
    known = world("whole", "time", policies=(SHARES,))
    item = deployment(metadata={"annotations": {keys.MIRROR_POD: "x"}})
    assert is_a_share(review(known, item, userInfo=PERSON).item)


def test_a_rollout_that_is_under_way_is_no_fence() -> None:
    """Whoever chooses names may choose one that is not reached yet; at 100 percent there is none."""
    for percent, left in ((1, True), (100, False)):
        rule = policy({"notebook": {"strategy": "time-slicing"}}, rollout={"percent": percent})
        known = world("whole", "time", policies=(rule,))
        answers = [review(known, pod(metadata={"name": f"name-{number}"})) for number in range(20)]
        assert any(answer.operations == [] for answer in answers) is left


_LONG = "x" * 100_000


def _with_a_name_for_nothing(number: int) -> tuple[Object, None]:
    return pod(asking({GPU: 1, f"nvidia.com/mig-{number}{_LONG}": 0})), None


def _with_a_name_beside(number: int) -> tuple[Object, None]:
    return pod(container(), asking({f"nvidia.com/mig-{number}{_LONG}": 1}, "beside")), None


def _with_a_toleration(number: int) -> tuple[Object, None]:
    return pod(tolerations=[{"key": f"{number}{_LONG}", "operator": "Exists"}]), None


def _with_pools(number: int) -> tuple[Object, Object]:
    metadata = record(SLICE, 1, f"{number}{_LONG}", WHOLE, strategy="mig")
    item = deployment(asking({SLICE: 1}), metadata=metadata)
    return deepcopy(item), item


@pytest.mark.parametrize(
    "written", [_with_a_name_for_nothing, _with_a_name_beside, _with_a_toleration, _with_pools]
)
def test_what_people_write_at_any_length_is_not_remembered(
    written: Callable[[int], tuple[Object, Object | None]],
) -> None:
    known = world("time", policies=(SHARES,))
    review(known, *written(0))
    tracemalloc.start()
    try:
        for number in range(1, 21):
            review(known, *written(number))
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most > len(_LONG)
    assert kept < 10 * len(_LONG)


def test_a_container_of_very_many_names_holds_up_nobody() -> None:
    zeros = {f"nvidia.com/mig-{number}": 0 for number in range(20_000)}
    assert _seconds(pod(asking({GPU: 1, **zeros}))) < 3


_HERE = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["a"]}


def _alternatives(number: int, term: Object) -> Object:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term] * number}}
    return {"affinity": {"nodeAffinity": required}}


@pytest.mark.parametrize(
    ("few", "many"),
    [
        (
            _alternatives(500, {"matchExpressions": [_HERE]}),
            _alternatives(501, {"matchExpressions": [_HERE]}),
        ),
        (_alternatives(500, {"matchFields": [_HERE]}), _alternatives(501, {"matchFields": [_HERE]})),
        (
            _alternatives(1, {"matchExpressions": [_HERE] * 500}),
            _alternatives(1, {"matchExpressions": [_HERE] * 501}),
        ),
        (_alternatives(500, {}), _alternatives(501, {})),
        (
            {"nodeSelector": {f"key-{number}": "a" for number in range(500)}},
            {"nodeSelector": {f"key-{number}": "a" for number in range(501)}},
        ),
    ],
    ids=["alternatives", "fields", "requirements", "empty alternatives", "labels"],
)
def test_who_asks_very_many_things_of_nodes_is_refused_in_a_sentence(few: Object, many: Object) -> None:
    """Each is held against each node: of 2,000 nodes a pod with 10,000 alternatives took 40 seconds."""
    known = world("time", policies=(SHARES,))
    words = "things of its nodes by nodeSelector and required affinity"
    assert words in review(known, pod(**many)).message
    assert words not in review(known, pod(**few)).message
    assert review(known, pod(container(gpus=None), **many)).allowed


@pytest.mark.parametrize(
    "known", [world("time", policies=(SHARES,)), world("mixed", "whole")], ids=["shares", "slices"]
)
def test_what_is_written_for_an_object_does_not_make_it_too_large_to_be_changed(known: ClusterState) -> None:
    item = deployment(**_alternatives(500, {"matchExpressions": [_HERE | {"operator": "NotIn"}]}))
    stood = review(
        known, json.loads(json.dumps(item))
    )  # with alternatives that are no longer one and the same
    assert stood.outcome == "rewritten"
    for again in (review(known, stood.item), review(known, pod_of(stood.item))):
        assert again.outcome == "unchanged"
    scaled = {**stood.item, "spec": {**stood.item["spec"], "replicas": 3}}
    again = review(known, scaled, stood.item)
    assert again.allowed
    assert again.operations == []
    longer = deployment(**_alternatives(501, {"matchExpressions": [_HERE]}))
    assert "things of its nodes" in review(known, longer, stood.item).message
    unasked = deployment(container(gpus=None), **_alternatives(501, {}))
    assert "things of its nodes" in review(known, deployment(**_alternatives(501, {})), unasked).message


def test_a_pod_that_names_very_many_pools_is_no_pod_of_a_decided_template() -> None:
    known = world("time", policies=(SHARES,))
    names = [SHARE, *(f"a10-time-slicing-x{number}" for number in range(5, 300))]
    few = review(known, owned(pod(**steered(*names[:256])), "Job", "batch/v1"))
    assert few.outcome == "unchanged"
    many = review(known, owned(pod(**steered(*names)), "Job", "batch/v1"))
    assert many.outcome == "rewritten"
    assert is_a_share(many.item)


def test_a_forged_decision_for_very_many_pools_holds_up_nobody() -> None:
    names = [str(number) for number in range(8_000)]
    preferred = [
        {"weight": 1, "preference": {"matchExpressions": [{"key": "x", "operator": "In", "values": [name]}]}}
        for name in names
    ]
    affinity = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    item = deployment(asking({SLICE: 1}), metadata=record(SLICE, 1, *names, strategy="mig"))
    item["spec"]["template"]["spec"]["affinity"] = affinity
    assert _seconds(item, item) < 3


def _seconds(item: Object, old: Object | None = None) -> float:
    """Processor time of one review that is let through."""
    written = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request(item, old)}
    body, known = json.dumps(written).encode(), world("time", policies=(SHARES,))
    started = process_time()
    assert b'"allowed":true' in answer(body, known).body
    return process_time() - started


# --- The document ---------------------------------------------------------------------------------------------


def _tests(*globs: str) -> set[str]:
    files = [path for glob in globs for path in ROOT.glob(glob)]
    return {
        name
        for path in files
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }


def test_the_document_names_tests_that_there_are() -> None:
    named = set(re.findall(r"`(test_\w+)`", DOCUMENT))
    assert len(named) > 30
    assert named <= _tests("e2e/test_*.py", "tests/**/test_*.py", "release/test_*.py")
    for path in re.findall(r"`(tests/\S+\.py)`", DOCUMENT):
        assert (ROOT / path).exists()


def test_each_test_of_a_line_is_named_by_the_document() -> None:
    own = _tests("e2e/test_security*.py", "e2e/test_privileges*.py", "e2e/test_restart*.py")
    assert sorted(name for name in own if f"`{name}`" not in DOCUMENT) == []
