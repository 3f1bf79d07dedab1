"""What a flood took is given back."""

import asyncio
import resource
from pathlib import Path

from admission.server.memory import give_back


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_memory_comes_back_after_a_flood() -> None:
    before = _resident()
    flood = [bytes(1_000) for _ in range(100_000)]
    last = bytes(1_000)  # above all of it, as whatever lives on may be
    held = _resident() - before
    flood.clear()
    task = asyncio.create_task(give_back(0.01))
    await asyncio.sleep(0.1)
    task.cancel()
    assert len(last) == 1_000
    assert _resident() - before < held / 4
