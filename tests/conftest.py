"""Properties are tried on the same examples everywhere, so that a failure is never a matter of luck.

`quick` is for people who are editing (`make check`); `make test` asks for `--hypothesis-profile=thorough`.
"""

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Iterator, Mapping

import pytest
from hypothesis import HealthCheck, settings

from tests.kube.clocks import HurriedLoop

settings.register_profile(
    "quick",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=100)
settings.load_profile("quick")

# A shell that runs tests in the background has them ignore Ctrl-C, and with them the programs that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# helm and kubectl live for a tenth of a second, of which a fifth would be looking for garbage.
os.environ["GOGC"] = "off"

# aiohttp reads all authorities that the machine trusts when it is imported: a third of that, in each process that tests
# start, and none of them talks to anybody whom these vouch for.
os.environ["SSL_CERT_FILE"] = os.devnull


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collects thousands of tests without looking for garbage among them, then or later: a fifth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of a test that is marked `hurried` waits for no clock."""
    return {"loop": HurriedLoop if item.get_closest_marker("hurried") else asyncio.new_event_loop}
