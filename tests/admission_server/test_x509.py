"""Certificates as another implementation sees them, and the ones that must not be taken."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest

from admission.tls.x509 import (
    AUTHORITY_LIFE,
    LEAF_LIFE,
    Authority,
    CertificateError,
    bundle,
    lifetime,
    make_authority,
    make_leaf,
    read_authority,
    read_bundle,
    service_names,
)

NOW = datetime.now(UTC).replace(microsecond=0)
NAMES = service_names("hook", "space")


def _handshake(trusted: str, certificate: str, key: str, name: str, path: str) -> None:
    """One TLS handshake in memory, the client as strict as OpenSSL can be. Raises ssl.SSLError."""
    with open(path, "w") as file:  # noqa: PTH123
        file.write(certificate + key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cadata=trusted)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(there, back, server_side=True)
    theirs = client.wrap_bio(back, there, server_hostname=name)
    done = 0
    while done < 2:
        done = 0
        for side in (theirs, ours):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("name", NAMES)
def test_openssl_trusts_the_leaf_for_every_name_of_the_service(name: str, tmp_path: str) -> None:
    authority = make_authority(NOW)
    leaf = make_leaf(authority, NAMES, NOW)
    _handshake(authority.certificate.pem, leaf.pem, leaf.key, name, f"{tmp_path}/pair")


def test_openssl_refuses_other_names_and_other_authorities(tmp_path: str) -> None:
    authority, other = make_authority(NOW), make_authority(NOW)
    leaf = make_leaf(authority, NAMES, NOW)
    with pytest.raises(ssl.SSLError, match=r"[Hh]ostname mismatch"):
        _handshake(authority.certificate.pem, leaf.pem, leaf.key, "other.space.svc", f"{tmp_path}/pair")
    with pytest.raises(ssl.SSLError, match="certificate verify failed"):
        _handshake(other.certificate.pem, leaf.pem, leaf.key, NAMES[0], f"{tmp_path}/pair")


def test_two_authorities_in_one_bundle_are_told_apart(tmp_path: str) -> None:
    """They have the same name, so clients must go by the key identifiers."""
    old, new = make_authority(NOW), make_authority(NOW)
    both = bundle([old.certificate, new.certificate])
    for authority in (old, new):
        leaf = make_leaf(authority, NAMES, NOW)
        _handshake(both, leaf.pem, leaf.key, NAMES[0], f"{tmp_path}/pair")
    assert [one.fingerprint for one in read_bundle(both)] == [
        old.certificate.fingerprint,
        new.certificate.fingerprint,
    ]


def test_the_name_may_be_longer_than_a_common_name_can_hold(tmp_path: str) -> None:
    names = service_names("s" * 63, "n" * 63)
    authority = make_authority(NOW)
    leaf = make_leaf(authority, names, NOW)
    _handshake(authority.certificate.pem, leaf.pem, leaf.key, names[0], f"{tmp_path}/pair")


def test_lives_allow_for_clocks_and_end_within_each_other() -> None:
    authority = make_authority(NOW)
    leaf = make_leaf(authority, NAMES, NOW)
    assert leaf.not_before == NOW - timedelta(minutes=5)
    assert leaf.not_after == NOW + LEAF_LIFE
    assert lifetime(leaf.pem) == (leaf.not_before, leaf.not_after)
    late = NOW + AUTHORITY_LIFE - timedelta(days=1)
    assert make_leaf(authority, NAMES, late).not_after == authority.certificate.not_after
    with pytest.raises(CertificateError, match="the authority expired at"):
        make_leaf(authority, NAMES, NOW + AUTHORITY_LIFE)


def test_renewal_is_at_two_thirds_of_life_spread_over_a_tenth() -> None:
    leaf = make_leaf(make_authority(NOW), NAMES, NOW)
    life = leaf.not_after - leaf.not_before
    assert leaf.renewal(0.0) == leaf.not_before + life * (2 / 3)
    assert leaf.renewal(0.0) - leaf.renewal(1.0) == pytest.approx(life / 10, abs=timedelta(seconds=1))


def test_serials_and_keys_are_never_the_same() -> None:
    authority = make_authority(NOW)
    leaves = [make_leaf(authority, NAMES, NOW) for _ in range(5)]
    assert len({leaf.pem for leaf in leaves}) == len({leaf.key for leaf in leaves}) == 5


def _bent(pem: str, what: bytes, into: bytes) -> str:
    """A certificate with some of its bytes exchanged, as a bit that flips would have it."""
    der = ssl.PEM_cert_to_DER_cert(pem)
    assert what in der
    return ssl.DER_cert_to_PEM_cert(der.replace(what, into, 1))


_VERSION = bytes.fromhex("a003020102")
_CURVE, _NO_CURVE = bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030109")
_USAGE, _IDENTIFIER = bytes.fromhex("0603551d0f"), bytes.fromhex("0603551d0e")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (
            lambda a, _: (_bent(a.certificate.pem, _VERSION, bytes.fromhex("a003020122")), a.key),
            "not a valid X509 version",
        ),
        (lambda a, _: (_bent(a.certificate.pem, _USAGE, _IDENTIFIER), a.key), "Duplicate"),
        (lambda a, _: (_bent(a.certificate.pem, _CURVE, _NO_CURVE), a.key), "key cannot be read"),
        (
            lambda a, _: (_bent(a.certificate.pem, b"\x03\x42\x00\x04", b"\x03\x42\x00\x05"), a.key),
            "key cannot be",
        ),
        (lambda a, _: ("", a.key), "no certificate can be read"),
        (lambda a, _: (a.certificate.pem[:200], a.key), "no certificate can be read"),
        (lambda a, _: (a.certificate.pem, ""), "key cannot be read"),
        (lambda a, _: (a.certificate.pem, a.key[:60]), "key cannot be read"),
        (lambda a, b: (a.certificate.pem, b.key), "belongs to another certificate"),
        (
            lambda a, b: (a.certificate.pem + b.certificate.pem, a.key),
            "one certificate of an authority is wanted, found 2",
        ),
        (lambda a, _: (make_leaf(a, NAMES, NOW).pem, a.key), "not an authority's"),
    ],
)
def test_what_is_no_authority_is_refused(damage: object, why: str) -> None:
    assert callable(damage)
    certificate, key = damage(make_authority(NOW), make_authority(NOW))
    with pytest.raises(CertificateError, match=why):
        read_authority(certificate, key)


def test_an_authority_survives_being_written_down() -> None:
    authority = make_authority(NOW)
    assert read_authority(authority.certificate.pem, authority.key) == authority
    assert isinstance(authority, Authority)
