"""An agent whose tools come from a gateway: it knows the gateway's id, and no API and no key.

The platform is at one loopback port of its session, and knows who asks: no signature is needed.
"""

import asyncio
import json
import os
import urllib.request
from typing import Any

from bedrock_agentcore import BedrockAgentCoreApp
from mcp import Client

GATEWAY = f"{os.environ['FREEHOLD_GATEWAY_URL']}/{os.environ['GATEWAY_ID']}/mcp"
TURNS_MAX = 8

app = BedrockAgentCoreApp()


@app.entrypoint
async def answer(payload: dict[str, Any]) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": payload["prompt"]}]
    async with Client(GATEWAY) as gateway:
        listed = (await gateway.list_tools()).tools
        tools = [{"type": "function", "function": as_function(tool)} for tool in listed]
        for _ in range(TURNS_MAX):
            said = await asyncio.to_thread(ask_model, messages, tools)
            messages.append(said)
            if not said.get("tool_calls"):
                return {"answer": said["content"], "tools": [tool.name for tool in listed]}
            for call in said["tool_calls"]:
                arguments = json.loads(call["function"]["arguments"])
                result = await gateway.call_tool(call["function"]["name"], arguments)
                text = "\n".join(part.text for part in result.content if part.type == "text")
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": text})
    return {"answer": "I came to no end.", "tools": [tool.name for tool in listed]}


def as_function(tool: Any) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description or "",
        "parameters": tool.input_schema,
    }


def ask_model(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> dict[str, Any]:
    """One turn over the chat-completions wire."""
    body = {"model": os.environ.get("OPENAI_MODEL", "default"), "messages": messages}
    if tools:
        body["tools"] = tools
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        said: dict[str, Any] = json.load(response)["choices"][0]["message"]
    return said


if __name__ == "__main__":
    app.run()
