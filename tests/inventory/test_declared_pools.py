"""What plans declare of pools that an autoscaler may add."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.api.policy import QuotaPlan, read_plan
from slicewise.gpu.strategies import MultiGPU, Strategy
from slicewise.inventory.allocation import Choice, NothingFits, Outcome, allocate
from slicewise.inventory.declared_pools import may_offer, missing_nodes, smallest_unit, with_declared
from slicewise.inventory.gpu_requirement import ContainerRequest, GpuRequirement, Toleration
from slicewise.inventory.node_resources import Resource
from slicewise.inventory.pools import Inventory, Pool
from tests.inventory.nodes import A100_40, Object, document, read, whole

GPU = "nvidia.com/gpu"
L4 = "l4-exclusive"
MIG, TIME, MPS, VGPU, EXCLUSIVE = (
    Strategy.MIG,
    Strategy.TIME_SLICING,
    Strategy.MPS,
    Strategy.VGPU,
    Strategy.EXCLUSIVE,
)


def plan(maximum: Object, status: Any = None, **spec: Any) -> QuotaPlan:
    return read_plan(
        {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "QuotaPlan",
            "metadata": {"name": spec.pop("name", "research")},
            "spec": {"engine": "kueue", "queues": [{"name": "a"}], "maximum": maximum, **spec},
            "status": status,
        }
    )


def nodes(*counts: int, product: str = "NVIDIA-L4", memory: int = 23034) -> Inventory:
    return Inventory(
        read(document(f"n{index}", whole(product, count, memory), {"gpu": count}))
        for index, count in enumerate(counts)
    )


def only(pools: tuple[Pool, ...]) -> Pool:
    (pool,) = pools
    return pool


@pytest.mark.parametrize(
    ("pool", "name", "resource"),
    [
        (L4, GPU, Resource(GPU, 8, EXCLUSIVE, 23034)),
        ("a100-40gb-exclusive", GPU, Resource(GPU, 8, EXCLUSIVE, 40960)),
        ("t4-time-slicing-x10", GPU, Resource(GPU, 8, TIME, 15360, replicas=10)),
        (
            "t4-time-slicing-x10",
            "nvidia.com/gpu.shared",
            Resource("nvidia.com/gpu.shared", 8, TIME, 15360, replicas=10),
        ),
        ("a100-40gb-mps-x4", GPU, Resource(GPU, 8, MPS, 10240, replicas=4)),
        ("a40-vgpu", GPU, Resource(GPU, 8, VGPU, 46068)),
        ("a100-40gb-mig-single-1g-5gb", GPU, Resource(GPU, 8, MIG, 4864, 1, "1g.5gb")),
        ("a100-80gb-mig-single-1g-10gb-me", GPU, Resource(GPU, 8, MIG, 9728, 1, "1g.10gb.me")),
        (
            "h100-80gb-mig-mixed",
            "nvidia.com/mig-1g.10gb",
            Resource("nvidia.com/mig-1g.10gb", 8, MIG, 9984, 1, "1g.10gb"),
        ),
        ("h100-80gb-mig-mixed", GPU, Resource(GPU, 8, EXCLUSIVE, 81559)),
    ],
)
def test_a_pool_without_nodes_is_what_its_name_says(pool: str, name: str, resource: Resource) -> None:
    found = only(with_declared((), [plan({pool: {name: 8}})]))
    assert (found.name, dict(found.resources)) == (pool, {name: resource})
    assert list(missing_nodes([found])) == [found]


@pytest.mark.parametrize(
    ("maximum", "spec"),
    [
        ({L4: {GPU: 0}}, {}),
        ({"l4-*": {GPU: 8}}, {}),
        ({L4: {GPU: 8}}, {"mode": "report"}),
        ({L4: {GPU: 8}}, {"pools": {"matchNames": ["h100-*"]}}),
        ({"gpus-of-mine": {GPU: 8}}, {}),
        ({"a100-40gb-mig-single-1g-5gb-x2": {GPU: 8}}, {}),
        ({L4: {"cpu": 8}}, {"cover": ["cpu"]}),
    ],
    ids=[
        "of nothing",
        "by a glob",
        "in a report",
        "of another plan's",
        "of no pool's name",
        "of shares of nobody knows what kind",
        "of a cpu",
    ],
)
def test_what_declares_no_pool(maximum: Object, spec: Object) -> None:
    assert with_declared((), [plan(maximum, **spec)]) == ()


def test_a_glob_declares_what_the_plan_fed_from_before() -> None:
    status = {"pools": [{"name": L4}, {"name": "h100-80gb-exclusive"}, {"name": 5}, None]}
    found = with_declared((), [plan({"l4-*": {GPU: 8}}, status)])
    assert [pool.name for pool in found] == [L4]


@pytest.mark.parametrize("status", [None, [], {}, {"pools": None}, {"pools": {}}, {"pools": "x"}])
def test_a_status_of_another_shape_declares_nothing(status: Any) -> None:
    assert with_declared((), [plan({"l4-*": {GPU: 8}}, status)]) == ()


def served(asked: GpuRequirement, pools: tuple[Pool, ...]) -> Outcome:
    return allocate(asked, pools).outcome


def boards(*counts: int, **fields: Any) -> GpuRequirement:
    return GpuRequirement((EXCLUSIVE,), tuple(map(ContainerRequest, counts)), **fields)


@pytest.mark.parametrize(
    ("count", "per_node", "standing", "most"),
    [
        (8, None, (), None),
        (9, None, (), 8),
        (4, {GPU: 4}, (), None),
        (5, {GPU: 4}, (), 4),
        (8, {GPU: 16}, (), None),
        # Nodes that stand say what those that come will be like, unless the plan says otherwise.
        (2, None, (2,), None),
        (3, None, (2,), 2),
        (4, {GPU: 4}, (2,), None),
        (5, {GPU: 4}, (2,), 4),
        (2, {GPU: 1}, (2,), None),
    ],
)
def test_the_count_is_bound_by_what_one_node_will_have(
    count: int, per_node: Object | None, standing: tuple[int, ...], most: int | None
) -> None:
    known = plan({L4: {GPU: 8}}, perNode={"l4-*": per_node} if per_node else {})
    found = served(boards(count), with_declared(nodes(*standing), [known]))
    if most is None:
        assert isinstance(found, Choice)
        assert (found.pools, found.steered) == ((L4,), True)
    else:
        assert isinstance(found, NothingFits)
        assert found.most == most


def test_quantities_of_nodes_that_stand_are_not_made_larger() -> None:
    found = only(with_declared(nodes(2), [plan({L4: {GPU: 8}}, perNode={L4: {GPU: 4}})]))
    assert found.resources[GPU].quantity == 2


def test_a_name_that_no_node_has_yet_is_added_to_its_pool() -> None:
    name = "nvidia.com/mig-3g.20gb"
    labels = {**whole(A100_40, 1, 40960, replicas=0), "mig.strategy": "mixed"}
    labels |= {"mig-1g.5gb.count": "7", "mig-1g.5gb.replicas": "1", "mig-1g.5gb.memory": "4864"}
    standing = Inventory([read(document("n", labels, {"mig-1g.5gb": 7}))])
    found = only(with_declared(standing, [plan({"a100-40gb-mig-mixed": {name: 2}})]))
    assert set(found.resources) == {"nvidia.com/mig-1g.5gb", name}
    asked = GpuRequirement((MIG,), profile="3g.20gb", multi_gpu=MultiGPU.EACH)
    assert isinstance(served(asked, (found,)), Choice)


@pytest.mark.parametrize(
    ("globs", "serves"),
    [
        (("*A100*",), True),
        (("NVIDIA-A100-SXM4-40GB",), True),
        (("*PCIE*",), True),
        (("*H100*",), False),
    ],
)
def test_models_are_matched_by_what_the_name_leaves_open(globs: tuple[str, ...], *, serves: bool) -> None:
    known = with_declared((), [plan({"a100-40gb-exclusive": {GPU: 8}})])
    found = served(boards(1, models=globs), known)
    assert isinstance(found, Choice) is serves
    if isinstance(found, Choice):
        assert found.node_labels == ()


def test_a_board_holds_what_the_table_says_and_an_unknown_one_no_size() -> None:
    known = with_declared((), [plan({L4: {GPU: 8}})])
    assert isinstance(served(boards(1, memory=23034), known), Choice)
    assert isinstance(served(boards(1, memory=23035), known), NothingFits)
    known = with_declared((), [plan({"x1000-exclusive": {GPU: 8}})])
    assert isinstance(served(boards(1), known), Choice)
    assert isinstance(served(boards(1, memory=1), known), NothingFits)


TAINT = {"key": "team", "value": "x", "effect": "NoSchedule"}


def test_a_node_to_come_has_the_taints_of_its_pool() -> None:
    labels, spec = whole("NVIDIA-L4", 2, 23034), {"taints": [TAINT]}
    standing = Inventory([read(document("n", labels, {"gpu": 2}, spec=spec))])
    (pool,) = standing
    known = with_declared(standing, [plan({pool.name: {GPU: 8}}, perNode={pool.name: {GPU: 4}})])
    assert isinstance(served(boards(4), known), NothingFits)
    tolerating = boards(4, tolerations=(Toleration("team", "Exists"),))
    assert isinstance(served(tolerating, known), Choice)


def test_a_pool_whose_taints_nobody_knows_is_not_declared() -> None:
    labels, spec = whole("NVIDIA-L4", 2, 23034), {"taints": [TAINT]}
    (l4,) = Inventory([read(document("n", labels, {"gpu": 2}, spec=spec))])
    other = l4.name.replace("l4-", "a10-")
    assert with_declared((), [plan({other: {GPU: 8}})]) == ()
    assert {pool.name for pool in with_declared([l4], [plan({other: {GPU: 8}})])} == {l4.name, other}


def test_several_plans_declare_together() -> None:
    plans = [plan({L4: {GPU: 8}}), plan({"t4-exclusive": {GPU: 4}}, name="other")]
    assert [pool.name for pool in with_declared(nodes(1, product="NVIDIA-A10"), plans)] == [
        "a10-exclusive",
        L4,
        "t4-exclusive",
    ]


@pytest.mark.parametrize(
    ("pool", "resource", "possible"),
    [
        (L4, GPU, True),
        ("h100-80gb-mig-mixed", "nvidia.com/mig-1g.10gb", True),
        ("h100-80gb-mig-mixed", GPU, True),
        ("h100-80gb-mig-mixed-x2", "nvidia.com/mig-1g.10gb.shared", True),
        ("h100-80gb-mig-dynamic", "nvidia.com/mig-3g.40gb", True),
        ("x9000-mig-mixed", "nvidia.com/mig-1g.99gb", True),  # nothing is known of such boards
        ("h100-80gb-mig-mixed", "nvidia.com/mig-1g.5gb", False),
        ("l4-mig-mixed", "nvidia.com/mig-1g.5gb", False),
        ("l4-mig-mixed", GPU, False),  # no such board can be divided
        ("t4-mig-dynamic", GPU, False),
        ("x9000-mig-mixed", GPU, True),
        (L4, "nvidia.com/mig-1g.5gb", False),
        ("h100-80gb-mig-single-1g-10gb", "nvidia.com/mig-1g.10gb", False),
        ("t4-exclusive", f"{GPU}.shared", False),
        ("a10-6gb-vgpu", f"{GPU}.shared", False),
        ("t4-time-slicing-x10", f"{GPU}.shared", True),
        ("h100-80gb-mig-mixed", f"{GPU}.shared", False),
        ("h100-80gb-mig-mixed", "nvidia.com/mig-1g.10gb.shared", False),
        ("h100-80gb-mig-mixed-gpu-x2", "nvidia.com/mig-1g.10gb.shared", False),
        ("h100-80gb-mig-dynamic", "nvidia.com/mig-1g.10gb.shared", False),
        ("h100-80gb-mig-single-9g-99gb", GPU, False),
        ("h100-80gb-mig-single-invalid", GPU, False),
        ("h100-80gb-mig-single-1g-10gb", f"{GPU}.shared", False),
        ("x9000-mig-single-9g-99gb", GPU, True),
        ("l4-mig-single-1g-10gb", GPU, False),
        ("l4-0gb-vgpu", GPU, False),
        ("t4-mps-x99999999", GPU, False),
        ("L4-exclusive", GPU, False),
        ("l4", GPU, False),
        (f"{'x' * 60}-exclusive", GPU, False),
    ],
)
def test_what_no_node_of_a_pool_will_have_is_not_declared(
    pool: str, resource: str, *, possible: bool
) -> None:
    assert may_offer(pool, resource) is possible
    declared = with_declared((), [plan({pool: {resource: 8}})])
    assert bool(declared) is (possible and not resource.startswith("nvidia.com/mig-1g.10gb.shared"))


ENDS = (
    "",
    "-x0",
    "-x00",
    "-x04",
    "-x4",
    "-x\u0663",
    "-x\u00b2",
    "-x99999999",
    "-invalid",
    "-gpu-x0",
    "-*",
    "-[",
    "-[!l",
)
RESOURCES = (GPU, f"{GPU}.shared", "nvidia.com/mig-1g.10gb")


def write_maximum(name: str) -> None:
    for resource in RESOURCES:
        may_offer(name, resource)
        smallest_unit(name, [resource])
        with_declared(nodes(2), [plan({name: {resource: 1}})])


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "division", ["exclusive", "mps", "vgpu", "mig-single-1g-10gb", "mig-single", "mig-mixed"]
)
def test_what_is_like_a_pools_name_raises_nothing(division: str, end: str) -> None:
    for model in ("l4", "h100-80gb", "*", "0gb"):
        write_maximum(f"{model}-{division}{end}")


@given(st.text(min_size=1, max_size=70))
def test_whatever_a_plan_writes_as_a_pools_name_raises_nothing(name: str) -> None:
    write_maximum(name)
