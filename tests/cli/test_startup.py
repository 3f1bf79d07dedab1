"""What a command does not need, it does not import: each call of the command is a new process."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from slicewise.cli.commands import COMMANDS
from tests.benchmarks import startup

# Modules that take longer to load than a command that reads one file may take.
NETWORK = {"aiohttp", "kubernetes", "fastapi", "uvicorn", "prometheus_client"}
MODELS = {"pydantic", "msgspec", "yaml"}


PROGRAM = """
import contextlib, io, json, sys
from slicewise.cli import main

found = []
for name, words in json.loads(sys.argv[1]).items():
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(words)
        except SystemExit as left:
            status = left.code
    found.append([name, status, list(sys.modules)])
print(json.dumps(found))
"""


def imported(calls: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
    """Makes some calls in one new process: what each must not load, none before it may have loaded either."""
    program = [sys.executable, "-c", PROGRAM, json.dumps(calls)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    answers = json.loads(done.stdout)
    assert {name: status for name, status, _ in answers if status not in {0, 1}} == {}, done.stderr
    return {name: set(modules) for name, _, modules in answers}


def test_what_reads_nothing_loads_next_to_nothing() -> None:
    loaded = imported({option: [option] for option in ("--version", "--help")})
    assert {option: modules & (NETWORK | MODELS) for option, modules in loaded.items()} == {
        "--version": set(),
        "--help": set(),
    }


def test_what_reads_files_loads_nothing_of_the_network(tmp_path: Path) -> None:
    startup.write_example(tmp_path)
    loaded = imported({name: startup.example(name, tmp_path) for name in startup.ON_THE_EXAMPLE})
    assert {name: modules & NETWORK for name, modules in loaded.items() if modules & NETWORK} == {}
    assert loaded.keys() == startup.ON_THE_EXAMPLE.keys()


def test_every_command_that_answers_from_files_is_measured() -> None:
    assert startup.ON_THE_EXAMPLE.keys() | startup.OTHERS == {command.name for command in COMMANDS}
