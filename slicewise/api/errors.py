"""What somebody wrote and cannot be used."""

from collections.abc import Iterable


class BadInput(ValueError):  # noqa: N818  it is the caller's mistake, and named for it
    """Text that cannot be used: one line with file, document, field, what is wrong and what would be right."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns what a misspelt word was meant to be, as a question that ends a sentence; "" where nothing is near.

    What is equally near is named too, and upper case is as good as lower.
    """
    from difflib import SequenceMatcher, get_close_matches  # noqa: PLC0415  only the misspelt need it

    lowered: dict[str, list[str]] = {}
    for each in sorted(set(known)):
        lowered.setdefault(each.lower(), []).append(each)
    if len(word) > 3 * max(map(len, lowered), default=0):
        return ""  # too long to be like any, and to be looked at
    low = word.lower()
    near = get_close_matches(low, lowered, 3)

    def likeness(each: str) -> float:
        return SequenceMatcher(None, each, low).ratio()

    best = sorted(each for each in near if likeness(each) == likeness(near[0]))
    meant = [name for each in best for name in lowered[each]]
    return f"; did you mean {' or '.join(meant)}?" if meant else ""
