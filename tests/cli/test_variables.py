"""Environment variables that stand for flags: in every command alike."""

import re
from argparse import Action, ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from pathlib import Path

import pytest

from slicewise.cli import main
from slicewise.cli.commands import COMMANDS, Command

VARIABLE = re.compile(r"\[\$(SLICEWISE_\w+)\]$")
# Those that take any text; to read it says what is wrong with it.
ANY_TEXT = {
    "--gpu-operator-namespace",
    "--kinds-file",
    "--kubeconfig",
    "--kueue-namespace",
    "--prometheus",
    "--prometheus-ca-file",
    "--prometheus-token-file",
    "--tls-cert-file",
    "--tls-private-key-file",
}


def variables(command: Command) -> Iterator[tuple[str, Action]]:
    parser = ArgumentParser()
    command.load()[0](parser)
    for action in parser._actions:
        if found := VARIABLE.search(action.help or ""):
            yield found[1], action


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.name)
def test_the_variable_is_the_flag_in_capitals_and_an_empty_one_is_none(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dict(variables(command))
    for variable, action in before.items():
        assert variable == "SLICEWISE_" + action.option_strings[0][2:].replace("-", "_").upper()
        monkeypatch.setenv(variable, "")
    after = {variable: action.default for variable, action in variables(command)}
    assert after == {variable: action.default for variable, action in before.items()}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.name)
def test_what_a_variable_cannot_be_is_said_of_the_variable(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, _ in variables(command):
        monkeypatch.setenv(variable, "no such value!")
    for variable, action in variables(command):
        assert callable(action.type)
        if action.option_strings[0] in ANY_TEXT:
            assert action.type(action.default) == "no such value!"
            continue
        with pytest.raises(ArgumentTypeError, match=rf"^\${variable}: 'no such value!'"):
            action.type(action.default)
        with pytest.raises(ArgumentTypeError, match=r"^'typed!'"):
            action.type("typed!")


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("SLICEWISE_KINDS_FILE", ["drift", "--snapshot", "empty.yaml"]),
        ("SLICEWISE_PROMETHEUS", ["report", "--snapshot", "empty.yaml"]),
        (
            "SLICEWISE_PROMETHEUS_TOKEN_FILE",
            ["report", "--snapshot", "empty.yaml", "--prometheus", "http://x"],
        ),
        ("SLICEWISE_PROMETHEUS_CA_FILE", ["report", "--snapshot", "empty.yaml", "--prometheus", "http://x"]),
        ("KUBECONFIG", ["pools"]),
    ],
)
def test_a_file_or_an_address_that_will_not_do_is_said_of_the_variable(
    variable: str,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.yaml").write_text("{apiVersion: v1, kind: List, items: []}")
    monkeypatch.setenv(variable, "nowhere")
    assert main(words) == 2
    assert f"${variable}: " in capsys.readouterr().err
