"""Servers for the targets of gateways, each of which keeps what it was asked.

They live in a thread of their own: tests that wait for the platform do not stop them.
"""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

from aiohttp import web

from running import until

Json = dict[str, Any]
MODERN = "2026-07-28"
_SECONDS_MAX = 120


class Loop:
    """An event loop in a thread."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS_MAX)
        self._loop.close()

    def run(self, work: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(_SECONDS_MAX)

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


@dataclass
class Seen:
    """A request that an upstream got. `headers`: lower-case names."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    url: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answering = Callable[[Seen], Any]
"""A JSON value, or an aiohttp answer; or an awaitable of one."""


class Upstream:
    """An HTTP server that keeps what it was asked. What `answer` gives is JSON."""

    def __init__(self, loop: Loop, answer: Answering = lambda seen: {"ok": True}) -> None:
        self._loop, self.answer = loop, answer
        self.seen: list[Seen] = []
        self.url = ""
        self._port = 0
        self._runner: web.AppRunner | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """On the port that it had before, if it had one."""
        self._loop.run(self._start())

    def stop(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            self._loop.run(runner.cleanup())

    async def _start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        raw = request.raw_path
        seen = Seen(
            method=request.method,
            path=raw.partition("?")[0],
            query=dict(parse_qsl(raw.partition("?")[2], keep_blank_values=True)),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=await request.read(),
            url=f"{self.url}{raw}",
        )
        self.seen.append(seen)
        answer = self.answer(seen)
        if hasattr(answer, "__await__"):
            answer = await answer
        return answer if isinstance(answer, web.StreamResponse) else web.json_response(answer)

    def count(self, method: str | None = None) -> int:
        """Of JSON-RPC requests of this method, or of all requests."""
        if method is None:
            return len(self.seen)
        return sum(1 for s in self.seen if s.method == "POST" and s.json.get("method") == method)


@dataclass
class Tool:
    name: str
    description: str = "A tool."
    schema: Json = field(default_factory=lambda: {"type": "object"})
    act: Callable[[Json, Seen], Any] = lambda arguments, seen: arguments
    """A text, a JSON value, a whole result (a dict with "content") or an awaitable of one."""
    more: Json = field(default_factory=dict)

    @property
    def listed(self) -> Json:
        return {
            "name": self.name, "description": self.description, "inputSchema": self.schema,
            **self.more,
        }  # fmt: skip


class McpUpstream(Upstream):
    """An MCP server without sessions whose tools a test changes as it likes. `era`: "modern" knows
    no `initialize`, "legacy" knows nothing else."""

    def __init__(self, loop: Loop, *tools: Tool, era: str = "modern") -> None:
        super().__init__(loop, self._rpc)
        self.tools = {tool.name: tool for tool in tools}
        self.era = era
        self.tells: list[str] = []
        """Notifications that the next answer to a call comes after."""

    @property
    def endpoint(self) -> str:
        return f"{self.url}/mcp"

    async def _rpc(self, seen: Seen) -> Any:
        if seen.method != "POST":
            return web.Response(status=405)
        message = seen.json
        if "id" not in message:
            return web.Response(status=202)
        method, params = message["method"], message.get("params") or {}
        modern = seen.headers.get("mcp-protocol-version") == MODERN
        if modern and self.era == "legacy":
            error = {"code": -32000, "message": "Unsupported protocol version"}
            body = {"jsonrpc": "2.0", "id": message["id"], "error": error}
            return web.json_response(body, status=400)
        result = self._result(method)
        if method == "tools/call":
            tool = self.tools.get(params["name"])
            if tool is None:
                return self._refused(message, -32602, "Unknown tool")
            result = tool.act(params.get("arguments") or {}, seen)
            if hasattr(result, "__await__"):
                result = await result
            if not (isinstance(result, dict) and "content" in result):
                text = result if isinstance(result, str) else json.dumps(result)
                result = {"content": [{"type": "text", "text": text}]}
        if result is None:
            return self._refused(message, -32601, "Method not found")
        if modern:
            result = {"resultType": "complete", **result}
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        if method != "tools/call" or not self.tells:
            return answer
        told = [{"jsonrpc": "2.0", "method": tell, "params": {}} for tell in self.tells]
        self.tells = []
        events = "".join(f"data: {json.dumps(each)}\n\n" for each in (*told, answer))
        return web.Response(text=events, content_type="text/event-stream")

    def _result(self, method: str) -> Json | None:
        about = {"capabilities": {"tools": {}}, "serverInfo": {"name": "upstream", "version": "1"}}
        if method == "initialize" and self.era == "legacy":
            return {"protocolVersion": "2025-11-25", **about}
        if method == "server/discover" and self.era == "modern":
            return {"supportedVersions": [MODERN], "ttlMs": 0, "cacheScope": "public", **about}
        if method == "ping":
            return {}
        if method == "tools/list":
            listed: Json = {"tools": [tool.listed for tool in self.tools.values()]}
            return listed | ({"ttlMs": 0, "cacheScope": "public"} if self.era == "modern" else {})
        return None

    def _refused(self, message: Json, code: int, text: str) -> Any:
        error = {"code": code, "message": text}
        return {"jsonrpc": "2.0", "id": message["id"], "error": error}


class Everything:
    """tests/mcp_everything.py in a process of its own."""

    def __enter__(self) -> Self:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        program = Path(__file__).with_name("mcp_everything.py")
        self._process = subprocess.Popen(
            [sys.executable, program, str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{port}/mcp"

        def listens() -> bool:
            assert self._process.poll() is None, "the server ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        until(listens)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(_SECONDS_MAX)
