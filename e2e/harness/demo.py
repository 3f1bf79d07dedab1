"""`make cluster-demo`: the demo's story on a real API server, scheduler and Kueue, and a chapter on real Volcano.

The same Job is created in a namespace with the label and in one without; then a node is repartitioned and the quota
follows. On Volcano it is a gang, and a tree of queues. Everything that is printed is read back from the cluster.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from e2e.harness import nodes, volcano
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster, Cluster
from e2e.harness.errors import ClusterError
from e2e.harness.external import choose
from e2e.harness.installation import Installation, decision, namespace
from e2e.harness.kwok import KEEP_RUNNING
from slicewise.cli.output import table

KUEUE = "kueue.x-k8s.io/v1beta2"
GPU, SMALL = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
LABELLED, PLAIN = "with-label", "without-label"


def main() -> int:
    """Plays the demo on the cluster that the tests would use."""
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {text}", file=sys.stderr)

    say("starting a control plane …")
    try:
        cluster = choose()
    except ClusterError as error:
        print(f"cluster-demo: {error}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="slicewise-demo-") as folder:
        installation = Installation(cluster, Path(folder), settle="2s", hold_down="10s")
        try:
            say("it is up; installing Slicewise from its chart …")
            installation.start()
            play(cluster, say)
        finally:
            installation.stop()
            cluster.stop()
    say("the chapter on Volcano: a control plane of its own …")
    with (
        Cluster(volcano=True) as cluster,
        tempfile.TemporaryDirectory(prefix="slicewise-demo-") as folder,
    ):
        installation = Installation(cluster, Path(folder), settle="2s", hold_down="10s")
        try:
            installation.start()
            _play_volcano(cluster, say)
        finally:
            installation.stop()
    print("\nNothing is left running. Next: README.md, `slicewise plan` against a cluster of yours.")
    return 0


def play(cluster: AnyCluster, say: Callable[[str], None]) -> None:
    """The chapter on Kueue, on a cluster where Slicewise is installed; prints what it reads there."""
    before = nodes.mig_mixed("gpu-1", {"1g.10gb": 7}, gpus=1)
    nodes.add(cluster, before)
    namespace(cluster, LABELLED, policy="default", workload_class="inference", team="demo")
    namespace(cluster, PLAIN, team="demo")
    queue = {"name": "demo", "share": 1, "namespaces": {"matchLabels": {"team": "demo"}}}
    spec = {"engine": "kueue", "queues": [queue]}
    plan = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": "demo"},
        "spec": spec,
    }
    cluster.apply(plan)
    eventually(lambda: _quota(cluster) == {SMALL: 7}, "the quota says what the node offers")
    _title("One H100 in seven slices, and the quota that came of it")
    _print_quota(cluster)

    say(f"the same Job, asking for {GPU}: 1, in a namespace with the label and in one without …")
    for space in (LABELLED, PLAIN):
        cluster.create(_job(space))
    eventually(lambda: _pods(cluster, LABELLED)[0]["status"]["phase"] == "Running", "the labelled Job runs")
    eventually(lambda: GPU in _waits_for(cluster, PLAIN), "Kueue says why the other one waits")
    _title("kubectl get jobs,workloads -A")
    rows = []
    for space in (LABELLED, PLAIN):
        job = cluster.get("batch/v1", "Job", "train", space)
        asks = job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
        pods = _pods(cluster, space)
        state = pods[0]["status"]["phase"] if pods else "Pending"
        asked = ", ".join(f"{name}={count}" for name, count in asks.items())
        rows.append((space, "job/train", asked, state, _waits_for(cluster, space)))
    print(table(("NAMESPACE", "NAME", "ASKS", "STATUS", "MESSAGE"), rows))
    print(f"\n  why: {decision(cluster.get('batch/v1', 'Job', 'train', LABELLED))['reason']}")

    say("the node is repartitioned to 3g.40gb + 4g.40gb, as the MIG manager does it, step by step …")
    after = nodes.mig_mixed("gpu-1", {"3g.40gb": 1, "4g.40gb": 1}, gpus=1)
    _title("The quota while the node is repartitioned")
    for step in nodes.repartition(before, after):
        step.apply(cluster, "gpu-1")
        time.sleep(0.7)
        print(f"  {step.name:12} {_words(_quota(cluster))}")
    wanted = {"nvidia.com/mig-3g.40gb": 1, "nvidia.com/mig-4g.40gb": 1}
    eventually(lambda: _quota(cluster) == wanted, "the quota follows")
    print(f"  {'settled':12} {_words(_quota(cluster))}")


# The chapter on Volcano.


def _play_volcano(cluster: AnyCluster, say: Callable[[str], None]) -> None:
    before = nodes.mig_mixed("gpu-1", {"1g.10gb": 7}, gpus=1)
    nodes.add(cluster, before)
    namespace(
        cluster, LABELLED, policy="default", workload_class="inference", engine="volcano", queue="team-a"
    )
    namespace(cluster, PLAIN)
    queues = [{"name": "team-a", "share": 3}, {"name": "team-b", "share": 1}]
    plan = {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "QuotaPlan",
        "metadata": {"name": "demo"},
        "spec": {"engine": "volcano", "cohort": "lab", "queues": queues},
    }
    cluster.apply(plan)
    names = ("lab", "team-a", "team-b")
    eventually(lambda: volcano.numbers(cluster, "lab") == {SMALL: 7}, "the tree says what the node offers")
    eventually(lambda: volcano.is_open(cluster, *names), "the queues are open")
    _title("Volcano: one H100 in seven slices, and a tree of Queues")
    _print_queues(cluster, names)

    say(f"the same gang of four, asking for {GPU}: 1 each, with the label and without, and one of eight …")
    cluster.create(volcano.vcjob("gang", LABELLED, 4, requests=True))
    cluster.create(volcano.vcjob("gang", PLAIN, 4, queue="team-a", requests=True))
    cluster.create(volcano.vcjob("large", LABELLED, 8, requests=True))
    eventually(lambda: volcano.running(cluster, LABELLED, "gang") == 4, "the labelled gang runs")
    eventually(
        lambda: volcano.pod_group(cluster, LABELLED, "gang")["status"]["phase"] == "Running",
        "Volcano says so",
    )
    waiting = ((PLAIN, "gang", GPU), (LABELLED, "large", SMALL))
    for space, name, resource in waiting:
        eventually(partial(_says, cluster, space, name, resource), "Volcano says why the others wait")
    _title("kubectl get podgroups -A")
    rows = []
    for space, name in ((LABELLED, "gang"), (PLAIN, "gang"), (LABELLED, "large")):
        group = volcano.pod_group(cluster, space, name)
        asked = ", ".join(
            f"{n}={c}" for n, c in group["spec"]["minResources"].items() if n.startswith("nvidia")
        )
        said = next(
            (line for line in volcano.says(cluster, space, name).splitlines() if "insufficient" in line), ""
        )
        runs = volcano.running(cluster, space, name)
        rows.append((space, name, asked, group["status"]["phase"], str(runs), said if not runs else ""))
    print(table(("NAMESPACE", "GANG", "MIN RESOURCES", "PHASE", "RUNNING", "MESSAGE"), rows))

    say("the node is repartitioned; the tree follows, children before their parent where numbers shrink …")
    volcano.clear(cluster, LABELLED)
    for step in nodes.repartition(before, nodes.mig_mixed("gpu-1", {"3g.40gb": 1, "4g.40gb": 1}, gpus=1)):
        step.apply(cluster, "gpu-1")
    wanted = {SMALL: 0, "nvidia.com/mig-3g.40gb": 1, "nvidia.com/mig-4g.40gb": 1}
    eventually(lambda: volcano.numbers(cluster, "lab") == wanted, "the tree follows")
    _title("The Queues afterwards")
    _print_queues(cluster, names)


def _says(cluster: AnyCluster, space: str, name: str, resource: str) -> bool:
    return f"insufficient {resource}" in volcano.says(cluster, space, name)


def _print_queues(cluster: AnyCluster, names: tuple[str, ...]) -> None:
    rows = []
    for name in names:
        parent = cluster.get(volcano.SCHEDULING, "Queue", name)["spec"].get("parent", "")
        both = (volcano.numbers(cluster, name, field) for field in ("deserved", "capability"))
        deserved, most = ({n: count for n, count in listed.items() if count} for listed in both)
        rows.append((name, parent, _words(deserved), _words(most)))
    print(table(("QUEUE", "PARENT", "DESERVED", "CAPABILITY"), rows))


def _title(text: str) -> None:
    print(f"\n{text}")


def _job(space: str) -> Object:
    container = {"name": "main", "image": "none", "resources": {"limits": {GPU: 1}}}
    annotations = {"annotations": {KEEP_RUNNING: "true"}}
    template = {"metadata": annotations, "spec": {"restartPolicy": "Never", "containers": [container]}}
    labels = {"kueue.x-k8s.io/queue-name": "demo"}
    metadata = {"name": "train", "namespace": space, "labels": labels}
    spec = {"template": template, "suspend": True}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _pods(cluster: AnyCluster, space: str) -> list[Object]:
    return cluster.list("v1", "Pod", space)


def _waits_for(cluster: AnyCluster, space: str) -> str:
    for workload in cluster.list(KUEUE, "Workload", space):
        for condition in workload.get("status", {}).get("conditions") or ():
            if condition["type"] == "QuotaReserved" and condition["status"] == "False":
                return str(condition["message"])
    return ""


def _quota(cluster: AnyCluster) -> dict[str, int]:
    """What Kueue may hand out, by resource, without the zeros."""
    groups = cluster.get(KUEUE, "ClusterQueue", "demo")["spec"].get("resourceGroups") or ()
    found: dict[str, int] = {}
    for group in groups:
        for flavor in group["flavors"]:
            for resource in flavor["resources"]:
                found[resource["name"]] = found.get(resource["name"], 0) + int(resource["nominalQuota"])
    return {name: count for name, count in sorted(found.items()) if count}


def _words(quota: dict[str, int]) -> str:
    return ", ".join(f"{name}={count}" for name, count in quota.items()) or "nothing"


def _print_quota(cluster: AnyCluster) -> None:
    print(table(("CLUSTERQUEUE", "NOMINAL QUOTA"), [("demo", _words(_quota(cluster)))]))


if __name__ == "__main__":
    sys.exit(main())
