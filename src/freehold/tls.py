"""A certificate authority of one's own, made on first use, and the server's certificate by it.

It lives in the state directory. Clients that are told to trust `ca.pem` trust this platform alone;
the keys never leave the machine.
"""

import contextlib
import fcntl
import ipaddress
import os
import re
import secrets
import socket
import ssl
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS, SERVER_DAYS, RENEWED_DAYS_BEFORE = 3650, 90, 30
_CLOCKS_DIFFER = timedelta(hours=1)
_NAME = re.compile(
    r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
)
_COMMON_NAME_CHARACTERS_MAX = 64

_Issued = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


class BadName(ValueError):
    """What is to stand in the certificate is neither a host's name nor an address."""


class Unreadable(Exception):
    """A file of the authority is not what we made. Clients trust it: nothing takes its place."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} cannot be read: put it back from a backup, or remove {path.parent} "
            "for a new authority, which clients must be told of"
        )


class Files(msgspec.Struct, frozen=True):
    """`certificate` is the authority's, for clients; `bundle` the same and what this machine
    trusts anyway; `server` the server's certificate and key in one file, so that they change
    together.
    """

    directory: Path

    @classmethod
    def of(cls, state: Path) -> "Files":
        return cls(state / "tls")

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.pem"

    @property
    def key(self) -> Path:
        return self.directory / "ca.key"

    @property
    def bundle(self) -> Path:
        return self.directory / "bundle.pem"

    @property
    def server(self) -> Path:
        return self.directory / "server.pem"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What people may want to know of the certificates."""

    ca: str
    bundle: str
    fingerprint: str
    ca_until: datetime
    names: list[str]
    until: datetime


def server_names(host: str, further: Iterable[str]) -> list[str]:
    """What the server is called: this machine's own names, where it listens, and `further`.

    Raises BadName.
    """
    names = ["localhost", "127.0.0.1", "::1"]
    for name in (socket.gethostname(), host):
        if _is_address(name) or _NAME.fullmatch(name.lower()):
            names.append(name.lower())
    for name in further:
        if not (_is_address(name) or _NAME.fullmatch(name.lower())):
            raise BadName(f"{name!r} is neither the name of a host nor an address")
        names.append(name.lower())
    # An address as a certificate shows it, else the names would never be those that it has.
    names = [str(ipaddress.ip_address(name)) if _is_address(name) else name for name in names]
    return [name for name in dict.fromkeys(names) if name not in ("0.0.0.0", "::")]  # noqa: S104


def ensure(state: Path, names: Iterable[str], *, now: datetime | None = None) -> Files:
    """Certificates that hold for these names and for a while yet; made or renewed where needed.

    Raises Unreadable, OSError.
    """
    now = now or datetime.now(UTC)
    files = Files.of(state)
    files.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    with _alone(files.directory):
        authority = _authority(files)
        if authority is None or authority[0].not_valid_after_utc <= now:
            authority = _new_authority(now)
            _write(files.key, _pem_of_key(authority[1]), mode=0o600)
            _write(files.certificate, _pem(authority[0]), mode=0o644)
            files.server.unlink(missing_ok=True)
        _write(files.bundle, _pem(authority[0]) + _trusted_anyway(), mode=0o644)
        names = list(names)
        if not _is_good(files.server, authority[0], names, now):
            certificate, key = _new_server(authority, names, now)
            _write(files.server, _pem_of_key(key) + _pem(certificate), mode=0o600)
    return files


def renewal(files: Files) -> datetime:
    """When `ensure` would make a new server certificate."""
    certificate = x509.load_pem_x509_certificate(files.server.read_bytes())
    return certificate.not_valid_after_utc - timedelta(days=RENEWED_DAYS_BEFORE)


def server_context(files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(files.server)
    return context


def facts(state: Path) -> Facts | None:
    """None where nothing was made yet. For the owner of the state directory alone.

    Raises Unreadable, OSError.
    """
    files = Files.of(state)
    try:
        authority = _certificate(files.certificate)
        server = _certificate(files.server)
    except FileNotFoundError:
        return None
    return Facts(
        ca=str(files.certificate),
        bundle=str(files.bundle),
        fingerprint=authority.fingerprint(hashes.SHA256()).hex(":").upper(),
        ca_until=authority.not_valid_after_utc,
        names=_names_in(server),
        until=server.not_valid_after_utc,
    )


# -- making


def _new_authority(now: datetime) -> _Issued:
    key = ec.generate_private_key(ec.SECP256R1())
    words = f"Freehold on {socket.gethostname()} ({secrets.token_hex(4)})"
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, words[-_COMMON_NAME_CHARACTERS_MAX:])]
    )
    builder = _builder(name, name, key, now, days=CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return builder.sign(key, hashes.SHA256()), key


def _new_server(authority: _Issued, names: list[str], now: datetime) -> _Issued:
    issuer, issuer_key = authority
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Freehold")])
    until = min(now + timedelta(days=SERVER_DAYS), issuer.not_valid_after_utc)
    builder = _builder(subject, issuer.subject, key, now, days=(until - now).days)
    builder = builder.add_extension(x509.SubjectAlternativeName(_general(names)), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
    )
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
    )
    return builder.sign(issuer_key, hashes.SHA256()), key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, *,
    days: int,
) -> x509.CertificateBuilder:  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates, key_cert_sign=signs_certificates,
        crl_sign=signs_certificates, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _general(names: list[str]) -> list[x509.GeneralName]:
    return [
        x509.IPAddress(ipaddress.ip_address(name)) if _is_address(name) else x509.DNSName(name)
        for name in names
    ]


# -- what is there


def _authority(files: Files) -> _Issued | None:
    try:
        certificate = _certificate(files.certificate)
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise Unreadable(files.key) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Unreadable(files.key)
    if certificate.public_key() != key.public_key():
        return None  # a start that broke off between the two
    return certificate, key


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as error:
        raise Unreadable(path) from error


def _is_good(path: Path, issuer: x509.Certificate, names: list[str], now: datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    late = certificate.not_valid_after_utc - timedelta(days=RENEWED_DAYS_BEFORE)
    return (
        certificate.issuer == issuer.subject
        and now < late
        and set(names) <= set(_names_in(certificate))
    )


def _names_in(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def _trusted_anyway() -> bytes:
    """Of this machine: a client that gets the bundle for its only trust still knows the world."""
    known = ssl.get_default_verify_paths().cafile
    return Path(known).read_bytes() if known is not None else b""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


# -- files


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """The processes of one platform renew one after the other."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, data: bytes, *, mode: int) -> None:
    """Replaced whole, and closed to others from its first byte where it is to be."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
