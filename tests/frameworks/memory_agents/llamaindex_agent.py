"""A LlamaIndex agent with llama-index-memory-bedrock-agentcore as its memory, as it is. Each
request makes the memory anew, as a restart does."""

import os

from bedrock_agentcore import BedrockAgentCoreApp
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory.memory import InsertMethod
from llama_index.llms.openai_like import OpenAILike
from llama_index.memory.bedrock_agentcore import AgentCoreMemory, AgentCoreMemoryContext

app = BedrockAgentCoreApp()


def roll_die(sides: int) -> int:
    """Roll a die with this many sides."""
    return sides


def remembering(memory, actor, session, where="/", into="system"):
    kept = AgentCoreMemory(
        context=AgentCoreMemoryContext(
            memory_id=memory, actor_id=actor, session_id=session, namespace=where
        )
    )
    kept.insert_method = InsertMethod(into)
    return kept


async def ask(prompts, **where):
    agent = FunctionAgent(
        tools=[roll_die],
        llm=OpenAILike(
            model=os.environ["OPENAI_MODEL"],
            api_base=os.environ["OPENAI_BASE_URL"],
            api_key=os.environ["OPENAI_API_KEY"],
            is_chat_model=True,
            is_function_calling_model=True,
        ),
    )
    kept = remembering(**where)
    answers = [str(await agent.run(prompt, memory=kept)) for prompt in prompts]
    return {"answers": answers, "messages": shown(await kept.aget_all())}


async def put(messages, **where):
    kept = remembering(**where)
    await kept.aput_messages([ChatMessage(role=role, content=text) for role, text in messages])
    return shown(await kept.aget_all())


async def add(messages, **where):
    """`set` adds what is new behind what is there."""
    kept = remembering(**where)
    there = await kept.aget_all()
    await kept.aset([*there, *(ChatMessage(role=role, content=text) for role, text in messages)])
    return shown(await kept.aget_all())


async def get(query=None, **where):
    return shown(await remembering(**where).aget(query))


async def forget(memory, actor, session):
    kept = remembering(memory, actor, session)
    kept.delete_events(memory, session, actor)
    return kept.list_raw_events(memory, session, actor)


def shown(messages):
    return [[message.role.value, message.content] for message in messages]


@app.entrypoint
async def answer(payload):
    do = {"ask": ask, "put": put, "add": add, "get": get, "forget": forget}[payload.pop("do")]
    return {"answer": await do(**payload)}


if __name__ == "__main__":
    app.run()
