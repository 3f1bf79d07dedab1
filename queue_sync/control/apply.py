"""The writes: one step at a time, each on the object as it stands at that moment.

Invariants
- Nothing is written on a guess: the object is read, and when it is not what the step was worked out from, nothing
  happens and `StaleError` asks for another look. The write carries the resourceVersion that was read.
- Fields that the step does not change go back as they came.

Failure mode: a server's refusal (4xx) is a `RefusedError` with the server's words; nothing was changed. Anything
else is raised as it is and may be tried again.
"""

from copy import deepcopy
from typing import Final
from urllib.parse import quote

from queue_sync.control.watched import without_noise
from queue_sync.judgement.existing import Object, steady, trimmed
from queue_sync.judgement.settle import Belief
from queue_sync.judgement.wanted import Step
from slicewise.api import keys
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


class StaleError(Exception):
    """The object is not what the step was worked out from."""


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
    """Takes steps at one API server; the client is fenced, so that only the leader's writes arrive."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._manager = {"fieldManager": keys.FIELD_MANAGER}

    async def take(self, step: Step) -> None:
        """Takes one step.

        Raises:
            StaleError: somebody was faster.
            RefusedError: the server says no.
            KubeError: no answer, or one that may be better later.
        """
        try:
            if step.before is None:
                await self._create(step.document)
            else:
                await self._change(step)
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

    async def _change(self, step: Step) -> None:
        path = f"{collection(step.document)}/{quote(step.document['metadata']['name'])}"
        for attempt in range(_ATTEMPTS):
            try:
                live = (await self._client.get(path)).json()
            except NotFoundError as error:
                raise StaleError(str(error)) from error
            live |= {key: step.document[key] for key in ("apiVersion", "kind")}
            if steady(trimmed(live)) != steady(step.before):
                raise StaleError(f"{path} has changed since it was looked at")
            try:
                if step.after is None:
                    metadata = live["metadata"]
                    await self._client.delete(
                        path, uid=metadata["uid"], resource_version=metadata["resourceVersion"]
                    )
                else:
                    await self._client.replace(path, _merged(live, step.after), query=self._manager)
            except ConflictError:
                # Kueue writes its status all the time, which changes the version and nothing of ours.
                if attempt + 1 == _ATTEMPTS:
                    raise
            else:
                return

    async def seen_by_all(self) -> None:
        """Returns when those who watch what was just written have seen it, as Volcano's webhook must."""
        await self._client.timing.sleep(SEEN_AFTER)

    async def mark(self, node: Node, belief: Belief | None) -> None:
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

    async def report(self, plural: str, name: str, uid: str, status: Object) -> None:
        """Writes the status of an object of ours. Raises KubeError; an object that is gone is none."""
        path = f"/apis/slicewise.io/v1alpha1/{plural}/{quote(name)}"
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
    """The live object with the parts of ours that a step may change."""
    body = deepcopy(live)
    body["spec"] = after["spec"]
    for part in ("labels", "annotations"):
        if part in after["metadata"]:
            body["metadata"][part] = after["metadata"][part]
    return body
