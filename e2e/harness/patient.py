"""The controller, sure of what Volcano's webhook has seen: a write of a Queue is tried before it is made.

The webhook knows Queues by a watch of its own, and the controller gives it a fixed time from one write to the next that
rests on it. On a machine that does much else that is too short now and then: the write is refused, and made a little
later. Here it is tried, without being kept, until it is taken. What is refused for what the Queues are stays refused,
and is then refused for good. Writes that are made at once may wait for each other here, where they should not need to:
tests/queue_sync/test_volcano_write_order.py holds them to that.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from queue_sync.planning.changes import Change
from queue_sync.writer import RefusedError, Writer
from slicewise.cli import main

if TYPE_CHECKING:
    from e2e.harness.container import Launch

_TRIES, _PAUSE = 100, 0.1
_execute = Writer.execute


class _Trial(Writer):
    """Makes writes that are not kept."""

    def __init__(self, writer: Writer) -> None:
        super().__init__(writer._client, writer._version_of)
        self._manager = {**self._manager, "dryRun": "All"}


async def execute(writer: Writer, change: Change) -> None:
    """As :meth:`Writer.execute`."""
    if change.document["kind"] == "Queue" and change.after is not None:
        for _ in range(_TRIES):
            try:
                await _execute(_Trial(writer), change)
                break
            except RefusedError:
                await asyncio.sleep(_PAUSE)
    await _execute(writer, change)


def patient(found: Launch, folder: Path) -> Launch:  # noqa: ARG001
    """What becomes of a container: the controller is this one."""
    _, role, *rest = found.command
    if role == "controller":
        root = Path(__file__).resolve().parents[2]
        found.command = [sys.executable, "-m", "e2e.harness.patient", role, *rest]
        found.environment = {**found.environment, "PYTHONPATH": str(root)}
    return found


if __name__ == "__main__":
    with mock.patch.object(Writer, "execute", execute):
        sys.exit(main())
