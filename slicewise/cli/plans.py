"""`slicewise plan`, `diff` and `drift`: what the controller wants, against what stands, and what slipped through."""

import difflib
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from admission.workloads.decoder import Templates
from queue_sync.planning import desired as planning
from queue_sync.planning import drift as drifting
from queue_sync.planning.bypass import named_for
from queue_sync.planning.capacity import feeds, text
from queue_sync.planning.changes import Change, ChangeSet, by_object
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.engines import engine_of
from queue_sync.planning.findings import Finding
from queue_sync.planning.plan_diff import unwritten
from slicewise.api import keys
from slicewise.api.policy import QuotaPlan
from slicewise.cli.inputs import (
    READ_WORK,
    changed_argument,
    cluster,
    cluster_arguments,
    of_namespace,
    read_quota,
)
from slicewise.cli.output import Listing, lines, output_argument, reference, table, to_yaml
from slicewise.cli.selection import (
    NO_NAMESPACES,
    chosen_namespace,
    label_argument,
    labels_of,
    namespace_arguments,
    require_namespace,
)
from slicewise.cli.watching import View, unread_nodes, watch, watch_argument
from slicewise.cli.webhook_inputs import kinds_argument, templates
from slicewise.inventory.declared_pools import with_declared
from slicewise.inventory.plan_selection import takes
from slicewise.inventory.pools import Pool
from slicewise.kube.object_types import LOCAL_QUEUE, kind_of
from slicewise.kube.snapshot import Object, Snapshot, check_shape

_WIDE: Final = ("PLAN", "COHORT", "SOURCE")
LIMITS: Final = {"borrowingLimit": "borrows", "lendingLimit": "lends", "capability": "may use"}
"""What a queue does within each limit. Without Kueue's two, in a cohort, it does so without limit."""
_Sources = Mapping[str, Sequence[str]]
"""Where the facts of a pool's nodes come from, by pool."""
BLIND = (
    "there is no node at all, which is never taken for a zero, so nothing is wanted; "
    "give the nodes too (kubectl get nodes -o yaml)"
)


def plan_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `plan`."""
    changed_argument(parser)
    cluster_arguments(parser)
    _selection_arguments(parser)
    output_argument(parser)
    watch_argument(parser, "print it again whenever it changes")


def diff_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `diff`."""
    changed_argument(parser)
    cluster_arguments(parser)
    _selection_arguments(parser)
    output_argument(parser, help_text="; table is the difference, as diff prints it")


def _selection_arguments(parser: ArgumentParser) -> None:
    namespace_arguments(parser, "LocalQueues")
    label_argument(parser, "objects")


def drift_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of `drift`."""
    cluster_arguments(parser)
    kinds_argument(parser)
    namespace_arguments(parser, "what is in namespaces, and only that of what there is,")
    label_argument(parser, "objects")
    output_argument(parser)


def read_cluster(options: Namespace, *collections: tuple[tuple[str, str, str], ...]) -> Snapshot:
    """Reads the cluster; objects that are kept as they came must have the shape that the API server gives them."""
    snapshot = cluster(options, *collections)
    check_shapes(snapshot)
    return snapshot


def check_shapes(snapshot: Snapshot) -> None:
    """Raises BadInput for an object that is kept as it came, and has another shape than the API server gives it."""
    for item in (item for items in snapshot.others.values() for item in items):
        check_shape(item, f"{item['kind']} {_name(item)}")


def _desired(options: Namespace, snapshot: Snapshot) -> tuple[ChangeSet, list[str], _Sources]:
    """Returns what is wanted, sentences about what is wrong with plans, and where the facts of pools come from."""
    check_shapes(snapshot)
    require_namespace(chosen_namespace(options), snapshot.namespaces)
    known = ClusterState.from_snapshot(snapshot)
    found = planning.wanted(known)
    blind = [f"warning: {BLIND}"] if snapshot.plans and not snapshot.nodes else []
    said = [f"{'refused' if each.refused else 'warning'}: {each.sentence}" for each in found.problems]
    refused = {each.plan for each in found.problems if each.refused}
    pools = with_declared(known.pools, snapshot.plans.values())
    said += [
        f"warning: QuotaPlan {name} matches no pool, so its queues get nothing; correct spec.pools: `slicewise pools` "
        "lists the names"
        for name, each in sorted(snapshot.plans.items())
        if snapshot.nodes and name not in refused and not _matches(each, pools)
    ]
    said += [
        f"note: {words}"
        for name, each in sorted(snapshot.plans.items())
        if name not in refused
        for words in unwritten(each)
    ]
    words = [*blind, *dict.fromkeys(said)]  # of two plans in each other's way both say the same
    return found, words, {pool.name: pool.sources for pool in known.pools}


def _status(found: ChangeSet) -> int:
    """Returns 2 when a plan is refused, as bad input is."""
    return 2 if any(problem.refused for problem in found.problems) else 0


def plan(options: Namespace) -> int:
    """Prints every object that the controller wants."""
    if options.watch:
        watch(options, lambda snapshot: _view(options, snapshot)[0], read_quota(options))
    view, found = _view(options, cluster(options, read_quota(options)))
    view.print()
    return _status(found)


def _view(options: Namespace, snapshot: Snapshot) -> tuple[View, ChangeSet]:
    found, sentences, sources = _desired(options, snapshot)
    objects = [each for each in found.objects if _is_selected(options, each)]
    write = partial(_table, objects, sources, _nothing(snapshot, found))
    return View(Listing.of_objects(objects, write).formatted(options.output), sentences), found


def _is_selected(options: Namespace, item: Object) -> bool:
    """True for what `-n` and `-l` leave; as for kubectl, what is in no namespace is in all."""
    space = chosen_namespace(options)
    inside = item["metadata"].get("namespace", space) == space
    return (inside or not space) and bool(options.selector.matches(labels_of(item)))


def _nothing(snapshot: Snapshot, found: ChangeSet) -> str:
    """Returns why there is nothing to show."""
    if found.objects:
        return "nothing is as selected"
    return "none of the QuotaPlans can be followed" if snapshot.plans else "no QuotaPlan was read"


def _table(objects: Sequence[Object], sources: _Sources, none: str, wide: bool) -> str:  # noqa: FBT001  as a Listing has it
    if not objects:
        return f"No plan wants anything: {none}."
    rows = [
        [item["kind"], _name(item), words, *(_more(item, sources) if wide else ())]
        for item in objects
        for words in _words(item, wide=wide)
    ]
    return table(["KIND", "NAME", "HOLDS", *(_WIDE if wide else ())], rows)


def _more(item: Object, sources: _Sources) -> Iterator[str]:
    """Yields the columns of `_WIDE`."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    yield (metadata.get("annotations") or {}).get(keys.PLAN, "-")
    yield spec.get("cohortName") or spec.get("parent") or "-"
    pool = (spec.get("nodeLabels") or {}).get(keys.POOL, "")
    yield ", ".join(sources.get(pool, ())) or "-"


def _name(item: Object) -> str:
    metadata = item.get("metadata") or {}
    name = str(metadata.get("name", "(unnamed)"))
    return f"{metadata['namespace']}/{name}" if metadata.get("namespace") else name


def _words(item: Object, *, wide: bool) -> Iterable[str]:
    """Yields what an object holds, a line each; with all limits where it is to be wide."""
    if (engine := engine_of(item)) is not None:
        held: dict[str, list[str]] = {flavor: [] for flavor, _ in engine.numbers(item)}
        for (flavor, resource), units in engine.numbers(item).items():
            limits = engine.limits(item, flavor, resource) if wide else {}
            words = ", ".join(f"{LIMITS[field]} up to {most}" for field, most in limits.items())
            if units:
                held[flavor].append(f"{resource}={text(resource, units)}{words and f' ({words})'}")
        for flavor, quotas in held.items():
            yield (f"{flavor}: " if flavor else "") + (", ".join(quotas) or "nothing")
        if not held:
            yield "nothing"
        return
    spec: dict[str, Any] = item.get("spec") or {}
    if kind_of(item) == LOCAL_QUEUE:
        yield f"to ClusterQueue {spec.get('clusterQueue')}"
    else:
        yield "nodes with " + ", ".join(f"{k}={v}" for k, v in (spec.get("nodeLabels") or {}).items())


def diff(options: Namespace) -> int:
    """Prints wanted against what stands, as `kubectl diff` does; exits 1 when they differ."""
    found, sentences, _ = _desired(options, cluster(options, read_quota(options)))
    changes = [each for each in by_object(found.changes) if _is_selected(options, each.document)]
    names = [reference(kind_of(each.document), each.document["metadata"]["name"]) for each in changes]
    documents = [{"change": each.verb, "before": each.before, "after": each.after} for each in changes]
    listing = Listing.of(names, documents, lambda _: "\n".join(map(_difference, changes)))
    View(listing.formatted(options.output), sentences).print()
    return _status(found) or int(bool(changes))


def _difference(change: Change) -> str:
    title = f"{change.document['kind']}/{_name(change.document)}"
    found = difflib.unified_diff(
        to_yaml([change.before]).splitlines() if change.before else [],
        to_yaml([change.after]).splitlines() if change.after else [],
        f"standing/{title}",
        f"wanted/{title}",
        lineterm="",
    )
    return lines(found)


def _matches(plan: QuotaPlan, pools: Sequence[Pool]) -> bool:
    """Whether a plan has a pool: one that is there, or one that it declares itself, whatever its mode."""
    return any(takes(plan.spec, pool) for pool in pools) or bool(feeds(plan.spec, pools))


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
    space = chosen_namespace(options)
    snapshot = read_cluster(
        options, read_quota(options), of_namespace(READ_WORK, space) if space else READ_WORK
    )
    require_namespace(space, snapshot.namespaces)
    labels = {
        (
            item["kind"],
            (metadata := item["metadata"]).get("namespace") or "",
            metadata.get("name"),
        ): labels_of(item)
        for items in snapshot.others.values()
        for item in items
    }
    for pod in snapshot.of("Pod"):  # what owns it need not be in the snapshot
        labels.setdefault(named_for(pod), labels_of(pod))
    findings = [
        each
        for each in slipped_through(snapshot, ClusterState.from_snapshot(snapshot), templates(options))
        if (not space or each.namespace == space)
        and options.selector.matches(labels.get((each.kind, each.namespace, each.name), {}))
    ]
    names = [_located(each, space) for each in findings]
    documents = [
        {"code": f.code, "kind": f.kind, "namespace": f.namespace, "name": f.name, "sentence": f.sentence}
        for f in findings
    ]
    View(
        Listing.of(names, documents, partial(_drift_text, findings)).formatted(options.output),
        (*unread_nodes(options, snapshot), *(() if snapshot.namespaces else (f"warning: {NO_NAMESPACES}",))),
    ).print()
    return int(bool(findings))


def _located(finding: Finding, space: str) -> str:
    """Returns what `kubectl get` takes: the object, and where it is unless all are there."""
    where = f" -n {finding.namespace}" if finding.namespace and finding.namespace != space else ""
    return reference(finding.kind, finding.name, finding.group) + where


def _drift_text(findings: Sequence[Finding], wide: bool) -> str:  # noqa: FBT001  as a Listing has it
    if not findings:
        return "Nothing slipped through."
    if wide:
        rows = [(each.code, each.kind, each.namespace or "-", each.name, each.sentence) for each in findings]
        return table(("CODE", "KIND", "NAMESPACE", "NAME", "WHAT"), rows)
    return lines(each.sentence for each in findings)
