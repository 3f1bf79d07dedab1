"""What is decided of a template now: by the policy of its namespace, or by a record that came with it.  Pure."""

from collections.abc import Iterable

import msgspec

from admission.decision.decide import cautions, decide
from admission.decision.effective_policy import EffectivePolicy
from admission.decision.model import Assigned, Decision, GpuRequest, Left, Refusal
from admission.decision.node_selector import narrowing
from admission.decision.policy_resolution import resolve_policy
from admission.decision.record import (
    already_applied,
    of_containers,
    policy_allows,
    pools_give,
    possible_records,
    record_of,
    recorded,
)
from admission.decision.steering import unsteered
from admission.decision.trace import Resolved, Standing, Stop
from admission.engines import queueing
from admission.mutation import changes
from admission.mutation.context import NO_CHANGES, Asking, MutationContext
from admission.mutation.desired import undecided, with_devices
from admission.mutation.gate import in_words, not_reached
from admission.mutation.integrations import side_fields
from admission.mutation.model import Changes
from admission.mutation.recorded_requests import as_asked_before, is_changed, without_assigned
from admission.mutation.remarks import check_names, remarks
from admission.mutation.render import draft_template, leave_out
from admission.workloads.kind import Steering
from admission.workloads.model import Template
from slicewise.api import keys


def decide_created(context: MutationContext, template: Template, asked: Asking) -> None:
    """Decides a template of a new object."""
    record = _outgrown(template, asked) if context.controller is not None else None
    decision, warnings = decided(context, template, asked, record)
    apply_decision(context, template, asked, record, decision, warnings)


def apply_decision(
    context: MutationContext,
    template: Template,
    asked: Asking,
    record: Decision | None,
    decision: Decision | None,
    warnings: list[str],
    withdrawn: Changes = NO_CHANGES,
) -> None:
    """Drafts a template by what was decided in place of its record, where it has one."""
    context.warn(*warnings)
    if decision is not None:
        context.results.append((template, decision))
        draft_template(context, template, as_asked_before(asked, record), decision, record, withdrawn)
        context.anew = True
    elif record is not None:
        named = {**changes.as_asked(asked, record), **withdrawn}
        context.draft.template(template, undecided(template, named, record))
        forget(context, template)


def forget(context: MutationContext, template: Template) -> None:
    """Takes the record away from a template of which nothing is decided any more."""
    if template.metadata is not None and template.metadata.annotation(keys.DECISION) is not None:
        context.draft.annotate(template.pointer, template.metadata, keys.DECISION, None)
    context.stepped_back = True


def decided(
    context: MutationContext, template: Template, asked: Asking, record: Decision | None
) -> tuple[Decision | None, list[str]]:
    """Returns what is decided of a template that has a record, or none, and what to warn of."""
    if context.gate.labels is None:
        return None, []
    if not context.gate.is_open:
        context.trace.append(Stop.ROLLOUT)
        return None, [not_reached(context.workload, context.gate)]
    if not context.gate.audit or context.old is None:
        return _decided_by_policy(context, template, asked, record, context.gate.labels)
    context.audited = True
    try:
        decision, warnings = _decided_by_policy(context, template, asked, record, context.gate.labels)
    except Refusal as refusal:
        return None, [f"audit: would be refused: {refusal}"]
    return None, [
        f"audit: {each}" for each in ([in_words(context.workload, decision)] if decision else warnings)
    ]


def _decided_by_policy(
    context: MutationContext,
    template: Template,
    asked: Asking,
    record: Decision | None,
    labels: queueing.Labels,
) -> tuple[Decision | None, list[str]]:
    workload, state = context.workload, context.state
    effective = resolve_policy(
        workload, template.metadata if template.inner is None else template.said, labels, state
    )
    context.policy = context.policy or effective
    warnings: list[str] = []
    if context.old is None:
        warnings += remarks(workload, asked, state, record_of(template, recorded(workload.metadata)))
        context.opted_out = context.opted_out or effective.opted_out
        if effective.opted_out:
            leave_out(context, template)
        if template.means is Steering.PODS:
            context.trace.append(Stop.PODS)
            return None, warnings
        unrecorded = record is None and not effective.opted_out
        if unrecorded and context.controller is not None and _finish(context, template, asked, effective):
            return None, warnings
    wanted = without_assigned(asked, record)
    standing = _standing(context, template, wanted if context.old is None else asked, effective)
    if standing is not None and not effective.opted_out:
        context.trace.append(Standing(effective, standing))
        return (None if context.old is None else of_containers(standing, asked)), warnings
    context.trace.append(Resolved(effective))
    if effective.opted_out:
        context.trace.append(Stop.OPTED_OUT)
        return None, warnings
    if not any(each.gpus for each in wanted):
        return None, warnings
    if unreadable := [each for each in wanted if not changes.is_readable(each)]:
        return None, warnings or remarks(workload, unreadable, state, record)
    if context.old is None:
        check_names(workload, wanted)
    if record is not None and record.steered:
        template = msgspec.structs.replace(template, spec=unsteered(template.spec, record))
    decision = decide(context.named, template, wanted, effective, state, context.trace)
    if isinstance(decision, Left):
        return None, [*warnings, decision.warning]
    if decision.steered and template.means is Steering.NONE:
        decision = side_fields.free(workload.title, template, decision, state)
    again = record is not None
    return decision, [*warnings, *cautions(context.named, template, decision, state, again=again)]


def _standing(
    context: MutationContext, template: Template, asked: Asking, effective: EffectivePolicy
) -> Decision | None:
    """Returns the record that a template is as, or one of those that it may have been made by."""
    record = record_of(template, recorded(context.workload.metadata))
    guesses: Iterable[Decision] = ()
    if record is not None:
        guesses = (record,)
    elif context.old is None and context.controller is not None:
        guesses = possible_records(context.workload, template, asked, effective)
    where = narrowing(template.spec) if guesses else None  # once, as each guess may look at every node
    for guess in guesses:
        if already_applied(template, asked, guess, effective, context.state, where):
            return guess
    return None


def _finish(context: MutationContext, template: Template, asked: Asking, effective: EffectivePolicy) -> bool:
    """Finishes what a controller made of templates: a merge of two layers may have brought the old name back
    beside ours, and a kind without a pod spec could not say all that was decided. False where there is nothing of
    that kind.

    The people's own new objects are refused for asking twice; what a controller asks twice, nobody wrote.
    """
    record = recorded(template.metadata)
    if record is not None and policy_allows(record, effective):
        gets = [(each, record.containers.get(each.container.name)) for each in asked]
        if all(to is not None and _is_given(context, each, to, record, effective) for each, to in gets):
            draft_template(context, template, asked, record)
            context.trace.append(Standing(effective, record))
            context.repeated = True
            return True
    twice = changes.one_name(asked)
    if not twice or any(each.gpus and not each.named for each in asked):
        return False
    context.draft.template(template, with_devices(template, twice))
    context.repeated = True
    return True


def _is_given(
    context: MutationContext, each: GpuRequest, to: Assigned, record: Decision, effective: EffectivePolicy
) -> bool:
    """True when a container has what the record gives it, perhaps beside the old name."""
    if to.to in each.named:
        return True
    whole = to.to == keys.GPU and each.gpus == to.count and not each.named
    return whole and record.steered and pools_give(record, to.count, effective, context.state)


def _outgrown(template: Template, asked: Asking) -> Decision | None:
    """Returns the record that came with a controller's object which asks for another number of GPUs beside what
    was given."""
    record = recorded(template.metadata)
    if record is None or not any(each.gpus and changes.still_matches(each, record) for each in asked):
        return None
    return record if is_changed(asked, record) else None
