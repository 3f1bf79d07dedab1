"""One object as it came, and as it stood -> what becomes of it.  Pure.

A creation is an update of nothing. Each template is left, keeps its decision or gets one; the object as it should be
is drafted of that, and the patch is the difference.

- A decision is kept while people ask for the same. Applying the original manifest again brings the old name back,
  beside ours or instead of it, and that is no change of mind; nor is a label of the namespace that changed.
- What is done already is left: pods of a template that was rewritten, and objects that a controller made of one.
- Children that their owner compares with what it rendered are never touched; pods are the last resort.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from admission.decision import template_matching
from admission.decision.cluster_state import ClusterState
from admission.decision.decide import cautions, decide
from admission.decision.gpu_requests import (
    GpuRequest,
    containers,
    devices_left,
    gpu_requests,
    of_the_pod,
    plain,
)
from admission.decision.manifest import Amounts, Manifests
from admission.decision.model import Assigned, Decision, Left, Reason, Refusal
from admission.decision.policy_resolution import EffectivePolicy, misspelt, opted_in, resolve_policy, said
from admission.decision.record import (
    BarePolicy,
    already_applied,
    is_plausible,
    merged,
    of_containers,
    policy_allows,
    pools_give,
    possible_records,
    record_of,
    recorded,
    text,
)
from admission.decision.requester import NOBODY, Requester
from admission.decision.rollout import in_rollout
from admission.decision.steering import steered_to, unsteered
from admission.decision.trace import Resolved, Standing, Stop, Trace
from admission.engines import queueing
from admission.mutation import changes
from admission.mutation.desired import Changes, desired, is_tolerating, undecided, with_devices
from admission.mutation.draft import Draft
from admission.mutation.integrations import side_fields
from admission.mutation.integrations.registry import FIXERS, REMARKS, UNDOERS
from admission.mutation.integrations.side_fields import IncompatibleKind
from admission.mutation.outcome import Outcome, Verdict
from admission.workloads.builtin_kinds import COMPARING_OWNERS
from admission.workloads.decoder import Reader
from admission.workloads.kind import Steering
from admission.workloads.model import Template, Workload
from admission.workloads.path_language import escape
from slicewise.api import keys
from slicewise.api.policy import Engine, WhenNothingFits

Raw = bytes | msgspec.Raw
Asking = list[GpuRequest]

MOST_CONTAINERS: Final = 500
"""In one object that asks for GPUs: more than any has, and few enough for one answer to hold up nobody."""
_NO_CHANGES: Final[Changes] = {}


def mutate(
    reader: Reader,
    raw: Raw,
    old: Raw | None,
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
    workload = reader.read(raw, namespace)
    if is_exempt(workload, marks=author.may_mark(state)):
        return _stopped(Stop.EXEMPT)
    if old is None:
        mutation = _Mutation(workload, None, state, labels, None)
        if workload.row.is_pod and not author.names_owners(namespace):
            mutation.joining = _unowned(workload)
        return _owned(mutation.outcome(), workload)
    if workload.metadata.controller is not None and author.is_controller:
        return _stopped(Stop.OWNER)  # nothing is put back, so that nobody fights
    before = reader.read(old, namespace)
    if workload.row.is_pod and not _applied_again(workload, before):
        return _stopped(Stop.RUNNING)  # validation.go, ValidatePodUpdate
    manifests = Manifests(raw, old, author.field_manager)
    return _owned(_Mutation(workload, before, state, labels, manifests).outcome(), workload)


def _owned(outcome: Outcome, workload: Workload) -> Outcome:
    owner = workload.metadata.controller if outcome.warnings else None
    return outcome if owner is None else msgspec.structs.replace(outcome, owner=owner)


def _unowned(workload: Workload) -> Workload:
    metadata = msgspec.structs.replace(workload.metadata, owner_references=None)
    return msgspec.structs.replace(workload, metadata=metadata)


def _stopped(stop: Stop, name: Verdict = Verdict.IGNORED, policy: str = "") -> Outcome:
    return Outcome(name, policy=policy, trace=(stop,))


def is_exempt(workload: Workload, *, marks: bool = True) -> bool:
    """True for objects that must be left alone byte for byte; `marks` is whether labels that say so are believed."""
    metadata = workload.metadata
    if not workload.row.namespaced:
        return True  # no namespace has opted it in; the pods that are made of it are rewritten
    if marks and keys.is_left(metadata.labels or {}):
        return True
    if workload.row.is_pod and metadata.annotation(keys.MIRROR_POD) is not None:
        return True  # no kubelet runs one that it did not make itself
    owner = metadata.controller
    if owner is None or {"*", owner.group_kind} & workload.row.safe_owners:
        return False
    return owner.group_kind in COMPARING_OWNERS


class _Mutation:
    """One object while its templates are looked at one by one."""

    def __init__(
        self,
        workload: Workload,
        old: Workload | None,
        state: ClusterState,
        labels: queueing.Labels | None,
        manifests: Manifests | None,
    ) -> None:
        self.workload, self.old, self.state, self.manifests = workload, old, state, manifests
        self.joining = workload
        """It, as it is put into a queue: without an owner that may be made up."""
        self.labels = labels
        """Of the namespace; None where nothing new is decided in it."""
        self.policy_name = labels[keys.POLICY] if labels else ""
        self.audit = labels is not None and labels.get(keys.MODE) == "audit"
        self.reached = labels is not None and self._reached(labels)
        """True when something new may be decided: by the namespace, and by the rollout of its policy."""
        self.root = None if old is None else recorded(old.metadata)
        self.before = {} if old is None else template_matching.match_templates(workload, old)
        self.pinned_by = "" if old is None else queueing.pinning_engine(workload, old)
        self.asking = [(template, gpu_requests(template.spec)) for template in workload.templates]
        self.asks = any(asked for _, asked in self.asking)
        """True when any container asks for a GPU, a slice or a share."""
        self.draft = Draft()
        self.results: list[tuple[Template, Decision]] = []
        self.warnings: list[str] = []
        self.trace: Trace = []
        self.policy: EffectivePolicy | None = None
        """What holds for the first template that was to be decided."""
        self.anew = self.repeated = self.opted_out = self.audited = self.stepped_back = False
        self.queue = ""
        """The queue that it was put into."""

    def outcome(self) -> Outcome:
        """Returns what becomes of the object."""
        if self.old is None and (stopped := self._stopped()) is not None:
            return stopped
        try:
            found = self._outcome()
        except Refusal as refusal:
            if self._leaves(refusal):
                words, name = (
                    f"{refusal}; left as it was asked",
                    self.policy.policy.name if self.policy else "",
                )
                return Outcome(Verdict.LEFT, warnings=[words], policy=name, trace=tuple(self.trace))
            found = Outcome(
                Verdict.REFUSED, refusal=str(refusal), reason=refusal.reason, trace=tuple(self.trace)
            )
        if self.audit and (self.old is None or found.refusal):
            return _audited(found, self.queue)
        return found

    def _leaves(self, refusal: Refusal) -> bool:
        """True where the policy leaves a new object whose kind cannot work with what was decided."""
        return (
            self.old is None
            and isinstance(refusal, IncompatibleKind)
            and self.policy is not None
            and self.policy.spec.when_nothing_fits is WhenNothingFits.LEAVE
        )

    def _stopped(self) -> Outcome | None:
        """Returns what becomes of a new object of which nothing is to be decided."""
        if not self.asks:
            warnings = [*_misplaced(self.workload), *side_fields.remarks(REMARKS, self.workload)]
            name = Verdict.LEFT if warnings else Verdict.UNCHANGED
            return Outcome(name, warnings=warnings, trace=(Stop.NO_GPU, *self._devices_left()))
        if not self.reached:
            return _stopped(Stop.ROLLOUT, Verdict.LEFT, self.policy_name)
        return None

    def _devices_left(self) -> Trace:
        left = devices_left(self.workload.templates)
        return [] if left is None else [left]

    def _reached(self, labels: queueing.Labels) -> bool:
        policy = self.state.policy(labels[keys.POLICY])
        return policy is None or in_rollout(self.workload, policy.spec)

    def _outcome(self) -> Outcome:
        self._check_size()
        if self.old is None:
            self.warnings += [*_misplaced(self.workload), *misspelt(self.workload)]
            self.trace += self._devices_left()
        for template, asked in self.asking:
            if self.old is not None and template.means is not Steering.PODS:
                self._opted_out(template, self.before.get(template.spec_pointer))
            was = self.before.get(template.spec_pointer)
            if asked:
                self._template(template, asked, was)
            elif was is not None:
                self._ask_no_more(template, was)
        left = self.opted_out or bool(self.draft.operations() if not self.results else False)
        if self.results:
            self._record()
            self._side_fields()
        elif self.stepped_back:
            self._undo()
        if self.labels is not None and self._joins():
            self.queue = queueing.join(self.draft, self.joining, self.labels)
        elif self.old is not None and self.asks:
            queueing.keep(self.draft, self.workload, self.old)
        operations = self.draft.operations()
        decisions = tuple(decision for _, decision in self.results)
        return Outcome(
            self._verdict(left=left, changed=bool(operations)),
            operations,
            self.warnings,
            decisions,
            merged(self.results) if decisions else None,
            self.policy.policy.name if self.policy else decisions[0].policy if decisions else "",
            decisions[0].strategy if decisions else "",
            trace=tuple(self.trace),
        )

    def _joins(self) -> bool:
        """True for new work of people, and for what a controller makes of something that nobody put into a queue: its
        record would have come with it."""
        return self.old is None and (self.joining.metadata.controller is None or self.anew)

    def _verdict(self, *, left: bool, changed: bool) -> Verdict:
        if self.results and self.anew:
            return Verdict.REWRITTEN
        if not self.results and self.audited:
            return Verdict.AUDITED
        if not self.results and (left or self.warnings):
            return Verdict.LEFT
        if changed and (self.repeated or self.old is not None):
            return Verdict.REPEATED
        return Verdict.UNCHANGED

    def _check_size(self) -> None:
        """Refuses an object with more containers than are looked at one by one.

        A record of the decision has some hundred bytes for each container, and all annotations may have 256 KiB.
        """
        specs = [template.spec for template in self.workload.templates]
        count = sum([len(spec.containers or ()) + len(spec.init_containers or ()) for spec in specs])
        if count > MOST_CONTAINERS and self.labels is not None and self.asks:
            raise Refusal(
                f"{self.workload.title}: has {count} containers, and of an object that asks for GPUs at most "
                f"{MOST_CONTAINERS} are looked at; split it into several",
                Reason.TOO_LARGE,
            )

    # --- One template: left, kept or decided -----------------------------------------------------------------

    def _template(self, template: Template, asked: Asking, was: Template | None) -> None:
        if self.old is None:
            self._decide(template, asked, self._outgrown(template, asked), None)
            return
        if template.means is Steering.PODS:
            return
        record = self._believed(was)
        earlier = self._earlier(template, asked, record)
        if earlier is not None:
            record, self.anew = earlier, True
        if record is None:
            same = _gpus(asked) == _gpus(gpu_requests(was.spec) if was else [])
            if not same and any(each.gpus for each in asked):
                self._decide(template, asked, None, was)
        elif was is not None and (renamed := self._renamed(template, was, asked, record)):
            self._step_back(template, was, asked, record, renamed)
        elif _changed(asked, record):
            self._decide(template, asked, record, was)
        elif any(each.gpus or changes.still_matches(each, record) for each in asked):
            self._repeat(template, asked, record)
            self._warn_of_silence(asked, record)
            if was is not None and (key := _said_anew(self.workload, template, self.old, was)):
                self._warn(
                    f"{self.workload.title}: what was decided when it asked for its GPUs stands, although {key} says "
                    "something else now; create it anew to have it decided again"
                )
        # ... else a person has named something else, or another number of it

    def _believed(self, was: Template | None) -> Decision | None:
        """Returns what was decided for the containers of a template that asked for devices as it stood."""
        record = record_of(was, self.root)
        if record is None or was is None:
            return None
        record = of_containers(record, gpu_requests(was.spec))
        return record if is_plausible(record, was, self.policy_name, self.state) else None

    def _earlier(self, template: Template, asked: Asking, former: Decision | None) -> Decision | None:
        """Returns what an earlier round of this very request decided in place of a former decision: every container
        asks for exactly what the record in the object gives it."""
        record = record_of(template, recorded(self.workload.metadata))
        if record is None:
            return None
        gets = [record.containers.get(each.container.name) for each in asked]
        if (
            former is not None
            and record.containers.keys() >= former.containers.keys()
            and gets == [former.containers.get(each.container.name) for each in asked]
        ):
            return None
        for each, assigned in zip(asked, gets, strict=True):
            if assigned is None or each.amounts != {assigned.to: assigned.count}:
                return None
        if any(each.gpus for each in asked) and not self._is_ours(template, asked, record, former):
            return None
        return of_containers(record, asked)

    def _is_ours(self, template: Template, asked: Asking, record: Decision, former: Decision | None) -> bool:
        """True when the old name, which may mean anything, is there by a decision of an earlier round."""
        policy = self.state.policy(self.policy_name) if self.reached else None
        if policy is None or (former is None and template.annotatable and not recorded(template.metadata)):
            return False
        return already_applied(template, asked, record, BarePolicy(policy), self.state)

    def _warn_of_silence(self, asked: Asking, record: Decision) -> None:
        """Says what stays, where Helm's request does not tell whether the chart asks for it still."""
        if self.manifests is None or not self.manifests.are_silent(self.workload.row):
            return
        for each in asked:
            assigned = record.containers.get(each.container.name)
            if assigned is not None and not each.gpus:
                self._warn(
                    f"{self.workload.title}: container {each.container.name!r} keeps {assigned.count} {assigned.to}: "
                    f"Helm does not say whether the chart asks for {assigned.source} still; if it does not, have it "
                    f"say {assigned.source}: 0"
                )

    def _outgrown(self, template: Template, asked: Asking) -> Decision | None:
        """Returns the record that came with a controller's object which asks for another number of GPUs beside what
        was given."""
        record = recorded(template.metadata) if self.workload.metadata.controller is not None else None
        if record is None or not any(each.gpus and changes.still_matches(each, record) for each in asked):
            return None
        return record if _changed(asked, record) else None

    def _renamed(
        self, template: Template, was: Template, asked: Asking, record: Decision
    ) -> dict[str, Amounts]:
        """Returns what people ask by name, or of nothing any more, of containers that were given something."""
        stood = {container.name: container for _, container in containers(was.spec)}
        found = {}
        for each in asked:
            name = each.container.name
            assigned = record.containers.get(name)
            if assigned is None or self.manifests is None:
                continue
            asks = self.manifests.asks(template, each.container, stood.get(name), assigned.to)
            if asks is not None and keys.GPU not in asks and asks != {assigned.to: assigned.count}:
                found[name] = asks
        return found

    def _step_back(
        self,
        template: Template,
        was: Template,
        asked: Asking,
        record: Decision,
        renamed: Mapping[str, Amounts],
    ) -> None:
        """Takes ours away from containers of which people ask for something else by name, or for nothing."""
        if self.pinned_by:
            self._keep(template, asked, record, gpu_requests(was.spec))
            return
        others = {name: each for name, each in record.containers.items() if name not in renamed}
        rest = msgspec.structs.replace(record, containers=others)
        asking = [each for each in asked if each.container.name not in renamed]
        named = changes.as_named(asked, renamed, rewritten=bool(asking))
        if (earlier := self._earlier(template, asking, rest)) is not None:
            self._repeat(template, asking, earlier, named)
        elif _changed(asking, rest):
            self._decide(template, _renamed_to(asked, renamed), rest, was, named)
        elif any(each.container.name in others for each in asking):
            self._repeat(template, asking, rest, named)
        else:
            self._undecide(template, named, record)
        self.anew = True

    def _ask_no_more(self, template: Template, was: Template) -> None:
        """Takes what kept pods to pools away from a template that asked for GPUs before."""
        record = self._believed(was) if gpu_requests(was.spec) and not self.pinned_by else None
        if record is None or template.means is Steering.PODS:
            return
        if not self.workload.row.is_pod:  # whose spec takes no change
            self._undecide(template, _NO_CHANGES, record)

    def _undecide(self, template: Template, named: Changes, record: Decision) -> None:
        """Takes what was decided away from a template, as far as it is ours."""
        tolerations = f"{template.spec_pointer}/tolerations"
        ours = self.manifests is not None and self.manifests.leaves_out(tolerations)
        self.draft.template(template, undecided(template, named, record, tolerating=not ours))
        if template.metadata is not None and template.metadata.annotation(keys.DECISION) is not None:
            self.draft.annotate(template.pointer, template.metadata, keys.DECISION, None)
        self.stepped_back = True

    def _repeat(
        self, template: Template, asked: Asking, record: Decision, withdrawn: Changes = _NO_CHANGES
    ) -> None:
        self.results.append((template, record))
        self._draft(template, asked, record, withdrawn=withdrawn)
        self.repeated = True

    def _decide(
        self,
        template: Template,
        asked: Asking,
        record: Decision | None,
        was: Template | None,
        withdrawn: Changes = _NO_CHANGES,
    ) -> None:
        pinned = bool(self.pinned_by) and record is not None and was is not None
        try:
            decision, warnings = self._decided(template, asked, record)
        except Refusal:
            if not pinned:
                raise
            decision, warnings = None, []
            differs = True
        else:
            differs = decision is not None and record is not None and _differ(decision, record)
        if pinned and differs and record is not None and was is not None:
            self._keep(template, asked, record, gpu_requests(was.spec))
            return
        self.warnings += warnings
        if decision is not None:
            self.results.append((template, decision))
            self._draft(template, _before_ours(asked, record), decision, record, withdrawn)
            self.anew = True
        elif record is not None:
            named = {**changes.as_asked(asked, record), **withdrawn}
            self.draft.template(template, undecided(template, named, record))

    def _keep(self, template: Template, asked: Asking, record: Decision, stood: Asking) -> None:
        """Leaves a template as its pods run; `stood` is what they ask for."""
        self._warn(_kept_by(self.pinned_by, self.workload, stood))
        before = {each.container.name: each.amounts for each in stood}
        new = [each for each in asked if each.container.name not in before]
        others = {name: amounts for name, amounts in before.items() if name not in record.containers}
        withdrawn = {**changes.as_stood(asked, others), **changes.withdrawn(new)}
        if len(new) < len(asked):
            self._repeat(template, asked, record, withdrawn)
        else:
            self.draft.template(template, with_devices(template, withdrawn))

    def _warn(self, words: str) -> None:
        if words not in self.warnings:
            self.warnings.append(words)

    # --- A decision ------------------------------------------------------------------------------------------

    def _decided(
        self, template: Template, asked: Asking, record: Decision | None
    ) -> tuple[Decision | None, list[str]]:
        """Returns what is decided of a template that has a record, or none, and what to warn of."""
        if self.labels is None or not self.reached:
            return None, []
        if not self.audit or self.old is None:
            return self._decided_by_policy(template, asked, record, self.labels)
        self.audited = True
        try:
            decision, warnings = self._decided_by_policy(template, asked, record, self.labels)
        except Refusal as refusal:
            return None, [f"audit: would be refused: {refusal}"]
        return None, [f"audit: {each}" for each in ([in_words(decision)] if decision else warnings)]

    def _decided_by_policy(
        self, template: Template, asked: Asking, record: Decision | None, labels: queueing.Labels
    ) -> tuple[Decision | None, list[str]]:
        workload, state = self.workload, self.state
        effective = resolve_policy(workload, template.said, labels, state)
        self.policy = self.policy or effective
        warnings = _remarks(workload, asked, state) if self.old is None else []
        if self.old is None:
            self.opted_out = self.opted_out or effective.opted_out
            if effective.opted_out:
                self._leave_out(template)
            if template.means is Steering.PODS:
                self.trace.append(Stop.PODS)
                return None, warnings
            if record is None and not effective.opted_out and self._finish(template, asked, effective):
                return None, warnings
        wanted = _without_ours(asked, record)
        standing = self._standing(template, wanted if self.old is None else asked, effective)
        if standing is not None and not effective.opted_out:
            self.trace.append(Standing(effective, standing))
            return (None if self.old is None else standing), warnings
        self.trace.append(Resolved(effective))
        if effective.opted_out:
            self.trace.append(Stop.OPTED_OUT)
            return None, warnings
        if not any(each.gpus for each in wanted) or not all(changes.is_readable(each) for each in wanted):
            return None, warnings
        if self.old is None:
            _check_names(workload, wanted)
        if record is not None and record.steered:
            template = msgspec.structs.replace(template, spec=unsteered(template.spec, record))
        decision = decide(workload, template, wanted, effective, state, self.trace)
        if isinstance(decision, Left):
            return None, [*warnings, decision.warning]
        decision = side_fields.free(workload.title, template, decision, state)
        return decision, [*warnings, *cautions(workload, template, decision, state)]

    def _standing(self, template: Template, asked: Asking, effective: EffectivePolicy) -> Decision | None:
        """Returns the record that a template is as, or one of those that it may have been made by."""
        record = record_of(template, recorded(self.workload.metadata))
        guesses: Iterator[Decision] = iter([record] if record is not None else [])
        if record is None and self.old is None:
            guesses = possible_records(self.workload, template, asked, effective)
        return next(
            (each for each in guesses if already_applied(template, asked, each, effective, self.state)), None
        )

    def _finish(self, template: Template, asked: Asking, effective: EffectivePolicy) -> bool:
        """Finishes what a controller made of templates: a merge of two layers may have brought the old name back
        beside ours, and a kind without a pod spec could not say all that was decided. False where there is nothing of
        that kind.

        The people's own new objects are refused for asking twice; what a controller asks twice, nobody wrote.
        """
        if self.workload.metadata.controller is None:
            return False
        record = recorded(template.metadata)
        if record is not None and policy_allows(record, effective):
            gets = [(each, record.containers.get(each.container.name)) for each in asked]
            if all(to is not None and self._is_given(each, to, record, effective) for each, to in gets):
                self._draft(template, asked, record)
                self.trace.append(Standing(effective, record))
                self.repeated = True
                return True
        twice = changes.one_name(asked)
        if not twice or any(each.gpus and not each.named for each in asked):
            return False
        self.draft.template(template, with_devices(template, twice))
        self.repeated = True
        return True

    def _is_given(self, each: GpuRequest, to: Assigned, record: Decision, effective: EffectivePolicy) -> bool:
        """True when a container has what the record gives it, perhaps beside the old name."""
        if to.to in each.named:
            return True
        whole = to.to == keys.GPU and each.gpus == to.count and not each.named
        return whole and record.steered and pools_give(record, to.count, effective, self.state)

    # --- The object as it should be --------------------------------------------------------------------------

    def _draft(
        self,
        template: Template,
        asked: Asking,
        decision: Decision,
        former: Decision | None = None,
        withdrawn: Changes = _NO_CHANGES,
    ) -> None:
        given = changes.given(template, asked, decision, withdrawn)
        in_requests = self.workload.queueing.counts_requests
        self.draft.template(template, desired(template, given, decision, former, in_requests=in_requests))
        if template.annotatable and template.pointer:
            self.draft.annotate(template.pointer, template.metadata, keys.DECISION, text(decision))

    def _record(self) -> None:
        """Writes what was decided on the object, and on each object within it, where the labels outside are not
        seen."""
        as_it_was = self.old is not None and not self.anew and self.root is not None
        if (
            as_it_was
            and self.old is not None
            and not any(self._moved(template) for template, _ in self.results)
        ):
            words = self.old.metadata.annotation(keys.DECISION)
        else:
            words = text(merged(self.results))
        self.draft.annotate("", self.workload.metadata, keys.DECISION, words)
        inner = {t.inner.pointer: t.inner.metadata for t, _ in self.results if t.inner is not None}
        for pointer, metadata in inner.items():
            whole = merged(
                [each for each in self.results if each[0].inner and each[0].inner.pointer == pointer]
            )
            self.draft.annotate(pointer, metadata, keys.DECISION, text(whole))
            self.draft.label(pointer, metadata, keys.WORKLOAD_CLASS, whole.class_name)

    def _moved(self, template: Template) -> bool:
        was = self.before.get(template.spec_pointer)
        return was is not None and was.spec_pointer != template.spec_pointer

    def _undo(self) -> None:
        """Takes away what stands outside of the templates, where nothing is decided of any of them any more."""
        inner = {each.inner.pointer: each.inner.metadata for each in self.workload.templates if each.inner}
        for pointer, metadata in {"": self.workload.metadata, **inner}.items():
            if metadata is not None and metadata.annotation(keys.DECISION) is not None:
                self.draft.annotate(pointer, metadata, keys.DECISION, None)
        for pointer, before, after in side_fields.undone(UNDOERS, self.workload):
            self.draft.field(pointer, before, after)
        queue = self.workload.metadata.label(keys.KUEUE_QUEUE)
        place = f"/metadata/labels/{escape(keys.KUEUE_QUEUE)}"
        silent = self.manifests is not None and self.manifests.leaves_out(place)
        if queue is not None and silent and not any(asked for _, asked in self.asking):
            self._warn(
                f"{self.workload.title}: asks for no GPU any more and stays in queue {queue}, where one put it; "
                f"remove the label {keys.KUEUE_QUEUE}, or create it anew where Kueue takes no such change"
            )

    def _side_fields(self) -> None:
        workload = self.workload
        if not workload.parts:
            return
        queue = (
            ""
            if not self.labels or not self._joins()
            else queueing.queue_to_join(workload, self.labels, Engine.VOLCANO)
        )
        try:
            fields, warnings = side_fields.mend(FIXERS, workload, self.old, self.results, queue)
        except IncompatibleKind as unfit:
            if self.old is None or self.anew:
                raise
            self.warnings.append(str(unfit))
            return
        for pointer, before, after in fields:
            self.draft.field(pointer, before, after)
        self.warnings += warnings

    def _leave_out(self, template: Template) -> None:
        """Says on a template, or on an object within the workload, that its owner opted out: pods are made of it, and
        nothing is seen there of the labels and annotations outside."""
        if template.inner is not None:
            self.draft.annotate(template.inner.pointer, template.inner.metadata, keys.REWRITE, "false")
        elif template.annotatable and template.pointer:
            self.draft.annotate(template.pointer, template.metadata, keys.REWRITE, "false")

    def _opted_out(self, template: Template, was: Template | None) -> None:
        """Keeps a template's own opting out through a manifest that is applied again. Where the object alone opts in
        again, it is not taken away, because some kinds take no change of it."""
        if was is None or was.metadata is None or was.metadata.annotation(keys.REWRITE) != "false":
            return
        now = self.workload.metadata.annotation(keys.REWRITE)
        if now == "false":
            self._leave_out(template)
        own = template.metadata and template.metadata.annotation(keys.REWRITE)
        former = self.old and self.old.metadata.annotation(keys.REWRITE)
        if former == "false" and now is None and own == "false":
            self.warnings.append(
                f'{self.workload.title}: {template.pointer}/metadata still has {keys.REWRITE}="false", so its pods are '
                "left as they are asked for; remove it there too"
            )


def _audited(found: Outcome, queue: str) -> Outcome:
    """Returns what is said of a new object in audit mode, of which nothing is done."""
    if found.refusal:
        warnings = [f"audit: would be refused: {found.refusal}"]
        return Outcome(Verdict.AUDITED, warnings=warnings, trace=found.trace)
    decided = (in_words(each, queue) for each in found.decisions)
    warnings = [f"audit: {each}" for each in (*found.warnings, *decided)]
    return msgspec.structs.replace(found, name=Verdict.AUDITED, operations=[], warnings=warnings)


def in_words(decision: Decision, queue: str = "") -> str:
    """Returns what each container asked and gets, where it would run and queue, and why, for a warning."""
    moves = ", ".join(
        f"{name}: {each.source} {each.asked} -> {each.to} {each.count}"
        for name, each in decision.containers.items()
    )
    kept = "kept to" if decision.steered else "free to run in"
    where = [f"{kept} {', '.join(decision.pools)}", "tolerating nvidia.com/gpu"]
    if queue:
        where.append(f"in queue {queue}")
    return f"{moves}; {', '.join(where)} ({decision.reason})"


def _applied_again(workload: Workload, old: Workload) -> bool:
    """True when a Pod's manifest came again: it asks what it asked before, and what was given is missing."""
    record = recorded(old.metadata)
    if record is None:
        return False
    for template, was in zip(workload.templates, old.templates, strict=False):
        asked, before = gpu_requests(template.spec), gpu_requests(was.spec)
        if _changed(asked, record):
            return False
        if [each.amounts for each in asked] != [each.amounts for each in before]:
            return True
        if is_tolerating(was.spec) and not is_tolerating(template.spec):
            return True
        if record.steered and steered_to(was.spec, record.pools, record.node_labels):
            return not steered_to(template.spec, record.pools, record.node_labels)
    return False


def _check_names(workload: Workload, asked: list[GpuRequest]) -> None:
    for each in asked:
        if each.gpus and each.named:
            raise Refusal(
                f"{workload.title}: container {each.container.name!r} asks for {keys.GPU} and for "
                f"{', '.join(each.named)}; ask for one of them",
                Reason.BOTH_NAMES,
            )


def _misplaced(workload: Workload) -> Iterator[str]:
    for template in workload.templates:
        for name in of_the_pod(template):
            yield (
                f"{workload.title}: {template.spec_pointer}/resources asks for {name} for the pod as a whole, which "
                "Kubernetes gives to containers alone, and is left alone; ask for it in a container"
            )


def _remarks(workload: Workload, asked: list[GpuRequest], state: ClusterState) -> list[str]:
    found = []
    for each in asked:
        title = f"{workload.title}: container {each.container.name!r}"
        if each.unreadable:
            found.append(f"{title} is left alone, its {each.unreadable}")
        elif not plain(each):
            found.append(
                f"{title} is left alone, its requests and limits of {keys.GPU} differ, which Kubernetes takes of "
                "nobody; write the same number in both"
            )
        found += [
            f"{title} asks for {name}, which no pool offers; ask for {keys.GPU} and let the policy choose"
            for name in each.named
            if not any(name in pool.resources for pool in state.all_pools())
        ]
    return found


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


def _changed(asked: list[GpuRequest], record: Decision) -> bool:
    """True when a person changed how many GPUs a container asks for, as against what was recorded."""
    for each in asked:
        if not each.gpus:
            continue
        assigned = record.containers.get(each.container.name)
        if assigned is None:
            return True
        known = {assigned.asked, assigned.count} if assigned.to == keys.GPU else {assigned.asked}
        if each.gpus not in known:
            return True
    return False


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


def _before_ours(asked: list[GpuRequest], record: Decision | None) -> list[GpuRequest]:
    """Takes our own names back out: what each container asked before it was rewritten, or asks now."""
    if record is None:
        return asked
    found = []
    for each in asked:
        assigned = record.containers.get(each.container.name)
        if assigned is not None and assigned.to in each.named:
            each = msgspec.structs.replace(each, gpus=each.gpus or assigned.asked)  # noqa: PLW2901
        found.append(each)
    return found


def _renamed_to(asked: Asking, renamed: Mapping[str, Amounts]) -> Asking:
    """Returns what people ask for, without what a merge left beside what they name."""
    return [
        msgspec.structs.replace(each, gpus=0, named=dict(renamed[each.container.name]))
        if each.container.name in renamed
        else each
        for each in asked
    ]


def _without_ours(asked: Asking, record: Decision | None) -> Asking:
    """Returns what people ask for, without the names that were given before."""
    if record is None:
        return asked
    ours = {each.to for each in record.containers.values()}
    return [
        msgspec.structs.replace(each, named={k: v for k, v in each.named.items() if k not in ours})
        for each in _before_ours(asked, record)
    ]
