"""SlicingPolicy and QuotaPlan: what is accepted, and what a refusal says."""

from typing import Any

import pytest

from slicewise.api.kueue_fields import FairSharing, KueueFields
from slicewise.api.policy import (
    Allowed,
    DeletionPolicy,
    Engine,
    LabelSelector,
    PlanMode,
    SpecError,
    WhenNothingFits,
    built_in,
    read_plan,
    read_policy,
)
from slicewise.gpu.strategies import MULTI_GPU_DEFAULT, MultiGPU, Need, Strategy

Spec = dict[str, Any]
TRAINING: Spec = {"defaultClass": "training", "classes": {"training": {"strategy": "exclusive"}}}
FULL: Spec = {
    "defaultClass": "training",
    "classes": {
        "inference": {
            "strategy": "mig",
            "size": {"memory": "9Gi"},
            "models": ["*H100*", "*A100*"],
            "multiGPU": "whole",
            "otherwise": ["exclusive"],
        },
        "notebook": {"strategy": "time-slicing", "multiGPU": "refuse"},
        "training": {"strategy": "exclusive"},
    },
    "kinds": {"Notebook.kubeflow.org": "notebook", "Pod": "training"},
    "needs": {"hardware-isolation": "mig", "throughput": "mps", "burst": "time-slicing"},
    "whenNothingFits": "refuse",
    "allow": ["opt-out", "gpu-memory", "profile", "needs"],
}


def policy(spec: Any, name: str = "default") -> Spec:
    return {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "SlicingPolicy",
        "metadata": {"name": name},
        "spec": spec,
    }


def plan(spec: Any, name: str = "research") -> Spec:
    return {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": name},
        "spec": spec,
    }


def one_class(**fields: Any) -> Spec:
    return {**TRAINING, "classes": {"training": {"strategy": "mig", **fields}}}


# --- SlicingPolicy ----------------------------------------------------------------------------------------


def test_the_policy_of_the_public_surface_is_read() -> None:
    spec = read_policy(policy(FULL)).spec
    inference = spec.classes["inference"]
    assert inference.strategy is Strategy.MIG
    assert inference.size is not None
    assert inference.size.memory == "9Gi"
    assert inference.models == ("*H100*", "*A100*")
    assert inference.multi_gpu is MultiGPU.WHOLE
    assert inference.otherwise == (Strategy.EXCLUSIVE,)
    assert spec.kinds == {"Notebook.kubeflow.org": "notebook", "Pod": "training"}


def test_everything_but_classes_has_a_default() -> None:
    spec = read_policy(policy(TRAINING)).spec
    assert spec.needs == {
        Need.HARDWARE_ISOLATION: Strategy.MIG,
        Need.THROUGHPUT: Strategy.MPS,
        Need.BURST: Strategy.TIME_SLICING,
    }
    assert spec.when_nothing_fits is WhenNothingFits.REFUSE
    assert spec.allow == tuple(Allowed)
    work = spec.classes["training"]
    assert (work.size, work.models, work.multi_gpu, work.otherwise) == (None, (), None, ())


def test_unless_said_more_than_one_means() -> None:
    assert MULTI_GPU_DEFAULT == {
        Strategy.MIG: MultiGPU.WHOLE,
        Strategy.TIME_SLICING: MultiGPU.REFUSE,
        Strategy.MPS: MultiGPU.REFUSE,
        Strategy.VGPU: MultiGPU.EACH,
        Strategy.EXCLUSIVE: MultiGPU.EACH,
    }


def test_the_built_in_policy_is_the_published_guidance() -> None:
    found = built_in()
    assert found.name == "default"
    assert found.spec.default_class == "training"
    assert {
        name: (str(work.strategy), *map(str, work.otherwise)) for name, work in found.spec.classes.items()
    } == {
        "inference": ("mig", "exclusive"),
        "notebook": ("time-slicing", "mig", "exclusive"),
        "batch-inference": ("mps", "mig", "exclusive"),
        "training": ("exclusive",),
        "tuning": ("time-slicing", "mig", "exclusive"),
    }
    assert found.spec.kinds == {"Notebook.kubeflow.org": "notebook"}
    assert all(work.size is None for work in found.spec.classes.values())


@pytest.mark.parametrize(
    "spec",
    [
        one_class(size={"profile": "1g.10gb"}),
        one_class(size={"profile": "1g.10gb+me"}),
        one_class(size={"profile": "1g.24gb.me.all"}),
        one_class(size={"profile": "1c.3g.40gb"}),
        one_class(size={"memory": "500M"}),
        one_class(size={"profile": "1g.10gb"}, models=["*A30*", "*H100*"]),
        one_class(size={"profile": "9g.99gb"}, models=["*Rubin*"]),
        one_class(otherwise=["mps", "time-slicing", "vgpu", "exclusive"]),
        one_class(spill=False),
        {
            **TRAINING,
            "classes": {"training": {"strategy": "exclusive", "pipeDirectory": "/run/nvidia/.mps-2.0"}},
        },
        {**TRAINING, "needs": {}},
        {**TRAINING, "allow": []},
        {**TRAINING, "whenNothingFits": "leave"},
        {**TRAINING, "kinds": {"Pod": "training", "Job.batch": "training", "RayJob.ray.io": "training"}},
    ],
    ids=str,
)
def test_a_sound_policy_is_accepted(spec: Spec) -> None:
    assert read_policy(policy(spec)).spec.default_class == "training"


REFUSED_POLICIES: dict[str, tuple[Any, str, str]] = {
    "no spec": (None, "spec", "is missing"),
    "no default class": ({"classes": TRAINING["classes"]}, "spec.defaultClass", "is missing; add it"),
    "no classes": ({"defaultClass": "training"}, "spec.classes", "is missing; add it"),
    "an empty map of classes": ({**TRAINING, "classes": {}}, "spec.classes", "must have at least 1 item"),
    "a default class that is none": (
        {**TRAINING, "defaultClass": "trainnig"},
        "spec.defaultClass",
        "there is no class 'trainnig'; classes are training",
    ),
    "a kind of a class that is none": (
        {**TRAINING, "kinds": {"Job.batch": "batch"}},
        "spec.kinds.Job.batch",
        "there is no class 'batch'; classes are training",
    ),
    "a kind that is none": (
        {**TRAINING, "kinds": {"job": "training"}},
        "spec.kinds.job",
        "must match pattern",
    ),
    "a profile that no board named has": (
        one_class(size={"profile": "1g.10gb"}, models=["NVIDIA-A30"]),
        "spec.classes.training.size.profile",
        "no board that models names has 1g.10gb; they have 1g.6gb, 1g.6gb+me, 2g.12gb, 2g.12gb+me, 4g.24gb",
    ),
    "an unknown strategy": (
        {**TRAINING, "classes": {"training": {"strategy": "halves"}}},
        "spec.classes.training.strategy",
        "'mig', 'time-slicing', 'mps', 'vgpu' or 'exclusive'; found 'halves'",
    ),
    "no strategy": (
        {**TRAINING, "classes": {"training": {}}},
        "spec.classes.training.strategy",
        "is missing",
    ),
    "a misspelt field": (
        one_class(multigpu="each"),
        "spec.classes.training.multigpu",
        "there is no such field; did you mean multiGPU?",
    ),
    "a misspelt field of the spec": (
        {**TRAINING, "default": "x"},
        "spec.default",
        "no such field; did you mean defaultClass?",
    ),
    "a key that is no text": (
        {**TRAINING, True: "x"},
        "spec",
        "the key true is no text; put it in quotes",
    ),
    "a switch in quotes": (one_class(spill="no"), "spec.classes.training.spill", "found 'no'"),
    **{
        f"a pipe directory that leads elsewhere: {path}": (
            {**TRAINING, "classes": {"training": {"strategy": "exclusive", "pipeDirectory": path}}},
            "spec.classes.training.pipeDirectory",
            "must match pattern",
        )
        for path in ("/run/../etc", "/run/./mps", "/..", "run/mps", "/run/mps/")
    },
    "an unknown rule": (one_class(multiGPU="all"), "spec.classes.training.multiGPU", "found 'all'"),
    "two sizes": (
        one_class(size={"memory": "9Gi", "profile": "1g.10gb"}),
        "spec.classes.training.size",
        "give either memory or profile",
    ),
    "no size in a size": (one_class(size={}), "spec.classes.training.size", "give either memory or profile"),
    "a size that is no quantity": (
        one_class(size={"memory": "9GB"}),
        "spec.classes.training.size.memory",
        "'9GB' is not a quantity; write for example 16Gi",
    ),
    "a size of nothing": (
        one_class(size={"memory": "0"}),
        "spec.classes.training.size.memory",
        "'0' is not an amount of memory above zero; write for example 16Gi",
    ),
    "a size without a unit": (
        one_class(size={"memory": "16"}),
        "spec.classes.training.size.memory",
        "'16' is below 64Mi, the least of a slice; write for example 16Gi",
    ),
    "a size in thousandths": (
        one_class(size={"memory": "500m"}),
        "spec.classes.training.size.memory",
        "'500m' is below 64Mi, the least of a slice; write for example 16Gi",
    ),
    "a size that is no profile": (
        one_class(size={"profile": "10gb"}),
        "spec.classes.training.size.profile",
        "'10gb' is no MIG profile; write for example 1g.10gb",
    ),
    "a fallback to itself": (
        one_class(otherwise=["mig"]),
        "spec.classes.training.otherwise",
        "mig is tried already and would never be reached; remove it",
    ),
    "a fallback twice": (
        one_class(otherwise=["mps", "mps"]),
        "spec.classes.training.otherwise",
        "mps is tried already",
    ),
    "a class name that no label can hold": (
        {**TRAINING, "classes": {**TRAINING["classes"], "Big Ones": {"strategy": "mig"}}},
        "spec.classes.Big Ones",
        "must match pattern",
    ),
    "an unknown need": ({**TRAINING, "needs": {"speed": "mps"}}, "spec.needs.speed", "found 'speed'"),
    "an unknown annotation": ({**TRAINING, "allow": ["all"]}, "spec.allow[0]", "found 'all'"),
    "an unknown fallback": ({**TRAINING, "whenNothingFits": "wait"}, "spec.whenNothingFits", "found 'wait'"),
}


@pytest.mark.parametrize(("spec", "field", "message"), REFUSED_POLICIES.values(), ids=REFUSED_POLICIES)
def test_a_refusal_names_the_field_and_what_is_wrong(spec: Any, field: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_policy(policy(spec, "mine"))
    assert caught.value.field == field
    assert message in caught.value.message
    assert str(caught.value).startswith(f"SlicingPolicy mine: {field}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({**policy(TRAINING), "apiVersion": "slicewise.io/v1"}, "apiVersion"),
        ({**policy(TRAINING), "metadata": {}}, "metadata.name"),
        ({**policy(TRAINING), "metadata": None}, "metadata.name"),
        ({**policy(TRAINING), "spec": []}, "spec"),
    ],
    ids=["another version", "no name", "no metadata", "a spec that is no map"],
)
def test_the_object_around_the_spec_is_checked_too(document: Spec, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_policy(document)
    assert caught.value.field == field


# --- QuotaPlan --------------------------------------------------------------------------------------------

QUEUES = [{"name": "team-a", "share": 3}, {"name": "team-b"}]


def test_the_plan_of_the_public_surface_is_read() -> None:
    found = read_plan(
        plan(
            {
                "engine": "kueue",
                "pools": {"matchNames": ["h100-*"]},
                "cohort": "research",
                "headroom": {"percent": 10, "count": 1},
                "queues": [
                    {"name": "team-a", "share": 3, "namespaces": {"matchLabels": {"team": "a"}}},
                    {"name": "team-b", "share": 1, "shares": {"h100-80gb-mig-*": 0}},
                ],
                "cover": ["cpu", "memory"],
                "mode": "write",
            }
        )
    ).spec
    assert found.engine is Engine.KUEUE
    assert (found.headroom.percent, found.headroom.count) == (10, 1)
    assert [queue.share_of("h100-80gb-mig-mixed") for queue in found.queues] == [3, 0]
    assert [queue.share_of("h100-80gb-exclusive") for queue in found.queues] == [3, 1]
    assert found.mode is PlanMode.WRITE


def kueue_plan(kueue: Spec, **fields: Any) -> Spec:
    return {"engine": "kueue", "queues": [{"name": "a"}], "kueue": kueue, **fields}


def test_everything_but_the_engine_and_the_queues_has_a_default() -> None:
    found = read_plan(plan({"engine": "kueue", "queues": QUEUES})).spec
    assert (found.deletion_policy, found.suspend, found.per_node) == (DeletionPolicy.RETAIN, False, {})
    assert found.kueue == found.kueue_of(found.queues[0]) == KueueFields()


def test_fields_of_kueue_are_for_all_queues_but_where_one_has_its_own() -> None:
    spec = kueue_plan(
        {
            "preemption": {
                "reclaimWithinCohort": "Any",
                "borrowWithinCohort": {"policy": "LowerPriority", "maxPriorityThreshold": 100},
            },
            "fairSharing": {"weight": "1.5"},
            "admissionChecks": [{"name": "provision", "onFlavors": ["h100-*"]}],
            "flavorFungibility": {
                "whenCanBorrow": "TryNextFlavor",
                "whenCanPreempt": "TryNextFlavor",
                "preference": "BorrowingOverPreemption",
            },
            "queueingStrategy": "StrictFIFO",
            "stopPolicy": "Hold",
            "localQueueName": "gpu",
        },
        queues=[{"name": "a", "kueue": {"stopPolicy": "None", "fairSharing": {"weight": 3}}}, {"name": "b"}],
    )
    found = read_plan(plan(spec)).spec
    first, second = (found.kueue_of(queue) for queue in found.queues)
    assert second == found.kueue
    assert first == found.kueue.model_copy(
        update={"stop_policy": "None", "fair_sharing": FairSharing(weight=3)}
    )


def selecting(expression: Spec) -> Spec:
    return {"engine": "kueue", "queues": [{"name": "a", "namespaces": {"matchExpressions": [expression]}}]}


REFUSED_PLANS: dict[str, tuple[Spec, str, str]] = {
    "no engine": ({"queues": QUEUES}, "spec.engine", "is missing"),
    "an engine that queues nothing": (
        {"engine": "none", "queues": QUEUES},
        "spec.engine",
        "; found 'none'",
    ),
    "no queues": (
        {"engine": "kueue", "queues": []},
        "spec.queues",
        "must have at least 1 item; found []",
    ),
    "queues that are no list": (
        {"engine": "kueue", "queues": {"name": "a"}},
        "spec.queues",
        'must be a list; found {"name": "a"}',
    ),
    "a switch for a share": (
        {"engine": "kueue", "queues": [{"name": "a", "share": True}]},
        "spec.queues[0].share",
        "must be an integer; found true",
    ),
    "a share in quotes": (
        {"engine": "kueue", "queues": [{"name": "a", "shares": {"h100-*": "3"}}]},
        "spec.queues[0].shares.h100-*",
        "must be an integer; found '3'",
    ),
    "a GPU beside the GPUs": (
        {"engine": "kueue", "queues": QUEUES, "cover": ["cpu", "nvidia.com/gpu"]},
        "spec.cover",
        "nvidia.com/gpu is what the pools offer, and covered already; list others, such as cpu",
    ),
    "a queue twice": (
        {"engine": "kueue", "queues": [*QUEUES, {"name": "team-a"}]},
        "spec.queues",
        "team-a is listed twice; give every queue once",
    ),
    "a share below zero": (
        {"engine": "kueue", "queues": [{"name": "a", "share": -1}]},
        "spec.queues[0].share",
        "greater than or equal to 0",
    ),
    "more headroom than all": (
        {"engine": "kueue", "queues": QUEUES, "headroom": {"percent": 101}},
        "spec.headroom.percent",
        "less than or equal to 100",
    ),
    "a limit without a cohort": (
        {"engine": "kueue", "queues": [{"name": "a", "borrowing": {"count": 1}}]},
        "spec.queues.a",
        "Kueue takes limits only in a cohort; name a cohort",
    ),
    "a limit of two kinds": (
        {"engine": "kueue", "cohort": "c", "queues": [{"name": "a", "lending": {"count": 1, "percent": 1}}]},
        "spec.queues[0].lending",
        "give either count or percent",
    ),
    "a mode that is not served yet": (
        {"engine": "kueue", "queues": QUEUES, "mode": "capacity-provider"},
        "spec.mode",
        "capacity-provider is not served yet; use write or report",
    ),
    "a selector without values": (
        selecting({"key": "team", "operator": "In"}),
        "spec.queues[0].namespaces.matchExpressions[0].values",
        "In needs values; list one or more",
    ),
    "a selector with values that mean nothing": (
        selecting({"key": "team", "operator": "Exists", "values": ["a"]}),
        "spec.queues[0].namespaces.matchExpressions[0].values",
        "Exists takes no values; remove them",
    ),
    "a label that no namespace can have": (
        {"engine": "kueue", "queues": [{"name": "a", "namespaces": {"matchLabels": {"not a key!!": "x"}}}]},
        "spec.queues[0].namespaces.matchLabels",
        "'not a key!!' is no key of a label; write for example team or example.com/team",
    ),
    "a value that no label can have": (
        {"engine": "kueue", "queues": [{"name": "a", "namespaces": {"matchLabels": {"team": "a b"}}}]},
        "spec.queues[0].namespaces.matchLabels",
        "'a b' is no value of a label; write at most 63 letters, digits, '-', '_' and '.'",
    ),
    "a selector of a label that no namespace can have": (
        selecting({"key": "a/b/c", "operator": "Exists"}),
        "spec.queues[0].namespaces.matchExpressions[0].key",
        "'a/b/c' is no key of a label",
    ),
    "a selector of a value that no namespace can have": (
        selecting({"key": "team", "operator": "In", "values": ["a b"]}),
        "spec.queues[0].namespaces.matchExpressions[0].values",
        "'a b' is no value of a label",
    ),
    "a resource that no node can have": (
        {"engine": "kueue", "queues": QUEUES, "cover": ["no such/thing/*"]},
        "spec.cover",
        "'no such/thing/*' is no name of a resource; write for example cpu",
    ),
    "a resource that is covered twice": (
        {"engine": "kueue", "queues": QUEUES, "cover": ["cpu", "memory", "cpu"]},
        "spec.cover",
        "cpu is listed twice; give every resource once",
    ),
    "a size of what nobody counts": (
        {"engine": "kueue", "queues": QUEUES, "maximum": {"h100-*": {"nvidia.com/gpu": 8, "cpu": 96}}},
        "spec.maximum.h100-*.cpu",
        "cpu is not what pools offer, and not covered; add it to cover, or remove it",
    ),
    "a share of a pool below zero": (
        {"engine": "kueue", "queues": [{"name": "a", "shares": {"*": -2}}]},
        "spec.queues[0].shares.*",
        "greater than or equal to 0; found -2",
    ),
    "a share of a pool without bound": (
        {"engine": "kueue", "queues": [{"name": "a", "shares": {"*": 10**18}}]},
        "spec.queues[0].shares.*",
        "less than or equal to 1000000",
    ),
    "more devices than any pool has": (
        {"engine": "kueue", "queues": QUEUES, "maximum": {"*": {"nvidia.com/gpu": 2**63 - 1}}},
        "spec.maximum.*.nvidia.com/gpu",
        "no pool has more than 1000000 devices; write a smaller number",
    ),
    "a size of several numbers": (
        {"engine": "kueue", "queues": QUEUES, "maximum": {"*": {"nvidia.com/gpu": [1]}}},
        "spec.maximum.*.nvidia.com/gpu",
        "must be an integer; found [1]",
    ),
    "a node of none": (
        {"engine": "kueue", "queues": QUEUES, "perNode": {"l4-exclusive": {"nvidia.com/gpu": 0}}},
        "spec.perNode.l4-exclusive.nvidia.com/gpu",
        "a node of the pool has at least one; write that number, or leave it out",
    ),
    "a node of what nobody counts": (
        {"engine": "kueue", "queues": QUEUES, "perNode": {"l4-exclusive": {"cpu": 8}}},
        "spec.perNode.l4-exclusive.cpu",
        "cpu is not what pools offer, and not covered; add it to cover, or remove it",
    ),
    "a deletion policy that is none": (
        {"engine": "kueue", "queues": QUEUES, "deletionPolicy": "Orphan"},
        "spec.deletionPolicy",
        "'Retain' or 'Release'; found 'Orphan'",
    ),
    "a switch that is none": (
        {"engine": "kueue", "queues": QUEUES, "suspend": "yes"},
        "spec.suspend",
        "must be a boolean; found 'yes'",
    ),
    "fields of another engine": (
        {"engine": "volcano", "queues": QUEUES, "kueue": {"stopPolicy": "Hold"}},
        "spec.kueue",
        "these are Kueue's, and the engine is volcano; remove them",
    ),
    "a queue's fields of another engine": (
        {"engine": "volcano", "queues": [{"name": "a", "kueue": {"stopPolicy": "Hold"}}]},
        "spec.queues.a.kueue",
        "these are Kueue's, and the engine is volcano; remove them",
    ),
    "preemption that Kueue does not take": (
        kueue_plan({"preemption": {"borrowWithinCohort": {"policy": "LowerPriority"}}}),
        "spec.kueue.preemption.borrowWithinCohort",
        "Kueue takes it only beside reclaimWithinCohort; set that to LowerPriority or Any",
    ),
    "a preference between what is not searched": (
        kueue_plan({"flavorFungibility": {"preference": "BorrowingOverPreemption"}}),
        "spec.kueue.flavorFungibility.preference",
        "Kueue takes it only where both others are TryNextFlavor; set them or remove it",
    ),
    "a weight below zero": (
        kueue_plan({"fairSharing": {"weight": "-1"}}),
        "spec.kueue.fairSharing.weight",
        "it is not between 0 and 1000000; write for example 2",
    ),
    "a weight that is no number": (
        kueue_plan({"fairSharing": {"weight": "heavy"}}),
        "spec.kueue.fairSharing.weight",
        "'heavy' is not a quantity; write for example 2",
    ),
    "a check twice": (
        kueue_plan({"admissionChecks": [{"name": "x"}, {"name": "x"}]}),
        "spec.kueue.admissionChecks",
        "x is listed twice; give every check once",
    ),
    "a policy that Kueue has not": (
        kueue_plan({"stopPolicy": "Drain"}),
        "spec.kueue.stopPolicy",
        "'None', 'Hold' or 'HoldAndDrain'; found 'Drain'",
    ),
    "a size that is no number of devices": (
        {"engine": "kueue", "queues": QUEUES, "maximum": {"h100-*": {"nvidia.com/gpu": "1.5"}}},
        "spec.maximum.h100-*.nvidia.com/gpu",
        "'1.5' is not a whole number of devices; write a whole number",
    ),
}


@pytest.mark.parametrize(("spec", "field", "message"), REFUSED_PLANS.values(), ids=REFUSED_PLANS)
def test_a_refused_plan_names_the_field_and_what_is_wrong(spec: Spec, field: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_plan(plan(spec))
    assert caught.value.field == field
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ({}, True),
        ({"matchLabels": {"team": "a"}}, True),
        ({"matchLabels": {"team": "b"}}, False),
        ({"matchLabels": {"team": "a", "tier": "x"}}, False),
        ({"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["a"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["x"]}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "team", "operator": "DoesNotExist"}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, True),
    ],
    ids=str,
)
def test_namespaces_are_selected_as_kubernetes_does(selector: Spec, matches: bool) -> None:  # noqa: FBT001
    assert LabelSelector.model_validate(selector).matches({"team": "a"}) is matches
