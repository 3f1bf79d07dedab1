"""The controller at an API server over real sockets, with a world that tests change and look at."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from kubernetes.client.configuration import Configuration

from queue_sync.manager import Manager
from queue_sync.metrics.registry import Metrics
from queue_sync.planning.node_trust import Settings
from slicewise.inventory.node_annotation import read_offer_annotation
from slicewise.kube.client import Client
from slicewise.kube.clock import Timing
from slicewise.kube.config import Credentials
from slicewise.kube.events import Recorder
from slicewise.kube.informer_types import WatchSettings
from tests.kube.apiserver import ApiServer
from tests.kube.clocks import LOOP_TIME
from tests.queue_sync.scenes import MIXED, ONE, read_node

NODES = "/api/v1/nodes"
NAMESPACES = "/api/v1/namespaces"
PLANS = "/apis/slicewise.io/v1alpha1/quotaplans"
KUEUE = "/apis/kueue.x-k8s.io/v1beta2"
FLAVORS, QUEUES = f"{KUEUE}/resourceflavors", f"{KUEUE}/clusterqueues"
LOCAL, WORKLOADS = f"{KUEUE}/localqueues", f"{KUEUE}/workloads"
VOLCANO = "/apis/scheduling.volcano.sh/v1beta1/queues"
EVENTS = "/apis/events.k8s.io/v1/events"
LEASES = "/apis/coordination.k8s.io/v1/leases"
POLICIES = "/apis/slicewise.io/v1alpha1/slicingpolicies"
RESOURCE_QUOTAS, LIMIT_RANGES = "/api/v1/resourcequotas", "/api/v1/limitranges"
CONFIG_MAPS = "/api/v1/configmaps"
OPERATOR = "gpu-operator"
KINDS = {
    NODES: "Node",
    NAMESPACES: "Namespace",
    PLANS: "QuotaPlan",
    FLAVORS: "ResourceFlavor",
    QUEUES: "ClusterQueue",
    LOCAL: "LocalQueue",
    WORKLOADS: "Workload",
    VOLCANO: "Queue",
    EVENTS: "Event",
    LEASES: "Lease",
    POLICIES: "SlicingPolicy",
    RESOURCE_QUOTAS: "ResourceQuota",
    LIMIT_RANGES: "LimitRange",
    CONFIG_MAPS: "ConfigMap",
}
QUICK = Settings(settle=2.0, hold_down=10.0)
SLOW = Settings(settle=2.0, hold_down=6000.0)
WRITES = ("POST", "PUT", "PATCH", "DELETE")


def client_of(server: ApiServer, timing: Timing = LOOP_TIME) -> Client:
    credentials = Credentials(lambda: Configuration(host=server.url), timing=timing)
    return Client(credentials, component="controller", timing=timing)


async def eventually(check: Callable[[], Any], seconds: float = 300.0) -> Any:
    """What `check` returns once it is neither false nor an error."""
    end = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            if result := check():
                return result
            problem: Exception | None = None
        except (LookupError, AssertionError) as error:
            problem = error
        assert asyncio.get_running_loop().time() < end, f"never came true: {problem!r}"
        await asyncio.sleep(0.1)


class World:
    """An API server with nodes, plans and queues."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    def node(self, document: Mapping[str, Any]) -> None:
        """Creates a node, or shows it anew; what the controller wrote on it stays."""
        name = document["metadata"]["name"]
        old = self.server.objects[NODES].get(name)
        metadata = {key: dict(document["metadata"][key]) for key in ("labels", "annotations")}
        if old is not None:
            for part in ("labels", "annotations"):
                kept = {k: v for k, v in old["metadata"][part].items() if k.startswith("slicewise.io/")}
                metadata[part] |= kept
        self.server.put(NODES, name, metadata=metadata, spec=document["spec"], status=document["status"])

    def plan(self, name: str = "research", **spec: Any) -> None:
        body = {"engine": "kueue", "queues": [{"name": "team-a"}], **spec}
        old = self.server.objects[PLANS].get(name)
        generation = (old["metadata"]["generation"] + 1) if old else 1
        more = {"status": old["status"]} if old and "status" in old else {}
        created = f"2026-11-29T00:00:{len(self.server.objects[PLANS]):02}Z"
        kept = {"creationTimestamp": created, **(old["metadata"] if old else {})}
        self.server.put(
            PLANS,
            name,
            metadata={**kept, "generation": generation},
            apiVersion="slicewise.io/v1alpha1",
            spec=body,
            **more,
        )

    def policy(self, name: str, classes: Mapping[str, Any], **spec: Any) -> None:
        body = {"defaultClass": next(iter(classes)), "classes": classes, **spec}
        old = self.server.objects[POLICIES].get(name)
        generation = old["metadata"]["generation"] + 1 if old else 1
        more = {"status": old["status"]} if old and "status" in old else {}
        self.server.put(POLICIES, name, metadata={"generation": generation}, spec=body, **more)

    def policy_condition(self, kind: str, policy: str = "research") -> dict[str, Any]:
        conditions = self.server.objects[POLICIES][policy]["status"]["conditions"]
        found: dict[str, Any] = next(each for each in conditions if each["type"] == kind)
        return found

    def file(self, name: str, labels: Mapping[str, str] | None = None, **data: str) -> None:
        """A ConfigMap of the GPU operator's namespace."""
        self.server.put(CONFIG_MAPS, name, OPERATOR, metadata={"labels": dict(labels or {})}, data=data)

    def namespace(self, name: str, **labels: str) -> None:
        self.server.put(NAMESPACES, name, metadata={"labels": labels})

    def admitted(
        self, queue: str, units: int, *, name: str = "w", resource: str = ONE, flavor: str = MIXED
    ) -> None:
        """A Workload in the namespace `lab` that Kueue has admitted through a queue, of one pod."""
        usage = {
            "name": "main",
            "count": 1,
            "flavors": {resource: flavor},
            "resourceUsage": {resource: str(units)},
        }
        status = {
            "conditions": [{"type": kind, "status": "True"} for kind in ("QuotaReserved", "Admitted")],
            "admission": {"clusterQueue": queue, "podSetAssignments": [usage]},
        }
        self.server.put(WORKLOADS, name, "lab", spec={"queueName": queue}, status=status)

    def queue(self, name: str = "team-a") -> dict[str, Any]:
        found: dict[str, Any] = self.server.objects[QUEUES][name]
        return found

    def quota(self, queue: str = "team-a") -> dict[tuple[str, str], str]:
        return {
            (flavor["name"], quota["name"]): quota["nominalQuota"]
            for group in self.queue(queue)["spec"].get("resourceGroups") or ()
            for flavor in group["flavors"]
            for quota in flavor["resources"]
        }

    def condition(self, kind: str, plan: str = "research") -> dict[str, Any]:
        conditions = self.server.objects[PLANS][plan]["status"]["conditions"]
        found: dict[str, Any] = next(each for each in conditions if each["type"] == kind)
        return found

    def pool(self, number: int = 0, plan: str = "research") -> dict[str, Any]:
        found: dict[str, Any] = self.server.objects[PLANS][plan]["status"]["pools"][number]
        return found

    def events(self, reason: str) -> list[str]:
        return [each["note"] for each in self.server.objects[EVENTS].values() if each["reason"] == reason]

    def kept(self, node: str) -> dict[str, int] | None:
        kept = read_offer_annotation(read_node(self.server.objects[NODES][node]))
        return None if kept is None else kept.offer.quantities

    def label(self, node: str) -> str | None:
        found: str | None = self.server.objects[NODES][node]["metadata"]["labels"].get("slicewise.io/pool")
        return found

    def writes(self) -> list[tuple[str, str]]:
        """Every write so far, events left out."""
        return [
            (one.method, one.path)
            for one in self.server.seen
            if one.method in WRITES and "events" not in one.path
        ]

    def write_bodies(self, path: str) -> list[Any]:
        return [json.loads(one.body) for one in self.server.seen if one.method in WRITES and path in one.path]

    async def idle(self, controller: Manager) -> None:
        """Returns once it leads, and nothing is dirty and nothing is worked on, three looks in a row."""
        for _ in range(3):
            await eventually(lambda: controller.node_states.complete and controller.idle)
            await asyncio.sleep(0.2)


@asynccontextmanager
async def controlled(
    server: ApiServer,
    settings: Settings = SLOW,
    *,
    keep_device_classes: bool = False,
    kueue_namespace: str = "",
) -> AsyncIterator[Manager]:
    """A controller that leads without election, until the block ends or it is killed by cancelling."""
    async with client_of(server) as client:
        recorder = Recorder(client, controller="slicewise.io/controller", instance="test")
        watching = WatchSettings(most_backoff=2.0, absent_retry=10.0)
        controller = Manager(
            client,
            client,
            recorder,
            settings,
            Metrics(),
            watching,
            OPERATOR,
            keep_device_classes=keep_device_classes,
            kueue_namespace=kueue_namespace,
        )
        parts = [controller.watch(), controller.lead(), recorder.run()]
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            yield controller
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for result in results:
                if not isinstance(result, asyncio.CancelledError) and isinstance(result, BaseException):
                    raise result
