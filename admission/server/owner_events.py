"""Events on the owners of objects that controllers make, since no controller shows anybody the warnings it gets.

`report` returns at once; a review never waits for an Event. The same note about the same owner is one Event with a
count. Anybody can write an owner reference, so that new Events are bounded for each owner and for all of them
together; what is beyond is dropped, and still counted by `slicewise_admission_deviations_total`.
"""

import socket
from typing import Final

from admission.mutation.outcome import Verdict
from admission.wire import Notice
from slicewise.kube.client import Client
from slicewise.kube.clock import TokenBucket
from slicewise.kube.events import EventSettings, Recorder, Regarding

_FOR_EACH: Final = EventSettings(burst=5)
_BURST: Final = 100
_A_SECOND: Final = 2.0

_REASONS: Final = {Verdict.LEFT: "LeftAsAsked", Verdict.AUDITED: "AuditMode"}
_OTHERWISE: Final = "GivenWithWarning"


class OwnerEvents:
    """Tells owners what was warned of in their objects."""

    def __init__(self, client: Client) -> None:
        self._recorder = Recorder(
            client,
            controller="slicewise.io/webhook",
            instance=socket.gethostname(),
            settings=_FOR_EACH,
            budget=TokenBucket(_A_SECOND, _BURST, client.timing),
        )

    def report(self, notice: Notice) -> None:
        """Has an Event written about the owner, in the namespace of the object."""
        owner = notice.owner
        self._recorder.emit(
            Regarding(owner.api_version, owner.kind, owner.name, notice.namespace, owner.uid),
            _REASONS.get(notice.outcome, _OTHERWISE),
            "; ".join(notice.warnings),
            action="Admit",
            kind="Normal" if notice.outcome is Verdict.AUDITED else "Warning",
        )

    async def run(self) -> None:
        """Writes what was reported, until cancelled."""
        await self._recorder.run()
