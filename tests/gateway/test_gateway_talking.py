"""What goes on between a client and one of several servers while a call lasts."""

from collections.abc import Iterator
from typing import Any

import mcp_types as types
import pytest

from gateway_ground import ROLE, Gateway, MakeGateway, at_every_worker, client_of
from gateway_upstreams import Everything, Loop, McpUpstream, Tool
from running import RunningPlatform

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning"),
]


@pytest.fixture(scope="module")
def gateway(platform: RunningPlatform, served: Loop) -> Iterator[Gateway]:
    """One server of everything, and another beside it."""
    with Everything() as everything, McpUpstream(served, Tool("echo")) as other:
        gateway = Gateway(platform)
        gateway.add_mcp_server("every", everything.url)
        gateway.add_mcp_server("other", other.endpoint)
        at_every_worker(lambda: len(gateway.tools()) > 10)
        yield gateway
        gateway.delete()


async def sampled(context: Any, params: types.CreateMessageRequestParams) -> Any:
    said = types.TextContent(type="text", text="Paris")
    return types.CreateMessageResult(role="assistant", content=said, model="scripted")


async def elicited(context: Any, params: types.ElicitRequestParams) -> Any:
    return types.ElicitResult(action="accept", content={"name": "Ada", "username": "ada"})


def text_of(result: Any) -> str:
    assert not result.is_error, result
    return str(result.content[0].text)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_server_asks_the_clients_model_and_user(gateway: Gateway, mode: str) -> None:
    options = {"sampling_callback": sampled, "elicitation_callback": elicited, "mode": mode}
    async with client_of(gateway, **options) as client:
        if mode == "legacy":
            result = await client.call_tool("every___test_sampling", {"prompt": "p"})
            assert text_of(result) == "LLM response: Paris"
            result = await client.call_tool("every___test_elicitation", {"message": "m"})
            assert '"username": "ada"' in text_of(result)
        else:
            result = await client.call_tool("every___test_input_required_result_elicitation", {})
            assert text_of(result) == "Hello, Ada!"
            result = await client.call_tool("every___test_input_required_result_sampling", {})
            assert text_of(result) == "Paris"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_how_a_call_gets_on_is_heard(gateway: Gateway, mode: str) -> None:
    heard: list[float] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        heard.append(progress)

    async with client_of(gateway, mode=mode) as client:
        name = "every___test_tool_with_progress"
        result = await client.call_tool(name, {}, progress_callback=progressed)
        assert text_of(result) == "Done."
    assert heard == [0, 50, 100]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_prompts_and_resources_of_one_among_several(gateway: Gateway, mode: str) -> None:
    async with client_of(gateway, mode=mode) as client:
        prompts = [prompt.name for prompt in (await client.list_prompts()).prompts]
        assert all(name.startswith("every___") for name in prompts)
        got = await client.get_prompt(
            "every___test_prompt_with_arguments", {"arg1": "a", "arg2": "b"}
        )
        assert "arg1='a'" in got.messages[0].content.text
        uris = [str(resource.uri) for resource in (await client.list_resources()).resources]
        assert "test://static-text" in uris
        read = await client.read_resource("test://template/7/data")
        assert "Data for ID: 7" in read.contents[0].text
        reference = types.PromptReference(
            type="ref/prompt", name="every___test_prompt_with_arguments"
        )
        found = await client.complete(reference, {"name": "arg1", "value": "pa"})
        assert found.completion.values == ["paris", "park", "party"]


def test_an_interceptor_takes_tools_out_of_a_list(
    make_gateway: MakeGateway, aws_lambda: Any, mcp_upstream: McpUpstream
) -> None:

    def less(event: Any, context: object) -> Any:
        body = event["mcp"]["gatewayResponse"]["body"]
        tools = body.get("result", {}).get("tools")
        if tools is not None:
            body["result"]["tools"] = [t for t in tools if "secret" not in t["name"]]
        answer = {"statusCode": 200, "body": body}
        return {"interceptorOutputVersion": "1.0", "mcp": {"transformedGatewayResponse": answer}}

    mcp_upstream.tools["secret"] = Tool("secret")
    lambda_ = {"lambda": {"arn": aws_lambda.add("less", less)}}
    gateway = make_gateway(
        roleArn=ROLE,
        interceptorConfigurations=[{"interceptor": lambda_, "interceptionPoints": ["RESPONSE"]}],
    )
    gateway.add_mcp_server("there", mcp_upstream.endpoint)
    assert gateway.tools() == ["there___echo"]
