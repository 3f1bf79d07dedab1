"""Tables for people: as wide as they need to be, and no wider than the terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.cli.output import table

HEAD = ("POOL", "OFFERS")
ROWS = [
    ("h100-80gb-mig-mixed", "nvidia.com/mig-1g.10gb=14, nvidia.com/mig-2g.20gb=8, nvidia.com/mig-3g.40gb=2")
]


def in_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))


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
