"""The sentences that people may be told, read out of the sources; `…` stands for what is filled in.

A sentence is a text of five words or more that is no docstring, no description of a field and no metric's help.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from admission.decision.model import Reason
from slicewise.api import keys

ROOT: Final = Path(__file__).parents[2]
GAP: Final = "…"
_WORDS: Final = 5
# Calls whose texts are for the reference of fields, for logs or for metrics.
_ELSEWHERE: Final = frozenset(
    {
        "Field",
        "Counter",
        "Gauge",
        "Histogram",
        "info",
        "warning",
        "debug",
        "add_argument",
        "variable_argument",
        "_Parser",
    }
)

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "webhook": (
        "admission/decision/*.py",
        "admission/engines/*.py",
        "admission/explain.py",
        "admission/mutation/*.py",
        "admission/validating.py",
    ),
    "work of a kind": ("admission/mutation/integrations/*.py",),
    "kinds": ("admission/workloads/custom_kinds.py", "admission/workloads/path_language.py"),
    "choice": ("slicewise/inventory/allocation*.py",),
    "nodes": (
        "slicewise/inventory/device*.py",
        "slicewise/inventory/node_*.py",
        "slicewise/inventory/sources/*.py",
        "slicewise/inventory/taints.py",
        "queue_sync/planning/node_trust.py",
    ),
    "configurations": (
        "slicewise/gpu/mig.py",
        "slicewise/inventory/gpu_operator.py",
        "slicewise/inventory/planned_geometry.py",
    ),
    "specs": (
        "slicewise/api/field_errors.py",
        "slicewise/api/kueue_fields.py",
        "slicewise/api/policy.py",
        "slicewise/api/quantities.py",
    ),
    "plans": (
        "slicewise/inventory/plan_conflicts.py",
        "queue_sync/controllers/*.py",
        "queue_sync/manager.py",
        "queue_sync/planning/kueue/*.py",
        "queue_sync/planning/handover.py",
        "queue_sync/planning/left_over.py",
        "queue_sync/planning/quota.py",
        "queue_sync/planning/plan_diff.py",
        "queue_sync/planning/promises.py",
        "queue_sync/planning/quota_*.py",
        "queue_sync/planning/volcano/[!d]*.py",
        "queue_sync/status/*.py",
        "queue_sync/writer.py",
    ),
    "waiting": ("queue_sync/planning/waiting.py", "slicewise/cli/why*.py"),
    "drift": (
        "queue_sync/planning/drift.py",
        "queue_sync/planning/bypass.py",
        "queue_sync/planning/volcano/drift.py",
    ),
    "path": ("queue_sync/webhook_selfcheck.py",),
    "servers": (
        "slicewise/kube/client.py",
        "slicewise/kube/informer.py",
        "slicewise/kube/leader_election.py",
        "slicewise/kube/listing.py",
        "slicewise/kube/transport.py",
        "admission/**/*.py",
        "queue_sync/**/*.py",
    ),
    "input": ("slicewise/**/*.py",),
}
"""Title of a part of docs/messages.md -> its modules. A module stands in the first part that names it."""

UNLISTED: Final = (
    "admission/server/metrics.py",  # in the tables of docs/monitoring.md
    "admission/webhook_configuration.py",  # text of generated files
    "admission/workloads/builtin_kinds.py",  # paths
    "queue_sync/metrics/*.py",  # in the tables of docs/monitoring.md
    "queue_sync/page/*.py",  # headings of the page
    "slicewise/api/crds.py",  # descriptions of fields
    "slicewise/api/structural_schema.py",
    "slicewise/cli/commands.py",  # help
    "slicewise/cli/completion.py",
    "slicewise/cli/demo*.py",
    "slicewise/cli/doctor/*.py",  # by code in docs/doctor.md; each finding prints its own fix
    "slicewise/cli/uninstall.py",  # prints its own fix too
    "slicewise/usage/advice.py",  # in docs/utilization.md
    "slicewise/usage/formats.py",
    "slicewise/usage/html_page.py",
    "slicewise/usage/report.py",
)
"""Modules whose texts are no messages, or stand on another page."""

# What others say, and is looked for in their answers; help; queries; what only a fault of the program would say.
NOT_SAID: Final = frozenset(
    {
        "should less equal than capability",
        "cannot be the parent queue",
        "1 while requests go from the API server to the webhook and back, 0 while they do not.",
        "Since when that has been so.",
        "When that was last found out.",
        "pairs of flavor and resource in one group",
        "elect one of several replicas",
        "keep the DeviceClasses that serve what a DRA driver publishes",
        "serve the status page below /page/ on the operational address",
        "ask the API server who may read /metrics",
        "round(quantile_over_time(0.95, ……) / 100, 0.0001) …",
        "max by (pod, owner_kind, owner_name) (max_over_time(kube_pod_owner…))",
        "max by (…, owner_kind, owner_name) (max_over_time(……))",
        "the last try returns or raises",
        "lease_duration > renew_deadline > retry_period * (1 + jitter) does not hold",
    }
)


def sentences(group: str) -> list[str]:
    """Every sentence of a group of modules, once, in the order of the sources; refusals with a code are left out."""
    found: dict[str, None] = {}
    for path in _modules()[group]:
        found |= dict.fromkeys(_of(_parsed(path)))
    coded = {each for listed in refusals().values() for each in listed}
    return [each for each in found if each not in NOT_SAID and each not in coded]


@cache
def _modules() -> Mapping[str, list[Path]]:
    """Returns the modules of each group."""
    named, found = _named(UNLISTED), {}
    for group, patterns in GROUPS.items():
        found[group] = sorted(_named(patterns) - named)
        named |= _named(patterns)
    return found


def _named(patterns: tuple[str, ...]) -> set[Path]:
    return {path for pattern in patterns for path in ROOT.glob(pattern)}


@cache
def refusals() -> Mapping[str, tuple[str, ...]]:
    """Returns the sentences of refusals by code: what is said where `Refusal(sentence, Reason.CODE)` is raised."""
    found: dict[str, dict[str, None]] = {}
    for path in _modules()["webhook"]:
        for function in ast.walk(_parsed(path)):
            if isinstance(function, ast.FunctionDef):
                for code, text in _refused(function, _parsed(path)):
                    found.setdefault(code, {})[text] = None
    return {code: tuple(texts) for code, texts in found.items()}


def _refused(function: ast.FunctionDef, module: ast.Module) -> Iterator[tuple[str, str]]:
    named = {
        target.id: each.value
        for each in ast.walk(function)
        if isinstance(each, ast.Assign)
        for target in each.targets
        if isinstance(target, ast.Name)
    }
    for call in ast.walk(function):
        if not isinstance(call, ast.Call) or _name(call.func) != "Refusal":
            continue
        sentence, reason = call.args
        texts = list(_texts(named.get(getattr(sentence, "id", ""), sentence), module))
        for each in ast.walk(reason):
            if isinstance(each, ast.Attribute) and _name(each.value) == "Reason":
                yield from ((Reason[each.attr].value, text) for text in texts)


def _texts(node: ast.expr, module: ast.Module) -> Iterator[str]:
    """A text, or what the function of this module that makes it returns."""
    if isinstance(node, ast.Call):
        made = next(
            each
            for each in module.body
            if isinstance(each, ast.FunctionDef) and each.name == _name(node.func)
        )
        for each in ast.walk(made):
            if isinstance(each, ast.Return) and each.value is not None:
                yield from _texts(each.value, module)
    elif (text := _text(node)) is not None:
        yield text


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


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
