"""A Strands agent that other agents talk to: Strands' own A2A server."""

import os
import secrets

from strands import Agent, tool
from strands.models import BedrockModel
from strands.multiagent.a2a import A2AServer


@tool
def roll_die(sides: int) -> int:
    """Roll a die with this many sides."""
    rolled = secrets.randbelow(sides) + 1
    print(f"rolled {rolled}")
    return rolled


def new_agent(context_id: str) -> Agent:
    return Agent(
        name="dice",
        description="Rolls dice.",
        model=BedrockModel(model_id=os.environ["BEDROCK_MODEL_ID"]),
        tools=[roll_die],
        callback_handler=None,
    )


if __name__ == "__main__":
    A2AServer(agent_factory=new_agent).serve(host="0.0.0.0", port=9000)
