"""One object as it came -> what becomes of it.  Pure.

CREATE decides. UPDATE repeats the recorded decision: re-applying the original manifest brings the old name
back, beside ours or instead of it, and that is no change of mind. Only a changed GPU request is decided
anew, never a changed namespace label. Children that their owner compares with what it rendered are never
touched; Pods are the last resort, and a no-op when their template was done.
"""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from admission import mending, patch, queues
from admission.asking import Wanting, plain, wanting
from admission.counting import counted
from admission.decide import Assigned, Decision, Left, Orders, Placed, Refusal, decide, opted_in, orders
from admission.kinds import Means
from admission.menders import MENDERS
from admission.mending import Unfit
from admission.patch import Change, Marks, Operation
from admission.reading import NO_METADATA, Metadata, Template, Workload
from admission.templates import Reader
from admission.world import World
from slicewise import keys
from slicewise.policy import Allowed, WhenNothingFits
from slicewise.strategies import MULTI_GPU_DEFAULT, MultiGPU, Strategy


class Outcome(msgspec.Struct, frozen=True):
    """What becomes of one object."""

    name: str
    operations: list[Operation] = []
    warnings: list[str] = []
    decisions: tuple[Decision, ...] = ()
    whole: Decision | None = None
    """The decisions of all templates as one, as the object's own annotation records it."""
    policy: str = ""
    strategy: str = ""


_UNCHANGED: Final = Outcome("unchanged")
_IGNORED: Final = Outcome("ignored")


def judge(reader: Reader, raw: bytes, old: bytes | None, namespace: str, world: World) -> Outcome:
    """Judges one object; `old` is what stood before, for an UPDATE.

    Raises:
        Refusal: the policy says no.
        msgspec.DecodeError: the bytes cannot be read.
    """
    if namespace in world.protected or namespace == world.own_namespace:
        return _IGNORED
    workload = reader.read(raw, namespace)
    if not_ours(reader, workload):
        return _IGNORED
    if old is None:
        return _rooted(raw, workload, _create(workload, world))
    before = reader.read(old, namespace)
    if workload.kind == "Pod" and not _applied_again(workload, before):
        return _IGNORED  # a pod's devices never change (validation.go, ValidatePodUpdate)
    return _rooted(raw, workload, _update(workload, before, world))


class _Root(msgspec.Struct, frozen=True):
    metadata: dict[str, Any] | None = None


def _rooted(raw: bytes, workload: Workload, outcome: Outcome) -> Outcome:
    """Gives an object without metadata some, where operations would write beneath it."""
    if not outcome.operations or workload.metadata != NO_METADATA:
        return outcome
    if msgspec.json.decode(raw, type=_Root).metadata is not None:
        return outcome
    first: Operation = {"op": "add", "path": "/metadata", "value": {}}
    return msgspec.structs.replace(outcome, operations=[first, *outcome.operations])


def not_ours(reader: Reader, workload: Workload) -> bool:
    """True for objects that must be left alone byte for byte."""
    metadata = workload.metadata
    if not reader.kind.namespaced:
        return True  # no namespace has opted it in; the pods that are made of it are mended
    if metadata.label("kubevirt.io") == "virt-launcher":
        return True  # finds its devices by the name in its environment (virt-launcher, addresspool.go)
    if metadata.annotation(keys.MIRROR_POD) is not None:
        return True
    if metadata.label(keys.KUEUE_MULTIKUEUE_ORIGIN) or metadata.label(keys.KUEUE_PREBUILT):
        return True  # a copy that differs from its origin is called out of sync (kueue, equality/podset.go)
    owner = metadata.controller
    if owner is None or "*" in reader.kind.safe_owners:
        return False
    group = owner.api_version.partition("/")[0] if "/" in owner.api_version else ""
    return f"{owner.kind}.{group}".rstrip(".") not in reader.kind.safe_owners


# --- CREATE -----------------------------------------------------------------------------------------------


def _create(workload: Workload, world: World) -> Outcome:
    labels = opted_in(workload.namespace, world)
    if labels is None:
        return _IGNORED
    asking = [(template, asked) for template in workload.templates if (asked := wanting(template.spec))]
    if not asking:
        return _UNCHANGED
    audit = labels.get(keys.MODE) == "audit"
    try:
        outcome = _decided(workload, asking, labels, world)
    except Refusal as refusal:
        if not audit:
            raise
        return Outcome("audited", warnings=[f"audit: would be refused: {refusal}"])
    if not audit:
        return outcome
    told = [f"audit: {warning}" for warning in outcome.warnings]
    told += [f"audit: {_told(decision)}" for decision in outcome.decisions]
    return msgspec.structs.replace(outcome, name="audited", operations=[], warnings=told)


def _told(decision: Decision) -> str:
    moves = ", ".join(
        f"{name}: {each.source} {each.asked} -> {each.to} {each.count}"
        for name, each in decision.containers.items()
    )
    return f"{moves} ({decision.reason})"


def _decided(
    workload: Workload, asking: list[tuple[Template, list[Wanting]]], labels: "queues.Labels", world: World
) -> Outcome:
    first = orders(workload, asking[0][0].said, labels, world)
    try:
        return _held(workload, asking, first, labels, world)
    except Unfit as unfit:
        if first.spec.when_nothing_fits is WhenNothingFits.LEAVE:
            return Outcome("left", warnings=[f"{unfit}; left as it was asked"], policy=first.policy.name)
        raise


def _held(
    workload: Workload,
    asking: list[tuple[Template, list[Wanting]]],
    first: Orders,
    labels: "queues.Labels",
    world: World,
) -> Outcome:
    warnings: list[str] = []
    operations: list[Operation] = []
    marks = Marks()
    results: list[tuple[Template, Decision]] = []
    opted_out = False
    for template, asked in asking:
        holds = first if template is asking[0][0] else orders(workload, template.said, labels, world)
        opted_out = opted_out or holds.opted_out
        warnings += _remarks(workload, asked, world)
        if holds.opted_out and template.inner is not None:
            marks.annotate(template.inner.pointer, template.inner.metadata, keys.REWRITE, "false")
        if template.means is Means.PODS:
            continue
        if workload.metadata.controller is not None and not holds.opted_out:
            finished = _finished(template, asked, holds, marks, world)
            if finished is not None:
                operations += finished
                continue
        if holds.opted_out or not any(each.gpus for each in asked) or not all(_clear(each) for each in asked):
            continue
        record = _record_of(template, template, recorded(workload.metadata))
        guesses = [record] if record is not None else _guesses(workload, template, asked, holds)
        if any(_stands(template, asked, each, holds, world) for each in guesses):
            continue
        if mixed := next((each for each in asked if each.gpus and each.named), None):
            raise Refusal(
                f"{workload.title}: container {mixed.container.name!r} asks for {keys.GPU} and for "
                f"{', '.join(mixed.named)}; ask for one of them"
            )
        decision = decide(workload, template, asked, holds, world)
        if isinstance(decision, Left):
            warnings.append(decision.warning)
            continue
        if template.means is Means.NONE:
            decision = mending.free(workload.title, template, decision, world)
        warnings += _one_of_many(decision)
        results.append((template, decision))
        operations += _given(template, asked, decision, marks)
    _annotated(workload, results, marks)
    unchanged = "repeated" if operations and not results else "unchanged"
    if workload.parts:
        queue = queues.volcano_queue(workload, labels)
        mended, told = mending.mend(MENDERS, workload, None, results, queue)
        operations += mended
        warnings += told
    operations += counted(workload, results) + queues.joined(workload, labels, marks)
    operations += marks.operations()
    name = "rewritten" if results else "left" if warnings or opted_out else unchanged
    decisions = tuple(decision for _, decision in results)
    strategy = decisions[0].strategy if decisions else ""
    whole = merged(results) if results else None
    return Outcome(name, operations, warnings, decisions, whole, first.policy.name, strategy)


def _finished(
    template: Template, asked: list[Wanting], holds: Orders, marks: Marks, world: World
) -> list[Operation] | None:
    """Finishes what a controller made of templates: a merge of two layers may have brought the old name back
    beside ours, and a kind without a pod spec could not say all that was decided.

    The people's own new objects are refused for asking twice; what a controller asks twice, nobody wrote.
    Returns None where there is nothing of that kind.
    """
    record = recorded(template.metadata)
    if record is not None and _trusted(record, holds):
        got = [(each, record.containers.get(each.container.name)) for each in asked]
        if all(
            to is not None
            and (to.to in each.named or (_whole(each, to) and _means(record, to.count, holds, world)))
            for each, to in got
        ):
            return _given(template, asked, record, marks)
    twice = [each for each in asked if each.gpus and each.named]
    if not twice or any(each.gpus and not each.named for each in asked):
        return None
    operations: list[Operation] = []
    for each in twice:
        name, number = next(iter(each.named.items()))
        change = Change(frozenset({keys.GPU}), name, number)
        operations += patch.devices(template.spec_pointer + each.pointer, each.container, change)
    return operations


def _whole(each: Wanting, to: Assigned) -> bool:
    return to.to == keys.GPU and each.gpus == to.count and not each.named


def _clear(each: Wanting) -> bool:
    return not each.unreadable and plain(each)


def _remarks(workload: Workload, asked: list[Wanting], world: World) -> list[str]:
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


def _one_of_many(decision: Decision) -> list[str]:
    return [
        f"container {name!r} asked for {each.asked} GPUs and gets one {each.to} (multiGPU: one)"
        for name, each in decision.containers.items()
        if each.count < each.asked
    ]


def _given(
    template: Template,
    asked: list[Wanting],
    decision: Decision,
    marks: Marks,
    former: Decision | None = None,
) -> list[Operation]:
    """Returns the operations that give a template what was decided, in place of a former decision."""
    changes = {}
    for each in asked:
        assigned = decision.containers.get(each.container.name)
        if assigned is not None and (each.gpus or _holds(each, decision)):
            drop = {keys.GPU, *each.named} - {assigned.to}
            changes[each.pointer] = Change(frozenset(drop), assigned.to, assigned.count)
    if template.annotatable and template.pointer:
        marks.annotate(template.pointer, template.metadata, keys.DECISION, _text(decision))
    pools = former.pools if former is not None and former.steered else ()
    return patch.template(template, changes, decision.pools, steered=decision.steered, former=pools)


def _given_back(template: Template, asked: list[Wanting], record: Decision) -> list[Operation]:
    """Returns the operations that leave a template as a person asks, where nothing is decided any more:
    no pod may ask for both names."""
    changes = {}
    for each in asked:
        name = _given_to(each, record)
        if each.gpus and name in each.named:
            changes[each.pointer] = Change(frozenset({name}), keys.GPU, each.gpus)
    return patch.given_back(template, changes, record.pools if record.steered else ())


def _holds(each: Wanting, record: Decision) -> bool:
    assigned = record.containers.get(each.container.name)
    return assigned is not None and each.named.get(assigned.to) == assigned.count


def _given_to(each: Wanting, record: Decision) -> str:
    assigned = record.containers.get(each.container.name)
    return assigned.to if assigned is not None else ""


def _annotated(workload: Workload, results: list[tuple[Template, Decision]], marks: Marks) -> None:
    if results:
        marks.annotate("", workload.metadata, keys.DECISION, _text(merged(results)))
    if workload.document:
        _told_inside(results, marks)


def _told_inside(results: list[tuple[Template, Decision]], marks: Marks) -> None:
    """Writes on each object within the workload what was decided: the labels outside are not seen there."""
    inner = {t.inner.pointer: t.inner.metadata for t, _ in results if t.inner is not None}
    for pointer, metadata in inner.items():
        told = merged([each for each in results if each[0].inner and each[0].inner.pointer == pointer])
        marks.annotate(pointer, metadata, keys.DECISION, _text(told))
        marks.label(pointer, metadata, keys.WORKLOAD_CLASS, told.class_name)


def merged(results: list[tuple[Template, Decision]]) -> Decision:
    """Returns one decision for an object with several templates; a container's name that occurs with
    different outcomes is told apart by the pointer of its pod spec."""
    first = results[0][1]
    if len(results) == 1:
        return first
    containers: dict[str, Assigned] = {}
    for template, decision in results:
        for name, each in decision.containers.items():
            known = containers.get(name)
            containers[name if known in {None, each} else f"{template.spec_pointer}:{name}"] = each
    pools = tuple(dict.fromkeys(pool for _, decision in results for pool in decision.pools))
    reasons = "; ".join(dict.fromkeys(decision.reason for _, decision in results))
    steered = any(decision.steered for _, decision in results)
    placed = {template.spec_pointer: _placed(each) for template, each in results if not template.annotatable}
    alike = all(_placed(each) == _placed(first) for _, each in results)
    return msgspec.structs.replace(
        first,
        containers=containers,
        pools=pools,
        reason=reasons,
        steered=steered,
        templates={} if alike else placed,
    )


def _placed(decision: Decision) -> Placed:
    return Placed(decision.strategy, decision.pools, decision.steered)


# --- The recorded decision --------------------------------------------------------------------------------

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Decision).decode


def _text(decision: Decision) -> str:
    return _encode(decision).decode()


def recorded(metadata: Metadata | None) -> Decision | None:
    """Reads the annotation; None when there is none or somebody wrote something else there."""
    text = metadata.annotation(keys.DECISION) if metadata else None
    if not text:
        return None
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _guesses(
    workload: Workload, template: Template, asked: list[Wanting], holds: Orders
) -> Iterator[Decision]:
    """Yields the decisions that a controller's Pod without a record may come from: its template was done, but
    is of a kind that keeps no metadata beside its pod spec, so that all there is to see is the steering."""
    if workload.kind != "Pod" or workload.metadata.controller is None:
        return
    pools = patch.pools_of(template.spec)
    if not pools:
        return
    containers = {}
    for each in asked:
        for name, number in {keys.GPU: each.gpus, **each.named}.items():
            if number:
                containers[each.container.name] = Assigned(keys.GPU, name, number, number)
    for class_name in holds.spec.classes:
        for strategy in Strategy:
            yield Decision(
                holds.policy.name, class_name, "label", strategy, pools, containers, "", steered=True
            )


def _stands(template: Template, asked: list[Wanting], record: Decision, holds: Orders, world: World) -> bool:
    """True when the template already is what the record says, and the policy could have said so.

    Anybody can write the annotation, so it is worth no more than a label: the class must be the policy's,
    the strategy and the numbers what this class may get, and what `nvidia.com/gpu` means must be said by
    affinity to pools of which it is true.
    """
    if not _trusted(record, holds):
        return False
    for each in asked:
        assigned = record.containers.get(each.container.name)
        if assigned is None:
            return False
        amount = each.gpus if assigned.to == keys.GPU else each.named.get(assigned.to, 0)
        others = set(each.named) | ({keys.GPU} if each.gpus else set())
        if amount != assigned.count or others != {assigned.to}:
            return False
        if assigned.to == keys.GPU and not _means(record, assigned.count, holds, world):
            return False
    elsewhere = template.means is not Means.SPEC  # said by other fields, or by the pods themselves
    return not record.steered or elsewhere or patch.steered_to(template.spec, record.pools)


def _trusted(record: Decision, holds: Orders) -> bool:
    if record.policy != holds.policy.name or record.class_name not in holds.spec.classes:
        return False
    strategies = _strategies(record, holds)
    if record.strategy != Strategy.EXCLUSIVE or Strategy.EXCLUSIVE in strategies:
        return record.strategy in strategies
    # Whole GPUs for a class that gets none: for more than one alone, and where its rule says so.
    several = any(each.count > 1 for each in record.containers.values())
    return several and any(_rules(record, strategy, holds) & {MultiGPU.WHOLE} for strategy in strategies)


def _strategies(record: Decision, holds: Orders) -> set[Strategy]:
    """Returns the strategies that work of the record's class may get, by what its people may say too."""
    work, allow = holds.spec.classes[record.class_name], holds.spec.allow
    said = {*holds.spec.needs.values()} if Allowed.NEEDS in allow else set()
    named = {Strategy.MIG} if Allowed.PROFILE in allow else set()
    return {work.strategy, *work.otherwise, *said, *named}


def _rules(record: Decision, strategy: Strategy, holds: Orders) -> set[MultiGPU]:
    """Returns what more than one may become."""
    if strategy is Strategy.EXCLUSIVE:
        return {MultiGPU.EACH}
    rule = holds.spec.classes[record.class_name].multi_gpu or MULTI_GPU_DEFAULT[strategy]
    named = strategy is Strategy.MIG and Allowed.PROFILE in holds.spec.allow
    return {rule, MultiGPU.EACH} if named else {rule}


def _means(record: Decision, number: int, holds: Orders, world: World) -> bool:
    """True when this many `nvidia.com/gpu` of the record's pools are what its strategy gives. A pool that is
    gone for the moment is no reason to decide anew."""
    allowed = {Strategy(record.strategy)}
    if number > 1:
        rules = _rules(record, Strategy(record.strategy), holds)
        allowed = allowed if MultiGPU.EACH in rules else set()
        if MultiGPU.WHOLE in rules:
            allowed |= {Strategy.EXCLUSIVE}
    models = holds.spec.classes[record.class_name].models
    known = [pool for name in record.pools if (pool := world.pools.pool(name))]
    offered = [(pool, found) for pool in known if (found := pool.resources.get(keys.GPU))]
    return bool(allowed) and all(
        found.strategy in allowed and pool.is_model(models) for pool, found in offered
    )


# --- UPDATE -----------------------------------------------------------------------------------------------


def _update(workload: Workload, old: Workload, world: World) -> Outcome:
    before = {template.spec_pointer: template for template in old.templates}
    operations: list[Operation] = []
    marks = Marks()
    results: list[tuple[Template, Decision]] = []
    warnings: list[str] = []
    repeated = anew = False
    root = recorded(old.metadata)
    for template in workload.templates:
        if template.means is Means.PODS:
            continue
        asked = wanting(template.spec)
        if not asked:
            continue  # nothing was given to it, whatever the record of the whole object says
        was = before.get(template.spec_pointer)
        record = _record_of(template, was, root)
        if record is None:
            same = _gpus(asked) == _gpus(wanting(was.spec) if was else [])
            if same or not any(each.gpus for each in asked):
                continue
        elif not _changed(asked, record):
            if not any(each.gpus or _holds(each, record) for each in asked):
                continue  # a person has named something else, or another number of it
            results.append((template, record))
            operations += _given(template, asked, record, marks)
            repeated = True
            continue
        decision = _anew(workload, template, asked, record, world, warnings)
        if decision is not None:
            results.append((template, decision))
            operations += _given(template, _as_asked(asked, record), decision, marks, record)
            anew = True
        elif record is not None:
            operations += _given_back(template, asked, record)
    if not results:
        return Outcome("left" if operations else "unchanged", operations, warnings)
    if anew or root is None:
        _annotated(workload, results, marks)
    else:
        marks.annotate("", workload.metadata, keys.DECISION, old.metadata.annotation(keys.DECISION) or "")
        _told_inside(results, marks)
    mended, told = _mended_again(workload, old, results, anew=anew)
    operations += mended + counted(workload, results)
    operations += queues.kept(workload, old, marks) + marks.operations()
    name = "rewritten" if anew else "repeated" if repeated and operations else "unchanged"
    first = results[0][1]
    decisions = tuple(decision for _, decision in results)
    whole = merged(results)
    return Outcome(name, operations, [*warnings, *told], decisions, whole, first.policy, first.strategy)


def _mended_again(
    workload: Workload, old: Workload, results: list[tuple[Template, Decision]], *, anew: bool
) -> tuple[list[Operation], list[str]]:
    try:
        return mending.mend(MENDERS, workload, old, results)
    except Unfit as unfit:
        if anew:
            raise
        return [], [str(unfit)]


def _record_of(template: Template, was: Template | None, root: Decision | None) -> Decision | None:
    if was is not None and (found := recorded(was.metadata)):
        return found
    if root is None:
        return None
    prefix = template.spec_pointer + ":"
    own = {k.removeprefix(prefix): v for k, v in root.containers.items() if k.startswith(prefix)}
    containers = {**root.containers, **own}
    placed = root.templates.get(template.spec_pointer)
    if placed is None:
        return msgspec.structs.replace(root, containers=containers, templates={})
    return msgspec.structs.replace(
        root,
        containers=containers,
        strategy=placed.strategy,
        pools=placed.pools,
        steered=placed.steered,
        templates={},
    )


def _applied_again(workload: Workload, old: Workload) -> bool:
    """True when a Pod's manifest came again: it asks what it asked before, and what was given is missing."""
    record = recorded(old.metadata)
    if record is None:
        return False
    for template, was in zip(workload.templates, old.templates, strict=False):
        asked, before = wanting(template.spec), wanting(was.spec)
        if _changed(asked, record):
            return False
        if [(each.gpus, each.named) for each in asked] != [(each.gpus, each.named) for each in before]:
            return True
        if patch.toleration("", template.spec) and not patch.toleration("", was.spec):
            return True
        if record.steered and patch.steered_to(was.spec, record.pools):
            return not patch.steered_to(template.spec, record.pools)
    return False


def _gpus(asked: list[Wanting]) -> dict[str, int]:
    return {each.container.name: each.gpus for each in asked if each.gpus}


def _changed(asked: list[Wanting], record: Decision) -> bool:
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


def _as_asked(asked: list[Wanting], record: Decision | None) -> list[Wanting]:
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
    asked: list[Wanting],
    record: Decision | None,
    world: World,
    warnings: list[str],
) -> Decision | None:
    labels = opted_in(workload.namespace, world)
    if labels is None:
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
        warnings.append(f"audit: {_told(decision)}")
        return None
    warnings += _one_of_many(decision)
    return mending.free(workload.title, template, decision, world)


def _decided_anew(
    workload: Workload,
    template: Template,
    asked: list[Wanting],
    record: Decision | None,
    labels: "queues.Labels",
    world: World,
) -> Decision | Left:
    holds = orders(workload, template.said, labels, world)
    own = _record_of(template, template, recorded(workload.metadata))
    if own is not None and _stands(template, asked, own, holds, world):
        return own  # decided in an earlier round of this very request
    ours = {each.to for each in record.containers.values()} if record else set()
    wanted = [
        msgspec.structs.replace(each, named={k: v for k, v in each.named.items() if k not in ours})
        for each in _as_asked(asked, record)
    ]
    if holds.opted_out or not all(_clear(each) for each in wanted):
        return Left()
    if record is not None and record.steered:
        template = msgspec.structs.replace(template, spec=patch.freed(template.spec, record.pools))
    return decide(workload, template, wanted, holds, world)
