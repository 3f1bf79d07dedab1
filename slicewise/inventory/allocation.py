"""(what is wanted, pools) -> which resource of which pools.  Pure.

Order among what fits: least memory, fewest compute slices, plain before suffixed profiles, most capacity,
name. A thing is steered to its pools where its name alone would not do (docs/architecture.md, "Steering").
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from slicewise.api import keys
from slicewise.api.policy import WorkloadClass
from slicewise.api.quantities import mebibytes
from slicewise.gpu import mig
from slicewise.gpu.strategies import MULTI_GPU_DEFAULT, MultiGPU, Strategy
from slicewise.inventory.node_resources import Resource
from slicewise.inventory.plan_selection import NO_RESERVED_POOLS, QueueQuota, ReservedPools
from slicewise.inventory.pools import Pool

_UNKNOWN_MEMORY: Final = 2**40
_GIB: Final = 1024


class GpuRequirement(msgspec.Struct, frozen=True):
    """What one template wants of the pools."""

    strategies: tuple[Strategy, ...]
    """To be tried in this order."""
    counts: frozenset[int]
    """The different numbers of GPUs that its containers ask for, each above zero."""
    memory: int | None = None
    """Least MiB."""
    profile: str = ""
    """An exact MIG profile, dotted."""
    models: tuple[str, ...] = ()
    multi: MultiGPU | None = None
    each: bool = False
    """An explicitly named profile: more than one is `each`."""
    beside: frozenset[str] = frozenset()
    """Names that the template asks for explicitly; a pool must offer them too."""


def requirement_of_class(work: WorkloadClass) -> GpuRequirement:
    """What work of a class that says nothing more asks for a container with one GPU."""
    size = work.size
    profile = mig.parse(size.profile) if size and size.profile else None
    return GpuRequirement(
        (work.strategy, *work.otherwise),
        frozenset({1}),
        mebibytes(size.memory) if size and size.memory else None,
        profile.dotted if profile else "",
        work.models,
        work.multi_gpu,
    )


class Choice(msgspec.Struct, frozen=True):
    """What a template gets."""

    strategy: Strategy
    name: str
    """The resource for a container that asks for one."""
    many: str
    """The resource for a container that asks for more than one."""
    rule: MultiGPU
    pools: tuple[str, ...]
    """The pools that may serve it, the best first."""
    steered: bool
    """True when the pod must be kept to these pools by affinity."""
    unit: str
    """What one of it is, in words."""
    why: str = ""
    """Why it is not what the class names first; "" when it is."""

    def of(self, asked: int) -> tuple[str, int]:
        """Returns the resource name and the count that a container gets for what it asks."""
        if asked == 1:
            return self.name, 1
        return self.many, 1 if self.rule is MultiGPU.ONE else asked


class NothingFits(msgspec.Struct, frozen=True):
    """No pool can serve it: what was tried, each in words."""

    tried: tuple[str, ...]
    elsewhere: bool = False
    """True when a pool of another engine could."""
    own: bool = False
    """True when one could but for the pod's own selectors."""


class TooMany(msgspec.Struct, frozen=True):
    """More than one was asked of something that cannot be added up."""

    strategy: Strategy
    explicit: bool
    """True when the policy's class says `refuse` itself."""


class _Candidate(msgspec.Struct, frozen=True):
    pool: Pool
    resource: Resource

    @property
    def order(self) -> tuple[int, int, bool, int, str]:
        return (*_size(self.resource), -self.resource.quantity, self.pool.name)


PoolFilter = Callable[[Pool, str], bool]
"""(pool, resource name) -> True when the pod may run on a node of the pool that offers it; "" is any name."""


def choose(
    ask: GpuRequirement,
    pools: Sequence[Pool],
    narrow: PoolFilter | None = None,
    elsewhere: ReservedPools = NO_RESERVED_POOLS,
    fed: QueueQuota | None = None,
) -> Choice | TooMany | NothingFits:
    """Chooses for one template; `narrow` says which pools, and what of them, the pod's own selectors leave,
    `elsewhere` which are another engine's, and `fed` what its queue has quota of, where that is known: anything else
    is chosen only where none of that will do."""
    if fed is not None:
        return _with_quota(ask, pools, narrow, elsewhere, fed)
    open_to = [pool for pool in pools if narrow is None or narrow(pool, "")]
    if pools and not open_to:
        return NothingFits(("the pod's own nodeSelector or affinity matches no node of any pool",), own=True)
    ours = [pool for pool in pools if pool.name not in elsewhere]
    tried: list[str] = []
    away = False
    for strategy in ask.strategies:
        outcome = _choose(ask, strategy, ours, narrow, open_to)
        if elsewhere and isinstance(outcome, str):
            there = _choose(ask, strategy, pools, narrow, open_to)
            if isinstance(there, Choice):
                away, outcome = True, _taken(there, elsewhere)
        if isinstance(outcome, Choice) and tried:
            return msgspec.structs.replace(outcome, why=outcome.why or tried[-1])
        if not isinstance(outcome, str):
            return outcome
        tried.append(outcome)
    own = narrow is not None and any(_fitting(ask, strategy, ours) for strategy in ask.strategies)
    return NothingFits(tuple(tried), away, own)


def _with_quota(
    ask: GpuRequirement,
    pools: Sequence[Pool],
    narrow: PoolFilter | None,
    elsewhere: ReservedPools,
    fed: QueueQuota,
) -> Choice | TooMany | NothingFits:
    def has_quota(pool: Pool, name: str) -> bool:
        has = fed.get(pool.name)
        return has is not None and (not name or name in has) and (narrow is None or narrow(pool, name))

    otherwise = choose(ask, pools, narrow, elsewhere)
    found = choose(ask, pools, has_quota, elsewhere)
    if not isinstance(found, Choice):
        return otherwise
    # Pools without quota are no reason to keep the pod from them, for the queue may be fed from them later; those that
    # would not do, or are another engine's, are.
    ours = [pool for pool in pools if pool.name not in elsewhere]
    fitting = _fitting(ask, found.strategy, ours, narrow)
    alike = {each.pool.name for each in fitting if each.resource.name == found.name}
    unlike = any(found.name in pool.resources and pool.name not in alike for pool in pools)
    found = msgspec.structs.replace(found, steered=found.steered or unlike)
    if isinstance(otherwise, NothingFits):
        return found
    if isinstance(otherwise, Choice) and otherwise.strategy is found.strategy:
        return msgspec.structs.replace(found, why=otherwise.why)
    return msgspec.structs.replace(found, why=f"{otherwise.strategy}: its queue has no quota of it")


def _taken(there: Choice, elsewhere: ReservedPools) -> str:
    taken = [name for name in there.pools if name in elsewhere]
    plans = dict.fromkeys(elsewhere[name] for name in taken)
    return f"{there.strategy}: offered by {', '.join(taken)} alone, which {' and '.join(plans)}"


def _choose(
    ask: GpuRequirement,
    strategy: Strategy,
    pools: Sequence[Pool],
    narrow: PoolFilter | None,
    sight: list[Pool],
) -> Choice | TooMany | str:
    """Chooses among `pools`; from the rest of those in `sight` the pod must be kept."""
    fitting = _fitting(ask, strategy, pools, narrow)
    if not fitting:
        return _why_not(ask, strategy, pools)
    rule = _rule(ask, strategy)
    if max(ask.counts) == 1 or rule in {MultiGPU.EACH, MultiGPU.ONE}:
        return _choice(ask, strategy, rule, fitting, sight)
    if rule is MultiGPU.REFUSE:
        return TooMany(strategy, ask.multi is MultiGPU.REFUSE)
    whole = _fitting(ask, Strategy.EXCLUSIVE, pools, narrow)
    if not whole:
        return f"{strategy}: more than one means whole GPUs (multiGPU: whole), and no pool offers those"
    both = [c for c in fitting if any(w.pool is c.pool for w in whole) and _on_one_node(c)]
    both = both if 1 in ask.counts else []
    if both:
        return _choice(ask, strategy, rule, both, sight)
    choice = _choice(ask, Strategy.EXCLUSIVE, MultiGPU.EACH, whole, sight)
    return msgspec.structs.replace(choice, why="more than one means whole GPUs (multiGPU: whole)")


def _on_one_node(candidate: _Candidate) -> bool:
    """True when one node of the pool offers the resource and whole boards: a pod's containers land on one node."""
    wanted = {candidate.resource.name, keys.GPU}
    return any(
        wanted <= {resource.name for resource in member.offer.resources if resource.quantity}
        for member in candidate.pool.members
        if member.offer is not None
    )


def _rule(ask: GpuRequirement, strategy: Strategy) -> MultiGPU:
    if strategy is Strategy.EXCLUSIVE or (ask.each and strategy is Strategy.MIG):
        return MultiGPU.EACH
    return ask.multi or MULTI_GPU_DEFAULT[strategy]


def _fitting(
    ask: GpuRequirement, strategy: Strategy, pools: Iterable[Pool], narrow: PoolFilter | None = None
) -> list[_Candidate]:
    found = [
        _Candidate(pool, resource)
        for pool in pools
        if pool.is_model(ask.models) and ask.beside <= pool.resources.keys()
        for resource in pool.resources.values()
        if resource.strategy is strategy
        and _fits(ask, strategy, resource)
        and (narrow is None or narrow(pool, resource.name))
    ]
    found.sort(key=lambda candidate: candidate.order)
    return found


def _fits(ask: GpuRequirement, strategy: Strategy, resource: Resource) -> bool:
    if strategy is Strategy.MIG:
        if ask.profile:
            return resource.profile == ask.profile
        profile = mig.parse(resource.profile)
        if profile is not None and not profile.plain:
            return False  # +me and the like are scarce (one to a board): only by name
    if ask.memory is None:
        return True
    return strategy is not Strategy.TIME_SLICING and (resource.memory or 0) >= ask.memory


def _size(resource: Resource) -> tuple[int, int, bool]:
    profile = mig.parse(resource.profile) if resource.profile else None
    memory = resource.memory
    if memory is None:
        memory = profile.gigabytes * _GIB if profile else _UNKNOWN_MEMORY
    return memory, resource.compute, profile is not None and not profile.plain


def _choice(
    ask: GpuRequirement, strategy: Strategy, rule: MultiGPU, fitting: list[_Candidate], sight: list[Pool]
) -> Choice:
    best = fitting[0]
    name = best.resource.name
    # Under an explicit name every piece is what the name says; nvidia.com/gpu names very different things.
    alike = [
        c
        for c in fitting
        if c.resource.name == name and (name != keys.GPU or _alike(c.resource, best.resource))
    ]
    accepted = dict.fromkeys(c.pool.name for c in alike)
    many = keys.GPU if rule is MultiGPU.WHOLE else name
    ruled_out = any(name in pool.resources and pool.name not in accepted for pool in sight)
    steered = ruled_out or name == keys.GPU or (many == keys.GPU and max(ask.counts) > 1)
    return Choice(strategy, name, many, rule, tuple(accepted), steered, _words(best.resource))


def _alike(one: Resource, other: Resource) -> bool:
    return _size(one) == _size(other) and one.replicas == other.replicas and one.profile == other.profile


def _words(resource: Resource) -> str:
    what = f"slice {resource.profile}" if resource.profile else "whole GPU"
    if resource.strategy in {Strategy.TIME_SLICING, Strategy.MPS}:
        of = f"a {what}" if resource.profile else "a GPU"
        return f"{resource.strategy} share (one of {resource.replicas}) of {of}"
    return "vGPU" if resource.strategy is Strategy.VGPU else what


def _why_not(ask: GpuRequirement, strategy: Strategy, pools: Sequence[Pool], *, one: bool = False) -> str:
    """Says what stands between a strategy and the pools, most telling first; `one` where they are a single pool that
    was named before."""
    if _fitting(ask, strategy, pools):
        return f"{strategy}: the pod's own nodeSelector or affinity leaves no node that offers it"
    offered = [p for p in pools if any(r.strategy is strategy for r in p.resources.values())]
    if not offered:
        return f"{strategy}: it does not offer it" if one else f"{strategy}: no pool offers it"
    modelled = [p for p in offered if p.is_model(ask.models)]
    if not modelled:
        models = ", ".join(ask.models)
        if one:
            return f"{strategy}: it is none of {models}"
        return f"{strategy}: no pool that offers it is one of {models}"
    if ask.beside and not any(ask.beside <= p.resources.keys() for p in modelled):
        beside = ", ".join(sorted(ask.beside))
        if one:
            return f"{strategy}: it has not {beside} too"
        return f"{strategy}: no pool that offers it has {beside} too"
    if strategy is Strategy.MIG and ask.profile:
        if one:
            return f"{strategy}: it does not offer the profile {ask.profile}"
        return f"{strategy}: no pool offers the profile {ask.profile}"
    if ask.memory is not None:
        if strategy is Strategy.TIME_SLICING:
            return f"{strategy}: shares promise no memory, and {ask.memory} MiB are asked for"
        return f"{strategy}: nothing offered holds {ask.memory} MiB"
    return f"{strategy}: only profiles that must be named are offered"


def look(
    ask: GpuRequirement,
    pools: Iterable[Pool],
    narrow: PoolFilter | None = None,
    elsewhere: ReservedPools = NO_RESERVED_POOLS,
) -> list[tuple[str, str]]:
    """Says of every pool, in words, what it has for an ask: for people who want to know why."""
    found = []
    for pool in pools:
        if pool.name in elsewhere:
            found.append((pool.name, f"not looked at: it is what {elsewhere[pool.name]}"))
            continue
        if narrow is not None and not narrow(pool, ""):
            found.append((pool.name, "the pod's own nodeSelector or affinity leaves none of its nodes"))
            continue
        verdicts = []
        for strategy in ask.strategies:
            fitting = _fitting(ask, strategy, [pool], narrow)
            if fitting:
                names = ", ".join(f"{c.resource.name} ({c.resource.quantity})" for c in fitting)
                verdicts.append(f"{strategy}: {names} fits")
            else:
                verdicts.append(_why_not(ask, strategy, [pool], one=True))
        found.append((pool.name, "; ".join(verdicts)))
    return found
