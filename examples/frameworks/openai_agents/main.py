"""An agent of the OpenAI Agents SDK with one tool. The SDK speaks the Responses API."""

import os
import secrets

from bedrock_agentcore import BedrockAgentCoreApp

from agents import Agent, Runner, function_tool

app = BedrockAgentCoreApp()


@function_tool
def roll_die(sides: int) -> int:
    """Roll a die with this many sides."""
    rolled = secrets.randbelow(sides) + 1
    print(f"rolled {rolled}")
    return rolled


agent = Agent(name="dice", model=os.environ["OPENAI_MODEL"], tools=[roll_die])


@app.entrypoint
async def answer(payload):
    """Streamed as the model writes it."""
    result = Runner.run_streamed(agent, payload["prompt"])
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            yield event.data.delta


if __name__ == "__main__":
    app.run()
