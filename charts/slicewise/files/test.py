"""What `helm test` runs: an object of ours is sent to the API server and back, and nothing is kept.

A policy that makes no sense must be refused in the webhook's own words: only then has the API server reached a replica
and believed its certificate. One that makes sense must be let through.
"""

import asyncio
import os
import sys

from slicewise.kube.client import Client
from slicewise.kube.errors import KubeError

POLICIES = "/apis/slicewise.io/v1alpha1/slicingpolicies"


def policy(strategy: str, **more: object) -> dict[str, object]:
    classes = {"a": {"strategy": strategy, **more}}
    return {
        "apiVersion": "slicewise.io/v1alpha1",
        "kind": "SlicingPolicy",
        "metadata": {"name": "slicewise-test"},
        "spec": {"defaultClass": "a", "classes": classes},
    }


async def main() -> str:
    kubeconfig = os.environ.get("SLICEWISE_KUBECONFIG")
    async with Client.from_kubeconfig(kubeconfig, component="test") as client:
        try:
            for one in (policy("exclusive"), policy("mig", size={"profile": "huge"})):
                await client.request("POST", POLICIES, query={"dryRun": "All"}, body=one)
        except KubeError as error:
            return "" if "'huge' is no MIG profile" in str(error) else f"not the webhook's answer: {error}"
    return "a policy that makes no sense was let through: the API server does not ask the webhook"


try:
    said = asyncio.run(main())
except KubeError as error:
    said = str(error)
print(said or "the API server reaches the webhook, believes its certificate and takes its answer")
sys.exit(1 if said else 0)
