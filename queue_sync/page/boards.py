"""What a node offers -> its boards, drawn to scale: which part of each is used, free or held back.  Pure.

A node says how many slices of each profile it has, not which board has which. Where its boards may all be divided
alike, they are drawn so; else each slice goes to the first board that the vendor's placement rules leave room on. Nor
does a node say which of its slices are in use, only how many: the first ones are drawn as used.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Final, Literal

from slicewise.gpu import mig
from slicewise.inventory.node_resources import Resource

State = Literal["used", "free", "held"]
COMPUTE_SLICES: Final = 7
"""Of a board that the table does not have, as of all published ones but the smallest."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How many units of one resource a node has."""

    resource: Resource
    counted: int
    """What counts."""
    shown: int
    """What the node shows at this moment."""
    trusted: bool
    """False while something speaks against the node's numbers: what counts then is what it offered before."""
    used: int | None
    """What pods on the node ask for; None where pods are not known."""

    @property
    def drawn(self) -> int:
        """How many units there are to draw."""
        return max(self.counted, self.shown)

    @property
    def usable(self) -> int:
        """How many units both count and are shown by a node that nothing speaks against."""
        return min(self.counted, self.shown) if self.trusted else 0

    @property
    def states(self) -> Iterator[State]:
        """Yields the state of each unit, used ones first."""
        for number in range(self.drawn):
            yield "used" if number < (self.used or 0) else "free" if number < self.usable else "held"


def boards(amounts: Iterable[Amount], model: str, number: int | None) -> list[dict[str, Any]]:
    """Returns a node's boards as the page draws them.

    Args:
        amounts: what the node has, by resource.
        model: base product label, for the vendor's placement rules.
        number: boards of the node where its labels count them.

    Returns:
        One `{of, parts: [{resource, width, state}]}` a board; `of` is the width of the whole board.
    """
    listed = list(amounts)
    found = [board for each in listed if not each.resource.profile for board in _shared(each)]
    sliced = {each.resource.name: each for each in listed if each.resource.profile}
    profiles = {name: each.resource.profile for name, each in sliced.items()}
    devices = {name: -(-each.drawn // each.resource.replicas) for name, each in sliced.items()}
    states = {name: each.states for name, each in sliced.items()}
    table = mig.board_of(model)
    for geometry in _geometries(devices, profiles, table, (number or 0) - len(found)):
        parts: list[dict[str, Any]] = []
        for name, count in geometry.items():
            replicas = sliced[name].resource.replicas
            width = round(slice_width(table, profiles[name]) / replicas, 3)
            parts += [
                {"resource": name, "width": width, "state": state}
                for state in islice(states[name], count * replicas)
            ]
        found.append({"of": board_width(table), "parts": parts})
    return found


def board_width(board: mig.Board | None) -> int:
    """Returns the width of a whole board, in memory slices where the table has them."""
    if board is None:
        return COMPUTE_SLICES
    return board.memory_slices or board.compute_slices


def slice_width(board: mig.Board | None, profile: str) -> int:
    """Returns how much of a board's width one slice of a profile takes."""
    parsed = mig.parse(profile)
    placement = board.placement(parsed) if board and parsed else None
    if placement is None:
        return parsed.compute if parsed else 1
    return placement.memory or placement.compute


def _shared(amount: Amount) -> Iterator[dict[str, Any]]:
    """Yields whole boards, each with as many shares as it has."""
    replicas = amount.resource.replicas
    states = list(amount.states)
    for first in range(0, len(states), replicas):
        parts = [
            {"resource": amount.resource.name, "width": 1, "state": state}
            for state in states[first : first + replicas]
        ]
        yield {"of": replicas, "parts": parts}


def _geometries(
    devices: Mapping[str, int], profiles: Mapping[str, str], board: mig.Board | None, number: int
) -> list[dict[str, int]]:
    """Returns what is on each board, resource → devices; `number` below 1 is not known."""
    if number > 0 and any(devices.values()) and all(count % number == 0 for count in devices.values()):
        alike = {name: count // number for name, count in devices.items() if count}
        if _fits(board, alike, profiles):
            return [alike] * number
    found: list[dict[str, int]] = []
    for name in sorted(devices, key=lambda each: (-slice_width(board, profiles[each]), each)):
        for _ in range(devices[name]):
            for geometry in found:
                more = {**geometry, name: geometry.get(name, 0) + 1}
                if _fits(board, more, profiles):
                    geometry.update(more)
                    break
            else:
                found.append({name: 1})
    return found


def _fits(board: mig.Board | None, geometry: Mapping[str, int], profiles: Mapping[str, str]) -> bool:
    if board is None:
        return sum(slice_width(None, profiles[name]) * n for name, n in geometry.items()) <= COMPUTE_SLICES
    counts: Counter[str] = Counter()
    for name, n in geometry.items():
        parsed = mig.parse(profiles[name])
        counts[parsed.name if parsed else profiles[name]] += n
    return _possible(board.products[0], tuple(sorted(counts.items())))


@lru_cache(maxsize=4096)
def _possible(product: str, geometry: tuple[tuple[str, int], ...]) -> bool:
    board = mig.board_of(product)
    return board is not None and mig.impossible(board, dict(geometry)) is None
