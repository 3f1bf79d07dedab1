"""A cluster to look at."""

from collections.abc import AsyncIterator

import pytest

from tests.kube.apiserver import ApiServer
from tests.queue_sync.running import KINDS, World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ApiServer(KINDS).running() as server:
        yield World(server)
