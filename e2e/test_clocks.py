"""Real processes whose date is wrong: API servers take the certificates that such a webhook makes, and for such a
controller a hold is over no sooner and no later."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import nodes
from e2e.harness.balancer import Balancer
from e2e.harness.client import eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import NAMESPACE, Installation, Server, namespace
from e2e.harness.kueue import forget_plan
from e2e.harness.wrong_clock import with_clock
from e2e.test_certificates import SECRET, Replica, fingerprints
from e2e.test_webhook_rollout import JOB, SPACE

KUEUE, NAME, NODE = "kueue.x-k8s.io/v1beta2", "clocks", "clocks-mig"
THREE_HOURS = 3 * 3600
PLAN = {
    "apiVersion": "slicewise.io/v1alpha1",
    "kind": "QuotaPlan",
    "metadata": {"name": NAME},
    "spec": {"engine": "kueue", "queues": [{"name": NAME}]},
}
wrongly = pytest.mark.parametrize("wrong", [-THREE_HOURS, THREE_HOURS], ids=["behind", "ahead"])


def _authorities(cluster: AnyCluster) -> list[str]:
    """What the Secret holds, the one that signs first."""
    data = cluster.get("v1", "Secret", SECRET, NAMESPACE)["data"]["ca.crt"]
    return fingerprints(base64.b64decode(data).decode())


def _is_heard(cluster: AnyCluster) -> bool:
    """Whether the webhook answers: under failurePolicy Fail nothing else does."""
    answer = cluster.try_create(JOB, dry_run=True)
    return "failed calling webhook" not in answer.message


@wrongly
def test_the_certificates_of_a_webhook_with_a_wrong_date_are_taken(
    cluster: AnyCluster, tmp_path: Path, wrong: int
) -> None:
    installation = Installation(cluster, tmp_path, webhook__failurePolicy="Fail")
    replica = Replica(cluster, tmp_path, 40)
    replica.program.command = with_clock(replica.program.command, wrong)
    balancer = Balancer(cluster.listen_host, installation.port, lambda: [replica.address])
    balancer.start()
    cluster.delete("v1", "Secret", SECRET, NAMESPACE)
    try:
        installation.apply()
        namespace(cluster, SPACE, policy="default")
        replica.start()
        installation.trusted()
        eventually(lambda: _is_heard(cluster), "it is heard")
        (first, *_) = _authorities(cluster)
        rotate = {"metadata": {"annotations": {"slicewise.io/rotate": "now"}}}
        cluster.patch("v1", "Secret", SECRET, rotate, NAMESPACE)
        eventually(lambda: _authorities(cluster)[0] != first, "another authority signs")
        eventually(lambda: first not in _authorities(cluster), "the first is gone")
        assert _is_heard(cluster)
    finally:
        installation.stop()
        replica.program.kill()
        balancer.stop()
        cluster.delete("v1", "Secret", SECRET, NAMESPACE)


@pytest.fixture
def planned(installed: AnyCluster) -> Iterator[AnyCluster]:
    """A node with seven slices, and a plan."""
    nodes.add(installed, nodes.mig_mixed(NODE, {"1g.10gb": 7}, gpus=1))
    installed.apply(PLAN)
    yield installed
    forget_plan(installed, NAME)
    nodes.remove(installed, NODE)


def _quota(cluster: AnyCluster) -> str:
    queue = cluster.find(KUEUE, "ClusterQueue", NAME) or {"spec": {}}
    groups = queue["spec"].get("resourceGroups") or ()
    return "".join(
        each["nominalQuota"]
        for group in groups
        for flavor in group["flavors"]
        for each in flavor["resources"]
    )


def _held_since(cluster: AnyCluster) -> str:
    offer = cluster.get("v1", "Node", NODE)["metadata"].get("annotations", {}).get("slicewise.io/offer", "{}")
    return str(json.loads(offer).get("heldSince", ""))


def _is_believed(cluster: AnyCluster) -> bool:
    return "slicewise.io/offer" in cluster.get("v1", "Node", NODE)["metadata"].get("annotations", {})


@wrongly
def test_a_hold_is_over_no_sooner_and_no_later_where_the_next_leader_has_a_wrong_date(
    planned: AnyCluster, tmp_path: Path, wrong: int
) -> None:
    times = ("--settle", "1s", "--hold-down", "45s")
    first = Server(planned, "controller", tmp_path, 41, *times)
    second = Server(planned, "controller", tmp_path, 42, *times)
    second.program.command = with_clock(second.program.command, wrong)
    try:
        first.start()
        eventually(lambda: _quota(planned) == "7" and _is_believed(planned), "the quota stands")
        nodes.plugin_gone(planned, NODE)
        eventually(lambda: _held_since(planned) != "", "what was there is held")
        held = _held_since(planned)
        first.program.kill()
        second.start()
        eventually(
            lambda: second.metric("slicewise_controller_reconcile_total", controller="plans") > 0,
            "it has looked",
        )
        assert (_quota(planned), _held_since(planned)) == ("7", held)
        eventually(lambda: _quota(planned) != "7", "the hold is over")
    finally:
        first.program.kill()
        second.program.kill()
