"""Servers that do not answer as they should: each failure says what happened, and nothing leaks."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
from aiohttp import web
from upstream_ground import Caller, Ground, a_place, an_errand, standing

from freehold.adapters.mcp.events import Events
from freehold.ports.targets import Json, Place, RpcRefused, TargetFailed

Answering = Callable[[web.Request, Any], Awaitable[web.StreamResponse]]
MODERN: Json = {"versions": {"modern": "2026-07-28"}, "sessions": False}
LEGACY: Json = {"versions": {"legacy": "2025-11-25"}, "sessions": False}


class Raw:
    def __init__(self, url: str) -> None:
        self.url, self.gone = url, asyncio.Event()

    def place(self, server: Json = MODERN) -> Place:
        return msgspec.structs.replace(a_place(self.url), server=server)


@contextlib.asynccontextmanager
async def raw(answer: Answering) -> AsyncIterator[Raw]:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        try:
            return await answer(request, json.loads(body) if body else {})
        except asyncio.CancelledError:
            found.gone.set()
            raise

    app = web.Application()
    app.router.add_route("*", "/mcp", handle)
    runner = web.AppRunner(app, shutdown_timeout=1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found = Raw(f"http://127.0.0.1:{runner.addresses[0][1]}/mcp")
    try:
        yield found
    finally:
        await runner.cleanup()


def answering(status: int, body: Any = "", **headers: str) -> Answering:
    async def answer(request: web.Request, message: Any) -> web.Response:
        kind = headers.get("kind", "text/plain")
        text = body if isinstance(body, str) else json.dumps(body)
        more = {k.replace("_", "-"): v for k, v in headers.items() if k != "kind"}
        text = text.replace('"ID"', json.dumps(message.get("id")))
        return web.Response(status=status, text=text, content_type=kind, headers=more)

    return answer


def streaming(*pieces: str, cut: bool = False) -> Answering:
    async def answer(request: web.Request, message: Any) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            text = piece.replace('"ID"', json.dumps(message.get("id")))
            await response.write(text.encode())
        if cut:
            assert request.transport is not None
            request.transport.abort()
        return response

    return answer


async def failed(ground: Ground, place: Place, **errand: Any) -> TargetFailed:
    with pytest.raises(TargetFailed) as raised:
        await ground.call(place, "echo", **errand)
    assert "weather" in raised.value.message
    assert raised.value.message.isprintable()
    return raised.value


def result(text: str) -> Json:
    return {"jsonrpc": "2.0", "id": "ID", "result": {"content": [{"type": "text", "text": text}]}}


JSON = "application/json"
HTML = "<html><style>p{}</style><body><h1>Welcome</h1><script>x()</script>to the \x07 page</body>"


@pytest.mark.parametrize(
    ("answer", "said", "status"),
    [
        (answering(401), "did not accept the credential", 401),
        (
            answering(403, www_authenticate='Bearer error="insufficient_scope", scope="a b"'),
            "asks for the scope 'a b'", 403,
        ),
        (answering(404, HTML, kind="text/html"), "no MCP server at the endpoint", 404),
        (answering(429, retry_after="30"), r"\(429\); it may be asked again in 30 seconds", 429),
        (answering(500, HTML, kind="text/html"), r"failed \(500\)\. It said: Welcome to the", 500),
        (answering(503, {"error": {"message": "busy"}}, kind=JSON), "It said: busy", 503),
        (answering(307, location="http://other.example/mcp?k=v"), r"to other\.example, which", 307),
        (answering(200, HTML, kind="text/html"), r"\(200, text/html\)\. It said: Welcome to", 200),
        (answering(200, "so be it", kind=JSON), "no JSON-RPC: so be it", 200),
        (answering(200, "[1, 2]", kind=JSON), "no JSON-RPC", 200),
        (answering(200, "", kind=JSON), "no JSON-RPC", 200),
        (answering(202), r"no answer \(202\)", 202),
        (answering(200, {**result("x"), "id": 5}, kind=JSON), "another request", None),
        (answering(200, {"id": "ID"}, kind=JSON), "no result", None),
        (answering(200, result("x" * 2000), kind=JSON), "more than 1000 bytes", None),
        (streaming("data: " + "x" * 2000), "more than 1000 bytes", None),
        (streaming("data: rubbish\n\n"), "no JSON-RPC: rubbish", None),
        (streaming(": only a comment\n\n"), "without an answer", None),
        (streaming("data: {", cut=True), "broke off", None),
    ],
)  # fmt: skip
async def test_each_failure_says_what_happened(
    answer: Answering, said: str, status: int | None
) -> None:
    async with raw(answer) as server, standing(answer_bytes_max=1000) as ground:
        for known in (MODERN, LEGACY):
            failure = await failed(ground, server.place(known))
            with pytest.raises(TargetFailed, match=said):
                raise failure
            assert failure.status == status
            assert failure.unauthorized == (status in (401, 403))
            assert failure.retriable == (status in (429, 503))


async def test_an_error_of_the_protocol_passes_with_any_status() -> None:
    error = {"code": -32042, "message": "no", "data": {"elicitations": [1]}}
    for status in (200, 400, 404):
        answer = answering(status, {"jsonrpc": "2.0", "id": "ID", "error": error}, kind=JSON)
        async with raw(answer) as server, standing() as ground:
            with pytest.raises(RpcRefused) as refused:
                await ground.call(server.place(), "echo")
            assert (refused.value.code, refused.value.message) == (-32042, "no")
            assert refused.value.data == {"elicitations": [1]}


async def test_a_server_of_other_versions_by_now_is_to_be_looked_at_again() -> None:
    error = {"code": -32022, "message": "no", "data": {"supported": ["2027-01-01"]}}
    answer = answering(400, {"jsonrpc": "2.0", "id": "ID", "error": error}, kind=JSON)
    async with raw(answer) as server, standing() as ground:
        assert "synchronized" in (await failed(ground, server.place())).message


@pytest.mark.parametrize("body", ["[" * 1_000_000, '{"result": ' * 200_000, '{"id": "\\ud800"}'])
async def test_what_no_parser_should_be_given_is_rubbish(body: str) -> None:
    async with raw(answering(200, body, kind=JSON)) as server, standing() as ground:
        await failed(ground, server.place())


async def test_a_server_that_is_not_there_may_be_asked_again() -> None:
    async with raw(answering(200)) as server:
        pass
    async with standing() as ground:
        failure = await failed(ground, server.place())
    assert failure.retriable and not failure.timed_out


async def test_a_server_that_hangs_is_given_up_and_notices() -> None:
    async def hang(request: web.Request, message: Any) -> web.StreamResponse:
        if message.get("method") == "notifications/cancelled":
            return web.Response(status=202)
        await asyncio.Event().wait()
        raise AssertionError

    for known in (MODERN, LEGACY):
        async with raw(hang) as server, standing() as ground, asyncio.timeout(5):
            failure = await failed(ground, server.place(known), seconds_max=0.1)
            assert failure.timed_out and not failure.retriable
            await server.gone.wait()


async def test_no_failure_keeps_a_connection() -> None:
    async def by_turns(request: web.Request, message: Any) -> web.StreamResponse:
        answers = {
            "hang": streaming(": begun\n\n"),
            "cut": streaming("data: {", cut=True),
            "long": streaming("data: " + "x" * 2000),
            "rubbish": streaming("data: rubbish\n\n"),
            "huge": answering(200, result("x" * 2000), kind=JSON),
            "late": streaming(": begun\n\n"),
        }
        how = message.get("params", {}).get("arguments", {}).get("how", "")
        if how == "late":
            await asyncio.Event().wait()
        answer = answers.get(how, answering(200, result("fine"), kind=JSON))
        return await answer(request, message)

    async with (
        raw(by_turns) as server,
        standing(answer_bytes_max=1000, per_host_max=1) as ground,
        asyncio.timeout(20),
    ):
        for known in (MODERN, LEGACY):
            for how in ("hang", "cut", "long", "rubbish", "huge", "late"):
                with pytest.raises(TargetFailed):
                    await ground.call(server.place(known), "t", {"how": how}, seconds_max=0.3)
                assert await ground.text(server.place(known), "t") == "fine"


async def test_tasks_pass_with_what_names_them() -> None:
    """Those of one era, and the extension of the other: the SDK has neither."""
    seen: list[tuple[str, Any, str | None]] = []

    async def tasks(request: web.Request, message: Any) -> web.Response:
        params = message["params"]
        seen.append((message["method"], params.get("task"), request.headers.get("mcp-name")))
        task = {"resultType": "task", "taskId": "t1", "status": "working"}
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": task})

    async with raw(tasks) as server, standing() as ground:
        for known in (LEGACY, MODERN):
            begun = await ground.call(server.place(known), "slow", rest={"task": {"ttl": 60}})
            assert begun["taskId"] == "t1"
            params = {"taskId": "t1"}
            await ground.targets.request(server.place(known), "tasks/get", params, an_errand())
    assert seen == [
        ("tools/call", {"ttl": 60}, None), ("tasks/get", None, None),
        ("tools/call", {"ttl": 60}, "slow"), ("tasks/get", None, "t1"),
    ]  # fmt: skip


async def test_answers_to_others_on_a_stream_are_passed_over() -> None:
    other = json.dumps({**result("other"), "id": 5})
    answer = streaming(
        f"event: message\r\ndata: {other}\r\n\r\n: ping\r\n\r\n",
        f"id: 1\rdata: {json.dumps(result('ours'))}\r\r",
    )
    async with raw(answer) as server, standing() as ground:
        assert await ground.text(server.place(), "echo") == "ours"


async def test_a_list_that_changes_during_a_call_is_told_to_the_gateway_alone() -> None:
    changed = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
    answer = streaming(f"data: {json.dumps(changed)}\n\ndata: {json.dumps(result('x'))}\n\n")
    async with raw(answer) as server, standing() as ground:
        talk = Caller()
        assert await ground.text(server.place(), "echo", talk=talk) == "x"
        assert (talk.heard, ground.changes) == (
            [],
            [("weather", "notifications/tools/list_changed")],
        )


async def test_a_session_that_ends_at_once_is_not_opened_for_ever() -> None:
    methods: list[str] = []

    async def forgetful(request: web.Request, message: Any) -> web.Response:
        methods.append(message["method"])
        if message["method"] == "initialize":
            began = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}}
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": began}
            return web.json_response(answer, headers={"mcp-session-id": "s"})
        return web.Response(status=404 if "id" in message else 202)

    async with raw(forgetful) as server, standing() as ground:
        failure = await failed(ground, server.place({**LEGACY, "sessions": True}))
    assert "as soon as they begin" in failure.message
    assert methods.count("tools/call") == 2


async def test_an_error_that_only_speaks_of_sessions_is_itself() -> None:
    error = {"code": -32602, "message": "session_name: is required"}

    async def strict(request: web.Request, message: Any) -> web.Response:
        if message["method"] == "initialize":
            began = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}}
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": began}
            return web.json_response(answer, headers={"mcp-session-id": "s"})
        if "id" not in message:
            return web.Response(status=202)
        return web.json_response(
            {"jsonrpc": "2.0", "id": message["id"], "error": error}, status=400
        )

    async with raw(strict) as server, standing() as ground:
        with pytest.raises(RpcRefused, match="session_name"):
            await ground.call(server.place({**LEGACY, "sessions": True}), "t")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"protocolVersion": "1999-01-01"}, "speaks no version"),
        ({"protocolVersion": ["2025-11-25"]}, "speaks no version"),
        ({"protocolVersion": "2025-11-25", "id": "a\tb"}, "no session id"),
        ({"protocolVersion": "2025-11-25", "id": "x" * 2000}, "no session id"),
    ],
)
async def test_a_handshake_that_is_none_is_refused(given: Json, said: str) -> None:
    async def odd(request: web.Request, message: Any) -> web.Response:
        if message.get("method") != "initialize":
            return web.Response(status=400)
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": given}
        return web.json_response(answer, headers={"mcp-session-id": given.get("id", "s")})

    async with raw(odd) as server, standing() as ground:
        with pytest.raises(TargetFailed, match=said):
            await ground.targets.describe(server.place(), an_errand())


def listing(pages: Callable[[Json], Json]) -> Answering:
    async def answer(request: web.Request, message: Any) -> web.Response:
        if message["method"] == "server/discover":
            found: Json = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
        elif message["method"] == "tools/list":
            found = pages(message["params"])
        else:
            return web.Response(status=400)
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": found})

    return answer


async def test_all_pages_are_read_and_what_is_no_tool_is_named() -> None:
    def pages(params: Json) -> Json:
        number = int(params.get("cursor", "0"))
        tools: list[Any] = [{"name": f"t{number}", "inputSchema": {"type": "object"}}]
        if number == 2:
            shape = {"type": "object", "properties": {"a": {"type": "array", "x-mcp-header": "A"}}}
            tools += ["none", {"name": ""}, tools[0], {"name": "h", "inputSchema": shape}]
        return {"tools": tools, **({"nextCursor": str(number + 1)} if number < 2 else {})}

    async with raw(listing(pages)) as server, standing() as ground:
        found = await ground.targets.describe(server.place({}), an_errand())
    assert [definition.name for definition in found.definitions] == ["t0", "t1", "t2"]
    assert [problem.where for problem in found.problems] == [
        f"tools/list page 3, tools/{index}" for index in range(1, 5)
    ]
    assert "another tool called t2" in found.problems[2].why
    assert "no plain value" in found.problems[3].why


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ({"tools": [], "nextCursor": "again"}, "repeats a page"),
        ({"tools": "none"}, "lists no tools"),
        ({}, "lists no tools"),
    ],
)
async def test_a_list_that_is_none_or_has_no_end_is_refused(page: Json, said: str) -> None:
    async with raw(listing(lambda _: page)) as server, standing() as ground:
        with pytest.raises(TargetFailed, match=said):
            await ground.targets.describe(server.place({}), an_errand())


async def test_an_outage_is_not_taken_for_another_era() -> None:
    methods: list[str] = []

    async def busy(request: web.Request, message: Any) -> web.Response:
        methods.append(message["method"])
        return web.Response(status=503)

    async with raw(busy) as server, standing() as ground:
        with pytest.raises(TargetFailed, match="503"):
            await ground.targets.describe(server.place({}), an_errand())
    assert methods == ["server/discover"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_come_out_the_same_however_the_bytes_are_cut(end: str) -> None:
    lines = ["id: 7", "retry: 20", "data: one", "data:two", ": no", "", "data: \u00e9", "", ""]
    content = end.join(lines).encode()
    whole = Events(100).feed(content)
    assert [(event.data.decode(), event.id, event.retry_ms) for event in whole] == [
        ("one\ntwo", "7", 20),
        ("é", None, None),
    ]
    for size in range(1, len(content)):
        events, found = Events(100), []
        for start in range(0, len(content), size):
            found += events.feed(content[start : start + size])
        assert found == whole
