"""Parts of a plan that mean nothing on the pools there are, or take everything: each is said, and nothing else."""

from typing import Any

import pytest

from slicewise.inventory.declared_pools import with_declared
from slicewise.inventory.plan_remarks import remarks
from tests.queue_sync.scenes import exclusive, inventory, mixed, plan

POOLS = inventory(mixed("n1", {"1g.10gb": 7}), exclusive("n2", gpus=8))
SHARES = [{"name": "team-a", "shares": {"h10-*": 2, "*-mixed": 1}}]
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "all of it means something": (
        {
            "pools": {"matchNames": ["h100-*", "l4-*"]},
            "cover": ["cpu", "memory"],
            "headroom": {"percent": 50, "count": 2},
            "maximum": {"l4-exclusive": {"nvidia.com/gpu": 8}, "h100-*": {"nvidia.com/gpu": 16}},
            "perNode": {"l4-exclusive": {"nvidia.com/gpu": 1}},
        },
        [],
    ),
    "a misspelt resource": ({"cover": ["cpus"]}, ["has cpus, so no queue has any of it; did you mean cpu?;"]),
    "shares of no pool": ({"queues": SHARES}, ["spec.queues.team-a.shares: h10-* matches no pool"]),
    "shares of a pool that is another plan's": (
        {"pools": {"matchNames": ["*-exclusive"]}, "queues": [{"name": "a", "shares": {"*-mixed": 2}}]},
        ["spec.queues.a.shares: *-mixed matches no pool"],
    ),
    "one name of several": (
        {"pools": {"matchNames": ["h100-*", "t5-*"]}},
        ["spec.pools.matchNames: t5-* matches no pool"],
    ),
    "sizes, promises and topologies of no pool": (
        {
            "maximum": {"b20-*": {"nvidia.com/gpu": 1}},
            "perNode": {"b2-*": {"nvidia.com/gpu": 1}},
            "promise": {"b-*": {"gpu": 1}},
            "topology": {"c-*": "rack"},
        },
        ["spec.maximum: b20-*", "spec.perNode: b2-*", "spec.promise: b-*", "spec.topology: c-*"],
    ),
    "all of one pool is headroom": (
        {"headroom": {"count": 7}},
        ["spec.headroom: it keeps all 7 nvidia.com/mig-1g.10gb of h100-80gb-mig-mixed, so no queue gets any"],
    ),
    "all of every pool is headroom": (
        {"headroom": {"percent": 100}},
        [
            "it keeps all 8 nvidia.com/gpu of h100-80gb-exclusive, 7 nvidia.com/mig-1g.10gb of h100-80gb-mig-mixed, so"
        ],
    ),
    "more than anybody reads at once": (
        {"queues": [{"name": f"team-{number}", "shares": {"t5-*": 1}} for number in range(9)]},
        [*(f"spec.queues.team-{number}.shares: t5-*" for number in range(8)), "spec: further parts"],
    ),
    "lists of pools and strategies that are empty": (
        {"pools": {"matchNames": [], "matchStrategies": []}},
        ["spec.pools.matchNames: it is empty", "spec.pools.matchStrategies: it is empty"],
    ),
    "globs that come too late": (
        {
            "queues": [{"name": "a", "shares": {"h100-*": 1, "*-mixed": 2, "*": 3}}],
            "maximum": {"*": {"nvidia.com/gpu": 9}, "l4-exclusive": {"nvidia.com/gpu": 8}},
        },
        ["spec.queues.a.shares: *-mixed comes after", "spec.maximum: l4-exclusive comes after"],
    ),
    "what Volcano has nothing for": (
        {
            "engine": "volcano",
            "topology": {"h100-*": "rack"},
            "queues": [{"name": "a", "namespaces": {}, "borrowing": {"count": 1}, "lending": {"count": 1}}],
        },
        [f"spec.{field}: it means" for field in ("topology", "queues.a.lending", "queues.a.namespaces")],
    ),
    "a promise of boards that are divided already": (
        {"promise": {"h100-*": {"1g.10gb": 3}}},
        ["spec.promise: h100-* matches no pool of partitionable boards"],
    ),
    "no share at all": (
        {"queues": [{"name": "a", "share": 0}, {"name": "b", "share": 1, "shares": {"*": 0}}]},
        ["spec.queues: every share is 0"],
    ),
    "no share of one pool, which leaves it out": ({"queues": [{"name": "a", "shares": {"*-mixed": 0}}]}, []),
    "more in one node than in all": (
        {"maximum": {"l4-exclusive": {"nvidia.com/gpu": 8}}, "perNode": {"l4-*": {"nvidia.com/gpu": 16}}},
        [
            "spec.perNode: one node of l4-exclusive has 16 nvidia.com/gpu, and maximum promises 8 of all its nodes"
        ],
    ),
    "sizes of one node alone": (
        {"perNode": {"h100-*": {"nvidia.com/gpu": 8}, "l4-exclusive": {"nvidia.com/gpu": 1}}},
        ["spec.perNode: maximum has no h100-*", "spec.perNode: maximum has no l4-exclusive"],
    ),
    "pools of strategies that are left out": (
        {
            "pools": {"matchNames": ["*-exclusive", "*-mixed"], "matchStrategies": ["mig"]},
            "maximum": {"h100-80gb-exclusive": {"nvidia.com/gpu": 16}},
        },
        [
            "spec.pools.matchNames: pools.matchStrategies takes nothing of h100-80gb-exclusive, so *-exclusive means",
            "spec.maximum: pools.matchStrategies takes nothing of h100-80gb-exclusive, so h100-80gb-exclusive means",
        ],
    ),
    "a maximum of a pool that is left out": (
        {"pools": {"matchNames": ["h100-*"]}, "maximum": {"l4-exclusive": {"nvidia.com/gpu": 8}}},
        ["spec.maximum: pools.matchNames leaves out l4-exclusive"],
    ),
    "no pool feeds it, which is said elsewhere": ({"pools": {"matchNames": ["t5-*"]}, "cover": ["cpus"]}, []),
}


@pytest.mark.parametrize(("spec", "said"), CASES.values(), ids=CASES)
def test_what_means_nothing_or_takes_everything_is_said(spec: dict[str, Any], said: list[str]) -> None:
    of = plan(**spec)
    found = list(remarks(of, with_declared(POOLS, [of])))
    assert len(found) == len(said), found
    for sentence, words in zip(found, said, strict=True):
        assert words in sentence
        assert "; " in sentence, "it says what to do"


def test_of_nodes_whose_other_resources_are_not_known_nothing_is_said() -> None:
    node = mixed("n1", {"1g.10gb": 7})
    for listed in node["status"]["allocatable"], node["status"]["capacity"]:
        del listed["cpu"], listed["memory"]
    assert list(remarks(plan(cover=["cpus"]), inventory(node))) == []
