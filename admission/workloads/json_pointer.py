"""JSON pointers (RFC 6901).  Pure."""

from typing import Any


def member(value: Any, step: str) -> Any:
    """Returns what one reference token of a JSON pointer leads to; None where it leads nowhere."""
    if isinstance(value, dict):
        return value.get(unescape(step))
    if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
        return value[int(step)]
    return None


def escape(key: str) -> str:
    """Escapes one key for a JSON pointer (RFC 6901, section 3)."""
    return key.replace("~", "~0").replace("/", "~1")


def unescape(key: str) -> str:
    """Reads one reference token of a JSON pointer."""
    return key.replace("~1", "/").replace("~0", "~")
