"""The documentation as a reader has it: pages, fenced blocks, commands and links.

Files that a page gives are YAML blocks with a first line `# file: NAME`. Those of docs/example.md are there on every
page. In a console block a line that begins with `$ ` is typed; the lines after it, if any, are what it prints, and a
line of three dots stands for any lines.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_FENCE: Final = re.compile(r"^( *)```(\S*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FILE: Final = re.compile(r"^# file: (\S+)\n")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str:
        """The name under which the reader saves it; "" when there is none."""
        match = _FILE.match(self.text)
        return match[1] if match else ""


@dataclass(frozen=True, slots=True)
class Command:
    """One typed line, and what the page says that it prints (None: nothing is said)."""

    words: tuple[str, ...]
    printed: str | None
    line: int


@dataclass(frozen=True, slots=True)
class Page:
    """One page."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        """The page's path from the root of the tree."""
        return str(self.path.relative_to(ROOT))

    def blocks(self, *languages: str) -> Iterator[Block]:
        """Yields the fenced blocks of these languages."""
        for match in _FENCE.finditer(self.text):
            if match[2] in languages:
                indent = match[1]
                text = "".join(line.removeprefix(indent) for line in match[3].splitlines(keepends=True))
                yield Block(match[2], text, self.text.count("\n", 0, match.start()) + 1)

    def files(self) -> dict[str, str]:
        """Returns the files that the page gives, by name."""
        return {block.file: block.text for block in self.blocks("yaml") if block.file}

    def commands(self) -> Iterator[Command]:
        """Yields what is typed on the page."""
        for block in self.blocks("console"):
            yield from _commands(block)

    def links(self) -> Iterator[str]:
        """Yields the targets of its relative links, without anchors."""
        prose = _FENCE.sub("", self.text)
        for target in _LINK.findall(prose):
            if not target.startswith(("http://", "https://", "#", "mailto:")):
                yield target.partition("#")[0]


def _commands(block: Block) -> Iterator[Command]:
    typed, line = "", block.line
    printed: list[str] = []
    for number, text in enumerate([*block.text.splitlines(), "$ "], start=block.line + 1):
        if typed.endswith("\\"):
            typed = typed[:-1] + text.strip()
        elif text.startswith("$ "):
            if typed:
                yield _command(typed, printed, line)
            typed, printed, line = text[2:], [], number
        else:
            printed.append(text)


def _command(typed: str, printed: list[str], line: int) -> Command:
    words = tuple(shlex.split(typed, comments=True))
    return Command(words, "\n".join(printed) if printed else None, line)


@cache
def pages() -> tuple[Page, ...]:
    """Returns README.md and every page of docs/."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return tuple(Page(path, path.read_text(encoding="utf-8")) for path in paths)


def page(name: str) -> Page:
    """Returns one page of docs/."""
    return next(each for each in pages() if each.path.name == name)
