"""What of a plan means nothing on the pools that there are, or leaves nothing of them: said, and no reason to refuse.

Pools come and go, so what means nothing now may mean something tomorrow. Where no pool feeds the plan at all, nothing
is said here.  Pure.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import islice
from typing import Final

from slicewise.api.errors import did_you_mean
from slicewise.api.policy import PlanSpec, QuotaPlan
from slicewise.inventory.declared_pools import sizes_of
from slicewise.inventory.plan_selection import GLOB_CHARACTERS, chosen, declared, promise_for, selects, takes
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
    yield from _globs(spec, [pool.name for pool in listed], [pool.name for pool in fed])
    yield from _other_engines(spec)
    yield from _sizes(spec, [pool.name for pool in fed])
    yield from _untaken(spec, [pool.name for pool in listed], [pool.name for pool in fed])
    if not any(queue.share_of(pool.name) for queue in spec.queues for pool in fed):
        yield "spec.queues: every share is 0, so no queue gets any of the plan's pools; give one of them a share"
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


def _globs(spec: PlanSpec, listed: Collection[str], fed: Collection[str]) -> Iterator[str]:
    """Of globs on names of pools: those that match none, and those whose pools an earlier one has."""
    given = spec.pools.model_fields_set
    for field, name in (("match_names", "matchNames"), ("match_strategies", "matchStrategies")):
        if field in given and not getattr(spec.pools, field):
            yield f"spec.pools.{name}: it is empty, which leaves out no pool; name what is meant, or remove it"
    yield from _unmatched("pools.matchNames", spec.pools.match_names, listed)
    for field, by_glob in _by_pool(spec):
        # A pool that is named in full in sizes is thereby declared, whether any node is in it or not.
        sized = field in {"maximum", "perNode"}
        globs = [glob for glob in by_glob if not sized or GLOB_CHARACTERS & set(glob)]
        yield from _unmatched(field, globs, fed)
        names, earlier = {*fed, *declared(spec)}, set[str]()
        for glob in by_glob:
            matched = {name for name in names if fnmatchcase(name, glob)}
            if matched and matched <= earlier:
                yield (
                    f"spec.{field}: {glob} comes after globs that match every pool that it matches, and the first "
                    "holds, so it means nothing; write it before them, or remove it"
                )
            earlier |= matched


def _unmatched(field: str, globs: Iterable[str], names: Collection[str]) -> Iterator[str]:
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            yield (
                f"spec.{field}: {glob} matches no pool of the plan, so it means nothing now{did_you_mean(glob, names)}"
                "; correct it, or wait for such nodes: `slicewise pools` lists the names"
            )


def _by_pool(spec: PlanSpec) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yields what is said by glob on the names of pools, in order, with its field."""
    yield from ((f"queues.{queue.name}.shares", queue.shares) for queue in spec.queues)
    yield from (("maximum", spec.maximum), ("perNode", spec.per_node))
    yield from (("promise", spec.promise), ("topology", spec.topology))


def _other_engines(spec: PlanSpec) -> Iterator[str]:
    """Fields that the plan's engine has nothing for."""
    for part, where in ((spec, ""), *((queue, f"queues.{queue.name}.") for queue in spec.queues)):
        for field in sorted(spec.engine.ignores & part.model_fields_set):
            yield f"spec.{where}{field}: it means nothing to {spec.engine.title()}; remove it"


def _untaken(spec: PlanSpec, listed: Iterable[str], fed: Collection[str]) -> Iterator[str]:
    """Pools that are meant by name and offer nothing of the strategies that the plan takes."""
    left = [name for name in listed if name not in fed]
    for field, globs in (("pools.matchNames", spec.pools.match_names), ("maximum", spec.maximum)):
        for glob in globs:
            names = [name for name in left if fnmatchcase(name, glob) and selects(spec, name)]
            if names and not any(fnmatchcase(name, glob) for name in fed):
                yield (
                    f"spec.{field}: pools.matchStrategies takes nothing of {names[0]}, so {glob} means nothing; add "
                    "its strategy, or remove it"
                )


def _sizes(spec: PlanSpec, fed: Collection[str]) -> Iterator[str]:
    """What `promise`, `maximum` and `perNode` say of pools for which it does not hold, or cannot."""
    for glob in spec.promise:
        matched = [name for name in fed if fnmatchcase(name, glob)]
        if matched and all(promise_for(spec, name) is None for name in matched):
            yield (
                f"spec.promise: {glob} matches no pool of partitionable boards (DRA), and others have what their nodes "
                "are divided into; remove it"
            )
    for glob in spec.maximum:
        if not GLOB_CHARACTERS & set(glob) and not selects(spec, glob):
            yield (
                f"spec.maximum: pools.matchNames leaves out {glob}, so it means nothing; add it there, or remove it "
                "here"
            )
    names = sorted({*fed, *declared(spec)})
    for glob in spec.per_node:
        matched = [name for name in names if fnmatchcase(name, glob)]
        sized = {name: sizes_of(name, spec.maximum) for name in matched}
        if not any(sized.values()):
            if matched or not GLOB_CHARACTERS & set(glob):
                yield f"spec.perNode: maximum has no {glob}, so it means nothing; add it there, or remove it"
            continue
        for name, most in sized.items():
            for resource, number in sizes_of(name, {glob: spec.per_node[glob]}).items():
                if number > most.get(resource, number):
                    yield (
                        f"spec.perNode: one node of {name} has {number} {resource}, and maximum promises "
                        f"{most[resource]} of all its nodes; raise maximum, or lower perNode"
                    )
