"""Keeps a `ClusterState` equal to the cluster: namespaces' labels, policies, plans and nodes, each by a watch.

The GPU operator's ConfigMaps are watched too, where they may be, so that a node is believed here as it is by the
controller and the command (`slicewise.inventory.planned_geometry`).

Invariants
- Nothing here is ever emptied by a failure; what was known last stays in force (`slicewise.kube.informer`).
- A policy or a plan that breaks a rule leaves its last good version in force; a cluster without the CRD has none.
- ConfigMaps that may not be read are done without, and asked for again now and then.

Before every collection has been listed once, `why_not_ready` says which ones are missing. After that a watch that
fails makes nothing unready: an old answer is better than none, and all replicas would go together.
"""

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Final

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
    require_largest_maximum,
    require_pipe_directories,
)
from slicewise.inventory import gpu_operator
from slicewise.inventory.node import Node
from slicewise.inventory.node_state import CUSTOMARY, NodeRules
from slicewise.inventory.pools import Inventory
from slicewise.kube.client import Client
from slicewise.kube.device_informers import DeviceInformers
from slicewise.kube.errors import ForbiddenError
from slicewise.kube.informer import Informer
from slicewise.kube.informer_types import Change
from slicewise.kube.listing import until_readable

logger = logging.getLogger(__name__)

NAMESPACES = "/api/v1/namespaces"
NODES = "/api/v1/nodes"
POLICIES = "/apis/slicewise.io/v1alpha1/slicingpolicies"
PLANS = "/apis/slicewise.io/v1alpha1/quotaplans"
_FORBIDDEN_RETRY: Final = 60.0
# Files that change together are read once.
_CONFIGS_WINDOW: Final = 0.5
_NODES_AT_ONCE: Final = 50


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


def _plan(raw: msgspec.Raw, largest_maximum: int) -> QuotaPlan:
    document: dict[str, Any] = msgspec.json.decode(raw)
    plan = read_plan(document)
    require_largest_maximum(plan, largest_maximum)
    return plan


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
        operator_namespace: str = "",
    ) -> None:
        self._client, self._timing = client, client.timing
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
            partial(_plan, largest_maximum=rules.largest_maximum),
            on_change=self._plan_changed,
            on_malformed=_refused(PLAN_KIND),
            optional=True,
        )
        self._nodes: Informer[Node] = Informer(client, NODES, Node, on_change=self._node_changed)
        pools = Inventory(rules=rules)
        self._informers: dict[str, Informer[Any]] = {
            "namespaces": self._namespaces,
            "slicingpolicies": self._policies,
            "quotaplans": self._plans,
            "nodes": self._nodes,
            **{
                informer.path.removeprefix("/apis/"): informer
                for informer in DeviceInformers(client, pools.devices, self._devices_changed)
            },
        }
        self._configs: Informer[dict[str, Any]] | None = None
        """What is planned for nodes; None where nobody says where that is."""
        if operator_namespace:
            self._configs = Informer(
                client,
                gpu_operator.collection(operator_namespace),
                gpu_operator.decode_config_map,
                on_change=lambda _: self._configs_changed.set(),
            )
        self._configs_changed, self._configs_answered = asyncio.Event(), asyncio.Event()
        self.world = ClusterState(
            namespaces=self._namespaces.store,
            policies=self._policies.store,
            pools=pools,
            protected=keys.SYSTEM_NAMESPACES | {own_namespace},
            plans=self._plans.store,
        )
        self._unseen: set[str] = set()
        self._some_unseen = asyncio.Event()
        self._ready = False

    async def run(self) -> None:
        """Watches for ever."""
        async with asyncio.TaskGroup() as group:
            for name, informer in self._informers.items():
                group.create_task(informer.run(), name=f"watch {name}")
            if self._configs is not None:
                group.create_task(self._follow_configs(self._configs), name="watch configmaps")
            group.create_task(self._warm_up(), name="warm up")
            group.create_task(self._look_again(), name="look again")

    async def _follow_configs(self, informer: Informer[dict[str, Any]]) -> None:
        await until_readable(self._client, informer.path, _FORBIDDEN_RETRY, self._may_not_read_configs)
        async with asyncio.TaskGroup() as group:
            group.create_task(informer.run())
            await informer.synced()
            self._configs_answered.set()

    def _may_not_read_configs(self, error: ForbiddenError) -> None:
        if not self._configs_answered.is_set():
            logger.warning("what is planned for nodes is not known", extra={"error": error.message[:300]})
        self._configs_answered.set()

    async def _warm_up(self) -> None:
        for informer in self._informers.values():
            await informer.synced()
        if self._configs is not None:
            await self._configs_answered.wait()
        await self._read_configs()
        await self._see_devices()
        # What lives as long as the process need not be looked at again: a full collection takes milliseconds.
        gc.collect()
        gc.freeze()
        self._ready = True
        logger.info("caches filled", extra={name: len(one.store) for name, one in self._informers.items()})
        while True:
            await self._configs_changed.wait()
            await self._timing.sleep(_CONFIGS_WINDOW)
            await self._read_configs()

    async def _read_configs(self) -> None:
        """Reads what is planned for nodes, and looks at every node again where it has become something else."""
        self._configs_changed.clear()
        maps = self._configs.store if self._configs is not None else {}
        configs, _ = gpu_operator.collect(maps[name] for name in sorted(maps))
        if configs == self.world.pools.configs:
            return
        self.world.pools.configs = configs
        await self._see(sorted(self._nodes.store))

    async def _see(self, names: Iterable[str]) -> None:
        for number, name in enumerate(names, start=1):
            if (node := self._nodes.store.get(name)) is not None:
                self.world.pools.see(node)
            if number % _NODES_AT_ONCE == 0:
                await asyncio.sleep(0)  # reviews do not wait for all of them

    def why_not_ready(self) -> str | None:
        """Says which collections have not been listed yet; None once all have."""
        if self._ready:
            return None
        missing = [one.healthy().sentence for one in self._informers.values() if not one.has_synced]
        if self._configs is not None and not self._configs_answered.is_set():
            missing.append(self._configs.healthy().sentence)
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

    def _devices_changed(self, nodes: frozenset[str]) -> None:
        self._unseen |= nodes
        self._some_unseen.set()

    async def _look_again(self) -> None:
        """Looks at the nodes whose devices changed; one DeviceClass may change them all."""
        while True:
            await self._some_unseen.wait()
            await self._see_devices()

    async def _see_devices(self) -> None:
        self._some_unseen.clear()
        names, self._unseen = self._unseen, set()
        await self._see(names)
