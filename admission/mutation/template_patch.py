"""Decision -> RFC 6902 operations.  Pure.

A patch that fails to apply is a failed request for the person, whatever the failure policy says (apiserver,
`mutating/dispatcher.go`), so nothing is removed or replaced that was not seen in the object that came, and
nothing is added under a parent that is not there. Output depends on the input alone: no times, no counters.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from admission.decision import mps_daemon
from admission.decision.gpu_requests import containers
from admission.decision.model import Decision
from admission.decision.node_selector import required_terms
from admission.mutation import slots as outside
from admission.workloads.kind import Means
from admission.workloads.model import (
    Affinity,
    Container,
    Metadata,
    NodeAffinity,
    NodeSelector,
    PodSpec,
    Template,
    Term,
)
from admission.workloads.path_language import escape
from slicewise.api import keys
from slicewise.api.quantities import QuantityError, parse
from slicewise.inventory.allocation import NodeLabel

Operation = dict[str, Any]

_VISIBLE: Final = "NVIDIA_VISIBLE_DEVICES"


class Change(msgspec.Struct, frozen=True):
    """What becomes of one container's devices: names to drop, and the one to ask for."""

    drop: frozenset[str]
    name: str
    count: int
    """0: nothing is asked for any more."""


def devices(pointer: str, container: Container, change: Change) -> list[Operation]:
    """Moves a container's request to another name, in requests and limits alike."""
    found: list[Operation] = []
    resources = container.resources
    if resources is None:
        return found
    added, count = escape(change.name), str(change.count)
    for base, amounts in (
        ("/resources/requests/", resources.requests),
        ("/resources/limits/", resources.limits),
    ):
        if not amounts:
            continue
        dropped = sorted(change.drop & amounts.keys())
        if not dropped and change.name not in amounts:
            continue
        path = pointer + base
        found += [{"op": "remove", "path": path + escape(name)} for name in dropped]
        if change.count and str(amounts.get(change.name)) != count:
            # `add` on a member that is there replaces it (RFC 6902, section 4.1).
            found.append({"op": "add", "path": path + added, "value": count})
    return found


def expressions(pools: Iterable[str], labels: Iterable[NodeLabel]) -> list[dict[str, Any]]:
    """What keeps a pod to pools, and to the nodes of them that fit, as requirements of node affinity."""
    return [
        {"key": each.key, "operator": each.operator, "values": list(each.values)}
        for each in (NodeLabel(keys.POOL, "In", tuple(pools)), *labels)
    ]


def steering(
    spec_pointer: str, spec: PodSpec, decision: Decision, former: Decision | None = None
) -> list[Operation]:
    """Keeps the pod to pools by required node affinity, in every alternative that it has; what kept it to
    the pools of a `former` decision is replaced."""
    names = list(decision.pools)
    wanted = expressions(names, decision.node_labels)
    base = spec_pointer + "/affinity"
    terms = [{"matchExpressions": wanted}]
    if spec.affinity is None:
        value: Any = _nested(terms)
        return [{"op": "add", "path": base, "value": value}]
    base += "/nodeAffinity"
    if spec.affinity.node_affinity is None:
        return [{"op": "add", "path": base, "value": _nested(terms)["nodeAffinity"]}]
    base += "/requiredDuringSchedulingIgnoredDuringExecution"
    required = spec.affinity.node_affinity.required
    if required is None:
        return [{"op": "add", "path": base, "value": {"nodeSelectorTerms": terms}}]
    if not required.node_selector_terms:
        return [{"op": "add", "path": base + "/nodeSelectorTerms", "value": terms}]
    found: list[Operation] = []
    for index, term in enumerate(required.node_selector_terms):
        path = f"{base}/nodeSelectorTerms/{index}/matchExpressions"
        if not term.match_expressions and not term.match_fields:
            continue  # matches nothing; a requirement would make it match something
        if term.match_expressions is None:
            found.append({"op": "add", "path": path, "value": wanted})
            continue
        ours = _ours(term, former.pools if former is not None and former.steered else ())
        if ours is not None and not within(term, names):
            found.append({"op": "replace", "path": f"{path}/{ours}/values", "value": names})
        elif not within(term, names):
            found.append({"op": "add", "path": path + "/-", "value": wanted[0]})
        for label, expression in zip(decision.node_labels, wanted[1:], strict=True):
            if not _has_label(term, label):
                found.append({"op": "add", "path": path + "/-", "value": expression})
        stale = set(former.node_labels if former is not None else ()) - {*decision.node_labels}
        found += [{"op": "remove", "path": f"{path}/{at}"} for at in reversed(_labels_at(term, stale))]
    return found


def freeing(spec_pointer: str, spec: PodSpec, former: Decision) -> list[Operation]:
    """Takes out what kept the pod to the pools of an earlier decision."""
    base = f"{spec_pointer}/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution"
    found: list[Operation] = []
    terms = required_terms(spec) or ()
    for index, term in enumerate(terms):
        ours = _all_ours(term, former.pools, former.node_labels)
        if not ours:
            continue
        if len(terms) == 1 and not term.match_fields and len(term.match_expressions or ()) == len(ours):
            return [{"op": "remove", "path": base}]  # an alternative without requirements would match nothing
        path = f"{base}/nodeSelectorTerms/{index}/matchExpressions"
        found += [{"op": "remove", "path": f"{path}/{at}"} for at in reversed(ours)]
    return found


def freed(spec: PodSpec, former: Iterable[str], labels: Iterable[NodeLabel] = ()) -> PodSpec:
    """Returns the pod spec as `freeing` leaves it, as far as selectors go."""
    terms = []
    for term in required_terms(spec) or ():
        ours = _all_ours(term, former, labels)
        rest = [e for index, e in enumerate(term.match_expressions or ()) if index not in ours]
        if not ours or rest or term.match_fields:
            terms.append(Term(rest, term.match_fields))
    affinity = Affinity(NodeAffinity(NodeSelector(terms))) if terms else None
    return msgspec.structs.replace(spec, affinity=affinity)


def preferring(
    spec_pointer: str, spec: PodSpec, decision: Decision, former: Decision | None, *, nested: bool
) -> list[Operation]:
    """Has the pod prefer smaller boards to larger ones; what a `former` decision preferred goes.

    Args:
        spec_pointer: where the pod spec is.
        spec: the pod spec as it came.
        decision: what was decided, its pools in the order in which they are preferred.
        former: what was decided before.
        nested: True when the operations before these see to it that there is node affinity.
    """
    wanted = _preferences(decision.pools)
    affinity = spec.affinity.node_affinity if spec.affinity else None
    present = affinity.preferred if affinity and isinstance(affinity.preferred, list) else None
    base = spec_pointer + "/affinity"
    path = base + "/nodeAffinity/preferredDuringSchedulingIgnoredDuringExecution"
    if present is not None:
        ours = [*wanted, *(_preferences(former.pools) if former is not None else ())]
        places = [index for index, each in enumerate(present) if each in ours]
        if [present[index] for index in places] == wanted:
            return []
        return [
            *({"op": "remove", "path": f"{path}/{index}"} for index in reversed(places)),
            *({"op": "add", "path": path + "/-", "value": each} for each in wanted),
        ]
    if not wanted:
        return []
    if affinity is not None or nested:
        return [{"op": "add", "path": path, "value": wanted}]
    inner = {"preferredDuringSchedulingIgnoredDuringExecution": wanted}
    if spec.affinity is not None:
        return [{"op": "add", "path": base + "/nodeAffinity", "value": inner}]
    return [{"op": "add", "path": base, "value": {"nodeAffinity": inner}}]


def _preferences(pools: Sequence[str]) -> list[dict[str, Any]]:
    """The first pool weighs 100, the last nothing."""
    last = len(pools) - 1
    return [
        {
            "weight": max(1, 100 * (last - index) // last),
            "preference": {"matchExpressions": expressions((pool,), ())},
        }
        for index, pool in enumerate(pools[:-1])
    ]


def _ours(term: Term, former: Iterable[str]) -> int | None:
    """Returns where an alternative holds the requirement that an earlier decision put there."""
    names = list(former)
    for index, each in enumerate(term.match_expressions or ()):
        if names and each.key == keys.POOL and each.operator == "In" and list(each.values or ()) == names:
            return index
    return None


def _all_ours(term: Term, former: Iterable[str], labels: Iterable[NodeLabel]) -> list[int]:
    """Returns where an alternative holds what an earlier decision put there, of which the pools are the sign."""
    ours = _ours(term, former)
    return [] if ours is None else sorted({ours, *_labels_at(term, labels)})


def _labels_at(term: Term, labels: Iterable[NodeLabel]) -> list[int]:
    wanted = {(each.key, each.operator, each.values) for each in labels}
    return [
        index
        for index, each in enumerate(term.match_expressions or ())
        if (each.key, each.operator, tuple(each.values or ())) in wanted
    ]


def _has_label(term: Term, label: NodeLabel) -> bool:
    return bool(_labels_at(term, [label]))


def steered_to(spec: PodSpec, pools: Iterable[str], labels: Iterable[NodeLabel] = ()) -> bool:
    """True when every alternative of the pod's required affinity that can match keeps it within the pools, and to
    nodes with such labels."""
    live = [term for term in required_terms(spec) or () if term.match_expressions or term.match_fields]
    names = frozenset(pools)
    return bool(live) and all(
        within(term, names) and all(_has_label(term, label) for label in labels) for term in live
    )


def pools_of(spec: PodSpec) -> tuple[str, ...]:
    """Returns the pools that a pod's required affinity names anywhere."""
    return tuple(
        dict.fromkeys(
            name
            for term in required_terms(spec) or ()
            for each in term.match_expressions or ()
            if each.key == keys.POOL and each.operator == "In"
            for name in each.values or ()
        )
    )


def within(term: Term, pools: Iterable[str]) -> bool:
    """True when one alternative of a pod's affinity says itself that it stays within the pools."""
    return any(
        e.key == keys.POOL and e.operator == "In" and set(e.values or ()) <= set(pools)
        for e in term.match_expressions or ()
    )


def _nested(terms: list[Any]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def toleration(spec_pointer: str, spec: PodSpec) -> list[Operation]:
    """Adds the toleration for the customary GPU taint, unless the pod has one that covers it.

    ExtendedResourceToleration would have tolerated it under the old name only (kubernetes,
    plugin/pkg/admission/extendedresourcetoleration).
    """
    if any(keys.tolerates(each.key, each.operator, each.effect) for each in spec.tolerations or ()):
        return []
    if spec.tolerations is None:
        return [{"op": "add", "path": spec_pointer + "/tolerations", "value": [keys.TOLERATION]}]
    return [{"op": "add", "path": spec_pointer + "/tolerations/-", "value": keys.TOLERATION}]


def hiding(
    spec_pointer: str, spec: PodSpec, asking: frozenset[str], *, again: bool = False
) -> list[Operation]:
    """Keeps containers without a GPU from being shown every GPU of the node (nvidia-container-toolkit:
    an image's NVIDIA_VISIBLE_DEVICES=all counts where no device was allocated). Decided anew (`again`), a
    container that was hidden and now asks for a GPU is hidden no more."""
    found: list[Operation] = []
    hidden = {"name": _VISIBLE, "value": "void"}
    for pointer, container in containers(spec):
        path = f"{spec_pointer}{pointer}/env"
        if pointer in asking and again:
            found += [
                {"op": "remove", "path": f"{path}/{index}"}
                for index, variable in reversed(list(enumerate(container.env or ())))
                if (variable.name, variable.value) == (_VISIBLE, "void")
            ]
        if pointer in asking or any(variable.name == _VISIBLE for variable in container.env or ()):
            continue
        if container.env is None:
            found.append({"op": "add", "path": path, "value": [hidden]})
        else:
            found.append({"op": "add", "path": path + "/-", "value": hidden})
    return found


class MetadataEdits:
    """Labels and annotations to be set, gathered so that a map which is not there yet is added once."""

    def __init__(self) -> None:
        self._wanted: dict[str, tuple[Metadata | None, dict[str, str], dict[str, str]]] = {}

    def _entry(self, pointer: str, current: Metadata | None) -> tuple[dict[str, str], dict[str, str]]:
        return self._wanted.setdefault(pointer, (current, {}, {}))[1:]

    def annotate(self, pointer: str, current: Metadata | None, key: str, value: str) -> None:
        """Wants an annotation on the object at `pointer`, whose metadata is `current` (None: it has none)."""
        self._entry(pointer, current)[0][key] = value

    def label(self, pointer: str, current: Metadata | None, key: str, value: str) -> None:
        """Wants a label on the object at `pointer`."""
        self._entry(pointer, current)[1][key] = value

    def operations(self) -> list[Operation]:
        """Returns what sets them; values that stand are left."""
        found: list[Operation] = []
        for pointer, (current, annotations, labels) in self._wanted.items():
            wanted = {"annotations": annotations, "labels": labels}
            if current is None:
                value = {kind: entries for kind, entries in wanted.items() if entries}
                found.append({"op": "add", "path": pointer + "/metadata", "value": value})
                continue
            for kind, entries in wanted.items():
                found += _entries(f"{pointer}/metadata/{kind}", getattr(current, kind), entries)
        return found


def _entries(base: str, present: Mapping[str, str] | None, wanted: Mapping[str, str]) -> list[Operation]:
    missing = {key: value for key, value in wanted.items() if (present or {}).get(key) != value}
    if missing and present is None:
        return [{"op": "add", "path": base, "value": missing}]
    return [{"op": "add", "path": f"{base}/{escape(key)}", "value": value} for key, value in missing.items()]


def template(
    found: Template, changes: Mapping[str, Change], decision: Decision, former: Decision | None = None
) -> list[Operation]:
    """Gives one template what was decided, in place of a `former` decision; `changes` are by container pointer within
    the pod spec."""
    operations: list[Operation] = []
    asking = set()
    for pointer, container in containers(found.spec):
        if pointer in changes:
            if changes[pointer].count or _has_device(container, changes[pointer].drop):
                asking.add(pointer)
            operations += _moved(found, pointer, container, changes[pointer])
        elif _has_device(container):
            asking.add(pointer)
    if found.means is not Means.SPEC:
        return operations
    # What another layer gives a container outside a pod spec is not known here: its pod is looked at again.
    operations += hiding(
        found.spec_pointer, found.spec, frozenset(asking).union(found.slots), again=former is not None
    )
    if directory := decision.pipe_directory:
        operations += mps_daemon.connected(found.spec_pointer, found.spec, frozenset(asking), directory)
    if decision.steered:
        operations += steering(found.spec_pointer, found.spec, decision, former)
    elif former is not None and former.steered:
        operations += freeing(found.spec_pointer, found.spec, former)
    operations += preferring(found.spec_pointer, found.spec, decision, former, nested=decision.steered)
    operations += toleration(found.spec_pointer, found.spec)
    return outside.prelude(found, operations) + operations if found.prelude else operations


def given_back(found: Template, changes: Mapping[str, Change], former: Decision | None) -> list[Operation]:
    """Takes an earlier decision out of a template that is no longer ours to decide."""
    operations: list[Operation] = []
    for pointer, container in containers(found.spec):
        if pointer in changes:
            operations += _moved(found, pointer, container, changes[pointer])
    if found.means is Means.SPEC and former is not None:
        if former.steered:
            operations += freeing(found.spec_pointer, found.spec, former)
        nothing = msgspec.structs.replace(former, pools=())
        operations += preferring(found.spec_pointer, found.spec, nothing, former, nested=False)
    return operations


def _moved(found: Template, pointer: str, container: Container, change: Change) -> list[Operation]:
    slot = found.slots.get(pointer) if found.slots else None
    if slot is not None:
        return outside.devices(slot, change.drop, change.name, change.count)
    return devices(found.spec_pointer + pointer, container, change)


def _has_device(container: Container, less: frozenset[str] = frozenset()) -> bool:
    resources = container.resources
    return resources is not None and any(
        name.startswith(keys.VENDOR) and name not in less and not _zero(amount)
        for amounts in (resources.requests, resources.limits)
        for name, amount in (amounts or {}).items()
    )


def _zero(amount: Any) -> bool:
    try:
        return parse(amount) == 0
    except QuantityError:
        return False
