"""Streams and their ends: back-pressure, clients that leave, agents that break off."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aws_edge_driver import INVOKE, INVOKE_PATH, make_edge, served, signed_scope

from freehold.edges.aws import eventstream, model
from freehold.edges.aws.serialize import writer_of
from freehold.kernel.errors import RuntimeClientFailed
from freehold.kernel.request import Request

INTERPRET = "bedrock-agentcore:InvokeCodeInterpreter"


class Client:
    """One exchange in which the test decides when the client reads, and when it leaves."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)
        self._gone = asyncio.Event()
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        self.reads = asyncio.Semaphore(0)

    def leave(self) -> None:
        self._gone.set()

    async def receive(self) -> Any:
        if self._chunks:
            body = self._chunks.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(self._chunks)}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reads.acquire()
        await self.sent.put(message)

    async def next(self) -> Any:
        self.reads.release()
        async with asyncio.timeout(5):
            return await self.sent.get()


def start(edge: Any, client: Client, scope: Any = None) -> asyncio.Task[None]:
    scope = scope or signed_scope("POST", INVOKE_PATH, b"")
    return asyncio.create_task(edge(scope, client.receive, client.send))


async def ends(task: asyncio.Task[None]) -> None:
    """Of itself: a time-out that cancelled it would hide that it does not."""
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done, "it does not end"
    await task


async def test_a_client_that_leaves_while_it_waits_cancels_the_handler(tmp_path: Any) -> None:
    entered, cancelled, told = asyncio.Event(), asyncio.Event(), asyncio.Event()
    watchers = []

    async def handler(request: Request, params: dict[str, Any]) -> Any:
        async def watch() -> None:
            await request.disconnected()
            told.set()

        watchers.append(asyncio.create_task(watch()))
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    client = Client(b"")
    task = start(make_edge({INVOKE: handler}, tmp_path), client)
    await entered.wait()
    client.leave()
    await ends(task)
    assert cancelled.is_set()
    await ends(watchers[0])
    assert told.is_set()
    assert client.sent.empty()


class Source:
    """An endless stream that knows how much was taken from it, and whether it was closed."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = asyncio.Event()
        self.stalls = False

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            while True:
                if self.stalls and self.made == 2:
                    await asyncio.Event().wait()
                self.made += 1
                yield b"%d" % self.made
        finally:
            self.closed.set()


@pytest.mark.parametrize("stalls", [False, True], ids=["while sending", "while the agent thinks"])
async def test_a_client_that_leaves_in_mid_stream_closes_the_stream(
    tmp_path: Any, stalls: bool
) -> None:
    source = Source()
    source.stalls = stalls

    async def handler(request: Request, params: dict[str, Any]) -> Any:
        return {"contentType": "text/plain", "response": source.chunks()}

    client = Client(b"")
    task = start(make_edge({INVOKE: handler}, tmp_path), client)
    assert (await client.next())["status"] == 200
    assert (await client.next())["body"] == b"1"
    assert (await client.next())["body"] == b"2"
    client.leave()
    await ends(task)
    assert source.closed.is_set()


async def test_a_slow_client_holds_the_source_back(tmp_path: Any) -> None:
    source = Source()

    async def handler(request: Request, params: dict[str, Any]) -> Any:
        return {"contentType": "text/plain", "response": source.chunks()}

    client = Client(b"")
    task = start(make_edge({INVOKE: handler}, tmp_path), client)
    await client.next()
    for read in range(1, 20):
        await client.next()
        assert source.made <= read + 1
    client.leave()
    await ends(task)


async def test_a_client_that_leaves_in_mid_body_reaches_no_handler(tmp_path: Any) -> None:
    called = []

    async def handler(request: Request, params: dict[str, Any]) -> Any:
        called.append(params)

    class Leaver(Client):
        async def receive(self) -> Any:
            if self._chunks:
                return {"type": "http.request", "body": self._chunks.pop(0), "more_body": True}
            return {"type": "http.disconnect"}

    client = Leaver(b"half")
    scope = signed_scope("POST", INVOKE_PATH, b"half of it")
    await ends(start(make_edge({INVOKE: handler}, tmp_path), client, scope))
    assert not called and client.sent.empty()


async def test_a_cancellation_from_elsewhere_stays_one(tmp_path: Any) -> None:
    entered = asyncio.Event()

    async def handler(request: Request, params: dict[str, Any]) -> Any:
        entered.set()
        await asyncio.Event().wait()

    task = start(make_edge({INVOKE: handler}, tmp_path), Client(b""))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ends(task)


async def test_an_exchange_leaves_no_task_behind(tmp_path: Any) -> None:
    async def handler(request: Request, params: dict[str, Any]) -> Any:
        return {"contentType": "text/plain", "response": b"x"}

    before = asyncio.all_tasks()
    client = Client(b"")
    task = start(make_edge({INVOKE: handler}, tmp_path), client)
    await client.next()
    await client.next()
    await ends(task)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_an_output_that_cannot_be_sent_closes_its_stream(tmp_path: Any) -> None:
    source = Source()
    stream = source.chunks()

    async def handler(request: Request, params: dict[str, Any]) -> Any:
        await anext(stream)
        return {"contentType": "text/plain", "unknown": 1, "response": stream}

    client = Client(b"")
    task = start(make_edge({INVOKE: handler}, tmp_path), client)
    assert (await client.next())["status"] == 500
    await client.next()
    await ends(task)
    assert source.closed.is_set()


@pytest.mark.parametrize("error", [RuntimeClientFailed("died"), ValueError("a defect")])
async def test_a_stream_that_breaks_is_seen_to_be_cut_short(tmp_path: Any, error: Any) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise error

    async def handler(request: Request, params: dict[str, Any]) -> Any:
        return {"contentType": "text/plain", "response": broken()}

    edge = make_edge({INVOKE: handler}, tmp_path)
    async with served(edge) as endpoint:
        host, port = endpoint.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        scope = signed_scope("POST", INVOKE_PATH, b"")
        head = b"".join(b"%s: %s\r\n" % pair for pair in scope["headers"])
        writer.write(b"POST %s HTTP/1.1\r\n%s\r\n" % (INVOKE_PATH.encode(), head))
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"half" in answer
    assert not answer.endswith(b"0\r\n\r\n")


async def test_an_event_stream_closes_its_source_when_the_client_leaves(tmp_path: Any) -> None:
    closed = asyncio.Event()

    async def events() -> AsyncIterator[Any]:
        try:
            while True:
                yield {"result": {"content": [{"type": "text", "text": "4"}]}}
        finally:
            closed.set()

    async def handler(request: Request, params: dict[str, Any]) -> Any:
        return {"stream": events()}

    body = b'{"name":"executeCode"}'
    path = "/code-interpreters/aws.codeinterpreter.v1/tools/invoke"
    client = Client(body)
    edge = make_edge({INTERPRET: handler}, tmp_path)
    task = start(edge, client, signed_scope("POST", path, body))
    head = await client.next()
    assert (b"content-type", b"application/vnd.amazon.eventstream") in head["headers"]
    await client.next()
    client.leave()
    await ends(task)
    assert closed.is_set()


async def test_an_early_refusal_of_a_large_body_closes_the_connection(tmp_path: Any) -> None:
    edge = make_edge({}, tmp_path)
    client = Client(b"x", b"y")
    scope = signed_scope("POST", INVOKE_PATH, b"", {"Content-Length": "99000000000"})
    task = start(edge, client, scope)
    head = await client.next()
    assert head["status"] == 400
    assert (b"connection", b"close") in head["headers"]
    await client.next()
    await ends(task)


async def test_an_early_refusal_of_a_small_body_keeps_the_connection(tmp_path: Any) -> None:
    client = Client(b"ab", b"cd")
    scope = signed_scope("POST", "/nothing", b"abcd")
    task = start(make_edge({}, tmp_path), client, scope)
    head = await client.next()
    assert head["status"] == 404
    assert (b"connection", b"close") not in head["headers"]
    await client.next()
    await ends(task)


async def test_events_that_nobody_began_to_read_are_closed_all_the_same() -> None:
    closed = []

    class Events:
        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> Any:
            raise AssertionError("nobody reads")

        async def aclose(self) -> None:
            closed.append(True)

    shape = model.operations()["bedrock-agentcore:InvokeAgentRuntimeCommand"].output.payload.shape
    await eventstream.EncodedEvents(shape, Events(), writer_of, "request").aclose()
    assert closed
