"""A server with nodes and leases, a hurried clock, and a client between them."""

from collections.abc import AsyncIterator

import pytest
from kubernetes.client.configuration import Configuration

from slicewise.kube.client import Client
from slicewise.kube.clock import Timing
from slicewise.kube.config import Credentials
from tests.kube.apiserver import ApiServer
from tests.kube.clocks import Clock

NODES = "/api/v1/nodes"
QUEUES = "/apis/kueue.x-k8s.io/v1beta2/localqueues"
LEASES = "/apis/coordination.k8s.io/v1/leases"
EVENTS = "/apis/events.k8s.io/v1/events"
KINDS = {NODES: "Node", QUEUES: "LocalQueue", LEASES: "Lease", EVENTS: "Event"}


def client_of(url: str, timing: Timing, component: str = "client") -> Client:
    credentials = Credentials(lambda: Configuration(host=url), timing=timing)
    return Client(credentials, component=component, timing=timing)


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer(KINDS).running() as one:
        yield one


@pytest.fixture
def clock() -> Clock:
    return Clock(hurried=True)


@pytest.fixture
async def client(server: ApiServer, clock: Clock) -> AsyncIterator[Client]:
    async with client_of(server.url, clock.timing) as one:
        yield one
