"""How commands print, and the one `-o` with which they are asked for it: text for people, names, JSON and YAML."""

import json
import os
import re
import shutil
import sys
import textwrap
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import zip_longest
from typing import Any, Final

from slicewise.cli.inputs import READ_ALWAYS, READ_QUEUES, READ_SETUP, READ_WORK
from slicewise.kube import yaml
from slicewise.kube.object_types import kind_of

OUTPUTS: Final = ("table", "wide", "name", "json", "yaml")
"""What every command that lists things can print."""

_GROUPS: Final = {
    kind: version.rpartition("/")[0]
    for _, version, kind in reversed((*READ_ALWAYS, *READ_QUEUES, *READ_WORK, *READ_SETUP))
}
"""API group by kind, of what the command reads; of kinds that are called alike that of the first."""
_GAP: Final = 3
"""Spaces between two columns."""
_SHORT: Final = 12
"""A column is not made narrower than this many characters to fit a terminal."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What moves the cursor of a terminal, begins a line, or turns the direction of what is read."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns columns as wide as they need to be, as kubectl prints them.

    In a terminal, cells are folded to fit it. Where it is too narrow for that, each row is a block with a line for each
    column.
    """
    cells = [[*head], *([line(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns
        widths = _fitted(widths, [len(word) for word in head], room)
        if _width(widths) > room:
            return "\n\n".join(_block(head, row, room) for row in cells[1:])
    first, *rest = (
        (" " * _GAP).join(part.ljust(width) for part, width in zip(parts, widths, strict=True)).rstrip()
        for row in cells
        for parts in zip_longest(*map(_folded, row, widths), fillvalue="")
    )
    return "\n".join([styled(first, Style.HEAD), *rest])


class Style(Enum):
    """How words stand out in a terminal, as parameters of ECMA-48's Select Graphic Rendition."""

    HEAD = "1"
    ERROR = "1;31"
    WARNING = "33"


def _begin(style: Style) -> str:
    return f"\033[{style.value}m"


_PLAIN: Final = "\033[0m"
_OURS: Final = "|".join(map(re.escape, ("\n", _PLAIN, *map(_begin, Style))))
_BUT_ENDS: Final = re.compile(rf"(?!\n){_CONTROL.pattern}")
_BUT_OURS: Final = re.compile(rf"(?!{_OURS}){_CONTROL.pattern}")
"""Control characters but the ends of lines, and but those and what `styled` writes."""


def styled(text: str, style: Style) -> str:
    """Returns a text in bold or in a colour where a terminal shows it, and as it is elsewhere (no-color.org)."""
    return f"{_begin(style)}{text}{_PLAIN}" if _coloured() else text


def _coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def line(text: str) -> str:
    """Returns a text that somebody wrote as part of one line: control characters are written as JSON writes them."""
    return _CONTROL.sub(escaped, text)


def lines(texts: Iterable[str]) -> str:
    """Returns texts that somebody wrote, a line each."""
    return "\n".join(map(line, texts))


def escaped(found: re.Match[str]) -> str:
    """Returns a character as JSON writes it; for `re.sub`."""
    return f"\\u{ord(found[0]):04x}"


def _fitted(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Takes from the widest column until all fit; none becomes narrower than its head, or than a short word."""
    found, least = list(widths), [max(each, _SHORT) for each in least]
    while _width(found) > room:
        widest = max(range(len(found)), key=lambda column: found[column] - least[column])
        if found[widest] <= least[widest]:
            break
        found[widest] -= 1
    return found


def _width(columns: Sequence[int]) -> int:
    return sum(columns) + _GAP * (len(columns) - 1)


def _block(head: Sequence[str], cells: Sequence[str], room: int) -> str:
    """Returns one row with a line for each column, its head in front."""
    widest = max(map(len, head))
    left = max(_SHORT, room - widest - _GAP)
    return "\n".join(
        f"{styled(name, Style.HEAD) if name else ''}{' ' * (widest - len(name) + _GAP)}{part}".rstrip()
        for word, cell in zip(head, cells, strict=True)
        for name, part in zip_longest([word], _folded(cell, left), fillvalue="")
    )


def _folded(cell: str, width: int) -> list[str]:
    return textwrap.wrap(cell, width, break_on_hyphens=False) if len(cell) > width else [cell]


def to_yaml(documents: Iterable[Any]) -> str:
    """Returns documents as one YAML stream."""
    return yaml.dump(documents)


def to_json(value: Any) -> str:
    """Returns one JSON document."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def output_argument(parser: ArgumentParser, *more: str, default: str = "table", help_text: str = "") -> None:
    """Adds `-o`: the outputs that all commands have, and those of this command alone."""
    parser.add_argument(
        "-o",
        "--output",
        choices=(*OUTPUTS, *more),
        default=default,
        help=f"table is for people, wide says more, name is kind.group/name a line{help_text} (default {default})",
    )


def reference(kind: str, name: str, group: str = "") -> str:
    """Returns how `kubectl get -o name` writes an object: `kind.group/name`, and `kind/name` of the core group.

    Args:
        kind: `Kind.group`, or a mere kind, which is of the group that kubectl takes it for.
        name: of the object.
        group: of a mere kind, where that is known.
    """
    kind = f"{kind}.{group}" if group else kind
    return f"{(kind if '.' in kind else _with_group(kind)).lower()}/{name}"


def _with_group(kind: str) -> str:
    found = _GROUPS.get(kind)
    if found is None:
        from admission.workloads.builtin_kinds import TABLE  # noqa: PLC0415  it is seldom needed

        # Kubernetes' own kinds come first, as for kubectl: a Job is one of batch.
        found = next((each.group for each in TABLE if each.kind == kind), "")
    return f"{kind}.{found}" if found else kind


@dataclass(frozen=True, slots=True)
class Listing:
    """What a command found, in every form in which `-o` asks for it."""

    names: Sequence[str]
    """A `reference` each."""
    document: Any
    """For JSON."""
    documents: Sequence[Any]
    """For YAML: one stream."""
    text: Callable[[bool], str]
    """For people; True: with all that there is to say."""

    @classmethod
    def of(cls, names: Iterable[str], document: Any, text: Callable[[bool], str]) -> "Listing":
        """Returns what is one document in JSON and YAML alike."""
        return cls(tuple(names), document, (document,), text)

    @classmethod
    def of_objects(cls, objects: Sequence[Any], text: Callable[[bool], str]) -> "Listing":
        """Returns Kubernetes objects: a List in JSON, a stream in YAML."""
        names = [reference(kind_of(each), str(each["metadata"].get("name"))) for each in objects]
        return cls(names, {"apiVersion": "v1", "kind": "List", "items": list(objects)}, objects, text)

    def formatted(self, output: str) -> str:
        """Returns one of `OUTPUTS`, without an end of line."""
        match output:
            case "name":
                return lines(dict.fromkeys(self.names))
            case "json":
                return to_json(self.document)
            case "yaml":
                return to_yaml(self.documents).removesuffix("\n")
            case _:
                return self.text(output == "wide")

    def print(self, output: str) -> None:
        """Prints one of `OUTPUTS`."""
        if text := self.formatted(output):
            write(text)


Column = tuple[str, Callable[[Any], str]]
"""Its head, and what it says of an object."""


def print_objects(objects: Sequence[Any], column: Column, wide: Column, output: str, none: str) -> None:
    """Prints objects that are there to be applied; says `none` to people where there are none."""

    def text(more: bool) -> str:  # noqa: FBT001  as a Listing has it
        columns = (column, wide) if more else (column,)
        rows = [(each["metadata"]["name"], *(say(each) for _, say in columns)) for each in objects]
        return table(("NAME", *(head for head, _ in columns)), rows)

    if objects or output == "json":
        Listing.of_objects(objects, text).print(output)
    else:
        tell(none)


def write(text: str, end: str = "\n") -> None:
    """Prints a text of whole lines: of control characters, only ends of lines and our own `styled` go to a terminal.

    All output of the command comes through here or through `tell`. JSON and YAML stay what they are, for they have
    control characters in texts alone, where JSON takes what is written for them.
    """
    print((_BUT_OURS if _coloured() else _BUT_ENDS).sub(escaped, text), end=end, flush=True)


def tell(sentence: str) -> None:
    """Says something to the person in one line, beside the output."""
    print(line(sentence), file=sys.stderr)
