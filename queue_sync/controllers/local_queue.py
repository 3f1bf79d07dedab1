"""LocalQueues, namespace by namespace: a key is a namespace's name.

A pass over a plan settles whether it is followed. Whatever touches one namespace (its labels, its LocalQueues, the last
Workload that waits in one) makes that key dirty alone.
"""

from collections.abc import Iterable
from typing import ClassVar

from queue_sync.controllers.expectations import Expectations
from queue_sync.controllers.reconciler import (
    DONE,
    LONGEST_BACKOFF,
    Reconciler,
    Result,
    UnfinishedError,
    internal_error,
)
from queue_sync.controllers.watches import Dispatcher, Watches
from queue_sync.informers.required import Namespace, RequiredInformers, in_namespace, labels_changed
from queue_sync.metrics.registry import Metrics
from queue_sync.planning.changes import Change, Problem, kind_and_name
from queue_sync.planning.kueue.local_queues import QueueSelectors, changes_in
from queue_sync.planning.kueue.objects import LOCAL_QUEUE_KIND
from queue_sync.planning.observed import Object, QuotaUsage, annotation
from queue_sync.writer import STALE_RETRY, RefusedError, StaleError, Writer
from slicewise.api import keys
from slicewise.api.policy import LabelSelector, QuotaPlan
from slicewise.kube.clock import Timing
from slicewise.kube.errors import KubeError
from slicewise.kube.informer_types import Change as WatchChange
from slicewise.kube.object_types import CLUSTER_QUEUE, kind_of
from slicewise.kube.turns import by_and_by
from slicewise.kube.workqueue import QueueSettings, WorkQueue

LOCAL_QUEUES = QueueSettings(first_backoff=0.1, most_backoff=LONGEST_BACKOFF)


class LocalQueueReconciler(Reconciler):
    """Makes and removes LocalQueues of the plans that are followed."""

    name: ClassVar = "local_queues"

    def __init__(
        self,
        watched: RequiredInformers,
        use: QuotaUsage,
        writer: Writer,
        metrics: Metrics,
        timing: Timing,
        dispatcher: Dispatcher,
    ) -> None:
        self.queue: WorkQueue[str] = WorkQueue(LOCAL_QUEUES, timing)
        self._watched, self._use = watched, use
        self._writer, self._metrics, self._dispatcher = writer, metrics, dispatcher
        self._followed: dict[str, QueueSelectors] = {}
        self._standing: dict[str, dict[str, Object]] = {}
        """LocalQueues by namespace and name."""
        self._problems: dict[str, dict[str, tuple[Problem, ...]]] = {}
        """By plan and namespace."""
        self._expectations = Expectations(timing.now)
        self._draining: set[str] = set()
        self._selecting: list[QuotaPlan] = []
        self._labels: frozenset[str] = frozenset()
        """Those that selectors of these plans read."""

    async def follow(self, plan: QuotaPlan) -> None:
        """The plan's ClusterQueues stand: its LocalQueues are to follow."""
        before = self._followed.get(plan.name)
        if before is None or before.plan is not plan:
            self._followed[plan.name] = QueueSelectors(plan)
            if before is None or before.plan != plan:
                await self._everywhere()

    def leave(self, plan: str) -> None:
        """The plan's LocalQueues stay as they are."""
        self._followed.pop(plan, None)
        self._problems.pop(plan, None)

    def follows(self, plan: str) -> bool:
        """True when the plan's LocalQueues are looked after here."""
        return plan in self._followed

    def satisfied(self, plan: str) -> bool:
        """False while something that was written for a plan is still to be seen."""
        return self._expectations.satisfied(plan)

    def problems(self, plan: str) -> Iterable[Problem]:
        """Yields what is wrong with LocalQueues of a plan, by namespace."""
        for _, found in sorted(self._problems.get(plan, {}).items()):
            yield from found

    def watches(self) -> Watches:
        """Labels that some queue reads, LocalQueues, who decides about their ClusterQueue, the last Workload in one."""
        return Watches(
            namespace=lambda change: (change.key,) if self.reads(change) else (),
            engine_object=self._engine_object_changed,
            workload=lambda namespace, _queues: (namespace,) if namespace in self._draining else (),
        )

    def reads(self, change: WatchChange[Namespace]) -> bool:
        """True when a namespace came or went, or a label changed that a queue of some plan reads."""
        labels = labels_changed(change)
        return labels is None or not labels.isdisjoint(self._selected())

    def _selected(self) -> frozenset[str]:
        """The labels that selectors of plans read, worked out anew only when a plan says something else."""
        plans = [record.value for record in self._watched.plans.store.values() if record.value is not None]
        if plans != self._selecting:
            selectors = (queue.namespaces for plan in plans for queue in plan.spec.queues)
            self._selecting = plans
            self._labels = frozenset(key for each in selectors if each is not None for key in _read_by(each))
        return self._labels

    def index(self, change: WatchChange[Object]) -> None:
        """Takes in a LocalQueue that came, went or changed, also before this replica leads."""
        if not in_namespace(change):
            return
        document = change.new or change.old or {}
        self._expectations.observed(document)
        namespace, name = document["metadata"]["namespace"], document["metadata"]["name"]
        standing = self._standing.setdefault(namespace, {})
        if change.new is not None:
            standing[name] = change.new
        else:
            standing.pop(name, None)
            if not standing:
                del self._standing[namespace]

    def _engine_object_changed(self, change: WatchChange[Object]) -> tuple[str, ...]:
        document = change.new or change.old or {}
        metadata = document["metadata"]
        if in_namespace(change):
            return (metadata["namespace"],)
        if kind_of(document) != CLUSTER_QUEUE or annotation(change.old, keys.PLAN) == annotation(
            change.new, keys.PLAN
        ):
            return ()
        # Another plan may decide about the LocalQueues behind it now.
        return tuple(
            namespace
            for namespace, standing in self._standing.items()
            if any(each["spec"].get("clusterQueue") == metadata["name"] for each in standing.values())
        )

    async def _everywhere(self) -> None:
        async for name in by_and_by({*self._watched.namespaces.store, *self._standing}):
            self.queue.add(name)

    async def reconcile(self, namespace: str) -> Result:
        """Makes the LocalQueues of one namespace what the followed plans want.

        Raises:
            UnfinishedError: the server refused a write.
            KubeError: it gave no answer.
            ExceptionGroup: errors that nobody foresaw, each said of its plan; the other plans were followed.
        """
        seen = self._watched.namespaces.store.get(namespace)
        labels = None if seen is None or seen.deleting else seen.labels
        standing, existing = self._standing.get(namespace, {}), self._watched.observed(self._use)
        refused: list[Problem] = []
        unforeseen: list[Exception] = []
        draining = stale = False
        for plan, selectors in list(self._followed.items()):
            problems: list[Problem] = []
            try:
                found = changes_in(selectors, namespace, labels, standing, existing)
                problems += found.problems
                draining |= found.draining
                for change in found.changes:
                    if self._followed.get(plan) is not selectors:
                        break  # between two writes it changed, or left: it decides no more, or otherwise
                    try:
                        await self._write(change)
                    except StaleError:
                        stale = True
                    except RefusedError as error:
                        words = f"was refused by the API server: {error}"
                        refused.append(_problem(change, "ServerRefused", words))
                        problems.append(refused[-1])
                    except KubeError as error:
                        problems.append(_problem(change, "WriteFailed", f"could not be written: {error}"))
                        raise
            except KubeError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever one plan does, the others are followed
                words = f"LocalQueues of namespace {namespace}: {internal_error(error)}"
                problems.append(Problem(plan, "InternalError", words))
                unforeseen.append(error)
            finally:
                self._note(plan, namespace, tuple(problems))
        (self._draining.add if draining else self._draining.discard)(namespace)
        if unforeseen:
            raise ExceptionGroup(f"LocalQueues of namespace {namespace}", unforeseen)
        if refused:
            raise UnfinishedError("; ".join(each.sentence for each in refused))
        return Result(STALE_RETRY) if stale else DONE

    async def _write(self, change: Change) -> None:
        outcome = "done"
        self._expectations.expect(change)
        try:
            await self._writer.execute(change)
        except StaleError:
            outcome = "stale"
            raise
        except RefusedError:
            self._expectations.observed(change.document)
            outcome = "refused"
            raise
        except KubeError:
            outcome = "failed"
            raise
        finally:
            self._metrics.writes.labels(LOCAL_QUEUE_KIND, change.verb, outcome).inc()

    def _note(self, plan: str, namespace: str, problems: tuple[Problem, ...]) -> None:
        if plan not in self._followed:
            return
        known = self._problems.setdefault(plan, {})
        before = known.pop(namespace, ())
        if problems:
            known[namespace] = problems
        if before != problems:
            self._dispatcher.dispatch(lambda watches: watches.local_queue_problems(plan))


def _problem(change: Change, code: str, what: str) -> Problem:
    kind, name = kind_and_name(change.document)
    return Problem(change.plan, code, f"{kind} {name} {what}", kind=kind, name=name)


def _read_by(selector: LabelSelector) -> frozenset[str]:
    """The labels that a selector looks at."""
    return frozenset((*selector.match_labels, *(each.key for each in selector.match_expressions)))
