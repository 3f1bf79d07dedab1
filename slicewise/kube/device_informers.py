"""What is watched of Dynamic Resource Allocation, the same for webhook and controller.

A cluster without resource.k8s.io/v1 has nothing that could be counted (resources that DeviceClasses serve came with it,
in Kubernetes 1.34): each collection is optional and asked for again now and then. Slices of other drivers are not sent.
DeviceTaintRules are v1 from Kubernetes 1.37 on; where both versions are served they say the same.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

from slicewise.inventory.node_devices import PublishedDevices
from slicewise.inventory.served_names import read_device_class
from slicewise.inventory.sources.dra import (
    API_VERSION,
    DRIVER,
    Claim,
    read_claim,
    read_slice,
    read_taint_rule,
)
from slicewise.kube.client import Client
from slicewise.kube.informer import Informer
from slicewise.kube.informer_types import Change, WatchSettings

RESOURCE_SLICES: Final = f"/apis/{API_VERSION}/resourceslices"
DEVICE_CLASSES: Final = f"/apis/{API_VERSION}/deviceclasses"
RESOURCE_CLAIMS: Final = f"/apis/{API_VERSION}/resourceclaims"
TAINT_RULES: Final = tuple(
    f"/apis/resource.k8s.io/{version}/devicetaintrules" for version in ("v1", "v1beta2")
)

T = TypeVar("T")
logger = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Projection(msgspec.Struct, Generic[T], frozen=True):
    """What is kept of an object; None where nothing of it matters."""

    value: T | None


class DeviceInformers:
    """Keeps `devices` equal to the cluster, and says after each change which nodes it is about, if any."""

    def __init__(
        self,
        client: Client,
        devices: PublishedDevices,
        on_nodes: Callable[[frozenset[str]], None],
        settings: WatchSettings | None = None,
        on_claims: Callable[[], None] | None = None,
    ) -> None:
        """Claims are watched where somebody wants to know of them."""

        def informer(
            path: str,
            read: Callable[[Mapping[str, Any]], T | None],
            put: Callable[[str, T | None], frozenset[str]],
            field_selector: str = "",
        ) -> Informer[Projection[T]]:
            def decode(raw: msgspec.Raw) -> Projection[T]:
                # Items of a list leave out what the list says.
                return Projection(read({"apiVersion": API_VERSION, **_decode(raw)}))

            def on_change(change: Change[Projection[T]]) -> None:
                on_nodes(put(change.key, change.new.value if change.new is not None else None))

            return Informer(
                client,
                path,
                decode,
                on_change=on_change,
                on_malformed=_malformed(path),
                field_selector=field_selector,
                optional=True,
                settings=settings,
            )

        def put_claim(name: str, claim: Claim | None) -> frozenset[str]:
            if devices.put_claim(name, claim) and on_claims is not None:
                on_claims()
            return frozenset()

        claims = () if on_claims is None else (informer(RESOURCE_CLAIMS, read_claim, put_claim),)
        self._informers: tuple[Informer[Any], ...] = (
            informer(RESOURCE_SLICES, read_slice, devices.put_slice, f"spec.driver={DRIVER}"),
            informer(DEVICE_CLASSES, read_device_class, devices.put_class),
            *(informer(path, read_taint_rule, devices.put_rule) for path in TAINT_RULES),
            *claims,
        )

    def __iter__(self) -> Iterator[Informer[Any]]:
        """Yields every informer."""
        return iter(self._informers)


def _malformed(path: str) -> Callable[[str, Exception], None]:
    def tell(key: str, error: Exception) -> None:
        logger.warning("left out", extra={"path": path, "object": key, "error": str(error)[:300]})

    return tell
