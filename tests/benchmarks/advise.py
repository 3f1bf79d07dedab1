"""`advise`: sizes chosen on one part of a trace, judged on the next: the command's own rule beside the naive ones.

The trace is not part of this project: https://github.com/alibaba/clusterdata, cluster-trace-v2026-GenAI,
`pod_gpu_duty_cycle_anon` and `pod_gpu_memory_used_bytes_anon`, as `.csv` or `.csv.gz` in one folder. It does not say
what its boards are: each pod is taken to have one whole board. It does not say who owns a pod either: pods whose use is
alike in the part that is chosen by are taken for replicas of one owner, and a pod that is new in the second part goes
by the first half hour of its use. Memory, which is what is judged, has no part in that. What is new has the size of its
owner; the naive rules, which know no owners, leave it a whole board.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import math
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slicewise.gpu import mig
from slicewise.usage import advice, packing, sizing
from slicewise.usage.ownership import Cluster
from slicewise.usage.series import NOTHING, Key, Series, Usage, seen

NAME: Final = "advise"
HELP: Final = (
    "the smallest size that would have done: chosen on the first half of a trace, judged on the second"
)

_SECONDS: Final = 60
_LEAST_DAYS: Final = 1 / 24
_BUSY: Final = 0.5
"""Share of a board: who needs more 5 % of the time is of one owner, who needs less of another."""
_FIRST: Final = 30
"""Minutes of a pod's use that say whose it is where the part to choose by has nothing of it."""
_BOARDS: Final = {"80 GB": "NVIDIA-H100-80GB-HBM3", "141 GB": "NVIDIA-H200"}
# Of the trace's length: from, chosen until, judged until. The rule was settled on the ones within the first half.
_SPLITS: Final = (
    (0, 0.125, 0.25),
    (0.125, 0.25, 0.375),
    (0.25, 0.375, 0.5),
    (0, 0.25, 0.5),
    (0, 0.5, 1),
)


@dataclass(slots=True)
class Pod:
    """One pod: a value for each minute, NaN where there is none."""

    name: str
    use: array[float]
    memory: array[float]

    def owner(self, start: int, end: int) -> str:
        """Returns whose replica it is taken for, by its use in that part, else by its first use after it."""
        uses = list(seen(self.use[start:end])) or list(seen(self.use[end:]))[:_FIRST]
        return "busy" if sizing.quantile(uses, 0.95) > _BUSY else "light"


@dataclass(frozen=True, slots=True)
class Given:
    """What a rule gives one pod: a size, and how many share it where that is a whole board."""

    size: sizing.Size
    shares: int = 1


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
        pods.append(Pod(name, use, memory))
    return pods


def _column(folder: Path, name: str) -> dict[str, dict[float, float]]:
    found: dict[str, dict[float, float]] = {}
    path = folder / name
    with path.open(encoding="utf-8") if path.exists() else gzip.open(folder / f"{name}.gz", "rt") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["container_ip"], {})[float(row["timestamp_anon"])] = float(row["value"])
    return found


Rule = Callable[[Sequence[Pod], int, int, str], Mapping[str, Given]]
"""Pods, the part of the trace to choose by (from, until), the board's product -> pod's name -> what it gets."""


def naive(factor: float) -> Rule:
    """Returns the rule that looks at one pod's peak alone, and its 95th percentile of compute."""

    def rule(pods: Sequence[Pod], start: int, end: int, product: str) -> Mapping[str, Given]:
        found = {}
        for pod in pods:
            peak = max(seen(pod.memory[start:end]), default=0.0)
            if peak:
                use = sizing.quantile(seen(pod.use[start:end]), 0.95)
                found[pod.name] = Given(sizing.smallest(_sizes(product), peak * factor, use))
        return found

    return rule


def slicewise(*, pooled: bool, share: bool) -> Rule:
    """Returns the command's own rule, with the replicas of an owner together or pod by pod."""

    def rule(pods: Sequence[Pod], start: int, end: int, product: str) -> Mapping[str, Given]:
        names = {pod.name: pod.owner(start, end) if pooled else pod.name for pod in pods}
        owners = {("", name): ("Deployment", owner) for name, owner in names.items()} if pooled else {}
        series = [
            Series(
                Key(pod=pod.name, node=pod.name, board=pod.name),
                product,
                mean=pod.use[start:end],
                busy=pod.use[start:end],
                memory=pod.memory[start:end],
            )
            for pod in pods
            if any(seen(pod.memory[start:end]))
        ]
        usage = Usage(_SECONDS, _SECONDS, end - start, series, owners)
        advised = {
            each.owner.name: Given(each.size or _sizes(product)[-1], each.shares)
            for each in advice.advise(usage, Cluster(), _LEAST_DAYS, allow_sharing=share)
        }
        return {name: advised[owner] for name, owner in names.items() if owner in advised}

    return rule


def _sizes(product: str) -> tuple[sizing.Size, ...]:
    return sizing.sizes(_board(product))


def _board(product: str) -> mig.Board:
    board = mig.board_of(product)
    assert board is not None
    return board


def judge(pods: Sequence[Pod], split: tuple[float, float, float], product: str, rule: Rule) -> Result:
    """Chooses by one rule on the first part of a split and judges on the second."""
    whole = _sizes(product)[-1]
    start, middle, end = (round(part * len(pods[0].use)) for part in split)
    given = rule(pods, start, middle, product)
    slices: Counter[str] = Counter()
    sharing: Counter[int] = Counter()
    later: list[tuple[Given, array[float]]] = []
    for pod in pods:
        if not any(seen(pod.memory[start:end])):
            continue
        each = given.get(pod.name, Given(whole))
        if each.shares > 1:
            sharing[each.shares] += 1
        else:
            slices[each.size.profile] += 1
        if pod.name in given and any(seen(pod.memory[middle:end])):
            later.append((each, pod.memory[middle:end]))
    number = slices.total() + sharing.total()
    boards = slices.pop("", 0) + packing.fewest_boards(_board(product), slices)
    boards += sum(math.ceil(count / shares) for shares, count in sharing.items())
    too_small: float = sum(
        1 for each, memory in later if each.shares == 1 and max(seen(memory)) > each.size.memory
    )
    for shares in sharing:
        too_small += _over([memory for each, memory in later if each.shares == shares], shares, whole.memory)
    return Result(boards, number, len(later), too_small)


def _over(later: Sequence[array[float]], shares: int, capacity: float) -> float:
    """Returns how many pods share a board that runs out of memory, on average over ways to put them together."""
    over = [
        max(math.fsum(seen(values)) for values in zip(*(later[i] for i in group), strict=True)) > capacity
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


_RULES: Final[tuple[tuple[str, Rule], ...]] = (
    *((f"peak x {factor}", naive(factor)) for factor in (1.0, 1.1, 1.2, 1.3)),
    ("slicewise, pod by pod", slicewise(pooled=False, share=False)),
    ("slicewise", slicewise(pooled=True, share=False)),
    ("slicewise, --allow-sharing", slicewise(pooled=True, share=True)),
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
        for size, product in _BOARDS.items():
            for name, rule in _RULES:
                print(f"  {size:>6}  {name:26}  {judge(pods, split, product, rule).words()}", flush=True)
        limit = next(s.memory for s in _sizes(_BOARDS["80 GB"]) if s.profile == "3g.40gb")
        area, above, stayed = chance(pods, split, limit)
        print(
            f"  first peak against outgrowing 3g.40gb: area under the curve {area:.2f} ({above} did, {stayed} did not)"
        )
    return 0
