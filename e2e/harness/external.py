"""Clusters that are not programs of this test run, and the choice between all three kinds.

- ``KUBECONFIG`` is set: that cluster. It must have Kueue and no real GPU node, and it is left as it was found but for
  what the tests themselves put there.
- Otherwise, a container engine answers and ``kind`` is on PATH: a kind cluster of this run's own, with Kueue's release
  and our image, whose Pods it runs itself.
- Otherwise: the control plane of ``cluster.py``.

``SLICEWISE_E2E_CLUSTER`` (``kind`` or ``programs``) chooses between the last two.

KWOK runs beside the tests in every case and looks after nodes that are annotated for it, and no others.
"""

from __future__ import annotations

import base64
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from e2e.harness import kueue, kwok
from e2e.harness.binaries import KUEUE, ensure
from e2e.harness.certificates import Pair, key_pem, private_key, write_kubeconfig
from e2e.harness.client import Object, eventually, read_kubeconfig
from e2e.harness.cluster import AnyCluster, Cluster, answers, fetch_metrics
from e2e.harness.errors import ClusterError
from e2e.harness.processes import Program, free_port

ROOT = Path(__file__).resolve().parents[2]
KIND_CONFIG = Path(__file__).with_name("kind.yaml")
KUEUE_RELEASE = "https://github.com/kubernetes-sigs/kueue/releases/download/v0.19.2/manifests.yaml"
KUEUE_CRD = "clusterqueues.kueue.x-k8s.io"
# Where webhooks on this machine can be reached from the API server, when that isn't loopback.
HOST_VARIABLE = "SLICEWISE_E2E_HOST"
# Chooses between the second and the third, where both could be.
CHOICE_VARIABLE = "SLICEWISE_E2E_CLUSTER"


class ExternalCluster(AnyCluster):
    """A cluster that was there before. Components cannot be killed; identities are made by asking the cluster."""

    def __init__(self, kubeconfig: Path, *, listen_host: str | None = None) -> None:
        super().__init__(kubeconfig)
        self.kubeconfig = kubeconfig
        self.listen_host = listen_host or os.environ.get(HOST_VARIABLE, "127.0.0.1")
        self._folder = Path(tempfile.mkdtemp(prefix="slicewise-e2e-external-"))
        self._identities: dict[tuple[str, tuple[str, ...]], Path] = {}
        self._kwok: Program | None = None

    def up(self) -> None:
        """Checks that tests can and may run here, and starts KWOK."""
        try:
            self.check()
            programs = ensure(KUEUE)
            configuration = self._folder / "kwok.yaml"
            kwok.write_configuration(configuration, programs)
            port = free_port()
            command = kwok.command(programs, self.kubeconfig.resolve(), configuration, port)
            self._kwok = Program("kwok", command, self._folder)
            self._kwok.start()
            self._kwok.wait_ready(functools.partial(answers, port, "/healthz"))
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Refuses a cluster without Kueue, and one with GPU nodes that are not made up."""
        if self.find("apiextensions.k8s.io/v1", "CustomResourceDefinition", KUEUE_CRD) is None:
            raise ClusterError(
                f"the cluster of {self.kubeconfig} has no Kueue: install it, or unset KUBECONFIG."
            )
        for node in self.list("v1", "Node"):
            fake = kwok.FAKE_NODE.items() <= node["metadata"].get("annotations", {}).items()
            offers = [name for name in node["status"].get("capacity", {}) if name.startswith("nvidia.com/")]
            if offers and not fake:
                name = node["metadata"]["name"]
                raise ClusterError(
                    f"node {name} of {self.kubeconfig} offers {offers[0]}: not a cluster for tests."
                )

    def stop(self) -> None:
        if self._kwok is not None:
            self._kwok.kill()
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def components(self) -> list[str]:
        return ["kwok"] if self._kwok is not None else []

    def logs(self, name: str) -> str:
        return self._kwok.log() if self._kwok is not None and name == "kwok" else super().logs(name)

    def kubeconfig_for(self, user: str, groups: Iterable[str] = ()) -> Path:
        identity = (user, tuple(groups))
        if identity not in self._identities:
            path = self._folder / f"kubeconfig-{len(self._identities)}.yaml"
            own = read_kubeconfig(self.kubeconfig)
            parts = user.split(":")
            token, pair = None, None
            if parts[:2] == ["system", "serviceaccount"] and len(parts) == 4:
                token = self._service_account_token(parts[2], parts[3])
            else:
                pair = self._signed(user, identity[1])
            write_kubeconfig(path, own.server, own.authority or b"", pair=pair, token=token)
            self._identities[identity] = path
        return self._identities[identity]

    def _service_account_token(self, namespace: str, name: str) -> str:
        account: Object = {"apiVersion": "v1", "kind": "ServiceAccount"}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        self.apply(account | {"metadata": {"name": name, "namespace": namespace}})
        path = self.path("v1", "ServiceAccount", name, namespace, "token")
        wanted = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 7200},
        }
        answer = self.request("POST", path, wanted)
        if answer.status != 201:
            raise ClusterError(f"no token for the service account {namespace}/{name}: {answer.message}")
        return str(answer.body["status"]["token"])

    def _signed(self, user: str, groups: tuple[str, ...]) -> Pair:
        """A client certificate by way of a CertificateSigningRequest."""
        key = private_key()
        subject = [(NameOID.COMMON_NAME, user), *((NameOID.ORGANIZATION_NAME, group) for group in groups)]
        name = x509.Name([x509.NameAttribute(kind, value) for kind, value in subject])
        asked = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        pem = asked.public_bytes(serialization.Encoding.PEM)
        api, kind = "certificates.k8s.io/v1", "CertificateSigningRequest"
        request = self.create(
            {
                "apiVersion": api,
                "kind": kind,
                "metadata": {"generateName": "slicewise-e2e-"},
                "spec": {
                    "request": base64.b64encode(pem).decode(),
                    "signerName": "kubernetes.io/kube-apiserver-client",
                    "usages": ["client auth"],
                },
            }
        )
        issued = request["metadata"]["name"]
        condition = {"type": "Approved", "status": "True", "reason": "Test", "message": "end-to-end test"}
        self.patch(api, kind, issued, {"status": {"conditions": [condition]}}, subresource="approval")

        def certificate() -> bytes:
            return base64.b64decode(self.get(api, kind, issued)["status"]["certificate"])

        pair = Pair(eventually(certificate, f"the certificate of {user} is signed"), key_pem(key))
        self.delete(api, kind, issued)
        return pair

    def kueue_metrics(self) -> str:
        name = "slicewise-e2e-metrics"
        self.apply(_metrics_reader(name))
        service = self.find("v1", "Service", kueue.SERVICE, kueue.NAMESPACE) or {"metadata": {}}
        port = service["metadata"].get("annotations", {}).get(kueue.METRICS_PORT)
        if port:
            return fetch_metrics(int(port), self._service_account_token(kueue.NAMESPACE, name))
        return self._metrics_of_the_pod(name)

    def _metrics_of_the_pod(self, account: str) -> str:
        """By way of the API server, which reaches the Pod that serves them."""
        pods = self.list("v1", "Pod", kueue.NAMESPACE, labels="control-plane=controller-manager")
        if not pods:
            raise ClusterError(f"no Pod of Kueue in {kueue.NAMESPACE} of {self.kubeconfig}.")
        with self.client_for(f"system:serviceaccount:{kueue.NAMESPACE}:{account}") as reader:
            pod = f"https:{pods[0]['metadata']['name']}:8443"
            path = self.path("v1", "Pod", pod, kueue.NAMESPACE, "proxy")
            answer = reader.request("GET", f"{path}/metrics")
        if answer.status != 200:
            raise ClusterError(f"Kueue's metrics answered {answer.status}: {answer.message}")
        return str(answer.body)


def _metrics_reader(name: str) -> list[Object]:
    api = "rbac.authorization.k8s.io/v1"
    rules: list[dict[str, Any]] = [
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/proxy"], "verbs": ["get"]},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": kueue.NAMESPACE}
    return [
        {"apiVersion": api, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {
            "apiVersion": api,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": role,
            "subjects": [subject],
        },
    ]


class KindCluster(ExternalCluster):
    """A kind cluster that this test run makes and removes, with Kueue's own release and our image in it."""

    image: str = "slicewise:e2e"

    def __init__(self) -> None:
        self._name: str = yaml.safe_load(KIND_CONFIG.read_text())["name"] + f"-{os.getpid()}"
        self._kind_folder = Path(tempfile.mkdtemp(prefix="slicewise-e2e-kind-"))
        kubeconfig = self._kind_folder / "kubeconfig.yaml"
        arguments = ["--name", self._name, "--config", str(KIND_CONFIG), "--kubeconfig", str(kubeconfig)]
        try:
            _run("kind", "create", "cluster", *arguments, "--wait", "120s")
            _run("docker", "build", "--tag", self.image, str(ROOT))
            _run("kind", "load", "docker-image", self.image, "--name", self._name)
            _run("kubectl", "--kubeconfig", str(kubeconfig), "apply", "--server-side", "-f", KUEUE_RELEASE)
            super().__init__(kubeconfig, listen_host=_gateway())
            eventually(self._kueue_available, "Kueue is available in the kind cluster", timeout=300)
        except BaseException:
            self._remove()
            raise

    def _kueue_available(self) -> bool:
        deployment = self.get("apps/v1", "Deployment", "kueue-controller-manager", kueue.NAMESPACE)
        return int(deployment.get("status", {}).get("availableReplicas") or 0) > 0

    def stop(self) -> None:
        super().stop()
        self._remove()

    def _remove(self) -> None:
        _run("kind", "delete", "cluster", "--name", self._name)
        shutil.rmtree(self._kind_folder, ignore_errors=True)


def _gateway() -> str:
    """The address of this machine as kind's containers see it."""
    template = "{{range .IPAM.Config}}{{println .Gateway}}{{end}}"
    gateways = _run("docker", "network", "inspect", "kind", "--format", template).split()
    found = [gateway for gateway in gateways if "." in gateway]
    if not found:
        raise ClusterError(f"the container network of kind has no IPv4 gateway: set {HOST_VARIABLE}.")
    return os.environ.get(HOST_VARIABLE, found[0])


def _run(*command: str) -> str:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ClusterError(f"cannot run {command[0]}: {error.strerror}.") from error
    if answer.returncode:
        raise ClusterError(f"{' '.join(command)} failed (exit {answer.returncode}): {answer.stderr.strip()}")
    return answer.stdout


def engine_answers() -> bool:
    """Whether a container engine answers and kind and kubectl are there to use it."""
    if not all(shutil.which(name) for name in ("docker", "kind", "kubectl")):
        return False
    answer = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=20)
    return answer.returncode == 0


def kind_of_cluster() -> str:
    """Which cluster a test run will use: ``kubeconfig``, ``kind`` or ``programs``."""
    if os.environ.get("KUBECONFIG"):
        return "kubeconfig"
    chosen = os.environ.get(CHOICE_VARIABLE, "")
    if chosen in {"kind", "programs"}:
        return chosen
    if chosen:
        raise ClusterError(f"{CHOICE_VARIABLE} is {chosen!r}; say kind or programs, or leave it out.")
    return "kind" if engine_answers() else "programs"


def choose(*, volcano: bool = False) -> AnyCluster:
    """Makes the cluster of this test run, ready for use, with everything in it."""
    kind = kind_of_cluster()
    if kind == "programs":
        cluster = Cluster(kueue=True, volcano=volcano)
        cluster.up()
        return cluster
    external = KindCluster() if kind == "kind" else ExternalCluster(Path(os.environ["KUBECONFIG"]))
    external.up()
    return external
