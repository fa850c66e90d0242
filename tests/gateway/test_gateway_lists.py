"""Many targets as one server, some of them not there."""

import asyncio
import time
from contextlib import ExitStack

import pytest

from gateway_ground import Gateway, MakeGateway, at_every_worker, client_of
from gateway_upstreams import Loop, McpUpstream, Tool


@pytest.mark.parametrize("dynamic", [False, True], ids=["stored", "asked each time"])
def test_of_ten_targets_three_are_down(gateway: Gateway, served: Loop, dynamic: bool) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(McpUpstream(served, Tool("echo"))) for _ in range(10)]
        targets = [
            gateway.begin_target(
                f"t{number}",
                {"mcp": {"mcpServer": {
                    "endpoint": server.endpoint,
                    **({"listingMode": "DYNAMIC"} if dynamic else {}),
                }}},
            )
            for number, server in enumerate(servers)
            if dynamic or number >= 3
        ]  # fmt: skip
        assert {target.settle()["status"] for target in targets} == {"READY"}
        for server in servers[:3]:
            server.stop()
        if not dynamic:
            down = [
                gateway.begin_target(f"t{n}", {"mcp": {"mcpServer": {"endpoint": s.endpoint}}})
                for n, s in enumerate(servers[:3])
            ]
            assert {target.settle()["status"] for target in down} == {"FAILED"}
        started = time.monotonic()
        result = gateway.rpc("tools/list").result
        assert time.monotonic() - started < 8
        assert {t["name"] for t in result["tools"]} == {f"t{n}___echo" for n in range(3, 10)}
        unavailable = result["_meta"]["freehold/unavailable"]
        assert {each["target"] for each in unavailable} == {"t0", "t1", "t2"}
        assert all(each["why"] for each in unavailable)
        for number, server in enumerate(servers[3:], 3):
            before = server.count("tools/call")
            assert "isError" not in gateway.call(f"t{number}___echo").result
            assert server.count("tools/call") == before + 1


@pytest.mark.slow
def test_a_target_that_hangs_does_not_hold_the_list(
    gateway: Gateway, served: Loop, mcp_upstream: McpUpstream
) -> None:
    gateway.add_mcp_server("good", mcp_upstream.endpoint)
    with McpUpstream(served, Tool("echo")) as hanging:
        gateway.add_mcp_server("hanging", hanging.endpoint, dynamic=True)

        async def never(seen: object) -> None:
            await asyncio.sleep(60)

        hanging.answer = never
        started = time.monotonic()
        result = gateway.rpc("tools/list").result
        assert time.monotonic() - started < 8
        assert [t["name"] for t in result["tools"]] == ["good___echo"]
        [unavailable] = result["_meta"]["freehold/unavailable"]
        assert unavailable["target"] == "hanging"


def test_what_a_server_adds_is_there_once_it_was_asked_again(
    gateway: Gateway, mcp_upstream: McpUpstream
) -> None:
    target = gateway.add_mcp_server("there", mcp_upstream.endpoint)
    mcp_upstream.tools["new"] = Tool("new")
    gateway.synchronize(target.id)
    at_every_worker(lambda: gateway.tools() == ["there___echo", "there___new"])


def test_tools_are_found_as_soon_as_their_target_is_ready(
    make_gateway: MakeGateway, served: Loop
) -> None:
    gateway = make_gateway(protocolConfiguration={"mcp": {"searchType": "SEMANTIC"}})
    tools = [
        Tool("create_invoice", "Bills a customer."),
        Tool("send_mail", "Writes to somebody."),
    ]
    with McpUpstream(served, *tools) as server:
        gateway.add_mcp_server("office", server.endpoint)
        at_every_worker(lambda: len(gateway.tools()) == 3)
        for _ in range(4):
            found = gateway.call(
                "x_amz_bedrock_agentcore_search", {"query": "invoice for a customer"}
            ).result["structuredContent"]["tools"]
            assert found[0]["name"] == "office___create_invoice"


def test_names_stay_within_what_clients_take(gateway: Gateway, served: Loop) -> None:
    gateway.tag({"freehold:tool-names": "short"})
    long = "a_tool_with_a_name_that_is_longer_than_clients_of_some_models_take"
    with McpUpstream(served, Tool(long), Tool("echo")) as server:
        gateway.add_mcp_server("a-target", server.endpoint)
        names = gateway.tools()
        assert all(len(name) <= 64 for name in names)
        assert names[1] == "a-target___echo"
        gateway.call(names[0])
        assert server.seen[-1].json["params"]["name"] == long


@pytest.mark.parametrize("dynamic", [False, True], ids=["stored", "asked each time"])
def test_a_name_stands_once_in_a_list_and_is_who_was_firsts(
    make_gateway: MakeGateway, served: Loop, dynamic: bool
) -> None:
    search = "x_amz_bedrock_agentcore_search"
    gateway = make_gateway(
        tags={"freehold:tool-names": "plain"},
        protocolConfiguration={"mcp": {"searchType": "SEMANTIC"}},
    )
    with (
        McpUpstream(served, Tool("send_mail")) as first,
        McpUpstream(served, Tool("send_mail"), Tool("Send_mail"), Tool(search)) as second,
    ):
        gateway.add_mcp_server("first", first.endpoint)
        gateway.add_mcp_server("second", second.endpoint, dynamic=dynamic)
        at_every_worker(lambda: gateway.tools() == [search, "send_mail"])
        gateway.call("send_mail")
        gateway.call("Send_mail")
        gateway.call(search, {"query": "mail"})
        assert (first.count("tools/call"), second.count("tools/call")) == (1, 0)


async def test_a_list_of_many_pages(gateway: Gateway, served: Loop) -> None:
    many = [[Tool(f"tool_{n}") for n in range(700)] for _ in range(2)]
    with McpUpstream(served, *many[0]) as first, McpUpstream(served, *many[1]) as second:
        for name, server in (("first", first), ("second", second)):
            gateway.add_mcp_server(name, server.endpoint)
        at_every_worker(lambda: gateway.call("second___tool_699").status == 200)
        found: list[str] = []
        cursor = None
        async with client_of(gateway) as client:
            while True:
                page = await client.list_tools(cursor=cursor)
                found += [tool.name for tool in page.tools]
                cursor = page.next_cursor
                if cursor is None:
                    break
        assert len(found) == len(set(found)) == 1400
