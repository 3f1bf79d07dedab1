"""The flags of the two servers, and the environment variables that stand for them."""

from argparse import ArgumentParser

import pytest

from slicewise.api.policy import PIPE_DIRECTORIES
from slicewise.cli.servers import controller_arguments, webhook_arguments


def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    webhook_arguments(parser)
    return parser


def test_a_variable_stands_for_its_flag_and_the_flag_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLICEWISE_SERVICE", "another")
    assert _parser().parse_args([]).service == "another"
    assert _parser().parse_args(["--service", "third"]).service == "third"


@pytest.mark.parametrize("arguments", [webhook_arguments, controller_arguments])
def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, arguments: object) -> None:
    assert callable(arguments)
    parser = ArgumentParser()
    arguments(parser)
    expected = vars(parser.parse_args([]))
    for name in expected:
        monkeypatch.setenv(f"SLICEWISE_{name.upper()}", "")
    again = ArgumentParser()
    arguments(again)
    assert vars(again.parse_args([])) == expected


def test_directories_for_daemons_are_absolute_paths() -> None:
    assert _parser().parse_args([]).pipe_directories == PIPE_DIRECTORIES
    assert _parser().parse_args(["--pipe-directories=/a,/b/c"]).pipe_directories == ("/a", "/b/c")
    for wrong in ("run", "/", "/a/..", "", "/a,"):
        with pytest.raises(Exception, match="is no absolute path; write for example /run/nvidia/mps"):
            _parser().parse_args([f"--pipe-directories={wrong}"])
