"""Keeps the status of every SlicingPolicy: looked at when a pool, a namespace or one of its rules changes.

Only the leader works on the queue. The steady state writes nothing: a status is written when it says something new.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, Final

from queue_sync.controllers.reconciler import DONE, LONGEST_BACKOFF, Reconciler, Result, write_status
from queue_sync.controllers.watches import Watches
from queue_sync.informers.optional import OptionalInformers
from queue_sync.informers.required import Namespace, Record, labels_changed, only_status_changed
from queue_sync.metrics.registry import Metrics
from queue_sync.planning import drift
from queue_sync.planning.findings import Finding
from queue_sync.planning.observed import Object
from queue_sync.status import policy_status
from queue_sync.status.writer import StatusWriter
from queue_sync.writer import Writer
from slicewise.api import keys
from slicewise.api.policy import POLICY_KIND, SlicingPolicy
from slicewise.inventory.pools import Pool
from slicewise.kube.clock import Timing
from slicewise.kube.informer_types import Change
from slicewise.kube.workqueue import QueueSettings, WorkQueue

_SETTINGS: Final = QueueSettings(window=0.5, max_wait=2.0, first_backoff=0.2, most_backoff=LONGEST_BACKOFF)


class PolicyStatuses(Reconciler):
    """What is asked of it is the present state."""

    name: ClassVar = "policies"

    def __init__(
        self,
        advisory: OptionalInformers,
        namespaces: Mapping[str, Namespace],
        pools: Callable[[], tuple[Pool, ...]],
        writer: Writer,
        metrics: Metrics,
        now: Callable[[], str],
        timing: Timing,
    ) -> None:
        self.queue: WorkQueue[str] = WorkQueue(_SETTINGS, timing)
        self._advisory, self._namespaces, self._pools = advisory, namespaces, pools
        self._metrics, self._now = metrics, now
        self._users: dict[str, tuple[int, list[Finding]]] = {}
        """By policy, until a namespace or one of its rules changes, since pools change far more often."""
        self._statuses = StatusWriter(
            POLICY_KIND, "slicingpolicies", writer, metrics, advisory.policies.version
        )

    def watches(self) -> Watches:
        """The policy or its status, which somebody else may have taken away, and all that any policy may depend on."""
        return Watches(
            started=self._all,
            policy=lambda change: (change.key,),
            plan=lambda change: () if only_status_changed(change) else self._all(),  # it may declare a pool
            namespace=self._namespace_changed,
            namespace_rule=self._look_anew,
            pools=lambda _pools, _at: self._all(),
        )

    def _all(self) -> tuple[str, ...]:
        return tuple(self._advisory.policies.store)

    def _namespace_changed(self, change: Change[Namespace]) -> tuple[str, ...]:
        labels = labels_changed(change)
        concerned = labels is None or any(key.startswith(keys.PREFIX) for key in labels)
        return self._look_anew() if concerned else ()

    def _look_anew(self) -> tuple[str, ...]:
        self._users.clear()
        return self._all()

    def miscounts(self, policy: str = "") -> list[Finding]:
        """What counts or restores the old name, in the namespaces that use a policy, or in all that use any."""
        labels = {name: each.labels for name, each in self._namespaces.items() if not each.deleting}
        used = policy_status.users_of(policy, labels) if policy else labels
        quotas, limits = self._advisory.resource_quotas.store, self._advisory.limit_ranges.store
        return sorted(drift.miscounted(used, quotas.values(), limits.values()))

    async def reconcile(self, name: str) -> Result:
        """Brings one status up to date. Raises KubeError."""
        record = self._advisory.policies.store.get(name)
        if record is None:
            self._statuses.forget(name)
            self._users.pop(name, None)
            return DONE
        return await write_status(
            self._statuses, record, lambda before: self._status(record, before), self._now
        )

    def _users_of(self, policy: str) -> tuple[int, list[Finding]]:
        """How many namespaces name a policy, and what miscounts in them."""
        if policy not in self._users:
            labels = {name: each.labels for name, each in self._namespaces.items()}
            self._users[policy] = len(policy_status.users_of(policy, labels)), self.miscounts(policy)
        return self._users[policy]

    def _status(self, record: Record[SlicingPolicy], before: Object) -> Object:
        users, miscounts = self._users_of(record.name)
        if record.value is None:
            return policy_status.unreadable(record.error, record.generation, users, before, self._now())
        return policy_status.status(
            record.value,
            record.generation,
            self._pools(),
            users,
            miscounts,
            self._advisory.why_unread(),
            before,
            self._now(),
        )
