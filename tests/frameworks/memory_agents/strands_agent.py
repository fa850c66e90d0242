"""A Strands agent whose sessions are kept by AWS's own session manager, as it is. Each request
makes the agent anew, as a restart does."""

import os
import secrets

from bedrock_agentcore import BedrockAgentCoreApp
from bedrock_agentcore.memory.integrations.strands.config import (
    AgentCoreMemoryConfig,
    RetrievalConfig,
)
from bedrock_agentcore.memory.integrations.strands.memorystore import (
    create_agentcore_memory_stores,
)
from bedrock_agentcore.memory.integrations.strands.session_manager import (
    AgentCoreMemorySessionManager,
)
from strands import Agent, tool
from strands.models.openai import OpenAIModel

app = BedrockAgentCoreApp()


@tool
def roll_die(sides: int) -> int:
    """Roll a die with this many sides."""
    return secrets.randbelow(sides) + 1


def remembering(memory, actor, session, name="one", where=(), **more):
    kept = AgentCoreMemorySessionManager(
        AgentCoreMemoryConfig(
            memory_id=memory, actor_id=actor, session_id=session,
            retrieval_config={each: RetrievalConfig(top_k=3) for each in where}, **more,
        )
    )  # fmt: skip
    agent = Agent(
        agent_id=name, model=OpenAIModel(model_id=os.environ["OPENAI_MODEL"]),
        tools=[roll_die], session_manager=kept, callback_handler=None,
    )  # fmt: skip
    return agent, kept


async def ask(memory, actor, session, prompts, **more):
    """What is said in the end, what was restored at first, and how often it was asked."""
    agent, kept = remembering(memory, actor, session, **more)
    restored = [*agent.messages]
    with kept:
        answers = [str(await agent.invoke_async(prompt)).strip() for prompt in prompts]
        asked = (agent.state.get("asked") or 0) + len(prompts)
        agent.state.set("asked", asked)
        kept.sync_agent(agent)
    return {"answers": answers, "restored": restored, "asked": asked, "messages": agent.messages}


async def note(memory, actor, session, where, texts, query):
    """Strands' memory stores, of which one writes: what is said is sent whole, as it is."""
    stores = create_agentcore_memory_stores(
        memory_id=memory, actor_id=actor, session_id=session, extraction=True,
        namespaces=[{"namespace": where, "name": "found"}],
    )  # fmt: skip
    await stores[0].add_messages([{"role": "user", "content": [{"text": text}]} for text in texts])
    return [entry.content for entry in await stores[0].search(query)]


@app.entrypoint
async def answer(payload):
    do = {"ask": ask, "note": note}[payload.pop("do")]
    return {"answer": await do(**payload)}


if __name__ == "__main__":
    app.run()
