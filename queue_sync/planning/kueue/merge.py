"""One ClusterQueue as it stands, with what is ours in it put right: read, modify, write.

Kueue's `resourceGroups` is one atomic value, so nobody can own a single number in it. What is ours is therefore
written down on the queue (annotation `slicewise.io/owned`), and a pair of flavor and resource is touched only when
both are in it or wanted now. Groups, order, fields, and quantities of others stay as they are.

What a plan says beside quota is written down there too, so that what it says no more goes, unless somebody else has
written there since.

A flavor or a resource that is wanted no more first gets 0, and leaves once no Workload's assignment names it.

Failure mode: `RefusalError`, one sentence; the queue is then left as it stands.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from queue_sync.planning.kueue.objects import FURTHER, leaves
from queue_sync.planning.observed import Object, annotation, copied
from queue_sync.planning.ownership import Owned, RefusalError, ours, owned
from slicewise.api import keys
from slicewise.api.quantities import above, equal

# kueue.md section 1.3; status lists hold 64 flavors, so a queue with more cannot report itself.
MOST_FLAVORS: Final = 64
MOST_RESOURCES: Final = 64
MOST_PAIRS: Final = 512
MOST_GROUPS: Final = 16
MOST_CONCURRENT_FLAVORS: Final = 16

Holds = Callable[[str | None, str | None], bool]
"""(flavor, resource) -> whether a Workload's assignment in this queue names them; None stands for any."""


def nobody(_flavor: str | None, _resource: str | None) -> bool:
    """For a queue that no Workload uses."""
    return False


def merge(standing: Object, wanted: Object, holds: Holds = nobody) -> Object | None:
    """The queue as it should stand; None when nothing differs.

    Args:
        standing: the ClusterQueue as it is.
        wanted: the same queue as `kueue.cluster_queue` would make it.
        holds: what Workloads use.

    Raises:
        RefusalError: what is wanted does not fit with what the admin has in the queue, or Kueue takes no more.
    """
    new = copied(standing)
    spec = new.setdefault("spec", {})
    if ours(standing):
        _own_fields(spec, wanted["spec"])
    elif "cohortName" in wanted["spec"]:
        spec["cohortName"] = wanted["spec"]["cohortName"]
    fields = _further_fields(spec, leaves(wanted["spec"]), owned(standing).fields, whole=ours(standing))
    groups = _Groups(new, wanted, holds)
    groups.put()
    if groups.list or spec.get("resourceGroups"):
        spec["resourceGroups"] = groups.list
    notes = new["metadata"].setdefault("annotations", {})
    notes[keys.PLAN] = annotation(wanted, keys.PLAN)
    mine = groups.owned(fields)
    if owned(standing) != mine:
        notes[keys.OWNED] = mine.text()
    return None if new == standing else new


def _further_fields(
    spec: Object, want: Mapping[str, Any], before: Mapping[str, Any], *, whole: bool
) -> dict[str, Any]:
    """Puts what a plan says beside quota, and takes away what it said before; returns what of it is ours now.

    What it never said stays as it is, Kueue's defaults too, and so does what somebody else says in the same words.
    """
    for path, value in before.items():
        ours_to_say = path.partition(".")[0] in FURTHER and value is not None
        if path not in want and ours_to_say and _same(_value(spec, path), value):
            _remove(spec, path.split("."))
    mine = {}
    for path, value in want.items():
        if not _same(_value(spec, path), value):
            _set(spec, path.split("."), value)
        elif not whole and path not in before:
            continue
        mine[path] = value
    return mine


def _same(standing: Any, want: Any) -> bool:
    if isinstance(standing, str | int) and isinstance(want, str) and want[:1].isdigit():
        return equal(standing, want)
    return bool(standing == want)


def _value(spec: Any, path: str) -> Any:
    for name in path.split("."):
        spec = spec.get(name) if isinstance(spec, dict) else None
    return spec


def _set(spec: Object, path: list[str], value: Any) -> None:
    for name in path[:-1]:
        spec = spec.setdefault(name, {})
    spec[path[-1]] = value


def _remove(spec: Object, path: list[str]) -> None:
    """Removes a value, and what holds nothing else."""
    first, *rest = path
    if rest:
        _remove(spec[first], rest)
    if not rest or not spec[first]:
        del spec[first]


def _own_fields(spec: Object, want: Object) -> None:
    spec["namespaceSelector"] = want["namespaceSelector"]
    if "cohortName" in want:
        spec["cohortName"] = want["cohortName"]
    else:
        spec.pop("cohortName", None)


class _Groups:
    """The resource groups of one queue while they are put right, in place."""

    def __init__(self, queue: Object, wanted: Object, holds: Holds) -> None:
        self.name: str = queue["metadata"]["name"]
        self.list: list[Object] = queue["spec"].get("resourceGroups") or []
        self._spec = queue["spec"]
        self._holds = holds
        self._whole = ours(queue)
        self._quotas: dict[str, dict[str, Object]] = {}
        self._columns: dict[str, list[Object]] = {}
        """The wanted resources of each flavor as they are listed."""
        self._names: list[str] = []
        for group in wanted["spec"]["resourceGroups"]:
            self._names = list(group["coveredResources"])
            for flavor in group["flavors"]:
                self._columns[flavor["name"]] = flavor["resources"]
                self._quotas[flavor["name"]] = {quota["name"]: quota for quota in flavor["resources"]}
        self._mine = owned(queue)
        self._before = {name for group in self.list for name in group["coveredResources"]}
        # In a queue of our own making every column is ours; in an adopted one those that were not there before.
        new = set(self._names) if self._whole else set(self._names) - self._before
        self._added = self._mine.added | new
        self._limits: set[tuple[str, str]] = set()

    def put(self) -> None:
        """Puts the numbers of all that is ours right."""
        group = self._target()
        if group is None:
            return
        covered, flavors = group["coveredResources"], group["flavors"]
        self._check_coverage(covered, flavors)
        covered += [name for name in self._names if name not in covered]
        self._place(flavors)
        self._retire_flavors(flavors, covered)
        self._retire_resources(flavors, covered)
        plain = self._whole and covered == self._names
        for flavor in flavors:
            if plain and flavor["resources"] == self._columns.get(flavor["name"]):
                continue  # all ours, and right: of hundreds of numbers few change at a time
            flavor["resources"] = [self._quota(flavor, name) for name in covered]
        if not flavors or not covered:
            self.list.remove(group)
        self._check_size(flavors, covered)

    def owned(self, fields: Mapping[str, Any]) -> Owned:
        """What of ours is in the queue now, `fields` beside quota."""
        flavors = {flavor["name"] for group in self.list for flavor in group["flavors"]}
        covered = {name for group in self.list for name in group["coveredResources"]}
        added = covered & self._added
        mine = flavors & (self._mine.flavors | self._quotas.keys())
        resources = covered & set(self._names) | added
        return Owned(
            frozenset(mine), frozenset(resources), frozenset(added), dict(fields), frozenset(self._limits)
        )

    # --- finding the group ---

    def _target(self) -> Object | None:
        names = set(self._names) | self._mine.added
        flavors = self._quotas.keys() | self._mine.flavors
        found = [
            group
            for group in self.list
            if names & set(group["coveredResources"]) or flavors & {f["name"] for f in group["flavors"]}
        ]
        if len(found) > 1:
            raise RefusalError(
                f"ClusterQueue {self.name} has {', '.join(sorted(names & self._before))} in more than one "
                "resource group, and Kueue gives one flavor per group; move them into one group"
            )
        if found:
            return found[0]
        if not self._quotas:
            return None
        group: Object = {"coveredResources": [], "flavors": []}
        self.list.append(group)
        return group

    def _check_coverage(self, covered: list[str], flavors: list[Object]) -> None:
        """A foreign resource in our group has no quota in our flavors, so nothing could be admitted there."""
        standing = {flavor["name"] for flavor in flavors}
        foreign = [name for name in covered if name not in self._names and name not in self._mine.resources]
        if foreign and self._quotas.keys() - standing:
            listed = ", ".join(foreign)
            raise RefusalError(
                f"ClusterQueue {self.name} covers {listed} in the same resource group as the GPUs, and the plan "
                f"gives none of it; add cover: [{listed}] to the plan, or move the GPUs into their own group"
            )

    # --- putting in and taking out ---

    def _place(self, flavors: list[Object]) -> None:
        """Puts missing flavors before the first that comes after them in our order; what stands keeps its place."""
        order = list(self._quotas)
        there = {flavor["name"] for flavor in flavors}
        for index, name in enumerate(order):
            if name in there:
                continue
            standing = [flavor["name"] for flavor in flavors]
            later = [standing.index(other) for other in order[index + 1 :] if other in standing]
            flavors.insert(min(later, default=len(flavors)), {"name": name, "resources": []})

    def _retire_flavors(self, flavors: list[Object], covered: list[str]) -> None:
        for flavor in list(flavors):
            name = flavor["name"]
            if name in self._quotas or name not in self._mine.flavors:
                continue
            foreign = any(
                self._foreign(name, quota) for quota in flavor["resources"] if quota["name"] in covered
            )
            if not (foreign or self._holds(name, None) or name in self._pinned()):
                flavors.remove(flavor)

    def _retire_resources(self, flavors: list[Object], covered: list[str]) -> None:
        for name in list(covered):
            if name in self._names or name not in self._mine.added:
                continue
            foreign = any(
                self._foreign(flavor["name"], quota)
                for flavor in flavors
                for quota in flavor["resources"]
                if quota["name"] == name
            )
            if not (foreign or self._holds(None, name)):
                covered.remove(name)

    def _foreign(self, flavor: str, quota: Object) -> bool:
        """True for a quantity that somebody else has put there."""
        return not self._is_ours(flavor, quota["name"]) and not equal(quota.get("nominalQuota", 0), 0)

    def _pinned(self) -> set[str]:
        """Flavors that other fields name: Kueue refuses a queue where they are missing (kueue.md section 1.3)."""
        strategy = self._spec.get("admissionChecksStrategy") or {}
        checks = strategy.get("admissionChecks") or ()
        named = {str(flavor) for check in checks for flavor in check.get("onFlavors") or ()}
        migration = (self._spec.get("concurrentAdmissionPolicy") or {}).get("migration") or {}
        last = (migration.get("constraints") or {}).get("lastAcceptableFlavorName")
        return named | ({str(last)} if last else set())

    # --- the numbers ---

    def _is_ours(self, flavor: str, resource: str) -> bool:
        return (flavor in self._mine.flavors or flavor in self._quotas) and (
            resource in self._mine.resources or resource in self._names
        )

    def _quota(self, flavor: Object, name: str) -> Object:
        standing = next((quota for quota in flavor["resources"] if quota["name"] == name), None)
        if not self._is_ours(flavor["name"], name):
            return standing if standing is not None else {"name": name, "nominalQuota": "0"}
        wanted = self._quotas.get(flavor["name"], {}).get(name, {"name": name, "nominalQuota": "0"})
        return self._fitted(standing or {"name": name}, wanted)

    def _fitted(self, standing: Object, wanted: Mapping[str, Any]) -> Object:
        """One quota: the wanted numbers, in the standing text where the value is the same.

        Limits that the plan does not give, and did not, are the admin's on an adopted queue, and are only lowered as
        Kueue demands.
        """
        if self._whole and standing == wanted:
            return standing
        new = dict(standing)
        for field in ("nominalQuota", "borrowingLimit", "lendingLimit"):
            limit = (new["name"], field)
            wrote = limit in self._mine.limits
            if field not in wanted:
                if self._whole or wrote:
                    new.pop(field, None)
                continue
            if not equal(new.get(field), wanted[field]):
                new[field] = wanted[field]
                wrote = True
            if wrote and not self._whole and field != "nominalQuota":
                self._limits.add(limit)
        if "lendingLimit" in new and above(new["lendingLimit"], new["nominalQuota"]):
            new["lendingLimit"] = new["nominalQuota"]
        return new

    def _check_size(self, flavors: list[Object], covered: list[str]) -> None:
        total = sum(len(group["flavors"]) for group in self.list)
        narrow = "narrow the plan's pools, or make several plans"
        limits = [
            ("flavors", total, MOST_FLAVORS, narrow),
            ("resources in one group", len(covered), MOST_RESOURCES, narrow),
            ("pairs of flavor and resource in one group", len(covered) * len(flavors), MOST_PAIRS, narrow),
            ("resource groups", len(self.list), MOST_GROUPS, narrow),
        ]
        if self._spec.get("concurrentAdmissionPolicy"):
            fix = "narrow the plan's pools, or take concurrentAdmissionPolicy out of the queue"
            limits += [
                ("flavors", total, MOST_CONCURRENT_FLAVORS, fix),
                ("resource groups", len(self.list), 1, fix),
            ]
        for what, number, most, fix in limits:
            if number > most:
                raise RefusalError(
                    f"ClusterQueue {self.name} would have {number} {what}, and Kueue takes {most}; {fix}"
                )
