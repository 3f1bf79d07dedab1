"""Whether anything new may be decided of an object: its namespace, the rollout of its policy, and mode audit.  Pure."""

from typing import Final

import msgspec

from admission.decision.cluster_state import ClusterState
from admission.decision.model import Decision
from admission.decision.rollout import in_rollout
from admission.engines import queueing
from admission.mutation.model import Gate
from admission.mutation.outcome import Outcome, Verdict
from admission.workloads.model import Workload
from slicewise.api import keys

_CLOSED: Final = Gate()
_MOST_NAMES: Final = 3
"""Of containers that get the same, for one warning."""


def gate_of(workload: Workload, labels: queueing.Labels | None, state: ClusterState) -> Gate:
    """Returns the gate of one object; `labels` are those of its namespace, None where it has not opted in."""
    if labels is None:
        return _CLOSED
    name = labels[keys.POLICY]
    policy = state.policy(name)
    audit = labels.get(keys.MODE) == "audit"
    if policy is None:
        return Gate(labels, name, audit, is_open=True)
    return Gate(labels, name, audit, in_rollout(workload, policy.spec), policy.spec.rollout.percent)


def not_reached(workload: Workload, gate: Gate) -> str:
    """Returns what to warn of where the rollout of a policy has not reached a workload that asks for GPUs."""
    return (
        f"{workload.title}: policy {gate.policy_name} is rolled out to {gate.percent} percent, and has not reached "
        "it; left as it was asked; raise spec.rollout.percent to have it decided"
    )


def audited(workload: Workload, found: Outcome, queue: str) -> Outcome:
    """Returns what is said of a new object in audit mode, of which nothing is done."""
    if found.refusal:
        warnings = [f"audit: would be refused: {found.refusal}"]
        return Outcome(Verdict.AUDITED, warnings=warnings, trace=found.trace)
    decided = [in_words(workload, each, queue) for each in found.decisions]
    if queue and found.operations and not decided:
        decided = [f"{workload.title}: stays as it is asked for, in queue {queue}"]
    warnings = [f"audit: {each}" for each in dict.fromkeys((*found.warnings, *decided))]
    return msgspec.structs.replace(found, name=Verdict.AUDITED, drafted=[], warnings=warnings)


def in_words(workload: Workload, decision: Decision, queue: str = "") -> str:
    """Returns what each container asked and gets, where it would run and queue, and why, for a warning."""
    names: dict[str, list[str]] = {}
    for name, each in decision.containers.items():
        names.setdefault(f"{each.source} {each.asked} -> {each.to} {each.count}", []).append(name)
    moves = ", ".join(f"{_some(containers)}: {move}" for move, containers in names.items())
    kept = "kept to" if decision.steered else "free to run in"
    where = [f"{kept} {', '.join(decision.pools)}", "tolerating nvidia.com/gpu"]
    if decision.pipe_directory:
        where.append(f"through the MPS daemon of {decision.pipe_directory}")
    if queue:
        where.append(f"in queue {queue}")
    return f"{workload.title}: {moves}; {', '.join(where)} ({decision.reason})"


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
