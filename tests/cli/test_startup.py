"""What a command does not need, it does not import: each call of the command is a new process."""

import subprocess
import sys
from pathlib import Path

import pytest

from slicewise.cli.commands import COMMANDS
from tests.benchmarks import startup

# Modules that take longer to load than a command that reads one file may take.
NETWORK = {"aiohttp", "kubernetes", "fastapi", "uvicorn", "prometheus_client"}
MODELS = {"pydantic", "msgspec", "yaml"}


def imported(*arguments: str) -> set[str]:
    program = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    program += "; from slicewise.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode in {0, 1}, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_what_reads_nothing_loads_next_to_nothing(option: str) -> None:
    assert imported(option) & (NETWORK | MODELS) == set()


@pytest.mark.parametrize("command", startup.ON_THE_EXAMPLE)
def test_what_reads_files_loads_nothing_of_the_network(command: str, tmp_path: Path) -> None:
    startup.write_example(tmp_path)
    assert imported(*startup.example(command, tmp_path)) & NETWORK == set()


def test_every_command_that_answers_from_files_is_measured() -> None:
    assert startup.ON_THE_EXAMPLE.keys() | startup.OTHERS == {command.name for command in COMMANDS}
