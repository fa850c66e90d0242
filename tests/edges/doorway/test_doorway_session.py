"""Whoever comes through a doorway is the session that the connection belongs to."""

import asyncio
import json
import os
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from served_doorway import SESSION, Authorizing, open_doorway
from starlette.types import Message, Receive, Scope, Send

from freehold.edges.doorway import DoorwayEdge, session_environment
from freehold.edges.pipeline import Pipeline
from freehold.kernel.caller import CallerKind
from freehold.kernel.session import SESSION_STATE, session_caller
from freehold.testing.scripted_model import ScriptedModel

# An agent that was written for the clouds' own endpoints: no URL, no key, no region in it.
AGENT = """
    import json, boto3, openai
    said = {}
    said["credentials"] = boto3.Session().get_credentials().method
    answer = boto3.client("bedrock-agentcore-control").list_agent_runtimes()
    said["runtimes"] = answer["agentRuntimes"]
    hello = [{"role": "user", "content": [{"text": "hello there"}]}]
    bedrock = boto3.client("bedrock-runtime")
    answer = bedrock.converse(modelId="us.some-model:1/x", messages=hello)
    said["converse"] = answer["output"]["message"]["content"][0]["text"]
    stream = bedrock.converse_stream(modelId="some-model", messages=hello)["stream"]
    said["converse_stream"] = "".join(
        event["contentBlockDelta"]["delta"]["text"]
        for event in stream if "contentBlockDelta" in event
    )
    answer = openai.OpenAI().chat.completions.create(
        model="gpt-any", messages=[{"role": "user", "content": "hello there"}]
    )
    said["openai"] = answer.choices[0].message.content
    print(json.dumps(said))
"""
SAID = "I am a scripted stand-in, not a model. You said: hello there"

BEARER = b"Bearer of-somebody-else"
"""It may be for an agent that takes tokens: who may not use it is told so there."""


async def run_agent(source: str, environment: dict[str, str]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(source),
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    answer: dict[str, Any] = json.loads(out)
    return answer


async def test_ordinary_sdks_find_platform_and_models_by_their_environment_alone(
    model: ScriptedModel,
) -> None:
    async with open_doorway(model.providers()) as door:
        environment = session_environment(door.port, region="eu-central-1")
        said = await run_agent(AGENT, environment)

    assert said == {
        "credentials": "container-role",
        "runtimes": [],
        "converse": SAID,
        "converse_stream": SAID,
        "openai": SAID,
    }
    assert [request.path for request in model.requests] == [
        "/model/us.some-model%3A1%2Fx/converse",
        "/model/some-model/converse-stream",
        "/v1/chat/completions",
    ]


async def test_the_platform_is_told_the_session_and_not_what_the_request_claims() -> None:
    claims = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=FHIASOMEBODYELSE/x",
        "X-Amz-Security-Token": "somebody-else",
        "X-Amz-Date": "20260101T000000Z",
    }
    async with open_doorway() as door:
        answer = await door.http.post(f"{door.url}/runtimes/", data=b"12345", headers=claims)
        assert (await answer.json())["bytes"] == 5
        [scope] = door.platform.scopes

    caller = session_caller(scope)
    assert caller is not None
    assert caller.kind is CallerKind.SESSION
    assert caller.tenant == "123456789012"
    assert caller.principal == (
        "arn:aws:bedrock-agentcore:us-east-1:123456789012:runtime/hello-Abc123Def4"
        "/session/session-of-the-doorway-tests-0001"
    )
    names = {name for name, _ in scope["headers"]}
    assert b"x-amz-date" in names
    assert not names & {b"authorization", b"x-amz-security-token"}


@pytest.mark.parametrize(
    "path",
    ["/credentials", "/runtimes/", "/v1/traces", "/model/openai/v1/models", "/model/other"],
)
async def test_a_connection_of_no_session_gets_nothing(path: str) -> None:
    async with open_doorway(session=None) as door:
        async with door.http.get(door.url + path) as answer:
            assert answer.status == 403
            assert (await answer.json())["code"] == "AccessDeniedException"
        assert door.platform.scopes == []


async def test_a_state_that_is_not_a_session_is_no_caller() -> None:
    assert session_caller({"type": "http"}) is None
    assert session_caller({"type": "http", "state": {}}) is None
    assert session_caller({"type": "http", "state": {SESSION_STATE: "123456789012"}}) is None


async def test_credentials_expire_in_an_hour_and_are_new_each_time() -> None:
    async with open_doorway() as door:
        first, second = [
            await (await door.http.get(f"{door.url}/credentials")).json() for _ in range(2)
        ]
        assert door.authorizing.asked[0][1] == "doorway:GetCredentials"

    assert first["AccessKeyId"].startswith("FHSESSION")
    assert len(first["AccessKeyId"]) == 20
    assert first["AccountId"] == "123456789012"
    assert first["SecretAccessKey"] != second["SecretAccessKey"]
    left = datetime.fromisoformat(first["Expiration"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


@pytest.mark.parametrize(
    ("path", "of_a_session", "answer"),
    [
        ("/runtimes/x/ws", True, "websocket.accept"),
        ("/runtimes/x/ws", False, "websocket.close"),
        ("/model/openai/v1/realtime", True, "websocket.close"),
    ],
)
async def test_a_websocket_of_a_session_reaches_the_platform_and_no_model(
    path: str, of_a_session: bool, answer: str
) -> None:
    reached: list[Scope] = []
    sent: list[str] = []

    async def platform(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope)
        await send({"type": "websocket.accept"})

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    edge = DoorwayEdge(
        platform=platform,
        pipeline=Pipeline(authorizer=Authorizing(), calls_in_flight_max=10),
        providers={},
    )
    scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "headers": [
            (b"authorization", b"AWS4-HMAC-SHA256 Credential=x"),
            (b"authorization", BEARER),
        ],
        "state": {SESSION_STATE: SESSION} if of_a_session else {},
    }
    await edge(scope, receive, send)

    assert sent == [answer]
    assert [scope["headers"] for scope in reached] == (
        [[(b"authorization", BEARER)]] if answer.endswith("accept") else []
    )


async def test_the_environment_holds_no_telemetry_address_and_no_model_without_one() -> None:
    plain = session_environment(7400, region="us-east-1")
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in plain
    assert "OPENAI_MODEL" not in plain
    full = session_environment(
        7400, region="us-east-1", providers=ScriptedModel().providers(), telemetry=True
    )
    assert full["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://127.0.0.1:7400"
    assert full["OPENAI_MODEL"] == full["ANTHROPIC_MODEL"] == "freehold-scripted"
