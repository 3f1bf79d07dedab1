"""How long an edit is left as it is, by what was put back before. Times in seconds."""

from queue_sync.planning.changes import Change, key_of
from queue_sync.planning.edit_conflicts import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    MOST_PUT_BACK,
    WINDOW,
    EditConflicts,
)
from queue_sync.planning.observed import Object

QUEUE = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ClusterQueue", "metadata": {"name": "q"}}


def queue(units: str, **more: Object) -> Object:
    return {**QUEUE, "spec": {"units": units}, **more}


WANTED, EDITED = queue("7"), queue("500")
PUT_BACK = Change("research", EDITED, WANTED, WANTED)


class Fight:
    """One queue that says what it should, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.conflicts = EditConflicts(lambda: self.now)
        self.conflicts.right(key_of(QUEUE), WANTED, WANTED)

    def put_back(self, times: int = 1) -> float:
        """Puts edits back as soon as that may be; returns for how long the next one is left."""
        for _ in range(times):
            self.now += self.conflicts.paused_for(PUT_BACK)
            assert self.conflicts.wrote(PUT_BACK)
        return self.conflicts.paused_for(PUT_BACK)


def test_edits_now_and_then_are_put_back_at_once() -> None:
    fight = Fight()
    for _ in range(50):
        assert fight.put_back() == 0
        fight.now += WINDOW / (MOST_PUT_BACK - 2)


def test_pauses_grow_while_somebody_goes_on_and_end_when_they_stop() -> None:
    fight = Fight()
    assert fight.put_back(MOST_PUT_BACK - 1) == 0
    pauses = [fight.put_back() for _ in range(7)]
    assert pauses == [30.0, 60.0, 120.0, 240.0, 480.0, 480.0, 480.0]
    assert (pauses[0], pauses[-1]) == (FIRST_PAUSE, LONGEST_PAUSE)
    fight.now += WINDOW + 1
    assert fight.put_back() == 0


def test_what_was_not_taken_is_no_edit_of_anybody() -> None:
    fight = Fight()
    for _ in range(50):  # refused, or made on an old copy: nobody calls `wrote`
        assert fight.conflicts.is_edit(PUT_BACK)
        assert fight.conflicts.paused_for(PUT_BACK) == 0


def test_a_pause_does_not_hold_against_what_nodes_make_of_the_queue() -> None:
    fight = Fight()
    assert fight.put_back(MOST_PUT_BACK) > 0
    shrunk = queue("3")
    change = Change("research", EDITED, shrunk, shrunk)
    assert fight.conflicts.paused_for(change) == 0
    assert not fight.conflicts.wrote(change)
    again = Change("research", EDITED, shrunk, shrunk)
    assert fight.conflicts.paused_for(again) > 0, "an edit of the new form is an edit too"


def test_a_queue_that_was_deleted_is_forgotten() -> None:
    fight = Fight()
    assert fight.put_back(MOST_PUT_BACK) > 0
    fight.conflicts.forget(key_of(QUEUE))
    assert fight.conflicts.paused_for(PUT_BACK) == 0
