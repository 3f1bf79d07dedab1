"""Keeps the authority's Secret, the caBundle of the webhook configurations, and this replica's certificate in step.

Every round reads the two configurations first, then the Secret, and writes only what differs;
`admission.tls.rotation` decides, and says why that order matters. The Secret is created or replaced with
the resourceVersion that was read, so of several replicas one wins and the rest read again. caBundle is applied with
a field manager of its own, to entries that exist and call our Service, and nothing else is touched.

Failure mode: a round that fails changes nothing that it has not read back, and the next one starts over. As long
as no round succeeds, the present certificate serves until it expires, and then the replica is no longer ready.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

import msgspec

from admission.tls import rotation
from admission.tls.ca_bundle import (
    Bundles,
    Identity,
    WebhookConfigurations,
    decode,
    encode,
    trusted_authorities,
)
from admission.tls.reload import ReloadingContext
from admission.tls.x509 import CertificateError, Leaf, bundle, make_leaf, service_names
from slicewise.api import keys
from slicewise.kube.client import Client
from slicewise.kube.clock import Backoff, within
from slicewise.kube.errors import ConflictError, KubeError, NotFoundError

logger = logging.getLogger(__name__)

QUIET: Final = 1.0
ATTEMPTS: Final = 8


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class _Secret(msgspec.Struct):
    metadata: _Metadata
    data: dict[str, str] | None = None


class Publisher:
    """Runs the rounds and holds the replica's certificate."""

    def __init__(
        self,
        client: Client,
        tls: ReloadingContext,
        identity: Identity,
        periods: rotation.Periods = rotation.USUAL,
    ) -> None:
        self.wake = asyncio.Event()
        """Set it to have the next round at once, such as when a configuration changed."""
        self.leaf: Leaf | None = None
        self.state: rotation.State | None = None
        self._client = client
        self._configurations = WebhookConfigurations(client, identity)
        self._timing = client.timing
        self._tls = tls
        self._identity = identity
        self._periods = periods
        self._seen: rotation.Seen = {}
        self._serves_from: datetime | None = None
        self._found: Sequence[Bundles] | None = None
        self._jitter = self._timing.random()

    async def run(self) -> None:
        """Keeps everything in step for ever; a configuration that changes is looked at within a second."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._rounds(), name="certificates")
            for informer in self._configurations.informers(self.wake.set):
                group.create_task(informer.run(), name=f"watch {informer.path}")

    async def _rounds(self) -> None:
        between = self._periods.between_rounds.total_seconds()
        backoff = Backoff(1.0, between, self._timing)
        while True:
            self.wake.clear()
            try:
                await self.round()
                backoff.reset()
                pause = self._timing.jittered(between, share=0.2)
            except (KubeError, CertificateError, TimeoutError, msgspec.MsgspecError) as error:
                logger.warning("certificates could not be looked after", extra={"error": str(error)})
                pause = backoff.next()
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        # Somebody who keeps undoing our write gets no more than a round a second out of us.
        await self._timing.sleep(QUIET)
        with suppress(TimeoutError):
            await within(self._timing, seconds, self.wake.wait(), "certificates woken")

    async def round(self) -> None:
        """Brings everything in step once. Raises KubeError, CertificateError."""
        words = ""
        for _ in range(ATTEMPTS):
            try:
                await self._attempt()
            except ConflictError as error:
                words = error.message  # somebody was faster; look again at what they did
            else:
                return
        raise CertificateError(f"{ATTEMPTS} writes in a row were refused, trying again later: {words}")

    async def _attempt(self) -> None:
        found = await self._configurations.read()
        state = await self._kept_state(found)
        now = self._client.moment()
        found = [await self._configurations.publish(one, bundle(state.trusted)) for one in found]
        self._look(found, state, now)
        if self._client.moment() - now > self._periods.settle:
            return  # what was read is too old to sign by
        self.state, self._found = state, found
        if rotation.leaf_due(self.leaf, state, self._seen, now, self._jitter, self._periods):
            self._sign(state, now)

    def _look(self, found: Sequence[Bundles], state: rotation.State, now: datetime) -> None:
        held = [fingerprints for one in found for fingerprints in one.trusted()]
        own = (one.fingerprint for one in state.trusted)
        self._seen = rotation.sight(self._seen, held, own, now)

    def _sign(self, state: rotation.State, now: datetime) -> None:
        names = service_names(self._identity.service, self._identity.namespace)
        leaf = make_leaf(state.signer, names, now, self._periods.leaf)
        if self.leaf is None:
            self._serves_from = rotation.serves_from(state, self._periods)
        self._tls.use(leaf.pem, leaf.key)
        self.leaf = leaf
        self._jitter = self._timing.random()
        logger.info(
            "serving certificate made", extra={"issuer": leaf.issuer[:16], "until": str(leaf.not_after)}
        )

    # --- The Secret ---------------------------------------------------------------------------------------

    @property
    def _secrets(self) -> str:
        return f"/api/v1/namespaces/{self._identity.namespace}/secrets"

    async def _kept_state(self, found: Sequence[Bundles]) -> rotation.State:
        """Returns the state that the Secret holds after this round's step, if there was one to take."""
        kept = await self._secret()
        now = self._client.moment()
        state: rotation.State | None = None
        data = _decoded(kept)
        if data:  # an empty Secret is how the chart installs it
            try:
                state = rotation.read(data, now, self._periods)
            except CertificateError as error:
                logger.warning(
                    "the authority's Secret is damaged and is made anew", extra={"error": str(error)}
                )
        if state is None:
            healed = rotation.heal(self.state, trusted_authorities(found), now, self._periods)
            await self._keep(healed, kept)
            return healed
        self._look(found, state, now)
        rotate = kept is not None and keys.ROTATE in (kept.metadata.annotations or {})
        after = rotation.step(state, self._seen, now, rotate=rotate, periods=self._periods)
        if rotation.write(after) != data:
            await self._keep(after, kept)
            logger.info("authorities changed", extra=_story(state, after))
        return after

    async def _secret(self) -> _Secret | None:
        try:
            return (await self._client.get(f"{self._secrets}/{self._identity.secret}")).decode(_Secret)
        except NotFoundError:
            return None

    async def _keep(self, state: rotation.State, before: _Secret | None) -> None:
        """Raises ConflictError when somebody else kept something first."""
        metadata: dict[str, Any] = {"name": self._identity.secret, "namespace": self._identity.namespace}
        body = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata}
        body["data"] = {key: encode(value) for key, value in rotation.write(state).items()}
        if before is None:
            metadata["labels"] = {
                "app.kubernetes.io/name": "slicewise",
                "app.kubernetes.io/component": "webhook",
            }
            await self._client.create(self._secrets, body)
            return
        metadata["resourceVersion"] = before.metadata.resource_version
        metadata["labels"] = before.metadata.labels or {}
        metadata["annotations"] = {
            key: value
            for key, value in (before.metadata.annotations or {}).items()
            if key != keys.ROTATE or state.upcoming is None
        }
        await self._client.replace(f"{self._secrets}/{self._identity.secret}", body)

    # --- What others ask ----------------------------------------------------------------------------------

    def expiries(self) -> dict[str, datetime]:
        """Returns when the authority that signs stops being valid."""
        return {"authority": self.state.signer.certificate.not_after} if self.state else {}

    def why_untrusted(self) -> str | None:
        """Says why API servers would not trust this replica now; None when they would."""
        if self.leaf is None or self._found is None:
            return "the serving certificate has not been made yet"
        for found in self._found:
            if any(self.leaf.issuer not in held for held in found.trusted()):
                return f"{found.resource} {self._identity.configuration} does not hold this replica's authority yet"
        if self._serves_from is not None and self._client.moment() < self._serves_from:
            return "this replica's authority was made a moment ago, and API servers may not know it yet"
        return None


def _story(before: rotation.State, after: rotation.State) -> dict[str, str]:
    return {
        "signer": after.signer.certificate.fingerprint[:16],
        "switched": str(before.signer != after.signer),
        "upcoming": after.upcoming.certificate.fingerprint[:16] if after.upcoming else "",
        "retired": ",".join(one.certificate.fingerprint[:16] for one in after.retired),
    }


def _decoded(secret: _Secret | None) -> dict[str, str]:
    data = secret.data if secret else None
    return {key: decode(value) for key, value in (data or {}).items()}
