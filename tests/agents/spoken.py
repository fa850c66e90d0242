"""Servers of the protocols, each as its own SDK's documentation writes it; SERVE names the one.

PORT and SERVED_PATH move it.
"""

import asyncio
import json
import os

import uvicorn

HOST = "0.0.0.0"


def mcp(stateless, port=8000, path="/mcp"):
    from mcp.server.mcpserver import Context, MCPServer

    server = MCPServer("counter")
    counted = []

    @server.tool()
    def count(by: int) -> int:
        """Add to a number that this process keeps."""
        counted.append(by)
        return sum(counted)

    @server.tool()
    def headers(context: Context) -> dict[str, str]:
        """The headers of the request."""
        return dict(context.headers or {})

    @server.tool()
    async def steps(context: Context) -> str:
        """Tells of its progress."""
        for step in (1, 2):
            await context.report_progress(step, 2)
        return "done"

    server.run(
        "streamable-http",
        host=HOST,
        port=port,
        streamable_http_path=path,
        stateless_http=stateless,
    )


def a2a(port=9000):
    from a2a.helpers import new_text_message
    from a2a.server.agent_execution import AgentExecutor
    from a2a.server.request_handlers import DefaultRequestHandler
    from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
    from a2a.server.tasks import InMemoryTaskStore
    from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
    from starlette.applications import Starlette

    said = []

    class Echo(AgentExecutor):
        async def execute(self, context, event_queue):
            said.append(context.get_user_input())
            await event_queue.enqueue_event(new_text_message(f"{len(said)}: {said[-1]}"))

        async def cancel(self, context, event_queue):
            raise NotImplementedError

    inside = f"http://localhost:{port}/"
    card = AgentCard(
        name="echo",
        description="Says it again, and counts",
        version="1.0.0",
        capabilities=AgentCapabilities(streaming=True),
        default_input_modes=["text"],
        default_output_modes=["text"],
        skills=[AgentSkill(id="echo", name="echo", description="echo", tags=["echo"])],
        supported_interfaces=[
            AgentInterface(protocol_binding="JSONRPC", protocol_version="1.0", url=inside),
            AgentInterface(protocol_binding="JSONRPC", protocol_version="0.3", url=inside),
            AgentInterface(protocol_binding="GRPC", protocol_version="1.0", url="localhost:9001"),
        ],
    )
    handler = DefaultRequestHandler(
        agent_executor=Echo(), task_store=InMemoryTaskStore(), agent_card=card
    )
    routes = create_agent_card_routes(card)
    routes += create_jsonrpc_routes(handler, "/", enable_v0_3_compat=True)
    uvicorn.run(Starlette(routes=routes), host=HOST, port=port)


def agui(port=8080, path="/invocations"):
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.routing import Route

    async def run(request):
        asked = await request.json()
        ids = {"threadId": asked["threadId"], "runId": asked["runId"]}
        said = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "1", "delta": asked["messages"][-1]}

        async def events():
            for event in ({"type": "RUN_STARTED", **ids}, said, {"type": "RUN_FINISHED", **ids}):
                yield f"data: {json.dumps(event)}\n\n"
                await asyncio.sleep(0)

        return StreamingResponse(events(), media_type="text/event-stream")

    async def ping(request):
        return JSONResponse({"status": "Healthy"})

    routes = [Route(path, run, methods=["POST"]), Route("/ping", ping)]
    uvicorn.run(Starlette(routes=routes), host=HOST, port=port)


if __name__ == "__main__":
    moved = {}
    if "PORT" in os.environ:
        moved["port"] = int(os.environ["PORT"])
    if "SERVED_PATH" in os.environ:
        moved["path"] = os.environ["SERVED_PATH"]
    match os.environ["SERVE"]:
        case "mcp":
            mcp(stateless=True, **moved)
        case "mcp-stateful":
            mcp(stateless=False, **moved)
        case "a2a":
            a2a(**moved)
        case "agui":
            agui(**moved)
