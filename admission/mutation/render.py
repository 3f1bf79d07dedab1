"""The object as it should be: templates by their decisions, the records of them, and what hangs on them.  Pure."""

from collections.abc import Callable
from functools import partial

from admission.decision.model import Assigned, Decision
from admission.decision.record import merged, record_of, text
from admission.engines import queueing
from admission.mutation import changes
from admission.mutation.context import NO_CHANGES, Asking, MutationContext
from admission.mutation.desired import asking, desired, device_names
from admission.mutation.integrations import side_fields
from admission.mutation.integrations.registry import FIXERS, UNDOERS
from admission.mutation.integrations.side_fields import IncompatibleKind
from admission.mutation.model import Changes
from admission.workloads.kind import Steering
from admission.workloads.model import Template, Workload
from slicewise.api import keys


def draft_template(
    context: MutationContext,
    template: Template,
    asked: Asking,
    decision: Decision,
    former: Decision | None = None,
    withdrawn: Changes = NO_CHANGES,
) -> None:
    """Wants a template as a decision has it, with a record of its own where it may have one.

    Args:
        context: the object.
        template: the template as it came.
        asked: what its containers ask for.
        decision: what was decided, now or before.
        former: the decision that it takes the place of.
        withdrawn: what other containers get.
    """
    given = changes.given(template, asked, decision, withdrawn)
    in_requests = context.workload.row.queueing.counts_requests
    context.draft.template(template, desired(template, given, decision, former, in_requests=in_requests))
    if template.annotatable and template.pointer:
        context.draft.annotate(template.pointer, template.metadata, keys.DECISION, context.words_of(decision))


def whole(context: MutationContext) -> Decision:
    """Returns what was decided of an object, as its own record says it."""
    return merged(context.results, _ambiguous(context))


def _ambiguous(context: MutationContext) -> frozenset[str]:
    """Returns the names of containers that do not say of which template they are: several templates will ask for
    devices under one, and nothing was decided of that in one of them, or one keeps no record of its own."""
    templates = [
        template for template, asked in context.asking if asked and template.means is not Steering.PODS
    ]
    if len(templates) == 1:
        return frozenset()
    decided = {id(template): decision.containers for template, decision in context.results}
    seen: set[str] = set()
    several: set[str] = set()
    unclear: set[str] = set()
    for template in templates:
        names = {*asking(context.draft.wanted(template))}
        several |= names & seen
        seen |= names
        unclear |= names - decided.get(id(template), {}).keys() if template.annotatable else names
    return frozenset(several & unclear)


def record_decision(context: MutationContext, whole: Decision) -> None:
    """Writes what was decided on the object, and on each object within it, where the labels outside are not
    seen."""
    was = context.old.metadata.annotation(keys.DECISION) if context.old is not None else None
    words = (
        was if was and context.root == whole else context.words_of(whole)
    )  # byte for byte, where it says the same
    context.draft.annotate("", context.workload.metadata, keys.DECISION, words)
    inner = {t.inner.pointer: t.inner.metadata for t, _ in context.results if t.inner is not None}
    ambiguous = _ambiguous(context) if inner else ()
    for pointer, metadata in inner.items():
        results = [each for each in context.results if each[0].inner and each[0].inner.pointer == pointer]
        own = merged(results, ambiguous, pointer)
        context.draft.annotate(pointer, metadata, keys.DECISION, text(own))
        context.draft.label(pointer, metadata, keys.WORKLOAD_CLASS, own.class_name)


def undo(context: MutationContext) -> None:
    """Takes away what stands outside of the templates, where nothing is decided of any of them any more."""
    inner = {each.inner.pointer: each.inner.metadata for each in context.workload.templates if each.inner}
    for pointer, metadata in {"": context.workload.metadata, **inner}.items():
        if metadata is not None and metadata.annotation(keys.DECISION) is not None:
            context.draft.annotate(pointer, metadata, keys.DECISION, None)
    fields = side_fields.undone(
        UNDOERS, context.workload, context.old, _gone(context), _had(context), _unsaid(context)
    )
    for pointer, before, after in fields:
        context.draft.field(pointer, before, after)
    manifests, templates = context.manifests, context.workload.templates
    if manifests is not None and not any(device_names(context.draft.wanted(each)) for each in templates):
        # What Helm's merge leaves unsaid may be said by the chart: that it stays is true all the same.
        unsaid = _anything if manifests.merged_by_helm else manifests.leaves_out
        for words in queueing.stays(context.workload, unsaid):
            context.warn(f"{context.workload.title}: asks for no GPU any more and {words}")


def _anything(_: str) -> bool:
    return True


def _gone(context: MutationContext) -> frozenset[str]:
    """Returns the names that were given, and that no pod asks for any more."""
    if context.root is None:
        return frozenset()
    templates = [context.draft.wanted(each) for each in context.workload.templates]
    asked = {name for template in templates for name in device_names(template)}
    return frozenset({each.to for each in context.root.containers.values()} - asked - {keys.GPU})


def _unsaid(context: MutationContext) -> Callable[[str], bool]:
    return side_fields.nothing_unsaid if context.manifests is None else context.manifests.leaves_out


def _had(context: MutationContext) -> side_fields.Had:
    before = {each.spec_pointer: each for each in context.old.templates} if context.old is not None else {}

    def had(pointer: str) -> dict[str, Assigned]:
        was = before.get(pointer)
        record = record_of(was, context.root)
        return {} if was is None or record is None else dict(side_fields.assigned(was, record))

    return had


def fix_side_fields(context: MutationContext) -> None:
    """Has the fields beside the requests follow what was decided.

    Raises:
        IncompatibleKind: what was decided now cannot work with the kind.
    """
    workload = context.workload
    if not workload.parts:
        return
    queues = partial(
        queueing.queue_to_join, context.named, (context.gate.labels or {}) if context.joins else {}
    )
    try:
        fields, warnings = side_fields.mend(
            FIXERS,
            workload,
            context.old,
            context.results,
            queues,
            _had(context),
            _unsaid(context),
            _gone(context),
        )
    except IncompatibleKind as unfit:
        if context.old is None or context.anew:
            raise
        context.warn(str(unfit))
        return
    for pointer, before, after in fields:
        context.draft.field(pointer, before, after)
    context.warn(*warnings)


def leave_out(context: MutationContext, template: Template) -> None:
    """Says on a template, or on an object within the workload, that its owner opted out: pods are made of it, and
    nothing is seen there of the labels and annotations outside."""
    if template.inner is not None:
        context.draft.annotate(template.inner.pointer, template.inner.metadata, keys.REWRITE, "false")
    elif template.annotatable and template.pointer:
        context.draft.annotate(template.pointer, template.metadata, keys.REWRITE, "false")


def keep_opt_out(context: MutationContext, old: Workload, template: Template, was: Template | None) -> None:
    """Keeps a template's own opting out through a manifest that is applied again. Where the object alone opts in
    again, it is not taken away, because some kinds take no change of it."""
    if was is None or was.metadata is None or was.metadata.annotation(keys.REWRITE) != "false":
        return
    now = context.workload.metadata.annotation(keys.REWRITE)
    if now == "false":
        leave_out(context, template)
    own = template.metadata and template.metadata.annotation(keys.REWRITE)
    former = old.metadata.annotation(keys.REWRITE)
    if former == "false" and now is None and own == "false":
        context.warn(
            f'{context.workload.title}: {template.pointer}/metadata still has {keys.REWRITE}="false", so its pods are '
            "left as they are asked for; remove it there too"
        )
