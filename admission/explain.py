"""One object and what becomes of it -> words that a person can act on.  Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from admission.decision import node_selector
from admission.decision.cluster_state import ClusterState
from admission.decision.decide import queued
from admission.decision.gpu_requests import GpuRequest, wanting
from admission.decision.model import Refusal
from admission.decision.policy_resolution import FROM, EffectivePolicy, opted_in, orders
from admission.decision.record import record_of, recorded, stands
from admission.decision.rollout import reached
from admission.mutation.mutate import not_ours
from admission.mutation.outcome import Outcome
from admission.workloads.decoder import Reader
from admission.workloads.model import Template, Workload
from slicewise.api import keys
from slicewise.inventory.gpu_requirement import GpuRequirement


def explain(
    reader: Reader | None,
    item: dict[str, Any],
    namespace: str,
    world: ClusterState,
    outcome: Outcome | None,
    refusal: str,
) -> str:
    """Explains one object: class and where it came from, strategies, pools looked at, what was chosen or refused."""
    metadata = item.get("metadata") or {}
    title = f"{item['kind']} {namespace}/{metadata.get('name') or metadata.get('generateName', '(unnamed)')}"
    if reader is None:
        return f"{title}\n  left alone: {item['kind']} is not a kind that holds pod templates for GPUs"
    workload = reader.read(msgspec.json.encode(item), namespace)
    lines = [title, *_lines(reader, workload, world)]
    if refusal:
        lines.append(f"  refused     {refusal}")
    elif outcome is not None:
        lines += _outcome(outcome)
    return "\n".join(lines)


def _lines(reader: Reader, workload: Workload, world: ClusterState) -> list[str]:
    labels = world.namespaces.get(workload.namespace)
    if labels is None:
        fix = f"give its Namespace, labelled {keys.POLICY}"
        return [f"  namespace   {workload.namespace}: not known here, so it has not opted in; {fix}"]
    if workload.namespace in world.protected:
        return [f"  namespace   {workload.namespace}: a system namespace, never touched"]
    if opted_in(workload.namespace, world) is None:
        if keys.POLICY in labels:
            said, fix = f"{keys.MODE}=off", f"label it {keys.MODE}=enforce"
        else:
            said, fix = f"no label {keys.POLICY}", f"label it {keys.POLICY}=default"
        return [f"  namespace   {workload.namespace}: has {said}, so nothing is done; {fix} to opt in"]
    if not_ours(reader, workload):
        return ["  left alone: another controller owns it, or it is of a kind that must not be touched"]
    asking = [(template, asked) for template in workload.templates if (asked := wanting(template.spec))]
    if not asking:
        return ["  left alone: no container asks for a GPU"]
    policy = world.policy(labels[keys.POLICY])
    if policy is not None and not reached(workload, policy.spec):
        percent = policy.spec.rollout.percent
        return [
            f"  left alone: policy {policy.name} is rolled out to {percent} percent, and has not reached it"
        ]
    return _templates(workload, asking, labels, world)


def _templates(
    workload: Workload,
    asking: list[tuple[Template, list[GpuRequest]]],
    labels: Mapping[str, str],
    world: ClusterState,
) -> list[str]:
    lines: list[str] = []
    told: list[str] = []
    for template, asked in asking:
        try:
            holds = orders(workload, template.said, labels, world)
        except Refusal:
            break
        if not lines:
            lines.append(f"  namespace   {workload.namespace}: policy {holds.policy.name}, mode {holds.mode}")
        record = record_of(template, recorded(workload.metadata))
        if record is not None and stands(template, asked, record, holds, world):
            lines.append(f"  left alone: it is as was decided before: {record.reason}")
            continue
        if told != (told := _ordered(holds)):
            lines += told
        if holds.opted_out:
            lines.append(f'  left alone: {keys.REWRITE}="false" says so')
        elif any(each.gpus for each in asked):
            lines += _looked_at(workload, template, holds.asking(asked, template.spec), world)
    return lines


def _ordered(holds: EffectivePolicy) -> list[str]:
    lines = [
        f"  class       {holds.class_name}, from {FROM[holds.class_from]}",
        f"  strategies  {', then '.join(holds.ask.strategies)}",
    ]
    if holds.ask.memory is not None or holds.ask.profile:
        lines.append(f"  size        {holds.ask.profile or f'at least {holds.ask.memory} MiB'}")
    return lines


def _looked_at(workload: Workload, template: Template, ask: GpuRequirement, world: ClusterState) -> list[str]:
    lines = []
    engine, queue = queued(workload, template, world)
    quota = world.fed(engine, queue)
    if world.elsewhere(engine):
        lines.append(f"  engine      {engine}")
    if quota is not None:
        lines.append(f"  queue       {queue}: has quota of {', '.join(sorted(quota)) or 'no pool'}")
    lines.append(f"  pools       {template.spec_pointer}")
    found = world.allocate(ask, engine, queue, node_selector.narrowing(template.spec)).pools_in_words()
    return lines + [f"    {name}: {words}" for name, words in found]


def _outcome(outcome: Outcome) -> list[str]:
    lines = []
    for decision in outcome.decisions:
        lines.append(f"  chosen      {decision.reason}")
        lines += [
            f"    container {name}: {each.source} {each.asked} -> {each.to} {each.count}"
            for name, each in decision.containers.items()
        ]
        where = ", ".join(decision.pools)
        lines.append(
            f"    kept to {where} by affinity" if decision.steered else f"    free to run in {where}"
        )
    lines += [f"  warning     {warning}" for warning in outcome.warnings]
    if not outcome.decisions and not outcome.warnings:
        lines.append(f"  {outcome.name}")
    return lines
