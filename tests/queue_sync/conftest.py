"""What tests of the whole controller stand on."""

from collections.abc import AsyncIterator

import pytest

from tests.kube.apiserver import ApiServer
from tests.queue_sync.running import KINDS, World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """An API server of this process, with nothing in it."""
    async with ApiServer(KINDS).running() as server:
        yield World(server)
