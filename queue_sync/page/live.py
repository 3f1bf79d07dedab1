"""What the controller itself knows, for its page: nothing is read that it does not watch already.

The leader shows what it counts. A standby judges no node, so it shows nodes as the webhook and the command see them,
without a clock. Pods are not watched, so what nodes use, and what work slipped through, is for the command.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from queue_sync.controllers.node_states import NodeStates
from queue_sync.controllers.overcommitment import Overcommitment
from queue_sync.controllers.plan import PlanReconciler
from queue_sync.controllers.policy import PolicyStatuses
from queue_sync.informers.optional import OptionalInformers
from queue_sync.informers.required import RequiredInformers
from queue_sync.metrics.drift import findings
from queue_sync.page.feed import CannotReadError
from queue_sync.page.model import Moment
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.desired import steps_to_wanted
from queue_sync.turns import in_turns
from slicewise.api.policy import SlicingPolicy
from slicewise.inventory.node_state import Observation, standing
from slicewise.inventory.pools import Inventory

EVERY: Final = 2.0
"""Seconds between two looks, at least."""
_UNSEEN: Final = (
    "Pods are not watched by the controller: run slicewise page or slicewise drift for what slipped through.",
)

Judge = Callable[[str, str, ClusterState, Mapping[str, SlicingPolicy]], str]
"""(manifests, namespace of objects that name none, cluster, policies) -> what would become of them."""


class Source(Protocol):
    """What the page is read from."""

    leading: bool
    node_states: NodeStates
    watched: RequiredInformers
    advisory: OptionalInformers
    plans: PlanReconciler
    policies: PolicyStatuses
    overcommitment: Overcommitment


def reader(source: Source) -> Callable[[], Awaitable[Moment]]:
    """Returns what reads the cluster out of the informers."""

    async def read() -> Moment:
        if reason := source.watched.why_not():
            raise CannotReadError(f"the controller does not follow the cluster: {reason}")
        return await moment(source)

    return read


async def moment(source: Source) -> Moment:
    """Returns the cluster as the controller sees it now."""
    pools, shown = _nodes(source)
    existing, plans = source.plans.existing(), source.plans.plans()
    states = source.node_states
    cluster = ClusterState(
        pools,
        tuple(sorted(plans, key=lambda plan: plan.name)),
        source.plans.namespaces(),
        existing,
        last_changes=source.plans.last_changes,
        nodes_read=states.nodes_believed if states.complete else bool(source.watched.nodes.store),
    )
    return Moment(
        "what the controller counts" if states.complete else "a standby of the controller",
        live=True,
        cluster=cluster,
        wanted=await in_turns(steps_to_wanted(cluster)),
        shown=shown,
        drift=findings(source, cluster),
        unseen=_UNSEEN,
    )


def explainer(source: Source, judge: Judge) -> Callable[[str, str], Awaitable[str]]:
    """Returns what explains manifests with the policies and pools that the controller knows."""

    async def explain(text: str, namespace: str) -> str:
        policies = {
            name: record.value
            for name, record in source.advisory.policies.store.items()
            if record.value is not None
        }
        return judge(text, namespace, (await moment(source)).cluster, policies)

    return explain


def _nodes(source: Source) -> tuple[Inventory, Mapping[str, Observation]]:
    if source.node_states.complete:
        return source.node_states.pools, source.node_states.shown
    pools, shown = Inventory(), {}
    for name, node in source.watched.nodes.store.items():
        seen = source.node_states.observe(node)
        if seen is not None:
            shown[name] = seen
            pools.put(name, standing(seen))
    return pools, shown
