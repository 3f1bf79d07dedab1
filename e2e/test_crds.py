"""The definitions on a real API server: accepted, and refusing what the models refuse, in their words."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.harness.client import Object
from e2e.harness.cluster import AnyCluster
from slicewise.api.policy import BUILT_IN_SPEC, SpecError, read_plan, read_policy

CRDS = Path(__file__).parents[1] / "manifests/crds"
API = "slicewise.io/v1alpha1"
POLICY: Object = {
    "apiVersion": API,
    "kind": "SlicingPolicy",
    "metadata": {"name": "e2e-crds"},
    "spec": copy.deepcopy(BUILT_IN_SPEC),
}
PLAN: Object = {
    "apiVersion": API,
    "kind": "QuotaPlan",
    "metadata": {"name": "e2e-crds"},
    "spec": {
        "engine": "kueue",
        "cohort": "research",
        "queues": [
            {"name": "a", "share": 3, "shares": {"h100-*": 0}, "borrowing": {"percent": 50}},
            {"name": "b", "namespaces": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}},
        ],
        "cover": ["cpu"],
        "maximum": {"h100-*": {"nvidia.com/mig-1g.10gb": 56, "cpu": "64"}},
        "perNode": {"h100-*": {"nvidia.com/mig-1g.10gb": "14"}},
        "kueue": {
            "preemption": {"reclaimWithinCohort": "Any", "borrowWithinCohort": {"policy": "LowerPriority"}},
            "fairSharing": {"weight": "1.5"},
            "admissionChecks": [{"name": "provision"}],
            "flavorFungibility": {"whenCanBorrow": "TryNextFlavor"},
            "queueingStrategy": "StrictFIFO",
            "stopPolicy": "None",
            "localQueueName": "gpu",
        },
        "deletionPolicy": "Release",
        "suspend": True,
    },
}
READERS = {"SlicingPolicy": read_policy, "QuotaPlan": read_plan}


@pytest.fixture(scope="module")
def installed(cluster: AnyCluster) -> Iterator[AnyCluster]:
    cluster.apply(CRDS)
    yield cluster
    for each in (POLICY, PLAN):
        if cluster.find(API, each["kind"], each["metadata"]["name"]):
            cluster.delete(API, each["kind"], each["metadata"]["name"])


def _with(document: Object, path: str, value: Any) -> Object:
    """A copy with one field set, or removed where the value is None."""
    changed = copy.deepcopy(document)
    *parents, last = path.split("/")
    target: Any = changed
    for key in parents:
        target = target[int(key)] if key.isdecimal() else target.setdefault(key, {})
    if value is None:
        del target[last]
    else:
        target[last] = value
    return changed


@pytest.mark.parametrize("name", ["slicingpolicies.slicewise.io", "quotaplans.slicewise.io"])
def test_the_schema_is_structural(installed: AnyCluster, name: str) -> None:
    found = installed.get("apiextensions.k8s.io/v1", "CustomResourceDefinition", name)
    conditions = {each["type"]: each["status"] for each in found["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert "NonStructuralSchema" not in conditions


@pytest.mark.parametrize("document", [POLICY, PLAN], ids=["policy", "plan"])
def test_what_the_models_take_is_taken_and_kept_as_it_was(installed: AnyCluster, document: Object) -> None:
    READERS[document["kind"]](document)
    installed.apply(document)
    stored = installed.get(API, document["kind"], document["metadata"]["name"])
    assert stored["spec"] == document["spec"]


MIG = "spec/classes/inference"
BAD = [
    (POLICY, "spec/defaultClass", "missing", "there is no such class"),
    (POLICY, "spec/kinds/Job.batch", "missing", "a kind is given a class that there is not"),
    (POLICY, f"{MIG}/strategy", "magic", "Unsupported value"),
    (POLICY, f"{MIG}/strategy", None, "Required value"),
    (POLICY, f"{MIG}/size", {"memory": "9Gi", "profile": "1g.10gb"}, "give either memory or profile"),
    (POLICY, f"{MIG}/size", {}, "give either memory or profile"),
    (POLICY, f"{MIG}/size", {"memory": "lots"}, "not an amount of memory above zero"),
    (POLICY, f"{MIG}/size", {"memory": "0"}, "not an amount of memory above zero"),
    (POLICY, f"{MIG}/otherwise", ["mig"], "the strategy itself is tried already"),
    (POLICY, f"{MIG}/otherwise", ["mps", "mps"], "a strategy is listed twice"),
    (POLICY, f"{MIG}/multiGPU", "many", "Unsupported value"),
    (POLICY, f"{MIG}/wrong", 1, "unknown field"),
    (POLICY, "spec/needs/wrong", "mig", "unknown field"),
    (POLICY, "spec/classes/" + "c" * 64, {"strategy": "mig"}, "a name is longer than 63 characters"),
    (POLICY, "spec/classes", {}, "should have at least 1 properties"),
    (POLICY, "metadata/name", "n" * 64, "at most 63 characters"),
    (PLAN, "spec/engine", "none", "Unsupported value"),
    (PLAN, "spec/mode", "capacity-provider", "capacity-provider is not served yet"),
    (PLAN, "spec/cover", ["cpu", "nvidia.com/gpu"], "covered already; list others, such as cpu"),
    (PLAN, "spec/queues/0/share", True, "must be of type integer"),
    (PLAN, "spec/cohort", None, "only in a cohort; name a cohort"),
    (PLAN, "spec/queues/1/name", "a", "Duplicate value"),
    (PLAN, "spec/queues/0/lending", {"count": 1, "percent": 1}, "give either count or percent"),
    (PLAN, "spec/queues", [], "should have at least 1 items"),
    (PLAN, "spec/headroom/percent", 101, "less than or equal to 100"),
    (PLAN, "spec/queues/0/name", "Team A", "should match"),
    (PLAN, "spec/queues/0/shares", {"*": -2}, "greater than or equal to 0"),
    (PLAN, "spec/queues/0/shares", {"*": 10**18}, "less than or equal to 1000000"),
    (PLAN, "spec/maximum/*", {"nvidia.com/gpu": 2**63 - 1}, "more devices than any pool has"),
    (PLAN, "spec/maximum/*", {"nvidia.com/gpu": "1G"}, "more devices than any pool has"),
    (PLAN, "spec/perNode/*", {"nvidia.com/gpu": -1}, "a quantity is below zero"),
    (PLAN, "spec/perNode/*", {"nvidia.com/gpu": "many"}, "a quantity is below zero"),
    (PLAN, "spec/engine", "volcano", "these fields are Kueue's"),
    (PLAN, "spec/deletionPolicy", "Orphan", "Unsupported value"),
    (PLAN, "spec/suspend", "yes", "must be of type boolean"),
    (PLAN, "spec/kueue/stopPolicy", "Drain", "Unsupported value"),
    (PLAN, "spec/kueue/fairSharing/weight", "-1", "it is not between 0 and 1000000"),
    (PLAN, "spec/kueue/preemption/reclaimWithinCohort", None, "only beside reclaimWithinCohort"),
    (PLAN, "spec/kueue/flavorFungibility/preference", "BorrowingOverPreemption", "TryNextFlavor"),
    (POLICY, f"{MIG}/pipeDirectory", "/run/../etc", "should match"),
]


@pytest.mark.parametrize(
    ("document", "path", "value", "message"),
    BAD,
    ids=[f"{bad[1]}-{number}" for number, bad in enumerate(BAD)],
)
def test_what_the_models_refuse_is_refused(
    installed: AnyCluster, document: Object, path: str, value: Any, message: str
) -> None:
    bad = _with(document, path, value)
    if path != "metadata/name":  # the length of a name is the label's limit, not the model's
        with pytest.raises(SpecError):
            READERS[bad["kind"]](bad)
    # Strict is what kubectl asks for; a bare request would have unknown fields dropped with a warning.
    query = {"fieldValidation": "Strict", "dryRun": "All"}
    if path != "metadata/name":
        bad["metadata"]["name"] = "e2e-bad"
    answer = installed.request("POST", installed.path(API, bad["kind"]), bad, query=query)
    assert answer.status in (400, 422)
    assert message in answer.message


def test_the_status_is_a_resource_of_its_own(installed: AnyCluster) -> None:
    installed.apply(PLAN)
    definition = installed.get(
        "apiextensions.k8s.io/v1", "CustomResourceDefinition", "quotaplans.slicewise.io"
    )
    assert definition["status"]["acceptedNames"]["shortNames"] == ["qplan"]
    assert definition["status"]["acceptedNames"]["categories"] == ["slicewise"]
