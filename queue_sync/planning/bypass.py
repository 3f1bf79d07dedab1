"""Work that is not as the webhook would have left it, whether it runs or not: made while it was away, or changed since.

Told once for each owner, because what somebody can mend is the Deployment and not its pods.  Pure.

Left out: namespaces that have not opted in or only audit, what opted out, mirror pods, what must stay as its maker has
it (`keys.LEFT`), what is over, and requests that name a slice or a share themselves.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from queue_sync.planning.engines import ENGINES
from queue_sync.planning.findings import Finding
from queue_sync.planning.observed import Object
from queue_sync.planning.work import Work, note, owner_reference
from slicewise.api import keys
from slicewise.api.policy import engine_label
from slicewise.api.quantities import value_of
from slicewise.inventory.pools import Inventory

_OVER: Final = frozenset({"Succeeded", "Failed"})
_RESTARTED: Final = frozenset({"Deployment.apps", "StatefulSet.apps", "DaemonSet.apps"})
"""Those of which `kubectl rollout restart` makes pods anew."""


class _Assigned(msgspec.Struct, frozen=True):
    to: str = ""


class _Decision(msgspec.Struct, frozen=True):
    """The part of the recorded decision that can be held against what runs."""

    pools: tuple[str, ...] = ()
    containers: dict[str, _Assigned] = {}
    steered: bool = False

    def of(self, container: str) -> set[str]:
        """What was decided for containers of a name; of several templates each has its own, by `POINTER:NAME`."""
        return {
            each.to
            for name, each in self.containers.items()
            if each.to and name.rpartition(":")[2] == container
        }


_decode = msgspec.json.Decoder(_Decision).decode


def bypassing(
    namespaces: Mapping[str, Mapping[str, str]],
    pods: Iterable[Object],
    owners: Iterable[tuple[str, Object, Sequence[Object]]],
    pools: Inventory,
) -> Iterator[Finding]:
    """Yields work of opted-in namespaces that carries no decision, another name or pool than its decision, or no queue.

    Args:
        namespaces: labels by name.
        pods: as they stand.
        owners: (kind, object, pod specs in it) of what makes pods and is nobody else's.
        pools: the pools; they know which node is in which.
    """
    enforced = {
        name: labels
        for name, labels in namespaces.items()
        if keys.opted_in(name, labels) and labels.get(keys.MODE, "enforce") == "enforce"
    }
    offered = {name for pool in pools for name in pool.resources}
    pool_of_node = {node: pool.name for pool in pools for node in pool.nodes}
    for work in _works(enforced, pods, owners):
        labels = enforced[work.namespace]
        asked = {name for spec in work.specs for _, name in _asked(spec)}
        waits = not any(spec.get("nodeName") for spec in work.specs)
        if not asked or _left(work) or (waits and not asked <= offered):
            continue  # that nobody offers a name is a finding of its own
        where = f"{work.kind} {work.namespace}/{work.name}"
        decision = _decision(work)
        queue = "" if _queued(work, labels) else labels.get(keys.QUEUE, "")
        if decision is None and keys.GPU in asked:
            # What nobody decided is put into no queue either: one cause, and one thing to do.
            uncounted = f", and no quota counts it: it is outside the queue {queue}" if queue else ""
            sentence = (
                f"{where} asks for {keys.GPU} and carries no decision, though its namespace has opted in{uncounted}; "
                f"{_again(work)}"
            )
            yield Finding(work.kind, work.namespace, work.name, "WorkWithoutDecision", sentence, work.group)
            continue
        if decision is not None and (words := _not_followed(work, decision, pool_of_node)):
            sentence = f"{where} {words}; {_again(work)}"
            yield Finding(work.kind, work.namespace, work.name, "DecisionNotFollowed", sentence, work.group)
        if queue:
            sentence = (
                f"{where} asks for {', '.join(sorted(asked))} outside the queue {queue} of its namespace, so no quota "
                "counts it; create it anew while the webhook answers, or give it the queue itself"
            )
            yield Finding(work.kind, work.namespace, work.name, "QueueBypassed", sentence, work.group)


def _again(work: Work) -> str:
    anew = "create it anew while the webhook answers"
    if f"{work.kind}.{work.group}" in _RESTARTED:
        return f"{anew}, or restart its pods (kubectl rollout restart)"
    return anew


def _works(
    enforced: Mapping[str, Mapping[str, str]],
    pods: Iterable[Object],
    owners: Iterable[tuple[str, Object, Sequence[Object]]],
) -> Iterator[Work]:
    seen = set()
    for kind, document, specs in owners:
        namespace, name = _place(document)
        seen.add((kind, namespace, name))
        if namespace in enforced:
            yield Work(
                kind, group_of(document), namespace, name, (document, *_templates(document)), tuple(specs)
            )
    for pod in pods:
        if (pod.get("status") or {}).get("phase") in _OVER:
            continue
        key = kind, namespace, name = named_for(pod)
        if namespace in enforced and key not in seen:
            seen.add(key)
            group = group_of(owner_reference(pod) or pod)
            yield Work(kind, group, namespace, name, (pod,), (pod.get("spec") or {},))


def named_for(pod: Object) -> tuple[str, str, str]:
    """Returns kind, namespace and name of what a finding names for a pod: its owner, or the pod itself."""
    namespace, name = _place(pod)
    owner = _owner(pod)
    return (owner[0], namespace, owner[1]) if owner else ("Pod", namespace, name)


def _owner(pod: Object) -> tuple[str, str] | None:
    """Kind and name of what somebody can change: a ReplicaSet of a Deployment's is its Deployment."""
    reference = owner_reference(pod)
    if reference is None:
        return None
    kind, name = str(reference.get("kind")), str(reference.get("name"))
    hashed = (pod["metadata"].get("labels") or {}).get("pod-template-hash")
    if kind == "ReplicaSet" and hashed and name.endswith(f"-{hashed}"):
        return "Deployment", name.removesuffix(f"-{hashed}")
    return kind, name


def group_of(document: Object) -> str:
    """Returns the API group of an object, or of a reference to one; "" for the core group."""
    return str(document.get("apiVersion", "")).rpartition("/")[0]


def _templates(document: Object) -> Iterator[Object]:
    """Every part of an object that is a pod template with metadata of its own."""
    for value in document.values():
        if isinstance(value, dict):
            if "spec" in value and isinstance(value.get("metadata"), dict):
                yield value
            yield from _templates(value)


def _asked(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields (container, device) of everything above zero."""
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        resources = container.get("resources") or {}
        for listed in (resources.get("requests"), resources.get("limits")):
            for name, quantity in (listed or {}).items():
                if keys.is_device(name) and value_of(quantity):
                    yield str(container.get("name")), name


def _left(work: Work) -> bool:
    """True for what the webhook leaves alone on purpose."""
    return any(
        note(document, "annotations", keys.REWRITE) == "false"
        or note(document, "annotations", keys.MIRROR_POD)
        or keys.is_left((document.get("metadata") or {}).get("labels") or {})
        for document in work.documents
    )


def _decision(work: Work) -> _Decision | None:
    for document in work.documents:
        if text := note(document, "annotations", keys.DECISION):
            try:
                return _decode(text)
            except (msgspec.DecodeError, RecursionError):
                continue
    return None


def _not_followed(work: Work, decision: _Decision, pool_of_node: Mapping[str, str]) -> str:
    """What differs from the decision; "" when nothing does."""
    for spec in work.specs:
        asked: dict[str, set[str]] = {}
        for container, name in _asked(spec):
            asked.setdefault(container, set()).add(name)
        for container, names in sorted(asked.items()):
            wanted = decision.of(container)
            if wanted and not wanted & names:
                return f"asks for {', '.join(sorted(names))} where {' or '.join(sorted(wanted))} was decided"
        pool = pool_of_node.get(str(spec.get("nodeName")))
        if decision.steered and pool and decision.pools and pool not in decision.pools:
            return f"runs on {spec['nodeName']} of pool {pool} where {', '.join(decision.pools)} was decided"
    return ""


def _queued(work: Work, labels: Mapping[str, str]) -> bool:
    """True when the engine of the namespace knows of the work; which queue it names is its own affair."""
    engine = ENGINES.get(engine_label(labels))
    return engine is None or engine.knows(work)


def _place(document: Object) -> tuple[str, str]:
    metadata = document.get("metadata") or {}
    name = metadata.get("name") or metadata.get("generateName", "(unnamed)")
    return str(metadata.get("namespace", "")), str(name)
