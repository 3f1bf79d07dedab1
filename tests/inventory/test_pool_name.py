"""The name of a pool: format and parse are exact inverses, and what is cut is never the division."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.gpu.strategies import Strategy
from slicewise.inventory.node import Taint
from slicewise.inventory.pool_name import PoolName

LONG = "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition"
TEAM = Taint("team", "NoSchedule", "a")

DIVISIONS = [
    "exclusive",
    "vgpu",
    "shared",
    "time-slicing-x10",
    "mps-x48",
    "mig-mixed",
    "mig-mixed-x4",
    "mig-mixed-shared",
    "mig-mixed-1g-10gb-x4-2g-20gb-x2",
    "mig-mixed-gpu-x8",
    "mig-dynamic",
    "mig-single-1g-5gb",
    "mig-single-1g-24gb-me-all",
    "mig-single-1g-24gb-no-me-x4",
    "mig-single-1g-5gb-shared",
]


@pytest.mark.parametrize(
    ("model", "division", "name"),
    [
        ("NVIDIA-H100-80GB-HBM3", "mig-mixed", "h100-80gb-mig-mixed"),
        ("NVIDIA-A100-SXM4-40GB", "mig-single-1g.5gb", "a100-40gb-mig-single-1g-5gb"),
        ("Tesla-T4", "time-slicing-x10", "t4-time-slicing-x10"),
        ("", "exclusive", "unknown-exclusive"),
        # 55 characters of model: cut, so that the strategy stays readable and no two models share a name.
        (LONG, "time-slicing-x10", "rtx-pro-6000-blackwell-max-q-workstat-568941ad-time-slicing-x10"),
    ],
)
def test_names(model: str, division: str, name: str) -> None:
    assert PoolName.of(model, division).format() == name


models = st.one_of(
    st.sampled_from([LONG, "NVIDIA-H100-80GB-HBM3", "exclusive", "a-mig-mixed-b", "x-tainted-00000000", ""]),
    st.text(max_size=90),
    st.lists(st.sampled_from(["mig", "mixed", "single", "mps", "x4", "tainted", "a1b2c3d4", "l4"])).map(
        "-".join
    ),
)
taints = st.lists(
    st.builds(Taint, st.text(max_size=9), st.just("NoSchedule"), st.text(max_size=9)), max_size=3
)


@given(models, st.sampled_from(DIVISIONS), taints)
def test_parse_is_the_inverse_of_format(model: str, division: str, tainted: list[Taint]) -> None:
    made = PoolName.of(model, division, tainted)
    name = made.format()
    assert PoolName.parse(name) == made
    assert made.division == division
    assert len(name) <= 63
    assert name.replace("-", "a").isalnum()
    assert name == name.lower().strip("-")


@given(st.text(max_size=70))
def test_what_is_parsed_is_formatted_as_it_came(text: str) -> None:
    parsed = PoolName.parse(text)
    assert parsed is None or parsed.format() == text


def test_taints_make_another_pool_and_their_absence_the_plain_name() -> None:
    plain = PoolName.of("NVIDIA-L4", "exclusive").format()
    tainted = PoolName.of("NVIDIA-L4", "exclusive", [TEAM]).format()
    other = PoolName.of("NVIDIA-L4", "exclusive", [Taint("team", "NoSchedule", "b")]).format()
    assert len({plain, tainted, other}) == 3
    assert tainted.startswith("l4-exclusive-tainted-")
    assert (
        PoolName.of("NVIDIA-H100-80GB-HBM3", "mig-mixed", [TEAM])
        .format()
        .startswith("h100-80gb-mig-mixed-tainted-")
    )


def test_models_that_are_cut_alike_stay_apart() -> None:
    names = {PoolName.of(LONG + suffix, "time-slicing-x10").format() for suffix in ("", "-A", "-B")}
    assert len(names) == 3


@pytest.mark.parametrize(
    ("name", "strategies"),
    [
        ("l4-exclusive", {Strategy.EXCLUSIVE}),
        ("t4-time-slicing-x10", {Strategy.TIME_SLICING}),
        ("l4-mps-x8", {Strategy.MPS}),
        ("a10-12q-vgpu", {Strategy.VGPU}),
        ("a100-40gb-mig-single-1g-5gb", {Strategy.MIG}),
        ("a100-40gb-mig-single-1g-5gb-x4", {Strategy.TIME_SLICING, Strategy.MPS}),
        ("a100-40gb-mig-single-1g-5gb-shared", {Strategy.TIME_SLICING, Strategy.MPS}),
        ("h100-80gb-mig-mixed", {Strategy.EXCLUSIVE}),
        ("h100-80gb-mig-mixed-gpu-x4", {Strategy.TIME_SLICING, Strategy.MPS}),
        ("l4-exclusive-tainted-0a1b2c3d", {Strategy.EXCLUSIVE}),
    ],
)
def test_a_name_says_what_a_plain_gpu_of_the_pool_may_be(name: str, strategies: set[Strategy]) -> None:
    parsed = PoolName.parse(name)
    assert parsed is not None
    assert parsed.strategies == strategies


@pytest.mark.parametrize(
    "name",
    [
        "",
        "exclusive",
        "l4",
        "L4-exclusive",
        "l4-mig-single",
        "l4-exclusive-tainted-x",
        "-l4-exclusive",
        "l4--exclusive",
        "l4-mps-x0",
        "l4-mps-x04",
        "l4-time-slicing-x\u0663",
        "l4-exclusive-x4",
        "a10-vgpu-x4",
        "h100-80gb-mps-x00",
        "h100-80gb-mig-single-1g-10gb-x0",
        "h100-80gb-mig-mixed-x0",
        "h100-80gb-mig-mixed-gpu-x0",
        "h100-80gb-mig-mixed-1g-10gb-x0-gpu-x4",
        "h100-80gb-mig-single-",
        f"{'x' * 54}-exclusive",
    ],
)
def test_what_is_no_name_is_none(name: str) -> None:
    assert PoolName.parse(name) is None
