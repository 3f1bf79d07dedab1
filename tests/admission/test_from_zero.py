"""Work for a pool that an autoscaler makes from nothing: what has quota can be asked for."""

from typing import Any

import pytest

from admission.decision.cluster_state import ClusterState
from slicewise.api import keys
from slicewise.api.policy import QuotaPlan, read_plan
from tests.admission.building import (
    GPU,
    Object,
    container,
    created,
    deployment,
    devices,
    pod_spec,
    policy,
    review,
    world,
)
from tests.admission.test_explaining import told

L4 = "l4-exclusive"
OTHERS = ("mixed",)


def plan(**spec: Any) -> QuotaPlan:
    return read_plan(
        {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "QuotaPlan",
            "metadata": {"name": "research"},
            "spec": {"engine": "kueue", "queues": [{"name": "a"}], "maximum": {L4: {GPU: 8}}, **spec},
        }
    )


def empty(*plans: QuotaPlan, nodes: tuple[str, ...] = OTHERS) -> ClusterState:
    found = world(*nodes, labels={keys.QUEUE: "a", keys.ENGINE: "kueue"})
    found.plans = {each.name: each for each in plans}
    return found


def requirement(item: Object) -> Any:
    required = pod_spec(item)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return required["nodeSelectorTerms"]


@pytest.mark.parametrize("globs", [[], [L4]], ids=["every pool", "the pool by name"])
def test_it_is_admitted_and_steered_before_there_is_a_node(globs: list[str]) -> None:
    known = empty(plan(**({"pools": {"matchNames": globs}} if globs else {})))
    item = created(known, deployment(container(gpus=2)))
    assert devices(item) == {"main": {GPU: "2"}}
    assert requirement(item) == [{"matchExpressions": [{"key": keys.POOL, "operator": "In", "values": [L4]}]}]


def test_without_a_plan_that_declares_it_the_refusal_is_as_before() -> None:
    assert "exclusive: no pool offers it" in review(empty(), deployment()).message


def test_more_than_one_node_will_have_is_refused() -> None:
    answered = review(empty(plan(perNode={L4: {GPU: 4}})), deployment(container(gpus=8)))
    assert answered.message == (
        "Deployment team/serve: no pool can serve class training of policy default (exclusive: 8 nvidia.com/gpu are "
        "asked for together, and the most on one node is 4); ask for at most 4 in one pod or ask whoever keeps the "
        "cluster"
    )


@pytest.mark.parametrize(
    ("selector", "allowed"),
    [
        ({"topology.kubernetes.io/zone": "a"}, True),
        ({keys.POOL: L4}, True),
        ({keys.POOL: "h100-80gb-mig-mixed"}, False),
    ],
)
def test_labels_of_a_node_that_has_not_come_are_open(selector: Object, *, allowed: bool) -> None:
    assert review(empty(plan()), deployment(nodeSelector=selector)).allowed is allowed


def test_a_pod_cannot_be_pinned_to_a_node_that_has_not_come() -> None:
    assert (
        "spec.nodeName pins it to later, which is no node with GPUs"
        in review(empty(plan()), deployment(nodeName="later")).message
    )


def test_explain_says_what_may_come() -> None:
    assert f"    {L4}: exclusive: nvidia.com/gpu (8) fits" in told(empty(plan()), deployment())


def test_a_plan_that_goes_takes_its_pool_along() -> None:
    known = empty(plan())
    assert review(known, deployment()).allowed
    known.plans = {}
    known.replanned()
    assert not review(known, deployment()).allowed


def test_an_update_of_what_waits_for_the_node_is_the_same_again() -> None:
    known = empty(plan())
    before = created(known, deployment())
    assert review(known, deployment(), before).item == before
    assert review(known, before).item == before


@pytest.mark.parametrize(
    ("models", "believed"), [(["*L4*"], True), (["NVIDIA-*"], True), (["*H100*"], False)]
)
def test_a_record_of_a_pool_without_nodes_is_believed_where_its_model_is_one_of_the_class(
    models: list[str], *, believed: bool
) -> None:
    training = {"training": {"strategy": "exclusive", "models": models}}
    known = empty(plan())
    before = created(known, deployment())
    known.policies = {"default": policy(training)}
    known.plans = {}
    known.replanned()
    assert review(known, before).allowed is believed
