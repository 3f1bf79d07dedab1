"""One look at a Node: what it advertises now, every doubt about that, and what counts of it without a clock."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from slicewise.api import keys
from slicewise.api.quantities import QuantityError, count
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.node import Node, Taint
from slicewise.inventory.node_annotation import PersistedOffer, read_offer_annotation
from slicewise.inventory.node_resources import Doubt, Facts, Offer

# Cluster Autoscaler and Karpenter put these on a node that they are about to remove.
_DELETION_TAINTS: Final = frozenset(
    {"ToBeDeletedByClusterAutoscaler", "karpenter.sh/disruption", "karpenter.sh/disrupted"}
)
_NODE_TAINT: Final = "node.kubernetes.io/"


class Observation(msgspec.Struct, frozen=True):
    """One look at a GPU node.

    `offer` is what the node advertises now, believed or not (quantities may be zero during a plugin's
    restart); `agreed` is the part of it for which labels and capacity agree.
    """

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    offer: Offer
    agreed: Offer
    doubts: tuple[Doubt, ...]
    kept: PersistedOffer | None
    other: Mapping[str, str | int] = {}
    """Allocatable of everything that is no NVIDIA device: cpu, memory and so on."""

    @property
    def settled(self) -> bool:
        """True when nothing speaks against the numbers."""
        return not self.doubts

    @property
    def reason(self) -> str:
        """The doubts in one line."""
        return "; ".join(doubt.words for doubt in self.doubts)

    def counting(self, offer: Offer | None, reason: str) -> "CountedNode":
        """What counts of the node, where that is `offer`, and why it is not what the node shows."""
        shown = offer or self.offer
        return CountedNode(
            self.name,
            self.labels,
            self.taints,
            shown.pool,
            offer,
            reason,
            shown.model,
            shown.strategy,
            self.other,
        )


def observe(node: Node) -> Observation | None:
    """Reads one node; None when it has nothing to do with NVIDIA GPUs.

    Never raises: a quantity that cannot be read is a doubt of its own.
    """
    kept = read_offer_annotation(node)
    labels = node.labels
    try:
        capacity = _devices(node.status.capacity)
        allocatable = _devices(node.status.allocatable)
    except QuantityError as error:
        capacity, allocatable = {}, {}
        malformed = [Doubt("malformed", f"a quantity in the node's status cannot be read: {error}")]
    else:
        malformed = []
    if not capacity and kept is None and keys.PRODUCT not in labels and not malformed:
        return None
    capacity = {n: q for n, q in capacity.items() if n in allocatable or not _lingers(n, labels)}
    facts = Facts(labels, capacity)
    offer = facts.offer(allocatable)
    disagreeing = facts.disagreements()
    doubts = (*malformed, *_condition_doubts(node), *_mig_doubts(facts), *disagreeing.values())
    agreed = Offer(
        offer.pool,
        offer.model,
        offer.strategy,
        tuple(r for r in offer.resources if r.name not in disagreeing),
    )
    other = {
        name: quantity
        for name, quantity in (node.status.allocatable or {}).items()
        if not name.startswith(keys.VENDOR)
    }
    return Observation(node.name, labels, node.taints, offer, agreed, tuple(doubts), kept, other)


class CountedNode(msgspec.Struct, frozen=True):
    """What counts of a node at this moment, for everybody who reads nodes without keeping time."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    pool: str
    """The pool that the node is in or, while it is not believed, the one that it would be in."""
    offer: Offer | None
    """What is counted; None when nothing is."""
    reason: str
    """Why what the node advertises is not (or not yet) what is counted; "" when it is."""
    model: str
    strategy: Strategy
    other: Mapping[str, str | int] = {}
    """Allocatable of everything that is no NVIDIA device, for plans that cover cpu and memory too."""


ZERO: Final = "its allocatable is zero, as while a device plugin restarts"


def standing(seen: Observation) -> CountedNode:
    """Judges one observation without a clock: the kept belief counts as long as the annotation stands.

    A settled node counts as it is seen; only the same names in smaller numbers are held at the kept ones,
    because a plugin's restart looks exactly so.
    """
    kept = seen.kept.offer if seen.kept else None
    if not seen.settled:
        return seen.counting(kept, seen.reason)
    if kept and kept.same_division(seen.offer):
        return seen.counting(*hold(kept, seen.offer))
    if seen.offer.positive:
        return seen.counting(seen.offer, "")
    return seen.counting(kept, ZERO)


def hold(kept: Offer, seen: Offer) -> tuple[Offer, str]:
    """Returns the larger quantity of each name, and in words what was held; both offer the same names."""
    before = kept.quantities
    held = [r.name for r in seen.resources if r.quantity < before[r.name]]
    if not held:
        return seen, ""
    resources = tuple(
        msgspec.structs.replace(r, quantity=max(r.quantity, before[r.name])) for r in seen.resources
    )
    now = seen.quantities
    words = ", ".join(f"{name} fell from {before[name]} to {now[name]}" for name in held)
    return Offer(seen.pool, seen.model, seen.strategy, resources), f"{words}; the former number is held"


def _condition_doubts(node: Node) -> Iterable[Doubt]:
    if node.metadata.deletion_timestamp:
        yield Doubt("deleting", "the node is being deleted")
    if not node.ready:
        yield Doubt("not-ready", "the node is not Ready")
    if node.spec.unschedulable:
        yield Doubt("cordoned", "the node is cordoned")
    for taint in node.taints:
        if taint.key.startswith(_NODE_TAINT) and not (
            taint.key == _NODE_TAINT + "unschedulable" and node.spec.unschedulable
        ):
            yield Doubt("taint", f"the node has the taint {taint.key}")
        elif taint.key in _DELETION_TAINTS:
            yield Doubt("taint", f"the taint {taint.key} says that the node is about to be removed")


def _mig_doubts(facts: Facts) -> Iterable[Doubt]:
    state = facts.labels.get(keys.MIG_CONFIG_STATE, "success")
    if state == "failed":
        yield Doubt("mig-failed", "nvidia.com/mig.config.state is failed: the geometry is undefined", True)
    elif state != "success":
        yield Doubt("mig-state", f"nvidia.com/mig.config.state is {state}, not success", True)
    if keys.PAUSED_FOR_MIG in facts.labels.values():
        yield Doubt("paused", "operands are paused-for-mig-change", True)
    if facts.product_profile == "INVALID":
        yield Doubt(
            "invalid", "nvidia.com/gpu.product says MIG-INVALID: the boards are not divided alike", True
        )
    # A failed change differs from what was asked for by what it is; what it left is judged by its numbers.
    if state != "failed" and (mismatch := facts.config_mismatch()):
        yield Doubt("config", mismatch, True)


def _lingers(name: str, labels: Mapping[str, str]) -> bool:
    """True for slices that no label lists any more. None being allocatable, they are of the division before.

    The kubelet keeps the capacity of a name that its plugin gave up for 5 minutes (kubernetes
    `pkg/kubelet/cm/devicemanager/types.go`), long after a repartition may be done.
    """
    listed = f"{name.removesuffix(keys.SHARED_SUFFIX)}.count"
    return name.startswith(keys.MIG_PREFIX) and keys.PRODUCT in labels and listed not in labels


def _devices(resources: Mapping[str, str | int] | None) -> dict[str, int]:
    """Returns the positive NVIDIA device counts; zero keys linger for a Node's life and mean nothing."""
    found = {}
    for name, quantity in (resources or {}).items():
        if keys.is_device(name):
            number = count(quantity)
            if number:
                found[name] = number
    return found
