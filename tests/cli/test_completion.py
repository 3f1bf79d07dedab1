"""Completion in shells, and what is said of misspelt words."""

import os
import shutil
import subprocess
from argparse import ArgumentParser
from pathlib import Path

import pytest

from slicewise.cli import main
from slicewise.cli.commands import COMMANDS
from slicewise.cli.completion import flags, scripts

SHELL = "slicewise completion"
DOCTOR = "slicewise doctor"
ALL = "table, wide, name, json, yaml"


@pytest.fixture
def script(capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["completion", "bash"]) == 0
    return capsys.readouterr().out


def test_the_scripts_know_every_command_and_flag_as_it_is() -> None:
    """Where this fails: `make generate`."""
    for path, text in scripts().items():
        assert path.read_text(encoding="utf-8") == text


CASES = {
    ("slicewise", "dri"): ["drift"],
    ("slicewise", "pools", "-o", "j"): ["json"],
    ("slicewise", "pools", "--snap"): ["--snapshot"],
    ("slicewise", "plan", "--kubeconfig", ""): [],
    ("slicewise", "completion", "z"): ["zsh"],
    ("slicewise", "-x", "explain", "--file"): ["--filename"],
    ("slicewise", "pools", "--unlabelled", ""): ["ignore", "exclusive"],
    ("slicewise", "mutate", "--as-apply", "se"): ["server-side"],
    ("slicewise", "controller", "--leader-elect", ""): ["true", "false"],
    ("slicewise", "webhook", "--log-level", "w"): ["warning"],
    ("slicewise", "webhook", "--log-format", ""): ["text", "json"],
    ("slicewise", "mutate", "--policy", ""): [],
    ("slicewise", "pools", "--context", "b"): ["blue"],
    ("slicewise", "pools", "--cluster", ""): ["here", "there"],
    ("slicewise", "pools", "--user", ""): ["ann"],
    ("slicewise", "drift", "-n", "team"): ["team-a", "team-b"],
    ("slicewise", "drift", "--namespace", "d"): ["default"],
}


KUBECTL = """#!/bin/sh
case "$*" in
  "config get-contexts -o name") printf '%s\\n' red blue ;;
  "config get-clusters") printf '%s\\n' NAME here there ;;
  "config get-users") printf '%s\\n' NAME ann ;;
  "get namespaces -o name --request-timeout 2s") printf 'namespace/%s\\n' default team-a team-b ;;
  *) exit 1 ;;
esac
"""


@pytest.mark.parametrize(("words", "completed"), CASES.items(), ids=" ".join)
def test_bash_completes_commands_flags_and_values(
    script: str,
    words: tuple[str, ...],
    completed: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    bash = shutil.which("bash")
    assert bash is not None
    typed = " ".join(f"'{word}'" for word in words)
    asked = (
        f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _slicewise; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run([bash, "-eu", "-c", f"{script}{asked}"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == completed
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("shell", "written"),
    [
        ("bash", "pools) if [[ $cur == -* ]]; then words="),
        ("zsh", "pools) _arguments"),
        ("fish", "complete -c slicewise -n '__fish_seen_subcommand_from pools' -s o -l output"),
    ],
)
def test_every_command_and_flag_is_in_every_script(
    shell: str, written: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert written in script
    for command in COMMANDS:
        one = ArgumentParser()
        command.load()[0](one)
        lines = [line for line in script.splitlines() if command.name in line]
        for name in (each for flag in flags(one) for each in flag.names):
            assert any((name.lstrip("-") if shell == "fish" else name) in line for line in lines), name


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["pool"], "slicewise: there is no command pool; did you mean pools? See slicewise --help"),
        (["POOLS"], "slicewise: there is no command POOLS; did you mean pools? See slicewise --help"),
        (
            ["completion"],
            f"{SHELL}: the following arguments are required: bash|zsh|fish; see {SHELL} --help",
        ),
        (["zzz"], "slicewise: there is no command zzz; see slicewise --help"),
        (
            ["drift", "--snapshoot=x"],
            "slicewise drift: there is no option --snapshoot=x; did you mean --snapshot? See slicewise drift --help",
        ),
        (["pools", "extra"], "slicewise pools: there is no place for extra; see slicewise pools --help"),
        (
            ["doctor", "-o", "jsn"],
            f"{DOCTOR}: argument -o/--output: 'jsn' is none of {ALL}; did you mean json? See {DOCTOR} --help",
        ),
        (["--verison"], "slicewise: there is no option --verison; see slicewise --help"),
    ],
)
def test_a_misspelt_word_is_one_line_with_what_was_meant(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["slicewise"])
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == f"{sentence}\n"
