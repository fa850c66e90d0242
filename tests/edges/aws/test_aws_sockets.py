"""A WebSocket's opening handshake on the governed path, byte by byte, over a real connection."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aws_edge_driver import CREDENTIALS, REGION, RUNTIME_ARN, make_edge
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from hypothesis import given
from hypothesis import strategies as st

from freehold.edges.serving import HttpServer
from freehold.kernel.errors import RuntimeClientFailed
from freehold.kernel.sockets import ClientSocket
from freehold.services.runtime.splice import FrameBounds, close_frame

WEBSOCKET = "bedrock-agentcore:InvokeAgentRuntimeWithWebSocketStream"
PATH = f"/runtimes/{RUNTIME_ARN.replace(':', '%3A').replace('/', '%2F')}/ws"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = (
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", KEY),
)
SESSION = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
SECONDS_MAX = 120


class Echo:
    """A conversation that says back what it hears, and notes what it was asked."""

    def __init__(self) -> None:
        self.headers: Mapping[str, str] = {"Sec-WebSocket-Accept": "x", "X-Own": "yes"}
        self.asked: list[dict[str, Any]] = []
        self.seen: list[Mapping[str, str]] = []
        self.closed = 0
        self.left = asyncio.Event()

    async def open(self, request: Any, params: dict[str, Any]) -> "Echo":
        self.asked.append(params)
        self.seen.append(request.headers)
        if params["qualifier"] == "broken":
            raise RuntimeClientFailed("the agent is broken")
        if params["qualifier"] == "slow":
            await asyncio.sleep(0.3)
        return self

    async def run(self, client: ClientSocket) -> None:
        leaving = asyncio.create_task(client.leaving.wait())
        while True:
            reading = asyncio.create_task(client.reader.read(65536))
            await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                self.left.set()
                client.writer.write(b"leaving")
            data = reading.result() if reading.done() else b""
            if not data:
                reading.cancel()
                leaving.cancel()
                client.writer.close()
                return
            client.writer.write(data)

    async def close(self) -> None:
        self.closed += 1


class Ground:
    def __init__(self, echo: Echo, server: HttpServer, port: int) -> None:
        self.echo, self.server, self.port = echo, server, port

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            async with asyncio.timeout(SECONDS_MAX):
                yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def asked(self, request: bytes) -> tuple[int, str]:
        """Status and the whole answer, of a server that closes after it."""
        async with self.connected() as (reader, writer):
            writer.write(request)
            answer = (await reader.read()).decode()
        return int(answer.split()[1]), answer


@pytest.fixture
async def ground(tmp_path: Any) -> AsyncIterator[Ground]:
    echo = Echo()
    edge = make_edge({}, tmp_path, sockets={WEBSOCKET: echo.open})
    server = HttpServer(edge, drain_seconds_max=2)
    listening = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve(listening))
    await asyncio.sleep(0)
    yield Ground(echo, server, listening.getsockname()[1])
    server.stop()
    await asyncio.wait_for(serving, SECONDS_MAX)


def handshake(
    query: str = "", *, host: str = "edge.test:8400", more: Any = (), headers: Any = HANDSHAKE
) -> bytes:
    """Signed as the SDK signs it: the host with its port."""
    path = PATH + (f"?{query}" if query else "")
    request = AWSRequest(method="GET", url=f"http://{host}{path}", headers={"host": host})
    SigV4Auth(CREDENTIALS, "bedrock-agentcore", REGION).add_auth(request)
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}"]
    signed = [(n, v) for n, v in request.headers.items() if n.lower() != "host"]
    lines += [f"{name}: {value}" for name, value in (*signed, *headers, *more)]
    return "\r\n".join([*lines, "", ""]).encode()


async def test_after_the_answer_the_connection_is_bytes(ground: Ground) -> None:
    async with ground.connected() as (reader, writer):
        writer.write(handshake("qualifier=one&shellId=s", more=[(SESSION, "s" * 40)]))
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
        assert "X-Own: yes" in head
        writer.write(b"\x00\xffnot a frame at all")
        assert await reader.readexactly(20) == b"\x00\xffnot a frame at all"
    asked = ground.echo.asked[0]
    assert (asked["agentRuntimeArn"], asked["qualifier"]) == (RUNTIME_ARN, "one")
    assert asked["runtimeSessionId"] == "s" * 40


@pytest.mark.parametrize("together", [True, False])
async def test_what_comes_before_the_answer_is_not_lost(ground: Ground, together: bool) -> None:
    early = b"early" * 30_000  # more than is kept in memory without the client being slowed
    async with ground.connected() as (reader, writer):
        writer.write(handshake("qualifier=slow") + (early if together else b""))
        if not together:
            await writer.drain()
            writer.write(early)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(len(early)) == early


async def test_headers_that_the_sdk_repeats_count_once_and_the_first_key_wins(
    ground: Ground,
) -> None:
    again = [("Host", "edge.test:8400"), *HANDSHAKE[:3], ("Sec-WebSocket-Key", "A" * 22 + "==")]
    async with ground.connected() as (reader, writer):
        writer.write(handshake(more=again))
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    assert ground.echo.seen[0]["sec-websocket-key"] == KEY


async def test_a_presigned_url_holds_for_its_host_with_and_without_the_port(
    ground: Ground,
) -> None:
    for signed_host in ("edge.test", "edge.test:8400"):
        request = AWSRequest(
            method="GET", url=f"http://edge.test:8400{PATH}?{SESSION}={'s' * 40}",
            headers={"host": signed_host},
        )  # fmt: skip
        SigV4QueryAuth(CREDENTIALS, "bedrock-agentcore", REGION, expires=60).add_auth(request)
        target = request.url.removeprefix("http://edge.test:8400")
        lines = [f"GET {target} HTTP/1.1", "Host: edge.test:8400"]
        lines += [f"{name}: {value}" for name, value in HANDSHAKE]
        async with ground.connected() as (reader, writer):
            writer.write("\r\n".join([*lines, "", ""]).encode())
            assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    assert ground.echo.asked[0]["runtimeSessionId"] == "s" * 40


async def test_signed_headers_hold_for_their_host_alone(ground: Ground) -> None:
    request = handshake(host="edge.test").replace(b"Host: edge.test", b"Host: edge.test:8400")
    assert (await ground.asked(request))[0] == 403


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"more": [("Host", "other.test")]}, 400, "two different hosts"),
        ({"headers": HANDSHAKE[:3]}, 400, "Sec-WebSocket-Key"),
        ({"headers": [*HANDSHAKE[:2], HANDSHAKE[3]]}, 400, "Sec-WebSocket-Version"),
        ({"more": [(SESSION, "short")]}, 400, "33 to 256"),
        ({"query": "qualifier=a&qualifier=b"}, 400, "once only"),
        ({"query": "qualifier=%ff"}, 400, "UTF-8"),
        ({"query": "qualifier=broken"}, 424, "the agent is broken"),
    ],
)
async def test_what_is_refused_is_an_answer_in_awss_shape_and_the_connection_ends(
    ground: Ground, asked: dict[str, Any], status: int, words: str
) -> None:
    got, answer = await ground.asked(handshake(**asked))
    assert (got, words in answer) == (status, True), answer
    assert "x-amzn-errortype" in answer
    assert "connection: close" in answer.lower()


async def test_the_path_without_a_wish_to_upgrade_is_no_operation(ground: Ground) -> None:
    request = handshake(headers=[("Connection", "close")])
    assert (await ground.asked(request))[0] == 404


async def test_another_upgrade_is_an_ordinary_request(ground: Ground) -> None:
    request = handshake(headers=[("Connection", "Upgrade, close"), ("Upgrade", "h2c")])
    assert (await ground.asked(request))[0] == 404


async def test_a_client_that_goes_before_the_answer_leaves_nothing_open(ground: Ground) -> None:
    async with ground.connected() as (_, writer):
        writer.write(handshake("qualifier=slow"))
        await writer.drain()
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    assert len(ground.echo.asked) == 1
    async with ground.connected() as (reader, writer):
        writer.write(handshake())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")


async def test_a_server_that_stops_tells_the_conversation_and_waits_for_it(
    ground: Ground,
) -> None:
    async with ground.connected() as (reader, writer):
        writer.write(handshake())
        await reader.readuntil(b"\r\n\r\n")
        ground.server.stop()
        assert await reader.read() == b"leaving"
    assert ground.echo.left.is_set()


def frame_of(payload: int, *, masked: bool, opcode: int, fin: bool) -> bytes:
    length = (
        bytes((payload,))
        if payload < 126
        else b"\x7e" + payload.to_bytes(2)
        if payload < 65536
        else b"\x7f" + payload.to_bytes(8)
    )
    first = bytes((length[0] | (0x80 if masked else 0),))
    mask = b"mask" if masked else b""
    return bytes(((0x80 if fin else 0) | opcode,)) + first + length[1:] + mask + b"\x88" * payload


@given(
    frames=st.lists(
        st.builds(
            frame_of,
            st.sampled_from([0, 1, 125, 126, 127, 65535, 65536, 70000]),
            masked=st.booleans(),
            opcode=st.sampled_from([0, 1, 2, 9, 10]),
            fin=st.booleans(),
        ),
        max_size=5,
    ),
    cuts=st.lists(st.integers(0, 200_000), max_size=8),
)
def test_the_bounds_of_frames_are_known_however_they_are_cut(
    frames: list[bytes], cuts: list[int]
) -> None:
    data, ends = b"".join(frames), {0}
    for frame in frames:
        ends.add(max(ends) + len(frame))
    bounds, before = FrameBounds(), 0
    for cut in [*sorted(cut for cut in cuts if cut < len(data)), len(data)]:
        bounds.feed(data[before:cut])
        before = cut
        assert bounds.whole == (cut in ends)
    assert not bounds.closed
    bounds.feed(close_frame(1000, "x"))
    assert (bounds.whole, bounds.closed) == (True, True)


def test_a_close_frame_holds_what_fits_in_whole_characters() -> None:
    frame = close_frame(1001, "ä" * 100)
    assert frame[:4] == bytes((0x88, 124)) + (1001).to_bytes(2)
    assert frame[4:].decode() == "ä" * 61
