"""What a node offers, drawn as boards: geometry by the vendor's rules, state by what is used and what counts."""

from typing import Any

import pytest

from queue_sync.page.boards import Amount, boards
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.node_resources import Resource

H100 = "NVIDIA-H100-80GB-HBM3"


def amount(
    name: str, number: int, *, profile: str = "", replicas: int = 1, used: int | None = 0, **changes: Any
) -> Amount:
    resource = Resource(f"nvidia.com/{name}", number, Strategy.MIG, profile=profile, replicas=replicas)
    given = {"counted": number, "shown": number, "trusted": True, **changes}
    return Amount(resource, used=used, **given)


def widths(drawn: list[dict[str, Any]]) -> list[list[float]]:
    return [[part["width"] for part in board["parts"]] for board in drawn]


def states(drawn: list[dict[str, Any]]) -> str:
    return "".join(part["state"][0] for board in drawn for part in board["parts"])


ONE, THREE = "1g.10gb", "3g.40gb"


@pytest.mark.parametrize(
    ("amounts", "model", "number", "expected"),
    [
        ([amount("gpu", 3)], H100, None, [[1], [1], [1]]),
        ([amount("gpu", 4, replicas=2)], H100, None, [[1, 1], [1, 1]]),
        ([amount("gpu", 3, replicas=2)], H100, None, [[1, 1], [1]]),
        # Divided alike where the number of boards allows it.
        ([amount("a", 4, profile=ONE), amount("b", 2, profile=THREE)], H100, 2, [[1, 1, 4], [1, 1, 4]]),
        # The number is not known: the large ones first, each on the first board that has room by the vendor's rules.
        ([amount("a", 4, profile=ONE), amount("b", 2, profile=THREE)], H100, None, [[4, 4], [1, 1, 1, 1]]),
        # A number that cannot be right is none.
        ([amount("a", 8, profile=ONE)], H100, 1, [[1] * 7, [1]]),
        # A board left whole beside a divided one.
        ([amount("gpu", 1), amount("a", 7, profile=ONE)], H100, 2, [[1], [1] * 7]),
        # Shares of slices.
        ([amount("a", 4, profile=THREE, replicas=2)], H100, None, [[2, 2, 2, 2]]),
        # A board that the table does not have: compute slices, seven of them.
        ([amount("a", 3, profile=THREE)], "NVIDIA-X999", None, [[3, 3], [3]]),
        ([amount("gpu", 0)], H100, 8, []),
    ],
)
def test_boards_are_to_scale(
    amounts: list[Amount], model: str, number: int | None, expected: list[list[float]]
) -> None:
    assert widths(boards(amounts, model, number)) == expected


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (amount("gpu", 4, used=2), "uuff"),
        (amount("gpu", 4, used=None), "ffff"),
        (amount("gpu", 4, used=9), "uuuu"),
        (amount("gpu", 4, used=1, shown=2), "ufhh"),  # fewer are shown than count
        (amount("gpu", 2, used=1, shown=4), "ufhh"),  # more are shown than count yet
        (amount("gpu", 4, used=1, counted=0), "uhhh"),
        (amount("gpu", 4, used=1, trusted=False), "uhhh"),  # the node is in doubt
    ],
)
def test_units_are_used_free_or_held_back(one: Amount, expected: str) -> None:
    assert states(boards([one], H100, None)) == expected
