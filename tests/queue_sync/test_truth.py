"""Random nodes, plugins, admins and API events against a model of the truth.

The controller is played by its pure functions, one write at a time, so that it can be killed between any two. The
model knows what every board really offers; at each change nothing is promised beyond what nodes once offered, sums are
exact, and no flavor or name leaves while a Workload holds it; at the end, when all is quiet, quota equals the truth.
"""

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from queue_sync.planning.changes import Change
from queue_sync.planning.desired import desired
from queue_sync.planning.engine import PlanCache
from queue_sync.planning.kueue.objects import nominal
from queue_sync.planning.node_trust import NodeState, Settings, evaluate
from queue_sync.planning.observed import Object, ObservedState, QuotaUsage, Workload, copied, project
from queue_sync.planning.plan_diff import desired_of
from slicewise.api import keys
from slicewise.inventory.node_annotation import write_offer_annotation
from slicewise.inventory.planned_geometry import observe
from slicewise.inventory.pools import Inventory
from slicewise.kube.object_types import STANDING, kind_of
from tests.queue_sync.scenes import GPU, H100, exclusive, mixed, node, plan, read_node, sliced

SETTINGS = Settings(settle=60.0, hold_down=360.0)
SHARES = {"team-a": 3, "team-b": 1}
PLAN = plan(queues=SHARES)
WAYS = ["whole", "seven", "split", "shared"]


def divided(name: str, way: str) -> Object:
    """A node that is divided in one of the ways."""
    if way == "whole":
        return exclusive(name, gpus=8)
    if way == "seven":
        return mixed(name, {"1g.10gb": 7})
    if way == "split":
        return mixed(name, {"3g.40gb": 1, "4g.40gb": 1})
    return sliced(name, gpus=2)


class Truth(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_800_000_000.0
        self.nodes: dict[str, Object] = {}
        self.ways: dict[str, str] = {}
        self.sick: set[str] = set()
        self.ever: dict[str, dict[tuple[str, str], int]] = {}
        self.use = QuotaUsage()
        self.held: dict[str, tuple[str, str]] = {}
        self.existing = ObservedState({kind: {} for kind in STANDING}, self.use)
        self.restart()

    @initialize()
    def begin(self) -> None:
        self.add("n0", "seven")

    # --- the controller, as far as it has no network ---

    def restart(self) -> None:
        """Everything but what stands in the cluster is forgotten."""
        self.beliefs: dict[str, NodeState] = {}
        self.inventory = Inventory()
        self.known = PlanCache()

    @rule()
    def kill(self) -> None:
        self.restart()

    def look(self) -> None:
        """Judges every node and writes labels and annotations."""
        for name in list(self.beliefs):
            if name not in self.nodes:
                del self.beliefs[name]
                self.inventory.put(name, None)
        for name, document in self.nodes.items():
            seen = observe(read_node(document))
            if seen is None:
                self.beliefs.pop(name, None)
                self.inventory.put(name, None)
                continue
            belief = evaluate(self.beliefs.get(name), seen, self.now, SETTINGS)
            self.beliefs[name] = belief
            self.inventory.put(name, belief.standing(seen))
            notes, labels = document["metadata"]["annotations"], document["metadata"]["labels"]
            notes.pop(keys.OFFER, None)
            labels.pop(keys.POOL, None)
            if belief.kept is not None:
                notes[keys.OFFER] = write_offer_annotation(belief.kept)
            if belief.label is not None:
                labels[keys.POOL] = belief.label

    def changes(self) -> tuple[Change, ...]:
        found = desired([PLAN], self.inventory, {"lab": {}}, self.existing)
        # What the controller remembers from pass to pass makes it quicker, and changes nothing.
        assert desired_of(PLAN, self.inventory, {"lab": {}}, self.existing, self.known) == found
        return found.changes

    def write(self, change: Change) -> None:
        store: Any = self.existing.of(kind_of(change.document))
        name = change.document["metadata"]["name"]
        if change.after is None:
            assert not self.use.holds_flavor(name)
            assert all(
                (name, r) not in nominal(q) for q in self.existing.cluster_queues.values() for r in [GPU]
            )
            del store[name]
            return
        if change.document["kind"] == "ClusterQueue":
            flavors = {flavor for flavor, _ in nominal(change.after)}
            assert flavors <= self.existing.flavors.keys()
        store[name] = project(change.after)

    @rule(writes=st.integers(0, 6))
    def work(self, writes: int) -> None:
        """The controller gets as far as so many writes before something else happens."""
        self.look()
        for change in self.changes()[:writes]:
            self.write(change)

    @rule()
    def work_to_the_end(self) -> None:
        self.look()
        for _ in range(6):
            changes = self.changes()
            for change in changes:
                self.write(change)
            if not changes:
                break
        assert not self.changes()
        self.sums_are_exact()

    def sums_are_exact(self) -> None:
        for pool in self.inventory:
            for name, resource in pool.resources.items():
                total = sum(nominal(q)[(pool.name, name)] for q in self.existing.cluster_queues.values())
                assert total == resource.quantity

    # --- the world ---

    def show(self, name: str, document: Object) -> None:
        """Replaces what a node shows; what the controller wrote on it stays."""
        old = self.nodes.get(name)
        if old is not None:
            for part, key in (("annotations", keys.OFFER), ("labels", keys.POOL)):
                if key in old["metadata"][part]:
                    document["metadata"][part][key] = old["metadata"][part][key]
        self.nodes[name] = document
        seen = observe(read_node(document))
        if seen is not None:
            most = self.ever.setdefault(name, {})
            for resource, quantity in seen.offer.quantities.items():
                pair = (seen.offer.pool, resource)
                most[pair] = max(most.get(pair, 0), quantity)

    @rule(name=st.sampled_from(["n0", "n1", "n2"]), way=st.sampled_from(WAYS))
    def add(self, name: str, way: str) -> None:
        if name not in self.nodes:
            self.ways[name] = way
            self.ever.pop(name, None)
            # Another node of the same name has another uid, which is how the controller tells.
            self.beliefs.pop(name, None)
            self.inventory.put(name, None)
            self.show(name, divided(name, way))

    @precondition(lambda self: self.nodes)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.nodes)))
        del self.nodes[name], self.ways[name]
        self.sick.discard(name)

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), trouble=st.sampled_from(["ready", "cordoned", "plugin", "labels", "silent"]))
    def trouble(self, data: st.DataObject, trouble: str) -> None:
        """The kubelet, an admin, the device plugin or feature discovery makes the numbers unbelievable."""
        name = data.draw(st.sampled_from(sorted(self.nodes)))
        whole = divided(name, self.ways[name])
        labels, status = whole["metadata"]["labels"], whole["status"]
        capacity = {k: int(v) for k, v in status["capacity"].items() if k.startswith(keys.VENDOR)}
        if trouble == "ready":
            status["conditions"][0]["status"] = "Unknown"
        elif trouble == "cordoned":
            whole["spec"]["unschedulable"] = True
        elif trouble == "plugin":
            whole = node(name, labels, dict.fromkeys(capacity, 0), capacity=capacity)
        elif trouble == "silent":
            whole = node(name, labels, {})
        else:
            whole = node(name, {keys.PRODUCT: H100, keys.COUNT: "1", keys.REPLICAS: "1"}, capacity)
        self.sick.add(name)
        self.show(name, whole)

    @precondition(lambda self: self.sick)
    @rule(data=st.data())
    def recover(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.sick)))
        self.sick.discard(name)
        self.show(name, divided(name, self.ways[name]))

    @precondition(lambda self: self.nodes)
    @rule(data=st.data(), way=st.sampled_from(WAYS), finished=st.booleans())
    def repartition(self, data: st.DataObject, way: str, finished: bool) -> None:  # noqa: FBT001
        name = data.draw(st.sampled_from(sorted(self.nodes)))
        old = divided(name, self.ways[name])
        self.ways[name] = way
        if finished:
            self.sick.discard(name)
            self.show(name, divided(name, way))
        else:
            self.sick.add(name)
            old["metadata"]["labels"][keys.MIG_CONFIG_STATE] = "pending"
            self.show(name, old)

    @rule(seconds=st.sampled_from([0.5, 30, 61, 200, 361]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(data=st.data())
    def admit(self, data: st.DataObject) -> None:
        """Kueue admits a Workload where there is quota left."""
        free = [
            (queue, flavor, resource)
            for queue, document in sorted(self.existing.cluster_queues.items())
            for (flavor, resource), units in sorted(nominal(document).items())
            if units > self.use.reserved[(queue, flavor, resource)]
        ]
        if not free or len(self.held) > 3:
            return
        queue, flavor, resource = data.draw(st.sampled_from(free))
        name = f"w{len(self.held)}-{int(self.now)}-{queue}"
        document = {
            "metadata": {"name": name, "namespace": "lab"},
            "status": {
                "conditions": [{"type": "Admitted", "status": "True"}],
                "admission": {
                    "clusterQueue": queue,
                    "podSetAssignments": [{"flavors": {resource: flavor}, "resourceUsage": {resource: "1"}}],
                },
            },
        }
        self.use.put(name, msgspec.convert(document, Workload))
        self.held[name] = (queue, flavor)

    @precondition(lambda self: self.held)
    @rule()
    def finish(self) -> None:
        name = next(iter(self.held))
        del self.held[name]
        self.use.put(name, None)

    @rule(queue=st.sampled_from(sorted(SHARES)))
    def meddle(self, queue: str) -> None:
        """An admin edits what is ours."""
        if queue not in self.existing.cluster_queues:
            return
        stores: Any = self.existing.cluster_queues
        stores[queue] = document = copied(stores[queue])
        for group in document["spec"]["resourceGroups"]:
            group["flavors"][0]["resources"][0]["nominalQuota"] = "99"

    # --- what must always hold ---

    @invariant()
    def nothing_is_promised_beyond_what_nodes_offered(self) -> None:
        for pool in self.inventory:
            for member in pool.members:
                for resource in member.offer.resources if member.offer else ():
                    known = self.ever[member.name]
                    assert resource.quantity <= known.get((pool.name, resource.name), 0)

    @invariant()
    def what_is_held_stays_visible(self) -> None:
        for queue, flavor, resource in self.use.reserved:
            assert (flavor, resource) in nominal(self.existing.cluster_queues[queue])
            assert flavor in self.existing.flavors

    def teardown(self) -> None:
        """When all is quiet, quota equals the truth."""
        for name in sorted(self.sick):
            self.show(name, divided(name, self.ways[name]))
        self.look()
        for pause in (61, 361):
            self.now += pause
            self.look()
        self.held.clear()
        for key in list(self.use.keys()):
            self.use.put(key, None)
        self.work_to_the_end()
        truth: dict[tuple[str, str], int] = {}
        for document in self.nodes.values():
            seen = observe(read_node(document))
            assert seen is not None
            for resource, quantity in seen.offer.quantities.items():
                truth[(seen.offer.pool, resource)] = truth.get((seen.offer.pool, resource), 0) + quantity
        quota: dict[tuple[str, str], int] = {}
        for document in self.existing.cluster_queues.values():
            for pair, units in nominal(document).items():
                quota[pair] = quota.get(pair, 0) + units
        assert {pair: units for pair, units in quota.items() if units} == truth
        assert self.existing.flavors.keys() == {pool for pool, _ in truth}
        super().teardown()


Truth.TestCase.settings = settings(stateful_step_count=40)
TestTruth = Truth.TestCase
