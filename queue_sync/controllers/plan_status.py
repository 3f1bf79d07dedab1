"""What the status of every QuotaPlan should say; it is looked at when the plan, its queues or its nodes change."""

from collections.abc import Callable
from typing import ClassVar, Final

from queue_sync.controllers.node_config_drift import NodeConfigDrift
from queue_sync.controllers.node_states import NodeStates
from queue_sync.controllers.overcommitment import Overcommitment
from queue_sync.controllers.plan import PlanReconciler
from queue_sync.controllers.reconciler import DONE, LONGEST_BACKOFF, Reconciler, Result, write_status
from queue_sync.controllers.watches import Watches
from queue_sync.informers.required import Record, RequiredInformers, only_status_changed
from queue_sync.planning.observed import Object
from queue_sync.status import plan_status as statuses
from queue_sync.status.plan_status import PassResult
from queue_sync.status.writer import StatusWriter
from slicewise.api.policy import QuotaPlan
from slicewise.kube.clock import Timing
from slicewise.kube.workqueue import QueueSettings, WorkQueue

SETTINGS: Final = QueueSettings(window=1.2, max_wait=5.0, first_backoff=0.2, most_backoff=LONGEST_BACKOFF)
"""People read it, and nobody acts on it: while nodes change each second, many changes make one status."""


class PlanStatuses(Reconciler):
    """What goes into a status is read from those who know it."""

    name: ClassVar = "plan_statuses"

    def __init__(
        self,
        watched: RequiredInformers,
        states: NodeStates,
        config_drift: NodeConfigDrift,
        plans: PlanReconciler,
        overcommitment: Overcommitment,
        statuses: StatusWriter,
        *,
        now: Callable[[], str],
        timing: Timing,
    ) -> None:
        self.queue: WorkQueue[str] = WorkQueue(SETTINGS, timing)
        self._watched, self._states, self._config_drift = watched, states, config_drift
        self._plans, self._overcommitment, self._now = plans, overcommitment, now
        self._statuses = statuses

    def watches(self) -> Watches:
        """All that a status tells of."""
        return Watches(
            started=self._all,
            # A status that somebody else took away is written again.
            plan=lambda change: (change.key,) if only_status_changed(change) else self._all(),
            workload=lambda _, queues: tuple(plan.name for plan in self._plans.with_queues(queues)),
            pools=lambda pools, _at: self._plans.fed_from(pools),
            node_concerns=lambda pool: self._plans.fed_from((pool,)),
            plan_pass=lambda plan: (plan,),
            unbacked=lambda plans: plans,
        )

    def _all(self) -> tuple[str, ...]:
        return tuple(self._watched.plans.store)

    async def reconcile(self, name: str) -> Result:
        """Brings one status up to date. Raises KubeError."""
        record = self._watched.plans.store.get(name)
        result = self._plans.results.get(name)
        if record is None or (result is None and record.value is not None):
            self._statuses.forget(name)
            return DONE
        return await write_status(
            self._statuses, record, lambda before: self._status(record, result, before), self._now
        )

    def _status(self, record: Record[QuotaPlan], result: PassResult | None, before: Object) -> Object:
        if record.value is None or result is None:
            return statuses.unusable("Invalid", record.error, record.generation, before, self._now())
        return statuses.status(
            record.value,
            record.generation,
            result,
            self._states.pools,
            self._states.shown,
            self._plans.existing(),
            before,
            self._now(),
            concerns=self._config_drift.told(),
            changes=self._plans.last_changes.get(record.name),
            unbacked=self._overcommitment.by_plan.get(record.name, ()),
        )
