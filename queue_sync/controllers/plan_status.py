"""What the status of every QuotaPlan should say; it is looked at when the plan, its queues or its nodes change."""

from collections.abc import Callable

from queue_sync.controllers.node import NodeStates
from queue_sync.controllers.node_config_drift import NodeConfigDrift
from queue_sync.controllers.overcommitment import Overcommitment
from queue_sync.controllers.plan import PlanReconciler
from queue_sync.controllers.reconciler import DONE, Result, write_status
from queue_sync.informers.required import Record, RequiredInformers
from queue_sync.planning.observed import Object, QuotaUsage
from queue_sync.status import plan_status as statuses
from queue_sync.status.plan_status import PassResult
from queue_sync.status.writer import StatusWriter
from slicewise.api.policy import QuotaPlan


class PlanStatuses:
    """What goes into a status is read from those who know it."""

    def __init__(
        self,
        watched: RequiredInformers,
        beliefs: NodeStates,
        expectations: NodeConfigDrift,
        use: QuotaUsage,
        syncer: PlanReconciler,
        overcommitment: Overcommitment,
        statuses: StatusWriter,
        now: Callable[[], str],
    ) -> None:
        self._watched, self._beliefs, self._expectations, self._use = watched, beliefs, expectations, use
        self._syncer, self._overcommitment, self._now = syncer, overcommitment, now
        self._statuses = statuses

    async def reconcile(self, name: str) -> Result:
        """Brings one status up to date. Raises KubeError."""
        record = self._watched.plans.store.get(name)
        result = self._syncer.results.get(name)
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
            self._beliefs.pools,
            self._beliefs.shown,
            self._use,
            before,
            self._now(),
            concerns=self._expectations.told(),
            queues=self._watched.queues.store,
            changes=self._syncer.last_changes.get(record.name),
            unbacked=self._overcommitment.by_plan.get(record.name, ()),
        )
