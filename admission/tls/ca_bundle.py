"""The two webhook configurations: what they trust now, and how that is changed. No judgement.

Only entries that exist and call our Service (or a URL, as in development) are looked at. caBundle is written by
server-side apply with a field manager of its own and on the condition that the configuration is still the one
that was read, so nothing else in it is touched and no entry is ever created.
"""

import base64
import binascii
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from admission.tls.x509 import CertificateError, Trusted, read_bundle
from slicewise.api import keys
from slicewise.kube.client import Client
from slicewise.kube.errors import ApiError, ConflictError, NotFoundError
from slicewise.kube.informer import Informer

logger = logging.getLogger(__name__)

GROUP: Final = "/apis/admissionregistration.k8s.io/v1"
KINDS: Final = {
    "mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
    "validatingwebhookconfigurations": "ValidatingWebhookConfiguration",
}
FIELD_MANAGER: Final = "slicewise-webhook-ca"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose certificates these are."""

    service: str = "slicewise-webhook"
    namespace: str = keys.OWN_NAMESPACE
    secret: str = "slicewise-webhook-ca"  # noqa: S105 - a name
    configuration: str = keys.CONFIGURATION


class _Service(msgspec.Struct):
    name: str = ""
    namespace: str = ""


class _ClientConfig(msgspec.Struct, rename="camel"):
    ca_bundle: str = ""
    service: _Service | None = None


class _Entry(msgspec.Struct, rename="camel"):
    name: str
    client_config: _ClientConfig


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class Configuration(msgspec.Struct):
    """The projection of a webhook configuration."""

    metadata: _Metadata
    webhooks: list[_Entry] | None = None


@dataclass(frozen=True, slots=True)
class Bundles:
    """One configuration as read: the caBundle of each entry of ours, as PEM."""

    resource: str
    version: str
    bundles: dict[str, str]

    def trusted(self) -> list[frozenset[str]]:
        """Returns the fingerprints that each entry trusts."""
        return [frozenset(one.fingerprint for one in _readable(text)) for text in self.bundles.values()]


def trusted_authorities(found: Iterable[Bundles]) -> list[Trusted]:
    """Returns every authority that some entry trusts."""
    unique = {
        one.fingerprint: one for each in found for text in each.bundles.values() for one in _readable(text)
    }
    return list(unique.values())


class WebhookConfigurations:
    """Reads and writes the two."""

    def __init__(self, client: Client, identity: Identity) -> None:
        self._client = client
        self._identity = identity

    async def read(self) -> Sequence[Bundles]:
        """Returns those of the two that exist."""
        found = []
        for resource in KINDS:
            try:
                answer = await self._client.get(self._path(resource))
            except NotFoundError:
                continue
            found.append(self._reduced(resource, answer.decode(Configuration)))
        return found

    def informers(self, changed: Callable[[], None]) -> list[Informer[Configuration]]:
        """Returns watches on the two that say when to read again."""
        return [
            Informer(
                self._client,
                f"{GROUP}/{resource}",
                Configuration,
                on_change=lambda _: changed(),
                field_selector=f"metadata.name={self._identity.configuration}",
            )
            for resource in KINDS
        ]

    async def publish(self, found: Bundles, text: str) -> Bundles:
        """Makes `text` the caBundle of every entry of ours; returns the configuration as it stands then.

        Raises:
            ConflictError: it changed since it was read.
        """
        if all(held == text for held in found.bundles.values()):
            return found
        encoded = encode(text)
        body = {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": KINDS[found.resource],
            "metadata": {"name": self._identity.configuration, "resourceVersion": found.version},
            "webhooks": [{"name": name, "clientConfig": {"caBundle": encoded}} for name in found.bundles],
        }
        try:
            answer = await self._client.apply(
                self._path(found.resource), body, field_manager=FIELD_MANAGER, force=True
            )
        except ApiError as error:
            # An object or entry that went away meanwhile would be created by an apply, and incomplete ones are invalid.
            if error.status in (404, 422):
                raise ConflictError(409, "Conflict", error.message) from error
            raise
        logger.info(
            "caBundle written", extra={"configuration": found.resource, "entries": len(found.bundles)}
        )
        return self._reduced(found.resource, answer.decode(Configuration))

    def _path(self, resource: str) -> str:
        return f"{GROUP}/{resource}/{self._identity.configuration}"

    def _reduced(self, resource: str, configuration: Configuration) -> Bundles:
        ours = _Service(self._identity.service, self._identity.namespace)
        bundles = {
            entry.name: decode(entry.client_config.ca_bundle)
            for entry in configuration.webhooks or ()
            if entry.client_config.service is None or entry.client_config.service == ours
        }
        return Bundles(resource, configuration.metadata.resource_version, bundles)


def encode(text: str) -> str:
    """Returns base64, as Kubernetes has bytes in JSON."""
    return base64.b64encode(text.encode()).decode()


def decode(text: str) -> str:
    """Reads base64; what cannot be read is as good as empty."""
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _readable(text: str) -> tuple[Trusted, ...]:
    try:
        return read_bundle(text) if text.strip() else ()
    except CertificateError:
        return ()
