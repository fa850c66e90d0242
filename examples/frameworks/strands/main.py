"""A Strands agent with one tool, on Strands' own default: a model of Bedrock."""

import os
import secrets

from bedrock_agentcore import BedrockAgentCoreApp
from strands import Agent, tool
from strands.models import BedrockModel

app = BedrockAgentCoreApp()


@tool
def roll_die(sides: int) -> int:
    """Roll a die with this many sides."""
    rolled = secrets.randbelow(sides) + 1
    print(f"rolled {rolled}")
    return rolled


model = BedrockModel(model_id=os.environ["BEDROCK_MODEL_ID"])
agent = Agent(model=model, tools=[roll_die], callback_handler=None)


@app.entrypoint
async def answer(payload):
    return {"answer": str(await agent.invoke_async(payload["prompt"]))}


if __name__ == "__main__":
    app.run()
