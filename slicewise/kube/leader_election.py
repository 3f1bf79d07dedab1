"""Leader election on a coordination.k8s.io/v1 Lease, with a fence.

Invariants
- `is_leader()` is true only for `renew_deadline` seconds after the sending of the last write that succeeded. Others
  wait `lease_duration`, which is longer, after they saw that write: two are never leaders at once, as long as
  clocks run at about the same rate. What they show does not matter.
- The cluster's clock is set anew right before each claim, from the times of the Lease and of the API server.
- When the deadline passes, the work is cancelled; what it still tries to write is stopped by `check()`.
- A stop releases the lease, after the work has ended, so that the next one need not wait.

Failure mode: whoever cannot renew stops. `run()` then raises LeadershipLostError; starting over, with a new Elector and
nothing remembered, is up to the caller.
"""

import asyncio
import logging
import math
import socket
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slicewise.kube.client import Client
from slicewise.kube.clock import ClusterClock, micro_time, reap, within
from slicewise.kube.errors import ConflictError, LeadershipLostError, NotFoundError

logger = logging.getLogger(__name__)

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """Seconds; the customary ones of Kubernetes' own components."""

    lease_duration: float = 15.0
    renew_deadline: float = 10.0
    retry_period: float = 2.0
    jitter: float = 1.2

    def __post_init__(self) -> None:
        if not self.lease_duration > self.renew_deadline > self.retry_period * (1 + self.jitter):
            raise ValueError("lease_duration > renew_deadline > retry_period * (1 + jitter) does not hold")


def own_identity() -> str:
    """Readable, and never the same twice."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


class Elector:
    """One candidate for one lease. Its own client must not be fenced by it."""

    def __init__(
        self,
        client: Client,
        *,
        namespace: str,
        name: str,
        identity: str | None = None,
        settings: LeaseSettings | None = None,
        clock: ClusterClock | None = None,
    ) -> None:
        self.identity = identity or own_identity()
        self._client = client
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{name}"
        self._name = name
        self._namespace = namespace
        self._settings = settings or LeaseSettings()
        self._timing = client.timing
        self._clock = clock or ClusterClock(client.timing, client.server_time)
        self._renewed_at: float | None = None
        self._lease: Record | None = None
        self._observed: Record | None = None
        self._observed_at = 0.0

    @property
    def holder(self) -> str:
        """Who holds the lease, as last seen; empty when nobody does."""
        return str((self._observed or {}).get("holderIdentity") or "")

    def is_leader(self) -> bool:
        return self._renewed_at is not None and self._left(self._settings.renew_deadline) > 0

    def check(self) -> float:
        """The fence, for `Client.fenced_by`: for how long a write may be under way. Raises LeadershipLostError."""
        if not self.is_leader():
            raise LeadershipLostError(
                f"{self.identity} does not hold the lease {self._namespace}/{self._name}"
            )
        return self._left(self._settings.lease_duration)

    async def run(self, lead: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for the lease, then `lead()` for as long as it is held.

        Returns when `lead` does; raises what it raises, or LeadershipLostError. Cancelling stops both.
        """
        await self._acquire()
        logger.info("became leader", extra={"lease": self._name, "identity": self.identity})
        work = asyncio.create_task(lead(), name=f"lead {self._name}")
        renewing = asyncio.create_task(self._keep(), name=f"renew {self._name}")
        lost = False
        try:
            await asyncio.wait({work, renewing}, return_when=asyncio.FIRST_COMPLETED)
            lost = not work.done()
        finally:
            await self._end(work, renewing, lost=lost)
        if lost:
            raise LeadershipLostError(
                f"the lease {self._namespace}/{self._name} could not be renewed in time"
            )
        work.result()

    async def _end(self, work: asyncio.Task[None], renewing: asyncio.Task[None], *, lost: bool) -> None:
        """Stop the work while the lease still keeps others away, then let go of it."""
        if lost:
            self._renewed_at = None
            logger.error("lost the lease", extra={"lease": self._name, "identity": self.identity})
        await reap(work)
        await reap(renewing)
        if self.is_leader():
            await self._release()

    async def _acquire(self) -> None:
        while not await self._try(self._settings.renew_deadline):
            await self._timing.sleep(self._pause())

    async def _keep(self) -> None:
        """Renew; return once that has not worked until the deadline."""
        pause = self._pause()
        while (left := self._left(self._settings.renew_deadline)) > 0:
            await self._timing.sleep(min(left, pause))
            left = self._left(self._settings.renew_deadline)
            if left > 0:
                started = self._timing.now()
                await self._try(left)
                # From start to start, so that slow answers leave as much time for the next attempt as they took.
                pause = max(0.0, self._pause() - (self._timing.now() - started))

    def _pause(self) -> float:
        return self._settings.retry_period * (1 + self._settings.jitter * self._timing.random())

    def _left(self, seconds: float) -> float:
        return -math.inf if self._renewed_at is None else self._renewed_at + seconds - self._timing.now()

    async def _try(self, limit: float) -> bool:
        """One attempt to get or keep the lease. Never raises."""
        # Half the deadline, so that a connection that hangs leaves room for a second attempt.
        limit = min(limit, self._settings.renew_deadline / 2)
        try:
            return await within(self._timing, limit, self._attempt(limit), f"lease {self._name}")
        except ConflictError:
            self._lease = None
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the deadline decides
            self._lease = None
            logger.warning("lease attempt failed", extra={"lease": self._name, "error": repr(error)[:300]})
            return False

    async def _attempt(self, limit: float) -> bool:
        if self._lease is None or not self.is_leader():
            try:
                answer = await self._client.request("GET", self._path, timeout=limit, attempts=1)
            except NotFoundError:
                self._clock.set(None)
                fresh = {
                    "metadata": {"name": self._name, "namespace": self._namespace},
                    "spec": self._claim({}),
                }
                return await self._write("POST", self._collection, fresh, limit)
            self._lease = answer.json()
            self._observe(self._lease.get("spec") or {})
            if not self.is_leader():
                self._clock.set(_moment(self._observed))
        spec = self._lease.get("spec") or {}
        if self.holder not in ("", self.identity) and not self._expired(spec):
            # Somebody deleted the lease or gave it away, or this machine slept: whoever was leader is none now.
            self._renewed_at = None
            return False
        return await self._write("PUT", self._path, {**self._lease, "spec": self._claim(spec)}, limit)

    async def _write(self, method: str, path: str, lease: Record, limit: float) -> bool:
        sent_at = self._timing.now()
        answer = await self._client.request(method, path, body=lease, timeout=limit, attempts=1)
        self._lease = answer.json()
        self._observe(self._lease["spec"])
        self._renewed_at = sent_at
        return True

    def _observe(self, spec: Record) -> None:
        """Times in the record are other people's clocks: only that it changed counts, and when we saw it."""
        if spec != self._observed:
            self._observed = spec
            self._observed_at = self._timing.now()

    def _expired(self, spec: Record) -> bool:
        seconds = spec.get("leaseDurationSeconds") or self._settings.lease_duration
        return self._timing.now() >= self._observed_at + float(seconds)

    def _claim(self, spec: Record) -> Record:
        now = micro_time(self._clock.moment())
        ours = spec.get("holderIdentity") == self.identity
        transitions = int(spec.get("leaseTransitions") or 0)
        return {
            **spec,
            "holderIdentity": self.identity,
            "leaseDurationSeconds": math.ceil(self._settings.lease_duration),
            "acquireTime": (spec.get("acquireTime") if ours else None) or now,
            "renewTime": now,
            "leaseTransitions": transitions if ours or not spec else transitions + 1,
        }

    async def _release(self) -> None:
        """Say that nobody holds it."""
        limit = self._left(self._settings.renew_deadline)
        self._lease = self._renewed_at = None
        try:
            await within(self._timing, limit, self._let_go(limit), f"release {self._name}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the lease expires by itself
            logger.warning("lease was not released", extra={"lease": self._name, "error": repr(error)[:300]})

    async def _let_go(self, limit: float) -> None:
        # Read anew: a renewal that was cut short may have been written all the same.
        lease = (await self._client.request("GET", self._path, timeout=limit, attempts=1)).json()
        if lease["spec"]["holderIdentity"] != self.identity:
            return
        now = micro_time(self._clock.moment())
        nobody = {"holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": now, "renewTime": now}
        body = {**lease, "spec": {**lease["spec"], **nobody}}
        await self._client.request("PUT", self._path, body=body, timeout=limit, attempts=1)


def _moment(spec: Record | None) -> float | None:
    """When a Lease was last renewed, in POSIX seconds; None where it does not say."""
    try:
        return datetime.fromisoformat(str((spec or {}).get("renewTime"))).timestamp()
    except (ValueError, OverflowError):
        return None
