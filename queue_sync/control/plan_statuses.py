"""Writes the status of one QuotaPlan when it says something new; remembers what it wrote only until it is seen."""

from collections.abc import Callable
from typing import Any

from queue_sync.control.apply import StaleError, Writer
from queue_sync.control.beliefs import Beliefs
from queue_sync.control.expectations import Expectations
from queue_sync.control.metrics import Metrics
from queue_sync.control.syncing import STALE_RETRY, Syncer
from queue_sync.control.watched import Watched
from queue_sync.judgement import status as statuses
from queue_sync.judgement.existing import Use
from slicewise.policy import PLAN_KIND


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
        self._syncer, self._writer, self._metrics, self._now = syncer, writer, metrics, now
        self._sent: dict[str, tuple[str, dict[str, Any]]] = {}

    async def report(self, name: str) -> float | None:
        """Brings one status up to date; returns after how long to look again. Raises KubeError."""
        self._metrics.passes.labels("statuses").inc()
        record = self._watched.plans.store.get(name)
        result = self._syncer.results.get(name)
        if record is None or (result is None and record.plan is not None):
            self._sent.pop(name, None)
            return None
        now = self._now()
        uid, sent = self._sent.get(name, ("", {}))
        if sent == record.status:
            self._sent.pop(name, None)  # it was seen; whatever shows from now on is what stands
        before = sent if uid == record.uid else record.status
        if record.plan is None or result is None:
            new = statuses.unusable("Invalid", record.error, record.generation, before, now)
        else:
            new = statuses.status(
                record.plan,
                record.generation,
                result,
                self._beliefs.pools,
                self._beliefs.shown,
                self._use,
                before,
                now,
                concerns=self._expectations.told(),
                queues=self._watched.queues.store,
            )
        if new in (record.status, before):
            return None
        try:
            await self._writer.report("quotaplans", name, record.uid, new)
        except StaleError:
            return STALE_RETRY
        self._sent[name] = (record.uid, new)
        self._metrics.writes.labels(PLAN_KIND, "update", "done").inc()
        return None
