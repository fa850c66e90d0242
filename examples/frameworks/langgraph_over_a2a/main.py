"""A LangGraph agent whose tool is another agent, of whatever framework, asked over A2A.

DICE_AGENT_ARN names it. The platform knows this session by its connection: no key, no signature.
"""

import os
import uuid
from urllib.parse import quote

import httpx
from a2a.client import ClientConfig, create_client
from a2a.helpers import get_stream_response_text, new_text_message
from a2a.types import Role, SendMessageRequest
from bedrock_agentcore import BedrockAgentCoreApp
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

app = BedrockAgentCoreApp()

PLATFORM = os.environ["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"]
# One session of the other agent for each of ours; without the header, one for each request.
SESSION = {"X-Amzn-Bedrock-AgentCore-Runtime-Session-Id": f"dice-{uuid.uuid4()}"}


@tool
async def ask_dice_agent(request: str) -> str:
    """Ask the agent that rolls dice."""
    url = f"{PLATFORM}/runtimes/{quote(os.environ['DICE_AGENT_ARN'], safe='')}/invocations/"
    async with httpx.AsyncClient(headers=SESSION, timeout=120) as http:
        client = await create_client(url, ClientConfig(streaming=False, httpx_client=http))
        asked = SendMessageRequest(message=new_text_message(request, role=Role.ROLE_USER))
        texts = [get_stream_response_text(event) async for event in client.send_message(asked)]
    return "\n".join(texts)


model = ChatOpenAI(model=os.environ["OPENAI_MODEL"]).bind_tools([ask_dice_agent])


async def think(state: MessagesState):
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = StateGraph(MessagesState)
graph.add_node("think", think)
graph.add_node("tools", ToolNode([ask_dice_agent]))
graph.add_edge(START, "think")
graph.add_conditional_edges("think", tools_condition)
graph.add_edge("tools", "think")
agent = graph.compile()


@app.entrypoint
async def answer(payload):
    state = await agent.ainvoke({"messages": [("user", payload["prompt"])]})
    return {"answer": state["messages"][-1].text}


if __name__ == "__main__":
    app.run()
