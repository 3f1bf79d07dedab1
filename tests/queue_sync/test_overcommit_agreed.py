"""Metric, alert, status, drift, doctor and page say the same of what is promised beyond what nodes offer."""

import asyncio
import json
import re
from collections import defaultdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from queue_sync.metrics import collector
from queue_sync.page.model import Moment, view
from queue_sync.planning.changes import ChangeSet
from queue_sync.planning.cluster_state import ClusterState
from queue_sync.planning.drift import drift
from queue_sync.planning.overcommit import unbacked_by_plan
from queue_sync.planning.quota import ObjectCache, QuotaCache
from queue_sync.status.plan_status import PassResult, status
from slicewise.api import keys
from slicewise.cli.doctor.cluster import admit
from slicewise.cli.doctor.command import findings
from slicewise.cli.main import main
from slicewise.kube.snapshot import Document
from tests.kube.apiserver import ApiServer, kubeconfig
from tests.queue_sync.running import FLAVORS, KINDS, QUEUES, VOLCANO, World, controlled, eventually
from tests.queue_sync.scenes import GPU, H100, ONE, exclusive, mixed
from tests.queue_sync.test_life_of_plans import above_truth, synced

WHOLE = "h100-80gb-exclusive"
ALERTS = Path(__file__).resolve().parents[2] / "charts/slicewise/files/alerts.yaml"
NOW = datetime(2026, 11, 29, tzinfo=UTC)
COHORTS = "/apis/kueue.x-k8s.io/v1beta2/cohorts"


def quotas(flavor: str, units: int, resource: str = GPU) -> dict[str, Any]:
    each = {"name": flavor, "resources": [{"name": resource, "nominalQuota": str(units)}]}
    return {"resourceGroups": [{"coveredResources": [resource], "flavors": [each]}], "namespaceSelector": {}}


def nobody(_: World) -> None:
    """The plan's own queue has all that there is, and nobody else has anything."""


def a_queue(world: World) -> None:
    world.server.put(QUEUES, "own", spec=quotas(WHOLE, 3))


def a_flavor_over_the_same_nodes(world: World) -> None:
    world.server.put(FLAVORS, "by-hand", spec={"nodeLabels": {keys.PRODUCT: H100}})
    world.server.put(QUEUES, "own", spec=quotas("by-hand", 3))


def a_cohort(world: World) -> None:
    world.server.put(COHORTS, "all", spec={"resourceGroups": quotas(WHOLE, 3)["resourceGroups"]})


def a_queue_of_volcano(world: World) -> None:
    world.server.put(VOLCANO, "own", spec={"deserved": {GPU: "3"}})


@pytest.mark.parametrize(
    ("promise", "excess"),
    [(nobody, 0), (a_queue, 3), (a_flavor_over_the_same_nodes, 3), (a_cohort, 3), (a_queue_of_volcano, 3)],
)
async def test_all_agree(
    promise: Any, excess: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ApiServer({**KINDS, COHORTS: "Cohort"}).running() as server:
        world = World(server)
        world.node(exclusive("n1"))
        world.plan()
        async with controlled(server) as controller:
            await synced(world, controller)
            promise(world)
            await world.idle(controller)
            await eventually(lambda: above_truth(controller) == excess)
            await eventually(lambda: (world.condition("Backed")["status"] == "False") is bool(excess))
            reason = world.condition("Ready")["reason"]
            assert reason == ("QuotaWithoutNodes" if excess else "Ready")
        found = {}
        for command in ("drift", "doctor"):
            words = [command, "-o", "json", "--kubeconfig", kubeconfig(tmp_path, server.url)]
            await asyncio.to_thread(main, words)
            printed = json.loads(capsys.readouterr().out)
            found[command] = printed["findings"] if command == "doctor" else printed
    assert [each["code"] for each in found["drift"]] == (["QuotaWithoutNodes"] if excess else [])
    said = {each["code"] for each in found["doctor"]} & {"QuotaWithoutNodes", "FlavorsOverlap"}
    assert bool(said) is bool(excess)


# --- The same as a property, over what commands, controller and page make of one cluster ------------------


def documents(own: int, by_hand: int, cohort: int, volcano: int, slices: int) -> list[Document]:
    """Eight whole boards and seven slices, a plan over them whose queue has `own` boards, and what others promise."""

    def thing(api_version: str, kind: str, name: str, spec: Any) -> dict[str, Any]:
        return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}

    kueue = "kueue.x-k8s.io/v1beta2"
    ours = thing(kueue, "ClusterQueue", "team-a", quotas(WHOLE, own))
    ours["metadata"]["annotations"] = {keys.PLAN: "research"}
    objects = [
        exclusive("n", gpus=8),
        mixed("m", {"1g.10gb": 7}),
        thing(
            "slicewise.io/v1alpha1",
            "QuotaPlan",
            "research",
            {"engine": "kueue", "queues": [{"name": "team-a"}]},
        ),
        thing(kueue, "ResourceFlavor", WHOLE, {"nodeLabels": {keys.POOL: WHOLE}}),
        thing(kueue, "ResourceFlavor", "by-hand", {"nodeLabels": {keys.PRODUCT: H100}}),
        ours,
        thing(kueue, "ClusterQueue", "b", quotas("by-hand", by_hand)),
        thing(kueue, "ClusterQueue", "s", quotas("h100-80gb-mig-mixed", slices, ONE)),
        thing(kueue, "Cohort", "c", {"resourceGroups": quotas(WHOLE, cohort)["resourceGroups"]}),
        thing("scheduling.volcano.sh/v1beta1", "Queue", "v", {"deserved": {GPU: str(volcano)}}),
    ]
    return [Document("test", number, each) for number, each in enumerate(objects, start=1)]


def metric(cluster: ClusterState) -> dict[tuple[str, ...], float]:
    """`slicewise_quota_above_truth` of a controller that sees this cluster."""
    existing = cluster.existing
    watched = SimpleNamespace(
        plans=SimpleNamespace(store={}),
        cluster_queues=SimpleNamespace(store=existing.cluster_queues),
        queues=SimpleNamespace(store=existing.queues),
    )
    source = SimpleNamespace(
        leading=True,
        node_states=SimpleNamespace(pools=cluster.pools, shown={}, nodes_believed=True),
        plans=SimpleNamespace(existing=lambda: existing, plans=lambda: cluster.plans),
        overcommitment=SimpleNamespace(quotas=defaultdict(QuotaCache)),
        use=existing.use,
        watched=watched,
    )
    found = {}
    for name, _, _, samples in collector.samples(cast("collector.Source", source), defaultdict(ObjectCache)):
        if name == "slicewise_quota_above_truth":
            found = dict(samples)
            break
    return found


@cache
def threshold() -> int:
    """Above which value of the metric the alert is raised, by the alert's own expression."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    rules = {rule.get("alert"): rule["expr"] for group in groups for rule in group["rules"]}
    above = re.fullmatch(
        r"max by \(.*\) \(slicewise_quota_above_truth\) > (\d+)", rules["SlicewiseQuotaAboveTruth"]
    )
    assert above is not None
    return int(above[1])


UNITS = st.integers(0, 9)


@given(UNITS, UNITS, UNITS, UNITS, UNITS)
def test_metric_alert_drift_doctor_status_and_page_agree(
    own: int, by_hand: int, cohort: int, volcano: int, slices: int
) -> None:
    patient = admit(documents(own, by_hand, cohort, volcano, slices), NOW)
    cluster = patient.cluster
    samples = metric(cluster)
    excess = int(sum(samples.values()))
    assert excess == max(0, own + by_hand + cohort - 8) + volcano + max(0, slices - 7)

    assert any(value > threshold() for value in samples.values()) is bool(excess)
    slipped = [each.code for each in drift(cluster)]
    assert ("QuotaWithoutNodes" in slipped) is bool(excess)
    diagnosed = {each.code for each in findings(patient)}
    if excess:
        assert diagnosed & {"QuotaWithoutNodes", "FlavorsOverlap"}
    else:
        assert "QuotaWithoutNodes" not in diagnosed
    (research,) = cluster.plans
    unbacked = unbacked_by_plan(cluster.existing, cluster.plans, cluster.pools).get("research", ())
    said = status(
        research, 1, PassResult(), cluster.pools, {}, cluster.existing, {}, "now", unbacked=unbacked
    )
    (backed,) = [each for each in said["conditions"] if each["type"] == "Backed"]
    assert (backed["status"] == "False") is bool(excess)
    page = view(Moment("test", False, cluster, ChangeSet(), {}))
    assert sum(each["excess"] for each in page["promises"]) == excess
