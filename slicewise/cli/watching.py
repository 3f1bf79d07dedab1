"""`--watch`: what is printed again when the cluster changes, or a file that stands for it.

Nothing but text is written, in a terminal too: what is new comes below what was there, as for `kubectl get --watch`.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, NoReturn

from slicewise.api.errors import BadInput
from slicewise.cli.inputs import READ_ALWAYS, Collection, cluster, operator_files, with_changed
from slicewise.cli.output import tell, write
from slicewise.kube.snapshot import Document, Snapshot

_LOOK_AGAIN: Final = 0.5
"""Seconds between two looks at files."""
_SUFFIXES: Final = frozenset({".yaml", ".yml", ".json"})


class View(NamedTuple):
    """What a command has to print of a cluster."""

    text: str
    sentences: Sequence[str] = ()
    """What goes to standard error."""

    def print(self) -> None:
        """Prints it."""
        if self.text:
            write(self.text)
        for sentence in self.sentences:
            tell(sentence)


def unread_nodes(options: Namespace, snapshot: Snapshot) -> tuple[str, ...]:
    """Returns what to say where files hold no Node: what is offered is not known, and is no zero."""
    if snapshot.nodes or not options.snapshot:
        return ()
    return (
        "warning: no Node was read, so what is offered is not known; give the nodes too (kubectl get nodes -o yaml)",
    )


def watch_argument(parser: ArgumentParser, what: str) -> None:
    """Adds `-w`."""
    parser.add_argument("-w", "--watch", action="store_true", help=f"{what}, until you press Ctrl-C")


def watch(
    options: Namespace, view: Callable[[Snapshot], View], *collections: Iterable[Collection]
) -> NoReturn:
    """Prints a view of the cluster, and again whenever it is another one, until it is interrupted.

    Raises:
        BadInput: standard input was to be watched, or the first reading finds something that cannot be used.
        Failed: the cluster cannot be read at first.
    """
    files = [*(options.snapshot or ()), *options.changed]
    if "-" in files:
        raise BadInput("standard input does not change, so it cannot be watched; put it into a file")
    before = stamps(files)
    shown = view(cluster(options, *collections))
    shown.print()

    def show(read: Callable[[], Snapshot]) -> None:
        nonlocal shown
        try:
            found = view(read())
        except BadInput as error:
            found = View("", (str(error),))
        if found != shown:
            write("---" if options.output == "yaml" else "")
            found.print()
        shown = found

    if options.snapshot:
        while True:
            wait_for_change(files, before)
            before = stamps(files)
            show(lambda: cluster(options, *collections))
    from slicewise.cli.live import follow  # noqa: PLC0415  the libraries of the network load slowly

    def changed(documents: Iterable[Document]) -> None:
        show(lambda: with_changed(options, documents))

    follow(options, (READ_ALWAYS, operator_files(options), *collections), changed)


Stamps = dict[str, int]


def stamps(names: Iterable[str]) -> Stamps:
    """Returns when these files, and those of YAML and JSON in these directories, were written, in nanoseconds."""
    found: Stamps = {}
    for path in map(Path, names):
        with suppress(OSError):  # to read it says what is wrong
            for each in path.rglob("*") if path.is_dir() else (path,):
                if each == path or each.suffix in _SUFFIXES:
                    with suppress(OSError):  # it was taken away since it was listed, or may not be looked at
                        found[str(each)] = each.stat().st_mtime_ns
    return found


def wait_for_change(names: Sequence[str], before: Stamps) -> None:
    """Returns when a file was written, made or taken away since `before`."""
    while stamps(names) == before:
        time.sleep(_LOOK_AGAIN)
