"""Tools that a fork calls: answered from its record, given, or called as its change has it."""

import json
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from gateway_fork_ground import FORK, TOKEN, Gate
from interceptor_ground import PREFIX
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from freehold.adapters.postgres.pool import PostgresDatabase
from freehold.kernel.errors import Conflict
from freehold.kernel.tracing import Status
from freehold.ports.replay import FORK_ID, REPLAY, REPLAY_DIFFERS, LiveTool, ToolAnswer
from gateway_upstreams import Loop, McpUpstream, Tool

PERMIT = "permit (principal, action, resource);"
FORBID = '@reason("not in this fork") forbid (principal, action, resource);'
SEARCH = "x_amz_bedrock_agentcore_search"


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture
def upstream(loop: Loop) -> Iterator[McpUpstream]:
    with McpUpstream(loop, Tool("echo"), Tool("pay")) as upstream:
        yield upstream


@pytest.fixture
async def gate(tenant: str, database: PostgresDatabase, database_dsn: str) -> AsyncIterator[Gate]:
    async with Gate(tenant, database, database_dsn).served() as gate:
        yield gate


@pytest.fixture
def stood(gate: Gate, upstream: McpUpstream) -> Gate:
    """With a server of two tools behind it."""
    gate.has(gate.server(upstream), tools=("echo", "pay"))
    return gate


def answer(text: str = "from the record", **more: bool) -> ToolAnswer:
    return ToolAnswer(result={"content": [{"type": "text", "text": text}]}, **more)


# -- from the record


async def test_a_recorded_answer_is_the_answer_and_nothing_goes_out(
    stood: Gate, upstream: McpUpstream, tenant: str
) -> None:
    stood.records.says.append(answer())
    result = await stood.called(text="hello")
    assert (result.content[0].text, result.is_error) == ("from the record", False)
    assert upstream.count("tools/call") == 0
    assert stood.records.tools == [{
        "tenant": tenant, "session_id": FORK, "gateway_id": stood.catalog.door.gateway_id,
        "name": "there___echo", "arguments": {"text": "hello"},
    }]  # fmt: skip
    told = stood.span().attributes
    assert (told[REPLAY], told[FORK_ID]) == ("recorded", FORK)
    assert REPLAY_DIFFERS not in told
    assert json.loads(told["gen_ai.tool.call.arguments"]) == {"text": "hello"}
    assert "from the record" in told["gen_ai.tool.call.result"]
    assert told["freehold.tool.is_error"] is False


async def test_its_target_may_be_gone_meanwhile(gate: Gate) -> None:
    gate.records.says.append(answer())
    assert (await gate.called("gone___tool")).content[0].text == "from the record"


@pytest.mark.parametrize(
    ("said", "source", "differs"),
    [
        (answer(differs=True), "recorded", True),
        (answer(given=True), "given", None),
    ],
)
async def test_the_trace_says_where_an_answer_is_from(
    stood: Gate, said: ToolAnswer, source: str, differs: bool | None
) -> None:
    stood.records.says.append(said)
    await stood.called()
    told = stood.span().attributes
    assert (told[REPLAY], told.get(REPLAY_DIFFERS)) == (source, differs)


async def test_a_recorded_failure_is_one_again(stood: Gate) -> None:
    failed = {"content": [{"type": "text", "text": "no such city"}], "isError": True}
    stood.records.says.append(ToolAnswer(result=failed))
    assert (await stood.called()).is_error
    assert (stood.span().status, stood.span().attributes[REPLAY]) == (Status.ERROR, "recorded")


async def test_what_is_answered_from_the_record_is_not_governed_anew(
    gate: Gate, upstream: McpUpstream, tenant: str
) -> None:
    guard = {
        "interceptor": {"lambda": {"arn": PREFIX + "guard"}},
        "interceptionPoints": ["REQUEST", "RESPONSE"],
    }
    gate.has(
        gate.server(upstream), tools=("echo",), interceptors=(guard,),
        limit={
            "dimensionKeys": ["targetName"],
            "entries": [{
                "dimensions": {"targetName": "*"},
                "requests": [{"rate": 1, "period": "minute"}],
            }],
        },
        policies={"arn": gate.engines.add(tenant, "own", PERMIT, FORBID), "mode": "ENFORCE"},
    )  # fmt: skip
    gate.records.says += [answer("one"), answer("two"), LiveTool(), LiveTool()]
    async with gate.client() as client:
        said = [await client.call_tool("there___echo", {}) for _ in range(2)]
        assert [each.content[0].text for each in said] == ["one", "two"]
        assert gate.intercepted("tools/call") == 0
        assert await gate.decisions() == []
        denied, limited = [await client.call_tool("there___echo", {}) for _ in range(2)]
    assert "not in this fork" in denied.content[0].text
    assert "1 calls in 60 seconds" in limited.content[0].text
    assert gate.intercepted("tools/call") == 2
    assert len(await gate.decisions()) == 1


# -- live


async def test_a_live_call_is_made_as_ever(stood: Gate, upstream: McpUpstream) -> None:
    stood.records.says.append(LiveTool())
    result = await stood.called(text="hello")
    assert json.loads(result.content[0].text) == {"text": "hello"}
    assert upstream.count("tools/call") == 1
    told = stood.span().attributes
    assert (told[REPLAY], told[FORK_ID], told["freehold.target"]) == ("live", FORK, "there")


async def test_a_call_that_is_none_of_the_records_is_refused_in_words_for_a_model(
    stood: Gate, upstream: McpUpstream
) -> None:
    stood.records.says.append(Conflict("the record has no such call before the step"))
    result = await stood.called()
    assert result.is_error
    assert result.content[0].text == "the record has no such call before the step"
    assert upstream.count("tools/call") == 0
    span = stood.span()
    assert (span.status, span.message) == (Status.ERROR, "refused: replay")
    assert span.attributes[FORK_ID] == FORK
    assert REPLAY not in span.attributes


async def test_another_engine_decides_where_the_fork_has_one(
    stood: Gate, upstream: McpUpstream, tenant: str
) -> None:
    theirs = stood.engines.add(tenant, "theirs", PERMIT, FORBID)
    stood.records.says += [LiveTool(), LiveTool(engine_arn=theirs)]
    async with stood.client() as client:
        assert not (await client.call_tool("there___echo", {})).is_error
        refused = await client.call_tool("there___echo", {})
    assert refused.content[0].text == "Refused by policy theirs-1: not in this fork"
    assert upstream.count("tools/call") == 1
    [decided] = await stood.decisions()
    assert (decided.engine_id, decided.mode, decided.allowed) == ("theirs", "ENFORCE", False)
    assert str(decided.id) == stood.span("policy ").attributes["freehold.decision.id"]


async def test_it_decides_in_place_of_the_gateways_own(
    gate: Gate, upstream: McpUpstream, tenant: str
) -> None:
    own = gate.engines.add(tenant, "own", PERMIT, FORBID)
    policies = {"arn": own, "mode": "ENFORCE"}
    gate.has(gate.server(upstream), tools=("echo",), policies=policies)
    gate.records.says += [LiveTool(engine_arn=gate.engines.add(tenant, "mild", PERMIT)), LiveTool()]
    async with gate.client() as client:
        assert not (await client.call_tool("there___echo", {})).is_error
        assert (await client.call_tool("there___echo", {})).is_error
    assert [each.engine_id for each in await gate.decisions()] == ["own", "mild"]


async def test_its_policies_are_compiled_once_for_a_state_of_the_gateway(
    stood: Gate, upstream: McpUpstream, tenant: str
) -> None:
    engine = stood.engines.add(tenant, "mild", PERMIT)
    stood.records.says += [LiveTool(engine_arn=engine)] * 4
    async with stood.client() as client:
        for _ in range(3):
            assert not (await client.call_tool("there___echo", {})).is_error
        assert stood.cedar.compiled == 1
        stood.has(stood.server(upstream), tools=("echo",))
        assert not (await client.call_tool("there___echo", {})).is_error
    assert stood.cedar.compiled == 2


async def test_search_is_a_tool_like_any_other(stood: Gate, tenant: str) -> None:
    pays = f"""permit (principal, action == AgentCore::Action::"there___pay",
        resource == AgentCore::Gateway::"{stood.arn}");"""
    engine = stood.engines.add(tenant, "pays", pays)
    stood.records.says += [answer("nothing found"), LiveTool(), LiveTool(engine_arn=engine)]
    async with stood.client() as client:
        found = [await client.call_tool(SEARCH, {"query": "it echos pays"}) for _ in range(3)]
    assert found[0].content[0].text == "nothing found"
    names = [{tool["name"] for tool in each.structured_content["tools"]} for each in found[1:]]
    assert names == [{"there___echo", "there___pay"}, {"there___pay"}]
    assert [asked["name"] for asked in stood.records.tools] == [SEARCH] * 3


# -- who is one


async def test_a_fork_is_one_whatever_token_it_shows(gate: Gate, upstream: McpUpstream) -> None:
    gate.has(gate.server(upstream), tools=("echo",), authorizer="CUSTOM_JWT")
    gate.records.says.append(answer())
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(f"{gate.url}/mcp", http_client=http)) as client,
    ):
        result = await client.call_tool("there___echo", {})
    assert result.content[0].text == "from the record"
    assert upstream.count("tools/call") == 0


@pytest.mark.parametrize("session", ["", "an-agents-session-0123456789012345", "fork-of-a-kind"])
async def test_for_nobody_else_the_record_is_asked(
    gate: Gate, upstream: McpUpstream, session: str
) -> None:
    gate.has(gate.server(upstream), tools=("echo",), authorizer="NONE")
    gate.session = gate.session_of(session) if session else None
    assert not (await gate.called(text="hello")).is_error
    assert upstream.count("tools/call") == 1
    assert gate.records.tools == []
    assert not {REPLAY, FORK_ID} & set(gate.span().attributes)


async def test_a_session_that_has_but_the_looks_of_one_calls_as_ever(
    stood: Gate, upstream: McpUpstream
) -> None:
    stood.records.says.append(None)
    assert not (await stood.called()).is_error
    assert upstream.count("tools/call") == 1
    assert not {REPLAY, FORK_ID} & set(stood.span().attributes)
