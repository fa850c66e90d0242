"""`ports.web.Web` that answers requests to the platform's own agents and gateways itself.

They go through the platform's own ASGI application, so that who may call what is decided and kept
in the audit exactly as for a call from outside, and by nothing else. Who calls is not in a header:
it stands in the scope, which only this process can write, or it is nobody but a bearer token.
"""

import asyncio
import contextvars
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from math import inf
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from freehold.adapters.web.inner_exchange import InnerExchange
from freehold.kernel.caller import Caller
from freehold.kernel.errors import NotFound, Unavailable
from freehold.kernel.own_addresses import OwnAddresses
from freehold.kernel.session import CALLER_STATE
from freehold.ports.targets import RequestSigner
from freehold.ports.web import Unreachable, Web, WebAnswer, WebStream

STDIO = "stdio:"
HOPS_HEADER = "x-freehold-hops"
HOPS_MAX = 5
"""Gateways that one request may come through, each another's target."""

_TICKET_HEADER = "x-freehold-inner"
_TICKETS_MAX = 10_000
_hops: contextvars.ContextVar[int] = contextvars.ContextVar("hops", default=0)


class Tickets:
    """`ports.inner.InnerCalls`. A ticket that is not taken soon makes room for others."""

    def __init__(self) -> None:
        self._issued: OrderedDict[str, tuple[str, str, Caller]] = OrderedDict()

    def signer(self, caller: Caller) -> RequestSigner:
        def sign(method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
            ticket = secrets.token_urlsafe(24)
            self._issued[ticket] = (method, url, caller)
            if len(self._issued) > _TICKETS_MAX:
                self._issued.popitem(last=False)
            return {**headers, _TICKET_HEADER: ticket}

        return sign

    def take(self, ticket: str, method: str, url: str) -> Caller:
        """Raises Unreachable for one that we did not issue for this."""
        found = self._issued.pop(ticket, None)
        if found is None or found[:2] != (method, url):
            raise Unreachable("the request's ticket is not one of ours")
        return found[2]


class Stdio(Protocol):
    """MCP servers that the operator configures, each an agent runtime of who uses it."""

    async def runtime(self, tenant: str, endpoint: str) -> str:
        """The runtime's ARN. Raises NotFound, Unavailable."""


class Inside:
    """The platform's own application, once there is one: set `app` before the first call, and
    `stdio` where there are any such servers."""

    def __init__(self, own: OwnAddresses, tickets: Tickets) -> None:
        self.own, self.tickets = own, tickets
        self.app: ASGIApp | None = None
        self.stdio: Stdio | None = None
        self.underway: set[asyncio.Task[None]] = set()

    async def begun(
        self, scope: Scope, body: bytes | AsyncIterator[bytes] | None, *, idle_seconds_max: float
    ) -> InnerExchange:
        """Raises Unreachable. The caller in the scope's state is believed."""
        assert self.app is not None, "the application is set before the first call"
        exchange = InnerExchange(body, idle_seconds_max=idle_seconds_max)
        task = asyncio.create_task(exchange.run(self.app, scope), name="inner call")
        self.underway.add(task)
        task.add_done_callback(self.underway.discard)
        try:
            await exchange.begun()
        except BaseException:
            exchange.close()
            raise
        return exchange

    async def close(self) -> None:
        """Before what the application needs is closed."""
        for task in list(self.underway):
            task.cancel()
        await asyncio.gather(*self.underway, return_exceptions=True)


class InnerWeb:
    """`outer` asks everybody else; it gets no ticket of ours."""

    def __init__(self, outer: Web, inside: Inside) -> None:
        self._outer, self._inside = outer, inside

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        bytes_max: int = 1 << 20,
        seconds_max: float = 10.0,
    ) -> WebAnswer:
        headers = _counted(headers)
        if not self._is_inner(url):
            headers.pop(_TICKET_HEADER, None)
            return await self._outer.ask(
                method, url, headers=headers, body=body, bytes_max=bytes_max,
                seconds_max=seconds_max,
            )  # fmt: skip
        try:
            async with asyncio.timeout(seconds_max):
                stream = await self._begun(method, url, headers, body, inf)
                try:
                    content = await stream.read(bytes_max)
                finally:
                    stream.close()
        except TimeoutError:
            raise _late(seconds_max) from None
        return WebAnswer(status=stream.status, headers=stream.headers, body=content)

    async def open(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterator[bytes] | None = None,
        seconds_max: float = 30.0,
        idle_seconds_max: float = 300.0,
    ) -> WebStream:
        headers = _counted(headers)
        if not self._is_inner(url):
            headers.pop(_TICKET_HEADER, None)
            return await self._outer.open(
                method, url, headers=headers, body=body, seconds_max=seconds_max,
                idle_seconds_max=idle_seconds_max,
            )  # fmt: skip
        try:
            async with asyncio.timeout(seconds_max if seconds_max < inf else None):
                return await self._begun(method, url, headers, body, idle_seconds_max)
        except TimeoutError:
            raise _late(seconds_max) from None

    async def _begun(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | AsyncIterator[bytes] | None,
        idle_seconds_max: float,
    ) -> InnerExchange:
        inside = self._inside
        ticket = headers.pop(_TICKET_HEADER, None)
        caller = None if ticket is None else inside.tickets.take(ticket, method, url)
        if url.startswith(STDIO):
            url = await self._of_stdio(caller, url)
        if not inside.own.is_target(url):
            raise Unreachable("of this platform only agent runtimes and gateways are targets")
        scope = _scope(method, urlsplit(url), headers, body, caller)
        return await inside.begun(scope, body, idle_seconds_max=idle_seconds_max)

    def _is_inner(self, url: str) -> bool:
        return url.startswith(STDIO) or self._inside.own.is_own(url)

    async def _of_stdio(self, caller: Caller | None, url: str) -> str:
        stdio = self._inside.stdio
        if stdio is None or caller is None:
            raise Unreachable(f"there is no {url} for this account")
        try:
            arn = await stdio.runtime(caller.tenant, url)
        except (NotFound, Unavailable) as error:
            raise Unreachable(error.message) from None
        return self._inside.own.of_runtime(arn, None)


class CountsHops:
    """An ASGI application behind which every request knows how many gateways it came through."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = HOPS_HEADER.encode()
        for key, value in scope["headers"]:
            if key == name:
                # Inside, what the process itself knows is not to be talked down.
                said = int(value[:3]) if value.isdigit() else 0
                _hops.set(max(_hops.get(), said))
        await self._app(scope, receive, send)


def _counted(headers: Mapping[str, str] | None) -> dict[str, str]:
    hops = _hops.get() + 1
    if hops > HOPS_MAX:
        raise Unreachable(f"the request came through {HOPS_MAX} gateways already; is it a loop?")
    return {**(headers or {}), HOPS_HEADER: str(hops)}


def _scope(
    method: str,
    url: SplitResult,
    headers: Mapping[str, str],
    body: bytes | AsyncIterator[bytes] | None,
    caller: Caller | None,
) -> Scope:
    raw = [(b"host", url.netloc.encode("idna" if not url.netloc.isascii() else "ascii"))]
    named = {name.lower(): value for name, value in headers.items() if name.lower() != "host"}
    if isinstance(body, bytes):
        named["content-length"] = str(len(body))
    elif body is not None and "content-length" not in named:
        named["transfer-encoding"] = "chunked"
    raw += [(name.encode("latin-1"), _header(value)) for name, value in named.items()]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": url.scheme,
        "path": unquote(url.path),
        "raw_path": url.path.encode("latin-1"),
        "query_string": url.query.encode("latin-1"),
        "root_path": "",
        "headers": raw,
        "client": None,
        "server": None,
        "state": {} if caller is None else {CALLER_STATE: caller},
    }


def _header(value: str) -> bytes:
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode()


def _late(seconds_max: float) -> Unreachable:
    why = f"the platform's own did not answer within {seconds_max:g} seconds"
    return Unreachable(why, sent=True, timed_out=True)
