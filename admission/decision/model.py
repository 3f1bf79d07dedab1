"""What one template asks for and what can be decided of it, as values: a decision, a refusal, or that it is left."""

from enum import StrEnum
from typing import Final

import msgspec

from admission.workloads.model import Container
from slicewise.api import keys
from slicewise.inventory.allocation import NodeLabel

AS_ASKED: Final = "left as it was asked"
"""How a warning ends where nothing is decided."""


class GpuRequest(msgspec.Struct, frozen=True):
    """One container and the devices that it asks for."""

    pointer: str
    """JSON pointer of the container, from the pod spec."""
    container: Container
    gpus: int
    """How many `nvidia.com/gpu`; 0 when none."""
    named: dict[str, int]
    """Slices and shares asked for by name, above zero."""
    unreadable: str = ""
    """Why what it asks cannot be read; "" when it can."""

    @property
    def amounts(self) -> dict[str, int]:
        """How many it asks for under each name, above zero; not to be changed."""
        return {keys.GPU: self.gpus, **self.named} if self.gpus else self.named


class DevicesLeft(msgspec.Struct, frozen=True):
    """Devices that a template asks a DRA driver for by other means than a resource name that we write."""

    claims: tuple[str, ...]
    """Its `resourceClaims`, by name."""
    names: tuple[str, ...]
    """Implicit names of DeviceClasses that its containers ask for."""


class Assigned(msgspec.Struct, frozen=True, rename={"source": "from"}):
    """What one container asked and what it gets."""

    source: str
    to: str
    count: int
    asked: int


_MEMBERS: Final = {
    "class_name": "class",
    "class_from": "classFrom",
    "pipe_directory": "pipeDirectory",
    "node_labels": "nodeLabels",
}


class Placed(msgspec.Struct, frozen=True, omit_defaults=True, rename=_MEMBERS):
    """What was done to one template of several; None for what is said of the whole object."""

    strategy: str
    pools: tuple[str, ...]
    steered: bool
    node_labels: tuple[NodeLabel, ...] = ()
    policy: str | None = None
    class_name: str | None = None
    class_from: str | None = None
    pipe_directory: str | None = None


class Decision(msgspec.Struct, frozen=True, omit_defaults=True, rename=_MEMBERS):
    """What was done to one template and why; the JSON of the annotation `slicewise.io/decision`."""

    policy: str
    class_name: str
    class_from: str
    strategy: str
    pools: tuple[str, ...]
    containers: dict[str, Assigned]
    reason: str
    steered: bool
    """True when the pod is kept to the pools by affinity."""
    templates: dict[str, Placed] = {}
    """In the decision of a whole object: by pointer of the pod spec, where templates with no record of their own
    got different things."""
    pipe_directory: str = ""
    """Where the pod meets an MPS daemon that is no part of the device plugin; "" where it meets none."""
    node_labels: tuple[NodeLabel, ...] = ()
    """What else keeps the pod to the nodes that fit, where a pool has others too."""


class Reason(StrEnum):
    """Why an object is refused, in a word: what it is counted under."""

    NAMESPACE = "namespace"
    """A label of its namespace means nothing, or names a policy that does not exist."""
    CLASS = "class"
    """Its class is none of the policy's."""
    ANNOTATION = "annotation"
    """An annotation of its own means nothing."""
    NOT_ALLOWED = "not-allowed"
    """An annotation of its own is one that the policy leaves out."""
    TOO_MANY = "too-many"
    NOTHING_FITS = "nothing-fits"
    OTHER_ENGINE = "other-engine"
    """What fits is given to the other engine."""
    BOTH_NAMES = "both-names"
    POD_SECURITY = "pod-security"
    KIND = "kind"
    """What it would get cannot work with its kind."""
    TOO_LARGE = "too-large"
    """Its review is larger or deeper than what is read."""
    SPEC = "spec"
    """It is a policy or a plan that breaks a rule."""


class Deviation(StrEnum):
    """Why an object is left as it was asked, or given other than it asked, in a word: what it is counted under."""

    AUDIT = "audit"
    """Its namespace has mode audit."""
    ROLLOUT = "rollout"
    """The rollout of its policy has not reached it."""
    OPTED_OUT = "opted-out"
    NOTHING_FITS = "nothing-fits"
    """Its policy leaves what no pool can serve."""
    OTHER_ENGINE = "other-engine"
    """Its policy leaves what only pools of the other engine can serve."""
    KIND = "kind"
    """Its policy leaves kinds that cannot work with what was chosen."""
    FEWER = "fewer"
    """It asked for several GPUs and gets one slice (`multiGPU: one`)."""
    OTHER = "other"
    """The warning says it: a quantity that means nothing, a name that nobody offers, a queue without quota …"""


class Refusal(Exception):  # noqa: N818  it is an answer, not a failure
    """The object is refused; the message is the sentence that people read."""

    def __init__(self, sentence: str, reason: Reason = Reason.KIND) -> None:
        super().__init__(sentence)
        self.reason = reason


class Left(msgspec.Struct, frozen=True):
    """The template stays as it was asked; the warning says why ("" when there is nothing to say)."""

    warning: str = ""
