"""`slicewise why`: the arithmetic of a queue's numbers, equal to what planning wants."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from slicewise.cli.main import main
from slicewise.kube.yaml import dump
from tests.inventory.nodes import document
from tests.inventory.resource_slices import NVIDIA_CLASS
from tests.kube.apiserver import ApiServer, kubeconfig
from tests.queue_sync.running import KINDS, World
from tests.queue_sync.scenes import GPU, ONE, exclusive, mixed
from tests.queue_sync.test_promises import CLASSES, partitionable_slices

SEVEN = {"1g.10gb": 7}
WHOLE = "h100-80gb-exclusive"
TEAMS = [{"name": "team-a", "share": 3}, {"name": "team-b"}]


def quota_plan(name: str = "research", queues: Any = TEAMS, created: str = "", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, **({"creationTimestamp": created} if created else {})}
    body = {"engine": "kueue", "queues": queues, **spec}
    return {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": metadata,
        "spec": body,
    }


def leaving(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "metadata": {**item["metadata"], "deletionTimestamp": "2026-11-29T00:00:00Z"}}


def snapshot(folder: Path, *items: Mapping[str, Any]) -> str:
    file = folder / "cluster.yaml"
    file.write_text(dump(items))
    return str(file)


def cluster_queue(name: str, units: int, **annotations: str) -> dict[str, Any]:
    resources = [{"name": GPU, "nominalQuota": str(units)}]
    group = {"coveredResources": [GPU], "flavors": [{"name": WHOLE, "resources": resources}]}
    owned = json.dumps({"flavors": [WHOLE], "resources": [GPU], "added": [GPU]})
    return {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ClusterQueue",
        "metadata": {"name": name, "annotations": {"slicewise.io/owned": owned, **annotations}},
        "spec": {"resourceGroups": [group], "namespaceSelector": {}},
    }


def of(plan: str) -> dict[str, str]:
    return {"slicewise.io/plan": plan}


KUEUE_CONFIGURATION = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "kueue-manager-config", "namespace": "kueue-system"},
    "data": {
        "unreadable.yaml": "# config.kueue.x-k8s.io\n- no configuration",
        "controller_manager_config.yaml": """\
apiVersion: config.kueue.x-k8s.io/v1beta2
kind: Configuration
resources:
  deviceClassMappings:
  - name: gpu-memory
    deviceClassNames: [gpu.nvidia.com]
    sources: [{counter: {name: memory, driver: gpu.nvidia.com}}]
""",
    },
}
CASES = {
    "a node that is held back": (
        [mixed("n1", SEVEN), mixed("n2", SEVEN, ready=False), quota_plan()],
        """\
ClusterQueue team-a of QuotaPlan research
└─ h100-80gb-mig-mixed: nvidia.com/mig-1g.10gb 5 wanted, does not stand yet
   └─ 5 = share 3 of 4 of 7 in h100-80gb-mig-mixed
      └─ 7 counted
         ├─ n1 7
         └─ n2 0 (shows 7): the node is not Ready
""",
    ),
    "a plan that is being deleted": (
        [
            exclusive("n1"),
            leaving(quota_plan(deletionPolicy="Release")),
            cluster_queue("team-a", 6, **of("research")),
        ],
        """\
ClusterQueue team-a of QuotaPlan research
├─ note: QuotaPlan research is being deleted, and its queues give back what it gave
└─ h100-80gb-exclusive: nvidia.com/gpu 0 wanted, stands at 6
   └─ no pool of the plan gives it
""",
    ),
    "a plan that is being deleted, and leaves its quota": (
        [exclusive("n1"), leaving(quota_plan()), cluster_queue("team-a", 6, **of("research"))],
        """\
ClusterQueue team-a of QuotaPlan research
├─ note: QuotaPlan research is being deleted, and its queues keep what it gave
└─ h100-80gb-exclusive: nvidia.com/gpu 6 wanted, and so it stands
   └─ no pool of the plan gives it
""",
    ),
    "headroom and limits": (
        [
            exclusive("n1"),
            quota_plan(
                headroom={"percent": 10, "count": 1},
                cohort="all",
                queues=[{"name": "team-a", "borrowing": {"percent": 50}, "lending": {"count": 0}}],
            ),
        ],
        """\
ClusterQueue team-a of QuotaPlan research, cohort all
└─ h100-80gb-exclusive: nvidia.com/gpu 6 wanted, does not stand yet; borrows up to 3; lends up to 0
   └─ 6 = share 1 of 1 of 6 in h100-80gb-exclusive
      ├─ 8 counted
      │  └─ n1 8
      └─ less 2 headroom
""",
    ),
    "shares that differ by pool, and a covered resource": (
        [
            exclusive("n1"),
            mixed("n2", SEVEN),
            quota_plan(
                cover=["cpu"],
                queues=[{"name": "team-a", "share": 1, "shares": {WHOLE: 3}}, {"name": "team-b"}],
            ),
        ],
        """\
ClusterQueue team-a of QuotaPlan research
├─ h100-80gb-mig-mixed: nvidia.com/mig-1g.10gb 4 wanted, does not stand yet
│  └─ 4 = share 1 of 2 of 7 in h100-80gb-mig-mixed
│     └─ 7 counted
│        └─ n2 7
├─ h100-80gb-mig-mixed: cpu 32 wanted, does not stand yet
│  └─ 32 = share 1 of 2 of 64 in h100-80gb-mig-mixed
│     └─ 64 counted
│        └─ n2 64
├─ h100-80gb-exclusive: nvidia.com/gpu 6 wanted, does not stand yet
│  └─ 6 = share 3 of 4 of 8 in h100-80gb-exclusive
│     └─ 8 counted
│        └─ n1 8
└─ h100-80gb-exclusive: cpu 48 wanted, does not stand yet
   └─ 48 = share 3 of 4 of 64 in h100-80gb-exclusive
      └─ 64 counted
         └─ n1 64
""",
    ),
    "a maximum without nodes": (
        [
            mixed("n1", SEVEN),
            quota_plan(
                pools={"matchNames": ["h100-80gb-exclusive"]},
                maximum={WHOLE: {GPU: 16}},
                headroom={"count": 4},
            ),
        ],
        """\
ClusterQueue team-a of QuotaPlan research
└─ h100-80gb-exclusive: nvidia.com/gpu 9 wanted, does not stand yet
   └─ 9 = share 3 of 4 of 12 in h100-80gb-exclusive
      ├─ 16 maximum, in place of the 0 counted
      └─ less 4 headroom
""",
    ),
    "what stands, less what a plan that is gone still has": (
        [
            exclusive("n1"),
            cluster_queue("team-a", 8, **of("research")),
            cluster_queue("former", 4, **of("gone")),
            quota_plan(mode="report"),
        ],
        """\
ClusterQueue team-a of QuotaPlan research
├─ note: ClusterQueue former still has 4 nvidia.com/gpu of h100-80gb-exclusive from QuotaPlan gone, which is not there \
any more, so QuotaPlan research gives that much less; list the queue in a plan, or run slicewise release gone
├─ note: QuotaPlan research has mode: report, so nothing is written
└─ h100-80gb-exclusive: nvidia.com/gpu 3 wanted, stands at 8
   └─ 3 = share 3 of 4 of 4 in h100-80gb-exclusive
      ├─ 8 counted
      │  └─ n1 8
      └─ less 4 left over from plans that are gone
""",
    ),
    "a Volcano queue adds up its pools": (
        [
            exclusive("n1"),
            exclusive("n2", 4, product="NVIDIA-A100-SXM4-80GB"),
            quota_plan(engine="volcano", cohort="all"),
        ],
        """\
Queue team-a of QuotaPlan research, cohort all
└─ nvidia.com/gpu 9 wanted, does not stand yet; may use up to 12
   ├─ 3 = share 3 of 4 of 4 in a100-80gb-exclusive
   │  └─ 4 counted
   │     └─ n2 4
   └─ 6 = share 3 of 4 of 8 in h100-80gb-exclusive
      └─ 8 counted
         └─ n1 8
""",
    ),
    "a plan that is refused only gives back": (
        [
            exclusive("n1"),
            quota_plan("older", [{"name": "others"}], "2026-01-01T00:00:00Z"),
            quota_plan("research", TEAMS, "2026-02-01T00:00:00Z"),
            cluster_queue("team-a", 8, **of("research")),
        ],
        """\
ClusterQueue team-a of QuotaPlan research
├─ note: QuotaPlan research takes the pool h100-80gb-exclusive, which QuotaPlan older, the older one, has, and only \
one may; take it out of one of them: until then older is followed, and research only gives back
└─ h100-80gb-exclusive: nvidia.com/gpu 0 wanted, stands at 8
   └─ no pool of the plan gives it
""",
    ),
    "a name that Kueue's configuration has charged by counters": (
        [exclusive("n1"), NVIDIA_CLASS, KUEUE_CONFIGURATION, quota_plan()],
        """\
ClusterQueue team-a of QuotaPlan research
└─ note: QuotaPlan research gives quota of nvidia.com/gpu, and deviceClassMappings gpu-memory has Kueue admit nothing \
that asks for nvidia.com/gpu: it charges counters; take the sources of gpu.nvidia.com out and restart Kueue: plans \
give quota by name
""",
    ),
    "a queue that others decide stays as it is": (
        [
            exclusive("n1"),
            cluster_queue("team-a", 2, **{"slicewise.io/manage": "false"}),
            quota_plan(queues=[{"name": "team-a"}], suspend=True),
        ],
        """\
ClusterQueue team-a of QuotaPlan research
├─ note: ClusterQueue team-a has the annotation slicewise.io/manage=false, so its quota is left as it is; remove the \
annotation, or take the queue out of the plan
├─ note: QuotaPlan research has suspend: true, so nothing is written
└─ h100-80gb-exclusive: nvidia.com/gpu 2 wanted, and so it stands
   └─ 8 = share 1 of 1 of 8 in h100-80gb-exclusive
      └─ 8 counted
         └─ n1 8
""",
    ),
}


@pytest.mark.parametrize(("items", "tree"), CASES.values(), ids=CASES)
def test_the_tree_is_the_arithmetic_of_the_queue(
    items: list[dict[str, Any]], tree: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["why", "team-a", "--snapshot", snapshot(tmp_path, *items)]) == 0
    assert capsys.readouterr() == (tree, "")


def test_what_boards_cannot_hold_together_is_taken_off_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promise = {"*": {"1g.10gb": 8, "3g.40gb": 12, "gpu": 4}}
    file = snapshot(
        tmp_path, document("n1", {}, {}), *partitionable_slices(8), *CLASSES, quota_plan(promise=promise)
    )
    assert main(["why", "team-a", "--snapshot", file]) == 0
    lines = [line.strip("├└─│ ") for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == (
        "note: 1 of the 4 gpu that promise asks for fit on the 8 boards of pool h100-80gb-mig-dynamic beside the rest; "
        "ask for fewer"
    )
    large = lines.index("16 if its boards were divided for nothing else")
    assert lines[large - 1] == "6 = share 3 of 4 of 8 in h100-80gb-mig-dynamic"
    assert lines[large + 2] == "less 8 that they may have no place for beside what else starts"


def test_what_changed_last_is_read_from_the_plans_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = {"time": "2026-11-29T10:00:00Z", "message": f"{ONE} 14 → 7: node n2 is gone"}
    status = {"queues": [{"name": "team-a", "lastChange": change}, {"name": "team-b"}, "odd"]}
    file = snapshot(tmp_path, mixed("n1", SEVEN), {**quota_plan(), "status": status})
    line = f"└─ changed last at 2026-11-29T10:00:00Z {ONE} 14 → 7: node n2 is gone"
    for queue, last in (("team-a", True), ("team-b", False)):
        assert main(["why", queue, "--snapshot", file]) == 0
        assert (line in capsys.readouterr().out.splitlines()) is last


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_programs_read_the_same(output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = snapshot(
        tmp_path, mixed("n1", SEVEN), mixed("n2", SEVEN, ready=False), quota_plan(headroom={"count": 1})
    )
    assert main(["why", "team-b", "--snapshot", file, "-o", output]) == 0
    (found,) = yaml.safe_load(capsys.readouterr().out)
    held = {"node": "n2", "counted": "0", "shown": "7", "reason": "the node is not Ready"}
    assert found == {
        "plan": "research",
        "kind": "ClusterQueue",
        "queue": "team-b",
        "cohort": None,
        "lastChange": "",
        "notes": [],
        "numbers": [
            {
                "flavor": "h100-80gb-mig-mixed",
                "resource": ONE,
                "wanted": "1",
                "standing": None,
                "pools": [
                    {
                        "pool": "h100-80gb-mig-mixed",
                        "units": "1",
                        "share": 1,
                        "shares": 4,
                        "quota": "6",
                        "counted": "7",
                        "maximum": None,
                        "notTogether": "0",
                        "headroom": "1",
                        "leftOver": "0",
                        "nodes": [{"node": "n1", "counted": "7", "shown": "7", "reason": ""}, held],
                    }
                ],
            }
        ],
    }


UNKNOWN = "slicewise why: no QuotaPlan lists a queue nightly; name one that `slicewise plan` shows\n"
NEAR = "slicewise why: no QuotaPlan lists a queue taem-a; did you mean team-a?\n"
COHORT = (
    "slicewise why: all is the cohort of QuotaPlan research; name one of its queues, such as team-a, team-b\n"
)


NODE = "slicewise why: node/n1: a Node is not work, so it waits for nothing; `slicewise pools` shows what nodes offer\n"
POOL = (
    "slicewise why: h100-80gb-exclusive is a pool, and no queue; `slicewise pools` shows it, "
    "and `slicewise plan` names queues\n"
)


@pytest.mark.parametrize(
    ("queue", "sentence"),
    [
        ("nightly", UNKNOWN),
        ("taem-a", NEAR),
        ("TEAM-A", NEAR.replace("taem-a", "TEAM-A")),
        ("all", COHORT),
        ("node/n1", NODE),
        ("h100-80gb-exclusive", POOL),
    ],
)
def test_a_queue_that_no_plan_lists_is_one_sentence(
    queue: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = snapshot(tmp_path, exclusive("n1"), quota_plan(cohort="all"))
    assert main(["why", queue, "--snapshot", file]) == 2
    assert capsys.readouterr() == ("", sentence)


def test_a_queue_that_stands_and_that_no_plan_lists_is_said_to_stand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queue = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "ClusterQueue",
        "metadata": {"name": "team-z"},
        "spec": {},
    }
    assert (
        main(["why", "team-z", "--snapshot", snapshot(tmp_path, exclusive("n1"), quota_plan(), queue)]) == 2
    )
    assert capsys.readouterr().err.startswith(
        "slicewise why: ClusterQueue team-z stands and no QuotaPlan lists it, so nothing says what it should have; list"
    )


@pytest.mark.parametrize(
    "name",
    [
        "clusterqueue/team-a",
        "clusterqueues.kueue.x-k8s.io/team-a",
        "cq/team-a",
        "queue/team-a",
        "localqueue/default",
        "lq/team-a",
    ],
)
def test_a_queue_may_be_named_with_its_kind(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = {
        "apiVersion": "kueue.x-k8s.io/v1beta2",
        "kind": "LocalQueue",
        "metadata": {"name": "default", "namespace": "lab"},
        "spec": {"clusterQueue": "team-a"},
    }
    file = snapshot(tmp_path, exclusive("n"), quota_plan(), local)
    assert main(["why", name, "-n", "lab", "--snapshot", file]) == 0
    assert capsys.readouterr().out.startswith("ClusterQueue team-a of QuotaPlan research")


def test_a_plan_is_explained_by_its_queues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = snapshot(tmp_path, exclusive("n"), quota_plan())
    assert main(["why", "quotaplan/research", "--snapshot", file]) == 2
    assert "name one of the queues that `slicewise plan` shows" in capsys.readouterr().err


def test_without_any_node_nothing_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "team-a", "--snapshot", snapshot(tmp_path, quota_plan())]) == 2
    out, said = capsys.readouterr()
    assert (out, said.count("\n")) == ("", 1)
    assert said.startswith("slicewise why: there is no node at all")


async def test_a_live_cluster_is_read_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with ApiServer(KINDS).running() as server:
        world = World(server)
        world.node(exclusive("n1"))
        world.plan(queues=TEAMS)
        words = ["why", "team-b", "--kubeconfig", kubeconfig(tmp_path, server.url)]
        assert await asyncio.to_thread(main, words) == 0
    assert "2 = share 1 of 4 of 8 in h100-80gb-exclusive" in capsys.readouterr().out


@pytest.mark.parametrize(
    "field", [{"suspend": True}, {"mode": "report"}], ids=lambda field: next(iter(field))
)
@pytest.mark.parametrize(("command", "status"), [("plan", 0), ("diff", 1)])
def test_what_is_wanted_of_a_plan_that_is_not_written_says_so(
    command: str,
    status: int,
    field: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = {"engine": "kueue", "queues": [{"name": "team-a"}], **field}
    document = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": "research"},
        "spec": spec,
    }
    assert main([command, "--snapshot", snapshot(tmp_path, exclusive("n"), document)]) == status
    ((name, value),) = field.items()
    said = f"{name}: {str(value).lower()}"
    assert capsys.readouterr().err == f"note: QuotaPlan research has {said}, so nothing is written\n"
