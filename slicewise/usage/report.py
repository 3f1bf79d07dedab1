"""Who holds GPUs, who uses them, and what nobody takes: sums over the series, and what they cannot say."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from slicewise.api import keys
from slicewise.gpu import mig
from slicewise.usage.ownership import Cluster, Work
from slicewise.usage.series import Series, Usage, seen
from slicewise.usage.sizing import quantile, sizes

TOUCHED: Final = 0.001
"""Less use than this, of a device's engines, is none."""
_UNTOUCHED_HOURS: Final = 1.0
GROUPS: Final = ("namespace", "class", "pool", "owner")


@dataclass(slots=True)
class Hours:
    """GPU-hours of whole boards: a slice counts by its compute slices, a share by its part."""

    allocated: float = 0.0
    used: float = 0.0

    @property
    def idle(self) -> float:
        """Held and not used."""
        return max(0.0, self.allocated - self.used)

    @property
    def idle_share(self) -> float:
        """0 to 1; 0.0 where nothing was held."""
        return self.idle / self.allocated if self.allocated else 0.0

    def add(self, allocated: float, used: float) -> None:
        """Adds what was held and what of it was used."""
        self.allocated += allocated
        self.used += used

    def document(self) -> dict[str, float]:
        """As `-o json` prints it."""
        return {
            "allocated": round(self.allocated, 2),
            "used": round(self.used, 2),
            "idle": round(self.idle, 2),
            "idleShare": round(self.idle_share, 4),
        }


@dataclass(frozen=True, slots=True)
class Untouched:
    """A pod that holds a GPU and never worked on it."""

    namespace: str
    pod: str
    since: int
    """Unix time of the first step in which it was seen."""
    hours: float


@dataclass(frozen=True, slots=True)
class Untaken:
    """What a pool offers and no pod asks for now."""

    pool: str
    resource: str
    free: int
    total: int


@dataclass(slots=True)
class Report:
    """What GPUs were used for in one period."""

    start: int
    end: int
    step: int
    total: Hours = field(default_factory=Hours)
    groups: dict[str, dict[str, Hours]] = field(default_factory=lambda: {name: {} for name in GROUPS})
    mig: Hours = field(default_factory=Hours)
    """Of slices alone."""
    untouched: list[Untouched] = field(default_factory=list)
    undivided: dict[str, int] = field(default_factory=dict)
    """Pool -> whole boards that MIG could divide, and that no pod needed whole for its memory."""
    untaken: list[Untaken] = field(default_factory=list)
    not_judged: list[str] = field(default_factory=list)
    week: list[Hours] = field(default_factory=lambda: [Hours() for _ in range(7 * 24)])
    """By hour of the week (UTC), Monday first."""
    model: str = ""
    """Product label of the board of which most pods have one, or a slice, alone; "" where none is named."""
    peaks: list[float] = field(default_factory=list)
    """MiB, the most that each of these pods ever had."""

    @property
    def days(self) -> float:
        """Length of the period."""
        return (self.end - self.start) / 86_400

    def rows(self, group: str) -> list[tuple[str, Hours]]:
        """Returns one grouping, most idle hours first."""
        return sorted(self.groups[group].items(), key=lambda item: (-item[1].idle, item[0]))

    def document(self) -> dict[str, Any]:
        """As `-o json` prints it (docs/utilization.md)."""
        return {
            "period": {"start": self.start, "end": self.end, "step": self.step},
            "total": self.total.document(),
            "mig": self.mig.document(),
            **{
                f"by{name.title()}": [{"name": key, **hours.document()} for key, hours in self.rows(name)]
                for name in GROUPS
            },
            "untouched": [
                {
                    "namespace": each.namespace,
                    "pod": each.pod,
                    "since": each.since,
                    "hours": round(each.hours, 2),
                }
                for each in self.untouched
            ],
            "undivided": self.undivided,
            "untaken": [
                {"pool": each.pool, "resource": each.resource, "free": each.free, "total": each.total}
                for each in self.untaken
            ],
            "notJudged": self.not_judged,
        }


def product(model: str) -> str:
    """Returns a model as GPU feature discovery labels it; NVML, and so dcgm-exporter, write it with spaces."""
    return model.replace(" ", "-")


def weight(series: Series) -> float:
    """Returns the part of a board that a device is: compute slices over those of the board."""
    profile = mig.parse(series.profile) if series.profile and has_profile(series) else None
    if profile is None:
        return 1.0
    board = mig.board_of(product(series.model))
    return min(1.0, profile.compute / (board.compute_slices if board else 7))


def has_profile(series: Series) -> bool:
    """True for a whole board, and for a slice of which its board has the profile (or nobody knows the board)."""
    profile = mig.parse(series.profile) if series.profile else None
    board = mig.board_of(product(series.model))
    if profile is None or board is None:
        return not series.profile or profile is not None
    return series.profile in board.profiles or series.profile in board.aliases


def sharers(usage: Usage) -> dict[tuple[str, str, str], list[int]]:
    """Returns, for each device that more than one pod ever held in one step, how many held it in each step."""
    held: dict[tuple[str, str, str], list[Series]] = defaultdict(list)
    for each in usage.series:
        if each.key.pod and each.key.board:
            held[each.key.node, each.key.board, each.key.instance].append(each)
    found = {}
    for device, together in held.items():
        if len({(each.key.namespace, each.key.pod) for each in together}) > 1:
            counts = [
                sum(not math.isnan(value) for value in values)
                for values in zip(*(each.memory for each in together), strict=True)
            ]
            if max(counts) > 1:
                found[device] = counts
    return found


def report(usage: Usage, cluster: Cluster) -> Report:
    """Sums up the use of a period."""
    start = usage.start - usage.step
    found = Report(start, start + usage.step * usage.steps, usage.step)
    shared = sharers(usage)
    hours = usage.step / 3600
    unattributed: Counter[str] = Counter()
    without_use = unknown = 0
    peaks: dict[str, list[float]] = defaultdict(list)
    pods = {(each.key.namespace, each.key.pod) for each in usage.series if each.key.pod}
    for each in usage.series:
        if not each.key.pod:
            unattributed["slices" if each.profile else "boards"] += 1
            continue
        work = cluster.work(each.key.namespace, each.key.pod, usage)
        rows = [
            found.total,
            *(_row(found, name, value) for name, value in _names(each, work, cluster).items()),
        ]
        if each.profile:
            rows.append(found.mig)
        part = weight(each) * hours
        counts = shared.get((each.key.node, each.key.board, each.key.instance))
        allocated = used = 0.0
        for index, (use, memory) in enumerate(zip(each.mean, each.memory, strict=True)):
            if math.isnan(memory) and math.isnan(use):
                continue
            share = part / max(1, counts[index]) if counts else part
            worked = 0.0 if math.isnan(use) else share * use
            allocated += share
            used += worked
            found.week[_hour_of_week(start + index * usage.step)].add(share, worked)
        for row in rows:
            row.add(allocated, used)
        without_use += not any(True for _ in seen(each.mean))
        unknown += not has_profile(each)
        if counts is None:
            peaks[product(each.model)].append(max(seen(each.memory), default=0.0))
            _note_untouched(found, each, usage)
    found.model = max(sorted(peaks), key=lambda model: len(peaks[model]) if model else 0, default="")
    found.peaks = peaks[found.model]
    found.untouched.sort(key=lambda each: (-each.hours, each.namespace, each.pod))
    found.undivided = _undivided(usage, cluster, shared)
    found.untaken = _untaken(cluster)
    found.not_judged = [*usage.notes, *_not_judged(shared, unattributed, without_use, unknown)]
    if not any(pod in cluster.works or pod in usage.classes for pod in pods):
        found.not_judged.append(
            "no Pod objects were given: classes are unknown, and owners are those that the source names"
        )
    return found


def _row(found: Report, group: str, name: str) -> Hours:
    return found.groups[group].setdefault(name, Hours())


def _names(series: Series, work: Work, cluster: Cluster) -> dict[str, str]:
    return {
        "namespace": series.key.namespace or "unknown",
        "class": work.class_name,
        "pool": cluster.pool_of_node.get(series.key.node or work.node, "unknown"),
        "owner": work.owner.words,
    }


def _hour_of_week(time: int) -> int:
    # 1970-01-01 was a Thursday.
    return (time // 3600 + 3 * 24) % (7 * 24)


def _note_untouched(found: Report, series: Series, usage: Usage) -> None:
    uses = list(seen(series.busy))
    length = len(uses) * usage.step / 3600
    if uses and max(uses) < TOUCHED and length >= _UNTOUCHED_HOURS:
        first = next(i for i, value in enumerate(series.busy) if not math.isnan(value))
        found.untouched.append(
            Untouched(series.key.namespace, series.key.pod, found.start + first * usage.step, length)
        )


def _undivided(
    usage: Usage, cluster: Cluster, shared: Mapping[tuple[str, str, str], object]
) -> dict[str, int]:
    """Counts whole boards whose pods stayed within the largest slice, in memory and 95 % of the time in compute."""
    peaks: dict[tuple[str, str, str], float] = {}
    for each in usage.series:
        board = mig.board_of(product(each.model))
        if each.profile or not each.key.board or board is None or not board.memory_slices:
            continue
        if (each.key.node, each.key.board, each.key.instance) in shared:
            continue
        device = cluster.pool_of_node.get(each.key.node, "unknown"), each.key.node, each.key.board
        *slices, _ = sizes(board)
        if not slices:
            continue  # what its slices hold is not published
        largest = max(slices, key=lambda size: (size.memory, size.compute))
        memory = max(seen(each.memory), default=0.0) / largest.memory
        compute = quantile(seen(each.busy), 0.95) / largest.compute
        peaks[device] = max(memory, compute, peaks.get(device, 0.0))
    return dict(sorted(Counter(pool for (pool, _, _), over in peaks.items() if over < 1).items()))


def _untaken(cluster: Cluster) -> list[Untaken]:
    if not cluster.works:
        return []  # what is taken is not known
    taken: Counter[tuple[str, str]] = Counter()
    for work in cluster.works.values():
        if work.running:
            for resource, number in work.devices.items():
                taken[cluster.pool_of_node.get(work.node, ""), resource] += number
    return [
        Untaken(pool.name, name, resource.quantity - taken[pool.name, name], resource.quantity)
        for pool in cluster.pools
        for name, resource in sorted(pool.resources.items())
        if keys.is_device(name) and resource.quantity > taken[pool.name, name]
    ]


def _not_judged(
    shared: Mapping[tuple[str, str, str], object],
    unattributed: Mapping[str, int],
    without_use: int,
    unknown: int,
) -> Iterable[str]:
    if shared:
        yield (
            f"devices shared in time: {len(shared)}; each of their pods shows the whole device's numbers, so "
            "hours are split evenly and no pod is judged by itself"
        )
    for what, number in sorted(unattributed.items()):
        yield (
            f"{number} series of {what} name no pod: nobody held them, or dcgm-exporter does not map pods "
            "(give it DCGM_EXPORTER_KUBERNETES=true and the kubelet's pod-resources socket)"
        )
    if unknown:
        yield f"series of a MIG profile that their board does not have: {unknown}; each counts as a whole board"
    if without_use:
        yield (
            f"devices that show no use: {without_use}; DCGM's profiling metrics are missing there (and GPU_UTIL "
            "says nothing under MIG); their hours count as idle"
        )
