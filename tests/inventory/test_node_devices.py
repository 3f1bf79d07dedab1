"""What DRA offers on a node: names, numbers, and what keeps devices from being counted."""

from typing import Any

import pytest

from slicewise.gpu.strategies import Strategy
from slicewise.inventory.allocation import Choice, NothingFits, allocate
from slicewise.inventory.gpu_requirement import GpuRequirement
from slicewise.inventory.node_devices import NodeDevices, PublishedDevices
from slicewise.inventory.pools import Inventory, Pool
from slicewise.inventory.served_names import read_device_class
from slicewise.inventory.sources.dra import TaintRule, read_slice, read_taint_rule
from tests.inventory.nodes import MIXED, document, read, whole
from tests.inventory.resource_slices import (
    A100,
    H100,
    NVIDIA_CLASS,
    board,
    class_of,
    class_of_profile,
    device,
    device_class,
    instance,
    node_devices,
    partitionable,
    published_devices,
    resource_slice,
)

GPU = "nvidia.com/gpu"
ONE = "nvidia.com/mig-1g.10gb"
THREE = "nvidia.com/mig-3g.40gb"
SLICES = [class_of_profile("1g.10gb"), class_of_profile("3g.40gb")]
LABEL = "NVIDIA-H100-80GB-HBM3"


def on_n1(published: PublishedDevices) -> NodeDevices:
    found = published.of("n1")
    assert found is not None
    return found


def quantities(found: NodeDevices) -> dict[str, int]:
    return {resource.name: resource.quantity for resource in found.resources}


# --- What counts ------------------------------------------------------------------------------------------

DIVISIONS: dict[str, tuple[list[dict[str, Any]], str, dict[str, int]]] = {
    "whole boards": ([board(), {**board(), "name": "gpu-1"}], "exclusive", {GPU: 2}),
    "static MIG": (
        [instance("1g.10gb", name="a"), instance("1g.10gb", name="b"), instance("3g.40gb", name="c")],
        "mig-mixed",
        {ONE: 2, THREE: 1},
    ),
    "static MIG beside a whole board": ([board(), instance("1g.10gb")], "mig-mixed", {GPU: 1, ONE: 1}),
    "devices for virtual machines beside a board": (
        [board(), device("vfio-0", type="vfio", productName=H100)],
        "exclusive",
        {GPU: 1},
    ),
}


@pytest.mark.parametrize(("devices", "division", "expected"), DIVISIONS.values(), ids=DIVISIONS)
def test_devices_count_under_the_names_that_classes_serve(
    devices: list[dict[str, Any]], division: str, expected: dict[str, int]
) -> None:
    found = on_n1(node_devices(*devices, classes=SLICES))
    assert (found.model, found.division) == (LABEL, division)
    assert quantities(found) == expected
    assert (found.doubts, found.remark) == ((), "")


def test_a_partitionable_board_counts_as_often_as_it_could_hold_each_name_alone() -> None:
    devices, counters = partitionable()
    slices = [
        resource_slice(name="n1-a", count=2, devices=None, sharedCounters=[counters]),
        resource_slice(*devices, name="n1-b", count=2),
    ]
    found = on_n1(published_devices(slices, [NVIDIA_CLASS, *SLICES, class_of_profile("4g.40gb")]))
    assert found.division == "mig-dynamic"
    assert quantities(found) == {GPU: 1, ONE: 7, THREE: 2, "nvidia.com/mig-4g.40gb": 1}


def test_memory_is_what_the_driver_says_else_what_the_tables_have() -> None:
    capacity = {"memory": {"value": "9984Mi"}}
    said, unsaid = instance("1g.10gb", name="a") | {"capacity": capacity}, instance("3g.40gb", name="b")
    found = on_n1(node_devices(said, unsaid, board(), classes=SLICES))
    assert {each.name: each.memory for each in found.resources} == {GPU: 81559, ONE: 9984, THREE: 40320}


# --- Taints -----------------------------------------------------------------------------------------------


def tainted(effect: str) -> dict[str, Any]:
    return {**board(), "taints": [{"key": "gpu.nvidia.com/xid", "value": "79", "effect": effect}]}


@pytest.mark.parametrize(
    ("effect", "usable"), [("NoSchedule", 0), ("NoExecute", 0), ("None", 1), ("PreferNoSchedule", 1)]
)
def test_a_device_counts_unless_its_taint_keeps_everybody_out(effect: str, usable: int) -> None:
    assert quantities(on_n1(node_devices(tainted(effect)))) == {GPU: usable}


RULES: dict[str, tuple[dict[str, Any], TaintRule | None]] = {
    "one device": ({"driver": "gpu.nvidia.com", "pool": "n1", "device": "gpu-0"}, TaintRule("n1", "gpu-0")),
    "a node": ({"pool": "n1"}, TaintRule("n1")),
    "everything": ({}, TaintRule()),
    "another driver": ({"driver": "gpu.amd.com"}, None),
}


def rule(selector: dict[str, Any] | None, effect: str = "NoSchedule") -> dict[str, Any]:
    spec = {
        "taint": {"key": "k", "effect": effect},
        **({"deviceSelector": selector} if selector is not None else {}),
    }
    return {
        "apiVersion": "resource.k8s.io/v1beta2",
        "kind": "DeviceTaintRule",
        "metadata": {"name": "r"},
        "spec": spec,
    }


@pytest.mark.parametrize(("selector", "expected"), RULES.values(), ids=RULES)
def test_a_rule_says_which_devices_it_taints(selector: dict[str, Any], expected: TaintRule | None) -> None:
    assert read_taint_rule(rule(selector)) == expected
    assert read_taint_rule(rule(selector, "None")) is None


def test_a_rule_without_a_selector_selects_nothing() -> None:
    assert read_taint_rule(rule(None)) is None


def test_a_rule_takes_devices_while_it_stands() -> None:
    published = node_devices(board(), {**board(), "name": "gpu-1"})
    assert published.put_rule("r", TaintRule("n1", "gpu-1")) == {"n1"}
    assert quantities(on_n1(published)) == {GPU: 1}
    assert published.put_rule("r", TaintRule("n1", "gpu-1")) == frozenset()
    assert published.put_rule("elsewhere", TaintRule("n2")) == frozenset()
    assert published.put_rule("everywhere", TaintRule()) == {"n1"}
    assert quantities(on_n1(published)) == {GPU: 0}
    published.put_rule("everywhere", None)
    published.put_rule("r", None)
    assert quantities(on_n1(published)) == {GPU: 2}


# --- What does not count, and why -------------------------------------------------------------------------

UNSERVED: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], str]] = {
    "no class has the name": (
        [instance("1g.10gb")],
        [device_class("mig.nvidia.com")],
        f"no DeviceClass serves {ONE}; apply what `slicewise deviceclasses` prints",
    ),
    "its class takes another model": (
        [instance("1g.10gb")],
        [class_of("a", ONE, f'productName == "{A100}"')],
        (
            f"DeviceClass a serves {ONE} and selects no such device of this node; "
            "apply what `slicewise deviceclasses` prints"
        ),
    ),
    "its class takes more than it says": (
        [instance("1g.10gb", name="a"), instance("3g.40gb", name="b")],
        [class_of("any", ONE, 'type == "mig"')],
        (
            f"DeviceClass any serves {ONE} with other devices too ({THREE}); narrow its selector; "
            f"no DeviceClass serves {THREE}; apply what `slicewise deviceclasses` prints"
        ),
    ),
    "its class is in words that are not read": (
        [instance("1g.10gb")],
        [class_of("odd", ONE, 'profile.startsWith("1g")')],
        (
            f"the selector of DeviceClass odd, which serves {ONE}, is not read here: it has '.' after profile, which "
            "is not read; write it with ==, !=, in, && and ||"
        ),
    ),
}


@pytest.mark.parametrize(("devices", "classes", "words"), UNSERVED.values(), ids=UNSERVED)
def test_what_no_class_serves_as_what_it_is_does_not_count(
    devices: list[dict[str, Any]], classes: list[dict[str, Any]], words: str
) -> None:
    found = on_n1(node_devices(*devices, classes=classes))
    (doubt,) = found.doubts
    assert (quantities(found), doubt.code, doubt.words) == ({}, "unserved", words)


def test_what_is_unserved_beside_what_counts_is_a_remark() -> None:
    found = on_n1(node_devices(board(), instance("1g.10gb")))
    assert (quantities(found), found.doubts) == ({GPU: 1}, ())
    assert found.remark.startswith(f"no DeviceClass serves {ONE}")


def test_of_two_classes_of_one_name_the_later_one_serves() -> None:
    def made(name: str, at: str, profile: str) -> dict[str, Any]:
        document = class_of(name, ONE, f'profile == "{profile}"')
        document["metadata"]["creationTimestamp"] = at
        return document

    old, new = made("z", "2026-11-01T00:00:00Z", "3g.40gb"), made("y", "2026-11-02T00:00:00Z", "1g.10gb")
    assert quantities(on_n1(node_devices(instance("1g.10gb"), classes=[new, old]))) == {ONE: 1}
    same_age = made("x", "2026-11-02T00:00:00Z", "3g.40gb")
    assert quantities(on_n1(node_devices(instance("1g.10gb"), classes=[new, same_age]))) == {}


def test_an_incomplete_pool_and_two_models_are_doubts() -> None:
    (half,) = on_n1(node_devices(board(), count=2)).doubts
    assert (half.code, "generation 1 has 1 of 2" in half.words) == ("slices", True)
    (models,) = on_n1(node_devices(board(), board(A100) | {"name": "gpu-1"})).doubts
    assert models.words == (
        f"the node has boards of more than one model (NVIDIA-A100-SXM4-80GB, {LABEL}); "
        "give each node boards of one model"
    )


# --- What a change touches --------------------------------------------------------------------------------


def test_a_slice_changes_its_node_and_a_class_all() -> None:
    published = published_devices([resource_slice(board()), resource_slice(board(), name="n2-a", pool="n2")])
    moved = resource_slice(board(), name="n2-a", pool="n2", nodeName="n3")
    assert published.put_slice("n2-a", read_slice(moved)) == {"n2", "n3"}
    assert published.put_slice("n2-a", read_slice(moved)) == frozenset()
    assert published.of("n2") is None
    assert published.put_class("gpu.nvidia.com", read_device_class(NVIDIA_CLASS)) == {"n1", "n3"}
    assert published.put_class("other", read_device_class(device_class("other"))) == frozenset()
    assert quantities(on_n1(published)) == {GPU: 1}
    assert published.put_class("gpu.nvidia.com", None) == {"n1", "n3"}
    assert quantities(on_n1(published)) == {}


# --- Pools ------------------------------------------------------------------------------------------------


def pools(nodes: list[dict[str, Any]], published: PublishedDevices) -> list[Pool]:
    return list(Inventory(map(read, nodes), devices=published))


def test_a_node_of_slices_alone_is_in_the_pool_of_nodes_whose_plugin_offers_the_same() -> None:
    plugin = document("n2", whole(LABEL, 8, 81559), {"gpu": 8})
    (pool,) = pools([document("n1", {}, {}), plugin], node_devices(board()))
    assert pool.document() == {
        "name": "h100-80gb-exclusive",
        "strategy": "exclusive",
        "model": LABEL,
        "sources": ["dra", "gpu-feature-discovery"],
        "nodes": ["n1", "n2"],
        "resources": {GPU: 9},
        "unsettled": [],
    }


def test_a_node_with_both_counts_once_by_what_its_plugin_offers() -> None:
    node = document("n1", whole(LABEL, 8, 81559), {"gpu": 8})
    (pool,) = pools([node], node_devices(board()))
    assert pool.document()["resources"] == {GPU: 8}
    (remark,) = pool.unsettled
    assert (
        remark.reason
        == "the device plugin serves this node, so what its ResourceSlices publish is not counted"
    )


def test_labels_say_nothing_of_a_node_whose_plugin_offers_nothing() -> None:
    node = document("n1", {**whole(LABEL, 8, 81559), **MIXED, "mig.config.state": "pending"}, {"gpu": 8}, {})
    (pool,) = pools([node], node_devices(instance("1g.10gb"), classes=SLICES))
    assert (pool.name, pool.document()["resources"]) == ("h100-80gb-mig-mixed", {ONE: 1})


def test_partitionable_boards_are_a_pool_of_their_own() -> None:
    devices, counters = partitionable()
    published = node_devices(*devices, classes=SLICES, sharedCounters=[counters])
    (pool,) = pools([document("n1", {}, {})], published)
    assert (pool.name, pool.strategy) == ("h100-80gb-mig-dynamic", "mig")


NOT_COUNTED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "not Ready": ({"ready": False}, {}, "the node is not Ready"),
    "cordoned": ({"spec": {"unschedulable": True}}, {}, "the node is cordoned"),
    "half its slices are missing": ({}, {"count": 2}, "pool n1 of gpu.nvidia.com: generation 1 has 1 of 2"),
}


@pytest.mark.parametrize(("node", "spec", "words"), NOT_COUNTED.values(), ids=NOT_COUNTED)
def test_a_node_that_is_not_believed_counts_nothing_at_first_sight(
    node: dict[str, Any], spec: dict[str, Any], words: str
) -> None:
    (pool,) = pools([document("n1", {}, {}, **node)], node_devices(board(), **spec))
    (unsettled,) = pool.unsettled
    assert (pool.nodes, unsettled.reason.startswith(words)) == ((), True)


def test_lasting_taints_of_the_node_make_a_pool_of_their_own() -> None:
    spec = {"taints": [{"key": "team", "value": "a", "effect": "NoSchedule"}]}
    (pool,) = pools([document("n1", {}, {}, spec=spec)], node_devices(board()))
    assert pool.name.startswith("h100-80gb-exclusive-tainted-")


def test_a_share_of_what_a_dra_driver_hands_out_is_refused_in_words_and_otherwise_applies() -> None:
    found = pools([document("n1", {}, {})], node_devices(board()))
    shares = GpuRequirement((Strategy.TIME_SLICING,))
    outcome = allocate(shares, found).outcome
    assert isinstance(outcome, NothingFits)
    (tried,) = outcome.tried
    assert tried == (
        "time-slicing: no pool offers it, and h100-80gb-exclusive cannot: a DRA driver hands out their devices, "
        "and shares none between pods"
    )
    otherwise = allocate(GpuRequirement((Strategy.MPS, Strategy.EXCLUSIVE)), found).outcome
    assert isinstance(otherwise, Choice)
    assert otherwise.name == GPU
