"""The status of a QuotaPlan: what its pools offer, hold back and give, and whether the queues say so.

Pure: the same facts give the same status. `lastTransitionTime` stays while a condition's status does, so that a status
is written only when it says something new.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import msgspec

from queue_sync.planning.capacity import text
from queue_sync.planning.changes import Parts, Problem
from queue_sync.planning.engines import ENGINES
from queue_sync.planning.observed import ObservedState
from slicewise.api import keys
from slicewise.api.policy import QuotaPlan
from slicewise.inventory.node_state import Observation
from slicewise.inventory.plan_selection import chosen, takes
from slicewise.inventory.pools import Pool

READY: Final = "Ready"
ACCEPTED: Final = "Accepted"
SYNCED: Final = "Synced"
BELIEVED: Final = "Believed"
BACKED: Final = "Backed"
MOST_LISTED: Final = 20
_MOST_IN_COLUMN: Final = 6
_LONGEST_MESSAGE: Final = 1000
MOST_QUEUES: Final = 200
MOST_POOLS: Final = 200
MOST_BYTES: Final = 200_000
"""Of the queues, and of the pools, as JSON: etcd takes 1.5 MiB of an object, spec and managed fields with it."""
_LONGEST_CHANGE: Final = 300


@dataclass(frozen=True, slots=True)
class PassResult:
    """What came of the last pass over a plan."""

    problems: tuple[Problem, ...] = ()
    assigned: Parts = field(default_factory=dict)
    waiting: str = ""
    """Why the queues do not say yet what they should; "" when they do."""
    reason: str = "Synced"
    """One word for the condition Synced."""


def status(
    plan: QuotaPlan,
    generation: int,
    result: PassResult,
    pools: Iterable[Pool],
    shown: Mapping[str, Observation],
    existing: ObservedState,
    before: Mapping[str, Any],
    now: str,
    *,
    concerns: Mapping[str, Iterable[str]] | None = None,
    changes: Mapping[str, str] | None = None,
    unbacked: Sequence[str] = (),
) -> dict[str, Any]:
    """The status as it should stand.

    Args:
        plan: the plan.
        generation: the generation of the plan that `result` is about.
        result: what came of the last pass.
        pools: all pools, as they are believed.
        shown: the last observation of each node.
        existing: what stands, and who uses what.
        before: the status as it stands, for its transition times.
        now: RFC 3339.
        concerns: by node, what of it is not as planned.
        changes: what changed last in each queue's numbers and why, where something did since the start.
        unbacked: what of the plan's pools is promised beyond what nodes offer, whoever promises it.
    """
    taken = sorted((pool for pool in pools if takes(plan.spec, pool)), key=lambda pool: pool.name)
    refused = next((problem for problem in result.problems if problem.refused), None)
    doubts = [(each.node, each.reason) for pool in taken for each in pool.unsettled]
    conditions = [
        condition(ACCEPTED, refused is None, refused.code if refused else "Accepted", _refusal(refused)),
        condition(BELIEVED, not doubts, "HeldBack" if doubts else "Believed", _held_back(doubts)),
        condition(BACKED, not unbacked, "QuotaWithoutNodes" if unbacked else "Backed", _unbacked(unbacked)),
        condition(
            SYNCED, not result.waiting, result.reason, result.waiting or "every queue says what it should"
        ),
    ]
    conditions = [_ready(conditions), *conditions]
    dated(conditions, generation, before, now)
    in_use = _in_use(plan, taken, existing)
    queues = _within(MOST_QUEUES, _queues(plan, result.assigned, changes or {}, before, now))
    listed = _within(
        MOST_POOLS,
        (
            {
                **_pool(plan, pool, result.assigned, shown, in_use),
                **_not_as_planned(pool, concerns or {}),
            }
            for pool in taken
        ),
    )
    return {
        "observedGeneration": generation,
        "conditions": conditions,
        "counted": _short(
            (name, resource.quantity) for pool in taken for name, resource in chosen(plan.spec, pool).items()
        ),
        "quota": _short(
            (name, sum(parts.values()))
            for pool in taken
            for name, parts in result.assigned.get(pool.name, {}).items()
        ),
        "queues": queues,
        "pools": listed,
        **_left_out(len(plan.spec.queues) - len(queues), len(taken) - len(listed)),
    }


def _within(most: int, entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first entries, as many as a status may hold."""
    found, left = [], MOST_BYTES
    for entry in islice(entries, most):
        left -= len(msgspec.json.encode(entry))
        if left < 0:
            break
        found.append(entry)
    return found


def _left_out(queues: int, pools: int) -> dict[str, str]:
    words = [f"{number} of the {what}" for number, what in ((queues, "queues"), (pools, "pools")) if number]
    if not words:
        return {}
    return {
        "leftOut": f"{' and '.join(words)} are not listed; `slicewise plan` and `slicewise pools` show all"
    }


def unusable(
    reason: str, sentence: str, generation: int, before: Mapping[str, Any], now: str
) -> dict[str, Any]:
    """The status of a plan that breaks a rule; what else it says stays, as what was written last does."""
    conditions = [condition(kind, False, reason, sentence) for kind in (READY, ACCEPTED)]
    known = dated(conditions, generation, before, now)
    others = [each for kind, each in known.items() if kind not in {READY, ACCEPTED}]
    return {**before, "observedGeneration": generation, "conditions": [*conditions, *others]}


def condition(kind: str, holds: bool, reason: str, message: str) -> dict[str, Any]:  # noqa: FBT001
    """One condition, not dated yet."""
    return {
        "type": kind,
        "status": "True" if holds else "False",
        "reason": reason,
        "message": message if len(message) <= _LONGEST_MESSAGE else f"{message[: _LONGEST_MESSAGE - 1]}…",
    }


def dated(
    conditions: list[dict[str, Any]], generation: int, before: Mapping[str, Any], now: str
) -> dict[str, dict[str, Any]]:
    """Dates conditions, the old date staying with an old status; returns those of before by type."""
    known = {str(each.get("type")): dict(each) for each in before.get("conditions") or ()}
    for each in conditions:
        each["observedGeneration"] = generation
        old = known.get(each["type"], {})
        same = old.get("status") == each["status"]
        each["lastTransitionTime"] = old.get("lastTransitionTime", now) if same else now
    return known


def _ready(conditions: list[dict[str, Any]]) -> dict[str, Any]:
    """True when the plan is followed and the queues say so, or it only reports. The reason says what else to know."""
    off = [each for each in conditions if each["status"] == "False"]
    wrong = [
        each for each in off if each["type"] not in {BELIEVED, BACKED} and each["reason"] != "ReportOnly"
    ]
    if off and not wrong:
        return condition(READY, True, off[-1]["reason"], off[-1]["message"])
    if not wrong:
        return condition(READY, True, "Ready", "the plan is followed, and every queue says what it should")
    return condition(READY, False, wrong[0]["reason"], wrong[0]["message"])


def _short(pairs: Iterable[tuple[str, int]]) -> str:
    """Sums of GPU resources by name, short enough for a column: `14 mig-1g.10gb, 8 gpu`."""
    sums: dict[str, int] = defaultdict(int)
    for name, units in pairs:
        if name.startswith(keys.VENDOR):
            sums[name] += units
    words = [f"{sums[name]} {name.removeprefix(keys.VENDOR)}" for name in sorted(sums) if sums[name]]
    more = f" and {len(words) - _MOST_IN_COLUMN} more" if len(words) > _MOST_IN_COLUMN else ""
    return (", ".join(words[:_MOST_IN_COLUMN]) or "0") + more


def _refusal(problem: Problem | None) -> str:
    return problem.sentence if problem is not None else "the plan can be followed"


def _held_back(held: list[tuple[str, str]]) -> str:
    return _listed([f"{node}: {reason}" for node, reason in held]) or "every node is believed"


def _unbacked(sentences: Sequence[str]) -> str:
    return _listed(sentences) or "nodes offer all that queues promise of these pools"


def _listed(sentences: Sequence[str]) -> str:
    """As many as a message holds."""
    more = len(sentences) - MOST_LISTED
    return "; ".join(sentences[:MOST_LISTED]) + (f"; and {more} more" if more > 0 else "")


def _pool(
    plan: QuotaPlan,
    pool: Pool,
    assigned: Parts,
    shown: Mapping[str, Observation],
    in_use: Mapping[tuple[str, str], tuple[int, int]],
) -> dict[str, Any]:
    believed = {name: resource.quantity for name, resource in chosen(plan.spec, pool).items()}
    offered = offered_by(plan, pool, shown)
    split = {name: sum(parts.values()) for name, parts in assigned.get(pool.name, {}).items()}
    mine = {resource: units for (name, resource), units in in_use.items() if name == pool.name}
    return {
        "name": pool.name,
        "nodes": len(pool.members),
        "offered": _quantities(offered),
        "believed": _quantities(believed),
        "heldBack": _quantities(
            {
                name: offered[name] - believed.get(name, 0)
                for name in offered
                if offered[name] > believed.get(name, 0)
            }
        ),
        "assigned": _quantities(split),
        "reserved": _quantities({name: reserved for name, (reserved, _) in mine.items()}),
        "used": _quantities({name: used for name, (_, used) in mine.items()}),
    }


def _in_use(
    plan: QuotaPlan, taken: Sequence[Pool], existing: ObservedState
) -> dict[tuple[str, str], tuple[int, int]]:
    """What the queues of a plan have reserved and what they use, by (pool, resource).

    Where an engine counts names, not pools, a name that several pools of the plan offer is left out.
    """
    names = {queue.name for queue in plan.spec.queues}
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for (_, flavor, resource), (more, of_it) in ENGINES[plan.spec.engine].in_use(names, existing).items():
        pools = [flavor] if flavor else [pool.name for pool in taken if resource in pool.resources]
        if len(pools) == 1:
            reserved, used = found.get((pools[0], resource), (0, 0))
            found[pools[0], resource] = reserved + more, used + of_it
    return found


def _queues(
    plan: QuotaPlan, assigned: Parts, changes: Mapping[str, str], before: Mapping[str, Any], now: str
) -> list[dict[str, Any]]:
    """What each of the first queues gets in all, and what changed last; what was told before keeps its time."""
    names = [queue.name for queue in plan.spec.queues[:MOST_QUEUES]]
    columns: dict[str, list[list[int]]] = defaultdict(list)
    for resources in assigned.values():
        for resource, parts in resources.items():
            columns[resource].append([parts.get(name, 0) for name in names])
    quotas: list[dict[str, str]] = [{} for _ in names]
    for resource, several in sorted(columns.items()):
        for quota, units in zip(quotas, map(sum, zip(*several, strict=True)), strict=True):
            quota[resource] = text(resource, units)
    last = {each["name"]: each["lastChange"] for each in before.get("queues") or () if "lastChange" in each}
    for queue, words in changes.items():
        message = words[:_LONGEST_CHANGE]
        if last.get(queue, {}).get("message") != message:
            last[queue] = {"time": now, "message": message}
    return [
        {
            "name": name,
            "quota": quota,
            **({"lastChange": last[name]} if name in last else {}),
        }
        for name, quota in zip(names, quotas, strict=True)
    ]


def _not_as_planned(pool: Pool, concerns: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    if not concerns:
        return {}
    members = {*pool.nodes, *(each.node for each in pool.unsettled)}
    found = [
        {"node": name, "reason": why} for name in sorted(members & concerns.keys()) for why in concerns[name]
    ]
    return {"notAsPlanned": found[:MOST_LISTED]} if found else {}


def offered_by(plan: QuotaPlan, pool: Pool, shown: Mapping[str, Observation]) -> dict[str, int]:
    """What the nodes of a pool show at this moment, believed or not.

    A node that nothing is said about shows what counts, so only the others are looked at one by one.
    """
    unsettled = {each.node for each in pool.unsettled}
    counted = [each.offer for each in pool.members if each.name in unsettled] if unsettled else []
    shows = [shown[name].offer for name in unsettled if name in shown]
    strategies = plan.spec.pools.match_strategies
    found: Counter[str] = Counter()
    for sign, resources in (
        (1, pool.resources.values()),
        *((-1, offer.resources) for offer in counted if offer is not None),
        *((1, offer.resources) for offer in shows),
    ):
        for resource in resources:
            if not strategies or resource.strategy in strategies:
                found[resource.name] += sign * resource.quantity
    return {name: units for name, units in found.items() if units}


def _quantities(units: Mapping[str, int]) -> dict[str, str]:
    return {name: text(name, units[name]) for name in sorted(units)}
