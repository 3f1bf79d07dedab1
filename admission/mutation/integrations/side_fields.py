"""The fields beside a request that hang on its name or count: who mends them, and what that changes.  Pure.

A mender is a function that changes a copy of its place in the object; the difference becomes operations. It is
given what was decided for the pods beneath that place, and gives the same for the same: an UPDATE that brings
the old fields back is mended to the same bytes. What cannot be mended is said (`IncompatibleKind`), never admitted.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import msgspec

from admission.decision.cluster_state import ClusterState
from admission.decision.gpu_requests import containers, gpu_requests
from admission.decision.model import Assigned, Decision, Refusal
from admission.workloads.model import Template, Workload
from slicewise.api import keys
from slicewise.api.policy import Engine
from slicewise.api.quantities import QuantityError, count, equal

Given = Sequence[tuple[Template, Decision]]
QueueOf = Callable[[Engine], str]
Had = Callable[[str], Mapping[str, Assigned]]
"""What the containers of a pod of the object as it stood had been given, by name; of the pointer of its spec there."""


def no_queue(_: Engine) -> str:
    """For objects that join none."""
    return ""


def nothing_unsaid(_: str) -> bool:
    """For objects of whose manifest nothing is known."""
    return False


def nothing_had(_: str) -> Mapping[str, Assigned]:
    """For objects that did not stand before."""
    return {}


class IncompatibleKind(Refusal):
    """The decision cannot work with this kind; the message is the sentence that people read."""


@dataclass(slots=True)
class Case:
    """One place with side fields, and what was decided beneath it."""

    title: str
    api_version: str
    pointer: str
    value: dict[str, Any]
    """A copy that the mender changes."""
    before: Mapping[str, Any]
    """The same place in the object as it stood; empty for a new one."""
    given: Given
    queue_of: QueueOf = no_queue
    """The queue of an engine that the object is to join, for kinds that take it nowhere else; "" for none."""
    field: str = ""
    """The place beneath that a mender for any field looks after."""
    gone: frozenset[str] = frozenset()
    """The names that were given, and that no pod asks for any more."""
    had: Had = nothing_had
    """Of the object as it stood."""
    unsaid: Callable[[str], bool] = nothing_unsaid
    """True of a pointer in the object at which its manifest is known to say nothing."""
    warnings: list[str] = dataclasses.field(default_factory=list)

    def warn(self, words: str) -> None:
        """Adds a warning about the object."""
        self.warnings.append(f"{self.title}: {words}")

    def unfit(self, words: str) -> IncompatibleKind:
        """Returns the refusal that names the object."""
        return IncompatibleKind(f"{self.title}: {words}")

    def at(self, pointer: str) -> Iterator[tuple[str, Assigned]]:
        """Yields what the containers of one pod got; `pointer` is that of its spec, from this place."""
        for template, decision in self.given:
            if template.spec_pointer == self.pointer + pointer:
                yield from assigned(template, decision)

    def all(self) -> Iterator[tuple[str, Assigned]]:
        """Yields what every container beneath this place got."""
        for template, decision in self.given:
            yield from assigned(template, decision)

    @property
    def names(self) -> list[str]:
        """The names that stand instead of `nvidia.com/gpu`, sorted."""
        return sorted({each.to for _, each in self.all() if each.to != keys.GPU})


SideFieldFixer = Callable[[Case], None]


def assigned(template: Template, decision: Decision) -> Iterator[tuple[str, Assigned]]:
    """Yields the containers of one pod that got something, by name."""
    for _, container in containers(template.spec):
        each = decision.containers.get(container.name)
        resources = container.resources
        if each is None or resources is None:
            continue
        if {keys.GPU, each.to} & {*(resources.requests or ()), *(resources.limits or ())}:
            yield container.name, each


def moved(template: Template, decision: Decision) -> Iterator[Assigned]:
    """Yields what the containers of one pod got, as a total follows it: where a container came with as many as it was
    given, so did the total."""
    came = {each.container.name: each.gpus for each in gpu_requests(template.spec)}
    for name, each in assigned(template, decision):
        done = each.to == keys.GPU and came.get(name) == each.count
        yield msgspec.structs.replace(each, asked=each.count) if done else each


def mend(
    menders: Mapping[str, SideFieldFixer],
    workload: Workload,
    old: Workload | None,
    given: Given,
    queue_of: QueueOf = no_queue,
    had: Had = nothing_had,
    unsaid: Callable[[str], bool] = nothing_unsaid,
    gone: frozenset[str] = frozenset(),
) -> tuple[list[tuple[str, Any, Any]], list[str]]:
    """Mends the side fields of one object; returns each place (pointer, as it came, as it should be) and the warnings.

    Raises:
        IncompatibleKind: what was decided cannot work with this kind.
    """
    before = _values(old)
    fields: list[tuple[str, Any, Any]] = []
    warnings: list[str] = []
    for part in workload.parts:
        beneath = [each for each in given if f"{each[0].spec_pointer}/".startswith(part.pointer + "/")]
        if not beneath:
            continue
        case = Case(
            workload.title,
            part.api_version,
            part.pointer,
            deepcopy(dict(part.value)),
            before.get((part.mender, part.pointer, part.field), {}),
            beneath,
            queue_of,
            part.field,
            gone,
            had,
            unsaid,
        )
        menders[part.mender](case)
        fields.append((part.pointer, part.value, case.value))
        warnings += case.warnings
    return fields, list(dict.fromkeys(warnings))


def undone(
    undoers: Mapping[str, SideFieldFixer],
    workload: Workload,
    old: Workload | None,
    gone: frozenset[str],
    had: Had,
    unsaid: Callable[[str], bool],
) -> list[tuple[str, Any, Any]]:
    """Returns each place as it came and without what was written there, where nothing is decided any more; `gone` are
    the names that no pod asks for since."""
    before = _values(old)
    fields = []
    for part in workload.parts:
        if (undo := undoers.get(part.mender)) is not None:
            value = deepcopy(dict(part.value))
            stood = before.get((part.mender, part.pointer, part.field), {})
            case = Case(
                workload.title,
                part.api_version,
                part.pointer,
                value,
                stood,
                (),
                field=part.field,
                gone=gone,
                had=had,
                unsaid=unsaid,
            )
            undo(case)
            fields.append((part.pointer, part.value, value))
    return fields


def _values(old: Workload | None) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    return {(part.mender, part.pointer, part.field): part.value for part in old.parts} if old else {}


def remarks(menders: Mapping[str, SideFieldFixer], workload: Workload) -> list[str]:
    """Returns what is said of the side fields of an object for which nothing is decided."""
    warnings: list[str] = []
    for part in workload.parts:
        if (mender := menders.get(part.mender)) is not None:
            case = Case(
                workload.title, part.api_version, part.pointer, dict(part.value), {}, (), field=part.field
            )
            mender(case)
            warnings += case.warnings
    return list(dict.fromkeys(warnings))


def rename_total(case: Case, amounts: Any, where: str, replicas: Mapping[str, int]) -> None:
    """Renames the GPUs of a total over pods, which no engine computes anew (`replicas` by pod spec pointer).

    Raises:
        IncompatibleKind: the pods got different things, and the total does not say how many of each.
    """
    without_total(case, amounts)
    if not isinstance(amounts, dict) or keys.GPU not in amounts:
        return
    pods = [(replicas.get(each[0].spec_pointer, 1), to) for each in case.given for to in moved(*each)]
    moves = {(each.to, Fraction(each.count, each.asked)) for _, each in pods}
    if moves == {(keys.GPU, Fraction(1))}:
        return
    try:
        number = count(amounts[keys.GPU])
    except QuantityError as error:
        case.warn(f"{where} is left alone, its {keys.GPU}: {error}")
        return
    if len(moves) == 1:
        ((name, ratio),) = moves
        totals = {name: number * ratio}
    else:
        totals = {}
        for times, each in pods:
            totals[each.to] = totals.get(each.to, Fraction(0)) + times * each.count
        if all(equal(amounts.get(name), str(total)) for name, total in totals.items()):
            return  # an earlier round of this very request wrote it
        if sum(times * each.asked for times, each in pods) != number:
            totals = {}
    if not totals or any(total.denominator != 1 for total in totals.values()):
        raise case.unfit(
            f"{where} asks for {number} {keys.GPU} in all, but its pods get "
            f"{', '.join(sorted({each.to for _, each in pods}))} and it cannot be told how many of each; remove it "
            f"from {where}, where it is computed from the pods"
        )
    del amounts[keys.GPU]
    amounts.update({name: str(total) for name, total in sorted(totals.items())})


def without_total(case: Case, amounts: Any) -> None:
    """Takes what no pod asks for any more out of a total: a manifest that is merged leaves it there."""
    for name in case.gone if isinstance(amounts, dict) else ():
        amounts.pop(name, None)


def follow_count(holder: dict[str, Any], key: str, got: Iterable[Assigned]) -> None:
    """Lets a count that repeats what some container asked follow what that one was given."""
    each = next((each for each in got if str(holder.get(key)) == str(each.asked)), None)
    if each is not None and each.count != each.asked:
        holder[key] = str(each.count) if isinstance(holder[key], str) else each.count


def forget_count(
    case: Case, holder: dict[str, Any], key: str, where: str, stood: Any, had: Iterable[Assigned]
) -> bool:
    """Takes a count away that repeats what was given before, and that nobody but us wrote.

    Args:
        case: the place that the count is in.
        holder: what has it.
        key: its name there.
        where: its pointer from the place.
        stood: the count as it stood; None where there was none.
        had: what the containers that it is about had been given.

    Returns:
        True when it stays, because the manifest has it, or may have.
    """
    if stood is None or holder.get(key) != stood or not any(str(each.count) == str(stood) for each in had):
        return False
    if case.unsaid(case.pointer + where):
        del holder[key]
        return False
    return True


def renew_count(
    case: Case,
    holder: dict[str, Any],
    key: str,
    where: str,
    stood: Any,
    had: Sequence[Assigned],
    each: Assigned,
) -> None:
    """Takes such a count away where a container is given another number now, or says that it stays."""
    if any(before.count == each.count for before in had):
        return
    if forget_count(case, holder, key, where, stood, had):
        place = f"{case.pointer}{where}"[1:].replace("/", ".")
        case.warn(
            f"{place} is {stood}, as many as its pods had, who get {each.count} {each.to} now, and is left alone, as "
            f"the manifest may say it; write {each.count} there"
        )


def free(title: str, template: Template, decision: Decision, state: ClusterState) -> Decision:
    """Returns a decision that keeps a pod to pools for one that nothing in its object can keep there: free to run
    wherever the names are offered.

    Raises:
        IncompatibleKind: pools that were ruled out offer the same name.
    """
    names = {each.to for each in decision.containers.values()}
    others = [
        pool.name
        for pool in state.all_pools()
        if pool.name not in decision.pools and names & pool.resources.keys()
    ]
    if others:
        raise IncompatibleKind(
            f"{title}: class {decision.class_name} gets {', '.join(sorted(names))} of {', '.join(decision.pools)}, "
            f"but {template.spec_pointer} holds no pod spec that could keep its pods from {', '.join(others)}; "
            f"use a class whose resource name is offered nowhere else, or say it in a pod template"
        )
    return msgspec.structs.replace(decision, steered=False)


WHOLE: Final = f"label it {keys.WORKLOAD_CLASS} with a class that gets whole GPUs"
"""The way out of most refusals: the end of their sentences."""
