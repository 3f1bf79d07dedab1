"""A pool's integers split over queues, exact to the unit.

Largest remainder, as Kueue's own orchestration splits (kubernetes-sigs/kueue #12382), ties by name. The parts add
up to the whole exactly, unless every share is zero: then nobody gets anything. Same input, same output, whatever
the order it comes in.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from slicewise.api.policy import Limit
from slicewise.api.quantities import count


def split(total: int, shares: Mapping[str, int]) -> dict[str, int]:
    """Splits `total` units in proportion to `shares`. What is negative counts as 0, whoever let it through."""
    total = max(0, total)
    products = {name: total * share if share > 0 else 0 for name, share in shares.items()}
    weight = sum([share for share in shares.values() if share > 0])
    if weight == 0:
        return dict.fromkeys(shares, 0)
    parts = {name: product // weight for name, product in products.items()}
    left = total - sum(parts.values())
    remainders = {name: product % weight for name, product in products.items()}
    # What is equal stays in the order of the names.
    by_remainder = sorted(sorted(shares), key=remainders.__getitem__, reverse=True)
    for name in by_remainder[:left]:
        parts[name] += 1
    return parts


def maximum(pool: str, sizes: Mapping[str, Mapping[str, int | str]]) -> dict[str, int]:
    """The sizes that an autoscaled pool may grow to, by resource name; the first glob that matches holds."""
    for glob, resources in sizes.items():
        if fnmatchcase(pool, glob):
            return {name: count(quantity) for name, quantity in resources.items()}
    return {}


def borrowing(limit: Limit | None, nominal: int, *, covered: bool = False) -> int | None:
    """The borrowing limit for a queue's own quantity; None when there is none.

    A `count` counts GPUs. What is `covered` beside them follows them, so only 0 limits that too.
    """
    if limit is None or (covered and limit.count):
        return None
    return limit.count if limit.count is not None else nominal * (limit.percent or 0) // 100


def lending(limit: Limit | None, nominal: int, *, covered: bool = False) -> int | None:
    """The lending limit, never above the quantity itself, because Kueue refuses that; None when there is none."""
    given = borrowing(limit, nominal, covered=covered)
    return None if given is None else min(given, nominal)
