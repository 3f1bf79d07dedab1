"""What a person's new manifest asks for, where kubectl, server-side apply or Helm merged it over what was given."""

import json
from copy import deepcopy
from typing import Any

import pytest

from admission.workloads.field_ownership import set_by_user
from slicewise.api import keys
from slicewise.kube.apply import Client, applied, applied_again
from tests.admission.building import (
    GPU,
    SLICE,
    Object,
    annotated,
    asking,
    container,
    created,
    deployment,
    devices,
    labelled,
    owned,
    pod_spec,
    policy,
    review,
    spec_of,
    world,
)
from tests.admission.kinds import manifest as every

LARGER = keys.MIG_PREFIX + "2g.20gb"


def manifest(limits: dict[str, Any] | None) -> Object:
    item = deployment(metadata=labelled("inference"))
    pod_spec(item)["containers"][0]["resources"]["limits"] = {"cpu": "1", **(limits or {})}
    return item


def limits_of(item: Object) -> Object:
    found: Object = pod_spec(item)["containers"][0]["resources"].setdefault("limits", {})
    return found


def managed(item: Object) -> list[Object]:
    found: list[Object] = applied(Client.SERVER_SIDE, item)["metadata"]["managedFields"]
    return found


def sent_by(client: Client, live: Object, before: Object, now: Object) -> tuple[Object, Object]:
    """The object as it stands since a client applied a manifest, and as it comes when the client applies another."""
    said = noted(applied(client, before))
    said["annotations"] = {**live["metadata"].get("annotations", {}), **said.get("annotations", {})}
    standing = {**live, "metadata": {**live["metadata"], **said}}
    return standing, applied_again(client, before, now, standing)


def noted(item: Object) -> Object:
    return {key: item["metadata"][key] for key in ("annotations", "managedFields") if key in item["metadata"]}


ONE = {GPU: 1}
# What the manifest says now -> what the pods ask for.
CHANGES: dict[str, tuple[dict[str, Any] | None, dict[str, dict[str, str]]]] = {
    "the same": (ONE, {"main": {SLICE: "1"}}),
    "another slice": ({LARGER: 1}, {"main": {LARGER: "1"}}),
    "none, as a zero": ({GPU: 0}, {"main": {GPU: "0"}}),
    "more of the same": ({GPU: 2}, {"main": {GPU: "2"}}),
    "none": (None, {}),
    "the slice that was given, by its name": ({SLICE: 1}, {"main": {SLICE: "1"}}),
    "more of the slice that was given": ({SLICE: 2}, {"main": {SLICE: "2"}}),
}
TOLD_BY_NOBODY = {(Client.HELM, "none")}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("client", Client)
def test_what_the_manifest_says_now_is_what_the_pods_ask_for(client: Client, change: str) -> None:
    known = world("mixed", "whole")
    before, (said, right) = manifest(ONE), CHANGES[change]
    live = created(known, before)
    assert devices(live) == {"main": {SLICE: "1"}}
    old, new = sent_by(client, live, before, manifest(said))
    answered = review(known, new, old)
    assert answered.allowed
    if (client, change) in TOLD_BY_NOBODY:
        right = {"main": {SLICE: "1"}}  # nothing in the request says that the key is gone
    assert devices(answered.item) == right
    again = review(known, answered.item, answered.item)
    assert again.item == answered.item, "and it stays so"


SILENT = "Helm does not say whether the chart asks for nvidia.com/gpu still"


@pytest.mark.parametrize(
    ("manager", "warned"), [("helm", True), ("helm-controller", True), ("kubectl-edit", False), (None, False)]
)
def test_what_helm_leaves_out_is_warned_of(manager: str | None, warned: bool) -> None:  # noqa: FBT001
    known = world("mixed")
    live = created(known, manifest(ONE))
    options = {"options": {"kind": "PatchOptions", "fieldManager": manager}} if manager else {}
    answered = review(known, deepcopy(live), live, **options)
    assert devices(answered.item) == {"main": {SLICE: "1"}}
    assert any(SILENT in warning for warning in answered.warnings) is warned


def test_a_chart_that_helm_applies_on_the_server_is_not_silent() -> None:
    known = world("mixed")
    live = created(known, manifest(ONE))
    live["metadata"]["managedFields"] = [{**managed(manifest(None))[0], "manager": "helm"}]
    answered = review(known, deepcopy(live), live, options={"fieldManager": "helm"})
    assert answered.warnings == []


def test_a_chart_that_asks_as_before_is_warned_of_nothing() -> None:
    known = world("mixed")
    live = created(known, manifest(ONE))
    _, new = sent_by(Client.HELM, live, manifest(ONE), manifest(ONE))
    assert review(known, new, live, options={"fieldManager": "helm"}).warnings == []


@pytest.mark.parametrize("client", Client)
def test_what_stands_beside_a_container_that_names_another_slice_now_may_fit_nowhere(client: Client) -> None:
    known, inference = world("mixed", "whole"), labelled("inference")
    before = deployment(container("stays"), container("other"), metadata=inference)
    live = created(known, before)
    for name, words in (
        ("nvidia.com/mig-2g.20gb", []),
        ("nvidia.com/gpu.shared", ["what was decided before stands, so its pods may wait for ever"]),
    ):
        now = deployment(container("stays"), asking({name: "1"}, "other"), metadata=inference)
        standing, new = sent_by(client, live, before, now)
        answered = review(known, new, standing, options={"fieldManager": client.field_manager})
        assert devices(answered.item) == {"stays": {SLICE: "1"}, "other": {name: "1"}}
        assert [each.rpartition("; ")[2] for each in answered.warnings][-1:] == words


@pytest.mark.parametrize("client", Client)
@pytest.mark.parametrize("asks", [{"nvidia.com/mig-2g.20gb": "1"}, {GPU: "2"}], ids=str)
def test_an_update_that_stands_in_audit_although_it_would_be_refused_is_as_its_manifest_has_it(
    client: Client, asks: Object
) -> None:
    inference = labelled("inference")
    before = deployment(container(), metadata=inference)
    live = created(world("mixed", "whole"), before)
    known = world("mixed", "whole", labels={keys.MODE: "audit"})
    now = deployment(asking(asks), metadata={**inference, **annotated(profile="none")})
    standing, new = sent_by(client, live, before, now)
    options = {"fieldManager": client.field_manager}
    answered = review(known, new, standing, options=options)
    assert answered.outcome == "audited"
    assert devices(answered.item) == {"main": asks}
    assert review(known, answered.item, standing, options=options).operations == []
    standing, again = sent_by(client, answered.item, now, now)
    assert devices(review(known, again, standing, options=options).item) == {"main": asks}


@pytest.mark.parametrize("edited", [{}, None], ids=["an empty map", "no map"])
def test_an_edit_that_takes_what_was_given_away_leaves_nothing_of_it(edited: Object | None) -> None:
    known = world("whole")
    live = created(known, manifest(ONE))
    new = deepcopy(live)
    resources = pod_spec(new)["containers"][0]["resources"]
    resources["limits"] = edited
    answered = review(known, new, live)
    assert keys.POOL not in json.dumps(answered.spec.get("affinity", {}))
    assert keys.DECISION not in json.dumps(answered.item)
    assert review(known, answered.item, answered.item).operations == []


@pytest.mark.parametrize("client", Client)
def test_a_pod_that_asks_for_nothing_any_more_is_kept_to_no_pool(client: Client) -> None:
    known = world("whole")
    before = manifest(ONE)
    live = created(known, before)
    assert keys.POOL in json.dumps(pod_spec(live)["affinity"])
    old, new = sent_by(client, live, before, manifest({LARGER: 1}))
    answered = review(known, new, old)
    assert devices(answered.item) == {"main": {LARGER: "1"}}
    assert keys.POOL not in json.dumps(answered.spec.get("affinity", {}))
    assert keys.DECISION not in json.dumps(answered.item), "nothing of the record is so any more"


ZONE: Object = {"key": "zone", "operator": "NotIn", "values": ["a"]}
IN_ZONE: Object = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [ZONE]}]
        }
    }
}
OURS: Object = dict(keys.TOLERATION)
THEIRS: Object = {"key": "team", "operator": "Exists", "effect": "NoSchedule"}
WRITTEN = (keys.DECISION, keys.POOL, "slicewise.io/admission")
# What a person's pod says besides -> the tolerations of the pod that asks for a GPU no more.
STEPS_BACK: dict[str, tuple[Object, list[Object]]] = {
    "nothing": ({}, []),
    "where it may run": ({"affinity": IN_ZONE}, []),
    "a toleration": ({"tolerations": [THEIRS]}, [THEIRS]),
    "our very toleration": ({"tolerations": [OURS]}, [OURS]),
}


@pytest.mark.parametrize(("own", "tolerations"), STEPS_BACK.values(), ids=STEPS_BACK)
@pytest.mark.parametrize("client", [Client.KUBECTL, Client.SERVER_SIDE])
def test_what_was_written_for_a_gpu_goes_with_it_and_what_others_wrote_stays(
    client: Client, own: Object, tolerations: list[Object]
) -> None:
    known = world("whole")
    before, after = manifest(ONE), manifest(None)
    for item in (before, after):
        pod_spec(item).update(deepcopy(own))
    live = created(known, before)
    assert OURS in pod_spec(live)["tolerations"]
    assert keys.POOL in json.dumps(live)
    old, new = sent_by(client, live, before, after)
    left = review(known, new, old).item
    assert not any(ours in json.dumps(left["spec"]) + json.dumps(left["metadata"]) for ours in WRITTEN)
    assert pod_spec(left).get("tolerations", []) == tolerations
    assert (ZONE in terms_of(left)) is ("affinity" in own)
    assert review(known, left, left).operations == []


def terms_of(item: Object) -> list[Object]:
    required = pod_spec(item).get("affinity", {}).get("nodeAffinity", {})
    required = required.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    return [each for term in required.get("nodeSelectorTerms", []) for each in term["matchExpressions"]]


def test_of_a_change_that_says_nothing_of_the_manifest_the_toleration_stays() -> None:
    known = world("whole")
    live = created(known, manifest(ONE))
    new = deepcopy(live)
    del limits_of(new)[GPU]
    assert pod_spec(review(known, new, live).item)["tolerations"] == [OURS]


def test_another_slice_by_name_still_tolerates_what_guards_gpus() -> None:
    known = world("whole")
    before = manifest(ONE)
    old, new = sent_by(Client.SERVER_SIDE, created(known, before), before, manifest({LARGER: 1}))
    assert pod_spec(review(known, new, old).item)["tolerations"] == [OURS]


@pytest.mark.parametrize(
    "kind",
    [
        "ray.io_RayCluster",
        "leaderworkerset.x-k8s.io_LeaderWorkerSet",
        "trainer.kubeflow.org_TrainJob",
        "workload.codeflare.dev_AppWrapper",
        "argoproj.io_Workflow",
    ],
)
def test_of_kinds_of_several_parts_nothing_of_the_record_stays(kind: str) -> None:
    known = world("whole")
    before = every(kind)
    live = created(known, before)
    assert keys.DECISION in json.dumps(live)
    old, new = sent_by(Client.SERVER_SIDE, live, before, without_gpus(before))
    left = review(known, new, old).item
    del left["metadata"]["managedFields"]
    assert not any(ours in json.dumps(left) for ours in WRITTEN)


def test_a_runtime_patch_of_somebody_elses_stays() -> None:
    known = world("whole")
    before = every("trainer.kubeflow.org_TrainJob")
    before["spec"]["runtimePatches"] = [{"manager": "example.org/theirs"}]
    live = created(known, before)
    assert len(live["spec"]["runtimePatches"]) == 2
    new = without_gpus(live)
    assert review(known, new, live).item["spec"]["runtimePatches"] == before["spec"]["runtimePatches"]


def without_gpus(value: Any) -> Any:
    """The object with no device of NVIDIA's in any map."""
    if isinstance(value, list):
        return [without_gpus(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: without_gpus(each) for key, each in value.items() if not key.startswith(keys.VENDOR)}


@pytest.mark.parametrize(
    ("engine", "part", "said", "told"),
    [
        ("kueue", "labels", {}, "stays in queue theirs, where one put it; remove the label"),
        ("kueue", "labels", {keys.KUEUE_QUEUE: "theirs"}, ""),
        ("volcano", "annotations", {}, "stays in queue theirs of Volcano's, where one put it"),
        ("volcano", "annotations", {keys.VOLCANO_QUEUE: "theirs"}, ""),
        ("none", "labels", {}, ""),
    ],
)
@pytest.mark.parametrize(
    ("client", "now"),
    [(client, now) for client in Client for now in (None, {GPU: 0}) if now or client is not Client.HELM],
)
def test_work_that_stays_in_a_queue_for_gpus_without_asking_for_one_is_told(
    engine: str, part: str, said: Object, told: str, client: Client, now: Object | None
) -> None:
    known = world("whole", labels={keys.ENGINE: engine, keys.QUEUE: "theirs"})
    before, after = manifest(ONE), manifest(now)
    for item in (before, after):
        for metadata in (item["metadata"], item["spec"]["template"]["metadata"]) if said else ():
            metadata[part] = {**metadata.get(part, {}), **said}
    old, new = sent_by(client, created(known, before), before, after)
    answered = review(known, new, old, options={"fieldManager": client.field_manager})
    found = [each for each in answered.warnings if "stays in queue" in each]
    if client is Client.HELM and said:
        assert len(found) == 1, (
            "nothing in the request says that the chart names the queue, where it stays either way"
        )
    else:
        assert [told in each for each in found] == ([True] if told else [])


def test_an_update_that_takes_fields_from_an_applier_is_no_change_of_mind() -> None:
    known = world("mixed")
    old = created(known, manifest(ONE))
    new = manifest(ONE)
    old["metadata"]["managedFields"], new["metadata"]["managedFields"] = managed(old), managed(manifest(None))
    assert devices(review(known, new, old).item) == {"main": {SLICE: "1"}}


# --- Controllers that nobody listed ------------------------------------------------------------------------


def job(limits: dict[str, Any]) -> Object:
    item = {**manifest(limits), "apiVersion": "batch/v1", "kind": "Job"}
    item["spec"] = {"template": item["spec"]["template"]}
    return owned(item, "Experiment", "kubeflow.org/v1beta1")


CONTROLLER = {
    "username": "system:serviceaccount:kubeflow:katib-controller",
    "groups": ["system:serviceaccounts"],
}


def test_what_an_unlisted_controller_makes_is_decided_as_a_persons_is() -> None:
    known = world("mixed")
    assert devices(review(known, job(ONE), userInfo=CONTROLLER).item) == {"main": {SLICE: "1"}}


@pytest.mark.parametrize(
    ("user", "manager", "stands"),
    [
        (CONTROLLER, "", True),
        (CONTROLLER, "kubectl-patch", True),
        ({"username": "katib-controller"}, "", True),
        ({"username": "katib-controller"}, "manager", True),
        ({"username": "ada"}, "kubectl-edit", False),
        ({"username": "ada"}, "helm", False),
    ],
)
def test_and_from_then_on_its_word_stands(user: Object, manager: str, *, stands: bool) -> None:
    """A controller may have a certificate with any name; people's tools say what they are."""
    known = world("mixed")
    live = review(known, job(ONE), userInfo=CONTROLLER).item
    answered = review(known, job(ONE), live, userInfo=user, options={"fieldManager": manager})
    assert (answered.operations == []) == stands


# --- Zeros -------------------------------------------------------------------------------------------------


def test_zeros_go_from_a_template_that_is_rewritten() -> None:
    item = deployment(container(), container("side", 0), metadata=labelled("inference"))
    answered = review(world("mixed"), item)
    side = answered.spec["containers"][1]["resources"]
    assert GPU not in json.dumps(side)


def test_a_template_of_zeros_alone_is_left() -> None:
    item = deployment(container("main", 0), metadata=labelled("inference"))
    assert review(world("mixed"), item).operations == []


# --- Records that somebody made up --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pool", "believed"),
    [
        ("a100-40gb-mig-single-1g-5gb", True),
        ("a100-40gb-mig-single-7g-40gb", False),
        ("a100-40gb-mig-single-9g-9gb", False),
    ],
)
def test_a_record_is_held_against_the_size_of_its_class(pool: str, believed: bool) -> None:  # noqa: FBT001
    rule = policy({"inference": {"strategy": "mig", "size": {"profile": "1g.5gb"}}}, allow=[])
    term = {"matchExpressions": [{"key": keys.POOL, "operator": "In", "values": [pool]}]}
    affinity = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    }
    record = {
        "policy": rule.name,
        "class": "inference",
        "classFrom": "label",
        "strategy": "mig",
        "pools": [pool],
        "containers": {"main": {"from": GPU, "to": GPU, "count": 1, "asked": 1}},
        "reason": "",
        "steered": True,
    }
    item = deployment(
        metadata={**labelled("inference"), "annotations": {keys.DECISION: json.dumps(record)}},
        affinity=affinity,
    )
    answered = review(world("mixed", policies=(rule,)), item)
    assert (answered.allowed and answered.operations == []) is believed


# --- Hostile text ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"spec":{"queue":[]}}',
        '{"spec":{"queue":{}}}',
        "[",
        "[" * 5000,
        '{"spec":[]}',
        '"x"',
        "null",
        '{"spec":1}',
    ],
)
def test_hostile_text_in_what_was_applied_tells_nothing(text: str) -> None:
    known = world("mixed")
    live = created(known, manifest(ONE))
    assert set_by_user({"metadata": {"annotations": {keys.LAST_APPLIED: text}}}, ("spec", "queue")) in {
        True,
        False,
    }
    new = deepcopy(live)
    new["metadata"]["annotations"][keys.LAST_APPLIED] = text
    assert review(known, new, live).allowed


@pytest.mark.parametrize(
    ("sent", "left", "hidden"),
    [({GPU: 0}, {}, True), ({LARGER: "1"}, {LARGER: "1"}, False)],
    ids=["a zero", "another slice"],
)
def test_one_container_steps_back_and_the_other_keeps_its_slice(
    sent: dict[str, Any], left: Object, *, hidden: bool
) -> None:
    """A patch that fails to apply is a refused request, and a container without a GPU must be shown none."""
    known = world("mixed", policies=(policy({"training": {"strategy": "mig"}}, defaultClass="training"),))
    live = created(known, deployment(container(), container("second")))
    new = deepcopy(live)
    limits_of(new).update(sent)
    answered = review(known, new, live)
    one, other = pod_spec(answered.item)["containers"]
    assert one["resources"]["limits"] == left
    assert other["resources"]["limits"] == {SLICE: "1"}
    assert ({"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"} in one.get("env", [])) is hidden
    assert list(answered.decision["containers"]) == ["second"]
    assert review(known, answered.item, live).operations == []


@pytest.mark.parametrize("client", Client)
@pytest.mark.parametrize(
    ("beside", "right"),
    [(None, {}), (1, {SLICE: "1"}), (2, {SLICE: "2"}), ({LARGER: 1}, {LARGER: "1"})],
    ids=["asks for none", "asks as before or for the first time", "asks for more", "names one too"],
)
@pytest.mark.parametrize("before", [None, 1], ids=["asked for none", "asked for one"])
def test_one_container_names_a_slice_and_the_other_is_decided(
    client: Client, before: int | None, beside: Any, right: Object
) -> None:
    known = world("mixed", policies=(policy({"training": {"strategy": "mig", "multiGPU": "each"}}),))

    def manifest(first: Object, other: Any) -> Object:
        return deployment(asking(first), asking(other, "beside"))

    def amounts(said: Any) -> Object:
        return said if isinstance(said, dict) else {} if said is None else {GPU: said}

    first, now = manifest(ONE, amounts(before)), manifest({LARGER: 1}, amounts(beside))
    old, new = sent_by(client, created(known, first), first, now)
    answered = review(known, new, old)
    assert answered.allowed, answered.message
    if client is Client.HELM and before and beside is None:
        right = {SLICE: "1"}  # with a warning: its request does not tell
    assert devices(answered.item) == {"main": {LARGER: "1"}} | ({"beside": right} if right else {})
    assert review(known, answered.item, old).operations == []


@pytest.mark.parametrize("client", Client)
@pytest.mark.parametrize(
    ("before", "now"),
    [
        ([asking(ONE)], [asking({GPU: 1, LARGER: 1})]),
        ([asking(ONE)], [asking({GPU: 2, LARGER: 1})]),
        ([asking({})], [asking({GPU: 1, LARGER: 1})]),
        ([asking(ONE)], [asking(ONE), asking({GPU: 1, LARGER: 1}, "new")]),
    ],
    ids=["beside the same", "beside more", "that asked for none", "of a new container"],
)
def test_a_manifest_that_newly_names_a_slice_beside_a_gpu_is_refused(
    client: Client, before: list[Object], now: list[Object]
) -> None:
    """As a new object is: one of the two would be deleted without a word."""
    known, audited, off = (
        world("mixed", "whole", labels={keys.MODE: mode}) for mode in ("enforce", "audit", "off")
    )
    first, second = deployment(*before, metadata=labelled("inference")), deployment(*now)
    second["metadata"] = first["metadata"]
    live = created(known, first)
    old, new = sent_by(client, live, first, second)
    words = f"' asks for {GPU} and for {LARGER}; ask for one of them"
    assert review(known, new, old).message.endswith(words)
    left = review(audited, new, old)
    assert LARGER in json.dumps(left.spec), "nothing that a person asks for is taken away"
    assert left.outcome == "audited"
    (warning,) = left.warnings[:1]
    assert warning.startswith("audit: would be refused: ")
    assert warning.endswith(words)
    assert review(off, new, old).allowed


@pytest.mark.parametrize(
    "now",
    [
        [asking(ONE), asking({GPU: 1, SLICE: 1}, "new")],
        [asking(ONE), asking({GPU: 1, SLICE: 4}, "new")],
        [asking({GPU: 1, SLICE: 7})],
    ],
    ids=["by a new container", "by a new container, several", "another number of it"],
)
def test_what_one_container_was_given_lets_nobody_name_it_beside_a_gpu(now: list[Object]) -> None:
    known, metadata = world("mixed"), labelled("inference")
    live = created(known, deployment(asking(ONE), metadata=metadata))
    answered = review(known, deployment(*now, metadata=metadata), live)
    assert answered.message.endswith(f"asks for {GPU} and for {SLICE}; ask for one of them")


@pytest.mark.parametrize("client", Client)
def test_a_container_that_is_gone_leaves_nothing_of_what_was_decided(client: Client) -> None:
    known = world("mixed", "whole")
    first = deployment(asking(ONE))  # a whole board, to whose pool the pods are kept
    second = deployment(asking({LARGER: 1}, "other"))
    live = created(known, first)
    assert keys.POOL in json.dumps(pod_spec(live)["affinity"])
    old, new = sent_by(client, live, first, second)
    answered = review(known, new, old)
    assert devices(answered.item) == {"other": {LARGER: "1"}}
    assert keys.POOL not in json.dumps(answered.spec.get("affinity", {}))
    assert keys.DECISION not in json.dumps(answered.item)


def test_a_request_that_moves_to_another_container_is_warned_of_where_helm_does_not_tell() -> None:
    known = world("mixed")
    metadata = labelled("inference")
    first = deployment(asking(ONE), asking({}, "beside"), metadata=metadata)
    second = deployment(asking({}), asking(ONE, "beside"), metadata=metadata)
    live = created(known, first)
    old, new = sent_by(Client.HELM, live, first, second)
    answered = review(known, new, old, options={"fieldManager": "helm"})
    assert devices(answered.item) == {"main": {SLICE: "1"}, "beside": {SLICE: "1"}}
    (warning,) = answered.warnings
    assert warning.startswith(
        "Deployment team/serve: container 'main' keeps 1 nvidia.com/mig-1g.10gb: Helm does not"
    )


# --- Requests that stand in maps of a kind of its own ------------------------------------------------------

BESIDE = (
    "trainer.kubeflow.org_TrainJob",
    "trainer.kubeflow.org_OptimizationJob",
    "serving.kserve.io_InferenceService",
    "serving.kserve.io_InferenceGraph",
    "argoproj.io_Workflow",
    "scheduling.volcano.sh_PodGroup",
    "scheduling.x-k8s.io_PodGroup",
)
TOTALS = ("kubeflow.org_PyTorchJob", "sparkoperator.k8s.io_SparkApplication")


def asking_for(kind: str, name: str = GPU) -> Object:
    """A manifest of a kind that asks for its GPUs by another name; "" for none."""
    item = every(kind, **labelled("inference"))
    item["metadata"]["name"] = item["metadata"].pop("generateName", "work").rstrip("-")
    found: Object = renamed(item, name)
    return found


def renamed(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {
            key.replace(GPU, name): renamed(each, name) for key, each in value.items() if key != GPU or name
        }
    if isinstance(value, list):
        return [renamed(each, name) for each in value]
    return name if value == GPU else value


def left_of_ours(item: Object) -> list[str]:
    """What is ours in an object, but for what kubectl notes of a manifest."""
    notes = {
        key: each for key, each in item["metadata"].get("annotations", {}).items() if key != keys.LAST_APPLIED
    }
    text = json.dumps({**item, "metadata": {**item["metadata"], "annotations": notes, "managedFields": []}})
    return [word for word in (SLICE, keys.DECISION, keys.POOL) if word in text]


@pytest.mark.parametrize("name", ["", LARGER], ids=["none", "another slice"])
@pytest.mark.parametrize("client", [Client.KUBECTL, Client.SERVER_SIDE])
@pytest.mark.parametrize("kind", BESIDE)
def test_a_map_of_a_kind_of_its_own_has_what_the_manifest_says_now(
    kind: str, client: Client, name: str
) -> None:
    known = world("mixed")
    before = asking_for(kind)
    live = created(known, before)
    assert SLICE in json.dumps(live)
    old, new = sent_by(client, live, before, asking_for(kind, name))
    answered = review(known, new, old)
    assert answered.allowed, answered.message
    assert left_of_ours(answered.item) == []
    assert (name in json.dumps(answered.item)) is True
    assert review(known, answered.item, old).operations == []


@pytest.mark.parametrize("kind", BESIDE)
def test_of_such_a_map_helm_never_says_whether_the_chart_asks_still(kind: str) -> None:
    known = world("mixed")
    before = asking_for(kind)
    live = created(known, before)
    old, new = sent_by(Client.HELM, live, before, asking_for(kind, ""))
    answered = review(known, new, old, options={"fieldManager": "helm"})
    assert SLICE in json.dumps(answered.item)
    assert any(SILENT in each for each in answered.warnings)
    old, new = sent_by(Client.HELM, live, before, asking_for(kind, LARGER))
    assert left_of_ours(review(known, new, old, options={"fieldManager": "helm"}).item) == []


@pytest.mark.parametrize("client", Client)
@pytest.mark.parametrize("kind", TOTALS)
def test_a_total_keeps_nothing_that_no_pod_asks_for_any_more(kind: str, client: Client) -> None:
    known = world("mixed")
    before = asking_for(kind)
    live = created(known, before)
    old, new = sent_by(client, live, before, asking_for(kind, LARGER))
    answered = review(known, new, old)
    assert answered.allowed, answered.message
    assert left_of_ours(answered.item) == []


def ray(gpus: int | None, head: Object, worker: int | None = None) -> Object:
    """A RayCluster with GPUs in its head, and with a group beside it."""
    groups = {
        "headGroupSpec": {
            "rayStartParams": head,
            "template": {"spec": {"containers": [container("head", gpus)]}},
        },
        "workerGroupSpecs": [
            {
                "groupName": "a",
                "rayStartParams": {},
                "template": {"spec": {"containers": [container("w", worker)]}},
            }
        ],
    }
    metadata = {"name": "lab", "namespace": "team", **labelled("inference")}
    return {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": metadata, "spec": groups}


@pytest.mark.parametrize("client", [Client.KUBECTL, Client.SERVER_SIDE])
@pytest.mark.parametrize("worker", [None, 1], ids=["nobody asks", "another group asks"])
@pytest.mark.parametrize("said", [{}, {"num-gpus": "1"}], ids=["written by us", "written by somebody"])
def test_rays_own_count_goes_with_the_gpu_where_we_wrote_it(
    client: Client, worker: int | None, said: Object
) -> None:
    known = world("mixed")
    said = {"dashboard-port": "8265", **said}  # of an empty map, server-side apply does not tell
    before, now = ray(1, said, worker), ray(None, said, worker)
    live = created(known, before)
    assert live["spec"]["headGroupSpec"]["rayStartParams"] == {**said, "num-gpus": "1"}
    old, new = sent_by(client, live, before, now)
    spec = review(known, new, old).item["spec"]
    assert spec["headGroupSpec"]["rayStartParams"] == said
    written = spec["workerGroupSpecs"][0]["rayStartParams"]
    assert written == ({"num-gpus": "1"} if worker else {})


@pytest.mark.parametrize("client", [Client.KUBECTL, Client.SERVER_SIDE])
@pytest.mark.parametrize("said", [None, 1], ids=["written by us", "written by somebody"])
def test_a_train_jobs_number_of_processes_goes_with_the_gpu_where_we_wrote_it(
    client: Client, said: int | None
) -> None:
    known = world("mixed")
    before, now = asking_for("trainer.kubeflow.org_TrainJob"), asking_for("trainer.kubeflow.org_TrainJob", "")
    for item in (before, now):
        item["spec"]["trainer"].pop("numProcPerNode", None)
        item["spec"]["trainer"] |= {"numProcPerNode": said} if said else {}
    live = created(known, before)
    assert live["spec"]["trainer"]["numProcPerNode"] == 1
    old, new = sent_by(client, live, before, now)
    assert review(known, new, old).item["spec"]["trainer"].get("numProcPerNode") == said


@pytest.mark.parametrize("client", [Client.KUBECTL, Client.SERVER_SIDE])
def test_nothing_of_ours_stays_of_requests_that_are_gone_as_a_whole(client: Client) -> None:
    known = world("mixed")
    before, now = asking_for("trainer.kubeflow.org_TrainJob"), asking_for("trainer.kubeflow.org_TrainJob", "")
    for item in (before, now):
        item["spec"]["trainer"].pop("numProcPerNode", None)
    del now["spec"]["trainer"]["resourcesPerNode"]
    old, new = sent_by(client, created(known, before), before, now)
    new["spec"]["trainer"].pop("resourcesPerNode", None)
    answered = review(known, new, old)
    assert left_of_ours(answered.item) == []
    assert "numProcPerNode" not in answered.item["spec"]["trainer"]
    assert review(known, answered.item, old).operations == []


def test_no_decision_stays_of_a_template_that_is_gone_where_no_other_asks() -> None:
    def jobs(*names: str) -> Object:
        said = {"one": 1, "two": None}
        return {
            "apiVersion": "jobset.x-k8s.io/v1alpha2",
            "kind": "JobSet",
            "metadata": {"name": "set", "namespace": "team", **labelled("inference")},
            "spec": {
                "replicatedJobs": [
                    {
                        "name": name,
                        "template": {"spec": {"template": {"spec": spec_of(container(gpus=said[name]))}}},
                    }
                    for name in names
                ]
            },
        }

    known = world("mixed")
    live = created(known, jobs("one", "two"))
    assert keys.DECISION in json.dumps(live)
    now = {**live, "spec": {"replicatedJobs": live["spec"]["replicatedJobs"][1:]}}
    answered = review(known, now, live)
    assert keys.DECISION not in json.dumps(answered.item)
    assert answered.item["spec"] == jobs("two")["spec"]


@pytest.mark.parametrize("worker", [None, 1], ids=["nobody asks", "another group asks"])
@pytest.mark.parametrize("said", ["0", "1", "7"])
def test_a_count_that_somebody_writes_into_a_group_of_rays_is_left(said: str, worker: int | None) -> None:
    """As `kubectl edit` does, of which the manifest says nothing."""
    known = world("mixed")
    before = ray(1, {}, worker)
    before["spec"]["workerGroupSpecs"].append(
        {
            "groupName": "cpu",
            "rayStartParams": {},
            "template": {"spec": {"containers": [container("head", None)]}},
        }
    )
    old, new = sent_by(Client.KUBECTL, created(known, before), before, before)
    for spec in (new["spec"], now := review(known, new, old).item["spec"]):
        spec["workerGroupSpecs"][1]["rayStartParams"]["num-gpus"] = said
    for item in (new, {**new, "spec": {**now, "headGroupSpec": ray(None, {})["spec"]["headGroupSpec"]}}):
        answered = review(known, item, old)
        assert answered.item["spec"]["workerGroupSpecs"][1]["rayStartParams"] == {"num-gpus": said}


def test_rays_own_count_goes_from_a_group_that_stands_elsewhere_now() -> None:
    known = world("mixed")
    before, now = ray(None, {}, 1), ray(None, {}, None)
    old, new = sent_by(Client.KUBECTL, created(known, before), before, now)
    (group,) = new["spec"]["workerGroupSpecs"]
    group["rayStartParams"] = {"num-gpus": "1"}  # as a merge of groups by name leaves it
    new["spec"]["workerGroupSpecs"] = [{**deepcopy(group), "groupName": "b", "rayStartParams": {}}, group]
    groups = review(known, new, old).item["spec"]["workerGroupSpecs"]
    assert [each["rayStartParams"] for each in groups] == [{}, {}]


def test_a_number_of_processes_that_somebody_writes_into_a_train_job_is_left() -> None:
    known = world("mixed")
    before, now = asking_for("trainer.kubeflow.org_TrainJob"), asking_for("trainer.kubeflow.org_TrainJob", "")
    for item in (before, now):
        item["spec"]["trainer"].pop("numProcPerNode", None)
    old, new = sent_by(Client.KUBECTL, created(known, before), before, now)
    new["spec"]["trainer"]["numProcPerNode"] = 8
    answered = review(known, new, old)
    assert answered.item["spec"]["trainer"]["numProcPerNode"] == 8
    assert left_of_ours(answered.item) == []
