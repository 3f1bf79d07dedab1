"""Tables for people: as wide as they need to be, and no wider than the terminal."""

import json
import re
import time
from pathlib import Path
from unicodedata import category

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slicewise.cli.main import main
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
    said = ""
    with progress("reading"):
        while not said:
            said = capsys.readouterr().err
            time.sleep(0.01)
    said += capsys.readouterr().err
    first, *_, last, end = said.split("\r")
    assert (first, last.strip(), end) == ("reading … 0 s", "", "")


HOSTILE = "a\x1b[2J\x07\x9b\nforged: all well\r\x7f\u202e\u2066\u2028"
SHOWN = r"a\u001b[2J\u0007\u009b\u000aforged: all well\u000d\u007f\u202e\u2066\u2028"
# What ordinary users and nodes can write into objects.
WRITTEN = [
    {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"n{HOSTILE}",
            "labels": {
                "nvidia.com/gpu.product": f"H100{HOSTILE}",
                "nvidia.com/gpu.count": "8",
                "nvidia.com/gpu.replicas": "-1",
            },
        },
        "status": {"capacity": {"nvidia.com/gpu": "8"}, "allocatable": {"nvidia.com/gpu": "8"}},
    },
    {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": f"ns{HOSTILE}", "labels": {"slicewise.io/policy": f"x{HOSTILE}"}},
    },
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"p{HOSTILE}", "namespace": f"ns{HOSTILE}"},
        "spec": {
            "containers": [
                {
                    "name": f"c{HOSTILE}",
                    "resources": {"limits": {"nvidia.com/gpu": 1, "nvidia.com/mig-3g.40gb": 1}},
                }
            ]
        },
        "status": {"phase": "Pending"},
    },
    {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "train",
            "namespace": "team-a",
            "annotations": {"slicewise.io/decision": json.dumps({"reason": HOSTILE})},
        },
        "spec": {"template": {"spec": {"containers": []}}},
    },
    {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {
            "name": "train-1",
            "namespace": "team-a",
            "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": "train", "controller": True}
            ],
        },
        "spec": {"queueName": "team-a"},
        "status": {"conditions": [{"type": "QuotaReserved", "status": "False", "message": HOSTILE}]},
    },
]


@pytest.mark.parametrize(
    ("words", "shows"),
    [
        ("pools", f"n{SHOWN}"),
        ("doctor", f"Namespace ns{SHOWN}"),
        ("doctor -o wide", f"Namespace ns{SHOWN}"),
        ("drift", f"p{SHOWN}"),
        ("drift -o name", f"p{SHOWN}"),
        ("why job/train -n team-a", SHOWN),
        ("explain -f written.json", f"Pod ns{SHOWN}/p{SHOWN}"),
        ("mutate -f written.json -o table", f"p{SHOWN}"),
        ("mutate -f written.json", "refused: "),
        ("mutate -f written.json -o name", f"namespace/ns{SHOWN}"),
    ],
)
@pytest.mark.parametrize("terminal", [False, True])
def test_what_people_wrote_moves_no_cursor_and_begins_no_line(
    words: str,
    shows: str,
    terminal: bool,  # noqa: FBT001
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "9999")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    Path("written.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": WRITTEN}))
    main([*words.split(), "--snapshot", "written.json"])
    out, err = capsys.readouterr()
    said = re.sub(r"\x1b\[(1|1;31|33|0)m" if terminal else "$", "", out + err)
    assert shows in said
    assert "Cc" not in {category(character) for character in said.replace("\n", "")}
    assert not [line for line in said.split("\n") if line.startswith("forged")]


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_documents_keep_what_people_wrote(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("written.json").write_text(json.dumps(WRITTEN[-1]))
    main(["mutate", "-f", "written.json", "--snapshot", "written.json", "-o", output])
    out = capsys.readouterr().out
    assert (json.loads if output == "json" else yaml.safe_load)(out) == WRITTEN[-1]
    assert "Cc" not in {category(character) for character in out.replace("\n", "")}
