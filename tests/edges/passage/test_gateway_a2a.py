"""An A2A agent behind a passthrough target, with the A2A project's own client and server."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from a2a.client import ClientConfig, ClientFactory
from a2a.helpers import get_message_text, new_text_message
from a2a.server.agent_execution import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentInterface,
    AgentSkill,
    Role,
    SendMessageRequest,
)
from passage_ground import Ground, through
from starlette.applications import Starlette


class Echo(AgentExecutor):  # type: ignore[misc]
    async def execute(self, context: Any, event_queue: Any) -> None:
        await event_queue.enqueue_event(new_text_message(f"again: {context.get_user_input()}"))

    async def cancel(self, context: Any, event_queue: Any) -> None:
        raise NotImplementedError


@contextlib.asynccontextmanager
async def agent() -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/echo/"
    card = AgentCard(
        name="echo", description="Says it again", version="1.0.0",
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text"], default_output_modes=["text"],
        skills=[AgentSkill(id="echo", name="echo", description="echo", tags=["echo"])],
        supported_interfaces=[
            AgentInterface(protocol_binding="JSONRPC", protocol_version="1.0", url=url),
        ],
    )  # fmt: skip
    handler = DefaultRequestHandler(
        agent_executor=Echo(), task_store=InMemoryTaskStore(), agent_card=card
    )
    app = Starlette()
    app.mount(
        "/echo",
        Starlette(routes=[*create_agent_card_routes(card), *create_jsonrpc_routes(handler, "/")]),
    )
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign]
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield url.rstrip("/")
    finally:
        server.should_exit = True
        await task


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streaming"])
async def test_the_a2a_client_finds_the_agent_by_its_card_and_talks_to_it_through_the_gateway(
    ground: Ground, client: httpx.AsyncClient, streaming: bool
) -> None:
    async with agent() as url, asyncio.timeout(20):
        ground.has(through("echo", url, "A2A"))
        factory = ClientFactory(ClientConfig(streaming=streaming, httpx_client=client))
        a2a = await factory.create_from_url(f"{ground.url}/echo")
        message = new_text_message("hello", role=Role.ROLE_USER)
        texts = [
            get_message_text(event.message)
            async for event in a2a.send_message(SendMessageRequest(message=message))
            if event.HasField("message")
        ]
        card = (await client.get("/echo/.well-known/agent-card.json")).json()
    assert texts == ["again: hello"]
    assert card["supportedInterfaces"][0]["url"] == f"{ground.url}/echo/"
    asked = [each for each in ground.audit.events if each.phase == "outcome"]
    assert len(asked) == 3, "nothing went around the gateway"
