"""The sentences that people may be told, read out of the sources; `…` stands for what is filled in.

A sentence is a text of five words or more that is no docstring, no description of a field and no metric's help.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from slicewise.api import keys

ROOT: Final = Path(__file__).parents[2]
GAP: Final = "…"
_WORDS: Final = 5
# Calls whose texts are for the reference of fields, for logs or for metrics.
_ELSEWHERE: Final = frozenset(
    {"Field", "Counter", "Gauge", "Histogram", "info", "warning", "debug", "add_argument", "_flag"}
)

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "webhook": ("admission/kinds/[rsv]*.py", "admission/judgement/**/*.py", "admission/validating.py"),
    "kinds": ("admission/workloads/custom_kinds.py", "admission/workloads/path_language.py"),
    "choice": ("slicewise/inventory/allocation*.py",),
    "nodes": ("slicewise/nodes/*.py", "queue_sync/planning/node_trust.py"),
    "configurations": ("slicewise/configs.py", "slicewise/mig.py"),
    "specs": ("slicewise/policy.py", "slicewise/quantities.py"),
    "plans": (
        "slicewise/inventory/plan_conflicts.py",
        "queue_sync/planning/plan_diff.py",
        "queue_sync/planning/kueue/objects.py",
        "queue_sync/planning/kueue/merge.py",
        "queue_sync/planning/volcano/[!d]*.py",
        "queue_sync/controllers/plan.py",
        "queue_sync/status/plan_status.py",
        "queue_sync/status/events.py",
        "queue_sync/manager.py",
        "queue_sync/writer.py",
    ),
    "drift": (
        "queue_sync/planning/drift.py",
        "queue_sync/planning/bypass.py",
        "queue_sync/planning/volcano/drift.py",
    ),
    "path": ("queue_sync/webhook_selfcheck.py",),
    "input": (
        "slicewise/kubeyaml.py",
        "slicewise/snapshots.py",
        "slicewise/cli/inputs.py",
        "slicewise/cli/servers.py",
    ),
}

# What others say, and is looked for in their answers; a metric's help in a table; the head of a column.
NOT_SAID: Final = frozenset(
    {
        "should less equal than capability",
        "cannot be the parent queue",
        "1 while requests go from the API server to the webhook and back, 0 while they do not.",
        "Since when that has been so.",
        "When that was last found out.",
        "pairs of flavor and resource in one group",
    }
)


def sentences(group: str) -> list[str]:
    """Every sentence of a group of modules, once, in the order of the sources."""
    found: dict[str, None] = {}
    for pattern in GROUPS[group]:
        for path in sorted(ROOT.glob(pattern)):
            found |= dict.fromkeys(_of(ast.parse(path.read_text(encoding="utf-8"))))
    return [each for each in found if each not in NOT_SAID]


def _of(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # a docstring
        if isinstance(node, ast.Call) and _name(node.func) in _ELSEWHERE:
            continue
        text = _text(node)
        if text is None:
            yield from _of(node)
        elif len([word for word in text.split() if word != GAP]) >= _WORDS:
            yield text


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _text(node: ast.AST) -> str | None:
    """A text with its gaps; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"\{\w+\}", GAP, " ".join(node.value.split()))
    if not isinstance(node, ast.JoinedStr):
        return None
    parts = [part.value if isinstance(part, ast.Constant) else _filled(part) for part in node.values]
    return " ".join("".join(str(part) for part in parts).split())


def _filled(part: ast.expr) -> str:
    """What stands for a value: a key's own name where it is one of `slicewise.api.keys`, else the gap."""
    value = getattr(part, "value", None)
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name) and value.value.id == "keys":
        return str(getattr(keys, value.attr))
    return GAP
