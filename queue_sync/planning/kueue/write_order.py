"""The order in which ClusterQueues are written: what shrinks comes before what grows.  Pure.

A queue that gives back what another one is to get, and grows elsewhere, is written twice: first with the smaller of
its two numbers for each, then as it should be. So two queues may swap, and whichever write is refused, nobody has what
somebody else has not given back. The first write names no flavor that the queue did not name before, so that one which
cannot be made keeps nothing from shrinking.
"""

from collections.abc import Iterable, Iterator, Set
from dataclasses import replace
from typing import Final

from queue_sync.planning.changes import Change
from queue_sync.planning.kueue.objects import lowered, nominal
from queue_sync.planning.quota import Number, Numbers, less_and_more
from queue_sync.planning.steps import Steps

SHRINKS: Final = 1
GROWS: Final = 2


def order(changes: Iterable[Change]) -> Steps[list[Change]]:
    """The writes of queues, by stage. A step is a queue."""
    listed = []
    for change in changes:
        before, after = _numbers(change, before=True), _numbers(change, before=False)
        listed.append((change, before, after, *less_and_more(before, after)))
        yield
    wanted = {number for *_, more in listed for number in more}
    writes = [write for each in listed for write in _writes(*each, wanted)]
    return sorted(writes, key=lambda write: write.stage)


def _writes(
    change: Change, before: Numbers, after: Numbers, less: Numbers, more: Numbers, wanted: Set[Number]
) -> Iterator[Change]:
    new_flavors = {flavor for flavor, _ in after} - {flavor for flavor, _ in before} if less else set()
    if less and ((more and less.keys() & wanted) or new_flavors) and change.before is not None:
        smaller = lowered(change.before, {number: after.get(number, 0) for number in less})
        yield replace(change, after=smaller, stage=SHRINKS)
        change = replace(change, before=smaller)
        less = {}
    yield replace(change, stage=SHRINKS if less and not more else GROWS)


def _numbers(change: Change, *, before: bool) -> Numbers:
    queue = change.before if before else change.after
    return nominal(queue) if queue is not None else {}
