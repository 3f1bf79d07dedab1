"""What holds for the GPU work of one object, as values."""

import msgspec

from slicewise.api.policy import PolicySpec, SlicingPolicy, WorkloadClass
from slicewise.inventory.gpu_requirement import GpuRequirement


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


class BarePolicy(msgspec.Struct, frozen=True):
    """A policy by itself, where nobody has yet been asked what holds for a workload."""

    policy: SlicingPolicy

    @property
    def spec(self) -> PolicySpec:
        """The policy's spec."""
        return self.policy.spec


Rules = EffectivePolicy | BarePolicy
