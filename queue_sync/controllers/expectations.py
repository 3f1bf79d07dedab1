"""What a reconciler has written and no watch has shown yet."""

from collections.abc import Callable
from typing import Final

from queue_sync.planning.changes import Change, Key, key_of
from queue_sync.planning.observed import Object

LONGEST_UNSEEN: Final = 60.0
"""Seconds for which it is waited to see what was written: a watch may be late, and a write may have been lost."""


class Expectations:
    """Writes that were begun, by object; `now` tells seconds on the monotonic clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._begun: dict[Key, tuple[Change, float]] = {}

    def expect(self, change: Change) -> None:
        """A write is about to begin: the watch may show it before the answer comes."""
        self._begun[key_of(change.document)] = change, self._now()

    def observed(self, document: Object) -> Change | None:
        """An object came, went or changed, or its write was refused: returns the write, if it was to be seen."""
        change, _ = self._begun.pop(key_of(document), (None, 0.0))
        return change

    def satisfied(self, plan: str) -> bool:
        """False while something that was written for a plan is still to be seen."""
        since = self._now() - LONGEST_UNSEEN
        return not any(change.plan == plan and begun > since for change, begun in self._begun.values())
