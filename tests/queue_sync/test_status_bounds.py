"""However much there is to tell, a status is no more than an object may hold, and says what it leaves out."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
import pytest

from queue_sync.planning.observed import ObservedState
from queue_sync.status import policy_status
from queue_sync.status.plan_status import MOST_BYTES, PassResult, status
from slicewise.api import keys
from slicewise.api.policy import SlicingPolicy, read_policy
from slicewise.inventory.pools import Inventory
from tests.queue_sync.scenes import exclusive, inventory, node, plan

_CONDITIONS = 50_000
"""Five conditions, none of more than a thousand characters, and two columns."""


def whole(number: int) -> Inventory:
    """So many pools of whole boards."""
    return inventory(*(exclusive(f"n{each}", product=f"NVIDIA-W{each}-80GB") for each in range(number)))


def renamed(pools: int, names: int) -> Inventory:
    """So many pools, each of which offers so many names."""
    found = []
    for pool in range(pools):
        labels = {keys.PRODUCT: f"NVIDIA-W{pool}-80GB", keys.COUNT: "1", keys.MIG_STRATEGY: "mixed"}
        slices = {f"1g.{each}gb": 1 for each in range(1, names + 1)}
        for profile in slices:
            labels |= {f"{keys.MIG_PREFIX}{profile}.{what}": "1" for what in ("count", "replicas")}
        found.append(
            node(f"n{pool}", labels, {keys.MIG_PREFIX + profile: n for profile, n in slices.items()})
        )
    return inventory(*found)


def told(queues: int, pools: Inventory) -> dict[str, Any]:
    """The status of a plan that gives each of its queues something of everything."""
    names = [f"team-with-a-long-name-{number}" for number in range(queues)]
    assigned = {
        pool.name: {resource: dict.fromkeys(names, 1) for resource in pool.resources} for pool in pools
    }
    of = plan(queues=dict.fromkeys(names, 1))
    result = PassResult((), assigned, "a sentence; " * 1000)
    changes = dict.fromkeys(names, "nvidia.com/gpu 14 → 7: node h100-2 is gone. " * 100)
    return status(of, 1, result, pools, {}, ObservedState(), {}, "2026-11-29T00:00:00Z", changes=changes)


@pytest.mark.parametrize(
    ("queues", "pools", "listed", "left_out"),
    [
        (200, partial(whole, 200), (200, 200), None),
        (201, partial(whole, 200), (200, 200), "1 of the queues are not listed; "),
        (512, partial(whole, 300), (200, 200), "312 of the queues and 100 of the pools are not listed; "),
        (512, partial(renamed, 40, 60), None, " of the queues and "),
        (3, partial(renamed, 200, 60), None, " of the pools are not listed; "),
    ],
)
def test_the_status_of_a_plan_is_bounded_and_says_what_it_leaves_out(
    queues: int, pools: Callable[[], Inventory], listed: tuple[int, int] | None, left_out: str | None
) -> None:
    found = told(queues, pools())
    sizes = [len(msgspec.json.encode(found[part])) for part in ("queues", "pools")]
    assert all(size <= MOST_BYTES + len(found["queues"]) + len(found["pools"]) + 2 for size in sizes)
    assert len(msgspec.json.encode(found)) <= 2 * MOST_BYTES + _CONDITIONS
    assert found["queues"]
    assert found["pools"]
    if listed is not None:
        assert (len(found["queues"]), len(found["pools"])) == listed
    assert (left_out or "") in found.get("leftOut", "")
    assert ("leftOut" in found) is (left_out is not None)
    synced = next(each for each in found["conditions"] if each["type"] == "Synced")
    assert synced["message"].endswith("…"), "a sentence that is cut says so"


@pytest.mark.parametrize(("pools", "more"), [(50, None), (51, 1), (300, 250)])
def test_the_status_of_a_policy_lists_a_bounded_number_of_pools(pools: int, more: int | None) -> None:
    found = policy_status.status(of_classes(64), 1, list(whole(pools)), 0, (), "", {}, "now")
    assert len(msgspec.json.encode(found)) < MOST_BYTES + _CONDITIONS
    one: Mapping[str, Any] = found["classes"]["class-7"]
    assert (len(one["pools"]), one.get("morePools")) == (50, more)


def of_classes(number: int) -> SlicingPolicy:
    """A policy of which any pool of whole boards serves each class."""
    classes = {f"class-{each}": {"strategy": "exclusive"} for each in range(number)}
    return read_policy(
        {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "SlicingPolicy",
            "metadata": {"name": "wide"},
            "spec": {"defaultClass": "class-0", "classes": classes},
        }
    )
