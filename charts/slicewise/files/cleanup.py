"""What runs before the release is deleted: both webhook configurations go, so that no call waits for a replica."""

import asyncio
import os
import sys

from slicewise.kube.client import Client
from slicewise.kube.errors import KubeError, NotFoundError

GROUP = "/apis/admissionregistration.k8s.io/v1"


async def main() -> None:
    kubeconfig = os.environ.get("SLICEWISE_KUBECONFIG")
    async with Client.from_kubeconfig(kubeconfig, component="cleanup") as client:
        for resource in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
            try:
                await client.request("DELETE", f"{GROUP}/{resource}/admission.slicewise.io")
            except NotFoundError:
                print(f"{resource}: gone already")
            else:
                print(f"{resource}: deleted")


try:
    asyncio.run(main())
except KubeError as error:
    sys.exit(f"the webhook configurations are still there: {error}")
