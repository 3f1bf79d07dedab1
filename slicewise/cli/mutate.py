"""`slicewise mutate` and `slicewise explain`: the webhook's own functions, on files."""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import jsonpatch
import msgspec

from admission import explain as explaining
from admission.decision.cluster_state import ClusterState
from admission.decision.requester import NOBODY, Requester
from admission.decision.trace import Stop
from admission.mutation.mutate import mutate
from admission.mutation.outcome import Outcome, Verdict
from admission.workloads.decoder import Reader, Templates
from slicewise.api import keys
from slicewise.api.errors import BadInput
from slicewise.api.policy import BUILT_IN, Engine, engine_label
from slicewise.cli.inputs import cluster, cluster_arguments, manifest_arguments, manifests, namespace
from slicewise.cli.joined_queues import Queues, others_queue
from slicewise.cli.misspellings import misspellings
from slicewise.cli.output import Listing, lines, output_argument, reference, table, tell, write
from slicewise.cli.selection import unknown_namespaces
from slicewise.cli.webhook_inputs import kinds_argument, templates, world
from slicewise.kube.apply import Client, applied, applied_again, last_applied
from slicewise.kube.object_types import ENGINE_OBJECTS, kind_of
from slicewise.kube.snapshot import Document, Object, Snapshot, collect, read_file, read_text

_JOINED: Final = tuple(each.joined.collection for each in ENGINE_OBJECTS.values())


def arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `mutate`."""
    manifest_arguments(parser)
    cluster_arguments(parser)
    kinds_argument(parser)
    parser.add_argument(
        "--old",
        action="append",
        default=[],
        metavar="FILE",
        help="the same objects as they stand now: an UPDATE is judged; may be repeated",
    )
    parser.add_argument(
        "--as-apply",
        nargs="?",
        const=Client.KUBECTL,
        choices=tuple(Client),
        metavar="|".join(Client),
        help="judge what this client sends when it applies the manifests over those of --old (default kubectl)",
    )
    output_argument(
        parser,
        "patch",
        "decision",
        default="yaml",
        help_text="; patch and decision are one line of JSON an object",
    )


def explain_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `explain`."""
    manifest_arguments(parser)
    cluster_arguments(parser)
    kinds_argument(parser)
    parser.add_argument(
        "--policy",
        metavar="NAME|FILE",
        help="as if every namespace here named this policy: one of the cluster's, or one in a file",
    )
    output_argument(parser)


@dataclass(frozen=True, slots=True)
class Result:
    """What the webhook would answer for one object."""

    item: Object
    """The object as it would be left; the one that came when it was refused."""
    outcome: Outcome
    namespace: str = ""
    """Of the object; "" where it has none: its kind is cluster-scoped, or not known here and it names none itself."""

    @property
    def refusal(self) -> str:
        """The sentence of a refusal; "" where it is none."""
        return self.outcome.refusal


def review(
    item: Object,
    namespace: str,
    known: ClusterState,
    kinds: Templates,
    old: Object | None = None,
    author: Requester = NOBODY,
) -> Result:
    """Judges one object as the webhook would on its creation, or on its update where it stood as `old`."""
    where = (item.get("metadata") or {}).get("namespace") or ""
    reader = reader_of(item, kinds)
    if reader is None:
        return Result(item, Outcome(Verdict.IGNORED, trace=(Stop.KIND,)), where)
    if not reader.kind.namespaced:
        return Result(item, Outcome(Verdict.IGNORED, trace=(Stop.EXEMPT,)))
    where = where or namespace
    before = _sent(old) if old else None
    outcome = mutate(reader, _sent(item), before, where, known, author)
    if not outcome.operations:
        return Result(item, outcome, where)
    return Result(jsonpatch.apply_patch(deepcopy(item), outcome.operations), outcome, where)


def _sent(item: Object) -> bytes:
    """Returns an object as the API server sends it: what is listed comes in the order of its keys."""
    return msgspec.json.encode(item, order="sorted")


def reapply(
    client: Client, item: Object, namespace: str, known: ClusterState, kinds: Templates, old: Object
) -> Result:
    """Judges what a client sends when it applies a manifest over another.

    Args:
        client: who applies.
        item: the manifest as it is applied now.
        namespace: of objects that name none.
        known: the cluster.
        kinds: the kinds that the webhook knows.
        old: the manifest as it was applied before, or the object as it stands since.

    Raises:
        BadInput: `old` stands, and nothing says what was applied.
    """
    before, standing = old, old
    annotations = (old.get("metadata") or {}).get("annotations") or {}
    if keys.DECISION not in annotations:
        standing = review(applied(client, old), namespace, known, kinds).item
    elif (found := last_applied(old)) is not None:
        before = found
    else:
        name = "/".join(identity(old, namespace)[2:])
        raise BadInput(
            f"--old: {old['kind']} {name} stands as it was decided and has no annotation {keys.LAST_APPLIED}; give the "
            "manifest as it was applied before"
        )
    sent = applied_again(client, before, item, standing)
    if client is Client.HELM and sent == standing:
        return Result(
            standing, Outcome(Verdict.UNCHANGED), namespace
        )  # it sends nothing, and nobody is asked
    result = review(sent, namespace, known, kinds, standing, Requester(field_manager=client.field_manager))
    if (metadata := result.item["metadata"]).get("managedFields"):
        left = {name: value for name, value in metadata.items() if name != "managedFields"}
        return replace(result, item={**result.item, "metadata": left})
    return result


def identity(item: Object, namespace: str) -> tuple[str, str, str, str]:
    """Returns what makes two manifests the same object: group, kind, namespace and name."""
    metadata = item.get("metadata") or {}
    group = item["apiVersion"].rpartition("/")[0]
    return group, item["kind"], metadata.get("namespace") or namespace, str(metadata.get("name", ""))


def _objects(files: list[str]) -> Iterator[Object]:
    for name in files:
        for document in read_file(name, sys.stdin):
            yield from document.objects()


def reader_of(item: Object, kinds: Templates) -> Reader | None:
    """Returns the reader for an object's kind."""
    group = item["apiVersion"].rpartition("/")[0]
    return kinds.reader(group, item["kind"])


def run(options: Namespace) -> int:
    """Prints the manifests as the webhook would leave them; refusals and warnings go to standard error."""
    documents = manifests(options)
    snapshot, kinds, space = cluster(options), templates(options), namespace(options)
    known = world(snapshot)
    standing = {identity(item, space): item for item in _objects(options.old)}
    if options.as_apply and not options.old:
        raise BadInput("--as-apply: needs --old FILE, the manifests as they were applied before")
    status = 0
    everything: list[Result] = []
    printed: list[Any] = []
    for document in documents:
        results = []
        for item in document.objects():
            old = standing.get(identity(item, space))
            if options.old and old is None and reader_of(item, kinds) is not None:
                name = "/".join(identity(item, space)[2:])
                tell(f"warning: --old holds no {item['kind']} {name}, so its creation is judged")
            if old is not None and options.as_apply:
                results.append(reapply(Client(options.as_apply), item, space, known, kinds, old))
            else:
                results.append(review(item, space, known, kinds, old))
        for result in results:
            if result.refusal:
                status = 1
                tell(f"refused: {result.refusal}")
            for warning in result.outcome.warnings:
                tell(f"warning: {warning}")
        kept = [result for result in results if not result.refusal]
        everything += results
        printed += _left(document, kept)
    _tell_unknown_namespaces(everything, snapshot)
    _tell_misspellings((each.item for each in everything), kinds)
    kept = [result for result in everything if not result.refusal]
    if options.output in {"patch", "decision"}:
        for each in kept:
            write(json.dumps(_machine(each, options.output), ensure_ascii=False))
    else:
        names = [reference(kind_of(each.item), identity(each.item, space)[3]) for each in kept]
        whole = printed[0] if len(printed) == 1 else {"apiVersion": "v1", "kind": "List", "items": printed}
        Listing(names, whole, printed, partial(_table, everything)).print(options.output)
    return status


def _tell_unknown_namespaces(results: Sequence[Result], snapshot: Snapshot) -> None:
    made = {identity(each.item, "")[3] for each in results if each.item["kind"] == "Namespace"}
    for sentence in unknown_namespaces({each.namespace for each in results}, snapshot.namespaces, made):
        tell(f"warning: {sentence}")


def _tell_missing_queues(results: Iterable[Result], options: Namespace, snapshot: Snapshot) -> None:
    """Warns of queues that are not there; where files know of none of an engine, nothing is said."""
    joined = [
        (each, ENGINE_OBJECTS[Engine(engine_label(snapshot.namespaces[each.namespace]))])
        for each in results
        if each.outcome.queue
    ]
    if not joined:
        return
    from queue_sync.planning import desired  # noqa: PLC0415  few commands need what plans want
    from queue_sync.planning.cluster_state import ClusterState as QuotaState  # noqa: PLC0415
    from slicewise.cli.plans import check_shapes  # noqa: PLC0415

    check_shapes(snapshot)
    wanted = desired.wanted(QuotaState.from_snapshot(snapshot)).objects
    for each, objects in joined:
        queues = Queues(objects, snapshot, wanted)
        there = queues.of_namespace(each.namespace)
        if each.outcome.queue in there:
            continue
        other = others_queue(objects, each.outcome.queue, each.namespace, snapshot, wanted)
        if other or queues or not options.snapshot:
            known = f" (there are: {', '.join(there)})" if there else ""
            if other:
                known = f", or {keys.ENGINE} to {other}, which has a {ENGINE_OBJECTS[other].joined.kind} of that name"
            named = f"{each.item['kind']} {'/'.join(identity(each.item, each.namespace)[2:])}"
            tell(
                f"warning: {named}: goes to the {objects.joined.kind} {each.outcome.queue}, which neither stands nor "
                f"is wanted by a plan, and waits for ever; create it, or correct {keys.QUEUE}{known}"
            )


def _tell_misspellings(items: Iterable[Object], kinds: Templates) -> None:
    for item in items:
        for sentence in misspellings(item, kinds):
            tell(f"warning: {sentence}")


def _table(results: Sequence[Result], wide: bool) -> str:  # noqa: FBT001  as a Listing has it
    head = ["KIND", "NAMESPACE", "NAME", "OUTCOME", "GETS", *(("POOLS", "WHY") if wide else ())]
    rows = []
    for each in results:
        found = each.outcome.whole
        gets = ", ".join(f"{got.to}={got.count}" for got in found.containers.values()) if found else "-"
        why = each.refusal or (found.reason if found else "-")
        more = (", ".join(found.pools) if found else "-", why) if wide else ()
        named = explaining.identity(each.item, each.namespace or "-").values()
        rows.append((*named, each.outcome.name, gets, *more))
    return table(head, rows)


def _left(document: Document, results: list[Result]) -> Iterator[Any]:
    if document.is_list:
        yield {**document.value, "items": [result.item for result in results]}
    else:
        yield from (result.item for result in results)


def _machine(result: Result, output: str) -> Any:
    outcome = result.outcome
    if output == "patch":
        return outcome.operations
    return msgspec.to_builtins(outcome.whole)


def reviewed(
    items: Iterable[Object], space: str, known: ClusterState, kinds: Templates
) -> Iterator[tuple[Object, Result]]:
    """Yields each object with what the webhook would answer; `space` is the namespace of those that name none."""
    for item in items:
        yield item, review(item, space, known, kinds)


def explain_text(text: str, space: str, known: ClusterState, kinds: Templates) -> str:
    """Explains every object of one text.

    Raises:
        BadInput: it holds something that is no Kubernetes object.
    """
    items = [item for document in read_text("manifest", text) for item in document.objects()]
    found = reviewed(items, space, known, kinds)
    return _explained(found, known)


def _explained(found: Iterable[tuple[Object, Result]], known: ClusterState) -> str:
    return "\n\n".join(
        lines(explaining.explain(item, each.namespace, known, each.outcome)) for item, each in found
    )


def _use_policy(snapshot: Snapshot, named: str) -> None:
    """Has every namespace of a snapshot name one policy.

    Raises:
        BadInput: there is no such policy, or the file holds none or several.
    """
    if Path(named).is_file() or named == "-" or Path(named).suffix in {".yaml", ".yml", ".json"}:
        policies = collect(read_file(named, sys.stdin)).policies
        if len(policies) != 1:
            raise BadInput(f"--policy {named}: holds {len(policies)} SlicingPolicies; give a file with one")
        snapshot.policies |= policies
        (named,) = policies
    elif named not in {BUILT_IN, *snapshot.policies}:
        there = ", ".join(sorted({BUILT_IN, *snapshot.policies}))
        raise BadInput(
            f"--policy {named!r}: there is no SlicingPolicy of this name; name a file, or one of: {there}"
        )
    for labels in snapshot.namespaces.values():
        labels[keys.POLICY] = named


def explain(options: Namespace) -> int:
    """Prints why, object by object; exits 1 when one would be refused."""
    items = [item for document in manifests(options) for item in document.objects()]
    snapshot, kinds, space = cluster(options, _JOINED), templates(options), namespace(options)
    if options.policy is not None:
        _use_policy(snapshot, options.policy)
    known = world(snapshot)
    found = list(reviewed(items, space, known, kinds))
    _tell_unknown_namespaces([each for _, each in found], snapshot)
    _tell_missing_queues([each for _, each in found], options, snapshot)
    _tell_misspellings(items, kinds)
    Listing.of(
        [reference(kind_of(item), identity(item, space)[3]) for item, _ in found],
        [explaining.document(item, each.namespace, known, each.outcome) for item, each in found],
        lambda _: _explained(found, known),
    ).print(options.output)
    return int(any(each.refusal for _, each in found))
