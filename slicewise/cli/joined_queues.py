"""The queues that work of a namespace can join."""

from collections.abc import Iterable, Sequence

from slicewise.api.policy import Engine
from slicewise.kube.object_types import ENGINE_OBJECTS, EngineObjects, kind_of
from slicewise.kube.snapshot import Object, Snapshot


class Queues:
    """Queues of one engine that stand or that plans want; false where there is none."""

    def __init__(self, engine: EngineObjects, snapshot: Snapshot, wanted: Iterable[Object]) -> None:
        made = (item for item in wanted if kind_of(item) == engine.joined.name)
        self._found = [item["metadata"] for item in (*snapshot.of(engine.joined.name), *made)]

    def __bool__(self) -> bool:
        return bool(self._found)

    def of_namespace(self, namespace: str) -> list[str]:
        """Returns the names, sorted, of those that work of a namespace can join."""
        return sorted({each["name"] for each in self._found if each.get("namespace", "") in {"", namespace}})


def others_queue(
    engine: EngineObjects, queue: str, namespace: str, snapshot: Snapshot, wanted: Sequence[Object]
) -> Engine | None:
    """Returns another engine that has a queue of this name, which work of the namespace could join; None for none."""
    return next(
        (
            name
            for name, other in ENGINE_OBJECTS.items()
            if other is not engine and queue in Queues(other, snapshot, wanted).of_namespace(namespace)
        ),
        None,
    )
