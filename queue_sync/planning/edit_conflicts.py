"""Who else writes what is ours: an edit is put back and told; somebody who keeps at it is left alone for a while.

Pure but for the clock that is handed in. An object is known in the form in which it was last right, or was last
written. When it later says something else although the same is wanted, somebody edited it. Only a write that the
server took is a put-back: one that failed, or was made on an old copy, says nothing about others.

A pause is short at first and doubles while the other side goes on; it ends with the other side's edits. It holds
against that edit alone: when something else is wanted, because nodes came or went, that is written.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from queue_sync.planning.changes import Change, Key, key_of
from queue_sync.planning.observed import Object, without_status

MOST_PUT_BACK: Final = 5
WINDOW: Final = 600.0
"""Seconds: put-backs longer ago are forgotten, and with them the pauses."""
FIRST_PAUSE: Final = 30.0
LONGEST_PAUSE: Final = 480.0


@dataclass(slots=True)
class _Known:
    target: Object | None = None
    """None while it is on its way to something else."""
    standing: Object = field(default_factory=dict)
    put_back: deque[float] = field(default_factory=deque)
    pause: float = 0.0
    until: float = 0.0


class EditConflicts:
    """What was last seen to be right, and how often it had to be put back. `now` counts seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._known: dict[Key, _Known] = {}

    def right(self, key: Key, target: Object, standing: Object) -> None:
        """The object says what it should."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _Known()
        known.target, known.standing = target, standing

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self._known.pop(key, None)

    def is_edit(self, change: Change) -> bool:
        """True when the change puts back what somebody else has changed."""
        known = self._known.get(key_of(change.document))
        return (
            known is not None
            and change.target is not None
            and change.before is not None
            and change.target == known.target
            and without_status(change.before) != without_status(known.standing)
        )

    def before(self, change: Change) -> Object | None:
        """The object as it was before somebody edited it; as the change found it where nobody did."""
        return self._known[key_of(change.document)].standing if self.is_edit(change) else change.before

    def wrote(self, change: Change) -> bool:
        """Notes that the server took the change; returns True when that put an edit back."""
        edit = self.is_edit(change)
        key = key_of(change.document)
        if change.after is None:
            self.forget(key)
            return edit
        known = self._known.setdefault(key, _Known())
        # A change without a form of its own is on its way to one, and going back on it is no edit of anybody's.
        known.target, known.standing = change.target, change.after
        if edit:
            self._put_back(known)
        return edit

    def _put_back(self, known: _Known) -> None:
        now = self._now()
        while known.put_back and known.put_back[0] < now - WINDOW:
            known.put_back.popleft()
        if not known.put_back:
            known.pause = 0.0
        known.put_back.append(now)
        if known.pause:
            known.pause = min(2 * known.pause, LONGEST_PAUSE)
        elif len(known.put_back) >= MOST_PUT_BACK:
            known.pause = FIRST_PAUSE
        known.until = now + known.pause

    def paused_for(self, change: Change) -> float:
        """For how many seconds more somebody's edit is left as it is; 0 when it is put back."""
        known = self._known.get(key_of(change.document))
        if known is None or not self.is_edit(change):
            return 0.0
        return max(0.0, known.until - self._now())
