"""The end-to-end tests' simulated nodes, held against what NVIDIA's own programs wrote for the same boards."""

from typing import Any, Final

import msgspec
import pytest

from e2e.harness import nodes
from e2e.harness.nodes import GPU, GpuNode
from slicewise.inventory.node import Node
from slicewise.inventory.pools import Inventory
from tests.inventory.test_recorded_nodes import RECORDS

# Written by others than the two programs, or not by every version of them.
OTHERS: Final = ("nvidia.com/mig.config", "nvidia.com/gpu.deploy.")
ELSEWHERE: Final = {"nvidia.com/gpu.mode"}  # by the kind of machine, of which the mock has none
MIXED: Final = {"1g.10gb": 6, "1g.10gb.me": 1}

SIMULATED: Final = {
    "whole.single.plain": nodes.exclusive("n", gpus=2),
    "all1g.single.plain": nodes.mig_single("n", "1g.10gb", gpus=2),
    "all1g.mixed.plain": nodes.mig_mixed("n", {"1g.10gb": 7}, gpus=2),
    "half.mixed.plain": nodes.mig_mixed("n", {"1g.10gb": 7}, gpus=2, whole=1),
    "me.mixed.plain": nodes.mig_mixed("n", MIXED, gpus=2),
    "whole.none.ts4": nodes.time_slicing("n", 4, nodes.H100, 2),
    "whole.none.ts4-renamed": nodes.time_slicing("n", 4, nodes.H100, 2, renamed=True),
    "whole.none.mps4": nodes.mps("n", 4, nodes.H100, 2),
}


def devices(node: Any, numbers: str) -> dict[str, str]:
    return {name: count for name, count in node["status"][numbers].items() if name.startswith("nvidia.com/")}


@pytest.mark.parametrize("name", SIMULATED)
def test_a_simulated_node_says_what_the_real_programs_say(name: str) -> None:
    simulated, real = SIMULATED[name].manifest(), RECORDS[f"0.20.0 h100-real.{name}"]["node"]
    labels = {
        key: value
        for key, value in simulated["metadata"]["labels"].items()
        if key.startswith("nvidia.com/") and not key.startswith(OTHERS) and key not in ELSEWHERE
    }
    assert labels == {key: real["metadata"]["labels"].get(key) for key in labels}
    for numbers in ("capacity", "allocatable"):
        assert devices(simulated, numbers) == devices(real, numbers)


def test_an_old_plugin_registers_suffixed_profiles_as_the_real_one_does() -> None:
    # The record is of another board: what counts is which names there are, and how many of each.
    node = nodes.mig_mixed("n", MIXED, gpus=2, old_plugin=True).manifest()
    real = RECORDS["0.19.3 b200.me.mixed.plain"]["node"]
    for profile, suffix in (("1g.10gb", "1g.45gb"), ("1g.10gb.me", "1g.45gb.me")):
        count = node["metadata"]["labels"][f"nvidia.com/mig-{profile}.count"]
        assert count == real["metadata"]["labels"][f"nvidia.com/mig-{suffix}.count"]
    assert devices(node, "capacity") == {"nvidia.com/mig-1g.10gb": "14"}
    assert devices(real, "capacity") == {"nvidia.com/mig-1g.45gb": "14"}


@pytest.mark.parametrize(
    ("node", "offered"),
    [
        (nodes.unhealthy(nodes.time_slicing("n", 4)), {GPU: 15}),
        (nodes.unhealthy(nodes.mig_single("n", "1g.10gb", gpus=2)), {GPU: 13}),
        (
            nodes.unhealthy(nodes.mig_mixed("n", {"1g.10gb": 2, "3g.40gb": 1}, gpus=2)),
            {"nvidia.com/mig-1g.10gb": 3, "nvidia.com/mig-3g.40gb": 1},
        ),
        (nodes.lost(nodes.exclusive("n", gpus=4), nodes.exclusive("n", gpus=3)), {GPU: 3}),
        (
            nodes.lost(
                nodes.mig_mixed("n", {"1g.10gb": 7}, gpus=4), nodes.mig_mixed("n", {"1g.10gb": 7}, gpus=3)
            ),
            {"nvidia.com/mig-1g.10gb": 21},
        ),
        (nodes.mig_mixed("n", MIXED, gpus=1, old_plugin=True), {"nvidia.com/mig-1g.10gb": 7}),
    ],
    ids=[
        "XID on shares",
        "XID on slices",
        "XID on a mixed board",
        "a board gone",
        "slices gone",
        "old plugin",
    ],
)
def test_what_is_left_of_a_node_is_believed(node: GpuNode, offered: dict[str, int]) -> None:
    manifest = node.manifest()
    manifest["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    (pool,) = Inventory([msgspec.convert(manifest, Node)])
    assert {name: unit.quantity for name, unit in pool.resources.items()} == offered
