"""Answers that stream, bodies that stream, and what an error says of how far a request came."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from freehold.ports.web import Unreachable


@contextlib.asynccontextmanager
async def asking(*listed: str, per_host_max: int = 16) -> AsyncIterator[CheckedWeb]:
    destinations = Destinations(
        denied=denied, forbidden=forbidden, listed=frozenset(listed), setting="SETTING"
    )
    client = CheckedWeb(destinations, per_host_max=per_host_max)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


class Upstream:
    """Sends what a test puts into `pieces`, one at a time; None ends it, "cut" breaks it off."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes | str | None] = asyncio.Queue()
        self.gone, self.begun = asyncio.Event(), asyncio.Event()
        self.received: list[bytes] = []
        self.peers: list[int] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.peers.append(request.transport.get_extra_info("peername")[1])
        self.received.append(await request.read())
        self.begun.set()
        if request.path == "/never":
            try:
                await asyncio.Event().wait()
            finally:
                self.gone.set()
        if request.path == "/reset":
            request.transport.abort()
            return web.Response()
        response = web.StreamResponse(headers={"X-Two": "1"})
        if request.path == "/gzip":
            response.headers["Content-Encoding"] = "gzip"
        response.headers.add("X-Two", "2")
        await response.prepare(request)
        try:
            while (piece := await self.pieces.get()) is not None:
                if isinstance(piece, str):
                    request.transport.abort()
                    return response
                await response.write(piece)
        finally:
            self.gone.set()
        return response


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    server = Upstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


async def test_a_piece_arrives_before_the_next_is_sent(upstream: Upstream) -> None:
    async with asking("127.0.0.1") as client, asyncio.timeout(5):
        stream = await client.open("POST", upstream.url, body=b"{}")
        assert (stream.status, stream.headers["x-two"]) == (200, "1, 2")
        chunks = stream.chunks()
        for piece in (b"one", b"two"):
            upstream.pieces.put_nowait(piece)
            assert await anext(chunks) == piece
        upstream.pieces.put_nowait(None)
        assert [chunk async for chunk in chunks] == []
        upstream.pieces.put_nowait(None)
        assert (await client.ask("GET", upstream.url)).body == b""
    assert len(set(upstream.peers)) == 1, "a stream read to its end gives its connection back"


async def test_whoever_answers_notices_that_a_stream_was_closed(upstream: Upstream) -> None:
    async with asking("127.0.0.1") as client, asyncio.timeout(5):
        stream = await client.open("GET", upstream.url)
        stream.close()
        await upstream.gone.wait()


async def test_whoever_answers_notices_that_the_asker_was_cancelled(upstream: Upstream) -> None:
    async with asking("127.0.0.1") as client, asyncio.timeout(5):
        task = asyncio.create_task(client.open("GET", f"{upstream.url}/never"))
        await upstream.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await upstream.gone.wait()


async def test_a_body_is_sent_while_it_is_being_made(upstream: Upstream) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"first,"
        yield b"second"

    async with asking("127.0.0.1") as client, asyncio.timeout(5):
        upstream.pieces.put_nowait(None)
        stream = await client.open("PUT", upstream.url, body=body())
        assert await stream.read(100) == b""
    assert upstream.received == [b"first,second"]


async def test_a_stream_that_is_cut_or_silent_or_too_long_says_so(upstream: Upstream) -> None:
    async with asking("127.0.0.1") as client, asyncio.timeout(5):
        upstream.pieces.put_nowait("cut")
        stream = await client.open("GET", upstream.url)
        with pytest.raises(Unreachable, match="broke off") as cut:
            await stream.read(100)
        assert (cut.value.sent, cut.value.timed_out) == (True, False)

        upstream.gone.clear()
        stream = await client.open("GET", upstream.url, idle_seconds_max=0.05)
        with pytest.raises(Unreachable, match=r"0\.05 seconds") as silent:
            await stream.read(100)
        stream.close()
        assert (silent.value.sent, silent.value.timed_out) == (True, True)

        await upstream.gone.wait()
        for _ in range(3):
            upstream.pieces.put_nowait(b"x" * 60)
        stream = await client.open("GET", upstream.url)
        with pytest.raises(Unreachable, match="more than 100 bytes"):
            await stream.read(100)
        stream.close()


async def test_an_error_knows_whether_the_request_had_left(upstream: Upstream) -> None:
    async with asking("127.0.0.1", per_host_max=1) as client, asyncio.timeout(10):
        with pytest.raises(Unreachable) as refused:
            await client.ask("POST", "http://127.0.0.2/")
        assert not refused.value.sent

        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            with pytest.raises(Unreachable) as unconnected:
                await client.ask("POST", f"http://127.0.0.1:{closed.getsockname()[1]}/")
        assert not unconnected.value.sent and not unconnected.value.timed_out

        with pytest.raises(Unreachable, match="without an answer") as reset:
            await client.ask("POST", f"{upstream.url}/reset", body=b"x")
        assert reset.value.sent and not reset.value.timed_out

        with pytest.raises(Unreachable) as late:
            await client.ask("POST", f"{upstream.url}/never", body=b"x", seconds_max=0.1)
        assert late.value.sent and late.value.timed_out

        holder = await client.open("GET", upstream.url)
        with pytest.raises(Unreachable) as queued:
            await client.ask("POST", upstream.url, body=b"x", seconds_max=0.05)
        assert queued.value.timed_out and not queued.value.sent, "it only waited for its turn"
        holder.close()


async def test_what_is_compressed_is_handed_on_only_to_whoever_asked(upstream: Upstream) -> None:
    async with asking("127.0.0.1") as client, asyncio.timeout(5):
        with pytest.raises(Unreachable, match="compresses"):
            await client.open("GET", f"{upstream.url}/gzip")
        await upstream.gone.wait()
        stream = await client.open(
            "GET", f"{upstream.url}/gzip", headers={"Accept-Encoding": "gzip"}
        )
        upstream.pieces.put_nowait(b"\x1f\x8b")
        upstream.pieces.put_nowait(None)
        assert await stream.read(10) == b"\x1f\x8b"


def test_what_is_known_of_an_address_is_judged_again_before_long() -> None:
    ours: set[str] = set()
    clock = [0.0]
    destinations = Destinations(
        denied=lambda address: address in ours,
        forbidden=lambda _: False,
        listed=frozenset(),
        setting="SETTING",
        now=lambda: clock[0],
    )
    assert destinations.checked("https://192.0.2.1/") is destinations.checked("https://192.0.2.1/")
    ours.add("192.0.2.1")
    clock[0] = 6
    with pytest.raises(Unreachable, match="SETTING"):
        destinations.checked("https://192.0.2.1/")
