"""The patch: it applies to whatever came, changes what it must and nothing else, and needs no second time."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given

from slicewise.api import keys
from tests.admission.building import (
    GPU,
    SLICE,
    Answered,
    Object,
    annotated,
    asking,
    container,
    created,
    deployment,
    devices,
    labelled,
    notebook,
    pod,
    pod_spec,
    policy,
    review,
    world,
)
from tests.admission.generating import (
    FIELD,
    FLEETS,
    OWN,
    POLICY,
    POOL,
    PREFERRED,
    REQUIRED,
    TEAM,
    TOLERATION,
    VISIBLE,
    affinity,
    all_containers,
    asked,
    items,
    prune,
    steering,
)

VOID = {"name": VISIBLE, "value": "void"}
INFERENCE = labelled("inference")


def rewritten(item: Object, *nodes: str) -> Answered:
    answered = review(world(*nodes), item)
    assert answered.outcome == "rewritten"
    return answered


# --- Devices ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({"limits": {GPU: 1}}, {"limits": {SLICE: "1"}}),
        ({"limits": {GPU: "1"}}, {"limits": {SLICE: "1"}}),
        ({"limits": {GPU: "1000m"}}, {"limits": {SLICE: "1"}}),
        (
            {"limits": {GPU: 1, "cpu": 2}, "requests": {"cpu": 1}},
            {"limits": {SLICE: "1", "cpu": 2}, "requests": {"cpu": 1}},
        ),
        ({"limits": {GPU: 1}, "requests": {GPU: "1"}}, {"limits": {SLICE: "1"}, "requests": {SLICE: "1"}}),
        ({"limits": {GPU: 1}, "requests": {}}, {"limits": {SLICE: "1"}, "requests": {}}),
        ({"limits": {GPU: 1}, "requests": None}, {"limits": {SLICE: "1"}, "requests": None}),
        (
            {"limits": {GPU: 1}, "claims": [{"name": "x"}]},
            {"limits": {SLICE: "1"}, "claims": [{"name": "x"}]},
        ),
        ({"limits": {GPU: 1, "amd.com/gpu": 1}}, {"limits": {SLICE: "1", "amd.com/gpu": 1}}),
    ],
    ids=str,
)
def test_the_old_name_goes_and_the_new_one_comes_wherever_it_stood(
    resources: Object, expected: Object
) -> None:
    answered = rewritten(pod({"name": "main", "resources": resources}, metadata=INFERENCE), "mixed")
    assert answered.spec["containers"][0]["resources"] == expected


def test_init_containers_and_sidecars_are_rewritten_too() -> None:
    item = pod(
        container(),
        metadata=INFERENCE,
        initContainers=[container("init"), container("side", restartPolicy="Always")],
    )
    assert devices(rewritten(item, "mixed").item) == {key: {SLICE: "1"} for key in ("main", "init", "side")}


def test_slashes_are_escaped() -> None:
    operations = rewritten(pod(metadata=INFERENCE), "mixed").operations
    assert operations[:2] == [
        {"op": "remove", "path": "/spec/containers/0/resources/limits/nvidia.com~1gpu"},
        {"op": "add", "path": "/spec/containers/0/resources/limits/nvidia.com~1mig-1g.10gb", "value": "1"},
    ]


def test_a_name_that_stays_stays_as_it_was_written() -> None:
    for amount in (1, "1"):
        limits = rewritten(pod(container(gpus=amount)), "whole").spec["containers"][0]["resources"]["limits"]
        assert limits == {GPU: amount}


def test_requests_and_limits_that_differ_are_left_to_the_api_server() -> None:
    item = pod({"name": "main", "resources": {"limits": {GPU: 2}, "requests": {GPU: 1}}})
    answered = review(world(), item)
    assert answered.operations == []
    (warning,) = answered.warnings
    assert warning == (
        "Pod team/work: container 'main' is left alone, its requests and limits of nvidia.com/gpu differ, which "
        "Kubernetes takes of nobody; write the same number in both"
    )


@pytest.mark.parametrize("name", [GPU, SLICE])
def test_requests_without_limits_are_said_to_be_refused(name: str) -> None:
    item = pod({"name": "main", "resources": {"requests": {name: 1}}}, metadata=INFERENCE)
    answered = review(world("mixed"), item)
    assert answered.warnings == [
        (
            f"Pod team/work: container 'main' asks for {name} in its requests alone, which Kubernetes refuses; "
            "write the same number in its limits"
        )
    ]
    again = review(world("mixed"), answered.item).warnings  # as another webhook has it looked at
    assert again == ([] if name == GPU else answered.warnings), "of what nobody wrote, nothing is said"


# --- Steering ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, affinity({"matchExpressions": [steering(POOL)]})),
        ({}, affinity({"matchExpressions": [steering(POOL)]})),
        (
            {"podAffinity": {"x": 1}},
            {"podAffinity": {"x": 1}, **affinity({"matchExpressions": [steering(POOL)]})},
        ),
        ({"nodeAffinity": {}}, affinity({"matchExpressions": [steering(POOL)]})),
        ({"nodeAffinity": None}, affinity({"matchExpressions": [steering(POOL)]})),
        (
            {"nodeAffinity": PREFERRED},
            {
                "nodeAffinity": {
                    **PREFERRED,
                    **affinity({"matchExpressions": [steering(POOL)]})["nodeAffinity"],
                }
            },
        ),
        (affinity({"matchExpressions": [OWN]}), affinity({"matchExpressions": [OWN, steering(POOL)]})),
        (
            affinity({"matchExpressions": [OWN]}, {"matchFields": [FIELD]}),
            affinity(
                {"matchExpressions": [OWN, steering(POOL)]},
                {"matchFields": [FIELD], "matchExpressions": [steering(POOL)]},
            ),
        ),
        (
            affinity({}, {"matchExpressions": [OWN]}, {"matchExpressions": []}),
            affinity({}, {"matchExpressions": [OWN, steering(POOL)]}, {"matchExpressions": []}),
        ),
        (
            affinity({"matchExpressions": [], "matchFields": [FIELD]}),
            affinity({"matchExpressions": [steering(POOL)], "matchFields": [FIELD]}),
        ),
        (affinity({"matchExpressions": [steering(POOL)]}), affinity({"matchExpressions": [steering(POOL)]})),
        (
            affinity({"matchExpressions": [steering(POOL, "a10-time-slicing-x4")]}),
            affinity({"matchExpressions": [steering(POOL, "a10-time-slicing-x4"), steering(POOL)]}),
        ),
        (
            affinity({"matchExpressions": [{"key": keys.POOL, "operator": "Exists"}]}),
            affinity({"matchExpressions": [{"key": keys.POOL, "operator": "Exists"}, steering(POOL)]}),
        ),
    ],
    ids=[
        "none",
        "an empty one",
        "affinity to pods",
        "an empty one to nodes",
        "null to nodes",
        "preferences",
        "one term",
        "terms with expressions and with fields",
        "terms that match nothing stay so",
        "an empty list beside fields",
        "the same",
        "a wider one of the person's own",
        "another about pools",
    ],
)
def test_affinity_goes_into_every_alternative(before: Object | None, after: Object) -> None:
    fields = {} if before is None else {"affinity": before}
    answered = rewritten(pod(**deepcopy(fields)), "whole", "time")
    assert answered.spec["affinity"] == after
    assert review(world("whole", "time"), answered.item).operations == []


def test_a_pod_that_its_name_tells_apart_is_left_free() -> None:
    assert "affinity" not in rewritten(pod(metadata=INFERENCE), "mixed", "whole", "time").spec


# --- The toleration ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, [TOLERATION]),
        ([], [TOLERATION]),
        ([TEAM], [TEAM, TOLERATION]),
        ([TOLERATION], [TOLERATION]),
        ([{"operator": "Exists"}], [{"operator": "Exists"}]),
        ([{"key": GPU, "operator": "Exists"}], [{"key": GPU, "operator": "Exists"}]),
        (
            [{"key": GPU, "operator": "Equal", "value": "present", "effect": "NoSchedule"}],
            [{"key": GPU, "operator": "Equal", "value": "present", "effect": "NoSchedule"}, TOLERATION],
        ),
        (
            [{"key": GPU, "operator": "Exists", "effect": "NoExecute"}],
            [{"key": GPU, "operator": "Exists", "effect": "NoExecute"}, TOLERATION],
        ),
    ],
    ids=[
        "none",
        "an empty list",
        "another",
        "the same",
        "all taints",
        "all effects",
        "one value only",
        "another effect",
    ],
)
@pytest.mark.parametrize("class_name", ["inference", "training"])
def test_the_toleration_that_the_old_name_would_have_earned_is_added(
    before: list[Object] | None, after: list[Object], class_name: str
) -> None:
    fields = {} if before is None else {"tolerations": before}
    item = pod(metadata=labelled(class_name), **deepcopy(fields))
    assert rewritten(item, "mixed", "whole").spec["tolerations"] == after


# --- Containers without a GPU -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "env"),
    [
        (container("side", None), [VOID]),
        (container("side", None, env=[]), [VOID]),
        (container("side", None, env=None), [VOID]),
        (container("side", None, env=[{"name": "A", "value": "b"}]), [{"name": "A", "value": "b"}, VOID]),
        (
            container("side", None, env=[{"name": VISIBLE, "value": "all"}]),
            [{"name": VISIBLE, "value": "all"}],
        ),
        (container("side", 0), [VOID]),
        (container("side", None, resources={"limits": {"cpu": 1}}), [VOID]),
        (asking({"amd.com/gpu": 1}, "side"), [VOID]),
        (asking({"nvidia.com/mig-1g.10gb": 0}, "side"), [VOID]),
    ],
    ids=[
        "no variables",
        "an empty list",
        "null",
        "others",
        "their own choice",
        "zero GPUs",
        "cpu",
        "another vendor",
        "zero slices",
    ],
)
def test_containers_without_a_gpu_are_shown_none(side: Object, env: list[Object]) -> None:
    answered = rewritten(pod(container(), side, initContainers=[container("init", None)]), "whole")
    main, other = answered.spec["containers"]
    assert "env" not in main
    assert other["env"] == env
    assert answered.spec["initContainers"][0]["env"] == [VOID]


@pytest.mark.parametrize("side", [asking({SLICE: 1}, "side"), asking({"nvidia.com/GA102GL_A10": 1}, "side")])
def test_containers_with_a_device_of_their_own_keep_it(side: Object) -> None:
    answered = (
        rewritten(pod(container(), side, metadata=INFERENCE), "mixed")
        if SLICE in str(side)
        else rewritten(pod(container(), side), "whole")
    )
    assert "env" not in answered.spec["containers"][1]


def test_null_is_nothing() -> None:
    item = pod(container(resources={"limits": {"nvidia.com/gpu": None}}))
    assert review(world(), item).operations == []
    item = pod(container(resources={"limits": {"nvidia.com/gpu": 1, "nvidia.com/mig-3g.40gb": None}}))
    main, *_ = rewritten(item, "whole").spec["containers"]
    assert {name: str(amount) for name, amount in main["resources"]["limits"].items()} == {
        "nvidia.com/gpu": "1"
    }


def test_a_pod_that_is_not_rewritten_keeps_its_variables() -> None:
    item = pod(container(gpus=None), asking({SLICE: 1}, "side"))
    assert review(world(), item).operations == []


# --- Where the decision is recorded -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"annotations": None},
        {"annotations": {}},
        {"annotations": {"a/b": "c~d"}},
        {"labels": None},
        {"creationTimestamp": None},
    ],
    ids=str,
)
def test_the_decision_is_recorded_whatever_metadata_there_is(metadata: Object) -> None:
    item = pod(metadata=metadata)
    answered = rewritten(item, "whole")
    kept = {k: v for k, v in answered.item["metadata"].items() if k != "annotations"}
    assert kept == {k: v for k, v in item["metadata"].items() if k != "annotations"}
    notes = dict(answered.item["metadata"]["annotations"])
    assert notes.pop(keys.DECISION)
    assert notes == (metadata.get("annotations") or {})


@pytest.mark.parametrize(
    "metadata", [None, {}, {"creationTimestamp": None}, {"annotations": {"a": "b"}}], ids=str
)
def test_a_template_records_it_beside_its_root(metadata: Object | None) -> None:
    item = deployment()
    item["spec"]["template"]["metadata"] = metadata
    template = rewritten(item, "whole").item["spec"]["template"]["metadata"]
    assert set(template) == {*(metadata or {}), "annotations"}
    assert template["annotations"][keys.DECISION]


def test_a_template_without_metadata_of_its_own_gets_it() -> None:
    item = deployment()
    del item["spec"]["template"]["metadata"]
    assert set(rewritten(item, "whole").item["spec"]["template"]["metadata"]) == {"annotations"}


def test_a_kind_whose_template_keeps_no_metadata_records_it_on_the_root_alone() -> None:
    answered = rewritten(notebook(), "time")
    assert set(answered.item["spec"]["template"]) == {"spec"}
    assert answered.decision["class"] == "notebook"


@pytest.mark.parametrize("metadata", [None, {}], ids=["absent", "empty"])
@pytest.mark.parametrize("build", [pod, deployment, notebook])
def test_even_an_object_without_metadata_gets_a_patch_that_applies(
    build: Any, metadata: Object | None
) -> None:
    item = build()
    del item["metadata"]
    if metadata is not None:
        item["metadata"] = metadata
    assert keys.DECISION in review(world(), item, namespace="team").item["metadata"]["annotations"]


# --- Queues -----------------------------------------------------------------------------------------------


def queued(item: Object, engine: str | None = "kueue") -> Object:
    labels = {keys.QUEUE: "fast"} | ({keys.ENGINE: engine} if engine else {})
    return review(world(labels=labels), item).item


def test_the_namespaces_queue_is_joined_by_work_that_names_none() -> None:
    assert queued(deployment())["metadata"]["labels"][keys.KUEUE_QUEUE] == "fast"
    assert queued(deployment(), None)["metadata"]["labels"][keys.KUEUE_QUEUE] == "fast"
    own = deployment(metadata={"labels": {keys.KUEUE_QUEUE: "own"}})
    assert queued(own)["metadata"]["labels"][keys.KUEUE_QUEUE] == "own"


def test_volcanos_queue_is_an_annotation_of_the_template() -> None:
    template = queued(deployment(), "volcano")["spec"]["template"]
    assert template["metadata"]["annotations"][keys.VOLCANO_QUEUE] == "fast"
    assert template["spec"]["schedulerName"] == "volcano"
    other = queued(deployment(schedulerName="mine"), "volcano")["spec"]["template"]
    assert keys.VOLCANO_QUEUE not in other["metadata"]["annotations"]
    assert other["spec"]["schedulerName"] == "mine"


def test_no_engine_no_queue() -> None:
    assert "labels" not in queued(deployment(), "none")["metadata"]


# --- Whatever comes ---------------------------------------------------------------------------------------


def without_ours(item: Object) -> Object:
    """The object less everything that a patch may have written or taken, and less what is empty."""
    bare = deepcopy(item)
    for metadata in (bare["metadata"], bare["spec"].get("template", {}).get("metadata", {})):
        (metadata.get("annotations") or {}).pop(keys.DECISION, None)
    spec = pod_spec(bare)
    spec["tolerations"] = [each for each in spec.get("tolerations") or [] if each != TOLERATION]
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(REQUIRED) or {}
    for term in required.get("nodeSelectorTerms") or []:
        found = term.get("matchExpressions") or []
        term["matchExpressions"] = [e for e in found if e["key"] != keys.POOL or e["operator"] != "In"]
    for each in all_containers(bare):
        each["env"] = [variable for variable in each.get("env") or [] if variable != VOID]
        for amounts in (each.get("resources") or {}).values():
            for name in [name for name in amounts or {} if name.startswith(keys.VENDOR)]:
                del amounts[name]
    pruned: Object = prune(bare)
    return pruned


@given(items(), FLEETS)
def test_whatever_comes_the_patch_does_what_it_must_and_nothing_else(
    item: Object, fleet: tuple[str, ...]
) -> None:
    known = world(*fleet, policies=(POLICY,))
    answered = review(known, item)
    after = answered.item
    assert review(world(*fleet, policies=(POLICY,)), item).raw.body == answered.raw.body, "byte-stable"
    assert without_ours(after) == without_ours(item), "nothing else changes"
    if not answered.operations:
        assert after == item
        return

    again = review(known, after)
    assert (again.operations, again.warnings) == ([], []), "a second pass changes nothing"

    decided = answered.decision["containers"]
    wanted = asked(item)
    got = devices(after)
    one = answered.decision["class"] == "lab"
    assert decided.keys() == wanted.keys()
    for name, number in wanted.items():
        assert got[name] == {decided[name]["to"]: str(1 if one else number)}, (
            "what is asked is what the rule says"
        )
    spec = pod_spec(after)
    assert TOLERATION in spec["tolerations"]
    for each in all_containers(after):
        variables = [variable["name"] for variable in each.get("env") or []]
        assert each["name"] in wanted or variables.count(VISIBLE) == 1
    if any(each["to"] == GPU for each in decided.values()):
        terms = spec["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
        for term in terms:
            expressions = term.get("matchExpressions") or []
            live = bool(expressions or term.get("matchFields"))
            assert not live or steering(*answered.decision["pools"]) in expressions


@given(items())
def test_whatever_comes_audit_and_opting_out_change_nothing(item: Object) -> None:
    assert review(world(labels={keys.MODE: "audit"}, policies=(POLICY,)), item).operations == []
    assert review(world(more={"free": {}}), item, namespace="free").operations == []
    out = deepcopy(item)
    out["metadata"]["annotations"] = annotated(rewrite="false")["annotations"]
    left = review(world(policies=(POLICY,)), out)
    assert pod_spec(left.item) == pod_spec(out), "its pods are told, and that is all"


# --- Several templates ------------------------------------------------------------------------------------


def inference_service(predictor: Object, transformer: Object, **metadata: Any) -> Object:
    """A kind of two pods without metadata of their own, whose containers may be called alike."""
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": "model", "namespace": "team", **metadata},
        "spec": {"predictor": {"containers": [predictor]}, "transformer": {"containers": [transformer]}},
    }


@pytest.mark.parametrize(("first", "second"), [(3, 1), (1, 3), (2, 2), (3, 2)])
@pytest.mark.parametrize("nodes", [("time",), ("mixed", "whole")], ids="+".join)
@pytest.mark.parametrize("multi", ["one", "each"])
def test_containers_of_one_name_in_several_templates_are_told_apart(
    first: int, second: int, nodes: tuple[str, ...], multi: str
) -> None:
    lab = policy({"lab": {"strategy": "time-slicing", "multiGPU": multi, "otherwise": ["mig"]}})
    known = world(*nodes, policies=(lab,))
    manifest = inference_service(container("main", first), container("main", second), **labelled("lab"))
    answered = review(known, manifest)
    assert answered.outcome == "rewritten"
    asked_for = [each["asked"] for each in answered.decision["containers"].values()]
    assert asked_for == [first, second]  # neither template has a record of its own
    assert review(known, answered.item).operations == []
    again = review(known, deepcopy(manifest), answered.item)
    assert again.item == answered.item


@pytest.mark.parametrize("name", ["default", "other"])
@pytest.mark.parametrize("anew", [(1, 2), (2, 1)], ids=["the second", "the first"])
@pytest.mark.parametrize("nodes", [("mps", "whole", "single"), ("whole", "single")], ids="+".join)
def test_a_template_that_is_decided_by_another_policy_than_the_rest_needs_no_second_decision(
    name: str, anew: tuple[int, int], nodes: tuple[str, ...]
) -> None:
    """Neither has a record of its own: that of the object says of each which policy and class it was."""
    before = policy({"lab": {"strategy": "exclusive"}})
    after = policy({"shares": {"strategy": "mps", "multiGPU": "one", "otherwise": ["mig"]}}, name)
    old = created(world(*nodes, policies=(before,)), inference_service(container("a"), container("b")))
    known = world(*nodes, labels={keys.POLICY: name}, policies=(before, after))
    new = inference_service(container("a", anew[0]), container("b", anew[1]))
    for sent in (new, new | {"metadata": old["metadata"]}):
        once = review(known, deepcopy(sent), old)
        assert once.outcome == "rewritten"
        again = review(known, once.item, old)
        assert (again.operations, again.warnings) == ([], [])
        assert review(known, deepcopy(new), once.item).item == once.item, "applied again"


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)], ids=["the second", "the first"])
def test_a_template_that_stood_undecided_stays_so_beside_one_that_is_decided(
    numbers: tuple[int, int],
) -> None:
    """As where a namespace opts in under it: nobody changed what it asks for."""
    known = world("mixed", "whole")
    old = inference_service(container("a"), container("b"), **labelled("inference"))
    new = inference_service(*map(container, "ab", numbers), **labelled("inference"))
    once = review(known, deepcopy(new), old)
    assert once.decision["containers"].keys() == {"ab"[numbers.index(2)]}
    assert review(known, deepcopy(new), once.item).item == once.item


def test_a_template_without_a_record_of_its_own_keeps_its_daemon() -> None:
    daemon = policy({"lab": {"strategy": "time-slicing", "pipeDirectory": "/run/mps", "multiGPU": "whole"}})
    known = world("time", "whole", policies=(daemon,))
    manifest = inference_service(container("a", 2), container("b", 1))
    old = created(known, manifest)
    assert "hostIPC" not in old["spec"]["predictor"]
    assert old["spec"]["transformer"]["hostIPC"] is True
    assert review(known, deepcopy(manifest), old).item == old


def test_a_slice_that_is_named_beside_what_was_decided_needs_no_second_decision() -> None:
    """As the API server asks again when another webhook has changed the object in between."""
    by_hand = asking({SLICE: 1}, "by-hand")
    item = deployment(container("one"), container("four", gpus=4), by_hand, metadata=labelled("inference"))
    known = world("h100-both")
    first = created(known, item)
    assert devices(first)["by-hand"] == {SLICE: "1"}
    assert review(known, deepcopy(first)).operations == []
    assert review(known, deepcopy(item), first).item == first
