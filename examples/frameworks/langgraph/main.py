"""A LangGraph agent with one tool."""

import os
import secrets

from bedrock_agentcore import BedrockAgentCoreApp
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

app = BedrockAgentCoreApp()


@tool
def roll_die(sides: int) -> int:
    """Roll a die with this many sides."""
    rolled = secrets.randbelow(sides) + 1
    print(f"rolled {rolled}")
    return rolled


model = ChatOpenAI(model=os.environ["OPENAI_MODEL"]).bind_tools([roll_die])


async def think(state: MessagesState):
    return {"messages": [await model.ainvoke(state["messages"])]}


graph = StateGraph(MessagesState)
graph.add_node("think", think)
graph.add_node("tools", ToolNode([roll_die]))
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
