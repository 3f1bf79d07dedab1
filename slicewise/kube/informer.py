"""The informer: a cache of one collection's projections that follows the server, and tells what changed.

Invariants
- Once synced, the store is a state that the server had, never older than what was shown before, and `on_change` was
  told of all that is in it.
- No failure empties it: an error of any kind, a missing API included, leaves the last state in place.
- `on_change` is called after the store has changed, once for each change that a projection can show; changes
  missed while disconnected arrive as if they had been watched, deletions included.
- An object that does not fit its projection is reported and left out; if a fitting version of it was known, that
  one stays. Every other object goes on.

Failure mode: `run()` returns never and raises nothing but its cancellation. It lists, watches, and on trouble waits
and tries again from where it was, or from a new list when the server has forgotten that point (410).
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

import msgspec

from slicewise.kube.client import Client
from slicewise.kube.clock import Backoff
from slicewise.kube.errors import (
    ApiError,
    ForbiddenError,
    GoneError,
    KubeError,
    NotFoundError,
    UnauthorizedError,
    UnreachableError,
    error_from,
)
from slicewise.kube.informer_types import Change, Counters, Health, State, Trouble, WatchSettings
from slicewise.kube.listing import (
    Decode,
    Item,
    decoder,
    pages,
    parse_bookmark,
    parse_event,
    parse_item,
)
from slicewise.kube.turns import by_and_by

T = TypeVar("T")
logger = logging.getLogger(__name__)


class Informer(Generic[T]):
    """`path` is a collection's URL path; `decode` a msgspec Struct or a function of the raw object.

    With `optional`, a collection that the server does not have counts as synced, with `is_served` False.
    With `versions`, it is known at which version the server had what the store holds. `index` is told of each change
    before anybody can see it in the store, so that what it keeps is never behind; thousands come at once.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        decode: type[T] | Decode[T],
        *,
        on_change: Callable[[Change[T]], None] | None = None,
        index: Callable[[Change[T]], None] | None = None,
        on_malformed: Callable[[str, Exception], None] | None = None,
        field_selector: str = "",
        optional: bool = False,
        versions: bool = False,
        settings: WatchSettings | None = None,
    ) -> None:
        self.path = path
        self.counters = Counters()
        self._client = client
        self._decode = decoder(decode)
        self._on_change = on_change
        self._index = index
        self._on_malformed = on_malformed
        self._selector = {"fieldSelector": field_selector} if field_selector else {}
        self._optional = optional
        self._settings = settings or WatchSettings()
        self._timing = client.timing
        self._backoff = Backoff(self._settings.first_backoff, self._settings.most_backoff, self._timing)
        self._store: dict[str, T] = {}
        self._versions: dict[str, str] | None = {} if versions else None
        self._served: bool | None = None
        self._synced = asyncio.Event()
        self._state = State()

    @property
    def store(self) -> Mapping[str, T]:
        """The cache, live and read-only, by `namespace/name` or name."""
        return MappingProxyType(self._store)

    def version(self, key: str) -> str:
        """The last resourceVersion at which the server had what the store holds; "" where that is not known."""
        return (self._versions or {}).get(key, "")

    @property
    def malformed(self) -> Mapping[str, str]:
        """Objects whose present version does not fit, with why."""
        return MappingProxyType(self._state.malformed)

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    @property
    def is_served(self) -> bool | None:
        """Whether the server has this collection; None before anybody asked."""
        return self._served

    async def synced(self) -> None:
        """Return once the store holds a whole list."""
        await self._synced.wait()

    def healthy(self) -> Health:
        """Whether the store can be trusted to follow the server, with a sentence for people."""
        trouble = self._state.trouble
        if trouble is not None and self._state.connected_at is None:
            age = self._timing.now() - trouble.since
            refused = isinstance(trouble.error, UnauthorizedError | ForbiddenError)
            if refused or age >= self._settings.patience or not self.has_synced:
                return Health(False, f"{self.path}: no news for {age:.0f} s: {trouble.error}")
        if not self.has_synced:
            return Health(False, f"{self.path}: the first list is under way")
        if self._served is False:
            return Health(True, f"{self.path}: not served by this cluster")
        return Health(True, f"{self.path}: following, {len(self._store)} objects")

    async def run(self) -> None:
        """Follow the server until cancelled."""
        while True:
            try:
                if not self._state.version:
                    await self._list()
                pause = await self._watch()
            except (KubeError, msgspec.MsgspecError) as error:
                pause = self._pause_after(error)
            except Exception as error:
                # A cache that silently stopped following would be worse than one that tries on.
                logger.exception("watch met a bug", extra={"path": self.path})
                pause = self._pause_after(error)
            await self._timing.sleep(pause)

    async def _list(self) -> None:
        if self._state.listed_before:
            self.counters.relists += 1
        self._state.listed_before = True
        found: list[Item[T]] = []
        version = ""
        async for page in pages(
            self._client, self.path, self._decode, query=self._selector, limit=self._settings.page
        ):
            found += page.items
            version = page.version
        self._served = True
        self._state.version = version
        self._state.trouble = None
        compared = [self._compared(item) async for item in by_and_by(found)]
        async for change in by_and_by(self._replace(found, filter(None, compared))):
            self._tell(change)
        self._synced.set()

    async def _watch(self) -> float:
        """One connection; how long to pause before the next one."""
        low, high = self._settings.server_timeout
        query = {
            **self._selector,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": self._state.version,
            "timeoutSeconds": str(low + int((high - low) * self._timing.random())),
        }
        inactivity = self._settings.inactivity
        self.counters.reconnects += self._state.watched_before
        self._state.watched_before = True
        started = self._timing.now()
        try:
            async with self._client.lines(self.path, query=query, inactivity=inactivity) as lines:
                self._state.connected_at = self._timing.now()
                async for line in lines:
                    self._take(line)
        except TimeoutError as error:
            if self._state.connected_at is None:
                raise UnreachableError(f"no answer in {inactivity:g} s", sent=True) from error
            logger.info("watch fell silent", extra={"path": self.path, "seconds": inactivity})
        finally:
            self._state.connected_at = None
            lasted = self._timing.now() - started
            if lasted >= self._settings.well_after:
                self._backoff.reset()
        self._state.trouble = None
        self._state.failures = 0
        short = lasted < self._settings.short_watch
        return self._backoff.next() if short else self._timing.jittered(self._settings.reconnect)

    def _take(self, line: bytes) -> None:
        event = parse_event(line)
        if event.type == "ERROR":
            raise error_from(0, event.object)
        self._state.trouble = None
        self._state.failures = 0
        self.counters.last_event = self._timing.now()
        if event.type == "BOOKMARK":
            self._advance(parse_bookmark(event.object))
            return
        self.counters.events += 1
        item = parse_item(event.object, self._decode)
        self._advance(item.version)
        if event.type == "DELETED":
            change = self._remove(item.key)
        elif event.type in ("ADDED", "MODIFIED"):
            change = self._put(item)
        else:
            logger.warning("watch event of unknown type", extra={"path": self.path, "type": event.type[:40]})
            return
        if change is not None:
            self._tell(change)

    def _advance(self, version: str) -> None:
        """Resume from here next time. A server restored from a backup goes backwards: then all is unknown."""
        current = self._state.version
        if version.isdecimal() and current.isdecimal() and int(version) < int(current):
            raise GoneError(410, "Expired", f"the resource version went back from {current} to {version}")
        self._state.version = version or current

    def _pause_after(self, error: Exception) -> float:
        """Remember what went wrong, where to go on from, and how long to wait."""
        self.counters.errors += 1
        state = self._state
        if isinstance(error, NotFoundError):
            return self._absent()
        state.failures += 1
        forgotten = isinstance(error, GoneError) or (isinstance(error, ApiError) and error.status == 400)
        if forgotten or state.failures >= self._settings.failures_before_relist:
            state.version = ""
        if not isinstance(error, GoneError):
            since = state.trouble.since if state.trouble else self._timing.now()
            state.trouble = Trouble(error, since)
        logger.warning("watch failed", extra={"path": self.path, "error": str(error)[:300]})
        pause = self._backoff.next()
        asked = error.retry_after if isinstance(error, ApiError) else None
        if asked is None:
            return pause
        # Everybody was told the same time to come back at; the backoff on top spreads them.
        return min(asked, self._settings.longest_retry_after) + pause

    def _absent(self) -> float:
        if self._served is not False:
            logger.info("collection is not served", extra={"path": self.path})
        self._served = False
        self._state.version = ""
        self._state.trouble = None
        if self._optional:
            self._synced.set()
        return self._timing.jittered(self._settings.absent_retry, share=0.2)

    def _replace(self, items: Iterable[Item[T]], changes: Iterable[Change[T]]) -> Iterator[Change[T]]:
        """Makes the store equal to a list, at once, and yields what that changes; `changes` is what was compared."""
        made = list(changes)
        self._take_in(items, made)
        listed = {item.key for item in items}
        # An object without a readable name might be any of those that seem to be missing.
        gone = () if "" in listed else [self._remove(key) for key in self._store.keys() - listed]
        for key in self._state.malformed.keys() - listed:
            del self._state.malformed[key]
        yield from made
        yield from filter(None, gone)

    def _put(self, item: Item[T]) -> Change[T] | None:
        change = self._compared(item)
        self._take_in((item,), () if change is None else (change,))
        return change

    def _compared(self, item: Item[T]) -> Change[T] | None:
        """What an object that is there changes; None where it changes nothing, or does not fit, which is reported."""
        if item.value is None:
            self._report(item.key, item.error or ValueError("the decoder returned nothing"))
            return None
        old = self._store.get(item.key)
        if old is not None and old == item.value:
            self.counters.dropped += 1
            return None
        return Change(item.key, old, item.value)

    def _take_in(self, items: Iterable[Item[T]], changes: Iterable[Change[T]]) -> None:
        for item in items:
            if item.value is not None:
                self._state.malformed.pop(item.key, None)
                if self._versions is not None:
                    self._versions[item.key] = item.version
        for change in changes:
            if change.new is not None:
                self._store[change.key] = change.new
                self._indexed(change)

    def _remove(self, key: str) -> Change[T] | None:
        self._state.malformed.pop(key, None)
        if self._versions is not None:
            self._versions.pop(key, None)
        old = self._store.pop(key, None)
        if old is None:
            return None
        change: Change[T] = Change(key, old, None)
        self._indexed(change)
        return change

    def _report(self, key: str, error: Exception) -> None:
        self.counters.malformed += 1
        if self._state.malformed.get(key) == str(error):
            return
        self._state.malformed[key] = str(error)
        logger.warning(
            "object does not fit", extra={"path": self.path, "key": key, "error": str(error)[:300]}
        )
        if self._on_malformed is not None:
            self._guarded(self._on_malformed, key, error)

    def _indexed(self, change: Change[T]) -> None:
        if self._index is not None:
            self._guarded(self._index, change)

    def _tell(self, change: Change[T]) -> None:
        if self._on_change is not None:
            self._guarded(self._on_change, change)

    def _guarded(self, callback: Callable[..., None], *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception:
            logger.exception("a callback failed", extra={"path": self.path})
