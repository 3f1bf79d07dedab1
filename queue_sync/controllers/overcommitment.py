"""What the pools of each plan are promised beyond what nodes offer: worked out for all plans at once, now and then.

It depends on every queue of everybody and on every pool, and only people wait for it. So many events make one look.
"""

from collections.abc import Callable, Mapping
from typing import Final

from queue_sync.controllers.node import NodeStates
from queue_sync.controllers.plan import PlanReconciler
from queue_sync.controllers.reconciler import DONE, Result
from queue_sync.planning.overcommit import unbacked_by_plan
from slicewise.kube.clock import Timing
from slicewise.kube.workqueue import WorkQueue

_ALL: Final = "all"
_PERIOD: Final = 5.0
"""Seconds from a change to a look: the write that answers it has arrived by then, and many changes cost one look."""


class Overcommitment:
    """Tells `changed` the plans of which something else is to be said."""

    def __init__(
        self, beliefs: NodeStates, syncer: PlanReconciler, changed: Callable[[str], None], timing: Timing
    ) -> None:
        self.queue: WorkQueue[str] = WorkQueue(timing=timing)
        self.by_plan: Mapping[str, tuple[str, ...]] = {}
        """Sentences by plan; plans whose pools are backed are left out."""
        self._beliefs, self._syncer, self._changed = beliefs, syncer, changed

    def something_changed(self) -> None:
        """A queue, a flavor, a plan or a pool is another."""
        self.queue.add_after(_ALL, _PERIOD)

    async def reconcile(self, _: str) -> Result:
        """Works it out anew."""
        before = self.by_plan
        self.by_plan = unbacked_by_plan(self._syncer.existing(), self._syncer.plans(), self._beliefs.pools)
        for plan in before.keys() | self.by_plan.keys():
            if before.get(plan) != self.by_plan.get(plan):
                self._changed(plan)
        return DONE
