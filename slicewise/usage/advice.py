"""What each owner's pods could do with: the smallest size, how sure that is, and the change of policy that gives it.

Judged is the owner, not the pod, because all its replicas come from one template. The rule: `slicewise.usage.sizing`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

from slicewise.api import keys
from slicewise.api.policy import API_VERSION, POLICY_KIND, PolicySpec, Size, SlicingPolicy
from slicewise.gpu import mig
from slicewise.gpu.strategies import Strategy
from slicewise.usage import packing, sizing
from slicewise.usage.ownership import UNKNOWN, Cluster, Owner, Work, policy_of
from slicewise.usage.report import TOUCHED, has_profile, product, sharers, weight
from slicewise.usage.series import Series, Usage, seen

HORIZON_DAYS: Final = 7.0
_FLAT: Final = 0.02
_FLAT_PART: Final = 0.5
"""Memory that never moves and is at least this part of the device was reserved, not needed."""
_MEMORY_METRIC: Final = "DCGM_FI_DEV_FB_USED"
_MEMORY_ALONE: Final = "memory wants the whole board, compute does not"
_FULL: Final = 0.95
"""Of a slice's compute: who uses that much might use more."""
_SPILL: Final = 1.05
"""Times what the table says a device has; a whole board has a little more than its largest profile."""
_GROWTH_PARTS: Final = 6
_GROWTH: Final = 0.1
"""Memory whose least rises from each sixth of the record to the next, by this part of its last in all, grows. Values
without a trend rise so once in 720 records."""
_LEAST_USES: Final = 20
"""Of fewer, the 95th percentile is the most."""


@dataclass(slots=True)
class Advice:
    """What is advised for one owner; `size` None where nothing is, and `why` says the reason."""

    owner: Owner
    class_name: str
    model: str
    current: str
    """MIG profile that its pods hold; "" for whole boards."""
    replicas: int
    """Most that ran at once."""
    days: float
    """Length of the longest history of one replica."""
    samples: int
    peak: float = 0.0
    """MiB, the most that any replica had."""
    memory: float = 0.0
    """MiB that the rule asks for."""
    compute: float = 0.0
    """95th percentile of compute, as a share of the board, of the busiest replica."""
    size: sizing.Size | None = None
    shares: int = 1
    """Replicas that are advised to share a whole board in time; 1: none."""
    could_share: int = 1
    """The same where that were allowed."""
    ask: tuple[str, str] = ("", "")
    """What to write for it, as a policy's size has it: (memory, 16Gi) or (profile, 2g.20gb)."""
    why: str = ""
    series: list[Series] = field(default_factory=list)
    sharing: bool = False
    """Whether its pods have shares of these, and not all of them."""

    @property
    def held(self) -> str:
        """What its pods hold, in words."""
        return f"share of a {self.current or 'board'}" if self.sharing else self.current or "whole board"

    @property
    def smaller(self) -> bool:
        """True when less would do than what its pods hold."""
        return self.size is not None and (self.size.profile != self.current or self.shares > 1)

    @property
    def confidence(self) -> str:
        """How sure it is: high from a week and three replicas, low below two days."""
        if self.days >= HORIZON_DAYS and self.replicas >= 3:
            return "high"
        return "medium" if self.days >= 2 else "low"

    @property
    def advised(self) -> str:
        """The size in words."""
        if self.size is None:
            return "-"
        if self.shares > 1:
            return f"time-slicing, {self.shares} a board"
        return self.size.profile or "whole board"

    def document(self) -> dict[str, Any]:
        """As `-o json` prints it (docs/utilization.md)."""
        return {
            "namespace": self.owner.namespace,
            "kind": self.owner.kind,
            "name": self.owner.name,
            "class": self.class_name,
            "model": self.model,
            "current": self.current,
            "advised": None if self.size is None else self.size.profile,
            "ask": {self.ask[0]: self.ask[1]} if self.smaller and self.shares == 1 else {},
            "shares": self.shares,
            "couldShare": self.could_share,
            "replicas": self.replicas,
            "days": round(self.days, 2),
            "samples": self.samples,
            "peakMiB": round(self.peak),
            "memoryMiB": None if not math.isfinite(self.memory) else round(self.memory),
            "compute": round(self.compute, 4),
            "confidence": self.confidence,
            "why": self.why,
        }


@dataclass(frozen=True, slots=True)
class Saving:
    """Boards of one model, as held and as advised, packed as closely as the placement rules allow."""

    model: str
    before: int
    after: int
    sharing: int
    """Boards where those who could share one in time did."""


def advise(usage: Usage, cluster: Cluster, least_days: float, *, allow_sharing: bool) -> list[Advice]:
    """Returns what is advised for each owner of pods in the usage, by name."""
    shared = sharers(usage)
    groups: dict[Owner, list[tuple[Series, Work]]] = defaultdict(list)
    for each in usage.series:
        if each.key.pod:
            work = cluster.work(each.key.namespace, each.key.pod, usage)
            groups[work.owner].append((each, work))
    found = _sharing(
        [_judged(owner, group, usage, shared, least_days) for owner, group in sorted(groups.items())]
    )
    return [_applied(each) for each in found] if allow_sharing else found


def _judged(
    owner: Owner,
    group: Sequence[tuple[Series, Work]],
    usage: Usage,
    shared: Mapping[tuple[str, str, str], object],
    least_days: float,
) -> Advice:
    series = [each for each, _ in group]
    first, work = group[-1]
    last = Counter(each.profile for each in series).most_common(1)[0][0]
    longest = max(each.samples for each in series) * usage.step / 86_400
    advice = Advice(
        owner,
        next((w.class_name for _, w in group if w.class_name != UNKNOWN), work.class_name),
        product(first.model),
        last,
        _at_once(series, usage.steps),
        longest,
        sum(each.samples for each in series),
        series=series,
        sharing=_share(group, shared),
    )
    board = mig.board_of(advice.model)
    advice.peak = max((max(seen(each.memory), default=0.0) for each in series), default=0.0)
    advice.why = _why_not(advice, series, usage.step, shared, board, least_days)
    if advice.why or board is None:
        return advice
    peaks, seconds = peaks_of(series, usage.step)
    advice.memory = sizing.memory_needed(peaks, max(1, round(HORIZON_DAYS * 86_400 / seconds)))
    advice.compute = _compute(series)
    choices = sizing.sizes(board)
    advice.size = sizing.smallest(choices, advice.memory, advice.compute)
    advice.ask = _ask(advice.memory, advice.size, choices)
    advice.why = _reason(advice, choices)
    return advice


def _share(group: Iterable[tuple[Series, Work]], shared: Mapping[tuple[str, str, str], object]) -> bool:
    """True where pods hold shares: their requests say so, or others were on the same device at the same time."""
    return any(
        (series.key.node, series.key.board, series.key.instance) in shared
        or any(name.endswith(keys.SHARED_SUFFIX) for name in work.devices)
        for series, work in group
    )


def _compute(series: Sequence[Series]) -> float:
    """Returns the 95th percentile of the busiest replica; those too short to have one are taken for one replica."""
    uses = [
        [value * part for value in seen(each.busy)]
        for each, part in zip(series, map(weight, series), strict=True)
    ]
    short = [value for values in uses if len(values) < _LEAST_USES for value in values]
    return max(
        sizing.quantile(values, 0.95) for values in [*(u for u in uses if len(u) >= _LEAST_USES), short]
    )


def _ask(memory: float, size: sizing.Size, choices: Sequence[sizing.Size]) -> tuple[str, str]:
    """Returns the memory to ask for where that alone gives the size; where compute chose a larger one, its profile."""
    gibibytes = max(1, min(math.ceil(memory / 1024), int(size.memory / 1024))) if size.profile else 0
    by_memory = sizing.smallest(choices, gibibytes * 1024, 0)
    return ("memory", f"{gibibytes}Gi") if by_memory == size else ("profile", size.profile)


def peaks_of(series: Iterable[Series], step: int) -> tuple[list[float], int]:
    """Returns the most memory of each half hour (or of each step, where that is longer), and its length in seconds."""
    steps = max(1, sizing.PEAK_SECONDS // step)
    parts = (
        list(seen(each.memory[i : i + steps])) for each in series for i in range(0, len(each.memory), steps)
    )
    return [max(part) for part in parts if part], steps * step


def _why_not(
    advice: Advice,
    series: Sequence[Series],
    step: int,
    shared: Mapping[tuple[str, str, str], object],
    board: mig.Board | None,
    least_days: float,
) -> str:
    if any((each.key.node, each.key.board, each.key.instance) in shared for each in series):
        return "its pods share boards in time, and each shows the whole board's numbers: nothing says what one needs"
    if _several(series):
        return "its pods hold more than one GPU each: slices cannot be added up"
    if advice.days < least_days:
        return f"only {advice.days:.1f} days were seen, and {least_days:g} are wanted (--least-days)"
    if board is None:
        return f"the board {advice.model or '(not named)'} is none that MIG divides, or not known (--model names it)"
    if len(sizing.sizes(board)) == 1:
        return f"what the slices of {advice.model} hold is not known, so none can be advised"
    if any(not any(True for _ in seen(each.busy)) for each in series):
        return "some of its pods show no use of compute: DCGM's profiling metrics are missing there"
    if odd := next((each.profile for each in series if not has_profile(each)), ""):
        return f"{advice.model} has no MIG profile {odd}: the series is not what it says"
    if impossible := _impossible(advice, series):
        return impossible
    if all(max(seen(each.busy)) < TOUCHED for each in series):
        return "none of its pods ever worked on its GPU: ask whether it needs one (`slicewise report` says since when)"
    return _flat(advice, series) or _growing(series, step) or _full(series)


def _impossible(advice: Advice, series: Sequence[Series]) -> str:
    """Says so where memory is none, or more than the device has."""
    if not advice.peak:
        return f"its memory was 0 all the time, which nothing that works needs: {_MEMORY_METRIC} is missing there"
    for each in series:
        held, most = _held(advice, each), max(seen(each.memory), default=0.0)
        if held and most > _SPILL * held:
            return (
                f"its memory was {most / 1024:.1f}Gi, and the device has {held / 1024:.1f}Gi: the series is of another "
                "board or profile than it says"
            )
    return ""


def _full(series: Sequence[Series]) -> str:
    """Says so where a slice is used up: nothing tells how much more would be."""
    if any(each.profile and sizing.quantile(seen(each.busy), 0.95) >= _FULL for each in series):
        return (
            "it uses all the compute of its slice, so nothing says what it could use: try the next larger one"
        )
    return ""


def _held(advice: Advice, series: Series) -> float:
    """Returns the MiB of a device; 0.0 where nothing says."""
    return series.board_memory or _device_memory(advice.model, series.profile)


def _several(series: Sequence[Series]) -> bool:
    """True when one pod held two devices in one step."""
    by_pod: dict[str, list[Series]] = defaultdict(list)
    for each in series:
        by_pod[each.key.pod].append(each)
    return any(_at_once(each, len(each[0].memory)) > 1 for each in by_pod.values())


def _flat(advice: Advice, series: Sequence[Series]) -> str:
    """Says so where memory sits at a fixed share of the device, as vLLM and caching allocators reserve it."""
    for each in series:
        values = sorted(seen(each.memory))
        held = _held(advice, each)
        if len(values) < 3 or not held:
            continue
        middle, most = values[len(values) // 4], values[-1]
        if most - middle <= _FLAT * most and most >= _FLAT_PART * held:
            return (
                f"its memory sits at {100 * most / held:.0f} % of what it was given: reserved ahead (as vLLM and "
                "caching allocators do), so the peak does not say what it needs; lower the reservation and look again"
            )
    return ""


def _growing(series: Sequence[Series], step: int) -> str:
    """Says so where the memory of most replicas grew to the end: the next peak is above the last one."""
    grown = [rise for each in series if (rise := _rise(list(seen(each.memory)), step))]
    if 2 * len(grown) <= len(series):
        return ""
    return (
        f"its memory grew all the time, by up to {max(grown) / 1024:.1f}Gi a day, so no peak was the last one: look "
        "for a leak, or wait until it stays level"
    )


def _rise(values: Sequence[float], step: int) -> float:
    """Returns by how many MiB a day the least memory rose through all of the record; 0.0 where it did not."""
    length = len(values) // _GROWTH_PARTS
    if not length:
        return 0.0
    least = [min(values[part * length : (part + 1) * length]) for part in range(_GROWTH_PARTS)]
    rise = least[-1] - least[0]
    if any(later <= sooner for sooner, later in pairwise(least)) or rise < _GROWTH * least[-1]:
        return 0.0
    return rise / ((_GROWTH_PARTS - 1) * length * step) * 86_400


def _device_memory(model: str, profile: str) -> float:
    board = mig.board_of(model)
    choices = sizing.sizes(board) if board else ()
    return next((size.memory for size in choices if size.profile == profile), 0.0)


def _at_once(series: Sequence[Series], steps: int) -> int:
    """Returns the most devices that were held in one step."""
    counts = [0] * steps
    for each in series:
        for index, value in enumerate(each.memory):
            counts[index] += not math.isnan(value)
    return max(counts, default=0)


def _reason(advice: Advice, choices: Sequence[sizing.Size]) -> str:
    if advice.size is None or advice.size.profile:
        return ""
    fits_compute = next(size for size in choices if size.compute >= advice.compute)
    fits_memory = next((size for size in choices if size.memory >= advice.memory), choices[-1])
    if not fits_memory.profile and not fits_compute.profile:
        return "memory and compute both want the whole board"
    if not fits_compute.profile:
        return "compute wants the whole board"
    return _MEMORY_ALONE


def _sharing(advices: Sequence[Advice]) -> list[Advice]:
    """Says, model by model, how many could share a board in time of all that want one for their memory alone."""
    found = {each.owner: each for each in advices}
    able = [
        a for a in advices if a.size is not None and not a.size.profile and not a.current and a.compute <= 0.5
    ]
    for model in sorted({each.model for each in able}):
        group = sorted((a for a in able if a.model == model), key=lambda a: (a.peak, a.owner))
        number, result = _most_sharing(model, group)
        why = (
            f"{_MEMORY_ALONE}; {result.shares} could share a board in time (--allow-sharing): put together in "
            f"{result.groups} ways, {result.over} boards ran out of memory; nothing keeps one from taking another's, "
            "so only for work that may be started again"
        )
        found |= {a.owner: replace(a, could_share=result.shares, why=why) for a in group[:number]}
    return list(found.values())


def _most_sharing(model: str, group: Sequence[Advice]) -> tuple[int, sizing.Sharing]:
    """Returns how many of the owners, lowest peak first, may share boards with each other, and how; 0 where none may.

    The owners with the highest peaks are the likeliest to stand in the others' way.
    """
    board = mig.board_of(model)
    found = 0, sizing.Sharing(1)
    low, high = 1, len(group)
    number = high
    while board and low <= high:
        series = [each for a in group[:number] for each in a.series]
        result = sizing.sharing(
            [each.memory for each in series], [each.mean for each in series], sizing.sizes(board)[-1].memory
        )
        if result.shares > 1:
            found, low = (number, result), number + 1
        else:
            high = number - 1
        number = (low + high) // 2
    return found


def _applied(advice: Advice) -> Advice:
    return replace(advice, shares=advice.could_share)


def savings(advices: Iterable[Advice]) -> list[Saving]:
    """Returns the boards of each model, as held, as advised and with sharing; what is not judged stays as it is."""
    models: dict[str, list[Advice]] = defaultdict(list)
    for each in advices:
        models[each.model].append(each)
    found = []
    for model, group in sorted(models.items()):
        board = mig.board_of(model)
        if board is None:
            continue
        before: Counter[str] = Counter()
        for each in group:
            before[each.current] += each.replicas
        found.append(
            Saving(model, _boards(board, before), _after(board, group), _after(board, map(_applied, group)))
        )
    return found


def _after(board: mig.Board, advices: Iterable[Advice]) -> int:
    slices: Counter[str] = Counter()
    sharing: Counter[int] = Counter()
    for each in advices:
        if each.shares > 1:
            sharing[each.shares] += each.replicas
        else:
            slices[each.current if each.size is None else each.size.profile] += each.replicas
    return _boards(board, slices) + sum(math.ceil(number / shares) for shares, number in sharing.items())


def _boards(board: mig.Board, slices: Counter[str]) -> int:
    demand = {
        name: number for name, number in slices.items() if name in board.profiles or name in board.aliases
    }
    return sum(slices.values()) - sum(demand.values()) + packing.fewest_boards(board, demand)


def changed_policies(advices: Sequence[Advice], cluster: Cluster) -> list[SlicingPolicy]:
    """Returns the policies with the sizes that are advised: a class gets one where all who are in it were judged.

    The size of a class is that of the owner who needs most.
    """
    classes: dict[tuple[str, str], list[Advice]] = defaultdict(list)
    for each in advices:
        policy = policy_of(each.owner.namespace, cluster.namespaces, cluster.policies)
        if policy and each.class_name in policy.spec.classes:
            classes[policy.name, each.class_name].append(each)
    found: dict[str, SlicingPolicy] = {}
    for (name, class_name), group in sorted(classes.items()):
        policy = found.get(name) or policy_of_name(name, cluster)
        change = _class_change(policy, class_name, group)
        if change is None:
            continue
        classes_ = {
            **policy.spec.classes,
            class_name: policy.spec.classes[class_name].model_copy(update=change),
        }
        spec = PolicySpec.model_validate(policy.spec.model_copy(update={"classes": classes_}).model_dump())
        found[name] = SlicingPolicy(name=name, spec=spec)
    return list(found.values())


def policy_of_name(name: str, cluster: Cluster) -> SlicingPolicy:
    """Returns a policy that some namespace names, the built-in one included."""
    policy = policy_of("", {"": {keys.POLICY: name}}, cluster.policies)
    assert policy is not None  # noqa: S101  it was found by a namespace that names it
    return policy


def _class_change(policy: SlicingPolicy, class_name: str, group: Sequence[Advice]) -> dict[str, Any] | None:
    sizes = [each.size for each in group if each.size is not None]
    if len(sizes) < len(group) or not any(each.smaller for each in group):
        return None
    known = policy.spec.classes[class_name]
    if all(each.shares > 1 for each in group):
        return {"strategy": Strategy.TIME_SLICING, "size": None, "otherwise": (Strategy.EXCLUSIVE,)}
    if any(not size.profile for size in sizes):
        return None
    otherwise = known.otherwise
    if known.strategy is not Strategy.MIG:
        otherwise = (
            known.strategy,
            *(each for each in known.otherwise if each not in {Strategy.MIG, known.strategy}),
        )
    largest = max(
        group,
        key=lambda each: (each.size.memory, each.size.compute, each.memory) if each.size else (0.0, 0.0, 0.0),
    )
    if largest.ask[0] == "profile" and len({each.model for each in group}) > 1:
        return None  # a profile's name means one board, and the class has several
    return {
        "strategy": Strategy.MIG,
        "size": Size.model_validate(dict([largest.ask])),
        "otherwise": otherwise,
    }


def policy_document(policy: SlicingPolicy) -> dict[str, Any]:
    """Returns a policy as `kubectl apply` takes it."""
    spec = policy.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {"apiVersion": API_VERSION, "kind": POLICY_KIND, "metadata": {"name": policy.name}, "spec": spec}


def tests(advices: Iterable[Advice], cluster: Cluster, snapshots: Sequence[str]) -> dict[str, Any]:
    """Returns policy tests (`slicewise test`) of what is advised, workload by workload.

    Each case is a pod with the label and the annotation to put on the owner's template. What it gets is expected
    where a pool offers that slice today; elsewhere boards must be divided first, and no name can be promised.
    """
    return {"snapshot": list(snapshots), "cases": list(_cases(advices, cluster))}


def _cases(advices: Iterable[Advice], cluster: Cluster) -> Iterable[dict[str, Any]]:
    for each in advices:
        policy = policy_of(each.owner.namespace, cluster.namespaces, cluster.policies)
        if policy is None or not each.smaller or each.size is None or each.shares > 1:
            continue
        class_name = _mig_class(policy, each.class_name)
        profile = mig.parse(each.size.profile)
        if class_name is None or profile is None:
            continue
        metadata = {
            "name": each.owner.name,
            "labels": {keys.WORKLOAD_CLASS: class_name},
            "annotations": {keys.GPU_MEMORY if each.ask[0] == "memory" else keys.PROFILE: each.ask[1]},
        }
        container = {"name": "main", "image": "advised", "resources": {"limits": {keys.GPU: 1}}}
        expect: dict[str, Any] = {"class": class_name}
        if any(profile.resource in pool.resources for pool in cluster.pools):
            expect["strategy"] = str(Strategy.MIG)
        yield {
            "name": f"{each.owner.words} would have done with {each.ask[1]} ({each.size.profile})",
            "namespace": each.owner.namespace,
            "manifest": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": metadata,
                "spec": {"containers": [container]},
            },
            "expect": expect,
        }


def _mig_class(policy: SlicingPolicy, class_name: str) -> str | None:
    """Returns the owner's own class where MIG is its strategy, else the first class where it is."""
    classes = policy.spec.classes
    if class_name in classes and classes[class_name].strategy is Strategy.MIG:
        return class_name
    return next((name for name, each in classes.items() if each.strategy is Strategy.MIG), None)
