"""What slipped through, as far as the controller watches it, counted by code.

Work that asks for names nobody offers is for `slicewise drift`, because the controller does not watch pods.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final, Protocol

from queue_sync.controllers.node_states import NodeStates
from queue_sync.controllers.overcommitment import Overcommitment
from queue_sync.controllers.plan import PlanReconciler
from queue_sync.controllers.policy import PolicyStatuses
from queue_sync.metrics.registry import Sample
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.drift import orphaned, unbacked
from queue_sync.planning.engines import ENGINES
from queue_sync.planning.findings import Finding
from queue_sync.planning.overcommit import overcommitted

CODES: Final = (
    "LeftOverQuota",
    "LimitRangeRestoresName",
    "QuotaWithoutNodes",
    "ResourceQuotaMissesWork",
    "UseAboveQuota",
)


class Source(Protocol):
    """What the findings are read from."""

    leading: bool
    node_states: NodeStates
    plans: PlanReconciler
    policies: PolicyStatuses
    overcommitment: Overcommitment


def samples(source: Source) -> Iterator[Sample]:
    """Yields the findings by code; none while it is not known what nodes offer."""
    found: list[tuple[tuple[str, ...], float]] = []
    if source.leading and source.node_states.nodes_believed:
        found = [((code,), float(number)) for code, number in sorted(_count(source).items())]
    yield (
        "slicewise_drift_findings",
        "What slipped through: queues that promise or use too much, and rules of namespaces that miscount.",
        ("code",),
        found,
    )


def findings(source: Source, cluster: ClusterState) -> list[Finding]:
    """What slipped through, as far as the controller watches it."""
    excessive = overcommitted(cluster.existing, cluster.plans, cluster.pools, source.overcommitment.quotas)
    return sorted(
        [
            *(unbacked(excessive) if cluster.nodes_read else ()),
            *orphaned(cluster.existing),
            *(finding for engine in ENGINES.values() for finding in engine.usage(cluster)),
            *source.policies.miscounts(),
        ]
    )


def _count(source: Source) -> Counter[str]:
    existing, plans = source.plans.existing(), source.plans.plans()
    cluster = ClusterState(
        source.node_states.pools, tuple(plans), source.plans.namespaces(), existing, nodes_read=True
    )
    counted = Counter(dict.fromkeys(CODES, 0))
    counted.update(each.code for each in findings(source, cluster))
    return counted
