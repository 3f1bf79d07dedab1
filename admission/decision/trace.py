"""What a decision looked at, step by step: the words of `slicewise explain` are made of it.  Pure."""

from enum import StrEnum

import msgspec

from admission.decision.effective_policy import EffectivePolicy
from admission.decision.model import Decision, DevicesLeft
from slicewise.api.policy import Engine
from slicewise.inventory.allocation import Allocation
from slicewise.inventory.plan_selection import QueueQuota


class Stop(StrEnum):
    """Why an object is left before anything is decided; the values are the words for people."""

    KIND = "is not a kind that holds pod templates for GPUs"
    NAMESPACE = "its namespace has not opted in"
    EXEMPT = "another controller owns it, or it is of a kind that must not be touched"
    OWNER = "the controller that owns it changed it, and its word stands"
    RUNNING = "what a pod asks for never changes"
    NO_GPU = "no container asks for a GPU"
    ROLLOUT = "the rollout of its policy has not reached it"
    PODS = "its pods are decided on when they are made, and engines charge nothing else"
    OPTED_OUT = 'slicewise.io/rewrite="false" says so'


class Resolved(msgspec.Struct, frozen=True):
    """What holds for a template that is to be decided."""

    policy: EffectivePolicy


class Standing(msgspec.Struct, frozen=True):
    """A template is as it was decided before."""

    policy: EffectivePolicy
    record: Decision


class Allocated(msgspec.Struct, frozen=True):
    """A template was put to the pools."""

    pointer: str
    """Of its pod spec."""
    engine: Engine | None
    queue: str
    quota: QueueQuota | None
    """What the queue has; None where no plan says."""
    reserved: bool
    """True where plans give some pools to another engine."""
    allocation: Allocation


Step = Stop | Resolved | Standing | Allocated | DevicesLeft
Trace = list[Step]
