"""The labels of namespaces: do they say what somebody meant?"""

from collections.abc import Iterator, Mapping
from typing import Final

from admission.decision.policy_resolution import MODES, nearest, nearest_key
from slicewise.api import keys
from slicewise.api.policy import BUILT_IN, ENGINE_LABELS, NO_ENGINE, Engine, engine_label
from slicewise.cli.doctor.cluster import POLICY, Patient
from slicewise.cli.doctor.engines import is_missing
from slicewise.cli.doctor.findings import Finding
from slicewise.cli.joined_queues import Queues, others_queue
from slicewise.kube.object_types import ENGINE_OBJECTS, LOCAL_QUEUE, kind_of

_KUEUES_DEFAULT: Final = "default"
"""The LocalQueue that Kueue itself puts work into that names none."""
_LABELS: Final = (keys.POLICY, keys.MODE, keys.WORKLOAD_CLASS, keys.ENGINE, keys.QUEUE)


def check(patient: Patient) -> Iterator[Finding]:
    """Every namespace that has a label of ours."""
    for name, labels in sorted(patient.snapshot.namespaces.items()):
        ours = {key: value for key, value in labels.items() if _is_ours(key)}
        if not ours:
            continue
        yield from _keys(name, ours)
        mode = labels.get(keys.MODE, "enforce")
        if mode not in MODES:
            fix = f"Label it {keys.MODE}={nearest(mode, list(MODES))}; until then GPU work in it is refused."
            yield _of(name, "ModeUnknown", f"{keys.MODE}={mode} is no mode ({', '.join(MODES)})", fix)
        if name in patient.opted_in:
            yield from _policy(patient, name, labels)
            yield from _queue(patient, name, labels)


def _is_ours(key: str) -> bool:
    """True for keys with our prefix, and for those of ours with another that is nearly it."""
    if key.startswith(keys.PREFIX):
        return True
    return key.startswith(keys.NAME) and bool(nearest_key(key, _LABELS))


def _of(name: str, code: str, sentence: str, fix: str) -> Finding:
    return Finding(code, "Namespace", name, sentence, fix)


def _keys(name: str, ours: Mapping[str, str]) -> Iterator[Finding]:
    for key in sorted(set(ours) - set(_LABELS)):
        fix = f"Did you mean {nearest(keys.prefixed(key), list(_LABELS))}? Remove it otherwise."
        yield _of(name, "LabelUnknown", f"the label {key} means nothing on a namespace", fix)
    known = sorted(set(ours) & set(_LABELS))
    if known and name in keys.SYSTEM_NAMESPACES:
        sentence = f"it has {', '.join(known)}, but system namespaces are never touched"
        yield _of(name, "SystemNamespaceLabelled", sentence, "Remove what is labelled so.")
    elif known and keys.POLICY not in ours:
        sentence = f"it has {', '.join(known)}, but no {keys.POLICY}, so nothing is done"
        fix = f"Label it {keys.POLICY}={BUILT_IN} to opt in, or remove the others."
        yield _of(name, "LabelsWithoutPolicy", sentence, fix)


def _policy(patient: Patient, name: str, labels: Mapping[str, str]) -> Iterator[Finding]:
    wanted = labels[keys.POLICY]
    policy = patient.world.policy(wanted)
    unusable = {finding.name for finding in patient.told if finding.code == "PolicyUnusable"}
    if policy is None:
        if wanted not in unusable and POLICY not in patient.forbidden:
            known = sorted({*patient.snapshot.policies, BUILT_IN})
            fix = f"Label it {keys.POLICY}={nearest(wanted, known)} (there are: {', '.join(known)})."
            sentence = f"it names the policy {wanted!r}, which does not exist, so its GPU work is refused"
            yield _of(name, "PolicyMissing", sentence, fix)
        return
    classes = policy.spec.classes
    given = labels.get(keys.WORKLOAD_CLASS)
    if given is not None and given not in classes:
        sentence = f"{keys.WORKLOAD_CLASS}={given} is no class of policy {policy.name}, so unlabelled work is refused"
        fix = f"Label it {keys.WORKLOAD_CLASS}={nearest(given, list(classes))} (there are: {', '.join(classes)})."
        yield _of(name, "ClassUnknown", sentence, fix)


def _not_queued(patient: Patient, name: str) -> Iterator[Finding]:
    """A LocalQueue is made for a namespace, and work joins it only where it says so itself."""
    made = sorted(
        item["metadata"]["name"]
        for item in patient.desired.objects
        if kind_of(item) == LOCAL_QUEUE and item["metadata"]["namespace"] == name
    )
    if made and _KUEUES_DEFAULT not in made:
        sentence = (
            f"a QuotaPlan makes the LocalQueue {made[0]} in it, and it has no {keys.QUEUE}, so work that names no "
            "queue runs beside all quota"
        )
        yield _of(name, "NamespaceNotQueued", sentence, f"Label it {keys.QUEUE}={made[0]}.")


def _queue(patient: Patient, name: str, labels: Mapping[str, str]) -> Iterator[Finding]:
    engine, queue = labels.get(keys.ENGINE), labels.get(keys.QUEUE)
    if engine is not None and engine not in ENGINE_LABELS:
        fix = f"Label it {keys.ENGINE}={nearest(engine, list(ENGINE_LABELS))} (there are: {', '.join(ENGINE_LABELS)})."
        yield _of(
            name, "EngineUnknown", f"{keys.ENGINE}={engine} is no engine, so its GPU work is refused", fix
        )
        return
    if engine in tuple(Engine) and not queue:
        fix = f"Label it {keys.QUEUE}=NAME, or {keys.ENGINE}=none."
        yield _of(
            name,
            "EngineWithoutQueue",
            f"{keys.ENGINE}={engine} without {keys.QUEUE} puts no work into a queue",
            fix,
        )
    if engine == NO_ENGINE:
        return
    if not queue:
        yield from _not_queued(patient, name)
        return
    objects = ENGINE_OBJECTS[Engine(engine_label(labels))]
    joined, written = objects.joined, [each.name for each in objects.written]
    queues = Queues(objects, patient.snapshot, patient.desired.objects)
    there = queues.of_namespace(name)
    if queue in there or is_missing(patient, objects):
        return
    other = others_queue(objects, queue, name, patient.snapshot, patient.desired.objects)
    if other or queues or patient.saw(*written):
        listed = f" (there are: {', '.join(there)})" if there else ""
        fix = f"Create it, give the namespace a queue in a QuotaPlan, or correct {keys.QUEUE}{listed}."
        if other:
            has = f"{keys.ENGINE}={other}, which has a {ENGINE_OBJECTS[other].joined.kind} of that name"
            fix = f"Label it {has}, or create the {joined.kind}."
        sentence = f"its work goes to the {joined.kind} {queue}, which does not exist, and waits for ever"
        yield _of(name, "QueueMissing", sentence, fix)
