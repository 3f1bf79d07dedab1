"""Policies against the pools there are: does every class get something?"""

from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Final

import msgspec

from admission.validating import misspelt_kinds
from slicewise.api import keys
from slicewise.api.policy import BUILT_IN, POLICY_KIND, SlicingPolicy, WorkloadClass, matches
from slicewise.cli.doctor.cluster import Patient
from slicewise.cli.doctor.findings import Finding
from slicewise.gpu import mig
from slicewise.gpu.strategies import Strategy
from slicewise.inventory.allocation import Choice, NothingFits, allocate
from slicewise.inventory.allocation_trace import Trace
from slicewise.inventory.gpu_requirement import requirement_of_class

_SERVE: Final = "Add otherwise: to the class, change its size or models, or divide a node for it."
_TOLERATE: Final = "Add tolerations for them to the pods of the class."
_MOST_PROFILES: Final = 6
_ALIKE: Final = 0.94
"""Of two profiles: as `1g.10gb+mee` and `1g.10gb+me` are, and `3g.10gb` and `3g.0gb` are not."""
_SLIVER: Final = 9
"""What could serve is at least so many times what is chosen."""


def check(patient: Patient) -> Iterator[Finding]:
    """Every policy that is written, and the built-in one where a namespace uses it."""
    used = {labels[keys.POLICY] for labels in patient.opted_in.values()}
    written = patient.snapshot.policies
    for name in sorted(written.keys() - used) if patient.saw("Namespace") else ():
        fix = f"Label a namespace {keys.POLICY}={name}, or delete the policy."
        yield Finding("PolicyUnused", POLICY_KIND, name, "no namespace names it", fix)
    for name in sorted(written.keys() | (used & {BUILT_IN})):
        policy = patient.world.policy(name)
        if policy is not None:
            yield from _policy(patient, policy, mine=name in written, used=name in used)


def _policy(patient: Patient, policy: SlicingPolicy, *, mine: bool, used: bool) -> Iterator[Finding]:
    unserved, fixes = [], []
    for name, work in policy.spec.classes.items():
        static = list(_static(patient, policy.name, name, work))
        yield from static
        if not used or not patient.saw("Node") or any(each.code == "ProfileImpossible" for each in static):
            continue
        if not mine and name not in _given(patient, policy):
            continue  # the built-in policy is guidance for many clusters; only what is used here matters
        allocation = allocate(requirement_of_class(work), patient.pools)
        outcome = allocation.outcome
        if isinstance(outcome, Choice):
            yield from _scarce(policy.name, name, outcome, allocation.trace)
        if isinstance(outcome, NothingFits):
            unserved.append(f"class {name} gets nothing ({'; '.join(outcome.tried)})")
            fixes.append(_TOLERATE if outcome.tainted else _SERVE)
        elif isinstance(outcome, Choice) and outcome.strategy is not work.strategy and mine:
            sentence = f"class {name} gets {outcome.strategy}: {outcome.why or _why(patient, work)}"
            fix = f"Divide nodes for {work.strategy}, or name {outcome.strategy} first."
            yield Finding("ClassFallsBack", POLICY_KIND, policy.name, sentence, fix)
    for sentence in misspelt_kinds(policy):
        fix = "Correct the kind, or leave it where it is one of your own."
        yield Finding("PolicyKindUnknown", POLICY_KIND, policy.name, sentence.partition(": ")[2], fix)
    if mine and used and "needs" in policy.spec.model_fields_set and patient.saw("Node"):
        yield from _needs(patient, policy)
    if unserved:
        becomes = "refused" if policy.spec.when_nothing_fits == "refuse" else "left as it is asked"
        sentence = f"{'; '.join(unserved)}; such work is {becomes}"
        yield Finding("ClassUnserved", POLICY_KIND, policy.name, sentence, " ".join(dict.fromkeys(fixes)))


def _scarce(policy: str, name: str, choice: Choice, trace: Trace) -> Iterator[Finding]:
    """A name is chosen when work is submitted: who gets one of which there are few waits beside many others."""
    others: Counter[str] = Counter()
    for step in trace:
        if step.strategy is choice.strategy:
            others.update({each: quantity for each, quantity in step.fits if each != choice.name})
    if choice.quantity * _SLIVER >= others.total():
        return
    most, number = others.most_common(1)[0]
    sentence = (
        f"class {name} gets {choice.name}, of which there are {choice.quantity}, and never one of the "
        f"{others.total()} others that would serve, such as {number} {most}"
    )
    fix = "Give the class a size or models that leave out the few, or divide more nodes so."
    yield Finding("ClassPrefersScarce", POLICY_KIND, policy, sentence, fix)


def _needs(patient: Patient, policy: SlicingPolicy) -> Iterator[Finding]:
    offered = {resource.strategy for pool in patient.pools for resource in pool.resources.values()}
    for need, strategy in policy.spec.needs.items():
        if strategy not in offered:
            sentence = f"needs: {need} means {strategy}, which no pool offers"
            fix = f"Divide nodes for {strategy}, map it to another strategy, or take the need out."
            yield Finding("NeedUnserved", POLICY_KIND, policy.name, sentence, fix)


def _given(patient: Patient, policy: SlicingPolicy) -> set[str]:
    """The classes that unlabelled work gets in the namespaces of a policy."""
    return {
        labels.get(keys.WORKLOAD_CLASS, policy.spec.default_class)
        for labels in patient.opted_in.values()
        if labels[keys.POLICY] == policy.name
    }


def _why(patient: Patient, work: WorkloadClass) -> str:
    first = allocate(
        msgspec.structs.replace(requirement_of_class(work), strategies=(work.strategy,)), patient.pools
    ).outcome
    return "; ".join(first.tried) if isinstance(first, NothingFits) else ""


def _static(patient: Patient, policy: str, name: str, work: WorkloadClass) -> Iterator[Finding]:
    """What can be told without any pool."""
    strategies, size = (work.strategy, *work.otherwise), work.size
    if size is None:
        return
    if size.memory and Strategy.TIME_SLICING in strategies:
        sentence = (
            f"class {name} asks for {size.memory}, and time-sliced shares promise no memory: never taken"
        )
        fix = "Take time-slicing out of the class, or leave its size out."
        yield Finding("FallbackNeverFits", POLICY_KIND, policy, sentence, fix)
    if not size.profile:
        return
    if Strategy.MIG not in strategies:
        sentence = (
            f"class {name} has the profile {size.profile} and never gets MIG, so the profile means nothing"
        )
        yield Finding(
            "ProfileIgnored", POLICY_KIND, policy, sentence, "Use strategy: mig, or size: {memory: …}."
        )
    elif _impossible(patient, size.profile, work.models):
        offered = sorted({each.profile for pool in patient.pools for each in pool.resources.values()} - {""})
        known = list(dict.fromkeys([*offered, *_profiles(work.models)]))
        alike = get_close_matches(size.profile, known, 1, _ALIKE)
        near = ", ".join(list(dict.fromkeys([*alike, *known]))[:_MOST_PROFILES])
        which = "that its models match " if work.models else ""
        sentence = f"class {name} asks for {size.profile}, which no known board {which}has and no pool offers"
        yield Finding("ProfileImpossible", POLICY_KIND, policy, sentence, f"Write for example one of {near}.")


def _boards(models: tuple[str, ...]) -> list[mig.Board]:
    """The known boards of which a class takes some."""
    return [
        board
        for board in mig.boards().values()
        if not models or any(matches(product, models) for product in board.products)
    ]


def _profiles(models: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(profile for board in _boards(models) for profile in board.profiles))


def _impossible(patient: Patient, text: str, models: tuple[str, ...]) -> bool:
    profile = mig.parse(text)
    if profile is None or any(
        resource.profile == profile.dotted for pool in patient.pools for resource in pool.resources.values()
    ):
        return False
    boards = _boards(models)
    return bool(boards) and all(board.placement(profile) is None for board in boards)
