"""Tables for people: as wide as they need to be, and no wider than the terminal."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.cli.output import Style, styled, table
from slicewise.cli.progress import progress
from slicewise.usage.formats import ADVICE_HEAD

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


def test_in_a_narrow_terminal_each_row_is_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_terminal(monkeypatch, 40)
    rows = [("t4-time-slicing-x10", "mig-1g.10gb=14, mig-2g.20gb=8", "3"), ("l4-exclusive", "gpu=8", "1")]
    assert table(("POOL", "OFFERS", "MOST ON ONE NODE"), rows).splitlines() == [
        "POOL               t4-time-slicing-x10",
        "OFFERS             mig-1g.10gb=14,",
        "                   mig-2g.20gb=8",
        "MOST ON ONE NODE   3",
        "",
        "POOL               l4-exclusive",
        "OFFERS             gpu=8",
        "MOST ON ONE NODE   1",
    ]


@given(
    st.integers(1, 9).flatmap(lambda n: st.lists(st.tuples(*[st.text("ab ", max_size=60)] * n), max_size=4)),
    st.integers(40, 200),
)
def test_no_line_is_wider_than_the_terminal_and_no_letter_is_lost(
    rows: list[tuple[str, ...]], columns: int
) -> None:
    head = ("A", "BB", "MOST ON ONE NODE", "D", "E", "F", "G", "H", "I")[: len(rows[0]) if rows else 1]
    with pytest.MonkeyPatch.context() as patch:
        in_a_terminal(patch, columns)
        text = table(head, rows)
    assert all(len(line) <= columns for line in text.splitlines())
    assert [text.count(letter) for letter in "ab"] == [
        sum(cell.count(letter) for row in rows for cell in row) for letter in "ab"
    ]


@pytest.mark.parametrize("columns", [40, 60, 80, 100])
def test_the_widest_table_of_the_command_fits(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_terminal(monkeypatch, columns)
    widest = max(map(len, ADVICE_HEAD))
    cells = [f"value-of-{word.lower().replace(' ', '-')}" for word in ADVICE_HEAD]
    lines = table(ADVICE_HEAD, [cells, cells]).splitlines()
    assert all(len(line) <= columns for line in lines)
    assert all(
        lines.count(f"{word:<{widest}}   {cell}") == 2 for word, cell in zip(ADVICE_HEAD, cells, strict=True)
    )


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
