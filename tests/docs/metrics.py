"""The metrics of both programs, read out of the sources, as tables of docs/reference.md."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final[dict[str, str]] = {
    "webhook": "admission",
    "controller": "queue_sync",
}
_TYPES: Final = {"Counter": "counter", "Gauge": "gauge", "Histogram": "histogram", "Info": "gauge"}
_PREFIX: Final = "slicewise_"


class Metric(NamedTuple):
    """One metric as it is scraped."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def metrics(program: str) -> list[Metric]:
    """Every metric of a program, by name."""
    found = {
        metric.name: metric
        for path in sorted((ROOT / PROGRAMS[program]).rglob("*.py"))
        for metric in _of(ast.parse(path.read_text(encoding="utf-8")), {})
    }
    return [found[name] for name in sorted(found)]


def table(program: str) -> str:
    """The metrics of a program as a Markdown table."""
    rows = [
        f"| `{each.name}` | {each.type} | {', '.join(f'`{label}`' for label in each.labels)} | {each.help} |"
        for each in metrics(program)
    ]
    return "\n".join(["| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows])


def _of(tree: ast.AST, known: dict[str, tuple[str, ...]]) -> Iterator[Metric]:
    """Walks in the order of the source; `known` holds the tuples of words that names stand for."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            known[node.targets[0].id] = _words(node.value, known)
        if isinstance(node, ast.For) and isinstance(node.target, ast.Name):
            known[node.target.id] = _words(node.iter, known)
        if isinstance(node, ast.Tuple):
            yield from _metric("gauge", node.elts, None, known)
        elif isinstance(node, ast.Call):
            function = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            kind = _TYPES.get(function.removesuffix("MetricFamily"))
            given = next((each.value for each in node.keywords if each.arg in {"labels", "labelnames"}), None)
            if kind:
                yield from _metric(kind, node.args, given, known)
        yield from _of(node, known)


def _metric(
    kind: str, parts: list[ast.expr], labels: ast.expr | None, known: dict[str, tuple[str, ...]]
) -> Iterator[Metric]:
    if len(parts) < 2:
        return
    for name in _texts(parts[0], known):
        if name.startswith(_PREFIX):
            listed = labels if labels is not None else parts[2] if len(parts) > 2 else None
            words = next(iter(_texts(parts[1], {})), "")
            counts = kind == "counter" or name.endswith("_total")
            yield Metric(
                name.removesuffix("_total") + ("_total" if counts else ""),
                "counter" if counts else kind,
                _words(listed, known) if listed is not None else (),
                words,
            )


def _texts(node: ast.expr, known: dict[str, tuple[str, ...]]) -> list[str]:
    """The texts that an expression may give; what is filled in is a known word, else three dots."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if not isinstance(node, ast.JoinedStr):
        return []
    found = [""]
    for part in node.values:
        value = getattr(part, "value", None)
        more = [value] if isinstance(value, str) else list(known.get(getattr(value, "id", ""), ("…",)))
        found = [text + each for text in found for each in more]
    return found


def _words(node: ast.expr, known: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    if isinstance(node, ast.Name):
        return known.get(node.id, ())
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(
            each.value for each in node.elts if isinstance(each, ast.Constant) and isinstance(each.value, str)
        )
    return ()
