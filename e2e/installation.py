"""Slicewise on a cluster of the tests: its manifests applied, its two programs run under their own identities.

The manifests are those that are shipped. There is no kubelet here, so the Deployments are not applied; the programs run
as processes of the test run with the arguments below, speak as their service accounts (RBAC is as shipped), and the
webhook's Service leads to loopback.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from e2e.client import Object, Objects, eventually
from e2e.cluster import AnyCluster
from e2e.processes import Program, free_port

ROOT = Path(__file__).resolve().parent.parent
MANIFESTS = ROOT / "manifests"
NAMESPACE = "slicewise-system"
SERVICE = "slicewise-webhook"
CONFIGURATION = "admission.slicewise.io"
WEBHOOK_KINDS = ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def shipped(folder: Path = MANIFESTS) -> Objects:
    """The objects of a kustomize base, in the order of its resources."""
    return list(_resources(folder))


def _resources(folder: Path) -> Iterator[Object]:
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    for name in listed:
        path = folder / name
        if path.is_dir():
            yield from _resources(path)
        else:
            yield from (document for document in yaml.safe_load_all(path.read_text()) if document)


class Server:
    """One of the two programs: started, killed, started again."""

    def __init__(self, cluster: AnyCluster, role: str, folder: Path, number: int, *arguments: str) -> None:
        account = f"system:serviceaccount:{NAMESPACE}:slicewise-{role}"
        self._operations = free_port()
        command = [
            *(sys.executable, "-m", "slicewise", role),
            *("--kubeconfig", str(cluster.kubeconfig_for(account))),
            *("--operations-listen", f"127.0.0.1:{self._operations}"),
            *arguments,
        ]
        self.program = Program(f"{role}-{number}", command, folder, {"PYTHONPATH": str(ROOT)})

    def start(self, *, ready: bool = True) -> None:
        """Starts it; with `ready`, returns once it says that it is."""
        self.program.start()
        if ready:
            self.program.wait_ready(self.is_ready, 60)

    def is_ready(self) -> bool:
        """Whether `/readyz` says yes."""
        return self.get("/readyz")[0] == 200

    def get(self, path: str) -> tuple[int, str]:
        """One of the operational routes: status and text; status 0 when nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._operations}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all samples that have these labels."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(f'{k}="{v}"' in head for k, v in labels.items()):
                total += float(value)
        return total


class Installation:
    """Everything that `kubectl apply -k manifests/` gives, running."""

    def __init__(
        self, cluster: AnyCluster, folder: Path, *, settle: str = "1s", hold_down: str = "4s"
    ) -> None:
        self.cluster = cluster
        self.port = free_port()
        timing = ("--settle", settle, "--hold-down", hold_down)
        self.webhook = Server(
            cluster, "webhook", folder, 0, "--listen", f"{cluster.listen_host}:{self.port}", "--drain", "0s"
        )
        self.controller = Server(cluster, "controller", folder, 0, *timing)
        self._servers = [self.webhook, self.controller]

    def apply(self) -> None:
        """Applies the manifests, the webhook's Service leading to this process's machine."""
        objects = shipped()
        self.cluster.apply(
            [item for item in objects if item["kind"] in {"Namespace", "CustomResourceDefinition"}]
        )
        port = self.cluster.expose(NAMESPACE, SERVICE, self.port)
        left_out = {"Namespace", "CustomResourceDefinition", "Deployment", "Service", *WEBHOOK_KINDS}
        self.cluster.apply([item for item in objects if item["kind"] not in left_out])
        for item in objects:
            if item["kind"] in WEBHOOK_KINDS:
                for webhook in item["webhooks"]:
                    webhook["clientConfig"]["service"]["port"] = port
                self.cluster.apply(item)

    def start(self) -> None:
        """Applies and starts everything; returns when both are ready."""
        self.apply()
        for server in self._servers:
            server.start(ready=False)
        for server in self._servers:
            server.program.wait_ready(server.is_ready, 60)
        self.trusted()

    def trusted(self) -> None:
        """Waits until the API server calls the webhook and believes its certificate."""
        probe = {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "SlicingPolicy",
            "metadata": {"name": "probe"},
            "spec": {"defaultClass": "a", "classes": {"a": {"strategy": "exclusive"}}},
        }
        eventually(
            lambda: self.cluster.try_create(probe, dry_run=True).status == 201, 30, "the webhook is trusted"
        )

    def stop(self) -> None:
        """Stops the programs and takes the webhook configurations away, so that nothing calls them any more."""
        for kind in WEBHOOK_KINDS:
            if self.cluster.find("admissionregistration.k8s.io/v1", kind, CONFIGURATION):
                self.cluster.delete("admissionregistration.k8s.io/v1", kind, CONFIGURATION)
        for server in self._servers:
            server.program.kill()

    def log_tails(self) -> dict[str, str]:
        """What the programs said."""
        return {server.program.name: server.program.log()[-4000:] for server in self._servers}


def namespace(cluster: AnyCluster, name: str, **labels: str) -> None:
    """Makes a namespace with labels of ours (`policy="default"`) and, with `team=`, one of its own."""
    own = {"team": labels.pop("team")} if "team" in labels else {}
    ours = {f"slicewise.io/{key.replace('_', '-')}": value for key, value in labels.items()}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {**own, **ours}}}
    )


def decision(item: Object) -> dict[str, Any]:
    """The decision recorded on an object."""
    found: dict[str, Any] = json.loads(item["metadata"]["annotations"]["slicewise.io/decision"])
    return found
