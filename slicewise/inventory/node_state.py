"""One look at a Node: what it advertises now, every doubt about that, and what counts of it without a clock."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from slicewise.api import keys
from slicewise.api.quantities import MOST, QuantityError, count
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.node import Node, Taint
from slicewise.inventory.node_annotation import PersistedOffer, read_offer_annotation
from slicewise.inventory.node_devices import NodeDevices
from slicewise.inventory.node_resources import Division, Doubt, Offer, division_of, offer_of
from slicewise.inventory.pool_name import UNKNOWN, PoolName
from slicewise.inventory.sources import NOBODY, Facts, facts_of
from slicewise.inventory.sources.dra import DRIVER, SOURCE
from slicewise.inventory.sources.gpu_feature_discovery import INVALID, OperatorLabels, operator_labels
from slicewise.inventory.taints import lasting, passing

# Who else divides boards, by a prefix of its resources or annotations: Project-HAMi/HAMi (charts/hami/values.yaml),
# volcano-sh/devices, and the pages of Alibaba Cloud (cGPU), Tencent Cloud (qGPU) and Huawei Cloud (xGPU).
SHARERS: Final = {
    "volcano.sh/vgpu-": "volcano-vgpu-device-plugin",
    "volcano.sh/gpu-": "Volcano's or Huawei Cloud's GPU sharing",
    "nvidia.com/gpumem": "HAMi",
    "nvidia.com/gpucores": "HAMi",
    "hami.io/": "HAMi",
    "aliyun.com/gpu-": "Alibaba Cloud's cGPU",
    "tke.cloud.tencent.com/qgpu-": "Tencent Cloud's qGPU",
}


class NodeRules(msgspec.Struct, frozen=True):
    """What an installation says of its nodes, the same for webhook, controller and command."""

    vouched: bool = False
    """True for `--unlabelled exclusive`: a plain device of which nothing says what it is counts as a whole board."""
    transient_taints: tuple[str, ...] = ()
    """Taints, beside the customary ones, of nodes that are leaving or not there yet (`--transient-taints`)."""
    largest_maximum: int = MOST
    """The most devices of one name that a plan's `maximum` may promise of a pool (`--largest-maximum`)."""


CUSTOMARY: Final = NodeRules()
_AGREED: Final = Doubt("", "")


class Observation(msgspec.Struct, frozen=True, gc=False):
    """One look at a GPU node.

    `offer` is what the node advertises now, believed or not (quantities may be zero during a plugin's
    restart); `agreed` is the part of it for which labels and capacity agree.
    """

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    """The lasting ones."""
    offer: Offer
    agreed: Offer
    doubts: tuple[Doubt, ...]
    kept: PersistedOffer | None
    other: Mapping[str, str | int | float] = {}
    """Allocatable of everything that is no NVIDIA device: cpu, memory and so on."""
    facts: Facts = NOBODY
    """What the node's source says."""
    operator: OperatorLabels = OperatorLabels()
    """What an admin asks of the GPU operator for the node."""
    remark: str = ""
    """What of the node's devices does not count, beside others that do, and why."""

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
        reason = "; ".join(words for words in (reason, self.remark) if words)
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
            self.facts.source,
        )


def observe_status(
    node: Node, rules: NodeRules = CUSTOMARY, devices: NodeDevices | None = None
) -> Observation | None:
    """Reads one node; None when it has nothing to do with NVIDIA GPUs.

    Never raises: a quantity that cannot be read is a doubt of its own.

    Args:
        node: the node.
        rules: what the installation says of its nodes.
        devices: what a DRA driver publishes for it. The scheduler gives a pod devices of that only where the node's
            allocatable has none of the name, so a node whose device plugin serves anything is read by its status.
    """
    kept = read_offer_annotation(node)
    malformed: list[Doubt] = []
    try:
        capacity = _devices(node.status.capacity)
        allocatable = _devices(node.status.allocatable)
    except QuantityError as error:
        capacity, allocatable = {}, {}
        malformed.append(
            Doubt(
                "malformed",
                f"a quantity in the node's status cannot be read: {error}; see what writes it beside the kubelet",
            )
        )
    if devices is not None and not allocatable and not malformed:
        return _published(node, rules, devices, kept)
    facts, operator = facts_of(node.labels), operator_labels(node.labels)
    if not (
        capacity
        or (kept and kept.offer.resources)
        or malformed
        or facts.source
        or operator.present
        or operator.dra_deployed
    ):
        return None
    capacity = {name: n for name, n in capacity.items() if not _lingers(name, capacity, allocatable, facts)}
    division = division_of(
        node, facts, capacity, allocatable, vouched=rules.vouched, transient_taints=rules.transient_taints
    )
    offer = division.offer()
    disagreeing = division.disagreements() if capacity else {}
    remarks: list[str] = []
    if offer.names - {keys.GPU} and disagreeing.get(keys.GPU, _AGREED).code == "unlabelled":
        remarks.append(disagreeing.pop(keys.GPU).words)  # names that say themselves count beside it
    remarks += [
        f"{name} says that {allocatable[name]} can be allocated of a capacity of {number}, so the capacity "
        "counts; restart the device plugin on the node, from which the kubelet has both"
        for name, number in capacity.items()
        if allocatable.get(name, 0) > number
    ]
    doubts = (
        *malformed,
        *_condition_doubts(node, rules),
        *_mig_doubts(operator, division),
        *(() if malformed else _foreign_doubts(node, operator, division, disagreeing)),
        *disagreeing.values(),
    )
    agreed = offer_of(
        offer.pool,
        offer.model,
        offer.strategy,
        tuple(r for r in offer.resources if r.name not in disagreeing),
    )
    if devices is not None:
        remarks.append(
            "the device plugin serves this node, so what its ResourceSlices publish is not counted"
        )
    return Observation(
        node.name,
        node.labels,
        division.taints,
        offer,
        agreed,
        doubts,
        kept,
        _other(node),
        division.facts,
        operator,
        "; ".join(remarks),
    )


def _published(
    node: Node, rules: NodeRules, devices: NodeDevices, kept: PersistedOffer | None
) -> Observation:
    """Reads a node whose devices a DRA driver hands out: its labels say nothing of them, its conditions do."""
    taints = lasting(node.taints, rules.transient_taints)
    strategies = {resource.strategy for resource in devices.resources}
    strategy = strategies.pop() if len(strategies) == 1 else Strategy.MIG
    if devices.model:
        pool = PoolName.of(devices.model, devices.division, taints).format()
        offer = Offer(pool, devices.model, strategy, devices.resources)
    elif kept is not None:
        offer = msgspec.structs.replace(kept.offer, resources=())
    else:
        offer = Offer(PoolName.of(UNKNOWN, Strategy.EXCLUSIVE, taints).format(), UNKNOWN, strategy, ())
    doubts = (*_condition_doubts(node, rules), *devices.doubts)
    facts = Facts(source=SOURCE, model=devices.model)
    return Observation(
        node.name,
        node.labels,
        taints,
        offer,
        offer,
        doubts,
        kept,
        _other(node),
        facts,
        operator_labels(node.labels),
        devices.remark,
    )


def _other(node: Node) -> dict[str, str | int | float]:
    """Allocatable of everything that is no NVIDIA device."""
    return {
        name: quantity
        for name, quantity in (node.status.allocatable or {}).items()
        if not name.startswith(keys.VENDOR) and isinstance(quantity, str | int | float)
    }


class CountedNode(msgspec.Struct, frozen=True, gc=False):
    """What counts of a node at this moment, for everybody who reads nodes without keeping time."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    """The lasting ones."""
    pool: str
    """The pool that the node is in or, while it is not believed, the one that it would be in."""
    offer: Offer | None
    """What is counted; None when nothing is."""
    reason: str
    """Why what the node advertises is not (or not yet) what is counted; "" when it is."""
    model: str
    strategy: Strategy
    other: Mapping[str, str | int | float] = {}
    """Allocatable of everything that is no NVIDIA device, for plans that cover cpu and memory too."""
    source: str = ""
    """Whose word its numbers are, `dra` or the module in `slicewise.inventory.sources`; "" where nobody says."""


ZERO: Final = "nothing of it is allocatable, as while its device plugin or DRA driver restarts"


def standing(seen: Observation) -> CountedNode:
    """Judges one observation without a clock: the kept belief counts as long as the annotation stands.

    A settled node counts as it is seen; only the same names in smaller numbers are held at the kept ones,
    because a plugin's restart looks exactly so.
    """
    kept = seen.kept.offer if seen.kept and seen.kept.offer.resources else None
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


def _condition_doubts(node: Node, rules: NodeRules) -> Iterable[Doubt]:
    if node.metadata.deletion_timestamp:
        yield Doubt("deleting", "the node is being deleted")
    if not node.ready:
        yield Doubt("not-ready", "the node is not Ready")
    if node.spec.unschedulable:
        yield Doubt("cordoned", "the node is cordoned")
    for taint in node.taints:
        cordon = taint.key == "node.kubernetes.io/unschedulable" and node.spec.unschedulable
        if not cordon and (words := passing(taint, rules.transient_taints)):
            yield Doubt("taint", words)


def _mig_doubts(operator: OperatorLabels, division: Division) -> Iterable[Doubt]:
    state = operator.mig_state or "success"
    if state == "failed":
        yield Doubt("mig-failed", "nvidia.com/mig.config.state is failed: the geometry is undefined", True)
    elif state != "success":
        yield Doubt("mig-state", f"nvidia.com/mig.config.state is {state}, not success", True)
    if operator.paused:
        yield Doubt("paused", "operands are paused-for-mig-change", True)
    if division.facts.profile == INVALID:
        yield Doubt(
            "invalid", "nvidia.com/gpu.product says MIG-INVALID: the boards are not divided alike", True
        )
    if foreign := division.foreign_models():
        yield Doubt(
            "two-models",
            f"the node has boards of more than one model ({division.facts.model or 'unknown'}, {', '.join(foreign)}), "
            "which its labels cannot tell apart; give each node boards of one model",
        )
    # A failed change differs from what was asked for by what it is; what it left is judged by its numbers.
    if state != "failed" and (mismatch := division.config_mismatch(operator.mig_config)):
        yield Doubt("config", mismatch, True)


def _foreign_doubts(
    node: Node, operator: OperatorLabels, division: Division, disagreeing: Mapping[str, Doubt]
) -> Iterable[Doubt]:
    """Names what else hands out the boards of a node, where its numbers are not those of NVIDIA's device plugin."""
    status = {**(node.status.capacity or {}), **(node.status.allocatable or {})}
    names = (*status, *(node.metadata.annotations or {}))
    if disagreeing or not division.capacity:
        for prefix, sharer in SHARERS.items():
            if any(name.startswith(prefix) for name in names):
                words = f"{sharer} divides the boards of this node under names of its own; leave it to that"
                yield Doubt("sharing-of-others", words)
                return
    if division.capacity:
        return
    passed = [name for name in status if name.startswith(keys.VENDOR) and not keys.is_device(name)]
    if operator.passthrough or passed:
        yield Doubt(
            "passthrough",
            "the node gives its boards to virtual machines, not to containers "
            f"({', '.join(sorted(passed)) or keys.WORKLOAD_CONFIG})",
        )
    elif dra := operator.dra_deployed:
        yield Doubt(
            "no-slices",
            f"a DRA driver hands out the boards of this node ({dra}=true), and no ResourceSlice of {DRIVER} is known "
            "for it; look at the driver's pod on the node, and have a snapshot hold the ResourceSlices",
        )
    elif not operator.plugin_deployed:
        yield Doubt(
            "plugin-off",
            f"the device plugin is switched off on this node ({keys.PLUGIN_DEPLOYED}=false), and no ResourceSlice of "
            f"{DRIVER} is known for it; take the label off, or install the DRA driver",
        )
    elif division.facts.source or operator.present:
        yield Doubt(
            "no-devices",
            "the node has an NVIDIA GPU and advertises no device: its driver or device plugin does not run; look at "
            "their pods on the node, or at those of a DRA driver, of which no ResourceSlice of "
            f"{DRIVER} is known",
        )


def _lingers(name: str, capacity: Mapping[str, int], allocatable: Mapping[str, int], facts: Facts) -> bool:
    """True for a name of the division before: nothing of it can be allocated, and the labels give it nothing.

    The kubelet keeps the capacity of a name that its plugin gave up for 5 minutes (kubernetes
    `pkg/kubelet/cm/devicemanager/types.go`), long after a repartition may be done. A plugin that restarts shows zero
    for all names.
    """
    if name in allocatable or not facts.says_plain:
        return False
    plain = name.removesuffix(keys.SHARED_SUFFIX)
    twin = plain if plain != name else name + keys.SHARED_SUFFIX
    if twin in allocatable:
        return True
    if name.startswith(keys.MIG_PREFIX):
        # Slices that no label lists are of the division before, whatever else there is.
        return plain.removeprefix(keys.MIG_PREFIX) not in facts.slices and twin not in capacity
    return bool(allocatable) and facts.replicas == 0


def _devices(resources: Mapping[str, object] | None) -> dict[str, int]:
    """Returns the positive NVIDIA device counts; zero keys linger for a Node's life and mean nothing.

    Raises:
        QuantityError: one cannot be read; the message names the resource.
    """
    found = {}
    for name, quantity in (resources or {}).items():
        if keys.is_device(name):
            try:
                number = count(quantity)
            except QuantityError as error:
                raise QuantityError(f"{name}: {error}") from None
            if number:
                found[name] = number
    return found
