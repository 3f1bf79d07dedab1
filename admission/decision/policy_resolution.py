"""(workload, namespace, policies) -> what holds for it: policy, class, what to ask the pools for.  Pure.

Who is asked, in this order: the namespace (opted in? enforced?), the workload's own labels and annotations (within
what the policy allows), the policy's class.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import Final

import msgspec

from admission.decision.cluster_state import ClusterState
from admission.decision.effective_policy import EffectivePolicy
from admission.decision.model import Reason, Refusal
from admission.workloads.model import Metadata, Workload
from slicewise.api import keys
from slicewise.api.policy import (
    ENGINE_LABELS,
    NO_ENGINE,
    Allowed,
    Engine,
    PolicySpec,
    SlicingPolicy,
)
from slicewise.api.quantities import QuantityError, slice_mebibytes
from slicewise.gpu import mig
from slicewise.gpu.strategies import Need, Strategy
from slicewise.inventory.gpu_requirement import GpuRequirement

MODES: Final = ("enforce", "audit", "off")

# Where a class comes from: the word in a decision, and the words for people.
FROM: Final = {
    "label": "its label",
    "kind": "the policy's rule for its kind",
    "namespace": "the namespace's label",
    "default": "the policy's default",
    "flavor": "the flavor in which Kueue has started it",
}


def opted_in(namespace: str, state: ClusterState) -> Mapping[str, str] | None:
    """Returns the namespace's labels when it has opted in and is not off or protected."""
    labels = state.namespaces.get(namespace)
    return labels if labels and keys.opted_in(namespace, labels, state.protected) else None


def resolve_policy(
    workload: Workload, template: Metadata | None, labels: Mapping[str, str], state: ClusterState
) -> EffectivePolicy:
    """Reads what holds for a workload; labels and annotations are read on the object, then on its template.

    Raises:
        Refusal: a label or an annotation breaks a rule.
    """
    mode = labels.get(keys.MODE) or "enforce"
    if mode not in MODES:
        raise Refusal(
            f"{workload.title}: namespace {workload.namespace} has {keys.MODE}={mode}, which is no mode; "
            f"label it {keys.MODE}=enforce, audit or off",
            Reason.NAMESPACE,
        )
    engine = labels.get(keys.ENGINE)
    if engine is not None and engine not in ENGINE_LABELS:
        raise Refusal(
            f"{workload.title}: namespace {workload.namespace} has {keys.ENGINE}={engine}, which is no engine; "
            f"label it {keys.ENGINE}={', '.join(Engine)} or {NO_ENGINE}",
            Reason.NAMESPACE,
        )
    policy = state.policy(labels[keys.POLICY])
    if policy is None:
        known = state.policy_names()
        raise Refusal(
            f"{workload.title}: namespace {workload.namespace} names the policy {labels[keys.POLICY]!r}, which does "
            f"not exist; label it {keys.POLICY}={nearest(labels[keys.POLICY], known)} "
            f"(there are: {', '.join(known)})",
            Reason.NAMESPACE,
        )
    class_name, class_from = _class(workload, template, labels, policy.spec)
    if class_name not in policy.spec.classes:
        known = list(policy.spec.classes)
        fix = nearest(class_name, known) if class_name else policy.spec.default_class
        raise Refusal(
            f"{workload.title}: {FROM[class_from]} gives it the class {class_name!r:.80}, which policy {policy.name} "
            f"does not have; use {keys.WORKLOAD_CLASS}={fix} (there are: {', '.join(known)})",
            Reason.CLASS,
        )
    ask = _class_requirement(workload, policy, class_name, state)
    notes = _notes(workload, template, policy)
    if not notes:
        return EffectivePolicy(policy, class_name, class_from, ask, opted_out=False, mode=mode)
    title = workload.title
    ask = _with_notes(ask, title, policy, class_name, notes)
    return EffectivePolicy(policy, class_name, class_from, ask, _opted_out(title, notes), mode)


def of_flavor(
    workload: Workload, effective: EffectivePolicy, class_name: str, state: ClusterState
) -> EffectivePolicy:
    """Returns what holds for a workload as one of another class, of what its engine has charged for it."""
    ask = _class_requirement(workload, effective.policy, class_name, state)
    return msgspec.structs.replace(effective, class_name=class_name, class_from="flavor", ask=ask)


def _class_requirement(
    workload: Workload, policy: SlicingPolicy, class_name: str, state: ClusterState
) -> GpuRequirement:
    requirement = state.requirement(policy, class_name)
    return msgspec.structs.replace(requirement, every_node=True) if workload.row.every_node else requirement


def _class(
    workload: Workload, template: Metadata | None, labels: Mapping[str, str], spec: PolicySpec
) -> tuple[str, str]:
    own = said(workload, template, keys.WORKLOAD_CLASS)
    if own is not None:
        return own, "label"
    if by_kind := spec.kinds.get(workload.row.group_kind):
        return by_kind, "kind"
    if by_namespace := labels.get(keys.WORKLOAD_CLASS):
        return by_namespace, "namespace"
    return spec.default_class, "default"


_NOTES: Final = {
    keys.GPU_MEMORY: Allowed.GPU_MEMORY,
    keys.PROFILE: Allowed.PROFILE,
    keys.NEEDS: Allowed.NEEDS,
    keys.REWRITE: Allowed.OPT_OUT,
}


_PLACES: Final = {keys.WORKLOAD_CLASS: "label", **dict.fromkeys(_NOTES, "annotation")}
"""What people write on a workload, and as what."""
_OPT_OUT: Final = keys.PREFIX + Allowed.OPT_OUT
"""As a policy's `allow` calls it."""
OF_NAMESPACES: Final = (keys.POLICY, keys.MODE, keys.ENGINE, keys.QUEUE, keys.WORKLOAD_CLASS)
_MOST_REMARKS: Final = 8
_MOST_COMPARED: Final = 100
"""Of keys that may be somebody's own, with those that mean something."""
_LONGEST: Final = 253
"""Characters of a name, and of the part of a key before its slash."""
_ALIKE: Final = 0.5
"""Of two keys: as `class` and `workload-class` are."""
_MUCH_ALIKE: Final = 0.8


def said(workload: Workload, template: Metadata | None, key: str) -> str | None:
    """Returns what people say for a template under a key of ours: on the object, else on the template."""
    for metadata in (workload.metadata, template):
        if metadata is not None:
            written = metadata.labels if key == keys.WORKLOAD_CLASS else metadata.annotations
            if written and (value := written.get(key)) is not None:
                return value
    return None


def misspelt(workload: Workload) -> list[str]:
    """Warns of labels and annotations of ours, on the object and its templates, that mean nothing as they are written.

    They are misspelt, under another prefix, one is written as the other, or they are a namespace's.
    """
    written = [("label", workload.metadata.labels), ("annotation", workload.metadata.annotations)]
    for template in workload.templates:
        if (own := template.metadata) is not None and own is not workload.metadata:
            written += (("label", own.labels), ("annotation", own.annotations))
    wrong = [
        (kind, key, value)
        for kind, found in written
        if found
        for key, value in found.items()
        if key.startswith(keys.NAME) and _PLACES.get(key) != kind and key != keys.DECISION
    ]
    if not wrong:
        return []
    found = []
    for kind, key, value in islice(dict.fromkeys(wrong), _MOST_COMPARED):
        named = keys.prefixed(key)
        if named in OF_NAMESPACES and named not in _PLACES:
            fix = f"label its namespace with {'it' if named == key else named}"
        elif named == keys.POOL:
            fix = f"write {named} into the nodeSelector of its pods"
        elif named == _OPT_OUT:
            fix = f"write the annotation {keys.REWRITE}: 'false'"
        elif meant := nearest_key(key, _PLACES):
            fix = f"write the {_PLACES[meant]} {meant}: {value!r:.80}"
        elif key.startswith(keys.PREFIX):
            fix = f"remove it, or write one of {', '.join(_PLACES)}"
        else:
            continue
        if not key.startswith(keys.PREFIX):
            fix = f"if Slicewise is meant, {fix}"
        found.append(f"{workload.title}: the {kind} {key} means nothing; {fix}")
        if len(found) == _MOST_REMARKS:
            break
    return found


def nearest_key(key: str, known: Iterable[str]) -> str:
    """Returns the known key of ours that somebody may have meant by one of his own; "" where it is like none.

    Under another prefix a key must be more alike: it may be somebody's own.
    """
    by_letters = {_letters(each): each for each in known}
    cutoff = _ALIKE if key.startswith(keys.PREFIX) else _MUCH_ALIKE
    found = get_close_matches(_letters(keys.prefixed(key[:_LONGEST])), by_letters, n=1, cutoff=cutoff)
    return by_letters[found[0]] if found else ""


def _letters(key: str) -> str:
    return "".join(filter(str.isalnum, key.removeprefix(keys.PREFIX).lower()))


def _notes(workload: Workload, template: Metadata | None, policy: SlicingPolicy) -> dict[str, str]:
    """Returns the annotations that people wrote, each checked against what the policy allows."""
    found: dict[str, str] = {}
    if not workload.metadata.annotations and (template is None or not template.annotations):
        return found
    for key, allowed in _NOTES.items():
        value = said(workload, template, key)
        if value is None or (key == keys.REWRITE and value == "true"):
            continue
        if allowed not in policy.spec.allow:
            raise Refusal(
                f"{workload.title}: policy {policy.name} does not allow the annotation {key} "
                f"(spec.allow leaves out {allowed}); remove it or ask whoever keeps the policy",
                Reason.NOT_ALLOWED,
            )
        found[key] = value
    return found


def _opted_out(title: str, notes: Mapping[str, str]) -> bool:
    value = notes.get(keys.REWRITE)
    if value not in {None, "false"}:
        raise Refusal(
            f'{title}: {keys.REWRITE}={value!r:.80} means nothing; write "false" to opt out or remove it',
            Reason.ANNOTATION,
        )
    return value == "false"


def _with_notes(
    ask: GpuRequirement, title: str, policy: SlicingPolicy, class_name: str, notes: Mapping[str, str]
) -> GpuRequirement:
    """Returns what a class asks, with what the workload's own annotations say."""
    spec, work = policy.spec, policy.spec.classes[class_name]
    first, profile, memory = work.strategy, ask.profile, ask.memory
    if (need := notes.get(keys.NEEDS)) is not None:
        if need not in tuple(Need):
            raise Refusal(
                f"{title}: {keys.NEEDS}={need!r:.80} is unknown; write one of {', '.join(Need)}",
                Reason.ANNOTATION,
            )
        if Need(need) not in spec.needs:
            raise Refusal(
                f"{title}: policy {policy.name} has no strategy for {keys.NEEDS}={need}; remove it",
                Reason.ANNOTATION,
            )
        first = spec.needs[Need(need)]
    if keys.GPU_MEMORY in notes and keys.PROFILE in notes:
        raise Refusal(
            f"{title}: {keys.PROFILE} names a slice and {keys.GPU_MEMORY} asks for the smallest that holds so much; "
            "keep one of them",
            Reason.ANNOTATION,
        )
    if (wanted := notes.get(keys.GPU_MEMORY)) is not None:
        try:
            memory, profile = slice_mebibytes(wanted), ""
        except QuantityError as error:
            words = f"{title}: {keys.GPU_MEMORY}: {error}; write for example 16Gi"
            raise Refusal(words, Reason.ANNOTATION) from None
    each = False
    if (wanted := notes.get(keys.PROFILE)) is not None:
        profile, each, first = _dotted(wanted), True, Strategy.MIG
        if not profile:
            raise Refusal(
                f"{title}: {keys.PROFILE}={wanted!r:.80} is no MIG profile; write for example 1g.10gb",
                Reason.ANNOTATION,
            )
        if need is not None and spec.needs[Need(need)] is not first:
            raise Refusal(
                f"{title}: {keys.PROFILE} names a slice and {keys.NEEDS}={need} asks for {spec.needs[Need(need)]}; "
                "keep one of them",
                Reason.ANNOTATION,
            )
    return msgspec.structs.replace(
        ask,
        strategies=tuple(dict.fromkeys((first, *work.otherwise))),
        memory=memory,
        profile=profile,
        profile_is_explicit=each,
    )


def _dotted(profile: str) -> str:
    parsed = mig.parse(profile)
    return parsed.dotted if parsed else ""


def nearest(name: str, known: list[str]) -> str:
    """Returns the known name that is most like a misspelt one, of which no more is read than a name may have."""
    return next(iter(get_close_matches(name[:_LONGEST], known, n=1, cutoff=0.0)), name)
