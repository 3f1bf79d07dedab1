"""An engine's name is one word of the API, every table of engines has a row for it, and other code does not name it."""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from admission.engines import registry
from queue_sync.planning import engines
from slicewise.api.policy import Engine
from slicewise.kube.object_types import ENGINE_OBJECTS

TABLES: dict[str, Mapping[Any, Any]] = {
    "who queues a workload": registry.ENGINES,
    "what a plan wants": engines.ENGINES,
    "which objects it has": ENGINE_OBJECTS,
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_each_engine_has_its_row(table: Mapping[Any, Any]) -> None:
    assert set(table) == set(Engine)


@pytest.mark.parametrize("half", ["queue_sync.planning", "admission.engines"])
def test_each_engine_is_protected_by_a_contract(half: str) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    protected = {module for each in contracts for module in each.get("protected_modules", ())}
    assert {f"{half}.{engine}" for engine in Engine} <= protected


def test_no_engine_imports_another() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {layer for each in contracts for layer in each.get("layers", ())}
    assert " | ".join(sorted(Engine)) in layers


ROOT: Final = Path(__file__).parents[2]
NAMES: Final = re.compile("|".join(Engine), re.IGNORECASE)
HOMES: Final = re.compile(f"queue_sync/planning/({'|'.join(Engine)})/|admission/engines/")
STANDS: Final = "what stands is typed by the kinds of both"
OPTION: Final = "the option --kueue-namespace is called so"
KIND: Final = "where a kind has its queue is data of the kind"
KNOWING: Final = {
    "admission/decision/policy_resolution.py": "says in words what an engine has fixed",
    "admission/mutation/integrations/kubeflow.py": KIND,
    "admission/mutation/integrations/registry.py": KIND,
    "admission/mutation/integrations/volcano.py": KIND,
    "admission/webhook_configuration.py": "asks in CEL whether an update takes a pod out of its queue",
    "admission/workloads/builtin_kinds.py": KIND,
    "admission/workloads/decoder.py": KIND,
    "admission/workloads/kind.py": KIND,
    "queue_sync/controllers/local_queue.py": "one engine alone has queues in namespaces",
    "queue_sync/informers/optional.py": OPTION,
    "queue_sync/manager.py": OPTION,
    "queue_sync/planning/cluster_state.py": STANDS,
    "queue_sync/planning/engines.py": "the rows",
    "queue_sync/planning/kueue_configuration.py": STANDS,
    "queue_sync/planning/observed.py": STANDS,
    "queue_sync/planning/waiting.py": "passes on what each says of one workload, in the order in which that meets them",
    "queue_sync/serve.py": OPTION,
    "queue_sync/webhook_selfcheck.py": "makes a plan that is to be refused, and a plan names an engine",
}
"""Files of the two halves outside of the engines' own that name one on purpose, and why (docs/architecture.md)."""


def words(module: ast.Module) -> Iterator[str]:
    """Every name and text of a module but comments and docstrings."""
    documented = set()
    for node in ast.walk(module):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                documented.add(id(node.value))  # which comes after its expression
            case ast.Constant(value=str(text)) if id(node) not in documented:
                yield text
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.ImportFrom(module=str(name), names=names):
                yield from (name, *(each.name for each in names))


def test_an_engine_is_named_in_its_own_files_and_where_there_is_a_reason() -> None:
    found = set()
    for half in ("admission", "queue_sync"):
        for path in (ROOT / half).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if not HOMES.match(name) and any(map(NAMES.search, words(ast.parse(path.read_text())))):
                found.add(name)
    assert found == set(KNOWING)
