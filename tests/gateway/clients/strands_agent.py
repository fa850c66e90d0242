"""A Strands agent whose tools are a gateway's. On AgentCore, or `strands_agent.py URL PROMPT`."""

import os
import sys

import httpx2
from mcp.client.streamable_http import streamable_http_client
from strands import Agent
from strands.models.openai import OpenAIModel
from strands.tools.mcp import MCPClient


def ask(url: str, prompt: str, **http: object) -> str:
    client = MCPClient(
        lambda: streamable_http_client(url, http_client=httpx2.AsyncClient(**http, timeout=30))
    )
    with client:
        model = OpenAIModel(model_id=os.environ["OPENAI_MODEL"])
        agent = Agent(model=model, tools=client.list_tools_sync(), callback_handler=None)
        return str(agent(prompt))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        from signing import Signed

        token = os.environ.get("TOKEN")
        http = {"headers": {"Authorization": f"Bearer {token}"}} if token else {"auth": Signed()}
        print(ask(sys.argv[1], sys.argv[2], **http))
    else:
        from bedrock_agentcore import BedrockAgentCoreApp

        app = BedrockAgentCoreApp()

        @app.entrypoint
        def answer(payload):
            return {"answer": ask(payload["gateway"], payload["prompt"])}

        app.run()
