"""The aws-chunked decoder alone: S3's documented examples, and whatever bytes may come."""

import hashlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.edges.s3.chunked import ChunkSignatures, decode
from freehold.edges.s3.errors import S3Error
from freehold.edges.sigv4 import signing_key

# "Signature calculations for the Authorization header: transferring payload in multiple chunks",
# and the same with trailing headers, in the S3 API reference.
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
DATA = [b"a" * 65_536, b"a" * 1024, b""]
WITHOUT_TRAILERS = (
    "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)
WITH_TRAILERS = (
    "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
)
TRAILER_SIGNATURE = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"


def signatures(seed: str) -> ChunkSignatures:
    return ChunkSignatures(
        key=signing_key(SECRET, "20130524", "us-east-1", "s3"),
        timestamp="20130524T000000Z",
        scope="20130524/us-east-1/s3/aws4_request",
        seed=seed,
    )


def framed(chunk_signatures: tuple[str, ...]) -> bytes:
    body = b""
    for data, signature in zip(DATA, chunk_signatures[1:], strict=True):
        body += b"%x;chunk-signature=%s\r\n" % (len(data), signature.encode())
        body += data + b"\r\n" if data else b""
    return body


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def decoded(
    body: bytes,
    size: int = 1000,
    *,
    chain: ChunkSignatures | None = None,
    trailers: dict[str, str] | None = None,
) -> bytes:
    received = decode(pieces(body, size), signatures=chain, trailers=trailers)
    return b"".join([chunk async for chunk in received])


@pytest.mark.parametrize("size", [1, 87, 100_000])
async def test_the_documented_example_verifies(size: int) -> None:
    chain = signatures(WITHOUT_TRAILERS[0])
    body = framed(WITHOUT_TRAILERS) + b"\r\n"
    assert await decoded(body, size, chain=chain) == b"".join(DATA)


async def test_the_documented_example_with_a_trailer_verifies() -> None:
    found: dict[str, str] = {}
    body = framed(WITH_TRAILERS) + b"x-amz-checksum-crc32c:sOO8/Q==\r\n"
    body += f"x-amz-trailer-signature:{TRAILER_SIGNATURE}\r\n\r\n".encode()
    chain = signatures(WITH_TRAILERS[0])
    assert await decoded(body, chain=chain, trailers=found) == b"".join(DATA)
    assert found == {"x-amz-checksum-crc32c": "sOO8/Q=="}


@settings(max_examples=200, deadline=None)
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=300), max_size=6),
    size=st.integers(1, 400),
    upper=st.booleans(),
)
async def test_any_framing_of_the_bytes_gives_the_bytes(
    chunks: list[bytes], size: int, upper: bool
) -> None:
    body = b""
    for chunk in [*chunks, b""]:
        head = f"{len(chunk):X}" if upper else f"{len(chunk):x}"
        body += head.encode() + b"\r\n" + (chunk + b"\r\n" if chunk else b"")
    found: dict[str, str] = {}
    body += b"x-amz-checksum-crc32: AAAAAA==\r\n\r\n"
    assert await decoded(body, size, trailers=found) == b"".join(chunks)
    assert found == {"x-amz-checksum-crc32": "AAAAAA=="}


@settings(max_examples=300, deadline=None)
@given(
    body=st.lists(
        st.sampled_from([b"\r\n", b"\n", b"0", b"5", b"ff", b";", b"chunk-signature=", b"a:b"])
        | st.binary(max_size=8)
    ).map(b"".join),
    signed=st.booleans(),
)
async def test_any_bytes_are_decoded_or_refused(body: bytes, signed: bool) -> None:
    chain = signatures(hashlib.sha256(b"seed").hexdigest()) if signed else None
    try:
        data = await decoded(body, 3, chain=chain, trailers={})
    except S3Error as refused:
        assert 400 <= refused.status < 500
    else:
        assert len(data) < len(body)
        assert not signed


async def test_what_is_held_back_is_bounded() -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1000
            yield b"0" * 1000

    with pytest.raises(S3Error):
        await anext(decode(endless(), signatures=None, trailers=None))
    assert taken < 10_000


async def test_trailers_are_bounded() -> None:
    body = b"0\r\n" + b"".join(b"x-%d:y\r\n" % number for number in range(100)) + b"\r\n"
    with pytest.raises(S3Error):
        await decoded(body, trailers={})
