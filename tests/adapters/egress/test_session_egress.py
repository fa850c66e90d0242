"""What a session's connections may reach: its list, the operator's permission, and never some."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from freehold.adapters.egress import (
    Boundary,
    ForwardProxy,
    SessionRules,
    User,
    place,
    private_hosts,
)
from freehold.adapters.egress.addresses import denied, forbidden, of_this_machine
from freehold.adapters.egress.boundary import PrivateHost
from freehold.ports.egress import Destination, SessionEgress

BOUND_SECONDS = 10
OPEN = SessionEgress(reach="open")


class Names:
    """A name server that gives the next of its answers to whoever asks."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {name.replace("_", "."): list(each) for name, each in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        answers = self._answers.get(host)
        if not answers:
            raise OSError(-2, "Name or service not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Web:
    """A server on loopback that answers with what the test wants, and keeps what it got."""

    def __init__(self) -> None:
        self.port = 0
        self.received = b""
        self.connections = 0
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        self.closes = True

    async def accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError):
            self.received += await reader.read(65536)
            writer.write(self.answer)
            await writer.drain()
            if not self.closes:
                self.received += await reader.read()
        writer.close()


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    web = Web()
    server = await asyncio.start_server(web.accepted, "127.0.0.1", 0)
    web.port = server.sockets[0].getsockname()[1]
    yield web
    server.close()


class Session:
    """One agent's end of the proxy."""

    def __init__(self, proxy: ForwardProxy, egress: SessionEgress) -> None:
        self.refusals: list[str] = []
        self._proxy, self.user = proxy, User(SessionRules(egress), self.refusals.append)
        self._tasks: list[asyncio.Task[None]] = []

    async def connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        inside, outside = socket.socketpair()
        outside.setblocking(False)
        self._tasks.append(asyncio.create_task(self._proxy.take(outside, self.user)))
        return await asyncio.open_connection(sock=inside)

    async def ask(self, request: bytes) -> bytes:
        reader, writer = await self.connection()
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), BOUND_SECONDS)
        writer.close()
        return answer

    async def connect(self, target: str) -> int:
        """The status; a tunnel is closed again."""
        reader, writer = await self.connection()
        writer.write(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND_SECONDS)
        writer.close()
        return int(head.split()[1])

    async def close(self) -> None:
        await self.user.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)


Begin = Callable[..., Session]


@pytest.fixture
async def begin() -> AsyncIterator[Begin]:
    sessions: list[Session] = []

    def session(egress: SessionEgress, **options: Any) -> Session:
        sessions.append(Session(ForwardProxy(**options), egress))
        return sessions[-1]

    yield session
    for each in sessions:
        await each.close()


def hosts(*destinations: Destination) -> SessionEgress:
    return SessionEgress(reach="hosts", destinations=destinations)


def permitting(*hosts: str, **more: Any) -> Boundary:
    return Boundary(private=private_hosts(",".join(hosts)), **more)


# -- names and addresses


async def test_a_name_that_is_not_allowed_is_not_even_resolved(begin: Begin) -> None:
    """A question to a name server is a message to whoever owns the name."""
    names = Names()
    session = begin(hosts(Destination("good.test")), resolve=names)
    assert await session.connect("secret-data.evil.test:443") == 403
    assert names.asked == []


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fd00:ec2::254",
        "127.0.0.1", "::1", "10.0.0.1", "0.0.0.0", "::", "100.100.100.200", "168.63.129.16",
    ],
)  # fmt: skip
@pytest.mark.parametrize("egress", [OPEN, hosts(Destination("innocent.test"))], ids=["open", "one"])
async def test_a_name_that_leads_to_a_private_place_is_refused(
    begin: Begin, egress: SessionEgress, address: str
) -> None:
    names = Names(innocent_test=[[address]])
    assert await begin(egress, resolve=names).connect("innocent.test:443") == 403


async def test_one_private_address_among_public_ones_refuses_them_all(begin: Begin) -> None:
    names = Names(mixed_test=[["93.184.216.34", "10.0.0.1"]])
    assert await begin(OPEN, resolve=names).connect("mixed.test:443") == 403


async def test_a_second_answer_of_dns_plays_no_part(begin: Begin, web: Web) -> None:
    """The first answer passes the check; whoever asked again would get another machine."""
    names = Names(rebound_test=[["127.0.0.1"], ["127.0.0.9"]])
    session = begin(
        hosts(Destination("rebound.test", web.port)),
        resolve=names, boundary=permitting(f"127.0.0.1:{web.port}"),
    )  # fmt: skip
    assert await session.connect(f"rebound.test:{web.port}") == 200
    assert names.asked == ["rebound.test"]
    assert await session.connect(f"rebound.test:{web.port}") == 403


async def test_the_check_comes_again_with_every_connection(begin: Begin, web: Web) -> None:
    names = Names(turning_test=[["127.0.0.1"], ["169.254.169.254"]])
    session = begin(
        hosts(Destination("turning.test", web.port)), resolve=names,
        boundary=permitting("turning.test"),
    )  # fmt: skip
    assert await session.connect(f"turning.test:{web.port}") == 200
    assert await session.connect(f"turning.test:{web.port}") == 403


async def test_an_operator_cannot_permit_the_metadata_address(begin: Begin) -> None:
    boundary = permitting("169.254.0.0/16", "0.0.0.0/0", "::/0", "meta.test")
    names = Names(meta_test=[["169.254.169.254"]])
    session = begin(OPEN, boundary=boundary, resolve=names)
    assert await session.connect("meta.test:80") == 403
    assert "closed to all sandboxes" in session.refusals[-1]


async def test_the_platforms_own_ports_are_never_reached(begin: Begin, web: Web) -> None:
    destinations = hosts(Destination("localhost", web.port), Destination("127.0.0.2", web.port))
    for own in (
        {"own_ports": frozenset({web.port})},
        {"own_places": frozenset({place("127.0.0.1", web.port), place("127.0.0.2", web.port)})},
    ):
        session = begin(destinations, boundary=permitting("localhost", "127.0.0.0/8", **own))
        assert await session.connect(f"localhost:{web.port}") == 403
        assert await session.connect(f"127.0.0.2:{web.port}") == 403
        assert all("the platform itself" in words for words in session.refusals)
    assert web.connections == 0


async def test_a_public_address_of_this_machine_is_this_machine() -> None:
    assert of_this_machine("127.0.0.1")
    assert of_this_machine("::ffff:127.0.0.1")
    assert not of_this_machine("93.184.216.34")


async def test_both_the_tenant_and_the_operator_have_to_allow_a_private_host(
    begin: Begin, web: Web
) -> None:
    names = Names(intranet_test=[["127.0.0.1"]])
    target = f"intranet.test:{web.port}"
    tenant, operator = hosts(Destination("intranet.test", web.port)), permitting(target)
    assert await begin(tenant, resolve=names).connect(target) == 403
    assert await begin(OPEN, resolve=names, boundary=operator).connect(target) == 403
    assert await begin(tenant, resolve=names, boundary=operator).connect(target) == 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("intranet.test", (PrivateHost("intranet.test", None, None),)),
        (" .corp.test:8443 ,", (PrivateHost("*.corp.test", None, 8443),)),
        ("10.1.0.0/16", (PrivateHost("", ip_network("10.1.0.0/16"), None),)),
        ("10.1.2.3:80", (PrivateHost("", ip_network("10.1.2.3/32"), 80),)),
        ("[fd12::1]:80", (PrivateHost("", ip_network("fd12::1/128"), 80),)),
        ("fd12::/64", (PrivateHost("", ip_network("fd12::/64"), None),)),
    ],
)
def test_what_an_operator_permits_is_read(text: str, expected: tuple[PrivateHost, ...]) -> None:
    assert private_hosts(text) == expected


@pytest.mark.parametrize(
    "text", ["host:0", "host:x", "*.corp.test", "a b", "10.0.0.1/8", "..", ":"]
)
def test_what_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected"):
        private_hosts(text)


@pytest.mark.parametrize("address", ["169.254.1.1", "fe80::1", "fd00:ec2::254", "224.0.0.1"])
def test_what_is_forbidden(address: str) -> None:
    assert forbidden(address)


def test_an_ordinary_private_address_can_be_permitted() -> None:
    assert denied("10.0.0.1")
    assert not forbidden("10.0.0.1")


# -- plain http


def to(web: Web, **more: Any) -> dict[str, Any]:
    return {
        "egress": hosts(Destination("localhost", web.port)),
        "boundary": permitting(f"localhost:{web.port}"),
        **more,
    }


def post(web: Web, head: str = "", body: bytes = b"") -> bytes:
    return f"POST http://localhost:{web.port}/x HTTP/1.1\r\n{head}\r\n".encode() + body


async def test_a_request_is_written_anew_with_its_body_and_no_more(begin: Begin, web: Web) -> None:
    request = post(
        web,
        "Host: other.test\r\nX-Mine: 1\r\nConnection: x-hop, content-length\r\nX-Hop: 1\r\n"
        "Upgrade: websocket\r\nContent-Length: 3\r\n",
        b"abcGET / HTTP/1.1\r\n\r\n",
    )
    answer = await begin(**to(web)).ask(request)
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    assert (
        web.received
        == (
            f"POST /x HTTP/1.1\r\nHost: localhost:{web.port}\r\nX-Mine: 1\r\nContent-Length: 3\r\n"
            "Connection: close\r\n\r\nabc"
        ).encode()
    )


async def test_a_server_that_keeps_its_connection_open_does_not_keep_the_client(
    begin: Begin, web: Web
) -> None:
    web.closes = False
    assert (await begin(**to(web)).ask(post(web))).endswith(b"ok")


async def test_interim_answers_pass(begin: Begin, web: Web) -> None:
    web.answer = b"HTTP/1.1 100 Continue\r\n\r\n" + web.answer
    answer = await begin(**to(web)).ask(post(web))
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nab",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
    ],
)
async def test_an_answer_that_is_not_http_is_a_502(begin: Begin, web: Web, answer: bytes) -> None:
    web.answer = answer
    assert (await begin(**to(web)).ask(post(web))).startswith(b"HTTP/1.1 502 ")


async def test_who_is_refused_in_the_middle_of_a_large_body_still_learns_why(
    begin: Begin,
) -> None:
    head = b"POST http://evil.test/ HTTP/1.1\r\nContent-Length: 8000000\r\n\r\n"
    answer = await begin(OPEN, resolve=Names()).ask(head + b"x" * 8_000_000)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"evil.test" in answer


# -- whose connections they are


async def test_the_end_of_a_session_cuts_its_connections_and_no_others(
    begin: Begin, web: Web
) -> None:
    web.answer, web.closes = b"", False
    proxy = ForwardProxy(boundary=permitting("localhost"))
    sessions = [Session(proxy, hosts(Destination("localhost", web.port))) for _ in range(2)]
    tunnels = []
    for session in sessions:
        reader, writer = await session.connection()
        writer.write(f"CONNECT localhost:{web.port} HTTP/1.1\r\n\r\nhello".encode())
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND_SECONDS)
        tunnels.append((reader, writer))
    await sessions[0].user.cut()
    assert await asyncio.wait_for(tunnels[0][0].read(), BOUND_SECONDS) == b""
    reading = asyncio.create_task(tunnels[1][0].read())
    done, _ = await asyncio.wait([reading], timeout=0.2)
    assert not done
    await sessions[1].close()
    await asyncio.wait_for(reading, BOUND_SECONDS)
    for _, writer in tunnels:
        writer.close()


async def test_one_session_cannot_use_up_the_connections_of_another(begin: Begin, web: Web) -> None:
    web.closes = False
    proxy = ForwardProxy(boundary=permitting("localhost"), connections_max=2)
    greedy, other = (Session(proxy, hosts(Destination("localhost", web.port))) for _ in range(2))
    held = [await greedy.connection() for _ in range(2)]
    for reader, writer in held:
        writer.write(f"CONNECT localhost:{web.port} HTTP/1.1\r\n\r\n".encode())
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND_SECONDS)
    assert await greedy.connect(f"localhost:{web.port}") == 503
    assert await other.connect(f"localhost:{web.port}") == 200
    for _, writer in held:
        writer.close()
    await greedy.close()
    await other.close()
    assert greedy.user.totals.refused == 1


async def test_a_flood_of_one_session_leaves_room_for_another(web: Web) -> None:
    """Connections that are too many are told so, and then they wait for the client to go."""
    options: dict[str, Any] = {"connections_max": 2, "connections_max_all": 4}
    proxy = ForwardProxy(boundary=permitting("localhost"), **options)
    greedy, other = (Session(proxy, hosts(Destination("localhost", web.port))) for _ in range(2))
    flood = [await greedy.connection() for _ in range(12)]
    await asyncio.wait_for(flood[3][0].read(), BOUND_SECONDS)  # it was told
    assert await other.connect(f"localhost:{web.port}") == 200
    assert len(greedy.user.running) <= 4
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(flood[11][0].read(), BOUND_SECONDS) == b""
    for _, writer in flood:
        writer.close()
    await greedy.close()
    await other.close()


async def test_names_that_take_forever_hold_up_only_the_session_that_asks(begin: Begin) -> None:
    asked: list[str] = []
    answer = asyncio.Event()

    async def resolve(host: str) -> list[str]:
        asked.append(host)
        await answer.wait()
        raise OSError(-2, "Name or service not known")

    session = begin(OPEN, resolve=resolve, connect_seconds_max=0.05)
    for number in range(6):
        assert await session.connect(f"slow{number}.example:443") == 504
    assert len(asked) == 4  # those go on after their callers have gone
    answer.set()
    while session.user.resolving.locked():
        await asyncio.sleep(0)
    assert await session.connect("gone.example:443") == 502


# -- programs that others wrote


async def program(*command: str, proxy: int) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1",
             "https_proxy": f"http://127.0.0.1:{proxy}", "http_proxy": f"http://127.0.0.1:{proxy}"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), BOUND_SECONDS)
    assert process.returncode is not None
    return process.returncode, out.decode()


@pytest.fixture
async def listening(web: Web) -> AsyncIterator[int]:
    """A port where a session's rules hold, for programs that take no descriptor."""
    proxy = ForwardProxy(boundary=permitting("localhost"))
    user = User(SessionRules(hosts(Destination("localhost", web.port))), lambda _: None)
    tasks: set[asyncio.Task[None]] = set()

    async def accepting() -> None:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            tasks.add(asyncio.create_task(proxy.take(connection, user)))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        accepts = asyncio.create_task(accepting())
        yield listener.getsockname()[1]
        accepts.cancel()
        await user.cut()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_curl_passes_and_is_told_why_not(web: Web, listening: int) -> None:
    if not Path("/usr/bin/curl").exists():
        pytest.skip("no curl")
    url = f"http://localhost:{web.port}/"
    assert await program("curl", "-sS", url, proxy=listening) == (0, "ok")
    assert await program("curl", "-sSp", url, proxy=listening) == (0, "ok")
    _, said = await program("curl", "-sS", "http://evil.test/", proxy=listening)
    assert "evil.test:80 is not allowed" in said
    code, said = await program("curl", "-sS", "https://evil.test/", proxy=listening)
    assert code != 0
    assert "403" in said


async def test_git_passes_and_is_told_why_not(web: Web, listening: int) -> None:
    if not Path("/usr/bin/git").exists():
        pytest.skip("no git")
    web.answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    url = f"http://localhost:{web.port}/repository"
    _, said = await program("git", "ls-remote", url, proxy=listening)
    assert "not found" in said
    assert b"GET /repository/info/refs" in web.received
    _, said = await program("git", "ls-remote", "https://evil.test/x", proxy=listening)
    assert "403" in said
