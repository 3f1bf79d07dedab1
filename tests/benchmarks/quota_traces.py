"""The shapes of real clusters for the quota benchmarks: how many boards of which model a node has.

The published traces are not part of this project. Theirs are the nodes; how boards are divided no trace says, so that
is this benchmark's doing, and it says so.

- Alibaba 2023: https://github.com/alibaba/clusterdata, cluster-trace-gpu-v2023, `openb_node_list_gpu_node.csv`.
- Alibaba 2026: the same, cluster-trace-v2026-spot-gpu, its list of nodes.

Put the list into a folder as `nodes.csv`.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MADE_UP: Final = "NVIDIA-H100-80GB-HBM3"
# Boards with MIG that have 7 slices of 1g.10gb. What the traces call by a code name stays whole.
_DIVISIBLE: Final = {
    "A100-SXM4-80GB": "NVIDIA-A100-SXM4-80GB",
    "A800-SXM4-80GB": "NVIDIA-A800-SXM4-80GB",
    "H800": "NVIDIA-H800",
}
_COLUMNS: Final = (("model", "gpu"), ("gpu_model", "gpu_capacity_num"))


@dataclass(frozen=True, slots=True)
class Shape:
    """One node: its model as GPU feature discovery writes it, its boards, and whether MIG divides them."""

    product: str
    boards: int
    divisible: bool = True


class TraceError(ValueError):
    """The folder holds no list of nodes that can be read; the message says what is wrong."""


def made_up(nodes: int) -> list[Shape]:
    """Nodes of eight boards each."""
    return [Shape(MADE_UP, 8)] * nodes


def shapes(folder: Path) -> list[Shape]:
    """The nodes of a trace, in its order.

    Raises:
        TraceError: there is no such list.
    """
    path = folder / "nodes.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}; name a folder with the trace's list of nodes") from None
    found = []
    for model, boards in _COLUMNS:
        if rows and model in rows[0] and boards in rows[0]:
            found = [_shape(row[model], int(float(row[boards]))) for row in rows]
    if not found:
        wanted = " or ".join(", ".join(pair) for pair in _COLUMNS)
        raise TraceError(
            f"{path}: has none of the columns {wanted}; name a folder with the trace's list of nodes"
        )
    return [shape for shape in found if shape.boards]


def _shape(model: str, boards: int) -> Shape:
    return Shape(_DIVISIBLE.get(model, f"NVIDIA-{model}"), boards, model in _DIVISIBLE)


def described(nodes: Sequence[Shape]) -> list[str]:
    """Who partitioned how, a line for each model."""
    counted = Counter((shape.product, shape.divisible) for shape in nodes)
    lines = []
    for (product, divisible), number in counted.most_common():
        boards = sum(shape.boards for shape in nodes if shape.product == product)
        how = (
            "divided by this benchmark: every other node in slices of 1g.10gb, the others whole"
            if divisible
            else "whole, and never divided"
        )
        lines.append(f"  {product}: {number} nodes, {boards} boards, {how}")
    return lines
