"""The writes: one change at a time, each on the object as it stands at that moment.

Invariants
- Nothing is written on a guess: the object is read, and when it is not what the change was worked out from, nothing
  happens and `StaleError` asks for another look. The write carries the resourceVersion that was read.
- Fields that the change does not change go back as they came.

Failure mode: a server's refusal (4xx) is a `RefusedError` with the server's words; nothing was changed. Anything
else is raised as it is and may be tried again.
"""

from copy import deepcopy
from typing import Final
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

_PLURALS: Final = {
    "ResourceFlavor": "resourceflavors",
    "ClusterQueue": "clusterqueues",
    "LocalQueue": "localqueues",
    "Queue": "queues",
}
_ATTEMPTS: Final = 5
SEEN_AFTER: Final = 0.3
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
    return f"{prefix}/{_PLURALS[document['kind']]}"


class Writer:
    """Takes changes at one API server; the client is fenced, so that only the leader's writes arrive."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._manager = {"fieldManager": keys.FIELD_MANAGER}

    async def execute(self, change: Change) -> None:
        """Takes one change.

        Raises:
            StaleError: somebody was faster.
            RefusedError: the server says no.
            KubeError: no answer, or one that may be better later.
        """
        try:
            if change.before is None:
                await self._create(change.document)
            else:
                await self._change(change)
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

    async def _change(self, change: Change) -> None:
        path = f"{collection(change.document)}/{quote(change.document['metadata']['name'])}"
        for attempt in range(_ATTEMPTS):
            try:
                live = (await self._client.get(path)).json()
            except NotFoundError as error:
                raise StaleError(str(error)) from error
            live |= {key: change.document[key] for key in ("apiVersion", "kind")}
            if without_status(project(live)) != without_status(change.before):
                raise StaleError(f"{path} has changed since it was looked at")
            try:
                if change.after is None:
                    metadata = live["metadata"]
                    await self._client.delete(
                        path, uid=metadata["uid"], resource_version=metadata["resourceVersion"]
                    )
                else:
                    await self._client.replace(path, _merged(live, change.after), query=self._manager)
            except ConflictError:
                # Kueue writes its status all the time, which changes the version and nothing of ours.
                if attempt + 1 == _ATTEMPTS:
                    raise
            else:
                return

    async def wait_for_caches(self) -> None:
        """Returns when those who watch what was just written have seen it, as Volcano's webhook must."""
        await self._client.timing.sleep(SEEN_AFTER)

    async def annotate_node(self, node: Node, belief: NodeState | None) -> None:
        """Writes what is believed of a node on it: the label `pool` and the annotation `offer`, in one write.

        Without a belief neither of them is left.

        Raises:
            StaleError: the node is gone, or is not what it was when it was judged.
            KubeError: no answer, or one that may be better later.
        """
        path = f"/api/v1/nodes/{quote(node.name)}"
        label = belief.label if belief is not None else None
        kept = belief.kept if belief is not None else None
        for attempt in range(_ATTEMPTS):
            try:
                live = (await self._client.get(path)).decode(Node)
            except NotFoundError as error:
                raise StaleError(str(error)) from error
            if without_noise(live) != node:
                raise StaleError(f"{path} has changed since it was looked at")
            patch = {
                "metadata": {
                    "resourceVersion": live.metadata.resource_version,
                    "labels": {keys.POOL: label},
                    "annotations": {keys.OFFER: write_offer_annotation(kept) if kept is not None else None},
                }
            }
            try:
                await self._client.merge_patch(path, patch, query=self._manager)
            except ConflictError:
                if attempt + 1 == _ATTEMPTS:
                    raise
            else:
                return

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

    async def update_status(self, plural: str, name: str, uid: str, status: Object) -> None:
        """Writes the status of an object of ours. Raises KubeError; an object that is gone is none."""
        path = f"/apis/{API_VERSION}/{plural}/{quote(name)}"
        try:
            live = (await self._client.get(path)).json()
            if live["metadata"].get("uid", "") != uid:
                return
            await self._client.replace(f"{path}/status", {**live, "status": status}, query=self._manager)
        except NotFoundError:
            return
        except ConflictError as error:
            raise StaleError(str(error)) from error


def _merged(live: Object, after: Object) -> Object:
    """The live object with the parts of ours that a change may change."""
    body = deepcopy(live)
    body["spec"] = after["spec"]
    for part in ("labels", "annotations"):
        if part in after["metadata"]:
            body["metadata"][part] = after["metadata"][part]
    return body
