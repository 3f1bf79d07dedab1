"""How commands print: tables for people, YAML and JSON for programs."""

import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any, Final

from slicewise.kube import yaml

_SHORT: Final = 12
"""A column is not made narrower than this many characters to fit a terminal."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns columns as wide as they need to be, as kubectl prints them; in a terminal, cells are folded to fit it."""
    lines = [[*head], *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    if sys.stdout.isatty():
        widths = _fitted(widths, [len(word) for word in head], shutil.get_terminal_size().columns)
    return "\n".join(
        "   ".join(part.ljust(width) for part, width in zip(parts, widths, strict=True)).rstrip()
        for line in lines
        for parts in zip_longest(*map(_folded, line, widths), fillvalue="")
    )


def _fitted(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Takes from the widest column until all fit; none becomes narrower than its head, or than a short word."""
    found, least = list(widths), [max(each, _SHORT) for each in least]
    while sum(found) + 3 * (len(found) - 1) > room:
        widest = max(range(len(found)), key=lambda column: found[column] - least[column])
        if found[widest] <= least[widest]:
            break
        found[widest] -= 1
    return found


def _folded(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, width, break_on_hyphens=False) if len(cell) > width else [cell]


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
