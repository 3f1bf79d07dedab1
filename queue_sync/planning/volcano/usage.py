"""What Volcano counts in its Queues: how much of each resource runs in one, and where that is above what it may have.

Volcano's scheduler writes `status.allocated` into each Queue, its parents included, about once a second.

Pure. Failure mode: a quantity that cannot be read counts as nothing.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from queue_sync.planning.capacity import text
from queue_sync.planning.changes import Change
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.findings import Finding
from queue_sync.planning.observed import Object, ObservedState
from queue_sync.planning.ownership import owned
from queue_sync.planning.quota import Numbers
from queue_sync.planning.volcano.queues import QUEUE
from slicewise.api.quantities import scaled


def units(queue: Object | None) -> dict[str, int]:
    """What runs in a Queue, in units of each resource (cpu in thousandths)."""
    return _units(((queue or {}).get("status") or {}).get("allocated") or {})


def quota(queue: Object) -> dict[str, int]:
    """What a Queue deserves of each resource that Slicewise decides."""
    mine = owned(queue).resources
    return {name: units for name, units in deserved(queue).items() if name in mine}


def deserved(queue: Object) -> dict[str, int]:
    """What a Queue deserves, whoever decides it."""
    return _units(queue["spec"].get("deserved") or {})


def numbers(queue: Object, /) -> Numbers:
    """What a Queue deserves, by name over all nodes; see `QueueEngine`."""
    return {("", resource): units for resource, units in deserved(queue).items()}


def limits(queue: Object, _: str, resource: str, /) -> dict[str, str]:
    """The capability of one name, where the Queue says it; see `QueueEngine`."""
    capability = (queue["spec"].get("capability") or {}).get(resource)
    return {"capability": str(capability)} if capability is not None else {}


def allowed(queue: Object, /) -> Numbers:
    """How much may run in a Queue: its capability, and where it names none what it deserves."""
    spec = queue["spec"]
    listed = {**(spec.get("deserved") or {}), **(spec.get("capability") or {})}
    return {("", resource): units for resource, units in _units(listed).items()}


def in_use(
    queues: Collection[str], existing: ObservedState, /
) -> Mapping[tuple[str, str, str], tuple[int, int]]:
    """What runs, which is all that is reserved; see `QueueEngine`."""
    return {
        (name, "", resource): (running, running)
        for name in queues
        for resource, running in units(existing.queues.get(name)).items()
        if running
    }


def below_use(change: Change, existing: ObservedState, /) -> Iterator[str]:
    """Yields what shrinks below what runs; a name that was not listed had no limit. See `QueueEngine`."""
    if change.after is None:
        return
    name = change.document["metadata"]["name"]
    running = units(existing.queues.get(name))
    before = allowed(change.before) if change.before is not None else {}
    for (_, resource), most in sorted(allowed(change.after).items()):
        runs = running.get(resource, 0)
        if most < runs and most < before.get(("", resource), most + 1):
            yield (
                f"Queue {name} may run {text(resource, most)} {resource} and {text(resource, runs)} run in it; nobody "
                "is evicted, nothing new starts until work finishes"
            )


def usage(cluster: ClusterState, /) -> Iterator[Finding]:
    """Yields Queues in which more runs than they may have. Nobody is evicted for it."""
    for name, queue in sorted(cluster.existing.queues.items()):
        may_run = allowed(queue)
        for resource, running in sorted(units(queue).items()):
            most = may_run.get(("", resource), running)
            if running > most:
                sentence = (
                    f"Queue {name} runs {text(resource, running)} {resource} and may run {text(resource, most)}; "
                    "nobody is evicted, and nothing new starts until work finishes"
                )
                yield Finding(QUEUE, "", name, "UseAboveQuota", sentence)


def hint(refusal: str, /) -> str:
    """What to do about a refusal of Volcano's webhook that its own words do not say; "" when there is nothing."""
    if "should less equal than capability" in refusal or "exceeds parent queue" in refusal:
        return (
            "; Volcano before v1.14.2 takes a name that a capability does not list for 0: list there whatever the "
            "queue deserves, and in its parent's whatever the queue's own lists"
        )
    if "cannot be the parent queue" in refusal:
        return "; let the work in the parent finish, or name another cohort"
    if "parent queue" in refusal and "validation failed" in refusal:
        return "; raise what its parent deserves, or make the parent the plan's cohort"
    return ""


def _units(listed: Mapping[str, Any]) -> dict[str, int]:
    return {name: int(scaled(name, quantity)) for name, quantity in listed.items()}
