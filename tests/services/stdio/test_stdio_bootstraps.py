"""Both bootstraps, each with a server in its language, and the official client of MCP."""

import asyncio
import json
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from mcp import Client, types
from mcp.shared.exceptions import MCPError

from freehold.services.stdio import bundle
from npm_packages import node_root

_HERE = Path(__file__).parent
_SERVERS = {
    "PYTHON_3_12": _HERE.parents[1] / "gateway_inner" / "stdio_server.py",
    "NODE_22": _HERE / "node_server.mjs",
}


def program(runtime: str) -> str:
    if runtime.startswith("PYTHON"):
        return sys.executable
    root = node_root()
    found = str(root / "bin" / "node") if root is not None else shutil.which("node")
    if found is None:
        pytest.skip("there is no Node.js on this machine")
    return found


@asynccontextmanager
async def serving(
    directory: Path, runtime: str, command: list[str] | None = None, **more: Any
) -> AsyncIterator[str]:
    """The URL of the MCP endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server, name = _SERVERS[runtime], bundle.entry_point(runtime)
    shutil.copy(server, directory / server.name)
    source = Path(bundle.__file__).with_name(f"bootstrap{Path(name).suffix}").read_text()
    (directory / name).write_text(
        source.replace("PORT = 8000", f"PORT = {port}").replace("0.0.0.0", "127.0.0.1")
    )
    asked = {"command": command or [server.name, "--verbose"], "program": False, **more}
    process = await asyncio.create_subprocess_exec(
        program(runtime), name, cwd=directory, stderr=asyncio.subprocess.DEVNULL,
        env={"_FREEHOLD_STDIO_COMMAND": json.dumps(asked), "HOME": str(directory)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(30):
            await _listens(port)
            yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        await process.wait()


async def _listens(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            return


@pytest.fixture(params=["PYTHON_3_12", "NODE_22"])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    async with serving(tmp_path, request.param) as url:
        yield url


def document(result: types.CallToolResult) -> Any:
    return json.loads(result.content[-1].text)  # type: ignore[union-attr]


async def test_a_server_is_called_by_streamable_http(url: str) -> None:
    progressed: list[float] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        progressed.append(done)

    async with Client(url, mode="legacy") as client:
        listed = await client.list_tools()
        where = document(await client.call_tool("where", {}))
        await client.call_tool("count", {}, progress_callback=progress)
    assert {"where", "count", "die"} <= {tool.name for tool in listed.tools}
    assert where["arguments"] == ["--verbose"]
    assert progressed == [1, 2]


async def test_each_session_has_a_process_that_ends_with_it(url: str) -> None:
    async with Client(url, mode="legacy") as first, Client(url, mode="legacy") as second:
        with pytest.raises(MCPError, match="ended"):
            await first.call_tool("die", {})
        assert document(await second.call_tool("where", {}))


async def test_a_client_of_the_newest_era_finds_that_it_has_sessions(url: str) -> None:
    async with Client(url, mode="auto") as client:
        assert document(await client.call_tool("where", {}))


async def test_what_is_no_request_of_a_session_is_refused(url: str) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    async with aiohttp.ClientSession() as http:
        for body, session, status in (
            (b"{", None, 400),
            (json.dumps(call).encode(), "f" * 32, 404),
            (json.dumps({"jsonrpc": "2.0", "id": 1, "result": {}}).encode(), None, 404),
        ):
            headers = {"Mcp-Session-Id": session} if session else {}
            async with http.post(url, data=body, headers=headers) as answer:
                assert answer.status == status, body
        async with http.get(url.replace("/mcp", "/ping")) as answer:
            assert (await answer.json())["status"] == "Healthy"
        async with http.get(url) as answer:
            assert answer.status == 405


@pytest.mark.parametrize("runtime", ["PYTHON_3_12", "NODE_22"])
async def test_a_server_that_does_not_start_says_so(tmp_path: Path, runtime: str) -> None:
    async with serving(tmp_path, runtime, ["./nothing-here"], program=True) as url:
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
        async with aiohttp.ClientSession() as http, http.post(url, json=body) as answer:
            assert "does not start" in (await answer.json())["error"]["message"]
