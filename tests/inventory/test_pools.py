"""Many nodes -> pools, with what each advertises."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from slicewise.api import keys
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.node import Node
from slicewise.inventory.node_state import CountedNode, standing
from slicewise.inventory.planned_geometry import observe
from slicewise.inventory.pools import Inventory, Pool
from tests.inventory.nodes import (
    A100_40,
    BALANCED,
    H100,
    MIXED,
    SHAPES,
    SINGLE,
    document,
    read,
    slices,
    whole,
)


def only(nodes: Iterable[Node]) -> Pool:
    (pool,) = Inventory(nodes)
    return pool


# --- Sums -------------------------------------------------------------------------------------------------


def test_nodes_alike_are_one_pool_with_the_sum_of_what_they_offer() -> None:
    pool = only(SHAPES["MIG mixed, all boards divided"].node(name) for name in ("b", "a"))
    assert pool.document() == {
        "name": "h100-80gb-mig-mixed",
        "strategy": "mig",
        "model": H100,
        "sources": ["gpu-feature-discovery"],
        "nodes": ["a", "b"],
        "resources": {
            "nvidia.com/mig-1g.10gb": 32,
            "nvidia.com/mig-2g.20gb": 16,
            "nvidia.com/mig-3g.40gb": 16,
        },
        "unsettled": [],
    }


def test_boards_of_one_model_in_another_package_are_one_pool() -> None:
    pool = only(
        [
            read(document("a", whole("NVIDIA-A100-80GB-PCIe", 4, 81920), {"gpu": 4})),
            read(document("b", whole("NVIDIA-A100-SXM4-80GB", 8, 81920), {"gpu": 8})),
        ]
    )
    assert pool.models == ("NVIDIA-A100-80GB-PCIe", "NVIDIA-A100-SXM4-80GB")
    assert pool.model == "NVIDIA-A100-80GB-PCIe"
    assert pool.resources["nvidia.com/gpu"].quantity == 12


@pytest.mark.parametrize(
    ("globs", "matches"),
    [
        ((), True),
        (("*A100*",), True),
        (("*PCIe", "*SXM4*"), True),
        (("*SXM4*",), True),
        (("*H100*",), False),
    ],
)
def test_a_pool_is_of_a_model_when_one_of_its_nodes_is(globs: Sequence[str], matches: bool) -> None:  # noqa: FBT001
    pool = only(
        [
            read(document("a", whole("NVIDIA-A100-80GB-PCIe", 4, 81920), {"gpu": 4})),
            read(document("b", whole("NVIDIA-A100-SXM4-80GB", 8, 81920), {"gpu": 8})),
        ]
    )
    assert pool.is_model(globs) is matches


@pytest.mark.parametrize(
    ("memories", "least"), [((9984, 9856), 9856), ((None, 9856), 9856), ((None, None), 9984)]
)
def test_of_the_memory_of_one_unit_the_least_holds(memories: Sequence[int | None], least: int | None) -> None:
    nodes = []
    for name, memory in zip("ab", memories, strict=True):
        labels = {**MIXED, **whole(H100, 1, 81559, replicas=0), **slices(H100, "1g.10gb", 7, memory or 0)}
        if memory is None:
            del labels["mig-1g.10gb.memory"]
        nodes.append(read(document(name, labels, {"mig-1g.10gb": 7})))
    assert only(nodes).resources["nvidia.com/mig-1g.10gb"].memory == least


def test_what_tells_two_divisions_apart_tells_two_pools_apart() -> None:
    nodes = [
        read(document("a", whole("NVIDIA-L4-SHARED", 1, 23034, 4, "time-slicing"), {"gpu": 4})),
        read(document("b", whole("NVIDIA-L4-SHARED", 1, 23034, 8, "time-slicing"), {"gpu": 8})),
        read(document("c", whole("NVIDIA-L4-SHARED", 1, 23034, 8, "mps"), {"gpu": 8})),
        read(document("d", whole("NVIDIA-L4", 1, 23034), {"gpu": 1})),
    ]
    assert [pool.name for pool in Inventory(nodes)] == [
        "l4-exclusive",
        "l4-mps-x8",
        "l4-time-slicing-x4",
        "l4-time-slicing-x8",
    ]


def test_slices_with_and_without_media_engines_are_two_pools() -> None:
    product = "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition"
    nodes = [
        read(document(name, {**SINGLE, **whole(f"{product}-MIG-{profile}", 1, 24000)}, {"gpu": 1}))
        for name, profile in (("a", "1g.24gb.me"), ("b", "1g.24gb-me"))
    ]
    shared = [
        read(
            document(
                name,
                {
                    **MIXED,
                    **whole(product, 1, 97887, replicas=0),
                    **slices(product, profile, 1, 24000, 4, "time-slicing"),
                    **slices(product, "2g.48gb", 1, 48000),
                },
                {f"mig-{profile}": 4, "mig-2g.48gb": 1},
            )
        )
        for name, profile in (("c", "1g.24gb.me"), ("d", "1g.24gb-me"))
    ]
    model = "rtx-pro-6000-blackwell-server-edition"
    assert [pool.name for pool in Inventory(nodes)] == [
        f"{model}-mig-single-1g-24gb-me",
        f"{model}-mig-single-1g-24gb-no-me",
    ]
    assert len(list(Inventory(shared))) == 2


def test_different_geometries_of_one_model_share_the_mixed_pool() -> None:
    labels = {**MIXED, **whole(H100, 1, 81559, replicas=0), **slices(H100, "1g.10gb", 7, 9984)}
    pool = only(
        [SHAPES["MIG mixed, all boards divided"].node("a"), read(document("b", labels, {"mig-1g.10gb": 7}))]
    )
    assert pool.resources["nvidia.com/mig-1g.10gb"].quantity == 23


def test_boards_left_whole_in_a_mixed_pool_are_exclusive() -> None:
    pool = only([SHAPES["MIG mixed, some boards left whole: those are exclusive"].node()])
    assert pool.strategy is Strategy.MIG
    assert pool.resources["nvidia.com/gpu"].strategy is Strategy.EXCLUSIVE
    assert pool.resources["nvidia.com/mig-1g.5gb"].strategy is Strategy.MIG
    assert pool.is_model(["*A100*"])
    assert pool.model == A100_40


def test_a_pool_says_which_of_its_nodes_are_not_counted_and_why() -> None:
    status: dict[str, Any] = {"mig-1g.10gb": 16, "mig-2g.20gb": 8, "mig-3g.40gb": 8}
    pool = only(
        [
            SHAPES["MIG mixed, all boards divided"].node("counted"),
            read(document("down", BALANCED, status, ready=False)),
            read(document("cordoned", BALANCED, status, spec={"unschedulable": True})),
        ]
    )
    assert pool.nodes == ("counted",)
    assert pool.resources["nvidia.com/mig-1g.10gb"].quantity == 16
    assert pool.document()["unsettled"] == [
        {"node": "cordoned", "reason": "the node is cordoned"},
        {"node": "down", "reason": "the node is not Ready"},
    ]


def test_a_pool_of_unsettled_nodes_alone_offers_nothing_but_is_told() -> None:
    pool = only([SHAPES["a vGPU guest"].node(ready=False)])
    assert (pool.name, pool.strategy, pool.model) == ("a10-12q-vgpu", Strategy.VGPU, "NVIDIA-A10-12Q")
    assert (pool.nodes, dict(pool.resources)) == ((), {})
    assert [each.node for each in pool.unsettled] == ["node"]


def test_a_name_that_nobody_has_any_more_is_not_offered() -> None:
    status = {"mig-1g.10gb": 16, "mig-2g.20gb": 8, "mig-3g.40gb": 8}
    pool = only([read(document("a", BALANCED, status, {**status, "mig-3g.40gb": 0}))])
    assert "nvidia.com/mig-3g.40gb" not in pool.resources


def test_nodes_with_other_lasting_taints_are_another_pool() -> None:
    gpu = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
    soft = {"key": "spare", "effect": "PreferNoSchedule"}
    team = {"key": "team", "value": "a", "effect": "NoSchedule"}
    inventory = Inventory(
        SHAPES["MIG single"].node(name, spec={"taints": taints})
        for name, taints in {"a": [gpu, team], "b": [team, soft], "c": [gpu], "d": []}.items()
    )
    assert [(pool.nodes, [taint.key for taint in pool.taints]) for pool in inventory] == [
        (("c", "d"), []),
        (("a", "b"), ["team"]),
    ]


# --- Changes ----------------------------------------------------------------------------------------------


def test_a_change_touches_its_pools_and_no_other() -> None:
    inventory = Inventory([SHAPES["MIG single"].node("a"), SHAPES["a vGPU guest"].node("b")])
    before, revision = inventory.pool("a10-12q-vgpu"), inventory.revision
    moved = SHAPES["exclusive, MIG off under strategy mixed"].node("a")
    assert inventory.see(moved) == {"a100-80gb-mig-single-1g-10gb", "a100-80gb-exclusive"}
    assert inventory.pool("a10-12q-vgpu") is before
    assert inventory.pool("a100-80gb-mig-single-1g-10gb") is None
    assert inventory.revision > revision


@pytest.mark.parametrize(
    ("labels", "changes"), [({}, False), ({keys.POOL: "a100"}, False), ({"rack": "b"}, True)]
)
def test_a_look_that_counts_nothing_otherwise_changes_no_pool(
    labels: dict[str, str],
    changes: bool,  # noqa: FBT001
) -> None:
    """Nor does our own label, which says what is known. The newest look is kept, and no former one in memory."""
    first = observe(SHAPES["MIG single"].node("a"))
    second = observe(SHAPES["MIG single"].node("a"))
    assert first is not None
    assert second is not None
    newest = standing(msgspec.structs.replace(second, labels={**second.labels, **labels}))
    inventory = Inventory()
    inventory.put("a", standing(first))
    before = inventory.revision
    assert (bool(inventory.put("a", newest)), inventory.revision != before) == (changes, changes)
    (pool,) = inventory
    assert pool.members[0] is newest


def test_what_changes_nothing_counts_as_no_change() -> None:
    inventory = Inventory([SHAPES["MIG single"].node("a")])
    revision = inventory.revision
    assert inventory.see(SHAPES["MIG single"].node("a")) == frozenset()
    assert inventory.put("nobody", None) == frozenset()
    assert inventory.revision == revision


def test_a_node_that_is_gone_takes_its_pool_with_it() -> None:
    inventory = Inventory([SHAPES["MIG single"].node("a")])
    assert inventory.put("a", None) == {"a100-80gb-mig-single-1g-10gb"}
    assert list(inventory) == []


def judged(node: Node) -> CountedNode | None:
    seen = observe(node)
    return standing(seen) if seen else None


NODES = st.builds(
    lambda name, shape, parts: shape.node(name, **parts),
    st.sampled_from("abcdef"),
    st.sampled_from(sorted(SHAPES.values(), key=lambda shape: shape.pool)),
    st.sampled_from([{}, {}, {"ready": False}, {"spec": {"unschedulable": True}}]),
)


@given(st.lists(NODES, unique_by=lambda node: node.name))
def test_every_node_is_in_exactly_one_pool(nodes: list[Node]) -> None:
    inventory = Inventory(nodes)
    told = [name for pool in inventory for name in {*pool.nodes, *(each.node for each in pool.unsettled)}]
    assert sorted(told) == sorted(node.name for node in nodes)


@given(st.lists(NODES, unique_by=lambda node: node.name))
def test_a_pool_offers_the_sum_of_its_members(nodes: list[Node]) -> None:
    for pool in Inventory(nodes):
        offers = [member.offer.quantities for member in pool.members if member.offer]
        names = {name for offer in offers for name in offer}
        sums = {name: sum(offer.get(name, 0) for offer in offers) for name in names}
        assert {r.name: r.quantity for r in pool.resources.values()} == {k: v for k, v in sums.items() if v}


class IncrementalInventory(RuleBasedStateMachine):
    """However its nodes come, change and go: the inventory is what it would be if read at once."""

    def __init__(self) -> None:
        super().__init__()
        self.inventory = Inventory()
        self.nodes: dict[str, Node] = {}

    @rule(node=NODES)
    def seen(self, node: Node) -> None:
        before = {pool.name: pool for pool in self.inventory}
        changed = self.inventory.see(node)
        self.nodes[node.name] = node
        after = {pool.name: pool for pool in self.inventory}
        assert {
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        } <= changed

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def gone(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.nodes)))
        del self.nodes[name]
        self.inventory.put(name, None)

    @invariant()
    def same_as_from_scratch(self) -> None:
        fresh = Inventory(self.nodes[name] for name in sorted(self.nodes, reverse=True))
        assert [msgspec.to_builtins(pool) for pool in self.inventory] == [
            msgspec.to_builtins(pool) for pool in fresh
        ]
        judgements = {name: judged(node) for name, node in self.nodes.items()}
        assert {member.name: member for pool in self.inventory for member in pool.members} == {
            name: each for name, each in judgements.items() if each is not None and each.offer is not None
        }


TestIncrementalInventory = IncrementalInventory.TestCase
TestIncrementalInventory.settings = settings(stateful_step_count=12)
