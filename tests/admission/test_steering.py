"""Which nodes a pod is kept to, and which of them it prefers."""

from typing import Any

import pytest

from admission.decision.cluster_state import ClusterState
from slicewise.api import keys
from slicewise.inventory.pools import Inventory
from tests.admission.building import (
    Object,
    annotated,
    container,
    created,
    deployment,
    labelled,
    pod_spec,
    policy,
    review,
    world,
)
from tests.inventory.nodes import document, read, whole

A10, H100, A100 = "a10-exclusive", "h100-80gb-exclusive", "a100-80gb-exclusive"
SXM, PCIE = "NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
BOARDS = {
    "a10": ("NVIDIA-A10", 1, 23028),
    "h100": ("NVIDIA-H100-80GB-HBM3", 8, 81559),
    "a100": ("NVIDIA-A100-SXM4-80GB", 4, 81920),
    "sxm": (SXM, 8, 40960),
    "pcie": (PCIE, 4, 40960),
}


def cluster(*names: str, **classes: Any) -> ClusterState:
    found = world(policies=(policy(classes),) if classes else ())
    found.pools = Inventory(
        read(document(name, whole(*BOARDS[name]), {"gpu": BOARDS[name][1]})) for name in names
    )
    return found


def affinity(item: Object) -> Object:
    found: Object = pod_spec(item).get("affinity", {}).get("nodeAffinity", {})
    return found


def pool(*names: str) -> Object:
    return {"key": keys.POOL, "operator": "In", "values": list(names)}


def preference(weight: int, name: str) -> Object:
    return {"weight": weight, "preference": {"matchExpressions": [pool(name)]}}


# --- Smaller boards first ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        (("a10",), None),
        (("a10", "h100"), [(100, A10)]),
        (("a10", "h100", "a100"), [(100, A10), (50, H100)]),
    ],
)
def test_smaller_boards_are_preferred(nodes: tuple[str, ...], weights: list[tuple[int, str]] | None) -> None:
    known = cluster(*nodes)
    item = created(known, deployment())
    expected = [preference(*each) for each in weights] if weights else None
    assert affinity(item).get(PREFERRED) == expected
    assert review(known, item).operations == []
    assert review(known, deployment(), item).item == item


OWN = {"weight": 7, "preference": {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}}


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"affinity": {}},
        {"affinity": {"podAffinity": {}}},
        {"affinity": {"nodeAffinity": {}}},
        {"affinity": {"nodeAffinity": {PREFERRED: []}}},
        {"affinity": {"nodeAffinity": {PREFERRED: [OWN]}}},
        {"affinity": {"nodeAffinity": {PREFERRED: [OWN, preference(3, A10)]}}},
    ],
    ids=str,
)
def test_what_a_pod_prefers_itself_stays(own: Object) -> None:
    known = cluster("a10", "h100")
    before = own.get("affinity", {}).get("nodeAffinity", {}).get(PREFERRED, [])
    item = created(known, deployment(**own))
    assert affinity(item)[PREFERRED] == [*before, preference(100, A10)]
    assert review(known, item).operations == []


def test_decided_anew_it_prefers_what_fits_now() -> None:
    known = cluster("a10", "h100", "a100")
    before = created(known, deployment())
    after = review(known, deployment(container(gpus=2)), before).item
    assert affinity(after)[PREFERRED] == [preference(100, H100)]
    sent = {**before, "spec": deployment(container(gpus=2))["spec"]}
    pod_spec(sent)["affinity"] = pod_spec(before)["affinity"]
    assert affinity(review(known, sent, before).item)[PREFERRED] == [preference(100, H100)]


def test_work_that_opts_out_later_prefers_nothing_of_ours() -> None:
    known = cluster("a10", "h100")
    before = created(known, deployment())
    sent = deployment(container(gpus=2), metadata=annotated(rewrite="false"))
    pod_spec(sent)["affinity"] = pod_spec(before)["affinity"]
    assert affinity(review(known, sent, before).item) == {PREFERRED: []}


# --- Nodes of one model within a pool ---------------------------------------------------------------------

ONLY_SXM = {"training": {"strategy": "exclusive", "models": ["*SXM*"]}}
PRODUCT = {"key": keys.PRODUCT, "operator": "In", "values": [SXM]}
POOLS = "a100-40gb-exclusive"


@pytest.mark.parametrize(
    ("own", "terms"),
    [
        ([], [[pool(POOLS), PRODUCT]]),
        ([[{"key": "kubernetes.io/hostname", "operator": "Exists"}]], None),
    ],
    ids=["none of its own", "a term of its own"],
)
def test_a_pod_is_kept_to_the_nodes_of_its_models(own: list[Any], terms: Any) -> None:
    known = cluster("sxm", "pcie", **ONLY_SXM)
    for name in ("sxm", "pcie"):
        labels = {**whole(*BOARDS[name]), "kubernetes.io/hostname": name}
        known.pools.see(read(document(name, labels, {"gpu": BOARDS[name][1]})))
    fields = (
        {
            "affinity": {
                "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": e} for e in own]}}
            }
        }
        if own
        else {}
    )
    item = created(known, deployment(**fields))
    found = [term["matchExpressions"] for term in affinity(item)[REQUIRED]["nodeSelectorTerms"]]
    assert found == (terms or [[*own[0], pool(POOLS), PRODUCT]])
    assert review(known, item).operations == []
    assert review(known, deployment(**fields), item).item == item


@pytest.mark.parametrize("times", [1, 2])
def test_of_a_pod_of_another_class_the_model_goes_however_often_it_is_said(times: int) -> None:
    classes = {**ONLY_SXM, "any": {"strategy": "exclusive"}}
    known = cluster("sxm", "pcie", **classes)
    before = created(known, deployment())
    sent = deployment(container(gpus=2), metadata=labelled("any"))
    pod_spec(sent)["affinity"] = {"nodeAffinity": affinity(before)}
    (term,) = affinity(sent)[REQUIRED]["nodeSelectorTerms"]
    term["matchExpressions"] = [pool(POOLS), *[PRODUCT] * times]
    after = review(known, sent, before).item
    assert [t["matchExpressions"] for t in affinity(after)[REQUIRED]["nodeSelectorTerms"]] == [[pool(POOLS)]]


def test_a_count_that_only_the_other_model_has_is_refused() -> None:
    known = cluster("sxm", "pcie", training={"strategy": "exclusive", "models": ["*PCIE*"]})
    assert "the most on one node is 4" in review(known, deployment(container(gpus=8))).message


def test_a_daemon_set_is_steered_where_a_deployment_is_free() -> None:
    known = world("mixed")
    item = deployment(metadata=labelled("inference"))
    assert affinity(created(known, item)) == {}
    daemon = {**item, "kind": "DaemonSet"}
    (term,) = affinity(created(known, daemon))[REQUIRED]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [pool("h100-80gb-mig-mixed")]
