"""What the documentation tells people to type works, and prints what the pages show."""

import contextlib
import io
import re
from pathlib import Path
from typing import Final

import pytest

from slicewise.cli.main import main, parser
from tests.docs import measured
from tests.docs.pages import ROOT, Command, Page, page, pages

# Commands of ours that can be run without a cluster, given files.
RUN: Final = frozenset(
    {
        "mutate",
        "explain",
        "pools",
        "plan",
        "diff",
        "drift",
        "doctor",
        "why",
        "deviceclasses",
        "report",
        "advise",
    }
)
OTHERS: Final = frozenset(
    {"kubectl", "helm", "make", "git", "python3", ".venv/bin/pip", "export", "echo", "docker"}
)
PATHS: Final = re.compile(r"(?:manifests|charts|docs|e2e)/\S*|[^\s/=]+\.ya?ml")
TYPED: Final = [each for each in pages() if any(each.commands())]


def ours(command: Command) -> tuple[str, ...] | None:
    """Returns the arguments of a command of ours; None for another program."""
    words = command.words
    if words[:2] == ("kubectl", "slicewise"):
        return words[2:]
    return words[1:] if words[:1] == ("slicewise",) else None


def can_run(arguments: tuple[str, ...]) -> bool:
    return "|" not in arguments and (
        arguments[0] in {"test", "--version"} or (arguments[0] in RUN and "--snapshot" in arguments)
    )


def run(arguments: tuple[str, ...]) -> tuple[int, str]:
    """Runs the command; returns its status and what a terminal would show."""
    target = None
    if ">" in arguments:
        at = arguments.index(">")
        arguments, target = arguments[:at], Path(arguments[at + 1])
    shown, out = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(out if target else shown):
        try:
            status = main(arguments)
        except SystemExit as done:  # argparse, once it has said the version
            status = int(done.code or 0)
    if target:
        target.write_text(out.getvalue(), encoding="utf-8")
    return status, shown.getvalue()


def matches(printed: str, shown: str) -> bool:
    """True when what is printed is what the page shows; a line of three dots is any lines."""
    lines = [
        r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line) + "\n" for line in shown.splitlines()
    ]
    text = "".join(line.rstrip() + "\n" for line in printed.splitlines())
    return re.fullmatch("".join(lines), text) is not None


@pytest.mark.parametrize("page_", TYPED, ids=lambda each: each.name)
def test_what_is_typed_works_and_prints_what_is_shown(
    page_: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {**page("example.md").files(), **page_.files()}
    for name, text in given.items():
        Path(name).write_text(text, encoding="utf-8")
    status = 0
    for command in page_.commands():
        where = f"{page_.name}:{command.line}: {' '.join(command.words)}"
        arguments = ours(command)
        if arguments is not None and can_run(arguments):
            status, printed = run(arguments)
            assert command.printed is None or matches(printed, command.printed), f"{where}\nprints\n{printed}"
            assert command.printed is not None or status < 2, f"{where}\nprints\n{printed}"
        elif command.words == ("echo", "$?"):
            assert command.printed == str(status), f"{where}: the status is {status}"
        else:
            check_unrun(where, command, arguments, given)


def check_unrun(
    where: str, command: Command, arguments: tuple[str, ...] | None, given: dict[str, str]
) -> None:
    """What needs a cluster is read as far as it can be: its flags, its files and its targets."""
    words = command.words
    if arguments is not None:
        ends = [arguments.index(each) for each in (">", "|") if each in arguments]
        options = parser().parse_args(arguments[: min(ends, default=len(arguments))])
        if saved := getattr(options, "save", None):
            measured.write(saved)
    else:
        assert words[0] in OTHERS, f"{where}: what is {words[0]}?"
    if words[0] == "make":
        targets = re.findall(r"^([a-z0-9-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets), f"{where}: no such target"
    written = {words[words.index(">") + 1]} if ">" in words else set()
    # A manifest that a live cluster is asked about is the reader's own.
    for word in words if arguments is None else ():
        for path in PATHS.findall(word):
            there = path in given or path in written or (ROOT / path).exists() or Path(path).exists()
            assert there, f"{where}: {path} is no file of the page or the tree"
    for path in written:
        Path(path).touch()
