"""A stream of jobs on partitionable boards: whose quota admits what has no place, and whose leaves places empty.

A made-up but seeded stream of jobs of five sizes comes to eight H100 under dynamic MIG. Kueue admits what its quota has
room for, the oldest first, and passes over what does not fit (BestEffortFIFO). The scheduler gives a pod the first free
place in the order in which the driver lists them, or, with `--anywhere`, any free place. Nothing is moved.

- names: Kueue's count quota. Each name has quota for what the boards could be of it alone.
- counters: Kueue's counter quota (`deviceClassMappings`). A job is charged the memory slices of its profile, out of 64.
- Slicewise: a plan without `promise`; what `promise_of` says of what runs, what waits and where claims are, one second
  after each change.

Printed for each: jobs that were admitted and then waited for a place longer than the settle time, and the longest such
wait; memory slices that stood empty although a waiting job had a place in them, and all that stood empty while any job
waited, as parts of all memory slices over the time in which jobs waited; the longest that any job waited in all; and
when the last job had ended.
"""

import argparse
import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from queue_sync.planning.promises import promise_of
from slicewise.gpu import mig
from slicewise.gpu.placement import most_alone
from slicewise.inventory.node_devices import PublishedDevices
from slicewise.inventory.pools import Inventory
from slicewise.inventory.sources.dra import Claim
from tests.inventory.nodes import document, read
from tests.inventory.resource_slices import (
    NVIDIA_CLASS,
    class_of_profile,
    partitionable,
    published_devices,
    resource_slice,
)
from tests.queue_sync.scenes import GPU, plan

NAME = "promises"
HELP = "a stream of jobs on partitionable boards under three kinds of quota: over-promised, and left empty"

BOARDS, JOBS = 8, 300
SETTLE, LAG = 60.0, 1.0
BOARD: Final = mig.boards()["h100-80gb"]
SIZE: Final = BOARD.memory_slices or 0
# What a job asks for, and how often that comes: profiles that people ask for, and whole boards.
MIX: Final = {"1g.10gb": 8, "2g.20gb": 4, "3g.40gb": 4, "4g.40gb": 2, "": 1}

Rule = Callable[["Cluster"], Mapping[str, int]]
"""A cluster -> how much quota each profile has; of counters, how much the memory slices "" have."""


@dataclass(frozen=True, slots=True)
class Job:
    """One pod that asks for one device."""

    number: int
    at: float
    profile: str
    seconds: float


@dataclass(slots=True)
class Cluster:
    """Boards, and the jobs that wait for quota, wait for a place, and run."""

    devices: PublishedDevices
    inventory: Inventory
    waiting: list[Job] = field(default_factory=list)
    admitted: dict[Job, float] = field(default_factory=dict)
    running: dict[Job, tuple[int, int]] = field(default_factory=dict)
    boards: list[int] = field(default_factory=lambda: [0] * BOARDS)

    def holding(self) -> Iterator[Job]:
        """Yields what has quota."""
        yield from self.admitted
        yield from self.running


def memory(profile: str) -> int:
    """Memory slices that a profile takes."""
    return (BOARD.profiles[profile].memory or 0) if profile else SIZE


def places(profile: str) -> Sequence[tuple[str, int]]:
    """Name and memory slices, one bit each, of each place that a profile has on a board, as the driver lists them."""
    if not profile:
        return [("", (1 << SIZE) - 1)]
    starts = BOARD.profiles[profile].starts or ()
    return [
        (f"-mig-{profile.replace('.', '')}-{start}", ((1 << memory(profile)) - 1) << start)
        for start in starts
    ]


def resource(profile: str) -> str:
    """The name that pods ask for."""
    return f"nvidia.com/mig-{profile}" if profile else GPU


# --- The rules --------------------------------------------------------------------------------------------


def by_names(_: Cluster) -> Mapping[str, int]:
    """What the boards could be of each name alone."""
    return {profile: BOARDS * most_alone(BOARD, profile) for profile in MIX}


def by_what_is_placed(cluster: Cluster) -> Mapping[str, int]:
    """What a plan without `promise` has quota of."""
    (pool,) = cluster.inventory
    in_use = Counter(resource(job.profile) for job in cluster.holding())
    demand = [{resource(job.profile): 1} for job in cluster.waiting]
    found = promise_of(plan().spec, pool, in_use, demand, cluster.devices)
    quota = found[0] if found is not None else {}
    return {profile: quota.get(resource(profile), 0) for profile in MIX}


def fits_counts(cluster: Cluster, job: Job, quota: Mapping[str, int]) -> bool:
    """True when the name of the job has quota left."""
    return sum(each.profile == job.profile for each in cluster.holding()) < quota[job.profile]


def fits_counters(cluster: Cluster, job: Job, _: Mapping[str, int]) -> bool:
    """True when there are so many memory slices left."""
    return sum(memory(each.profile) for each in cluster.holding()) + memory(job.profile) <= BOARDS * SIZE


RULES: dict[str, tuple[Rule, Callable[[Cluster, Job, Mapping[str, int]], bool], float]] = {
    "names": (by_names, fits_counts, 0.0),
    "counters": (by_names, fits_counters, 0.0),
    "Slicewise": (by_what_is_placed, fits_counts, LAG),
}


# --- The life ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Result:
    """What came of one rule."""

    late: int = 0
    longest: float = 0.0
    slowest: float = 0.0
    stranded: float = 0.0
    empty: float = 0.0
    busy: float = 0.0
    end: float = 0.0

    def share(self, slices: float) -> float:
        """Memory slices times seconds, as a part of all of them while jobs waited."""
        return slices / (BOARDS * SIZE * self.busy) if self.busy else 0.0


def stream(seed: int, jobs: int) -> list[Job]:
    """Jobs as they come: rather more than the boards can hold at once."""
    chance = random.Random(seed)  # noqa: S311 - a repeatable stream, no secret
    at, found = 0.0, []
    for number in range(jobs):
        at += chance.expovariate(1 / 20)
        profile = chance.choices(list(MIX), list(MIX.values()))[0]
        found.append(Job(number, at, profile, chance.lognormvariate(6.2, 0.6)))
    return found


def cluster() -> Cluster:
    """One node with eight partitionable boards."""
    every = [partitionable(index) for index in range(BOARDS)]
    count = BOARDS + 1
    slices = [
        resource_slice(name="n1-counters", devices=None, sharedCounters=[c for _, c in every], count=count),
        *(
            resource_slice(*devices, name=f"n1-{index}", count=count)
            for index, (devices, _) in enumerate(every)
        ),
    ]
    classes = [NVIDIA_CLASS, *(class_of_profile(profile) for profile in MIX if profile)]
    devices = published_devices(slices, classes)
    return Cluster(devices, Inventory([read(document("n1", {}, {}))], devices=devices))


def free(boards: Sequence[int], profile: str) -> list[tuple[int, str, int]]:
    """Board, device and memory slices of each free place, in the driver's order."""
    return [
        (index, f"gpu-{index}{name}", span)
        for index, state in enumerate(boards)
        for name, span in places(profile)
        if not state & span
    ]


def placeable(boards: Sequence[int], jobs: Sequence[Job]) -> int:
    """How many memory slices jobs would take of the boards as they stand, the oldest first."""
    states, found = list(boards), 0
    for job in jobs:
        if open_places := free(states, job.profile):
            index, _, span = open_places[0]
            states[index] |= span
            found += span.bit_count()
    return found


def live(rule: str, jobs: Sequence[Job], anywhere: int | None = None) -> Result:
    """Plays the stream under one rule; with `anywhere`, the seed of chance, pods get any free place."""
    chance = None if anywhere is None else random.Random(anywhere)  # noqa: S311 - as above
    quota_of, fits, lag = RULES[rule]
    now, result, state = 0.0, Result(), cluster()
    quota = quota_of(state)
    arrivals, ends = list(reversed(jobs)), list[tuple[float, int, Job]]()
    look_at: float | None = None
    while arrivals or state.waiting or state.admitted or ends:
        coming = [arrivals[-1].at] if arrivals else []
        then = min([*coming, *(end for end, _, _ in ends[:1]), *([look_at] if look_at is not None else [])])
        if jobless := [*state.waiting, *state.admitted]:
            result.busy += then - now
            result.empty += (then - now) * sum(SIZE - each.bit_count() for each in state.boards)
            result.stranded += (then - now) * placeable(state.boards, jobless)
        now = then
        while arrivals and arrivals[-1].at <= now:
            state.waiting.append(arrivals.pop())
        while ends and ends[0][0] <= now:
            _, _, job = heapq.heappop(ends)
            index, span = state.running.pop(job)
            state.boards[index] &= ~span
            state.devices.put_claim(f"lab/{job.number}", None)
        if look_at is not None and look_at <= now:
            quota, look_at = quota_of(state), None
        elif look_at is None and lag:
            look_at = now + lag
        before = len(state.waiting), len(state.running)
        for job in list(state.waiting):
            if fits(state, job, quota):
                state.waiting.remove(job)
                state.admitted[job] = now
        for job in list(state.admitted):
            if open_places := free(state.boards, job.profile):
                index, device, span = chance.choice(open_places) if chance else open_places[0]
                since = state.admitted.pop(job)
                result.late += now - since > SETTLE
                result.longest = max(result.longest, now - since)
                result.slowest = max(result.slowest, now - job.at)
                state.boards[index] |= span
                state.running[job] = (index, span)
                state.devices.put_claim(f"lab/{job.number}", Claim((("n1", device),)))
                heapq.heappush(ends, (now + job.seconds, job.number, job))
        if lag and before != (len(state.waiting), len(state.running)):
            look_at = now + lag
    result.end = now
    return result


def run(arguments: Sequence[str]) -> int:
    """Prints what came of each rule; 1 when ours let in what had no place, or left more than 5 % empty."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.benchmarks {NAME}", description=HELP)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--anywhere", action="store_true", help="pods get any free place, not the first")
    options = parser.parse_args(arguments)
    jobs = stream(options.seed, options.jobs)
    print(f"{len(jobs)} jobs on {BOARDS} H100 with {BOARDS * SIZE} memory slices, seed {options.seed}")
    print(
        f"{'quota by':10} {'no place':>9} {'longest':>9} {'stranded':>9} {'empty':>7} {'slowest':>9} {'ended':>9}"
    )
    for rule in RULES:
        found = live(rule, jobs, options.seed if options.anywhere else None)
        print(
            f"{rule:10} {found.late:9} {found.longest:8.0f}s {found.share(found.stranded):9.1%} "
            f"{found.share(found.empty):7.1%} {found.slowest:8.0f}s {found.end:8.0f}s"
        )
    return int(found.late > 0 or found.share(found.stranded) > 0.05)
