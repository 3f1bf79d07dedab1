"""What somebody wrote and cannot be used."""

from collections.abc import Iterable


class BadInput(ValueError):  # noqa: N818  it is the caller's mistake, and named for it
    """Text that cannot be used: one line with file, document, field, what is wrong and what would be right."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns what a misspelt word was meant to be, as a question that ends a sentence; "" where nothing is near."""
    from difflib import get_close_matches  # noqa: PLC0415  only the misspelt need it

    near = get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""
