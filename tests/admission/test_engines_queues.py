"""Work gets what its queue has quota of, as far as plans say; nothing is refused for it."""

import json
from typing import Any, Final

import pytest

from admission.decision.cluster_state import ClusterState
from admission.engines.queueing import Named, queue_of
from admission.workloads.decoder import Templates
from slicewise.api import keys
from slicewise.api.policy import Engine, QuotaPlan, read_plan
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.gpu_requirement import GpuRequirement
from slicewise.inventory.pools import Inventory
from tests.admission.building import (
    GPU,
    NODES,
    SLICE,
    Object,
    annotated,
    container,
    created,
    deployment,
    devices,
    labelled,
    pod_spec,
    review,
    world,
)
from tests.admission.kinds import manifest, put
from tests.admission.test_explaining import told
from tests.inventory.nodes import MIXED, Shape, slices, whole

A30, A100 = "NVIDIA-A30", "NVIDIA-A100-SXM4-80GB"
SMALLER: Final = Shape(
    {**MIXED, **whole(A30, 4, 24576, replicas=0), **slices(A30, "1g.6gb", 16, 5952)},
    {"mig-1g.6gb": 16},
    "a30-mig-mixed",
    Strategy.MIG,
    {},
)
"""Everybody's choice by the order of what fits: the least memory."""
LARGER: Final = "h100-80gb-mig-mixed"
BOARDS: Final = "h100-80gb-exclusive"
SMALL: Final = "nvidia.com/mig-1g.6gb"
INFERENCE: Final = labelled("inference")


def plan(name: str, *globs: str, queues: Any = None, **spec: Any) -> QuotaPlan:
    listed = [{"name": name}] if queues is None else queues
    return read_plan(
        {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "QuotaPlan",
            "metadata": {"name": f"plan-{name}"},
            "spec": {
                "engine": "kueue",
                "queues": listed,
                **({"pools": {"matchNames": list(globs)}} if globs else {}),
                **spec,
            },
        }
    )


def known(
    *plans: QuotaPlan, queue: str = "a", engine: str | None = None, boards: bool = False
) -> ClusterState:
    found = world(labels={keys.QUEUE: queue, **({keys.ENGINE: engine} if engine else {})})
    nodes = [SMALLER.node("small"), NODES["mixed"].node("large")]
    found.pools = Inventory([*nodes, NODES["whole"].node("boards")] if boards else nodes)
    found.plans = {each.name: each for each in plans}
    return found


LARGE, SMALL_ONES = plan("a", "h100-*-mig-*"), plan("b", "a30-*")

GETS: Final[dict[str, tuple[tuple[QuotaPlan, ...], str, str]]] = {
    "no plan": ((), "a", SMALL),
    "a plan that feeds it from one of two": ((LARGE,), "a", SLICE),
    "two plans, the one queue": ((LARGE, SMALL_ONES), "a", SLICE),
    "two plans, the other queue": ((LARGE, SMALL_ONES), "b", SMALL),
    "a queue of nobody's plan": ((LARGE,), "mine", SMALL),
    "a plan that names no pools": ((plan("a"),), "a", SMALL),
    "a plan that only reports": ((plan("a", "h100-*", mode="report"),), "a", SMALL),
    "two plans over one pool, of which the older goes on": ((LARGE, plan("c", "h100-*")), "a", SLICE),
    "a queue in two plans, of which the older goes on": (
        (LARGE, plan("b", "a30-*", queues=[{"name": "b"}, {"name": "a"}])),
        "a",
        SLICE,
    ),
    "a pool of which it has no share": (
        (plan("x", "*", queues=[{"name": "a", "shares": {"a30-*": 0}}, {"name": "b"}]),),
        "a",
        SLICE,
    ),
    "no share, but a cohort to borrow from": (
        (plan("x", "*", queues=[{"name": "a", "shares": {"a30-*": 0}}, {"name": "b"}], cohort="c"),),
        "a",
        SMALL,
    ),
    "by strategy": (
        (plan("a", pools={"matchNames": ["h100-*"], "matchStrategies": ["mig"]}),),
        "a",
        SLICE,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("plans", "queue", "name"), GETS.values(), ids=GETS)
def test_it_gets_what_its_queue_has_quota_of(plans: tuple[QuotaPlan, ...], queue: str, name: str) -> None:
    answered = review(known(*plans, queue=queue), deployment(metadata=INFERENCE))
    assert devices(answered.item) == {"main": {name: "1"}}
    assert answered.warnings == []


def test_the_queue_that_a_workload_names_itself_goes_before_its_namespaces() -> None:
    item = deployment(metadata={"labels": {**INFERENCE["labels"], keys.KUEUE_QUEUE: "b"}})
    answered = review(known(LARGE, SMALL_ONES, queue="a"), item)
    assert devices(answered.item) == {"main": {SMALL: "1"}}


def test_a_quota_of_another_strategy_goes_before_a_slice_without_quota() -> None:
    answered = review(known(plan("a", BOARDS), boards=True), deployment(metadata=INFERENCE))
    assert devices(answered.item) == {"main": {GPU: "1"}}
    assert answered.decision["pools"] == [BOARDS]
    assert answered.decision["reason"] == (
        "class inference gets exclusive (mig: its queue has no quota of it); the smallest offered is a whole GPU"
    )


def test_it_is_free_to_run_wherever_its_name_is_offered() -> None:
    """The queue's own flavor says where, and may be fed from a pool that comes later."""
    assert "affinity" not in pod_spec(created(known(LARGE), deployment(metadata=INFERENCE)))


def test_it_is_kept_from_what_bears_the_name_and_does_not_hold_as_much() -> None:
    """An A100 of 80 GB has slices called 1g.10gb too, and less in them."""
    other = Shape(
        {**MIXED, **whole(A100, 8, 81920, replicas=0), **slices(A100, "1g.10gb", 56, 9728)},
        {"mig-1g.10gb": 56},
        "a100-80gb-mig-mixed",
        Strategy.MIG,
        {},
    )
    item = deployment(metadata={**annotated(**{"gpu-memory": "9984Mi"}), **INFERENCE})
    for queue in ("a", "nobody's"):
        found = known(LARGE, queue=queue)
        found.pools = Inventory([other.node("other"), NODES["mixed"].node("large")])
        made = created(found, item)
        assert LARGER in str(pod_spec(made)["affinity"])
        assert "a100" not in str(made)


def test_where_its_queue_has_nothing_that_fits_it_is_as_without_a_plan_and_told() -> None:
    item = deployment(metadata={**annotated(profile="1g.6gb"), **INFERENCE})
    answered = review(known(LARGE), item)
    assert devices(answered.item) == {"main": {SMALL: "1"}}
    (warning,) = answered.warnings
    assert warning == (
        "Deployment team/serve: queue a has no quota of a30-mig-mixed, so it may wait for ever; its QuotaPlan feeds it "
        "from h100-80gb-mig-mixed; use another class or have the plan take such a pool"
    )
    assert review(known(LARGE), item, answered.item).item == answered.item


def test_a_selector_of_its_own_is_kept_to_as_well() -> None:
    item = deployment(metadata=INFERENCE, nodeSelector={keys.POOL: "a30-mig-mixed"})
    answered = review(known(LARGE), item)
    assert devices(answered.item) == {"main": {SMALL: "1"}}
    assert "queue a has no quota of a30-mig-mixed" in answered.warnings[0]


def test_what_was_decided_before_a_plan_came_stays() -> None:
    before = created(known(), deployment(metadata=INFERENCE))
    assert review(known(LARGE), deployment(metadata=INFERENCE), before).item == before


def test_explain_says_what_the_queue_has() -> None:
    assert f"  queue       a: has quota of {LARGER}" in told(known(LARGE), deployment(metadata=INFERENCE))


def test_queues_that_people_make_up_are_not_remembered() -> None:
    found = known(LARGE)
    ask = GpuRequirement((Strategy.MIG,))
    for number in range(50):
        found.allocate(ask, Engine.KUEUE, f"made-up-{number}")
    found.allocate(ask, Engine.KUEUE, "a")
    assert len(found._allocations) == 2


VCJOB: Final = "batch.volcano.sh_Job"
QUEUE_OF_A_GANG: Final = "spec.runPolicy.schedulingPolicy.queue"


def applied(item: Object) -> Object:
    """The object as kubectl applies it."""
    item["metadata"].setdefault("annotations", {})[keys.LAST_APPLIED] = json.dumps(item)
    return item


NAMED: Final[list[tuple[Object, Engine | None, str]]] = [
    (deployment(), Engine.KUEUE, "team"),
    (deployment(metadata={"labels": {keys.KUEUE_QUEUE: "own"}}), Engine.KUEUE, "own"),
    (deployment(), Engine.VOLCANO, "team"),
    (deployment(), None, ""),
    (put(manifest(VCJOB), "spec.queue", "own"), Engine.VOLCANO, "own"),
    (put(manifest(VCJOB), "spec.queue", "default"), Engine.VOLCANO, "team"),
    (applied(put(manifest(VCJOB), "spec.queue", "default")), Engine.VOLCANO, "default"),
    (put(manifest("kubeflow.org_PyTorchJob"), QUEUE_OF_A_GANG, "default"), Engine.VOLCANO, "default"),
    (put(manifest("kubeflow.org_PyTorchJob"), QUEUE_OF_A_GANG, ""), Engine.VOLCANO, "team"),
    (deployment(metadata={"annotations": {keys.VOLCANO_QUEUE: "own"}}), Engine.VOLCANO, "own"),
    (deployment(metadata={"annotations": {keys.VOLCANO_QUEUE: "default"}}), Engine.VOLCANO, "default"),
]


@pytest.mark.parametrize(("item", "engine", "queue"), NAMED)
def test_which_queue_counts_it(item: Object, engine: Engine | None, queue: str) -> None:
    reader = Templates().reader(item["apiVersion"].rpartition("/")[0], item["kind"])
    assert reader is not None
    workload = reader.read(json.dumps(item).encode(), "team")
    assert {
        queue_of(Named(workload), template, {keys.QUEUE: "team"}, engine) for template in workload.templates
    } == {queue}


def test_what_its_queue_lacks_is_why_it_gets_something_else_and_no_selector_of_its_own() -> None:
    found = world("time", "whole", labels={keys.QUEUE: "a"})
    found.plans = {"a": plan("a", BOARDS)}
    for number in (1, 2):
        answered = review(found, deployment(container(gpus=number), metadata=labelled("tuning")))
        assert answered.decision["reason"] == (
            "class tuning gets exclusive (time-slicing: its queue has no quota of it); "
            "the smallest offered is a whole GPU"
        )
