"""Pools that plans declare: what an autoscaler may add counts for admission as it counts for quota.  Pure.

A plan's `maximum` says how large a pool may grow, `perNode` what one of its nodes will have. Both become a node of the
pool that has not come yet: whatever looks at pools treats it as one more, of which no label is known but the pool's.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from typing import Final

import msgspec

from slicewise.api import keys
from slicewise.api.policy import QuotaPlan, Sizes
from slicewise.api.quantities import count
from slicewise.gpu import boards, mig
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.node import Taint
from slicewise.inventory.node_resources import Offer, Resource
from slicewise.inventory.node_state import CountedNode
from slicewise.inventory.plan_selection import declared, selects
from slicewise.inventory.pool_name import PoolName, model_slug
from slicewise.inventory.pools import Pool

NOT_YET: Final = ""
"""The name of a node that has not come yet."""
_PROFILE: Final = re.compile(r"([1-9]\d*)g-([1-9]\d*)gb(?:-([a-z-]+))?", re.ASCII)
_NO_MEMORY: Final = re.compile(r"\b0+gb\b")
_UNSHARED: Final = frozenset({Strategy.EXCLUSIVE, Strategy.VGPU, Strategy.MIG})


def with_declared(pools: Iterable[Pool], plans: Iterable[QuotaPlan]) -> tuple[Pool, ...]:
    """Returns the pools together with what plans in mode `write` declare, by name."""
    known = {pool.name: pool for pool in pools}
    taints: dict[str, tuple[Taint, ...]] = {"": ()}
    taints |= {digest: pool.taints for pool in known.values() if (digest := _taints_of(pool.name))}
    for plan in sorted(plans, key=lambda plan: plan.name):
        if not plan.writes or not plan.spec.maximum:
            continue
        for name in sorted({*known, *declared_names(plan)}):
            if not selects(plan.spec, name):
                continue
            if _taints_of(name) not in taints:
                continue  # what its nodes will keep out is not known
            grown = _with_maximum(
                name,
                known.get(name),
                taints[_taints_of(name)],
                sizes_of(name, plan.spec.maximum),
                sizes_of(name, plan.spec.per_node),
            )
            if grown is not None:
                known[name] = grown
    return tuple(known[name] for name in sorted(known))


def declared_names(plan: QuotaPlan) -> frozenset[str]:
    """Returns the pools that a plan feeds from whether any node is in them or not: those named in full, and those that
    its status lists because it fed from them before."""
    known = {*declared(plan.spec), *(name for name in plan.fed_pools if selects(plan.spec, name))}
    return frozenset(name for name in known if sizes_of(name, plan.spec.maximum))


def sizes_of(pool: str, sizes: Sizes) -> dict[str, int]:
    """Returns the device quantities that a plan gives a pool: those of the first glob that matches."""
    found = next((amounts for glob, amounts in sizes.items() if fnmatchcase(pool, glob)), {})
    return {name: count(amount) for name, amount in found.items() if keys.is_device(name)}


def may_offer(pool: str, resource: str) -> bool:
    """True when a node of a pool that is called so may offer devices of a name, as far as the pool's own name says."""
    parsed = PoolName.parse(pool)
    return parsed is not None and _may_offer(parsed, resource)


def smallest_unit(pool: str, names: Iterable[str]) -> int | None:
    """Returns the MiB of the smallest unit that a pool will offer under some names, as far as its own name says."""
    parsed = PoolName.parse(pool)
    if parsed is None:
        return None
    resources = filter(None, (_resource(name, 1, parsed) for name in names if keys.is_device(name)))
    return min(filter(None, (resource.memory for resource in resources)), default=None)


def not_yet(node: CountedNode) -> bool:
    """True for a node that a plan declares, and that has not come yet."""
    return node.name == NOT_YET


@lru_cache(maxsize=4096)
def may_be_model(slug: str, globs: tuple[str, ...]) -> bool:
    """True when a model that a pool's name calls so may match one of the globs, in any of its packagings."""
    products = [*_products(slug), f"nvidia-{slug}", f"tesla-{slug}"]
    return any(fnmatchcase(product.lower(), glob.lower()) for product in products for glob in globs)


def _with_maximum(
    name: str,
    pool: Pool | None,
    taints: tuple[Taint, ...],
    maximum: Mapping[str, int],
    per_node: Mapping[str, int],
) -> Pool | None:
    """Returns the pool with its node that has not come yet; None where there is nothing to add."""
    parsed = PoolName.parse(name)
    if parsed is None or not maximum:
        return None
    members = pool.members if pool is not None else ()
    standing = dict(pool.resources) if pool is not None else {}
    empty = not any(map(_offers_something, members))
    # Where nodes stand and nobody says otherwise, those that come are like them.
    coming = [each for each in maximum if empty or each in per_node or each not in standing]
    resources = [
        msgspec.structs.replace(resource, quantity=min(maximum[each], per_node.get(each, maximum[each])))
        for each in coming
        if (resource := standing.get(each) or _resource(each, maximum[each], parsed)) is not None
    ]
    resources = [resource for resource in resources if resource.quantity]
    if not resources:
        return None
    strategy = pool.strategy if pool is not None else _strategy(resources)
    offer = Offer(name, parsed.model, strategy, tuple(resources))
    node = CountedNode(NOT_YET, {keys.POOL: name}, taints, name, offer, "", parsed.model, strategy)
    added = {
        each.name: msgspec.structs.replace(each, quantity=maximum[each.name])
        for each in resources
        if each.name not in standing
    }
    if pool is None:
        return Pool(name, strategy, (parsed.model,), added, (node,), ())
    return msgspec.structs.replace(
        pool, resources=dict(sorted({**standing, **added}.items())), members=(*members, node)
    )


def _taints_of(name: str) -> str:
    """The digest of lasting taints in a pool's name."""
    parsed = PoolName.parse(name)
    return parsed.taints if parsed is not None else ""


def _offers_something(node: CountedNode) -> bool:
    return node.offer is not None and node.offer.positive


def _strategy(resources: Sequence[Resource]) -> Strategy:
    strategies = {resource.strategy for resource in resources}
    return strategies.pop() if len(strategies) == 1 else Strategy.MIG


def _may_offer(pool: PoolName, resource: str) -> bool:
    """The one rule of which names a model offers when it is divided in such a way."""
    if not keys.is_device(resource):
        return True
    shared = resource.endswith(keys.SHARED_SUFFIX)
    if resource.startswith(keys.MIG_PREFIX):
        profile = mig.of_resource(resource)
        if profile is None or not pool.names_slices or (shared and not pool.shares_slices):
            return False
    else:
        dotted = _dotted(pool.profile)
        profile = mig.parse(dotted) if dotted else None
        if (pool.profile and profile is None) or (shared and pool.strategies <= _UNSHARED):
            return False
    products = _products(pool.model)
    boards_with_mig = [board for board in map(mig.board_of, products) if board]
    if profile is not None and products:
        return any(board.placement(profile) for board in boards_with_mig)
    if pool.names_slices and products and not boards_with_mig:
        return False
    memory = _board_memory(pool.model)
    parts = pool.replicas if pool.strategies == {Strategy.MPS} else 1
    return not _NO_MEMORY.search(pool.model) and (memory is None or memory >= parts)


def _resource(name: str, quantity: int, pool: PoolName) -> Resource | None:
    """Returns what a name means in a pool, as far as the pool's name says it; None where it does not."""
    if not _may_offer(pool, name):
        return None
    replicas = pool.replicas
    if name.startswith(keys.MIG_PREFIX):
        profile = mig.of_resource(name)
        if profile is None or replicas > 1 or name.endswith(keys.SHARED_SUFFIX):
            return None
        memory = _slice_memory(pool.model, profile)
        return Resource(name, quantity, Strategy.MIG, memory, profile.compute, profile.dotted)
    if len(pool.strategies) != 1:
        return None
    (strategy,) = pool.strategies
    dotted = _dotted(pool.profile)
    profile = mig.parse(dotted) if dotted else None
    memory = _slice_memory(pool.model, profile) if profile else _board_memory(pool.model)
    if strategy is Strategy.MPS and memory:
        memory //= replicas
    compute = profile.compute if profile else 0
    return Resource(name, quantity, strategy, memory, compute, dotted, replicas)


def _dotted(words: str) -> str:
    """Returns the profile that a pool's name writes with hyphens; "" where it has none."""
    match = _PROFILE.fullmatch(words)
    if match is None:
        return ""
    attributes = match[3] or ""
    if attributes == "no-me":
        return f"{match[1]}g.{match[2]}gb-me"
    return f"{match[1]}g.{match[2]}gb{'.' + attributes.replace('-', '.') if attributes else ''}"


def _slice_memory(model: str, profile: mig.Profile) -> int | None:
    """Returns the MiB of a slice, as NVIDIA publishes them for the board."""
    for product in _products(model):
        board = mig.board_of(product)
        placement = board.placement(profile) if board else None
        if placement is not None:
            return placement.mebibytes
    return None


def _board_memory(model: str) -> int | None:
    """Returns the MiB that every board of such a name has; None where the table has none."""
    return min(filter(None, map(boards.memory_of, _products(model))), default=None)


@cache
def _by_slug() -> Mapping[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for product in sorted({*mig.known_products(), *boards.MEMORY}):
        found.setdefault(model_slug(product), []).append(product)
    return {slug: tuple(products) for slug, products in found.items()}


def _products(slug: str) -> tuple[str, ...]:
    return _by_slug().get(slug, ())


def missing_nodes(pools: Iterable[Pool]) -> Iterator[Pool]:
    """Yields the pools that a plan declares and no node stands in."""
    for pool in pools:
        if pool.members and all(map(not_yet, pool.members)):
            yield pool
