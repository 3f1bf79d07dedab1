"""Nodes whose numbers are not what counts, and why. A name that lingers with 0 is no finding: kubelets do that."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from queue_sync.planning.ownership import ours
from slicewise.api import keys
from slicewise.api.quantities import count
from slicewise.cli.doctor.cluster import Patient
from slicewise.cli.doctor.findings import Finding, parted
from slicewise.gpu import mig
from slicewise.inventory import planned_geometry
from slicewise.inventory.node import Node
from slicewise.inventory.node_state import SHARERS, Observation, standing
from slicewise.inventory.pool_name import UNKNOWN
from slicewise.inventory.sources.facts import HAND_SET
from slicewise.kube.object_types import FLAVOR

# Well beyond the hold-down of 6 minutes, after which the controller takes the kept belief away.
TOO_LONG: Final = timedelta(minutes=15)
_MEANT: Final = frozenset({"cordoned", "deleting"})
_LEAVE: Final = "Nothing to do, if that is meant."
_STRATEGY: Final = "Set the MIG strategy to mixed or single, or ask for nvidia.com/mig.config=all-disabled."
_WAIT: Final = "Wait for its device plugin; docs/nodes.md says when a node is believed."
# What to do where a node is not believed, by the doubt.
_FIXES: Final = {
    "not-ready": "Find out why its kubelet is not Ready: kubectl describe node {node}.",
    "taint": "Wait until the node is there, or gone.",
    "mig-state": "Look at the MIG manager's log on the node; a pod that uses a board keeps it from dividing it.",
    "mig-without-strategy": _STRATEGY,
    "paused": "Restart the MIG manager's pod on the node.",
    "config": "Wait for GPU feature discovery, or correct the node's label nvidia.com/mig.config.",
    "two-models": "Give each node boards of one model.",
    "sharing-of-others": _LEAVE,
    "passthrough": _LEAVE,
    "no-slices": "Look at the DRA driver's pod there: kubectl get pods -A --field-selector spec.nodeName={node}.",
    "plugin-off": "Take the label off, or install the DRA driver (docs/dra.md).",
    "no-devices": "Look at its driver and device plugin: kubectl get pods -A --field-selector spec.nodeName={node}.",
    "missing-board": "Look at the log of the driver there: kubectl get pods -A --field-selector spec.nodeName={node}.",
    "undescribed": f"Set {HAND_SET} on the node pool (docs/clouds.md).",
    "label": "Correct the label on the node, or in what writes it.",
    "count": "Restart the device plugin and GPU feature discovery there, if the numbers still differ in a minute.",
}
_CONTROLLER: Final = (
    "Look at the controller: kubectl -n slicewise-system logs deployment/slicewise-controller."
)


def check(patient: Patient) -> Iterator[Finding]:
    """Every node that has to do with GPUs; that there is none is a finding, unless a plan declares nodes to come."""
    if patient.saw("Node") and not patient.gpu_nodes and not patient.pools:
        yield Finding(
            "NoGPUNode",
            "Node",
            "(all)",
            f"none of {len(patient.snapshot.nodes)} nodes has an NVIDIA GPU that is advertised or labelled",
            "Install NVIDIA's GPU operator or device plugin; where an autoscaler makes nodes, declare them in a plan.",
        )
    flavors = {
        str((item["spec"].get("nodeLabels") or {}).get(keys.POOL, ""))
        for item in patient.snapshot.of(FLAVOR)
        if ours(item)
    }
    for node, seen in patient.gpu_nodes:
        concerns = {concern.code for concern in planned_geometry.concerns(seen, patient.configs)}
        if "ImpossibleGeometry" in concerns and {doubt.code for doubt in seen.doubts} == {"config"}:
            continue  # `configurations` says why it is not believed
        found = list(_doubts(node, seen, patient.now))
        yield from found[:1]
        if not found:
            yield from _models(seen)
            yield from _lost(node)
            yield from _offered_twice(node)
            yield from _suffixed(seen)
            yield from _label(node, seen, flavors)


def _of(node: Node, code: str, sentence: str, fix: str) -> Finding:
    return Finding(code, "Node", node.name, sentence, fix)


def _doubts(node: Node, seen: Observation, now: datetime) -> Iterator[Finding]:
    """What is wrong with a node, most telling first."""
    codes = {doubt.code for doubt in seen.doubts}
    if "malformed" in codes:
        yield _of(
            node, "NodeUnusable", seen.reason, "Look at status.capacity and status.allocatable of the node."
        )
    if "unlabelled" in codes:
        fix = (
            f"Set {HAND_SET} on the node pool, or vouch for whole boards with --unlabelled exclusive "
            "(docs/clouds.md)."
        )
        yield _of(node, "NodeUnlabelled", seen.reason, fix)
    if "mig-without-strategy" in codes or _undivided(seen):
        sentence = "MIG is on, and the device plugin's strategy none hands out each board as if it were whole"
        yield _of(node, "NodeStrategyNone", sentence, _STRATEGY)
    if "invalid" in codes:
        fix = "Strategy single needs all boards divided alike: choose one all-… configuration, or strategy mixed."
        yield _of(node, "NodeInvalidGeometry", seen.reason, fix)
    if "mig-failed" in codes:
        fix = (
            "Look at the MIG manager's log on the node; a pod that uses a board makes the change fail. "
            "What labels and capacity agree on counts after the hold-down."
        )
        yield _of(node, "NodeGeometryFailed", seen.reason, fix)
    yield from _unsettled(node, seen, codes, now)


def _unsettled(node: Node, seen: Observation, codes: set[str], now: datetime) -> Iterator[Finding]:
    counted = standing(seen)
    if not counted.reason:
        return
    if seen.settled and counted.offer == seen.offer:
        yield _of(node, "NodePartlyCounted", *parted(counted.reason))
        return
    if counted.offer is None:
        if codes and codes <= _MEANT:
            yield _of(
                node,
                "NodeHeld",
                f"nothing of it counts: {counted.reason}",
                _LEAVE,
            )
        else:
            fix = next((_FIXES[each.code] for each in seen.doubts if each.code in _FIXES), _WAIT)
            yield _of(
                node, "NodeNotBelieved", f"nothing of it counts: {counted.reason}", fix.format(node=node.name)
            )
        return
    since = _moment(seen.kept.held_since if seen.kept else "")
    if since is not None and now - since > TOO_LONG:
        sentence = f"held since {since:%Y-%m-%d %H:%M} UTC, far longer than any hold-down: {counted.reason}"
        yield _of(node, "NodeHeldTooLong", sentence, _CONTROLLER)
    else:
        yield _of(
            node, "NodeHeld", f"what it offered before counts: {counted.reason}", "Wait for the hold-down."
        )


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.astimezone(UTC)


def _undivided(seen: Observation) -> bool:
    """True where slices were made and the plugin's strategy `none` gives out boards nevertheless."""
    operator = seen.operator
    return (
        operator.mig_strategy in {"", "none"}
        and operator.mig_state == "success"
        and mig.parse(operator.mig_config.removeprefix("all-")) is not None
        and seen.facts.says_plain
        and bool(seen.offer.resources)
        and not any(resource.profile for resource in seen.offer.resources)
    )


def _models(seen: Observation) -> Iterator[Finding]:
    shown, board = seen.offer.model, mig.board_of(seen.offer.model)
    kept = seen.kept.offer.model if seen.kept else UNKNOWN
    others = [other for other in mig.boards().values() if other is not board]
    foreign = ""
    for resource in seen.offer.resources:
        profile = mig.parse(resource.profile) if resource.profile else None
        if board and profile and not board.placement(profile) and any(o.placement(profile) for o in others):
            foreign = profile.name
    sentence = ""
    if UNKNOWN not in {kept, shown} and kept != shown:
        sentence = f"it was believed to have {kept} and now shows {shown}"
    elif foreign:
        sentence = f"it shows slices {foreign}, which a {shown} does not have"
    if sentence:
        fix = "Two models on one node are not supported: their labels overwrite each other. Use boards of one model."
        yield Finding("NodeTwoModels", "Node", seen.name, sentence, fix)


def _lost(node: Node) -> Iterator[Finding]:
    """Devices that the kubelet knows and nobody can get: the plugin calls them unhealthy, as after an XID."""
    allocatable = node.status.allocatable or {}
    lost = [
        f"{capacity - left} of {capacity} {name}"
        for name, quantity in sorted((node.status.capacity or {}).items())
        if keys.is_device(name)
        for capacity, left in ((count(quantity), count(allocatable.get(name, 0))),)
        if 0 < left < capacity  # a name at 0 is one that was given up
    ]
    if lost:
        sentence = f"{', '.join(lost)} cannot be allocated, and do not count"
        fix = "Look at the device plugin's log on the node, and at the driver's for XIDs: an unhealthy board is one."
        yield _of(node, "NodeDevicesLost", sentence, fix)


def _offered_twice(node: Node) -> Iterator[Finding]:
    """Boards that something else hands out beside the plugin whose numbers count."""
    for name, quantity in sorted((node.status.allocatable or {}).items()):
        for prefix, sharer in SHARERS.items():
            if name.startswith(prefix) and str(quantity) != "0":
                sentence = f"{sharer} offers its boards too, as {name}: neither side knows what the other has given out"
                fix = "Run only one of the two device plugins on a node."
                yield _of(node, "NodeOfferedTwice", sentence, fix)
                return


def _suffixed(seen: Observation) -> Iterator[Finding]:
    """Slices of suffixed profiles that the node's plugin gives out under the plain name, as plugins before 0.20 do."""
    hidden = [
        dotted
        for dotted, slices in seen.facts.slices.items()
        if slices.count
        and (profile := mig.parse(dotted))
        and profile.attributes
        and not any(resource.profile == dotted for resource in seen.offer.resources)
    ]
    if hidden:
        names = ", ".join(sorted(hidden))
        sentence = (
            f"its device plugin gives out slices {names} under the plain name, so nobody can ask for one"
        )
        fix = "Upgrade the device plugin to 0.20 or later (GPU operator 26.7), which gives each profile its own name."
        yield Finding("PluginHidesProfiles", "Node", seen.name, sentence, fix)


def _label(node: Node, seen: Observation, flavors: set[str]) -> Iterator[Finding]:
    label, pool = node.labels.get(keys.POOL), standing(seen).pool
    if label == pool or (label is None and pool not in flavors):
        return
    shown = f"is {label}" if label is not None else "is missing"
    sentence = f"its label {keys.POOL} {shown}, and the node is in pool {pool}: flavors and pods miss it"
    yield _of(node, "NodePoolLabelStale", sentence, _CONTROLLER)
