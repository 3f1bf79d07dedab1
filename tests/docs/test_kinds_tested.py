"""The table in docs/kinds.md of what each kind is tested under is what the end-to-end tests take."""

from admission.workloads.builtin_kinds import TABLE
from e2e.harness.schemas import published
from tests.docs.pages import ROOT

BUILT_IN = frozenset({"", "apps", "batch"})


def rows() -> list[str]:
    """The table as it should be: a row for each module, and one for what is published in none."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for (_, kind), found in published().items():
        kinds.setdefault((f"`{found.module}`", found.version), []).append(kind)
    kinds["none", ""] = [
        row.kind for row in TABLE if row.group not in BUILT_IN and (row.group, row.kind) not in published()
    ]
    return [f"| {module} | {version} | {', '.join(names)} |" for (module, version), names in kinds.items()]


def test_the_table_of_definitions_is_up_to_date() -> None:
    section = (ROOT / "docs/kinds.md").read_text().partition("\n## Tested under\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines == ["| definition | version | kinds |", "| --- | --- | --- |", *rows()]
