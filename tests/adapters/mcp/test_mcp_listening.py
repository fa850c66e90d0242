"""What servers say outside of requests."""

import asyncio
import json
from contextlib import aclosing

import msgspec
import pytest
from aiohttp import web
from mcp.server.subscriptions import ResourceUpdated
from upstream_ground import a_place, an_errand, standing
from upstream_servers import serving


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_changed_list_is_heard_of_by_who_listens_and_by_the_gateway(era: str) -> None:
    async with serving("dual") as served, standing() as ground, asyncio.timeout(10):
        place, _ = await ground.described(a_place(served.url))
        errand = an_errand(era=era, session="s1" if era == "legacy" else "", client={"roots": {}})
        served.asked.clear()
        async with aclosing(ground.targets.listen(place, errand)) as heard:
            first = asyncio.ensure_future(anext(heard))
            while not {"GET", "subscriptions/listen"} & set(served.asked):
                await asyncio.sleep(0.01)
            while not first.done():  # until the stream stands; nothing is kept for late ones
                await ground.text(
                    place, "grows", era=era, session=errand.session, client=errand.client
                )
            assert await first == {"method": "notifications/tools/list_changed", "params": {}}
    assert ("weather", "notifications/tools/list_changed") in ground.changes


async def test_a_change_of_a_resource_is_heard_in_the_modern_era() -> None:
    async with serving("modern") as served, standing() as ground, asyncio.timeout(10):
        place, _ = await ground.described(a_place(served.url))
        listening = ground.targets.listen(place, an_errand(), uris=["test://text"])
        async with aclosing(listening) as heard:
            first = asyncio.ensure_future(anext(heard))
            while not first.done():
                await served.events.publish(ResourceUpdated(uri="test://text"))
                await asyncio.sleep(0.01)
            assert (await first)["params"] == {"uri": "test://text"}


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_who_stops_to_listen_leaves_no_connection_behind(era: str) -> None:
    async with serving("dual") as served, standing(per_host_max=1) as ground, asyncio.timeout(10):
        place, _ = await ground.described(a_place(served.url))
        for session in ("s1", "s2"):
            listening = ground.targets.listen(place, an_errand(era=era, session=session))
            served.asked.clear()
            first = asyncio.ensure_future(anext(listening))
            while not {"GET", "subscriptions/listen"} & set(served.asked):
                await asyncio.sleep(0.01)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            await listening.aclose()
            assert await ground.text(place, "echo", {"text": "x"}, era=era) == "x"


async def test_a_standing_stream_that_ended_is_taken_up_where_it_was() -> None:
    seen: list[str | None] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            seen.append(request.headers.get("last-event-id"))
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            told = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"n": len(seen)}}
            text = f"id: {len(seen)}\nretry: 1\ndata: {json.dumps(told)}\n\n"
            await response.write(text.encode())
            if len(seen) == 2:
                assert request.transport is not None
                request.transport.abort()
            return response
        message = await request.json()
        if "id" not in message:
            return web.Response(status=202)
        began = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {}}
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": began}
        return web.json_response(answer, headers={"mcp-session-id": "s"})

    app = web.Application()
    app.router.add_route("*", "/mcp", answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with standing() as ground, asyncio.timeout(10):
        place = a_place(f"http://127.0.0.1:{runner.addresses[0][1]}/mcp")
        server = {"versions": {"legacy": "2025-11-25"}, "sessions": True}
        place = msgspec.structs.replace(place, server=server)
        async with aclosing(ground.targets.listen(place, an_errand(era="legacy"))) as heard:
            assert [(await anext(heard))["params"]["n"] for _ in range(3)] == [1, 2, 3]
    await runner.cleanup()
    assert seen == [None, "1", "2"]


async def test_a_server_without_sessions_has_nothing_to_listen_to() -> None:
    async with serving("stateless") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        assert [said async for said in ground.targets.listen(place, an_errand())] == []
