"""A whole cluster at one moment, read from a snapshot, for the command."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

import msgspec

from queue_sync.planning.kueue_configuration import class_mappings
from queue_sync.planning.observed import Object, ObservedState, QuotaUsage, Workload, project
from slicewise.api.errors import BadInput
from slicewise.api.policy import QuotaPlan
from slicewise.api.quantities import scaled
from slicewise.inventory.pools import Inventory
from slicewise.kube.object_types import (
    CLUSTER_QUEUE,
    CONFIG_MAP,
    POD_GROUP,
    STANDING,
    WORKLOAD,
)
from slicewise.kube.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What quota depends on."""

    pools: Inventory = field(default_factory=Inventory)
    plans: tuple[QuotaPlan, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    existing: ObservedState = field(default_factory=ObservedState)
    pods: tuple[Object, ...] = ()
    workloads: tuple[Object, ...] = ()
    resource_quotas: tuple[Object, ...] = ()
    limit_ranges: tuple[Object, ...] = ()
    pod_groups: tuple[Object, ...] = ()
    """Volcano's."""
    reported: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """What Kueue itself says is reserved, by ClusterQueue, flavor and resource, in units of the resource."""
    last_changes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By plan and queue, when the quota changed last and why."""
    nodes_read: bool = field(kw_only=True)
    """False where no Node was read: what is offered is not known, and is no zero."""

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot) -> Self:
        """Reads what quota depends on out of a snapshot.

        Raises:
            BadInput: a Workload cannot be read.
        """
        use = QuotaUsage()
        for document in snapshot.of(WORKLOAD):
            try:
                workload = msgspec.convert(document, Workload)
            except msgspec.ValidationError as error:
                name = _key(document)
                raise BadInput(f"Workload {name}: {error}; give the object as it stands") from None
            use.put(_key(document), workload)
        existing = ObservedState(
            {kind: _by_key(snapshot.of(kind)) for kind in STANDING},
            use,
            dict(snapshot.plans),
            snapshot.devices,
            class_mappings(
                item
                for item in snapshot.of(CONFIG_MAP)
                if (item.get("metadata") or {}).get("namespace") == snapshot.kueue_namespace
            ),
        )
        return cls(
            snapshot.pools,
            tuple(plan for _, plan in sorted(snapshot.plans.items())),
            {name: labels for name, labels in snapshot.namespaces.items() if name not in snapshot.leaving},
            existing,
            tuple(snapshot.of("Pod")),
            tuple(snapshot.of(WORKLOAD)),
            tuple(snapshot.of("ResourceQuota")),
            tuple(snapshot.of("LimitRange")),
            tuple(snapshot.of(POD_GROUP)),
            _reported(snapshot.of(CLUSTER_QUEUE)),
            snapshot.last_changes,
            nodes_read=bool(snapshot.nodes),
        )


def _reported(queues: Iterable[Object]) -> dict[tuple[str, str, str], int]:
    """Reads the use in the status of ClusterQueues: what is admitted, and what is reserved, which is no less."""
    found: dict[tuple[str, str, str], int] = {}
    for queue in queues:
        status = queue.get("status") or {}
        for flavor in (*(status.get("flavorsUsage") or ()), *(status.get("flavorsReservation") or ())):
            for each in flavor.get("resources") or ():
                key = (_key(queue), flavor["name"], each["name"])
                found[key] = max(
                    found.get(key, 0), int(scaled(each["name"], each.get("total", 0), unreadable=1))
                )
    return found


def _by_key(documents: Iterable[Object]) -> dict[str, Object]:
    return {_key(document): project(document) for document in documents}


def _key(document: Object) -> str:
    """`namespace/name`, or the name alone."""
    metadata = document.get("metadata") or {}
    namespace, name = metadata.get("namespace"), str(metadata.get("name", ""))
    return f"{namespace}/{name}" if namespace else name
