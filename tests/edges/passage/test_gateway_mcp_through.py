"""An MCP server behind a passthrough target: nobody takes it apart on the way."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer
from passage_ground import Ground, through

pytestmark = pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")


@contextlib.asynccontextmanager
async def server() -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    mcp = MCPServer("behind")

    @mcp.tool()
    def add(a: int, b: int) -> int:
        return a + b

    config = uvicorn.Config(mcp.streamable_http_app(), log_config=None, lifespan="on", ws="none")
    serving = uvicorn.Server(config)
    serving.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    task = asyncio.create_task(serving.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        serving.should_exit = True
        await task


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_official_client_speaks_to_it_in_both_eras(ground: Ground, mode: str) -> None:
    headers = {"authorization": "Bearer user-ann"}
    async with server() as url, asyncio.timeout(30):
        ground.has(through("behind", url, "MCP"))
        async with (
            httpx.AsyncClient(headers=headers, timeout=20) as http,
            Client(
                streamable_http_client(f"{ground.url}/behind/mcp", http_client=http), mode=mode
            ) as client,
        ):
            tools = [tool.name for tool in (await client.list_tools()).tools]
            result = await client.call_tool("add", {"a": 2, "b": 3})
    assert tools == ["add"]
    assert result.structured_content == {"result": 5}
