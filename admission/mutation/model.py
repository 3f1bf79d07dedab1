"""What one object is let do, and what its containers get, as values."""

from collections.abc import Mapping

import msgspec

from admission.engines import queueing


class Gate(msgspec.Struct, frozen=True):
    """What a namespace lets happen to one object."""

    labels: queueing.Labels | None = None
    """Of the namespace; None where nothing new is decided in it."""
    policy_name: str = ""
    audit: bool = False
    """True where what is decided of new objects is said and not done."""
    is_open: bool = False
    """True when something new may be decided: by the namespace, and by the rollout of its policy."""
    percent: int = 100
    """Of its workloads, to which the policy is rolled out."""


class Change(msgspec.Struct, frozen=True):
    """What becomes of one container's devices: names to drop, and the one to ask for."""

    drop: frozenset[str]
    name: str
    count: int
    """0: nothing is asked for any more."""


Changes = Mapping[str, Change]
"""By pointer of the container, from the pod spec."""
