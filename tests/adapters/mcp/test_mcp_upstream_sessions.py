"""Sessions with servers of the legacy era: whose they are, and what becomes of them."""

import asyncio
from typing import Any

import aiohttp
import msgspec
import pytest
from upstream_ground import Caller, a_place, an_errand, standing
from upstream_servers import Served, serving

from freehold.adapters.mcp.sessions import MemorySessions, UpstreamSession
from freehold.ports.targets import Credential, Json

ELICITING: Json = {"elicitation": {}}


def session_of(served: Served) -> str:
    return served.headers[-1]["mcp-session-id"]


async def test_two_owners_never_share_a_session() -> None:
    """Whoever began a session is who it belongs to: see CVE-2026-25536."""
    errands: list[dict[str, Any]] = [
        {"owner": "t1 alice"},
        {"owner": "t1 bob"},
        {"owner": "t1 alice", "credential": Credential(owner="alice")},
        {"owner": "t1 bob", "credential": Credential(owner="alice")},
    ]
    async with serving("legacy") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        other = msgspec.structs.replace(place, target_id="target2")
        seen: list[str] = []
        for at in (place, other):
            for errand in errands:
                await ground.text(at, "echo", {"text": "x"}, **errand)
                seen.append(session_of(served))
        assert len(set(seen)) == len(seen)
        for errand, expected in zip(errands, seen, strict=False):
            await ground.text(place, "echo", {"text": "x"}, **errand)
            assert session_of(served) == expected


async def test_clients_that_can_be_asked_have_a_session_each_and_others_share() -> None:
    async with serving("legacy") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))

        async def used(session: str, client: Json) -> str:
            await ground.text(
                place, "echo", {"text": "x"}, era="legacy", session=session, client=client
            )
            return session_of(served)

        assert await used("s1", {}) == await used("s2", {"experimental": {}})
        assert await used("s1", ELICITING) != await used("s2", ELICITING)
        assert await used("s1", ELICITING) == await used("s1", ELICITING)


async def test_many_first_calls_at_once_open_one_session() -> None:
    async with serving("legacy") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        served.asked.clear()
        await asyncio.gather(*(ground.text(place, "echo", {"text": str(n)}) for n in range(10)))
    assert (served.count("initialize"), served.count("tools/call")) == (1, 10)


async def test_a_session_that_the_server_lost_is_opened_once_anew() -> None:
    async with serving("legacy") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        await ground.text(place, "echo", {"text": "x"})
        lost = session_of(served)
        async with aiohttp.ClientSession() as other:
            gone = await other.delete(served.url, headers={"mcp-session-id": lost})
            assert gone.status == 200
        served.asked.clear()
        assert await ground.text(place, "echo", {"text": "again"}) == "again"
        assert session_of(served) != lost
    assert served.asked == ["tools/call", "initialize", "notifications/initialized", "tools/call"]


async def test_another_worker_goes_on_with_what_is_kept() -> None:
    kept = MemorySessions()
    async with serving("legacy") as served:
        async with standing(kept=kept) as first:
            place, _ = await first.described(a_place(served.url))
            await first.text(place, "echo", {"text": "x"})
        served.asked.clear()
        async with standing(kept=kept) as second:
            await second.text(place, "echo", {"text": "y"})
    assert served.asked == ["tools/call"]


async def test_what_is_for_one_client_ends_with_its_session() -> None:
    async with serving("legacy") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        errand = {"era": "legacy", "session": "s1", "client": ELICITING, "talk": Caller()}
        await ground.text(place, "echo", {"text": "x"}, **errand)
        served.asked.clear()
        await ground.targets.end_session(place, an_errand(**errand))
        await ground.targets.end_session(place, an_errand(**errand))
        assert served.asked == ["DELETE"]
        assert await ground.text(place, "echo", {"text": "y"}, **errand) == "y"


async def test_what_a_client_tells_goes_into_its_own_session() -> None:
    async with serving("legacy") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        errand = {"era": "legacy", "session": "s1", "client": {"roots": {"listChanged": True}}}
        told = "notifications/roots/list_changed"
        await ground.targets.request(place, told, {}, an_errand(**errand))
        assert served.count(told) == 0, "there is no session yet, so nobody needs to know"
        await ground.text(place, "echo", {"text": "x"}, **errand)
        first = session_of(served)
        await ground.targets.request(place, told, {}, an_errand(**errand))
        assert (served.count(told), session_of(served)) == (1, first)


async def test_kept_sessions_are_bounded_in_number_and_age() -> None:
    clock = [0.0]
    kept = MemorySessions(count_max=2, idle_seconds_max=60, now=lambda: clock[0])
    sessions = [UpstreamSession(id=str(n), version="2025-11-25") for n in range(3)]
    await kept.keep("a", sessions[0])
    await kept.keep("b", sessions[1])
    assert await kept.find("a") == sessions[0]
    await kept.keep("c", sessions[2])
    assert [await kept.find(key) for key in "abc"] == [sessions[0], None, sessions[2]]
    clock[0] = 50
    await kept.find("a")
    clock[0] = 100
    assert [await kept.find(key) for key in "ac"] == [sessions[0], None]
    await kept.forget("a", sessions[1])
    assert await kept.find("a") == sessions[0], "it is another one by now"
    await kept.forget("a", sessions[0])
    assert await kept.find("a") is None


@pytest.mark.parametrize("id", ["secret-session"])
def test_a_session_id_is_in_no_repr(id: str) -> None:
    assert id not in repr(UpstreamSession(id=id, version="2025-11-25"))
