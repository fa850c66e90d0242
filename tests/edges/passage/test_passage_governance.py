"""What holds for every call past MCP: limits, rules, names of the host, and who leaves early."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from aiohttp import web
from passage_ground import SECRET, Ground, provider, through, upstream

from freehold.kernel.errors import Unavailable
from freehold.ports.limits import Limit, Taken


async def named(request: web.Request) -> web.StreamResponse:
    return web.Response(text=f"{request.headers.get('host')} {request.raw_path}")


def by_target(rate: int, **more: Any) -> dict[str, Any]:
    entry = {
        "dimensions": {"targetName": "*", **more},
        "requests": [{"rate": rate, "period": "minute"}],
    }
    return {"dimensionKeys": ["targetName", *more], "entries": [entry]}


async def test_limits_stand_before_targets_and_count_each_apart(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    async with upstream(named) as url:
        ground.has(through("a", url), through("b", url), limit=by_target(2))
        at_a = [(await client.get("/a/")).status_code for _ in range(3)]
        at_b = await client.get("/b/")
    assert at_a == [200, 200, 429]
    assert at_b.status_code == 200
    assert ground.audit.events[-1].status == 200


async def test_a_member_of_the_body_can_be_limited_and_the_body_goes_on_whole(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    async def back(request: web.Request) -> web.StreamResponse:
        return web.Response(body=await request.read())

    limit = by_target(1, **{"$.context.jwt.sub": "*", "$.context.request.body.tier": "*"})
    async with upstream(back) as url:
        ground.has(through("a", url), limit=limit)
        first = await client.post("/a/", content=b'{"tier": "batch"}')
        again = await client.post("/a/", content=b'{"tier": "batch", "x": 1}')
        other = await client.post("/a/", content=b'{"tier": "fast"}')
    assert first.content == b'{"tier": "batch"}'
    assert (again.status_code, other.status_code) == (429, 200)


class Away:
    """A limiter whose store does not answer."""

    async def take(self, limits: Sequence[Limit], cost: float = 1.0) -> Taken:
        raise Unavailable("rate limits cannot be counted just now")

    async def charge(self, limits: Sequence[Limit], cost: float) -> None:
        raise Unavailable("rate limits cannot be counted just now")

    async def enter(self, key: str, most: int, *, lease: str, seconds: float) -> bool:
        raise Unavailable("rate limits cannot be counted just now")

    async def leave(self, key: str, lease: str) -> None:
        raise Unavailable("rate limits cannot be counted just now")


@pytest.mark.parametrize(("mode", "status"), [(None, 503), ("deny", 503), ("allow", 200)])
async def test_without_its_store_a_limit_denies_unless_the_gateway_says_otherwise(
    ground: Ground, client: httpx.AsyncClient, mode: str | None, status: int
) -> None:
    ground.ways.limiter = Away()
    tags = {} if mode is None else {"freehold:limit-failure": mode}
    async with upstream(named) as url:
        ground.has(through("a", url), limit=by_target(2), tags=tags)
        answer = await client.get("/a/")
        ground.has(through("a", url))
        unlimited = await client.get("/a/")
    assert answer.status_code == status
    assert unlimited.status_code == 200


async def test_a_rule_sends_a_path_elsewhere(ground: Ground, client: httpx.AsyncClient) -> None:
    rule = {
        "priority": 1,
        "conditions": [{"matchPaths": {"anyOf": ["/old/*", "/new-name/*"]}}],
        "actions": [{"routeToTarget": {"staticRoute": {"targetName": "new"}}}],
    }
    async with upstream(named) as url:
        ground.has(through("old", "http://127.0.0.1:1"), through("new", url), rule=rule)
        moved = await client.get("/old/x?y=1")
        whole = await client.get("/new-name/x")
    assert moved.text.endswith(" /x?y=1")
    assert whole.text.endswith(" /new-name/x")
    assert ground.audit.last().detail["route"] == "rule1"


async def test_a_rule_to_a_target_that_is_gone_says_so(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    rule = {
        "priority": 1,
        "actions": [{"routeToTarget": {"staticRoute": {"targetName": "gone"}}}],
    }
    ground.has(through("a", "http://127.0.0.1:1"), rule=rule)
    answer = await client.get("/a/")
    assert (answer.status_code, answer.json()["target"]) == (503, "gone")


async def test_a_page_of_another_site_gets_nowhere(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    ground.has(through("a", "http://127.0.0.1:1"))
    by_name = await client.get("/a/", headers={"host": "rebound.example"})
    by_origin = await client.get("/a/", headers={"origin": "https://evil.example"})
    assert (by_name.status_code, by_origin.status_code) == (421, 403)


async def test_who_leaves_a_model_early_frees_it_and_its_place(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.content_type = "text/event-stream"
        await answer.prepare(request)
        try:
            while True:
                await answer.write(b'data: {"choices":[]}\n\n')
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    keys = ["qualifiedModelId"]
    entry = {
        "dimensions": {"qualifiedModelId": "*"},
        "connections": [{"rate": 1, "period": "second"}],
        "tokens": [{"rate": 10**6, "period": "minute"}],
    }
    limit = {"dimensionKeys": keys, "entries": [entry]}
    body = {"model": "m", "messages": [], "stream": True}
    path = "/inference/v1/chat/completions"
    async with upstream(endless) as url, asyncio.timeout(20):
        ground.has(provider("llm", url, "m"), limit=limit)
        async with client.stream("POST", path, json=body) as answer:
            await anext(answer.aiter_bytes())
            assert (await client.post(path, json=body)).status_code == 429
        await gone.wait()
        while True:
            async with client.stream("POST", path, json=body) as answer:
                if answer.status_code == 200:
                    break
            await asyncio.sleep(0.01)
        while "(guessed)" not in (ground.audit.last().detail.get("tokens") or ""):
            await asyncio.sleep(0.01)


async def test_no_error_shows_a_secret(ground: Ground, client: httpx.AsyncClient) -> None:
    in_query = {
        "credentialProviderType": "API_KEY",
        "credentialProvider": {
            "apiKeyCredentialProvider": {
                "credentialParameterName": "key", "credentialLocation": "QUERY_PARAMETER",
            }
        },
    }  # fmt: skip
    ground.has(
        through("a", "http://127.0.0.1:1", credential=in_query),
        provider("llm", "http://127.0.0.1:1", "m", credential=in_query),
    )
    texts = [
        (await client.get("/a/x")).text,
        (await client.post("/inference/v1/chat/completions", json={"model": "m"})).text,
    ]
    assert all("could not be connected" in text and SECRET not in text for text in texts)
    assert SECRET not in str(ground.audit.events)


async def test_a_body_that_is_too_large_is_refused(
    ground: Ground, client: httpx.AsyncClient
) -> None:
    ground.edge.body_bytes_max = 1000
    async with upstream(named) as url:
        ground.has(through("a", url))
        declared = await client.post("/a/", content=b"x" * 1001)

        async def pieces() -> Any:
            for _ in range(3):
                yield b"x" * 500

        chunked = await client.post("/a/", content=pieces())
    assert (declared.status_code, chunked.status_code) == (400, 400)
