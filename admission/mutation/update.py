"""A changed object -> what becomes of it.  Pure.

UPDATE repeats the recorded decision: re-applying the original manifest brings the old name back, beside ours or instead
of it, and that is no change of mind. Only a changed GPU request is decided anew, never a changed namespace label.
"""

from collections.abc import Mapping

import msgspec

from admission.decision import template_matching
from admission.decision.cluster_state import ClusterState
from admission.decision.decide import cautions, decide
from admission.decision.gpu_requests import GpuRequest, containers, wanting
from admission.decision.manifest import Amounts, Manifests
from admission.decision.model import Decision, Left, Refusal
from admission.decision.policy_resolution import opted_in, orders, said
from admission.decision.record import believable, merged, record_of, recorded, stands
from admission.decision.rollout import reached
from admission.engines import queues
from admission.engines.volcano_requests import counted
from admission.mutation import template_patch
from admission.mutation.integrations import side_fields
from admission.mutation.integrations.registry import FIXERS
from admission.mutation.integrations.side_fields import IncompatibleKind
from admission.mutation.outcome import Outcome, Verdict
from admission.mutation.template_edits import (
    NOTHING,
    annotated,
    clear,
    given,
    given_back,
    holds_still,
    in_words,
    left_out,
    stepping_back,
    taken_back,
    told_inside,
    unrecorded,
)
from admission.mutation.template_patch import Change, MetadataEdits, Operation
from admission.workloads.kind import Means
from admission.workloads.model import Template, Workload
from slicewise.api import keys


def update(workload: Workload, old: Workload, world: ClusterState, manifests: Manifests) -> Outcome:
    """Judges an object that stood as `old`.

    Raises:
        Refusal: a person changed what is asked for to what the policy does not give.
    """
    found = _Update(workload, old, world, manifests)
    for template in workload.templates:
        if template.means is not Means.PODS:
            found.judge(template)
    return found.outcome()


class _Update:
    """One object's change while its templates are judged one by one."""

    def __init__(self, workload: Workload, old: Workload, world: ClusterState, manifests: Manifests) -> None:
        self.workload, self.old, self.world, self.manifests = workload, old, world, manifests
        self.root = recorded(old.metadata)
        self.before = template_matching.stood(workload, old)
        self.operations: list[Operation] = []
        self.marks = MetadataEdits()
        self.results: list[tuple[Template, Decision]] = []
        self.warnings: list[str] = []
        self.repeated = self.anew = False

    def judge(self, template: Template) -> None:
        asked = wanting(template.spec)
        was = self.before.get(template.spec_pointer)
        _stay_out(self.workload, template, was, self.marks)
        if _still_out(self.workload, self.old, template, was):
            self.warnings.append(
                f'{self.workload.title}: {template.pointer}/metadata still has {keys.REWRITE}="false", so its pods are '
                "left as they are asked for; remove it there too"
            )
        if not asked:
            return  # nothing was given to it, whatever the record of the whole object says
        record = _believed(was, self.root, self.world)
        earlier = _earlier(self.workload, template, asked, record, self.world)
        if earlier is not None:
            record, self.anew = earlier, True
        if (
            record is not None
            and was is not None
            and (renamed := self._renamed(template, was, asked, record))
        ):
            self._step_back(template, was, asked, record, renamed)
            return
        if record is None:
            same = _gpus(asked) == _gpus(wanting(was.spec) if was else [])
            if not same and any(each.gpus for each in asked):
                self._decide(template, asked, None, was)
        elif _changed(asked, record):
            self._decide(template, asked, record, was)
        elif any(each.gpus or holds_still(each, record) for each in asked):
            self._repeat(template, asked, record)
            if was is not None and (key := _said_anew(self.workload, template, self.old, was)):
                self._warn_once(
                    f"{self.workload.title}: what was decided when it asked for its GPUs stands, although {key} says "
                    "something else now; create it anew to have it decided again"
                )
        # ... else a person has named something else, or another number of it

    def _renamed(
        self, template: Template, was: Template, asked: list[GpuRequest], record: Decision
    ) -> dict[str, Amounts]:
        """Returns what people ask by name, or of nothing any more, of containers that were given something."""
        stood = {container.name: container for _, container in containers(was.spec)}
        found = {}
        for each in asked:
            name = each.container.name
            assigned = record.containers.get(name)
            if assigned is None:
                continue
            asks = self.manifests.asks(template, each.container, stood.get(name), assigned.to)
            if asks is not None and keys.GPU not in asks and asks != {assigned.to: assigned.count}:
                found[name] = asks
        return found

    def _step_back(
        self,
        template: Template,
        was: Template,
        asked: list[GpuRequest],
        record: Decision,
        renamed: Mapping[str, Amounts],
    ) -> None:
        """Takes ours away from containers of which people ask for something else by name, or for nothing."""
        if engine := queues.keeper(self.workload, self.old):
            self._keep(engine, template, asked, record, wanting(was.spec))
            return
        others = {name: each for name, each in record.containers.items() if name not in renamed}
        kept = [each for each in asked if each.container.name in others]
        changes = stepping_back(asked, renamed)
        if kept:
            self._repeat(template, kept, msgspec.structs.replace(record, containers=others), changes)
        else:
            self.operations += template_patch.given_back(template, changes, record)
            self.operations += unrecorded(template, self.workload)
        self.anew = True

    def _repeat(
        self,
        template: Template,
        asked: list[GpuRequest],
        record: Decision,
        withdrawn: Mapping[str, Change] | None = None,
    ) -> None:
        self.results.append((template, record))
        self.operations += given(template, asked, record, self.marks, withdrawn=withdrawn or {})
        self.repeated = True

    def _decide(
        self, template: Template, asked: list[GpuRequest], record: Decision | None, was: Template | None
    ) -> None:
        engine = queues.keeper(self.workload, self.old)
        if engine and record is not None and was is not None and self._changes(template, asked, record):
            self._keep(engine, template, asked, record, wanting(was.spec))
            return
        decision = _anew(self.workload, template, asked, record, self.world, self.warnings)
        if decision is not None:
            self.results.append((template, decision))
            self.operations += given(template, _as_asked(asked, record), decision, self.marks, record)
            self.anew = True
        elif record is not None:
            self.operations += given_back(template, asked, record)

    def _changes(self, template: Template, asked: list[GpuRequest], record: Decision) -> bool:
        """True when a new decision would give the pods something else, or could not be made."""
        try:
            decision = _anew(self.workload, template, asked, record, self.world, [])
        except Refusal:
            return True
        return decision is not None and _differ(decision, record)

    def _keep(
        self,
        engine: str,
        template: Template,
        asked: list[GpuRequest],
        record: Decision,
        stood: list[GpuRequest],
    ) -> None:
        """Leaves a template as its pods run; `stood` is what they ask for."""
        self._warn_once(_kept_by(engine, self.workload, stood))
        known = {each.container.name for each in stood}
        new = [each for each in asked if each.container.name not in known]
        if len(new) < len(asked):
            self._repeat(template, asked, record, withdrawn={each.pointer: NOTHING for each in new})
        else:
            self.operations += taken_back(template, new)

    def _warn_once(self, words: str) -> None:
        if words not in self.warnings:
            self.warnings.append(words)

    def _moved(self, template: Template) -> bool:
        was = self.before.get(template.spec_pointer)
        return was is not None and was.spec_pointer != template.spec_pointer

    def outcome(self) -> Outcome:
        workload, old, results, marks = self.workload, self.old, self.results, self.marks
        if not results:
            left = bool(self.operations or marks.operations())
            operations = list(self.operations)
            if any(wanting(template.spec) for template in workload.templates):
                operations += queues.kept(workload, old, marks)
            operations += marks.operations()
            name = Verdict.LEFT if left else Verdict.REPEATED if operations else Verdict.UNCHANGED
            return Outcome(name, operations, self.warnings)
        if self.anew or self.root is None or any(self._moved(template) for template, _ in results):
            annotated(workload, results, marks)
        else:
            decision = old.metadata.annotation(keys.DECISION) or ""
            marks.annotate("", workload.metadata, keys.DECISION, decision)
            told_inside(results, marks)
        mended, told = _mended_again(workload, old, results, anew=self.anew)
        operations = self.operations + mended + counted(workload, results)
        operations += queues.kept(workload, old, marks) + marks.operations()
        kept = Verdict.REPEATED if self.repeated and operations else Verdict.UNCHANGED
        name = Verdict.REWRITTEN if self.anew else kept
        decisions = tuple(decision for _, decision in results)
        first, whole = decisions[0], merged(results)
        return Outcome(
            name, operations, [*self.warnings, *told], decisions, whole, first.policy, first.strategy
        )


def _believed(was: Template | None, root: Decision | None, world: ClusterState) -> Decision | None:
    record = record_of(was, root)
    return record if record is None or believable(record, was, world) else None


def _earlier(
    workload: Workload,
    template: Template,
    asked: list[GpuRequest],
    former: Decision | None,
    world: ClusterState,
) -> Decision | None:
    """Returns what an earlier round of this very request decided in place of a former decision: every container asks
    for exactly what the record in the object gives it."""
    record = record_of(template, recorded(workload.metadata))
    if record is None:
        return None
    gets = [record.containers.get(each.container.name) for each in asked]
    same = former is not None and record.containers.keys() >= former.containers.keys()
    if former is not None and same and gets == [former.containers.get(each.container.name) for each in asked]:
        return None
    for each, assigned in zip(asked, gets, strict=True):
        if assigned is None or each.amounts != {assigned.to: assigned.count}:
            return None
    if any(each.gpus for each in asked) and (former is None or not believable(record, None, world)):
        return None  # the old name may mean anything, and so may a record by which it is ours
    return record


def _stay_out(workload: Workload, template: Template, was: Template | None, marks: MetadataEdits) -> None:
    """Keeps a template's own opting out through a manifest that is applied again."""
    if workload.metadata.annotation(keys.REWRITE) != "false" or was is None or was.metadata is None:
        return
    if was.metadata.annotation(keys.REWRITE) == "false":
        left_out(template, marks)


def _said_anew(workload: Workload, template: Template, old: Workload, was: Template) -> str:
    """Returns the first key under which a person says something else than before; what is not there any more may have
    been wiped."""
    for key in (keys.WORKLOAD_CLASS, keys.GPU_MEMORY, keys.PROFILE, keys.NEEDS, keys.REWRITE):
        now = said(workload, template.said, key)
        if now is not None and now != said(old, was.said, key):
            return key
    return ""


def _still_out(workload: Workload, old: Workload, template: Template, was: Template | None) -> bool:
    """True when only the object opts in again: what was written on its template for its pods' sake is not taken away,
    because some kinds take no change of it."""
    if (
        old.metadata.annotation(keys.REWRITE) != "false"
        or workload.metadata.annotation(keys.REWRITE) is not None
    ):
        return False
    own = [each.metadata.annotation(keys.REWRITE) for each in (template, was) if each and each.metadata]
    return own == ["false", "false"]


def _mended_again(
    workload: Workload, old: Workload, results: list[tuple[Template, Decision]], *, anew: bool
) -> tuple[list[Operation], list[str]]:
    try:
        return side_fields.mend(FIXERS, workload, old, results)
    except IncompatibleKind as unfit:
        if anew:
            raise
        return [], [str(unfit)]


def applied_again(workload: Workload, old: Workload) -> bool:
    """True when a Pod's manifest came again: it asks what it asked before, and what was given is missing."""
    record = recorded(old.metadata)
    if record is None:
        return False
    for template, was in zip(workload.templates, old.templates, strict=False):
        asked, before = wanting(template.spec), wanting(was.spec)
        if _changed(asked, record):
            return False
        if [each.amounts for each in asked] != [each.amounts for each in before]:
            return True
        if template_patch.toleration("", template.spec) and not template_patch.toleration("", was.spec):
            return True
        if record.steered and template_patch.steered_to(was.spec, record.pools, record.node_labels):
            return not template_patch.steered_to(template.spec, record.pools, record.node_labels)
    return False


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


def _as_asked(asked: list[GpuRequest], record: Decision | None) -> list[GpuRequest]:
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


def _anew(
    workload: Workload,
    template: Template,
    asked: list[GpuRequest],
    record: Decision | None,
    world: ClusterState,
    warnings: list[str],
) -> Decision | None:
    labels = opted_in(workload.namespace, world)
    if labels is None:
        return None
    policy = world.policy(labels[keys.POLICY])
    if policy is not None and not reached(workload, policy.spec):
        return None
    audit = labels.get(keys.MODE) == "audit"
    try:
        decision = _decided_anew(workload, template, asked, record, labels, world)
    except Refusal as refusal:
        if not audit:
            raise
        warnings.append(f"audit: would be refused: {refusal}")
        return None
    if isinstance(decision, Left):
        if decision.warning:
            warnings.append(f"audit: {decision.warning}" if audit else decision.warning)
        return None
    if audit:
        warnings.append(f"audit: {in_words(decision)}")
        return None
    warnings += cautions(workload, template, decision, world)
    return side_fields.free(workload.title, template, decision, world)


def _decided_anew(
    workload: Workload,
    template: Template,
    asked: list[GpuRequest],
    record: Decision | None,
    labels: queues.Labels,
    world: ClusterState,
) -> Decision | Left:
    holds = orders(workload, template.said, labels, world)
    own = record_of(template, recorded(workload.metadata))
    if own is not None and stands(template, asked, own, holds, world):
        return own  # decided in an earlier round of this very request
    ours = {each.to for each in record.containers.values()} if record else set()
    wanted = [
        msgspec.structs.replace(each, named={k: v for k, v in each.named.items() if k not in ours})
        for each in _as_asked(asked, record)
    ]
    if holds.opted_out or not all(clear(each) for each in wanted):
        return Left()
    if record is not None and record.steered:
        template = msgspec.structs.replace(
            template, spec=template_patch.freed(template.spec, record.pools, record.node_labels)
        )
    return decide(workload, template, wanted, holds, world)
