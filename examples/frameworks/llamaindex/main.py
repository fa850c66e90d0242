"""A LlamaIndex agent with one tool."""

import os
import secrets

from bedrock_agentcore import BedrockAgentCoreApp
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.openai_like import OpenAILike

app = BedrockAgentCoreApp()


def roll_die(sides: int) -> int:
    """Roll a die with this many sides."""
    rolled = secrets.randbelow(sides) + 1
    print(f"rolled {rolled}")
    return rolled


agent = FunctionAgent(
    tools=[roll_die],
    llm=OpenAILike(
        model=os.environ["OPENAI_MODEL"],
        api_base=os.environ["OPENAI_BASE_URL"],
        api_key=os.environ["OPENAI_API_KEY"],
        is_chat_model=True,
        is_function_calling_model=True,
    ),
    system_prompt="Roll dice with the tool, and say what was rolled.",
    streaming=False,  # only then it hears how many tokens the model took
)


@app.entrypoint
async def answer(payload):
    return {"answer": str(await agent.run(payload["prompt"]))}


if __name__ == "__main__":
    app.run()
