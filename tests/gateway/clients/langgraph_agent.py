"""A LangGraph agent with a gateway's tools. On AgentCore, or `langgraph_agent.py URL PROMPT`."""

import asyncio
import os
import sys

from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition


async def ask(url: str, prompt: str, **http: object) -> str:
    connection = {"transport": "streamable_http", "url": url, **http}
    tools = await MultiServerMCPClient({"gateway": connection}).get_tools()
    model = ChatOpenAI(model=os.environ["OPENAI_MODEL"]).bind_tools(tools)

    async def think(state: MessagesState):
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    state = await graph.compile().ainvoke({"messages": [("user", prompt)]})
    return str(state["messages"][-1].text)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        from signing import Signed

        token = os.environ.get("TOKEN")
        http = {"headers": {"Authorization": f"Bearer {token}"}} if token else {"auth": Signed()}
        print(asyncio.run(ask(sys.argv[1], sys.argv[2], **http)))
    else:
        from bedrock_agentcore import BedrockAgentCoreApp

        app = BedrockAgentCoreApp()

        @app.entrypoint
        async def answer(payload):
            return {"answer": await ask(payload["gateway"], payload["prompt"])}

        app.run()
