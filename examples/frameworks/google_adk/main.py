"""A Google ADK agent that other agents talk to: ADK's own A2A server."""

import os
import secrets

import uvicorn
from google.adk.a2a.utils.agent_to_a2a import to_a2a
from google.adk.agents import Agent


def roll_die(sides: int) -> int:
    """Roll a die with this many sides."""
    rolled = secrets.randbelow(sides) + 1
    print(f"rolled {rolled}")
    return rolled


root_agent = Agent(
    name="dice",
    model=os.environ["GEMINI_MODEL"],
    description="Rolls dice.",
    instruction="Roll dice with the tool, and say what was rolled.",
    tools=[roll_die],
)
app = to_a2a(root_agent, port=9000)

if __name__ == "__main__":
    uvicorn.run(app, host="0.0.0.0", port=9000)
