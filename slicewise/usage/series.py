"""What was measured: one series for each GPU, slice or share that a pod held, in steps of equal length."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

LATEST: Final = 4_102_444_800
"""Unix time, the year 2100: what is later was written in milliseconds."""
MOST_MEMORY: Final = 2.0**30
"""MiB; a thousand times the largest board, so that a slip of the pen is not taken for a peak."""
NOTHING: Final = math.nan
"""In a step in which nothing was measured."""


@dataclass(frozen=True, slots=True)
class Key:
    """What tells one series from another; "" where the source does not say."""

    namespace: str = ""
    pod: str = ""
    container: str = ""
    node: str = ""
    board: str = ""
    """UUID of the board."""
    instance: str = ""
    """Id of the GPU instance, where MIG divides the board."""


@dataclass(slots=True)
class Series:
    """Use and memory of one device while one pod (or none, `key.pod` "") held it; one value for each step."""

    key: Key
    model: str = ""
    """Base product name, in words or as the label has it."""
    profile: str = ""
    """MIG profile of the device; "" for a whole board."""
    board_memory: float = 0.0
    """MiB that the device has; 0 where nothing says."""
    mean: array[float] = field(default_factory=lambda: array("f"))
    """Mean share of the device's engines that worked in the step, 0 to 1."""
    busy: array[float] = field(default_factory=lambda: array("f"))
    """95th percentile of the same within the step."""
    memory: array[float] = field(default_factory=lambda: array("f"))
    """Most memory in the step, MiB."""

    @property
    def samples(self) -> int:
        """Steps in which memory was measured."""
        return sum(1 for _ in seen(self.memory))


@dataclass(slots=True)
class Usage:
    """All series of one period."""

    start: int
    """Unix time at which the first step ends."""
    step: int
    """Seconds."""
    steps: int
    series: list[Series]
    owners: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """(namespace, pod) -> (kind, name) of the owner, where the source says so."""
    classes: dict[tuple[str, str], str] = field(default_factory=dict)
    """(namespace, pod) -> workload class, where a saved file says so."""
    notes: tuple[str, ...] = ()
    """What the source could not say, a sentence each."""


def seen(values: Iterable[float]) -> Iterator[float]:
    """Yields what was measured."""
    return (value for value in values if not math.isnan(value))


_VALUES: Final = 7_000_000
"""Steps times series that are kept: three values of 4 bytes each."""
_STEPS: Final = (60, 300, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)


def step_for(series: int, seconds: float, least: float = 300) -> int:
    """Returns the length of a step in seconds, for so many series over so long: `least` where that fits."""
    enough = (step for step in _STEPS if step >= least and series * seconds / step <= _VALUES)
    return next(enough, _STEPS[-1])
