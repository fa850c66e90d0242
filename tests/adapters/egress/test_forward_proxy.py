"""The way out of a sandbox: what passes, what does not, and how it is told."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from freehold.adapters.egress import ForwardProxy
from freehold.adapters.egress.addresses import denied
from freehold.ports.egress import Destination

BOUND_SECONDS = 10

Exchange = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def listening() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    listener.setblocking(False)
    return listener


class Upstream:
    """A server on loopback that answers as it is told and counts who came."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.received = b""
        self.exchange: Exchange = self.echo

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            self.received += chunk
            writer.write(chunk)
            await writer.drain()

    async def answer_http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.received += await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
        await writer.drain()

    async def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError):
            await self.exchange(reader, writer)
        writer.close()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.accepted, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    yield upstream
    server.close()


class Served:
    def __init__(self, port: int, refusals: list[str]) -> None:
        self.port = port
        self.refusals = refusals

    async def ask(self, request: bytes) -> bytes:
        """Everything that comes back, to the end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), BOUND_SECONDS)
        writer.close()
        return answer

    async def tunnel(self, target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND_SECONDS)
        assert head.startswith(b"HTTP/1.1 200 "), head
        return reader, writer


@contextlib.asynccontextmanager
async def served(*allowed: Destination, **limits: Any) -> AsyncIterator[Served]:
    refusals: list[str] = []
    with listening() as listener:
        async with ForwardProxy(**limits).serve(
            listener, frozenset(allowed), refused=refusals.append
        ):
            yield Served(listener.getsockname()[1], refusals)


def here(upstream: Upstream, host: str = "localhost") -> Destination:
    return Destination(host, upstream.port, private=True)


async def test_an_allowed_destination_is_reached_and_bytes_pass_both_ways(
    upstream: Upstream,
) -> None:
    async with served(here(upstream)) as proxy:
        reader, writer = await proxy.tunnel(f"LocalHost.:{upstream.port}")
        payload = bytes(range(256)) * 8192
        writer.write(payload)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), BOUND_SECONDS) == payload
        writer.close()
    assert proxy.refusals == []


@pytest.mark.parametrize(
    "target",
    ["other.example:443", "127.0.0.1:{port}", "localhost:1", "sub.localhost:{port}"],
)
async def test_anything_that_is_not_on_the_list_is_refused_and_never_connected_to(
    upstream: Upstream, target: str
) -> None:
    name = target.format(port=upstream.port)
    async with served(here(upstream)) as proxy:
        answer = await proxy.ask(f"CONNECT {name} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert proxy.refusals == [f"egress to {name} is not allowed"]
    assert upstream.connections == 0


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
async def test_a_name_that_leads_into_a_private_network_is_refused_unless_an_operator_says_so(
    upstream: Upstream, host: str
) -> None:
    target = f"[{host}]:{upstream.port}" if ":" in host else f"{host}:{upstream.port}"
    async with served(Destination(host, upstream.port)) as proxy:
        answer = await proxy.ask(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"private network" in answer
    assert upstream.connections == 0


async def test_a_wildcard_allows_names_below_it_and_not_the_name_itself() -> None:
    async with served(Destination("*.localhost", 9)) as proxy:
        below = await proxy.ask(b"CONNECT a.b.localhost:9 HTTP/1.1\r\n\r\n")
        itself = await proxy.ask(b"CONNECT localhost:9 HTTP/1.1\r\n\r\n")
        beside = await proxy.ask(b"CONNECT evillocalhost:9 HTTP/1.1\r\n\r\n")
    assert b"not allowed" not in below
    assert b"not allowed" in itself
    assert b"not allowed" in beside


async def test_plain_http_passes_with_the_headers_of_the_hop_taken_off(upstream: Upstream) -> None:
    upstream.exchange = upstream.answer_http
    async with served(here(upstream)) as proxy:
        answer = await proxy.ask(
            f"GET http://localhost:{upstream.port}/simple/x/?q=1 HTTP/1.1\r\n"
            "Host: elsewhere.example\r\nAccept: */*\r\nProxy-Authorization: Basic eA==\r\n"
            "Connection: keep-alive\r\n\r\n".encode()
        )
    assert answer.endswith(b"\r\n\r\nhello")
    assert (
        upstream.received
        == (
            f"GET /simple/x/?q=1 HTTP/1.1\r\nHost: localhost:{upstream.port}\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n"
        ).encode()
    )


async def test_a_second_request_on_the_same_connection_goes_nowhere(upstream: Upstream) -> None:
    upstream.exchange = upstream.answer_http
    async with served(here(upstream)) as proxy:
        request = f"GET http://localhost:{upstream.port}/ HTTP/1.1\r\n\r\n".encode()
        await proxy.ask(request + b"GET http://other.example/ HTTP/1.1\r\n\r\n")
    assert b"other.example" not in upstream.received
    assert upstream.connections == 1


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST http://localhost:9/ HTTP/1.1\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET ftp://localhost/ HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT localhost HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT localhost:99999 HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT user@localhost:9 HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT localhost:9/x HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT loc\xc3\xa4lhost:9 HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT :9 HTTP/1.1\r\n\r\n", 400),
        (b"GET http://u:p@localhost:9/ HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\r\n\r\n", 400),
        (b"GET http://localhost:9/ HTTP/1.1\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 400),
    ],
)
async def test_what_is_no_request_to_a_proxy_gets_a_4xx(request_bytes: bytes, status: int) -> None:
    async with served(Destination("localhost", 9, private=True)) as proxy:
        answer = await proxy.ask(request_bytes)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer


async def test_a_destination_that_does_not_listen_is_a_502() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with served(Destination("127.0.0.1", port, private=True)) as proxy:
            answer = await proxy.ask(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 502 ")


async def test_connections_above_the_limit_are_refused_and_the_others_live_on(
    upstream: Upstream,
) -> None:
    async with served(here(upstream), connections_max=2) as proxy:
        tunnels = [await proxy.tunnel(f"localhost:{upstream.port}") for _ in range(2)]
        answer = await proxy.ask(f"CONNECT localhost:{upstream.port} HTTP/1.1\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 503 ")
        for reader, writer in tunnels:
            writer.write(b"ping")
            assert await asyncio.wait_for(reader.readexactly(4), BOUND_SECONDS) == b"ping"
            writer.close()


async def test_a_client_that_says_nothing_is_let_go(upstream: Upstream) -> None:
    async with served(here(upstream), head_seconds_max=0.1) as proxy:
        assert await proxy.ask(b"CONNECT loc") == b""


async def test_an_idle_tunnel_is_cut_and_a_busy_one_is_not(upstream: Upstream) -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _drop in range(8):
            writer.write(b".")
            await asyncio.sleep(0.1)
        await asyncio.Event().wait()

    upstream.exchange = drip
    async with served(here(upstream), idle_seconds_max=0.4) as proxy:
        reader, writer = await proxy.tunnel(f"localhost:{upstream.port}")
        # One direction alone is busy, for twice the limit; then neither is.
        assert await asyncio.wait_for(reader.read(), BOUND_SECONDS) == b"........"
        writer.close()


async def test_the_end_of_serving_cuts_connections_and_leaves_the_listener(
    upstream: Upstream,
) -> None:
    with listening() as listener:
        allowed = frozenset({here(upstream)})
        port = listener.getsockname()[1]
        async with ForwardProxy().serve(listener, allowed, refused=lambda _: None):
            reader, writer = await Served(port, []).tunnel(f"localhost:{upstream.port}")
        assert await asyncio.wait_for(reader.read(), BOUND_SECONDS) == b""
        writer.close()
        async with ForwardProxy().serve(listener, allowed, refused=lambda _: None):
            _, writer = await Served(port, []).tunnel(f"localhost:{upstream.port}")
            writer.close()


async def test_it_serves_a_unix_socket_too(upstream: Upstream, tmp_path: Path) -> None:
    path = str(tmp_path / "proxy")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        allowed = frozenset({here(upstream)})
        async with ForwardProxy().serve(listener, allowed, refused=lambda _: None):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(f"CONNECT localhost:{upstream.port} HTTP/1.1\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND_SECONDS)
            assert head.startswith(b"HTTP/1.1 200 ")
            writer.close()


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.9.9.9",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.1.1.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
    ],
)
def test_addresses_that_are_not_the_public_internet_are_denied(address: str) -> None:
    assert denied(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "172.32.0.1", "192.169.0.1", "2606:4700::1111", "::ffff:1.1.1.1"]
)
def test_public_addresses_are_not_denied(address: str) -> None:
    assert not denied(address)
