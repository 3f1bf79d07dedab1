"""`slicewise release PLAN` on a snapshot, and the fields beside quota that a plan's queues carry."""

from collections.abc import Mapping
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
    said = capsys.readouterr()
    assert said.out == f"update ClusterQueue team-a: {GPU} of flavor {WHOLE} 8 → 0\n"
    assert said.err == ""  # no Workload holds anything


def test_flavors_that_workloads_hold_are_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flavor, queue = (
        next(each for each in queues().objects if each["kind"] == kind)
        for kind in ("ResourceFlavor", "ClusterQueue")
    )
    (group,) = queue["spec"]["resourceGroups"]
    group["flavors"][0]["resources"][0]["nominalQuota"] = "0"
    work = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"namespace": "lab", "name": "train"},
        "spec": {"podSets": []},
        "status": {
            "admission": {
                "clusterQueue": "team-a",
                "podSetAssignments": [
                    {"name": "main", "flavors": {GPU: WHOLE}, "resourceUsage": {GPU: "1"}, "count": 1}
                ],
            },
            "conditions": [{"type": "QuotaReserved", "status": "True"}],
        },
    }
    file = snapshot(tmp_path / "held.yaml", flavor, queue, work)
    assert main(["release", "research", "--snapshot", file]) == 1
    assert capsys.readouterr() == (
        "",
        "work still uses what is given back; run this again when it has finished\n",
    )


@pytest.mark.parametrize("change", [{}, {"labels": {}}], ids=["made", "adopted"])
@pytest.mark.parametrize(
    ("engine", "said"),
    [
        *((engine, said) for engine in ("kueue", "volcano") for said in (None, "{bad", '{"flavors": 3}')),
        ("kueue", f'{{"flavors": ["{WHOLE}"]}}'),
    ],
)
def test_quota_of_which_the_queue_does_not_say_whose_it_is_is_counted_and_named(
    engine: str,
    change: Mapping[str, Any],
    said: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nobody but the admin may take it away, and nobody promises it again."""
    objects = desired([plan(engine=engine)], inventory(exclusive("n")), {}).objects
    for each in objects:
        if each["kind"] in {"ClusterQueue", "Queue"}:
            metadata = each["metadata"]
            metadata |= change
            del metadata["annotations"]["slicewise.io/owned"]
            if said is not None:
                metadata["annotations"]["slicewise.io/owned"] = said
    file = snapshot(tmp_path / "left.yaml", *objects)
    by_hand = "set it to 0 by hand, because the annotation slicewise.io/owned does not say whose it is"

    assert main(["drift", "--snapshot", file]) == 1
    assert by_hand in capsys.readouterr().out

    assert main(["release", "research", "--snapshot", file]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err.count(by_hand)) == ("", 1)
    assert "nothing is left" not in told.err

    next_plan = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": "next"},
        "spec": {"engine": engine, "queues": [{"name": "other"}]},
    }
    assert main(["plan", "--snapshot", snapshot(tmp_path / "next.yaml", *objects, next_plan)]) == 0
    told = capsys.readouterr()
    assert f"{GPU}=" not in told.out
    assert f"so QuotaPlan next gives that much less; {by_hand}" in told.err


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
    assert f"there is no QuotaPlan {plan!r}, and nothing that one gave; {hint}" in capsys.readouterr().err


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
