"""Model calls use the platform's keys: they are acts, and the audit holds them."""

import asyncio

from aiohttp import web
from served_doorway import open_doorway, openai_at, upstream

from freehold.kernel.errors import Unavailable
from freehold.ports.audit import AuditEvent

CHAT = "/model/openai/v1/chat/completions"


class Slow:
    """An audit whose outcomes take as long as the test says."""

    def __init__(self, away: bool = False) -> None:
        self.events: list[AuditEvent] = []
        self.may_settle = asyncio.Event()
        self.away = away

    async def write(self, event: AuditEvent) -> None:
        if self.away:
            raise Unavailable("the audit is away")
        if event.phase == "outcome":
            await self.may_settle.wait()
        self.events.append(event)

    def note(self, event: AuditEvent) -> None:
        self.events.append(event)


async def test_a_streamed_model_call_ends_after_its_outcome_is_written() -> None:
    async def events(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: {}\n\n")
        return answer

    audit = Slow()
    async with (
        upstream(events) as url,
        open_doorway(openai_at(url), audit=audit) as door,
        door.http.post(door.url + CHAT, json={"stream": True}) as answer,
    ):
        assert await answer.content.readany() == b"data: {}\n\n"
        assert [e.phase for e in audit.events] == ["intent"]
        rest = asyncio.ensure_future(answer.content.read())
        await asyncio.wait([rest], timeout=0.1)
        assert not rest.done(), "the end came before the outcome"
        audit.may_settle.set()
        async with asyncio.timeout(10):
            assert await rest == b""
    assert [(e.phase, e.outcome, e.status) for e in audit.events][1:] == [
        ("outcome", "allowed", 200)
    ]
    assert {e.kind for e in audit.events} == {"session"}


async def test_without_the_audit_no_model_is_called() -> None:
    reached = 0

    async def count(request: web.Request) -> web.StreamResponse:
        nonlocal reached
        reached += 1
        return web.json_response({})

    async with (
        upstream(count) as url,
        open_doorway(openai_at(url), audit=Slow(away=True)) as door,
        door.http.post(door.url + CHAT, json={}) as answer,
    ):
        assert answer.status == 503
    assert reached == 0


async def test_the_marker_credentials_are_no_act() -> None:
    audit = Slow(away=True)
    async with open_doorway(audit=audit) as door, door.http.get(door.url + "/credentials") as got:
        assert got.status == 200
    assert audit.events == []
