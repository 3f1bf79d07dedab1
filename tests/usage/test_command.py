"""`slicewise report` and `slicewise advise` as they are typed."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import sys
from pathlib import Path

import pytest

from slicewise.cli.main import main
from slicewise.usage import prometheus, usage_file
from slicewise.usage.prometheus import Progress, Source
from slicewise.usage.series import Usage
from tests.docs import measured
from tests.docs.pages import page
from tests.usage.making import pod


class Terminal(io.StringIO):
    """Where a person looks."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The example cluster and its use: the arguments that name them."""
    monkeypatch.chdir(tmp_path)
    Path("cluster.yaml").write_text(page("example.md").files()["cluster.yaml"], encoding="utf-8")
    measured.write("usage.json")
    return ("--usage", "usage.json", "--snapshot", "cluster.yaml")


def printed(*words: str, out: io.StringIO | None = None, status: int = 0) -> str:
    with contextlib.redirect_stdout(out or io.StringIO()) as found:
        assert main(words) == status
    return found.getvalue()


def test_a_terminal_gets_plots_and_a_pipe_none(case: tuple[str, ...]) -> None:
    shown = printed("report", *case, out=Terminal())
    assert "█" in shown
    assert "Use by hour of the week" in shown
    assert "Pods by peak memory" in shown
    piped = printed("report", *case)
    assert not set("█▓▒░") & set(piped)
    assert "Use by hour of the week" not in piped


@pytest.mark.parametrize(
    "words", [("report",), ("report", "-o", "html"), ("advise",), ("advise", "-o", "json")]
)
def test_a_file_that_is_saved_of_a_file_says_the_same(case: tuple[str, ...], words: tuple[str, ...]) -> None:
    first = printed(*words, *case, "--save", "again.json.gz")
    assert printed(*words, "--usage", "again.json.gz", "--snapshot", "cluster.yaml") == first


def test_a_person_who_waits_sees_how_far_it_is(
    case: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def collect(_: Source, _days: float, _until: int | None, progress: Progress | None) -> Usage:
        if progress:
            progress(1, 2)
            progress(2, 2)
        return usage_file.read("usage.json")

    monkeypatch.setattr(prometheus, "collect", collect)
    for said, words in ((Terminal(), ["1 of 2 queries", "2 of 2 queries"]), (io.StringIO(), [])):
        monkeypatch.setattr(sys, "stderr", said)
        printed("report", "--prometheus", "http://127.0.0.1:1", *case[2:])
        assert re.findall(r"\d of \d queries", said.getvalue()) == words


def test_the_file_that_readers_of_the_pages_take_is_the_one_the_pages_are_tried_with(tmp_path: Path) -> None:
    measured.write(str(tmp_path / "usage.json.gz"))
    made, shipped = (
        gzip.decompress(path.read_bytes()) for path in (tmp_path / "usage.json.gz", measured.SHIPPED)
    )
    assert made == shipped, "python -m tests.docs.measured writes it anew"


def test_what_nobody_asks_for_is_said_only_where_pods_are_known(case: tuple[str, ...]) -> None:
    assert json.loads(printed("report", *case, "-o", "json"))["untaken"] == []
    Path("pods.yaml").write_text(json.dumps({**pod("x"), "spec": {"nodeName": "h100-2", "containers": []}}))
    found = json.loads(printed("report", *case, "--snapshot", "pods.yaml", "-o", "json"))["untaken"]
    assert {"pool": "h100-80gb-exclusive", "resource": "nvidia.com/gpu", "free": 8, "total": 8} in found


@pytest.mark.parametrize(("limit", "status"), [("86", 1), ("87", 0)])
@pytest.mark.parametrize("command", ["report", "advise"])
def test_it_fails_above_a_share_of_idle_hours(
    case: tuple[str, ...], command: str, limit: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    printed(command, *case, "--fail-above", limit, status=status)
    assert ("86.5 % of the GPU-hours were idle" in capsys.readouterr().err) == bool(status)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("report",), "nothing says what was used; give --prometheus URL or --usage FILE"),
        (("advise", "--usage", "usage.json", "--explain", "team-a/Deployment/x"), "there is no such owner"),
        (("report", "--usage", "none.json"), "none.json: cannot be read"),
        (("report", "--usage", "usage.json", "--period", "7d"), "has its own period; leave them out"),
        (
            ("report", "--usage", "usage.json", "--save", "none/x"),
            "none/x: cannot be written: no such folder",
        ),
        (("advise", "--usage", "usage.json", "--explain", "team-a/chat", "-o", "json"), "without -o json"),
    ],
)
@pytest.mark.usefixtures("case")
def test_bad_input_is_one_line(
    words: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printed(*words, "--snapshot", "cluster.yaml", status=2)
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
