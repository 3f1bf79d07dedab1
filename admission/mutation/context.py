"""One object while its templates are looked at one by one: what is known of it, and what came of it so far.  Pure."""

from typing import Final

from admission.decision import template_matching
from admission.decision.cluster_state import ClusterState
from admission.decision.effective_policy import EffectivePolicy
from admission.decision.gpu_requests import gpu_requests
from admission.decision.manifest import Manifests
from admission.decision.model import Decision, GpuRequest
from admission.decision.record import recorded, text
from admission.decision.trace import Trace
from admission.engines import queueing
from admission.mutation.draft import Draft
from admission.mutation.model import Changes, Gate
from admission.workloads.model import Template, Workload

Asking = list[GpuRequest]
NO_CHANGES: Final[Changes] = {}


class MutationContext:
    """What the steps of one mutation read and leave to the next."""

    def __init__(
        self,
        workload: Workload,
        old: Workload | None,
        gate: Gate,
        state: ClusterState,
        manifests: Manifests | None = None,
    ) -> None:
        self.workload, self.old, self.gate, self.state = workload, old, gate, state
        self.manifests = manifests
        """The texts of an update; None for a new object."""
        self.named = queueing.Named(workload)
        """It, with the engines and queues that it names."""
        self.joining = self.named
        """It, as it is put into a queue: without an owner that may be made up."""
        self.controller = workload.metadata.controller if workload.metadata.owner_references else None
        """The owner that controls it."""
        self.root = None if old is None else recorded(old.metadata)
        self.before = {} if old is None else template_matching.match_templates(workload, old)
        self.pinned_by = "" if old is None else queueing.pinning_engine(workload, old)
        self.asking: list[tuple[Template, Asking]] = []
        self.asks = False
        """True when any container asks for a GPU, a slice or a share."""
        for template in workload.templates:
            asked = gpu_requests(template.spec)
            self.asking.append((template, asked))
            self.asks = self.asks or bool(asked)
        self.draft = Draft()
        self.results: list[tuple[Template, Decision]] = []
        self._warnings: dict[str, None] = {}
        self.trace: Trace = []
        self.policy: EffectivePolicy | None = None
        """What holds for the first template that was to be decided."""
        self.anew = self.repeated = self.opted_out = self.audited = self.stepped_back = False
        self._written: Decision | None = None
        self._words = ""
        self.queue = ""
        """The queue that it was put into."""

    def words_of(self, decision: Decision) -> str:
        """Returns the record of a decision, which an object and its only template share."""
        if self._written is not decision:
            self._written, self._words = decision, text(decision)
        return self._words

    def warn(self, *warnings: str) -> None:
        """Adds warnings, each once."""
        for words in warnings:
            self._warnings[words] = None

    @property
    def warnings(self) -> list[str]:
        """What the person is told, in the order in which it was found."""
        return list(self._warnings)

    @property
    def joins(self) -> bool:
        """True for new work of people, and for what a controller makes of something that nobody put into a queue: its
        record would have come with it."""
        return self.old is None and (self.anew or self.joining.workload.metadata.controller is None)
