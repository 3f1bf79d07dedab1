"""X.509: certificate authorities, and the serving certificates that they sign.

Pure but for the random numbers that keys and serials are: the time comes in as an argument, PEM goes in and out.

Authorities live a year rather than ten, because a rotation that happens every eight months is one that works.
Serving certificates live a week and are never stored, so no key that serves is ever at rest.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE: Final = timedelta(days=365)
LEAF_LIFE: Final = timedelta(days=7)
# Clocks of other machines may be behind ours.
SKEW: Final = timedelta(minutes=5)
COMMON_NAME: Final = "slicewise-webhook-ca"


class CertificateError(ValueError):
    """PEM that is not what it should be; the sentence says in what way."""


class Trusted(msgspec.Struct, frozen=True):
    """A certificate of an authority: what clients need in order to trust what it signs."""

    pem: str
    fingerprint: str
    not_after: datetime


class Authority(msgspec.Struct, frozen=True):
    """A certificate of an authority with its key: what signs."""

    certificate: Trusted
    key: str


class Leaf(msgspec.Struct, frozen=True):
    """A serving certificate with its key, and the fingerprint of the authority that signed it."""

    pem: str
    key: str
    issuer: str
    not_before: datetime
    not_after: datetime

    def renewal(self, jitter: float) -> datetime:
        """When to make the next one: at two thirds of its life, earlier by up to a tenth (`jitter` is 0 to 1)."""
        return self.not_before + (self.not_after - self.not_before) * (2 / 3 - jitter / 10)


def make_authority(now: datetime, life: timedelta = AUTHORITY_LIFE) -> Authority:
    """Makes a self-signed authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, COMMON_NAME)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # An hour and not five minutes: it must be older than every leaf, whoever's clock that was made by.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(_trusted(certificate), _key_pem(key))


def make_leaf(authority: Authority, names: Sequence[str], now: datetime, life: timedelta = LEAF_LIFE) -> Leaf:
    """Makes a serving certificate for DNS names, never longer valid than its authority.

    Raises:
        CertificateError: the authority has expired, or its key is not its certificate's.
    """
    issuer, signer = _pair(authority)
    end = min(now + life, issuer.not_valid_after_utc)
    begin = max(now - SKEW, issuer.not_valid_before_utc)
    if end <= now:
        raise CertificateError(f"the authority expired at {issuer.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        # Clients check the alternative names alone; a common name longer than 64 characters is not even allowed.
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    return Leaf(_pem(certificate), _key_pem(key), authority.certificate.fingerprint, begin, end)


def service_names(service: str, namespace: str) -> tuple[str, ...]:
    """The names that a Service is called by; the API server uses the first."""
    full = f"{service}.{namespace}.svc"
    return (full, f"{full}.cluster.local", f"{service}.{namespace}", service)


def read_authority(certificate: str, key: str) -> Authority:
    """Reads an authority and makes sure that the key is the certificate's.

    Raises:
        CertificateError: one of the two cannot be read, or they do not belong together.
    """
    trusted = read_bundle(certificate)
    if len(trusted) != 1:
        raise CertificateError(f"one certificate of an authority is wanted, found {len(trusted)}")
    authority = Authority(trusted[0], key)
    _pair(authority)
    return authority


def read_bundle(pem: str) -> tuple[Trusted, ...]:
    """Reads certificates of authorities, in their order and each once.

    Raises:
        CertificateError: the text is no PEM, or one of them is not an authority's.
    """
    found: dict[str, Trusted] = {}
    for certificate in _load(pem):
        try:
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
            raise CertificateError(f"a certificate says not that it is an authority's: {error}") from None
        if not constraints.ca:
            raise CertificateError("a certificate is not an authority's")
        trusted = _trusted(certificate)
        found[trusted.fingerprint] = trusted
    return tuple(found.values())


def bundle(trusted: Iterable[Trusted]) -> str:
    """Writes certificates of authorities one after the other, as caBundle has them."""
    return "".join(one.pem for one in trusted)


def lifetime(pem: str) -> tuple[datetime, datetime]:
    """Returns from when to when the first certificate of a PEM text is valid.

    Raises:
        CertificateError: the text holds no certificate.
    """
    (first, *_) = _load(pem)
    return first.not_valid_before_utc, first.not_valid_after_utc


def _load(pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except (x509.InvalidVersion, ValueError) as error:
        raise CertificateError(f"no certificate can be read: {error}") from None


def _trusted(certificate: x509.Certificate) -> Trusted:
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    return Trusted(_pem(certificate), fingerprint, certificate.not_valid_after_utc.astimezone(UTC))


def _pair(authority: Authority) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    (certificate, *_) = _load(authority.certificate.pem)
    try:
        key = serialization.load_pem_private_key(authority.key.encode(), password=None)
        public = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"the authority's key cannot be read: {type(error).__name__}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the authority's key is not an elliptic-curve key")
    if key.public_key() != public:
        raise CertificateError("the authority's key belongs to another certificate")
    return certificate, key


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
