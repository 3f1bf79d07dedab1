"""The parts of the documentation that are made from the sources.

On a page they stand between `<!-- generated: NAME -->` and `<!-- end -->`. `python -m tests.docs` writes them anew.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from admission.workloads.builtin_kinds import TABLE
from e2e.harness.schemas import published
from tests.docs import fields, sentences

_BUILT_IN: Final = frozenset({"", "apps", "batch"})
_PART: Final = re.compile(r"(<!-- generated: ([^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)


@cache
def parts() -> Mapping[str, str]:
    """Returns every generated part by name."""
    found = {f"fields {kind}": fields.table(model) for kind, model in fields.MODELS.items()}
    found |= {f"sentences {group}": _list(sentences.sentences(group)) for group in sentences.GROUPS}
    found["kinds tested"] = _kinds_tested()
    found |= {f"refusals {code}": _list(listed) for code, listed in sentences.refusals().items()}
    return found


def _kinds_tested() -> str:
    """The definitions that manifests are tested under: a row for each module, and one for what is published in none."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for (_, kind), found in published().items():
        kinds.setdefault((f"`{found.module}`", found.version), []).append(kind)
    kinds["none", ""] = [
        row.kind for row in TABLE if row.group not in _BUILT_IN and (row.group, row.kind) not in published()
    ]
    rows = [f"| {module} | {version} | {', '.join(names)} |" for (module, version), names in kinds.items()]
    return "\n".join(["| definition | version | kinds |", "| --- | --- | --- |", *rows])


def _list(listed: Iterable[str]) -> str:
    return "\n".join(f"- {escaped(each)}" for each in listed)


def escaped(sentence: str) -> str:
    """Returns a sentence as Markdown shows it unchanged."""
    return re.sub(r"([*_`<>\[\]|#])", r"\\\1", sentence)


def current(text: str) -> str:
    """Returns a page with its generated parts as they should be."""
    return _PART.sub(lambda match: f"{match[1]}\n{parts()[match[2]]}\n\n{match[3]}", text)


def named(text: str) -> list[str]:
    """Returns the names of the generated parts of a page."""
    return [match[2] for match in _PART.finditer(text)]


def write(folder: Path) -> None:
    """Writes the generated parts of every page anew."""
    for path in sorted(folder.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if (new := current(text)) != text:
            path.write_text(new, encoding="utf-8")


__all__ = ["current", "escaped", "named", "parts", "write"]
