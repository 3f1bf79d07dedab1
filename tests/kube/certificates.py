"""A certificate authority for a test, and what it signs: a server on loopback and a client."""

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    cert: Path
    key: Path


class Authority:
    """Its own certificate lies in `directory/ca.crt`. It has no key identifiers, like many clusters' own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "ca.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named("test authority")
        builder = self._builder("test authority", self._key.public_key())
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        built = builder.add_extension(constraints, critical=True).sign(self._key, hashes.SHA256())
        self.file.write_bytes(built.public_bytes(Encoding.PEM))

    def _builder(self, name: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_named(name))
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )

    def pair(self, name: str) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        names = [
            x509.DNSName(name),
            *([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))] if name == "server" else []),
        ]
        built = (
            self._builder(name, key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        pair = Pair(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        pair.cert.write_bytes(built.public_bytes(Encoding.PEM))
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair

    def context(self, pair: Pair, *, ask_for_client: bool = False) -> ssl.SSLContext:
        """For the server's side."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.file))
        context.verify_mode = ssl.CERT_REQUIRED if ask_for_client else ssl.CERT_NONE
        context.load_cert_chain(pair.cert, pair.key)
        return context


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
