"""What is watched for advice alone: policies, namespaces' rules about GPUs, the files that plan divisions, and Kueue's
configuration.

No quota waits for any of it. A collection that may not be read is told of once and asked for again now and then, and
an installation without the rights for it works as it did; so none of it makes a replica unready.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import msgspec

from queue_sync.informers.required import CORE, OWN, Record, record_of
from queue_sync.planning.kueue_configuration import ClassMapping, class_mappings
from queue_sync.planning.observed import Object
from slicewise.api import keys
from slicewise.api.policy import POLICY_KIND, SlicingPolicy, read_policy
from slicewise.inventory import gpu_operator
from slicewise.kube.client import Client
from slicewise.kube.clock import within
from slicewise.kube.errors import ForbiddenError
from slicewise.kube.informer import Informer
from slicewise.kube.informer_types import Change, WatchSettings
from slicewise.kube.listing import until_readable

logger = logging.getLogger(__name__)

POLICIES: Final = f"{OWN}/slicingpolicies"
RESOURCE_QUOTAS: Final = f"{CORE}/resourcequotas"
LIMIT_RANGES: Final = f"{CORE}/limitranges"
# How long work waits for a first answer, so that what is planned is known before anything is believed.
PATIENCE: Final = 10.0
_RULES: Final = ("default", "defaultRequest")

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def decode_quota(raw: msgspec.Raw) -> Object:
    """A ResourceQuota: the GPUs that it counts, and nothing of what it has counted."""
    document = _decode(raw)
    hard = (document.get("spec") or {}).get("hard") or {}
    return {"metadata": _place(document), "spec": {"hard": {key: hard[key] for key in hard if _gpu(key)}}}


def decode_limits(raw: msgspec.Raw) -> Object:
    """A LimitRange: the GPUs that it gives by default."""
    document = _decode(raw)
    items = [
        {part: {key: each[part][key] for key in each[part] if _gpu(key)} for part in _RULES if each.get(part)}
        for each in (document.get("spec") or {}).get("limits") or ()
    ]
    return {"metadata": _place(document), "spec": {"limits": items}}


def _place(document: Mapping[str, Any]) -> Object:
    metadata = document["metadata"]
    return {"name": metadata["name"], "namespace": metadata.get("namespace", "")}


def _gpu(key: str) -> bool:
    return keys.VENDOR in key


@dataclass(frozen=True, slots=True)
class Handlers:
    """What to call when something changed."""

    policy: Callable[[Change[Record[SlicingPolicy]]], None]
    rule: Callable[[], None]
    """A ResourceQuota or a LimitRange, or whether a collection can be read."""
    config: Callable[[], None]
    class_mappings: Callable[[], None]


class OptionalInformers:
    """Its informers; `config_maps` and `kueue_configurations` are None when nobody is to look at any."""

    def __init__(
        self,
        client: Client,
        handlers: Handlers,
        operator_namespace: str = "",
        settings: WatchSettings | None = None,
        kueue_namespace: str = "",
    ) -> None:
        self.refused: dict[str, str] = {}
        """By path, why a collection may not be read."""
        self._client, self._handlers = client, handlers
        self._pause = 10 * (settings or WatchSettings()).absent_retry
        self._answered = asyncio.Event()
        self.policies = Informer(
            client,
            POLICIES,
            record_of(POLICY_KIND, read_policy),
            on_change=handlers.policy,
            optional=True,
            versions=True,
            settings=settings,
        )
        self.resource_quotas, self.limit_ranges = (
            Informer(client, path, decode, on_change=lambda _: handlers.rule(), settings=settings)
            for path, decode in ((RESOURCE_QUOTAS, decode_quota), (LIMIT_RANGES, decode_limits))
        )
        self.config_maps: Informer[Object] | None = None
        if operator_namespace:
            self.config_maps = Informer(
                client,
                gpu_operator.collection(operator_namespace),
                gpu_operator.decode_config_map,
                on_change=lambda _: handlers.config(),
                optional=True,
                settings=settings,
            )
        self.kueue_configurations: Informer[tuple[ClassMapping, ...]] | None = None
        if kueue_namespace:
            self.kueue_configurations = Informer(
                client,
                f"{CORE}/namespaces/{quote(kueue_namespace)}/configmaps",
                lambda raw: class_mappings([_decode(raw)]),
                on_change=lambda _: handlers.class_mappings(),
                optional=True,
                settings=settings,
            )
        self._unanswered = {informer.path for informer in self._files()}

    def __iter__(self) -> Iterator[Informer[Any]]:
        """Yields every informer."""
        yield from (self.policies, self.resource_quotas, self.limit_ranges)
        yield from self._files()

    def _files(self) -> Iterator[Informer[Any]]:
        yield from (each for each in (self.config_maps, self.kueue_configurations) if each is not None)

    def class_mappings(self) -> tuple[ClassMapping, ...]:
        """What Kueue's configuration maps; nothing where nobody is to look at it, or may."""
        store = self.kueue_configurations.store if self.kueue_configurations is not None else {}
        return tuple(mapping for mappings in store.values() for mapping in mappings)

    async def run(self) -> None:
        """Keeps them following as far as they may, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self:
                group.create_task(self._follow(informer), name=f"watch {informer.path}")
            self._answer("")

    def _answer(self, path: str) -> None:
        self._unanswered.discard(path)
        if not self._unanswered:
            self._answered.set()

    async def first_look(self) -> None:
        """Returns once it is known what files say, or that it may not be known, or after a while."""
        with suppress(TimeoutError):
            await within(self._client.timing, PATIENCE, self._answered.wait(), "first look")

    def why_unread(self) -> str:
        """Why namespaces' rules are not known; "" when they are."""
        return "; ".join(
            self.refused.get(informer.path, f"{informer.path} was not read yet")
            for informer in (self.resource_quotas, self.limit_ranges)
            if not informer.has_synced
        )

    async def _follow(self, informer: Informer[Any]) -> None:
        await until_readable(self._client, informer.path, self._pause, partial(self._refuse, informer.path))
        self.refused.pop(informer.path, None)
        async with asyncio.TaskGroup() as group:
            group.create_task(informer.run())
            await informer.synced()
            self._answer(informer.path)
            self._handlers.rule()

    def _refuse(self, path: str, error: ForbiddenError) -> None:
        if path in self.refused:
            return
        self.refused[path] = f"{path} may not be read: {error.message}"
        logger.warning("done without", extra={"path": path, "error": error.message[:300]})
        self._answer(path)
        self._handlers.rule()
