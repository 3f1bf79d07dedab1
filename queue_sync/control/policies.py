"""Keeps the status of every SlicingPolicy: looked at when a pool, a namespace or one of its rules changes.

Only the leader works on the queue. The steady state writes nothing: a status is written when it says something new.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from queue_sync.control.advisory import Advisory, PolicyRecord
from queue_sync.control.apply import StaleError, Writer
from queue_sync.control.metrics import Metrics
from queue_sync.control.syncing import STALE_RETRY
from queue_sync.control.watched import Namespace
from queue_sync.judgement import drift, policy_status
from queue_sync.judgement.cluster import Cluster
from queue_sync.judgement.findings import Finding
from slicewise.kube import Change, KubeError, QueueSettings, Timing, WorkQueue, run_worker
from slicewise.policy import POLICY_KIND
from slicewise.pools import Inventory

_SETTINGS: Final = QueueSettings(window=0.5, max_wait=2.0, first_backoff=0.2)
_PLURAL: Final = "slicingpolicies"


class PolicyStatuses:
    """What is asked of it is the present state; it remembers what it wrote until that is seen."""

    def __init__(
        self,
        advisory: Advisory,
        namespaces: Mapping[str, Namespace],
        pools: Inventory,
        writer: Writer,
        metrics: Metrics,
        now: Callable[[], str],
        timing: Timing,
    ) -> None:
        self.queue: WorkQueue[str] = WorkQueue(_SETTINGS, timing)
        self._advisory, self._namespaces, self._pools = advisory, namespaces, pools
        self._writer, self._metrics, self._now = writer, metrics, now
        self._sent: dict[str, tuple[str, dict[str, Any]]] = {}

    async def lead(self) -> None:
        """Writes what is new, until cancelled."""
        self.everything()
        await run_worker(self.queue, self._report, name="policies")

    def everything(self) -> None:
        """Something changed that any policy may depend on."""
        for name in self._advisory.policies.store:
            self.queue.add(name)

    def changed(self, change: Change[PolicyRecord]) -> None:
        """One policy changed, or its status, which somebody else may have taken away."""
        self.queue.add(change.key)

    def miscounts(self, policy: str = "") -> list[Finding]:
        """What counts or restores the old name, in the namespaces that use a policy, or in all that use any."""
        labels = {name: each.labels for name, each in self._namespaces.items() if not each.deleting}
        used = policy_status.users_of(policy, labels) if policy else labels
        cluster = Cluster(
            namespaces=used,
            resource_quotas=tuple(self._advisory.resource_quotas.store.values()),
            limit_ranges=tuple(self._advisory.limit_ranges.store.values()),
        )
        return sorted(drift.miscounted(cluster))

    async def _report(self, name: str) -> float | None:
        self._metrics.passes.labels("policies").inc()
        record = self._advisory.policies.store.get(name)
        if record is None:
            self._sent.pop(name, None)
            return None
        uid, sent = self._sent.get(name, ("", {}))
        if sent == record.status:
            self._sent.pop(name, None)  # it was seen; whatever shows from now on is what stands
        before = sent if uid == record.uid else record.status
        new = self._status(record, before)
        if new in (record.status, before):
            return None
        try:
            await self._writer.report(_PLURAL, name, record.uid, new)
        except StaleError:
            return STALE_RETRY
        except KubeError:
            self._metrics.writes.labels(POLICY_KIND, "update", "failed").inc()
            raise
        self._sent[name] = (record.uid, new)
        self._metrics.writes.labels(POLICY_KIND, "update", "done").inc()
        return None

    def _status(self, record: PolicyRecord, before: Mapping[str, Any]) -> dict[str, Any]:
        labels = {name: each.labels for name, each in self._namespaces.items()}
        users = len(policy_status.users_of(record.name, labels))
        if record.policy is None:
            return policy_status.unreadable(record.error, record.generation, users, before, self._now())
        return policy_status.status(
            record.policy,
            record.generation,
            list(self._pools),
            users,
            self.miscounts(record.name),
            self._advisory.why_unread(),
            before,
            self._now(),
        )
