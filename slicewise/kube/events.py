"""Kubernetes Events for people: said once, counted after, and never in anybody's way.

`emit` returns at once and raises nothing; `run` writes in the background. The same (object, reason, note) becomes
one Event, whose series is brought up to date at most once per `series_interval`. Each object has a budget for each
reason: beyond it, events are dropped. Pods are never written about, since there is one too many of each of them.

Failure mode: an Event that cannot be written is tried a few times and then dropped.
"""

import logging
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

from slicewise.kube.client import Client
from slicewise.kube.clock import TokenBucket, micro_time
from slicewise.kube.errors import AlreadyExistsError, ApiError, KubeError, NotFoundError
from slicewise.kube.workqueue import QueueSettings, WorkQueue, run_worker

logger = logging.getLogger(__name__)

LONGEST_NOTE = 1024  # bytes
LONGEST_NAME = 200
_CUT = " … "


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object that an event is about."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class EventSettings:
    """Seconds; `burst` events at once for each object and reason, and one more every `refill`."""

    burst: int = 25
    refill: float = 300.0
    series_interval: float = 60.0
    remembered: int = 1000
    attempts: int = 4


@dataclass(frozen=True, slots=True)
class _Subject:
    regarding: Regarding
    reason: str
    note: str


@dataclass(slots=True)
class _Series:
    """What is known of one Event: how often it happened, and how much of that the server knows."""

    name: str
    action: str
    kind: str
    first: str
    last: str
    count: int = 1
    written: int = 0
    written_at: float = 0.0


class Recorder:
    """Writes events.k8s.io/v1 in the name of `controller`, such as `slicewise.io/controller`."""

    def __init__(
        self,
        client: Client,
        *,
        controller: str,
        instance: str,
        settings: EventSettings | None = None,
        budget: TokenBucket | None = None,
    ) -> None:
        """`budget` bounds new Events about all objects together, where anybody can name objects."""
        self.written = 0
        self._overall = budget
        self._client = client
        self._controller = controller
        self._instance = instance[:128]
        self._settings = settings or EventSettings()
        self._timing = client.timing
        self._series: OrderedDict[_Subject, _Series] = OrderedDict()
        self._budgets: OrderedDict[tuple[Regarding, str], TokenBucket] = OrderedDict()
        self._queue: WorkQueue[_Subject] = WorkQueue(
            QueueSettings(first_backoff=1.0, most_backoff=30.0), self._timing
        )

    def emit(
        self,
        regarding: Regarding,
        reason: str,
        note: str,
        *,
        action: str,
        kind: Literal["Normal", "Warning"] = "Normal",
    ) -> None:
        """Tell people of something. `reason` and `action` are UpperCamelCase words."""
        if regarding.kind == "Pod":
            return
        subject = _Subject(regarding, reason, _shortened(note))
        now = micro_time(self._timing.wall())
        known = self._series.get(subject)
        if known is not None:
            known.count += 1
            known.last = now
            self._series.move_to_end(subject)
            self._queue.add_after(subject, self._not_before(known))
        elif self._budget(regarding, reason).take() and (self._overall is None or self._overall.take()):
            name = f"{regarding.name[:LONGEST_NAME]}.{uuid.uuid4().hex[:16]}"
            self._series[subject] = _Series(name, action, kind, now, now)
            self._queue.add(subject)
            self._shrink()

    async def run(self) -> None:
        """Write what was emitted, until cancelled."""
        await run_worker(self._queue, self._write, name="events")

    def _not_before(self, series: _Series) -> float:
        if not series.written:
            return 0.0
        return max(0.0, series.written_at + self._settings.series_interval - self._timing.now())

    def _budget(self, regarding: Regarding, reason: str) -> TokenBucket:
        key = regarding, reason
        bucket = self._budgets.get(key)
        if bucket is None:
            bucket = TokenBucket(1 / self._settings.refill, self._settings.burst, self._timing)
            self._budgets[key] = bucket
        self._budgets.move_to_end(key)
        return bucket

    def _shrink(self) -> None:
        while len(self._series) > self._settings.remembered:
            self._series.popitem(last=False)
        while len(self._budgets) > self._settings.remembered:
            self._budgets.popitem(last=False)

    async def _write(self, subject: _Subject) -> float | None:
        series = self._series.get(subject)
        if series is None or series.written == series.count:
            return None
        if (wait := self._not_before(series)) > 0:
            return wait
        count = series.count
        try:
            await (self._update(subject, series) if series.written else self._create(subject, series))
        except NotFoundError:
            # The Event has expired, or the namespace is gone: start anew with the next occurrence.
            self._series.pop(subject, None)
        except KubeError as error:
            self._failed(subject, error)
        else:
            series.written = count
            series.written_at = self._timing.now()
            self.written += 1
        return None

    def _failed(self, subject: _Subject, error: KubeError) -> None:
        refused = isinstance(error, ApiError) and 400 <= error.status < 500 and error.status != 429
        if not refused and self._queue.failures(subject) + 1 < self._settings.attempts:
            raise error
        self._series.pop(subject, None)
        logger.warning("event dropped", extra={"reason": subject.reason, "error": str(error)[:300]})

    def _path(self, subject: _Subject) -> str:
        return f"/apis/events.k8s.io/v1/namespaces/{subject.regarding.namespace or 'default'}/events"

    async def _create(self, subject: _Subject, series: _Series) -> None:
        regarding = subject.regarding
        reference = {
            "apiVersion": regarding.api_version,
            "kind": regarding.kind,
            "name": regarding.name,
            "namespace": regarding.namespace,
            "uid": regarding.uid,
        }
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": series.name, "namespace": regarding.namespace or "default"},
            "eventTime": series.first,
            "regarding": {name: value for name, value in reference.items() if value},
            "reason": subject.reason[:128],
            "note": subject.note,
            "action": series.action[:128],
            "type": series.kind,
            "reportingController": self._controller,
            "reportingInstance": self._instance,
            **self._counted(series),
        }
        try:
            await self._client.request("POST", self._path(subject), body=body, attempts=1)
        except AlreadyExistsError:
            logger.debug(
                "event was written by an attempt whose answer was lost", extra={"event": series.name}
            )

    async def _update(self, subject: _Subject, series: _Series) -> None:
        path = f"{self._path(subject)}/{series.name}"
        await self._client.merge_patch(path, self._counted(series))

    def _counted(self, series: _Series) -> dict[str, dict[str, object]]:
        if series.count < 2:
            return {}
        return {"series": {"count": series.count, "lastObservedTime": series.last}}


def _shortened(note: str) -> str:
    """Cuts what is too long in its middle: what it is about stands first, and the fix last."""
    written = note.encode(errors="replace")
    if len(written) <= LONGEST_NOTE:
        return note
    half = (LONGEST_NOTE - len(_CUT.encode())) // 2
    return f"{written[:half].decode(errors='ignore')}{_CUT}{written[-half:].decode(errors='ignore')}"
