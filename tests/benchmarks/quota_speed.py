"""How quickly and how cheaply the controller follows nodes.

The real program, `slicewise controller`, in a process of its own, against the test API server in this one. Nodes are
made here: half of them divided by MIG, half whole, 20 models, 40 further labels each as GPU feature discovery writes
them; `--trace DIR` takes the nodes of a published trace instead (`quota_traces.py`). One plan feeds 300 queues, and
there is a LocalQueue in each of as many namespaces as nodes. Then nodes grow by one device at 1, 10 and 100 events a
second; a time is from the watch event to the last ClusterQueue written because of it, as the controller's own histogram
has it. Then labels that no selector reads change on namespaces. All the while, from the start on, a third process asks
for `/healthz`: what an answer takes is the longest that a pass held the loop, and what the machine did besides. What a
second without any event costs is measured first, with that asking and without; the former is taken off an event's CPU.

The API server is Python too, makes the events and shares the machine, so times include waiting for it. How much of a
core it had is printed. Goals are printed beside the figures, and nothing is asserted.
"""

import argparse
import asyncio
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slicewise.api import keys
from tests.benchmarks.health_probe import Probe, longest
from tests.benchmarks.quota_traces import Shape, TraceError, described, shapes
from tests.kube.apiserver import ApiServer, kubeconfig
from tests.queue_sync.running import KINDS, LOCAL, NODES, QUEUES, WRITES, World
from tests.queue_sync.scenes import exclusive, mixed

NAME = "quota-speed"
HELP = "the controller on 1,000 and 5,000 nodes: first sync, time from event to quota, CPU, memory, writes"

POOLS, TEAMS = 20, 300
IDLE = 10.0
"""Seconds without any event."""
LABELLED = 500
"""Namespaces that get a label nobody reads."""
P99_GOALS = {1: 0.5, 10: 0.5, 100: 1.0}
"""Seconds, by events a second."""


@dataclass(frozen=True, slots=True)
class Load:
    """One rate of events, and what it took."""

    rate: int
    events: int
    cpu: float
    """Milliseconds an event."""
    p50: float
    p99: float
    writes: int
    busy: float
    """Share of one core that the API server and the events took."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Which nodes there are: `boards` of `product`, in slices of 1g.10gb or whole."""

    products: tuple[str, ...]
    units: tuple[int, ...]
    """What each node offers at first: slices or boards."""
    sliced: tuple[bool, ...]

    @property
    def pools(self) -> int:
        """How many pools they make."""
        return len(set(zip(self.products, self.sliced, strict=True)))

    def node(self, index: int, more: int = 0) -> dict[str, object]:
        """A node by its number, with `more` devices than at first."""
        name, units, product = f"n{index}", self.units[index] + more, self.products[index]
        if self.sliced[index]:
            document = mixed(name, {"1g.10gb": units}, product=product)
        else:
            document = exclusive(name, gpus=units, product=product)
        filler = {f"{keys.VENDOR}filler-{number}": f"value-{number}" for number in range(40)}
        document["metadata"]["labels"] |= filler
        return document


def made_up(nodes: int) -> Layout:
    """Nodes of ten models, every other ten of them divided."""
    sliced = tuple(index % 20 < 10 for index in range(nodes))
    products = tuple(f"NVIDIA-X{index % (POOLS // 2)}-80GB" for index in range(nodes))
    return Layout(products, tuple(7 if each else 8 for each in sliced), sliced)


def traced(found: Sequence[Shape]) -> Layout:
    """The nodes of a trace: of those that MIG divides every other one is."""
    sliced = tuple(shape.divisible and index % 2 == 0 for index, shape in enumerate(found))
    units = tuple(shape.boards * (7 if each else 1) for shape, each in zip(found, sliced, strict=True))
    return Layout(tuple(shape.product for shape in found), units, sliced)


class Program:
    """The controller as a process."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process, self.address = process, address

    def cpu(self) -> float:
        """Seconds of CPU so far, by the clock of the process (clock_getcpuclockid): its ticks are too coarse."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def memory(self) -> float:
        """Most MB of memory so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else 0.0

    async def metrics(self) -> str:
        """What Prometheus would read."""

        def fetch() -> str:
            with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=30) as answer:
                text: str = answer.read().decode()
                return text

        return await asyncio.to_thread(fetch)

    async def latencies(self) -> list[tuple[float, float]]:
        """The histogram from event to write: (upper bound in seconds, how many so far)."""
        pattern = r'slicewise_controller_event_to_write_seconds_bucket\{le="([^"]+)"\} (\S+)'
        return [(float(bound), float(count)) for bound, count in re.findall(pattern, await self.metrics())]


def quantile(before: list[tuple[float, float]], after: list[tuple[float, float]], share: float) -> float:
    """The upper bound of the bucket that holds the quantile."""
    known = dict(before)
    total = after[-1][1] - known.get(after[-1][0], 0.0)
    for bound, count in after:
        if total and count - known.get(bound, 0.0) >= share * total:
            return bound
    return float("nan")


async def start(server: ApiServer, folder: Path) -> Program:
    command = [
        "-m",
        "slicewise",
        "controller",
        "--kubeconfig",
        kubeconfig(folder, server.url),
        "--operations-listen",
        "127.0.0.1:0",
    ]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        if found := re.search(r"operations=(\S+)", line):
            asyncio.create_task(drain(process.stderr)).add_done_callback(lambda _: None)
            return Program(process, found[1])
    raise RuntimeError("the controller did not start")


async def drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass


def total(world: World) -> int:
    """The sum of all quota for GPUs."""
    queues = world.server.objects[QUEUES]
    return sum(int(number) for name in queues for number in world.quota(name).values())


async def until(world: World, wanted: int) -> None:
    while total(world) != wanted or len(world.server.objects[QUEUES]) < TEAMS:  # noqa: ASYNC110
        await asyncio.sleep(0.25)


async def marked(world: World) -> None:
    while any(keys.POOL not in n["metadata"]["labels"] for n in world.server.objects[NODES].values()):  # noqa: ASYNC110
        await asyncio.sleep(0.1)


async def background(program: Program) -> float:
    """The CPU of a second in which nothing happens."""
    cpu = program.cpu()
    await asyncio.sleep(IDLE)
    return (program.cpu() - cpu) / IDLE


async def quiet(server: ApiServer) -> int:
    """Waits until nothing has been written for two seconds; returns how much was written in all."""
    last = -1
    while (now := sum(one.method in WRITES for one in server.seen)) != last:
        last = now
        await asyncio.sleep(2)
    return now


async def load(
    world: World,
    layout: Layout,
    program: Program,
    rate: int,
    events: int,
    grown: dict[int, int],
    idle: float,
) -> Load:
    """Lets nodes grow at a rate; `idle` is the CPU of a second without any event."""
    before = await program.latencies()
    cpu, wanted = program.cpu(), total(world)
    wrote = sum(one.method in WRITES for one in world.server.seen)
    began, ours = time.monotonic(), time.process_time()
    for number in range(events):
        index = number * 7 % len(world.server.objects[NODES])
        grown[index] = grown.get(index, 0) + 1
        world.node(layout.node(index, grown[index]))
        await asyncio.sleep(max(0.0, began + (number + 1) / rate - time.monotonic()))
    await until(world, wanted + events)
    busy = (time.process_time() - ours) / (time.monotonic() - began)
    await asyncio.sleep(1)
    spent = program.cpu() - cpu - idle * (time.monotonic() - began)
    writes = sum(one.method in WRITES for one in world.server.seen) - wrote
    after = await program.latencies()
    p50, p99 = (quantile(before, after, share) for share in (0.5, 0.99))
    return Load(rate, events, 1000 * spent / events, p50, p99, writes, busy)


async def unread_labels(world: World, program: Program, namespaces: int, idle: float) -> float:
    """Changes labels of namespaces that no selector reads; returns the CPU of one in milliseconds."""
    before, began = program.cpu(), time.monotonic()
    for number in range(LABELLED):
        index = number * 7 % namespaces
        world.namespace(f"ns-{index}", team=str(index % TEAMS), note=str(number))
        await asyncio.sleep(0.01)
    await asyncio.sleep(1)
    return 1000 * (program.cpu() - before - idle * (time.monotonic() - began)) / LABELLED


async def measure(layout: Layout, rates: Sequence[tuple[int, int]]) -> None:
    async with ApiServer(KINDS).running() as server:
        world, nodes = World(server), len(layout.units)
        for index in range(nodes):
            world.node(layout.node(index))
            world.namespace(f"ns-{index}", team=str(index % TEAMS))
        world.plan(
            queues=[
                {
                    "name": f"team-{number}",
                    "share": 1 + number % 7,
                    "namespaces": {"matchLabels": {"team": str(number)}},
                }
                for number in range(TEAMS)
            ]
        )
        with tempfile.TemporaryDirectory() as folder, Probe() as probe:
            began = time.monotonic()
            program = await start(server, Path(folder))
            try:
                with probe.asking(program.address) as answers:
                    await until(world, sum(layout.units))
                    first, first_cpu = time.monotonic() - began, program.cpu()
                    await marked(world)
                    labelled = time.monotonic() - began
                    while len(server.objects[LOCAL]) < nodes:  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
                print(
                    f"{nodes} nodes, {layout.pools} pools, {TEAMS} queues, {nodes} namespaces: all quota written "
                    f"{first:.1f} s after the start (goal: 5; {first_cpu:.1f} s CPU), all nodes labelled after "
                    f"{labelled:.1f} s, a LocalQueue in every namespace after {time.monotonic() - began:.1f} s; "
                    f"{longest(answers)}",
                    flush=True,
                )
                await quiet(server)
                await measure_events(world, layout, program, probe, rates)
            finally:
                program.process.terminate()
                await program.process.wait()


async def measure_events(
    world: World, layout: Layout, program: Program, probe: Probe, rates: Sequence[tuple[int, int]]
) -> None:
    server, nodes = world.server, len(layout.units)
    before = await quiet(server)
    alone = await background(program)
    with probe.asking(program.address) as answers:
        idle = await background(program)
        scrapes = []
        for _ in range(2):  # the first reads what no scrape has read yet
            cpu = program.cpu()
            await program.metrics()
            scrapes.append(1000 * (program.cpu() - cpu))
    print(
        f"  a second without events: {1000 * alone:.1f} ms CPU, {1000 * idle:.1f} while it is asked for its health, "
        f"{await quiet(server) - before} writes; two scrapes: {scrapes[0]:.0f} and {scrapes[1]:.0f} ms CPU; "
        f"{longest(answers)}",
        flush=True,
    )
    grown: dict[int, int] = {}
    for rate, events in rates:
        with probe.asking(program.address) as answers:
            told = await load(world, layout, program, rate, events, grown, idle)
        print(
            f"  {told.rate:3} events/s: p50 <= {told.p50:g} s, p99 <= {told.p99:g} s (goal: {P99_GOALS[rate]:g}), "
            f"{told.cpu:.1f} ms CPU an event (goal: 15), {told.writes} writes for {told.events} events; "
            f"the API server had {100 * told.busy:.0f} % of a core; {longest(answers)}",
            flush=True,
        )
    before = await quiet(server)
    with probe.asking(program.address) as answers:
        cost = await unread_labels(world, program, nodes, idle)
    print(
        f"  a label of a namespace that nobody reads: {cost:.1f} ms CPU (goal: 1), {await quiet(server) - before} "
        f"writes; {longest(answers)}",
        flush=True,
    )
    before = await quiet(server)
    for index in range(nodes):
        server.put(NODES, f"n{index}", **{**server.objects[NODES][f"n{index}"], "heartbeat": "now"})
    await asyncio.sleep(3)
    written = await quiet(server) - before
    print(
        f"  heartbeats of all nodes: {written} writes; most memory: {program.memory():.0f} MB (goal: 150)",
        flush=True,
    )


def run(arguments: Sequence[str]) -> int:
    """Runs it; returns the exit status."""
    parser = argparse.ArgumentParser(prog=NAME, description=HELP)
    parser.add_argument("--nodes", type=int, nargs="*", default=[1000, 5000])
    parser.add_argument("--seconds", type=int, default=20, help="how long each rate lasts")
    parser.add_argument("--trace", type=Path, metavar="DIR", help="a folder with a trace's nodes.csv")
    options = parser.parse_args(arguments)
    try:
        found = shapes(options.trace) if options.trace else []
    except TraceError as error:
        print(error, file=sys.stderr)
        return 2
    if found:
        print("\n".join(described(found)))
    for layout in [traced(found)] if found else [made_up(nodes) for nodes in options.nodes]:
        asyncio.run(measure(layout, [(rate, rate * options.seconds) for rate in (1, 10, 100)]))
    return 0
