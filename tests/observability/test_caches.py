"""A policy that cannot be used is seen from outside, as long as it stands."""

from typing import Any

from admission.server.caches import NAMESPACES, NODES, POLICIES
from admission.server.metrics import Metrics
from tests.admission_server.test_caches import started
from tests.kube.apiserver import ApiServer
from tests.kube.clocks import eventually
from tests.observability.scraping import value

KINDS = {NAMESPACES: "Namespace", NODES: "Node", POLICIES: "SlicingPolicy"}


def _policy(strategy: str) -> dict[str, Any]:
    spec = {"defaultClass": "training", "classes": {"training": {"strategy": strategy}}}
    return {"apiVersion": "slicewise.io/v1alpha1", "spec": spec}


async def test_a_policy_that_breaks_a_rule_counts_until_it_is_mended() -> None:
    metrics = Metrics()

    def broken() -> float | None:
        return value(metrics.registry, "slicewise_cache_malformed_objects", cache="slicingpolicies")

    async with ApiServer(KINDS).running() as server, started(server) as caches:
        metrics.watch_caches(caches.ages)
        server.put(POLICIES, "strict", **_policy("exclusive"))
        await eventually(lambda: "strict" in caches.world.policies and broken() == 0)
        server.put(POLICIES, "strict", **_policy("halves"))
        await eventually(lambda: broken() == 1)
        server.put(POLICIES, "strict", **_policy("mig"))
        await eventually(lambda: broken() == 0)
