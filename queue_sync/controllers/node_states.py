"""Every node's belief, and the pools that they make.

Invariants
- Until every node that was listed has been judged once, there are no sums.
- A list without any node is not believed before the hold-down has passed: a filter, a lost permission or a broken
  store look exactly so, and an empty list is never a zero.
- What counts of a node is given out once the node itself says so, for else a process that ends in between forgets that
  it counted, and no hold begins. Where that cannot be written, it is given out a second later all the same.
- Time comes from one clock that only goes forward: the cluster's, which every process that leads agrees on.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from queue_sync.planning.node_trust import NodeState, Settings, evaluate
from queue_sync.planning.quota import Number, Numbers
from slicewise.api import keys
from slicewise.inventory import planned_geometry
from slicewise.inventory.gpu_operator import Configs
from slicewise.inventory.node import Node
from slicewise.inventory.node_annotation import PersistedOffer, read_offer_annotation
from slicewise.inventory.node_devices import PublishedDevices
from slicewise.inventory.node_resources import Offer
from slicewise.inventory.node_state import Observation
from slicewise.inventory.pools import Inventory
from slicewise.kube.clock import ClusterClock

ANNOTATED_FIRST: Final = 1.0
"""Seconds for which what a node newly offers waits until the node is annotated with it, at most."""


@dataclass(frozen=True, slots=True)
class _Unannotated:
    """What counts of a node beyond what the node says."""

    units: Numbers
    since: float
    given: bool
    """True where no queue waits for the node any more: it was given out late, or is with the first quota."""


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What one look at one node came to."""

    node: Node | None
    belief: NodeState
    pools: frozenset[str]
    """Pools whose sums this changed."""
    needs_annotation: bool
    """True when label or annotation on the node do not say what is believed."""
    news: str
    """Why the node's numbers are not what counts, when that is new; else ""."""
    again_in: float | None
    """Seconds after which time alone may change the judgement."""


class NodeStates:
    """Nodes by name; `look` is called for each change, and when time is up."""

    def __init__(
        self,
        nodes: Mapping[str, Node],
        settings: Settings,
        clock: ClusterClock,
        devices: PublishedDevices | None = None,
    ) -> None:
        self.pools = Inventory()
        self.shown: dict[str, Observation] = {}
        self.configs: Configs = planned_geometry.NO_CONFIGS
        """What is planned for nodes, as far as it is known."""
        self.complete = False
        """True once every node was judged."""
        self._devices = devices or PublishedDevices()
        self._nodes = nodes
        self._settings = settings
        self._clock = clock
        self._beliefs: dict[str, NodeState] = {}
        self._uids: dict[str, str] = {}
        self._empty_since: float | None = None
        self._unannotated: dict[str, _Unannotated] = {}

    @property
    def nodes_believed(self) -> bool:
        """True when what is offered is known: every node was judged, and that there are none would be believed."""
        return self.complete and not self.empty_list_grace()

    def empty_list_grace(self) -> float:
        """For how many seconds more a list without nodes is not believed; 0 while there are nodes."""
        if self._nodes:
            self._empty_since = None
            return 0.0
        if self._empty_since is None:
            self._empty_since = self._clock()
        return max(0.0, self._empty_since + self._settings.hold_down - self._clock())

    def belief(self, name: str) -> NodeState | None:
        """What is believed of a node."""
        return self._beliefs.get(name)

    def known(self) -> frozenset[str]:
        """Nodes that are there, or were when they were last looked at."""
        return frozenset(self._nodes) | frozenset(self._beliefs)

    def look(self, name: str) -> NodeResult:
        """Judges one node as it is now."""
        node = self._nodes.get(name)
        before = self._beliefs.get(name)
        blind = self.empty_list_grace()
        if node is None and before is not None and blind:
            return NodeResult(None, before, frozenset(), False, "", blind)
        if node is not None and self._uids.get(name, node.metadata.uid) != node.metadata.uid:
            before = None
        seen = self.observe(node) if node is not None else None
        now = self._clock()
        belief = evaluate(before, seen, now, self._settings)
        self._remember(name, node, seen, belief)
        changed = self.pools.put(name, belief.standing(seen) if seen is not None else None)
        annotated = self._note(name, seen, belief, now)
        former = before.reason if before else ""
        news = belief.reason if seen is not None and belief.reason != former else ""
        again_in = None if belief.look_at is None else max(0.0, belief.look_at - now) + 0.001
        less = before is not None and _beyond(belief.counted, before.counted)
        if self.complete and self.is_unannotated(name) and not less:
            changed = frozenset()  # nobody gets any of it before that: plans are looked at then
            late_in = max(0.0, self._unannotated[name].since + ANNOTATED_FIRST - now) + 0.001
            again_in = late_in if again_in is None else min(again_in, late_in)
        needs_annotation = node is not None and self._differs(node, seen.kept if seen is not None else None)
        return NodeResult(node, belief, changed | annotated, needs_annotation, news, again_in)

    def unannotated(self) -> Numbers:
        """What counts of nodes that do not say so yet, each for a while; of all of them together."""
        since, found = self._clock() - ANNOTATED_FIRST, Counter[Number]()
        for each in self._unannotated.values():
            if each.since > since:
                found.update(each.units)
        return found

    def is_unannotated(self, name: str) -> bool:
        """True for one of these nodes."""
        found = self._unannotated.get(name)
        return found is not None and found.since > self._clock() - ANNOTATED_FIRST

    def _note(self, name: str, seen: Observation | None, belief: NodeState, now: float) -> frozenset[str]:
        """Notes what counts of a node beyond what it says; returns the pool of which more is given out now."""
        before = self._unannotated.pop(name, None)
        kept = seen.kept if seen is not None else None
        units = _beyond(kept.offer if kept is not None else None, belief.counted)
        pool = frozenset({belief.counted.pool}) if belief.counted is not None else frozenset[str]()
        if units:
            known = before if before is not None and before.units == units else None
            since = known.since if known is not None else now
            late = self.complete and since <= now - ANNOTATED_FIRST
            given = late or not self.complete or (known is not None and known.given)
            self._unannotated[name] = _Unannotated(units, since, given)
            return pool if late else frozenset()
        waited = before is not None and (not before.given or before.since > now - ANNOTATED_FIRST)
        return pool if waited else frozenset()

    def needs_annotation(self, node: Node) -> bool:
        """True when label or annotation on the node do not say what is believed of it."""
        return self._differs(node, read_offer_annotation(node))

    def _differs(self, node: Node, kept: PersistedOffer | None) -> bool:
        """True when a node that keeps this offer does not say what is believed of it."""
        belief = self._beliefs.get(node.name)
        if belief is None:
            return keys.POOL in node.labels
        return node.labels.get(keys.POOL) != belief.label or kept != belief.kept

    def observe(self, node: Node) -> Observation | None:
        """Reads one node as it is now, beside what is planned and published for it; None where it has no GPU."""
        devices = self._devices.of(node.name)
        return planned_geometry.observe(node, self.configs, self._settings.rules, devices)

    def _remember(self, name: str, node: Node | None, seen: Observation | None, belief: NodeState) -> None:
        if node is None or seen is None:
            self._beliefs.pop(name, None)
            self._uids.pop(name, None)
            self.shown.pop(name, None)
            return
        self._beliefs[name] = belief
        self._uids[name] = node.metadata.uid
        self.shown[name] = seen


def _beyond(known: Offer | None, counted: Offer | None) -> Numbers:
    """How much more of each number is counted than is known."""
    if counted is None:
        return {}
    former = known.quantities if known is not None and known.pool == counted.pool else {}
    return {
        (counted.pool, resource): units - former.get(resource, 0)
        for resource, units in counted.quantities.items()
        if units > former.get(resource, 0)
    }
