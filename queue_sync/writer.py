"""The writes: one change at a time, each on the object as it stands at that moment.

Invariants
- Nothing is written on a guess. A write is a patch that carries the resourceVersion at which the object was what the
  change was worked out from. The informers know it; where they do not, or it is another one by now, the object is read,
  and when it says something else, nothing happens and `StaleError` asks for another look.
- A patch names what the change changes, and nothing else.

Failure mode: a server's refusal (4xx) is a `RefusedError` with the server's words; nothing was changed. Anything
else is raised as it is and may be tried again.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from queue_sync.informers.required import Record, without_noise
from queue_sync.planning.changes import Change
from queue_sync.planning.node_trust import NodeState
from queue_sync.planning.observed import Object, project, without_status
from slicewise.api import keys
from slicewise.api.policy import API_VERSION, QuotaPlan
from slicewise.inventory.node import Node
from slicewise.inventory.node_annotation import write_offer_annotation
from slicewise.kube.client import Client
from slicewise.kube.errors import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    NotFoundError,
    TooManyRequestsError,
)
from slicewise.kube.object_types import OBJECT_TYPES, kind_of

_ATTEMPTS: Final = 5
SEEN_AFTER: Final = 0.3
"""Seconds after which Volcano's webhook, which hears of Queues by a watch, has nearly always seen a write."""
_SEEN_LATER: Final = (0.3, 0.6)
"""Seconds to wait where it had not, one after another, before a refusal counts."""
STALE_RETRY: Final = 1.0
"""Seconds after which to look again at what somebody else has just changed."""


class StaleError(Exception):
    """The object is not what the change was worked out from."""


class RefusedError(Exception):
    """The server does not take the object; the message says why."""


def collection(document: Object) -> str:
    """The path of the collection that an object is in."""
    metadata = document["metadata"]
    prefix = f"/apis/{document['apiVersion']}"
    if namespace := metadata.get("namespace"):
        prefix += f"/namespaces/{quote(namespace)}"
    return f"{prefix}/{OBJECT_TYPES[kind_of(document)].plural}"


def unknown(_: Object) -> str:
    """For a caller that watches nothing: every object is read before it is written."""
    return ""


class Writer:
    """Takes changes at one API server; the client is fenced, so that only the leader's writes arrive.

    `version_of` tells at which resourceVersion an engine's object was last seen to say just this; "" when it is not
    known, or says something else.
    """

    def __init__(self, client: Client, version_of: Callable[[Object], str] = unknown) -> None:
        self._client, self._version_of = client, version_of
        self._manager = {"fieldManager": keys.FIELD_MANAGER}

    async def execute(self, change: Change) -> None:
        """Takes one change.

        What builds on a write is refused as long as the webhook that judges it has not seen that one.

        Raises:
            StaleError: somebody was faster.
            RefusedError: the server says no.
            KubeError: no answer, or one that may be better later.
        """
        for pause in _SEEN_LATER if change.tier else ():
            try:
                return await self._execute(change)
            except RefusedError:
                await self._client.timing.sleep(pause)
        return await self._execute(change)

    async def _execute(self, change: Change) -> None:
        try:
            if change.before is None:
                await self._create(change.document)
            else:
                await self._change(change.before, change.after)
        except ConflictError as error:
            raise StaleError(str(error)) from error
        except (TooManyRequestsError, NotFoundError):
            raise
        except ApiError as error:
            if 400 <= error.status < 500 and error.status != 401:
                raise RefusedError(error.message) from error
            raise

    async def _create(self, document: Object) -> None:
        try:
            await self._client.create(collection(document), document, query=self._manager)
        except AlreadyExistsError as error:
            raise StaleError(str(error)) from error

    async def _change(self, before: Object, after: Object | None) -> None:
        path = f"{collection(before)}/{quote(before['metadata']['name'])}"

        async def write(version: str) -> None:
            if after is None:
                uid = before["metadata"].get("uid")
                await self._client.delete(path, uid=uid, resource_version=version)
            else:
                await self._client.merge_patch(path, _patch(before, after, version), query=self._manager)

        await _at_version(self._version_of(before), partial(self._read_version, path, before), write)

    async def _read_version(self, path: str, before: Object) -> str:
        """The version of an object that says what it did. Raises StaleError."""
        live = (await self._client.get(path)).json()
        live |= {key: before[key] for key in ("apiVersion", "kind")}
        if without_status(project(live)) != without_status(before):
            raise StaleError(f"{path} has changed since it was looked at")
        return str(live["metadata"]["resourceVersion"])

    async def wait_for_caches(self) -> None:
        """Returns when those who watch what was just written have seen it, as Volcano's webhook must."""
        await self._client.timing.sleep(SEEN_AFTER)

    async def annotate_node(self, node: Node, belief: NodeState | None, version: str = "") -> None:
        """Writes what is believed of a node on it: the label `pool` and the annotation `offer`, in one write.

        Without a belief neither of them is left. `version` is the one at which the node was last seen; "" reads it.

        Raises:
            StaleError: the node is gone, or is not what it was when it was judged.
            KubeError: no answer, or one that may be better later.
        """
        path = f"/api/v1/nodes/{quote(node.name)}"
        label = belief.label if belief is not None else None
        kept = belief.kept if belief is not None else None
        labels = {keys.POOL: label}
        annotations = {keys.OFFER: write_offer_annotation(kept) if kept is not None else None}

        async def write(at: str) -> None:
            metadata = {"resourceVersion": at, "labels": labels, "annotations": annotations}
            await self._client.merge_patch(path, {"metadata": metadata}, query=self._manager)

        await _at_version(version, partial(self._read_node_version, path, node), write)

    async def _read_node_version(self, path: str, node: Node) -> str:
        """The version of a node that is what it was. Raises StaleError."""
        live = (await self._client.get(path)).decode(Node)
        if without_noise(live) != node:
            raise StaleError(f"{path} has changed since it was looked at")
        return live.metadata.resource_version

    async def set_finalizer(self, record: Record[QuotaPlan], *, present: bool) -> None:
        """Puts our finalizer on a plan, or takes it off.

        Raises:
            StaleError: the plan is gone, or somebody was faster.
            KubeError: no answer, or one that may be better later.
        """
        path = f"/apis/{API_VERSION}/quotaplans/{quote(record.name)}"
        try:
            metadata = (await self._client.get(path)).json()["metadata"]
            if metadata.get("uid", "") != record.uid:
                raise StaleError(f"{path} is another one now")
            rest = [each for each in metadata.get("finalizers") or () if each != keys.FINALIZER]
            wanted = [*rest, keys.FINALIZER] if present else rest
            patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": wanted}}
            await self._client.merge_patch(path, patch, query=self._manager)
        except (ConflictError, NotFoundError) as error:
            raise StaleError(str(error)) from error

    async def update_status(self, plural: str, record: Record[Any], status: Object, version: str) -> None:
        """Writes the status of an object of ours; one that is gone is no error.

        Args:
            plural: the resource's name in the path.
            record: the object as it was last seen.
            status: what it should say.
            version: the one at which it was last seen.

        Raises:
            StaleError: it was written since.
            KubeError: no answer, or one that may be better later.
        """
        patch = {
            "metadata": {"resourceVersion": version},
            "status": merge_patch_of(record.status, status),
        }
        path = f"/apis/{API_VERSION}/{plural}/{quote(record.name)}/status"
        try:
            await self._client.merge_patch(path, patch, query=self._manager)
        except NotFoundError:
            return
        except ConflictError as error:
            raise StaleError(str(error)) from error


async def _at_version(
    version: str, read: Callable[[], Awaitable[str]], write: Callable[[str], Awaitable[None]]
) -> None:
    """Writes at a version that is known, or at the one that is read where none is, or it is another one by now.

    Kueue and kubelets write statuses all the time, which changes the version and nothing of ours.

    Raises:
        StaleError: the object is gone, or `read` says that it is not what it was.
        ConflictError: it was written in between each time.
    """
    for attempt in range(_ATTEMPTS):
        try:
            version = version or await read()
            await write(version)
        except NotFoundError as error:
            raise StaleError(str(error)) from error
        except ConflictError:
            version = ""
            if attempt + 1 == _ATTEMPTS:
                raise
        else:
            return


def _patch(before: Object, after: Object, version: str) -> Object:
    """What of an object a change may change, and does."""
    metadata = {
        part: changed
        for part in ("labels", "annotations")
        if (changed := merge_patch_of(before["metadata"].get(part, {}), after["metadata"].get(part, {})))
    }
    found: Object = {"metadata": {"resourceVersion": version, **metadata}}
    if spec := merge_patch_of(before["spec"], after["spec"]):
        found["spec"] = spec
    return found


def merge_patch_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> Object:
    """RFC 7396: what makes of one object another, in which nothing is null."""
    found: Object = dict.fromkeys(before.keys() - after.keys())
    for key, value in after.items():
        known = before.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            if changed := merge_patch_of(known, value):
                found[key] = changed
        elif known != value or key not in before:
            found[key] = value
    return found
