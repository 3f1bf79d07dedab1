"""Why a command ends early; apart from what it reads with, so that complaining imports nothing else."""

from collections.abc import Iterable


class Failed(Exception):  # noqa: N818  it is told to a person, not handled
    """The command cannot go on; the message is one line for standard error."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns what a misspelt word was meant to be, as a question that ends a sentence; "" where nothing is near."""
    from difflib import get_close_matches  # noqa: PLC0415  only the misspelt need it

    near = get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""
