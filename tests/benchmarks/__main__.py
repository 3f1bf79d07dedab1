"""`python -m tests.benchmarks [NAME [ARGUMENT…]]`: one benchmark, or all of them one after another."""

import importlib
import pkgutil
import sys
from collections.abc import Sequence
from typing import Protocol, cast

import tests.benchmarks


class Benchmark(Protocol):
    """What a module must have to be one."""

    NAME: str
    HELP: str

    def run(self, arguments: Sequence[str]) -> int:
        """Runs it; returns the exit status."""


def found() -> dict[str, Benchmark]:
    """Returns the benchmarks of this package by name."""
    benchmarks = {}
    for entry in pkgutil.iter_modules(tests.benchmarks.__path__, "tests.benchmarks."):
        if entry.name.endswith(".__main__"):
            continue
        module = importlib.import_module(entry.name)
        if all(hasattr(module, name) for name in ("NAME", "HELP", "run")):
            benchmark = cast("Benchmark", module)
            benchmarks[benchmark.NAME] = benchmark
    return benchmarks


def main(arguments: Sequence[str]) -> int:
    """Runs what is named first, with the rest as its arguments; without a name, everything."""
    benchmarks = found()
    if not arguments:
        for name, benchmark in benchmarks.items():
            print(f"{name}: {benchmark.HELP}", flush=True)
        return max([benchmark.run(()) for benchmark in benchmarks.values()], default=0)
    name, *rest = arguments
    if name in benchmarks:
        return benchmarks[name].run(rest)
    asked = name in {"-h", "--help"}
    print("python -m tests.benchmarks [NAME [ARGUMENT…]], where NAME is one of:")
    for known, benchmark in benchmarks.items():
        print(f"  {known:12} {benchmark.HELP}")
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
