"""What is believed of a node, written on the node as its label and annotation; `NodeStates` says who waits for it."""

from typing import ClassVar, Final

from queue_sync.controllers.node_states import NodeStates
from queue_sync.controllers.reconciler import DONE, LONGEST_BACKOFF, Reconciler, Result, internal_error
from queue_sync.controllers.watches import Watches
from queue_sync.metrics.registry import Metrics
from queue_sync.planning.changes import Change, key_of
from queue_sync.planning.edit_conflicts import EditConflicts
from queue_sync.planning.observed import Object
from queue_sync.status.events import EventReporter
from queue_sync.writer import STALE_RETRY, StaleError, Writer
from slicewise.api import keys
from slicewise.inventory.node import Node
from slicewise.inventory.node_annotation import PersistedOffer, write_offer_annotation
from slicewise.kube.clock import Timing
from slicewise.kube.informer import Informer
from slicewise.kube.workqueue import QueueSettings, WorkQueue

_Says = tuple[str | None, PersistedOffer | None]
"""Label and annotation."""
_OURS: Final = f"{keys.POOL} or {keys.OFFER}"
_STOP: Final = "stop the other writer, because pods are steered by the label"
SETTINGS: Final = QueueSettings(first_backoff=0.1, most_backoff=LONGEST_BACKOFF)


class NodeAnnotations(Reconciler):
    """A key is a node's name."""

    name: ClassVar = "node_annotations"
    workers: ClassVar = 8

    def __init__(
        self,
        nodes: Informer[Node],
        states: NodeStates,
        writer: Writer,
        reporter: EventReporter,
        metrics: Metrics,
        timing: Timing,
    ) -> None:
        self.queue: WorkQueue[str] = WorkQueue(SETTINGS, timing)
        self._nodes, self._states, self._writer = nodes, states, writer
        self._reporter, self._metrics = reporter, metrics
        self._wrote: dict[str, tuple[str, _Says]] = {}
        """By name the node's uid, since one that comes anew was edited by nobody, and what it was given to say."""
        self._rivals = EditConflicts(timing.now)
        self._left: set[str] = set()
        """Nodes on which somebody else's edit is left as it is for now."""
        self._late: set[str] | None = set()
        """Nodes that wait until the first quota is written; None from then on."""

    def watches(self) -> Watches:
        """Nodes that do not say what is believed of them, and those that are gone."""
        return Watches(
            node_annotation=lambda name: (name,),
            node=lambda change: (change.key,) if change.new is None else (),
        )

    def go_on(self) -> None:
        """The first quota is written: what no quota waits for has its turn."""
        late, self._late = self._late or (), None
        for name in late:
            self.queue.add(name)

    async def reconcile(self, name: str) -> Result:
        """Writes on one node. Raises KubeError."""
        if self._late is not None and not self._states.is_unannotated(name):
            self._late.add(name)
            return DONE
        node, belief = self._nodes.store.get(name), self._states.belief(name)
        if node is None:
            self._forget(name)
            return DONE
        if not self._states.needs_annotation(node):
            return DONE
        says = (belief.label, belief.kept) if belief is not None else (None, None)
        wrote = (node.metadata.uid, says)
        put_back = _put_back(node, *says) if self._wrote.get(name) == wrote else None
        if put_back is not None:
            self._rivals.right(key_of(put_back.document), put_back.document, put_back.document)
            if left := self._rivals.paused_for(put_back):
                self._tell(name)
                return Result(left)
        outcome = "failed"
        try:
            await self._writer.annotate_node(node, belief, self._nodes.version(name))
            outcome = "done"
        except StaleError:
            outcome = "stale"
            # The watch will say what changed; should that come to nothing, this does.
            return Result(STALE_RETRY)
        finally:
            self._metrics.writes.labels("Node", "update", outcome).inc()
        self._wrote[name] = wrote
        self._left.discard(name)
        if put_back is not None and self._rivals.wrote(put_back):
            self._metrics.put_back.labels("Node", name).inc()
            sentence = f"Node {name}: somebody else wrote {_OURS}, and it was put back; {_STOP}"
            self._reporter.node(name, "PutBack", sentence)
        return DONE

    def failed(self, name: str, error: Exception) -> None:
        """Says on the node that nobody foresaw this error."""
        self._reporter.node(name, "InternalError", f"Node {name}: {internal_error(error)}")

    def _tell(self, name: str) -> None:
        if name not in self._left:
            self._left.add(name)
            sentence = (
                f"Node {name}: somebody else keeps writing {_OURS}, so their edit is left for some "
                f"minutes and then put back again; {_STOP}"
            )
            self._reporter.node(name, "WriteConflict", sentence)

    def _forget(self, name: str) -> None:
        self._wrote.pop(name, None)
        self._left.discard(name)
        self._rivals.forget(("Node", name))


def _put_back(node: Node, label: str | None, kept: PersistedOffer | None) -> Change:
    """What a node says of our belief, and what it was given to say."""

    def saying(label: str | None, offer: str | None) -> Object:
        return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node.name}, "spec": (label, offer)}

    said = saying(node.labels.get(keys.POOL), (node.metadata.annotations or {}).get(keys.OFFER))
    wanted = saying(label, write_offer_annotation(kept) if kept is not None else None)
    return Change("", said, wanted, wanted)
