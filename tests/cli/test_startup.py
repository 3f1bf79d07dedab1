"""What a command does not need, it does not import: each call of the command is a new process."""

import subprocess
import sys
from pathlib import Path

import pytest

# Modules that take longer to load than a command that reads one file may take.
NETWORK = {"aiohttp", "kubernetes", "fastapi", "uvicorn", "prometheus_client"}
MODELS = {"pydantic", "msgspec", "yaml"}

POD = """
apiVersion: v1
kind: Pod
metadata: {name: a}
spec: {containers: [{name: main, image: x}]}
"""


def imported(*arguments: str) -> set[str]:
    program = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    program += "; from slicewise.cli import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_what_reads_nothing_loads_next_to_nothing(option: str) -> None:
    assert imported(option) & (NETWORK | MODELS) == set()


@pytest.mark.parametrize(
    "words", [("pools",), ("plan",), ("diff",), ("drift",), ("doctor",), ("mutate", "-f"), ("explain", "-f")]
)
def test_what_reads_files_loads_nothing_of_the_network(words: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(POD)
    options = [str(file)] if words[-1] == "-f" else []
    assert imported(*words, *options, "--snapshot", str(file)) & NETWORK == set()
