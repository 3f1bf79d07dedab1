"""Who is asked, in which order, and what people are told."""

from copy import deepcopy
from typing import Any

import pytest

from slicewise.api import keys
from slicewise.api.policy import Engine
from tests.admission.building import (
    EVERY,
    GPU,
    SHARED,
    SLICE,
    Object,
    annotated,
    asking,
    container,
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
from tests.admission.kinds import at, manifest, put

CLASSES: Object = {
    "training": {"strategy": "exclusive"},
    "inference": {"strategy": "mig"},
    "notebook": {"strategy": "time-slicing"},
    "batch-inference": {"strategy": "mps"},
    "shared-gpu": {"strategy": "vgpu"},
}


# --- The class --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "labels", "expected"),
    [
        (pod(), {}, ("training", "default")),
        (pod(), {keys.WORKLOAD_CLASS: "inference"}, ("inference", "namespace")),
        (pod(metadata=labelled("notebook")), {keys.WORKLOAD_CLASS: "inference"}, ("notebook", "label")),
        (notebook(), {}, ("notebook", "kind")),
        (notebook(), {keys.WORKLOAD_CLASS: "inference"}, ("notebook", "kind")),
        (notebook(metadata=labelled("inference")), {}, ("inference", "label")),
        (deployment(template=labelled("inference")), {}, ("inference", "label")),
        (
            deployment(metadata=labelled("notebook"), template=labelled("inference")),
            {},
            ("notebook", "label"),
        ),
    ],
    ids=[
        "the policy's default",
        "the namespace's label before it",
        "the workload's label before that",
        "the kind before the default",
        "the kind before the namespace's label",
        "the workload's label before the kind",
        "a label of the template",
        "the object's label before the template's",
    ],
)
def test_the_class_comes_from(item: Object, labels: dict[str, str], expected: tuple[str, str]) -> None:
    decision = review(world(labels=labels), item).decision
    assert (decision["class"], decision["classFrom"]) == expected


def test_each_template_is_asked_for_its_own_label() -> None:
    job: Object = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": "set", "namespace": "team"},
        "spec": {
            "replicatedJobs": [
                {
                    "name": name,
                    "template": {
                        "spec": {
                            "template": {"metadata": labelled(name), "spec": pod(container(name))["spec"]}
                        }
                    },
                }
                for name in ("inference", "training")
            ]
        },
    }
    answered = review(world("mixed", "whole"), job)
    assert {name: each["to"] for name, each in answered.decision["containers"].items()} == {
        "inference": SLICE,
        "training": GPU,
    }


@pytest.mark.parametrize(
    ("class_name", "node", "name"),
    [
        ("training", "whole", GPU),
        ("inference", "mixed", SLICE),
        ("notebook", "time", GPU),
        ("notebook", "time-renamed", SHARED),
        ("batch-inference", "mps", GPU),
    ],
)
def test_the_built_in_policy_gives(class_name: str, node: str, name: str) -> None:
    answered = review(world(node), pod(metadata=labelled(class_name)))
    assert devices(answered.item) == {"main": {name: "1"}}
    assert answered.decision["policy"] == "default"


@pytest.mark.parametrize(
    ("class_name", "nodes", "strategy"),
    [
        ("inference", ("whole",), "exclusive"),
        ("notebook", ("mixed", "whole"), "mig"),
        ("notebook", ("whole",), "exclusive"),
        ("tuning", ("mps", "whole"), "exclusive"),
        ("batch-inference", ("time", "single"), "mig"),
    ],
)
def test_the_built_in_policy_falls_back(class_name: str, nodes: tuple[str, ...], strategy: str) -> None:
    assert review(world(*nodes), pod(metadata=labelled(class_name))).decision["strategy"] == strategy


def test_a_policy_called_default_replaces_the_built_in_one() -> None:
    mine = policy({"all": {"strategy": "vgpu"}})
    assert review(world("vgpu", policies=(mine,)), pod()).decision["class"] == "all"


def test_a_namespace_may_name_another_policy() -> None:
    mine = policy({"all": {"strategy": "mig"}}, "mine")
    answered = review(world("mixed", policies=(mine,), labels={keys.POLICY: "mine"}), pod())
    assert (answered.decision["policy"], answered.decision["strategy"]) == ("mine", "mig")


# --- The decision that is recorded ------------------------------------------------------------------------


def test_the_decision_is_recorded_as_is_documented() -> None:
    answered = review(world("mixed"), pod(container(gpus="1"), metadata=labelled("inference")))
    decision = answered.decision
    assert {
        key: decision[key] for key in ("policy", "class", "classFrom", "strategy", "pools", "reason")
    } == {
        "policy": "default",
        "class": "inference",
        "classFrom": "label",
        "strategy": "mig",
        "pools": ["h100-80gb-mig-mixed"],
        "reason": "class inference gets mig; the smallest offered is a slice 1g.10gb",
    }
    main = decision["containers"]["main"]
    assert (main["from"], main["to"], main["count"]) == (GPU, SLICE, 1)


def test_the_reason_says_why_it_is_not_the_first_choice() -> None:
    assert review(world("whole"), pod(container(gpus=2), metadata=labelled("inference"))).decision[
        "reason"
    ] == ("class inference gets exclusive (mig: no pool offers it); the smallest offered is a whole GPU")
    assert review(world("mixed", "whole"), pod(container(gpus=2), metadata=labelled("inference"))).decision[
        "reason"
    ] == (
        "class inference gets exclusive (more than one means whole GPUs (multiGPU: whole)); "
        "the smallest offered is a whole GPU"
    )


# --- What people say for themselves -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notes", "name"),
    [
        ({"gpu_memory": "9Gi"}, "nvidia.com/mig-1g.10gb"),
        ({"gpu_memory": "10Gi"}, "nvidia.com/mig-2g.20gb"),
        ({"gpu_memory": "20G"}, "nvidia.com/mig-2g.20gb"),
        ({"gpu_memory": "30Gi"}, "nvidia.com/mig-3g.40gb"),
        ({"profile": "3g.40gb"}, "nvidia.com/mig-3g.40gb"),
    ],
    ids=str,
)
def test_a_workload_may_ask_for_a_size(notes: dict[str, str], name: str) -> None:
    item = pod(metadata={**labelled("inference"), **annotated(**notes)})
    assert devices(review(world("mixed"), item).item) == {"main": {name: "1"}}


@pytest.mark.parametrize("spelling", ["1g.24gb+me", "1g.24gb.me"])
def test_a_suffixed_profile_may_be_named_in_either_spelling(spelling: str) -> None:
    answered = review(world("suffixed", "whole"), pod(metadata=annotated(profile=spelling)))
    assert devices(answered.item) == {"main": {"nvidia.com/mig-1g.24gb.me": "1"}}


@pytest.mark.parametrize(
    ("profile", "node", "words"),
    [
        ("9g.1gb", "whole", "9g.1gb, which no known board has, and it gets exclusive instead; remove"),
        ("7g.80gb", "whole", "7g.80gb, and it gets exclusive instead; remove"),
        (
            "7g.80gb",
            "mixed",
            "7g.80gb, and it gets exclusive instead; write one of 1g.10gb, 2g.20gb, 3g.40gb, or remove",
        ),
    ],
)
def test_what_is_given_in_place_of_a_named_profile_is_told(profile: str, node: str, words: str) -> None:
    item = pod(metadata={**labelled("inference"), **annotated(profile=profile)})
    answered = review(world(node, "whole"), item)
    assert answered.warnings == [
        f"Pod team/work: no pool offers the profile {words} slicewise.io/profile if that will do"
    ]


@pytest.mark.parametrize("beside", [{}, {"needs": "hardware-isolation"}])
def test_a_named_profile_means_mig_whatever_the_class(beside: dict[str, str]) -> None:
    item = pod(container(gpus=2), metadata={**labelled("notebook"), **annotated(profile="1g.10gb", **beside)})
    assert devices(review(world("mixed", "time"), item).item) == {"main": {SLICE: "2"}}


@pytest.mark.parametrize(
    ("need", "strategy"), [("hardware-isolation", "mig"), ("throughput", "mps"), ("burst", "time-slicing")]
)
def test_a_need_picks_the_strategy(need: str, strategy: str) -> None:
    answered = review(world(), pod(metadata=annotated(needs=need)))
    assert (answered.decision["class"], answered.decision["strategy"]) == ("training", strategy)


def test_a_need_keeps_the_classs_other_fields() -> None:
    mine = policy(
        {
            "work": {
                "strategy": "exclusive",
                "size": {"memory": "10Gi"},
                "multiGPU": "one",
                "otherwise": ["mig"],
            }
        },
        needs={"burst": "mig"},
    )
    answered = review(
        world("mixed", policies=(mine,)), pod(container(gpus=3), metadata=annotated(needs="burst"))
    )
    assert devices(answered.item) == {"main": {"nvidia.com/mig-2g.20gb": "1"}}


def test_a_size_follows_the_classs_rule_for_more_than_one() -> None:
    item = pod(container(gpus=2), metadata={**labelled("inference"), **annotated(gpu_memory="10Gi")})
    assert devices(review(world("mixed", "whole"), item).item) == {"main": {GPU: "2"}}


def test_annotations_are_read_on_the_object_then_on_its_template() -> None:
    def name(item: Object) -> str:
        return next(iter(devices(review(world("mixed"), item).item)["main"]))

    inner, outer = annotated(profile="2g.20gb"), annotated(profile="3g.40gb")
    assert name(deployment(template=inner)) == "nvidia.com/mig-2g.20gb"
    assert name(deployment(metadata=outer, template=inner)) == "nvidia.com/mig-3g.40gb"


def test_an_opt_out_is_left_as_it_is() -> None:
    item = pod(metadata=annotated(rewrite="false"))
    answered = review(world(), item)
    assert (answered.outcome, answered.operations, answered.warnings) == ("left", [], [])


def test_rewrite_true_says_nothing_new() -> None:
    mine = policy(CLASSES, allow=[])
    assert review(world(policies=(mine,)), pod(metadata=annotated(rewrite="true"))).outcome == "rewritten"


@pytest.mark.parametrize(
    ("notes", "allowed", "word"),
    [
        ({"rewrite": "false"}, ["gpu-memory", "profile", "needs"], "opt-out"),
        ({"gpu_memory": "9Gi"}, ["opt-out", "profile", "needs"], "gpu-memory"),
        ({"profile": "1g.10gb"}, ["opt-out", "gpu-memory", "needs"], "profile"),
        ({"needs": "burst"}, ["opt-out", "gpu-memory", "profile"], "needs"),
    ],
    ids=["opt-out", "gpu-memory", "profile", "needs"],
)
def test_what_the_policy_does_not_allow_is_refused(
    notes: dict[str, str], allowed: list[str], word: str
) -> None:
    mine = policy(CLASSES, allow=allowed)
    answered = review(world(policies=(mine,)), pod(metadata=annotated(**notes)))
    key = keys.PREFIX + next(iter(notes)).replace("_", "-")
    assert answered.message == (
        f"Pod team/work: policy default does not allow the annotation {key} (spec.allow leaves out {word}); "
        "remove it or ask whoever keeps the policy"
    )


# --- Refusals: the object, the rule and the fix -----------------------------------------------------------

REFUSALS: dict[str, tuple[Object, dict[str, str], str]] = {
    "an unknown class": (
        pod(metadata=labelled("infrence")),
        {},
        (
            "Pod team/work: its label gives it the class 'infrence', which policy default does not have; "
            "use slicewise.io/workload-class=inference (there are: inference, notebook, "
            "batch-inference, training, tuning)"
        ),
    ),
    "an empty class": (
        pod(metadata=labelled("")),
        {},
        "Pod team/work: its label gives it the class '', which policy default does not have; ",
    ),
    "an unknown class of the namespace": (
        pod(),
        {keys.WORKLOAD_CLASS: "tunning"},
        (
            "Pod team/work: the namespace's label gives it the class 'tunning', which policy default does not have; "
            "use slicewise.io/workload-class=tuning "
        ),
    ),
    "a policy that is not there": (
        pod(),
        {keys.POLICY: "defualt"},
        (
            "Pod team/work: namespace team names the policy 'defualt', which does not exist; "
            "label it slicewise.io/policy=default (there are: default)"
        ),
    ),
    "an unknown mode": (
        pod(),
        {keys.MODE: "enforced"},
        (
            "Pod team/work: namespace team has slicewise.io/mode=enforced, which is no mode; "
            "label it slicewise.io/mode=enforce, audit or off"
        ),
    ),
    "an unknown engine": (
        pod(),
        {keys.ENGINE: "slurm"},
        (
            "Pod team/work: namespace team has slicewise.io/engine=slurm, which is no engine; "
            f"label it slicewise.io/engine={', '.join(Engine)} or none"
        ),
    ),
    "an unknown need": (
        pod(metadata=annotated(needs="speed")),
        {},
        (
            "Pod team/work: slicewise.io/needs='speed' is unknown; "
            "write one of hardware-isolation, throughput, burst"
        ),
    ),
    "an empty need": (
        pod(metadata=annotated(needs="")),
        {},
        "Pod team/work: slicewise.io/needs='' is unknown; ",
    ),
    "memory that is no quantity": (
        pod(metadata=annotated(gpu_memory="16GB")),
        {},
        "Pod team/work: slicewise.io/gpu-memory: '16GB' is not a quantity; write for example 16Gi",
    ),
    "no memory": (
        pod(metadata=annotated(gpu_memory="0")),
        {},
        "Pod team/work: slicewise.io/gpu-memory: '0' is not an amount of memory above zero; write for example 16Gi",
    ),
    "memory without a unit": (
        pod(metadata=annotated(gpu_memory="16")),
        {},
        "Pod team/work: slicewise.io/gpu-memory: '16' is below 64Mi, the least of a slice; write for example 16Gi",
    ),
    "memory in a small unit": (
        pod(metadata=annotated(gpu_memory="63Mi")),
        {},
        "Pod team/work: slicewise.io/gpu-memory: '63Mi' is below 64Mi, the least of a slice; write for example 16Gi",
    ),
    "empty memory": (
        pod(metadata=annotated(gpu_memory="")),
        {},
        "Pod team/work: slicewise.io/gpu-memory: '' is not a quantity; write for example 16Gi",
    ),
    "no profile": (
        pod(metadata=annotated(profile="10gb")),
        {},
        "Pod team/work: slicewise.io/profile='10gb' is no MIG profile; write for example 1g.10gb",
    ),
    "an empty profile": (
        pod(metadata=annotated(profile="")),
        {},
        "Pod team/work: slicewise.io/profile='' is no MIG profile; write for example 1g.10gb",
    ),
    "a slice by name and by size": (
        pod(metadata=annotated(profile="1g.10gb", **{"gpu-memory": "16Gi"})),
        {},
        (
            "Pod team/work: slicewise.io/profile names a slice and slicewise.io/gpu-memory asks for the smallest that "
            "holds so much; keep one of them"
        ),
    ),
    "a slice by name and a need of something else": (
        pod(metadata=annotated(profile="1g.10gb", needs="throughput")),
        {},
        (
            "Pod team/work: slicewise.io/profile names a slice and slicewise.io/needs=throughput asks for mps; keep "
            "one of them"
        ),
    ),
    "neither rewrite nor not": (
        pod(metadata=annotated(rewrite="no")),
        {},
        "Pod team/work: slicewise.io/rewrite='no' means nothing; write \"false\" to opt out or remove it",
    ),
    "two shares": (
        pod(container("small"), container("big", gpus=2), metadata=labelled("notebook")),
        {},
        (
            "Pod team/work: container 'big' asks for 2 GPUs, but class notebook of policy default gets time-slicing "
            "(shares cannot be added up); ask for nvidia.com/gpu: 1, "
            "or label the workload slicewise.io/workload-class=training to get whole GPUs"
        ),
    ),
    "old and new name": (
        pod(asking({GPU: 1, SLICE: 1})),
        {},
        "Pod team/work: container 'main' asks for nvidia.com/gpu and for nvidia.com/mig-1g.10gb; ask for one of them",
    ),
    "a size that nothing holds": (
        pod(metadata=annotated(gpu_memory="200Gi")),
        {},
        (
            "Pod team/work: no pool can serve class training of policy default "
            "(exclusive: nothing offered holds 204800 MiB); "
            "ask for at most 81559Mi (slicewise.io/gpu-memory) or ask whoever keeps the cluster"
        ),
    ),
    "a profile that nobody has": (
        pod(metadata=annotated(profile="4g.40gb")),
        {},
        (
            "Pod team/work: no pool can serve class training of policy default "
            "(mig: no pool offers the profile 4g.40gb); "
            "ask for another profile than 4g.40gb or ask whoever keeps the cluster"
        ),
    ),
}


@pytest.mark.parametrize(("item", "labels", "message"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_names_the_object_the_rule_and_the_fix(
    item: Object, labels: dict[str, str], message: str
) -> None:
    answered = review(world(labels=labels), item)
    assert answered.message.startswith(message)
    assert answered.outcome == "refused"
    assert answered.response["status"]["code"] == 403
    assert "\n" not in answered.message


CPU = pod(container(gpus=None))


@pytest.mark.parametrize(
    ("item", "labels"),
    [
        ({**CPU, "metadata": {**CPU["metadata"], **labelled("nonsense")}}, {}),
        ({**CPU, "metadata": {**CPU["metadata"], **annotated(needs="x", gpu_memory="x", rewrite="x")}}, {}),
        (CPU, {keys.POLICY: "nobody"}),
        (CPU, {keys.MODE: "x"}),
        (CPU, {keys.WORKLOAD_CLASS: "x"}),
        (pod(asking({GPU: 0})), {keys.POLICY: "nobody"}),
        (pod(asking({"amd.com/gpu": 1})), {keys.POLICY: "nobody"}),
    ],
    ids=["class", "annotations", "policy", "mode", "namespace's class", "zero", "another vendor"],
)
def test_work_without_gpus_is_never_refused(item: Object, labels: dict[str, str]) -> None:
    answered = review(world(labels=labels), item)
    assert (answered.allowed, answered.operations, answered.warnings) == (True, [], [])


def test_the_policy_that_is_nearest_is_named() -> None:
    mine = policy(CLASSES, "research")
    answered = review(world(policies=(mine,), labels={keys.POLICY: "reserch"}), pod())
    assert "label it slicewise.io/policy=research (there are: default, research)" in answered.message


def test_a_class_that_says_refuse_is_named_as_the_rule() -> None:
    mine = policy({"lab": {"strategy": "mig", "multiGPU": "refuse"}})
    answered = review(world(policies=(mine,)), pod(container(gpus=2)))
    assert answered.message == (
        "Pod team/work: container 'main' asks for 2 GPUs, but class lab of policy default gets mig "
        "(multiGPU: refuse); ask for nvidia.com/gpu: 1"
    )


def test_an_object_without_a_name_yet_is_named_by_its_prefix() -> None:
    item = pod(metadata=labelled("nonsense"))
    del item["metadata"]["name"]
    assert review(world(), item).message.startswith("Pod team/(unnamed)*: ")
    item["metadata"]["generateName"] = "work-"
    assert review(world(), item).message.startswith("Pod team/work-*: ")


# --- When nothing fits ------------------------------------------------------------------------------------


def test_what_nothing_fits_is_refused_or_left_with_a_warning() -> None:
    words = (
        "Pod team/work: no pool can serve class small of policy default (mps: no pool offers it); "
        "ask whoever keeps the cluster"
    )
    small = {"small": {"strategy": "mps"}}
    refused = review(world("whole", policies=(policy(small),)), pod())
    assert refused.message == words
    left = review(world("whole", policies=(policy(small, whenNothingFits="leave"),)), pod())
    assert (left.allowed, left.operations, left.outcome) == (True, [], "left")
    assert left.warnings == [f"{words}; left as it was asked"]


@pytest.mark.parametrize(
    ("classes", "gpus", "fix"),
    [
        (
            {"large": {"strategy": "exclusive"}},
            1,
            "use another class, such as large, or ask whoever keeps the cluster",
        ),
        ({"large": {"strategy": "exclusive"}}, 9, "ask whoever keeps the cluster"),
        ({"shared": {"strategy": "time-slicing"}}, 1, "ask whoever keeps the cluster"),
        (
            {
                **{f"c{number}": {"strategy": "mps"} for number in range(7)},
                "large": {"strategy": "exclusive"},
            },
            1,
            "ask whoever keeps the cluster",
        ),
    ],
)
def test_a_class_that_would_get_something_is_named(classes: Object, gpus: int, fix: str) -> None:
    mine = policy({"small": {"strategy": "mps", "multiGPU": "each"}, **classes})
    known = world("whole", policies=(mine,))
    refused = review(known, pod(container(gpus=gpus)))
    assert refused.message.endswith(f"(mps: no pool offers it); {fix}")
    refused = review(known, pod(metadata=annotated(needs="throughput")))
    assert refused.message.endswith("use another class or ask whoever keeps the cluster")


@pytest.mark.parametrize(
    "metadata",
    [
        labelled("x" * 70_000),
        *(annotated(**{key: "x" * 70_000}) for key in ("gpu_memory", "profile", "needs", "rewrite")),
        annotated(gpu_memory="9" * 70_000),
    ],
)
def test_of_what_is_long_a_refusal_shows_the_beginning(metadata: Object) -> None:
    refused = review(world("whole"), pod(metadata=metadata))
    assert not refused.allowed
    assert len(refused.message) < 500


def test_otherwise_is_tried_before_that() -> None:
    mine = policy({"small": {"strategy": "mps", "otherwise": ["exclusive"]}}, whenNothingFits="leave")
    assert review(world("whole", policies=(mine,)), pod()).decision["strategy"] == "exclusive"


def test_a_cluster_without_gpus_says_so() -> None:
    empty = world()
    for node in EVERY:
        empty.pools.put(f"{node}-{EVERY.index(node)}", None)
    assert "(exclusive: no pool offers it)" in review(empty, pod()).message


def test_one_for_many_warns() -> None:
    mine = policy({"lab": {"strategy": "mig", "multiGPU": "one"}})
    answered = review(world("mixed", policies=(mine,)), pod(container(gpus=3)))
    assert devices(answered.item) == {"main": {SLICE: "1"}}
    assert answered.warnings == [
        "Pod team/work: container 'main' asked for 3 GPUs and gets one nvidia.com/mig-1g.10gb (multiGPU: one)"
    ]


# --- Names that already say what they are -----------------------------------------------------------------


@pytest.mark.parametrize("name", [SLICE, "nvidia.com/mig-3g.40gb"])
def test_a_slice_by_name_is_left_alone(name: str) -> None:
    answered = review(world(), pod(asking({name: 2})))
    assert (answered.operations, answered.warnings, answered.outcome) == ([], [], "unchanged")


@pytest.mark.parametrize("name", ["nvidia.com/mig-9g.99gb", SHARED, "nvidia.com/mig-1g.10gb.shared"])
def test_a_name_that_nobody_offers_warns(name: str) -> None:
    answered = review(world(), pod(asking({name: 1})))
    assert (answered.operations, answered.outcome) == ([], "left")
    assert answered.warnings == [
        (
            f"Pod team/work: container 'main' asks for {name}, which no pool offers; "
            "ask for nvidia.com/gpu and let the policy choose"
        )
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("nvidia.com/gpus", "nvidia.com/gpu"),
        ("nvidia.com/GPU", "nvidia.com/gpu"),
        ("nvidia.com/mig1g.10gb", SLICE),
    ],
)
@pytest.mark.parametrize("rest", [(), (container(name="side"),)], ids=["alone", "beside"])
def test_a_name_that_is_nearly_a_devices_warns(name: str, meant: str, rest: tuple[Object, ...]) -> None:
    answered = review(world(), pod(asking({name: 1}), *rest))
    assert (
        f"Pod team/work: container 'main' asks for {name}, which no pool offers; did you mean {meant}?"
    ) in answered.warnings


@pytest.mark.parametrize("name", ["nvidia.com/gpumem", "nvidia.com/hostdev", "example.com/gpus"])
def test_a_name_of_others_is_left_in_silence(name: str) -> None:
    answered = review(world(), pod(asking({name: 1})))
    assert (answered.operations, answered.warnings, answered.outcome) == ([], [], "unchanged")


def test_a_slice_by_name_beside_a_gpu_in_another_container_stays() -> None:
    item = pod(container(), asking({"nvidia.com/mig-3g.40gb": 1}, "side"), metadata=labelled("inference"))
    answered = review(world(), item)
    assert devices(answered.item) == {"main": {SLICE: "1"}, "side": {"nvidia.com/mig-3g.40gb": "1"}}
    assert answered.decision["pools"] == ["h100-80gb-mig-mixed"]


@pytest.mark.parametrize("amount", ["$(params.gpus)", "{{ gpus }}", "1.5", "-1", {"x": 1}, "9" * 30], ids=str)
def test_what_cannot_be_read_is_left_alone_and_said(amount: Any) -> None:
    answered = review(world(), pod(container(gpus=amount)))
    assert answered.operations == []
    (warning,) = answered.warnings
    assert warning.startswith("Pod team/work: container 'main' is left alone, its nvidia.com/gpu: ")
    assert warning.endswith("; write a whole number")


# --- Modes and namespaces ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["enforce", ""])
def test_enforcing_is_the_default(mode: str) -> None:
    assert review(world(labels={keys.MODE: mode}), pod()).outcome == "rewritten"


def test_off_does_nothing() -> None:
    answered = review(world(labels={keys.MODE: "off"}), pod(metadata=labelled("nonsense")))
    assert (answered.outcome, answered.operations) == ("ignored", [])


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (
            pod(metadata=labelled("inference")),
            (
                "audit: Pod team/work: main: nvidia.com/gpu 1 -> nvidia.com/mig-1g.10gb 1; free to run in "
                "h100-80gb-mig-mixed, tolerating nvidia.com/gpu (class inference gets mig; the smallest offered is a "
                "slice 1g.10gb)"
            ),
        ),
        (
            pod(metadata=labelled("nonsense")),
            "audit: would be refused: Pod team/work: its label gives it the class 'nonsense', which policy ",
        ),
        (
            pod(asking({"nvidia.com/mig-9g.99gb": 1})),
            "audit: Pod team/work: container 'main' asks for nvidia.com/mig-9g.99gb, which no pool offers; ",
        ),
    ],
    ids=["rewritten", "refused", "warned"],
)
def test_audit_allows_changes_nothing_and_tells(item: Object, told: str) -> None:
    answered = review(world("mixed", labels={keys.MODE: "audit"}), item)
    assert (answered.allowed, answered.operations, answered.outcome) == (True, [], "audited")
    assert len(answered.warnings) == 1
    assert answered.warnings[0].startswith(told)


def in_namespace(name: str) -> Object:
    return pod(metadata={"namespace": name, **labelled("nonsense")})


@pytest.mark.parametrize("name", sorted(keys.SYSTEM_NAMESPACES))
def test_system_namespaces_are_never_touched(name: str) -> None:
    answered = review(world(more={name: {keys.POLICY: "default"}}), in_namespace(name))
    assert (answered.outcome, answered.operations, answered.warnings) == ("ignored", [], [])


def test_a_protected_namespace_is_never_touched() -> None:
    known = world(more={"elsewhere": {keys.POLICY: "default"}})
    known.protected |= {"elsewhere"}
    assert review(known, in_namespace("elsewhere")).outcome == "ignored"


@pytest.mark.parametrize("name", ["free", "nobody", ""])
def test_a_namespace_that_has_not_opted_in_is_left_alone(name: str) -> None:
    answered = review(world(more={"free": {"team": "a"}}), in_namespace(name), namespace=name)
    assert (answered.outcome, answered.operations, answered.warnings) == ("ignored", [], [])


# --- Explaining is tested with the command; here: that every strategy of the policy can be had --------------


@pytest.mark.parametrize(
    ("class_name", "strategy"), [(name, work["strategy"]) for name, work in CLASSES.items()], ids=str
)
def test_every_strategy_can_be_had(class_name: str, strategy: str) -> None:
    answered = review(world(policies=(policy(CLASSES),)), pod(metadata=labelled(class_name)))
    assert answered.decision["strategy"] == strategy


# --- The pod as a whole -----------------------------------------------------------------------------------


WORKERS, LAB = "spec.workerGroupSpecs.0.template.spec", "spec.template.spec"
POD_LEVEL: dict[str, tuple[Object, str]] = {
    "beside a container's": (notebook(container()), LAB),
    "alone": (notebook(container(gpus=None)), LAB),
    "in a list": (manifest("ray.io_RayCluster"), WORKERS),
}


@pytest.mark.parametrize(("item", "place"), POD_LEVEL.values(), ids=POD_LEVEL)
@pytest.mark.parametrize("resource", [GPU, SLICE])
def test_a_gpu_for_the_pod_as_a_whole_is_warned_of(item: Object, place: str, resource: str) -> None:
    asks = {"limits": {resource: 1, "cpu": 1}, "requests": {resource: 1}}
    answered = review(world(), put(deepcopy(item), f"{place}.resources", asks))
    (warning,) = answered.warnings
    pointer = place.replace(".", "/")
    assert f"/{pointer}/resources asks for {resource} for the pod as a whole" in warning
    assert at(answered.item, f"{place}.resources") == asks


@pytest.mark.parametrize("resources", [{"limits": {"cpu": 1}}, {"limits": None}, "small", None])
def test_other_resources_of_the_pod_are_nothing_to_speak_of(resources: Any) -> None:
    answered = review(world(), put(notebook(), f"{LAB}.resources", resources))
    assert (answered.outcome, answered.warnings) == ("rewritten", [])


def test_what_a_kind_keeps_under_that_name_for_its_container_is_no_pods() -> None:
    answered = review(world(), manifest("serving.kserve.io_InferenceGraph"))
    assert (answered.outcome, answered.warnings) == ("rewritten", [])


def test_an_object_with_more_containers_than_anybody_writes_is_refused_in_a_sentence() -> None:
    many = [container(f"c{number}", gpus=1 if number == 0 else None) for number in range(501)]
    answered = review(world(), pod(*many))
    assert answered.message == (
        "Pod team/work: has 501 containers, and of an object that asks for GPUs at most 500 are looked at; "
        "split it into several"
    )
    assert review(world(), pod(*many[1:])).outcome == "unchanged"
    audited = review(world(more={"team": {keys.POLICY: "default", keys.MODE: "audit"}}), pod(*many))
    assert (audited.allowed, audited.outcome) == (True, "audited")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"labels": {"slicewise.io/workloadclass": "x"}}, "write the label slicewise.io/workload-class: 'x'"),
        (
            {"labels": {"slicewise.io/workload_class": "x"}},
            "write the label slicewise.io/workload-class: 'x'",
        ),
        (
            {"annotations": {"slicewise.io/workload-class": "x"}},
            "write the label slicewise.io/workload-class",
        ),
        (
            {"labels": {"slicewise.io/gpu-memory": "9Gi"}},
            "write the annotation slicewise.io/gpu-memory: '9Gi'",
        ),
        ({"annotations": {"slicewise.io/GPUMemory": "9Gi"}}, "write the annotation slicewise.io/gpu-memory"),
        ({"labels": {"slicewise.io/workload-clas": "x"}}, "write the label slicewise.io/workload-class: 'x'"),
        ({"labels": {"slicewise.io/class": "x"}}, "write the label slicewise.io/workload-class: 'x'"),
        (
            {"annotations": {"slicewise.io/memory": "9Gi"}},
            "write the annotation slicewise.io/gpu-memory: '9Gi'",
        ),
        ({"labels": {"slicewise.io/policy": "gold"}}, "means nothing; label its namespace with it"),
        (
            {"annotations": {"slicewise.io/opt-out": "true"}},
            "write the annotation slicewise.io/rewrite: 'false'",
        ),
        (
            {"labels": {"slicewise/workload-class": "x"}},
            "means nothing; if Slicewise is meant, write the label slicewise.io/workload-class: 'x'",
        ),
        (
            {"annotations": {"slicewise.com/GPUMemory": "9Gi"}},
            "write the annotation slicewise.io/gpu-memory: '9Gi'",
        ),
        ({"labels": {"slicewise.dev/policy": "gold"}}, "label its namespace with slicewise.io/policy"),
        (
            {"annotations": {"slicewise/opt-out": "true"}},
            "write the annotation slicewise.io/rewrite: 'false'",
        ),
        (
            {"labels": {"slicewise.io/team": "a"}},
            "the label slicewise.io/team means nothing; remove it, or write one of slicewise.io/workload-class, ",
        ),
        ({"annotations": {"slicewise.io/size": "9Gi"}}, "the annotation slicewise.io/size means nothing; "),
        (
            {"labels": {"slicewise.io/pool": "h100-80gb-exclusive"}},
            "the label slicewise.io/pool means nothing; write slicewise.io/pool into the nodeSelector of its pods",
        ),
        ({"labels": {"slicewise-team": "a", "slicewise.example.org/team": "a"}}, ""),
        ({"annotations": {"slicewise.io/decision": "{}"}}, ""),
    ],
)
def test_slips_of_the_pen_are_warned_of(metadata: Object, words: str) -> None:
    answered = review(world("whole"), pod(metadata=metadata))
    assert answered.allowed
    assert any(words in each for each in answered.warnings) if words else answered.warnings == []
    told = review(world("whole"), deployment(template=metadata)).warnings  # on a template too
    assert any(words in each for each in told) if words else told == []


def test_keys_of_somebody_elses_hide_no_slip_of_the_pen() -> None:
    own = {f"slicewiser.example.com/own{number}": "1" for number in range(20)}
    metadata = {"annotations": {**own, "slicewise/gpu-memory": "9Gi"}}
    (warning,) = review(world("whole"), pod(metadata=metadata)).warnings
    assert "the annotation slicewise/gpu-memory means nothing; if Slicewise is meant, write" in warning


def test_of_many_slips_of_the_pen_some_are_warned_of() -> None:
    labels = {f"slicewise.io/workload-class-{number}": "x" for number in range(5000)}
    assert len(review(world("whole"), pod(metadata={"labels": labels})).warnings) == 8


@pytest.mark.parametrize(
    ("gpus", "value", "warned"),
    [
        (1, "all", True),
        (1, "void", True),
        (1, None, True),
        (None, "all", True),
        (None, "0", True),
        (None, "void", False),
        (None, "none", False),
        (None, "", False),
    ],
)
def test_a_container_that_says_itself_what_it_is_shown_is_warned(
    gpus: int | None, value: str | None, *, warned: bool
) -> None:
    said = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}} if value is None else {"value": value}
    variable = {"name": keys.VISIBLE_DEVICES, **said}
    answered = review(world("whole"), pod(container(), container("beside", gpus, env=[variable])))
    assert pod_spec(answered.item)["containers"][1]["env"] == [variable]
    words = [each for each in answered.warnings if "'beside' sets NVIDIA_VISIBLE_DEVICES" in each]
    assert (len(words) == 1) is warned
