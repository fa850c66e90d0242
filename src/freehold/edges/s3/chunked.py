"""`aws-chunked`: a body in pieces, each of which may be signed, with trailers at its end.

    {hex size}[;chunk-signature={hex}]\\r\\n{bytes}\\r\\n ... 0[;chunk-signature={hex}]\\r\\n
    {name}:{value}\\r\\n ... [x-amz-trailer-signature:{hex}\\r\\n] \\r\\n

Bytes are handed on before the end of their chunk proves them: whoever takes them must undo
everything when the iteration raises.
"""

import hashlib
import hmac
import re
from collections.abc import AsyncIterator

from freehold.edges.s3.errors import S3Error

_LINE_BYTES_MAX = 4096
_TRAILERS_MAX = 8
_TRAILER_SIGNATURE = "x-amz-trailer-signature"
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?")


class ChunkSignatures:
    """The chain: each signature covers the one before it, the first the request's own."""

    def __init__(self, *, key: bytes, timestamp: str, scope: str, seed: str) -> None:
        self._key = key
        self._head = f"{timestamp}\n{scope}"
        self._previous = seed

    def check_chunk(self, sha256: str, signature: str) -> None:
        wanted = self._sign(
            f"AWS4-HMAC-SHA256-PAYLOAD\n{self._head}\n{self._previous}\n{_EMPTY_SHA256}\n{sha256}"
        )
        self._check(wanted, signature)

    def check_trailers(self, trailers: dict[str, str], signature: str) -> None:
        lines = "".join(f"{name}:{value}\n" for name, value in sorted(trailers.items()))
        sha256 = hashlib.sha256(lines.encode()).hexdigest()
        wanted = self._sign(f"AWS4-HMAC-SHA256-TRAILER\n{self._head}\n{self._previous}\n{sha256}")
        self._check(wanted, signature)

    def _sign(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), "sha256").hex()

    def _check(self, wanted: str, given: str) -> None:
        if not hmac.compare_digest(wanted.encode(), given.encode()):
            raise S3Error("SignatureDoesNotMatch", "the signature of a chunk does not match")
        self._previous = wanted


async def decode(
    received: AsyncIterator[bytes],
    *,
    signatures: ChunkSignatures | None,
    trailers: dict[str, str] | None,
) -> AsyncIterator[bytes]:
    """The bytes without their frame. Trailers are put into `trailers`; None: there are none."""
    source = _Source(received)
    while True:
        left, signature = _chunk_head(await source.line(), signed=signatures is not None)
        last = left == 0
        sha256 = hashlib.sha256()
        while left:
            piece = await source.some(left)
            left -= len(piece)
            if signatures is not None:
                sha256.update(piece)
            yield piece
        if signatures is not None:
            signatures.check_chunk(sha256.hexdigest(), signature)
        if last:
            break
        if await source.line():
            raise _malformed()
    if trailers is not None:
        await _read_trailers(source, trailers, signatures)
    await source.end()


def _chunk_head(line: bytes, *, signed: bool) -> tuple[int, str]:
    matched = _CHUNK.fullmatch(line)
    if matched is None or (matched[2] is not None) != signed:
        raise _malformed()
    return int(matched[1], 16), (matched[2] or b"").decode()


async def _read_trailers(
    source: "_Source", trailers: dict[str, str], signatures: ChunkSignatures | None
) -> None:
    signature = ""
    while line := await source.line(may_end=True):
        name, colon, value = line.decode("latin-1").partition(":")
        name = name.strip().lower()
        if not colon or name in trailers or len(trailers) >= _TRAILERS_MAX:
            raise S3Error("MalformedTrailerError", "a trailer is not well formed")
        if name == _TRAILER_SIGNATURE and signatures is not None:
            signature = value.strip()
        else:
            trailers[name] = value.strip()
    if signatures is not None:
        signatures.check_trailers(trailers, signature)


class _Source:
    """Lines and pieces of a stream, holding back no more than one of what came in."""

    def __init__(self, received: AsyncIterator[bytes]) -> None:
        self._received = received
        self._held = b""

    async def some(self, bytes_max: int) -> bytes:
        if not self._held:
            self._held = await self._next()
        if not self._held:
            raise _incomplete()
        piece, self._held = self._held[:bytes_max], self._held[bytes_max:]
        return piece

    async def line(self, *, may_end: bool = False) -> bytes:
        """Without its end. `may_end`: no line at all is an empty one."""
        while (at := self._held.find(b"\n")) < 0:
            if len(self._held) > _LINE_BYTES_MAX:
                raise _malformed()
            more = await self._next()
            if not more:
                if may_end and not self._held:
                    return b""
                raise _incomplete()
            self._held += more
        if at > _LINE_BYTES_MAX:
            raise _malformed()
        line, self._held = self._held[:at], self._held[at + 1 :]
        return line.removesuffix(b"\r")

    async def end(self) -> None:
        """Nothing may follow but the empty line that ends a body without trailers."""
        rest = self._held
        while more := await self._next():
            rest += more
            if len(rest) > _LINE_BYTES_MAX:
                break
        if rest.strip(b"\r\n"):
            raise _malformed()

    async def _next(self) -> bytes:
        async for chunk in self._received:
            if chunk:
                return chunk
        return b""


def _malformed() -> S3Error:
    return S3Error("InvalidRequest", "the aws-chunked body is not well formed")


def _incomplete() -> S3Error:
    return S3Error("IncompleteBody", "the body ended before its last chunk")
