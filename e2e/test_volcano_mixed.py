"""One cluster, two engines: Kueue on half of the nodes, Volcano on the other half, and the border between them.

Both halves offer the very same resource name, so that nothing but the pool tells them apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.harness import nodes
from e2e.harness.client import Object, eventually
from e2e.harness.cluster import AnyCluster, Cluster
from e2e.harness.installation import CONFIGURATION, ROOT, Installation, decision, namespace
from e2e.harness.kwok import KEEP_RUNNING
from e2e.harness.volcano import GPU, SCHEDULING, is_open, numbers, running, vcjob
from e2e.harness.volcano_scheduler import only_nodes

OWN, KUEUE = "slicewise.io/v1alpha1", "kueue.x-k8s.io/v1beta2"
ONE = "nvidia.com/mig-1g.10gb"
pytestmark = pytest.mark.usefixtures("volcano_programs")
FOR_KUEUE, FOR_VOLCANO = "a100-80gb-mig-mixed", "h100-80gb-mig-mixed"


@pytest.fixture(scope="module")
def slicewise(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Seven slices for each engine, a policy, a plan and a namespace for each."""
    with Cluster(kueue=True, volcano=True) as cluster:
        found = Installation(cluster, tmp_path_factory.mktemp("slicewise"), replicas=1)
        found.start()
        nodes.add(
            cluster,
            nodes.mig_mixed("half-kueue", {"1g.10gb": 7}, board=nodes.A100_80GB, gpus=1),
            nodes.mig_mixed("half-volcano", {"1g.10gb": 7}, gpus=1),
        )
        for engine, model, pool in (("kueue", "*A100*", FOR_KUEUE), ("volcano", "*H100*", FOR_VOLCANO)):
            classes = {"slices": {"strategy": "mig", "models": [model]}}
            spec = {"defaultClass": "slices", "classes": classes}
            name = f"on-{engine}"
            cluster.apply(
                {"apiVersion": OWN, "kind": "SlicingPolicy", "metadata": {"name": name}, "spec": spec}
            )
            namespace(cluster, name, policy=name, engine=engine, queue=name, team=name)
            queue: Object = {"name": name}
            if engine == "kueue":
                queue |= {"namespaces": {"matchLabels": {"team": name}}}
            cluster.apply(plan(name, engine, pool, queue))
        namespace(cluster, "on-nothing")
        eventually(lambda: numbers(cluster, "on-volcano") == {ONE: 7}, "Volcano's queue has its half")
        eventually(lambda: nominal(cluster) == {(FOR_KUEUE, ONE): 7}, "Kueue's queue has its half")
        eventually(lambda: is_open(cluster, "on-volcano"), "Volcano's queue is open")
        yield found
        found.stop()


def plan(name: str, engine: str, pool: str, queue: Object) -> Object:
    spec = {"engine": engine, "pools": {"matchNames": [pool]}, "queues": [queue]}
    return {"apiVersion": OWN, "kind": "QuotaPlan", "metadata": {"name": name}, "spec": spec}


def nominal(cluster: AnyCluster) -> dict[tuple[str, str], int]:
    groups = cluster.get(KUEUE, "ClusterQueue", "on-kueue")["spec"]["resourceGroups"]
    return {
        (flavor["name"], quota["name"]): int(quota["nominalQuota"])
        for group in groups
        for flavor in group["flavors"]
        for quota in flavor["resources"]
    }


def job(name: str, pods: int) -> Object:
    container = {"name": "main", "image": "none", "resources": {"limits": {GPU: 1}}}
    spec = {"restartPolicy": "Never", "containers": [container]}
    template = {"metadata": {"annotations": {KEEP_RUNNING: "true"}}, "spec": spec}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "on-kueue"},
        "spec": {"template": template, "suspend": True, "parallelism": pods, "completions": pods},
    }


def places(cluster: AnyCluster, space: str) -> dict[str, int]:
    """How many pods of a namespace run on each node."""
    found: dict[str, int] = {}
    for pod in cluster.list("v1", "Pod", space):
        if pod["status"].get("phase") == "Running":
            found[pod["spec"]["nodeName"]] = found.get(pod["spec"]["nodeName"], 0) + 1
    return found


def drift(cluster: AnyCluster) -> list[dict[str, str]]:
    """What `slicewise drift` finds in the live cluster."""
    command = [
        sys.executable,
        "-m",
        "slicewise",
        "drift",
        "-o",
        "json",
        "--kubeconfig",
        str(cluster.kubeconfig),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


@contextmanager
def no_validating_webhook(slicewise: Installation) -> Iterator[None]:
    """While it lasts, the API server asks nobody about plans."""
    group = "admissionregistration.k8s.io/v1"
    slicewise.cluster.delete(group, "ValidatingWebhookConfiguration", CONFIGURATION)
    try:
        yield
    finally:
        slicewise.apply()
        slicewise.trusted()


HALVES = [("kueue", "half-kueue", FOR_KUEUE), ("volcano", "half-volcano", FOR_VOLCANO)]


@pytest.mark.parametrize(("engine", "node", "pool"), HALVES)
def test_the_same_request_goes_to_the_half_of_its_namespaces_engine(
    slicewise: Installation, engine: str, node: str, pool: str
) -> None:
    cluster = slicewise.cluster
    space, queue = f"any-{engine}", f"on-{engine}"
    labels = {"workload_class": "inference", "engine": engine, "queue": queue, "team": queue}
    namespace(cluster, space, policy="default", **labels)
    sent = job("same", 7)
    sent["metadata"]["namespace"] = space
    sent["spec"]["suspend"] = engine == "kueue"

    def decided() -> None:
        answer = cluster.try_create(sent, dry_run=True)
        assert answer.status == 201, answer.message
        assert decision(answer.body)["pools"] == [pool]
        assert decision(answer.body)["steered"], "else it is left to chance where the pods go"

    eventually(decided, "the webhook knows the plans and the namespace")
    cluster.create(sent)
    eventually(lambda: places(cluster, space) == {node: 7}, f"{engine} fills its half")
    cluster.delete("batch/v1", "Job", "same", space, wait=True)
    eventually(lambda: not cluster.list("v1", "Pod", space), "its half is free")


def test_what_only_the_other_half_has_is_offered_by_nobody(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    namespace(cluster, "across", policy="on-volcano", engine="kueue")
    sent = job("across", 1)
    sent["metadata"]["namespace"] = "across"
    words = f"offered by {FOR_VOLCANO} alone, which QuotaPlan on-volcano gives to Volcano"
    eventually(
        lambda: words in cluster.try_create(sent, dry_run=True).message, "the sentence says who has it"
    )
    cluster.delete(OWN, "QuotaPlan", "on-volcano")
    try:
        eventually(
            lambda: cluster.try_create(sent, dry_run=True).status == 201, "without the plan it is free"
        )
    finally:
        cluster.apply(plan("on-volcano", "volcano", FOR_VOLCANO, {"name": "on-volcano"}))
    eventually(lambda: words in cluster.try_create(sent, dry_run=True).message, "and with it as before")


def test_each_engine_fills_its_half_and_no_more(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    assert isinstance(cluster, Cluster)
    cluster.create(vcjob("gang", "on-volcano", 7))
    cluster.create(job("batch", 7))
    eventually(lambda: places(cluster, "on-volcano") == {"half-volcano": 7}, "Volcano fills its half")
    eventually(lambda: places(cluster, "on-kueue") == {"half-kueue": 7}, "Kueue fills its half")
    assert numbers(cluster, "on-volcano") == {ONE: 7}
    assert nominal(cluster) == {(FOR_KUEUE, ONE): 7}
    assert drift(cluster) == []
    nodes.remove(cluster, "half-kueue")
    eventually(lambda: sum(nominal(cluster).values()) == 0, "a node that Kueue lost is Kueue's loss")
    assert numbers(cluster, "on-volcano") == {ONE: 7}
    nodes.add(cluster, nodes.mig_mixed("half-kueue", {"1g.10gb": 7}, board=nodes.A100_80GB, gpus=1))
    eventually(lambda: nominal(cluster) == {(FOR_KUEUE, ONE): 7}, "and it is back")


def test_a_pool_for_both_engines_is_refused_with_its_nodes(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    grabs = plan("grabs", "volcano", "*-mig-mixed", {"name": "grabs"})
    answer = cluster.try_create(grabs)
    assert answer.status == 422, answer.message
    assert "each hand out all of its nodes (half-kueue); take it out of one of them" in answer.message
    with no_validating_webhook(slicewise):
        # The API server learns a moment later that there is nobody to ask.
        eventually(lambda: cluster.try_create(grabs).status == 201, "nobody is at the door")

    def refused(name: str) -> bool:
        conditions = cluster.get(OWN, "QuotaPlan", name)["status"]["conditions"]
        (accepted,) = [each for each in conditions if each["type"] == "Accepted"]
        assert accepted["status"] == "False"
        assert "each hand out all of its nodes (half-kueue)" in accepted["message"], accepted["message"]
        return True

    eventually(lambda: refused("grabs"), "the newer plan says why")
    assert cluster.find(SCHEDULING, "Queue", "grabs") is None
    assert nominal(cluster) == {(FOR_KUEUE, ONE): 7}
    assert numbers(cluster, "on-volcano") == {ONE: 7}
    cluster.delete(OWN, "QuotaPlan", "grabs")
    (accepted,) = [
        each
        for each in cluster.get(OWN, "QuotaPlan", "on-kueue")["status"]["conditions"]
        if each["type"] == "Accepted"
    ]
    assert accepted["status"] == "True", "the older goes on"


def test_work_across_the_border_is_seen_and_the_node_selector_keeps_it_home(slicewise: Installation) -> None:
    cluster = slicewise.cluster
    assert isinstance(cluster, Cluster)
    cluster.delete("batch/v1", "Job", "batch", "on-kueue", wait=True)
    eventually(lambda: not cluster.list("v1", "Pod", "on-kueue"), "Kueue's half is free")
    # Volcano's half is full, and its scheduler sees all nodes.
    cluster.create(vcjob("stray", "on-nothing", 1, {ONE: 1}))
    eventually(lambda: places(cluster, "on-nothing") == {"half-kueue": 1}, "Volcano takes Kueue's slice")
    (found,) = drift(cluster)
    assert (found["kind"], found["code"]) == ("Pod", "OnOtherEnginesNodes")
    assert "--node-selector=slicewise.io/pool:POOL" in found["sentence"]
    cluster.delete("batch.volcano.sh/v1alpha1", "Job", "stray", "on-nothing", wait=True)
    eventually(lambda: not cluster.list("v1", "Pod", "on-nothing"), "the stray is gone")

    only_nodes(cluster, f"slicewise.io/pool:{FOR_VOLCANO}")
    cluster.create(vcjob("homely", "on-nothing", 1, {ONE: 1}))
    cluster.delete("batch.volcano.sh/v1alpha1", "Job", "gang", "on-volcano")
    eventually(lambda: running(cluster, "on-nothing", "homely") == 1, "it waits for Volcano's own half")
    assert places(cluster, "on-nothing") == {"half-volcano": 1}
    assert drift(cluster) == []
