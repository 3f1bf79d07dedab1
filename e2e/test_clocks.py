"""Real processes whose date is wrong: API servers take the certificates that such a webhook makes."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from e2e.harness.balancer import Balancer
from e2e.harness.client import eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.installation import NAMESPACE, Installation, namespace
from e2e.harness.wrong_clock import with_clock
from e2e.test_certificates import SECRET, Replica, fingerprints
from e2e.test_webhook_rollout import JOB, SPACE

THREE_HOURS = 3 * 3600
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
