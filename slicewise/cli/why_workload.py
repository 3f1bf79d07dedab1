"""`slicewise why KIND/NAME`: why a workload waits, the reason first; it needs no more rights than its submitter has."""

import json
import sys
from argparse import Namespace
from typing import Any, Final

import msgspec

from admission.workloads.builtin_kinds import TABLE
from queue_sync.planning.waiting import Owner, QueueingState, Waiting, WorkItem, waiting
from slicewise.api.errors import BadInput, did_you_mean
from slicewise.cli.inputs import namespace, of_namespace, or_a_file
from slicewise.cli.output import Listing, lines, reference, tell
from slicewise.cli.progress import progress
from slicewise.cli.selection import require_namespace
from slicewise.kube.object_types import CLUSTER_QUEUE, LOCAL_QUEUE, OBJECT_TYPES, POD_GROUP, WORKLOAD, kind_of
from slicewise.kube.snapshot import Document, Object, check_shape, read_file

_CLUSTER_QUEUES: Final = OBJECT_TYPES[CLUSTER_QUEUE].collection
# What is read of the workload's own namespace.
_NAMESPACED: Final = (
    ("/api/v1/pods", "v1", "Pod"),
    *(OBJECT_TYPES[name].collection for name in (WORKLOAD, LOCAL_QUEUE, POD_GROUP)),
    ("/apis/batch/v1/jobs", "batch/v1", "Job"),
    ("/apis/apps/v1/replicasets", "apps/v1", "ReplicaSet"),
)
_MADE: Final = frozenset({"pod", "workload", "podgroup", "replicaset"})


def run(options: Namespace, kind: str, name: str) -> int:
    """Prints why the workload of this kind, in lower case, waits.

    Raises:
        BadInput: the cluster has nothing of such a workload.
    """
    space = namespace(options)
    documents = _documents(options, space)
    found = waiting(kind, space, name, _state(documents))
    if found is None:
        if space != "default":  # which is in every cluster, if not in every file
            require_namespace(space, _namespaces(options, documents))
        if kind not in _kinds():
            meant = did_you_mean(kind, _kinds()) or "; name work, such as job/train"
            raise BadInput(f"{kind}/{name}: nothing is known of a kind {kind}{meant}")
        looked = "no Workload, PodGroup or pod" + (
            f", and no {kind} of that name" if _is_read(options, kind) else ""
        )
        raise BadInput(
            f"nothing in namespace {space} belongs to {kind} {name}: {looked}; look for a refusal in its owner's "
            "events (kubectl events), or name its namespace with -n"
        )
    names = [reference(found.kind, found.name)]
    Listing.of(names, found.document(), lambda _: _text(found)).print(options.output)
    return 0


def _is_read(options: Namespace, kind: str) -> bool:
    """True for kinds whose objects were read: of a live cluster these are few, so that few rights are needed."""
    return bool(options.snapshot) or kind in {each.lower() for _, _, each in _NAMESPACED}


def _kinds() -> frozenset[str]:
    """Returns the kinds of work that are known without a file of kinds, in lower case."""
    return _MADE | {each.kind.lower() for each in TABLE}


def _documents(options: Namespace, space: str) -> list[Document]:
    if options.snapshot:
        return [document for name in options.snapshot for document in read_file(name, sys.stdin)]
    from slicewise.cli.live import readable  # noqa: PLC0415  the libraries of the network load slowly

    with progress("reading the cluster"), or_a_file():
        documents, forbidden = readable(options, (*of_namespace(_NAMESPACED, space), _CLUSTER_QUEUES))
    if forbidden:
        tell(f"you may not list {', '.join(forbidden)}, so what they say is left out")
    return documents


def _namespaces(options: Namespace, documents: list[Document]) -> set[str]:
    """Returns the namespaces of these files or of the live cluster; none where they may not be listed."""
    if not options.snapshot:
        from slicewise.cli.live import readable  # noqa: PLC0415  as above

        documents, _ = readable(options, [("/api/v1/namespaces", "v1", "Namespace")])
    objects = (item for document in documents for item in document.objects())
    return {str((item.get("metadata") or {}).get("name")) for item in objects if item["kind"] == "Namespace"}


def _state(documents: list[Document]) -> QueueingState:
    items: list[WorkItem] = []
    owners: list[Owner] = []
    cluster_queues: dict[str, Object] = {}
    local_queues: dict[str, str] = {}
    for item in (item for document in documents for item in document.objects()):
        name = str((item.get("metadata") or {}).get("name", "(unnamed)"))
        what = f"{item['kind']} {name}"
        check_shape(item, what)
        try:
            match kind_of(item):
                case kind if kind in {"Pod", WORKLOAD, POD_GROUP}:
                    items.append(msgspec.convert(item, WorkItem))
                case kind if kind == CLUSTER_QUEUE:
                    cluster_queues[name] = item
                case kind if kind == LOCAL_QUEUE:
                    key = f"{item['metadata'].get('namespace')}/{name}"
                    local_queues[key] = str((item.get("spec") or {}).get("clusterQueue", ""))
                case _:
                    owners.append(msgspec.convert({"metadata": {}, **item}, Owner))
        except msgspec.ValidationError as error:
            raise BadInput(f"{what}: {error}; give the object as it stands") from None
    return QueueingState(items, owners, cluster_queues, local_queues)


def _text(found: Waiting) -> str:
    shown = [f"{found.kind} {found.namespace}/{found.name}: {found.reason}"]
    shown.append(f"  decision  {_decision(found.decision)}")
    shown.append(f"  queue     {found.queue or 'none'}")
    shown += [f"  {'quota' if not number else '':<8}  {each}" for number, each in enumerate(found.quota)]
    shown += [f"  {'pods' if not number else '':<8}  {each}" for number, each in enumerate(found.nodes)]
    return lines(shown)


def _decision(text: str) -> str:
    """Returns the reason within a recorded decision, or what stands in its place."""
    if not text:
        return "none is recorded; `slicewise explain -f` says what would become of the manifest"
    try:
        value: Any = json.loads(text)
    except ValueError:
        value = None
    reason = value.get("reason") if isinstance(value, dict) else None
    return reason if isinstance(reason, str) else "the recorded one cannot be read; apply the manifest again"
