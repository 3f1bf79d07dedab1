"""A live cluster, read as far as the caller may: what is forbidden is told and left out, and nothing is written.

The one thing that is created is a SelfSubjectAccessReview for each collection, which asks and is not stored.
"""

from argparse import Namespace
from collections.abc import Iterable, Set
from datetime import datetime
from typing import Final

import msgspec

from slicewise.cli.doctor.cluster import Patient, admit
from slicewise.cli.doctor.findings import Finding
from slicewise.cli.inputs import READ_ALWAYS, READ_QUEUES, READ_SETUP, READ_WORK, Collection, node_rules
from slicewise.cli.live import ask, items
from slicewise.inventory.node_state import CUSTOMARY, NodeRules
from slicewise.kube.client import Client
from slicewise.kube.errors import ApiError, ForbiddenError, NotFoundError
from slicewise.kube.object_types import kind_of
from slicewise.kube.snapshot import Document

_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
# ConfigMaps are read only where operators and engines keep theirs.
_WHERE: Final = ("nvidia", "gpu", "kueue", "volcano")


class _Verdict(msgspec.Struct, frozen=True):
    allowed: bool = False


class _Review(msgspec.Struct, frozen=True):
    status: _Verdict = _Verdict()


def examine(options: Namespace, now: datetime) -> Patient:
    """Reads a live cluster.

    Raises:
        Failed: there is no cluster to read.
    """

    async def read(client: Client) -> Reading:
        reading = Reading(client, {options.gpu_operator_namespace, options.kueue_namespace})
        await reading.everything()
        return reading

    return ask(options, read).patient(now, node_rules(options))


class Reading:
    """What was read of a cluster so far."""

    def __init__(self, client: Client, named: Set[str] = frozenset()) -> None:
        self._client = client
        self._named = named
        """Namespaces whose ConfigMaps are read, whatever their name says."""
        self.documents: list[Document] = []
        self.seen: set[str] = set()
        self.forbidden: dict[str, str] = {}
        """Kinds that the caller may not list, with the names that rules of RBAC have for them."""
        self.namespaces: set[str] = set()

    async def everything(self) -> None:
        """Reads all that doctor looks at."""
        for collection in (*READ_ALWAYS, *READ_QUEUES, *READ_WORK, *READ_SETUP):
            await self.take(collection)
        for namespace in sorted(self.namespaces):
            if namespace in self._named or any(word in namespace for word in _WHERE):
                await self.take((f"/api/v1/namespaces/{namespace}/configmaps", "v1", "ConfigMap"))

    def patient(self, now: datetime, rules: NodeRules = CUSTOMARY) -> Patient:
        """The cluster as far as it was read."""
        return admit(self.documents, now, self.seen, self.told, frozenset(self.forbidden), rules)

    async def take(self, collection: Collection) -> None:
        """Reads one collection, if the caller may."""
        path, api_version, kind = collection
        of = kind_of({"apiVersion": api_version, "kind": kind})
        if not await self._may_list(path):
            self._forbid(path, of)
            return
        try:
            found = await items(self._client, path)
        except NotFoundError:
            found = []  # the cluster does not serve it, which is an answer
        except ForbiddenError:
            self._forbid(path, of)
            return
        self.seen.add(of)
        if kind == "Namespace":
            self.namespaces |= {item["metadata"]["name"] for item in found}
        value = {"apiVersion": api_version, "kind": f"{kind}List", "items": found}
        self.documents.append(Document("live cluster", len(self.documents) + 1, value))

    def _forbid(self, path: str, kind: str) -> None:
        attributes = _attributes(path)
        name = ".".join(filter(None, (attributes["resource"], attributes.get("group"))))
        self.forbidden[kind] = name

    @property
    def told(self) -> list[Finding]:
        """What the caller may not list, as one finding."""
        if not self.forbidden:
            return []
        names = ", ".join(sorted(set(self.forbidden.values())))
        sentence = f"the caller may not list {names}, so what depends on them was not looked at"
        fix = "Ask for the verb list on these, or run as somebody who has it."
        return [Finding("CallerMayNotRead", "Permission", "list", sentence, fix)]

    async def _may_list(self, path: str) -> bool:
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": "list", **_attributes(path)}},
        }
        try:
            answer = await self._client.create(_REVIEWS, body)
        except ApiError:
            return True  # then the list itself will tell
        return answer.decode(_Review).status.allowed


def _attributes(path: str) -> dict[str, str]:
    """Group, resource and namespace of a collection's path."""
    parts: Iterable[str] = path.strip("/").split("/")
    root, *rest = parts
    found = {} if root == "api" else {"group": rest[0]}
    found["resource"] = rest[-1]
    if "namespaces" in rest[:-1]:
        found["namespace"] = rest[rest.index("namespaces") + 1]
    return found
