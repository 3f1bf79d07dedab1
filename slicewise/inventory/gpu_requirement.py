"""What one pod template wants of the pools.  Pure."""

from enum import StrEnum

import msgspec

from slicewise.api import keys
from slicewise.api.policy import WorkloadClass
from slicewise.api.quantities import mebibytes
from slicewise.gpu import mig
from slicewise.gpu.strategies import MultiGPU, Strategy
from slicewise.inventory.node import Taint


class Toleration(msgspec.Struct, frozen=True):
    """A pod's toleration."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""

    def covers(self, taint: Taint) -> bool:
        """True when it tolerates the taint (kubernetes, component-helpers/scheduling/corev1)."""
        if self.effect not in {"", taint.effect} or self.key not in {"", taint.key}:
            return False
        return self.operator == "Exists" or (bool(self.key) and self.value == taint.value)


GPU_TOLERATION = Toleration(**keys.TOLERATION)
"""Every pod that is decided gets it."""


class Stage(StrEnum):
    """When a container runs."""

    MAIN = "main"
    INIT = "init"
    SIDECAR = "sidecar"
    """An init container with `restartPolicy: Always`."""


class ContainerRequest(msgspec.Struct, frozen=True):
    """What one container asks for."""

    gpus: int = 0
    """How many `nvidia.com/gpu`, whose name is to be chosen."""
    named: tuple[tuple[str, int], ...] = ()
    """Slices and shares that it names itself."""
    stage: Stage = Stage.MAIN


class GpuRequirement(msgspec.Struct, frozen=True):
    """What one template wants of the pools."""

    strategies: tuple[Strategy, ...]
    """To be tried in this order."""
    containers: tuple[ContainerRequest, ...] = (ContainerRequest(1),)
    """Those that ask for GPUs, slices or shares; init containers in their order."""
    memory: int | None = None
    """Least MiB."""
    profile: str = ""
    """An exact MIG profile, dotted."""
    models: tuple[str, ...] = ()
    """Globs on a node's model; none: any."""
    multi_gpu: MultiGPU | None = None
    profile_is_explicit: bool = False
    """True when the workload names the profile itself: more than one is then `each`."""
    spill: bool = True
    """True when pools with larger units of the chosen name serve too."""
    tolerations: tuple[Toleration, ...] = ()
    every_node: bool = False
    """True when a pod is made on every node that matches, as a DaemonSet's is: it is always steered."""

    @property
    def counts(self) -> frozenset[int]:
        """The different numbers of GPUs that containers ask for, each above zero."""
        return frozenset(container.gpus for container in self.containers if container.gpus)

    @property
    def also_needs(self) -> frozenset[str]:
        """Names that containers ask for explicitly; the pool must offer them too."""
        return frozenset(name for each in self.containers if not each.gpus for name, _ in each.named)

    def tolerates(self, taint: Taint) -> bool:
        """True when the pod may run on a node with the taint."""
        return any(each.covers(taint) for each in (GPU_TOLERATION, *self.tolerations))

    def demand(self, name: str, name_for_many: str, rule: MultiGPU) -> dict[str, int]:
        """Returns what the pod asks of one node, by resource name.

        The rule is Kubernetes' own (component-helpers/resource, PodRequests): the sum of main containers and sidecars,
        or an init container with the sidecars before it, where that is more.

        Args:
            name: the resource for a container that asks for one.
            name_for_many: the resource for one that asks for more; "" leaves those out.
            rule: what more than one becomes.
        """
        running: dict[str, int] = {}
        most: dict[str, int] = {}
        started: dict[str, int] = {}
        for container in self.containers:
            amounts = _amounts(container, name, name_for_many, rule)
            if container.stage is Stage.INIT:
                _raise(most, _sum(started, amounts))
                continue
            running = _sum(running, amounts)
            if container.stage is Stage.SIDECAR:
                started = _sum(started, amounts)
                _raise(most, started)
        _raise(most, running)
        return most


def _amounts(container: ContainerRequest, name: str, name_for_many: str, rule: MultiGPU) -> dict[str, int]:
    if not container.gpus:
        return dict(container.named)
    if container.gpus == 1:
        return {name: 1}
    if not name_for_many:
        return {}
    return {name_for_many: 1 if rule is MultiGPU.ONE else container.gpus}


def _sum(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in {**one, **other}}


def _raise(most: dict[str, int], amounts: dict[str, int]) -> None:
    for name, amount in amounts.items():
        most[name] = max(most.get(name, 0), amount)


def requirement_of_class(work: WorkloadClass) -> GpuRequirement:
    """Returns what work of a class that says nothing more asks for a container with one GPU."""
    size = work.size
    profile = mig.parse(size.profile) if size and size.profile else None
    return GpuRequirement(
        tuple(dict.fromkeys((work.strategy, *work.otherwise))),
        memory=mebibytes(size.memory) if size and size.memory else None,
        profile=profile.dotted if profile else "",
        models=work.models,
        multi_gpu=work.multi_gpu,
        spill=work.spill,
    )
