"""What the framework examples run on: a platform with every wire, and how each is deployed."""

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freehold.testing.scripted_model import MODEL_NAME, Rule, Script, ScriptedModel
from freehold.testing.scripted_model import ScriptedToolCall as Call
from running import PYTHON, Agent, RunningPlatform, until
from served_model import MODEL_KEY

EXAMPLES = Path(__file__).parents[2] / "examples" / "frameworks"
PROMPT = "Please roll a die with a billion sides."
# What is rolled cannot be guessed, and only the tool's answer holds it.
SCRIPT = Script(
    rules=(
        Rule(when="roll a die", tool_call=Call("roll_die", {"sides": 10**9})),
        Rule(when="roll a die", tool_call=Call("ask_dice_agent", {"request": PROMPT})),
        Rule(role="tool", when=r"(\d+)", reply=r"You rolled \1."),
    )
)
_WIRES = {
    "/v1/chat/completions": "OpenAI chat completions",
    "/v1/responses": "OpenAI responses",
    "/v1/messages": "Anthropic messages",
    "/converse": "Bedrock Converse",
    "/converse-stream": "Bedrock ConverseStream",
    ":generateContent": "Gemini generateContent",
    ":streamGenerateContent?alt=sse": "Gemini streamGenerateContent",
}
_DEPLOY_SECONDS_MAX = 900


def model_environment(model: ScriptedModel) -> dict[str, str]:
    """Of an operator who has every provider, all of them the scripted model."""
    return {
        "OPENAI_BASE_URL": f"{model.base_url}/v1",
        "OPENAI_API_KEY": MODEL_KEY,
        "OPENAI_MODEL": MODEL_NAME,
        "ANTHROPIC_BASE_URL": model.base_url,
        "ANTHROPIC_API_KEY": MODEL_KEY,
        "ANTHROPIC_MODEL": MODEL_NAME,
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": model.base_url,
        "AWS_BEARER_TOKEN_BEDROCK": MODEL_KEY,
        "AWS_REGION": "us-east-1",
        "BEDROCK_MODEL_ID": MODEL_NAME,
        "GOOGLE_GEMINI_BASE_URL": model.base_url,
        "GEMINI_API_KEY": MODEL_KEY,
        "GEMINI_MODEL": f"gemini-{MODEL_NAME}",  # ADK goes by the name
    }


@dataclass(frozen=True, kw_only=True)
class Deployed:
    agent: Agent
    protocol: str
    seconds: float


def deploy(
    platform: RunningPlatform, folder: str, scratch: Path, environment: Mapping[str, str] = {}
) -> Deployed:
    """An example, as its reader would deploy it: `freehold deploy`."""
    name = f"{folder}_{uuid.uuid4().hex[:6]}"
    copy = scratch / name
    shutil.copytree(EXAMPLES / folder, copy, ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / "freehold.toml").read_text()
    text = text.replace(f'"{folder}"', f'"{name}"', 1).replace('"PYTHON_3_11"', f'"{PYTHON}"')
    lines = [f"{key} = {json.dumps(value)}" for key, value in environment.items()]
    (copy / "freehold.toml").write_text("\n".join((text, "[environment]", *lines, "")))
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "freehold.cli", "deploy", str(copy), "--json"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(scratch),
            "FREEHOLD_ENDPOINT": platform.endpoint,
            "AWS_REGION": platform.region,
            "AWS_ACCESS_KEY_ID": platform.access_key_id,
            "AWS_SECRET_ACCESS_KEY": platform.secret_access_key,
        },
        check=False, capture_output=True, text=True, timeout=_DEPLOY_SECONDS_MAX,
    )  # fmt: skip
    assert done.returncode == 0, f"{folder}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    made = json.loads(done.stdout)
    return Deployed(
        agent=Agent(platform, made["id"], made["arn"]),
        protocol=tomllib.loads(text)["protocol"],
        seconds=time.monotonic() - started,
    )


def ask(deployed: Deployed, session: str) -> str:
    """All that the agent says to the prompt, whatever it speaks; through boto3."""
    if deployed.protocol == "A2A":
        answer = deployed.agent.invoke(_a2a_request(), session)
        assert "result" in answer, answer
        return "".join(
            part.get("text", "") for one in answer["result"]["artifacts"] for part in one["parts"]
        )
    answered = deployed.agent.begin({"prompt": PROMPT}, session)
    body = answered["response"].read()
    if answered["contentType"].startswith("text/event-stream"):
        lines = [line[6:] for line in body.splitlines() if line.startswith(b"data: ")]
        return "".join(json.loads(line) for line in lines)
    return str(json.loads(body)["answer"])


def _a2a_request() -> dict[str, Any]:
    """Of version 0.3, which both servers speak."""
    part = {"kind": "text", "text": PROMPT}
    message = {"kind": "message", "role": "user", "messageId": uuid.uuid4().hex, "parts": [part]}
    return {"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": {"message": message}}


def rolled(agent: Agent) -> list[str]:
    """What the tool itself says that it rolled, by the agent's log."""
    return [line.removeprefix("rolled ") for line in agent.log() if line.startswith("rolled ")]


def newly_rolled(agent: Agent, before: list[str]) -> list[str]:
    """What was rolled since: a log follows its agent by a moment."""

    def new() -> list[str]:
        return [each for each in rolled(agent) if each not in before]

    try:
        return list(until(new, seconds_max=5))
    except AssertionError:
        return []


def wire_of(path: str) -> str:
    ends = sorted(_WIRES, key=len)
    return next(_WIRES[end] for end in reversed(ends) if path.endswith(end))
