"""Nodes as NVIDIA's own programs made them on boards that a mock of NVML told them of, held against the truth.

A record is a line of `recorded/*.jsonl.gz`: the boards and their slices, the plugin's configuration, the Node (labels
as written, numbers as a kubelet publishes them), and `offers`: resource -> [strategy, count]. `unusable` are boards in
MIG mode that a plugin with strategy `none` hands out whole; `two-models` are nodes with boards of two models.
"""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
import yaml

from slicewise.inventory.node import Node
from slicewise.inventory.pools import Inventory

RECORDED: Final = Path(__file__).parent / "recorded"
# Boards of two models of which the labels show one alone: nobody can tell.
HIDDEN: Final = {"odd.twomodels", "odd.twomodels-samename"}


def records() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(RECORDED.glob("*.jsonl.gz")):
        version = file.name.removesuffix(".jsonl.gz")
        for line in gzip.decompress(file.read_bytes()).splitlines():
            record = json.loads(line)
            yield f"{version} {record['name']}", record


def offered(node: Any) -> dict[str, list[Any]]:
    pools = Inventory([msgspec.convert(node, Node)])
    return {
        name: [str(unit.strategy), unit.quantity] for pool in pools for name, unit in pool.resources.items()
    }


RECORDS: Final = dict(records())


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
def test_a_recorded_node_offers_what_its_boards_and_its_configuration_give(record: dict[str, Any]) -> None:
    truth = {name: offer for name, offer in record["offers"].items() if offer[1]}
    kinds = {strategy for strategy, _ in truth.values()}
    if "two-models" in kinds:
        if record["name"] not in HIDDEN:
            assert offered(record["node"]) == {}
    elif "unusable" in kinds:
        replicas = record["node"]["metadata"]["labels"].get("nvidia.com/gpu.replicas")
        if replicas == "0":  # where only some boards are in MIG mode, no label says so
            assert offered(record["node"]) == {}
    else:
        assert offered(record["node"]) == truth


# A node under a real kubelet, step by step: e2e/nvidia_node.py writes the files.
KUBELET: Final = RECORDED / "kubelet-1.36.3"
SLICE: Final = "nvidia.com/mig-1g.10gb"
STEPS: Final[dict[str, dict[str, list[Any]]]] = {
    "1-whole": {"nvidia.com/gpu": ["exclusive", 2]},
    "2-plugin-gone": {},
    "3-divided-old-labels": {},
    "4-divided": {SLICE: ["mig", 14]},
    "5-kubelet-restarted": {SLICE: ["mig", 14]},
    "6-half": {"nvidia.com/gpu": ["exclusive", 1], SLICE: ["mig", 7]},
    "7-shared": {"nvidia.com/gpu.shared": ["time-slicing", 8]},
    "8-shared-later": {"nvidia.com/gpu.shared": ["time-slicing", 8]},
}


def test_every_step_of_the_real_node_is_here() -> None:
    assert {file.stem for file in KUBELET.iterdir()} == STEPS.keys()


@pytest.mark.parametrize("step", STEPS)
def test_a_real_node_offers_at_each_step_what_can_be_had(step: str) -> None:
    node = yaml.safe_load((KUBELET / f"{step}.yaml").read_text(encoding="utf-8"))
    assert offered(node) == STEPS[step]


# Resource -> capacity and allocatable, as the kubelet said them.
LINGERING: Final = {
    "2-plugin-gone": {"nvidia.com/gpu": (2, 0)},
    "4-divided": {"nvidia.com/gpu": (2, 0), SLICE: (14, 14)},
    "5-kubelet-restarted": {"nvidia.com/gpu": (0, 0), SLICE: (14, 14)},
    "7-shared": {"nvidia.com/gpu": (1, 0), SLICE: (7, 0), "nvidia.com/gpu.shared": (8, 8)},
    "8-shared-later": {"nvidia.com/gpu": (0, 0), SLICE: (0, 0), "nvidia.com/gpu.shared": (8, 8)},
}


@pytest.mark.parametrize("step", LINGERING)
def test_a_kubelet_keeps_a_former_name_with_nothing_allocatable(step: str) -> None:
    status = yaml.safe_load((KUBELET / f"{step}.yaml").read_text(encoding="utf-8"))["status"]
    numbers = {
        name: (int(capacity), int(status["allocatable"][name]))
        for name, capacity in status["capacity"].items()
        if name.startswith("nvidia.com/")
    }
    assert numbers == LINGERING[step]
