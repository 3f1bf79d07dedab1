"""MIG profiles: names and resources, the table of boards, and which geometries fit."""

from itertools import combinations_with_replacement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.gpu import mig

H100 = mig.boards()["h100-80gb"]
PROFILES = sorted({(board, name) for board, facts in mig.boards().items() for name in facts.profiles})


@pytest.mark.parametrize(
    ("name", "dotted", "resource"),
    [
        ("1g.10gb", "1g.10gb", "nvidia.com/mig-1g.10gb"),
        ("1g.10gb+me", "1g.10gb.me", "nvidia.com/mig-1g.10gb.me"),
        ("1g.24gb+gfx", "1g.24gb.gfx", "nvidia.com/mig-1g.24gb.gfx"),
        ("1g.24gb+me.all", "1g.24gb.me.all", "nvidia.com/mig-1g.24gb.me.all"),
        ("1g.24gb-me", "1g.24gb-me", "nvidia.com/mig-1g.24gb-me"),
        ("1c.3g.40gb", "1c.3g.40gb", "nvidia.com/mig-1c.3g.40gb"),
        ("2c.4g.40gb+me", "2c.4g.40gb.me", "nvidia.com/mig-2c.4g.40gb.me"),
        ("3g.0gb", "3g.0gb", "nvidia.com/mig-3g.0gb"),
        ("7g.189gb", "7g.189gb", "nvidia.com/mig-7g.189gb"),
    ],
)
def test_every_spelling_of_a_name_means_one_profile(name: str, dotted: str, resource: str) -> None:
    profile = mig.parse(name)
    assert profile is not None
    assert (profile.name, profile.dotted, profile.resource) == (name, dotted, resource)
    assert mig.parse(dotted) == mig.of_resource(resource) == mig.of_resource(resource + ".shared") == profile


@pytest.mark.parametrize(("board", "name"), PROFILES, ids=[f"{board} {name}" for board, name in PROFILES])
def test_every_published_profile_goes_to_its_resource_and_back(board: str, name: str) -> None:
    profile = mig.parse(name)
    assert profile is not None
    assert profile.name == name
    assert mig.of_resource(profile.resource) == profile
    placement = mig.boards()[board].placement(profile)
    assert placement is not None
    assert placement.compute == profile.compute


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1g",
        "10gb",
        "1g.10",
        "1g.10gb+",
        "1g.10gb+ME",
        "1g.10GB",
        "mig-1g.10gb",
        "1g.10gb me",
        "g.gb",
        "9" * 5000 + "g.10gb",
        "１g.10gb",  # noqa: RUF001  a digit to Python alone
    ],
    ids=lambda text: repr(text[:20]),
)
def test_anything_else_is_no_profile(text: str) -> None:
    assert mig.parse(text) is None


@pytest.mark.parametrize(
    "name", ["nvidia.com/gpu", "nvidia.com/gpu.shared", "amd.com/mig-1g.10gb", "mig-1g.10gb"]
)
def test_other_resources_hold_no_profile(name: str) -> None:
    assert mig.of_resource(name) is None


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("1g.10gb", True),
        ("1g.10gb+me", False),
        ("1g.24gb-me", False),
        ("1g.24gb+gfx", False),
        ("1c.3g.40gb", False),
    ],
)
def test_only_a_profile_without_a_suffix_is_plain(name: str, plain: bool) -> None:  # noqa: FBT001
    profile = mig.parse(name)
    assert profile is not None
    assert profile.plain is plain


@given(
    st.integers(1, 8),
    st.integers(0, 300),
    st.sampled_from(["", "+me", "+gfx", "+me.all", "-me"]),
    st.none() | st.integers(1, 7),
)
def test_names_and_resources_are_each_others_inverse(
    compute: int, gigabytes: int, attributes: str, instance: int | None
) -> None:
    profile = mig.Profile(compute, gigabytes, attributes, instance)
    assert (
        mig.parse(profile.name) == mig.parse(profile.dotted) == mig.of_resource(profile.resource) == profile
    )


# --- Boards and geometries --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("product", "board"),
    [
        ("NVIDIA-A30", "a30-24gb"),
        ("NVIDIA-A100-SXM4-40GB", "a100-40gb"),
        ("A100-PCIE-40GB", "a100-40gb"),
        ("NVIDIA-A100-80GB-PCIe", "a100-80gb"),
        ("NVIDIA-H100-80GB-HBM3", "h100-80gb"),
        ("NVIDIA-H100-NVL", "h100-94gb"),
        ("NVIDIA-H200", "h200-141gb"),
        ("NVIDIA-B200", "b200-180gb"),
        ("NVIDIA-GB200", "gb200-186gb"),
        ("NVIDIA-GB300", "gb300-278gb"),
        ("NVIDIA-B300-SXM6-AC", "b300-269gb"),
        ("NVIDIA-H20", "h100-96gb"),
        ("NVIDIA-A800-SXM4-80GB", "a100-80gb"),
        ("NVIDIA-A800-40GB-Active", "a100-40gb"),
        ("NVIDIA-H800", "h100-80gb"),
        ("NVIDIA-H800-NVL", "h100-94gb"),
        ("NVIDIA-GH200-144G-HBM3e", "gh200-144gb"),
    ],
)
def test_a_product_label_finds_its_board(product: str, board: str) -> None:
    assert mig.board_of(product) is mig.boards()[board]
    assert product in mig.known_products()


@pytest.mark.parametrize("product", ["Tesla-T4", "NVIDIA-L4", "NVIDIA-A10", "NVIDIA-GeForce-RTX-4090", ""])
def test_a_board_without_mig_is_not_in_the_table(product: str) -> None:
    assert mig.board_of(product) is None


def test_no_two_boards_share_a_product() -> None:
    products = [product for board in mig.boards().values() for product in board.products]
    assert len(products) == len(set(products))


@pytest.mark.parametrize(
    ("board", "geometry"),
    [
        ("a100-40gb", {"4g.20gb": 1, "3g.20gb": 1}),
        ("a100-40gb", {"3g.20gb": 2}),
        ("a100-40gb", {"4g.20gb": 1, "2g.10gb": 1, "1g.5gb": 1}),
        ("a100-40gb", {"3g.20gb": 1, "2g.10gb": 1, "1g.5gb": 2}),
        ("a100-40gb", {"3g.20gb": 1, "1g.5gb": 4}),
        ("a100-40gb", {"2g.10gb": 3, "1g.5gb": 1}),
        ("a100-40gb", {"1g.10gb": 4}),
        ("a100-40gb", {}),
        ("a30-24gb", {"2g.12gb": 1, "1g.6gb": 2}),
        ("h100-80gb", {"3g.40gb": 1, "1g.20gb": 2}),
        ("h100-80gb", {"1g.10gb.me": 1}),
    ],
    ids=str,
)
def test_a_geometry_that_fits_is_possible(board: str, geometry: dict[str, int]) -> None:
    assert mig.impossible(mig.boards()[board], geometry) is None


@pytest.mark.parametrize(
    ("board", "geometry", "why"),
    [
        ("a100-40gb", {"3g.20gb": 2, "1g.5gb": 1}, "cannot be placed on the 8 memory slices"),
        ("a100-40gb", {"2g.10gb": 4}, "holds 3 at most"),
        ("a100-40gb", {"1g.10gb": 4, "1g.5gb": 1}, "cannot be placed"),
        ("a100-40gb", {"1g.5gb": 8}, "holds 7 at most"),
        ("a100-40gb", {"4g.20gb": 1, "1g.5gb": 4}, "more than the 7 compute slices"),
        ("a100-40gb", {"4g.20gb": 2}, "holds 1 at most"),
        ("a30-24gb", {"2g.12gb": 2, "1g.6gb": 1}, "more than the 4 compute slices"),
        ("a100-40gb", {"1g.18gb": 1}, "has no profile 1g.18gb"),
        ("a100-40gb", {"some": 1}, "has no profile some"),
        ("h100-80gb", {"1g.10gb+me": 2}, "holds 1 at most"),
    ],
    ids=str,
)
def test_a_geometry_that_does_not_fit_says_why(board: str, geometry: dict[str, int], why: str) -> None:
    assert why in (mig.impossible(mig.boards()[board], geometry) or "")


@pytest.mark.parametrize(("board", "name"), PROFILES, ids=[f"{board} {name}" for board, name in PROFILES])
def test_a_profile_alone_fits_as_often_as_is_published_and_no_more(board: str, name: str) -> None:
    facts = mig.boards()[board]
    most = facts.profiles[name].most
    assert mig.impossible(facts, {name: most}) is None
    assert mig.impossible(facts, {name: most + 1}) is not None


def test_the_eight_slice_boards_have_the_37_published_geometries() -> None:
    # Without +me and the double-memory 1g (supported MIG profiles, NVIDIA's MIG user guide).
    names = ("1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb")
    found = {
        taken
        for size in range(1, 8)
        for taken in combinations_with_replacement(names, size)
        if mig.impossible(H100, {name: taken.count(name) for name in taken}) is None
    }
    maximal = {a for a in found if not any(len(b) == len(a) + 1 and _within(a, b) for b in found)}
    assert (len(found), len(maximal)) == (37, 12)


def _within(some: tuple[str, ...], more: tuple[str, ...]) -> bool:
    return all(some.count(name) <= more.count(name) for name in some)
