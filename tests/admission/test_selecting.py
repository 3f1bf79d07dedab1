"""What a pod's own nodeSelector, nodeName and required affinity leave of the pools."""

from typing import Any, Final

import msgspec
import pytest

from admission import explain
from admission.decision.node_selector import narrowing
from admission.workloads.model import PodSpec
from slicewise.api import keys
from slicewise.inventory.pools import Inventory, Pool
from tests.admission.building import (
    GPU,
    NODES,
    SLICE,
    Object,
    annotated,
    container,
    devices,
    labelled,
    owned,
    pod,
    policy,
    review,
    world,
)
from tests.admission.test_explaining import answered as outcome_of
from tests.inventory.nodes import H100, MIXED, document, read, slices, whole

HERE = "kubernetes.io/hostname"


def term(**parts: Any) -> Object:
    return {"nodeSelectorTerms": [parts]}


def required(*terms: Object) -> Object:
    selector = {"nodeSelectorTerms": list(terms)}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": selector}}}


def expression(key: str, operator: str, *values: str) -> Object:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def matching(*expressions: Object) -> Object:
    return required({"matchExpressions": list(expressions)})


def _leaves(spec: PodSpec, pool: Pool) -> bool:
    left = narrowing(spec)
    return left is None or any(map(left.allows, pool.members))


@pytest.mark.parametrize(
    ("spec", "left"),
    [
        ({}, True),
        ({"nodeName": "a"}, True),
        ({"nodeName": "b"}, False),
        ({"nodeSelector": {HERE: "a"}}, True),
        ({"nodeSelector": {HERE: "b"}}, False),
        ({"nodeSelector": {HERE: "a", "zone": "x"}}, False),
        ({"nodeSelector": {keys.POOL: "h100-80gb-exclusive"}}, True),
        (matching(expression(HERE, "In", "b", "a")), True),
        (matching(expression(HERE, "In", "b")), False),
        (matching(expression(HERE, "NotIn", "a")), False),
        (matching(expression("zone", "NotIn", "x")), True),
        (matching(expression(HERE, "Exists")), True),
        (matching(expression("zone", "Exists")), False),
        (matching(expression("zone", "DoesNotExist")), True),
        (matching(expression(HERE, "DoesNotExist")), False),
        (matching(expression("nvidia.com/gpu.count", "Gt", "7")), True),
        (matching(expression("nvidia.com/gpu.count", "Gt", "8")), False),
        (matching(expression("nvidia.com/gpu.count", "Lt", "9")), True),
        (matching(expression("zone", "Gt", "1")), False),
        (matching(expression("nvidia.com/gpu.count", "Gt", "many")), False),
        (matching(expression("nvidia.com/gpu.count", "Gt", "+7")), True),
        (matching(expression("nvidia.com/gpu.count", "Gt", "0_7")), False),
        (matching(expression("nvidia.com/gpu.count", "Gt", " 7 ")), False),
        (matching(expression("nvidia.com/gpu.count", "Gt", "\u0667")), False),
        (matching(expression("nvidia.com/gpu.count", "Lt", "9" * 5000)), False),
        (matching(expression("nvidia.com/gpu.count", "Gt")), False),
        (matching(expression(HERE, "Like", "a")), False),
        (matching(expression(HERE, "Exists"), expression("zone", "Exists")), False),
        (
            required(
                {"matchExpressions": [expression("zone", "Exists")]},
                {"matchFields": [expression("metadata.name", "In", "a")]},
            ),
            True,
        ),
        (required({"matchFields": [expression("metadata.name", "In", "b")]}), False),
        (required({"matchFields": [expression("metadata.uid", "In", "a")]}), False),
        (required({}), False),
        (required({"matchExpressions": []}), False),
        (required({}, {"matchExpressions": [expression(HERE, "Exists")]}), True),
        (
            {
                "affinity": {
                    "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1}]}
                }
            },
            True,
        ),
        ({"affinity": {"podAffinity": {}}}, True),
        ({"affinity": {}}, True),
    ],
    ids=str,
)
def test_selectors_mean_what_they_mean_to_the_scheduler(spec: Object, *, left: bool) -> None:
    (pool,) = Inventory([NODES["whole"].node("a", metadata={})])
    labels = {**NODES["whole"].labels, HERE: "a"}
    (pool,) = Inventory([read(document("a", labels, NODES["whole"].status))])
    read_spec = msgspec.convert(spec, PodSpec)
    assert _leaves(read_spec, pool) is left


def test_only_counted_nodes_are_looked_at() -> None:
    (pool,) = Inventory([NODES["whole"].node("a"), NODES["whole"].node("b", ready=False)])
    assert not _leaves(PodSpec(node_name="b"), pool)


# --- ... and of what is chosen from ------------------------------------------------------------------------


def test_the_pools_are_narrowed() -> None:
    labels = {keys.WORKLOAD_CLASS: "inference"}
    free = review(world("mixed", "single"), pod(metadata={"labels": labels}))
    assert free.decision["pools"] == ["a100-80gb-mig-single-1g-10gb"]
    kept = review(
        world("mixed", "single"),
        pod(metadata={"labels": labels}, nodeSelector={"nvidia.com/gpu.product": H100}),
    )
    assert kept.decision["pools"] == ["h100-80gb-mig-mixed"]


def test_none_left_is_a_refusal_that_says_so() -> None:
    answered = review(world(), pod(nodeSelector={"zone": "x"}))
    assert answered.message == (
        "Pod team/work: no pool can serve class training of policy default (the pod's own nodeSelector or affinity "
        "matches no node of any pool); change its nodeSelector or affinity or ask whoever keeps the cluster"
    )


def started(pool: str, gpus: int = 1) -> Object:
    """A pod of a Job that was left as it was asked, and that Kueue has started in the flavor of a pool."""
    labels = {"kueue.x-k8s.io/podset": "main"}
    made = pod(container(gpus=gpus), metadata={"labels": labels}, nodeSelector={keys.POOL: pool})
    return owned(made, "Job", "batch/v1")


BOARDS, SHARES = "h100-80gb-exclusive", "a10-time-slicing-x4"
SLICES = "h100-80gb-mig-mixed"
KEPT_TO = {
    "as another class": (BOARDS, {"only": {"strategy": "mig"}, "large": {"strategy": "exclusive"}}, "large"),
    "as several do": (
        SHARES,
        {
            "only": {"strategy": "exclusive"},
            "small": {"strategy": "mig"},
            "shared": {"strategy": "time-slicing"},
        },
        "shared",
    ),
    "as its own, where that gets something": (BOARDS, {"only": {"strategy": "exclusive"}}, "only"),
}


@pytest.mark.parametrize(("pool", "classes", "expected"), KEPT_TO.values(), ids=KEPT_TO)
def test_a_pod_gets_what_kueue_has_charged_where_its_parent_was_left(
    pool: str, classes: Object, expected: str
) -> None:
    known = world("mixed", "whole", "time", policies=(policy(classes),))
    answered = review(known, started(pool))
    assert devices(answered.item) == {"main": {GPU: "1"}}
    assert (answered.decision["class"], answered.decision["pools"]) == (expected, [pool])
    charged = [each for each in answered.warnings if "Kueue has charged what it asks" in each]
    assert bool(charged) is (expected != "only") is (answered.decision["classFrom"] == "flavor")
    assert review(known, answered.item).operations == []


NO_CLASS = {
    "only slices": (1, {"only": {"strategy": "mig"}}),
    "no class gives so many": (
        2,
        {"only": {"strategy": "mig", "multiGPU": "each"}, "shared": {"strategy": "mps"}},
    ),
}


@pytest.mark.parametrize(("gpus", "classes"), NO_CLASS.values(), ids=NO_CLASS)
def test_a_pod_is_never_refused_for_a_flavor_that_its_policy_gives_nobody(gpus: int, classes: Object) -> None:
    known = world("mixed", "whole", "mps", policies=(policy(classes),))
    answered = review(known, started(BOARDS, gpus))
    assert devices(answered.item) == {"main": {SLICE: str(gpus)}}
    (warning,) = answered.warnings
    assert warning == (
        "Pod team/work: Kueue has started it in a flavor where no class of policy default gets what it asks for, so no "
        "node takes it; add such a class to the policy, or take the flavor out of its queue"
    )
    assert review(known, answered.item).operations == []


@pytest.mark.parametrize(("gpus", "classes"), NO_CLASS.values(), ids=NO_CLASS)
def test_a_policy_that_leaves_what_does_not_fit_leaves_it_in_such_a_flavor(
    gpus: int, classes: Object
) -> None:
    known = world("mixed", "whole", "mps", policies=(policy(classes, whenNothingFits="leave"),))
    answered = review(known, started(BOARDS, gpus))
    assert (answered.allowed, answered.operations, answered.outcome) == (True, [], "left")
    (warning,) = answered.warnings
    assert "no pool can serve class only of policy default (mig: the pod's own nodeSelector" in warning
    assert warning.endswith("; left as it was asked")


def test_a_pod_that_kueue_has_started_is_explained_as_it_was_decided() -> None:
    classes = {"only": {"strategy": "mig"}, "shared": {"strategy": "mps"}, "large": {"strategy": "exclusive"}}
    for named, when, fits in (
        (("only", "shared", "large"), "refuse", [BOARDS]),
        (("only", "shared"), "refuse", [SLICES]),
        (("only", "shared"), "leave", []),
    ):
        mine = policy({name: classes[name] for name in named}, whenNothingFits=when)
        known, item = world("mixed", "whole", "mps", policies=(mine,)), started(BOARDS)
        pools = explain.document(item, "team", known, outcome_of(known, item))["pools"]
        assert len({each["pool"] for each in pools}) == len(pools) == 3
        assert [each["pool"] for each in pools if each["fits"]] == fits


def test_a_pod_that_kueue_has_started_is_in_its_queue_already() -> None:
    known = world("mixed", "whole", labels={keys.ENGINE: "kueue", keys.QUEUE: "theirs"})
    assert keys.KUEUE_QUEUE not in review(known, started(BOARDS)).item["metadata"]["labels"]


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (
            "mixed-0",
            (
                "which offers 16 nvidia.com/mig-1g.10gb (mig), 8 nvidia.com/mig-2g.20gb (mig), "
                "8 nvidia.com/mig-3g.40gb (mig) and not what the class gets"
            ),
        ),
        ("cpu-1", "which is no node with GPUs"),
    ],
)
def test_a_pinned_pod_is_told_what_its_node_offers(node: str, words: str) -> None:
    assert review(world("mixed", "whole"), pod(nodeName=node)).message == (
        f"Pod team/work: no pool can serve class training of policy default (spec.nodeName pins it to {node}, "
        f"{words}); remove spec.nodeName or ask whoever keeps the cluster"
    )


def test_where_a_pinned_pod_gets_something_else_the_node_is_why() -> None:
    item = pod(nodeName="whole-1", metadata=labelled("inference"))
    assert review(world("mixed", "whole"), item).decision["reason"] == (
        "class inference gets exclusive (mig: spec.nodeName whole-1 leaves no node that offers it); the smallest "
        "offered is a whole GPU"
    )


ELSEWHERE: Final[Object] = {"kubernetes.io/hostname": "elsewhere"}


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (
            "whole-1",
            (
                "spec.nodeName pins it to whole-1, and its own nodeSelector or affinity rules that node out); change "
                "its nodeSelector or affinity"
            ),
        ),
        (
            "mixed-0",
            (
                "spec.nodeName pins it to mixed-0, which offers 16 nvidia.com/mig-1g.10gb (mig), "
                "8 nvidia.com/mig-2g.20gb (mig), 8 nvidia.com/mig-3g.40gb (mig) and not what the class gets); remove "
                "spec.nodeName"
            ),
        ),
    ],
)
def test_a_pinned_pod_whose_selectors_rule_its_node_out_is_told_what_is_in_the_way(
    node: str, words: str
) -> None:
    message = review(world("mixed", "whole"), pod(nodeName=node, nodeSelector=ELSEWHERE)).message
    assert message.endswith(f"({words} or ask whoever keeps the cluster")


@pytest.mark.parametrize("where", [{}, {"nodeName": "a"}], ids=["anywhere", "pinned"])
def test_a_pod_whom_only_taints_keep_out_is_told_to_tolerate_them(where: Object) -> None:
    taints = [{"key": "spot", "effect": "NoExecute"}, {"key": "team", "value": "x", "effect": "NoSchedule"}]
    known = world(policies=(policy({"only": {"strategy": "exclusive"}}),))
    known.pools = Inventory([NODES["whole"].node("a", spec={"taints": taints}), NODES["mixed"].node("b")])
    assert review(known, pod(**where)).message == (
        "Pod team/work: no pool can serve class only of policy default (exclusive: the nodes that offer it have taints "
        "that the pod does not tolerate: spot:NoExecute and team=x:NoSchedule); add tolerations for them or ask "
        "whoever keeps the cluster"
    )


def test_what_the_pod_keeps_itself_from_is_not_called_missing() -> None:
    answered = review(world("mixed", "whole"), pod(nodeSelector={keys.POOL: "h100-80gb-mig-mixed"}))
    assert answered.message == (
        "Pod team/work: no pool can serve class training of policy default (exclusive: the pod's own nodeSelector or "
        "affinity leaves no node that offers it); change its nodeSelector or affinity or ask whoever keeps the cluster"
    )


def test_what_the_pod_keeps_itself_from_is_why_it_gets_something_else() -> None:
    answered = review(
        world("mixed", "whole"),
        pod(metadata=labelled("inference"), nodeSelector={keys.POOL: "h100-80gb-exclusive"}),
    )
    assert answered.decision["reason"] == (
        "class inference gets exclusive (mig: the pod's own nodeSelector or affinity leaves no node that offers it); "
        "the smallest offered is a whole GPU"
    )


def test_what_no_pool_has_is_called_missing_whatever_the_pod_says() -> None:
    big = {**labelled("inference"), **annotated(gpu_memory="200Gi")}
    message = review(world("mixed", "whole"), pod(metadata=big, nodeName="mixed-0")).message
    assert "(mig: nothing offered holds 204800 MiB; exclusive: nothing offered holds 204800 MiB)" in message
    assert "; ask for at most 81559Mi (slicewise.io/gpu-memory)" in message


def test_what_the_nodes_that_are_left_do_not_offer_is_not_chosen() -> None:
    # One pool, two geometries: the smaller slice is on the node that the pod has ruled out.
    def node(name: str, profile: str, memory: int) -> Any:
        labels = {
            **MIXED,
            **whole(H100, 1, 81559, replicas=0),
            **slices(H100, profile, 2, memory),
            HERE: name,
        }
        return read(document(name, labels, {f"mig-{profile}": 2}))

    known = world()
    known.pools = Inventory([node("a", "1g.10gb", 9984), node("b", "3g.40gb", 40320)])
    inference = {"labels": {keys.WORKLOAD_CLASS: "inference"}}
    assert "nvidia.com/mig-1g.10gb" in str(review(known, pod(metadata=inference)).spec)
    answered = review(known, pod(metadata=inference, nodeSelector={HERE: "b"}))
    assert "nvidia.com/mig-3g.40gb" in str(answered.spec)
    profile = {**inference, "annotations": {keys.PROFILE: "1g.10gb"}}
    refused = review(known, pod(metadata=profile, nodeSelector={HERE: "b"}))
    assert "mig: the pod's own nodeSelector or affinity leaves no node that offers it" in refused.message
