"""What different rules make of the same recorded life of a cluster: promised beyond truth, and left idle.

A made-up but seeded life: nodes with eight boards, divided in `all-1g.10gb` (56 slices) or left whole, go through what
really happens to nodes: device plugins restart, the MIG manager repartitions them in the changes of its timeline (old
`success` beside the new config, `pending`, nothing allocatable, `success` again, new numbers beside old labels, all in
agreement), kubelets are lost and come back, admins cordon, nodes are deleted. The truth is what pods could really get:
a plugin's restart takes no device from anybody, so it leaves the truth as it is; a node that is lost, cordoned or being
repartitioned offers nothing.

Every rule sees the same Node objects at the same times. One slice of seven is a seventh of a GPU. "After 6 min" counts
only what a node still promises beyond truth when its truth has not changed for the hold-down.

Of a node that offers something and counts as nothing there are two kinds, and both are printed:
- A false zero: what it offers was counted before and has been there ever since. Whoever waits in the queue is told
  that there is nothing, for no reason.
- Not yet: it offers what was never counted, as after a repartition that took longer than the hold-down. The zero is
  the truth about what was there before, which is gone; what came instead is believed once it has settled
  (`--settle`), and until then it is left idle, as the column says in GPU-seconds. To count the old any longer would
  promise what is gone; to count the new at once would believe numbers that labels still deny.

`--trace DIR` takes the nodes of a published trace instead of made-up ones, see `quota_traces.py`.
"""

import argparse
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queue_sync.planning.node_trust import NodeState, Settings, evaluate
from slicewise.api import keys
from slicewise.inventory.node import Node
from slicewise.inventory.planned_geometry import observe
from tests.benchmarks.quota_traces import Shape, TraceError, described, made_up, shapes
from tests.queue_sync.scenes import GPU, ONE, exclusive, mixed, node, read_node

NAME = "quota-rules"
HELP = "rules that others use for quota from nodes, and ours, on the same recorded events"

Offer = dict[str, int]
HOLD_DOWN = Settings().hold_down
WORTH = {GPU: 1.0, ONE: 1 / 7}


@dataclass(frozen=True, slots=True)
class Moment:
    """From this second on the node looks so, and can really serve so much; None: it is deleted."""

    at: float
    node: str
    shown: Mapping[str, Any] | None
    truth: Offer


def whole(name: str, shape: Shape, *, sliced: bool, **changes: Any) -> dict[str, Any]:
    """A sound node."""
    if not sliced:
        return exclusive(name, gpus=shape.boards, product=shape.product, **changes)
    document = mixed(name, {"1g.10gb": 7 * shape.boards}, product=shape.product, **changes)
    document["metadata"]["labels"][keys.COUNT] = str(shape.boards)
    return document


def offer(shape: Shape, *, sliced: bool) -> Offer:
    return {ONE: 7 * shape.boards} if sliced else {GPU: shape.boards}


def repartition(name: str, shape: Shape, at: float, rng: random.Random, *, sliced: bool) -> Iterator[Moment]:
    """The timeline of the MIG manager (reference: nvidia.md section 4.7); `sliced` is how it was."""
    old, new = whole(name, shape, sliced=sliced), whole(name, shape, sliced=not sliced)
    labels = {**old["metadata"]["labels"], keys.MIG_CONFIG: "all-disabled" if sliced else "all-1g.10gb"}
    pending = {**labels, keys.MIG_CONFIG_STATE: "pending"}
    amounts, wanted = offer(shape, sliced=sliced), offer(shape, sliced=not sliced)
    yield Moment(at, name, node(name, labels, amounts), {})
    yield Moment(at + 3, name, node(name, pending, amounts), {})
    at += 10
    yield Moment(at, name, node(name, pending, dict.fromkeys(amounts, 0), capacity=amounts), {})
    at += rng.uniform(30, 200)
    done = {**labels, keys.MIG_CONFIG_STATE: "success"}
    yield Moment(at, name, node(name, done, dict.fromkeys(amounts, 0), capacity=amounts), {})
    at += rng.uniform(10, 60)
    yield Moment(at, name, node(name, done, wanted), wanted)
    at += rng.uniform(5, 60)
    agreed = {
        **new["metadata"]["labels"],
        keys.MIG_CONFIG: labels[keys.MIG_CONFIG],
        keys.MIG_CONFIG_STATE: "success",
    }
    yield Moment(at, name, node(name, agreed, wanted), wanted)


def life(nodes: Sequence[Shape], hours: float, seed: int) -> list[Moment]:
    """Everything that happens, in order."""
    rng = random.Random(seed)  # noqa: S311 - a repeatable cluster, no secret
    moments: list[Moment] = []
    for index, shape in enumerate(nodes):
        name, sliced, at = f"n{index}", shape.divisible and index % 2 == 0, 0.0
        chances = [6, 3 if shape.divisible else 0, 2, 2, 1]
        moments.append(Moment(at, name, whole(name, shape, sliced=sliced), offer(shape, sliced=sliced)))
        while (at := at + rng.expovariate(1 / 5400)) < hours * 3600 - 900:
            what = rng.choices(["plugin", "repartition", "lost", "cordon", "deleted"], chances)[0]
            sound, healthy = offer(shape, sliced=sliced), whole(name, shape, sliced=sliced)
            if what == "plugin":
                labels = healthy["metadata"]["labels"]
                shown = node(name, labels, dict.fromkeys(sound, 0), capacity=sound)
                moments.append(Moment(at, name, shown, sound))
                at += rng.uniform(10, 90)
                moments.append(Moment(at, name, healthy, sound))
            elif what == "repartition":
                changes = list(repartition(name, shape, at, rng, sliced=sliced))
                moments += changes
                at, sliced = changes[-1].at, not sliced
            elif what == "deleted":
                moments.append(Moment(at, name, None, {}))
                at += rng.uniform(60, 900)
                moments.append(Moment(at, name, healthy, sound))
            else:
                change: dict[str, Any] = {"ready": False} if what == "lost" else {"cordoned": True}
                moments.append(Moment(at, name, whole(name, shape, sliced=sliced, **change), {}))
                at += rng.uniform(30, 1800)
                moments.append(Moment(at, name, healthy, sound))
    return sorted(moments, key=lambda moment: (moment.at, moment.node))


# --- The rules: a Node (None: deleted) -> what its quota is ------------------------------------------------

Rule = Callable[[str, Node | None], Offer]


def devices(amounts: Mapping[str, str | int] | None) -> Offer:
    return {name: int(amounts[name]) for name in (GPU, ONE) if amounts and name in amounts}


def sum_of_allocatable(_name: str, seen: Node | None) -> Offer:
    """On every event, of every node (abatilo/kueuecapacity)."""
    return devices(seen.status.allocatable) if seen is not None else {}


def ready_allocatable(_name: str, seen: Node | None) -> Offer:
    """Of Ready, schedulable nodes (kubernetes-sigs/kueue #10745, #16080)."""
    sound = seen is not None and seen.ready and not seen.spec.unschedulable
    return devices(seen.status.allocatable) if sound and seen is not None else {}


def capacity_of_nodes(_name: str, seen: Node | None) -> Offer:
    """`status.capacity` instead of allocatable, so that a plugin's restart does not show."""
    return devices(seen.status.capacity) if seen is not None else {}


def boards_from_labels(_name: str, seen: Node | None) -> Offer:
    """Physical boards from `nvidia.com/gpu.count`, whatever they are divided into."""
    return {GPU: int(seen.labels.get(keys.COUNT, "0"))} if seen is not None else {}


def skip_updates() -> Rule:
    """What a node offered when it was added; updates are skipped."""
    known: dict[str, Offer] = {}

    def rule(name: str, seen: Node | None) -> Offer:
        if seen is None:
            known.pop(name, None)
            return {}
        return known.setdefault(name, devices(seen.status.allocatable))

    return rule


class Ours:
    """`queue_sync.planning.node_trust`, with its own clock events."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.beliefs: dict[str, NodeState] = {}
        self.nodes: dict[str, Node] = {}

    def look(self, name: str, now: float) -> Offer:
        seen = observe(self.nodes[name]) if name in self.nodes else None
        if seen is None:
            self.beliefs.pop(name, None)
            return {}
        belief = evaluate(self.beliefs.get(name), seen, now, self.settings)
        self.beliefs[name] = belief
        return belief.counted.quantities if belief.counted is not None else {}


@dataclass(slots=True)
class Account:
    """GPU-seconds."""

    beyond: float = 0.0
    beyond_late: float = 0.0
    idle: float = 0.0
    truth: float = 0.0
    false_zeros: int = 0
    not_yet: int = 0

    def add(self, seconds: float, late: float, quota: Offer, truth: Offer) -> None:
        """So much was promised for so long, `late` seconds of it after the hold-down, and so much was there."""
        for name, worth in WORTH.items():
            promised, real = quota.get(name, 0), truth.get(name, 0)
            self.beyond += max(0, promised - real) * worth * seconds
            self.beyond_late += max(0, promised - real) * worth * late
            self.idle += max(0, real - promised) * worth * seconds
            self.truth += real * worth * seconds


def replay(moments: Sequence[Moment], end: float, rule: Rule | Ours) -> Account:
    """Runs one rule over the whole life, node by node: rules judge each node by itself."""
    account = Account()
    by_node: dict[str, list[Moment]] = {}
    for moment in moments:
        by_node.setdefault(moment.node, []).append(moment)
    for name, own in by_node.items():
        since = 0.0
        truth: Offer = {}
        counted: set[str] = set()
        for moment, following in zip(own, [*own[1:], None], strict=True):
            until = following.at if following is not None else end
            seen = read_node(moment.shown) if moment.shown is not None else None
            at = moment.at
            if moment.truth != truth:
                since, truth = at, moment.truth
                counted &= truth.keys()
            while at < until:
                quota, stop = _judged(rule, name, seen, at)
                stop = min(until, stop)
                counted |= {each for each, number in quota.items() if number and truth.get(each)}
                if not any(quota.values()) and any(truth.values()):
                    account.false_zeros += bool(counted)
                    account.not_yet += not counted
                late = max(0.0, stop - max(at, since + HOLD_DOWN))
                account.add(stop - at, late, quota, truth)
                at = stop
    return account


def _judged(rule: Rule | Ours, name: str, seen: Node | None, at: float) -> tuple[Offer, float]:
    """What a rule says of a node now, and until when it says so."""
    if not isinstance(rule, Ours):
        return rule(name, seen), float("inf")
    if seen is None:
        rule.nodes.pop(name, None)
    else:
        rule.nodes[name] = seen
    quota = rule.look(name, at)
    belief = rule.beliefs.get(name)
    look_at = belief.look_at if belief is not None else None
    return quota, look_at if look_at is not None and look_at > at else float("inf")


def run(arguments: Sequence[str]) -> int:
    """Runs it; returns the exit status."""
    parser = argparse.ArgumentParser(prog=NAME, description=HELP)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trace", type=Path, metavar="DIR", help="a folder with a trace's nodes.csv")
    options = parser.parse_args(arguments)
    try:
        nodes = shapes(options.trace) if options.trace else made_up(options.nodes)
    except TraceError as error:
        print(error, file=sys.stderr)
        return 2
    moments = life(nodes, options.hours, options.seed)
    end = options.hours * 3600
    rules: dict[str, Rule | Ours] = {
        "Slicewise": Ours(Settings()),
        "sum of allocatable": sum_of_allocatable,
        "allocatable, Ready nodes": ready_allocatable,
        "capacity": capacity_of_nodes,
        "boards from labels": boards_from_labels,
        "updates skipped": skip_updates(),
    }
    print(f"{len(nodes)} nodes, {options.hours:g} h, {len(moments)} events, seed {options.seed}")
    print("\n".join(described(nodes)))
    print("nodes that are divided are divided anew again and again")
    print("per cent of the GPU-seconds that were really there")
    print(
        f"{'rule':26} {'beyond truth':>13} {'after 6 min':>12} {'left idle':>10} {'false zeros':>12} {'not yet':>8}"
    )
    for name, rule in rules.items():
        told = replay(moments, end, rule)
        beyond, late, idle = (100 * each / told.truth for each in (told.beyond, told.beyond_late, told.idle))
        zeros = f"{told.false_zeros:12} {told.not_yet:8}"
        print(f"{name:26} {beyond:12.2f}% {late:11.2f}% {idle:9.2f}% {zeros}", flush=True)
    return 0
