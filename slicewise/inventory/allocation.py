"""(what is wanted, pools) -> which resource of which pools.  Pure.

A pool fits when one node of it has all that the pod's containers ask for together. Order among what fits: least memory,
fewest compute slices, plain before suffixed profiles, most capacity, name. Every pool that offers the chosen name under
the chosen strategy serves, the smaller ones preferred. A pod is steered to its pools where the name alone would not do
(docs/architecture.md, "Steering").
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from slicewise.api import keys
from slicewise.api.policy import matches
from slicewise.gpu import mig
from slicewise.gpu.strategies import MULTI_GPU_DEFAULT, MultiGPU, Strategy
from slicewise.inventory.allocation_trace import (
    PoolTrace,
    Trace,
    Verdict,
    largest_unit,
    most_on_one_node,
    pools_in_words,
    refusal,
)
from slicewise.inventory.declared_pools import may_be_model, not_yet
from slicewise.inventory.gpu_requirement import GpuRequirement
from slicewise.inventory.node_resources import Resource
from slicewise.inventory.node_state import CountedNode
from slicewise.inventory.plan_selection import NO_RESERVED_POOLS, QueueQuota, ReservedPools
from slicewise.inventory.pools import Pool
from slicewise.inventory.sources.dra import SOURCE as DRA
from slicewise.inventory.sources.gpu_feature_discovery import product_label

_UNKNOWN_MEMORY: Final = 2**40
_GIB: Final = 1024


class NodeLabel(msgspec.Struct, frozen=True):
    """A requirement on a node's label, as node affinity has it."""

    key: str
    operator: str
    """In or NotIn."""
    values: tuple[str, ...]


class Choice(msgspec.Struct, frozen=True):
    """What a template gets."""

    strategy: Strategy
    name: str
    """The resource for a container that asks for one."""
    many: str
    """The resource for a container that asks for more than one."""
    rule: MultiGPU
    pools: tuple[str, ...]
    """The pools that may serve it, the smallest units first."""
    steered: bool
    """True when the pod must be kept to these pools by affinity."""
    unit: str
    """What one of it is, in words."""
    why: str = ""
    """Why it is not what the class names first; "" when it is."""
    node_labels: tuple[NodeLabel, ...] = ()
    """What else keeps the pod to the nodes that fit, where a pool has others too."""
    quantity: int = 0
    """How many of the name these pools offer together."""

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
    pinned: bool = False
    """True when `spec.nodeName` leaves one node, which has not what is wanted."""
    tainted: bool = False
    """True when one could but for taints that the pod does not tolerate."""
    most: int = 0
    """The most that one node has, where the pod asks for more together; 0 where that is not the reason."""
    largest: int = 0
    """The most MiB that one unit holds, where more is asked for; 0 where that is not the reason."""


class TooMany(msgspec.Struct, frozen=True):
    """More than one was asked of something that cannot be added up."""

    strategy: Strategy
    explicit: bool
    """True when the policy's class says `refuse` itself."""


Outcome = Choice | TooMany | NothingFits


class Allocation(msgspec.Struct, frozen=True):
    """What a template gets, and what was looked at on the way."""

    requirement: GpuRequirement
    outcome: Outcome
    trace: Trace

    @property
    def fitting(self) -> frozenset[str]:
        """The pools that would do."""
        return frozenset(step.pool for step in self.trace if step.verdict is Verdict.FITS)

    def pools_in_words(self) -> list[tuple[str, str]]:
        """Returns every pool that was looked at, with what it has for the template."""
        return list(pools_in_words(self.trace, self.requirement))


class NodeFilter(msgspec.Struct, frozen=True):
    """What a pod's own selectors leave of the nodes."""

    allows: Callable[[CountedNode], bool]
    node_name: str = ""
    """The node that the pod is pinned to by `spec.nodeName`."""


def allocate(
    requirement: GpuRequirement,
    pools: Sequence[Pool],
    node_filter: NodeFilter | None = None,
    reserved: ReservedPools = NO_RESERVED_POOLS,
    quota: QueueQuota | None = None,
) -> Allocation:
    """Finds what one template gets.

    Args:
        requirement: what it wants.
        pools: every pool, declared ones among them.
        node_filter: what the pod's own selectors leave of the nodes; None where it has none.
        reserved: pools that are another engine's.
        quota: what the workload's queue has quota of, where a plan says. Anything else is chosen only where none of
            that will do.
    """
    if quota is not None:
        found = _Search(requirement, pools, node_filter, reserved, quota).result()
        if isinstance(found.outcome, Choice):
            return found
    return _Search(requirement, pools, node_filter, reserved, None).result()


class _Candidate(msgspec.Struct, frozen=True):
    pool: Pool
    resource: Resource

    @property
    def order(self) -> tuple[int, int, bool, int, str]:
        return (*_size(self.resource), -self.resource.quantity, self.pool.name)


class _Search:
    """One pass over strategies and pools."""

    def __init__(
        self,
        requirement: GpuRequirement,
        pools: Sequence[Pool],
        node_filter: NodeFilter | None,
        reserved: ReservedPools,
        quota: QueueQuota | None,
    ) -> None:
        self.requirement, self.pools, self.node_filter = requirement, pools, node_filter
        self.reserved, self.quota = reserved, quota
        self.trace: list[PoolTrace] = []
        self.capable: set[tuple[str, str]] = set()
        """(pool, name) that would do for what was looked for last, but for taints and quota."""

    def result(self) -> Allocation:
        return Allocation(self.requirement, self._outcome(), tuple(self.trace))

    def _outcome(self) -> Outcome:
        tried: list[str] = []
        for strategy in self.requirement.strategies:
            outcome = self._try(strategy)
            if isinstance(outcome, Choice) and tried:
                return msgspec.structs.replace(outcome, why=tried[0])
            if not isinstance(outcome, str):
                return outcome
            tried.append(outcome)
        return self._nothing(tried)

    def _nothing(self, tried: list[str]) -> NothingFits:
        verdicts = {step.verdict for step in self.trace}
        selectors = Verdict.NOT_SELECTED in verdicts
        if self.node_filter is not None:
            nowhere = bool(self.pools) and not any(map(self._visible, self.pools))
            suits = verdicts & {Verdict.TAINTED, Verdict.RESERVED}  # then the node has what is wanted
            if self.node_filter.node_name and not suits and (selectors or nowhere):
                return self._pinned(self.node_filter.node_name, self.node_filter)
            if nowhere:
                return NothingFits(
                    ("the pod's own nodeSelector or affinity matches no node of any pool",), own=True
                )
        return NothingFits(
            tuple(tried),
            elsewhere=Verdict.RESERVED in verdicts,
            own=selectors,
            tainted=Verdict.TAINTED in verdicts,
            most=most_on_one_node(self.trace),
            largest=largest_unit(self.trace),
        )

    def _pinned(self, name: str, node_filter: NodeFilter) -> NothingFits:
        """Returns why the node has nothing for it to which the pod is pinned."""
        if any(node.name == name and not node_filter.allows(node) for node in _nodes(self.pools)):
            alone = NodeFilter(lambda node: node.name == name, name)
            found = _Search(self.requirement, self.pools, alone, self.reserved, self.quota)
            if isinstance(found.result().outcome, Choice):
                words = f"spec.nodeName pins it to {name}, and its own nodeSelector or affinity rules that node out"
                return NothingFits((words,), own=True)
        return NothingFits((_pinned(name, self.pools),), pinned=True)

    def _try(self, strategy: Strategy) -> Choice | TooMany | str:
        """Returns what a strategy gives, or in words why it gives nothing."""
        requirement, rule = self.requirement, _rule(self.requirement, strategy)
        several = max(requirement.counts, default=1) > 1
        if not several or rule in {MultiGPU.EACH, MultiGPU.ONE}:
            fitting = self._fitting(strategy, rule)
            return self._choice(strategy, rule, fitting) if fitting else self._refusal(strategy)
        if not self._fitting(strategy, rule, name_for_many=""):
            return self._refusal(strategy)
        if rule is MultiGPU.REFUSE:
            return TooMany(strategy, requirement.multi_gpu is MultiGPU.REFUSE)
        if 1 in requirement.counts:
            both = self._fitting(strategy, rule, name_for_many=keys.GPU)
            if both := [each for each in both if _has_whole_boards(each.pool)]:
                return self._choice(strategy, rule, both)
        whole = self._fitting(Strategy.EXCLUSIVE, MultiGPU.EACH)
        words = "more than one means whole GPUs (multiGPU: whole)"
        if not whole:
            if Strategy.EXCLUSIVE in requirement.strategies:
                return f"{strategy}: {words}"  # which is tried too, and says itself why not
            return f"{strategy}: {words}; {self._refusal(Strategy.EXCLUSIVE)}"
        return msgspec.structs.replace(self._choice(Strategy.EXCLUSIVE, MultiGPU.EACH, whole), why=words)

    def _refusal(self, strategy: Strategy) -> str:
        steps = [step for step in self.trace if step.strategy is strategy]
        return refusal(strategy, steps, self.requirement)

    def _fitting(
        self, strategy: Strategy, rule: MultiGPU, *, name_for_many: str | None = None
    ) -> list[_Candidate]:
        """Looks at every pool; `name_for_many` is the resource for more than one, where it is not the same."""
        found = []
        steps = []
        self.capable.clear()
        for pool in self.pools:
            resources, step = self._look(pool, strategy, rule, name_for_many)
            found += [_Candidate(pool, resource) for resource in resources]
            steps.append(step)
        # Where a strategy is looked at again, for more at once, that is what counts.
        self.trace = [step for step in self.trace if step.strategy is not strategy] + steps
        found.sort(key=lambda candidate: candidate.order)
        return found

    def _look(
        self, pool: Pool, strategy: Strategy, rule: MultiGPU, name_for_many: str | None
    ) -> tuple[list[Resource], PoolTrace]:
        requirement = self.requirement

        def stopped(verdict: Verdict, **more: Any) -> tuple[list[Resource], PoolTrace]:
            return [], PoolTrace(pool.name, strategy, verdict, **more)

        offered = [each for each in pool.resources.values() if each.strategy is strategy]
        if not offered:
            return [], _absent(pool, strategy, requirement)
        nodes: Sequence[CountedNode] = pool.members
        if requirement.models:
            nodes = [node for node in nodes if is_model(node, requirement.models)]
            if not nodes or _labels_of(requirement.models, pool.members) is None:
                return stopped(Verdict.OTHER_MODEL)
        if not requirement.also_needs <= pool.resources.keys():
            return stopped(Verdict.LACKS_NAMED)
        sized = [each for each in offered if _holds(requirement, each)]
        if not sized:
            return stopped(_size_verdict(requirement, strategy), largest=_largest(offered))
        demands = {
            each.name: requirement.demand(
                each.name, each.name if name_for_many is None else name_for_many, rule
            )
            for each in sized
        }
        enough = [each for each in sized if any(_has(node, demands[each.name]) for node in nodes)]
        if not enough:
            return [], _too_few(pool, strategy, nodes, demands[sized[0].name])
        if (node_filter := self.node_filter) is not None:
            enough = [
                each
                for each in enough
                if any(_has(node, demands[each.name]) and node_filter.allows(node) for node in nodes)
            ]
            if not enough:
                return stopped(Verdict.NOT_SELECTED, node_name=node_filter.node_name)
        if plan := self.reserved.get(pool.name):
            return stopped(Verdict.RESERVED, plan=plan)
        self.capable.update((pool.name, each.name) for each in enough)
        if taints := [taint for taint in pool.taints if not requirement.tolerates(taint)]:
            return stopped(Verdict.TAINTED, taints=" and ".join(map(str, taints)))
        if self.quota is not None:
            enough = [each for each in enough if each.name in self.quota.get(pool.name, ())]
            if not enough:
                return stopped(Verdict.NO_QUOTA)
        return enough, PoolTrace(
            pool.name, strategy, fits=tuple((each.name, each.quantity) for each in enough)
        )

    def _choice(self, strategy: Strategy, rule: MultiGPU, fitting: list[_Candidate]) -> Choice:
        best = fitting[0].resource
        name = best.name
        accepted = [each for each in fitting if each.resource.name == name]
        if not self.requirement.spill and name == keys.GPU:
            # Under an explicit name every piece is what the name says; nvidia.com/gpu names very different things.
            accepted = [each for each in accepted if _unit(each.resource) == _unit(best)]
        offering = len(accepted)
        accepted, node_labels = _told_apart(accepted, self.requirement.models)
        pools = tuple(each.pool.name for each in accepted)
        name_for_many = keys.GPU if rule is MultiGPU.WHOLE else name
        several = max(self.requirement.counts, default=1) > 1
        steered = (
            self.requirement.every_node
            or bool(node_labels)
            or len(accepted) < offering
            or name == keys.GPU
            or (name_for_many == keys.GPU and several)
            or self._ruled_out(name, pools)
        )
        return Choice(
            strategy,
            name,
            name_for_many,
            rule,
            pools,
            steered,
            _words(best),
            node_labels=node_labels,
            quantity=sum(each.resource.quantity for each in accepted),
        )

    def _ruled_out(self, name: str, accepted: tuple[str, ...]) -> bool:
        """True when a pool offers the name and would not do. One that its taint guards, or that the queue has no quota
        of, is no reason to keep the pod from it: the queue may be fed from it later."""
        return any(
            name in pool.resources
            and pool.name not in accepted
            and (pool.name, name) not in self.capable
            and self._visible(pool)
            for pool in self.pools
        )

    def _visible(self, pool: Pool) -> bool:
        return self.node_filter is None or any(map(self.node_filter.allows, pool.members))


def is_model(node: CountedNode, globs: Sequence[str]) -> bool:
    """True when a node's boards are of one of the models; no globs match any. Of a node that has not come yet only the
    pool's name is known, which leaves the packaging open."""
    if not globs:
        return True
    return (may_be_model if not_yet(node) else _matches)(node.model, tuple(globs))


_matches: Final = lru_cache(maxsize=4096)(matches)


def _has_whole_boards(pool: Pool) -> bool:
    whole = pool.resources.get(keys.GPU)
    return whole is not None and whole.strategy is Strategy.EXCLUSIVE


def _rule(requirement: GpuRequirement, strategy: Strategy) -> MultiGPU:
    if strategy is Strategy.EXCLUSIVE or (requirement.profile_is_explicit and strategy is Strategy.MIG):
        return MultiGPU.EACH
    return requirement.multi_gpu or MULTI_GPU_DEFAULT[strategy]


def _holds(requirement: GpuRequirement, resource: Resource) -> bool:
    if resource.strategy is Strategy.MIG:
        if requirement.profile:
            return resource.profile == requirement.profile
        profile = mig.parse(resource.profile)
        if profile is not None and not profile.plain:
            return False  # +me and the like are scarce (one to a board): only by name
    if requirement.memory is None:
        return True
    return resource.strategy is not Strategy.TIME_SLICING and (resource.memory or 0) >= requirement.memory


def _size_verdict(requirement: GpuRequirement, strategy: Strategy) -> Verdict:
    if strategy is Strategy.MIG and requirement.profile:
        return Verdict.OTHER_PROFILE
    if requirement.memory is None:
        return Verdict.ONLY_BY_NAME
    return Verdict.PROMISES_NO_MEMORY if strategy is Strategy.TIME_SLICING else Verdict.TOO_SMALL


def _largest(offered: Iterable[Resource]) -> int:
    """Returns the most MiB that one unit holds of what is given to those who name no profile."""
    profiles = ((each, mig.parse(each.profile)) for each in offered)
    return max(
        (each.memory or 0 for each, profile in profiles if profile is None or profile.plain), default=0
    )


def _absent(pool: Pool, strategy: Strategy, requirement: GpuRequirement) -> PoolTrace:
    """Tells a pool that does not offer a strategy, or cannot, from one that would, but that no node is believed."""
    if pool.members or pool.strategy is not strategy or not pool.is_model(requirement.models):
        verdict = Verdict.NOT_OFFERED
        if strategy in {Strategy.TIME_SLICING, Strategy.MPS}:
            if pool.sources == (DRA,):
                verdict = Verdict.NEVER_SHARED
            elif (shares := pool.resources.get(keys.GPU_SHARED)) and shares.strategy is Strategy.SHARED:
                verdict = Verdict.SHARED_SOMEHOW
        return PoolTrace(pool.name, strategy, verdict)
    first, more = pool.unsettled[0], len(pool.unsettled) - 1
    doubt = f"{first.node} ({first.reason})" + (f" and {more} more" if more else "")
    return PoolTrace(pool.name, strategy, Verdict.NOT_COUNTED, doubt=doubt)


def _has(node: CountedNode, demand: Mapping[str, int]) -> bool:
    """True when one node offers all of it."""
    if node.offer is None:
        return False
    met = 0
    for resource in node.offer.resources:
        count = demand.get(resource.name)
        if count is not None:
            if resource.quantity < count:
                return False
            met += 1
    return met == len(demand)


def _too_few(
    pool: Pool, strategy: Strategy, nodes: Iterable[CountedNode], demand: Mapping[str, int]
) -> PoolTrace:
    offers = [node.offer.quantities for node in nodes if node.offer is not None]
    largest = {name: max((each.get(name, 0) for each in offers), default=0) for name in demand}
    short = [name for name, count in demand.items() if largest[name] < count]
    return PoolTrace(
        pool.name,
        strategy,
        Verdict.TOO_FEW,
        demand=tuple(sorted((name, demand[name]) for name in short or demand)),
        most=min((largest[name] for name in short), default=0),
    )


def _told_apart(
    accepted: list[_Candidate], models: Sequence[str]
) -> tuple[list[_Candidate], tuple[NodeLabel, ...]]:
    """Keeps the pod to the nodes of the models, where a pool has others too.

    Where no label says that for all pools, those serve that have no others, else the first alone.
    """
    pure = [each for each in accepted if all(is_model(node, models) for node in each.pool.members)]
    for some in (accepted, pure or accepted[:1]):
        labels = _labels_of(models, (node for each in some for node in each.pool.members))
        if labels is not None:
            return some, labels
    return accepted[:1], ()


def _labels_of(models: Sequence[str], nodes: Iterable[CountedNode]) -> tuple[NodeLabel, ...] | None:
    """Returns what of the product label tells the nodes of the models from the others; None where it does not."""
    products: dict[bool, set[str]] = {True: set(), False: set()}
    for node in nodes:
        if not_yet(node):
            continue
        products[is_model(node, models)].add(product_label(node.labels))
    if not products[False]:
        return ()
    for operator, values in (("In", products[True]), ("NotIn", products[False])):
        if "" not in values:
            return (NodeLabel(keys.PRODUCT, operator, tuple(sorted(values))),)
    return None


def _size(resource: Resource) -> tuple[int, int, bool]:
    profile = mig.parse(resource.profile) if resource.profile else None
    memory = resource.memory
    if memory is None:
        memory = profile.gigabytes * _GIB if profile else _UNKNOWN_MEMORY
    return memory, resource.compute, profile is not None and not profile.plain


def _unit(resource: Resource) -> tuple[object, ...]:
    """What two resources have in common whose units are alike."""
    return (*_size(resource), resource.replicas, resource.profile)


def _words(resource: Resource) -> str:
    what = f"slice {resource.profile}" if resource.profile else "whole GPU"
    if resource.strategy in {Strategy.TIME_SLICING, Strategy.MPS}:
        of = f"a {what}" if resource.profile else "a GPU"
        return f"{resource.strategy} share (one of {resource.replicas}) of {of}"
    return "vGPU" if resource.strategy is Strategy.VGPU else what


def _nodes(pools: Iterable[Pool]) -> Iterator[CountedNode]:
    return (node for pool in pools for node in pool.members)


def _pinned(name: str, pools: Iterable[Pool]) -> str:
    """Says what the node offers to which a pod is pinned."""
    for pool in pools:
        for node in pool.members:
            if node.name == name and node.offer is not None:
                has = ", ".join(
                    f"{each.quantity} {each.name} ({each.strategy})" for each in node.offer.resources
                )
                return f"spec.nodeName pins it to {name}, which offers {has} and not what the class gets"
        if reason := next((each.reason for each in pool.unsettled if each.node == name), ""):
            return f"spec.nodeName pins it to {name}, whose GPUs are not counted: {reason}"
    return f"spec.nodeName pins it to {name}, which is no node with GPUs"
