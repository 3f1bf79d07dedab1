"""What ResourceSlices of NVIDIA's DRA driver publish, and what is not used of them."""

from typing import Any

import pytest

from slicewise.inventory.sources.dra import Device, published
from tests.inventory.resource_slices import A100, COUNTERS, H100, board, device, instance, resource_slice

BOARD = Device(H100)
ONE = Device(H100, "1g.10gb")
THREE = Device(H100, "3g.40gb")

PUBLISHED: dict[str, tuple[list[dict[str, Any]], set[Device]]] = {
    "nothing": ([], set()),
    "whole boards": ([resource_slice(board())], {BOARD}),
    "static MIG": ([resource_slice(instance("1g.10gb"), instance("3g.40gb"))], {ONE, THREE}),
    "partitionable boards, their counters in a slice of their own": (
        [
            resource_slice(name="n1-a", count=2, devices=None, sharedCounters=[{"name": "gpu-0"}]),
            resource_slice(
                {**board(), **COUNTERS},
                {**instance("1g.10gb", name="gpu-0-mig-1g10gb-19-0"), **COUNTERS},
                {**instance("1g.10gb", name="gpu-0-mig-1g10gb-19-1"), **COUNTERS},
                name="n1-b",
                count=2,
            ),
        ],
        {BOARD, ONE},
    ),
    "nodes of two models": (
        [resource_slice(board()), resource_slice(board(A100), name="n2-a", pool="n2")],
        {BOARD, Device(A100)},
    ),
    "a newer generation replaces the older": (
        [resource_slice(board(), name="old"), resource_slice(instance("1g.10gb"), name="new", generation=2)],
        {ONE},
    ),
    "of two slices of one name the later one holds": (
        [resource_slice(board()), resource_slice(instance("1g.10gb"))],
        {ONE},
    ),
    "other drivers, whatever they publish": (
        [
            resource_slice(driver="gpu.amd.com"),
            resource_slice(name="x", driver="x.example.org", devices="no list"),
        ],
        set(),
    ),
    "devices for virtual machines": ([resource_slice(device("v", type="vfio", productName=H100))], set()),
    "a device of no type that is known": ([resource_slice({"name": "odd"})], set()),
}


@pytest.mark.parametrize(("slices", "devices"), PUBLISHED.values(), ids=PUBLISHED)
def test_kinds_of_devices_are_read_of_complete_pools(
    slices: list[dict[str, Any]], devices: set[Device]
) -> None:
    assert published(slices) == (devices, [])


INCOMPLETE: dict[str, tuple[list[dict[str, Any]], str]] = {
    "a slice is missing": ([resource_slice(board(), count=2)], "generation 1 has 1 of 2"),
    "the newer generation is not whole yet": (
        [resource_slice(board(), name="old"), resource_slice(board(), name="new", generation=2, count=3)],
        "generation 2 has 1 of 3",
    ),
    "a slice too many": ([resource_slice(board()), resource_slice(board(), name="b")], "has 2 of 1"),
}


@pytest.mark.parametrize(("slices", "words"), INCOMPLETE.values(), ids=INCOMPLETE)
def test_an_incomplete_pool_is_left_out_and_named(slices: list[dict[str, Any]], words: str) -> None:
    devices, (complaint,) = published(slices)
    assert devices == set()
    assert complaint.startswith("pool n1 of gpu.nvidia.com: ")
    assert words in complaint


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no spec": ({**resource_slice(), "spec": "none"}, "Expected `object`, got `str`"),
    "no pool": (resource_slice(pool="n1") | {"spec": {"driver": "gpu.nvidia.com"}}, "`pool`"),
    "a generation that is no number": (resource_slice(generation="1"), "$.pool.generation"),
    "devices that are no list": (resource_slice(devices={}), "$.devices"),
    "a device that is no map": (resource_slice("gpu-0"), "$.devices[0]"),
    "an attribute that is no text": (
        resource_slice(device("gpu-0", type=7)),
        "$.devices[0].attributes[...].string",
    ),
    "a name longer than any": (resource_slice(board("x" * 65)), "length <= 64"),
    "a board without a model": (resource_slice(device("gpu-0", type="gpu")), 'productName "" names no model'),
    "a model that ends a line": (resource_slice(board("H100\n")), r'productName "H100\n" names no model'),
    "a slice without a profile": (
        resource_slice(device("m", type="mig", productName=H100)),
        'device m: profile "" is no MIG profile',
    ),
    "a profile that would be CEL": (
        resource_slice(instance('1g" || true')),
        'profile "1g\\" || true" is no MIG profile',
    ),
    "a version that has another shape": (
        {**resource_slice(board()), "apiVersion": "resource.k8s.io/v1beta1"},
        "apiVersion resource.k8s.io/v1beta1 is not read",
    ),
}


@pytest.mark.parametrize(("bad", "words"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_slice_is_one_sentence_and_spoils_its_own_pool_alone(
    bad: dict[str, Any], words: str
) -> None:
    beside = resource_slice(board(A100), name="n1-b", count=2)
    other = resource_slice(instance("1g.10gb"), name="n2-a", pool="n2")
    devices, complaints = published([bad, other])
    assert (devices, len(complaints)) == ({ONE}, 1)
    assert complaints[0].startswith("ResourceSlice n1-a: ")
    assert words in complaints[0]
    if isinstance(bad["spec"], dict) and "pool" in bad["spec"]:
        assert published([bad, beside, other]) == (devices, complaints)
