"""A crew of one agent with one tool."""

import os
import secrets

from bedrock_agentcore import BedrockAgentCoreApp
from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool

app = BedrockAgentCoreApp()


@tool("roll_die")
def roll_die(sides: int) -> int:
    """Roll a die with this many sides."""
    rolled = secrets.randbelow(sides) + 1
    print(f"rolled {rolled}")
    return rolled


roller = Agent(
    role="Dice roller",
    goal="Roll the dice that one asks for",
    backstory="You roll dice with your tool, and say what was rolled.",
    llm=LLM(model=os.environ["OPENAI_MODEL"], provider="openai"),
    tools=[roll_die],
)
task = Task(description="{prompt}", expected_output="What was rolled.", agent=roller)
crew = Crew(agents=[roller], tasks=[task])


@app.entrypoint
async def answer(payload):
    result = await crew.kickoff_async(inputs={"prompt": payload["prompt"]})
    return {"answer": result.raw}


if __name__ == "__main__":
    app.run()
