"""Nodes: each is looked at when it, its devices or what is planned for it change, and when time is up.

What comes of a look is passed on: pools of which something else counts, a node that does not say what is believed of
it, and what people are to be told.
"""

from collections.abc import Mapping
from typing import ClassVar, Final

from queue_sync.controllers.node_config_drift import NodeConfigDrift
from queue_sync.controllers.node_states import NodeResult, NodeStates
from queue_sync.controllers.reconciler import LONGEST_BACKOFF, Reconciler, Result, internal_error
from queue_sync.controllers.watches import Dispatcher, Watches
from queue_sync.status.events import EventReporter
from slicewise.inventory.node import Node
from slicewise.kube.clock import Timing
from slicewise.kube.informer_types import Change
from slicewise.kube.turns import by_and_by
from slicewise.kube.workqueue import QueueSettings, WorkQueue

SETTINGS: Final = QueueSettings(first_backoff=0.1, most_backoff=LONGEST_BACKOFF)


class NodeReconciler(Reconciler):
    """A key is a node's name."""

    name: ClassVar = "nodes"

    def __init__(
        self,
        nodes: Mapping[str, Node],
        states: NodeStates,
        config_drift: NodeConfigDrift,
        reporter: EventReporter,
        dispatcher: Dispatcher,
        timing: Timing,
    ) -> None:
        self.queue: WorkQueue[str] = WorkQueue(SETTINGS, timing)
        self._nodes, self._states, self._config_drift = nodes, states, config_drift
        self._reporter, self._dispatcher, self._timing = reporter, dispatcher, timing
        self._event_at: dict[str, float] = {}

    def watches(self) -> Watches:
        """Its own changes, its devices', and what is planned for all of them."""
        return Watches(
            node=self._changed,
            devices=lambda nodes: nodes & self._nodes.keys(),
            planned_geometry=lambda: tuple(self._nodes),
        )

    def _changed(self, change: Change[Node]) -> tuple[str, ...]:
        self._event_at.setdefault(change.key, self._timing.now())
        return (change.key,)

    async def look_at_all(self) -> None:
        """Judges every node once; before that there are no sums."""
        async for name in by_and_by(list(self._nodes)):
            judged = self._look(name)
            try:
                result = self._pass_on(name, judged)
            except Exception:  # noqa: BLE001 - no sum depends on it; a worker looks again, and says so
                self.queue.add(name)
            else:
                if result.after is not None:
                    self.queue.add_after(name, result.after)
        self._states.complete = True

    async def reconcile(self, name: str) -> Result:
        """Judges one node, and compares it with what is planned for it."""
        return self._pass_on(name, self._look(name))

    def _pass_on(self, name: str, judged: NodeResult) -> Result:
        if judged.needs_annotation:
            self._dispatcher.dispatch(lambda watches: watches.node_annotation(name))
        waits = [each for each in (judged.again_in, self._compare(name)) if each is not None]
        return Result(min(waits, default=None))

    def failed(self, name: str, error: Exception) -> None:
        """Says on the node that nobody foresaw this error."""
        self._reporter.node(name, "InternalError", f"Node {name}: {internal_error(error)}")

    def _look(self, name: str) -> NodeResult:
        judged = self._states.look(name)
        event_at = self._event_at.get(name)
        if not self._states.is_unannotated(name):
            self._event_at.pop(name, None)
        if judged.pools:
            self._dispatcher.dispatch(lambda watches: watches.pools(judged.pools, event_at))
        if judged.news and judged.node is not None:
            held = judged.belief.counted is not None
            words = "what it offered before counts for the hold-down" if held else "nothing of it is counted"
            reason = "HeldBack" if held else "NotBelieved"
            self._reporter.node(name, reason, f"Node {name}: {judged.news}; {words}")
        return judged

    def _compare(self, name: str) -> float | None:
        """Tells what is not as planned; returns after how long to look again."""
        seen = self._states.shown.get(name)
        news, changed, again_in = self._config_drift.look(name, seen)
        for concern in news:
            self._reporter.node(name, concern.code, f"Node {name}: {concern.sentence}")
        if changed and seen is not None:
            self._dispatcher.dispatch(lambda watches: watches.node_concerns(seen.offer.pool))
        return again_in
