"""An agent's answer over HTTP: how it begins, how long it may take, how it may end."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from freehold.adapters.agents.http import HttpAgents
from freehold.kernel.body import BytesBody
from freehold.ports.agents import AgentBroke, AgentRequest

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def agents_before(
    serve: Serve, *, begin_seconds_max: float = 5, stream_seconds_max: float = 5
) -> AsyncIterator[HttpAgents]:
    """A client whose every sandbox is this server."""
    done: set[asyncio.Task[None]] = set()

    async def connect(_: str, __: int) -> socket.socket:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)

        async def talk() -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                await serve(reader, writer)
            finally:
                writer.close()

        task = asyncio.create_task(talk())
        done.add(task)
        ours.setblocking(False)
        return ours

    agents = HttpAgents(
        connect, begin_seconds_max=begin_seconds_max, stream_seconds_max=stream_seconds_max
    )
    await agents.open()
    try:
        yield agents
    finally:
        await agents.close()
        for task in done:
            task.cancel()
        await asyncio.gather(*done, return_exceptions=True)


def request() -> AgentRequest:
    return AgentRequest(
        sandbox_id="s-one", port=8080, path="/invocations", headers={}, body=BytesBody(b"{}")
    )


async def forever() -> None:
    await asyncio.Event().wait()


async def stream(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
    await writer.drain()
    await forever()


async def test_a_stream_that_goes_on_too_long_is_cut_and_says_so() -> None:
    async with agents_before(stream, stream_seconds_max=0.2) as agents:
        chunks = (await agents.send(request())).chunks()
        assert await anext(chunks) == b"first"
        with pytest.raises(AgentBroke, match=r"took longer than 0 s"):
            async with asyncio.timeout(5):
                await anext(chunks)


async def test_a_stream_that_breaks_off_says_so() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await writer.drain()

    async with agents_before(serve) as agents:
        chunks = (await agents.send(request())).chunks()
        with pytest.raises(AgentBroke, match="broke off in the middle"):
            async with asyncio.timeout(5):
                async for _ in chunks:
                    pass


async def test_an_agent_that_does_not_begin_in_time_is_given_up() -> None:
    async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await forever()

    async with agents_before(silent, begin_seconds_max=0.2) as agents:
        with pytest.raises(AgentBroke, match="did not begin its answer within"):
            async with asyncio.timeout(5):
                await agents.send(request())


async def test_garbage_is_called_garbage() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        await writer.drain()
        await forever()

    async with agents_before(serve) as agents:
        with pytest.raises(AgentBroke, match="not HTTP"):
            async with asyncio.timeout(5):
                await agents.send(request())


async def test_an_answer_that_was_read_gives_its_connection_back() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            await writer.drain()
            await reader.readuntil(b"\r\n\r\n")

    async with agents_before(serve) as agents:
        for _ in range(3):
            reply = await agents.send(request())
            assert await reply.read(100) == b"ok"
    assert connections == 1
