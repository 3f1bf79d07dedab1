"""What a reconciler is, and the controller that works on its queue and counts what comes of it.

Failure mode: what fails is tried again with backoff, key by key. An error that nobody foresaw is logged with its
traceback, counted apart, and told to `failed`, so that it becomes a condition and an event that people see.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from queue_sync.controllers.watches import Watches
from queue_sync.informers.required import Record
from queue_sync.metrics.registry import Metrics
from queue_sync.planning.observed import Object
from queue_sync.status.plan_status import unusable
from queue_sync.status.writer import StatusWriter
from slicewise.kube.clock import Timing
from slicewise.kube.errors import KubeError
from slicewise.kube.workqueue import WorkQueue, run_worker

logger = logging.getLogger(__name__)


class UnfinishedError(Exception):
    """A key has to be tried again; the message says why. The program did what it should."""


LONGEST_BACKOFF: Final = 15.0
"""Seconds from one failure of a key to its next try at most, so that everything is as it should be soon after an outage
ends; where hundreds of keys fail together, the queue's rate makes it longer."""
FORESEEN: Final = (KubeError, UnfinishedError)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one reconcile. `after` is in how many seconds time alone may change the outcome."""

    after: float | None = None


DONE: Final = Result()


def internal_error(error: Exception) -> str:
    """An unforeseen error as a sentence for people."""
    return (
        f"the controller failed with {type(error).__name__}: {str(error)[:200]}; what was written last stays in force "
        "and it is tried again: report this with the controller's log"
    )


async def write_status(
    statuses: StatusWriter, record: Record[Any], new_of: Callable[[Object], Object], now: Callable[[], str]
) -> Result:
    """Brings one status up to date. An error that nobody foresaw becomes its condition, and is raised.

    Raises:
        KubeError: the API server refused it.
    """
    try:
        return Result(await statuses.write(record, new_of))
    except FORESEEN:
        raise
    except Exception as error:
        words = internal_error(error)
        await statuses.write(
            record, lambda before: unusable("InternalError", words, record.generation, before, now())
        )
        raise


class Reconciler(ABC):
    """A queue of keys, which events wake them, and what is done about one."""

    name: ClassVar[str]
    """In metrics and logs."""
    workers: ClassVar[int] = 1
    """How many keys are worked on at a time."""
    queue: WorkQueue[str]

    @abstractmethod
    def watches(self) -> Watches:
        """Returns which events make which keys dirty."""

    @abstractmethod
    async def reconcile(self, key: str) -> Result:
        """Looks at the present state of one key as a whole, and brings about what should be."""

    def failed(self, key: str, error: Exception) -> None:  # noqa: B027 - most have nobody to tell
        """Tells people of an error that nobody foresaw."""


class Controller:
    """Works on the queue of a reconciler, and counts what comes of it."""

    def __init__(self, reconciler: Reconciler, metrics: Metrics, timing: Timing) -> None:
        self.name, self.queue = reconciler.name, reconciler.queue
        self._reconciler, self._metrics, self._timing = reconciler, metrics, timing

    async def run(self) -> None:
        """Works until cancelled."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._reconciler.workers):
                worker = run_worker(self.queue, self._once, name=self.name)
                group.create_task(worker, name=f"{self.name} {number}")

    async def _once(self, key: str) -> float | None:
        started = self._timing.now()
        outcome = "error"
        try:
            result = await self._reconciler.reconcile(key)
            outcome = "success" if result.after is None else "requeue_after"
        except FORESEEN:
            raise
        except Exception as error:
            outcome = "internal_error"
            logger.exception("reconcile failed", extra={"controller": self.name, "key": key})
            self._reconciler.failed(key, error)
            raise
        finally:
            taken = self._timing.now() - started
            self._metrics.reconciled(self.name, outcome, taken, self._timing.wall().timestamp())
        return result.after
