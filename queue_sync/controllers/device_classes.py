"""The DeviceClasses that serve what a DRA driver publishes, kept where the installation says so.

Made, changed and deleted are those that carry our label, and no others (`slicewise.inventory.device_classes` says which
there are to be). One that is not wanted any more goes after the hold-down: a driver that restarts publishes anew.
"""

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import quote

from queue_sync.controllers.reconciler import DONE, LONGEST_BACKOFF, Reconciler, Result
from queue_sync.controllers.watches import Watches
from slicewise.api import keys
from slicewise.inventory.device_classes import device_classes
from slicewise.inventory.node_devices import PublishedDevices
from slicewise.inventory.served_names import DeviceClass, read_device_class
from slicewise.kube.client import Client
from slicewise.kube.device_informers import DEVICE_CLASSES
from slicewise.kube.errors import AlreadyExistsError, ConflictError, NotFoundError
from slicewise.kube.workqueue import QueueSettings, WorkQueue

logger = logging.getLogger(__name__)
ALL: Final = "all"
"""The one key: every class depends on every device."""
_SETTINGS: Final = QueueSettings(window=1.0, max_wait=5.0, first_backoff=0.5, most_backoff=LONGEST_BACKOFF)
_MANAGER: Final = {"fieldManager": keys.FIELD_MANAGER}


class DeviceClasses(Reconciler):
    """Brings them up to date, as the leader."""

    name: ClassVar = "deviceclasses"

    def __init__(self, devices: PublishedDevices, client: Client, hold_down: float) -> None:
        self.queue: WorkQueue[str] = WorkQueue(_SETTINGS, client.timing)
        self._devices, self._client, self._hold_down = devices, client, hold_down
        self._unwanted: dict[str, float] = {}
        """Since when nobody wants a class of ours, by name."""
        self._said: frozenset[str] = frozenset()

    def watches(self) -> Watches:
        """Any device."""
        return Watches(started=lambda: (ALL,), devices=lambda _: (ALL,))

    async def reconcile(self, _: str) -> Result:
        """Makes and changes what is wanted, deletes what has not been for the hold-down. Raises KubeError."""
        standing = {each.name: each for each in self._devices.classes}
        documents, complaints = device_classes(self._devices.kinds(), standing.values())
        for complaint in sorted(frozenset(complaints) - self._said):
            logger.warning("%s", complaint)
        self._said = frozenset(complaints)
        wanted = {str(each["metadata"]["name"]): each for each in documents}
        # Of two classes of one name the newer serves, so what is new comes before an older one gives the name up.
        for name, document in sorted(wanted.items(), key=lambda each: each[0] in standing):
            if _differs(standing.get(name), document):
                await self._write(name, document)
        now = self._client.timing.now()
        ours = {name for name, each in standing.items() if each.ours}
        self._unwanted = {name: self._unwanted.get(name, now) for name in ours - wanted.keys()}
        for name, since in self._unwanted.items():
            if now >= since + self._hold_down:
                await self._delete(name)
        waits = [since + self._hold_down - now for since in self._unwanted.values()]
        return Result(max(min(waits), 1.0)) if waits else DONE

    async def _write(self, name: str, document: Mapping[str, Any]) -> None:
        path = f"{DEVICE_CLASSES}/{quote(name)}"
        try:
            await self._client.create(DEVICE_CLASSES, document, query=_MANAGER)
        except AlreadyExistsError:
            live = (await self._client.get(path)).json()
            if not read_device_class(live).ours:
                return  # somebody made it in this moment; the next look says so
            await self._client.replace(path, {**live, "spec": document["spec"]}, query=_MANAGER)
        logger.info("DeviceClass written", extra={"device_class": name})

    async def _delete(self, name: str) -> None:
        path = f"{DEVICE_CLASSES}/{quote(name)}"
        try:
            live = (await self._client.get(path)).json()
            if read_device_class(live).ours:
                metadata = live["metadata"]
                await self._client.delete(
                    path, uid=metadata["uid"], resource_version=metadata["resourceVersion"]
                )
                logger.info("DeviceClass deleted", extra={"device_class": name})
        except (ConflictError, NotFoundError):
            return  # changed or gone; the watch says so, and it is looked at again


def _differs(standing: DeviceClass | None, document: Mapping[str, Any]) -> bool:
    if standing is None:
        return True
    wanted = read_device_class(document)
    return (standing.serves, standing.selectors) != (wanted.serves, wanted.selectors)
