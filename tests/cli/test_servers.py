"""The flags of the two servers, and the environment variables that stand for them."""

from argparse import ArgumentParser

import pytest

from slicewise.api.policy import PIPE_DIRECTORIES
from slicewise.cli.servers import webhook_arguments


def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    webhook_arguments(parser)
    return parser


def test_a_variable_stands_for_its_flag_and_the_flag_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLICEWISE_SERVICE", "another")
    assert _parser().parse_args([]).service == "another"
    assert _parser().parse_args(["--service", "third"]).service == "third"


def test_directories_for_daemons_are_absolute_paths() -> None:
    assert _parser().parse_args([]).pipe_directories == PIPE_DIRECTORIES
    assert _parser().parse_args(["--pipe-directories=/a,/b/c"]).pipe_directories == ("/a", "/b/c")
    for wrong in ("run", "/", "/a/..", "", "/a,"):
        with pytest.raises(Exception, match="is no absolute path; write for example /run/nvidia/mps"):
            _parser().parse_args([f"--pipe-directories={wrong}"])
