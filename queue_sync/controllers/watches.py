"""Which keys of a controller an event makes dirty: each reconciler declares it once, and events are passed on here.

An event is what an informer saw change, or what one reconciler found out that others build on.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from queue_sync.informers.required import Namespace, Record
from queue_sync.planning.observed import Object
from slicewise.api.policy import QuotaPlan, SlicingPolicy
from slicewise.inventory.node import Node
from slicewise.kube.informer_types import Change
from slicewise.kube.workqueue import WorkQueue


def nothing(*_: object) -> tuple[str, ...]:
    """No keys, whatever happened."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Watches:
    """From an event to keys of one reconciler, by what happened; what is left out wakes nothing."""

    started: Callable[[], Iterable[str]] = nothing
    """This replica leads from now on, and every node was judged once."""
    node: Callable[[Change[Node]], Iterable[str]] = nothing
    plan: Callable[[Change[Record[QuotaPlan]]], Iterable[str]] = nothing
    namespace: Callable[[Change[Namespace]], Iterable[str]] = nothing
    engine_object: Callable[[Change[Object]], Iterable[str]] = nothing
    """A flavor, a queue, a cohort or a LocalQueue."""
    workload: Callable[[str, frozenset[str]], Iterable[str]] = nothing
    """(its namespace, the queues whose use or demand it changed)"""
    policy: Callable[[Change[Record[SlicingPolicy]]], Iterable[str]] = nothing
    namespace_rule: Callable[[], Iterable[str]] = nothing
    """A ResourceQuota or a LimitRange."""
    config_map: Callable[[], Iterable[str]] = nothing
    """A file that plans how nodes are divided."""
    class_mappings: Callable[[], Iterable[str]] = nothing
    """Kueue's configuration, and what it charges for DeviceClasses."""
    devices: Callable[[frozenset[str]], Iterable[str]] = nothing
    """(nodes whose published devices changed)"""
    claims: Callable[[], Iterable[str]] = nothing
    """Claims hold other devices than before."""

    pools: Callable[[frozenset[str], float | None], Iterable[str]] = nothing
    """(pools of which something else counts, when the event came that is the cause, on the monotonic clock)"""
    node_annotation: Callable[[str], Iterable[str]] = nothing
    """(a node that does not say what is believed of it)"""
    planned_geometry: Callable[[], Iterable[str]] = nothing
    """The files plan something else for nodes than before."""
    node_concerns: Callable[[str], Iterable[str]] = nothing
    """(a pool with a node of which something else is not as planned)"""
    plan_pass: Callable[[str], Iterable[str]] = nothing
    """(a plan that was just worked on)"""
    local_queue_problems: Callable[[str], Iterable[str]] = nothing
    """(a plan with other problems in its LocalQueues)"""
    unbacked: Callable[[frozenset[str]], Iterable[str]] = nothing
    """(plans of whose pools more, or less, is promised beyond what nodes offer)"""

    delay: float = 0.0
    """Seconds from an event to the look at its keys."""


class Dispatcher:
    """Passes events on to the queues of the reconcilers, once this replica leads."""

    def __init__(self) -> None:
        self._routes: list[tuple[Watches, WorkQueue[str]]] = []

    def start(self, routes: Iterable[tuple[Watches, WorkQueue[str]]]) -> None:
        """From now on these queues are filled."""
        self._routes = list(routes)

    def dispatch(self, keys: Callable[[Watches], Iterable[str]]) -> None:
        """Adds the keys that each reconciler declares for an event to its queue."""
        for watches, queue in self._routes:
            for key in keys(watches):
                if watches.delay:
                    queue.add_after(key, watches.delay)
                else:
                    queue.add(key)
