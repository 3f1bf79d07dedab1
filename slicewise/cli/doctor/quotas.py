"""Plans, what they want against what stands, and what slipped through (`slicewise drift`, summed up)."""

from collections.abc import Iterator
from typing import Final

from queue_sync.planning import drift as drifting
from queue_sync.planning.capacity import feeds
from queue_sync.planning.changes import by_object, kind_and_name
from queue_sync.planning.kueue.local_queues import QueueSelectors
from queue_sync.planning.kueue.objects import nominal
from queue_sync.planning.ownership import ours
from queue_sync.planning.plan_diff import unwritten
from slicewise.api import keys
from slicewise.api.policy import PLAN_KIND, QuotaPlan
from slicewise.cli.doctor.cluster import Patient, named
from slicewise.cli.doctor.findings import Finding, parted
from slicewise.inventory.plan_remarks import remarks
from slicewise.kube.object_types import ENGINE_OBJECTS

_MOST_NAMED: Final = 3
# Many objects may have the same trouble; of these one is named and the others are counted.
_SUMMED: Final = (
    "LeftOverQuota",
    "NameNotOffered",
    "QuotaWithoutNodes",
    "UseAboveQuota",
    "OnOtherEnginesNodes",
    "WorkWithoutDecision",
    "DecisionNotFollowed",
    "QueueBypassed",
    "ClaimBesideQuota",
)


def check(patient: Patient) -> Iterator[Finding]:
    """Every plan, and the quota as it stands."""
    refused = set()
    for problem in patient.desired.problems:
        refused |= {problem.plan} if problem.refused else set()
        code = "PlanRefused" if problem.refused else "PlanProblem"
        sentence, fix = parted(problem.sentence)
        yield Finding(code, PLAN_KIND, problem.plan, sentence, fix)
    for name, plan in sorted(patient.snapshot.plans.items()):
        if name not in refused:
            yield from _plan(patient, plan)
    if patient.saw("Node"):
        overlaps = list(_overlaps(patient))
        yield from overlaps
        yield from _drift(patient, {each.name for each in overlaps})


def _plan(patient: Patient, plan: QuotaPlan) -> Iterator[Finding]:
    if patient.saw("Node") and not feeds(plan.spec, patient.pools):
        fix = "Correct spec.pools; `slicewise pools` lists the names."
        yield Finding(
            "PlanWithoutPools", PLAN_KIND, plan.name, "no pool feeds it, so its queues get nothing", fix
        )
        return
    for remark in remarks(plan, patient.pools) if patient.saw("Node") else ():
        sentence, fix = parted(remark)
        yield Finding("PlanPartIdle", PLAN_KIND, plan.name, sentence, fix)
    yield from _unreached(patient, plan)
    yield from _empty(patient, plan)
    for sentence in unwritten(plan):
        fix = "To have it written, set suspend: false and mode: write."
        yield Finding("PlanNotWritten", PLAN_KIND, plan.name, sentence, fix)
        return
    changes = [change for change in by_object(patient.desired.changes) if change.plan == plan.name]
    objects = ENGINE_OBJECTS[plan.spec.engine]
    kinds = [each.name for each in (*objects.written, *objects.use)]
    if not changes or not patient.forbidden.isdisjoint(kinds):
        return
    if patient.saw(*kinds):
        listed = ", ".join(
            f"{change.verb} {' '.join(kind_and_name(change.document))}" for change in changes[:3]
        )
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        sentence = f"its queues do not say what it wants: {listed}{more}"
        fix = "`slicewise diff` shows the difference; if it stays, look at the controller and the plan's status."
        yield Finding("QuotaNotWritten", PLAN_KIND, plan.name, sentence, fix)


def _unreached(patient: Patient, plan: QuotaPlan) -> Iterator[Finding]:
    """Queues that no namespace reaches, though the plan says which should."""
    if not patient.saw("Namespace") or "namespaces" in plan.spec.engine.ignores:
        return
    selectors = QueueSelectors(plan)
    reached = {
        queue.name
        for namespace, labels in patient.cluster.namespaces.items()
        for queue in selectors.matching(namespace, labels)
    }
    idle = [
        queue.name for queue in plan.spec.queues if queue.namespaces is not None and queue.name not in reached
    ]
    if idle:
        more = f" and {len(idle) - _MOST_NAMED} more" if len(idle) > _MOST_NAMED else ""
        listed = ", ".join(idle[:_MOST_NAMED])
        sentence = (
            f"no namespace has the labels that namespaces of {listed}{more} select, so nothing gets there"
        )
        fix = "Label a namespace so, or correct spec.queues."
        yield Finding("PlanPartIdle", PLAN_KIND, plan.name, sentence, fix)


def _empty(patient: Patient, plan: QuotaPlan) -> Iterator[Finding]:
    """Queues whose share rounds to no unit of any pool, while others of the plan get some."""
    pools = [feed.pool for feed in feeds(plan.spec, patient.pools)]
    got = {
        queue
        for pool in pools
        for resource, units in patient.desired.assigned.get(pool, {}).items()
        for queue, number in units.items()
        if number and keys.is_device(resource)
    }
    idle = [
        queue.name
        for queue in plan.spec.queues
        if queue.name not in got and any(queue.share_of(pool) for pool in pools)
    ]
    if got and idle:
        more = f" and {len(idle) - _MOST_NAMED} more" if len(idle) > _MOST_NAMED else ""
        sentence = (
            f"there are too few devices for the share of {', '.join(idle[:_MOST_NAMED])}{more}, which has none of any "
            "pool"
        )
        fix = "Raise the share, or have the queues borrow from each other (spec.cohort)."
        yield Finding("QueueGetsNothing", PLAN_KIND, plan.name, sentence, fix)


def _overlaps(patient: Patient) -> Iterator[Finding]:
    """Flavors of an admin's own over nodes that a plan feeds from: their GPUs are promised twice."""
    promised: dict[str, str] = {}
    for queue in patient.cluster.existing.cluster_queues.values():
        for (flavor_name, resource), units in nominal(queue).items():
            if units and resource.startswith(keys.VENDOR):
                promised.setdefault(flavor_name, named(queue))
    fed = set(patient.desired.assigned)
    for name, flavor in sorted(patient.cluster.existing.flavors.items()):
        labels = (flavor.get("spec") or {}).get("nodeLabels") or {}
        if name not in promised or ours(flavor) or keys.POOL in labels:
            continue
        shared = [
            pool.name
            for pool in patient.pools
            if pool.name in fed and any(labels.items() <= member.labels.items() for member in pool.members)
        ]
        if shared:
            sentence = (
                f"it matches nodes of {', '.join(shared)}, which a plan hands out too: ClusterQueue {promised[name]} "
                "promises them a second time"
            )
            fix = "Set its nominalQuota to 0, wait until no Workload uses it, and take it out of the queue."
            yield Finding("FlavorsOverlap", "ResourceFlavor", name, sentence, fix)


def _drift(patient: Patient, overlapping: set[str]) -> Iterator[Finding]:
    found = [
        each
        for each in drifting.drift(patient.cluster)
        if each.code != "QuotaWithoutNodes" or each.name not in overlapping
    ]
    for each in found:
        if each.code not in _SUMMED:
            sentence, fix = parted(each.sentence)
            yield Finding(each.code, each.kind, each.name, sentence, fix, each.namespace, each.group)
    for code in _SUMMED:
        alike = [each for each in found if each.code == code]
        if alike:
            first = alike[0]
            sentence, fix = parted(first.sentence)
            more = f" (and {len(alike) - 1} more)" if len(alike) > 1 else ""
            fix = f"{fix} `slicewise drift` lists all." if more else fix
            yield Finding(code, first.kind, first.name, sentence + more, fix, first.namespace, first.group)
