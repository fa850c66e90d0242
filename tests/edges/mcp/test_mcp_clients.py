"""The official client, in both eras, sees a gateway as it sees any server."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp_ground import Worker
from scripted_gateway import TOOLS

Connect = Callable[..., AbstractAsyncContextManager[Client]]

pytestmark = pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")


async def sampled(context: Any, params: types.CreateMessageRequestParams) -> Any:
    said = types.TextContent(type="text", text=f"echo of {params.messages[0].content.text}")
    return types.CreateMessageResult(role="assistant", content=said, model="scripted")


async def elicited(context: Any, params: types.ElicitRequestParams) -> Any:
    return types.ElicitResult(action="accept", content={"name": "Ada", "username": "ada"})


async def roots(context: Any) -> Any:
    return types.ListRootsResult(roots=[types.Root(uri="file:///home/ada")])


@pytest.fixture(params=["legacy", "auto"])
def connected(request: pytest.FixtureRequest, worker: Worker) -> Connect:
    """`auto` finds the newest revision."""

    @asynccontextmanager
    async def connect(**options: Any) -> AsyncIterator[Client]:
        async with (
            asyncio.timeout(30),
            Client(worker.at(), mode=request.param, **options) as client,
        ):
            wanted = "2026-07-28" if request.param == "auto" else "2025-11-25"
            assert client.protocol_version == wanted
            yield client

    return connect


async def test_tools_are_listed_and_called(connected: Connect) -> None:
    async with connected() as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == set(TOOLS)
        result = await client.call_tool("echo", {"text": "grüße"})
        assert result.content[0].text == "grüße"
        failed = await client.call_tool("test_error_handling", {})
        assert failed.is_error


async def test_the_server_is_the_gateway(connected: Connect) -> None:
    async with connected() as client:
        assert client.server_info is not None
        assert client.server_info.name == "open-abcdefghij"
        assert client.server_capabilities.tools.list_changed


async def test_an_unknown_tool_is_the_gateways_own_error(connected: Connect) -> None:
    async with connected() as client:
        with pytest.raises(MCPError, match="Unknown tool") as refused:
            await client.call_tool("nonesuch", {})
        assert refused.value.code == -32602


async def test_resources_are_read(connected: Connect) -> None:
    async with connected() as client:
        assert len((await client.list_resources()).resources) == 3
        assert len((await client.list_resource_templates()).resource_templates) == 1
        read = await client.read_resource("test://template/7/data")
        assert "Data for ID: 7" in read.contents[0].text


async def test_prompts_are_got_and_completed(connected: Connect) -> None:
    async with connected() as client:
        prompts = {prompt.name for prompt in (await client.list_prompts()).prompts}
        assert "test_prompt_with_arguments" in prompts
        got = await client.get_prompt("test_prompt_with_arguments", {"arg1": "a", "arg2": "b"})
        assert "arg1='a', arg2='b'" in got.messages[0].content.text
        reference = types.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
        completed = await client.complete(reference, {"name": "arg1", "value": "pa"})
        assert completed.completion.values == ["paris", "park"]


async def test_progress_comes_before_the_result(connected: Connect) -> None:
    steps: list[float] = []

    async def step(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with connected() as client:
        await client.call_tool("test_tool_with_progress", {}, progress_callback=step)
    assert steps == [0, 50, 100]


async def test_input_that_a_tool_requires_is_asked_of_the_person(connected: Connect) -> None:
    """In the legacy era the gateway asks one by one for what the target asked for at once."""
    options = {
        "elicitation_callback": elicited,
        "sampling_callback": sampled,
        "list_roots_callback": roots,
    }
    async with connected(**options) as client:
        for tool, said in {
            "elicitation": "Hello, Ada!",
            "sampling": "echo of What is the capital of France?",
            "list_roots": "file:///home/ada",
            "multiple_inputs": "all there",
            "multi_round": "both told",
        }.items():
            result = await client.call_tool(f"test_input_required_result_{tool}", {})
            assert result.content[0].text == said


async def test_log_lines_come_from_the_level_that_was_asked_for(
    connected: Connect, worker: Worker
) -> None:
    lines: list[Any] = []

    async def logged(params: types.LoggingMessageNotificationParams) -> None:
        lines.append(params.data)

    async with connected(logging_callback=logged, log_level="info") as client:
        if client.protocol_version != "2026-07-28":
            await client.set_logging_level("info")
        await client.call_tool("test_tool_with_logging", {})
        assert len(lines) == 3
        lines.clear()
        if client.protocol_version != "2026-07-28":
            await client.set_logging_level("error")
            await client.call_tool("test_tool_with_logging", {})
            assert lines == []


async def test_a_client_that_does_not_ask_for_log_lines_gets_none_in_the_modern_era(
    worker: Worker,
) -> None:
    lines: list[Any] = []

    async def logged(params: types.LoggingMessageNotificationParams) -> None:
        lines.append(params.data)

    async with Client(worker.at(), logging_callback=logged) as client:
        await client.call_tool("test_tool_with_logging", {})
    assert lines == []


async def test_a_tool_asks_the_person_during_a_call_in_the_legacy_era(worker: Worker) -> None:
    options = {"elicitation_callback": elicited, "sampling_callback": sampled}
    async with Client(worker.at(), mode="legacy", **options) as client:
        asked = await client.call_tool("test_sampling", {"prompt": "hello"})
        assert asked.content[0].text == "LLM response: echo of hello"
        asked = await client.call_tool("test_elicitation", {"message": "who?"})
        assert "action=accept" in asked.content[0].text


async def test_a_client_without_the_capability_is_not_asked(connected: Connect) -> None:
    async with connected() as client:
        result = await client.call_tool("test_sampling", {"prompt": "hello"})
        assert result.is_error
        assert "cannot ask" in result.content[0].text


async def test_a_changed_list_is_told_on_the_get_stream(worker: Worker) -> None:
    told: asyncio.Queue[Any] = asyncio.Queue()

    async def message(message: Any) -> None:
        await told.put(message)

    async with (
        asyncio.timeout(20),
        Client(worker.at(), mode="legacy", message_handler=message) as client,
    ):
        while not worker.gateway.listeners:
            await asyncio.sleep(0.01)
        await client.call_tool("test_trigger_tool_change", {})
        assert isinstance(await told.get(), types.ToolListChangedNotification)


async def test_a_changed_list_is_told_to_who_listens_in_the_modern_era(worker: Worker) -> None:
    async with (
        asyncio.timeout(20),
        Client(worker.at()) as client,
        client.listen(tools_list_changed=True, resource_subscriptions=["test://a"]) as events,
    ):
        worker.gateway.change("notifications/prompts/list_changed")
        worker.gateway.change("notifications/resources/updated", uri="test://other")
        worker.gateway.change("notifications/resources/updated", uri="test://a")
        worker.gateway.change("notifications/tools/list_changed")
        first, second = await anext(events), await anext(events)
        assert "test://a" in repr(first)
        assert "ToolsListChanged" in repr(second)
    assert worker.gateway.watched == [("test://a",)]


async def test_a_call_that_the_client_gives_up_is_cancelled(
    connected: Connect, worker: Worker
) -> None:
    async with connected() as client:
        task = asyncio.create_task(client.call_tool("wait", {}))
        await worker.gateway.waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await worker.gateway.cancelled.wait()
        assert (await client.call_tool("echo", {"text": "still here"})).content
