"""What is believed of a node, written on the node as its label and annotation; quota never waits for this."""

from typing import ClassVar, Final

from queue_sync.controllers.node_states import NodeStates
from queue_sync.controllers.reconciler import DONE, LONGEST_BACKOFF, Reconciler, Result
from queue_sync.controllers.watches import Watches
from queue_sync.metrics.registry import Metrics
from queue_sync.writer import STALE_RETRY, StaleError, Writer
from slicewise.inventory.node import Node
from slicewise.kube.clock import Timing
from slicewise.kube.informer import Informer
from slicewise.kube.workqueue import QueueSettings, WorkQueue

SETTINGS: Final = QueueSettings(first_backoff=0.1, most_backoff=LONGEST_BACKOFF)


class NodeAnnotations(Reconciler):
    """A key is a node's name."""

    name: ClassVar = "marks"
    workers: ClassVar = 4

    def __init__(
        self, nodes: Informer[Node], states: NodeStates, writer: Writer, metrics: Metrics, timing: Timing
    ) -> None:
        self.queue: WorkQueue[str] = WorkQueue(SETTINGS, timing)
        self._nodes, self._states, self._writer, self._metrics = nodes, states, writer, metrics

    def watches(self) -> Watches:
        """Nodes that do not say what is believed of them."""
        return Watches(node_annotation=lambda name: (name,))

    async def reconcile(self, name: str) -> Result:
        """Writes on one node. Raises KubeError."""
        node = self._nodes.store.get(name)
        if node is None or not self._states.needs_annotation(node):
            return DONE
        outcome = "failed"
        try:
            await self._writer.annotate_node(node, self._states.belief(name), self._nodes.version(name))
            outcome = "done"
        except StaleError:
            outcome = "stale"
            return Result(
                STALE_RETRY
            )  # the watch will say what changed; should that come to nothing, this does
        finally:
            self._metrics.writes.labels("Node", "update", outcome).inc()
        return DONE
