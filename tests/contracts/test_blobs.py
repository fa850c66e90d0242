"""What every adapter of the blobs port does.

`s3` is S3Blobs, speaking through boto3 to Freehold's own S3 edge over FilesystemBlobs, served by
uvicorn on loopback: a real client and a real server, the second of which is ours.
"""

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from freehold.adapters.blobs.filesystem import FilesystemBlobs
from freehold.adapters.blobs.s3 import S3Blobs
from freehold.edges.pipeline import Pipeline
from freehold.edges.s3.app import S3Edge
from freehold.kernel.caller import Caller
from freehold.kernel.errors import Conflict, NotFound, ValidationFailed
from freehold.ports.authorizer import AccessKey
from freehold.ports.blobs import Blobs, BucketNotFound

KEY = AccessKey(
    id="FHIACONTRACTBLOBS234", tenant="999999999999", secret="the-secret-of-the-contract"
)
BUCKET = "things"
# S3 has 1,024 bytes for the whole name: prefix, tenant, bucket and key.
KEY_BYTES_MAX = {"filesystem": 1024, "s3": 980}


class _OneKey:
    async def active(self, access_key_id: str) -> AccessKey | None:
        return KEY if access_key_id == KEY.id else None


class _EverybodyMay:
    async def authorize(self, caller: Caller, operation: str, resource_arn: str | None) -> None:
        return None


@asynccontextmanager
async def _own_s3_server(directory: Path) -> AsyncIterator[str]:
    """Its endpoint, with one bucket `backing` in it."""
    store = FilesystemBlobs(directory)
    await store.create_bucket(KEY.tenant, "backing")
    edge = S3Edge(
        store,
        pipeline=Pipeline(authorizer=_EverybodyMay(), calls_in_flight_max=100),
        keys=_OneKey(),
        region="us-east-1",
        object_bytes_max=1 << 30,
    )
    config = uvicorn.Config(edge, http="httptools", ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    # Only a socket that names its protocol gets TCP_NODELAY from asyncio.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/_s3"
    finally:
        server.should_exit = True
        await serving
        listening.close()
        await store.close()


@pytest.fixture(scope="module", params=["filesystem", "s3"])
async def blobs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Blobs]:
    directory = tmp_path_factory.mktemp(f"blobs-{request.param}")
    if request.param == "filesystem":
        store = FilesystemBlobs(directory)
        await store.start()
        yield store
        await store.close()
        return
    async with _own_s3_server(directory) as endpoint:
        remote = S3Blobs(
            bucket="backing",
            prefix="all/",
            region="us-east-1",
            endpoint=endpoint,
            access_key_id=KEY.id,
            secret_access_key=KEY.secret,
            single_put_bytes_max=20 << 20,
        )
        await remote.start()
        yield remote
        await remote.close()


@pytest.fixture
def key_bytes_max(request: pytest.FixtureRequest, blobs: Blobs) -> int:
    return KEY_BYTES_MAX["filesystem" if isinstance(blobs, FilesystemBlobs) else "s3"]


@pytest.fixture
async def home(blobs: Blobs, tenant: str) -> str:
    """A tenant that has the bucket, empty."""
    await blobs.create_bucket(tenant, BUCKET)
    return tenant


async def chunks_of(data: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def content(blobs: Blobs, tenant: str, key: str, **span: int) -> bytes:
    _, chunks = await blobs.get(tenant, BUCKET, key, **span)
    return b"".join([chunk async for chunk in chunks])


async def put(blobs: Blobs, tenant: str, key: str, data: bytes = b"x") -> None:
    await blobs.put(tenant, BUCKET, key, chunks_of(data))


async def keys_of(blobs: Blobs, tenant: str, **options: object) -> list[str]:
    page = await blobs.list(tenant, BUCKET, **options)  # type: ignore[arg-type]
    return [blob.key for blob in page.items]


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_001])
async def test_what_was_put_is_what_is_got(blobs: Blobs, home: str, size: int) -> None:
    data = hashlib.shake_128(b"seed").digest(size)
    stored = await blobs.put(
        home,
        BUCKET,
        "a/b",
        chunks_of(data),
        content_type="text/x-thing; charset=utf-8",
        metadata={"colour": "blau, grün", "odd": "  100 % \u2713\n"},
    )
    got, chunks = await blobs.get(home, BUCKET, "a/b")
    assert b"".join([chunk async for chunk in chunks]) == data
    for blob in (stored, got, await blobs.head(home, BUCKET, "a/b")):
        assert (blob.bucket, blob.key, blob.size_bytes) == (BUCKET, "a/b", size)
        assert blob.etag == hashlib.md5(data).hexdigest()
        assert blob.content_type == "text/x-thing; charset=utf-8"
        assert blob.metadata == {"colour": "blau, grün", "odd": "  100 % \u2713\n"}
        assert abs(blob.modified_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_a_large_blob_comes_back_whole(blobs: Blobs, home: str) -> None:
    data = bytes(range(256)) * (21 * 4096 + 1)
    stored = await blobs.put(home, BUCKET, "large", chunks_of(data))
    _, chunks = await blobs.get(home, BUCKET, "large")
    digest = hashlib.md5()
    async for chunk in chunks:
        digest.update(chunk)
    assert digest.hexdigest() == stored.etag == (await blobs.head(home, BUCKET, "large")).etag


@pytest.mark.parametrize(
    ("start", "end"), [(0, None), (0, 4), (3, 7), (9, 10), (4, None), (4, 99), (10, None), (5, 5)]
)
async def test_a_range_is_the_slice_of_the_same_bounds(
    blobs: Blobs, home: str, start: int, end: int | None
) -> None:
    await put(blobs, home, "digits", b"0123456789")
    blob, chunks = await blobs.get(home, BUCKET, "digits", start=start, end=end)
    assert b"".join([chunk async for chunk in chunks]) == b"0123456789"[start:end]
    assert blob.size_bytes == 10


async def test_a_range_may_begin_far_into_a_large_blob(blobs: Blobs, home: str) -> None:
    data = hashlib.shake_128(b"range").digest(2_000_000)
    await put(blobs, home, "large", data)
    assert (
        await content(blobs, home, "large", start=700_001, end=1_900_007)
        == (data[700_001:1_900_007])
    )


async def test_an_etag_of_the_caller_replaces_the_md5(blobs: Blobs, home: str) -> None:
    etag = "0123456789abcdef0123456789abcdef-2"
    stored = await blobs.put(home, BUCKET, "parts", chunks_of(b"ab"), etag=etag)
    assert stored.etag == etag
    assert (await blobs.head(home, BUCKET, "parts")).etag == etag


async def test_a_second_put_replaces_the_first_whole(blobs: Blobs, home: str) -> None:
    await blobs.put(home, BUCKET, "k", chunks_of(b"first and long"), metadata={"a": "1"})
    await put(blobs, home, "k", b"second")
    assert await content(blobs, home, "k") == b"second"
    assert (await blobs.head(home, BUCKET, "k")).metadata == {}


async def test_a_reader_keeps_what_it_opened_when_the_blob_is_replaced(
    blobs: Blobs, home: str
) -> None:
    first = hashlib.shake_128(b"one").digest(5_000_000)
    await put(blobs, home, "k", first)
    _, reading = await blobs.get(home, BUCKET, "k")
    beginning = await anext(reading)
    await put(blobs, home, "k", b"second")
    await blobs.delete(home, BUCKET, "k")
    assert beginning + b"".join([chunk async for chunk in reading]) == first


async def test_without_overwrite_the_first_put_stays(blobs: Blobs, home: str) -> None:
    await blobs.put(home, BUCKET, "k", chunks_of(b"first"), overwrite=False)
    with pytest.raises(Conflict):
        await blobs.put(home, BUCKET, "k", chunks_of(b"second"), overwrite=False)
    assert await content(blobs, home, "k") == b"first"


async def test_of_many_puts_without_overwrite_one_wins(blobs: Blobs, home: str) -> None:
    async def attempt(number: int) -> bool:
        data = b"%d" % number
        try:
            await blobs.put(home, BUCKET, "lock", chunks_of(data), overwrite=False)
        except Conflict:
            return False
        return True

    won = await asyncio.gather(*(attempt(number) for number in range(8)))
    assert won.count(True) == 1
    assert await content(blobs, home, "lock") == b"%d" % won.index(True)


@pytest.mark.parametrize("sent_before", [0, 10, 2_500_000])
async def test_a_put_whose_source_fails_stores_nothing(
    blobs: Blobs, home: str, sent_before: int
) -> None:
    class SourceBroke(Exception):
        pass

    async def breaking() -> AsyncIterator[bytes]:
        async for chunk in chunks_of(bytes(sent_before)):
            yield chunk
        raise SourceBroke

    await put(blobs, home, "kept", b"kept")
    for key in ("new", "kept"):
        with pytest.raises(SourceBroke):
            await blobs.put(home, BUCKET, key, breaking())
    assert await keys_of(blobs, home) == ["kept"]
    assert await content(blobs, home, "kept") == b"kept"


async def test_a_cancelled_put_stores_nothing(blobs: Blobs, home: str) -> None:
    stalled = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield bytes(1_500_000)
        stalled.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(blobs.put(home, BUCKET, "never", stalling()))
    await asyncio.wait_for(stalled.wait(), 20)
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await keys_of(blobs, home) == []


async def test_a_deleted_blob_is_gone_and_may_be_deleted_again(blobs: Blobs, home: str) -> None:
    await put(blobs, home, "k")
    await blobs.delete(home, BUCKET, "k")
    await blobs.delete(home, BUCKET, "k")
    with pytest.raises(NotFound):
        await blobs.head(home, BUCKET, "k")
    with pytest.raises(NotFound):
        await blobs.get(home, BUCKET, "k")
    assert await keys_of(blobs, home) == []


async def test_an_absent_key_is_told_from_an_absent_bucket(blobs: Blobs, home: str) -> None:
    with pytest.raises(NotFound) as absent_key:
        await blobs.head(home, BUCKET, "nothing")
    assert not isinstance(absent_key.value, BucketNotFound)
    with pytest.raises(BucketNotFound):
        await blobs.head(home, "no-bucket", "nothing")
    with pytest.raises(BucketNotFound):
        await blobs.get(home, "no-bucket", "nothing")
    with pytest.raises(BucketNotFound):
        await blobs.put(home, "no-bucket", "k", chunks_of(b"x"))
    with pytest.raises(BucketNotFound):
        await blobs.delete(home, "no-bucket", "k")
    with pytest.raises(BucketNotFound):
        await blobs.list(home, "no-bucket")
    with pytest.raises(BucketNotFound):
        await blobs.delete_bucket(home, "no-bucket")


async def test_a_bucket_belongs_to_its_tenant(blobs: Blobs, home: str) -> None:
    other = str(int(home) ^ 1)
    await put(blobs, home, "k", b"mine")
    with pytest.raises(BucketNotFound):
        await blobs.head(other, BUCKET, "k")
    await blobs.create_bucket(other, BUCKET)
    await put(blobs, other, "k", b"theirs")
    assert await content(blobs, home, "k") == b"mine"
    assert await content(blobs, other, "k") == b"theirs"
    await blobs.delete(other, BUCKET, "k")
    await blobs.delete_bucket(other, BUCKET)
    assert await content(blobs, home, "k") == b"mine"


async def test_buckets_are_listed_by_name_and_made_once(blobs: Blobs, tenant: str) -> None:
    assert await blobs.buckets(tenant) == []
    for name in ("zebra", "ant", "ant.hill-2"):
        await blobs.create_bucket(tenant, name)
    before = await blobs.buckets(tenant)
    await blobs.create_bucket(tenant, "zebra")
    assert await blobs.buckets(tenant) == before
    assert [name for name, _ in before] == ["ant", "ant.hill-2", "zebra"]
    assert all(abs(made - datetime.now(UTC)) < timedelta(minutes=1) for _, made in before)


async def test_only_an_empty_bucket_can_be_deleted(blobs: Blobs, home: str) -> None:
    await put(blobs, home, "k")
    with pytest.raises(Conflict):
        await blobs.delete_bucket(home, BUCKET)
    await blobs.delete(home, BUCKET, "k")
    await blobs.delete_bucket(home, BUCKET)
    assert await blobs.buckets(home) == []
    with pytest.raises(BucketNotFound):
        await blobs.list(home, BUCKET)


@pytest.mark.parametrize(
    "name",
    ["", "ab", "a" * 64, "Capital", "under_score", "..", "a..b", ".ab", "ab-", "a/b", "10.0.0.1"],
)
async def test_a_bucket_name_that_s3_would_refuse_is_refused(
    blobs: Blobs, tenant: str, name: str
) -> None:
    with pytest.raises(ValidationFailed):
        await blobs.create_bucket(tenant, name)


@pytest.mark.parametrize("tenant_name", ["", "..", "a/b", "a\0b", "x" * 65])
async def test_a_tenant_cannot_name_a_place(blobs: Blobs, tenant_name: str) -> None:
    with pytest.raises(ValidationFailed):
        await blobs.create_bucket(tenant_name, BUCKET)


async def test_a_key_has_a_limit_in_bytes(blobs: Blobs, home: str, key_bytes_max: int) -> None:
    longest = "ü" * (key_bytes_max // 2)
    await put(blobs, home, longest, b"long")
    assert await content(blobs, home, longest) == b"long"
    for bad in ("", "k" * 1025, "ü" * 513, "\ud800"):
        with pytest.raises(ValidationFailed):
            await put(blobs, home, bad)
    assert await keys_of(blobs, home) == [longest]


WEIRD = [
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "//",
    "a",
    "a/",
    "a/b",
    "a//b",
    "a/../b",
    "./a",
    "%2e%2e%2f",
    "a%00b",
    "a b+c&d=e?f#g",
    "~tilde;semi:colon,comma",
    "'quotes\"",
    "\\back\\slash",
    "CON",
    "index.sqlite3",
    "schlüssel/キー/🗝",
    "tab\tnewline\nreturn\r",
    "\u0001\u007f",
    "\u202ertl",
    "e\u0301",
    "\u00e9",
    "\U0010ffff",
    "\uffff",
    "<xml>&amp;",
    "x" * 255,
    "x" * 256 + "/" + "y" * 300,
]


async def test_keys_that_no_file_could_have_live_side_by_side(blobs: Blobs, home: str) -> None:
    for key in WEIRD:
        await put(blobs, home, key, key.encode())
    assert await keys_of(blobs, home) == sorted(WEIRD, key=lambda key: key.encode())
    for key in WEIRD:
        assert await content(blobs, home, key) == key.encode()
        assert (await blobs.head(home, BUCKET, key)).key == key
        await blobs.delete(home, BUCKET, key)
    assert await keys_of(blobs, home) == []


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    keys=st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
        min_size=2,
        max_size=4,
        unique=True,
    )
)
@example(keys=["\0", "\0/", "\U0010ffff/\U0010ffff"])
async def test_any_texts_are_keys(blobs: Blobs, home: str, keys: list[str]) -> None:
    for key in keys:
        await put(blobs, home, key, key.encode())
    assert await keys_of(blobs, home) == sorted(keys, key=lambda key: key.encode())
    for key in keys:
        assert await content(blobs, home, key) == key.encode()
        await blobs.delete(home, BUCKET, key)


async def test_a_list_is_in_the_order_of_bytes_and_pages_tile_it(blobs: Blobs, home: str) -> None:
    # UTF-16 order would put the last two the other way round.
    keys = ["A", "a", "a!", "a/1", "a/2", "a0", "b", "é", "\uffee", "\U00010000"]
    for key in reversed(keys):
        await put(blobs, home, key)
    assert await keys_of(blobs, home) == keys
    for limit in (1, 3, 10):
        seen: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await blobs.list(home, BUCKET, after=after, limit=limit)
            assert 0 < len(page.items) <= limit
            seen += [blob.key for blob in page.items]
            after = page.next_token
        assert seen == keys


async def test_a_list_can_begin_with_a_prefix_and_after_a_key(blobs: Blobs, home: str) -> None:
    for key in ("a", "b/1", "b/2", "b/3", "b0", "c", "é", "ê"):
        await put(blobs, home, key)
    assert await keys_of(blobs, home, prefix="b/") == ["b/1", "b/2", "b/3"]
    assert await keys_of(blobs, home, prefix="b/", after="b/1") == ["b/2", "b/3"]
    assert await keys_of(blobs, home, prefix="b/", after="a") == ["b/1", "b/2", "b/3"]
    assert await keys_of(blobs, home, prefix="b/", after="c") == []
    assert await keys_of(blobs, home, after="b0") == ["c", "é", "ê"]
    assert await keys_of(blobs, home, after="b/25") == ["b/3", "b0", "c", "é", "ê"]
    assert await keys_of(blobs, home, prefix="é") == ["é"]
    assert await keys_of(blobs, home, prefix="nothing") == []


async def test_a_listed_blob_has_size_etag_and_time(blobs: Blobs, home: str) -> None:
    await put(blobs, home, "k", b"12345")
    (blob,) = (await blobs.list(home, BUCKET)).items
    assert (blob.bucket, blob.key, blob.size_bytes) == (BUCKET, "k", 5)
    assert blob.etag == hashlib.md5(b"12345").hexdigest()
    assert abs(blob.modified_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_many_writers_and_readers_do_not_mix_up(blobs: Blobs, home: str) -> None:
    async def write_and_read(number: int) -> None:
        data = hashlib.shake_128(b"%d" % number).digest(100_000 + number)
        key = f"k{number % 5}"
        await put(blobs, home, key, data)
        own = f"own/{number}"
        await put(blobs, home, own, data)
        assert await content(blobs, home, own) == data
        shared, chunks = await blobs.get(home, BUCKET, key)
        got = b"".join([chunk async for chunk in chunks])
        assert hashlib.md5(got).hexdigest() == shared.etag

    await asyncio.gather(*(write_and_read(number) for number in range(20)))
    assert len(await keys_of(blobs, home, prefix="own/")) == 20
