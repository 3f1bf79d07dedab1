"""The wire format of lists and watches, decoded without ever building whole objects.

An item or event is first cut out as raw bytes, so that one object that does not fit its projection spoils
nothing but itself. A list is read in steps, between which others have their turn.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from slicewise.kube.client import ATTEMPTS, Client
from slicewise.kube.errors import ForbiddenError, KubeError
from slicewise.kube.turns import by_and_by, next_turn

T = TypeVar("T")

PAGE = 500
PAGE_TIMEOUT = 60.0

Decode = Callable[[msgspec.Raw], T]


class Metadata(msgspec.Struct, gc=False):
    """What is needed of every object, whatever its kind."""

    name: str
    namespace: str = ""
    resourceVersion: str = ""  # noqa: N815 - the wire's name

    @property
    def key(self) -> str:
        """`namespace/name`, or the name alone for cluster-scoped objects."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class _Object(msgspec.Struct, gc=False):
    metadata: Metadata


class _Bookmarked(msgspec.Struct, gc=False):
    resourceVersion: str = ""  # noqa: N815 - the wire's name


class _Bookmark(msgspec.Struct, gc=False):
    metadata: _Bookmarked


class _ListMetadata(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815 - the wire's name
    more: str = msgspec.field(name="continue", default="")


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[msgspec.Raw] | None = None


class Event(msgspec.Struct):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


_OBJECT = msgspec.json.Decoder(_Object)
_BOOKMARK = msgspec.json.Decoder(_Bookmark)
_EVENT = msgspec.json.Decoder(Event)


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """One object: its projection, or why there is none. `version` is empty when not even that was readable."""

    key: str
    version: str
    value: T | None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: list[Item[T]]
    version: str


def decoder(kind: type[T] | Decode[T]) -> Decode[T]:
    """A projection given as a type becomes a function; a function stays what it is."""
    return msgspec.json.Decoder(kind).decode if isinstance(kind, type) else kind


def parse_item(raw: msgspec.Raw, decode: Decode[T]) -> Item[T]:
    """Never raises: what cannot be read comes back with its error."""
    try:
        metadata = _OBJECT.decode(raw).metadata
    except msgspec.MsgspecError as error:
        return Item("", "", None, error)
    try:
        return Item(metadata.key, metadata.resourceVersion, decode(raw))
    except Exception as error:  # noqa: BLE001 - the caller's decoder may do anything, and this is one object
        return Item(metadata.key, metadata.resourceVersion, None, error)


def parse_event(line: bytes) -> Event:
    """Raises MsgspecError."""
    return _EVENT.decode(line)


def parse_bookmark(raw: msgspec.Raw) -> str:
    """The resource version, empty when there is none to be had."""
    try:
        return _BOOKMARK.decode(raw).metadata.resourceVersion
    except msgspec.MsgspecError:
        return ""


async def pages(
    client: Client,
    path: str,
    decode: Decode[T],
    *,
    query: Mapping[str, str] | None = None,
    limit: int = PAGE,
) -> AsyncIterator[Page[T]]:
    """A whole collection, page by page, from one consistent snapshot.

    GoneError when the snapshot was compacted away before the last page: start over. MsgspecError when an answer
    is no list.
    """
    wanted = {**(query or {}), "limit": str(limit)}
    attempts = 1
    while True:
        answer = await client.request("GET", path, query=wanted, timeout=PAGE_TIMEOUT, attempts=attempts)
        await next_turn()  # a page is some megabytes
        page = answer.decode(_List)
        if not page.metadata.resourceVersion:
            raise msgspec.ValidationError("a list without a resource version")
        items = [parse_item(raw, decode) async for raw in by_and_by(page.items or ())]
        yield Page(items, page.metadata.resourceVersion)
        if not page.metadata.more:
            return
        # Losing the pages that already came would be worse than waiting, so later pages insist.
        wanted["continue"] = page.metadata.more
        attempts = ATTEMPTS


async def until_readable(
    client: Client, path: str, pause: float, refused: Callable[[ForbiddenError], None]
) -> None:
    """Returns once the caller may list a collection; asks again every `pause` seconds, and says each time why not.

    Any other trouble is no refusal: it returns, and the informer that comes next tries again itself.
    """
    while True:
        try:
            await client.get(path, query={"limit": "1"})
        except ForbiddenError as error:
            refused(error)
        except KubeError:
            return
        else:
            return
        await client.timing.sleep(client.timing.jittered(pause, share=0.2))
