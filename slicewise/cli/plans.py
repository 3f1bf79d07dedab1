"""`slicewise plan`, `diff` and `drift`: what the controller wants, against what stands, and what slipped through."""

import difflib
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from admission.workloads.decoder import Templates
from queue_sync.planning import desired as planning
from queue_sync.planning import drift as drifting
from queue_sync.planning.changes import ChangeSet
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.findings import Finding
from slicewise.cli.inputs import (
    READ_QUEUES,
    READ_WORK,
    changed_argument,
    cluster,
    cluster_arguments,
    of_namespace,
)
from slicewise.cli.output import table, tell, to_json, to_yaml
from slicewise.cli.webhook_inputs import kinds_argument, templates
from slicewise.kube.snapshot import Object, Snapshot, check_shape

TABLE_JSON_YAML = ("table", "json", "yaml")
BLIND = (
    "there is no node at all, which is never taken for a zero, so nothing is wanted; "
    "give the nodes too (kubectl get nodes -o yaml)"
)


def plan_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `plan`."""
    changed_argument(parser)
    cluster_arguments(parser)
    parser.add_argument("-o", "--output", choices=TABLE_JSON_YAML, default="table")


def diff_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `diff`."""
    changed_argument(parser)
    cluster_arguments(parser)


def drift_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `drift`."""
    cluster_arguments(parser)
    kinds_argument(parser)
    parser.add_argument(
        "-n",
        "--namespace",
        help="look at the work of this namespace alone, and read no other's (default: all of them)",
    )
    parser.add_argument("-o", "--output", choices=TABLE_JSON_YAML, default="table")


def read_cluster(options: Namespace, *collections: tuple[tuple[str, str, str], ...]) -> Snapshot:
    """Reads the cluster; objects that are kept as they came must have the shape that the API server gives them."""
    snapshot = cluster(options, *collections)
    for item in (item for items in snapshot.others.values() for item in items):
        check_shape(item, f"{item['kind']} {_name(item)}")
    return snapshot


def _desired(options: Namespace) -> ChangeSet:
    snapshot = read_cluster(options, READ_QUEUES)
    if snapshot.plans and not snapshot.nodes:
        tell(f"warning: {BLIND}")
    return planning.wanted(ClusterState.from_snapshot(snapshot), blind=not snapshot.nodes)


def _told(found: ChangeSet) -> int:
    """Says what is wrong with plans; returns 2 when one is refused, as bad input is."""
    said = [f"{'refused' if each.refused else 'warning'}: {each.sentence}" for each in found.problems]
    for sentence in dict.fromkeys(said):  # of two plans in each other's way both say the same
        tell(sentence)
    return 2 if any(problem.refused for problem in found.problems) else 0


def plan(options: Namespace) -> int:
    """Prints every object that the controller wants."""
    found = _desired(options)
    if options.output == "json":
        print(to_json({"apiVersion": "v1", "kind": "List", "items": list(found.objects)}))
    elif options.output == "yaml":
        print(to_yaml(found.objects), end="")
    else:
        print(_table(found))
    return _told(found)


def _table(found: ChangeSet) -> str:
    if not found.objects:
        return "No plan wants anything: there is no QuotaPlan that can be followed."
    rows = [(item["kind"], _name(item), words) for item in found.objects for words in _words(item)]
    return table(("KIND", "NAME", "HOLDS"), rows)


def _name(item: Object) -> str:
    metadata = item.get("metadata") or {}
    name = str(metadata.get("name", "(unnamed)"))
    return f"{metadata['namespace']}/{name}" if metadata.get("namespace") else name


def _words(item: Object) -> Iterable[str]:
    spec: dict[str, Any] = item.get("spec") or {}
    match item["kind"]:
        case "ResourceFlavor":
            labels = ", ".join(f"{k}={v}" for k, v in (spec.get("nodeLabels") or {}).items())
            yield f"nodes with {labels}"
        case "ClusterQueue":
            for group in spec.get("resourceGroups") or ():
                for flavor in group["flavors"]:
                    quotas = ", ".join(
                        f"{r['name']}={r['nominalQuota']}"
                        for r in flavor["resources"]
                        if str(r["nominalQuota"]) != "0"
                    )
                    yield f"{flavor['name']}: {quotas or 'nothing'}"
        case "LocalQueue":
            yield f"to ClusterQueue {spec.get('clusterQueue')}"
        case _:
            yield ", ".join(f"{k}={v}" for k, v in (spec.get("deserved") or {}).items()) or "nothing"


def diff(options: Namespace) -> int:
    """Prints wanted against what stands, as `kubectl diff` does; exits 1 when they differ."""
    found = _desired(options)
    for change in found.changes:
        title = f"{change.document['kind']}/{_name(change.document)}"
        lines = difflib.unified_diff(
            to_yaml([change.before]).splitlines() if change.before else [],
            to_yaml([change.after]).splitlines() if change.after else [],
            f"standing/{title}",
            f"wanted/{title}",
            lineterm="",
        )
        print("\n".join(lines))
    return _told(found) or int(bool(found.changes))


def _parents(snapshot: Snapshot, kinds: Templates) -> Iterator[drifting.Parent]:
    """Workloads of other kinds than Pods that nobody else owns, and the pods that they make."""
    for each, items in snapshot.others.items():
        kind, _, group = each.partition(".")
        reader = None if kind in {"Pod", "PodGroup"} else kinds.reader(group, kind)
        for item in items if reader else ():
            owners = (item.get("metadata") or {}).get("ownerReferences") or ()
            if reader and not any(owner.get("controller") for owner in owners):
                specs = [msgspec.to_builtins(template.spec) for template in reader.templates(item)]
                yield drifting.Parent(kind, item, specs)


def slipped_through(snapshot: Snapshot, known: ClusterState, kinds: Templates) -> list[Finding]:
    """Returns what slipped through in a cluster, in a stable order."""
    return drifting.drift(known, _parents(snapshot, kinds))


def drift(options: Namespace) -> int:
    """Prints what slipped through; exits 1 when there is any."""
    space = options.namespace
    snapshot = read_cluster(options, READ_QUEUES, of_namespace(READ_WORK, space) if space else READ_WORK)
    findings = slipped_through(snapshot, ClusterState.from_snapshot(snapshot), templates(options))
    documents = [
        {"code": f.code, "kind": f.kind, "namespace": f.namespace, "name": f.name, "sentence": f.sentence}
        for f in findings
        if not space or f.namespace == space
    ]
    if options.output == "json":
        print(to_json(documents))
    elif options.output == "yaml":
        print(to_yaml([documents]), end="")
    elif documents:
        print("\n".join(str(each["sentence"]) for each in documents))
    else:
        print("Nothing slipped through.")
    return int(bool(documents))
