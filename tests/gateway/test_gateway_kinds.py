"""Each kind of target, called through MCP on a real platform: one request at the server behind."""

import json
from typing import Any

import openai

import agents
from freehold.testing.fake_lambda import FakeLambda
from freehold.testing.scripted_model import MODEL_NAME
from gateway_ground import (
    ROLE,
    Gateway,
    MakeGateway,
    api_key,
    api_key_provider,
    deploy_function,
    function_target,
    openapi,
)
from gateway_upstreams import Loop, McpUpstream, Tool, Upstream
from running import RunningPlatform, new_session
from served_model import MODEL_KEY, ServedModel


def test_an_mcp_server_of_the_newest_era(gateway: Gateway, mcp_upstream: McpUpstream) -> None:
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    assert gateway.tools() == ["there___echo"]
    before = mcp_upstream.count()
    answer = gateway.call("there___echo", {"word": "hello"})
    assert answer.text == '{"word": "hello"}'
    assert answer.result["_meta"]["freehold/target"] == "there"
    assert mcp_upstream.count() == before + 1


def test_an_mcp_server_of_the_era_before(gateway: Gateway, served: Loop) -> None:
    with McpUpstream(served, Tool("echo"), era="legacy") as old:
        gateway.add_mcp_server("old", old.endpoint)
        gateway.call("old___echo", {"word": "first"})
        before = old.count()
        assert gateway.call("old___echo", {"word": "hello"}).text == '{"word": "hello"}'
        assert old.count() == before + 1


def test_an_openapi_document(gateway: Gateway, upstream: Upstream) -> None:
    paths = {
        "/pets/{id}": {
            "get": {
                "operationId": "getPet",
                "parameters": [
                    {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}},
                    {"name": "verbose", "in": "query", "schema": {"type": "boolean"}},
                ],
                "responses": {"200": {"description": "ok"}},
            }
        }
    }
    upstream.answer = lambda seen: {"name": "Rex"}
    gateway.add("pets", openapi(upstream.url, paths))
    assert gateway.tools() == ["pets___getPet"]
    answer = gateway.call("pets___getPet", {"id": 7, "verbose": True})
    assert '"Rex"' in answer.text
    [seen] = upstream.seen
    assert (seen.method, seen.path, seen.query) == ("GET", "/pets/7", {"verbose": "true"})
    refused = gateway.call("pets___getPet", {"id": "seven"})
    assert refused.result["isError"]
    assert "integer" in refused.text
    assert upstream.count() == 1


def test_a_smithy_model(gateway: Gateway, upstream: Upstream) -> None:
    upstream.answer = lambda seen: {"Name": "Rex", "born": 0}
    gateway.add("pets", {"mcp": {"smithyModel": {"inlinePayload": smithy_model(upstream.url)}}})
    assert gateway.tools() == ["pets___PutPet"]
    answer = gateway.call("pets___PutPet", {"id": "a/b", "name": "Rex"})
    assert answer.result["structuredContent"] == {"name": "Rex", "born": "1970-01-01T00:00:00Z"}
    [seen] = upstream.seen
    assert (seen.method, seen.path, seen.json) == ("PUT", "/pets/a%2Fb", {"Name": "Rex"})


def test_a_function_of_this_platform(gateway: Gateway, platform: RunningPlatform) -> None:
    arn = deploy_function(
        platform,
        "def handler(event, context):\n"
        "    custom = context.client_context.custom\n"
        "    return {'tool': custom['bedrockAgentCoreToolName'], 'city': event['city']}\n",
    )
    gateway.add("weather", function_target(arn, "forecast", city="string"))
    assert gateway.tools() == ["weather___forecast"]
    answer = gateway.call("weather___forecast", {"city": "Rabat"}, seconds_max=60)
    assert json.loads(answer.text) == {"tool": "weather___forecast", "city": "Rabat"}
    assert "no such" not in answer.text


def test_a_function_of_aws_lambda(make_gateway: MakeGateway, aws_lambda: FakeLambda) -> None:
    gateway = make_gateway(roleArn=ROLE)
    arn = aws_lambda.add("greet", lambda event, context: {"hello": event["name"]})
    gateway.add("aws", function_target(arn, "greet", name="string"),
                {"credentialProviderType": "GATEWAY_IAM_ROLE"})  # fmt: skip
    before = len(aws_lambda.invoked)
    assert json.loads(gateway.call("aws___greet", {"name": "Ada"}).text) == {"hello": "Ada"}
    [(name, event, context)] = aws_lambda.invoked[before:]
    assert (name, event) == ("greet", {"name": "Ada"})
    assert context["custom"]["bedrockAgentCoreToolName"] == "aws___greet"
    assert gateway.call("aws___greet", {"nme": "Ada"}).result["isError"]
    assert len(aws_lambda.invoked) == before + 1


def test_a_server_whose_list_is_asked_each_time(
    gateway: Gateway, mcp_upstream: McpUpstream
) -> None:
    gateway.add_mcp_server("live", mcp_upstream.endpoint, dynamic=True)
    assert gateway.tools() == ["live___echo"]
    before = mcp_upstream.count("tools/call")
    assert gateway.call("live___echo", {"a": 1}).text == '{"a": 1}'
    assert mcp_upstream.count("tools/call") == before + 1


def test_a_passthrough(gateway: Gateway, upstream: Upstream) -> None:
    upstream.answer = lambda seen: {"path": seen.path}
    configuration = {"endpoint": f"{upstream.url}/base", "protocolType": "CUSTOM"}
    gateway.add("through", {"http": {"passthrough": configuration}})
    answer = gateway.post(b'{"a": 1}', url=f"{gateway.base}/through/some/where?x=1")
    assert (answer.status, json.loads(answer.body)) == (200, {"path": "/base/some/where"})
    [seen] = upstream.seen
    assert seen.json == {"a": 1}


def test_an_agent_of_this_platform(gateway: Gateway, platform: RunningPlatform) -> None:
    agent = platform.deploy(agents.plain())
    role = {"credentialProviderType": "GATEWAY_IAM_ROLE"}
    gateway.add("agent", {"http": {"agentcoreRuntime": {"arn": agent.arn}}}, role)
    session = new_session()
    headers = {"x-amzn-bedrock-agentcore-runtime-session-id": session}
    answer = gateway.post(b"{}", headers, url=f"{gateway.base}/agent/invocations", seconds_max=60)
    assert answer.status == 200, answer.body
    assert answer.headers["x-amzn-bedrock-agentcore-runtime-session-id"] == session
    agent.delete()


async def test_a_model_by_the_openai_client(
    gateway: Gateway, platform: RunningPlatform, scripted_model: ServedModel
) -> None:
    key = api_key_provider(platform, MODEL_KEY)
    provider = {"endpoint": scripted_model.model.base_url}
    gateway.add("models", {"inference": {"provider": provider}}, api_key(key))
    before = len(scripted_model.model.requests)
    async with openai.AsyncOpenAI(base_url=f"{gateway.base}/inference/v1", api_key="none") as ai:
        asked = [{"role": "user", "content": "hello"}]
        answer = await ai.chat.completions.create(model=MODEL_NAME, messages=asked)
        stream = await ai.chat.completions.create(model=MODEL_NAME, messages=asked, stream=True)
        pieces = [piece.choices[0].delta.content or "" async for piece in stream if piece.choices]
    assert answer.choices[0].message.content == "".join(pieces) != ""
    requests = list(scripted_model.model.requests)[before:]
    assert len(requests) == 2
    assert {r.headers["authorization"] for r in requests} == {f"Bearer {MODEL_KEY}"}


def smithy_model(url: str) -> str:
    def member(kind: str, **traits: Any) -> dict[str, Any]:
        given = {f"smithy.api#{name}": value for name, value in traits.items()}
        return {"target": f"smithy.api#{kind}", "traits": given}

    endpoint = {"conditions": [], "endpoint": {"url": url}, "type": "endpoint"}
    shapes = {
        "Pets": {
            "type": "service", "version": "1", "operations": [{"target": "t#PutPet"}],
            "traits": {
                "aws.protocols#restJson1": {},
                "smithy.rules#endpointRuleSet": {
                    "version": "1.0", "parameters": {}, "rules": [endpoint],
                },
            },
        },
        "PutPet": {
            "type": "operation", "input": {"target": "t#In"}, "output": {"target": "t#Out"},
            "traits": {"smithy.api#http": {"method": "PUT", "uri": "/pets/{id}", "code": 200}},
        },
        "In": {
            "type": "structure",
            "members": {
                "id": member("String", required={}, httpLabel={}),
                "name": member("String", jsonName="Name"),
            },
        },
        "Out": {
            "type": "structure",
            "members": {"name": member("String", jsonName="Name"), "born": member("Timestamp")},
        },
    }  # fmt: skip
    return json.dumps(
        {"smithy": "2.0", "shapes": {f"t#{name}": shape for name, shape in shapes.items()}}
    )
