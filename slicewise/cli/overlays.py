"""`slicewise overlays`: what Karpenter must be told of nodes that it has not made yet.

Karpenter simulates a node before it makes one, and knows of GPUs what its cloud says: whole boards. What a node of a
pool will advertise beside them is said by a NodeOverlay (karpenter.sh/v1alpha1, alpha), which adds resources to the
instance types of the NodePools whose label names the pool. It changes no resource that Karpenter knows itself.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from typing import Any, Final

from slicewise.api import keys
from slicewise.api.policy import QuotaPlan
from slicewise.cli.inputs import cluster, cluster_arguments
from slicewise.cli.output import output_argument, print_objects, tell
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.declared_pools import declared_names, not_yet, sizes_of, with_declared
from slicewise.inventory.pools import Pool

API_VERSION: Final = "karpenter.sh/v1alpha1"
Object = dict[str, Any]


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `overlays`."""
    cluster_arguments(parser)
    output_argument(parser, default="yaml")


def run(options: Namespace) -> int:
    """Prints a NodeOverlay for each autoscaled pool that offers more than whole boards."""
    snapshot = cluster(options)
    documents, complaints = overlays(snapshot.pools, snapshot.plans.values())
    for complaint in complaints:
        tell(f"warning: {complaint}")
    none = "no plan declares a pool of slices or shares that Karpenter would have to be told of"
    print_objects(documents, ("CAPACITY", _capacity), ("NODEPOOLS OF POOL", _pool), options.output, none)
    return 0


def _capacity(overlay: Object) -> str:
    return ", ".join(f"{name}={quantity}" for name, quantity in overlay["spec"]["capacity"].items())


def _pool(overlay: Object) -> str:
    return ", ".join(overlay["spec"]["requirements"][0]["values"])


def overlays(pools: Iterable[Pool], plans: Iterable[QuotaPlan]) -> tuple[list[Object], list[str]]:
    """Returns the NodeOverlays of the pools that plans declare, and sentences about those that can have none."""
    listed = sorted(plans, key=lambda plan: plan.name)
    known = {pool.name: pool for pool in with_declared(pools, listed)}
    documents, complaints = [], []
    for name in sorted({name for plan in listed for name in declared_names(plan)} & known.keys()):
        pool = known[name]
        told_apart = pool.resources.keys() - {keys.GPU}
        if not told_apart:
            if pool.resources[keys.GPU].strategy is not Strategy.EXCLUSIVE:
                complaints.append(
                    f"pool {name} offers its parts as {keys.GPU}, which Karpenter counts as whole boards and no "
                    "overlay changes; rename them in the device plugin (renameByDefault, or MIG strategy mixed)"
                )
            continue
        per_node = _per_node(pool, listed)
        if per_node is None:
            complaints.append(
                f"pool {name} has no node yet, and no plan says what one will have; give it under perNode"
            )
            continue
        documents.append(_overlay(name, {each: str(per_node[each]) for each in told_apart & per_node.keys()}))
    return documents, complaints


def _per_node(pool: Pool, plans: Iterable[QuotaPlan]) -> Mapping[str, int] | None:
    """Returns what a node of the pool will have: as a plan says, else as the largest that stands has."""
    for plan in plans:
        if sizes := sizes_of(pool.name, plan.spec.per_node):
            return sizes
    standing = [node.offer for node in pool.members if node.offer is not None and not not_yet(node)]
    largest = max(standing, key=lambda offer: sum(offer.quantities.values()), default=None)
    return largest.quantities if largest is not None else None


def _overlay(pool: str, capacity: Mapping[str, str]) -> Object:
    return {
        "apiVersion": API_VERSION,
        "kind": "NodeOverlay",
        "metadata": {"name": f"slicewise-{pool}"},
        "spec": {
            "requirements": [{"key": keys.POOL, "operator": "In", "values": [pool]}],
            "capacity": dict(sorted(capacity.items())),
        },
    }
