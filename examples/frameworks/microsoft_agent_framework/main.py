"""An agent of Microsoft's Agent Framework with one tool."""

import secrets

from agent_framework import tool
from agent_framework.openai import OpenAIChatClient
from bedrock_agentcore import BedrockAgentCoreApp

app = BedrockAgentCoreApp()


@tool
def roll_die(sides: int) -> int:
    """Roll a die with this many sides."""
    rolled = secrets.randbelow(sides) + 1
    print(f"rolled {rolled}")
    return rolled


# OPENAI_MODEL, OPENAI_BASE_URL and OPENAI_API_KEY are read from the environment.
agent = OpenAIChatClient().as_agent(
    name="dice",
    instructions="Roll dice with the tool, and say what was rolled.",
    tools=[roll_die],
)


@app.entrypoint
async def answer(payload):
    result = await agent.run(payload["prompt"])
    return {"answer": result.text}


if __name__ == "__main__":
    app.run()
