"""Requests to targets: credentials, bounds, second tries."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest
from aiohttp import web

from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.targets.sending import HttpAnswer, HttpCall, send
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from freehold.ports.targets import Credential, Errand, TargetFailed

SECRET = "sEcReT-of-the-target"
Serving = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def outside() -> AsyncIterator[CheckedWeb]:
    destinations = Destinations(
        denied=denied, forbidden=forbidden, listed=frozenset({"127.0.0.1"}), setting="HOSTS"
    )
    client = CheckedWeb(destinations)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def echo(seen: list[web.Request], body: bytes = b"ok") -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        seen.append(request)
        return web.Response(body=body, headers={"X-Two": "2"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def bare(serve: Serving) -> AsyncIterator[str]:
    """A server of bytes, for what no HTTP server does."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def errand(**more: object) -> Errand:
    return Errand(**{"request_id": "r", "owner": "o", "seconds_max": 5.0, **more})  # type: ignore[arg-type]


async def sent(
    call: HttpCall, *, safe: bool = False, bytes_max: int = 1000, **more: object
) -> HttpAnswer:
    async with outside() as client:
        return await send(client, call, errand(**more), bytes_max=bytes_max, safe=safe)


async def test_the_credential_wins_over_the_operation_and_that_over_the_client() -> None:
    seen: list[web.Request] = []
    async with echo(seen) as url:
        await sent(
            HttpCall(
                method="GET", url=f"{url}/x?key=argument&a=1", headers={"X-B": "op", "X-C": "op"}
            ),
            headers={"x-a": "client", "X-B": "client", "Authorization": "client"},
            query={"a": "client", "b": "&=", "key": "client"},
            credential=Credential(
                headers={"authorization": SECRET, "x-c": "gateway"}, query={"key": SECRET}
            ),
        )
    (request,) = seen
    got = request.headers
    assert (got["x-a"], got["x-b"], got["x-c"]) == ("client", "op", "gateway")
    assert got.getall("authorization") == [SECRET]
    assert list(request.query.items()) == [("a", "1"), ("b", "&="), ("key", SECRET)]


async def test_a_client_cannot_frame_the_request() -> None:
    seen: list[web.Request] = []
    bad = {"Content-Length": "3", "Host": "evil.example", "Transfer-Encoding": "chunked",
           "Connection": "close", "Content-Type": "text/evil"}  # fmt: skip
    async with echo(seen) as url:
        await sent(HttpCall(method="POST", url=url, body=b"body"), headers=bad)
    assert await seen[0].read() == b"body"
    assert seen[0].headers["host"].startswith("127.0.0.1:")
    assert not {"transfer-encoding", "content-type"} & {n.lower() for n in seen[0].headers}


async def test_cookies_of_operation_and_credential_go_together_each_name_once() -> None:
    seen: list[web.Request] = []
    async with echo(seen) as url:
        await sent(
            HttpCall(method="GET", url=url, headers={"Cookie": "a=1; sid=argument"}),
            credential=Credential(headers={"Cookie": f"sid={SECRET}"}),
        )
    assert seen[0].headers["cookie"] == f"a=1; sid={SECRET}"


async def test_the_signer_sees_the_request_as_it_goes_out() -> None:
    seen: list[web.Request] = []

    def sign(method: str, url: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        return {**headers, "x-signed": f"{method} {url} {sorted(headers)} {body!r}"}

    async with echo(seen) as url:
        await sent(
            HttpCall(method="PUT", url=f"{url}/a%2Cb?c=%7E", headers={"X-A": "1"}, body=b"b"),
            credential=Credential(headers={"x-key": SECRET}, query={"k": "v,w"}, signer=sign),
        )
    (request,) = seen
    assert request.headers["x-signed"] == f"PUT {url}/a%2Cb?c=%7E&k=v%2Cw ['x-a', 'x-key'] b'b'"
    assert request.raw_path == "/a%2Cb?c=%7E&k=v%2Cw"


async def test_a_long_answer_is_cut() -> None:
    async with echo([], b"x" * 5000) as url:
        answer = await sent(HttpCall(method="GET", url=url))
    assert (answer.status, len(answer.body), answer.truncated) == (200, 1000, True)
    assert answer.headers["x-two"] == "2"


async def test_an_answer_of_just_the_most_is_whole() -> None:
    async with echo([], b"x" * 1000) as url:
        answer = await sent(HttpCall(method="GET", url=url))
    assert (len(answer.body), answer.truncated) == (1000, False)


@pytest.mark.parametrize(("safe", "times"), [(True, 2), (False, 1)])
async def test_a_request_that_was_sent_is_sent_again_only_where_it_is_safe(
    safe: bool, times: int
) -> None:
    count = 0

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        await reader.readuntil(b"\r\n\r\n")
        count += 1
        writer.close()

    async with bare(drop) as url:
        with pytest.raises(TargetFailed) as raised:
            await sent(HttpCall(method="POST", url=f"{url}/?k={SECRET}"), safe=safe)
    # A client of HTTP may try a kept connection again by itself; there was none here.
    assert count == times
    assert raised.value.retriable is safe
    assert SECRET not in str(raised.value)


async def test_a_second_try_that_works_is_the_answer() -> None:
    count = 0

    async def flaky(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        await reader.readuntil(b"\r\n\r\n")
        count += 1
        if count > 1:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
        writer.close()

    async with bare(flaky) as url:
        assert (await sent(HttpCall(method="GET", url=url), safe=True)).body == b"ok"
    assert count == 2


@pytest.mark.parametrize(("safe", "times"), [(True, 2), (False, 1)])
async def test_an_answer_that_breaks_off_is_asked_for_again_only_where_it_is_safe(
    safe: bool, times: int
) -> None:
    count = 0

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        await reader.readuntil(b"\r\n\r\n")
        count += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    async with bare(half) as url:
        with pytest.raises(TargetFailed) as raised:
            await sent(HttpCall(method="GET", url=url), safe=safe)
    assert count == times
    assert raised.value.retriable is safe


async def test_nothing_was_done_by_a_host_that_does_not_listen() -> None:
    async with bare(lambda r, w: asyncio.sleep(0)) as url:
        pass
    with pytest.raises(TargetFailed) as raised:
        await sent(HttpCall(method="POST", url=url))
    assert raised.value.retriable
    assert not raised.value.timed_out


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_a_late_answer_is_not_asked_for_again(safe: bool, beginning: bytes) -> None:
    count = 0

    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        await reader.readuntil(b"\r\n\r\n")
        count += 1
        writer.write(beginning)
        await reader.read()
        writer.close()

    async with bare(stall) as url:
        with pytest.raises(TargetFailed) as raised:
            await sent(HttpCall(method="GET", url=url), safe=safe, seconds_max=0.3)
    assert count == 1
    assert raised.value.timed_out
    assert raised.value.retriable is safe
    assert "0.3 seconds" in raised.value.message


async def test_a_header_with_a_line_break_goes_nowhere() -> None:
    seen: list[web.Request] = []
    async with echo(seen) as url:
        with pytest.raises(TargetFailed):
            await sent(HttpCall(method="GET", url=url), headers={"X-A": "a\r\nX-B: b"})
    assert seen == []
