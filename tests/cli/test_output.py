"""Tables for people: as wide as they need to be, and no wider than the terminal."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.cli.output import Style, styled, table
from slicewise.cli.progress import progress

HEAD = ("POOL", "OFFERS")
ROWS = [
    ("h100-80gb-mig-mixed", "nvidia.com/mig-1g.10gb=14, nvidia.com/mig-2g.20gb=8, nvidia.com/mig-3g.40gb=2")
]


def in_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")


def test_where_no_terminal_is_every_row_is_one_line() -> None:
    assert table(HEAD, ROWS).splitlines() == [
        "POOL                  OFFERS",
        "h100-80gb-mig-mixed   nvidia.com/mig-1g.10gb=14, nvidia.com/mig-2g.20gb=8, nvidia.com/mig-3g.40gb=2",
    ]


def test_in_a_terminal_cells_are_folded_at_words(monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_terminal(monkeypatch, 60)
    assert table(HEAD, ROWS).splitlines() == [
        "POOL                  OFFERS",
        "h100-80gb-mig-mixed   nvidia.com/mig-1g.10gb=14,",
        "                      nvidia.com/mig-2g.20gb=8,",
        "                      nvidia.com/mig-3g.40gb=2",
    ]


@given(st.lists(st.tuples(*[st.text("ab ", max_size=90)] * 3), max_size=4), st.integers(42, 200))
def test_no_line_is_wider_than_the_terminal(rows: list[tuple[str, str, str]], columns: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        in_a_terminal(patch, columns)
        assert all(len(line) <= columns for line in table(("A", "B", "C"), rows).splitlines())


@pytest.mark.parametrize(
    ("terminal", "environment", "coloured"),
    [
        (True, {}, True),
        (True, {"NO_COLOR": ""}, True),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
        (False, {}, False),
    ],
)
def test_colour_is_for_terminals_that_show_it(
    terminal: bool,  # noqa: FBT001
    environment: dict[str, str],
    coloured: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert styled("ERROR", Style.ERROR) == ("\033[1;31mERROR\033[0m" if coloured else "ERROR")
    assert table(HEAD, ROWS).startswith("\033[1mPOOL") is coloured


def test_what_takes_longer_than_a_second_is_said_in_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slicewise.cli.progress._SOON", 0.05)
    with progress("reading"):
        time.sleep(0.2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress("reading"):
        pass
    assert capsys.readouterr().err == ""
    with progress("reading"):
        time.sleep(0.2)
    first, *_, last, end = capsys.readouterr().err.split("\r")
    assert (first, last.strip(), end) == ("reading … 0 s", "", "")
