"""How commands print: tables for people, YAML and JSON for programs."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from slicewise.kube import yaml


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns columns as wide as they need to be, as kubectl prints them."""
    lines = [[*head], *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def to_yaml(documents: Iterable[Any]) -> str:
    """Returns documents as one YAML stream."""
    return yaml.dump(documents)


def to_json(value: Any) -> str:
    """Returns one JSON document."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def print_document(value: Any, output: str) -> None:
    """Prints one document for programs, as `json` or `yaml`."""
    print(to_json(value) if output == "json" else to_yaml([value]), end="\n" if output == "json" else "")


def print_objects(objects: Sequence[Any], output: str, *, none: str) -> None:
    """Prints Kubernetes objects as one List (`json`) or one stream (`yaml`); where there are none, a stream says so."""
    if output == "json":
        print(to_json({"apiVersion": "v1", "kind": "List", "items": objects}))
    elif objects:
        print(to_yaml(objects), end="")
    else:
        tell(none)


def tell(sentence: str) -> None:
    """Says something to the person, beside the output."""
    print(sentence, file=sys.stderr)
