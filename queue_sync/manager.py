"""The controller: what is watched goes in, dirty keys come out, and each key is looked at as a whole.

Keys, and what is done about them
- a node: judged; plans that feed from its pools become dirty.
- a node's mark: its label and annotation written.
- a plan: wanted against standing, and the writes between them.
- a namespace: the LocalQueues of the plans that are followed.
- a plan's status: written when it says something new.

Invariants
- Level-triggered: nothing is remembered that could not be seen again, so a kill between any two writes is harmless.
- No quota is written before every node was judged once, nor on an empty list of nodes (see `beliefs`).
- Only the leader writes; every write is fenced, and carries the version that it was worked out from.

Failure mode: what fails is tried again with backoff, key by key. `lead` ends only by being cancelled.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from queue_sync.controllers.device_classes import ALL, DeviceClasses
from queue_sync.controllers.local_queue import LocalQueueReconciler
from queue_sync.controllers.node import NodeResult, NodeStates
from queue_sync.controllers.node_config_drift import NodeConfigDrift
from queue_sync.controllers.overcommitment import Overcommitment
from queue_sync.controllers.plan import PlanReconciler
from queue_sync.controllers.plan_status import PlanStatuses
from queue_sync.controllers.policy import PolicyStatuses
from queue_sync.controllers.reconciler import DONE, Reconciler, Result, internal_error
from queue_sync.informers import optional as advisory
from queue_sync.informers.required import Handlers, Namespace, Record, RequiredInformers
from queue_sync.metrics import drift as drift_gauge
from queue_sync.metrics.collector import samples
from queue_sync.metrics.registry import Metrics
from queue_sync.planning.node_trust import Settings, stamp
from queue_sync.planning.observed import Object, QuotaUsage, Workload, annotation
from queue_sync.status.events import EventReporter
from queue_sync.status.writer import StatusWriter
from queue_sync.writer import STALE_RETRY, StaleError, Writer
from slicewise.api import keys
from slicewise.api.policy import PLAN_KIND, LabelSelector, PlanMode, QuotaPlan, SlicingPolicy
from slicewise.inventory.declared_pools import with_declared
from slicewise.inventory.gpu_operator import Configs
from slicewise.inventory.node import Node
from slicewise.inventory.node_devices import PublishedDevices
from slicewise.inventory.plan_selection import promise_for, selects
from slicewise.kube.client import Client
from slicewise.kube.clock import ClusterClock
from slicewise.kube.errors import KubeError
from slicewise.kube.events import Recorder
from slicewise.kube.informer_types import Change, WatchSettings
from slicewise.kube.workqueue import QueueSettings, WorkQueue

logger = logging.getLogger(__name__)

MARK_WORKERS = 4
PLAN_WORKERS = 2
# Changes within a moment become one write: enough for a node's labels and numbers to arrive together.
PLANS = QueueSettings(window=0.1, max_wait=0.3, first_backoff=0.1)
NODES = QueueSettings(first_backoff=0.1)
STATUSES = QueueSettings(window=0.5, max_wait=2.0, first_backoff=0.2)


class Manager:
    """One process's share of the work. `client` reads; `fenced` writes, and only while leading."""

    def __init__(
        self,
        client: Client,
        fenced: Client,
        recorder: Recorder,
        settings: Settings,
        metrics: Metrics,
        watching: WatchSettings | None = None,
        operator_namespace: str = "",
        *,
        keep_device_classes: bool = False,
        clock: ClusterClock | None = None,
    ) -> None:
        self.metrics = metrics
        self.use = QuotaUsage()
        devices = PublishedDevices()
        self.watched = RequiredInformers(
            client,
            Handlers(
                self._node,
                self._plan,
                self._namespace,
                self._document,
                self._workload,
                self._published,
                self._claimed,
                self._malformed,
            ),
            devices,
            watching,
            settings.rules.largest_maximum,
        )
        self.advisory = advisory.OptionalInformers(
            client, advisory.Handlers(self._policy, self._rule, self._config), operator_namespace, watching
        )
        self._timing = client.timing
        self._clock = clock or ClusterClock(client.timing, client.server_time)
        self._reporter = EventReporter(recorder)
        self._writer = Writer(fenced)
        self.beliefs = NodeStates(self.watched.nodes.store, settings, self._clock, devices)
        self.plans: WorkQueue[str] = WorkQueue(PLANS, client.timing)
        self.local_queues = LocalQueueReconciler(
            self.watched,
            self.use,
            self._writer,
            metrics,
            client.timing,
            self.plans.add,
        )
        self.syncer = PlanReconciler(
            self.watched,
            self.beliefs,
            self.use,
            self._writer,
            self._reporter,
            metrics,
            client.timing.now,
            self.local_queues,
        )
        self.policies = PolicyStatuses(
            self.advisory,
            self.watched.namespaces.store,
            lambda: with_declared(self.beliefs.pools, self.syncer.plans()),
            self._writer,
            metrics,
            self._now,
            client.timing,
        )
        self.expectations = NodeConfigDrift(self.advisory, settings.settle, self._planned, client.timing)
        self.statuses: WorkQueue[str] = WorkQueue(STATUSES, client.timing)
        self.overcommitment = Overcommitment(self.beliefs, self.syncer, self.statuses.add, client.timing)
        self._reports = PlanStatuses(
            self.watched,
            self.beliefs,
            self.expectations,
            self.use,
            self.syncer,
            self.overcommitment,
            StatusWriter(PLAN_KIND, "quotaplans", self._writer, metrics),
            self._now,
        )
        self.device_classes = (
            DeviceClasses(devices, fenced, settings.hold_down) if keep_device_classes else None
        )
        self.nodes: WorkQueue[str] = WorkQueue(NODES, client.timing)
        self.marks: WorkQueue[str] = WorkQueue(NODES, client.timing)
        self.reconcilers: tuple[Reconciler, ...] = (
            self._reconciler("nodes", self._judge, self.nodes, failed=self._node_failed),
            self._reconciler("marks", self._mark, self.marks, workers=MARK_WORKERS),
            self._reconciler("plans", self._sync, self.plans, workers=PLAN_WORKERS, failed=self._plan_failed),
            self._reconciler("local_queues", self.local_queues.reconcile, self.local_queues.queue),
            self._reconciler("statuses", self._reports.reconcile, self.statuses),
            self._reconciler("overcommitment", self.overcommitment.reconcile, self.overcommitment.queue),
            self._reconciler("policies", self.policies.reconcile, self.policies.queue),
            self._reconciler("files", self.expectations.reconcile, self.expectations.queue),
        )
        if (kept := self.device_classes) is not None:
            classes = self._reconciler("deviceclasses", kept.reconcile, kept.queue)
            self.reconcilers = (*self.reconcilers, classes)
        self._events: dict[str, float] = {}
        self.leading = False
        metrics.read_from(lambda: samples(self))
        metrics.read_from(lambda: self.expectations.samples() if self.leading else ())
        metrics.read_from(lambda: drift_gauge.samples(self))

    def _reconciler(
        self,
        name: str,
        reconcile: Callable[[str], Awaitable[Result]],
        queue: WorkQueue[str],
        *,
        workers: int = 1,
        failed: Callable[[str, Exception], None] | None = None,
    ) -> Reconciler:
        return Reconciler(name, reconcile, queue, self.metrics, self._timing, workers=workers, failed=failed)

    @property
    def idle(self) -> bool:
        """True when no key waits or is worked on; keys with a delay or a backoff do not count."""
        return not any(each.queue.depth or each.queue.in_flight for each in self.reconcilers)

    async def watch(self) -> None:
        """Keeps all informers following, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self.watched:
                group.create_task(informer.run(), name=f"watch {informer.path}")
            group.create_task(self.advisory.run(), name="watch what advises")

    async def lead(self) -> None:
        """Does the work, until cancelled. Called at most once in a process."""
        await self.watched.synced()
        await self.advisory.first_look()
        self.expectations.read()
        self.leading = True
        for number, name in enumerate(list(self.watched.nodes.store)):
            self._look(name)
            if number % 200 == 199:
                await asyncio.sleep(0)
        self.beliefs.complete = True
        for name in self.watched.nodes.store:
            self.nodes.add(name)
        self._everything()
        self.policies.everything()
        self._published(frozenset())
        logger.info("leading", extra={"nodes": len(self.watched.nodes.store)})
        async with asyncio.TaskGroup() as group:
            for reconciler in self.reconcilers:
                group.create_task(reconciler.run(), name=reconciler.name)

    # --- what changed ---

    def _node(self, change: Change[Node]) -> None:
        if self.leading:
            self._events.setdefault(change.key, self._timing.now())
            self.nodes.add(change.key)

    def _plan(self, change: Change[Record[QuotaPlan]]) -> None:
        if not self.leading:
            return
        old, new = change.old, change.new
        if (
            old is not None
            and new is not None
            and (old.value, old.error, old.generation) == (new.value, new.error, new.generation)
            and (old.deleting, old.finalizers) == (new.deleting, new.finalizers)
        ):
            self.statuses.add(change.key)  # only its status, which somebody else may have taken away
            return
        if new is None and old is not None:
            self._reporter.left_over(old.name, old.uid, self.syncer.existing())
        # What one plan takes decides whether another may, and the quota of one that is gone counts.
        self._everything()
        self.policies.everything()  # a plan may declare a pool that serves a class
        self.plans.add(change.key)

    def _policy(self, change: Change[Record[SlicingPolicy]]) -> None:
        if self.leading:
            self.policies.changed(change)

    def _rule(self) -> None:
        if self.leading:
            self.policies.everything()

    def _config(self) -> None:
        if self.leading:
            self.expectations.files_changed()

    def _planned(self, configs: Configs) -> None:
        self.beliefs.configs = configs
        for name in self.watched.nodes.store if self.leading else ():
            self.nodes.add(name)

    def _published(self, nodes: frozenset[str]) -> None:
        if not self.leading:
            return
        for name in nodes & self.watched.nodes.store.keys():
            self.nodes.add(name)
        if self.device_classes is not None:
            self.device_classes.queue.add(ALL)

    def _claimed(self) -> None:
        for plan in self.syncer.plans() if self.leading else ():
            if self._shares_boards(plan):
                self.plans.add(plan.name)

    def _shares_boards(self, plan: QuotaPlan) -> bool:
        """True when the plan feeds from partitionable boards, whose quota follows what runs and what waits."""
        return any(promise_for(plan.spec, name) is not None for name in self.beliefs.pools.names())

    def _namespace(self, change: Change[Namespace]) -> None:
        """Wakes what reads a label that changed, and nothing else."""
        if not self.leading:
            return
        old, new = _labels(change.old), _labels(change.new)
        came_or_went = (old is None) is not (new is None)
        before, after = old or {}, new or {}
        changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
        if came_or_went or any(key.startswith(keys.PREFIX) for key in changed):
            self.policies.everything()
        if came_or_went or changed & self._selected():
            self.local_queues.namespace_changed(change.key)
            for plan in self.syncer.plans():
                if plan.spec.mode is PlanMode.REPORT:
                    self.plans.add(plan.name)

    def _selected(self) -> set[str]:
        """Label keys that a queue of some plan reads."""
        selectors = [
            queue.namespaces
            for plan in self.syncer.plans()
            for queue in plan.spec.queues
            if queue.namespaces is not None
        ]
        return {key for each in selectors for key in _read_by(each)}

    def _document(self, change: Change[Object]) -> None:
        document = change.new or change.old or {}
        kind, name = document["kind"], document["metadata"]["name"]
        if kind == "LocalQueue":
            self.local_queues.document_changed(change)
        if not self.leading:
            return
        if change.new is None and change.old is not None:
            self.syncer.gone(change.old)
        before, after = annotation(change.old, keys.PLAN), annotation(change.new, keys.PLAN)
        # Also those that cannot be read, or are being deleted.
        for owner in {before, after} & self.watched.plans.store.keys():
            if kind != "LocalQueue" or not self.local_queues.follows(owner):
                self.plans.add(owner)
        if kind == "LocalQueue":
            return
        self.overcommitment.something_changed()
        if kind == "ClusterQueue" and before != after:
            self.local_queues.cluster_queue_changed(name)
        parents = {each["spec"].get("parent", "") for each in (change.old, change.new) if each is not None}
        for plan in self.syncer.plans():
            queues = {queue.name for queue in plan.spec.queues} | {plan.spec.cohort}
            flavor = kind == "ResourceFlavor" and selects(plan.spec, name)
            if name in queues or flavor or plan.spec.cohort in parents:
                self.plans.add(plan.name)

    def _workload(self, change: Change[Workload]) -> None:
        queues = self.use.put(change.key, change.new)
        if not self.leading:
            return
        self.local_queues.workload_changed(change.key.partition("/")[0])
        for name in self.syncer.draining:
            self.plans.add(name)
        if queues:
            for plan in self.syncer.plans():
                if any(queue.name in queues for queue in plan.spec.queues):
                    self.statuses.add(plan.name)
                    if self._shares_boards(plan):
                        self.plans.add(plan.name)

    def _malformed(self, kind: str, key: str, error: Exception) -> None:
        if kind == "Node" and self.leading:
            self._reporter.node(key, "Unparsable", f"Node {key} cannot be read and is left out: {error}")
        elif kind != PLAN_KIND:
            logger.warning("left out", extra={"kind": kind, "object": key, "error": str(error)[:300]})

    def _everything(self) -> None:
        self.overcommitment.something_changed()
        for name in self.watched.plans.store:
            self.plans.add(name)
            self.statuses.add(name)

    def _feeding(self, pools: Iterable[str]) -> list[str]:
        """The plans that depend on pools; of one that cannot be read nobody knows, so it is among them."""
        changed = list(pools)
        return [
            name
            for name, record in self.watched.plans.store.items()
            if record.value is None or any(selects(record.value.spec, pool) for pool in changed)
        ]

    # --- what is done about it ---

    def _now(self) -> str:
        return stamp(self._clock())[:19] + "Z"

    def _look(self, name: str) -> NodeResult:
        judged = self.beliefs.look(name)
        if judged.pools:
            self.policies.everything()
            self.overcommitment.something_changed()
        since = self._events.pop(name, None)
        for plan in self._feeding(judged.pools) if judged.pools else ():
            if since is not None:
                self.syncer.event_at.setdefault(plan, since)
            self.plans.add(plan)
            self.statuses.add(plan)
        if judged.news and judged.node is not None:
            held = judged.belief.counted is not None
            words = f"Node {name}: {judged.news}"
            words += (
                "; what it offered before counts for the hold-down" if held else "; nothing of it is counted"
            )
            self._reporter.node(name, "HeldBack" if held else "NotBelieved", words)
        return judged

    def _compare(self, name: str) -> float | None:
        """Tells what is not as planned; returns after how long to look again."""
        seen = self.beliefs.shown.get(name)
        news, changed, again_in = self.expectations.look(name, seen)
        for concern in news:
            self._reporter.node(name, concern.code, f"Node {name}: {concern.sentence}")
        for plan in self._feeding([seen.offer.pool]) if changed and seen is not None else ():
            self.statuses.add(plan)
        return again_in

    async def _judge(self, name: str) -> Result:
        judged = self._look(name)
        if judged.needs_annotation:
            self.marks.add(name)
        waits = [each for each in (judged.again_in, self._compare(name)) if each is not None]
        return Result(min(waits, default=None))

    def _node_failed(self, name: str, error: Exception) -> None:
        self._reporter.node(name, "InternalError", f"Node {name}: {internal_error(error)}")

    async def _mark(self, name: str) -> Result:
        """Writes on the node what is believed of it; quota never waits for this."""
        node = self.watched.nodes.store.get(name)
        if node is None or not self.beliefs.needs_annotation(node):
            return DONE
        try:
            await self._writer.annotate_node(node, self.beliefs.belief(name))
        except StaleError:
            # The watch will say what changed; should that come to nothing, this looks again.
            self.metrics.writes.labels("Node", "update", "stale").inc()
            return Result(STALE_RETRY)
        except KubeError:
            self.metrics.writes.labels("Node", "update", "failed").inc()
            raise
        self.metrics.writes.labels("Node", "update", "done").inc()
        return DONE

    async def _sync(self, name: str) -> Result:
        try:
            return await self.syncer.reconcile(name)
        finally:
            self.statuses.add(name)

    def _plan_failed(self, name: str, error: Exception) -> None:
        self.syncer.failed(name, error)
        self.statuses.add(name)


def _labels(namespace: Namespace | None) -> dict[str, str] | None:
    """The labels of a namespace that is there to stay."""
    return None if namespace is None or namespace.deleting else namespace.labels


def _read_by(selector: LabelSelector) -> frozenset[str]:
    """The labels that a selector looks at."""
    return frozenset((*selector.match_labels, *(each.key for each in selector.match_expressions)))
