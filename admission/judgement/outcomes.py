"""What becomes of one object."""

import msgspec

from admission.judgement.decisions import Decision
from admission.judgement.patch import Operation


class Outcome(msgspec.Struct, frozen=True):
    """What becomes of one object."""

    name: str
    operations: list[Operation] = []
    warnings: list[str] = []
    decisions: tuple[Decision, ...] = ()
    whole: Decision | None = None
    """The decisions of all templates as one, as the object's own annotation records it."""
    policy: str = ""
    strategy: str = ""
