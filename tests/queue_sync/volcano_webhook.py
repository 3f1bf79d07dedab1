"""What Volcano's queue webhook takes, written down from its sources: v1.14.1, and v1.14.2 and later.

pkg/webhooks/admission/queues/validate/validate_queue.go of v1.14.1 and v1.15.0.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from queue_sync.planning.observed import Object
from slicewise.api.quantities import value_of

Numbers = dict[str, int]


def numbers(listed: Mapping[str, Any] | None) -> Numbers:
    return {name: int(value_of(quantity)) for name, quantity in (listed or {}).items()}


def parts(queue: Object) -> tuple[Numbers, Numbers, Numbers]:
    """Guarantee, deserved, capability."""
    spec = queue["spec"]
    return (
        numbers((spec.get("guarantee") or {}).get("resource")),
        numbers(spec.get("deserved")),
        numbers(spec.get("capability")),
    )


def less_partly(left: Numbers, right: Numbers) -> bool:
    """`Resource.LessPartly(r, Zero)`: cpu and memory always have a value, other names must be there."""
    return any(
        left.get(name, 0) < units or (name not in left and name not in {"cpu", "memory"})
        for name, units in right.items()
    )


def _sum(listed: list[Numbers]) -> Numbers:
    total: Numbers = {}
    for each in listed:
        for name, units in each.items():
            total[name] = total.get(name, 0) + units
    return total


def find_conflicts(queue: Object, standing: Mapping[str, Object], *, per_key: bool) -> Iterator[str]:
    """Why a write of this Queue would be refused while these stand; nothing when it would be taken."""
    name, parent_name = queue["metadata"]["name"], queue["spec"].get("parent")
    guarantee, deserved, capability = parts(queue)
    others = {**standing, name: queue}
    if per_key:
        if any(deserved[each] > capability[each] for each in deserved.keys() & capability.keys()):
            yield "deserved above capability"
        if any(guarantee[each] > capability[each] for each in guarantee.keys() & capability.keys()):
            yield "guarantee above capability"
    elif capability and (less_partly(capability, deserved) or less_partly(capability, guarantee)):
        yield "deserved or guarantee above capability"
    if guarantee and less_partly(deserved, guarantee):
        yield "guarantee above deserved"
    old = standing.get(name)
    if (old or {}).get("status", {}).get("state") in {"Closing", "Unknown"}:
        yield "state"
    if parent_name not in {None, "", "root"} and (old is None or old["spec"].get("parent") != parent_name):
        if parent_name not in standing:
            yield "no such parent"
        siblings = [each for each in standing.values() if each["spec"].get("parent") == parent_name]
        allocated = standing.get(parent_name, {}).get("status", {}).get("allocated", {})
        if not siblings and allocated.get("pods"):
            yield "parent runs pods"
    for parent in {parent_name, name} & others.keys():
        children = [each for each in others.values() if each["spec"].get("parent") == parent]
        if children:
            yield from _tree(parts(others[parent]), [parts(child) for child in children], per_key=per_key)


def _tree(
    parent: tuple[Numbers, Numbers, Numbers],
    children: list[tuple[Numbers, Numbers, Numbers]],
    *,
    per_key: bool,
) -> Iterator[str]:
    for _, _, capability in children:
        if per_key:
            if any(capability[n] > parent[2][n] for n in capability.keys() & parent[2].keys()):
                yield "capability above its parent's"
        elif less_partly(parent[2], capability):
            yield "capability above its parent's"
    for index, what in ((0, "guarantee"), (1, "deserved")):
        total, limit = _sum([child[index] for child in children]), parent[index]
        if not per_key and not limit:
            limit = parent[2]
            if not limit:
                continue
        if less_partly(limit, total):
            yield f"sum of {what} above the parent's"
