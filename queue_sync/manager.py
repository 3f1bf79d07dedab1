"""The controller: it watches, passes events on to the reconcilers, and starts them once this replica leads.

Which events make which keys dirty stands in each reconciler's `watches`, what is done about a key in its `reconcile`.

Invariants
- Level-triggered: nothing is remembered that could not be seen again, so a kill between any two writes is harmless.
- No quota is written before every node was judged once, nor on an empty list of nodes (see `node_states`).
- Only the leader writes; every write is fenced, and carries the version that it was worked out from.

Failure mode: what fails is tried again with backoff, key by key. `lead` ends only by being cancelled.
"""

import asyncio
import gc
import logging
from collections import defaultdict
from dataclasses import replace
from typing import Final

from queue_sync.controllers.device_classes import DeviceClasses
from queue_sync.controllers.local_queue import LocalQueueReconciler
from queue_sync.controllers.node import NodeReconciler
from queue_sync.controllers.node_annotation import NodeAnnotations
from queue_sync.controllers.node_config_drift import NodeConfigDrift
from queue_sync.controllers.node_states import ANNOTATED_FIRST, NodeStates
from queue_sync.controllers.overcommitment import Overcommitment
from queue_sync.controllers.plan import PlanReconciler
from queue_sync.controllers.plan_status import PlanStatuses
from queue_sync.controllers.policy import PolicyStatuses
from queue_sync.controllers.reconciler import Controller, Reconciler
from queue_sync.controllers.watches import Dispatcher
from queue_sync.informers import optional as advisory
from queue_sync.informers.required import Handlers, Namespace, Record, RequiredInformers
from queue_sync.metrics import drift as drift_gauge
from queue_sync.metrics.collector import NumberCaches, samples
from queue_sync.metrics.registry import Metrics
from queue_sync.planning.node_trust import Settings, stamp
from queue_sync.planning.observed import Object, ObservedState, QuotaUsage, Workload
from queue_sync.planning.quota import ObjectCache
from queue_sync.status.events import EventReporter
from queue_sync.status.writer import StatusWriter
from queue_sync.writer import Writer
from slicewise.api.policy import PLAN_KIND, QuotaPlan
from slicewise.inventory.declared_pools import with_declared
from slicewise.inventory.node import Node
from slicewise.inventory.node_devices import PublishedDevices
from slicewise.kube.client import Client
from slicewise.kube.clock import ClusterClock
from slicewise.kube.events import Recorder
from slicewise.kube.informer_types import Change, WatchSettings

logger = logging.getLogger(__name__)
FIRST_QUOTA: Final = 10.0
"""Seconds for which at the start, while there is quota to be written, nothing is written on nodes that may wait."""


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
        kueue_namespace: str = "",
        keep_device_classes: bool = False,
        clock: ClusterClock | None = None,
    ) -> None:
        timing = client.timing
        self.metrics, self.leading = metrics, False
        self._timing = timing
        self.use = QuotaUsage()
        self._clock = clock or ClusterClock(timing, client.server_time)
        self._dispatcher = dispatcher = Dispatcher()
        self._reporter = reporter = EventReporter(recorder)
        devices = PublishedDevices()
        self.watched = watched = RequiredInformers(
            client, self._handlers(), devices, watching, settings.rules.largest_maximum
        )
        self.advisory = advisory.OptionalInformers(
            client,
            advisory.Handlers(
                lambda change: dispatcher.dispatch(lambda watches: watches.policy(change)),
                lambda: dispatcher.dispatch(lambda watches: watches.namespace_rule()),
                lambda: dispatcher.dispatch(lambda watches: watches.config_map()),
                lambda: dispatcher.dispatch(lambda watches: watches.class_mappings()),
            ),
            operator_namespace,
            watching,
            kueue_namespace,
        )
        writer = Writer(fenced, watched.version_of)
        nodes = watched.nodes.store
        self.node_states = NodeStates(nodes, settings, self._clock, devices)
        self.node_config_drift = NodeConfigDrift(
            self.advisory, settings.settle, self.node_states, dispatcher, timing
        )
        self.nodes = NodeReconciler(
            nodes, self.node_states, self.node_config_drift, reporter, dispatcher, timing
        )
        self.local_queues = LocalQueueReconciler(watched, self.use, writer, metrics, timing, dispatcher)
        self.plans = PlanReconciler(
            watched,
            self.node_states,
            writer,
            reporter,
            metrics,
            self.local_queues,
            existing=self._existing,
            dispatcher=dispatcher,
            timing=timing,
        )
        self.policies = PolicyStatuses(
            self.advisory,
            watched.namespaces.store,
            lambda: with_declared(self.node_states.pools, self.plans.plans()),
            writer,
            metrics,
            self._now,
            timing,
        )
        self.overcommitment = Overcommitment(self.node_states, self.plans, dispatcher, timing)
        statuses = PlanStatuses(
            watched,
            self.node_states,
            self.node_config_drift,
            self.plans,
            self.overcommitment,
            StatusWriter(PLAN_KIND, "quotaplans", writer, metrics, watched.plans.version),
            now=self._now,
            timing=timing,
        )
        self._annotations = NodeAnnotations(
            watched.nodes, self.node_states, writer, reporter, metrics, timing
        )
        reconcilers: list[Reconciler] = [
            self.nodes,
            self._annotations,
            self.plans,
            self.local_queues,
            statuses,
            self.overcommitment,
            self.policies,
            self.node_config_drift,
        ]
        if keep_device_classes:
            reconcilers.append(DeviceClasses(devices, fenced, settings.hold_down))
        self._routes = [(each.watches(), each.queue) for each in reconcilers]
        self.controllers = tuple(Controller(each, metrics, timing) for each in reconcilers)
        numbers: NumberCaches = defaultdict(ObjectCache)
        metrics.read_from(lambda: samples(self, numbers))
        metrics.read_from(lambda: self.node_config_drift.samples() if self.leading else ())
        metrics.read_from(lambda: drift_gauge.samples(self))

    @property
    def idle(self) -> bool:
        """True when no key waits or is worked on; keys with a delay or a backoff do not count."""
        return not any(each.queue.depth or each.queue.in_flight for each in self.controllers)

    async def watch(self) -> None:
        """Keeps all informers following, until cancelled."""
        gc.freeze()  # the program itself
        async with asyncio.TaskGroup() as group:
            for informer in self.watched:
                group.create_task(informer.run(), name=f"watch {informer.path}")
            group.create_task(self.advisory.run(), name="watch what advises")

    async def lead(self) -> None:
        """Does the work, until cancelled. Called at most once in a process."""
        await self.watched.synced()
        await self.advisory.first_look()
        self.node_config_drift.read()
        self.leading = True
        self._dispatcher.start(self._routes)
        gc.freeze()  # what stays need not be looked at again and again, which holds everything up
        await self.nodes.look_at_all()
        gc.freeze()
        self._dispatcher.dispatch(lambda watches: watches.started())
        logger.info("leading", extra={"nodes": len(self.watched.nodes.store)})
        async with asyncio.TaskGroup() as group:
            group.create_task(self._freeze_once_idle(), name="freeze")
            group.create_task(self._go_on_after_quota(), name="go on after quota")
            for controller in self.controllers:
                first = controller.name == PlanReconciler.name
                work = self._run_once_annotated(controller) if first else controller.run()
                group.create_task(work, name=controller.name)

    async def _run_once_annotated(self, controller: Controller) -> None:
        """Begins with plans when no node has to be annotated first, so that no quota is written twice.

        That is a moment: where more nodes come all the time, there is always something.
        """
        until = self._timing.now() + ANNOTATED_FIRST
        while self.node_states.unannotated() and self._timing.now() < until:
            await self._timing.sleep(0.05)
        await controller.run()

    async def _go_on_after_quota(self) -> None:
        """What is written on nodes is much: for some seconds, what no quota waits for comes after the first quota."""
        plans, timing = self.plans.queue, self._timing
        until = timing.now() + FIRST_QUOTA
        while (plans.depth or plans.in_flight) and timing.now() < until:
            await timing.sleep(0.1)
        gc.freeze()
        self._annotations.go_on()

    async def _freeze_once_idle(self) -> None:
        """By then all is there that the start makes, and hundreds of queues are what a collection takes longest for."""
        while not self.idle:
            await self._timing.sleep(1.0)
        gc.freeze()

    def _existing(self) -> ObservedState:
        return replace(self.watched.observed(self.use), class_mappings=self.advisory.class_mappings())

    def _now(self) -> str:
        return stamp(self._clock())[:19] + "Z"

    def _handlers(self) -> Handlers:
        dispatch = self._dispatcher.dispatch

        def node(change: Change[Node]) -> None:
            dispatch(lambda watches: watches.node(change))

        def plan(change: Change[Record[QuotaPlan]]) -> None:
            dispatch(lambda watches: watches.plan(change))

        def namespace(change: Change[Namespace]) -> None:
            dispatch(lambda watches: watches.namespace(change))

        def engine_object(change: Change[Object]) -> None:
            self.local_queues.index(change)
            dispatch(lambda watches: watches.engine_object(change))

        def workload(change: Change[Workload]) -> None:
            queues = self.use.put(change.key, change.new)
            dispatch(lambda watches: watches.workload(change.key.partition("/")[0], queues))

        def devices(nodes: frozenset[str]) -> None:
            dispatch(lambda watches: watches.devices(nodes))

        def claims() -> None:
            dispatch(lambda watches: watches.claims())

        def malformed(kind: str, key: str, error: Exception) -> None:
            if kind == "Node" and self.leading:
                self._reporter.node(key, "Unparsable", f"Node {key} cannot be read and is left out: {error}")
            elif kind != PLAN_KIND:
                logger.warning("left out", extra={"kind": kind, "object": key, "error": str(error)[:300]})

        return Handlers(node, plan, namespace, engine_object, workload, devices, claims, malformed)
