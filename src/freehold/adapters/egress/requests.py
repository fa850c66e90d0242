"""What a client asks a forward proxy for, read so strictly that nobody after us reads it otherwise.

Two readings of one request are how requests are smuggled (RFC 9112, section 11.2): whatever has
more than one is refused, and what goes on is written anew and not copied.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

HEAD_BYTES_MAX = 32 << 10

_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]{0,252}[a-z0-9_])?|[0-9a-f:.]{2,45}")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(r"[!-~]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_LENGTH = re.compile(rb"[0-9]{1,18}")
# Headers of one connection, which are not for whoever is beyond it.
_HOP_HEADERS = frozenset(
    b"connection keep-alive proxy-connection proxy-authorization proxy-authenticate te upgrade "
    b"trailer".split()
)
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_REFUSED_METHODS = frozenset(("TRACE", "TRACK"))

CHUNKED = -1


class Header(NamedTuple):
    """`name` is in lower case, `shown` is how it was written."""

    name: bytes
    shown: bytes
    value: bytes


class Refusal(Exception):
    """`status` and the message are answered to the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class ProxyRequest(msgspec.Struct, frozen=True):
    """`head` is what a plain http server is to be sent, None for CONNECT; `body_bytes` follow it,
    or chunks (CHUNKED).
    """

    method: str
    host: str
    port: int
    head: bytes | None = None
    body_bytes: int = 0

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


class Malformed(ValueError):
    """Not HTTP, or HTTP that can be read in two ways."""


def parse_request(head: bytes) -> ProxyRequest:
    """Raises Refusal."""
    line, _, rest = head.removesuffix(b"\r\n\r\n").partition(b"\r\n")
    try:
        method, target, version = line.decode("ascii").split(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or not _TOKEN.fullmatch(method.encode()):
            raise Malformed("its first line")
        if not _TARGET.fullmatch(target) or "\\" in target:
            raise Malformed("its target")
        parts = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host, port = (parts.hostname or "").rstrip("."), parts.port
        headers = list(parse_headers(rest))
        body_bytes = body_length(headers) or 0
    except ValueError as error:
        raise Refusal(400, f"that is not a request to a proxy ({error})") from error
    if "@" in parts.netloc:
        raise Refusal(400, "a user's name and password in the address do not pass here")
    if not _names_a_host(host):
        raise Refusal(400, "the request names no host")
    if sum(each.name == b"host" for each in headers) > 1:
        raise Refusal(400, "the request has more than one Host")
    if method == "CONNECT":
        if not port or parts.path or parts.query or body_bytes:
            raise Refusal(400, "CONNECT takes host:port")
        return ProxyRequest(method, host, port)
    if parts.scheme != "http":
        raise Refusal(400, "only http and CONNECT pass here")
    if method in _REFUSED_METHODS:
        raise Refusal(405, f"{method} does not pass here")
    if body_bytes == CHUNKED and version == "HTTP/1.0":
        raise Refusal(400, "HTTP/1.0 has no chunks")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    first = f"{method} {path} HTTP/1.1".encode()
    own = Header(b"host", b"Host", _authority(host, parts.port))
    passed = [own, *end_to_end(headers, but=b"host")]
    return ProxyRequest(method, host, parts.port or 80, written(first, passed), body_bytes)


def parse_headers(rest: bytes) -> Iterator[Header]:
    """Raises Malformed: for a line that continues another, too."""
    for line in rest.split(b"\r\n") if rest else ():
        name, colon, value = line.partition(b":")
        if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Malformed("a header that is none")
        yield Header(name.lower(), name, value.strip(b" \t"))


def body_length(headers: list[Header]) -> int | None:
    """Bytes, CHUNKED, or None where no header says. Raises Malformed for two meanings."""
    lengths = [each.value for each in headers if each.name == b"content-length"]
    codings = [each.value.lower() for each in headers if each.name == b"transfer-encoding"]
    if codings:
        if lengths or codings != [b"chunked"]:
            raise Malformed("a body with two lengths")
        return CHUNKED
    if not lengths:
        return None
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise Malformed("a body with no certain length")
    return int(lengths[0])


def end_to_end(headers: list[Header], *, but: bytes = b"") -> Iterator[Header]:
    """The headers that are not this connection's alone."""
    named = {
        token.strip().lower()
        for each in headers
        if each.name == b"connection"
        for token in each.value.split(b",")
    } - _FRAMING
    for each in headers:
        if each.name != but and each.name not in _HOP_HEADERS and each.name not in named:
            yield each


def written(first: bytes, headers: list[Header]) -> bytes:
    lines = [first, *(each.shown + b": " + each.value for each in headers), b"Connection: close"]
    return b"\r\n".join([*lines, b"", b""])


def _names_a_host(host: str) -> bool:
    """A name, or an address in its one canonical form: `0177.1` is an address to some, and a
    name to others."""
    if not _HOST.fullmatch(host):
        return False
    last = host.rpartition(".")[2]
    if ":" in host or last.isdecimal() or last.startswith("0x"):
        try:
            ip_address(host)
        except ValueError:
            return False
    return ".." not in host


def _authority(host: str, port: int | None) -> bytes:
    bare = f"[{host}]" if ":" in host else host
    return (bare if port is None else f"{bare}:{port}").encode()
