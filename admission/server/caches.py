"""Keeps a `ClusterState` equal to the cluster: namespaces' labels, policies, plans and nodes, each by a watch.

Invariants
- Nothing here is ever emptied by a failure; what was known last stays in force (`slicewise.kube.informer`).
- A policy or a plan that breaks a rule leaves its last good version in force; a cluster without the CRD has none.

Before every collection has been listed once, `why_not_ready` says which ones are missing. After that a watch that
fails makes nothing unready: an old answer is better than none, and all replicas would go together.
"""

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import msgspec

from admission.decision.cluster_state import ClusterState
from admission.server.metrics import CacheAge
from slicewise.api import keys
from slicewise.api.policy import (
    PIPE_DIRECTORIES,
    PLAN_KIND,
    POLICY_KIND,
    QuotaPlan,
    SlicingPolicy,
    SpecError,
    read_plan,
    read_policy,
    require_pipe_directories,
)
from slicewise.inventory.node import Node
from slicewise.inventory.node_state import CUSTOMARY, NodeRules
from slicewise.inventory.pools import Inventory
from slicewise.kube.client import Client
from slicewise.kube.informer import Informer
from slicewise.kube.informer_types import Change

logger = logging.getLogger(__name__)

NAMESPACES = "/api/v1/namespaces"
NODES = "/api/v1/nodes"
POLICIES = "/apis/slicewise.io/v1alpha1/slicingpolicies"
PLANS = "/apis/slicewise.io/v1alpha1/quotaplans"


class _NamespaceMetadata(msgspec.Struct, gc=False):
    labels: dict[str, str] | None = None


class _Namespace(msgspec.Struct, gc=False):
    metadata: _NamespaceMetadata


_NAMESPACE = msgspec.json.Decoder(_Namespace)


def _labels(raw: msgspec.Raw) -> dict[str, str]:
    return _NAMESPACE.decode(raw).metadata.labels or {}


def _policy(raw: msgspec.Raw, pipe_directories: Iterable[str]) -> SlicingPolicy:
    document: dict[str, Any] = msgspec.json.decode(raw)
    policy = read_policy(document)
    require_pipe_directories(policy, pipe_directories)
    return policy


def _plan(raw: msgspec.Raw) -> QuotaPlan:
    document: dict[str, Any] = msgspec.json.decode(raw)
    return read_plan(document)


def _refused(kind: str) -> Callable[[str, Exception], None]:
    def _tell(key: str, error: Exception) -> None:
        sentence = error if isinstance(error, SpecError) else f"{kind} {key}: {error}"
        logger.warning("%s; its last good version stays in force", sentence)

    return _tell


class Caches:
    """The watches, and the `world` that they fill."""

    def __init__(
        self,
        client: Client,
        own_namespace: str = keys.OWN_NAMESPACE,
        pipe_directories: Iterable[str] = PIPE_DIRECTORIES,
        rules: NodeRules = CUSTOMARY,
    ) -> None:
        self._timing = client.timing
        self._namespaces: Informer[dict[str, str]] = Informer(client, NAMESPACES, _labels)
        self._policies: Informer[SlicingPolicy] = Informer(
            client,
            POLICIES,
            partial(_policy, pipe_directories=pipe_directories),
            on_malformed=_refused(POLICY_KIND),
            optional=True,
        )
        self._plans: Informer[QuotaPlan] = Informer(
            client,
            PLANS,
            _plan,
            on_change=self._plan_changed,
            on_malformed=_refused(PLAN_KIND),
            optional=True,
        )
        self._nodes: Informer[Node] = Informer(client, NODES, Node, on_change=self._node_changed)
        self._informers: dict[str, Informer[Any]] = {
            "namespaces": self._namespaces,
            "slicingpolicies": self._policies,
            "quotaplans": self._plans,
            "nodes": self._nodes,
        }
        self.world = ClusterState(
            namespaces=self._namespaces.store,
            policies=self._policies.store,
            pools=Inventory(rules=rules),
            protected=keys.SYSTEM_NAMESPACES | {own_namespace},
            plans=self._plans.store,
        )
        self._ready = False

    async def run(self) -> None:
        """Watches for ever."""
        async with asyncio.TaskGroup() as group:
            for name, informer in self._informers.items():
                group.create_task(informer.run(), name=f"watch {name}")
            group.create_task(self._warm_up(), name="warm up")

    async def _warm_up(self) -> None:
        for informer in self._informers.values():
            await informer.synced()
        # What lives as long as the process need not be looked at again: a full collection takes milliseconds.
        gc.collect()
        gc.freeze()
        self._ready = True
        logger.info("caches filled", extra={name: len(one.store) for name, one in self._informers.items()})

    def why_not_ready(self) -> str | None:
        """Says which collections have not been listed yet; None once all have."""
        if self._ready:
            return None
        missing = [one.healthy().sentence for one in self._informers.values() if not one.has_synced]
        return "; ".join(missing) or "the caches are being put in order"

    def ages(self) -> Iterator[CacheAge]:
        """Yields the state of each cache for the metrics."""
        now = self._timing.now()
        for name, informer in self._informers.items():
            last = informer.counters.last_event
            yield CacheAge(
                name,
                len(informer.store),
                informer.has_synced,
                None if last is None else now - last,
                len(informer.malformed),
            )

    def _plan_changed(self, _: Change[QuotaPlan]) -> None:
        self.world.replanned()

    def _node_changed(self, change: Change[Node]) -> None:
        if change.new is None:
            self.world.pools.put(change.key, None)
        else:
            self.world.pools.see(change.new)
