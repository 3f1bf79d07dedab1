"""What is chosen of what the pools offer."""

from typing import Any, get_args

import pytest

from slicewise.gpu.strategies import ClassStrategy, MultiGPU, Strategy
from slicewise.inventory.allocation import (
    Choice,
    NodeFilter,
    NodeLabel,
    NothingFits,
    Outcome,
    TooMany,
    allocate,
)
from slicewise.inventory.gpu_requirement import ContainerRequest, GpuRequirement, Stage, Toleration
from slicewise.inventory.pools import Inventory, Pool
from tests.admission.building import EVERY, GPU, NODES, SHARED, SLICE, inventory, world
from tests.inventory.nodes import A100_40, A100_80, H100, MIXED, SINGLE, document, read, slices, whole

MIG, TIME, MPS, VGPU, EXCLUSIVE = (
    Strategy.MIG,
    Strategy.TIME_SLICING,
    Strategy.MPS,
    Strategy.VGPU,
    Strategy.EXCLUSIVE,
)


def ask(
    *strategies: Strategy, counts: tuple[int, ...] = (1,), beside: tuple[str, ...] = (), **fields: Any
) -> GpuRequirement:
    containers = (
        *map(ContainerRequest, counts),
        *(ContainerRequest(named=((name, 1),)) for name in beside),
    )
    return GpuRequirement(strategies, containers, **fields)


def choose(asked: GpuRequirement, pools: tuple[Pool, ...]) -> Outcome:
    return allocate(asked, pools).outcome


def chosen(asked: GpuRequirement, *nodes: str) -> Choice:
    found = choose(asked, tuple(inventory(*nodes)))
    assert isinstance(found, Choice), found
    return found


def tried(asked: GpuRequirement, *nodes: str) -> tuple[str, ...]:
    found = choose(asked, tuple(inventory(*nodes)))
    assert isinstance(found, NothingFits), found
    return found.tried


def pools(*nodes: tuple[str, dict[str, str], dict[str, int | str]]) -> tuple[Pool, ...]:
    return tuple(Inventory(read(document(name, labels, status)) for name, labels, status in nodes))


def mixed(
    product: str, memory: int, **profiles: tuple[int, int]
) -> tuple[dict[str, str], dict[str, int | str]]:
    """Labels and status of a board divided under the mixed strategy: profile (with `_` for `.`) -> count, MiB."""
    labels = {**MIXED, **whole(product, 1, memory, replicas=0)}
    status: dict[str, int | str] = {}
    for spelt, (count, mebibytes) in profiles.items():
        profile = spelt.strip("_").replace("_", ".")
        labels |= slices(product, profile, count, mebibytes)
        status[f"mig-{profile}"] = count
    return labels, status


# --- Strategies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "node", "name", "unit"),
    [
        (MIG, "mixed", SLICE, "slice 1g.10gb"),
        (MIG, "single", GPU, "slice 1g.10gb"),
        (TIME, "time", GPU, "time-slicing share (one of 4) of a GPU"),
        (TIME, "time-renamed", SHARED, "time-slicing share (one of 4) of a GPU"),
        (MPS, "mps", GPU, "mps share (one of 8) of a GPU"),
        (VGPU, "vgpu", GPU, "vGPU"),
        (EXCLUSIVE, "whole", GPU, "whole GPU"),
        (EXCLUSIVE, "partly", GPU, "whole GPU"),
    ],
)
def test_each_strategy_has_the_name_that_its_pool_advertises(
    strategy: Strategy, node: str, name: str, unit: str
) -> None:
    found = chosen(ask(strategy), node)
    assert (found.strategy, found.name, found.unit) == (strategy, name, unit)
    assert found.of(1) == (name, 1)


def test_what_no_pool_offers_falls_to_the_next_strategy() -> None:
    assert chosen(ask(MPS, MIG, EXCLUSIVE), "whole", "mixed").strategy is MIG
    assert chosen(ask(MPS, VGPU, EXCLUSIVE), "whole", "mixed").strategy is EXCLUSIVE


def test_what_was_tried_is_told_in_order() -> None:
    assert tried(ask(MPS, TIME), "whole") == ("mps: no pool offers it", "time-slicing: no pool offers it")
    assert tried(ask(MIG)) == ("mig: no pool offers it",)


# --- Order among what fits --------------------------------------------------------------------------------


def test_least_memory_comes_first() -> None:
    assert chosen(ask(MIG), "mixed").name == "nvidia.com/mig-1g.10gb"
    assert chosen(ask(MIG, memory=10_000), "mixed").name == "nvidia.com/mig-2g.20gb"
    assert chosen(ask(MIG, memory=20_097), "mixed").name == "nvidia.com/mig-3g.40gb"


def test_memory_is_compared_before_the_name() -> None:
    # A 1g.10gb of an A100-40GB holds more than one of an H100-80GB is named for.
    found = choose(
        ask(MIG, memory=9_900),
        pools(
            ("a", *mixed(A100_40, 40960, _1g_10gb=(4, 9856))),
            ("b", *mixed(H100, 81559, _1g_10gb=(7, 9984))),
        ),
    )
    assert isinstance(found, Choice)
    assert (found.pools, found.steered) == (("h100-80gb-mig-mixed",), True)


def test_then_fewest_compute_slices() -> None:
    found = choose(ask(MIG), pools(("a", *mixed(A100_80, 81920, _1g_20gb=(1, 19968), _2g_20gb=(3, 19968)))))
    assert isinstance(found, Choice)
    assert found.name == "nvidia.com/mig-1g.20gb"


def test_then_most_capacity_then_the_pools_name() -> None:
    labels = {"mig.config.state": "success"}
    few = {**labels, **whole("NVIDIA-H100-80GB-HBM3", 1, 80000)}
    many = {**labels, **whole("NVIDIA-A100-SXM4-80GB", 8, 80000)}
    found = choose(ask(EXCLUSIVE), pools(("a", few, {"gpu": 1}), ("b", many, {"gpu": 8})))
    assert isinstance(found, Choice)
    assert found.pools == ("a100-80gb-exclusive", "h100-80gb-exclusive")
    same = choose(ask(EXCLUSIVE), pools(("a", few, {"gpu": 1}), ("b", many | {"gpu.count": "1"}, {"gpu": 1})))
    assert isinstance(same, Choice)
    assert same.pools == ("a100-80gb-exclusive", "h100-80gb-exclusive")


def test_a_suffixed_profile_is_given_only_to_those_who_name_it() -> None:
    assert chosen(ask(MIG), "suffixed").name == "nvidia.com/mig-1g.24gb"
    assert (
        chosen(ask(MIG, profile="1g.24gb.me", profile_is_explicit=True), "suffixed").name
        == "nvidia.com/mig-1g.24gb.me"
    )
    only = pools(("a", *mixed(A100_80, 81920, _1g_10gb_me=(1, 9728))))
    found = choose(ask(MIG), only)
    assert found == NothingFits(("mig: only profiles that must be named are offered",))


# --- Size -------------------------------------------------------------------------------------------------


def test_a_size_is_held_by_memory_and_not_by_the_number_in_a_name() -> None:
    # 1g.10gb holds 9984 MiB, less than the 10 GB that it is called for, and less than 10 Gi.
    assert chosen(ask(MIG, memory=9_984), "mixed").name == "nvidia.com/mig-1g.10gb"
    assert chosen(ask(MIG, memory=9_985), "mixed").name == "nvidia.com/mig-2g.20gb"


def test_a_size_that_no_slice_holds_counts_as_not_offered() -> None:
    assert tried(ask(MIG, memory=50_000), "mixed") == ("mig: nothing offered holds 50000 MiB",)
    assert chosen(ask(MIG, EXCLUSIVE, memory=50_000), "mixed", "whole").strategy is EXCLUSIVE


def test_an_exact_profile_is_that_profile_or_nothing() -> None:
    assert chosen(ask(MIG, profile="2g.20gb"), "mixed").name == "nvidia.com/mig-2g.20gb"
    assert tried(ask(MIG, profile="4g.40gb"), "mixed") == ("mig: no pool offers the profile 4g.40gb",)


def test_a_slice_whose_memory_nothing_says_holds_no_size() -> None:
    unlabelled = pools(("a", {}, {"mig-1g.10gb": 7}))
    assert isinstance(choose(ask(MIG), unlabelled), Choice)
    assert isinstance(choose(ask(MIG, memory=1), unlabelled), NothingFits)


@pytest.mark.parametrize(
    ("strategy", "node", "memory", "fits"),
    [
        (EXCLUSIVE, "whole", 81_559, True),
        (EXCLUSIVE, "whole", 81_560, False),
        (VGPU, "vgpu", 12_288, True),
        (VGPU, "vgpu", 12_289, False),
        (MPS, "mps", 2_879, True),  # 23034 MiB over 8 clients
        (MPS, "mps", 2_880, False),
        (TIME, "time", 1, False),
        (TIME, "time-renamed", 1, False),
    ],
)
def test_outside_mig_a_size_is_held_by(strategy: Strategy, node: str, memory: int, *, fits: bool) -> None:
    found = choose(ask(strategy, memory=memory), tuple(inventory(node)))
    assert isinstance(found, Choice if fits else NothingFits)


def test_time_slicing_says_that_it_promises_no_memory() -> None:
    assert tried(ask(TIME, memory=1024), "time") == (
        "time-slicing: shares promise no memory, and 1024 MiB are asked for",
    )


# --- Models -----------------------------------------------------------------------------------------------


def test_models_narrow_the_pools() -> None:
    assert chosen(ask(EXCLUSIVE, models=("*A100*",)), "whole", "partly").pools == ("a100-40gb-mig-mixed",)
    assert tried(ask(EXCLUSIVE, models=("*B200*",)), "whole") == (
        "exclusive: no pool that offers it is one of *B200*",
    )


def test_whole_gpus_instead_of_slices_keep_the_models() -> None:
    assert chosen(ask(MIG, counts=(2,), models=("*H100*",)), "mixed", "whole", "partly").pools == (
        "h100-80gb-exclusive",
    )
    assert tried(ask(MIG, counts=(2,), models=("*H100*",)), "mixed", "partly") == (
        "mig: more than one means whole GPUs (multiGPU: whole); exclusive: no pool that offers it is one of *H100*",
    )


# --- More than one ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "node", "multi", "expected"),
    [
        (MIG, "mixed", MultiGPU.EACH, (SLICE, 3)),
        (MIG, "mixed", MultiGPU.ONE, (SLICE, 1)),
        (MIG, "mixed", MultiGPU.WHOLE, (GPU, 3)),
        (MIG, "mixed", None, (GPU, 3)),
        (TIME, "time-renamed", MultiGPU.EACH, (SHARED, 3)),
        (TIME, "time-renamed", MultiGPU.ONE, (SHARED, 1)),
        (TIME, "time-renamed", MultiGPU.WHOLE, (GPU, 3)),
        (VGPU, "vgpu", MultiGPU.ONE, (GPU, 1)),
        (EXCLUSIVE, "whole", None, (GPU, 3)),
        (EXCLUSIVE, "whole", MultiGPU.REFUSE, (GPU, 3)),
        (EXCLUSIVE, "whole", MultiGPU.ONE, (GPU, 3)),
    ],
)
def test_asking_for_three_becomes(
    strategy: Strategy, node: str, multi: MultiGPU | None, expected: tuple[str, int]
) -> None:
    assert chosen(ask(strategy, counts=(3,), multi_gpu=multi), node, "whole").of(3) == expected


@pytest.mark.parametrize(
    ("strategy", "node", "multi", "explicit"),
    [
        (TIME, "time", None, False),
        (MPS, "mps", None, False),
        (TIME, "time", MultiGPU.REFUSE, True),
        (MIG, "mixed", MultiGPU.REFUSE, True),
        (VGPU, "vgpu", MultiGPU.REFUSE, True),
    ],
)
def test_more_than_one_is_refused(
    strategy: Strategy,
    node: str,
    multi: MultiGPU | None,
    *,
    explicit: bool,
) -> None:
    found = choose(ask(strategy, EXCLUSIVE, counts=(1, 2), multi_gpu=multi), tuple(inventory(node, "whole")))
    assert found == TooMany(strategy, explicit)


def test_one_gpu_meets_no_rule_about_more() -> None:
    assert chosen(ask(TIME, multi_gpu=MultiGPU.REFUSE), "time").of(1) == (GPU, 1)


def test_whole_gpus_without_any_are_told() -> None:
    assert tried(ask(MIG, counts=(2,)), "mixed") == (
        "mig: more than one means whole GPUs (multiGPU: whole); exclusive: no pool offers it",
    )


def test_what_keeps_whole_gpus_away_is_told_once() -> None:
    assert tried(ask(MIG, EXCLUSIVE, counts=(2,)), "mixed") == (
        "mig: more than one means whole GPUs (multiGPU: whole)",
        "exclusive: no pool offers it",
    )


def test_an_explicit_profile_more_than_once_is_each() -> None:
    asked = ask(MIG, counts=(3,), profile="1g.10gb", profile_is_explicit=True, multi_gpu=MultiGPU.REFUSE)
    assert chosen(asked, "mixed").of(3) == (SLICE, 3)


def test_one_slice_beside_whole_gpus_comes_from_a_pool_that_has_both() -> None:
    found = chosen(ask(MIG, counts=(1, 4)), "h100-both", "single", "whole")
    assert found.pools == ("h100-80gb-mig-mixed",)
    assert (found.of(1), found.of(4), found.steered) == ((SLICE, 1), (GPU, 4), True)


def test_one_slice_beside_whole_gpus_comes_from_a_node_that_has_both() -> None:
    divided = mixed("NVIDIA-H100-80GB-HBM3", 81559, _1g_10gb=(7, 9984))
    partly = mixed("NVIDIA-H100-80GB-HBM3", 81559, _3g_40gb=(2, 40320))
    labels = {**partly[0], **whole("NVIDIA-H100-80GB-HBM3", 5, 81559)}
    found = choose(ask(MIG, counts=(1, 4)), pools(("a", *divided), ("b", labels, {**partly[1], "gpu": 4})))
    assert isinstance(found, Choice)
    assert (found.of(1), found.of(4)) == (("nvidia.com/mig-3g.40gb", 1), (GPU, 4))


def test_one_slice_beside_whole_gpus_is_a_whole_gpu_where_no_pool_has_both() -> None:
    found = chosen(ask(MIG, counts=(1, 4)), "mixed", "whole")
    assert (found.strategy, found.pools) == (EXCLUSIVE, ("h100-80gb-exclusive",))
    assert (found.of(1), found.of(4)) == ((GPU, 1), (GPU, 4))


# --- Steering ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "nodes", "steered"),
    [
        (ask(EXCLUSIVE), ("whole",), True),
        (ask(MIG), ("single",), True),
        (ask(TIME), ("time",), True),
        (ask(MIG), ("mixed",), False),
        (ask(MIG), ("mixed", "whole", "time"), False),
        (ask(TIME), ("time-renamed", "whole"), False),
        (ask(MIG, counts=(2,), multi_gpu=MultiGPU.EACH), ("mixed",), False),
        (ask(MIG, counts=(2,)), ("h100-both",), True),
        (ask(MIG, counts=(1, 2)), ("h100-both",), True),
        (ask(MIG, models=("*H100*",)), ("mixed",), False),
    ],
)
def test_a_pod_is_steered_where_the_name_alone_would_not_do(
    asked: GpuRequirement,
    nodes: tuple[str, ...],
    *,
    steered: bool,
) -> None:
    assert chosen(asked, *nodes).steered is steered


@pytest.mark.parametrize(
    "asked", [ask(MIG, models=("*H100*",)), ask(MIG, memory=9_900)], ids=["models", "size"]
)
def test_a_pod_is_steered_away_from_pools_of_the_name_that_were_ruled_out(asked: GpuRequirement) -> None:
    found = choose(
        asked,
        pools(
            ("a", *mixed(A100_80, 81920, _1g_10gb=(7, 9728))), ("b", *mixed(H100, 81559, _1g_10gb=(7, 9984)))
        ),
    )
    assert isinstance(found, Choice)
    assert (found.pools, found.steered) == (("h100-80gb-mig-mixed",), True)


def test_pools_of_one_name_that_all_fit_leave_the_pod_free() -> None:
    found = choose(
        ask(MIG),
        pools(
            ("a", *mixed(A100_80, 81920, _1g_10gb=(7, 9728))), ("b", *mixed(H100, 81559, _1g_10gb=(7, 9984)))
        ),
    )
    assert isinstance(found, Choice)
    assert (found.pools, found.steered) == (("a100-80gb-mig-mixed", "h100-80gb-mig-mixed"), False)


def test_a_share_and_a_slice_of_one_name_are_told_apart() -> None:
    shared = {
        **MIXED,
        **whole(A100_80, 1, 81920, replicas=0),
        **slices(A100_80, "1g.10gb", 7, 9728, 2, "time-slicing"),
    }
    found = choose(
        ask(MIG),
        pools(("a", shared, {"mig-1g.10gb": 14}), ("b", *mixed(H100, 81559, _1g_10gb=(7, 9984)))),
    )
    assert isinstance(found, Choice)
    assert (found.pools, found.steered) == (("h100-80gb-mig-mixed",), True)


def test_larger_shares_of_the_name_serve_too_and_smaller_ones_are_preferred() -> None:
    l4 = whole("NVIDIA-L4-SHARED", 1, 23034, 4, "time-slicing")
    known = pools(
        ("a", l4, {"gpu": 4}),
        ("b", {**l4, "gpu.replicas": "8"}, {"gpu": 8}),
        ("c", whole("NVIDIA-L4", 1, 23034), {"gpu": 1}),
    )
    found = choose(ask(TIME), known)
    assert isinstance(found, Choice)
    assert found.pools == ("l4-time-slicing-x8", "l4-time-slicing-x4")
    found = choose(ask(TIME, spill=False), known)
    assert isinstance(found, Choice)
    assert found.pools == ("l4-time-slicing-x8",)


def test_what_a_template_names_beside_must_be_in_the_same_pool() -> None:
    beside = ("nvidia.com/mig-3g.40gb",)
    assert chosen(ask(MIG, beside=beside), "mixed", "single").pools == ("h100-80gb-mig-mixed",)
    assert tried(ask(EXCLUSIVE, beside=beside), "mixed", "whole") == (
        "exclusive: no pool that offers it has nvidia.com/mig-3g.40gb too",
    )


# --- Explaining -------------------------------------------------------------------------------------------


def test_every_pool_is_looked_at_until_a_strategy_serves() -> None:
    asked = ask(EXCLUSIVE, MIG, memory=100_000, models=("*H100*",))
    assert allocate(asked, tuple(inventory("mixed", "whole", "partly"))).pools_in_words() == [
        ("a100-40gb-mig-mixed", "exclusive: it is none of *H100*; mig: it is none of *H100*"),
        ("h100-80gb-exclusive", "exclusive: nothing offered holds 100000 MiB; mig: it does not offer it"),
        ("h100-80gb-mig-mixed", "exclusive: it does not offer it; mig: nothing offered holds 100000 MiB"),
    ]
    asked = ask(MIG, EXCLUSIVE, memory=15_000)
    assert allocate(asked, tuple(inventory("mixed", "whole"))).pools_in_words() == [
        ("h100-80gb-exclusive", "mig: it does not offer it"),
        ("h100-80gb-mig-mixed", "mig: nvidia.com/mig-2g.20gb (8), nvidia.com/mig-3g.40gb (8) fits"),
    ]


def test_a_pool_whose_nodes_are_not_believed_is_told_with_the_reason() -> None:
    doubted = {"nvidia.com/gpu.count": "7"}
    known = pools(
        ("n1", {**whole(H100, 8, 81559), **doubted}, {"gpu": 8}),
        ("n2", {**whole(H100, 8, 81559), **doubted}, {"gpu": 8}),
    )
    reason = "n1 (labels give 7 of nvidia.com/gpu, the capacity is 8) and 1 more"
    assert allocate(ask(MIG, EXCLUSIVE), known).pools_in_words() == [
        (
            "h100-80gb-exclusive",
            f"mig: it does not offer it; exclusive: its nodes are not counted: {reason}",
        )
    ]
    outcome = choose(ask(EXCLUSIVE), known)
    assert isinstance(outcome, NothingFits)
    assert outcome.tried == (f"exclusive: the nodes that would offer it are not counted: {reason}",)
    # Boards of another model would not do, believed or not.
    assert choose(ask(EXCLUSIVE, models=("*A10*",)), known) == NothingFits(("exclusive: no pool offers it",))


def test_the_most_that_one_unit_holds_leaves_out_what_must_be_named() -> None:
    known = pools(("n", *mixed(H100, 81559, **{"1g_10gb": (5, 9984), "1g_20gb_me": (1, 20096)})))
    outcome = choose(ask(MIG, memory=50_000), known)
    assert isinstance(outcome, NothingFits)
    assert outcome.largest == 9984


def test_a_pool_without_what_is_named_beside_is_told() -> None:
    asked = ask(MIG, beside=("nvidia.com/mig-3g.40gb",))
    assert allocate(asked, tuple(inventory("single"))).pools_in_words() == [
        ("a100-80gb-mig-single-1g-10gb", "mig: it has not nvidia.com/mig-3g.40gb too")
    ]


# --- Remembering ------------------------------------------------------------------------------------------


def test_a_choice_is_remembered_until_a_pool_changes() -> None:
    known = world("whole")
    asked = ask(MIG, EXCLUSIVE)
    first = known.allocate(asked).outcome
    assert isinstance(first, Choice)
    assert first.strategy is EXCLUSIVE
    assert known.allocate(asked).outcome is first
    known.pools.see(NODES["mixed"].node("late"))
    second = known.allocate(asked).outcome
    assert isinstance(second, Choice)
    assert second.strategy is MIG
    known.pools.put("late", None)
    assert known.allocate(asked).outcome == first


@pytest.mark.parametrize("nodes", [EVERY, EVERY[::-1]], ids=["one way", "the other"])
@pytest.mark.parametrize("strategy", get_args(ClassStrategy))
def test_the_order_in_which_nodes_came_changes_nothing(nodes: tuple[str, ...], strategy: Strategy) -> None:
    named = {name: NODES[name].node(name) for name in EVERY}
    known = Inventory(named[name] for name in nodes)
    assert choose(ask(strategy), tuple(known)) == choose(ask(strategy), tuple(Inventory(named.values())))


# --- A pool is not one big node ---------------------------------------------------------------------------

L4, A10, T4 = "NVIDIA-L4", "NVIDIA-A10", "Tesla-T4"


def boards(
    name: str, product: str, count: int, memory: int
) -> tuple[str, dict[str, str], dict[str, int | str]]:
    return name, whole(product, count, memory), {"gpu": count}


FOURS = [boards(f"l4-{index}", L4, 4, 23034) for index in range(3)]
EIGHTS = [boards(f"h100-{index}", H100, 8, 81559) for index in range(2)]
MAIN, INIT, SIDECAR = Stage.MAIN, Stage.INIT, Stage.SIDECAR


def template(*requests: tuple[int, Stage]) -> GpuRequirement:
    return GpuRequirement(
        (EXCLUSIVE,), tuple(ContainerRequest(gpus, stage=stage) for gpus, stage in requests)
    )


@pytest.mark.parametrize(
    ("requests", "served"),
    [
        (((4, MAIN),), "both"),
        (((8, MAIN),), "eights"),
        (((5, MAIN), (3, MAIN)), "eights"),
        (((1, MAIN),) * 5, "eights"),
        (((9, MAIN),), "none"),
        (((5, MAIN), (4, MAIN)), "none"),
        # An init container is over before the others start.
        (((4, INIT), (4, MAIN)), "both"),
        (((8, INIT), (1, MAIN)), "eights"),
        (((4, INIT), (3, INIT), (2, MAIN)), "both"),
        # A sidecar goes on beside what follows it.
        (((4, SIDECAR), (1, MAIN)), "eights"),
        (((1, SIDECAR), (4, INIT), (1, MAIN)), "eights"),
        (((4, INIT), (1, SIDECAR), (3, MAIN)), "both"),
        (((4, SIDECAR), (5, MAIN)), "none"),
    ],
)
def test_what_the_containers_ask_for_together_fits_on_one_node(
    requests: tuple[tuple[int, Stage], ...], served: str
) -> None:
    found = choose(template(*requests), pools(*FOURS, *EIGHTS))
    named = {
        "both": ("l4-exclusive", "h100-80gb-exclusive"),
        "eights": ("h100-80gb-exclusive",),
        "none": (),
    }
    assert (found.pools if isinstance(found, Choice) else ()) == named[served]


@pytest.mark.parametrize(
    ("asked", "nodes", "words", "most"),
    [
        (
            ask(EXCLUSIVE, counts=(16,)),
            (*FOURS, *EIGHTS),
            "exclusive: 16 nvidia.com/gpu are asked for together, and the most on one node is 8",
            8,
        ),
        (
            ask(MIG, counts=(8,)),
            (*FOURS, ("m", *mixed(A100_80, 81920, _1g_10gb=(7, 9728)))),
            (
                "mig: more than one means whole GPUs (multiGPU: whole); "
                "exclusive: 8 nvidia.com/gpu are asked for together, and the most on one node is 4"
            ),
            4,
        ),
        (
            ask(MIG, counts=(5,), multi_gpu=MultiGPU.EACH),
            [(f"m{index}", *mixed(A100_40, 40960, _1g_10gb=(4, 9856))) for index in range(3)],
            "mig: 5 nvidia.com/mig-1g.10gb are asked for together, and the most on one node is 4",
            4,
        ),
        (
            ask(MIG, beside=("nvidia.com/mig-3g.40gb",)),
            (
                ("a", *mixed(A100_80, 81920, _1g_10gb=(7, 9728))),
                ("b", *mixed(A100_80, 81920, _3g_40gb=(2, 40192))),
            ),
            (
                "mig: 1 nvidia.com/mig-1g.10gb and 1 nvidia.com/mig-3g.40gb are asked for together, "
                "and no node has them together"
            ),
            0,
        ),
    ],
    ids=["boards", "boards for slices", "slices", "two names"],
)
def test_a_refusal_says_the_most_on_one_node(
    asked: GpuRequirement, nodes: Any, words: str, most: int
) -> None:
    if asked.also_needs:  # the larger slice would serve both containers
        asked = GpuRequirement(asked.strategies, asked.containers, profile="1g.10gb")
    found = choose(asked, pools(*nodes))
    assert isinstance(found, NothingFits)
    assert (found.tried, found.most) == ((words,), most)


def test_shares_and_vgpus_are_counted_on_one_node_too() -> None:
    shared: list[Any] = [
        (f"t{n}", whole(f"{T4}-SHARED", 1, 15360, 4, "time-slicing"), {"gpu": 4}) for n in range(2)
    ]
    each = MultiGPU.EACH
    assert isinstance(choose(ask(TIME, counts=(4,), multi_gpu=each), pools(*shared)), Choice)
    assert isinstance(choose(ask(TIME, counts=(5,), multi_gpu=each), pools(*shared)), NothingFits)
    assert isinstance(choose(ask(VGPU, counts=(1, 1)), tuple(inventory("vgpu", "vgpu"))), NothingFits)


def test_boards_that_are_lost_for_good_are_not_counted_on_a_node() -> None:
    one, two = boards("a", L4, 4, 23034), boards("b", L4, 2, 23034)
    assert isinstance(choose(ask(EXCLUSIVE, counts=(4,)), pools(one, two)), Choice)
    assert isinstance(choose(ask(EXCLUSIVE, counts=(6,)), pools(one, two)), NothingFits)


# --- Every pool that offers the name ----------------------------------------------------------------------

MIXED_SIZES = (
    boards("a10-0", A10, 1, 23028),
    *(boards(f"h100-{index}", H100, 7, 81559) for index in range(4)),
    boards("a100-0", A100_80, 8, 81920),
)
SINGLES: tuple[tuple[str, dict[str, str], dict[str, int | str]], ...] = tuple(
    (profile, {**SINGLE, **whole(f"{A100_80}-MIG-{profile}", count, memory)}, {"gpu": count})
    for profile, count, memory in (("1g.10gb", 7, 9728), ("3g.40gb", 2, 40192))
)


@pytest.mark.parametrize(
    ("asked", "nodes", "tiers"),
    [
        (
            ask(EXCLUSIVE),
            MIXED_SIZES,
            (("a10-exclusive",), ("h100-80gb-exclusive",), ("a100-80gb-exclusive",)),
        ),
        (ask(EXCLUSIVE, spill=False), MIXED_SIZES, (("a10-exclusive",),)),
        (ask(EXCLUSIVE, counts=(2,)), MIXED_SIZES, (("h100-80gb-exclusive",), ("a100-80gb-exclusive",))),
        (ask(EXCLUSIVE, counts=(2,), spill=False), MIXED_SIZES, (("h100-80gb-exclusive",),)),
        (
            ask(EXCLUSIVE, memory=40_000),
            MIXED_SIZES,
            (("h100-80gb-exclusive",), ("a100-80gb-exclusive",)),
        ),
        (ask(MIG), SINGLES, (("a100-80gb-mig-single-1g-10gb",), ("a100-80gb-mig-single-3g-40gb",))),
        (ask(MIG, spill=False), SINGLES, (("a100-80gb-mig-single-1g-10gb",),)),
        (ask(MIG, profile="3g.40gb"), SINGLES, (("a100-80gb-mig-single-3g-40gb",),)),
        (
            ask(EXCLUSIVE),
            (boards("a", H100, 1, 80000), boards("b", A100_80, 8, 80000)),
            (("a100-80gb-exclusive", "h100-80gb-exclusive"),),
        ),
        (
            ask(MIG, spill=False),
            (
                ("a", *mixed(A100_80, 81920, _1g_10gb=(7, 9728))),
                ("b", *mixed(H100, 81559, _1g_10gb=(7, 9984))),
            ),
            (("a100-80gb-mig-mixed",), ("h100-80gb-mig-mixed",)),
        ),
    ],
    ids=[
        "whole boards",
        "whole boards of the smallest size",
        "two at once",
        "two at once of the smallest size",
        "a size",
        "slices of one name",
        "slices of one name of the smallest size",
        "a profile",
        "one size",
        "a name that says the size",
    ],
)
def test_pools_of_the_name_serve_the_smaller_ones_first(
    asked: GpuRequirement, nodes: Any, tiers: tuple[tuple[str, ...], ...]
) -> None:
    found = choose(asked, pools(*nodes))
    assert isinstance(found, Choice)
    assert found.pools == tuple(pool for tier in tiers for pool in tier)
    assert found.quantity == sum(
        pool.resources[found.name].quantity for pool in pools(*nodes) if pool.name in found.pools
    )


def test_a_pool_that_is_shared_somehow_is_named_with_the_label_that_would_say_how() -> None:
    found = choose(ask(TIME), pools(("a", {}, {"gpu.shared": 10})))
    assert isinstance(found, NothingFits)
    assert found.tried == (
        (
            "time-slicing: no pool offers it, and no label says how unknown-shared is shared; set "
            "nvidia.com/gpu.product and nvidia.com/gpu.sharing-strategy on its nodes"
        ),
    )
    labels = {"gpu.product": L4, "gpu.sharing-strategy": "time-slicing"}
    assert isinstance(choose(ask(TIME), pools(("a", labels, {"gpu.shared": 10}))), Choice)


# --- Lasting taints ---------------------------------------------------------------------------------------

TAINT = {"key": "team", "value": "x", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("taint", "tolerations", "serves"),
    [
        (TAINT, (), False),
        (TAINT, (Toleration("team", "Equal", "x", "NoSchedule"),), True),
        (TAINT, (Toleration("team", "Equal", "x"),), True),
        (TAINT, (Toleration("team", "Exists"),), True),
        (TAINT, (Toleration(operator="Exists"),), True),
        (TAINT, (Toleration("team", "Equal", "y"),), False),
        (TAINT, (Toleration("team", "Exists", effect="NoExecute"),), False),
        (TAINT, (Toleration("", "Equal", "x"),), False),
        ({**TAINT, "effect": "NoExecute"}, (), False),
        ({**TAINT, "effect": "PreferNoSchedule"}, (), True),
        ({"key": GPU, "effect": "NoSchedule"}, (), True),
        ({"key": GPU, "value": "present", "effect": "NoSchedule"}, (), True),
    ],
)
def test_a_pool_serves_whom_its_lasting_taints_let_in(
    taint: dict[str, str], tolerations: tuple[Toleration, ...], *, serves: bool
) -> None:
    name, labels, status = boards("a", L4, 4, 23034)
    tainted = tuple(Inventory([read(document(name, labels, status, spec={"taints": [taint]}))]))
    found = choose(ask(EXCLUSIVE, tolerations=tolerations), tainted)
    assert isinstance(found, Choice) is serves
    if isinstance(found, NothingFits):
        value, effect = taint["value"], taint["effect"]
        assert found.tried == (
            f"exclusive: the nodes that offer it have taints that the pod does not tolerate: team={value}:{effect}",
        )


@pytest.mark.parametrize("node_name", ["", "a"])
def test_every_taint_that_is_in_the_way_is_named(node_name: str) -> None:
    name, labels, status = boards("a", L4, 4, 23034)
    taints = [TAINT, {"key": "spot", "effect": "NoExecute"}, {"key": "held", "effect": "NoSchedule"}]
    tainted = tuple(Inventory([read(document(name, labels, status, spec={"taints": taints}))]))
    pinned = NodeFilter(lambda node: node.name == "a", node_name) if node_name else None
    asked = ask(EXCLUSIVE, tolerations=(Toleration("held", "Exists"),))
    found = allocate(asked, tainted, pinned).outcome
    assert isinstance(found, NothingFits)
    assert (found.tainted, found.pinned) == (True, False)
    assert found.tried == (
        (
            "exclusive: the nodes that offer it have taints that the pod does not tolerate: "
            "spot:NoExecute and team=x:NoSchedule"
        ),
    )


def test_a_share_of_the_name_that_only_its_taint_keeps_out_is_kept_from_a_slice() -> None:
    shared = {
        **MIXED,
        **whole(A100_80, 1, 81920, replicas=0),
        **slices(A100_80, "1g.10gb", 7, 9728, 2, "time-slicing"),
    }
    share = document("a", shared, {"mig-1g.10gb": 14}, spec={"taints": [TAINT]})
    slice_ = document("b", *mixed(H100, 81559, _1g_10gb=(7, 9984)))
    found = choose(ask(TIME, MIG), tuple(Inventory([read(share), read(slice_)])))
    assert isinstance(found, Choice)
    assert (found.pools, found.steered) == (("h100-80gb-mig-mixed",), True)


# --- Models, node by node ---------------------------------------------------------------------------------

PACKAGED = (
    boards("sxm", "NVIDIA-A100-SXM4-40GB", 8, 40960),
    boards("pcie", "NVIDIA-A100-PCIE-40GB", 4, 40960),
)


@pytest.mark.parametrize(
    ("globs", "labels"),
    [
        (("*SXM*",), (NodeLabel("nvidia.com/gpu.product", "In", ("NVIDIA-A100-SXM4-40GB",)),)),
        (("*PCIE*",), (NodeLabel("nvidia.com/gpu.product", "In", ("NVIDIA-A100-PCIE-40GB",)),)),
        (("*A100*",), ()),
        ((), ()),
    ],
)
def test_a_pool_of_two_packagings_serves_with_the_nodes_that_match(
    globs: tuple[str, ...], labels: tuple[NodeLabel, ...]
) -> None:
    found = choose(ask(EXCLUSIVE, models=globs), pools(*PACKAGED))
    assert isinstance(found, Choice)
    assert (found.pools, found.node_labels) == (("a100-40gb-exclusive",), labels)


def test_the_most_on_one_node_is_that_of_the_nodes_that_match() -> None:
    found = choose(ask(EXCLUSIVE, counts=(8,), models=("*PCIE*",)), pools(*PACKAGED))
    assert isinstance(found, NothingFits)
    assert found.most == 4


def test_slices_of_one_packaging_are_steered_to_its_nodes() -> None:
    known = pools(
        ("a", *mixed(A100_40, 40960, _1g_5gb=(7, 4864))),
        ("b", *mixed("NVIDIA-A100-PCIE-40GB", 40960, _1g_5gb=(7, 4864))),
    )
    found = choose(ask(MIG, models=("*SXM*",)), known)
    assert isinstance(found, Choice)
    assert found.steered
    assert found.node_labels == (NodeLabel("nvidia.com/gpu.product", "In", (A100_40,)),)


# --- Every node -------------------------------------------------------------------------------------------


def test_a_pod_for_every_node_is_always_steered() -> None:
    found = choose(ask(MIG, every_node=True), tuple(inventory("mixed")))
    assert isinstance(found, Choice)
    assert found.steered
