"""Why one workload does not run: what its engine and the scheduler say of it, in one answer.  Pure.

Nothing is decided here. Kueue says in a Workload's conditions why it is not admitted, Volcano in a PodGroup's, the
scheduler in a Pod's. A workload passes them in that order, and the answer is the first that holds it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import msgspec

from slicewise.api import keys

_FINISHED_PODS: Final = frozenset({"Succeeded", "Failed"})
_FINISHED_JOBS: Final = ("Complete", "Failed")
_GROUP: Final = "scheduling.k8s.io/group-name"
"""Names a pod's PodGroup."""


class _Part(msgspec.Struct, frozen=True, rename="camel"):
    """A part of an object; what is null is as good as left out."""


class _Named(_Part, frozen=True):
    kind: str = ""
    name: str = ""


class _Metadata(_Part, frozen=True):
    name: str = ""
    namespace: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: tuple[_Named, ...] | None = None
    creation_timestamp: str | None = None


class _Resources(_Part, frozen=True):
    requests: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None


class _Container(_Part, frozen=True):
    resources: _Resources | None = None


class _PodSpec(_Part, frozen=True):
    containers: tuple[_Container, ...] | None = None


class _TemplateMetadata(_Part, frozen=True):
    annotations: dict[str, str] | None = None


class _Template(_Part, frozen=True):
    metadata: _TemplateMetadata | None = None
    spec: _PodSpec | None = None


class _PodSet(_Part, frozen=True):
    template: _Template | None = None


class _Spec(_Part, frozen=True):
    """Of a Workload (queueName, priority, active, podSets), a PodGroup (queue) or a Pod."""

    queue_name: str | None = None
    priority: int | None = None
    active: bool | None = None
    pod_sets: tuple[_PodSet, ...] | None = None
    queue: str | None = None
    node_name: str | None = None
    scheduling_gates: tuple[_Named, ...] | None = None


class _Condition(_Part, frozen=True):
    type: str = ""
    status: str = ""
    reason: str | None = None
    message: str | None = None

    def words(self, otherwise: str) -> str:
        return (self.message or self.reason or otherwise).rstrip(".")


class _Check(_Part, frozen=True):
    name: str = ""
    state: str = ""


class _Status(_Part, frozen=True):
    phase: str | None = None
    conditions: tuple[_Condition, ...] | None = None
    admission_checks: tuple[_Check, ...] | None = None


class WorkItem(_Part, frozen=True):
    """The fields of a Workload, a PodGroup or a Pod that say why work waits."""

    kind: str
    metadata: _Metadata
    spec: _Spec | None = None
    status: _Status | None = None

    @property
    def identity(self) -> tuple[str, str]:
        """Kind in lower case, and name."""
        return self.kind.lower(), self.metadata.name

    @property
    def owners(self) -> set[tuple[str, str]]:
        """The identities of its owners."""
        return {(each.kind.lower(), each.name) for each in self.metadata.owner_references or ()}

    @property
    def asked(self) -> _Spec:
        """Its spec; an empty one where there is none."""
        return self.spec or _Spec()

    @property
    def phase(self) -> str:
        """Its phase; Pending where it has none yet."""
        return (self.status or _Status()).phase or "Pending"

    @property
    def local_queue(self) -> str:
        """The LocalQueue of a Workload, as `namespace/name`."""
        return f"{self.metadata.namespace}/{self.asked.queue_name or ''}"

    def condition(self, name: str) -> _Condition:
        """Returns a condition; an empty one where it does not stand."""
        found = (each for each in (self.status or _Status()).conditions or () if each.type == name)
        return next(found, _Condition())

    def is_true(self, name: str) -> bool:
        """Whether a condition holds."""
        return self.condition(name).status == "True"


class Owner(_Part, frozen=True):
    """Any other object: who it is, who made it, and what it says of itself, in whatever shape its kind has that."""

    kind: str
    metadata: _Metadata
    spec: Any = None
    status: Any = None

    def said(self) -> tuple[str, bool]:
        """Returns why it makes no pod now, and whether that is for good; "" where it does not say so."""
        spec = self.spec if isinstance(self.spec, dict) else {}
        status = self.status if isinstance(self.status, dict) else {}
        conditions = status.get("conditions") if self.kind == "Job" else ()
        for each in filter(_is_map, conditions if isinstance(conditions, list) else ()):
            if each.get("type") in _FINISHED_JOBS and each.get("status") == "True":
                words = each.get("message") or each.get("reason")
                return f"it has finished ({each['type']}){f': {words}' if words else ''}".rstrip("."), True
        if spec.get("suspend") is True:
            return "it is suspended: spec.suspend is true; set it to false to have it run", False
        if schedule := spec.get("schedule"):
            return (
                f"it makes work at each time of its schedule ({schedule}), and none of that has a pod",
                False,
            )
        if spec.get("replicas") == 0:
            return "it wants no pod: spec.replicas is 0", False
        return "", False


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


@dataclass(frozen=True, slots=True)
class QueueingState:
    """What the cluster says of who waits for what."""

    items: Sequence[WorkItem] = ()
    """Workloads, PodGroups and Pods; Workloads of other namespaces too, where they may be read."""
    owners: Sequence[Owner] = ()
    """What makes pods, where it was read: between a JobSet and its pods there are Jobs."""
    cluster_queues: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name, as the API server shows them."""
    local_queues: Mapping[str, str] = field(default_factory=dict)
    """The ClusterQueue of each LocalQueue, by `namespace/name`."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why one workload waits, and where it stands on its way."""

    kind: str
    namespace: str
    name: str
    reason: str
    """One sentence: what holds it now."""
    decision: str
    """The recorded decision, as JSON; "" where there is none."""
    queue: str
    """In words: the queue and the place in it; "" where none is known."""
    quota: tuple[str, ...]
    """A line for each flavor that gives what it asks for: the quota, and what is reserved of it."""
    nodes: tuple[str, ...]
    """A line for each pod that is not done: its node, or what the scheduler says."""

    def document(self) -> dict[str, Any]:
        """Returns what `slicewise why KIND/NAME -o json` prints."""
        return asdict(self) | {"quota": list(self.quota), "nodes": list(self.nodes)}


def waiting(kind: str, namespace: str, name: str, state: QueueingState) -> Waiting | None:
    """Says why a workload waits.

    Args:
        kind: of the workload, in any case: `job`, `Pod`, `rayjob`, or `workload` for Kueue's own by its name.
        namespace: where it is.
        name: of the workload.
        state: what the cluster says.

    Returns:
        The answer; None where nothing in the cluster belongs to such a workload.
    """
    own = _Own(kind.lower(), namespace, name, state)
    if not own.seen:
        return None
    queue, quota = "", tuple[str, ...]()
    if own.workload is not None:
        queue, quota = _place(own.workload, state), tuple(_quota(own.workload, state))
    elif own.group is not None:
        queue = f"Volcano's Queue {own.group.asked.queue or 'default'}"
    elif own.label:
        queue = f"{_local(own.label, state)} is asked for; Kueue has made no Workload of it"
    nodes = tuple(_node(pod) for pod in own.pods if pod.phase not in _FINISHED_PODS)
    return Waiting(own.kind, namespace, name, _reason(own, queue), own.decision, queue, quota, nodes)


class _Own:
    """What belongs to one workload: itself, what it made, and what these made."""

    def __init__(self, kind: str, namespace: str, name: str, state: QueueingState) -> None:
        here = [each for each in state.items if each.metadata.namespace == namespace]
        owners = [
            WorkItem(each.kind, each.metadata)
            for each in state.owners
            if each.metadata.namespace == namespace
        ]
        of_itself = (each.said() for each in state.owners if _is(each, kind, namespace, name))
        self.said, self.over = next(of_itself, ("", False))
        """Why it makes no pod, as it says itself, and whether that is for good."""
        names = {(kind, name)}
        if kind == "workload":  # what it admits are the pods of its owner
            names |= {owner for each in here if each.identity == (kind, name) for owner in each.owners}
        while made := {each.identity for each in (*owners, *here) if names & each.owners} - names:
            names |= made
        self.seen = [each for each in (*owners, *here) if each.identity in names]
        workloads = [each for each in self.seen if each.kind == "Workload"]
        workloads.sort(key=lambda each: each.identity != (kind, name))  # the one that is asked about first
        self.workload = next(iter(workloads), None)
        self.group = next((each for each in self.seen if each.kind == "PodGroup"), None)
        group = self.group.metadata.name if self.group else None
        self.pods = [
            each
            for each in here
            if each.kind == "Pod"
            and (each in self.seen or (group and (each.metadata.annotations or {}).get(_GROUP) == group))
        ]
        written = [each.kind for each in self.seen]
        written += [owner.kind for each in self.seen for owner in each.metadata.owner_references or ()]
        self.kind = next((each for each in written if each.lower() == kind), kind)
        self.decision = next(_decisions([*self.seen, *self.pods]), "")
        # Of what has an owner, its owner's Workload may be the one, which is not looked for.
        labels = (each.metadata.labels or {} for each in self.seen if not each.owners)
        label = next((found for each in labels if (found := each.get(keys.KUEUE_QUEUE))), "")
        self.label = f"{namespace}/{label}" if label else ""
        """The LocalQueue that it is labelled for, as `namespace/name`; "" where it is not."""


def _decisions(items: Iterable[WorkItem]) -> Iterator[str]:
    """Yields the decisions that are recorded on objects or on their pod templates."""
    for item in items:
        templates = (each.template.metadata for each in item.asked.pod_sets or () if each.template)
        for part in (item.metadata, *templates):
            if part is not None and keys.DECISION in (part.annotations or {}):
                yield (part.annotations or {})[keys.DECISION]


def _reason(own: _Own, queue: str) -> str:
    """Says what holds a workload now: the first on its way from the queue to its nodes."""
    return (own.workload and _admission(own.workload, queue)) or _pods(own) or _no_pod(own, queue)


def _admission(workload: WorkItem, queue: str) -> str:
    """Says why Kueue does not admit a Workload; "" once it has."""
    if workload.is_true("Finished"):
        return f"it has finished: {workload.condition('Finished').words('Kueue says so')}"
    if workload.asked.active is False:
        return "it is deactivated: spec.active of its Workload is false; set it to true to queue it again"
    if not workload.is_true("QuotaReserved"):
        said = workload.condition("QuotaReserved").words("Kueue has not looked at it yet")
        return f"it waits for quota in {queue}: {said}"
    if workload.is_true("Admitted"):
        return ""
    checks = [
        f"{each.name} ({each.state})"
        for each in (workload.status or _Status()).admission_checks or ()
        if each.state != "Ready"
    ]
    return f"its quota is reserved, and it waits for admission checks: {', '.join(checks) or 'none is named'}"


def _pods(own: _Own) -> str:
    """Says what holds its pods; "" where it has none."""
    live = [pod for pod in own.pods if pod.phase not in _FINISHED_PODS]
    pending = [pod for pod in live if not pod.asked.node_name]
    starting = [pod for pod in live if pod.phase != "Running"]
    if pending:
        gates = {gate.name for pod in pending for gate in pod.asked.scheduling_gates or ()}
        if gates:
            return f"{len(pending)} of {len(live)} pods are held by the scheduling gate {', '.join(sorted(gates))}"
        said = {pod.condition("PodScheduled").words("the scheduler has not said why") for pod in pending}
        return f"{len(pending)} of {len(live)} pods wait for a node: {'; '.join(sorted(said))}"
    if starting:
        return f"{len(starting)} of {len(live)} pods have a node and have not started; kubectl describe pod says why"
    if live:
        return f"it runs: pods {len(live)}, nodes {len({pod.asked.node_name for pod in live})}"
    return "it has finished: none of its pods is left to run" if own.pods else ""


def _no_pod(own: _Own, queue: str) -> str:
    if own.workload is not None:
        return "it is admitted, and has no pod yet; kubectl describe says what its controller does"
    if own.group is not None:
        said = own.group.condition("Unschedulable").words("Volcano has not said why")
        return f"it waits in {queue} ({own.group.phase}): {said}"
    if own.over:
        return own.said
    if own.label:
        return (
            f"it is labelled for LocalQueue {own.label}, and Kueue has made no Workload of it; see that Kueue's "
            "configuration has its kind in integrations.frameworks"
        )
    return own.said or "no queue holds it, and it has no pod; kubectl describe says what its controller does"


def _is(owner: Owner, kind: str, namespace: str, name: str) -> bool:
    found = owner.metadata
    return (owner.kind.lower(), found.namespace, found.name) == (kind, namespace, name)


def _local(name: str, state: QueueingState) -> str:
    cluster_queue = state.local_queues.get(name)
    return f"LocalQueue {name}" + (f" of ClusterQueue {cluster_queue}" if cluster_queue else "")


def _place(workload: WorkItem, state: QueueingState) -> str:
    """Names the queue of a Workload and its place among those that wait for the same quota, by priority, then age."""
    local = workload.local_queue
    cluster_queue = state.local_queues.get(local)
    names = _local(local, state)
    waits = sorted(
        (
            each
            for each in state.items
            if each.kind == "Workload"
            and (
                each.local_queue == local
                or (cluster_queue is not None and state.local_queues.get(each.local_queue) == cluster_queue)
            )
            and not each.is_true("QuotaReserved")
            and not each.is_true("Finished")
            and each.asked.active is not False
        ),
        key=lambda each: (
            -(each.asked.priority or 0),
            each.metadata.creation_timestamp or "",
            each.metadata.name,
        ),
    )
    if workload not in waits:
        return names
    return f"{names}, number {waits.index(workload) + 1} of {len(waits)} that wait"


def _quota(workload: WorkItem, state: QueueingState) -> Iterator[str]:
    """Yields, of each GPU resource that a Workload asks for, what its ClusterQueue has of it and what is reserved."""
    queue = state.cluster_queues.get(state.local_queues.get(workload.local_queue, ""), {})
    specs = [each.template.spec for each in workload.asked.pod_sets or () if each.template]
    resources = [each.resources for spec in specs if spec for each in spec.containers or ()]
    wanted = {
        name for each in resources if each for part in (each.requests, each.limits) for name in part or ()
    }
    reserved = {
        (flavor["name"], each["name"]): each.get("total", 0)
        for flavor in (queue.get("status") or {}).get("flavorsReservation") or ()
        for each in flavor.get("resources") or ()
    }
    for group in (queue.get("spec") or {}).get("resourceGroups") or ():
        for flavor in group["flavors"]:
            for each in flavor["resources"]:
                name = each["name"]
                if name in wanted and name.startswith(keys.VENDOR):
                    taken = reserved.get((flavor["name"], name), 0)
                    yield f"{flavor['name']}: {name} {each.get('nominalQuota', 0)}, of which {taken} reserved"


def _node(pod: WorkItem) -> str:
    if pod.asked.node_name:
        return f"{pod.metadata.name}: {pod.phase} on {pod.asked.node_name}"
    return f"{pod.metadata.name}: {pod.condition('PodScheduled').words('waits for a node')}"
