"""cert-manager on a bare control plane: its CRDs, its controllers for self-signed and CA issuers, its injector.

Its own webhook is left out: it refuses and completes what people write, and what the chart writes is complete.
"""

from __future__ import annotations

from typing import Self

from e2e.harness.binaries import CERT_MANAGER, ensure
from e2e.harness.client import Object, eventually, load
from e2e.harness.cluster import Cluster
from e2e.harness.definitions import undescribed
from e2e.harness.processes import Program

VERSION = "cert-manager.io/v1"
INJECTOR = "cert-manager-cainjector"
"""The field manager that writes caBundle."""


class CertManager:
    """Its two programs, from the beginning of a `with` to its end."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        programs = ensure(CERT_MANAGER)
        found = (each for path in programs.manifests("cert-manager-crds") for each in load(path))
        self._definitions = [undescribed(each) for each in found]
        self._programs = [
            Program(name, [str(programs.program(name)), f"--kubeconfig={cluster.kubeconfig}"], cluster.folder)
            for name in CERT_MANAGER.packages
        ]

    def __enter__(self) -> Self:
        self._cluster.apply(self._definitions)
        for program in self._programs:
            program.start()
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._programs:
            program.kill()

    def story(self) -> str:
        """The end of what they wrote."""
        return "\n".join(program.failure("wrote") for program in self._programs)

    def issued(self, namespace: str, name: str) -> None:
        """Waits until a Certificate is issued and nothing is under way."""
        eventually(lambda: self._conditions(namespace, name) == {"Ready": "True"}, f"{name} is issued")

    def renew(self, namespace: str, name: str) -> None:
        """Has a Certificate issued again, as `cmctl renew` does, and waits until it is."""
        found = self._cluster.get(VERSION, "Certificate", name, namespace)
        revision = found["status"]["revision"]
        issuing = {"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "by hand"}
        issuing["lastTransitionTime"] = found["metadata"]["creationTimestamp"]
        conditions = [*found["status"]["conditions"], issuing]
        self._cluster.patch_status(VERSION, "Certificate", name, {"conditions": conditions}, namespace)
        eventually(lambda: self._status(namespace, name)["revision"] > revision, f"{name} is renewed")
        self.issued(namespace, name)

    def _status(self, namespace: str, name: str) -> Object:
        status: Object = self._cluster.get(VERSION, "Certificate", name, namespace)["status"]
        return status

    def _conditions(self, namespace: str, name: str) -> dict[str, str]:
        return {each["type"]: each["status"] for each in self._status(namespace, name).get("conditions", [])}
