"""What becomes of one object."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from admission.decision.model import Decision, Deviation
from admission.decision.trace import Allocated, Step, Stop
from admission.mutation.difference import Operation
from admission.workloads.model import Owner
from slicewise.api.policy import SlicingPolicy
from slicewise.inventory.allocation import NothingFits


class Verdict(StrEnum):
    """What becomes of one object, in a word: what it is counted under."""

    REWRITTEN = "rewritten"
    REPEATED = "repeated"
    """An update kept its decision."""
    UNCHANGED = "unchanged"
    LEFT = "left"
    """It stays as it was asked."""
    REFUSED = "refused"
    AUDITED = "audited"
    """Nothing is done; the warnings say what would have been."""
    IGNORED = "ignored"
    ACCEPTED = "accepted"
    """It is a policy, a plan or a namespace, and stays as it is."""
    PROBED = "probed"
    """It is the controller's self-check, which is refused as it should be."""


class Outcome(msgspec.Struct, frozen=True):
    """What becomes of one object."""

    name: Verdict
    drafted: list[Operation] = []
    """The operations, where nobody has written them yet."""
    warnings: list[str] = []
    decisions: tuple[Decision, ...] = ()
    whole: Decision | None = None
    """The decisions of all templates as one, as the object's own annotation records it."""
    policy: str = ""
    strategy: str = ""
    refusal: str = ""
    """The sentence of a refusal; "" where it is none."""
    reason: str = ""
    """Why it is refused, in a word."""
    trace: tuple[Step, ...] = ()
    """What was looked at on the way."""
    queue: str = ""
    """The queue of its namespace's engine that it joined; "" for none."""
    owner: Owner | None = None
    """The owner that controls the object, where there is something to warn of."""
    patch: bytes = b""
    """The operations as an answer has them, in base64 and quotes, where somebody has written them already."""

    @property
    def operations(self) -> list[Operation]:
        """What is to be changed."""
        if not self.patch:
            return self.drafted
        operations: list[Operation] = msgspec.json.decode(msgspec.json.decode(self.patch, type=bytes))
        return operations

    @property
    def deviation(self) -> Deviation | None:
        """Why the object is left as it was asked, or given other than it asked; None where it is neither."""
        if self.refusal or not (self.warnings or self.name in {Verdict.LEFT, Verdict.AUDITED}):
            return None
        if self.name is Verdict.AUDITED:
            return Deviation.AUDIT
        if Stop.ROLLOUT in self.trace:
            return Deviation.ROLLOUT
        if Stop.OPTED_OUT in self.trace:
            return Deviation.OPTED_OUT
        if any(to.count < to.asked for each in self.decisions for to in each.containers.values()):
            return Deviation.FEWER
        if (left := self._left_after_allocation()) is not None:
            return left
        return Deviation.OTHER if self.warnings else None  # else it was taken back, as its owner asked

    def _left_after_allocation(self) -> Deviation | None:
        if self.name is not Verdict.LEFT:
            return None
        outcomes = [step.allocation.outcome for step in self.trace if isinstance(step, Allocated)]
        nothing = next((each for each in outcomes if isinstance(each, NothingFits)), None)
        if nothing is not None:
            return Deviation.OTHER_ENGINE if nothing.elsewhere else Deviation.NOTHING_FITS
        return Deviation.KIND if outcomes else None


class Alike(msgspec.Struct, frozen=True):
    """What becomes of all new objects with one gist."""

    labels: Mapping[str, str]
    """Of their namespace."""
    policy: SlicingPolicy | None
    outcome: Outcome
