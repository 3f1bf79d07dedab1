"""One run of chaos: faults by chance until the time is up, then the figures."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from e2e.chaos.checker import longest_excess, violations
from e2e.chaos.faults import FAULTS
from e2e.chaos.network import RemoteCluster
from e2e.chaos.scene import AWAY, Scene

BOUND = 45.0
"""Seconds that a quota may lag: the hold-down, a lease that runs out (15 s), a program frozen (20 s)."""
NODE_GRACE = "24h"
MOST_MEMORY = 150
"""MiB of one process."""


@dataclass
class Figures:
    """What a run showed."""

    seed: int
    seconds: float = 0
    faults: Counter[str] = field(default_factory=Counter)
    settled: list[float] = field(default_factory=list)
    samples: int = 0
    excess: float = 0
    work: Counter[str] = field(default_factory=Counter)
    memory: dict[str, tuple[int, int]] = field(default_factory=dict)
    steady: int = 0
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """A table for people, and every promise that was broken."""
        ordered = sorted(self.settled)
        rows = [
            ("seed", str(self.seed)),
            ("time", f"{self.seconds:.0f} s"),
            ("faults", f"{self.faults.total()}, of {len(self.faults)} kinds"),
            (
                "quota right again after",
                f"median {ordered[len(ordered) // 2]:.1f} s, at most {ordered[-1]:.1f} s",
            ),
            ("quota above what nodes offer", f"at most for {self.excess:.1f} s, of {self.samples} samples"),
            ("work", ", ".join(f"{count} {what}" for what, count in sorted(self.work.items()))),
            *(
                (f"memory, {role}", f"{last} MiB, at most {most}")
                for role, (last, most) in self.memory.items()
            ),
            ("writes while steady", f"0 in each of {self.steady} pauses"),
            ("promises broken", str(len(self.broken))),
        ]
        lines = [f"{name:30} {value}" for name, value in rows]
        lines += [f"  {count} x {what}" for what, count in sorted(self.faults.items())]
        return "\n".join([*lines, *self.broken])


def run(seed: int, seconds: float, say: Callable[[str], None], *, rounds: int = 5) -> Figures:
    """Plays each fault at least once and for so many seconds; the same seed plays the same faults.

    After so many rounds, and at the end, nothing may be written for a while.
    """
    chance, figures = random.Random(seed), Figures(seed)  # noqa: S311 - it must come again
    # KWOK says nothing of its nodes while etcd is paused, and a node that is called unreachable offers nothing.
    with (
        RemoteCluster(node_grace=NODE_GRACE) as cluster,
        tempfile.TemporaryDirectory() as folder,
    ):
        scene = Scene(cluster, Path(folder))
        try:
            scene.start()
            began = scene.now()
            waiting: list[str] = []
            over = False
            while not over:
                if len(waiting) < 2:
                    waiting = chance.sample(sorted(FAULTS), len(FAULTS))
                names = [waiting.pop() for _ in range(chance.choice((1, 1, 2)))]
                say(f"{scene.now():6.1f} s  {' and '.join(names)}")
                scene.calm = False
                change = "no change of nodes"
                try:
                    with ExitStack() as stack:
                        for name in names:
                            stack.enter_context(FAULTS[name](scene, chance))
                        change = scene.change_nodes(chance)
                except AWAY as error:
                    scene.fail(f"{' and '.join(names)} could not be played to the end: {error}")
                figures.faults.update([*names, change])
                figures.settled.append(scene.settle(" and ".join(names)))
                say(f"{scene.now():6.1f} s    {change}; right again after {figures.settled[-1]:.1f} s")
                over = scene.now() - began >= seconds and figures.faults.keys() >= FAULTS.keys()
                if over or len(figures.settled) % rounds == 0:
                    figures.steady += 1
                    scene.failures += [
                        f"written while steady: {what}" for what in scene.writes_while_steady()
                    ]
            figures.seconds = scene.now() - began
        finally:
            scene.stop()
        figures.samples, figures.work = len(scene.samples), scene.work
        figures.excess = longest_excess(scene.truth, scene.samples)
        figures.memory = {role: (seen[-1], max(seen)) for role, seen in scene.memory.items()}
        figures.broken = [
            *scene.failures,
            *violations(scene.truth, scene.samples, BOUND),
            *scene.tracebacks(),
        ]
        for role, (_, most) in figures.memory.items():
            if most > MOST_MEMORY:
                figures.broken.append(f"a {role} took {most} MiB, more than {MOST_MEMORY}")
    return figures
