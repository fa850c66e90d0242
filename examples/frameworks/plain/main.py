"""No framework: the model's own SDK, and a loop."""

import os
import secrets

from anthropic import AsyncAnthropic
from bedrock_agentcore import BedrockAgentCoreApp

app = BedrockAgentCoreApp()
model = AsyncAnthropic()


def roll_die(sides: int) -> int:
    rolled = secrets.randbelow(sides) + 1
    print(f"rolled {rolled}")
    return rolled


TOOLS = [
    {
        "name": "roll_die",
        "description": "Roll a die with this many sides.",
        "input_schema": {
            "type": "object",
            "properties": {"sides": {"type": "integer"}},
            "required": ["sides"],
        },
    }
]


@app.entrypoint
async def answer(payload):
    messages = [{"role": "user", "content": payload["prompt"]}]
    while True:
        said = await model.messages.create(
            model=os.environ["ANTHROPIC_MODEL"], max_tokens=1024, tools=TOOLS, messages=messages
        )
        calls = [block for block in said.content if block.type == "tool_use"]
        if not calls:
            return {"answer": "".join(block.text for block in said.content)}
        messages.append({"role": "assistant", "content": said.content})
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": str(roll_die(**call.input))}
            for call in calls
        ]
        messages.append({"role": "user", "content": results})


if __name__ == "__main__":
    app.run()
