"""Both programs scraped in-process, with something in every family that they can show."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Final, cast

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open
from prometheus_client.parser import text_string_to_metric_families as read_plain
from prometheus_client.registry import CollectorRegistry

from admission.server import serve
from admission.server.app import Application
from admission.server.metrics import CacheAge, Metrics
from admission.server.operations import Readiness, operations
from queue_sync.manager import Manager
from queue_sync.webhook_selfcheck import Path, SelfCheck
from slicewise.kube.client import Client
from slicewise.kube.clock import REAL
from slicewise.kube.events import Recorder
from tests.admission.building import pod, world
from tests.kube.apiserver import ApiServer
from tests.queue_sync.running import KINDS, PLANS, QUEUES, World, controlled, eventually
from tests.queue_sync.scenes import MIXED, ONE, exclusive, mixed

OPEN: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN: Final = "text/plain; version=0.0.4"


def exposed(registry: CollectorRegistry, accept: str) -> list[Metric]:
    """Writes a registry in the form that a client accepts, and reads it with that form's own parser."""
    encode, content_type = choose_encoder(accept)
    return read(encode(registry).decode(), content_type)


def read(text: str, content_type: str) -> list[Metric]:
    """Reads metrics with the parser of the format that they are said to be in."""
    return list((read_open if content_type.startswith("application/openmetrics") else read_plain)(text))


async def ask(
    app: Any, path: str, *, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Sends one request to an ASGI application; returns status, headers and body."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    given = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": given,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    await app(scope, receive, send)
    start, *bodies = sent
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], answered, b"".join(each.get("body", b"") for each in bodies)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """Returns one sample; None when there is none."""
    return registry.get_sample_value(name, labels)


async def webhook() -> tuple[Application, Metrics]:
    """The webhook's application in a small cluster, with its metrics."""
    metrics = Metrics()
    metrics.watch_caches(
        lambda: [CacheAge("nodes", 4, True, 12.5), CacheAge("slicingpolicies", 1, True, 3.0, 1)]
    )
    metrics.watch_certificates(
        lambda: [("serving", 2e9), ("authority", datetime(2040, 1, 1, tzinfo=UTC).timestamp())]
    )
    application = Application(
        serve.handlers(world()),
        operations(Readiness(), metrics),
        blocked=lambda: None,
        metrics=metrics,
    )
    headers = {"content-type": "application/json"}
    await ask(application, "/mutate", method="POST", body=review(pod()), headers=headers)
    return application, metrics


@asynccontextmanager
async def controller() -> AsyncIterator[tuple[World, Manager]]:
    """A leader with a node in doubt, a queue that is too small for its work and was edited, and a bad plan."""
    async with ApiServer(KINDS).running() as server:
        world = World(server)
        world.node(mixed("n1", {"1g.10gb": 7}))
        world.node(exclusive("n2", ready=False))
        world.plan(cover=["cpu"])
        world.server.put(PLANS, "wrong", metadata={"generation": 1}, spec={"engine": "kueue"})
        world.admitted("team-a", 9)  # more than the queue will have
        async with controlled(server) as one:
            one.metrics.read_from(_prober().samples)
            await eventually(lambda: world.quota()[(MIXED, ONE)] == "7")
            await eventually(lambda: one.plans.results["research"].waiting == "")
            await world.idle(one)
            queue = world.queue()
            emptied = {**queue["spec"], "resourceGroups": []}
            world.server.put(QUEUES, "team-a", **{**queue, "spec": emptied})
            await eventually(lambda: world.events("PutBack"))
            await eventually(lambda: one.plans.results["research"].waiting == "")
            await world.idle(one)
            yield world, one


def _prober() -> SelfCheck:
    """The self-check as it is after it has found both ways open."""
    nobody = SimpleNamespace(timing=REAL)
    found = SelfCheck(
        cast("Client", nobody), cast("Recorder", nobody), dict, own_namespace="own", period=60.0
    )
    found.paths = {name: Path(working=True, since=1e9, checked=2e9) for name in ("mutate", "validate")}
    return found


def promise(world: World, name: str, units: int) -> None:
    """A ClusterQueue of an admin's own that takes from the same flavor."""
    quota = {"name": ONE, "nominalQuota": str(units)}
    group = {"coveredResources": [ONE], "flavors": [{"name": MIXED, "resources": [quota]}]}
    world.server.put(QUEUES, name, spec={"resourceGroups": [group]})


def review(document: Mapping[str, Any]) -> bytes:
    """A review of a Pod that is being created in the namespace `team`."""
    request = {
        "uid": "3f0e7b5c-1d8f-4b57-9f5e-7a2f5d1c9a10",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "namespace": "team",
        "object": document,
    }
    return json.dumps(
        {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    ).encode()
