"""One Node -> what it offers, and whether that can be trusted yet."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.api import keys
from slicewise.api.quantities import count
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.node import Node
from slicewise.inventory.node_annotation import PersistedOffer, read_offer_annotation, write_offer_annotation
from slicewise.inventory.node_resources import Offer, Resource
from slicewise.inventory.node_state import Observation, standing
from slicewise.inventory.planned_geometry import observe
from slicewise.inventory.pool_name import PoolName, model_slug
from slicewise.inventory.sources.gpu_feature_discovery import split_product
from tests.inventory.nodes import (
    BALANCED,
    H100,
    MIXED,
    NVIDIA,
    SHAPES,
    SINGLE,
    Shape,
    document,
    quantities,
    read,
    slices,
    whole,
)

WHOLE = {**SINGLE, **whole(H100, 8, 81559), "mig.config": "all-disabled"}


def seen(node: Node) -> Observation:
    found = observe(node)
    assert found is not None
    return found


def noted(offer: dict[str, Any] | str, labels: dict[str, str], *args: Any, **parts: Any) -> Node:
    """A node that carries the annotation slicewise.io/offer."""
    text = offer if isinstance(offer, str) else json.dumps(offer)
    return read(document("node", labels, *args, metadata={"annotations": {keys.OFFER: text}}, **parts))


# --- What a node offers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_settled_node_offers_what_its_shape_says(shape: Shape) -> None:
    found = seen(shape.node())
    assert found.reason == ""
    assert found.settled
    assert (found.offer.pool, found.offer.strategy, found.offer.model) == (
        shape.pool,
        shape.strategy,
        shape.model,
    )
    assert {
        r.name.removeprefix(NVIDIA): (r.quantity, r.strategy, r.memory, r.profile, r.replicas)
        for r in found.offer.resources
    } == shape.offers
    assert found.agreed == found.offer


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_settled_node_counts_at_first_sight(shape: Shape) -> None:
    counted = standing(seen(shape.node()))
    assert (counted.pool, counted.reason) == (shape.pool, "")
    assert counted.offer is not None
    assert counted.offer.quantities == {
        NVIDIA + name: number for name, number in shape.status.items() if name != "cpu"
    }


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_pool_names_are_label_values(shape: Shape) -> None:
    assert len(shape.pool) <= 63
    assert shape.pool.replace("-", "a").isalnum()
    assert shape.pool == shape.pool.lower().strip("-")


@pytest.mark.parametrize(
    ("labels", "status"),
    [
        ({}, {}),
        ({}, {"cpu": 8, "memory": "32Gi"}),
        ({"gpu.workload.config": "vm-passthrough"}, {"GA102GL_A10": 2, "gpu": 0}),
        ({}, {"NVIDIA_A10-12Q": 0, "GA102GL_A10": 0, "NVIDIA_A10-8Q": 6, "gpu": 0}),
    ],
    ids=["empty", "cpu", "passthrough host", "virtual machines' devices, and zeros"],
)
def test_a_node_without_devices_for_containers_is_none_of_ours(
    labels: dict[str, str], status: dict[str, int | str]
) -> None:
    assert observe(read(document("node", labels, status))) is None


def test_only_allocatable_counts() -> None:
    found = seen(read(document("node", WHOLE, {"gpu": 8}, {"gpu": 7})))  # one board has an XID error
    assert found.settled
    assert found.offer.quantities == {"nvidia.com/gpu": 7}


def test_other_resources_of_the_node_are_kept_beside() -> None:
    found = seen(read(document("node", WHOLE, {"gpu": 8, "cpu": 96, "memory": "2Ti", "GA102GL_A10": 0})))
    assert found.other == {"cpu": "96", "memory": "2Ti"}


@pytest.mark.parametrize(
    ("product", "parts"),
    [
        (H100, (H100, "", False)),
        (f"{H100}-MIG-1g.10gb", (H100, "1g.10gb", False)),
        (f"{H100}-MIG-1g.10gb-SHARED", (H100, "1g.10gb", True)),
        (f"{H100}-MIG-INVALID", (H100, "INVALID", False)),
        ("Tesla-T4-SHARED", ("Tesla-T4", "", True)),
        ("", ("", "", False)),
    ],
)
def test_a_product_label_is_a_model_and_what_was_appended_to_it(
    product: str, parts: tuple[str, str, bool]
) -> None:
    assert split_product(product) == parts


@pytest.mark.parametrize(
    ("model", "slug"),
    [
        ("NVIDIA-A100-SXM4-40GB", "a100-40gb"),
        ("A100-PCIE-40GB", "a100-40gb"),
        ("NVIDIA-A100-80GB-PCIe", "a100-80gb"),
        ("NVIDIA-H100-80GB-HBM3", "h100-80gb"),
        ("NVIDIA-H100-NVL", "h100-nvl"),
        ("Tesla-T4", "t4"),
        ("NVIDIA-GeForce-RTX-4090", "geforce-rtx-4090"),
        ("NVIDIA-A10-12Q", "a10-12q"),
        ("NVIDIA", "nvidia"),
        ("", "unknown"),
    ],
)
def test_a_model_in_the_words_of_a_pools_name(model: str, slug: str) -> None:
    assert model_slug(model) == slug


def test_a_long_pool_name_is_cut_and_stays_its_own() -> None:
    one, other = (
        seen(read(document("node", whole(f"NVIDIA-{'Very-' * 12}Long-{tail}", 1, 1), {"gpu": 1}))).offer.pool
        for tail in ("A", "B")
    )
    assert one != other
    assert len(one) <= 63
    assert len(other) <= 63


# --- When a node is believed ------------------------------------------------------------------------------

TAINT = {"effect": "NoSchedule"}
DOUBTS: dict[str, tuple[dict[str, Any], str]] = {
    "not Ready": ({"ready": False}, "the node is not Ready"),
    "cordoned": ({"spec": {"unschedulable": True}}, "the node is cordoned"),
    "being deleted": (
        {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}},
        "the node is being deleted",
    ),
    "a taint of the kubelet or its controller": (
        {"spec": {"taints": [{"key": "node.kubernetes.io/unreachable", **TAINT}]}},
        "the node has the taint node.kubernetes.io/unreachable",
    ),
    "cordoned by taint alone": (
        {"spec": {"taints": [{"key": "node.kubernetes.io/unschedulable", **TAINT}]}},
        "the node has the taint node.kubernetes.io/unschedulable",
    ),
    "Cluster Autoscaler removes it": (
        {"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", **TAINT}]}},
        "the taint ToBeDeletedByClusterAutoscaler says that the node is about to be removed",
    ),
    "Karpenter removes it": (
        {"spec": {"taints": [{"key": "karpenter.sh/disrupted", **TAINT}]}},
        "the taint karpenter.sh/disrupted says that the node is about to be removed",
    ),
    **{
        key: (
            {"spec": {"taints": [{"key": key, **TAINT}]}},
            f"the taint {key} says that the node is not ready for work yet",
        )
        for key in (
            "startup-taint.cluster-autoscaler.kubernetes.io/gpu-driver",
            "ignore-taint.cluster-autoscaler.kubernetes.io/gpu-driver",
            "readiness.k8s.io/acme.com/network-unavailable",
        )
    },
    **{
        key: ({"spec": {"taints": [{"key": key, **TAINT}]}}, f"the node has the taint {key}")
        for key in (
            "status-taint.cluster-autoscaler.kubernetes.io/suspended",
            "node.cloudprovider.kubernetes.io/shutdown",
            "remediator.aks.microsoft.com/unschedulable",
            "remediator.kubernetes.azure.com/unschedulable",
        )
    },
}


@pytest.mark.parametrize(("parts", "reason"), DOUBTS.values(), ids=DOUBTS)
def test_the_nodes_own_condition_speaks_against_it(parts: dict[str, Any], reason: str) -> None:
    found = seen(SHAPES["MIG single"].node(**parts))
    assert found.reason == reason
    assert not any(doubt.changing for doubt in found.doubts)
    assert standing(found).offer is None


LABEL_DOUBTS: dict[str, tuple[dict[str, str], dict[str, int | str], str]] = {
    "the MIG change is pending": (
        {**WHOLE, "mig.config.state": "pending"},
        {"gpu": 8},
        "nvidia.com/mig.config.state is pending, not success",
    ),
    "the MIG change waits for a reboot": (
        {**WHOLE, "mig.config.state": "rebooting"},
        {"gpu": 8},
        "nvidia.com/mig.config.state is rebooting, not success",
    ),
    "the MIG change failed": (
        {**WHOLE, "mig.config.state": "failed"},
        {"gpu": 8},
        "nvidia.com/mig.config.state is failed: the geometry is undefined",
    ),
    "success, but for the config before": (
        {**WHOLE, "mig.config": "all-1g.10gb"},
        {"gpu": 8},
        "nvidia.com/mig.config asks for all-1g.10gb, the node shows no slices",
    ),
    "slices where none are asked for": (
        {**BALANCED, "mig.config": "all-disabled"},
        {"mig-1g.10gb": 16, "mig-2g.20gb": 8, "mig-3g.40gb": 8},
        "nvidia.com/mig.config asks for all-disabled, the node shows 1g.10gb, 2g.20gb, 3g.40gb",
    ),
    "other slices than are asked for": (
        {**SINGLE, **whole(f"{H100}-MIG-1g.10gb", 56, 9984), "mig.config": "all-1g.10gb.me"},
        {"gpu": 56},
        "nvidia.com/mig.config asks for all-1g.10gb.me, the node shows 1g.10gb",
    ),
    "an operand is paused": (
        {**WHOLE, "gpu.deploy.device-plugin": "paused-for-mig-change"},
        {"gpu": 8},
        "operands are paused-for-mig-change",
    ),
    "boards are not divided alike": (
        {
            **SINGLE,
            **whole("NVIDIA-A30-MIG-INVALID", 0, 0, replicas=0, sharing=""),
            "mig.config": "all-enabled",
        },
        {"gpu": 0},
        "nvidia.com/gpu.product says MIG-INVALID: the boards are not divided alike",
    ),
    "labels lag behind the numbers": (
        {**SINGLE, **whole(H100, 8, 81559)},
        {"gpu": 56},
        "labels give 8 of nvidia.com/gpu, the capacity is 56",
    ),
    "labels forget the replicas": (
        whole("NVIDIA-L4", 1, 23034),
        {"gpu.shared": 8},
        "labels give 1 of nvidia.com/gpu.shared, the capacity is 8",
    ),
    "a count that is none": (
        {**WHOLE, "gpu.count": "eight"},
        {"gpu": 8},
        "the label nvidia.com/gpu.count says eight, which is no number",
    ),
    "old and new name at once": (
        whole("NVIDIA-A10", 2, 23028, 4, "time-slicing"),
        {"gpu": 8, "gpu.shared": 8},
        "labels give 8 of nvidia.com/gpu, the capacity is 16",
    ),
    "a profile's labels lag": (
        BALANCED,
        {"mig-1g.10gb": 14, "mig-2g.20gb": 8, "mig-3g.40gb": 8},
        "labels give 16 of nvidia.com/mig-1g.10gb, the capacity is 14",
    ),
    "a profile is labelled that is not there": (
        BALANCED,
        {"mig-1g.10gb": 16, "mig-2g.20gb": 8},
        "labels give 8 of nvidia.com/mig-3g.40gb, the capacity is 0",
    ),
    "a profile's shares are not there yet": (
        {**MIXED, **whole(H100, 1, 81559, replicas=0), **slices(H100, "1g.10gb", 7, 9984, 4, "time-slicing")},
        {"mig-1g.10gb": 7},
        "labels give 28 of nvidia.com/mig-1g.10gb, the capacity is 7",
    ),
    "more whole boards than there are, beside slices": (
        {**MIXED, **whole(H100, 4, 81559), **slices(H100, "1g.10gb", 7, 9984)},
        {"gpu": 8, "mig-1g.10gb": 7},
        "labels give between 1 and 4 of nvidia.com/gpu, the capacity is 8",
    ),
    "whole boards beside slices where every board is divided": (
        BALANCED,
        {"gpu": 8, "mig-1g.10gb": 16, "mig-2g.20gb": 8, "mig-3g.40gb": 8},
        "labels give 0 of nvidia.com/gpu, the capacity is 8",
    ),
    "MIG is on under strategy none": (
        {**whole(H100, 8, 81559, replicas=0)},
        {"gpu": 8},
        "the boards are in MIG mode and the device plugin's strategy is none",
    ),
    "nothing says what a plain GPU is": (
        {},
        {"gpu": 8},
        "no label says what nvidia.com/gpu is here",
    ),
    "HAMi's shares in place of boards": (
        WHOLE,
        {"gpu": 80, "gpumem": 650000},
        "HAMi divides the boards of this node under names of its own; leave it to that",
    ),
    "Alibaba Cloud's sharing": (
        {"aliyun.accelerator/nvidia_name": "Tesla-T4", "aliyun.accelerator/nvidia_count": "2"},
        {"aliyun.com/gpu-mem": 30},
        "Alibaba Cloud's cGPU divides the boards of this node under names of its own; leave it to that",
    ),
    "Tencent Cloud's sharing": (
        WHOLE,
        {"tke.cloud.tencent.com/qgpu-core": 800},
        "Tencent Cloud's qGPU divides the boards of this node",
    ),
    "HAMi's memory alone": (WHOLE, {"gpumem": 650000}, "HAMi divides the boards of this node"),
    "a dead driver": (
        WHOLE,
        {},
        "the node has an NVIDIA GPU and advertises no device: its driver or device plugin",
    ),
    "a DRA driver whose slices are not known": (
        {**WHOLE, "dra-kubelet-plugin": "true"},
        {"gpu": 0},
        "a DRA driver hands out the boards of this node (nvidia.com/dra-kubelet-plugin=true), and no ResourceSlice of",
    ),
    "a DRA driver of the GPU operator, which labels no boards": (
        {"gpu.deploy.dra-driver": "true"},
        {},
        "a DRA driver hands out the boards of this node (nvidia.com/gpu.deploy.dra-driver=true)",
    ),
    "a plugin that an admin switched off": (
        {**WHOLE, "gpu.deploy.device-plugin": "false"},
        {},
        "the device plugin is switched off on this node (nvidia.com/gpu.deploy.device-plugin=false)",
    ),
    "boards for virtual machines": (WHOLE, {"GA102GL_A10": 2}, "to virtual machines, not to containers"),
    "one board where the labels have one at most": (
        {**MIXED, "gpu.product": H100, "gpu.count": "1", "gpu.memory": "81559", "gpu.replicas": "1"},
        {"gpu": 2},
        "labels give 1 of nvidia.com/gpu, the capacity is 2",
    ),
    "a quantity that is none": (
        WHOLE,
        {"gpu": "many"},
        "a quantity in the node's status cannot be read: nvidia.com/gpu: 'many' is not a quantity",
    ),
    "a quantity with a fraction": (
        WHOLE,
        {"gpu": "7500m"},
        "a quantity in the node's status cannot be read: nvidia.com/gpu: '7500m' is not a whole number of devices",
    ),
}


def test_only_a_devices_quantity_speaks_against_a_node() -> None:
    whole_boards = document("node", WHOLE, {"gpu": 8})
    for resources in (whole_boards["status"]["capacity"], whole_boards["status"]["allocatable"]):
        resources |= {"cpu": 7.5, "example.com/dongle": ["odd"]}
    assert seen(read(whole_boards)).reason == ""
    whole_boards["status"]["capacity"]["nvidia.com/gpu"] = [8]
    assert "nvidia.com/gpu: [8] is not a quantity" in seen(read(whole_boards)).reason


@pytest.mark.parametrize(("labels", "status", "reason"), LABEL_DOUBTS.values(), ids=LABEL_DOUBTS)
def test_labels_and_numbers_that_disagree_are_not_believed(
    labels: dict[str, str], status: dict[str, int | str], reason: str
) -> None:
    found = seen(read(document("node", labels, status)))
    assert reason in found.reason
    counted = standing(found)
    assert counted.offer is None
    assert counted.reason == found.reason


@pytest.mark.parametrize(
    "parts",
    [
        {"spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", **TAINT}]}},
        {"spec": {"taints": [{"key": "team", "value": "a", **TAINT}]}},
        {"spec": {"taints": [{"key": "DeletionCandidateOfClusterAutoscaler", "effect": "PreferNoSchedule"}]}},
    ],
    ids=["the GPU taint", "a team's taint", "only a candidate for removal"],
)
def test_other_taints_are_no_doubt(parts: dict[str, Any]) -> None:
    assert seen(SHAPES["MIG single"].node(**parts)).settled


def test_a_cordon_is_told_once() -> None:
    taint = {"key": "node.kubernetes.io/unschedulable", **TAINT}
    found = seen(SHAPES["MIG single"].node(spec={"unschedulable": True, "taints": [taint]}))
    assert found.reason == "the node is cordoned"


@pytest.mark.parametrize("config", ["all-balanced", "all-enabled", "ours", "custom-1g.10gb"])
def test_only_a_config_of_one_profile_can_be_checked(config: str) -> None:
    status: dict[str, int | str] = {"mig-1g.10gb": 16, "mig-2g.20gb": 8, "mig-3g.40gb": 8}
    assert seen(read(document("node", {**BALANCED, "mig.config": config}, status))).settled


def test_what_agrees_is_told_apart_from_what_does_not() -> None:
    found = seen(read(document("node", BALANCED, {"mig-1g.10gb": 14, "mig-2g.20gb": 8, "mig-3g.40gb": 8})))
    assert found.offer.quantities.keys() - found.agreed.quantities.keys() == {"nvidia.com/mig-1g.10gb"}


CHANGING = [
    "the MIG change is pending",
    "the MIG change waits for a reboot",
    "the MIG change failed",
    "success, but for the config before",
    "an operand is paused",
    "boards are not divided alike",
]


@pytest.mark.parametrize("name", CHANGING)
def test_a_change_of_division_is_known_as_one(name: str) -> None:
    labels, status, _ = LABEL_DOUBTS[name]
    assert any(doubt.changing for doubt in seen(read(document("node", labels, status))).doubts)


# --- A repartition, row by row ----------------------------------------------------------------------------

PAUSED = {"gpu.deploy.device-plugin": "paused-for-mig-change", "gpu.deploy.dcgm": "paused-for-mig-change"}
TRUE = dict.fromkeys(PAUSED, "true")
ASKED = {**WHOLE, "mig.config": "all-1g.10gb"}
DIVIDED = {**ASKED, **whole(f"{H100}-MIG-1g.10gb", 56, 9984), **TRUE}
MIXED_NOW = {**ASKED, "mig.strategy": "mixed", **TRUE}
STATELESS = {"mig.strategy": "single", "mig.config": "all-1g.10gb", "mig.config.state": "pending", **PAUSED}
TIMELINE: dict[str, tuple[dict[str, str], int, int, bool]] = {
    "the label is written, the old success stands": (ASKED, 8, 8, True),
    "the change begins": ({**ASKED, "mig.config.state": "pending", **PAUSED}, 8, 8, True),
    "the plugin is gone, its labels stay": ({**ASKED, "mig.config.state": "pending", **PAUSED}, 8, 0, True),
    "the plugin is gone, its labels too": (STATELESS, 8, 0, True),
    "a reboot": ({**ASKED, "mig.config.state": "rebooting"}, 0, 0, False),
    "applied, the product is still the old one": ({**ASKED, **TRUE}, 8, 0, True),
    "applied, the kubelet has given up on the plugin": ({**ASKED, **TRUE}, 0, 0, True),
    "the plugin registers before the labels change": ({**ASKED, **TRUE}, 56, 56, True),
}


@pytest.mark.parametrize(("labels", "capacity", "allocatable", "ready"), TIMELINE.values(), ids=TIMELINE)
def test_nothing_is_believed_until_a_repartition_is_over(
    labels: dict[str, str],
    capacity: int,
    allocatable: int,
    ready: bool,  # noqa: FBT001
) -> None:
    found = seen(read(document("node", labels, {"gpu": capacity}, {"gpu": allocatable}, ready=ready)))
    assert not found.settled
    assert any(doubt.changing for doubt in found.doubts)
    assert standing(found).offer is None


@pytest.mark.parametrize(("labels", "capacity", "allocatable", "ready"), TIMELINE.values(), ids=TIMELINE)
def test_meanwhile_the_last_belief_counts_and_never_56_whole_boards(
    labels: dict[str, str],
    capacity: int,
    allocatable: int,
    ready: bool,  # noqa: FBT001
) -> None:
    kept = write_offer_annotation(
        PersistedOffer(seen(SHAPES["exclusive, MIG off under strategy single"].node()).offer, "then")
    )
    counted = standing(seen(noted(kept, labels, {"gpu": capacity}, {"gpu": allocatable}, ready=ready)))
    assert counted.offer is not None
    assert (counted.pool, counted.offer.quantities) == ("h100-80gb-exclusive", {"nvidia.com/gpu": 8})
    assert counted.reason


def test_the_new_division_counts_once_labels_and_numbers_agree() -> None:
    kept = {"resources": {"nvidia.com/gpu": 8}, "since": "then", "pool": "h100-80gb-exclusive"}
    counted = standing(seen(noted(kept, DIVIDED, {"gpu": 56})))
    assert counted.offer is not None
    assert (counted.pool, counted.reason) == ("h100-80gb-mig-single-1g-10gb", "")
    assert counted.offer.quantities == {"nvidia.com/gpu": 56}


@pytest.mark.parametrize(
    ("labels", "believed"),
    [(MIXED_NOW, False), ({**MIXED_NOW, "gpu.replicas": "0", **slices(H100, "1g.10gb", 56, 9984)}, True)],
    ids=["before the labels", "after them"],
)
def test_the_mixed_strategy_leaves_a_zero_of_the_old_name(
    labels: dict[str, str],
    believed: bool,  # noqa: FBT001
) -> None:
    found = seen(read(document("node", labels, {"gpu": 0, "mig-1g.10gb": 56})))
    assert found.settled is believed
    assert found.offer.quantities == {"nvidia.com/mig-1g.10gb": 56}


# --- The kept belief --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_annotation_brings_a_belief_back_whole(shape: Shape) -> None:
    kept = PersistedOffer(seen(shape.node()).offer, "2026-01-01T00:00:00Z", "held", "pool names", "since")
    assert read_offer_annotation(noted(write_offer_annotation(kept), {}, {})) == kept


RESOURCES = st.builds(
    Resource,
    st.from_regex(
        r"nvidia\.com/(gpu|gpu\.shared|mig-[1-7]g\.[1-9][0-9]gb(\.me)?(\.shared)?)", fullmatch=True
    ),
    st.integers(0, 10_000),
    st.sampled_from(Strategy),
    st.none() | st.integers(0, 200_000),
    st.integers(0, 7),
    st.text(max_size=8),
    st.integers(1, 48),
)
OFFERS = st.builds(
    Offer,
    st.from_regex(r"[a-z0-9]{1,20}-(exclusive|mig-mixed|mps-x8)", fullmatch=True),
    st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12),
    st.sampled_from(Strategy),
    st.lists(RESOURCES, unique_by=lambda r: r.name).map(lambda rs: tuple(sorted(rs, key=lambda r: r.name))),
)
KEPT = st.builds(
    PersistedOffer, OFFERS, st.text(max_size=5), st.text(max_size=5), st.text(max_size=5), st.text(max_size=5)
)


@given(KEPT)
def test_writing_and_reading_a_belief_are_each_others_inverse(kept: PersistedOffer) -> None:
    assert read_offer_annotation(noted(write_offer_annotation(kept), {}, {})) == kept


@given(KEPT, st.floats(0, 1), st.integers(0, 30), st.text(max_size=8))
def test_whatever_is_damaged_in_the_annotation_nothing_raises_and_pools_keep_names_that_are_names(
    kept: PersistedOffer, place: float, cut: int, put: str
) -> None:
    text = write_offer_annotation(kept)
    at = int(place * len(text))
    node = noted(text[:at] + put + text[at + cut :], {}, {"gpu": 8})
    counted = standing(seen(node))
    assert PoolName.parse(counted.pool)
    assert len(counted.pool) <= 63
    assert counted.model.isprintable()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_belief_of_resources_alone_takes_the_rest_from_the_labels(shape: Shape) -> None:
    offer = seen(shape.node()).offer
    devices = {k: v for k, v in quantities(shape.status).items() if k.startswith(NVIDIA)}
    note = {"resources": devices, "since": "2026-01-01T00:00:00Z"}
    assert read_offer_annotation(noted(note, dict(shape.labels), {})) == PersistedOffer(
        offer, "2026-01-01T00:00:00Z"
    )


def test_the_pool_of_a_bare_belief_is_the_label() -> None:
    note = {"resources": {"nvidia.com/gpu": 8}}
    kept = read_offer_annotation(noted(note, {**DIVIDED, keys.POOL: "h100-80gb-exclusive"}, {}))
    assert kept is not None
    assert (kept.offer.pool, kept.since) == ("h100-80gb-exclusive", "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8",
        "{}",
        "not json",
        '{"resources": []}',
        '{"resources": {"nvidia.com/gpu": "many"}}',
        '{"resources": {"nvidia.com/gpu": -1}}',
        '{"resources": {"nvidia.com/gpu": 1.5}}',
        '{"resources": {}, "strategy": "halves"}',
        '{"resources": {}, "more": ' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=lambda text: text[:60],
)
def test_a_belief_that_cannot_be_read_is_none(text: str) -> None:
    node = noted(text, WHOLE, {"gpu": 8})
    assert read_offer_annotation(node) is None
    assert seen(node).settled


# --- What counts of a node at this moment -----------------------------------------------------------------

EIGHT = {"resources": {"nvidia.com/gpu": 8}, "since": "then"}


@pytest.mark.parametrize(("parts", "reason"), DOUBTS.values(), ids=DOUBTS)
def test_in_doubt_the_kept_belief_counts(parts: dict[str, Any], reason: str) -> None:
    annotated: dict[str, Any] = {
        "metadata": {"annotations": {keys.OFFER: json.dumps(EIGHT)}, **parts.pop("metadata", {})}
    }
    counted = standing(seen(read(document("node", WHOLE, {"gpu": 8}, {"gpu": 3}, **annotated, **parts))))
    assert counted.offer is not None
    assert counted.offer.quantities == {"nvidia.com/gpu": 8}
    assert counted.reason == reason


def test_growth_counts_at_once() -> None:
    counted = standing(seen(noted({"resources": {"nvidia.com/gpu": 4}}, WHOLE, {"gpu": 8})))
    assert counted.offer is not None
    assert counted.offer.quantities == {"nvidia.com/gpu": 8}
    assert counted.reason == ""


@pytest.mark.parametrize("allocatable", [0, 5])
def test_less_of_the_same_is_held_at_the_former_number(allocatable: int) -> None:
    counted = standing(seen(noted(EIGHT, WHOLE, {"gpu": 8}, {"gpu": allocatable})))
    assert counted.offer is not None
    assert counted.offer.quantities == {"nvidia.com/gpu": 8}
    assert counted.reason == f"nvidia.com/gpu fell from 8 to {allocatable}; the former number is held"


def test_of_several_names_only_the_smaller_ones_are_held() -> None:
    note = {
        "resources": {"nvidia.com/mig-1g.10gb": 14, "nvidia.com/mig-2g.20gb": 8, "nvidia.com/mig-3g.40gb": 8}
    }
    status = {"mig-1g.10gb": 16, "mig-2g.20gb": 8, "mig-3g.40gb": 8}
    counted = standing(seen(noted(note, BALANCED, status, {**status, "mig-3g.40gb": 7})))
    assert counted.offer is not None
    assert list(counted.offer.quantities.values()) == [16, 8, 8]
    assert counted.reason == "nvidia.com/mig-3g.40gb fell from 8 to 7; the former number is held"


def test_a_plugin_restart_at_first_sight_counts_nothing_and_says_so() -> None:
    counted = standing(seen(read(document("node", WHOLE, {"gpu": 8}, {"gpu": 0}))))
    assert counted.offer is None
    assert counted.pool == "h100-80gb-exclusive"
    assert counted.reason == "nothing of it is allocatable, as while its device plugin or DRA driver restarts"


def test_a_plugin_that_the_kubelet_gave_up_on_leaves_the_belief() -> None:
    counted = standing(seen(noted(EIGHT, WHOLE, {"gpu": 0}, {"gpu": 0})))
    assert counted.offer is not None
    assert counted.offer.quantities == {"nvidia.com/gpu": 8}
    assert "advertises no device" in counted.reason


def test_a_node_that_shows_nothing_at_all_any_more_is_still_the_one_that_was_believed() -> None:
    counted = standing(seen(noted({**EIGHT, "pool": "h100-80gb-exclusive"}, {}, {})))
    assert (counted.pool, counted.offer and counted.offer.quantities) == (
        "h100-80gb-exclusive",
        {"nvidia.com/gpu": 8},
    )


# --- Whatever a node looks like ---------------------------------------------------------------------------

VALUES = st.sampled_from(
    [
        "",
        "0",
        "1",
        "4",
        "8",
        "-1",
        "x",
        "true",
        "none",
        "mps",
        "time-slicing",
        "success",
        "pending",
        H100,
        f"{H100}-MIG-1g.10gb",
        f"{H100}-MIG-INVALID",
        "Tesla-T4-SHARED",
        "all-1g.10gb",
        "all-disabled",
    ]
)
LABELS = st.dictionaries(
    st.sampled_from(
        [
            "gpu.product",
            "gpu.count",
            "gpu.replicas",
            "gpu.sharing-strategy",
            "gpu.memory",
            "mig.config",
            "mig.config.state",
            "mig.strategy",
            "mig-1g.10gb.count",
            "mig-1g.10gb.replicas",
            "vgpu.present",
            "mig-1g.10gb.memory",
            "mig-1g.10gb.me.count",
            "gpu.deploy.device-plugin",
            keys.POOL,
        ]
    ),
    VALUES,
)
AMOUNTS = st.dictionaries(
    st.sampled_from(
        ["gpu", "gpu.shared", "mig-1g.10gb", "mig-1g.10gb.me", "mig-1g.10gb.shared", "mig-nonsense", "cpu"]
    ),
    st.sampled_from([0, 1, 4, 8, "8", "1k", "-1", "x"]),
)


@given(LABELS, AMOUNTS, AMOUNTS)
def test_any_node_is_read_and_counts_no_more_than_its_allocatable(
    labels: dict[str, str], capacity: dict[str, int | str], allocatable: dict[str, int | str]
) -> None:
    node = read(document("node", labels, capacity, allocatable))
    found = observe(node)
    if found is None:
        return
    counted = standing(found)
    assert bool(counted.reason) is (counted.offer is None or bool(found.remark))
    assert 0 < len(counted.pool) <= 63
    usable, there = quantities(allocatable), quantities(capacity)
    for name, quantity in counted.offer.quantities.items() if counted.offer else ():
        assert quantity == min(count(usable.get(name, 0)), count(there.get(name, 0)))


@pytest.mark.parametrize("replicas", [0, -1])
def test_a_kept_unit_in_no_shares_counts_for_none(replicas: int) -> None:
    unit = Resource(f"{NVIDIA}gpu", 8, Strategy.MPS, 5758, replicas=replicas)
    offer = Offer("l4-mps-x4", "NVIDIA-L4", Strategy.MPS, (unit,))
    kept = read_offer_annotation(noted(write_offer_annotation(PersistedOffer(offer, "", "", "", "")), {}, {}))
    assert kept is not None
    assert [unit.replicas for unit in kept.offer.resources] == [1]
