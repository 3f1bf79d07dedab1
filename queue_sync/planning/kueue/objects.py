"""The Kueue objects that a plan wants: ResourceFlavors, ClusterQueues and LocalQueues.

All GPU names and covered resources of a plan are in one resource group, because Kueue gives a podset one flavor for
all that it asks of a group. Flavors come in the order of the memory of their unit, since Kueue tries them in order:
so the smallest that fits goes first. Every flavor lists every resource, with 0 where its pool lacks it.

Failure mode: `RefusalError`, one sentence; the object is then left as it stands.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from typing import Any, Final

from queue_sync.planning import apportionment as apportion
from queue_sync.planning.capacity import Feed, text
from queue_sync.planning.observed import Object, annotation, copied
from queue_sync.planning.ownership import Owned, RefusalError, metadata, ours
from slicewise.api import keys
from slicewise.api.kueue_fields import KueueFields
from slicewise.api.policy import LabelSelector, PlanQueue, PlanSpec, QuotaPlan
from slicewise.api.quantities import above, scaled
from slicewise.kube.object_types import AUTOMATED

API_VERSION: Final = "kueue.x-k8s.io/v1beta2"
FLAVOR_KIND: Final = "ResourceFlavor"
CLUSTER_QUEUE_KIND: Final = "ClusterQueue"
LOCAL_QUEUE_KIND: Final = "LocalQueue"
COHORT_KIND: Final = "Cohort"
_MOST_TAINTS: Final = 8

FURTHER: Final = frozenset(
    {
        "preemption",
        "fairSharing",
        "admissionChecksStrategy",
        "flavorFungibility",
        "queueingStrategy",
        "stopPolicy",
    }
)
"""Fields of a ClusterQueue's spec that a plan may say beside quota."""
_Bound = tuple[str, Callable[[int], int | None]]
"""A field of a quota, and what it says for a number of units."""


def decided_elsewhere(queue: Object) -> tuple[str, str] | None:
    """Who else decides the quota of a ClusterQueue, as a code and a sentence; None when the plan does."""
    name, status = queue["metadata"]["name"], queue.get("status", {})
    if status.get("effectiveQuotas"):
        sentence = (
            f"ClusterQueue {name} has status.effectiveQuotas: Kueue's own orchestration decides its quota; "
            "take it out of the plan, or out of the DynamicQuotaOrchestrator"
        )
        return "OrchestratedElsewhere", sentence
    if any(each["type"] == AUTOMATED for each in status.get("conditions", ())):
        sentence = (
            f"ClusterQueue {name} has the condition {AUTOMATED}: MultiKueue gives it the quota of its workers; "
            "take it out of the plan, or set quotaManagement: Manual in its MultiKueueConfig"
        )
        return "OrchestratedElsewhere", sentence
    if annotation(queue, keys.MANAGE) == "false":
        sentence = (
            f"ClusterQueue {name} has the annotation {keys.MANAGE}=false, so its quota is left as it is; "
            "remove the annotation, or take the queue out of the plan"
        )
        return "LeftToOthers", sentence
    return None


# --- ResourceFlavors --------------------------------------------------------------------------------------


def flavor(plan: QuotaPlan, feed: Feed) -> Object:
    """The ResourceFlavor of one pool, as it is made."""
    spec: Object = {"nodeLabels": {keys.POOL: feed.pool}}
    taints = [
        {"key": taint.key, "effect": taint.effect, **({"value": taint.value} if taint.value else {})}
        for taint in feed.taints
    ]
    if taints:
        # (key, effect) must be unique, and a flavor takes eight at most (kueue.md section 1.2).
        unique = {(taint["key"], taint["effect"]): taint for taint in taints}
        spec["nodeTaints"] = [unique[key] for key in sorted(unique)][:_MOST_TAINTS]
    spec["tolerations"] = [dict(keys.TOLERATION)]
    if topology := topology_of(plan.spec, feed.pool):
        spec["topologyName"] = topology
    return {
        "apiVersion": API_VERSION,
        "kind": FLAVOR_KIND,
        "metadata": metadata(plan.name, feed.pool),
        "spec": spec,
    }


def topology_of(spec: PlanSpec, pool: str) -> str:
    """The topologyName that the plan gives a pool's flavor; "" when none."""
    return next((name for glob, name in spec.topology.items() if fnmatchcase(pool, glob)), "")


def merge_flavor(standing: Object, wanted: Object, *, observed: bool) -> Object | None:
    """The flavor with what is ours put right; None when nothing differs.

    Labels, annotations and tolerations of others stay. Without nodes (`observed` false) the taints stay as they were.

    Raises:
        RefusalError: the flavor is not ours, or would need another topology.
    """
    name = standing["metadata"]["name"]
    if not ours(standing):
        raise RefusalError(
            f"ResourceFlavor {name} stands already and was not made by Slicewise; "
            f"label it {keys.MANAGED}=true to hand it over, or rename it"
        )
    new = copied(standing)
    spec, want = new["spec"], wanted["spec"]
    topology = want.get("topologyName")
    if topology and spec.get("topologyName") not in {None, topology}:
        raise RefusalError(
            f"ResourceFlavor {name} has topologyName {spec['topologyName']}, the plan says {topology}, and Kueue "
            "never changes it; delete the flavor when nothing uses it, or correct the plan"
        )
    if not spec.get("topologyName"):
        # Labels and tolerations of a flavor with a topology are immutable up to Kueue 0.19 (kueue.md section 1.2).
        spec["nodeLabels"] = want["nodeLabels"]
        if not any(_tolerates(each) for each in spec.get("tolerations") or ()):
            spec["tolerations"] = [*(spec.get("tolerations") or ()), *want["tolerations"]]
        if topology:
            spec["topologyName"] = topology
    if observed:
        if "nodeTaints" in want:
            spec["nodeTaints"] = want["nodeTaints"]
        else:
            spec.pop("nodeTaints", None)
    new["metadata"].setdefault("annotations", {})[keys.PLAN] = wanted["metadata"]["annotations"][keys.PLAN]
    return new if new != standing else None


def _tolerates(toleration: Mapping[str, Any]) -> bool:
    key, operator, effect = (toleration.get(each) or "" for each in ("key", "operator", "effect"))
    return keys.tolerates(key, operator, effect)


# --- ClusterQueues and LocalQueues ------------------------------------------------------------------------


def cluster_queue(
    plan: QuotaPlan,
    queue: PlanQueue,
    feeds: Iterable[Feed],
    parts: Mapping[str, Mapping[str, Mapping[str, int]]],
) -> Object:
    """The ClusterQueue of one queue, as it is made.

    Args:
        plan: the plan.
        queue: one of its queues.
        feeds: what its pools give, in the order in which Kueue is to try them.
        parts: pool -> resource -> queue -> units.
    """
    spec: Object = {}
    if plan.spec.cohort:
        spec["cohortName"] = plan.spec.cohort
    spec["namespaceSelector"] = selector(queue.namespaces)
    listed = list(feeds)
    names = sorted({name for feed in listed for name in feed.quota if name not in plan.spec.cover})
    names += [name for name in plan.spec.cover if listed]
    bounds = [(name, _bounds(queue, covered=name in plan.spec.cover)) for name in names]
    flavors = []
    for feed in listed:
        split, own = parts[feed.pool], queue.name
        resources = [_quota(name, split.get(name, {}).get(own, 0), limits) for name, limits in bounds]
        flavors.append({"name": feed.pool, "resources": resources})
    spec["resourceGroups"] = [{"coveredResources": names, "flavors": flavors}] if flavors else []
    spec |= further_fields(plan.spec.kueue_of(queue), [feed.pool for feed in listed])
    document: Object = {
        "apiVersion": API_VERSION,
        "kind": CLUSTER_QUEUE_KIND,
        "metadata": metadata(plan.name, queue.name),
    }
    mine = Owned(frozenset(feed.pool for feed in listed), frozenset(names), frozenset(names), leaves(spec))
    document["metadata"]["annotations"][keys.OWNED] = mine.text()
    return {**document, "spec": spec}


def leaves(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a spec says in `FURTHER`, each value by its path: `{"preemption.withinClusterQueue": "Never"}`."""
    return dict(_leaves({name: value for name, value in spec.items() if name in FURTHER}))


def _leaves(fields: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in sorted(fields.items()):
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def nominal(queue: Object) -> dict[tuple[str, str], int]:
    """The nominal quota of a ClusterQueue in units, by (flavor, resource)."""
    found = {}
    for group in queue["spec"].get("resourceGroups") or ():
        for flavor in group.get("flavors") or ():
            for quota in flavor.get("resources") or ():
                name, quantity = quota["name"], quota.get("nominalQuota", 0)
                found[(flavor["name"], name)] = (
                    _units(name, quantity) if isinstance(quantity, str) else int(scaled(name, quantity))
                )
    return found


def lowered(queue: Object, numbers: Mapping[tuple[str, str], int]) -> Object:
    """The ClusterQueue with these nominal quotas, each below what it has, and with lending limits no higher."""
    new = copied(queue)
    for group in new["spec"]["resourceGroups"]:
        for each in group["flavors"]:
            for quota in each["resources"]:
                units = numbers.get((each["name"], quota["name"]))
                if units is not None:
                    quota["nominalQuota"] = text(quota["name"], units)
                    if "lendingLimit" in quota and above(quota["lendingLimit"], quota["nominalQuota"]):
                        quota["lendingLimit"] = quota["nominalQuota"]
    return new


def withhold(before: Object | None, after: Object, more: Mapping[tuple[str, str], int], /) -> Object:
    """A ClusterQueue as it should stand, but with only so much more of these numbers; see `QueueEngine`."""
    has = nominal(before) if before is not None else {}
    return lowered(after, {number: has.get(number, 0) + units for number, units in more.items()})


@lru_cache(maxsize=4096)
def _units(resource: str, quantity: str) -> int:
    """The same few numbers stand in hundreds of queues, and are read at every look."""
    return int(scaled(resource, quantity))


def limits(queue: Object, flavor: str, resource: str, /) -> dict[str, str]:
    """What bounds borrowing and lending of one number of a ClusterQueue, where the queue says it."""
    return {
        field: str(quota[field])
        for group in queue["spec"].get("resourceGroups") or ()
        for each in group["flavors"]
        for quota in each["resources"]
        for field in ("borrowingLimit", "lendingLimit")
        if (each["name"], quota["name"]) == (flavor, resource) and quota.get(field) is not None
    }


def _bounds(queue: PlanQueue, *, covered: bool) -> list[_Bound]:
    """What bounds the numbers of a resource that a queue has: mostly nothing."""
    bounds = (
        ("borrowingLimit", apportion.borrowing, queue.borrowing),
        ("lendingLimit", apportion.lending, queue.lending),
    )
    return [(field, partial(of, limit, covered=covered)) for field, of, limit in bounds if limit is not None]


def _quota(name: str, units: int, bounds: Iterable[_Bound]) -> Object:
    quota: Object = {"name": name, "nominalQuota": text(name, units)}
    for field, of in bounds:
        if (limit := of(units)) is not None:
            quota[field] = text(name, limit)
    return quota


def selector(namespaces: LabelSelector | None) -> Object:
    """A plan's selector as Kubernetes writes it; without one every namespace may use the queue."""
    if namespaces is None:
        return {}
    return namespaces.model_dump(by_alias=True, exclude_defaults=True, mode="json")


def further_fields(fields: KueueFields, pools: Sequence[str]) -> Object:
    """What a plan says of a ClusterQueue beside quota, as Kueue writes it; only the fields that it gives."""
    said = fields.model_dump(by_alias=True, exclude_unset=True, exclude_none=True, mode="json")
    said.pop("localQueueName", None)
    if "fairSharing" in said:
        said["fairSharing"] = {"weight": str(said["fairSharing"].get("weight", 1))}
    checks = said.pop("admissionChecks", None)
    if checks is not None:
        listed = [_check(check, pools) for check in checks]
        said["admissionChecksStrategy"] = {"admissionChecks": [each for each in listed if each]}
    return dict(said)


def _check(check: Object, pools: Sequence[str]) -> Object:
    """One admission check; Kueue refuses flavors that the queue does not have, so one for none of them is left out."""
    globs = check.get("onFlavors")
    if not globs:
        return {"name": check["name"]}
    flavors = [pool for pool in pools if any(fnmatchcase(pool, glob) for glob in globs)]
    return {"name": check["name"], "onFlavors": flavors} if flavors else {}


def local_queue_name(plan: QuotaPlan, queue: PlanQueue) -> str:
    """What a queue's LocalQueues are called."""
    return plan.spec.kueue_of(queue).local_queue_name or queue.name


def local_queue(plan: QuotaPlan, queue: PlanQueue, namespace: str) -> Object:
    """The LocalQueue of one queue in one namespace."""
    return {
        "apiVersion": API_VERSION,
        "kind": LOCAL_QUEUE_KIND,
        "metadata": metadata(plan.name, local_queue_name(plan, queue), namespace),
        "spec": {"clusterQueue": queue.name},
    }
