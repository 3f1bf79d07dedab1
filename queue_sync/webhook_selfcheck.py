"""The self-check: does a request go from the API server to the webhook and back, and since when?

Two objects are sent to be tried and never kept (`dryRun=All`), each of which the webhook refuses and nobody else does:
- `validate`: a QuotaPlan with a rule broken that no schema knows.
- `mutate`: a PodTemplate, the one kind that asks for GPUs and that nothing ever runs, with a class that no policy has,
  in a namespace that has opted in. As long as there is none, there is nothing to find out.

A refusal in the webhook's name shows the whole path: registration, selectors, Service, certificate, replica, answer. An
object that was taken shows that the API server did not ask, an answer that the call failed shows why. Whatever else is
answered (no right to do this, no API server) tells nothing about the webhook, and nothing is claimed.

Server-side apply names the object, so that RBAC can too: the controller may do this with objects of this one name. It
may not even create the PodTemplate: the webhook refuses it before the API server asks for that right, so that being
asked for it shows that the webhook was not.

Failure mode: a check that fails in a way that nobody thought of is logged, and the next one comes a period later.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import msgspec

from queue_sync.informers.required import Namespace
from queue_sync.metrics.registry import Sample
from slicewise.api import keys
from slicewise.api.policy import API_VERSION
from slicewise.kube.client import Client
from slicewise.kube.errors import ApiError, KubeError, LeadershipLostError
from slicewise.kube.events import Recorder, Regarding

logger = logging.getLogger(__name__)

# A replica that ends and a certificate that changes are no news; two failures in a row are.
AGAIN: Final = 5.0
WHILE_BROKEN: Final = 10.0
NAMESPACES: Final = 3

_REFUSED: Final = f'.{keys.CONFIGURATION}" denied the request'
_FAILED: Final = f'.{keys.CONFIGURATION}"'
_PAST_US: Final = 'cannot create resource "podtemplates"'
_NOT_ASKED: Final = "the API server took the object without asking the webhook"

PLAN: Final[dict[str, Any]] = {
    "apiVersion": API_VERSION,
    "kind": "QuotaPlan",
    "metadata": {"name": keys.PROBE},
    # The schema takes it and the webhook does not: the API server asks the schema first.
    "spec": {
        "engine": "kueue",
        "queues": [{"name": keys.PROBE}],
        "maximum": {"*": {f"{keys.PREFIX}{keys.PROBE}": "1"}},
    },
}
TEMPLATE: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "kind": "PodTemplate",
    "metadata": {"name": keys.PROBE, "labels": {keys.WORKLOAD_CLASS: keys.PROBE}},
    "template": {
        "spec": {"containers": [{"name": "probe", "image": "none", "resources": {"limits": {keys.GPU: "1"}}}]}
    },
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    working: bool
    why: str = ""


@dataclass(slots=True)
class Path:
    """What is known of one path."""

    working: bool
    since: float
    """When it became so, or was first seen to be; seconds of the epoch."""
    checked: float
    why: str = ""


class SelfCheck:
    """Checks every `period` seconds while this replica leads; more often while something is wrong."""

    def __init__(
        self,
        client: Client,
        recorder: Recorder,
        namespaces: Callable[[], Mapping[str, Namespace]],
        *,
        own_namespace: str,
        period: float,
    ) -> None:
        self.paths: dict[str, Path] = {}
        self._client = client
        self._timing = client.timing
        self._recorder = recorder
        self._namespaces = namespaces
        self._protected = keys.SYSTEM_NAMESPACES | {own_namespace}
        self._period = period

    async def run(self) -> None:
        """Checks until cancelled. Raises LeadershipLostError."""
        while True:
            await self.round()
            broken = not all(path.working for path in self.paths.values())
            pause = min(self._period, WHILE_BROKEN) if broken else self._period
            await self._timing.sleep(self._timing.jittered(pause, share=0.1))

    async def round(self) -> None:
        """Checks both paths once, and again where something that worked does not."""
        for name, check in (("validate", self._validate), ("mutate", self._mutate)):
            try:
                found = await check()
                known = self.paths.get(name)
                if found is not None and not found.working and (known is None or known.working):
                    await self._timing.sleep(AGAIN)
                    found = await check()
            except LeadershipLostError:
                raise
            except (KubeError, TimeoutError, msgspec.MsgspecError) as error:
                logger.warning(
                    "the self-check found nothing out", extra={"path": name, "error": str(error)[:300]}
                )
            else:
                self._learn(name, found)

    def samples(self) -> Iterator[Sample]:
        """Yields what is known as gauges; of what is not known, nothing."""
        yield (
            "slicewise_webhook_path_working",
            "1 while requests go from the API server to the webhook and back, 0 while they do not.",
            ("path",),
            [((name,), float(path.working)) for name, path in sorted(self.paths.items())],
        )
        yield (
            "slicewise_webhook_path_since_timestamp_seconds",
            "Since when that has been so.",
            ("path",),
            [((name,), path.since) for name, path in sorted(self.paths.items())],
        )
        yield (
            "slicewise_webhook_path_checked_timestamp_seconds",
            "When that was last found out.",
            ("path",),
            [((name,), path.checked) for name, path in sorted(self.paths.items())],
        )

    # --- the two paths ---

    async def _validate(self) -> Finding:
        return await self._try("/apis/slicewise.io/v1alpha1/quotaplans", PLAN)

    async def _mutate(self) -> Finding | None:
        """One namespace in which the webhook answers is enough: others may be excluded by name, or on their way out."""
        found: Finding | None = None
        problem: KubeError | None = None
        for namespace in self._opted_in():
            try:
                found = await self._try(f"/api/v1/namespaces/{quote(namespace)}/podtemplates", TEMPLATE)
            except ApiError as error:
                problem = error
                continue
            if found.working:
                return found
        if found is None and problem is not None:
            raise problem
        return found

    def _opted_in(self) -> list[str]:
        names = (
            name
            for name, namespace in self._namespaces().items()
            if keys.opted_in(name, namespace.labels, self._protected)
            and namespace.labels.get(keys.MODE, "enforce") == "enforce"
            and not namespace.deleting
        )
        return sorted(names)[:NAMESPACES]

    async def _try(self, collection: str, document: Mapping[str, Any]) -> Finding:
        """Raises KubeError: the answer tells nothing about the webhook."""
        query = {"dryRun": "All", "fieldManager": keys.FIELD_MANAGER, "force": "true"}
        try:
            await self._client.request(
                "PATCH",
                f"{collection}/{keys.PROBE}",
                query=query,
                body=document,
                content_type="application/apply-patch+yaml",
            )
        except ApiError as error:
            if error.status == 403 and _PAST_US in error.message and document["kind"] == TEMPLATE["kind"]:
                return Finding(working=False, why=_NOT_ASKED)
            if _REFUSED in error.message:
                return Finding(working=True)
            if error.status >= 500 and _FAILED in error.message:
                return Finding(working=False, why=error.message)
            raise
        return Finding(working=False, why=_NOT_ASKED)

    # --- what was found ---

    def _learn(self, name: str, found: Finding | None) -> None:
        if found is None:
            self.paths.pop(name, None)
            return
        now = self._timing.wall().timestamp()
        known = self.paths.get(name)
        if known is not None and known.working == found.working:
            known.checked, known.why = now, found.why
            return
        self.paths[name] = Path(found.working, now, now, found.why)
        if known is not None or not found.working:
            self._tell(name, found)

    def _tell(self, name: str, found: Finding) -> None:
        kind = "MutatingWebhookConfiguration" if name == "mutate" else "ValidatingWebhookConfiguration"
        regarding = Regarding("admissionregistration.k8s.io/v1", kind, keys.CONFIGURATION)
        if found.working:
            note = f"/{name}: requests go from the API server to the webhook and back again"
        else:
            note = f"/{name}: requests do not go from the API server to the webhook and back: {found.why}"
        logger.log(
            logging.INFO if found.working else logging.WARNING,
            "self-check",
            extra={"path": name, "words": note},
        )
        self._recorder.emit(
            regarding,
            "WebhookReached" if found.working else "WebhookNotReached",
            note,
            action="CheckWebhook",
            kind="Normal" if found.working else "Warning",
        )
