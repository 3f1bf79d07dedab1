"""Each row of the table in docs/quota.md, played against the function that it describes."""

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import pytest

from queue_sync.planning.node_trust import NodeState, Settings, evaluate
from slicewise.api import keys
from slicewise.inventory.node_state import Observation
from tests.docs.pages import page
from tests.queue_sync.scenes import GPU, ONE, exclusive, look, mixed

START: Final = 1_800_000_000.0
SETTINGS: Final = Settings(settle=60.0, hold_down=360.0)
LATER: Final = SETTINGS.hold_down + 1
WHOLE: Final = "h100-80gb-exclusive"


class Row(NamedTuple):
    """What is seen, and what then counts and is the label: at once, and once the hold-down has run out."""

    seen: dict[str, Any] | None
    counts: tuple[Mapping[str, int] | None, Mapping[str, int] | None]
    label: tuple[bool, bool]


def without_names() -> dict[str, Any]:
    item = exclusive("n")
    item["status"]["capacity"] = item["status"]["allocatable"] = {"cpu": "64"}
    item["metadata"]["labels"][keys.COUNT] = "0"
    return item


def zero() -> dict[str, Any]:
    item = exclusive("n")
    item["status"]["allocatable"][GPU] = "0"
    return item


def failed() -> dict[str, Any]:
    item = mixed("n", {"1g.10gb": 7})
    item["metadata"]["labels"][keys.MIG_CONFIG_STATE] = "failed"
    return item


def changing() -> dict[str, Any]:
    item = exclusive("n")
    item["metadata"]["labels"][keys.MIG_CONFIG_STATE] = "pending"
    return item


EIGHT, FOUR, SEVEN = {GPU: 8}, {GPU: 4}, {ONE: 7}
UNCHANGED = (EIGHT, EIGHT)
ROWS: Final[dict[tuple[str, str], Row]] = {
    ("nothing", "sound"): Row(exclusive("n"), UNCHANGED, (True, True)),
    ("nothing", "sound, all zero"): Row(zero(), (None, None), (False, False)),
    ("nothing", "in doubt"): Row(exclusive("n", ready=False), (None, None), (False, False)),
    ("nothing", "only a failed geometry"): Row(failed(), (None, SEVEN), (False, True)),
    ("an offer", "sound, same division, as much or more"): Row(
        exclusive("n", 9), ({GPU: 9}, {GPU: 9}), (True, True)
    ),
    ("an offer", "sound, same division, less"): Row(exclusive("n", 4), (EIGHT, FOUR), (True, True)),
    ("an offer", "sound, same division, all zero"): Row(zero(), (EIGHT, None), (True, False)),
    ("an offer", "sound, another division"): Row(mixed("n", {"1g.10gb": 7}), (EIGHT, SEVEN), (False, True)),
    ("an offer", "sound, no names at all"): Row(without_names(), (EIGHT, None), (True, False)),
    ("an offer", "in doubt"): Row(exclusive("n", ready=False), (EIGHT, None), (True, False)),
    ("an offer", "only a failed geometry"): Row(failed(), (EIGHT, SEVEN), (False, True)),
    ("anything", "the Node object is gone"): Row(None, (None, None), (False, False)),
}


def believed() -> NodeState:
    return evaluate(None, look(exclusive("n")), START, SETTINGS)


def counted(belief: NodeState) -> Mapping[str, int] | None:
    return belief.counted.quantities if belief.counted else None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}: {row[1]}")
def test_the_function_does_what_the_row_says(row: tuple[str, str]) -> None:
    case = ROWS[row]
    seen: Observation | None = look(case.seen) if case.seen else None
    previous = None if row[0] == "nothing" else believed()
    first = evaluate(previous, seen, START + 10, SETTINGS)
    second = evaluate(first, seen, START + 10 + LATER, SETTINGS)
    assert (counted(first), counted(second)) == case.counts
    assert (first.label is not None, second.label is not None) == case.label


def test_a_division_that_changes_takes_the_label_off_at_once() -> None:
    assert evaluate(believed(), look(changing()), START + 10, SETTINGS).label is None
    assert believed().label == WHOLE


def test_the_page_has_these_rows_and_no_others() -> None:
    table = page("quota.md").text.partition("## The table")[2].partition("\n\n- ")[0]
    rows = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \| [^|]+ \| [^|]+ \|$", table, re.MULTILINE)
    assert set(rows) - {("kept", "what is seen now"), ("---", "---")} == set(ROWS)
