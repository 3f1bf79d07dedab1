"""Many nodes -> pools, with what each advertises.

A pool is the set of nodes with the same base model and the same way of dividing it. Every node is in exactly
one pool, so two flavors never match one node. The inventory keeps sums per pool; one changed node costs work
in its own pool only.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from slicewise.api import keys
from slicewise.api.policy import matches
from slicewise.gpu.strategies import Strategy
from slicewise.inventory import planned_geometry
from slicewise.inventory.gpu_operator import Configs
from slicewise.inventory.node import Node, Taint
from slicewise.inventory.node_devices import PublishedDevices
from slicewise.inventory.node_resources import Offer, Resource
from slicewise.inventory.node_state import CUSTOMARY, CountedNode, NodeRules, standing
from slicewise.inventory.planned_geometry import NO_CONFIGS
from slicewise.inventory.pool_name import UNKNOWN


class Unsettled(msgspec.Struct, frozen=True):
    """A node whose numbers are not (or not yet) what it shows, and why."""

    node: str
    reason: str


class Pool(msgspec.Struct, frozen=True):
    """A pool: its members that are counted, and the sum of what they offer by resource name."""

    name: str
    strategy: Strategy
    models: tuple[str, ...]
    resources: Mapping[str, Resource]
    members: tuple[CountedNode, ...]
    unsettled: tuple[Unsettled, ...]

    @property
    def model(self) -> str:
        """The base model, as its nodes' product labels have it (the first, where packaging differs)."""
        return self.models[0] if self.models else UNKNOWN

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes that are counted."""
        return tuple(member.name for member in self.members)

    @property
    def sources(self) -> tuple[str, ...]:
        """Where the facts of its nodes come from, sorted: `dra`, `gpu-feature-discovery`, a cloud …"""
        return tuple(sorted({member.source for member in self.members if member.source}))

    @property
    def taints(self) -> tuple[Taint, ...]:
        """The lasting taints of its nodes."""
        if not self.members:
            return ()
        first, *rest = self.members
        return tuple(taint for taint in first.taints if all(taint in member.taints for member in rest))

    def is_model(self, globs: Iterable[str]) -> bool:
        """True when a model of the pool matches one of the globs; no globs match any model."""
        patterns = tuple(globs)
        return not patterns or any(matches(model, patterns) for model in self.models)

    def document(self) -> dict[str, Any]:
        """The pool as `slicewise pools -o json` prints it."""
        return {
            "name": self.name,
            "strategy": str(self.strategy),
            "model": self.model,
            "sources": list(self.sources),
            "nodes": list(self.nodes),
            "resources": {name: resource.quantity for name, resource in sorted(self.resources.items())},
            "unsettled": [{"node": each.node, "reason": each.reason} for each in self.unsettled],
        }


def _sum(name: str, standings: Iterable[CountedNode]) -> Pool:
    everyone = tuple(standings)
    members = tuple([each for each in everyone if each.offer is not None])
    unsettled = tuple([Unsettled(each.name, each.reason) for each in everyone if each.reason])
    models = tuple(sorted({each.model for each in everyone}))
    strategy = (members or everyone)[0].strategy
    return Pool(name, strategy, models, _resources(members), members, unsettled)


def _resources(members: Iterable[CountedNode]) -> dict[str, Resource]:
    """Returns what nodes offer together; of the memory of one unit the least holds for all."""
    # Nodes of a pool are mostly alike, so that there are few different offers to add up.
    alike = Counter([each.offer.resources for each in members if each.offer is not None])
    found: dict[str, Resource] = {}
    for resources, nodes in alike.items():
        for each in resources:
            known = found.get(each.name)
            quantity = nodes * each.quantity + (known.quantity if known else 0)
            memory = min(
                (m for m in (each.memory, known.memory if known else None) if m is not None), default=None
            )
            found[each.name] = msgspec.structs.replace(known or each, quantity=quantity, memory=memory)
    return {key: each for key, each in sorted(found.items()) if each.quantity}


def _alike(old: CountedNode, new: CountedNode) -> bool:
    """True where nothing counts otherwise. The label that we write on a node only says which pool it is in."""
    if old.labels == new.labels or msgspec.structs.replace(old, labels=new.labels) != new:
        return old == new
    before, now = ({**each.labels, keys.POOL: ""} for each in (old, new))
    return before == now


class Inventory:
    """What the cluster offers now: nodes by name, pools summed on demand and kept until one of them changes."""

    def __init__(
        self,
        nodes: Iterable[Node] = (),
        configs: Configs = NO_CONFIGS,
        rules: NodeRules = CUSTOMARY,
        devices: PublishedDevices | None = None,
    ) -> None:
        self.configs = configs
        """What is planned for nodes."""
        self.devices = devices or PublishedDevices()
        """What DRA publishes; whoever changes it looks at the nodes again."""
        self._rules = rules
        self._standings: dict[str, CountedNode] = {}
        self._members: dict[str, dict[str, CountedNode]] = {}
        self._pools: dict[str, Pool] = {}
        self.revision = 0
        """Grows with every change; equal revisions mean equal pools, but for our own label on their nodes."""
        for node in nodes:
            self.see(node)

    def see(self, node: Node) -> frozenset[str]:
        """Takes in one node as it is now; returns the names of the pools that this changed."""
        seen = planned_geometry.observe(node, self.configs, self._rules, self.devices.of(node.name))
        return self.put(node.name, standing(seen) if seen else None)

    def put(self, name: str, new: CountedNode | None) -> frozenset[str]:
        """Replaces what is known of one node (None: it is gone or has no GPU); returns the pools changed."""
        old = self._standings.get(name)
        if old is new:
            return frozenset()
        if old is not None and new is not None and _alike(old, new):
            # The newest is kept, so that nothing is in memory that only the former look had.
            self._standings[name] = self._members[new.pool][name] = new
            self._pools.pop(new.pool, None)
            return frozenset()
        changed = set()
        if old is not None:
            changed.add(old.pool)
            del self._standings[name]
            members = self._members[old.pool]
            del members[name]
            if not members:
                del self._members[old.pool]
        if new is not None:
            changed.add(new.pool)
            self._standings[name] = new
            self._members.setdefault(new.pool, {})[name] = new
        for pool in changed:
            self._pools.pop(pool, None)
        self.revision += 1
        return frozenset(changed)

    def names(self) -> frozenset[str]:
        """Returns the names of all pools."""
        return frozenset(self._members)

    def pool(self, name: str) -> Pool | None:
        """Returns one pool; None when no node is in it."""
        if name not in self._members:
            return None
        if name not in self._pools:
            members = self._members[name]
            self._pools[name] = _sum(name, (members[node] for node in sorted(members)))
        return self._pools[name]

    def __iter__(self) -> Iterator[Pool]:
        """Yields every pool, by name."""
        for name in sorted(self._members):
            pool = self.pool(name)
            if pool is not None:
                yield pool


__all__ = ["CountedNode", "Inventory", "Offer", "Pool", "Unsettled"]
