"""What may be malformed, read as it should be: a custom resource comes before its schema is looked at.  Pure."""

from collections.abc import Iterator
from typing import Any

from slicewise.api.quantities import QuantityError, count


def dicts(value: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the objects of a list with their positions; nothing when it is none."""
    yield from (
        (i, each) for i, each in enumerate(value if isinstance(value, list) else ()) if isinstance(each, dict)
    )


def mapping(value: Any) -> dict[str, Any]:
    """Returns an object; an empty one when it is none."""
    return value if isinstance(value, dict) else {}


def number(value: Any) -> int:
    """Returns a whole number; 1 when it is none."""
    try:
        return count(value)
    except QuantityError:
        return 1
