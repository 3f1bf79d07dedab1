"""What the pools of each plan are promised beyond what nodes offer: worked out for all plans at once, now and then.

It depends on every queue of everybody and on every pool, and only people wait for it. So many events make one look.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import ClassVar, Final

from queue_sync.controllers.node_states import NodeStates
from queue_sync.controllers.plan import PlanReconciler
from queue_sync.controllers.reconciler import DONE, Reconciler, Result
from queue_sync.controllers.watches import Dispatcher, Watches
from queue_sync.informers.required import in_namespace, only_status_changed
from queue_sync.planning.overcommit import unbacked_by_plan
from queue_sync.planning.quota import QuotaCache, QuotaCaches
from slicewise.kube.clock import Timing
from slicewise.kube.turns import next_turn
from slicewise.kube.workqueue import WorkQueue

_ALL: Final = "all"
_PERIOD: Final = 5.0
"""Seconds from a change to a look: the write that answers it has arrived by then, and many changes cost one look."""


class Overcommitment(Reconciler):
    """The one key stands for all plans."""

    name: ClassVar = "overcommitment"

    def __init__(
        self, states: NodeStates, plans: PlanReconciler, dispatcher: Dispatcher, timing: Timing
    ) -> None:
        self.queue: WorkQueue[str] = WorkQueue(timing=timing)
        self.by_plan: Mapping[str, tuple[str, ...]] = {}
        """Sentences by plan; plans whose pools are backed are left out."""
        self._states, self._plans, self._dispatcher = states, plans, dispatcher
        self.quotas: QuotaCaches = defaultdict(QuotaCache)

    def watches(self) -> Watches:
        """Queues, flavors, plans and pools."""
        return Watches(
            started=lambda: (_ALL,),
            plan=lambda change: () if only_status_changed(change) else (_ALL,),
            engine_object=lambda change: () if in_namespace(change) else (_ALL,),
            pools=lambda _pools, _at: (_ALL,),
            delay=_PERIOD,
        )

    async def reconcile(self, _: str) -> Result:
        """Works it out anew."""
        await next_turn()
        before = self.by_plan
        existing, plans = self._plans.existing(), self._plans.plans()
        self.by_plan = unbacked_by_plan(existing, plans, self._states.pools, self.quotas)
        changed = frozenset(
            plan for plan in before.keys() | self.by_plan.keys() if before.get(plan) != self.by_plan.get(plan)
        )
        self._dispatcher.dispatch(lambda watches: watches.unbacked(changed))
        return DONE
