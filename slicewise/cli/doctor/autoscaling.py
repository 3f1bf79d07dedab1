"""Autoscaled pools against the node groups that could make their nodes, where a cluster shows those."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from slicewise.api import keys
from slicewise.api.policy import PLAN_KIND, QuotaPlan
from slicewise.cli.doctor.cluster import Patient, named
from slicewise.cli.doctor.findings import Finding
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.declared_pools import declared_names, may_offer, missing_nodes, sizes_of
from slicewise.inventory.pool_name import PoolName

_SHARED_BY_NUMBER: Final = frozenset({Strategy.TIME_SLICING, Strategy.MPS})
NODE_POOL: Final = "NodePool.karpenter.sh"


def check(patient: Patient) -> Iterator[Finding]:
    """Pools that a plan declares and that have no node: can they come, and is it known what one node will have?"""
    groups = patient.snapshot.of(NODE_POOL)
    made = {pool for group in groups for pool in _pools(group)}
    empty = {pool.name for pool in missing_nodes(patient.pools)}
    standing = [pool.name for pool in patient.pools if pool.name not in empty]
    for plan in sorted(patient.snapshot.plans.values(), key=lambda plan: plan.name):
        yield from _impossible(plan)
        for pool in sorted(declared_names(plan) & empty):
            if groups and pool not in made:
                yield _never_made(plan, pool, sorted(map(named, groups)))
            else:
                yield from _misnamed(plan, pool, standing)
                yield from _unbounded(plan, pool)


def _impossible(plan: QuotaPlan) -> Iterator[Finding]:
    """What `maximum` promises and no node will ever have, so that it is no quota."""
    for pool in sorted(declared_names(plan)):
        sentence = f"maximum promises {pool}, and no pool is ever called so"
        fix = "Write a name as slicewise pools prints them, such as l4-exclusive or t4-time-slicing-x10."
        if PoolName.parse(pool) is None:
            yield Finding("PoolNeverMade", PLAN_KIND, plan.name, sentence, fix)
            continue
        for resource in sizes_of(pool, plan.spec.maximum):
            if not may_offer(pool, resource):
                sentence = f"maximum promises {resource} in {pool}, and no node of a pool that is called so offers that"
                fix = "Write a resource that nodes of the pool have, or the pool that has it."
                yield Finding("PoolNeverMade", PLAN_KIND, plan.name, sentence, fix)


def _never_made(plan: QuotaPlan, pool: str, groups: list[str]) -> Finding:
    sentence = (
        f"maximum promises {pool}, which has no node, and no NodePool gives its nodes the label "
        f"{keys.POOL}={pool} (there are: {', '.join(groups)}); work for it waits for ever"
    )
    fix = f"Add {keys.POOL}: {pool} to spec.template.metadata.labels of the NodePool that makes such nodes."
    return Finding("PoolNeverMade", PLAN_KIND, plan.name, sentence, fix)


def _misnamed(plan: QuotaPlan, pool: str, standing: Iterable[str]) -> Iterator[Finding]:
    """A pool without nodes that is called nearly as one that has some, or as hardly any pool is."""
    name = PoolName.parse(pool)
    near = [each for each in standing if name is not None and _nearly(name, PoolName.parse(each))]
    if near:
        sentence = f"maximum names {pool}, which has no node, and {' and '.join(near)} has"
        fix = f"Write {near[0]} where that is meant; leave it where such nodes are to come."
        yield Finding("PoolNamedAlike", PLAN_KIND, plan.name, sentence, fix)
    elif name is not None and name.division in _SHARED_BY_NUMBER:
        sentence = f"maximum names {pool}, and pools of shares are called by how many each board has"
        fix = f"Write {pool}-x10 for ten; leave it where nodes do not say how many."
        yield Finding("PoolNamedAlike", PLAN_KIND, plan.name, sentence, fix)


def _nearly(name: PoolName, other: PoolName | None) -> bool:
    """True where two names differ in how much of the model they say, or in how many shares of a board there are."""
    if other is None or name.taints != other.taints:
        return False
    if name.division == other.division:
        longer, shorter = sorted((name.model, other.model), key=len, reverse=True)
        return longer.startswith(f"{shorter}-")
    return name.model == other.model and other.division.startswith(f"{name.division}-x")


def _unbounded(plan: QuotaPlan, pool: str) -> Iterator[Finding]:
    bounded = sizes_of(pool, plan.spec.per_node)
    for name, most in sizes_of(pool, plan.spec.maximum).items():
        if most > 1 and name not in bounded and may_offer(pool, name):
            sentence = (
                f"maximum promises {most} {name} in {pool}, and nothing says how many one node will have, so a pod "
                "that asks for more than that is admitted and never runs"
            )
            fix = f"Write perNode: {{{pool}: {{{name}: …}}}} with what one such node has."
            yield Finding("MaximumWithoutPerNode", PLAN_KIND, plan.name, sentence, fix)


def _pools(group: dict[str, Any]) -> Iterator[str]:
    """The pools whose label a NodePool gives to its nodes."""
    template = (group.get("spec") or {}).get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if keys.POOL in labels:
        yield str(labels[keys.POOL])
    for each in (template.get("spec") or {}).get("requirements") or ():
        if each.get("key") == keys.POOL and each.get("operator") == "In":
            yield from map(str, each.get("values") or ())
