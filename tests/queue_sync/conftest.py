"""What tests of the whole controller stand on."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from tests.kube.apiserver import ApiServer
from tests.kube.clocks import HurriedLoop
from tests.queue_sync.running import KINDS, World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """An API server of this process, with nothing in it."""
    async with ApiServer(KINDS).running() as server:
        yield World(server)


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """No test here waits for a clock, but those of the program, which has a clock of its own."""
    return {"loop": asyncio.new_event_loop if item.get_closest_marker("own_clock") else HurriedLoop}
