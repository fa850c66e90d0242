"""The platform's own requests: where they may go, and what of an answer is taken."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from freehold import tls
from freehold.adapters.egress.addresses import denied, forbidden
from freehold.adapters.web.client import CheckedWeb
from freehold.adapters.web.destination import Destinations
from freehold.ports.web import Unreachable, WebAnswer
from freehold.processes.web import make_web
from freehold.settings import SettingsError, load

SETTING = "FREEHOLD_OUTBOUND_PRIVATE_HOSTS"
SECRET = "sEcReT-of-the-request"

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def server(answer: Answering, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def asking(*listed: str, context: ssl.SSLContext | None = None) -> AsyncIterator[CheckedWeb]:
    destinations = Destinations(
        denied=denied, forbidden=forbidden, listed=frozenset(listed), setting=SETTING
    )
    client = CheckedWeb(destinations, tls=context)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def ok(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.method} {await request.text()}")


async def refused(client: CheckedWeb, url: str, **more: object) -> str:
    with pytest.raises(Unreachable) as raised:
        await client.ask("GET", url, **more)  # type: ignore[arg-type]
    assert SECRET not in str(raised.value)
    return str(raised.value)


async def test_a_listed_host_is_asked_without_tls_and_answers_whole() -> None:
    async with server(ok) as port, asking("127.0.0.1") as client:
        answer = await client.ask("POST", f"http://127.0.0.1:{port}/token?x=1", body=b"a=b")
        assert answer.status == 200
        assert answer.body == b"POST a=b"
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"


async def test_a_listed_port_permits_no_other_port() -> None:
    async with server(ok) as port, asking(f"127.0.0.1:{port}") as client:
        assert (await client.ask("GET", f"http://127.0.0.1:{port}/")).status == 200
        assert SETTING in await refused(client, f"http://127.0.0.1:{port + 1}/")


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/", "https://localhost/", "https://[::1]/", "https://10.1.2.3/",
        "https://192.168.0.1:8443/", "https://[::ffff:127.0.0.1]/", "https://[fd00::1]/",
        "https://[64:ff9b::7f00:1]/", "https://100.64.0.1/",
    ],
)  # fmt: skip
async def test_a_private_network_is_not_asked_and_the_error_names_the_setting(url: str) -> None:
    async with asking() as client:
        assert SETTING in await refused(client, f"{url}?{SECRET}")


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest/meta-data", "https://[::ffff:169.254.169.254]/",
        "https://[fd00:ec2::254]/", "https://[fe80::1]/", "https://0.0.0.0/",
    ],
)  # fmt: skip
async def test_metadata_addresses_are_never_asked_even_when_listed(url: str) -> None:
    host = url.split("/")[2]
    async with asking(host, host.strip("[]")) as client:
        assert "never asked" in await refused(client, url)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "file:///etc/passwd", "//example.com", "",
        "https://", "https://user:pass@example.com/", "https://user@example.com/",
        "https://2130706433/", "https://127.1/", "https://0177.0.0.1/", "https://example.com:0/",
        "https://example.com:99999/", "https://exa mple.com/", "https://example.com/\r\nX: y",
        "https://[::1", f"https://example.com/{'x' * 10_000}", "gopher://127.0.0.1:70/",
    ],
)  # fmt: skip
async def test_what_is_no_plain_https_address_is_not_asked(url: str) -> None:
    async with asking("127.0.0.1") as client:
        await refused(client, url)


async def test_a_name_is_judged_by_its_addresses_and_resolved_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that answers well at first and badly then, as in DNS rebinding."""
    loop = asyncio.get_running_loop()
    real, asked = loop.getaddrinfo, []

    async def rebinding(host: str, port: int, **more: object) -> object:
        if host != "rebind.example":
            return await real(host, port, **more)  # type: ignore[arg-type]
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "169.254.169.254"
        return await real(address, port, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "getaddrinfo", rebinding)
    async with server(ok) as port, asking("rebind.example") as client:
        url = f"http://rebind.example:{port}/"
        assert (await client.ask("GET", url)).status == 200
        assert asked == ["rebind.example"]
    async with asking("rebind.example") as client:
        assert "never asked" in await refused(client, url)


async def test_one_bad_address_among_good_ones_refuses_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()

    async def both(host: str, port: int, **_: object) -> list[object]:
        return [(2, 1, 6, "", (address, port)) for address in ("93.184.215.14", "10.0.0.7")]

    monkeypatch.setattr(loop, "getaddrinfo", both)
    async with asking() as client:
        assert SETTING in await refused(client, "https://mixed.example/")


async def test_redirects_are_answers_and_cookies_are_not_kept() -> None:
    seen: list[str | None] = []

    async def away(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        where = {"Location": "http://169.254.169.254/", "Set-Cookie": "a=b; Path=/"}
        return web.Response(status=302, headers=where)

    async with server(away) as port, asking("127.0.0.1") as client:
        for _ in range(2):
            answer = await client.ask("GET", f"http://127.0.0.1:{port}/")
            assert (answer.status, answer.headers["location"]) == (302, "http://169.254.169.254/")
    assert seen == [None, None]


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with server(ok) as port, asking("127.0.0.1") as client:
        assert (await client.ask("GET", f"http://127.0.0.1:{port}/")).status == 200


@pytest.mark.parametrize("announced", [True, False])
async def test_an_answer_that_is_too_long_is_not_read(announced: bool) -> None:
    async def long(request: web.Request) -> web.StreamResponse:
        if announced:
            return web.Response(body=b"x" * 2000)
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                await response.write(b"x" * 100)
        return response

    async with server(long) as port, asking("127.0.0.1") as client:
        said = await refused(client, f"http://127.0.0.1:{port}/{SECRET}", bytes_max=1000)
        assert "1000 bytes" in said


async def test_a_compressed_answer_is_refused_since_its_size_says_nothing() -> None:
    async def bomb(_: web.Request) -> web.Response:
        return web.Response(body=b"\x1f\x8b" + b"0" * 50, headers={"Content-Encoding": "gzip"})

    async with server(bomb) as port, asking("127.0.0.1") as client:
        assert "compresses" in await refused(client, f"http://127.0.0.1:{port}/")


async def test_whoever_does_not_answer_is_given_up() -> None:
    release = asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    async with server(slow) as port, asking("127.0.0.1") as client:
        said = await refused(client, f"http://127.0.0.1:{port}/?{SECRET}", seconds_max=0.1)
        release.set()
    assert "0.1 seconds" in said


async def test_errors_say_what_failed_and_never_the_request() -> None:
    async with server(ok) as port:
        pass
    async with asking("127.0.0.1") as client:
        url = f"http://127.0.0.1:{port}/{SECRET}?{SECRET}"
        said = await refused(client, url, headers={"Authorization": SECRET})
        assert f"127.0.0.1:{port} could not be connected to" in said
        await refused(client, url, headers={"Authorization": f"{SECRET}\r\nX: y"})


async def test_tls_is_verified_and_only_then_listed_hosts_are_trusted(tmp_path: Path) -> None:
    files = tls.ensure(tmp_path, tls.server_names("127.0.0.1", []))
    trusting = ssl.create_default_context(cafile=str(files.certificate))
    async with server(ok, tls.server_context(files)) as port:
        url = f"https://127.0.0.1:{port}/"
        async with asking("127.0.0.1") as client:
            assert "certificate that is not trusted" in await refused(client, url)
        async with asking("127.0.0.1", context=trusting) as client:
            assert (await client.ask("GET", url)).status == 200


async def test_a_connection_is_kept_and_used_again() -> None:
    ports: set[int] = set()

    async def peer(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername")[1])
        return web.Response()

    async with server(peer) as port, asking("127.0.0.1") as client:
        for _ in range(3):
            await client.ask("GET", f"http://127.0.0.1:{port}/")
    assert len(ports) == 1


async def test_the_setting_lists_the_hosts() -> None:
    client = make_web(load({SETTING: " 127.0.0.1 , idp.internal:8443"}))
    await client.start()
    async with server(ok) as port:
        answer: WebAnswer = await client.ask("GET", f"http://127.0.0.1:{port}/")
        assert answer.status == 200
    await client.close()


@pytest.mark.parametrize("text", ["http://idp.internal", "idp.internal/path", "a b", "::1"])
def test_a_setting_that_lists_no_hosts_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=SETTING):
        load({SETTING: text})
