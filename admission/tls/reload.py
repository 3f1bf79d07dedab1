"""The server's side of TLS, with certificates that change under load.

The listening socket has one context for ever. Its `sni_callback`, which OpenSSL calls for every handshake
whether or not the client sends a name, hands each connection to the context that is current. A new certificate
is loaded into a context of its own and becomes current in one assignment; a pair that does not fit together
never gets that far. Connections that are open keep the context that they began with.
"""

import asyncio
import hashlib
import logging
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

from admission.tls.x509 import CertificateError, lifetime
from slicewise.kube.clock import REAL, Timing

logger = logging.getLogger(__name__)

POLL: Final = 10.0


class ReloadingContext:
    """The listening socket's context, and the one with the current certificate that it hands connections to."""

    def __init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        # The API server speaks HTTP/1.1 to webhooks on purpose (kubernetes#75791).
        self.context.set_alpn_protocols(["http/1.1"])
        self.context.sni_callback = self._hand_over
        self._current: ssl.SSLContext | None = None
        self.not_after: datetime | None = None
        """When the current certificate ends; None before there is one."""

    def use(self, certificate: str, key: str) -> None:
        """Makes a certificate (with its chain) and its key the current ones.

        Raises:
            CertificateError: they cannot be read or do not belong together; the current ones stay.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        with _file((certificate.rstrip() + "\n" + key).encode()) as path:
            try:
                context.load_cert_chain(path)
            except (ssl.SSLError, OSError, ValueError) as error:
                raise CertificateError(f"certificate and key cannot be used together: {error}") from None
        _, end = lifetime(certificate)
        self._current, self.not_after = context, end

    def _hand_over(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _tls: ssl.SSLContext
    ) -> int | None:
        if self._current is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._current
        return None


class CertificateFiles:
    """A certificate and a key given as files, as cert-manager or a person keeps them.

    Looked at by content, because mounted Secrets change by a symbolic link being swapped. Two files that do not
    belong together (one is new already, the other not yet) leave the current pair in place.
    """

    def __init__(
        self,
        tls: ReloadingContext,
        certificate: Path,
        key: Path,
        timing: Timing = REAL,
        *,
        every: float = POLL,
    ) -> None:
        """`every`: seconds from one look to the next."""
        self._tls = tls
        self._every = every
        self._certificate = certificate
        self._key = key
        self._timing = timing
        self._seen = b""
        self._complained = ""

    def look(self) -> bool:
        """Takes the files over when they changed; returns whether they did.

        Raises:
            CertificateError: they cannot be read or used.
        """
        try:
            certificate, key = self._certificate.read_bytes(), self._key.read_bytes()
        except OSError as error:
            raise CertificateError(f"{error.filename}: {error.strerror}") from None
        seen = hashlib.sha256(certificate + b"\0" + key).digest()
        if seen == self._seen:
            return False
        try:
            self._tls.use(certificate.decode(), key.decode())
        except UnicodeDecodeError:
            raise CertificateError(f"{self._certificate} and {self._key} are not both PEM") from None
        self._seen = seen
        return True

    def why_untrusted(self) -> str | None:
        """Whoever gives the files sees to it that they are trusted."""
        return None

    def expiries(self) -> dict[str, datetime]:
        """Nothing is known of the authority."""
        return {}

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            await self._timing.sleep(self._every)
            try:
                if await asyncio.to_thread(self.look):
                    logger.info("serving certificate replaced", extra={"until": str(self._tls.not_after)})
                self._complained = ""
            except CertificateError as error:
                if str(error) != self._complained:
                    logger.warning("serving certificate kept", extra={"error": str(error)})
                self._complained = str(error)


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """A file that OpenSSL can open and nobody else can: in memory where the system has such a thing."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("slicewise", os.MFD_CLOEXEC)
        try:
            os.write(handle, content)
            yield f"/proc/self/fd/{handle}"
        finally:
            os.close(handle)
        return
    with tempfile.NamedTemporaryFile(prefix="slicewise-") as file:
        file.write(content)
        file.flush()
        yield file.name
