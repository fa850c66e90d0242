"""The certificate authority of a state directory: made once, closed to others, renewed in time."""

import asyncio
import shutil
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from freehold import tls
from freehold.processes import certificates
from freehold.settings import Settings

NAMES = ["localhost", "127.0.0.1", "::1", "freehold.api.aws"]


def server_certificate(files: tls.Files) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.server.read_bytes())


async def handshake(server: ssl.SSLContext, ca: Path, name: str) -> x509.Certificate:
    """What a strict client gets that trusts this authority alone. Raises ssl.SSLError."""
    client = ssl.create_default_context(cafile=str(ca))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()
        done.set()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname=name
        )
        raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(b"x")
        await asyncio.wait_for(done.wait(), 10)
        writer.close()
        await writer.wait_closed()
    return x509.load_der_x509_certificate(raw)


@pytest.mark.parametrize("name", NAMES)
async def test_a_strict_client_accepts_every_name(tmp_path: Path, name: str) -> None:
    files = tls.ensure(tmp_path, NAMES)
    await handshake(tls.server_context(files), files.certificate, name)


async def test_a_name_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    files = tls.ensure(tmp_path, NAMES)
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(tls.server_context(files), files.certificate, "example.com")


async def test_another_platforms_authority_is_not_trusted(tmp_path: Path) -> None:
    ours, other = tls.ensure(tmp_path / "a", NAMES), tls.ensure(tmp_path / "b", NAMES)
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(tls.server_context(ours), other.certificate, "localhost")


def test_keys_are_their_owners_alone_and_the_certificate_is_for_all(tmp_path: Path) -> None:
    files = tls.ensure(tmp_path, NAMES)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in files.directory.iterdir()}
    assert modes == {"ca.pem": 0o644, "bundle.pem": 0o644, "ca.key": 0o600, "server.pem": 0o600}
    assert b"PRIVATE" not in files.certificate.read_bytes() + files.bundle.read_bytes()


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    files = tls.ensure(tmp_path, NAMES)
    before = {p: p.read_bytes() for p in files.directory.iterdir()}
    tls.ensure(tmp_path, NAMES[:2])
    assert {p: p.read_bytes() for p in files.directory.iterdir()} == before


def test_a_new_name_makes_a_new_certificate_by_the_same_authority(tmp_path: Path) -> None:
    files = tls.ensure(tmp_path, NAMES)
    authority, server = files.certificate.read_bytes(), server_certificate(files)
    tls.ensure(tmp_path, [*NAMES, "more.example.com"])
    assert files.certificate.read_bytes() == authority
    assert server_certificate(files).serial_number != server.serial_number
    found = tls.facts(tmp_path)
    assert found is not None
    assert "more.example.com" in found.names


async def test_it_is_renewed_before_its_end_and_new_connections_get_the_new_one(
    tmp_path: Path,
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=tls.SERVER_DAYS - tls.RENEWED_DAYS_BEFORE + 1)
    files = tls.ensure(tmp_path, NAMES, now=long_ago)
    context = tls.server_context(files)
    old = await handshake(context, files.certificate, "localhost")
    assert tls.renewal(files) < datetime.now(UTC)
    tls.ensure(tmp_path, NAMES)
    context.load_cert_chain(files.server)
    new = await handshake(context, files.certificate, "localhost")
    assert new.not_valid_after_utc > old.not_valid_after_utc
    assert tls.renewal(files) > datetime.now(UTC)


def test_an_authority_whose_time_is_over_is_replaced(tmp_path: Path) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=tls.CA_DAYS + 1)
    files = tls.ensure(tmp_path, NAMES, now=long_ago)
    old = files.certificate.read_bytes()
    tls.ensure(tmp_path, NAMES)
    assert files.certificate.read_bytes() != old
    server_certificate(files).verify_directly_issued_by(
        x509.load_pem_x509_certificate(files.certificate.read_bytes())
    )


def test_a_start_that_broke_off_is_mended(tmp_path: Path) -> None:
    files = tls.ensure(tmp_path, NAMES)
    files.certificate.unlink()
    files.server.write_bytes(b"")
    tls.ensure(tmp_path, NAMES)
    server_certificate(files).verify_directly_issued_by(
        x509.load_pem_x509_certificate(files.certificate.read_bytes())
    )


async def test_renewal_goes_on_though_the_files_are_away_for_a_while(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path, tls=True)
    context = certificates.context_of(settings)
    assert context is not None
    shutil.rmtree(tls.Files.of(tmp_path).directory)
    renewing = asyncio.create_task(certificates.keep_valid(context, settings))
    done, _ = await asyncio.wait([renewing], timeout=0.1)
    renewing.cancel()
    assert not done


@pytest.mark.parametrize("name", ["ca.pem", "ca.key"])
def test_an_authority_that_cannot_be_read_is_not_replaced(tmp_path: Path, name: str) -> None:
    files = tls.ensure(tmp_path, NAMES)
    (files.directory / name).write_bytes(b"garbage")
    with pytest.raises(tls.Unreadable, match=name):
        tls.ensure(tmp_path, NAMES)
    assert (files.directory / name).read_bytes() == b"garbage"


def test_an_address_in_another_form_makes_no_new_certificate_each_time(tmp_path: Path) -> None:
    names = tls.server_names("127.0.0.1", ["FD00:0:0::1"])
    first = tls.ensure(tmp_path, names).server.read_bytes()
    assert tls.ensure(tmp_path, names).server.read_bytes() == first


@pytest.mark.parametrize("name", ["a b", "", "-x", "a..b", "*", "https://x", "a" * 64])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(tls.BadName):
        tls.server_names("127.0.0.1", [name])


def test_an_address_to_listen_on_everywhere_is_no_name() -> None:
    assert not {"0.0.0.0", "::"} & set(tls.server_names("0.0.0.0", ["::"]))
