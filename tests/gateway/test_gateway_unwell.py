"""Targets that do not answer as they should, and what callers of theirs and of others notice."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiohttp import web

from gateway_ground import Answered, Gateway, at_every_worker, openapi
from gateway_upstreams import Json, Loop, McpUpstream, Seen, Tool, Upstream
from running import until

ECHO = "there___echo"


def test_a_tool_has_the_time_that_its_target_gives_it(gateway: Gateway, served: Loop) -> None:
    release = threading.Event()

    async def slow(arguments: Json, seen: Seen) -> str:
        while not release.is_set():
            await asyncio.sleep(0.05)
        return "at last"

    tags = {"freehold:timeout-seconds": "20", "freehold:timeout-seconds:slow": "1"}
    with McpUpstream(served, Tool("slow", act=slow), Tool("echo")) as mcp:
        gateway.tag(tags, gateway.add_mcp_server("t", mcp.endpoint))
        started = time.monotonic()
        answer = gateway.call("t___slow")
        took = time.monotonic() - started
        release.set()
        assert answer.result["isError"]
        assert "1 seconds" in answer.text or "1 second" in answer.text
        assert 1 <= took < 5
        assert "isError" not in gateway.call("t___echo").result


def test_nobody_waits_for_a_target_that_fails_again_and_again(
    gateway: Gateway, served: Loop
) -> None:
    with McpUpstream(served, Tool("echo")) as bad, McpUpstream(served, Tool("echo")) as good:
        target = gateway.add_mcp_server("bad", bad.endpoint)
        gateway.tag({"freehold:breaker-seconds": "2"}, target)
        gateway.add_mcp_server("good", good.endpoint)
        healthy = bad.answer
        bad.answer = lambda seen: web.Response(status=500)
        asked: list[Answered] = [gateway.call("bad___echo") for _ in range(30)]
        assert all(a.result["isError"] for a in asked)
        assert "not called" in asked[-1].text
        # Five in a row in each worker open its circuit.
        assert bad.count("tools/call") <= 10
        assert "isError" not in gateway.call("good___echo").result
        bad.answer = healthy
        until(lambda: "isError" not in gateway.call("bad___echo").result, seconds_max=10)


def test_nor_for_an_api_whose_server_is_away(gateway: Gateway, upstream: Upstream) -> None:
    """A gateway timeout says so; an error of the API's own does not: that may be one caller's."""
    hello = {"/hello": {"get": {"operationId": "hello", "responses": {}}}}
    gateway.add("api", openapi(upstream.url, hello))
    for status, most in ((500, 20), (504, 10)):
        upstream.answer = lambda seen, status=status: web.Response(status=status)
        before = upstream.count()
        answers = [gateway.call("api___hello") for _ in range(20)]
        assert all(a.result["isError"] for a in answers)
        assert 5 <= upstream.count() - before <= most
        assert ("not called" in answers[-1].text) == (status == 504)


def test_a_target_that_hangs_does_not_hold_up_another(gateway: Gateway, served: Loop) -> None:
    release = threading.Event()

    async def hang(arguments: Json, seen: Seen) -> str:
        while not release.is_set():
            await asyncio.sleep(0.05)
        return "at last"

    with (
        McpUpstream(served, Tool("hang", act=hang)) as bad,
        McpUpstream(served, Tool("echo")) as good,
        ThreadPoolExecutor(60) as callers,
    ):
        gateway.add_mcp_server("bad", bad.endpoint)
        gateway.add_mcp_server("good", good.endpoint)
        at_every_worker(lambda: len(gateway.tools()) == 2)
        waiting = [callers.submit(gateway.call, "bad___hang") for _ in range(60)]
        until(lambda: bad.count("tools/call") == 60)
        started = time.monotonic()
        answers = [gateway.call("good___echo") for _ in range(10)]
        took = time.monotonic() - started
        release.set()
        assert all("isError" not in answer.result for answer in answers)
        assert took < 5
        assert {each.result(30).text for each in waiting} == {"at last"}


def test_a_target_that_was_started_again_is_called_at_once(
    gateway: Gateway, mcp_upstream: McpUpstream
) -> None:
    there = mcp_upstream
    gateway.add_mcp_server("there", there.endpoint)
    at_every_worker(lambda: "isError" not in gateway.call(ECHO).result)
    there.stop()
    there.start()
    before = there.count()
    answers = [gateway.call(ECHO) for _ in range(8)]
    assert all("isError" not in answer.result for answer in answers), answers
    assert there.count() == before + 8


def test_an_answer_is_only_so_large(gateway: Gateway, served: Loop) -> None:
    def much(arguments: Json, seen: Seen) -> Any:
        return "x" * (7 << 20)

    with McpUpstream(served, Tool("much", act=much)) as mcp:
        gateway.add_mcp_server("t", mcp.endpoint)
        answer = gateway.call("t___much")
        assert answer.result["isError"]
        assert len(answer.body) < 10_000
        assert "bytes" in answer.text
