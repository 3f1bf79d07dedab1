"""What holds for the GPU work of one object, as values."""

import msgspec

from admission.decision.model import GpuRequest
from admission.workloads.model import PodSpec
from slicewise.api.policy import PolicySpec, SlicingPolicy, WorkloadClass
from slicewise.inventory.gpu_requirement import ContainerRequest, GpuRequirement, Stage, Toleration


class EffectivePolicy(msgspec.Struct, frozen=True):
    """What holds for all GPU work of one object: its policy, its class and what it says for itself."""

    policy: SlicingPolicy
    class_name: str
    class_from: str
    ask: GpuRequirement
    """Containers and tolerations are filled in per template."""
    opted_out: bool
    mode: str

    @property
    def spec(self) -> PolicySpec:
        """The policy's spec."""
        return self.policy.spec

    @property
    def workload_class(self) -> WorkloadClass:
        """The class as the policy describes it."""
        return self.spec.classes[self.class_name]

    def asking(self, asked: list[GpuRequest], spec: PodSpec) -> GpuRequirement:
        """Returns what to ask the pools for one template with such containers."""
        if len(asked) == 1 and not spec.tolerations and _is_plain(asked[0]):
            return self.ask  # which is for one such container
        containers = [
            ContainerRequest(each.gpus, tuple(sorted(each.named.items())) if each.named else (), _stage(each))
            for each in asked
        ]
        tolerations = [
            Toleration(each.key, each.operator, each.value, each.effect) for each in spec.tolerations or ()
        ]
        return msgspec.structs.replace(self.ask, containers=tuple(containers), tolerations=tuple(tolerations))


class BarePolicy(msgspec.Struct, frozen=True):
    """A policy by itself, where nobody has yet been asked what holds for a workload."""

    policy: SlicingPolicy

    @property
    def spec(self) -> PolicySpec:
        """The policy's spec."""
        return self.policy.spec


Rules = EffectivePolicy | BarePolicy


def _is_plain(request: GpuRequest) -> bool:
    return request.gpus == 1 and not request.named and not request.pointer.startswith("/initContainers/")


def _stage(request: GpuRequest) -> Stage:
    if not request.pointer.startswith("/initContainers/"):
        return Stage.MAIN
    return Stage.SIDECAR if request.container.restart_policy == "Always" else Stage.INIT
