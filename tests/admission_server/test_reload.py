"""Certificates that change while calls are made."""

import asyncio
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from admission.tls.reload import CertificateFiles, ReloadingContext
from admission.tls.x509 import CertificateError, Leaf, make_authority, make_leaf
from tests.admission_server.conftest import AUTHORITY, NAME, Served
from tests.kube.clocks import Clock, eventually


def _leaf() -> Leaf:
    return make_leaf(AUTHORITY, [NAME], datetime.now(UTC))


def _serial(connection_ssl: ssl.SSLObject) -> str:
    certificate = connection_ssl.getpeercert()
    assert certificate
    return str(certificate["serialNumber"])


async def test_swaps_under_load_fail_no_call(served: Served) -> None:
    serials: set[str] = set()
    calls = [0] * 4
    stop = asyncio.Event()

    async def call(number: int, *, keep: bool) -> None:
        connection = await served.connect()
        while not stop.is_set():
            assert (await connection.ask()).status == 200
            calls[number] += 1
            serials.add(_serial(connection.writer.get_extra_info("ssl_object")))
            if not keep:
                connection.close()
                connection = await served.connect()

    tasks = [asyncio.create_task(call(number, keep=number == 0)) for number in range(4)]

    def swapped() -> bool:
        leaf = _leaf()
        served.tls.use(leaf.pem, leaf.key)
        return (min(calls) > 5 and len(serials) > 5) or any(task.done() for task in tasks)

    await eventually(swapped)
    stop.set()
    await asyncio.gather(*tasks)


async def test_open_connections_keep_their_certificate(served: Served) -> None:
    connection = await served.connect()
    before = _serial(connection.writer.get_extra_info("ssl_object"))
    leaf = _leaf()
    served.tls.use(leaf.pem, leaf.key)
    assert (await connection.ask()).status == 200
    assert _serial((await served.connect()).writer.get_extra_info("ssl_object")) != before


async def test_a_client_without_a_server_name_gets_the_certificate_too(served: Served) -> None:
    context = ssl.create_default_context(cadata=AUTHORITY.certificate.pem)
    context.check_hostname = False
    _, writer = await asyncio.open_connection(*served.address, ssl=context, server_hostname="127.0.0.1")
    assert _serial(writer.get_extra_info("ssl_object"))
    writer.transport.abort()


async def test_http2_is_not_offered(served: Served) -> None:
    context = ssl.create_default_context(cadata=AUTHORITY.certificate.pem)
    context.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection(*served.address, ssl=context, server_hostname=NAME)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    writer.transport.abort()


async def test_a_torn_pair_leaves_the_current_one(served: Served) -> None:
    end = served.tls.not_after
    with pytest.raises(CertificateError, match="cannot be used together"):
        served.tls.use(_leaf().pem, _leaf().key)
    assert served.tls.not_after == end
    assert (await (await served.connect()).ask()).status == 200


async def test_without_a_certificate_handshakes_fail_and_nothing_else(served: Served) -> None:
    served.tls._current = None
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await served.connect()
    leaf = _leaf()
    served.tls.use(leaf.pem, leaf.key)
    assert (await (await served.connect()).ask()).status == 200


async def test_files_are_taken_over_when_both_have_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    old, new = _leaf(), make_leaf(make_authority(datetime.now(UTC)), [NAME], datetime.now(UTC))
    certificate.write_text(old.pem)
    key.write_text(old.key)
    tls, clock = ReloadingContext(), Clock()
    files = CertificateFiles(tls, certificate, key, clock.timing)
    assert files.look()
    assert not files.look()
    task = asyncio.create_task(files.run())
    certificate.write_text(new.pem)  # the key is still the old one's
    before = tls._current
    for _ in range(3):
        await eventually(lambda: clock.waiting)
        clock.advance(10)
        await eventually(lambda: "serving certificate kept" in caplog.text)
        assert tls._current is before
    assert caplog.text.count("serving certificate kept") == 1
    key.write_text(new.key)
    await eventually(lambda: clock.waiting)
    clock.advance(10)
    await eventually(lambda: tls._current is not before)
    task.cancel()


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file"), (b"\xff\xfe", "not both PEM"), (b"x", "cannot be used")]
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, content: bytes | None, why: str) -> None:
    for name in ("crt", "key"):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    with pytest.raises(CertificateError, match=why):
        CertificateFiles(ReloadingContext(), tmp_path / "crt", tmp_path / "key").look()
