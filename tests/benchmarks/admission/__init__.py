"""The webhook beside a minimal Go webhook and the usual Python one: processor time, throughput, latency, memory.

The servers have one core and the load generator another, and they are measured in turn, again and again. What else
the machine does meanwhile only adds to the time that a review takes, so that of all rounds the least is the nearest
to the truth; beside the ratio of these stands the median of the ratios between neighbours in time.
"""

import argparse
import os
import platform
import ssl
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from e2e.harness.errors import ClusterError
from release import compiled
from setup import ROOT
from tests.benchmarks.admission import sides
from tests.benchmarks.admission.checking import Unequal, compare
from tests.benchmarks.admission.reviews import Case, cases
from tests.benchmarks.admission.sides import GO, OURS, USUAL, Measured, Side

NAME = "admission"
HELP = "answers to reviews: Slicewise, a minimal Go webhook, and FastAPI with jsonpatch"

_COMPARED = 8
"""Reviews of each case of which all answers are compared."""
_RATES = (200, 1000)
_OPEN_SIZE = "10 kB"
_PERCENTILES = ("p50", "p99", "p99.9")

Rounds = list[dict[str, Measured]]


def run(arguments: Sequence[str]) -> int:
    """Runs the benchmark; exit status 1 when answers differ or a server fails, never for a number."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks admission", description=HELP)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="of each measurement as fast as answers come"
    )
    parser.add_argument("--rounds", type=int, default=7, help="how often each is measured")
    parser.add_argument(
        "--open-seconds", type=float, default=10.0, help="of each measurement at a fixed rate"
    )
    parser.add_argument(
        "--open-rounds", type=int, default=3, help="how often each is measured at a fixed rate"
    )
    parser.add_argument("--only", default="", help="measure only cases with this in their name")
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="the interpreter that serves, of this one's version: one built as those of distributions and images are",
    )
    parser.add_argument(
        "--pure",
        action="store_true",
        help="serve in pure Python, as a wheel installs it, and not as the image does",
    )
    options = parser.parse_args(arguments)
    try:
        _measure(options)
    except Unequal as difference:
        print(f"the servers do not give the same answer: {difference}", file=sys.stderr)
        return 1
    except (ClusterError, compiled.CompileError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _measure(options: argparse.Namespace) -> None:
    chosen = [case for case in cases() if options.only in case.name]
    with (
        tempfile.TemporaryDirectory(prefix="slicewise-reviews-") as folder,
        sides.sides(options.python, ROOT if options.pure else compiled.build()) as servers,
    ):
        for case in chosen:
            for body in case.bodies[:_COMPARED]:
                compare(body, {side.name: side.ask(body) for side in servers})
        print(
            f"answers are equal in effect: {sum(len(case.bodies[:_COMPARED]) for case in chosen)} reviews\n"
        )
        files = {case: sides.write(case, Path(folder) / str(n)) for n, case in enumerate(chosen)}
        _machine(servers[0].measure(next(iter(files.values())), 0.1).go)
        print(
            "what decides of a review is pure Python"
            if options.pure
            else "what decides of a review is compiled"
        )
        _closed(options, servers, files)
        _open(options, servers, files)
        print("\nmost memory, MB: " + ", ".join(f"{side.name} {side.memory():.0f}" for side in servers))
        print(f"load average at the end: {_load()}")


def _turns(servers: Sequence[Side], rounds: int, folder: Path, seconds: float, rate: float = 0) -> Rounds:
    """Measures every server in turn, as often as asked."""
    found = [{side.name: side.measure(folder, seconds, rate) for side in servers} for _ in range(rounds)]
    for side in servers:
        failed = sum(each[side.name].failed for each in found)
        if failed:
            first = next(each[side.name].first_error for each in found if each[side.name].failed)
            raise ClusterError(side.program.failure(f"failed {failed} reviews ({first})"))
    return found


def _least(rounds: Rounds, name: str) -> float:
    """The least processor time for a review that any round found."""
    return min(each[name].microseconds for each in rounds)


def _ratio(rounds: Rounds, other: str) -> float:
    """Our processor time by the other's, in the middle of the rounds."""
    return median(each[OURS].microseconds / each[other].microseconds for each in rounds)


def _closed(options: argparse.Namespace, servers: Sequence[Side], files: dict[Case, Path]) -> None:
    names = [side.name for side in servers]
    print(f"\nAs fast as answers come, {options.rounds} × {options.seconds:g} s each in turn")
    print(f"{'':41}{'processor µs a review':31}{'ours to':28}{'reviews a second'}")
    print(f"{'':38}{_row(names, 10)}{'go':>9}{'(median)':>10}{'usual':>8}  {_row(names, 10)}")
    for case, folder in files.items():
        rounds = _turns(servers, options.rounds, folder, options.seconds)
        least = {name: _least(rounds, name) for name in names}
        row = _row([f"{least[name]:.0f}" for name in names], 10)
        row += (
            f"{least[OURS] / least[GO]:9.2f}    ({_ratio(rounds, GO):.2f}){least[OURS] / least[USUAL]:8.3f}  "
        )
        row += _row([f"{max(each[name].rate for each in rounds):.0f}" for name in names], 10)
        print(f"{case.name:38}{row}", flush=True)


def _row(words: Sequence[str], width: int) -> str:
    return "".join(f"{word:>{width}}" for word in words)


def _open(options: argparse.Namespace, servers: Sequence[Side], files: dict[Case, Path]) -> None:
    print(f"\nAt a fixed rate, {_OPEN_SIZE}, {options.open_rounds} × {options.open_seconds:g} s each in turn")
    print("latency in ms from the moment a review was due; the middle of the rounds, and the worst")
    print(f"{'':38}{'rate':>6} {'server':>10}" + "".join(f"{name:>18}" for name in _PERCENTILES), end="")
    print(f"{'µs':>7}{'unanswered':>12}")
    for case, folder in files.items():
        if case.size != _OPEN_SIZE:
            continue
        for rate in _RATES:
            rounds = _turns(servers, options.open_rounds, folder, options.open_seconds, rate)
            for side in servers:
                own = [each[side.name] for each in rounds]
                row = f"{case.name:38}{rate:6} {side.name:>10}"
                for name in _PERCENTILES:
                    values = [each.latency_milliseconds.get(name, float("inf")) for each in own]
                    row += f"{median(values):9.2f} ≤{max(values):7.1f}"
                row += f"{median(each.microseconds for each in own):7.0f}{sum(each.unanswered for each in own):12}"
                print(row, flush=True)


def _machine(go: str) -> None:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cores = len(os.sched_getaffinity(0))
    print(
        f"{model}, {cores} cores, Linux {platform.release()}; load average {_load()}; "
        f"server on core {sides.SERVER_CORE}, load on core {sides.LOAD_CORE}"
    )
    packages = ("uvicorn", "uvloop", "httptools", "msgspec", "fastapi", "pydantic", "jsonpatch")
    openssl = " ".join(ssl.OPENSSL_VERSION.split()[:2])
    libraries = ", ".join(f"{name} {version(name)}" for name in packages)
    print(f"{go}, Python {platform.python_version()}, {openssl}, {libraries}")


def _load() -> str:
    return " ".join(f"{each:.1f}" for each in os.getloadavg())
