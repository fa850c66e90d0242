"""Requests to the platform's own agents and gateways, which never leave the process."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from freehold.adapters.web.inner import (
    HOPS_MAX,
    CountsHops,
    InnerWeb,
    Inside,
    Tickets,
)
from freehold.kernel.caller import Caller, CallerKind
from freehold.kernel.own_addresses import OwnAddresses
from freehold.kernel.session import session_caller
from freehold.ports.web import Unreachable, WebAnswer

ROOT = "https://agents.example.test"
AGENT = f"{ROOT}/runtimes/arn%3Aaws%3Ax/invocations?qualifier=DEFAULT"
GATEWAY = Caller(tenant="123456789012", principal="arn:gateway", kind=CallerKind.GATEWAY)


class Platform:
    """An application that says what it sees, and does what a test wants after that."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.bodies: list[bytes] = []
        self.left = asyncio.Event()
        self.act: Any = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        if self.act is not None:
            await self.act(receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"X-A", b"1")]})
        await send({"type": "http.response.body", "body": b"hello ", "more_body": True})
        await send({"type": "http.response.body", "body": b"you"})


class Elsewhere:
    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def ask(self, method: str, url: str, **more: Any) -> WebAnswer:
        self.asked.append((url, more["headers"]))
        return WebAnswer(status=200, headers={}, body=b"")

    async def open(self, method: str, url: str, **more: Any) -> Any:
        raise AssertionError("not asked here")


class Ground:
    def __init__(self) -> None:
        self.platform, self.elsewhere, self.tickets = Platform(), Elsewhere(), Tickets()
        self.inside = Inside(OwnAddresses(ROOT), self.tickets)
        self.inside.app = self.platform
        self.web = InnerWeb(self.elsewhere, self.inside)


@pytest.fixture
async def ground() -> AsyncIterator[Ground]:
    ground = Ground()
    yield ground
    await ground.inside.close()


async def test_a_request_is_the_applications_own(ground: Ground) -> None:
    answer = await ground.web.ask("POST", AGENT, headers={"Mcp-X": "é"}, body=b"asked")
    assert (answer.status, answer.body, answer.headers) == (200, b"hello you", {"x-a": "1"})
    (scope,) = ground.platform.scopes
    assert scope["raw_path"] == b"/runtimes/arn%3Aaws%3Ax/invocations"
    assert scope["query_string"] == b"qualifier=DEFAULT"
    assert ground.platform.bodies == [b"asked"]
    assert dict(scope["headers"])[b"host"] == b"agents.example.test"
    assert session_caller(scope) is None, "nobody, unless a ticket says who"


async def test_a_ticket_says_who_calls_once_and_for_one_request(ground: Ground) -> None:
    headers = ground.tickets.signer(GATEWAY)("POST", AGENT, {}, b"")
    await ground.web.ask("POST", AGENT, headers=headers)
    (scope,) = ground.platform.scopes
    assert session_caller(scope) == GATEWAY
    assert not any(name.startswith(b"x-freehold-inner") for name, _ in scope["headers"])
    with pytest.raises(Unreachable, match="ticket"):
        await ground.web.ask("POST", AGENT, headers=headers)
    other = ground.tickets.signer(GATEWAY)("POST", AGENT, {}, b"")
    with pytest.raises(Unreachable, match="ticket"):
        await ground.web.ask("GET", AGENT, headers=other)
    with pytest.raises(Unreachable, match="ticket"):
        await ground.web.ask("POST", AGENT, headers={"x-freehold-inner": "guessed"})


async def test_nothing_else_of_the_platform_is_reached_and_others_are_asked_outside(
    ground: Ground,
) -> None:
    for path in ("/freehold/v1/people", "/runtimes/x/commands", "/_s3/b", "/gateway/x", "/"):
        for root in (ROOT, "https://AGENTS.example.test:443"):
            with pytest.raises(Unreachable, match="only agent runtimes and gateways"):
                await ground.web.ask("GET", root + path)
    signed = ground.tickets.signer(GATEWAY)("GET", "https://api.example.test/", {}, b"")
    await ground.web.ask("GET", "https://api.example.test/", headers=signed)
    ((url, headers),) = ground.elsewhere.asked
    assert (url, headers) == ("https://api.example.test/", {"x-freehold-hops": "1"})


async def test_an_answer_streams_and_a_slow_reader_slows_it(ground: Ground) -> None:
    sent = 0

    async def flood(receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(64):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent += 1
        await send({"type": "http.response.body", "body": b""})

    ground.platform.act = flood
    stream = await ground.web.open("POST", AGENT)
    for _ in range(100):
        await asyncio.sleep(0)
    assert sent < 10
    assert len(await stream.read(1 << 23)) == 64 * 65536


async def test_the_application_hears_that_the_client_went(ground: Ground) -> None:
    gone = asyncio.Event()

    async def waits(receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"
        gone.set()

    ground.platform.act = waits
    stream = await ground.web.open("POST", AGENT, body=_pieces())
    assert await anext(stream.chunks()) == b"first"
    stream.close()
    await asyncio.wait_for(gone.wait(), 5)
    assert ground.platform.bodies == [b"onetwo"]


async def test_an_answer_that_is_late_or_breaks_off_is_told_of(ground: Ground) -> None:
    async def never(receive: Receive, send: Send) -> None:
        await receive()

    async def breaks(receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})

    ground.platform.act = never
    with pytest.raises(Unreachable) as late:
        await ground.web.ask("POST", AGENT, seconds_max=0.05)
    assert late.value.timed_out
    ground.platform.act = breaks
    with pytest.raises(Unreachable, match="broke off"):
        await ground.web.ask("POST", AGENT)


async def test_gateways_behind_gateways_have_an_end(ground: Ground) -> None:
    async def again(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await ground.web.ask("POST", AGENT)
            status = 200
        except Unreachable as error:
            assert "loop" in str(error)
            status = 508
        seen.append(scope)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    seen: list[Scope] = []
    ground.inside.app = CountsHops(again)
    await ground.web.ask("POST", AGENT)
    assert len(seen) == HOPS_MAX
    for said, hops in ((b"4", 1), (b"0", HOPS_MAX), (b"12x", HOPS_MAX), (b"-5", HOPS_MAX)):
        seen.clear()
        # From outside, through somebody else's gateway.
        await asyncio.create_task(_asked(CountsHops(again), [(b"x-freehold-hops", said)]))
        assert len(seen) == 1 + hops, said


async def _asked(app: CountsHops, headers: list[tuple[bytes, bytes]]) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        pass

    await app({"type": "http", "headers": headers}, receive, send)


async def _pieces() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"
