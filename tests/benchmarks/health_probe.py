"""Asks a program for its health again and again, in a process of its own: a thread of the benchmark would wait for the
interpreter, which the API server there keeps busy.

`python -m tests.benchmarks.health_probe` reads lines: HOST:PORT begins, an empty one ends, and is answered by a line
with how many seconds each answer took, as JSON.
"""

import json
import select
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO

PAUSE = 0.02
"""Seconds between an answer and the next question."""


class Probe:
    """The process."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.terminate()

    @contextmanager
    def asking(self, address: str) -> Iterator[list[float]]:
        """Asks HOST:PORT meanwhile; collects the seconds that each answer took, which are there afterwards."""
        seconds: list[float] = []
        self._tell(address)
        try:
            yield seconds
        finally:
            self._tell("")
            assert self._process.stdout is not None
            seconds += json.loads(self._process.stdout.readline())

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()


def longest(answers: Sequence[float]) -> str:
    """How long the loop was held at most."""
    return f"health answered within {1000 * max(answers):.0f} ms (goal: 50)"


def _ask(address: str, lines: FileIO) -> Iterator[float]:
    """Yields how long each answer took, until there is a line to read."""
    while not select.select([lines], [], [], PAUSE)[0]:
        began = time.monotonic()
        with urllib.request.urlopen(f"http://{address}/healthz", timeout=30) as answer:
            answer.read()
        yield time.monotonic() - began


def main() -> None:
    """Answers until its input ends."""
    with FileIO(0, closefd=False) as lines:  # without a buffer, in which `select` would not see a line
        while address := lines.readline().decode().strip():
            seconds = list(_ask(address, lines))
            lines.readline()
            print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
