"""`python -m tests.fuzz --reviews 1000000`: the long run, from a seed, so that every review can be had again.

Review number N of a seed is the same on every machine: `--from N` goes on where a run was stopped, and `--show N`
prints one review and says what is wrong with its answer. With atheris at hand (it is not asked for), `--atheris`
lets it choose the damages by what code they reach. `--edits` makes updates instead, as people do.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from random import Random

from admission.decision.cluster_state import ClusterState
from tests.fuzz import corpus, damage, edits
from tests.fuzz.properties import BrokenError, check

_EVERY_SECONDS = 30.0
_SHOWN = 20
Source = Callable[[int, int], bytes]


def made(seed: int, number: int) -> bytes:
    """Returns one review of a run."""
    rng = Random(f"{seed}:{number}")  # noqa: S311  nothing here is secret
    return damage.body(rng, corpus.review(rng))


def edited(seed: int, number: int) -> bytes:
    """Returns one update of a run; no bytes where nothing was created that could be."""
    return edits.update(Random(f"{seed}:{number}")) or b""  # noqa: S311  as above


def main(arguments: Sequence[str]) -> int:
    """Runs; exit status 1 when a property does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Answers damaged reviews.")
    parser.add_argument("--reviews", type=int, default=100_000, help="how many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from", type=int, default=0, dest="first", help="the number to begin with")
    parser.add_argument("--show", type=int, metavar="N", help="print review N and check it")
    parser.add_argument("--edits", action="store_true", help="updates as people make them, undamaged")
    parser.add_argument("--atheris", action="store_true", help="let atheris choose, if it is installed")
    options = parser.parse_args(arguments)
    world = corpus.cluster()
    source = edited if options.edits else made
    if options.show is not None:
        return _show(source(options.seed, options.show), world)
    if options.atheris:
        return _guided(world)
    return _run(source, options.seed, options.first, options.reviews, world)


def _show(body: bytes, world: ClusterState) -> int:
    sys.stdout.buffer.write(body + b"\n")
    sys.stdout.flush()
    try:
        print(check(body, world))
    except BrokenError as broken:
        print(f"broken: {broken}")
        return 1
    return 0


def _run(source: Source, seed: int, first: int, reviews: int, world: ClusterState) -> int:
    outcomes: Counter[str] = Counter()
    broken: list[tuple[int, str]] = []
    begun = told = time.monotonic()
    size = done = 0
    try:
        for number in range(first, first + reviews):
            body = source(seed, number)
            size += len(body)
            try:
                outcomes[check(body, world)] += 1
            except BrokenError as found:
                broken.append((number, str(found)))
                print(f"broken: --seed {seed} --show {number}: {found}", flush=True)
            done += 1
            if time.monotonic() - told > _EVERY_SECONDS:
                told = time.monotonic()
                rate = done / (told - begun)
                print(f"{done} of {reviews} reviews, {rate:.0f} a second, {len(broken)} broken", flush=True)
    except KeyboardInterrupt:
        print(f"stopped; go on with --seed {seed} --from {first + done} --reviews {reviews - done}")
    minutes = (time.monotonic() - begun) / 60
    print(
        f"seed {seed}, reviews {first} to {first + done}: {done} in {minutes:.1f} minutes, {size / 1e6:.0f} MB"
    )
    print(", ".join(f"{count} {name}" for name, count in outcomes.most_common()))
    print(f"{len(broken)} broken")
    for number, words in broken[:_SHOWN]:
        print(f"  --show {number}: {words[:200]}")
    return 1 if broken else 0


def _guided(world: ClusterState) -> int:
    if find_spec("atheris") is None:
        print("atheris is not installed; without --atheris, nothing more is needed", file=sys.stderr)
        return 2
    atheris = import_module("atheris")

    def one(data: bytes) -> None:
        rng = Random(data[:8])  # noqa: S311  as above
        check(data[8:] if rng.random() < 0.5 else damage.body(rng, corpus.review(rng)), world)

    atheris.instrument_all()
    atheris.Setup(sys.argv[:1], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
