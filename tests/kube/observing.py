"""An informer under observation: what it shows, and what it told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec

from slicewise.kube.client import Client
from slicewise.kube.informer import Informer
from slicewise.kube.informer_types import Change, WatchSettings
from tests.kube.apiserver import ApiServer
from tests.kube.clocks import eventually
from tests.kube.conftest import NODES

FAST = WatchSettings(page=2, inactivity=5.0)


class Metadata(msgspec.Struct):
    name: str
    labels: dict[str, str] = {}


class Spec(msgspec.Struct):
    size: int = 0


class Node(msgspec.Struct):
    """A projection: everything that is not here does not exist."""

    metadata: Metadata
    spec: Spec = msgspec.field(default_factory=Spec)


class Told:
    """What an informer told."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, int | None, int | None]] = []
        self.malformed: list[str] = []

    def change(self, change: Change[Node]) -> None:
        old = change.old.spec.size if change.old else None
        new = change.new.spec.size if change.new else None
        self.changes.append((change.key, old, new))

    def bad(self, key: str, error: Exception) -> None:
        assert str(error)
        self.malformed.append(key)


@asynccontextmanager
async def following(
    client: Client, path: str = NODES, settings: WatchSettings = FAST, **options: Any
) -> AsyncIterator[tuple[Informer[Node], Told]]:
    seen = Told()
    informer = Informer(
        client, path, Node, on_change=seen.change, on_malformed=seen.bad, settings=settings, **options
    )
    task = asyncio.create_task(informer.run(), name="informer")
    try:
        yield informer, seen
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def sizes(informer: Informer[Node]) -> dict[str, int]:
    return {key: node.spec.size for key, node in informer.store.items()}


def truth(server: ApiServer, path: str = NODES) -> dict[str, int]:
    return {key: thing.get("spec", {}).get("size", 0) for key, thing in server.objects[path].items()}


async def same(server: ApiServer, informer: Informer[Node]) -> None:
    await eventually(lambda: informer.has_synced and sizes(informer) == truth(server))


async def watched(server: ApiServer) -> None:
    await eventually(lambda: server.watchers)
