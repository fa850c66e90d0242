"""Clients as their authors made them, at a gateway: from outside, and agents in a session."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gateway_ground import (
    AUDIENCE,
    Gateway,
    bearer,
    client_of,
    foreign_python,
    jwt_rules,
    openapi,
    signed,
)
from gateway_upstreams import Loop, Upstream
from oidc_ground import OidcProvider
from running import RunningPlatform
from served_model import MODEL_KEY, ServedModel

CLIENTS = Path(__file__).with_name("clients")
FORECAST = "weather___forecast"
PATHS = {
    "/cities/{city}/forecast": {
        "get": {
            "operationId": "forecast",
            "summary": "What the weather will be.",
            "parameters": [
                {"name": "city", "in": "path", "required": True, "schema": {"type": "string"}}
            ],
            "responses": {"200": {"description": "ok"}},
        }
    }
}
# Two sets: LangChain's adapters go with version 1 of the `mcp` package alone.
PACKAGES = {
    "fastmcp_client.py": "requirements-mcp2.txt",
    "strands_agent.py": "requirements-mcp2.txt",
    "langgraph_agent.py": "requirements-mcp1.txt",
}
PROMPT = "Please give me the forecast for Rabat."


class Weather(NamedTuple):
    """The same weather behind a gateway for signatures and one for tokens."""

    signed: Gateway
    tokens: Gateway
    upstream: Upstream
    oidc: OidcProvider


@pytest.fixture(scope="module")
def weather(platform: RunningPlatform, served: Loop, oidc: OidcProvider) -> Iterator[Weather]:
    def answer(seen: object) -> object:
        return {"degrees": 21.5, "path": seen.path}

    with Upstream(served, answer) as upstream:
        rules = jwt_rules(oidc)
        gateways = [
            Gateway(platform, authorizerType="AWS_IAM"),
            Gateway(platform, authorizerType="CUSTOM_JWT", authorizerConfiguration=rules),
        ]
        for gateway in gateways:
            gateway.add("weather", openapi(upstream.url, PATHS))
        yield Weather(*gateways, upstream, oidc)
        for gateway in gateways:
            gateway.delete()


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("way", ["signed", "tokens"])
async def test_the_official_client(weather: Weather, way: str, mode: str) -> None:
    gateway: Gateway = getattr(weather, way)
    if way == "signed":
        opened = client_of(gateway, auth=signed(gateway.platform), mode=mode)
    else:
        token = await weather.oidc.machine_token(AUDIENCE)
        opened = client_of(gateway, bearer(token), mode=mode)
    before = weather.upstream.count()
    async with opened as client:
        assert client.protocol_version == ("2026-07-28" if mode == "auto" else "2025-11-25")
        [tool] = (await client.list_tools()).tools
        assert (tool.name, tool.input_schema["required"]) == (FORECAST, ["city"])
        result = await client.call_tool(FORECAST, {"city": "Rabat"})
        assert not result.is_error
        assert json.loads(result.content[0].text)["degrees"] == 21.5
        wrong = await client.call_tool(FORECAST, {"town": "Rabat"})
        assert wrong.is_error
    assert weather.upstream.count() == before + 1


# -- others


async def run(weather: Weather, program: str, way: str, *arguments: str, model: ServedModel) -> str:
    gateway: Gateway = getattr(weather, way)
    platform = gateway.platform
    if way == "tokens":
        secret = {"TOKEN": await weather.oidc.machine_token(AUDIENCE)}
    else:
        secret = {
            "AWS_ACCESS_KEY_ID": platform.access_key_id,
            "AWS_SECRET_ACCESS_KEY": platform.secret_access_key,
            "AWS_DEFAULT_REGION": platform.region,
        }
    done = subprocess.run(
        [foreign_python(CLIENTS / PACKAGES[program]), CLIENTS / program, gateway.url, *arguments],
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "OPENAI_BASE_URL": f"{model.model.base_url}/v1",
            "OPENAI_API_KEY": MODEL_KEY,
            "OPENAI_MODEL": "freehold-scripted",
            **secret,
        },
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", ["signed", "tokens"])
async def test_fastmcps_client(weather: Weather, scripted_model: ServedModel, way: str) -> None:
    before = weather.upstream.count()
    said = await run(weather, "fastmcp_client.py", way, "Rabat", model=scripted_model)
    answers = [json.loads(line) for line in said.splitlines()]
    assert [answer["tools"] for answer in answers] == [[FORECAST]] * 2
    assert all("21.5" in answer["text"] for answer in answers)
    assert weather.upstream.count() == before + 2


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", ["signed", "tokens"])
@pytest.mark.parametrize("program", ["strands_agent.py", "langgraph_agent.py"])
async def test_an_agent_somewhere_else(
    weather: Weather, scripted_model: ServedModel, program: str, way: str
) -> None:
    before = weather.upstream.count()
    said = await run(weather, program, way, PROMPT, model=scripted_model)
    assert "21.5" in said
    assert [seen.path for seen in weather.upstream.seen[before:]] == ["/cities/Rabat/forecast"]


REQUIREMENTS = {
    "strands_agent.py": "strands-agents>=1.62,<2\nopenai\n",
    "langgraph_agent.py": "langgraph>=1.2,<2\nlangchain-openai>=1.7,<2\n"
    "langchain-mcp-adapters>=0.3.2,<0.4\n",
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("program", REQUIREMENTS)
def test_an_agent_in_a_session(weather: Weather, platform: RunningPlatform, program: str) -> None:
    """It is told the doorway's address, and has no secret."""
    agent = platform.deploy(
        {
            "main.py": (CLIENTS / program).read_text(),
            "requirements.txt": "bedrock-agentcore>=1.25,<2\n" + REQUIREMENTS[program],
        }
    )
    before = weather.upstream.count()
    url = f"http://127.0.0.1:7400/gateway/{weather.signed.id}/mcp"
    answer = agent.invoke({"gateway": url, "prompt": PROMPT})
    assert "21.5" in answer["answer"]
    assert [seen.path for seen in weather.upstream.seen[before:]] == ["/cities/Rabat/forecast"]
    agent.delete()
