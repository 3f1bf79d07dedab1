"""`slicewise why KIND/NAME`: why a workload waits, the reason first."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from slicewise.cli.main import main
from slicewise.kube.yaml import dump
from tests.kube.apiserver import ApiServer, kubeconfig
from tests.kube.apiserver import status as refusal
from tests.kube.wire import Fault
from tests.queue_sync.running import KINDS, LOCAL, NAMESPACES, WORKLOADS
from tests.queue_sync.running import QUEUES as CLUSTER_QUEUES

Object = dict[str, Any]
Why = Callable[..., tuple[int, str, str]]
SLICE = "nvidia.com/mig-1g.10gb"
DECISION = json.dumps({"reason": "class inference gets mig"})


def owned(kind: str, name: str) -> Object:
    return {"ownerReferences": [{"kind": kind, "name": name, "controller": True}]}


def condition(name: str, message: str = "", *, status: str = "True") -> Object:
    return {"type": name, "status": status, "message": message}


def workload(
    name: str, *conditions: Object, owner: str = "train", space: str = "team-a", **spec: Any
) -> Object:
    template = {
        "metadata": {"annotations": {"slicewise.io/decision": DECISION}},
        "spec": {"containers": [{"name": "main", "resources": {"limits": {SLICE: 1}}}]},
    }
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "Workload",
        "metadata": {"name": name, "namespace": space, **owned("Job", owner)},
        "spec": {"queueName": "main", "podSets": [{"name": "main", "template": template}], **spec},
        "status": {"conditions": list(conditions)},
    }


def pod(name: str = "train-x", *conditions: Object, phase: str = "Pending", **parts: Any) -> Object:
    metadata = {"name": name, "namespace": "team-a", **parts.pop("metadata", owned("Job", "train"))}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": parts,
        "status": {"phase": phase, "conditions": list(conditions)},
    }


def pod_group(phase: str, *conditions: Object) -> Object:
    return {
        "apiVersion": "scheduling.volcano.sh/v1beta1",
        "kind": "PodGroup",
        "metadata": {"name": "podgroup-1", "namespace": "team-a", **owned("Job", "train")},
        "spec": {"queue": "team-v"},
        "status": {"phase": phase, "conditions": list(conditions)},
    }


QUEUES = (
    {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "LocalQueue",
        "metadata": {"name": "main", "namespace": "team-a"},
        "spec": {"clusterQueue": "team-a"},
    },
    {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ClusterQueue",
        "metadata": {"name": "team-a"},
        "spec": {
            "resourceGroups": [
                {
                    "coveredResources": [SLICE],
                    "flavors": [{"name": "h100", "resources": [{"name": SLICE, "nominalQuota": "7"}]}],
                }
            ]
        },
        "status": {"flavorsReservation": [{"name": "h100", "resources": [{"name": SLICE, "total": "6"}]}]},
    },
)
RESERVED, ADMITTED = condition("QuotaReserved"), condition("Admitted")
UNFIT = condition("QuotaReserved", "couldn't assign flavors: 1 more needed", status="False")
NO_NODE = condition("PodScheduled", "0/4 nodes are available", status="False")


@pytest.fixture
def why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Why:
    def call(*items: Object, name: str = "job/train", output: str = "table") -> tuple[int, str, str]:
        file = tmp_path / "cluster.yaml"
        file.write_text(dump([*QUEUES, *items]))
        status = main(["why", name, "-n", "team-a", "--snapshot", str(file), "-o", output])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def checked(state: str) -> Object:
    held = workload("w", RESERVED)
    held["status"]["admissionChecks"] = [{"name": "provision", "state": state}]
    return held


CASES: dict[str, tuple[tuple[Object, ...], str]] = {
    "no quota": (
        (workload("w", UNFIT),),
        (
            "it waits for quota in LocalQueue team-a/main of ClusterQueue team-a, number 1 of 1 that wait: "
            "couldn't assign flavors: 1 more needed"
        ),
    ),
    "not looked at": ((workload("w"),), "number 1 of 1 that wait: Kueue has not looked at it yet"),
    "deactivated": ((workload("w", active=False),), "it is deactivated: spec.active"),
    "an admission check": (
        (checked("Pending"),),
        "its quota is reserved, and it waits for admission checks: provision (Pending)",
    ),
    "no node": (
        (workload("w", RESERVED, ADMITTED), pod("a", NO_NODE), pod("b", phase="Running", nodeName="n1")),
        "1 of 2 pods wait for a node: 0/4 nodes are available",
    ),
    "a gate": ((pod(schedulingGates=[{"name": "x.io/wait"}]),), "held by the scheduling gate x.io/wait"),
    "starting": ((pod(nodeName="n1"),), "1 of 1 pods have a node and have not started"),
    "running": (
        (workload("w", RESERVED, ADMITTED), pod(phase="Running", nodeName="n1")),
        "it runs: pods 1, nodes 1",
    ),
    "no pod yet": ((workload("w", RESERVED, ADMITTED),), "it is admitted, and has no pod yet"),
    "finished": (
        (workload("w", RESERVED, ADMITTED, condition("Finished", "Job finished")),),
        "it has finished: Job finished",
    ),
    "finished without a queue": (
        (pod(phase="Succeeded", nodeName="n1"),),
        "it has finished: none of its pods",
    ),
    "volcano": (
        (pod_group("Pending", condition("Unschedulable", "queue resource quota insufficient")),),
        "it waits in Volcano's Queue team-v (Pending): queue resource quota insufficient",
    ),
}


@pytest.mark.parametrize(("items", "reason"), CASES.values(), ids=CASES)
def test_the_first_line_says_what_holds_it_now(why: Why, items: tuple[Object, ...], reason: str) -> None:
    status, out, _ = why(*items)
    assert status == 0
    assert out.startswith("Job team-a/train: ")
    assert reason in out.splitlines()[0]


def test_below_it_are_decision_queue_quota_and_pods(why: Why) -> None:
    assert why(workload("w", RESERVED, ADMITTED), pod("a", NO_NODE))[1].splitlines()[1:] == [
        "  decision  class inference gets mig",
        "  queue     LocalQueue team-a/main of ClusterQueue team-a",
        "  quota     h100: nvidia.com/mig-1g.10gb 7, of which 6 reserved",
        "  pods      a: 0/4 nodes are available",
    ]


def test_the_place_in_the_queue_is_by_priority_then_age(why: Why) -> None:
    def waits(name: str, created: str, priority: int = 0, space: str = "team-a") -> Object:
        item = workload(name, UNFIT, owner=name, space=space, priority=priority)
        item["metadata"]["creationTimestamp"] = f"2026-11-23T{created}:00Z"
        return item

    other = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "LocalQueue",
        "metadata": {"name": "main", "namespace": "team-b"},
        "spec": {"clusterQueue": "team-a"},
    }
    items = (
        waits("train", "10:00"),
        waits("old", "09:00", space="team-b"),
        waits("urgent", "11:00", 5),
        waits("idle", "08:00", -1),
    )
    assert "number 3 of 4 that wait" in why(*items, other)[1]
    # What is in a LocalQueue of another ClusterQueue waits for other quota.
    assert "number 2 of 3 that wait" in why(*items)[1]


def test_what_its_own_objects_made_is_its_own(why: Why) -> None:
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train", "namespace": "team-a", **owned("JobSet", "set")},
    }
    assert why(job, pod("a", NO_NODE), name="jobset/set")[1].startswith("JobSet team-a/set: 1 of 1 pods wait")


def test_a_workload_by_its_own_name_has_the_pods_of_its_owner(why: Why) -> None:
    admitted = workload("job-train-1", RESERVED, ADMITTED)
    others = workload("job-train-0", UNFIT)
    said = why(others, admitted, pod("a", NO_NODE), name="workload/job-train-1")[1]
    assert said.startswith(
        "Workload team-a/job-train-1: 1 of 1 pods wait for a node: 0/4 nodes are available"
    )


@pytest.mark.parametrize(
    ("queue", "asked"),
    [("main", "LocalQueue team-a/main of ClusterQueue team-a"), ("mian", "LocalQueue team-a/mian")],
)
def test_a_queue_that_is_asked_for_without_kueues_knowledge_is_named(
    why: Why, queue: str, asked: str
) -> None:
    labels = {"kueue.x-k8s.io/queue-name": queue}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train", "namespace": "team-a", "labels": labels},
    }
    first, *below = why(job)[1].splitlines()
    assert f"it is labelled for LocalQueue team-a/{queue}, and Kueue has made no Workload of it" in first
    assert f"  queue     {asked} is asked for; Kueue has made no Workload of it" in below


OWNERS: dict[str, tuple[Object, str]] = {
    "a Job that is over": (
        {"kind": "Job", "status": {"conditions": [{"type": "Complete", "status": "True"}]}},
        "it has finished (Complete)",
    ),
    "a Job that failed": (
        {
            "kind": "Job",
            "status": {"conditions": [{"type": "Failed", "status": "True", "message": "Too late."}]},
        },
        "it has finished (Failed): Too late",
    ),
    "a Job of a queue that is over": (
        {
            "kind": "Job",
            "labels": {"kueue.x-k8s.io/queue-name": "main"},
            "status": {"conditions": [{"type": "Complete", "status": "True"}]},
        },
        "it has finished (Complete)",
    ),
    "a Job that is suspended": (
        {"kind": "Job", "spec": {"suspend": True}},
        "it is suspended: spec.suspend is",
    ),
    "a CronJob": (
        {"kind": "CronJob", "spec": {"schedule": "0 3 * * *"}},
        "it makes work at each time of its schedule (0 3 * * *), and none of that has a pod",
    ),
    "a CronJob that is suspended": ({"kind": "CronJob", "spec": {"suspend": True}}, "it is suspended"),
    "no replica": ({"kind": "StatefulSet", "spec": {"replicas": 0}}, "it wants no pod: spec.replicas is 0"),
    "nothing of that": ({"kind": "Job", "spec": [], "status": "odd"}, "no queue holds it, and it has no pod"),
    "conditions of another shape": (
        {"kind": "Job", "status": {"conditions": ["Complete"]}},
        "no queue holds it, and it has no pod",
    ),
}


@pytest.mark.parametrize(("document", "reason"), OWNERS.values(), ids=OWNERS)
def test_what_makes_no_pod_says_why_itself(why: Why, document: Object, reason: str) -> None:
    metadata = {"name": "train", "namespace": "team-a", "labels": document.get("labels", {})}
    version = "apps/v1" if document["kind"] == "StatefulSet" else "batch/v1"
    rest = {key: value for key, value in document.items() if key != "labels"}
    _, out, _ = why({"apiVersion": version, "metadata": metadata, **rest}, name=f"{document['kind']}/train")
    assert out.startswith(f"{document['kind']} team-a/train: {reason}")


@pytest.mark.parametrize("name", ["Job/train", "jobs.batch/train"])
def test_kinds_are_written_as_for_kubectl(why: Why, name: str) -> None:
    assert why(workload("w", UNFIT), name=name)[0] == 0


@pytest.mark.parametrize("name", ["po/a", "pods/a", "pod/a"])
def test_short_names_are_kubectls(why: Why, name: str) -> None:
    assert why(pod("a", NO_NODE), name=name)[0] == 0


@pytest.mark.parametrize("name", ["job/", "/x", "a/b/c"])
def test_half_a_reference_is_one_sentence(why: Why, name: str) -> None:
    status, out, err = why(name=name)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"{name} names no object; write KIND/NAME" in err


def test_it_is_printed_for_programs(why: Why) -> None:
    document = json.loads(why(workload("w", UNFIT), output="json")[1])
    assert (document["kind"], document["name"], document["nodes"]) == ("Job", "train", [])
    assert yaml.safe_load(why(workload("w", UNFIT), output="yaml")[1]) == document


def test_a_workload_of_which_nothing_is_known_is_one_sentence(why: Why) -> None:
    status, out, err = why(name="job/nobody")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "nothing in namespace team-a belongs to job nobody" in err


def test_an_object_of_another_shape_is_one_sentence(why: Why) -> None:
    broken = workload("w")
    broken["spec"]["priority"] = "high"
    status, _, err = why(broken)
    assert (status, err.count("\n")) == (2, 1)
    assert "Workload w: " in err


def test_a_misspelt_namespace_is_asked_back(why: Why) -> None:
    there = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-ab"}}
    unnamed = {"apiVersion": "v1", "kind": "Namespace"}
    said = "slicewise why: there is no namespace team-a; did you mean team-ab?\n"
    assert why(there, unnamed, name="job/nobody")[2] == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nobody/x", "nobody/x: nothing is known of a kind nobody; name work, such as job/train"),
        ("jbo/x", "jbo/x: nothing is known of a kind jbo; did you mean job?"),
    ],
)
def test_a_kind_that_nobody_knows_is_told(why: Why, name: str, said: str) -> None:
    there = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}}
    assert why(there, name=name)[2] == f"slicewise why: {said}\n"


async def test_of_a_live_cluster_a_misspelt_namespace_is_asked_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ApiServer(KINDS).running() as server:
        server.put(NAMESPACES, "team-a")
        words = ["why", "job/train", "-n", "taem-a", "--kubeconfig", kubeconfig(tmp_path, server.url)]
        assert await asyncio.to_thread(main, words) == 2
    assert capsys.readouterr().err == "slicewise why: there is no namespace taem-a; did you mean team-a?\n"


async def test_of_a_live_cluster_it_reads_what_its_submitter_may(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ApiServer(KINDS).running() as server:
        item = workload("w", UNFIT)
        server.put(WORKLOADS, "w", "team-a", **item)
        server.put(LOCAL, "main", "team-a", spec=QUEUES[0]["spec"])
        forbidden = json.dumps(refusal(403, "Forbidden")).encode()
        server.faults.append(Fault("GET", CLUSTER_QUEUES, status=403, body=forbidden))
        words = ["why", "job/train", "-n", "team-a", "--kubeconfig", kubeconfig(tmp_path, server.url)]
        assert await asyncio.to_thread(main, words) == 0
    out, err = capsys.readouterr()
    assert "it waits for quota in LocalQueue team-a/main of ClusterQueue team-a" in out
    assert err == "you may not list clusterqueues, so what they say is left out\n"
