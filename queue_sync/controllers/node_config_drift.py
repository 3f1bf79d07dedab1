"""What is planned for nodes, as the files of the GPU operator's namespace say it, and which nodes are not as planned.

The files are read anew, a moment after they changed, and every node is looked at again. What may be over by itself is
told after it has stood for a while; what cannot come right by waiting is told at once.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import ClassVar, Final

from queue_sync.controllers.node_states import NodeStates
from queue_sync.controllers.reconciler import DONE, Reconciler, Result
from queue_sync.controllers.watches import Dispatcher, Watches
from queue_sync.informers.optional import OptionalInformers
from queue_sync.metrics.registry import Sample
from slicewise.inventory import planned_geometry
from slicewise.inventory.gpu_operator import Configs, collect
from slicewise.inventory.node_state import Observation
from slicewise.inventory.planned_geometry import Concern
from slicewise.kube.clock import Timing
from slicewise.kube.workqueue import QueueSettings, WorkQueue

logger = logging.getLogger(__name__)
_FILES: Final = "files"
_SETTINGS: Final = QueueSettings(window=0.5, max_wait=2.0)
NODES: Final = 200


class NodeConfigDrift(Reconciler):
    """The one key stands for all files."""

    name: ClassVar = "node_config_drift"

    def __init__(
        self,
        advisory: OptionalInformers,
        settle: float,
        states: NodeStates,
        dispatcher: Dispatcher,
        timing: Timing,
    ) -> None:
        self.queue: WorkQueue[str] = WorkQueue(_SETTINGS, timing)
        self._advisory, self._settle, self._states = advisory, settle, states
        self._dispatcher, self._timing = dispatcher, timing
        self._complaints: frozenset[str] = frozenset()
        self._since: dict[str, dict[Concern, float]] = {}
        self._told: dict[str, frozenset[Concern]] = {}

    def watches(self) -> Watches:
        """Any file."""
        return Watches(config_map=lambda: (_FILES,))

    def read(self) -> None:
        """Reads the files, and tells when they say something else than before."""
        maps = self._advisory.config_maps
        found, complaints = (
            collect(maps.store[name] for name in sorted(maps.store)) if maps else (Configs(), ())
        )
        for complaint in complaints:
            if complaint not in self._complaints:
                logger.warning("a configuration cannot be used", extra={"words": complaint})
        self._complaints = frozenset(complaints)
        if found != self._states.configs:
            self._states.configs = found
            self._dispatcher.dispatch(lambda watches: watches.planned_geometry())

    def look(self, name: str, seen: Observation | None) -> tuple[tuple[Concern, ...], bool, float | None]:
        """Notes what is to be said of a node: what is new of it, if anything changed, and when to look again."""
        now = self._timing.now()
        before = self._since.pop(name, {})
        found = planned_geometry.concerns(seen, self._states.configs) if seen is not None else ()
        since = {concern: before.get(concern, now) for concern in found}
        due = {concern: at + (self._settle if concern.passing else 0.0) for concern, at in since.items()}
        told = frozenset(concern for concern, at in due.items() if at <= now)
        known = self._told.pop(name, frozenset())
        if since:
            self._since[name] = since
        if told:
            self._told[name] = told
        waits = [at - now for at in due.values() if at > now]
        return tuple(sorted(told - known)), told != known, min(waits) + 0.001 if waits else None

    def told(self) -> Mapping[str, list[str]]:
        """By node, what has been told and still stands."""
        return {name: [concern.sentence for concern in sorted(told)] for name, told in self._told.items()}

    def samples(self) -> Iterator[Sample]:
        """Yields the nodes that are not as planned."""
        found = sorted({(name, concern.code) for name, told in self._told.items() for concern in told})
        yield (
            "slicewise_node_not_as_planned",
            f"1 for each node that is not, or cannot become, what its configuration says, {NODES} at most.",
            ("node", "reason"),
            [(key, 1.0) for key in found[:NODES]],
        )

    async def reconcile(self, _: str) -> Result:
        """Reads the files again."""
        self.read()
        return DONE
