"""An API server over real sockets whose faults can be ordered: for what a healthy one cannot be made to show.

One resource version for everything, lists with pages, watches with a window of history, bookmarks, optimistic
locking, merge patches, and server-side apply as a merge. It is no model of validation or admission.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

import msgspec

from tests.kube.wire import Cut, End, Fault, Seen, answer, chunk, finish, read, start

Object = dict[str, Any]


class Refusal(Exception):  # noqa: N818
    def __init__(self, code: int, reason: str, message: str = "refused") -> None:
        super().__init__(message)
        self.code = code
        self.status = status(code, reason, message)


def status(code: int, reason: str, message: str = "refused") -> Object:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


@dataclass(eq=False, slots=True)
class Watcher:
    collection: str
    namespace: str
    query: Mapping[str, str]
    frames: "asyncio.Queue[bytes | End]" = field(default_factory=asyncio.Queue)


def kubeconfig(folder: Path, url: str) -> str:
    """Writes the kubeconfig of a server in a folder; returns its path."""
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "test"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(msgspec.json.encode(document).decode())
    return str(path)


class ApiServer:
    """`collections` maps a cluster-wide collection path to its kind."""

    def __init__(self, collections: Mapping[str, str]) -> None:
        self.collections = dict(collections)
        self.version = 100
        self.compacted = 0
        self.objects: dict[str, dict[str, Object]] = {path: {} for path in collections}
        self.history: list[tuple[int, str, str, Object]] = []
        self.snapshots: dict[str, tuple[int, list[Object]]] = {}
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.watchers: set[Watcher] = set()
        self.url = ""
        self.token: str | None = None
        self.date: Callable[[], float] = time.time
        self.on_write: Callable[[Seen], None] | None = None
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()

    # -- for tests: the world --------------------------------------------------------------------------------

    def put(self, collection: str, name: str, namespace: str = "", **fields: Any) -> Object:
        """Create or change one object as somebody else would."""
        key = f"{namespace}/{name}" if namespace else name
        old = self.objects[collection].get(key)
        metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
        given = fields.pop("metadata", {})
        return self._store(collection, key, old, {"metadata": {**metadata, **given}, **fields})

    def remove(self, collection: str, key: str) -> None:
        old = self.objects[collection].pop(key)
        self.version += 1
        gone = {**old, "metadata": {**old["metadata"], "resourceVersion": str(self.version)}}
        self._record(collection, "DELETED", gone)

    def compact(self) -> None:
        """Forget all history and every snapshot that pages are read from."""
        self.compacted = self.version
        self.history.clear()
        self.snapshots.clear()

    def end_watches(self, end: End = "close", partial: bytes = b"") -> None:
        for watcher in self.watchers:
            if partial:
                watcher.frames.put_nowait(partial)
            watcher.frames.put_nowait(end)

    def say(self, kind: str, thing: Object) -> None:
        """Send an event to every watch, whatever the state is."""
        for watcher in self.watchers:
            watcher.frames.put_nowait(_line(kind, thing))

    def bookmark(self) -> None:
        self.say("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})

    def repeat(self) -> None:
        """Send the newest event once more."""
        if self.history:
            _, collection, kind, thing = self.history[-1]
            self._send(collection, kind, thing)

    def count(self, method: str = "GET", path: str = "", *, watch: bool | None = None) -> int:
        probe = Fault(method=method, path=path, watch=watch)
        return sum(probe.matches(one) for one in self.seen)

    # -- the state -------------------------------------------------------------------------------------------

    def _store(self, collection: str, key: str, old: Object | None, new: Object) -> Object:
        metadata = {**new.get("metadata", {})}
        metadata["uid"] = old["metadata"]["uid"] if old else f"uid-{self.version + 1}"
        new = {"kind": self.collections[collection], **new, "metadata": metadata}
        if old is not None:
            metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
            if new == old:
                return old
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        self.objects[collection][key] = new
        self._record(collection, "MODIFIED" if old else "ADDED", new)
        return new

    def _record(self, collection: str, kind: str, thing: Object) -> None:
        self.history.append((self.version, collection, kind, thing))
        self._send(collection, kind, thing)

    def _send(self, collection: str, kind: str, thing: Object) -> None:
        for watcher in self.watchers:
            if watcher.collection == collection and _selected(thing, watcher.namespace, watcher.query):
                watcher.frames.put_nowait(_line(kind, thing))

    # -- HTTP ------------------------------------------------------------------------------------------------

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, Cut, ssl.SSLError):
                while True:
                    await self._serve(await read(reader), reader, writer)
        except asyncio.CancelledError:
            assert self._closing, "only the end of the test ends a connection's task"
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _serve(self, request: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.append(request)
        fault = next((one for one in self.faults if one.matches(request)), None)
        if fault is not None:
            fault.times -= 1
            await asyncio.sleep(fault.delay)
            if fault.lost:
                self._act(request)
                raise Cut
            if fault.status:
                await answer(writer, fault.status, fault.body, self._dated(fault.headers))
                return
            if fault.raw is not None:
                await start(writer)
                await chunk(writer, fault.raw)
                await finish(writer, fault.end or "close")
                return
            if fault.end is not None:
                await finish(writer, fault.end)
        try:
            self._admit(request)
            if request.watch:
                await self._watch(request, reader, writer)
                return
            code, said = self._act(request)
            await asyncio.sleep(fault.late if fault is not None else 0)
        except Refusal as refusal:
            code, said = refusal.code, refusal.status
        await answer(writer, code, msgspec.json.encode(said), self._dated({}))

    def _dated(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {"Date": formatdate(self.date(), usegmt=True), **headers}

    def _admit(self, request: Seen) -> None:
        if self.token is not None and request.headers.get("authorization") != f"Bearer {self.token}":
            raise Refusal(401, "Unauthorized")

    def _find(self, path: str) -> tuple[str, str, str]:
        """Collection, namespace, name."""
        for collection in self.collections:
            head, _, plural = collection.rpartition("/")
            rest = path.removeprefix(head + "/").split("/")
            namespace = ""
            if not path.startswith(head + "/"):
                continue
            if rest[0] == "namespaces" and len(rest) > 2:
                namespace, rest = rest[1], rest[2:]
            if rest[0] == plural:
                return collection, namespace, rest[1] if len(rest) > 1 else ""
        raise Refusal(404, "NotFound", "the server could not find the requested resource")

    def _act(self, request: Seen) -> tuple[int, Object]:
        collection, namespace, name = self._find(request.path)
        if request.method == "GET" and not name:
            return 200, self._list(collection, namespace, request.query)
        body = msgspec.json.decode(request.body) if request.body else {}
        if request.method == "POST":
            name = body["metadata"]["name"]
        key = f"{namespace}/{name}" if namespace else name
        old = self.objects[collection].get(key)
        if request.query.get("dryRun") == "All":
            return 200, merge(old, body)
        if request.method != "GET" and self.on_write is not None:
            self.on_write(request)
        if request.method == "POST":
            if old is not None:
                raise Refusal(409, "AlreadyExists")
            return 201, self._store(collection, key, None, body)
        kind = request.headers.get("content-type", "")
        if old is None and "apply-patch" in kind:
            metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
            return 201, self._store(collection, key, None, merge(body, {"metadata": metadata}))
        if old is None:
            raise Refusal(404, "NotFound")
        return 200, self._change(request.method, collection, key, old, body)

    def _change(self, method: str, collection: str, key: str, old: Object, body: Any) -> Object:
        if method == "GET":
            return old
        if method == "DELETE":
            wanted = body.get("preconditions", {})
            if any(old["metadata"][name] != value for name, value in wanted.items()):
                raise Refusal(409, "Conflict")
            self.remove(collection, key)
            return {"kind": "Status", "status": "Success"}
        new: Object = merge(old, body) if method == "PATCH" else body
        seen = new["metadata"].get("resourceVersion")
        if seen and seen != old["metadata"]["resourceVersion"]:
            raise Refusal(409, "Conflict", "the object has been modified")
        return self._store(collection, key, old, new)

    def _list(self, collection: str, namespace: str, query: Mapping[str, str]) -> Object:
        token = query.get("continue", "")
        offset = 0
        if token:
            name, _, at = token.partition(":")
            offset = int(at)
            if name not in self.snapshots:
                raise Refusal(410, "Expired", "the provided continue parameter is too old")
            version, items = self.snapshots[name]
        else:
            everything = sorted(self.objects[collection].items())
            items = [thing for _, thing in everything if _selected(thing, namespace, query)]
            name, version = f"s{len(self.seen)}", self.version
            self.snapshots[name] = (version, items)
        limit = int(query.get("limit", "0")) or len(items)
        more = f"{name}:{offset + limit}" if offset + limit < len(items) else ""
        return {
            "kind": "List",
            "metadata": {"resourceVersion": str(version), "continue": more},
            "items": items[offset : offset + limit] or None,
        }

    async def _watch(self, request: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        collection, namespace, _ = self._find(request.path)
        since = int(request.query.get("resourceVersion") or 0)
        await start(writer)
        watcher = Watcher(collection, namespace, request.query)
        if since < self.compacted:
            watcher.frames.put_nowait(_line("ERROR", status(410, "Expired", "too old resource version")))
            watcher.frames.put_nowait("close")
        for version, where, kind, thing in self.history:
            if version > since and where == collection and _selected(thing, namespace, request.query):
                watcher.frames.put_nowait(_line(kind, thing))
        self.watchers.add(watcher)
        left = asyncio.create_task(self._until_left(reader, watcher), name="client left")
        try:
            while True:
                frame = await watcher.frames.get()
                if isinstance(frame, str):
                    self.watchers.discard(watcher)
                    await finish(writer, frame)
                    return
                await chunk(writer, frame)
        finally:
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)
            self.watchers.discard(watcher)

    async def _until_left(self, reader: asyncio.StreamReader, watcher: Watcher) -> None:
        with suppress(ConnectionError):
            await reader.read(1)
        watcher.frames.put_nowait("cut")

    @asynccontextmanager
    async def running(self, tls: ssl.SSLContext | None = None) -> AsyncIterator["ApiServer"]:
        listener = await asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=tls)
        port = listener.sockets[0].getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        try:
            yield self
        finally:
            self._closing = True
            listener.close()
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _line(kind: str, thing: Object) -> bytes:
    return msgspec.json.encode({"type": kind, "object": thing}) + b"\n"


def _selected(thing: Object, namespace: str, query: Mapping[str, str]) -> bool:
    metadata = thing["metadata"]
    if namespace and metadata.get("namespace") != namespace:
        return False
    path, _, wanted = query.get("fieldSelector", "").partition("=")
    found: Any = thing
    for part in path.split(".") if path else ():
        found = found.get(part) or {}
    return not path or found == wanted
