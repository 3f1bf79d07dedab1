"""A line on a terminal while something takes longer than a second."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SOON: Final = 1.0
"""Seconds of which nothing is said."""
_AGAIN: Final = 0.5
"""Seconds between two looks at the clock."""


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Says on standard error, where that is a terminal, what takes so long; the line goes away at the end."""
    if not sys.stderr.isatty():
        yield
        return
    from threading import Event, Thread  # noqa: PLC0415  only people in a terminal are told
    from time import monotonic  # noqa: PLC0415

    done, start = Event(), monotonic()

    def say() -> None:
        text = ""
        if done.wait(_SOON):
            return
        while True:
            text = f"{what} … {monotonic() - start:.0f} s"
            # The next line that somebody writes begins where this one does.
            print(f"{text}\r", end="", file=sys.stderr, flush=True)
            if done.wait(_AGAIN):
                break
        print(f"{' ' * len(text)}\r", end="", file=sys.stderr, flush=True)

    thread = Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
