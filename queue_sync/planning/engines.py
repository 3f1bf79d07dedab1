"""The engines that queue work, by the name that a plan gives. A new one is a folder and a row here."""

from collections.abc import Mapping
from typing import Final

from queue_sync.planning.engine import QueueEngine
from queue_sync.planning.kueue import engine as kueue
from queue_sync.planning.observed import Object
from queue_sync.planning.volcano import engine as volcano
from slicewise.api.policy import Engine
from slicewise.kube.object_types import kind_of

ENGINES: Final[Mapping[str, QueueEngine]] = {Engine.KUEUE: kueue, Engine.VOLCANO: volcano}


def engine_of(document: Object) -> QueueEngine | None:
    """The engine of which an object is a queue; None for all other objects."""
    kind = kind_of(document)
    return next((engine for engine in ENGINES.values() if kind == engine.QUEUE.name), None)
