"""Request bodies: hashed while they are stored, bounded, and gone afterwards."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from freehold.edges.spool import (
    MEMORY_BYTES_MAX,
    ClientDisconnected,
    Inbound,
    SpoolSpace,
    StreamingBody,
    spool,
)
from freehold.kernel.errors import Unavailable, ValidationFailed

MIB = 1024 * 1024


def inbound_of(*chunks: bytes, declared: int | None = None, idle: float = 5.0) -> Inbound:
    messages = [
        {"type": "http.request", "body": chunk, "more_body": n < len(chunks)}
        for n, chunk in enumerate(chunks, 1)
    ]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    headers = [] if declared is None else [(b"content-length", b"%d" % declared)]
    return Inbound({"headers": headers}, receive, idle_seconds_max=idle)


def space_in(directory: Path, bytes_max: int = 64 * MIB) -> SpoolSpace:
    return SpoolSpace(str(directory), bytes_max=bytes_max)


@pytest.mark.parametrize(
    "size", [0, 1, MEMORY_BYTES_MAX, MEMORY_BYTES_MAX + 1, 2 * MIB, 5 * MIB + 3]
)
async def test_a_spooled_body_is_what_was_sent(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    chunks = [data[at : at + 65_536] for at in range(0, size, 65_536)] or [b""]
    space = space_in(tmp_path)
    body = await spool(inbound_of(*chunks, declared=size), space, bytes_max=size)
    assert body.size_bytes == size
    assert body.sha256 == hashlib.sha256(data).hexdigest()
    assert (space.used_bytes > 0) == (size > MEMORY_BYTES_MAX)
    assert list(tmp_path.iterdir()) == [], "a file of a crashed process would stay"
    assert b"".join([chunk async for chunk in body.chunks()]) == data
    assert await body.read() == data
    body.close()
    assert space.used_bytes == 0


@pytest.mark.parametrize("declared", [None, 2 * MIB])
async def test_a_body_over_the_limit_is_refused(tmp_path: Path, declared: int | None) -> None:
    space = space_in(tmp_path)
    inbound = inbound_of(*[b"x" * MIB] * 2, declared=declared)
    with pytest.raises(ValidationFailed, match="larger than"):
        await spool(inbound, space, bytes_max=MIB)
    assert space.used_bytes == 0
    assert inbound.received_bytes == (0 if declared else 2 * MIB)


async def test_all_bodies_together_are_bounded(tmp_path: Path) -> None:
    space = space_in(tmp_path, bytes_max=3 * MIB)
    first = await spool(inbound_of(b"x" * 2 * MIB), space, bytes_max=4 * MIB)
    with pytest.raises(Unavailable):
        await spool(inbound_of(b"y" * 2 * MIB), space, bytes_max=4 * MIB)
    first.close()
    again = await spool(inbound_of(b"z" * 2 * MIB), space, bytes_max=4 * MIB)
    again.close()
    assert space.used_bytes == 0


async def test_a_directory_that_cannot_be_written_is_our_trouble(tmp_path: Path) -> None:
    space = space_in(tmp_path / "absent")
    with pytest.raises(Unavailable):
        await spool(inbound_of(b"x" * MIB), space, bytes_max=2 * MIB)
    assert space.used_bytes == 0


@pytest.mark.parametrize("declared", [3, 5])
async def test_a_content_length_that_lies_is_refused(tmp_path: Path, declared: int) -> None:
    with pytest.raises(ValidationFailed, match="Content-Length"):
        await spool(inbound_of(b"ab", b"cd", declared=declared), space_in(tmp_path), bytes_max=9)


async def test_a_content_length_beyond_all_measure_is_refused(tmp_path: Path) -> None:
    inbound = Inbound({"headers": [(b"content-length", b"9" * 5000)]}, asyncio.Event().wait)
    with pytest.raises(ValidationFailed, match="larger than"):
        await spool(inbound, space_in(tmp_path), bytes_max=9)


async def test_a_body_that_stands_still_is_refused(tmp_path: Path) -> None:
    async def receive() -> Any:
        return await asyncio.Event().wait()

    inbound = Inbound({"headers": []}, receive, idle_seconds_max=0.05)
    with pytest.raises(ValidationFailed, match="in time"):
        await spool(inbound, space_in(tmp_path), bytes_max=9)


async def test_a_client_that_leaves_in_mid_body_leaves_nothing(tmp_path: Path) -> None:
    messages = [{"type": "http.request", "body": b"x" * MIB, "more_body": True}]

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    space = space_in(tmp_path)
    with pytest.raises(ClientDisconnected):
        await spool(Inbound({"headers": []}, receive), space, bytes_max=2 * MIB)
    assert space.used_bytes == 0


async def test_a_large_body_does_not_hold_the_loop_up(tmp_path: Path) -> None:
    """Another task of the loop goes on while batches are hashed and written."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count())
    body = await spool(inbound_of(*[b"x" * MIB] * 32), space_in(tmp_path), bytes_max=32 * MIB)
    other.cancel()
    body.close()
    assert turns > 32


async def test_a_streaming_body_comes_piece_by_piece_and_is_bounded() -> None:
    body = StreamingBody(inbound_of(b"ab", b"", b"cd", declared=4), bytes_max=4)
    assert body.size_bytes == 4
    assert [chunk async for chunk in body.chunks()] == [b"ab", b"cd"]
    assert await body.read() == b""
    over = StreamingBody(inbound_of(b"ab", b"cd"), bytes_max=3)
    assert over.size_bytes is None
    with pytest.raises(ValidationFailed):
        await over.read()


async def test_closing_twice_gives_its_space_back_once(tmp_path: Path) -> None:
    space = space_in(tmp_path)
    body = await spool(inbound_of(b"x" * MIB), space, bytes_max=MIB)
    body.close()
    body.close()
    assert space.used_bytes == 0
