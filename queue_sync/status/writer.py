"""Writes the status of an object of ours when it says something new; remembers what it wrote until that is seen."""

from collections.abc import Callable
from typing import Any

from queue_sync.informers.required import Record
from queue_sync.metrics.registry import Metrics
from queue_sync.planning.observed import Object
from queue_sync.writer import STALE_RETRY, StaleError, Writer
from slicewise.kube.errors import KubeError


class StatusWriter:
    """For the objects of one kind."""

    def __init__(
        self, kind: str, plural: str, writer: Writer, metrics: Metrics, version: Callable[[str], str]
    ) -> None:
        """`version` tells at which resourceVersion an object was last seen, by its name."""
        self._kind, self._plural, self._writer, self._metrics = kind, plural, writer, metrics
        self._version = version
        self._sent: dict[str, tuple[str, Object]] = {}

    def forget(self, name: str) -> None:
        """The object is gone, or there is nothing to say of it yet."""
        self._sent.pop(name, None)

    async def write(self, record: Record[Any], new_of: Callable[[Object], Object]) -> float | None:
        """Brings one status up to date; returns after how long to look again. Raises KubeError.

        `new_of` makes the status that it should have out of the one before.
        """
        uid, sent = self._sent.get(record.name, ("", {}))
        if sent == record.status:
            self.forget(record.name)  # it was seen; whatever shows from now on is what stands
        before = sent if uid == record.uid else record.status
        new = new_of(before)
        if new in (record.status, before):
            return None
        try:
            await self._writer.update_status(self._plural, record, new, self._version(record.name))
        except StaleError:
            return STALE_RETRY
        except KubeError:
            self._metrics.writes.labels(self._kind, "update", "failed").inc()
            raise
        self._sent[record.name] = (record.uid, new)
        self._metrics.writes.labels(self._kind, "update", "done").inc()
        return None
