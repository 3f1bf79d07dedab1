"""An update: what was decided is kept while people ask for the same, and taken back where they do not.  Pure.

Applying the original manifest again brings the old name back, beside ours or instead of it, and that is no change of
mind; nor is a label of the namespace that changed.
"""

from collections.abc import Mapping

import msgspec

from admission.decision.decide import decide
from admission.decision.effective_policy import BarePolicy, EffectivePolicy
from admission.decision.gpu_requests import containers, gpu_requests
from admission.decision.manifest import Amounts
from admission.decision.model import AS_ASKED, Decision, GpuRequest, Left, Refusal
from admission.decision.node_selector import narrowing, required_terms
from admission.decision.policy_resolution import resolve_policy, said
from admission.decision.record import (
    already_applied,
    is_given,
    is_plausible,
    of_containers,
    record_of,
    recorded,
)
from admission.decision.steering import steered_to, unsteered
from admission.engines import queueing
from admission.mutation import changes
from admission.mutation.context import NO_CHANGES, Asking, MutationContext
from admission.mutation.desired import TOLERATION, is_tolerating, undecided, with_devices
from admission.mutation.difference import Operation
from admission.mutation.draft import Draft
from admission.mutation.model import Changes
from admission.mutation.new_decision import apply_decision, decided, forget
from admission.mutation.recorded_requests import is_changed, without_assigned
from admission.mutation.remarks import check_names
from admission.mutation.render import draft_template, keep_opt_out, undo
from admission.workloads.kind import Steering
from admission.workloads.model import PodSpec, Template, Workload
from slicewise.api import keys


def update_template(
    context: MutationContext, old: Workload, template: Template, asked: Asking, was: Template | None
) -> None:
    """Keeps, changes or takes back what was decided of one template; `was` is the template as it stood."""
    if template.means is Steering.PODS:
        if asked:
            _check_pods(context, template, asked, old, was)
        return
    keep_opt_out(context, old, template, was)
    if asked:
        _update_asking(context, old, template, asked, was)
    elif was is not None:
        _ask_no_more(context, template, was)


def _update_asking(
    context: MutationContext, old: Workload, template: Template, asked: Asking, was: Template | None
) -> None:
    record = former = _believed(context, was)
    earlier = _earlier(context, template, asked, former)
    if earlier is not None:
        record, context.anew = earlier, True
    asked = _recounted(context, template, asked, record, was)
    if _names_both(context, template, asked, record, was):
        return
    if record is None:
        same = _gpus(asked) == _gpus(gpu_requests(was.spec) if was else [])
        if not same and any(each.gpus for each in asked):
            _decide_again(context, template, asked, None, was)
        else:
            _check_said(context, template, old, was)
    elif was is not None and (renamed := _renamed(context, template, was, asked, record, former)):
        _check_said(context, template, old, was)
        _step_back(context, template, was, asked, record, renamed)
    elif is_changed(asked, record):
        _decide_again(context, template, asked, record, was)
    elif any(each.gpus or changes.still_matches(each, record) for each in asked):
        _repeat(context, template, asked, record)
        _warn_of_silence(context, template, asked, record)
        if was is not None:
            _warn_of_news(context, template, asked, record, was)
        if was is not None and (key := _said_anew(context.workload, template, old, was)):
            context.warn(
                f"{context.workload.title}: what was decided when it asked for its GPUs stands, although {key} says "
                "something else now; create it anew to have it decided again"
            )
    else:  # a person has named something else, or another number of it
        _check_said(context, template, old, was)
        if not (context.pinned_by or record.containers.keys() & {each.container.name for each in asked}):
            _undecide(context, template, NO_CHANGES, record)  # of containers that there are no more


def _recounted(
    context: MutationContext, template: Template, asked: Asking, record: Decision | None, was: Template | None
) -> Asking:
    """Returns what people ask for, where a merge left the name that was given beside another number of GPUs."""
    manifests = context.manifests
    if record is None or was is None or manifests is None or not template.slots:
        return asked
    stood = {container.name: container for _, container in containers(was.spec)}
    found = []
    for each in asked:
        name, slot = each.container.name, template.slots.get(each.pointer)
        assigned = record.containers.get(name)
        if assigned is not None and not each.gpus:
            number = manifests.recounted(slot, each.container, stood.get(name), assigned.to)
            if number:
                each = msgspec.structs.replace(each, gpus=number, named={assigned.to: assigned.count})  # noqa: PLW2901
        found.append(each)
    return found


def _check_said(context: MutationContext, template: Template, old: Workload, was: Template | None) -> None:
    """Checks what people newly say of a template that asks for devices, and of which nothing is decided.

    Raises:
        Refusal: it is nothing that a new object may say.
    """
    labels = context.gate.labels if context.gate.is_open else None
    if labels is not None and was is not None and _said_anew(context.workload, template, old, was):
        _resolved(context, template, labels)


def _check_pods(
    context: MutationContext, template: Template, asked: Asking, old: Workload, was: Template | None
) -> None:
    """Checks what people say of a template that is decided on in its pods, where an update brings that in.

    Raises:
        Refusal: it is nothing that a new object may say.
    """
    labels = context.gate.labels if context.gate.is_open else None
    if was is not None and gpu_requests(was.spec):
        _check_said(context, template, old, was)
    elif labels is not None and asked:
        _resolved(context, template, labels)


def _resolved(context: MutationContext, template: Template, labels: queueing.Labels) -> EffectivePolicy:
    metadata = template.metadata if template.inner is None else template.said
    return resolve_policy(context.workload, metadata, labels, context.state)


def _names_both(
    context: MutationContext, template: Template, asked: Asking, record: Decision | None, was: Template | None
) -> bool:
    """True where a container newly asks for a GPU by the old name and by one of its own, in mode audit: that is said,
    and the template stays as it is asked for.

    Raises:
        Refusal: one does, and the mode is another.
    """
    beside = [each for each in asked if each.gpus and each.named]
    if not beside or not context.gate.is_open:
        return False
    if said(context.workload, template.said, keys.REWRITE) == "false":
        return False
    stood = {each.container.name: each.named for each in gpu_requests(was.spec)} if was is not None else {}
    new = []
    for each in beside:
        before = {*stood.get(each.container.name, {}).items()}
        if record is not None and (given := record.containers.get(each.container.name)) is not None:
            before.add((given.to, given.count))
        named = {name: number for name, number in each.named.items() if (name, number) not in before}
        new.append(msgspec.structs.replace(each, named=named))
    try:
        check_names(context.workload, new)
    except Refusal as refusal:
        if not context.gate.audit:
            raise
        context.warn(f"audit: would be refused: {refusal}")
        context.audited = True
        if record is not None:
            context.draft.template(template, with_devices(template, changes.as_asked(asked, record)))
        return True
    return False


def _decide_again(
    context: MutationContext,
    template: Template,
    asked: Asking,
    record: Decision | None,
    was: Template | None,
    withdrawn: Changes = NO_CHANGES,
) -> None:
    """Decides a template anew, unless an engine would stop its pods for that."""
    if not context.pinned_by or record is None or was is None:
        decision, warnings = decided(context, template, asked, record)
    else:
        try:
            decision, warnings = decided(context, template, asked, record)
            differs = decision is not None and _differ(decision, record)
        except Refusal:
            differs = True
        if differs:
            _keep_running(context, template, asked, record, gpu_requests(was.spec))
            return
    apply_decision(context, template, asked, record, decision, warnings, withdrawn)
    if record is not None:
        _warn_of_silence(context, template, asked, record)


def _believed(context: MutationContext, was: Template | None) -> Decision | None:
    """Returns what was decided for the containers of a template that asked for devices as it stood."""
    record = record_of(was, context.root)
    if record is None or was is None:
        return None
    record = of_containers(record, gpu_requests(was.spec))
    if not record.containers and not context.pinned_by:
        return None  # it tells of other templates alone
    return record if is_plausible(record, was, context.gate.policy_name, context.state) else None


def _earlier(
    context: MutationContext, template: Template, asked: Asking, former: Decision | None
) -> Decision | None:
    """Returns what an earlier round of this very request decided in place of a former decision: every container
    asks for exactly what the record in the object gives it, or for what it names itself."""
    record = record_of(template, recorded(context.workload.metadata))
    if record is None or _is_as_it_stood(context, template):
        return None
    gets = [record.containers.get(each.container.name) for each in asked]
    if (
        former is not None
        and record.containers.keys() >= former.containers.keys()
        and gets == [former.containers.get(each.container.name) for each in asked]
    ):
        return None
    if not any(gets) or not is_given(asked, record):
        return None
    if any(each.gpus for each in asked) and not _is_ours(context, template, asked, record, former):
        return None
    return of_containers(record, asked)


def _is_as_it_stood(context: MutationContext, template: Template) -> bool:
    """True when all that says anything of a template is the object's record as it stood, which tells of others that
    have containers of these names."""
    old = context.old
    return (
        old is not None
        and context.workload.metadata.annotation(keys.DECISION) == old.metadata.annotation(keys.DECISION)
        and recorded(template.metadata) is None
    )


def _is_ours(
    context: MutationContext, template: Template, asked: Asking, record: Decision, former: Decision | None
) -> bool:
    """True when the old name, which may mean anything, is there by a decision of an earlier round."""
    policy = context.state.policy(context.gate.policy_name) if context.gate.is_open else None
    if policy is None or (former is None and template.annotatable and not recorded(template.metadata)):
        return False
    where = narrowing(template.spec)
    return already_applied(template, asked, record, BarePolicy(policy), context.state, where)


def _warn_of_silence(context: MutationContext, template: Template, asked: Asking, record: Decision) -> None:
    """Says what stays, where Helm's request does not tell whether the chart asks for it still."""
    manifests, kind = context.manifests, context.workload.row
    for each in asked if manifests is not None else ():
        assigned = record.containers.get(each.container.name)
        if (
            assigned is not None
            and not each.gpus
            and manifests is not None
            and manifests.are_silent(kind, template.slots.get(each.pointer))
        ):
            context.warn(
                f"{context.workload.title}: container {each.container.name!r} keeps {assigned.count} {assigned.to}: "
                f"Helm does not say whether the chart asks for {assigned.source} still; if it does not, have it "
                f"say {assigned.source}: 0"
            )


def _warn_of_news(
    context: MutationContext, template: Template, asked: Asking, record: Decision, was: Template
) -> None:
    """Says where what was decided stands, although a template newly names slices or asks other things of its nodes, for
    which a new object would be refused or get something of other pools.

    It stands, because an engine that starts an object writes where it may run, and would stop it for another request.
    """
    gate = context.gate
    if gate.labels is None or not gate.is_open or gate.audit:
        return
    spec = unsteered(template.spec, record)
    before = unsteered(was.spec, record)
    wanted, wanted_before = (without_assigned(each, record) for each in (asked, gpu_requests(was.spec)))
    if _beside(spec, wanted) == _beside(before, wanted_before):
        return
    try:
        effective = _resolved(context, template, gate.labels)
        fresh = msgspec.structs.replace(template, spec=spec)
        found = decide(context.named, fresh, wanted, effective, context.state, [])
    except Refusal as refusal:
        context.warn(f"{refusal}; what was decided before stands, so its pods may wait for ever")
        return
    if isinstance(found, Left):
        words = found.warning.removesuffix(f"; {AS_ASKED}")
        context.warn(f"{words}; what was decided before stands, so its pods may wait for ever")
    elif record.pools and not {*record.pools} & {*found.pools}:
        context.warn(
            f"{context.workload.title}: what was decided before stands, with pools {', '.join(record.pools)}, although "
            f"its nodeSelector, affinity, nodeName, tolerations or slices ask for {', '.join(found.pools)} now; create "
            "it anew to have it decided again"
        )


def _beside(spec: PodSpec, asked: Asking) -> tuple[object, ...]:
    """Returns what a pod says of its nodes, and names of slices itself."""
    tolerations = [each for each in spec.tolerations or () if each != TOLERATION]
    named = {each.container.name: each.named for each in asked if each.named}
    return spec.node_name, spec.node_selector, required_terms(spec), tolerations, named


def _renamed(
    context: MutationContext,
    template: Template,
    was: Template,
    asked: Asking,
    record: Decision,
    former: Decision | None,
) -> dict[str, Amounts]:
    """Returns what people ask by name, or of nothing any more, of containers that were given something; `former` is
    what was decided before this request."""
    before = former.containers if former is not None else {}
    stood = {container.name: container for _, container in containers(was.spec)}
    found = {}
    for each in asked:
        name = each.container.name
        assigned = record.containers.get(name)
        if assigned is None or context.manifests is None or each.gpus:
            continue
        asks = context.manifests.asks(template, each.pointer, each.container, stood.get(name), assigned.to)
        if asks is not None and keys.GPU not in asks and asks != {assigned.to: assigned.count}:
            found[name] = asks
    if found and (now := record_of(template, recorded(context.workload.metadata))) is not None:
        given = {each.container.name for each in asked if changes.still_matches(each, now)}
        for name in found.keys() & given:
            if now.containers[name] != before.get(name):
                del found[name]  # an earlier round of this very request gave it that
    return found


def _step_back(
    context: MutationContext,
    template: Template,
    was: Template,
    asked: Asking,
    record: Decision,
    renamed: Mapping[str, Amounts],
) -> None:
    """Takes ours away from containers of which people ask for something else by name, or for nothing."""
    if context.pinned_by:
        _keep_running(context, template, asked, record, gpu_requests(was.spec))
        return
    asking = [each for each in asked if each.container.name not in renamed]
    rest = of_containers(record, asking)
    named = changes.as_named(asked, renamed, rewritten=bool(asking))
    if (earlier := _earlier(context, template, asking, rest)) is not None:
        _repeat(context, template, asking, earlier, named)
    elif is_changed(asking, rest):
        _decide_again(context, template, _renamed_to(asked, renamed), rest, was, named)
    elif rest.containers:
        _repeat(context, template, asking, rest, named)
        _warn_of_news(context, template, _renamed_to(asked, renamed), rest, was)
    else:
        _undecide(context, template, named, record)
    context.anew = True


def _ask_no_more(context: MutationContext, template: Template, was: Template) -> None:
    """Takes what kept pods to pools away from a template that asked for GPUs before."""
    record = _believed(context, was) if gpu_requests(was.spec) and not context.pinned_by else None
    if record is None or template.means is Steering.PODS:
        return
    if not context.workload.row.is_pod:  # whose spec takes no change
        _undecide(context, template, NO_CHANGES, record)


def is_gone_with_a_template(context: MutationContext, old: Workload) -> bool:
    """True where a template that was decided is there no more, and nothing beside it asks for a GPU: what hung on it
    outside is to be taken away."""
    if context.root is None or context.pinned_by:
        return False
    here = {each.spec_pointer for each in context.before.values()}
    return any(gpu_requests(each.spec) for each in old.templates if each.spec_pointer not in here)


def one_name(context: MutationContext) -> list[Operation]:
    """Returns what takes ours away from containers of which a merge left it beside what people name now, of an update
    that stands although it would be refused."""
    context.draft = Draft()
    for template, asked in context.asking:
        was = context.before.get(template.spec_pointer)
        record = _believed(context, was)
        if record is not None and was is not None and template.means is not Steering.PODS:
            renamed = _renamed(context, template, was, asked, record, record)
            named = {**changes.as_asked(asked, record), **changes.as_named(asked, renamed, rewritten=False)}
            context.draft.template(template, with_devices(template, named))
    return context.draft.operations()


def taken_back(context: MutationContext) -> list[Operation]:
    """Returns what takes ours away from an update of which nothing can be decided as a whole."""
    context.draft = Draft()
    for template, asked in context.asking:
        record = _believed(context, context.before.get(template.spec_pointer))
        if record is not None and template.means is not Steering.PODS:
            _undecide(context, template, changes.as_asked(asked, record), record)
    if context.stepped_back:
        undo(context)
    return context.draft.operations()


def _undecide(context: MutationContext, template: Template, named: Changes, record: Decision) -> None:
    """Takes what was decided away from a template, as far as it is ours."""
    tolerations = f"{template.spec_pointer}/tolerations"
    ours = context.manifests is not None and context.manifests.leaves_out(tolerations)
    context.draft.template(template, undecided(template, named, record, tolerating=not ours))
    forget(context, template)


def _repeat(
    context: MutationContext,
    template: Template,
    asked: Asking,
    record: Decision,
    withdrawn: Changes = NO_CHANGES,
) -> None:
    context.results.append((template, record))
    draft_template(context, template, asked, record, withdrawn=withdrawn)
    context.repeated = True


def _keep_running(
    context: MutationContext, template: Template, asked: Asking, record: Decision, stood: Asking
) -> None:
    """Leaves a template as its pods run; `stood` is what they ask for."""
    context.warn(_kept_by(context.pinned_by, context.workload, stood))
    before = {each.container.name: each.amounts for each in stood}
    new = [each for each in asked if each.container.name not in before]
    others = {name: amounts for name, amounts in before.items() if name not in record.containers}
    withdrawn = {**changes.as_stood(asked, others), **changes.withdrawn(new)}
    if of_containers(record, asked).containers:
        _repeat(context, template, asked, record, withdrawn)
    else:
        context.draft.template(template, with_devices(template, withdrawn))


def is_applied_again(workload: Workload, old: Workload) -> bool:
    """True when a Pod's manifest came again: it asks what it asked before, and what was given is missing."""
    record = recorded(old.metadata)
    if record is None:
        return False
    for template, was in zip(workload.templates, old.templates, strict=False):
        asked, before = gpu_requests(template.spec), gpu_requests(was.spec)
        if is_changed(asked, record):
            return False
        if [each.amounts for each in asked] != [each.amounts for each in before]:
            return True
        if is_tolerating(was.spec) and not is_tolerating(template.spec):
            return True
        if record.steered and steered_to(was.spec, record.pools, record.node_labels):
            return not steered_to(template.spec, record.pools, record.node_labels)
    return False


def _said_anew(workload: Workload, template: Template, old: Workload, was: Template) -> str:
    """Returns the first key under which a person says something else than before; what is not there any more may have
    been wiped."""
    for key in (keys.WORKLOAD_CLASS, keys.GPU_MEMORY, keys.PROFILE, keys.NEEDS, keys.REWRITE):
        now = said(workload, template.said, key)
        if now is not None and now != said(old, was.said, key):
            return key
    return ""


def _gpus(asked: list[GpuRequest]) -> dict[str, int]:
    return {each.container.name: each.gpus for each in asked if each.gpus}


def _differ(decision: Decision, record: Decision) -> bool:
    """True when pods of the one would ask for something else than pods of the other."""
    got = [{name: (to.to, to.count) for name, to in each.containers.items()} for each in (decision, record)]
    return got[0] != got[1]


def _kept_by(engine: str, workload: Workload, stood: list[GpuRequest]) -> str:
    asks = [f"{number} {name}" for each in stood for name, number in each.amounts.items()]
    kept = " and ".join(dict.fromkeys(asks)) or "no GPU there"
    return (
        f"{workload.title}: {engine.title()} has taken it with {kept} and would stop it, or refuse this, if it asked "
        "for something else, so that stays; create it anew to change it"
    )


def _renamed_to(asked: Asking, renamed: Mapping[str, Amounts]) -> Asking:
    """Returns what people ask for, without what a merge left beside what they name."""
    return [
        msgspec.structs.replace(each, gpus=0, named=dict(renamed[each.container.name]))
        if each.container.name in renamed
        else each
        for each in asked
    ]
