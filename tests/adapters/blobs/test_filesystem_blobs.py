"""What a directory of blobs survives: crashes, other processes, a full disk, many tenants."""

import asyncio
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from freehold.adapters.blobs.filesystem import FilesystemBlobs
from freehold.kernel.errors import NotFound, Unavailable

BUCKET = "things"

# A process that puts blobs one after another, each of 40,000 times its own number's digits, and
# says so when one is stored. Told so, it stops in the middle of one until it may go on.
WRITER = """
import asyncio, sys
from freehold.adapters.blobs.filesystem import FilesystemBlobs

async def main(directory, tenant, stall):
    blobs = FilesystemBlobs(directory)
    await blobs.create_bucket(tenant, "things")
    async def chunks(number):
        yield (b"%06d" % number) * 20_000
        if stall:
            yield bytes(3_000_000)
            print("stalled", flush=True)
            await asyncio.to_thread(sys.stdin.readline)
        yield (b"%06d" % number) * 20_000
    for number in range(100_000):
        await blobs.put(tenant, "things", f"k/{number}", chunks(number))
        print(number, flush=True)
        if stall:
            return

asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3] == "stall"))
"""

# Replaces a blob, and dies at the Nth time that it is about to sync or to unlink a file.
REPLACER = """
import asyncio, os, pathlib, signal, sys
from freehold.adapters.blobs.filesystem import FilesystemBlobs

left = int(sys.argv[3])

def deadly(act):
    def counted(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return act(*arguments, **options)
    return counted

async def main(directory, tenant):
    async def chunks():
        yield b"new" * 1000
    blobs = FilesystemBlobs(directory)
    await blobs.start()
    os.fsync, pathlib.Path.unlink = deadly(os.fsync), deadly(pathlib.Path.unlink)
    await blobs.put(tenant, "things", "k", chunks())
    print("acknowledged", flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


@contextmanager
def writer(directory: Path, tenant: str, mode: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory), tenant, mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[FilesystemBlobs]:
    blobs = FilesystemBlobs(directory)
    await blobs.start()
    yield blobs
    await blobs.close()


async def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 30)).strip()


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def content(blobs: FilesystemBlobs, tenant: str, key: str) -> bytes:
    _, chunks = await blobs.get(tenant, BUCKET, key)
    return b"".join([chunk async for chunk in chunks])


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def files_of(directory: Path, tenant: str) -> int:
    """Claims and files of bytes."""
    home = directory / tenant
    return sum(
        path.is_file() for part in ("objects", "writing") for path in (home / part).rglob("*")
    )


async def test_a_writer_killed_in_mid_put_leaves_nothing(tmp_path: Path, tenant: str) -> None:
    with writer(tmp_path, tenant, "stall") as process:
        assert await line(process) == "stalled"
    assert files_of(tmp_path, tenant) == 2
    async with opened(tmp_path) as blobs:
        assert (await blobs.list(tenant, BUCKET)).items == []
        with pytest.raises(NotFound):
            await blobs.head(tenant, BUCKET, "k/0")
        assert files_of(tmp_path, tenant) == 0


@pytest.mark.parametrize("acknowledged", [1, 7, 40])
async def test_what_was_acknowledged_before_a_kill_is_there(
    tmp_path: Path, tenant: str, acknowledged: int
) -> None:
    with writer(tmp_path, tenant, "run") as process:
        for _ in range(acknowledged):
            await line(process)
    async with opened(tmp_path) as blobs:
        stored = (await blobs.list(tenant, BUCKET)).items
        assert len(stored) >= acknowledged
        assert {f"k/{number}" for number in range(acknowledged)} <= {blob.key for blob in stored}
        for blob in stored:
            number = int(blob.key.removeprefix("k/"))
            assert await content(blobs, tenant, blob.key) == (b"%06d" % number) * 40_000
        assert files_of(tmp_path, tenant) == len(stored)


async def test_a_kill_at_any_step_leaves_the_old_blob_or_the_new_one(
    tmp_path: Path, tenant: str
) -> None:
    outcomes = []
    for step in range(1, 20):
        directory = tmp_path / str(step)
        async with opened(directory) as blobs:
            await blobs.create_bucket(tenant, BUCKET)
            await blobs.put(tenant, BUCKET, "k", chunks_of(b"old"))
        arguments = [sys.executable, "-c", REPLACER, str(directory), tenant, str(step)]
        run = await asyncio.to_thread(
            subprocess.run, arguments, capture_output=True, text=True, check=False, timeout=30
        )
        async with opened(directory) as blobs:
            outcomes.append(await content(blobs, tenant, "k"))
            assert files_of(directory, tenant) == 1
        if run.stdout:
            break
        assert run.returncode == -signal.SIGKILL, run.stderr
    # The last run was not killed; at least one died before, and one after, the blob was visible.
    assert {b"old", b"new" * 1000} == set(outcomes[:-1])
    assert outcomes == sorted(outcomes, reverse=True)


async def test_a_sweep_leaves_other_processes_puts_alone(tmp_path: Path, tenant: str) -> None:
    with writer(tmp_path, tenant, "stall") as process:
        assert await line(process) == "stalled"
        async with opened(tmp_path) as blobs:
            assert (await blobs.list(tenant, BUCKET)).items == []
            assert process.stdin is not None
            process.stdin.write("go on\n")
            process.stdin.flush()
            assert await line(process) == "0"
            assert len(await content(blobs, tenant, "k/0")) == 40_000 * 6 + 3_000_000


async def test_processes_share_a_directory(tmp_path: Path, tenant: str) -> None:
    async with opened(tmp_path) as blobs:
        await blobs.create_bucket(tenant, BUCKET)
        with (
            writer(tmp_path, tenant, "run") as one,
            writer(tmp_path, tenant, "run") as other,
        ):
            for number in range(20):
                for process in (one, other):
                    assert await line(process) == str(number)
                await blobs.put(tenant, BUCKET, f"mine/{number}", chunks_of(b"x"))
                assert len(await content(blobs, tenant, f"k/{number}")) == 240_000
        assert len((await blobs.list(tenant, BUCKET, prefix="mine/")).items) == 20


async def test_replaced_and_deleted_blobs_leave_no_files(tmp_path: Path, tenant: str) -> None:
    async with opened(tmp_path) as blobs:
        await blobs.create_bucket(tenant, BUCKET)
        for number in range(3):
            await blobs.put(tenant, BUCKET, "k", chunks_of(b"%d" % number))
        await blobs.put(tenant, BUCKET, "other", chunks_of(b"x"))
        await blobs.delete(tenant, BUCKET, "other")
        assert files_of(tmp_path, tenant) == 1


async def test_a_full_disk_refuses_and_keeps_what_was_there(tenant: str) -> None:
    with tempfile.TemporaryDirectory() as mounted:
        mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", mounted]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("needs to mount a small disk")
        try:
            async with opened(Path(mounted)) as blobs:
                await blobs.create_bucket(tenant, BUCKET)
                await blobs.put(tenant, BUCKET, "kept", chunks_of(b"kept"))
                before = files_of(Path(mounted), tenant)
                with pytest.raises(Unavailable):
                    await blobs.put(tenant, BUCKET, "large", chunks_of(*[bytes(1_000_000)] * 20))
                assert files_of(Path(mounted), tenant) == before
                assert await content(blobs, tenant, "kept") == b"kept"
                await blobs.put(tenant, BUCKET, "small", chunks_of(b"small"))
        finally:
            subprocess.run(["umount", mounted], check=True)


async def test_many_tenants_need_few_descriptors(tmp_path: Path) -> None:
    async with opened(tmp_path) as blobs:
        before = descriptors()
        for number in range(100):
            await blobs.create_bucket(f"{number:012}", BUCKET)
        # 64 tenants are open, with a database, its log and its index twice.
        assert descriptors() - before < 64 * 6 + 10
        assert len(await blobs.buckets("000000000000")) == 1


async def test_a_dropped_reader_gives_its_file_back(tmp_path: Path, tenant: str) -> None:
    async with opened(tmp_path) as blobs:
        await blobs.create_bucket(tenant, BUCKET)
        await blobs.put(tenant, BUCKET, "k", chunks_of(bytes(2_000_000)))
        before = descriptors()
        for _ in range(20):
            _, chunks = await blobs.get(tenant, BUCKET, "k")
            await anext(chunks)
        del chunks
        async with asyncio.timeout(10):  # the loop closes dropped generators in its own time
            while descriptors() > before + 1:
                await asyncio.sleep(0.01)


async def test_no_other_user_of_the_machine_can_read_it(tmp_path: Path, tenant: str) -> None:
    async with opened(tmp_path) as blobs:
        await blobs.create_bucket(tenant, BUCKET)
        assert (tmp_path / tenant).stat().st_mode & 0o077 == 0
