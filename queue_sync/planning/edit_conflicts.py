"""Who else writes what is ours: an edit is put back and told; somebody who keeps at it is no longer fought.

Pure but for the clock that is handed in. An object is known in the form in which it last said what it should. When
it later says something else although the same is wanted, somebody edited it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from queue_sync.planning.observed import Object, without_status
from queue_sync.planning.plan_diff import Change

MOST_PUT_BACK: Final = 5
WINDOW: Final = 600.0
TRUCE: Final = 3600.0

Key = tuple[str, str]
"""Kind, and name or `namespace/name`."""


@dataclass(slots=True)
class _Known:
    target: Object | None
    """None while it is on its way to something else."""
    standing: Object
    put_back: deque[float] = field(default_factory=deque)
    truce_until: float = 0.0


def key_of(document: Object) -> Key:
    """Kind and name of an object."""
    metadata = document["metadata"]
    namespace = metadata.get("namespace")
    return document["kind"], f"{namespace}/{metadata['name']}" if namespace else metadata["name"]


class EditConflicts:
    """What was last seen to be right, and how often it had to be put back. `now` counts seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._known: dict[Key, _Known] = {}

    def right(self, key: Key, target: Object, standing: Object) -> None:
        """The object says what it should."""
        known = self._known.get(key)
        if known is None:
            self._known[key] = _Known(target, standing)
        else:
            known.target, known.standing = target, standing

    def wrote(self, change: Change) -> None:
        """The change was taken. If it wanted something new, going back on it will be no edit of anybody's."""
        known = self._known.get(key_of(change.document))
        if known is not None and change.target != known.target:
            known.target = None

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

    def put_back(self, change: Change) -> bool:
        """Notes an edit; False when there were so many that the object is left alone from now on."""
        known, now = self._known[key_of(change.document)], self._now()
        known.put_back.append(now)
        while known.put_back and known.put_back[0] < now - WINDOW:
            known.put_back.popleft()
        if len(known.put_back) <= MOST_PUT_BACK:
            return True
        known.truce_until = now + TRUCE
        known.put_back.clear()
        return False

    def truce(self, key: Key) -> float:
        """For how many seconds more the object is left alone; 0 when it is not."""
        known = self._known.get(key)
        return max(0.0, known.truce_until - self._now()) if known is not None else 0.0
