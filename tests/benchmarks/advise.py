"""`advise`: sizes chosen on one part of a trace, judged on the next, beside the naive rules.

The trace is not part of this project: https://github.com/alibaba/clusterdata, cluster-trace-v2026-GenAI,
`pod_gpu_duty_cycle_anon` and `pod_gpu_memory_used_bytes_anon`, as `.csv` or `.csv.gz` in one folder. It says neither
who owns a pod nor what its board is: each pod is judged by itself, with one whole board a pod assumed. A pod that the
first part does not have keeps its whole board.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import math
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Final

from slicewise.gpu.mig import boards
from slicewise.usage import packing, sizing
from slicewise.usage.series import NOTHING, seen

NAME: Final = "advise"
HELP: Final = (
    "the smallest size that would have done: chosen on the first half of a trace, judged on the second"
)

_SECONDS: Final = 60
_SHARE_MINUTES: Final = 5
_LEAST_MINUTES: Final = 60
"""Less is no history to choose by."""
_BOARDS: Final = {"80 GB": "h100-80gb", "141 GB": "h200-141gb"}
# Of the trace's length: from, chosen until, judged until. No split is blind: all were seen while the rule was made.
_SPLITS: Final = (
    (0, 0.25, 0.5),
    (0.25, 0.5, 0.75),
    (0.5, 0.75, 1),
    (0, 1 / 3, 2 / 3),
    (1 / 3, 2 / 3, 1),
    (0, 0.5, 1),
)


@dataclass(slots=True)
class Pod:
    """One pod: a value for each minute, NaN where there is none."""

    use: array[float]
    memory: array[float]


@dataclass(slots=True)
class Result:
    """What one rule came to on one split."""

    boards: int
    pods: int
    judged: int
    too_small: float

    def words(self) -> str:
        saved = 100 * (1 - self.boards / self.pods)
        return (
            f"{self.pods} -> {self.boards:3} boards ({-saved:+5.1f} %), later too small: "
            f"{self.too_small:4.1f} of {self.judged} ({100 * self.too_small / max(1, self.judged):3.1f} %)"
        )


def read(folder: Path) -> list[Pod]:
    """Reads a trace.

    Raises:
        OSError: a file is not there.
    """
    values = [_column(folder, f"pod_gpu_{what}_anon.csv") for what in ("duty_cycle", "memory_used_bytes")]
    first = min(time for column in values for samples in column.values() for time in samples)
    last = max(time for column in values for samples in column.values() for time in samples)
    length = int(last - first) // _SECONDS + 1
    names = sorted(values[0].keys() & values[1].keys())
    pods = []
    for name in names:
        use, memory = array("f", [NOTHING]) * length, array("f", [NOTHING]) * length
        for (target, scale), column in zip(((use, 100), (memory, 2**20)), values, strict=True):
            for time, value in column[name].items():
                target[int(time - first) // _SECONDS] = value / scale
        pods.append(Pod(use, memory))
    return pods


def _column(folder: Path, name: str) -> dict[str, dict[float, float]]:
    found: dict[str, dict[float, float]] = {}
    path = folder / name
    with path.open(encoding="utf-8") if path.exists() else gzip.open(folder / f"{name}.gz", "rt") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["container_ip"], {})[float(row["timestamp_anon"])] = float(row["value"])
    return found


def steps(values: array[float], length: int, of: Callable[[list[float]], float] = max) -> array[float]:
    """Returns the most of each step of that many values, or what else is wanted of them; NaN where it has none."""
    parts = (list(seen(values[i : i + length])) for i in range(0, len(values), length))
    return array("f", [of(part) if part else NOTHING for part in parts])


@dataclass(slots=True)
class History:
    """What is known of one pod when a size is chosen, and what came later, minute by minute."""

    use: array[float]
    memory: array[float]
    later: array[float]

    @property
    def compute(self) -> float:
        """95th percentile of its use; a whole board's where nothing was measured."""
        return sizing.quantile(seen(self.use), 0.95) if any(seen(self.use)) else 1.0

    @property
    def known(self) -> bool:
        """True when it was there before the size was chosen."""
        return any(True for _ in seen(self.memory))

    @property
    def judged(self) -> bool:
        """True when it was there before and after."""
        return self.known and any(True for _ in seen(self.later))


Margin = Callable[[History], float]


def _naive(factor: float) -> Margin:
    return lambda pod: max(seen(pod.memory)) * factor


def _ours(pod: History) -> float:
    peaks = list(seen(steps(pod.memory, sizing.PEAK_SECONDS // _SECONDS)))
    enough = sum(1 for _ in seen(pod.memory)) >= _LEAST_MINUTES
    return sizing.memory_needed(peaks, len(peaks)) if enough else math.inf


def judge(
    pods: Sequence[Pod], split: tuple[float, float, float], name: str, rule: Margin, *, share: bool = False
) -> Result:
    """Chooses by one rule on the first part of a split and judges on the second."""
    board = boards()[name]
    choices = sizing.sizes(board)
    whole = choices[-1]
    start, middle, end = (round(part * len(pods[0].use)) for part in split)
    all_of_them = [History(p.use[start:middle], p.memory[start:middle], p.memory[middle:end]) for p in pods]
    there = [pod for pod in all_of_them if pod.known or any(True for _ in seen(pod.later))]
    known = [pod for pod in there if pod.known]
    size_of = {id(pod): sizing.smallest(choices, rule(pod), pod.compute) for pod in known}
    together = [
        pod for pod in known if share and size_of[id(pod)].memory > whole.memory / 3 and pod.compute <= 0.5
    ]
    shares = sizing.sharing(
        [steps(pod.memory, _SHARE_MINUTES) for pod in together],
        [steps(pod.use, _SHARE_MINUTES, fmean) for pod in together],
        whole.memory,
    ).shares
    if shares == 1:
        together = []
    apart = {id(pod) for pod in together}
    slices = Counter(size_of[id(pod)].profile for pod in known if id(pod) not in apart)
    undivided = slices.pop("", 0) + len(there) - len(known) + math.ceil(len(together) / shares)
    too_small: float = sum(
        1
        for pod in known
        if id(pod) not in apart and max(seen(pod.later), default=0.0) > size_of[id(pod)].memory
    )
    too_small += _over([pod.later for pod in together if pod.judged], shares, whole.memory)
    judged = sum(1 for pod in known if pod.judged)
    return Result(undivided + packing.fewest_boards(board, slices), len(there), judged, too_small)


def _over(later: Sequence[array[float]], shares: int, capacity: float) -> float:
    """Returns how many pods share a board that runs out of memory, on average over ways to put them together."""
    over = [
        max(sizing.total(values) for values in zip(*(later[i] for i in group), strict=True)) > capacity
        for group in sizing.groups(len(later), shares)
    ]
    return len(later) * sum(over) / len(over) if over else 0.0


def chance(pods: Sequence[Pod], split: tuple[float, float, float], limit: float) -> tuple[float, int, int]:
    """Returns how well the first peak tells whose later peak is above a limit, among those whose first was not.

    The first number is the area under the curve: of two pods of which one later went above, how often it is the one
    with the higher first peak (0.5: a coin). The others count the pods that went above and those that did not.
    """
    start, middle, end = (round(part * len(pods[0].use)) for part in split)
    peaks = [
        (
            max(seen(p.memory[start:middle]), default=math.inf),
            max(seen(p.memory[middle:end]), default=math.inf),
        )
        for p in pods
    ]
    below = [(first, later) for first, later in peaks if first <= limit and later < math.inf]
    above = [first for first, later in below if later > limit]
    stayed = [first for first, later in below if later <= limit]
    wins = sum((a > b) + 0.5 * (a == b) for a in above for b in stayed)
    return wins / max(1, len(above) * len(stayed)), len(above), len(stayed)


_RULES: Final[tuple[tuple[str, Margin, bool], ...]] = (
    *((f"peak x {factor}", _naive(factor), False) for factor in (1.0, 1.1, 1.2, 1.3)),
    ("slicewise, slices", _ours, False),
    ("slicewise, sharing", _ours, True),
)


def run(arguments: Sequence[str]) -> int:
    """Prints every rule on every split; returns 2 when there is no trace to read."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.benchmarks {NAME}", description=HELP)
    parser.add_argument(
        "--trace", type=Path, metavar="DIR", help="the trace's folder; without it there is no result"
    )
    options = parser.parse_args(arguments)
    if options.trace is None:
        print("no --trace DIR: cluster-trace-v2026-GenAI of github.com/alibaba/clusterdata is needed")
        return 0
    try:
        pods = read(options.trace)
    except OSError as error:
        print(f"{options.trace}: {error}; name a folder with the trace's two files")
        return 2
    for split in _SPLITS:
        start, middle, end = (f"{100 * part:.0f}" for part in split)
        print(f"chosen on {start} to {middle} % of the trace, judged up to {end} %")
        for size, board in _BOARDS.items():
            for name, rule, share in _RULES:
                print(
                    f"  {size:>6}  {name:18}  {judge(pods, split, board, rule, share=share).words()}",
                    flush=True,
                )
        limit = next(s.memory for s in sizing.sizes(boards()["h100-80gb"]) if s.profile == "3g.40gb")
        area, above, stayed = chance(pods, split, limit)
        print(
            f"  first peak against outgrowing 3g.40gb: area under the curve {area:.2f} ({above} did, {stayed} did not)"
        )
    return 0
