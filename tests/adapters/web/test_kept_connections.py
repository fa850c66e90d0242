"""POSTs over connections that are kept already go a shorter way, and nobody can tell them apart."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
import pytest

from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from freehold.ports.web import Unreachable

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Two: 1\r\nX-Two: 2\r\n\r\nok"
SECRET = "sEcReT-of-the-request"


class Server:
    """Answers each request of each connection with the next of `answers`, byte for byte, GOOD when
    there is none; "never" answers nothing."""

    def __init__(self) -> None:
        self.answers: list[bytes | str] = []
        self.requests: list[bytes] = []
        self.came, self.gone = asyncio.Event(), asyncio.Event()
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
                self.requests.append(head + await reader.readexactly(length))
                self.came.set()
                answer = self.answers.pop(0) if self.answers else GOOD
                if answer == "never":
                    await reader.read()
                    return
                assert isinstance(answer, bytes)
                writer.write(answer)
                await writer.drain()
                if b"Connection: close" in answer:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.gone.set()
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    serving = Server()
    listening = await asyncio.start_server(serving.serve, "127.0.0.1", 0)
    serving.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/mcp"
    try:
        yield serving
    finally:
        listening.close()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[CheckedWeb]:
    """That has a connection to the server already."""
    destinations = Destinations(
        denied=denied, forbidden=forbidden, listed=frozenset({"127.0.0.1"}), setting="SETTING"
    )
    checked = CheckedWeb(destinations)
    await checked.start()
    try:
        await checked.ask("POST", server.url, body=b"first")
        yield checked
    finally:
        await checked.close()


@pytest.fixture
def kept_alone(client: CheckedWeb, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not go the shorter way, fails."""

    async def whole_way(*_: object, **__: object) -> None:
        raise AssertionError("this request went the whole way")

    monkeypatch.setattr(aiohttp.ClientSession, "_request", whole_way)


@pytest.mark.usefixtures("kept_alone")
async def test_a_second_post_goes_out_on_the_connection_of_the_first(
    server: Server, client: CheckedWeb
) -> None:
    answer = await client.ask("POST", server.url, headers={"x-y": "z"}, body=b"second")
    assert (answer.status, answer.body, answer.headers["x-two"]) == (200, b"ok", "1, 2")
    assert server.connections == 1


async def test_its_bytes_are_those_of_the_whole_way(server: Server, client: CheckedWeb) -> None:
    def lines(request: bytes) -> tuple[bytes, set[bytes], bytes]:
        head, _, body = request.partition(b"\r\n\r\n")
        first, *headers = head.split(b"\r\n")
        return first, {h.partition(b":")[0].lower() + h.partition(b":")[2] for h in headers}, body

    await client.ask("POST", server.url, body=b"first")
    assert lines(server.requests[0]) == lines(server.requests[1])


@pytest.mark.usefixtures("kept_alone")
async def test_what_comes_before_the_answer_is_not_taken_for_it(
    server: Server, client: CheckedWeb
) -> None:
    server.answers = [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + GOOD]
    assert (await client.ask("POST", server.url, body=b"x")).body == b"ok"


@pytest.mark.usefixtures("kept_alone")
async def test_an_answer_in_pieces_gives_its_connection_back(
    server: Server, client: CheckedWeb
) -> None:
    server.answers = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    ]
    stream = await client.open("POST", server.url, body=b"x")
    assert b"".join([chunk async for chunk in stream.chunks()]) == b"abcde"
    assert (await client.ask("POST", server.url, body=b"y")).status == 200
    assert server.connections == 1


@pytest.mark.parametrize("value", [f"{SECRET}\r\nX: y", f"{SECRET}\nX: y", f"{SECRET}\x00"])
async def test_a_header_cannot_bring_another_one_along(
    server: Server, client: CheckedWeb, value: str
) -> None:
    with pytest.raises(Unreachable) as raised:
        await client.ask("POST", server.url, headers={"authorization": value}, body=b"x")
    assert SECRET not in str(raised.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "headers",
    [{"Host": "other.example"}, {"Content-Length": "1"}, {"Transfer-Encoding": "chunked"}],
)
async def test_what_frames_a_request_is_left_to_the_whole_way(
    client: CheckedWeb, kept_alone: None, server: Server, headers: dict[str, str]
) -> None:
    with pytest.raises(AssertionError, match="whole way"):
        await client.ask("POST", server.url, headers=headers, body=b"x")


async def test_a_connection_that_its_server_ends_is_not_used_again(
    server: Server, client: CheckedWeb
) -> None:
    server.answers = [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"]
    await client.ask("POST", server.url, body=b"x")
    await client.ask("POST", server.url, body=b"y")
    assert server.connections == 2


async def test_no_answer_in_time_closes_the_connection(server: Server, client: CheckedWeb) -> None:
    server.answers = ["never"]
    with pytest.raises(Unreachable) as late:
        await client.ask("POST", server.url, body=b"x", seconds_max=0.1)
    assert late.value.timed_out and late.value.sent
    async with asyncio.timeout(5):
        await server.gone.wait()
    assert (await client.ask("POST", server.url, body=b"y")).status == 200
    assert server.connections == 2


@pytest.mark.parametrize(
    "answer",
    [b"what?\r\n\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nx"],
)
async def test_what_is_no_whole_answer_is_said_to_be_none(
    server: Server, client: CheckedWeb, answer: bytes
) -> None:
    server.answers = [answer]
    with pytest.raises(Unreachable) as broken:
        await client.ask("POST", server.url, body=b"x", seconds_max=5)
    assert broken.value.sent


async def test_whoever_leaves_a_stream_ends_it(server: Server, client: CheckedWeb) -> None:
    server.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]
    stream = await client.open("POST", server.url, body=b"x")
    stream.close()
    async with asyncio.timeout(5):
        await server.gone.wait()


async def test_an_address_with_a_query_is_not_remembered(
    server: Server, client: CheckedWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    went: list[str] = []
    real = aiohttp.ClientSession._request

    async def noted(self: aiohttp.ClientSession, *arguments: object, **more: object) -> object:
        went.append(str(arguments[1]))
        return await real(self, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(aiohttp.ClientSession, "_request", noted)
    with contextlib.suppress(Unreachable):
        for _ in range(2):
            await client.ask("POST", f"{server.url}?key={SECRET}", body=b"x")
    assert len(went) == 2
