"""How gVisor's kernel is asked: what it answers may be hostile."""

import asyncio
import contextlib
import json
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from freehold.adapters.sandbox.gvisor.control import Control


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for a socket's path."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@contextlib.asynccontextmanager
async def answering(folder: Path, *parts: bytes) -> AsyncIterator[list[bytes]]:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.read(1000))
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_unix_server(serve, folder / "runsc-box.sock")
    async with server:
        yield asked


async def test_a_signal_is_asked_for_by_number(folder: Path) -> None:
    async with answering(folder, b'{"success":tr', b'ue,"err":"","result":{}}') as asked:
        await Control(str(folder), "box").signal(signal.SIGTERM)
    question = json.loads(asked[0])
    assert question["method"] == "containerManager.Signal"
    assert (question["arg"]["CID"], question["arg"]["Signo"]) == ("box", 15)


async def test_a_refusal_says_why(folder: Path) -> None:
    async with answering(folder, b'{"success":false,"err":"no such container"}'):
        with pytest.raises(ConnectionError, match="no such container"):
            await Control(str(folder), "box").pause()


@pytest.mark.parametrize("answer", [b"", b"[1]", b"x" * 200_000, b'{"success":', b'"a"'])
async def test_what_is_no_answer_is_an_error(folder: Path, answer: bytes) -> None:
    async with answering(folder, answer):
        with pytest.raises(ConnectionError):
            await Control(str(folder), "box").resume()


async def test_a_link_in_place_of_the_socket_is_not_followed(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    async with answering(elsewhere, b'{"success":true}') as asked:
        (folder / "runsc-box.sock").symlink_to(elsewhere / "runsc-box.sock")
        with pytest.raises(ConnectionError):
            await Control(str(folder), "box").pause()
        linked = folder / "linked"
        linked.symlink_to(elsewhere)
        with pytest.raises(ConnectionError):
            await Control(str(linked), "box").pause()
    assert asked == []


async def test_a_sandbox_that_is_gone_is_an_error(folder: Path) -> None:
    with pytest.raises(ConnectionError):
        await Control(str(folder), "box").pause()
