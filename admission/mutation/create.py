"""A new object -> what becomes of it.  Pure.

Each template that asks is decided once. What is done already is left: Pods of a template that was rewritten, and
objects that a controller made of one; what such a merge asks twice, nobody wrote, and is finished.
"""

from collections.abc import Iterator

import msgspec

from admission.decision.cluster_state import ClusterState
from admission.decision.decide import cautions, decide
from admission.decision.gpu_requests import GpuRequest, of_the_pod, wanting
from admission.decision.model import Assigned, Decision, Left, Reason, Refusal
from admission.decision.policy_resolution import EffectivePolicy, misspelt, opted_in, orders
from admission.decision.record import (
    merged,
    possible_records,
    record_of,
    recorded,
    stands,
    true_of_pools,
    trusted,
)
from admission.decision.rollout import reached
from admission.engines import queues
from admission.engines.volcano_requests import counted
from admission.mutation import template_patch
from admission.mutation.integrations import side_fields
from admission.mutation.integrations.registry import FIXERS
from admission.mutation.integrations.side_fields import IncompatibleKind
from admission.mutation.outcome import Outcome, Verdict
from admission.mutation.template_edits import annotated, clear, given, in_words, left_out
from admission.mutation.template_patch import Change, MetadataEdits, Operation
from admission.workloads.kind import Means
from admission.workloads.model import Template, Workload
from slicewise.api import keys
from slicewise.api.policy import WhenNothingFits


def create(workload: Workload, world: ClusterState) -> Outcome:
    """Judges a new object.

    Raises:
        Refusal: the policy says no, and its namespace is not in audit mode.
    """
    labels = opted_in(workload.namespace, world)
    if labels is None:
        return Outcome(Verdict.IGNORED)
    asking = [(template, asked) for template in workload.templates if (asked := wanting(template.spec))]
    if not asking:
        told = list(_misplaced(workload))
        return Outcome(Verdict.LEFT if told else Verdict.UNCHANGED, warnings=told)
    policy = world.policy(labels[keys.POLICY])
    if policy is not None and not reached(workload, policy.spec):
        return Outcome(Verdict.LEFT, policy=policy.name)
    audit = labels.get(keys.MODE) == "audit"
    try:
        outcome = _decided(workload, asking, labels, world)
    except Refusal as refusal:
        if not audit:
            raise
        return Outcome(Verdict.AUDITED, warnings=[f"audit: would be refused: {refusal}"])
    if not audit:
        return outcome
    told = [f"audit: {warning}" for warning in outcome.warnings]
    told += [f"audit: {in_words(decision)}" for decision in outcome.decisions]
    return msgspec.structs.replace(outcome, name=Verdict.AUDITED, operations=[], warnings=told)


def _decided(
    workload: Workload,
    asking: list[tuple[Template, list[GpuRequest]]],
    labels: queues.Labels,
    world: ClusterState,
) -> Outcome:
    first = orders(workload, asking[0][0].said, labels, world)
    try:
        return _held(workload, asking, first, labels, world)
    except IncompatibleKind as unfit:
        if first.spec.when_nothing_fits is WhenNothingFits.LEAVE:
            return Outcome(
                Verdict.LEFT, warnings=[f"{unfit}; left as it was asked"], policy=first.policy.name
            )
        raise


def _held(
    workload: Workload,
    asking: list[tuple[Template, list[GpuRequest]]],
    first: EffectivePolicy,
    labels: queues.Labels,
    world: ClusterState,
) -> Outcome:
    warnings = [*_misplaced(workload), *misspelt(workload)]
    operations: list[Operation] = []
    marks = MetadataEdits()
    results: list[tuple[Template, Decision]] = []
    opted_out = False
    for template, asked in asking:
        holds = first if template is asking[0][0] else orders(workload, template.said, labels, world)
        opted_out = opted_out or holds.opted_out
        warnings += _remarks(workload, asked, world)
        if holds.opted_out:
            left_out(template, marks)
        if template.means is Means.PODS:
            continue
        if workload.metadata.controller is not None and not holds.opted_out:
            finished = _finished(template, asked, holds, marks, world)
            if finished is not None:
                operations += finished
                continue
        if holds.opted_out or not any(each.gpus for each in asked) or not all(clear(each) for each in asked):
            continue
        if _done(workload, template, asked, holds, world):
            continue
        _check_names(workload, asked)
        decision = decide(workload, template, asked, holds, world)
        if isinstance(decision, Left):
            warnings.append(decision.warning)
            continue
        decision = side_fields.free(workload.title, template, decision, world)
        warnings += cautions(workload, template, decision, world)
        results.append((template, decision))
        operations += given(template, asked, decision, marks)
    annotated(workload, results, marks)
    unchanged = Verdict.REPEATED if operations and not results else Verdict.UNCHANGED
    if workload.parts:
        queue = queues.volcano_queue(workload, labels)
        mended, told = side_fields.mend(FIXERS, workload, None, results, queue)
        operations += mended
        warnings += told
    operations += counted(workload, results) + queues.joined(workload, labels, marks)
    operations += marks.operations()
    name = Verdict.REWRITTEN if results else Verdict.LEFT if warnings or opted_out else unchanged
    decisions = tuple(decision for _, decision in results)
    strategy = decisions[0].strategy if decisions else ""
    whole = merged(results) if results else None
    return Outcome(name, operations, warnings, decisions, whole, first.policy.name, strategy)


def _done(
    workload: Workload,
    template: Template,
    asked: list[GpuRequest],
    holds: EffectivePolicy,
    world: ClusterState,
) -> bool:
    """True when the template is what its record says, or one of those that it may have been made by."""
    record = record_of(template, recorded(workload.metadata))
    guesses = [record] if record is not None else possible_records(workload, template, asked, holds)
    return any(stands(template, asked, each, holds, world) for each in guesses)


def _check_names(workload: Workload, asked: list[GpuRequest]) -> None:
    for each in asked:
        if each.gpus and each.named:
            raise Refusal(
                f"{workload.title}: container {each.container.name!r} asks for {keys.GPU} and for "
                f"{', '.join(each.named)}; ask for one of them",
                Reason.BOTH_NAMES,
            )


def _finished(
    template: Template,
    asked: list[GpuRequest],
    holds: EffectivePolicy,
    marks: MetadataEdits,
    world: ClusterState,
) -> list[Operation] | None:
    """Finishes what a controller made of templates: a merge of two layers may have brought the old name back
    beside ours, and a kind without a pod spec could not say all that was decided.

    The people's own new objects are refused for asking twice; what a controller asks twice, nobody wrote.
    Returns None where there is nothing of that kind.
    """
    record = recorded(template.metadata)
    if record is not None and trusted(record, holds):
        got = [(each, record.containers.get(each.container.name)) for each in asked]
        if all(
            to is not None
            and (to.to in each.named or (_whole(each, to) and _says_where(record, to, holds, world)))
            for each, to in got
        ):
            return given(template, asked, record, marks)
    twice = [each for each in asked if each.gpus and each.named]
    if not twice or any(each.gpus and not each.named for each in asked):
        return None
    operations: list[Operation] = []
    for each in twice:
        name, number = next(iter(each.named.items()))
        change = Change(frozenset({keys.GPU}), name, number)
        operations += template_patch.devices(template.spec_pointer + each.pointer, each.container, change)
    return operations


def _says_where(record: Decision, to: Assigned, holds: EffectivePolicy, world: ClusterState) -> bool:
    return record.steered and true_of_pools(record, to.count, holds, world)


def _whole(each: GpuRequest, to: Assigned) -> bool:
    return to.to == keys.GPU and each.gpus == to.count and not each.named


def _misplaced(workload: Workload) -> Iterator[str]:
    for template in workload.templates:
        for name in of_the_pod(template):
            yield (
                f"{workload.title}: {template.spec_pointer}/resources asks for {name} for the pod as a whole, which "
                "Kubernetes gives to containers alone, and is left alone; ask for it in a container"
            )


def _remarks(workload: Workload, asked: list[GpuRequest], world: ClusterState) -> list[str]:
    found = []
    for each in asked:
        if each.unreadable:
            found.append(
                f"{workload.title}: container {each.container.name!r} is left alone, its {each.unreadable}"
            )
        found += [
            f"{workload.title}: container {each.container.name!r} asks for {name}, which no pool offers; "
            f"ask for {keys.GPU} and let the policy choose"
            for name in each.named
            if not any(name in pool.resources for pool in world.all_pools())
        ]
    return found
