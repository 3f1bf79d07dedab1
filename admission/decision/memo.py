"""What was found for some input, to be found again: bounded in number and in bytes, whatever people send."""

from typing import Any, Final

_LONGEST: Final = 8192
"""Bytes of what people wrote for one result: they may write names and tolerations of any length."""


class Memo:
    """Results by all that they were made of. When it is full it forgets them all: what is asked for comes again."""

    def __init__(self, most: int, size: int) -> None:
        """Holds at most so many results, and so many bytes as whoever gives them says."""
        self._most, self._size = most, size
        self._held = 0
        self._known: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Any) -> Any:
        """Returns the result for a key; None where none is known."""
        return self._known.get(key)

    def put(self, key: Any, result: Any, written: int, more: int) -> None:
        """Remembers a result, for which people wrote so many bytes, and which has so many more; one for which they
        wrote too much is not remembered."""
        size = written + more
        if written > _LONGEST or size > self._size:
            return
        if len(self._known) >= self._most or self._held + size > self._size:
            self.clear()
        self._known[key] = result
        self._held += size

    def clear(self) -> None:
        """Forgets everything."""
        self._known.clear()
        self._held = 0
