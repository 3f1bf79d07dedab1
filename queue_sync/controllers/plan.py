"""One pass over one plan: what is wanted against what stands, and the writes between them, in order.

Failure mode: a pass that could not write everything says why in its result, for the plan's status, and raises, so that
it is tried again with backoff. What one queue refuses does not keep the others from being right; a flavor that could
not be made keeps queues from naming it, because that would stop them altogether.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import ClassVar, Final

from queue_sync.controllers.expectations import Expectations
from queue_sync.controllers.local_queue import LocalQueueReconciler
from queue_sync.controllers.node_states import NodeStates
from queue_sync.controllers.reconciler import (
    DONE,
    LONGEST_BACKOFF,
    Reconciler,
    Result,
    UnfinishedError,
    internal_error,
)
from queue_sync.controllers.watches import Dispatcher, Watches
from queue_sync.informers.required import (
    Namespace,
    Record,
    RequiredInformers,
    in_namespace,
    only_status_changed,
)
from queue_sync.metrics.registry import Metrics
from queue_sync.planning import desired as planning
from queue_sync.planning.changes import Change, ChangeSet, Key, Problem, by_object, key_of, kind_and_name
from queue_sync.planning.edit_conflicts import EditConflicts
from queue_sync.planning.engine import PlanCache
from queue_sync.planning.engines import ENGINES, engine_of
from queue_sync.planning.handover import Handover
from queue_sync.planning.observed import Object, ObservedState, annotation, without_status
from queue_sync.planning.plan_diff import released, steps_to
from queue_sync.planning.quota import Numbers
from queue_sync.planning.quota_changes import (
    Basis,
    Causes,
    QuotaChange,
    moves,
    quota_changes,
    together,
)
from queue_sync.planning.shrink import shrunk
from queue_sync.status.events import MOST_LISTED, EventReporter
from queue_sync.status.plan_status import PassResult
from queue_sync.turns import in_turns
from queue_sync.writer import STALE_RETRY, RefusedError, StaleError, Writer
from slicewise.api import keys
from slicewise.api.policy import PLAN_KIND, DeletionPolicy, PlanMode, QuotaPlan
from slicewise.inventory.plan_conflicts import followed
from slicewise.inventory.plan_selection import promise_for, selects, takes
from slicewise.inventory.pools import Pool
from slicewise.kube.clock import Timing
from slicewise.kube.errors import KubeError
from slicewise.kube.informer_types import Change as WatchChange
from slicewise.kube.workqueue import QueueSettings, WorkQueue

logger = logging.getLogger(__name__)
ENGINE_RETRY: Final = 30.0
KEPT_RETRY: Final = 30.0
"""Seconds to the next look at what others keep: that a queue has less is seen at once, all other reasons are not."""
SETTINGS: Final = QueueSettings(window=0.1, max_wait=0.3, first_backoff=0.1, most_backoff=LONGEST_BACKOFF)
"""Changes within a moment become one write: enough for a node's labels and numbers to arrive together."""
LOOK_AFTER_WRITE: Final = 5.0
"""Seconds from seeing what was written to the look that makes sure of it."""
AT_A_TIME: Final = 8
"""Writes that wait for the API server together."""


@dataclass(slots=True)
class _Writes:
    """What came of the writes of one pass."""

    handover: Handover
    done: int = 0
    problems: list[Problem] = field(default_factory=list)
    stale: str = ""
    """Why the pass has to be made again in a moment, where a write found something else than was read."""
    over_soon: bool = False
    """True where a queue waits for what nodes say in a moment."""
    again: float | None = None
    """In how many seconds time alone, or what nobody tells, may let more be written."""
    missing: set[Key] = field(default_factory=set)
    """What could not be made. What stands and could not be changed stops nothing that names it."""
    causes: Causes = field(default_factory=lambda: Causes(None, Basis({})))
    changed: list[QuotaChange] = field(default_factory=list)
    told: dict[Key, list[str]] = field(default_factory=dict)
    """What changed in each queue, in words: several writes may lead to what it should be."""
    unwritten: dict[Key, int] = field(default_factory=dict)
    """Objects that do not say yet what they should, and the tier of the write that was not made, or not in full; 0
    where no other object's builds on it. A further write of the same object does."""

    def look_within(self, seconds: float) -> None:
        """Notes that a look is due in so many seconds at the latest."""
        self.again = seconds if self.again is None else min(self.again, seconds)

    def open(self, change: Change, plan: QuotaPlan | None) -> bool:
        """False for what builds on a write that was not made."""
        if key_of(change.document) in self.unwritten:
            return False
        tree = plan is not None and bool(plan.spec.cohort)
        return not (tree and any(0 < each < change.tier for each in self.unwritten.values()))

    def failed(self, change: Change, *, said: bool = True) -> None:
        """Notes that a write was not made, for whatever reason: its queue still has all that it was to give back."""
        self.unwritten[key_of(change.document)] = change.tier
        self.handover.keep(change, said=said)


class PlanReconciler(Reconciler):
    """Passes over plans; holds nothing that could not be worked out again, but for who edits what."""

    name: ClassVar = "plans"
    workers: ClassVar = 2

    def __init__(
        self,
        watched: RequiredInformers,
        states: NodeStates,
        writer: Writer,
        reporter: EventReporter,
        metrics: Metrics,
        local_queues: LocalQueueReconciler,
        *,
        existing: Callable[[], ObservedState],
        dispatcher: Dispatcher,
        timing: Timing,
    ) -> None:
        self.queue: WorkQueue[str] = WorkQueue(SETTINGS, timing)
        self.results: dict[str, PassResult] = {}
        self.draining: set[str] = set()
        self.event_at: dict[str, float] = {}
        """When the first node event came that a plan has not been written for, on the monotonic clock."""
        self.last_changes: dict[str, dict[str, str]] = {}
        """By plan and queue, what changed last in its numbers since this process started, and why."""
        self._written_for: dict[str, Basis] = {}
        """Pools and plan as they were when every queue of a plan said what it should."""
        self.existing = existing
        """What stands, live."""
        self._watched, self._states = watched, states
        self._writer, self._reporter, self._metrics = writer, reporter, metrics
        self._local_queues, self._dispatcher, self._timing = local_queues, dispatcher, timing
        self._rivals = EditConflicts(timing.now)
        self._known = PlanCache()
        self._seen: dict[str, Mapping[Key, tuple[Object, Object]]] = {}
        """By plan, what the last pass found, right or not. One that is the very same was noted."""
        self._expectations = Expectations(timing.now)
        self._uids: dict[str, str] = {}
        """Of the plans that were worked on."""

    def watches(self) -> Watches:
        """Plans, which share what nodes offer, and all that a plan gives or depends on."""
        return Watches(
            started=self._all,
            # What one plan takes decides whether another may, and the quota of one that is gone counts.
            plan=lambda change: () if only_status_changed(change) else {*self._all(), change.key},
            namespace=self._namespace_changed,
            engine_object=self._engine_object_changed,
            workload=self._workload_changed,
            class_mappings=self._all,
            # A class may take over a name that Kueue charges otherwise, without a node showing anything else.
            devices=lambda _: self._all() if self.existing().class_mappings else (),
            claims=lambda: [plan.name for plan in self.plans() if self._shares_boards(plan)],
            pools=self._pools_changed,
            local_queue_problems=lambda plan: (plan,),
        )

    def _all(self) -> tuple[str, ...]:
        return tuple(self._watched.plans.store)

    def _namespace_changed(self, change: WatchChange[Namespace]) -> list[str]:
        if not self._local_queues.reads(change):
            return []
        return [plan.name for plan in self.plans() if plan.spec.mode is PlanMode.REPORT]

    def _engine_object_changed(self, change: WatchChange[Object]) -> set[str]:
        if change.new is None and change.old is not None:
            self._rivals.forget(key_of(change.old))
        # Also those that cannot be read, or are being deleted.
        dirty = {
            annotation(each, keys.PLAN) for each in (change.old, change.new)
        } & self._watched.plans.store.keys()
        wrote = self._expectations.observed(change.new or change.old or {})
        if in_namespace(change):
            return {plan for plan in dirty if not self._local_queues.follows(plan)}
        forms = [each for each in (change.old, change.new) if each is not None]
        givers = {annotation(each, keys.PLAN) for each in forms} - {""}
        if givers and without_status(change.old) != without_status(change.new):
            # What is left over is counted against whoever feeds from the same pools.
            gone = givers - self._watched.plans.store.keys()
            dirty |= set(self._all()) if gone else self._waiting_for(change)
        for plan in self.plans():
            engine = ENGINES[plan.spec.engine]
            if any(engine.concerns(each, plan.spec) for each in forms):
                dirty.add(plan.name)
        # What is made is added to by the server, and in a tree one object may be written twice.
        alone = wrote is not None and wrote.verb == "update" and not wrote.tier
        if wrote is not None and alone and wrote.after == change.new and wrote.plan not in self.draining:
            # It shows what was just written, so that a look will find nothing to do, unless somebody was in between.
            dirty.discard(wrote.plan)
            self.queue.add_after(wrote.plan, LOOK_AFTER_WRITE)
        return dirty

    def _waiting_for(self, change: WatchChange[Object]) -> set[str]:
        """The plans that may have waited for what a queue has less of now, or have what an idle plan got."""
        less, more = moves(Change("", change.old, change.new))
        giver = self._watched.plans.store.get(annotation(change.new, keys.PLAN))
        idle = giver is not None and giver.value is not None and giver.value.idle
        moved = {*less, *(more if idle else ())}
        pools = {flavor: self._states.pools.pool(flavor) for flavor, _ in moved}
        return {
            plan.name
            for plan in (self.plans() if pools else ())
            for name, pool in pools.items()
            if not name or (takes(plan.spec, pool) if pool is not None else selects(plan.spec, name))
        }

    def _workload_changed(self, _: str, queues: frozenset[str]) -> set[str]:
        return self.draining | {plan.name for plan in self.with_queues(queues) if self._shares_boards(plan)}

    def _pools_changed(self, pools: frozenset[str], event_at: float | None) -> list[str]:
        plans = self.fed_from(pools)
        if any((plan := self._watched.plans.store[name].value) is not None and plan.idle for name in plans):
            plans = list(self._all())  # what it has beyond its nodes, another one may have to give back
        if event_at is not None:
            self.event_at = {**dict.fromkeys(plans, event_at), **self.event_at}
        return plans

    def fed_from(self, pools: Iterable[str]) -> list[str]:
        """The plans that depend on pools; of one that cannot be read nobody knows, so it is among them."""
        return [
            name
            for name, record in self._watched.plans.store.items()
            if record.value is None or any(selects(record.value.spec, pool) for pool in pools)
        ]

    def with_queues(self, queues: frozenset[str]) -> list[QuotaPlan]:
        """The plans that list one of these queues."""
        return [plan for plan in self.plans() if any(queue.name in queues for queue in plan.spec.queues)]

    def _shares_boards(self, plan: QuotaPlan) -> bool:
        """True when the plan feeds from partitionable boards, whose quota follows what runs and what waits."""
        return any(promise_for(plan.spec, name) is not None for name in self._states.pools.names())

    def plans(self) -> list[QuotaPlan]:
        """Every plan that can be read."""
        return [record.value for record in self._watched.plans.store.values() if record.value is not None]

    def namespaces(self) -> Mapping[str, Mapping[str, str]]:
        """Labels of the namespaces that are not being deleted."""
        store = self._watched.namespaces.store
        return {name: each.labels for name, each in store.items() if not each.deleting}

    def _forget(self, name: str) -> None:
        """The plan is gone; its queues stay as they are, which is said."""
        self._local_queues.leave(name)
        if (uid := self._uids.pop(name, None)) is not None:
            self._reporter.left_over(name, uid, self.existing())
        self.results.pop(name, None)
        self.draining.discard(name)
        self.last_changes.pop(name, None)
        self._written_for.pop(name, None)
        self._known.forget(name)
        self._seen.pop(name, None)

    async def reconcile(self, name: str) -> Result:
        """One pass over one plan.

        Raises:
            UnfinishedError: something was refused.
            KubeError: the server gave no answer.
        """
        try:
            return await self._pass(name)
        finally:
            self._dispatcher.dispatch(lambda watches: watches.plan_pass(name))

    async def _pass(self, name: str) -> Result:
        event_at = self.event_at.pop(name, None)  # of no meaning for the next write, if this pass makes none
        record = self._watched.plans.store.get(name)
        if record is None:
            self._forget(name)
            return DONE
        self._uids[name] = record.uid
        if record.deleting or not _writes_in_namespaces(record.value):
            self._local_queues.leave(name)
        if record.deleting:
            return await self._release(record)
        if blind := self._states.empty_list_grace():
            self._conclude(record, PassResult(waiting=_BLIND, reason="NoNodes"))
            return Result(blind)
        pools, unannotated = list(self._states.pools), self._states.unannotated()
        plan = record.value
        if plan is None:
            others = followed(self.plans(), pools)
            found = shrunk(name, None, record.maximum, others, pools, self.existing())
            return await self._write_all(record, found, pools, event_at)
        await self._set_finalizer(record, present=plan.spec.deletion_policy is DeletionPolicy.RELEASE)
        if plan.spec.suspend:
            self._conclude(record, PassResult(waiting=_SUSPENDED, reason="Suspended"))
            return DONE
        if missing := self._watched.missing(plan.spec.engine):
            self._conclude(record, PassResult(waiting=missing, reason="EngineMissing"))
            return Result(ENGINE_RETRY)
        if refused := planning.find_conflicts(self.plans(), pools).get(name):
            return await self._give_back(record, plan, pools, refused, event_at)
        reports = plan.spec.mode is PlanMode.REPORT
        spaces = self.namespaces() if reports else None
        found = await in_turns(steps_to(plan, pools, spaces, self.existing(), self._known))
        if any(problem.refused for problem in found.problems):
            return await self._give_back(record, plan, pools, found.problems, event_at)
        self._note_right(name, found)
        if reports:
            words = _report(by_object(found.changes))
            self._conclude(record, PassResult(found.problems, found.assigned, words, "ReportOnly"))
            return DONE
        local = tuple(self._local_queues.problems(name))
        try:
            found = replace(found, problems=(*found.problems, *local))
            return await self._write_all(record, found, pools, event_at, unannotated)
        finally:  # what one queue refuses does not keep the others from being used
            now = self._watched.plans.store.get(name)  # it may say something else since the pass began
            if now is not None and now.value is plan and ENGINES[plan.spec.engine].IN_NAMESPACES:
                await self._local_queues.follow(plan)

    async def _give_back(
        self,
        record: Record[QuotaPlan],
        plan: QuotaPlan,
        pools: list[Pool],
        problems: tuple[Problem, ...],
        event_at: float | None,
    ) -> Result:
        """Lets the queues of a plan that is refused shrink."""
        self._local_queues.leave(plan.name)
        others = [each for each in followed(self.plans(), pools) if each.name != plan.name]
        found = planning.given_back_by(plan, others, pools, self.existing())
        if plan.spec.mode is PlanMode.REPORT:
            found = ChangeSet()
        return await self._write_all(record, replace(found, problems=problems), pools, event_at)

    async def _release(self, record: Record[QuotaPlan]) -> Result:
        """Gives back what a plan that is being deleted gave, if it said so, and then lets it go."""
        if keys.FINALIZER not in record.finalizers:
            return DONE
        found = released(record.name, self.existing())
        result = await self._write_all(record, found, list(self._states.pools), None)
        if found.changes or found.draining:
            return result
        if not (self._expectations.satisfied(record.name) and self._local_queues.satisfied(record.name)):
            return Result(STALE_RETRY)
        await self._set_finalizer(record, present=False)
        sentence = f"QuotaPlan {record.name} is deleted, and everything that it gave is given back"
        self._reporter.plan(record.name, record.uid, "QuotaReleased", sentence, warning=False)
        return result

    async def _set_finalizer(self, record: Record[QuotaPlan], *, present: bool) -> None:
        if (keys.FINALIZER in record.finalizers) is present:
            return
        try:
            await self._writer.set_finalizer(record, present=present)
        except StaleError as error:
            raise UnfinishedError(str(error)) from error
        self._metrics.writes.labels(PLAN_KIND, "update", "done").inc()

    def failed(self, name: str, error: Exception) -> None:
        """Notes an error that nobody foresaw, for the plan's status and its events."""
        record = self._watched.plans.store.get(name)
        if record is not None:
            problem = Problem(name, "InternalError", internal_error(error))
            assigned = before.assigned if (before := self.results.get(name)) is not None else {}
            self._conclude(record, PassResult((problem,), assigned, problem.sentence, problem.code))

    def _note_right(self, name: str, found: ChangeSet) -> None:
        wrong = {key_of(change.document) for change in found.changes}
        before, self._seen[name] = self._seen.get(name, {}), found.targets
        for key, forms in found.targets.items():
            if before.get(key) is not forms and key not in wrong:
                self._rivals.right(key, *forms)

    async def _write_all(
        self,
        record: Record[QuotaPlan],
        found: ChangeSet,
        counted: list[Pool],
        event_at: float | None,
        unannotated: Numbers = MappingProxyType({}),
    ) -> Result:
        """Writes what was worked out of `counted`, the pools as they were then.

        Of these, `unannotated` would be forgotten if this process ended now, so nobody gets it yet.
        """
        name = record.name
        basis = Basis({pool.name: pool for pool in counted}, record.value, _why_shrinking(record, found))
        handover = Handover(found.changes, found.kept, self._rivals.before, unannotated)
        writes = _Writes(handover, causes=Causes(self._written_for.get(name), basis))
        result = PassResult(found.problems, found.assigned)
        tier = found.changes[0].tier if found.changes else 0
        (self.draining.add if found.draining else self.draining.discard)(name)
        try:
            for (now, _), changes in groupby(found.changes, attrgetter("tier", "stage")):
                if now != tier:
                    tier = now
                    await self._writer.wait_for_caches()
                await self._write_together(record, list(changes), writes)
        except KubeError as error:
            self._not_yet(name, event_at)
            self._conclude(record, replace(result, waiting=f"a write failed: {error}", reason="WriteFailed"))
            raise
        for each in together(writes.changed)[:MOST_LISTED]:
            self._reporter.plan(name, record.uid, "QuotaChanged", each.sentence, warning=False)
        if not writes.stale and not writes.over_soon and not writes.problems:
            self._written_for[name] = basis
        if writes.stale:
            self._not_yet(name, event_at)
        elif writes.done and event_at is not None:  # what nodes do not say yet comes with its own time
            self._metrics.latency.observe(max(0.0, self._timing.now() - event_at))
        problems = (*found.problems, *writes.problems)
        waiting = "; ".join(dict.fromkeys(problem.sentence for problem in problems))
        reason = problems[0].code if problems else "Synced"
        if any(problem.refused for problem in problems):
            reason = "Refused"
        self._conclude(record, PassResult(problems, found.assigned, waiting, reason))
        if any(problem.code == "ServerRefused" for problem in writes.problems):
            raise UnfinishedError(waiting)
        if tier and writes.done:  # else the next pass would not know yet what this one wrote while it paused
            await self._writer.wait_for_caches()
        if writes.stale:
            logger.debug("looked at again", extra={"plan": name, "because": writes.stale})
        if writes.stale or writes.over_soon:
            return Result(STALE_RETRY)
        return Result(writes.again)

    async def _write_together(
        self, record: Record[QuotaPlan], changes: list[Change], writes: _Writes
    ) -> None:
        """Writes what does not depend on each other, some at a time. Raises KubeError, once nothing is under way."""
        left = iter(changes)

        async def write() -> None:
            for change in left:
                if writes.open(change, record.value):
                    await self._write(record, change, writes)

        writing = [write() for _ in range(min(AT_A_TIME, len(changes)))]
        for error in await asyncio.gather(*writing, return_exceptions=True):
            if error is not None:
                raise error

    def _not_yet(self, name: str, event_at: float | None) -> None:
        if event_at is not None:
            self.event_at[name] = event_at

    async def _write(self, record: Record[QuotaPlan], change: Change, writes: _Writes) -> None:
        kind, name = kind_and_name(change.document)
        key, engine = key_of(change.document), engine_of(change.document)
        if self._is_outdated(record):
            writes.stale = f"QuotaPlan {record.name} says something else since the pass began"
            writes.failed(change, said=False)
            return
        if engine is not None and change.after is not None and writes.missing & engine.names(change.after):
            writes.failed(change)
            return
        if not self._may_write(record, change, writes):
            writes.failed(change)
            return
        less = self._less_what_is_kept(change, writes)
        if less is None:
            return
        change = less
        self._expectations.expect(change)
        try:
            await self._writer.execute(change)
        except StaleError as error:
            writes.stale = str(error)
            writes.failed(change, said=False)
            self._metrics.writes.labels(kind, change.verb, "stale").inc()
        except RefusedError as error:
            self._expectations.observed(change.document)
            writes.failed(change)
            hint = engine.hint(str(error)) if engine is not None else ""
            sentence = f"{kind} {name} was refused by the API server: {error}{hint}"
            writes.problems.append(Problem(record.name, "ServerRefused", sentence, kind=kind, name=name))
            if change.before is None:
                writes.missing.add(key)
            self._metrics.writes.labels(kind, change.verb, "refused").inc()
        except KubeError:
            self._metrics.writes.labels(kind, change.verb, "failed").inc()
            raise
        else:
            writes.done += 1
            self._metrics.writes.labels(kind, change.verb, "done").inc()
            if self._rivals.wrote(change):
                self._metrics.put_back.labels(kind, name).inc()
                sentence = (
                    f"{kind} {name} was edited where QuotaPlan {record.name} decides, and was put back; "
                    "change the plan, or take the queue out of it"
                )
                self._reporter.plan(record.name, record.uid, "PutBack", sentence)
            logger.info(
                "written", extra={"verb": change.verb, "kind": kind, "object": name, "plan": record.name}
            )
            self._reporter.below_use(record.name, record.uid, change, self.existing())
            self._note_changes(record.name, change, writes)

    def _less_what_is_kept(self, change: Change, writes: _Writes) -> Change | None:
        """A write without what nobody gets yet, and says what it waits for; None when nothing of it is left."""
        less, waiting = writes.handover.give(change)
        if waiting:
            writes.unwritten[key_of(change.document)] = 0
            if writes.handover.over_soon(waiting):
                writes.over_soon = True
            if (problem := writes.handover.problem(change, waiting)) is not None:
                writes.look_within(KEPT_RETRY)
                writes.problems.append(problem)
        return less

    def _note_changes(self, plan: str, change: Change, writes: _Writes) -> None:
        changes = list(quota_changes(change, writes.causes))
        if changes:
            writes.changed += changes
            sentences = [each.sentence for each in changes]
            told = writes.told.setdefault(key_of(change.document), [])
            told += sentences
            self._reporter.quota_changed(
                change.document, ["; ".join(sentences)] if change.before is None else sentences
            )
            self.last_changes.setdefault(plan, {})[change.document["metadata"]["name"]] = "; ".join(told)

    def _is_outdated(self, record: Record[QuotaPlan]) -> bool:
        """True once a plan says something else: what it gave may be another plan's by now."""
        now = self._watched.plans.store.get(record.name)
        return now is None or (now.uid, now.generation) != (record.uid, record.generation)

    def _may_write(self, record: Record[QuotaPlan], change: Change, writes: _Writes) -> bool:
        """False while an edit is left as it is, because whoever makes it keeps at it."""
        left = self._rivals.paused_for(change)
        if not left:
            return True
        kind, name = kind_and_name(change.document)
        writes.look_within(left)
        sentence = (
            f"{kind} {name}: somebody else keeps writing what QuotaPlan {record.name} decides, so their edit is left "
            "for some minutes and then put back again; stop the other writer, or take the queue out of the plan"
        )
        writes.problems.append(Problem(record.name, "WriteConflict", sentence, kind=kind, name=name))
        return False

    def _conclude(self, record: Record[QuotaPlan], result: PassResult) -> None:
        before = self.results.get(record.name)
        self.results[record.name] = result
        known = set(before.problems) if before is not None else set()
        self._reporter.problems(
            record.name, record.uid, tuple(each for each in result.problems if each not in known)
        )


def _writes_in_namespaces(plan: QuotaPlan | None) -> bool:
    if plan is None or plan.spec.suspend or plan.spec.mode is PlanMode.REPORT:
        return False
    return ENGINES[plan.spec.engine].IN_NAMESPACES


def _why_shrinking(record: Record[QuotaPlan], found: ChangeSet) -> str:
    """Why the queues of a plan only give back; "" where they do not."""
    if record.deleting:
        return "the plan is being deleted"
    if record.value is None:
        return "the plan cannot be read"
    return "the plan is refused" if any(problem.refused for problem in found.problems) else ""


_SUSPENDED: Final = "suspend is true: nothing is written for this plan until it is false again"
_BLIND: Final = "the cluster shows no nodes at all, which is not believed before the hold-down has passed"


def _report(changes: list[Change]) -> str:
    if not changes:
        return ""
    listed = ", ".join(f"{change.verb} {' '.join(kind_and_name(change.document))}" for change in changes[:20])
    more = f" and {len(changes) - 20} more" if len(changes) > 20 else ""
    return f"mode is report; write would {listed}{more}"
