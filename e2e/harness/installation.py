"""Slicewise on a cluster of the tests, installed from its chart: what is tested is what is shipped.

The chart is rendered by Helm and every object is applied to the API server, the Deployments too. Their Pods run in the
cluster where it has kubelets that can pull the image (kind); elsewhere the harness plays the kubelet (`kubelet.py`) and
starts what the Pods name. Then two things differ from what the chart renders, because nothing routes cluster addresses:
the webhook's Service leads to loopback, and the webhook configurations name the port there.

:class:`Server` runs one of the two programs by itself, for tests that need it beside or without an installation.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from e2e.harness.balancer import Balancer
from e2e.harness.client import Object, Objects, eventually
from e2e.harness.cluster import AnyCluster
from e2e.harness.container import answer
from e2e.harness.documents import parse
from e2e.harness.errors import ClusterError
from e2e.harness.loopback import SERVICE, WEBHOOK_KINDS
from e2e.harness.pods import Pods, pods_of
from e2e.harness.processes import Program, free_port
from tests.manifests.tools import tool

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = ROOT / "manifests"
CHART = ROOT / "charts/slicewise"
NAMESPACE = "slicewise-system"
CONFIGURATION = "admission.slicewise.io"
_PROBED = "e2e-probed"
"""A namespace that has opted in as long as `trusted` looks, and holds nothing."""


def shipped() -> Objects:
    """The definitions and the objects of the kustomize base, in the order of its resources."""
    return [*_resources(MANIFESTS / "crds"), *_resources(MANIFESTS)]


def _resources(folder: Path) -> Iterator[Object]:
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    for name in listed:
        path = folder / name
        if path.is_dir():
            yield from _resources(path)
        else:
            yield from parse(path.read_text())


def rendered(values: Object, chart: Path = CHART, namespace: str = NAMESPACE) -> Objects:
    """The objects of the chart, without its hooks, in the order in which Helm installs them."""
    given = [word for key, value in values.items() for word in ("--set-json", f"{key}={json.dumps(value)}")]
    command = [
        tool("helm"),
        "template",
        "slicewise",
        str(chart),
        "--namespace",
        namespace,
        "--no-hooks",
        *given,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"the chart cannot be rendered: {done.stderr.strip()}")
    return parse(done.stdout)


def sample_sum(answer: tuple[int, str], name: str, labels: Mapping[str, str]) -> float:
    """The sum over all samples of a metric that have these labels, in what `/metrics` answered."""
    status, text = answer
    assert status == 200, f"/metrics answered {status}: {text}"  # which is no zero
    total = 0.0
    for line in text.splitlines():
        head, _, value = line.rpartition(" ")
        if head.partition("{")[0] == name and all(f'{k}="{v}"' in head for k, v in labels.items()):
            total += float(value)
    return total


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
            self.program.wait_ready(self.is_ready)

    def is_ready(self) -> bool:
        """Whether `/readyz` says yes."""
        return self.get("/readyz")[0] == 200

    def get(self, path: str, token: str = "") -> tuple[int, str]:
        """One of the operational routes: status and text; status 0 when nothing listens."""
        return answer("127.0.0.1", self._operations, path, token=token)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all samples that have these labels."""
        return sample_sum(self.get("/metrics"), name, labels)


class Replicas:
    """All replicas of one of the two Deployments, as if they were one server."""

    def __init__(self, installation: Installation, role: str) -> None:
        self.name = f"slicewise-{role}"
        self.labels = {"app.kubernetes.io/name": "slicewise", "app.kubernetes.io/component": role}
        self.program = Containers(installation, self)
        self._installation = installation

    def start(self, *, ready: bool = True) -> None:
        """Deploys it, or lets it run again after it was killed; with `ready`, returns once every replica is.

        Without, calls go to replicas that are not ready too, as they do until a failing probe is noticed.
        """
        self._installation.run(self, ready=ready)
        if ready:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Waits until every replica is ready; one that ends again and again is shown with the end of its log."""

        def check() -> bool:
            self._installation.pods.check(self.labels)
            return self.is_ready()

        eventually(check, f"every replica of {self.name} is ready")

    def is_ready(self) -> bool:
        """Whether as many replicas of the newest template are ready as the Deployment wants, and no others are left."""
        item = self._installation.cluster.get("apps/v1", "Deployment", self.name, NAMESPACE)
        wanted, status = item["spec"]["replicas"], item.get("status", {})
        counts = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas")}
        seen = status.get("observedGeneration") == item["metadata"]["generation"]
        return seen and counts == {wanted} and self._installation.pods.ready(self.labels) == wanted

    def get(self, path: str) -> tuple[int, str]:
        """One of the operational routes of the first replica: status and text; status 0 when nothing answers."""
        return next(iter(self.answers(path)), (0, ""))

    def answers(self, path: str) -> list[tuple[int, str]]:
        """What each replica answers, those that do not listen yet included."""
        return self._installation.pods.get(self.labels, path)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all replicas and all samples that have these labels."""
        return sum(sample_sum(each, name, labels) for each in self.answers("/metrics"))


class Containers:
    """The processes of a Deployment's replicas: killed together, and what they said."""

    def __init__(self, installation: Installation, replicas: Replicas) -> None:
        self.name = replicas.name
        self._installation, self._replicas = installation, replicas

    def kill(self) -> None:
        """Ends all of them, as `kill -9` does; they stay away until :meth:`Replicas.start`."""
        self._installation.pods.kill(self._replicas.labels)

    def log(self) -> str:
        """What the replicas wrote that are there now."""
        return self._installation.pods.log(self._replicas.labels)


class Installation:
    """The chart, rendered, applied and running."""

    def __init__(
        self,
        cluster: AnyCluster,
        folder: Path,
        *,
        pods: Pods | None = None,
        settle: str = "1s",
        hold_down: str = "4s",
        replicas: int = 2,
        **values: Any,
    ) -> None:
        """`values` are more values of the chart, with `__` for the dots: `webhook__failurePolicy="Fail"`.

        `replicas` of each server: one will do where a file is not about two.
        """
        self.cluster = cluster
        self.port = free_port()
        self.pods: Pods = pods or pods_of(cluster, folder)
        self.webhook, self.controller = Replicas(self, "webhook"), Replicas(self, "controller")
        self._values: Object = {
            "namespace.create": True,
            # Nothing is sent to a replica that ends in these tests, but where a test says otherwise.
            "webhook.drainSeconds": 0,
            # A call that took longer would be one that nobody made, and not every machine answers within three seconds.
            "webhook.timeoutSeconds": 30,
            "controller.settle": settle,
            "controller.holdDown": hold_down,
            "webhook.replicas": replicas,
            "controller.replicas": replicas,
            **self.pods.values,
            **{key.replace("__", "."): value for key, value in values.items()},
        }
        self._balancer: Balancer | None = None
        self._anyone = False
        self._only: tuple[str, int] | None = None

    @cached_property
    def objects(self) -> Objects:
        """What Helm renders, in its order."""
        return rendered(self._values)

    def apply(self) -> None:
        """Applies everything but the Deployments."""
        self._apply("Namespace", "CustomResourceDefinition")
        port = self.cluster.expose(NAMESPACE, SERVICE, self.port) if self.pods.on_this_machine else None
        first = {"Namespace", "CustomResourceDefinition", "Deployment", *WEBHOOK_KINDS}
        if port is not None:
            first.add("Service")
        self._apply(*({item["kind"] for item in self.objects} - first))
        for item in copy.deepcopy(self.objects):
            if item["kind"] in WEBHOOK_KINDS:
                for webhook in item["webhooks"]:
                    webhook["clientConfig"]["service"]["port"] = port or 443
                self.cluster.apply(item)

    def _apply(self, *kinds: str) -> None:
        self.cluster.apply([item for item in self.objects if item["kind"] in kinds])

    def run(self, replicas: Replicas, *, ready: bool) -> None:
        """Deploys one of the two; what was killed runs again."""
        self._anyone = not ready
        if self.pods.on_this_machine and self._balancer is None:
            self._balancer = Balancer(self.cluster.listen_host, self.port, self._targets)
            self._balancer.start()
        wanted = [item for item in self.objects if item["kind"] == "Deployment"]
        self.cluster.apply([item for item in wanted if item["metadata"]["name"] == replicas.name])
        self.pods.release(replicas.labels)

    def _targets(self) -> list[tuple[str, int]]:
        if self._only is not None:
            return [self._only]
        return self.pods.addresses(self.webhook.labels, "webhook", ready=not self._anyone)

    def whoever_is_asked(self, check: Callable[[], object], describe: str) -> None:
        """Waits until a check passes with each replica of the webhook: they hear of things by watches of their own.

        A cluster that routes to its Pods itself decides who is asked.
        """
        if self._balancer is None:
            eventually(check, describe)
            return
        try:
            for number, address in enumerate(self._targets()):
                self._only = address
                self._balancer.drop()
                eventually(check, f"{describe}, by replica {number}")
        finally:
            self._only = None

    def start(self) -> None:
        """Applies and starts everything; returns when all replicas are ready."""
        self.forget_former_quota()
        self.apply()
        for each in (self.webhook, self.controller):
            each.start(ready=False)
        self._anyone = False
        for each in (self.webhook, self.controller):
            each.wait_ready()
        self.trusted()

    def forget_former_quota(self) -> None:
        """Removes ClusterQueues of plans that are gone: deleting a plan leaves them, and what they hold is promised."""
        cluster, own, group = self.cluster, "slicewise.io/v1alpha1", "kueue.x-k8s.io/v1beta2"
        if not (cluster.serves(own, "QuotaPlan") and cluster.serves(group, "ClusterQueue")):
            return
        plans = {plan["metadata"]["name"] for plan in cluster.list(own, "QuotaPlan")}
        for queue in cluster.list(group, "ClusterQueue", labels="slicewise.io/managed=true"):
            if queue["metadata"].get("annotations", {}).get("slicewise.io/plan") not in plans:
                cluster.delete(group, "ClusterQueue", queue["metadata"]["name"])

    def trusted(self) -> None:
        """Waits until the API server calls the webhook and believes its certificate, as both configurations say.

        It follows each of the two by a watch of its own, and where it has not heard of one, work goes unseen.
        """
        policy = {
            "apiVersion": "slicewise.io/v1alpha1",
            "kind": "SlicingPolicy",
            "metadata": {"name": "probe"},
            "spec": {"defaultClass": "a", "classes": {"a": {"strategy": "exclusive"}}},
        }
        asking = {"name": "probe", "image": "none", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
        template = {
            "apiVersion": "v1",
            "kind": "PodTemplate",
            "metadata": {
                "name": "probe",
                "namespace": _PROBED,
                # Of no policy, so that the webhook refuses it whatever nodes there are.
                "labels": {"slicewise.io/workload-class": "probe"},
            },
            "template": {"spec": {"containers": [asking]}},
        }

        def refused_by_it() -> bool:
            answer = self.cluster.try_create(template, dry_run=True)
            return answer.status == 403 and CONFIGURATION in answer.message

        eventually(
            lambda: self.cluster.try_create(policy, dry_run=True).status == 201,
            "the webhook is trusted to validate",
        )
        namespace(self.cluster, _PROBED, policy="default")
        eventually(refused_by_it, "the webhook is trusted to mutate")
        namespace(self.cluster, _PROBED)

    def stop(self) -> None:
        """Takes the webhook configurations away, so that nothing calls the webhook any more, then its programs."""
        for kind in WEBHOOK_KINDS:
            self.cluster.delete("admissionregistration.k8s.io/v1", kind, CONFIGURATION)
        for each in (self.webhook, self.controller):
            self.cluster.delete("apps/v1", "Deployment", each.name, NAMESPACE)
        self.pods.stop()
        if self._balancer is not None:
            self._balancer.stop()

    def log_tails(self) -> dict[str, str]:
        """What the programs said."""
        return {each.name: each.program.log()[-4000:] for each in (self.webhook, self.controller)}


def namespace(cluster: AnyCluster, name: str, **labels: str) -> None:
    """Makes a namespace with labels of ours (`policy="default"`) and, with `team=`, one of its own."""
    own = {"team": labels.pop("team")} if "team" in labels else {}
    ours = {f"slicewise.io/{key.replace('_', '-')}": value for key, value in labels.items()}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {**own, **ours}}}
    )


def token(cluster: AnyCluster, account: str) -> str:
    """A token of a ServiceAccount beside Slicewise, made where there is none."""
    place = {"name": account, "namespace": NAMESPACE}
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": place})
    path = cluster.path("v1", "ServiceAccount", account, NAMESPACE, "token")
    wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    answer = cluster.request("POST", path, wanted)
    assert answer.status == 201, answer.message
    return str(answer.body["status"]["token"])


def page_reader(account: str) -> Object:
    """Binds a ServiceAccount beside Slicewise to the chart's role of those who may read page and metrics."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "slicewise-page-reader"}
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": account},
        "roleRef": role,
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": NAMESPACE}],
    }


def decision(item: Object) -> dict[str, Any]:
    """The decision recorded on an object."""
    found: dict[str, Any] = json.loads(item["metadata"]["annotations"]["slicewise.io/decision"])
    return found
