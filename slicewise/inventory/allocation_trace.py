"""What was looked at while a template was given a resource: which pools fit, and why the others do not.

The trace is data; words are made where they are printed. A refusal says what is in the way of the pool that came
nearest.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import Final

import msgspec

from slicewise.gpu.strategies import Strategy
from slicewise.inventory.gpu_requirement import GpuRequirement


class Verdict(IntEnum):
    """Whether a pool serves, or what keeps it from that: the higher, the nearer it came."""

    FITS = 0
    NOT_OFFERED = 1
    NEVER_SHARED = 2
    """A DRA driver hands out its devices, and shares none between pods."""
    SHARED_SOMEHOW = 3
    """Its boards are shared, and no label says how."""
    OTHER_MODEL = 4
    LACKS_NAMED = 5
    """It has not the names that containers ask for explicitly."""
    ONLY_BY_NAME = 6
    """Its profiles are given only to those who name them."""
    OTHER_PROFILE = 7
    PROMISES_NO_MEMORY = 8
    TOO_SMALL = 9
    NOT_COUNTED = 10
    """It would offer it, and none of its nodes is believed."""
    TOO_FEW = 11
    """No node of it has all that the pod asks for together."""
    NOT_SELECTED = 12
    """The pod's own selectors leave no node of it that would do."""
    TAINTED = 13
    RESERVED = 14
    """A plan gives it to another engine."""
    NO_QUOTA = 15
    """The workload's queue has no quota of it."""


# For one pool that was named before, and for all pools.
_WORDS: Final = {
    Verdict.NOT_OFFERED: ("it does not offer it", "no pool offers it"),
    Verdict.NEVER_SHARED: (
        "a DRA driver hands out its devices, and shares none between pods",
        "no pool offers it, and {pools} cannot: a DRA driver hands out their devices, and shares none between pods",
    ),
    Verdict.SHARED_SOMEHOW: (
        "no label says how it is shared; set nvidia.com/gpu.product and nvidia.com/gpu.sharing-strategy on its nodes",
        (
            "no pool offers it, and no label says how {pools} is shared; set nvidia.com/gpu.product and "
            "nvidia.com/gpu.sharing-strategy on its nodes"
        ),
    ),
    Verdict.OTHER_MODEL: ("it is none of {models}", "no pool that offers it is one of {models}"),
    Verdict.LACKS_NAMED: ("it has not {named} too", "no pool that offers it has {named} too"),
    Verdict.ONLY_BY_NAME: ("only profiles that must be named are offered",) * 2,
    Verdict.OTHER_PROFILE: (
        "it does not offer the profile {profile}",
        "no pool offers the profile {profile}",
    ),
    Verdict.PROMISES_NO_MEMORY: ("shares promise no memory, and {memory} MiB are asked for",) * 2,
    Verdict.TOO_SMALL: ("nothing offered holds {memory} MiB",) * 2,
    Verdict.NOT_COUNTED: (
        "its nodes are not counted: {doubt}",
        "the nodes that would offer it are not counted: {doubt}",
    ),
    Verdict.TOO_FEW: ("{wanted} are asked for together, and {most}",) * 2,
    Verdict.NOT_SELECTED: (
        "{own} leaves none of its nodes",
        "{own} leaves no node that offers it",
    ),
    Verdict.TAINTED: (
        "its nodes have taints that the pod does not tolerate: {taints}",
        "the nodes that offer it have taints that the pod does not tolerate: {taints}",
    ),
    Verdict.RESERVED: ("it is what {plans}", "offered by {pools} alone, which {plans}"),
    Verdict.NO_QUOTA: ("its queue has no quota of it",) * 2,
}


class PoolTrace(msgspec.Struct, frozen=True):
    """One pool as it was looked at for one strategy."""

    pool: str
    strategy: Strategy
    verdict: Verdict = Verdict.FITS
    fits: tuple[tuple[str, int], ...] = ()
    """The resources that would do, with how many there are."""
    demand: tuple[tuple[str, int], ...] = ()
    """What the pod asks of one node, where that is too much."""
    most: int = 0
    """The most that one node has of it; 0 where no single name is short, but all together."""
    largest: int = 0
    """The most MiB that one unit of it holds, where that is too small."""
    doubt: str = ""
    """Why its nodes are not counted."""
    taints: str = ""
    """Those that the pod does not tolerate, in words."""
    plan: str = ""
    """Which plan gives the pool to whom, in words."""
    node_name: str = ""
    """The node that the pod is pinned to, where its own selectors leave no other."""


Trace = tuple[PoolTrace, ...]


def refusal(strategy: Strategy, trace: Sequence[PoolTrace], requirement: GpuRequirement) -> str:
    """Says what stands between a strategy and the pools: of those that came nearest."""
    if not trace:
        return f"{strategy}: no pool offers it"
    nearest = max(step.verdict for step in trace)
    steps = [step for step in trace if step.verdict is nearest]
    return f"{strategy}: {_words(steps, requirement, one=False)}"


def pools_in_words(trace: Iterable[PoolTrace], requirement: GpuRequirement) -> Iterator[tuple[str, str]]:
    """Yields every pool with what it has for the requirement, strategy by strategy."""
    by_pool: dict[str, list[str]] = {}
    for step in trace:
        if step.verdict is Verdict.FITS:
            words = f"{', '.join(f'{name} ({quantity})' for name, quantity in step.fits)} fits"
        else:
            words = _words([step], requirement, one=True)
        by_pool.setdefault(step.pool, []).append(f"{step.strategy}: {words}")
    for pool, parts in sorted(by_pool.items()):
        yield pool, "; ".join(dict.fromkeys(parts))


def most_on_one_node(trace: Iterable[PoolTrace]) -> int:
    """Returns the most that one node has, of the pools where the pod asks for too many together; 0 where that is not
    the reason."""
    return max((step.most for step in trace if step.verdict is Verdict.TOO_FEW), default=0)


def largest_unit(trace: Iterable[PoolTrace]) -> int:
    """Returns the most MiB that one unit holds where all are too small; 0 where that is not the reason."""
    return max((step.largest for step in trace if step.verdict is Verdict.TOO_SMALL), default=0)


def _words(steps: Sequence[PoolTrace], requirement: GpuRequirement, *, one: bool) -> str:
    first = max(steps, key=lambda step: step.most)
    most = f"the most on one node is {first.most}" if first.most else "no node has them together"
    return _WORDS[first.verdict][0 if one else 1].format(
        models=", ".join(requirement.models),
        named=", ".join(sorted(requirement.also_needs)),
        profile=requirement.profile,
        memory=requirement.memory,
        wanted=" and ".join(f"{count} {name}" for name, count in first.demand),
        most=most,
        doubt=first.doubt,
        own=f"spec.nodeName {first.node_name}"
        if first.node_name
        else "the pod's own nodeSelector or affinity",
        taints=" or ".join(dict.fromkeys(step.taints for step in steps)),
        pools=", ".join(step.pool for step in steps),
        plans=" and ".join(dict.fromkeys(step.plan for step in steps)),
    )
