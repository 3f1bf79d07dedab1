"""The engines that can queue a workload.  Another is a module with these functions, and a line here."""

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from admission.engines import kueue, volcano
from admission.mutation.draft import Draft
from admission.workloads.model import Template, Workload
from slicewise.api.policy import Engine


class QueueEngine(Protocol):
    """What an engine knows of a workload. Where each kind has what it reads is data (`workloads.kind.Queueing`)."""

    def queues(self, workload: Workload) -> bool:
        """True when the workload says itself that this engine queues it."""

    def queues_template(self, template: Template) -> bool:
        """True when one of its templates says so, where each speaks for itself."""

    def queue_of(self, workload: Workload) -> str:
        """Returns the queue that the workload names; "" when it names none."""

    def queue_of_template(self, template: Template) -> str:
        """Returns the queue that one of its templates names for itself alone; "" when it names none."""

    def has_started(self, workload: Workload) -> bool:
        """True for a pod that the engine has started on nodes that it chose, and charged so."""

    def join(self, draft: Draft, workload: Workload, queue: str) -> None:
        """Puts a workload that names no queue into one."""

    def keep(self, draft: Draft, workload: Workload, old: Workload) -> None:
        """Keeps a workload in its queue through an update that leaves it out."""

    def stays(self, workload: Workload, unsaid: Callable[[str], bool]) -> str:
        """Says in which queue a workload stays where its manifest names none, and the way out; "" where in none.

        `unsaid` is true of a place of the object at which its manifest is known to say nothing.
        """

    def pins(self, workload: Workload, old: Workload) -> bool:
        """True while the engine would stop what runs, or refuse the update, if its pods asked for something else."""


ENGINES: Final[Mapping[Engine, QueueEngine]] = {Engine.KUEUE: kueue, Engine.VOLCANO: volcano}
