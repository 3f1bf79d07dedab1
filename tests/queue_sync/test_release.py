"""`slicewise release PLAN` on a snapshot, and the fields beside quota that a plan's queues carry."""

from pathlib import Path
from typing import Any

import pytest

from queue_sync.planning.changes import ChangeSet
from queue_sync.planning.desired import desired
from queue_sync.planning.kueue.merge import merge
from queue_sync.planning.observed import Object
from slicewise.cli.main import main
from slicewise.kube.yaml import dump
from tests.queue_sync.scenes import GPU, exclusive, inventory, plan

WHOLE = "h100-80gb-exclusive"


def queues(**spec: Any) -> ChangeSet:
    return desired([plan(**spec)], inventory(exclusive("n")), {"lab": {"team": "a"}})


def snapshot(path: Path, *objects: Object) -> str:
    path.write_text(dump([exclusive("n"), *objects]))
    return str(path)


def test_what_a_plan_left_is_given_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = snapshot(tmp_path / "left.yaml", *queues().objects)
    assert main(["release", "research", "--snapshot", file]) == 1
    assert capsys.readouterr().out == "update ClusterQueue team-a\n"


def test_nothing_is_left_of_a_plan_whose_queues_are_given_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ClusterQueue",
        "metadata": {"name": "team-a", "annotations": {"slicewise.io/plan": "research"}},
        "spec": {"resourceGroups": []},
    }
    assert main(["release", "research", "--snapshot", snapshot(tmp_path / "empty.yaml", empty)]) == 0
    assert capsys.readouterr().err == "nothing is left of QuotaPlan research\n"


@pytest.mark.parametrize(
    ("plan", "hint"),
    [("resarch", "did you mean research?"), ("zoo", "name one that `slicewise drift` reports")],
)
def test_a_plan_that_nothing_names_is_no_good_end(
    plan: str, hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = snapshot(tmp_path / "left.yaml", *queues().objects)
    assert main(["release", plan, "--snapshot", file]) == 2
    assert f"there is no QuotaPlan {plan}, and nothing that one gave; {hint}" in capsys.readouterr().err


def test_a_plan_that_stands_is_deleted_and_not_released(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = {"engine": "kueue", "queues": [{"name": "team-a"}]}
    standing = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": "research"},
        "spec": spec,
    }
    assert main(["release", "research", "--snapshot", snapshot(tmp_path / "stands.yaml", standing)]) == 2
    assert "deletionPolicy: Release" in capsys.readouterr().err


def test_queues_carry_what_the_plan_says_beside_quota() -> None:
    kueue = {
        "preemption": {"withinClusterQueue": "LowerPriority"},
        "fairSharing": {"weight": 2},
        "admissionChecks": [
            {"name": "all"},
            {"name": "some", "onFlavors": ["h100-*"]},
            {"name": "t", "onFlavors": ["t4-*"]},
        ],
        "stopPolicy": "Hold",
        "queueingStrategy": "StrictFIFO",
        "localQueueName": "default",
    }
    own = {"name": "team-b", "kueue": {"stopPolicy": "None"}, "namespaces": {"matchLabels": {"team": "a"}}}
    found = queues(kueue=kueue, queues=[{"name": "team-a"}, own])
    first, second = (each["spec"] for each in found.objects if each["kind"] == "ClusterQueue")
    assert first["preemption"] == {"withinClusterQueue": "LowerPriority"}
    assert first["fairSharing"] == {"weight": "2"}
    assert first["admissionChecksStrategy"] == {
        "admissionChecks": [{"name": "all"}, {"name": "some", "onFlavors": [WHOLE]}]
    }
    assert (first["stopPolicy"], second["stopPolicy"]) == ("Hold", "None")
    assert (first["queueingStrategy"], second["queueingStrategy"]) == ("StrictFIFO", "StrictFIFO")
    (local,) = (each for each in found.objects if each["kind"] == "LocalQueue")
    assert (local["metadata"]["name"], local["spec"]) == ("default", {"clusterQueue": "team-b"})


def test_what_the_plan_leaves_out_of_a_field_stays() -> None:
    wanted = next(
        each
        for each in queues(kueue={"preemption": {"withinClusterQueue": "Never"}}).objects
        if each["kind"] == "ClusterQueue"
    )
    defaulted = {**wanted["spec"], "stopPolicy": "None", "fairSharing": {"weight": "1"}}
    defaulted["preemption"] = {"withinClusterQueue": "Never", "reclaimWithinCohort": "Never"}
    assert merge({**wanted, "spec": defaulted}, wanted) is None
    assert GPU in str(wanted["spec"]["resourceGroups"])
