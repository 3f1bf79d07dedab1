"""One object as it came, and as it stood -> what becomes of it.  Pure.

A creation is an update of nothing. Is the object exempt (`exempt`)? May anything new be decided of it (`gate`)? Each
template keeps its decision (`keep`) or gets one (`new_decision`); the object as it should be is drafted of that
(`render`), and the patch is the difference.

Most new objects come in numbers: replicas, indices of a Job, trials. What is decided of one is decided of its gist
(`admission.workloads.gist`), and holds for all that have the same, while pools, plans, the policy and the labels of the
namespace are as they were. What there is something to say of names its object, and is decided of by itself.

What is done already is left: pods of a template that was rewritten, and objects that a controller made of one.
Children that their owner compares with what it rendered are never touched; pods are the last resort.
"""

from typing import Final

import msgspec
from typing_extensions import Buffer

from admission.decision.cluster_state import ClusterState, size_of
from admission.decision.gpu_requests import devices_left, gpu_requests
from admission.decision.manifest import Manifests
from admission.decision.model import AS_ASKED, Refusal
from admission.decision.policy_resolution import misspelt, opted_in
from admission.decision.record import record_of, recorded
from admission.decision.requester import NOBODY, Requester
from admission.decision.trace import Allocated, Stop
from admission.engines import queueing
from admission.mutation import keep, new_decision, render
from admission.mutation.context import MutationContext
from admission.mutation.exempt import is_exempt
from admission.mutation.gate import audited, gate_of, not_reached
from admission.mutation.integrations import side_fields
from admission.mutation.integrations.registry import REMARKS
from admission.mutation.integrations.side_fields import IncompatibleKind
from admission.mutation.model import Gate
from admission.mutation.outcome import Alike, Outcome, Verdict
from admission.mutation.remarks import (
    check_size,
    misplaced,
    misspelt_devices,
    of_unknown_kinds,
    remarks,
    repeated_name,
)
from admission.workloads.decoder import Reader
from admission.workloads.model import Gist, Metadata, Workload
from slicewise.api.policy import WhenNothingFits

_encode: Final = msgspec.json.Encoder().encode
# Of what is remembered, beside what people wrote (`test_what_is_remembered_takes_no_more_memory_than_is_counted`).
_OUTCOME_BYTES: Final = 1024
_LABEL_BYTES: Final = 160
_PATCH_BYTES: Final = 6
"""For each of a patch."""
_TEXT_BYTES: Final = 10
"""For each of a gist: a toleration of few letters is a value with four fields."""


def mutate(
    reader: Reader,
    raw: Buffer,
    old: Buffer | None,
    namespace: str,
    state: ClusterState,
    author: Requester = NOBODY,
) -> Outcome:
    """Returns what becomes of one object; `old` is what stood before, for an update.

    Raises:
        msgspec.DecodeError: the bytes cannot be read.
    """
    labels = opted_in(namespace, state)
    if namespace in state.protected or (old is None and labels is None):
        return _stopped(Stop.NAMESPACE)  # unread, whatever it says, which may be much
    gist = reader.gist(raw) if old is None else None
    workload = (
        reader.read(raw, namespace)
        if gist is None
        else Workload(reader.kind, namespace, gist.metadata, ())  # as far as it is needed here
    )
    if is_exempt(workload, author, state):
        return _stopped(Stop.EXEMPT)
    gate = gate_of(workload, labels, state)
    if old is None:
        owned = bool(workload.metadata.owner_references) and workload.row.is_pod
        made_up = owned and not author.names_owners(namespace)
        if gist is None:
            return _owned(_created(workload, gate, state, made_up=made_up), workload.metadata)
        return _alike(reader, raw, gist, gate, namespace, state, made_up=made_up)
    if workload.metadata.controller is not None and author.is_controller:
        return _stopped(Stop.OWNER)  # nothing is put back, so that nobody fights
    before = reader.read(old, namespace)
    if workload.row.is_pod and not (
        keep.is_applied_again(workload, before) or queueing.leaves(workload, before)
    ):
        return _stopped(Stop.RUNNING)  # validation.go, ValidatePodUpdate
    context = MutationContext(workload, before, gate, state, Manifests(raw, old, author.field_manager))
    return _owned(_outcome(context), workload.metadata)


def _alike(
    reader: Reader,
    raw: Buffer,
    gist: Gist,
    gate: Gate,
    namespace: str,
    state: ClusterState,
    *,
    made_up: bool,
) -> Outcome:
    """Returns what becomes of a new object with such a gist."""
    memo = state.outcomes()
    key = (reader, namespace, gate.is_open, made_up, gist.text)
    policy = state.policy(gate.policy_name)
    known: Alike | None = memo.get(key)
    if known is not None and known.policy is policy and known.labels == gate.labels:
        return known.outcome
    read = reader.read_gist(gist, namespace)
    workload = read or reader.read(raw, namespace)
    outcome = _created(workload, gate, state, made_up=made_up)
    if read is None or gate.labels is None or outcome.warnings or outcome.refusal:
        return _owned(outcome, gist.metadata)  # words have the name of the object
    patch = _encode(_encode(outcome.drafted)) if outcome.drafted else b""  # bytes are written in base64
    outcome = msgspec.structs.replace(outcome, drafted=[], patch=patch)
    labels = dict(gate.labels)
    written = len(gist.text) + len(patch) + sum([len(name) + len(value) for name, value in labels.items()])
    steps = [size_of(step.allocation) for step in outcome.trace if isinstance(step, Allocated)]
    values = _TEXT_BYTES * len(gist.text) + _PATCH_BYTES * len(patch) + _LABEL_BYTES * len(labels)
    memo.put(key, Alike(labels, policy, outcome), written, _OUTCOME_BYTES + values + sum(steps))
    return outcome


def _created(workload: Workload, gate: Gate, state: ClusterState, *, made_up: bool) -> Outcome:
    """Returns what becomes of a new object; the owner that it names is `made_up`, or may be."""
    context = MutationContext(workload, None, gate, state)
    if not context.asks:
        return _without_gpus(context)
    if not gate.is_open:
        return _not_reached(context)
    if made_up:
        context.joining = queueing.Named(_unowned(workload))
    return _outcome(context)


def _stopped(stop: Stop) -> Outcome:
    return Outcome(Verdict.IGNORED, trace=(stop,))


def _owned(outcome: Outcome, metadata: Metadata) -> Outcome:
    owner = metadata.controller if outcome.warnings else None
    return outcome if owner is None else msgspec.structs.replace(outcome, owner=owner)


def _unowned(workload: Workload) -> Workload:
    metadata = msgspec.structs.replace(workload.metadata, owner_references=None)
    return msgspec.structs.replace(workload, metadata=metadata)


def _not_reached(context: MutationContext) -> Outcome:
    """Returns what becomes of a new object that the rollout of its policy has not reached."""
    asks = any(each.gpus for _, asked in context.asking for each in asked)
    warnings = [not_reached(context.workload, context.gate)] if asks else []
    return Outcome(Verdict.LEFT, warnings=warnings, policy=context.gate.policy_name, trace=(Stop.ROLLOUT,))


def _without_gpus(context: MutationContext) -> Outcome:
    """Returns what becomes of a new object of which no container asks for a GPU."""
    workload = context.workload
    warnings = _as_written(workload, context.state, asks=False)
    left = devices_left(workload.templates)
    trace = (Stop.NO_GPU,) if left is None else (Stop.NO_GPU, left)
    return Outcome(Verdict.LEFT if warnings else Verdict.UNCHANGED, warnings=warnings, trace=trace)


def _as_written(workload: Workload, state: ClusterState, *, asks: bool) -> list[str]:
    """Returns what is to be said of an object as it is written, whatever is decided; `asks` for GPUs, or not."""
    found = [*misplaced(workload), *of_unknown_kinds(workload)]
    if asks:
        found += misspelt(workload)
    found += misspelt_devices(workload, state)
    return found if asks else found + side_fields.remarks(REMARKS, workload)


def _newly_written(context: MutationContext, old: Workload) -> list[str]:
    """Returns what would be said of a new object as an update has it written, and was not to be said before."""
    state, now = context.state, context.workload
    asked = {
        id(workload): [gpu_requests(each.spec) for each in workload.templates] for workload in (old, now)
    }
    before, found = (
        [
            *_as_written(workload, state, asks=any(asked[id(workload)])),
            *(
                words
                for template, each in zip(workload.templates, asked[id(workload)], strict=True)
                for words in remarks(workload, each, state, record_of(template, recorded(workload.metadata)))
            ),
        ]
        for workload in (old, now)
    )
    return [words for words in found if words not in before]


def _say_as_written(context: MutationContext, old: Workload | None) -> None:
    workload = context.workload
    if old is None:
        context.warn(*_as_written(workload, context.state, asks=True))
        if (left := devices_left(workload.templates)) is not None:
            context.trace.append(left)
    elif context.gate.is_open and (news := _newly_written(context, old)):
        context.audited = context.gate.audit
        context.warn(*(f"audit: {each}" if context.gate.audit else each for each in news))


def _outcome(context: MutationContext) -> Outcome:
    """Returns what becomes of an object that asks for GPUs, or asked for them as it stood."""
    try:
        outcome = _mutated(context)
    except Refusal as refusal:
        trace = tuple(context.trace)
        if _leaves(context, refusal):
            policy = context.policy.policy.name if context.policy else ""
            operations = keep.taken_back(context) if context.old is not None else []
            words = f"{refusal}; {AS_ASKED}"
            outcome = Outcome(Verdict.LEFT, operations, [words], policy=policy, trace=trace)
        else:
            outcome = Outcome(Verdict.REFUSED, refusal=str(refusal), reason=refusal.reason, trace=trace)
    if not context.gate.audit or not (context.old is None or outcome.refusal):
        return outcome
    said = audited(context.workload, outcome, context.queue)
    return said if context.old is None else msgspec.structs.replace(said, drafted=keep.one_name(context))


def _leaves(context: MutationContext, refusal: Refusal) -> bool:
    """True where the policy leaves an object whose kind cannot work with what was decided now."""
    return (
        not context.pinned_by
        and isinstance(refusal, IncompatibleKind)
        and context.policy is not None
        and context.policy.spec.when_nothing_fits is WhenNothingFits.LEAVE
    )


def _mutated(context: MutationContext) -> Outcome:
    workload, old, draft, results = context.workload, context.old, context.draft, context.results
    if context.asks and context.gate.labels is not None:
        check_size(workload, old)
    _say_as_written(context, old)
    for template, asked in context.asking:
        if asked and (name := repeated_name(template)):
            if context.gate.is_open:
                context.warn(
                    f"{workload.title}: {template.spec_pointer} has two containers called {name!r}, which Kubernetes "
                    "takes of nobody, and is left alone; give each a name of its own"
                )
        elif old is not None:
            keep.update_template(context, old, template, asked, context.before.get(template.spec_pointer))
        elif asked:
            new_decision.decide_created(context, template, asked)
    if old is not None and not context.asks and not results and keep.is_gone_with_a_template(context, old):
        context.stepped_back = True
    is_left = context.opted_out or (not results and (context.stepped_back or bool(draft.operations())))
    whole = render.whole(context) if results else None
    if whole is not None:
        render.record_decision(context, whole)
        render.fix_side_fields(context)
    elif context.stepped_back:
        render.undo(context)
    if context.gate.labels is not None and context.joins:
        context.queue, caution = queueing.join(draft, context.joining, context.gate.labels)
        context.warn(*([caution] if caution else []))
    elif old is not None and context.asks:
        caution = queueing.keep(draft, context.named, old)
        context.warn(*([caution] if caution else []))
    operations = draft.operations()
    policy = context.policy.policy.name if context.policy else whole.policy if whole else ""
    return Outcome(
        _verdict(context, is_left=is_left, is_changed=bool(operations)),
        operations,
        context.warnings,
        tuple([decision for _, decision in results]),
        whole,
        policy,
        whole.strategy if whole else "",
        trace=tuple(context.trace),
        queue=context.queue,
    )


def _verdict(context: MutationContext, *, is_left: bool, is_changed: bool) -> Verdict:
    if context.results and context.anew:
        return Verdict.REWRITTEN
    if not context.results and context.audited:
        return Verdict.AUDITED
    if not context.results and (is_left or context.warnings):
        return Verdict.LEFT
    if is_changed and (context.repeated or context.old is not None):
        return Verdict.REPEATED
    return Verdict.UNCHANGED
