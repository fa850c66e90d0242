"""Sessions live in the store: any worker serves them, and what concerns a call finds its worker."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from mcp_ground import MakeWorker, Worker, begun, call, door

ELICITS = {"elicitation": {}}


@pytest.fixture
async def other(new_worker: MakeWorker) -> AsyncIterator[Worker]:
    """A second worker of the same installation."""
    async with new_worker() as worker:
        yield worker


@asynccontextmanager
async def streaming(
    http: httpx.AsyncClient, method: str, url: str, **options: Any
) -> AsyncIterator["Events"]:
    async with asyncio.timeout(20), http.stream(method, url, **options) as answer:
        assert answer.headers["content-type"] == "text/event-stream", await answer.aread()
        yield Events(answer)


class Events:
    """Of an SSE stream: (id, message), message None where there is no data."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()
        self.last = ""

    def __aiter__(self) -> "Events":
        return self

    async def __anext__(self) -> tuple[str, Any]:
        id, data = "", None
        async for line in self._lines:
            name, _, value = line.partition(": ")
            if name == "id":
                self.last = id = value
            elif name == "data":
                data = value
            elif not line and data is not None:
                return id, json.loads(data) if data else None
        raise StopAsyncIteration


async def ping(http: httpx.AsyncClient, url: str, headers: dict[str, str]) -> int:
    body = {"jsonrpc": "2.0", "id": 9, "method": "ping"}
    return (await http.post(url, json=body, headers=headers)).status_code


async def test_any_worker_serves_a_session(
    worker: Worker, other: Worker, http: httpx.AsyncClient
) -> None:
    headers = await begun(http, worker.at(), **ELICITS)
    answer = await http.post(other.at(), json=call("echo", text="x"), headers=headers)
    assert answer.json()["result"]["content"][0]["text"] == "x"
    client = other.gateway.clients[0]
    assert (client.era, client.version, client.capabilities) == ("legacy", "2025-11-25", ELICITS)
    assert client.session == headers["mcp-session-id"]


async def test_a_session_survives_its_worker(
    new_worker: MakeWorker, http: httpx.AsyncClient
) -> None:
    async with new_worker() as worker:
        headers = await begun(http, worker.at())
    async with new_worker() as worker:
        assert await ping(http, worker.at(), headers) == 200


async def test_a_session_ended_at_one_worker_is_over_at_all(
    worker: Worker, other: Worker, http: httpx.AsyncClient
) -> None:
    headers = await begun(http, worker.at())
    assert await ping(http, other.at(), headers) == 200
    async with streaming(http, "GET", other.at(), headers=headers) as events:
        assert (await http.delete(worker.at(), headers=headers)).status_code == 204
        assert [event async for event in events] == []
    assert await ping(http, other.at(), headers) == 404
    assert (await http.delete(other.at(), headers=headers)).status_code == 404


async def test_the_end_of_a_session_cancels_its_calls_everywhere(
    worker: Worker, other: Worker, http: httpx.AsyncClient
) -> None:
    headers = await begun(http, worker.at())
    waiting = asyncio.create_task(http.post(other.at(), json=call("wait"), headers=headers))
    await other.gateway.waiting.wait()
    await http.delete(worker.at(), headers=headers)
    async with asyncio.timeout(10):
        await other.gateway.cancelled.wait()
        assert (await waiting).json()["error"]["code"] == -32800


async def test_a_session_is_its_owners_alone(
    new_worker: MakeWorker, http: httpx.AsyncClient, tenant: str
) -> None:
    doors = [door(tenant, id, authorizer="CUSTOM_JWT") for id in ("one", "two")]
    alice, bob = ({"authorization": f"Bearer {name}-token"} for name in ("alice", "bob"))
    async with new_worker(*doors) as worker:
        http.headers.update(alice)
        headers = await begun(http, worker.at("one"), **ELICITS)
        http.headers.clear()
        for url, who, status in (
            (worker.at("one"), alice, 200),
            (worker.at("one"), bob, 404),
            (worker.at("two"), alice, 404),
            (worker.at("two"), bob, 404),
            (worker.at("one"), {}, 401),
        ):
            assert await ping(http, url, {**headers, **who}) == status
            if status == 404:
                for method in ("GET", "DELETE"):
                    answer = await http.request(method, url, headers={**headers, **who})
                    assert answer.status_code == 404
        assert await ping(http, worker.at("one"), {**headers, **alice}) == 200


async def test_nobody_else_can_answer_a_sessions_question_or_cancel_its_call(
    worker: Worker, http: httpx.AsyncClient
) -> None:
    mine = await begun(http, worker.at(), **ELICITS)
    theirs = await begun(http, worker.at(), **ELICITS)
    asking = call("test_elicitation", 5, message="who?")
    async with streaming(http, "POST", worker.at(), json=asking, headers=mine) as events:
        await anext(events)
        _, question = await anext(events)
        forged = {
            "jsonrpc": "2.0", "id": question["id"],
            "result": {"action": "accept", "content": {"username": "mallory"}},
        }  # fmt: skip
        cancelled = {
            "jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5},
        }  # fmt: skip
        for body in (forged, cancelled):
            answer = await http.post(worker.at(), json=body, headers=theirs)
            assert answer.status_code == 202
        honest = {**forged, "result": {"action": "decline"}}
        await http.post(worker.at(), json=honest, headers=mine)
        _, result = await anext(events)
        assert "action=decline" in result["result"]["content"][0]["text"]


@pytest.mark.parametrize("long", [False, True])
async def test_an_answer_that_comes_to_another_worker_finds_its_question(
    worker: Worker, other: Worker, http: httpx.AsyncClient, *, long: bool
) -> None:
    """A long one does not fit in a notification."""
    headers = await begun(http, worker.at(), **ELICITS)
    name = "a" * 50_000 if long else "ada"
    asking = call("test_elicitation", message="who?")
    async with streaming(http, "POST", worker.at(), json=asking, headers=headers) as events:
        await anext(events)
        _, question = await anext(events)
        assert question["method"] == "elicitation/create"
        result = {"action": "accept", "content": {"username": name}}
        body = {"jsonrpc": "2.0", "id": question["id"], "result": result}
        answer = await http.post(other.at(), json=body, headers=headers)
        assert (answer.status_code, answer.content) == (202, b"")
        _, result = await anext(events)
        assert name in result["result"]["content"][0]["text"]
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_an_error_of_the_client_passes_to_the_target(
    worker: Worker, http: httpx.AsyncClient
) -> None:
    headers = await begun(http, worker.at(), **ELICITS)
    asking = call("test_elicitation", message="who?")
    async with streaming(http, "POST", worker.at(), json=asking, headers=headers) as events:
        await anext(events)
        _, question = await anext(events)
        error = {"code": -1, "message": "user rejected"}
        body = {"jsonrpc": "2.0", "id": question["id"], "error": error}
        await http.post(worker.at(), json=body, headers=headers)
        assert (await anext(events))[1]["error"] == error


async def test_a_cancellation_that_comes_to_another_worker_finds_its_call(
    worker: Worker, other: Worker, http: httpx.AsyncClient
) -> None:
    headers = await begun(http, worker.at())
    for id in (5, "five"):
        worker.gateway.waiting.clear()
        worker.gateway.cancelled.clear()
        waiting = asyncio.create_task(
            http.post(worker.at(), json=call("wait", id), headers=headers)
        )
        await worker.gateway.waiting.wait()
        params = {"requestId": id, "reason": "changed my mind"}
        body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
        assert (await http.post(other.at(), json=body, headers=headers)).status_code == 202
        async with asyncio.timeout(10):
            await worker.gateway.cancelled.wait()
            answer = (await waiting).json()
        assert (answer["id"], answer["error"]["code"]) == (id, -32800)


async def test_a_client_that_goes_away_cancels_its_call(
    worker: Worker, http: httpx.AsyncClient
) -> None:
    waiting = asyncio.create_task(http.post(worker.at(), json=call("wait")))
    await worker.gateway.waiting.wait()
    waiting.cancel()
    async with asyncio.timeout(10):
        await worker.gateway.cancelled.wait()


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_stream_that_broke_off_is_resumed_where_it_stopped(
    worker: Worker, other: Worker, http: httpx.AsyncClient, *, elsewhere: bool
) -> None:
    headers = await begun(http, worker.at(), **ELICITS)
    asking = call("test_elicitation", message="who?")
    async with streaming(http, "POST", worker.at(), json=asking, headers=headers) as events:
        primed, nothing = await anext(events)
        assert primed
        assert nothing is None
        _, question = await anext(events)
    back = {**headers, "last-event-id": primed}
    url = other.at() if elsewhere else worker.at()
    async with streaming(http, "GET", url, headers=back) as events:
        assert (await anext(events))[1] == question
        result = {"action": "decline"}
        body = {"jsonrpc": "2.0", "id": question["id"], "result": result}
        await http.post(worker.at(), json=body, headers=headers)
        assert "decline" in (await anext(events))[1]["result"]["content"][0]["text"]
        assert [event async for event in events] == []
    back["last-event-id"] = events.last
    async with streaming(http, "GET", url, headers=back) as events:
        assert [event async for event in events] == []


async def test_a_stream_is_resumed_by_its_own_session_alone(
    worker: Worker, http: httpx.AsyncClient
) -> None:
    mine, theirs = await begun(http, worker.at(), **ELICITS), await begun(http, worker.at())
    asking = call("test_elicitation", message="who?")
    async with streaming(http, "POST", worker.at(), json=asking, headers=mine) as events:
        primed, _ = await anext(events)
        await anext(events)
        back = {**theirs, "last-event-id": primed}
        async with streaming(http, "GET", worker.at(), headers=back) as stolen:
            async with asyncio.timeout(10):
                while not worker.gateway.listeners:
                    await asyncio.sleep(0.01)
            worker.gateway.change("notifications/tools/list_changed")
            assert (await anext(stolen))[1]["method"] == "notifications/tools/list_changed"


async def test_a_stream_that_nobody_resumes_ends_its_call(
    worker: Worker, http: httpx.AsyncClient
) -> None:
    worker.edge.underway.grace_seconds = 0.2
    headers = await begun(http, worker.at(), **ELICITS)
    asking = call("test_elicitation", 5, message="who?")
    async with streaming(http, "POST", worker.at(), json=asking, headers=headers) as events:
        await anext(events)
        _, question = await anext(events)
        assert worker.edge.underway.questions.waits(headers["mcp-session-id"], question["id"])
    async with asyncio.timeout(10):
        while worker.edge.underway.questions.waits(headers["mcp-session-id"], question["id"]):
            await asyncio.sleep(0.01)


async def test_older_revisions_see_no_event_without_data(
    worker: Worker, http: httpx.AsyncClient
) -> None:
    headers = await begun(http, worker.at(), "2025-06-18", **ELICITS)
    asking = call("test_elicitation", message="who?")
    async with streaming(http, "POST", worker.at(), json=asking, headers=headers) as events:
        assert (await anext(events))[1]["method"] == "elicitation/create"


async def test_a_long_silent_call_is_kept_alive(worker: Worker, http: httpx.AsyncClient) -> None:
    from freehold.edges.mcp.answer import Answer

    before, Answer.keep_alive_seconds = Answer.keep_alive_seconds, 0.05
    try:
        async with (
            asyncio.timeout(10),
            http.stream("POST", worker.at(), json=call("wait")) as answer,
        ):
            lines = answer.aiter_lines()
            for _ in range(3):
                assert await anext(lines) == ": keep-alive"
                assert not await anext(lines)
            worker.gateway.go_on.set()
            rest = [line async for line in lines]
            assert any('"waited"' in line for line in rest)
    finally:
        Answer.keep_alive_seconds = before


async def test_without_a_session_calls_are_answered_and_nothing_is_asked(
    worker: Worker, http: httpx.AsyncClient
) -> None:
    """Scripts for AgentCore's gateways call without `initialize`."""
    answer = await http.post(worker.at(), json=call("echo", text="x"))
    assert answer.json()["result"]["content"][0]["text"] == "x"
    assert worker.gateway.clients[0].version == "2025-03-26"
    answer = await http.post(worker.at(), json=call("test_elicitation", message="who?"))
    assert "cannot ask" in answer.json()["result"]["content"][0]["text"]
    for method in ("GET", "DELETE"):
        assert (await http.request(method, worker.at())).status_code == 400


async def test_a_gateway_without_streaming_answers_with_json_alone(
    new_worker: MakeWorker, http: httpx.AsyncClient, tenant: str
) -> None:
    async with new_worker(door(tenant, streaming=False)) as worker:
        headers = await begun(http, worker.at(), **ELICITS)
        answer = await http.post(worker.at(), json=call("test_tool_with_logging"), headers=headers)
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["result"]["content"][0]["text"] == "logged"
        answer = await http.post(
            worker.at(), json=call("test_elicitation", message="who?"), headers=headers
        )
        assert answer.json()["result"]["isError"]


async def test_a_gateways_versions_are_the_only_ones(
    new_worker: MakeWorker, http: httpx.AsyncClient, tenant: str
) -> None:
    from mcp import Client

    async with new_worker(door(tenant, versions=("2025-06-18", "2025-03-26"))) as worker:
        async with asyncio.timeout(20), Client(worker.at()) as client:
            assert client.protocol_version == "2025-06-18"
        headers = {"mcp-protocol-version": "2025-11-25"}
        answer = await http.post(worker.at(), json=call("echo", text="x"), headers=headers)
        assert answer.json()["error"]["data"]["supported"] == ["2025-06-18", "2025-03-26"]
    async with new_worker(door(tenant, versions=("2026-07-28",))) as worker:
        async with asyncio.timeout(20), Client(worker.at()) as client:
            assert client.protocol_version == "2026-07-28"
        body = {
            "jsonrpc": "2.0", "id": 0, "method": "initialize",
            "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}},
        }  # fmt: skip
        answer = await http.post(worker.at(), json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32022)


async def test_a_worker_that_stops_keeps_nobody_waiting(
    new_worker: MakeWorker, http: httpx.AsyncClient
) -> None:
    """Neither for a stream that stands, nor for a client that has gone away."""
    async with new_worker() as worker:
        headers = await begun(http, worker.at(), **ELICITS)
        asking = call("test_elicitation", message="who?")
        async with streaming(http, "POST", worker.at(), json=asking, headers=headers) as events:
            await anext(events)
            _, question = await anext(events)
        async with streaming(http, "GET", worker.at(), headers=headers) as events:
            worker.edge.stop()
            assert [event async for event in events] == []
        async with asyncio.timeout(10):
            while worker.edge.underway.questions.waits(headers["mcp-session-id"], question["id"]):
                await asyncio.sleep(0.01)


async def test_a_stream_does_not_outlive_its_callers_token(
    new_worker: MakeWorker, http: httpx.AsyncClient, tenant: str
) -> None:
    async with new_worker(door(tenant, authorizer="CUSTOM_JWT")) as worker:
        http.headers["authorization"] = "Bearer alice-token"
        headers = await begun(http, worker.at())
        worker.edge.bearer.claims = {"exp": time.time() + 0.5}  # type: ignore[attr-defined]
        async with streaming(http, "GET", worker.at(), headers=headers) as events:
            assert [event async for event in events] == []


async def test_what_is_kept_for_clients_that_come_back_is_bounded(
    worker: Worker, http: httpx.AsyncClient
) -> None:
    keeping = worker.edge.underway.keeping
    keeping.bytes_max, worker.edge.underway.grace_seconds = 1000, 0.2
    headers = await begun(http, worker.at())
    logging = call("test_tool_with_logging")
    async with streaming(http, "POST", worker.at(), json=logging, headers=headers) as events:
        assert len([event async for event in events]) == 5
        assert 0 < keeping.used_bytes <= 1000
    keeping.bytes_max = 100
    async with streaming(http, "POST", worker.at(), json=logging, headers=headers) as events:
        assert len([event async for event in events]) == 5
    async with asyncio.timeout(10):
        while keeping.used_bytes:
            await asyncio.sleep(0.01)
