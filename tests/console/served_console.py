"""The console on loopback, over doubles of its ports, and browsers that visit it."""

import asyncio
import contextlib
import os
import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import aiohttp
import pytest
from console_doubles import (
    PASSWORD,
    AuthorizerDouble,
    ConsentsDouble,
    DevicesDouble,
    PlatformDouble,
    SignInDouble,
)
from playwright.async_api import Browser, async_playwright, expect
from starlette.types import Receive, Scope, Send

from freehold.edges.pipeline import Pipeline
from freehold.edges.serving import HttpServer, Root
from freehold.kernel.session import SESSION_STATE, DoorwaySession
from freehold.processes.console import make_console

CHROMIUM_ARGUMENTS = [
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    # Nothing of a test leaves the machine.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
_FORM_TOKEN = re.compile(r'name="form_token" value="([0-9a-f]{64})"')


class ServedConsole:
    """`public_url`: what the operator set; the address itself unless said."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, public_url: str | None = None) -> None:
        self.sign_in, self.devices = SignInDouble(), DevicesDouble()
        self.consents, self.authorizer = ConsentsDouble(), AuthorizerDouble()
        self.platform = PlatformDouble()
        self._tls, self._public_url = tls, public_url

    async def __aenter__(self) -> Self:
        listening = socket.create_server(("127.0.0.1", 0))
        scheme = "http" if self._tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
        mounted = make_console(
            pipeline=Pipeline(authorizer=self.authorizer, calls_in_flight_max=100),
            sign_in=self.sign_in,
            devices=self.devices,
            consents=self.consents,
            platform=self.platform,
            public_url=self._public_url or self.url,
            region="us-west-2",
        )
        self._server = HttpServer(
            Root(mounted, otherwise=_nothing), drain_seconds_max=1, tls=self._tls
        )
        self._serving = asyncio.create_task(self._server.serve(listening))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()
        await self._serving

    async def from_inside(self, request: bytes) -> bytes:
        """What a session's connection gets for a request, to its last byte."""
        session = DoorwaySession(
            tenant="123456789012", runtime_id="r-1", runtime_arn="arn:r-1", endpoint="DEFAULT",
            session_id="s-1", sandbox_id="b-1",
        )  # fmt: skip
        ours, theirs = socket.socketpair()
        await self._server.serve_connection(theirs, {SESSION_STATE: session})
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(request)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        return answer


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body"})


@dataclass(slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    set_cookies: list[str]
    text: str


@dataclass(slots=True)
class Client:
    """A browser as far as HTTP goes: cookies are kept, redirects are not followed."""

    console: ServedConsole
    http: aiohttp.ClientSession
    cookies: dict[str, str] = field(default_factory=dict)
    form_token: str = ""

    async def get(self, path: str, **headers: str) -> Answer:
        return await self._ask("GET", path, None, {"Accept": "text/html", **_headers(headers)})

    async def post(self, path: str, fields: Mapping[str, str], **headers: str) -> Answer:
        """From a page of the console: with the token that the last page held, and the Origin."""
        form = urlencode({"form_token": self.form_token, **fields})
        said = {"Accept": "text/html", "Origin": self.console.url, **_headers(headers)}
        said.setdefault("Content-Type", "application/x-www-form-urlencoded")
        return await self._ask("POST", path, form, {k: v for k, v in said.items() if v})

    async def signed_in(self, name: str = "ada") -> Self:
        await self.get("/console/sign-in")
        answer = await self.post("/console/sign-in", {"name": name, "password": PASSWORD})
        assert answer.status == 303, answer.text
        await self.get("/console")
        return self

    async def _ask(
        self, method: str, path: str, form: str | None, headers: dict[str, str]
    ) -> Answer:
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        async with self.http.request(
            method, self.console.url + path, data=form, headers=headers, allow_redirects=False,
            ssl=False,
        ) as response:  # fmt: skip
            text = await response.text()
            set_cookies = response.headers.getall("Set-Cookie", [])
            for cookie in set_cookies:
                name, _, value = cookie.partition(";")[0].partition("=")
                self.cookies[name] = value
                if "Max-Age=0" in cookie:
                    del self.cookies[name]
            if found := _FORM_TOKEN.search(text):
                self.form_token = found[1]
            return Answer(response.status, response.headers, set_cookies, text)


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    """`sec_fetch_site="none"` becomes Sec-Fetch-Site; an empty one is left out."""
    return {name.replace("_", "-").title(): value for name, value in given.items()}


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium; without one the test is skipped, but not in CI."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        why = "chromium is not installed: sudo apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    expect.set_options(timeout=60_000)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path,
            headless=True,
            # Not as root, nor in most containers; and it sees nothing but our pages.
            chromium_sandbox=False,
            args=CHROMIUM_ARGUMENTS,
        )
        try:
            yield browser
        finally:
            await browser.close()
