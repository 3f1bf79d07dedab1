"""What was looked at, and what became of it -> words that a person can act on.  Pure.

The words are those of the very call that answers a review: nothing is decided here.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from admission.decision.cluster_state import ClusterState
from admission.decision.effective_policy import EffectivePolicy
from admission.decision.gpu_requests import anywhere
from admission.decision.model import DevicesLeft
from admission.decision.policy_resolution import FROM
from admission.decision.trace import Allocated, Resolved, Standing, Step, Stop
from admission.mutation.outcome import Outcome
from admission.workloads.builtin_kinds import group_kinds
from slicewise.api import keys
from slicewise.kube.object_types import OBJECT_TYPES, kind_of


def explain(item: dict[str, Any], namespace: str, state: ClusterState, outcome: Outcome) -> list[str]:
    """Explains one object in lines: the answer first, then class and where it came from, strategies and pools."""
    kind, _, name = identity(item, namespace).values()
    title = f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
    return [title, *_answer(item, namespace, state, outcome), *_steps(outcome, namespace)]


def identity(item: dict[str, Any], namespace: str) -> dict[str, str]:
    """Returns what names an object: kind, namespace ("" where it has none) and name."""
    metadata = item.get("metadata") or {}
    name = metadata.get("name") or metadata.get("generateName", "(unnamed)")
    return {"kind": item["kind"], "namespace": namespace, "name": name}


def document(item: dict[str, Any], namespace: str, state: ClusterState, outcome: Outcome) -> dict[str, Any]:
    """Explains one object for programs; docs/reference.md has the schema."""
    return {
        **identity(item, namespace),
        "outcome": str(outcome.name),
        "code": str(outcome.reason or outcome.deviation or ""),
        "policy": outcome.policy,
        "decision": msgspec.to_builtins(outcome.whole),
        "refusal": outcome.refusal,
        "warnings": outcome.warnings,
        "leftAlone": [
            words for step in outcome.trace if (words := _left_alone(step, item, namespace, state))
        ],
        "pools": [
            {"template": step.pointer, "pool": pool, "fits": pool in step.allocation.fitting, "reason": words}
            for step in outcome.trace
            if isinstance(step, Allocated)
            for pool, words in step.allocation.pools_in_words()
        ],
    }


def _answer(item: dict[str, Any], namespace: str, state: ClusterState, outcome: Outcome) -> list[str]:
    if outcome.refusal:
        return [f"  refused     {outcome.refusal}"]
    lines = []
    for decision in outcome.decisions:
        lines.append(f"  chosen      {decision.reason}")
        lines += [
            f"    container {name or '(unnamed)'}: {each.source} {each.asked} -> {each.to} {each.count}"
            for name, each in decision.containers.items()
        ]
        where = ", ".join(decision.pools)
        lines.append(f"    {'kept to' if decision.steered else 'free to run in'} {where}")
    left = (_left_alone(step, item, namespace, state) for step in outcome.trace)
    lines += [f"  left alone: {words}" for words in dict.fromkeys(left) if words]
    lines += [f"  warning     {warning}" for warning in outcome.warnings]
    return lines or [f"  {outcome.name}"]


def _left_alone(step: Step, item: dict[str, Any], namespace: str, state: ClusterState) -> str:
    """Says why this step left the object as it was; "" where it went on."""
    match step:
        case Stop.KIND:
            return _unknown_kind(item, step)
        case Stop.NO_GPU if where := anywhere(item):
            return (
                f"what asks for GPUs at {where} stands where no container of its kind is read; pods that are made of "
                "it are decided on when they are made"
            )
        case Stop.NAMESPACE:
            return f"namespace {namespace}: {_not_opted_in(namespace, state)}"
        case Stop():
            return str(step)
        case Standing(record=record):
            return f"it is as was decided before: {record.reason}"
        case DevicesLeft():
            return "; ".join(_devices_left(step))
        case _:
            return ""


def _unknown_kind(item: dict[str, Any], step: Stop) -> str:
    kind, group = item["kind"], item["apiVersion"].rpartition("/")[0]
    others = [each for each in group_kinds(kind) if each != f"{kind}.{group}"]
    meant = f"; did you mean {' or '.join(others)}?" if others else ""
    ours = f"{group}/" == keys.PREFIX or kind_of(item) in OBJECT_TYPES
    if ours or group in keys.BUILT_IN or group.endswith(".k8s.io"):
        return f"{kind} {step}{meant}"
    return (
        f"the kind {kind} of {group} is not known here; pods that are made of it are decided on when they are made, "
        f"and a row of --kinds-file makes it known{meant}"
    )


def _devices_left(step: DevicesLeft) -> Iterator[str]:
    if step.claims:
        yield (
            f"resourceClaims {', '.join(step.claims)} stay as they are written, and quota by name counts none of their "
            f"devices; ask for {keys.GPU} instead, and the scheduler makes the claim"
        )
    if step.names:
        yield (
            f"what asks for {', '.join(step.names)} stays as it is written, and no plan has quota of that; ask for "
            f"{keys.GPU}, or for the name that the class serves"
        )


def _steps(outcome: Outcome, namespace: str) -> Iterator[str]:
    shown: list[str] = []
    for step in outcome.trace:
        match step:
            case Standing(policy=effective):
                yield from _new([_namespace(namespace, effective)], shown)
            case Resolved(policy=effective):
                yield from _new([_namespace(namespace, effective)], shown)
                yield from _new(list(_policy(effective)), shown)
            case Allocated():
                yield from _allocation(step, outcome.queue)


def _new(lines: list[str], shown: list[str]) -> list[str]:
    """Returns lines that were not shown before."""
    if all(line in shown for line in lines):
        return []
    shown += lines
    return lines


def _namespace(namespace: str, effective: EffectivePolicy) -> str:
    return f"  namespace   {namespace}: policy {effective.policy.name}, mode {effective.mode}"


def _not_opted_in(namespace: str, state: ClusterState) -> str:
    labels = state.namespaces.get(namespace)
    if namespace in state.protected:
        return "a system namespace, never touched"
    if labels is None:
        return f"not known here, so it has not opted in; give its Namespace, labelled {keys.POLICY}"
    if keys.POLICY in labels:
        return f"has {keys.MODE}=off, so nothing is done; label it {keys.MODE}=enforce to opt in"
    return f"has no label {keys.POLICY}, so nothing is done; label it {keys.POLICY}=default to opt in"


def _policy(effective: EffectivePolicy) -> Iterator[str]:
    yield f"  class       {effective.class_name}, from {FROM[effective.class_from]}"
    yield f"  strategies  {', then '.join(effective.ask.strategies)}"
    if effective.ask.memory is not None or effective.ask.profile:
        yield f"  size        {effective.ask.profile or f'at least {effective.ask.memory} MiB'}"


def _allocation(step: Allocated, queue: str) -> Iterator[str]:
    if step.reserved:
        yield f"  engine      {step.engine}"
    if step.quota is not None:
        yield f"  queue       {step.queue}: has quota of {', '.join(sorted(step.quota)) or 'no pool'}"
    elif step.queue or queue:
        yield f"  queue       {step.queue or queue}"
    yield f"  pools       for the pods of {step.pointer}"
    cannot: dict[str, list[str]] = {}
    for name, words in step.allocation.pools_in_words():
        if name in step.allocation.fitting:
            yield f"    {name}: {words}"
        else:
            cannot.setdefault(words, []).append(name)
    if cannot:
        yield "    cannot serve: " + "; ".join(
            f"{', '.join(names)} ({words})" for words, names in cannot.items()
        )
