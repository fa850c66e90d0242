"""Agents for benchmarks/coldstart_driver.py, by name: (what to install, main.py).

Their models are in the same process, so that what is measured is frameworks and servers.
"""

APP = """
from bedrock_agentcore import BedrockAgentCoreApp
app = BedrockAgentCoreApp()
"""
RUN = """
if __name__ == "__main__":
    app.run()
"""
AGENTS = {
    "plain": (
        ["bedrock-agentcore==1.25.0"],
        APP
        + """
@app.entrypoint
def invoke(payload):
    return {"answer": payload["prompt"]}
"""
        + RUN,
    ),
    "strands": (
        ["bedrock-agentcore==1.25.0", "strands-agents"],
        """
from bedrock_agentcore import BedrockAgentCoreApp
from strands import Agent, tool
from strands.models import Model

class Echo(Model):
    def update_config(self, **config): pass
    def get_config(self): return {}
    def structured_output(self, *args, **options): raise NotImplementedError
    async def stream(self, messages, tool_specs=None, system_prompt=None, **options):
        said = messages[-1]["content"][0]["text"]
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"text": said}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}

@tool
def letters(word: str) -> int:
    "Count the letters of a word."
    return len(word)

app = BedrockAgentCoreApp()
agent = Agent(model=Echo(), tools=[letters], callback_handler=None)

@app.entrypoint
async def invoke(payload):
    return {"answer": str(await agent.invoke_async(payload["prompt"])).strip()}
"""
        + RUN,
    ),
    "langgraph": (
        ["bedrock-agentcore==1.25.0", "langgraph", "langchain-core"],
        """
from bedrock_agentcore import BedrockAgentCoreApp
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import END, START, MessagesState, StateGraph

def model(state):
    said = state["messages"][-1].content
    return {"messages": [GenericFakeChatModel(messages=iter([AIMessage(said)])).invoke(said)]}

graph = StateGraph(MessagesState)
graph.add_node("model", model)
graph.add_edge(START, "model")
graph.add_edge("model", END)
graph = graph.compile()
app = BedrockAgentCoreApp()

@app.entrypoint
def invoke(payload):
    result = graph.invoke({"messages": [HumanMessage(payload["prompt"])]})
    return {"answer": result["messages"][-1].content}
"""
        + RUN,
    ),
}
