"""The engines that queue work, by the name that a plan gives. A new one is a folder and a row here."""

from collections.abc import Mapping
from typing import Final

from queue_sync.planning.engine import QueueEngine
from queue_sync.planning.kueue import engine as kueue
from queue_sync.planning.volcano import engine as volcano
from slicewise.api.policy import Engine

ENGINES: Final[Mapping[str, QueueEngine]] = {Engine.KUEUE: kueue, Engine.VOLCANO: volcano}


def engine_of(kind: str) -> QueueEngine | None:
    """The engine whose queues are of this kind; None for all other kinds."""
    return next((engine for engine in ENGINES.values() if kind == engine.KIND), None)
