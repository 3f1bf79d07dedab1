"""Events for people: on nodes and plans, in words that say what to do."""

import logging
from collections.abc import Iterable
from typing import Final

from queue_sync.planning.changes import Change, Problem
from queue_sync.planning.engines import engine_of
from queue_sync.planning.left_over import left_over
from queue_sync.planning.observed import Object, ObservedState
from slicewise.api.policy import API_VERSION, PLAN_KIND
from slicewise.kube.events import Recorder, Regarding

logger = logging.getLogger(__name__)
MOST_LISTED: Final = 20
_ACTION: Final = "SyncQuota"


class EventReporter:
    """Says things once; the recorder counts repetitions."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def node(self, name: str, reason: str, sentence: str) -> None:
        """Something about a node's numbers."""
        regarding = Regarding("v1", "Node", name, uid=name)
        logger.info("node", extra={"node": name, "reason": reason, "words": sentence})
        self._recorder.emit(regarding, reason, sentence, action="JudgeNode")

    def plan(self, name: str, uid: str, reason: str, sentence: str, *, warning: bool = True) -> None:
        """Something about a plan."""
        regarding = Regarding(API_VERSION, PLAN_KIND, name, uid=uid)
        logger.log(
            logging.WARNING if warning else logging.INFO,
            "plan",
            extra={"plan": name, "reason": reason, "words": sentence},
        )
        self._recorder.emit(
            regarding, reason, sentence, action=_ACTION, kind="Warning" if warning else "Normal"
        )

    def left_over(self, name: str, uid: str, existing: ObservedState) -> None:
        """Says of a plan that is gone which queues still have what it gave."""
        found = sorted({each.queue for each in left_over(existing) if each.plan == name})
        if found:
            listed = ", ".join(found[:MOST_LISTED]) + (
                f" and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else ""
            )
            sentence = (
                f"QuotaPlan {name} is gone, and its queues keep what it gave: {listed}; list them in another plan, or "
                f"run slicewise release {name}"
            )
            self.plan(name, uid, "QueuesLeft", sentence)

    def problems(self, name: str, uid: str, problems: tuple[Problem, ...]) -> None:
        """What is wrong with a plan."""
        for problem in problems:
            self.plan(name, uid, problem.code, problem.sentence)

    def quota_changed(self, queue: Object, sentences: Iterable[str]) -> None:
        """Says on a queue which of its numbers changed, and the cause."""
        metadata = queue["metadata"]
        regarding = Regarding(
            queue["apiVersion"], queue["kind"], metadata["name"], uid=metadata.get("uid", "")
        )
        for sentence in sentences:
            self._recorder.emit(regarding, "QuotaChanged", sentence, action=_ACTION)

    def below_use(self, name: str, uid: str, change: Change, existing: ObservedState) -> None:
        """Says for a queue that shrinks below its use by how much; nobody is evicted for it."""
        if (engine := engine_of(change.document)) is not None:
            for sentence in engine.below_use(change, existing):
                self.plan(name, uid, "QuotaBelowUse", sentence)
