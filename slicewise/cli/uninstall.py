"""`slicewise uninstall --check`: what an uninstall would leave behind, and what to do about it first."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

from queue_sync.planning.engine import QueueEngine
from queue_sync.planning.engines import ENGINES
from queue_sync.planning.ownership import owned, unsaid
from slicewise.api import keys
from slicewise.api.policy import DeletionPolicy
from slicewise.cli.inputs import READ_QUEUES, READ_WORK, cluster_arguments
from slicewise.cli.output import Listing, lines, output_argument, reference, tell
from slicewise.cli.plans import read_cluster
from slicewise.kube.object_types import FLAVOR, LOCAL_QUEUE
from slicewise.kube.snapshot import Object, Snapshot

_MOST_NAMED: Final = 10


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `uninstall`."""
    parser.add_argument(
        "--check",
        action="store_true",
        required=True,
        help="only look, which is all that this command does: Helm or kubectl uninstalls (docs/upgrade.md)",
    )
    cluster_arguments(parser)
    output_argument(parser)


def run(options: Namespace) -> int:
    """Prints what would stay; exits 1 when something would."""
    snapshot = read_cluster(options, READ_QUEUES, READ_WORK)
    if options.snapshot and (unread := list(_unread(snapshot))):
        tell(
            f"warning: no {', '.join(unread)} was read, so what stays of these is not known; give them too, as "
            "`slicewise snapshot` does"
        )
    found = list(remnants(snapshot))
    names = [reference(each.kind, name.rpartition("/")[2]) for each in found for name in each.names]
    documents = [{**asdict(each), "names": list(each.names)} for each in found]
    Listing.of(names, documents, partial(_text, found)).print(options.output)
    return int(bool(found))


def _unread(snapshot: Snapshot) -> Iterator[str]:
    """The kinds that most clusters have some of, and of which files hold nothing."""
    kept = {
        "Node": snapshot.nodes,
        "Namespace": snapshot.namespaces,
        "QuotaPlan": snapshot.plans,
        "Pod": snapshot.of("Pod"),
    }
    yield from (kind for kind, items in kept.items() if not items)
    if not any(snapshot.of(engine.QUEUE.name) for engine in ENGINES.values()):
        yield " or ".join(engine.QUEUE.kind for engine in ENGINES.values())


def _text(found: Sequence["Remnant"], wide: bool) -> str:  # noqa: FBT001  as a Listing has it
    most = None if wide else _MOST_NAMED
    return (
        lines(words for each in found for words in _lines(each, most))
        or "Nothing would stay behind but the definitions."
    )


@dataclass(frozen=True, slots=True)
class Remnant:
    """Objects of one kind that an uninstall leaves as they are."""

    kind: str
    names: tuple[str, ...]
    """Namespace and name, or the name alone, sorted."""
    consequence: str
    fix: str


def remnants(snapshot: Snapshot) -> Iterator[Remnant]:
    """Yields what an uninstall of this cluster would leave behind, in the order in which it is best dealt with."""
    for kind, find, consequence, fix in _TABLE:
        names = tuple(sorted(find(snapshot)))
        if names:
            labels = {label for name in names for label in _own_labels(snapshot.namespaces.get(name, {}))}
            taken = " ".join(f"{label}-" for label in sorted(labels))
            yield Remnant(kind, names, consequence, fix.format(names=" ".join(names), labels=taken))


def _waiting_plans(snapshot: Snapshot) -> Iterable[str]:
    return (
        name for name, plan in snapshot.plans.items() if plan.spec.deletion_policy is DeletionPolicy.RELEASE
    )


def _kept_plans(snapshot: Snapshot) -> Iterable[str]:
    return snapshot.plans.keys() - _waiting_plans(snapshot)


def _fed(engine: QueueEngine) -> Callable[[Snapshot], Iterable[str]]:
    def find(snapshot: Snapshot) -> Iterable[str]:
        return (_name(item) for item in snapshot.of(engine.QUEUE.name) if _keeps_quota(item, engine))

    return find


def _keeps_quota(queue: Object, engine: QueueEngine) -> bool:
    """False for a queue that gave everything back, which goes on naming the plan that gave to it."""
    mine, lost = owned(queue), unsaid(queue)
    return keys.PLAN in _metadata(queue, "annotations") and any(
        units and (lost or mine.has(flavor, resource))
        for (flavor, resource), units in engine.numbers(queue).items()
    )


def _managed(kind: str) -> Callable[[Snapshot], Iterable[str]]:
    def find(snapshot: Snapshot) -> Iterable[str]:
        return (
            _name(item) for item in snapshot.of(kind) if _metadata(item, "labels").get(keys.MANAGED) == "true"
        )

    return find


def _steered(snapshot: Snapshot) -> Iterable[str]:
    return (_name(item) for item in snapshot.of("Pod") if _selects_pool(item.get("spec") or {}))


def _selects_pool(spec: Object) -> bool:
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity")) or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    return keys.POOL in (spec.get("nodeSelector") or {}) or any(
        expression.get("key") == keys.POOL
        for term in required.get("nodeSelectorTerms") or ()
        for expression in term.get("matchExpressions") or ()
    )


def _marked(snapshot: Snapshot) -> Iterable[str]:
    return (
        node.name
        for node in snapshot.nodes
        if keys.POOL in node.labels or keys.OFFER in (node.metadata.annotations or {})
    )


def _labelled(snapshot: Snapshot) -> Iterable[str]:
    return (name for name, labels in snapshot.namespaces.items() if _own_labels(labels))


def _own_labels(labels: Iterable[str]) -> list[str]:
    return [label for label in labels if label.startswith(keys.PREFIX)]


def _policies(snapshot: Snapshot) -> Iterable[str]:
    return snapshot.policies


_TABLE: Final[tuple[tuple[str, Callable[[Snapshot], Iterable[str]], str, str], ...]] = (
    (
        "QuotaPlan",
        _waiting_plans,
        "deletionPolicy Release: without the controller its deletion, and that of the definitions, waits for ever",
        "Delete it now, and uninstall when it is gone: `kubectl delete quotaplan {names}`.",
    ),
    (
        "QuotaPlan",
        _kept_plans,
        "deletionPolicy Retain: it stays, and so do the numbers of its queues",
        (
            "To give the quotas back, set it to Release, delete it, and uninstall when it is gone: "
            """`kubectl patch quotaplan {names} --type merge -p '{{"spec":{{"deletionPolicy":"Release"}}}}' """
            "&& kubectl delete quotaplan {names}`."
        ),
    ),
    *(
        (
            engine.QUEUE.kind,
            _fed(engine),
            "keeps its last quota, which nobody adapts any more",
            "Release its plan (slicewise release PLAN, where that is gone), or edit it from now on.",
        )
        for engine in ENGINES.values()
    ),
    (
        "LocalQueue",
        _managed(LOCAL_QUEUE),
        "stays, and admits what its ClusterQueue has quota for",
        "It goes with the release of its plan; else delete it.",
    ),
    (
        "ResourceFlavor",
        _managed(FLAVOR),
        "selects nodes by the label slicewise.io/pool, which nobody adapts any more",
        "It goes with the release of its plan; else delete it once no queue names it.",
    ),
    (
        "Pod",
        _steered,
        "is kept to its nodes by the label slicewise.io/pool; without the label on nodes it is not scheduled again",
        "Let it finish before you take the label off nodes; create it anew without Slicewise.",
    ),
    (
        "Node",
        _marked,
        "keeps the label slicewise.io/pool or the annotation slicewise.io/offer",
        (
            "When nothing selects on it: `kubectl label nodes --all slicewise.io/pool- && kubectl annotate nodes --all "
            "slicewise.io/offer-`."
        ),
    ),
    (
        "Namespace",
        _labelled,
        "has labels that will mean nothing without Slicewise; GPU work in it is then not rewritten",
        "Take them off: `kubectl label namespaces {names} {labels}`.",
    ),
    (
        "SlicingPolicy",
        _policies,
        "stays until its definition is deleted",
        "Keep it for the next installation, or kubectl delete -k manifests/crds, which deletes policies and plans.",
    ),
)


def _metadata(item: Object, field: str) -> dict[str, str]:
    return item["metadata"].get(field) or {}


def _name(item: Object) -> str:
    metadata = item["metadata"]
    space = metadata.get("namespace")
    return f"{space}/{metadata['name']}" if space else str(metadata["name"])


def _lines(found: Remnant, most: int | None) -> Iterator[str]:
    left = len(found.names[most:]) if most else 0
    listed = ", ".join(found.names[:most]) + (f" and {left} more" if left else "")
    yield f"{found.kind} {listed}"
    yield f"  {found.consequence}"
    yield f"  -> {found.fix}"
