"""What the status of every QuotaPlan should say; it is looked at when the plan, its queues or its nodes change."""

from collections.abc import Callable

from queue_sync.control.apply import Writer
from queue_sync.control.beliefs import Beliefs
from queue_sync.control.expectations import Expectations
from queue_sync.control.metrics import Metrics
from queue_sync.control.status_writer import StatusWriter
from queue_sync.control.syncing import Syncer
from queue_sync.control.watched import Record, Watched
from queue_sync.judgement import status as statuses
from queue_sync.judgement.existing import Object, Use
from queue_sync.judgement.status import Result
from slicewise.api.policy import PLAN_KIND, QuotaPlan


class PlanStatuses:
    """What goes into a status is read from those who know it."""

    def __init__(
        self,
        watched: Watched,
        beliefs: Beliefs,
        expectations: Expectations,
        use: Use,
        syncer: Syncer,
        writer: Writer,
        metrics: Metrics,
        now: Callable[[], str],
    ) -> None:
        self._watched, self._beliefs, self._expectations, self._use = watched, beliefs, expectations, use
        self._syncer, self._metrics, self._now = syncer, metrics, now
        self._statuses = StatusWriter(PLAN_KIND, "quotaplans", writer, metrics)

    async def report(self, name: str) -> float | None:
        """Brings one status up to date; returns after how long to look again. Raises KubeError."""
        self._metrics.passes.labels("statuses").inc()
        record = self._watched.plans.store.get(name)
        result = self._syncer.results.get(name)
        if record is None or (result is None and record.value is not None):
            self._statuses.forget(name)
            return None
        return await self._statuses.write(record, lambda before: self._status(record, result, before))

    def _status(self, record: Record[QuotaPlan], result: Result | None, before: Object) -> Object:
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
        )
