"""Autoscaled pools against the node groups that could make their nodes, where a cluster shows those."""

from collections.abc import Iterator
from typing import Any, Final

from slicewise.api import keys
from slicewise.api.policy import PLAN_KIND
from slicewise.cli.doctor.cluster import Patient, named
from slicewise.cli.doctor.findings import Finding
from slicewise.inventory.declared_pools import declared_names, missing_nodes

NODE_POOL: Final = "NodePool.karpenter.sh"


def check(patient: Patient) -> Iterator[Finding]:
    """Pools that a plan declares, that have no node, and whose label no NodePool of Karpenter gives."""
    groups = patient.snapshot.of(NODE_POOL)
    made = {pool for group in groups for pool in _pools(group)}
    empty = {pool.name for pool in missing_nodes(patient.pools)}
    for plan in sorted(patient.snapshot.plans.values(), key=lambda plan: plan.name) if groups else ():
        for pool in sorted(declared_names(plan) & empty - made):
            sentence = (
                f"maximum promises {pool}, which has no node, and no NodePool gives its nodes the label "
                f"{keys.POOL}={pool} (there are: {', '.join(sorted(map(named, groups)))}); work for it waits for ever"
            )
            fix = f"Add {keys.POOL}: {pool} to spec.template.metadata.labels of the NodePool that makes such nodes."
            yield Finding("PoolNeverMade", PLAN_KIND, plan.name, sentence, fix)


def _pools(group: dict[str, Any]) -> Iterator[str]:
    """The pools whose label a NodePool gives to its nodes."""
    template = (group.get("spec") or {}).get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if keys.POOL in labels:
        yield str(labels[keys.POOL])
    for each in (template.get("spec") or {}).get("requirements") or ():
        if each.get("key") == keys.POOL and each.get("operator") == "In":
            yield from map(str, each.get("values") or ())
