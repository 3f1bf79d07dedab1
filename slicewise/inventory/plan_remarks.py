"""What of a plan means nothing on the pools that there are, or leaves nothing of them: said, and no reason to refuse.

Pools come and go, so what means nothing now may mean something tomorrow. Where no pool feeds the plan at all, nothing
is said here.  Pure.
"""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import Final

from slicewise.api.errors import did_you_mean
from slicewise.api.policy import PlanSpec, QuotaPlan
from slicewise.inventory.plan_selection import GLOB_CHARACTERS, chosen, takes
from slicewise.inventory.pools import Pool

_MOST_NAMED: Final = 3
_MOST_REMARKS: Final = 8
"""Of one plan, as looking for what a glob was meant to be takes time."""


def remarks(plan: QuotaPlan, pools: Iterable[Pool]) -> Iterator[str]:
    """Yields a sentence for each part that means nothing or takes everything, with what to do after a semicolon.

    Eight at most, and then one that says that there are more.

    Args:
        plan: the plan.
        pools: all pools, those included that plans declare.
    """
    found = _remarks(plan.spec, list(pools))
    yield from islice(found, _MOST_REMARKS)
    if next(found, None) is not None:
        yield "spec: further parts mean nothing or take everything; correct those that are named first"


def _remarks(spec: PlanSpec, listed: list[Pool]) -> Iterator[str]:
    fed = [pool for pool in listed if takes(spec, pool)]
    if not fed:
        return
    for field, glob in _globs(spec):
        names = [pool.name for pool in (listed if field == "pools.matchNames" else fed)]
        if not any(fnmatchcase(name, glob) for name in names):
            yield (
                f"spec.{field}: {glob} matches no pool of the plan, so it means nothing now{did_you_mean(glob, names)}"
                "; correct it, or wait for such nodes: `slicewise pools` lists the names"
            )
    known = {name for pool in fed for member in pool.members for name in member.other}
    for resource in spec.cover if known else ():
        if resource not in known:
            yield (
                f"spec.cover: no node of the plan's pools has {resource}, so no queue has any of it"
                f"{did_you_mean(resource, known)}; write it as the nodes do, or remove it"
            )
    emptied = [
        f"{resource.quantity} {resource.name} of {pool.name}"
        for pool in fed
        for resource in chosen(spec, pool).values()
        if resource.quantity and not spec.headroom.left_of(resource.quantity)
    ]
    if emptied:
        more = f" and of {len(emptied) - _MOST_NAMED} more" if len(emptied) > _MOST_NAMED else ""
        yield (
            f"spec.headroom: it keeps all {', '.join(emptied[:_MOST_NAMED])}{more}, so no queue gets any; lower it"
        )


def _globs(spec: PlanSpec) -> Iterator[tuple[str, str]]:
    """Yields the globs on names of pools, each with its field; a pool that is named in full is thereby declared."""
    yield from (("pools.matchNames", glob) for glob in spec.pools.match_names)
    for queue in spec.queues:
        yield from ((f"queues.{queue.name}.shares", glob) for glob in queue.shares)
    sizes = {"maximum": spec.maximum, "perNode": spec.per_node}
    for field, by_glob in sizes.items():
        yield from ((field, glob) for glob in by_glob if GLOB_CHARACTERS & set(glob))
    yield from (("promise", glob) for glob in spec.promise)
    yield from (("topology", glob) for glob in spec.topology)
