"""What becomes of one object."""

from enum import StrEnum

import msgspec

from admission.decision.model import Decision
from admission.decision.trace import Step
from admission.mutation.difference import Operation


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
    operations: list[Operation] = []
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
