"""GPU nodes as the NVIDIA operator leaves them, and the things that happen to them.

Purpose: builders give a :class:`GpuNode` (labels and numbers that belong together), :func:`add` puts it into a cluster
where KWOK makes it Ready, and the other functions play the device plugin, the MIG manager, the kubelet and the admin.

Invariants: a node is created with its status, as a kubelet registers one, so that KWOK never gets to fill in numbers of
its own; KWOK leaves extended resources alone afterwards. What the real components write separately is written
separately here, so that every in-between state can be had.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from e2e.harness.client import KubeClient, Object, eventually
from e2e.harness.kwok import FAKE_NODE, NOT_READY

GPU = "nvidia.com/gpu"
SHARED = "nvidia.com/gpu.shared"
STATE = "nvidia.com/mig.config.state"
CONFIG = "nvidia.com/mig.config"
OPERANDS = ("device-plugin", "gpu-feature-discovery", "dcgm", "dcgm-exporter", "nvsm")
PAUSED = "paused-for-mig-change"
BASE_RESOURCES = {"cpu": "128", "memory": "1Ti", "pods": "250", "ephemeral-storage": "1Ti"}


@dataclass(frozen=True)
class Profile:
    """One MIG profile of a board: MiB and multiprocessors as GPU feature discovery reports them."""

    memory: int
    multiprocessors: int
    slices: int


@dataclass(frozen=True)
class Board:
    """One GPU model."""

    product: str
    memory: int
    family: str
    compute: str
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    """The MIG profiles whose numbers are on public record; none for a board without MIG."""
    compute_slices: int = 7
    architecture: str = "amd64"


A30 = Board(
    product="NVIDIA-A30",
    memory=24576,
    family="ampere",
    compute="8.0",
    compute_slices=4,
    profiles={
        "1g.6gb": Profile(5952, 14, 1),
        "2g.12gb": Profile(11968, 28, 2),
        "4g.24gb": Profile(24000, 56, 4),
    },
)
A100_80GB = Board(
    product="NVIDIA-A100-SXM4-80GB",
    memory=81920,
    family="ampere",
    compute="8.0",
    profiles={
        "1g.10gb": Profile(9728, 14, 1),
        "1g.10gb.me": Profile(9728, 14, 1),
        "1g.20gb": Profile(19968, 14, 1),
        "2g.20gb": Profile(19968, 28, 2),
        "3g.40gb": Profile(40192, 42, 3),
        "4g.40gb": Profile(40192, 56, 4),
        "7g.80gb": Profile(80384, 98, 7),
    },
)
H100 = Board(
    product="NVIDIA-H100-80GB-HBM3",
    memory=81559,
    family="hopper",
    compute="9.0",
    profiles={
        "1g.10gb": Profile(9984, 16, 1),
        "1g.10gb.me": Profile(9984, 16, 1),
        "1g.20gb": Profile(20096, 26, 1),
        "2g.20gb": Profile(20096, 32, 2),
        "3g.40gb": Profile(40320, 60, 3),
        "4g.40gb": Profile(40320, 64, 4),
    },
)
T4 = Board(product="Tesla-T4", memory=15360, family="turing", compute="7.5")
L4 = Board(product="NVIDIA-L4", memory=23034, family="ada-lovelace", compute="8.9")


@dataclass(frozen=True)
class GpuNode:
    """A node to be: what it is labelled and what it advertises."""

    name: str
    labels: Mapping[str, str]
    resources: Mapping[str, int]
    allocatable: Mapping[str, int] | None = None
    """Left out: equal to ``resources``, which is the capacity."""
    taints: tuple[Mapping[str, str], ...] = ()
    architecture: str = "amd64"

    def manifest(self) -> Object:
        """The Node object, with the status that its kubelet would register it with."""
        hostname = {"kubernetes.io/hostname": self.name}
        system = {"kubernetes.io/os": "linux", "kubernetes.io/arch": self.architecture}
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": self.name,
                "labels": {**hostname, **system, **self.labels},
                "annotations": dict(FAKE_NODE),
            },
            "spec": {"taints": [dict(taint) for taint in self.taints]} if self.taints else {},
            "status": {
                "capacity": {**BASE_RESOURCES, **_quantities(self.resources)},
                "allocatable": {**BASE_RESOURCES, **_quantities(self.allocatable or self.resources)},
                "nodeInfo": _node_info(self.architecture),
            },
        }


def _quantities(resources: Mapping[str, int]) -> dict[str, str]:
    return {name: str(count) for name, count in resources.items()}


def _node_info(architecture: str) -> dict[str, str]:
    known = {"architecture": architecture, "operatingSystem": "linux", "kubeletVersion": "v1.36.3"}
    unknown = ("bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion", "machineID")
    return dict.fromkeys((*unknown, "osImage", "systemUUID"), "e2e") | known


# What a node looks like, by how its GPUs are divided.


def exclusive(name: str, board: Board = H100, gpus: int = 8) -> GpuNode:
    """Whole GPUs. A board that can do MIG says so, and that it is off."""
    labels = _labels(board, product=board.product, count=gpus, replicas=1)
    if board.profiles:
        labels |= {"nvidia.com/mig.strategy": "single", CONFIG: "all-disabled", STATE: "success"}
    return GpuNode(name, labels, {GPU: gpus}, architecture=board.architecture)


def mig_single(
    name: str, profile: str, board: Board = H100, gpus: int = 8, per_gpu: int | None = None
) -> GpuNode:
    """Every GPU cut into equal slices, which are advertised as plain ``nvidia.com/gpu``."""
    facts, count = board.profiles[profile], gpus * (per_gpu or _fits(board, profile))
    labels = _labels(board, product=f"{board.product}-MIG-{profile}", count=count, replicas=1)
    labels |= {
        "nvidia.com/gpu.memory": str(facts.memory),
        "nvidia.com/gpu.multiprocessors": str(facts.multiprocessors),
        "nvidia.com/gpu.slices.gi": str(facts.slices),
        "nvidia.com/gpu.slices.ci": str(facts.slices),
        "nvidia.com/mig.strategy": "single",
        CONFIG: f"all-{profile}",
        STATE: "success",
    }
    return GpuNode(name, labels, {GPU: count}, architecture=board.architecture)


def mig_mixed(
    name: str,
    profiles: Mapping[str, int],
    board: Board = H100,
    gpus: int = 8,
    *,
    whole: int = 0,
    config: str | None = None,
    old_plugin: bool = False,
) -> GpuNode:
    """GPUs cut as ``profiles`` says (slices on each cut GPU), ``whole`` of them left uncut.

    ``config`` is the name of the geometry; left out, it is ``all-PROFILE`` for a single one and ``custom`` else.
    An ``old_plugin`` (before 0.20) registers slices of a suffixed profile under the plain name; labels keep them apart.
    """
    cut = gpus - whole
    # Zero replicas say that no GPU is left to be had whole.
    labels = _labels(board, product=board.product, count=gpus, replicas=1 if whole else 0)
    if config is None:
        config = f"all-{next(iter(profiles))}" if len(profiles) == 1 and not whole else "custom"
    labels |= {"nvidia.com/mig.strategy": "mixed", CONFIG: config, STATE: "success"}
    resources = {GPU: whole} if whole else {}
    for profile, per_gpu in profiles.items():
        facts, resource = board.profiles[profile], f"nvidia.com/mig-{profile}"
        advertised_as = resource.removesuffix(".me") if old_plugin else resource
        resources[advertised_as] = resources.get(advertised_as, 0) + per_gpu * cut
        labels |= {
            f"{resource}.count": str(per_gpu * cut),
            f"{resource}.memory": str(facts.memory),
            f"{resource}.multiprocessors": str(facts.multiprocessors),
            f"{resource}.product": f"{board.product}-MIG-{profile}",
            f"{resource}.replicas": "1",
            f"{resource}.sharing-strategy": "none",
            f"{resource}.slices.gi": str(facts.slices),
            f"{resource}.slices.ci": str(facts.slices),
        }
    return GpuNode(name, labels, resources, architecture=board.architecture)


def time_slicing(
    name: str, replicas: int, board: Board = T4, gpus: int = 4, *, renamed: bool = False
) -> GpuNode:
    """Each GPU offered ``replicas`` times; ``renamed`` as ``nvidia.com/gpu.shared``."""
    product = board.product if renamed else f"{board.product}-SHARED"
    labels = _labels(board, product=product, count=gpus, replicas=replicas, sharing="time-slicing")
    resources = {SHARED if renamed else GPU: gpus * replicas}
    return GpuNode(name, labels, resources, architecture=board.architecture)


def mps(name: str, replicas: int, board: Board = L4, gpus: int = 1) -> GpuNode:
    """Each GPU shared by ``replicas`` clients of its MPS daemon."""
    labels = _labels(board, product=f"{board.product}-SHARED", count=gpus, replicas=replicas, sharing="mps")
    labels["nvidia.com/mps.capable"] = "true"
    return GpuNode(name, labels, {GPU: gpus * replicas}, architecture=board.architecture)


def _labels(
    board: Board, *, product: str, count: int, replicas: int, sharing: str = "none"
) -> dict[str, str]:
    major, minor = board.compute.split(".")
    return {
        "nvidia.com/gpu.present": "true",
        "nvidia.com/gpu.product": product,
        "nvidia.com/gpu.count": str(count),
        "nvidia.com/gpu.replicas": str(replicas),
        "nvidia.com/gpu.sharing-strategy": sharing,
        "nvidia.com/gpu.memory": str(board.memory),
        "nvidia.com/gpu.family": board.family,
        "nvidia.com/gpu.compute.major": major,
        "nvidia.com/gpu.compute.minor": minor,
        "nvidia.com/gpu.mode": "compute",
        "nvidia.com/mig.capable": "true" if board.profiles else "false",
        "nvidia.com/mps.capable": "false",
        "nvidia.com/vgpu.present": "false",
        **{f"nvidia.com/gpu.deploy.{operand}": "true" for operand in OPERANDS},
    }


def _fits(board: Board, profile: str) -> int:
    """How many of a profile one GPU holds: what both its compute slices and its memory allow."""
    facts = board.profiles[profile]
    return min(board.compute_slices // facts.slices, board.memory // facts.memory)


# What happens to nodes.


def add(client: KubeClient, *nodes: GpuNode, ready: bool = True) -> None:
    """Creates the nodes; with ``ready``, returns when KWOK has made all of them Ready and untainted."""
    for node in nodes:
        client.create(node.manifest())
    if ready:
        for node in nodes:
            check = functools.partial(_is_ready, client, node.name)
            eventually(check, f"node {node.name} is Ready")


def _is_ready(client: KubeClient, name: str, status: str = "True") -> bool:
    node = client.get("v1", "Node", name)
    tainted = any(
        taint["key"].startswith("node.kubernetes.io/not-ready") for taint in node["spec"].get("taints", [])
    )
    return _ready_condition(node) == status and tainted == (status != "True")


def _ready_condition(node: Object) -> str | None:
    conditions = node.get("status", {}).get("conditions") or []
    return next((c["status"] for c in conditions if c["type"] == "Ready"), None)


def advertise(
    client: KubeClient,
    name: str,
    capacity: Mapping[str, int | None],
    allocatable: Mapping[str, int | None] | None = None,
) -> None:
    """Plays the kubelet: sets these resources in the status and leaves the others; ``None`` removes a name."""
    status = {
        "capacity": _patch(capacity),
        "allocatable": _patch(capacity if allocatable is None else allocatable),
    }
    client.patch_status("v1", "Node", name, status)


def _patch(resources: Mapping[str, int | None]) -> dict[str, str | None]:
    return {name: None if count is None else str(count) for name, count in resources.items()}


def label(client: KubeClient, name: str, labels: Mapping[str, str | None]) -> None:
    """Sets these labels; ``None`` removes one."""
    client.patch("v1", "Node", name, {"metadata": {"labels": dict(labels)}})


def advertised(client: KubeClient, name: str) -> dict[str, int]:
    """The node's allocatable NVIDIA resources."""
    allocatable = client.get("v1", "Node", name)["status"].get("allocatable", {})
    return {key: int(value) for key, value in allocatable.items() if key.startswith("nvidia.com/")}


def plugin_gone(client: KubeClient, name: str) -> None:
    """The device plugin restarts: allocatable drops to zero, capacity and labels stay."""
    capacity = client.get("v1", "Node", name)["status"]["capacity"]
    zeros = {key: "0" for key in capacity if key.startswith("nvidia.com/")}
    client.patch_status("v1", "Node", name, {"allocatable": zeros})


def plugin_back(client: KubeClient, name: str) -> None:
    """The device plugin has registered again: allocatable equals capacity."""
    capacity = client.get("v1", "Node", name)["status"]["capacity"]
    own = {key: value for key, value in capacity.items() if key.startswith("nvidia.com/")}
    client.patch_status("v1", "Node", name, {"allocatable": own})


def cordon(client: KubeClient, name: str) -> None:
    """Unschedulable, as ``kubectl cordon`` does."""
    client.patch("v1", "Node", name, {"spec": {"unschedulable": True}})


def uncordon(client: KubeClient, name: str) -> None:
    """Schedulable again."""
    client.patch("v1", "Node", name, {"spec": {"unschedulable": None}})


def not_ready(client: KubeClient, name: str) -> None:
    """The kubelet fails: Ready turns False and the taint appears; stays so until :func:`ready`."""
    client.patch("v1", "Node", name, {"metadata": {"annotations": {NOT_READY: "true"}}})
    eventually(lambda: _is_ready(client, name, "False"), f"node {name} is NotReady")


def ready(client: KubeClient, name: str) -> None:
    """The kubelet is back."""
    client.patch("v1", "Node", name, {"metadata": {"annotations": {NOT_READY: None}}})
    eventually(lambda: _is_ready(client, name), f"node {name} is Ready again")


def remove(client: KubeClient, *names: str) -> None:
    """The nodes are gone from the cluster."""
    for name in names:
        client.delete("v1", "Node", name)


# Repartitioning, as a timeline of what the real components write one after the other.


@dataclass(frozen=True)
class Step:
    """One moment of a repartition: ``None`` stands for a label or a resource that goes."""

    name: str
    labels: Mapping[str, str | None] = field(default_factory=dict)
    capacity: Mapping[str, int | None] = field(default_factory=dict)
    allocatable: Mapping[str, int | None] | None = None

    def apply(self, client: KubeClient, node: str) -> None:
        """Writes it, labels before numbers, as they come from different programs."""
        if self.labels:
            label(client, node, self.labels)
        if self.capacity or self.allocatable:
            advertise(client, node, self.capacity, self.allocatable)


def repartition(before: GpuNode, after: GpuNode) -> Iterator[Step]:
    """From one way of dividing to another, with the states between them that deceive.

    ``asked`` (the new config beside the old ``success``), ``pending``, ``plugin-gone``, ``applied`` (``success`` again,
    with nothing allocatable), ``registered`` (the new numbers beside the old labels) and ``discovered`` (all agree).
    """
    old, new = before.resources, after.resources
    yield Step("asked", labels={CONFIG: after.labels.get(CONFIG)})
    deploy = [f"nvidia.com/gpu.deploy.{operand}" for operand in OPERANDS]
    yield Step("pending", labels={STATE: "pending", **dict.fromkeys(deploy, PAUSED)})
    yield Step("plugin-gone", capacity=old, allocatable=dict.fromkeys(old, 0))
    yield Step("applied", labels={STATE: "success", **dict.fromkeys(deploy, "true")})
    # A kubelet keeps the capacity of a name that is no longer offered for five minutes, with nothing allocatable.
    yield Step("registered", capacity={**old, **new}, allocatable={**dict.fromkeys(old, 0), **new})
    stale = {key: None for key in before.labels if key not in after.labels}
    yield Step("discovered", labels={**stale, **after.labels})


def unhealthy(node: GpuNode, boards: int = 1) -> GpuNode:
    """The same node with an XID on some of its boards, each of which costs one device of each name.

    So does NVIDIA's device plugin: the other shares of a dead board stay allocatable.
    """
    return replace(node, allocatable={name: count - boards for name, count in node.resources.items()})


def lost(before: GpuNode, after: GpuNode) -> GpuNode:
    """A node whose boards became fewer: labels and allocatable follow, the kubelet's capacity stays."""
    return replace(after, resources=before.resources, allocatable=after.resources)
