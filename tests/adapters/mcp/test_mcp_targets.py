"""Calls of MCP servers of each era, by clients of each era."""

import asyncio

import pytest
from upstream_ground import Caller, a_place, an_errand, standing
from upstream_servers import Eras, serving

from freehold.ports.targets import Credential, Json, RpcRefused, TargetFailed

ELICITING: Json = {"elicitation": {"form": {}}}


@pytest.mark.parametrize(
    ("eras", "versions", "sessions"),
    [
        ("dual", {"modern": "2026-07-28", "legacy": "2025-11-25"}, True),
        ("legacy", {"legacy": "2025-11-25"}, True),
        ("modern", {"modern": "2026-07-28"}, False),
        ("stateless", {"legacy": "2025-11-25"}, False),
    ],
)
async def test_a_server_is_described_whole(eras: Eras, versions: Json, sessions: bool) -> None:
    async with serving(eras) as served, standing() as ground:
        _, found = await ground.described(a_place(served.url))
    assert (found.server["versions"], found.server["sessions"]) == (versions, sessions)
    assert found.server["instructions"] == "Be kind."
    assert found.server["info"]["name"] == "upstream"
    assert not found.problems
    names = {(definition.kind, definition.name) for definition in found.definitions}
    assert names >= {
        ("tool", "echo"), ("tool", "asks"), ("resource", "test://text"),
        ("resource_template", "test://item/{id}"), ("prompt", "greet"),
    }  # fmt: skip
    echo = next(d for d in found.definitions if d.name == "echo")
    assert echo.document["inputSchema"]["properties"]["text"]["type"] == "string"
    if sessions:
        assert served.asked[-1] == "DELETE", "nothing is left of the session that only looked"


@pytest.mark.parametrize("era", ["legacy", "modern"])
@pytest.mark.parametrize("eras", ["dual", "legacy", "modern", "stateless"])
async def test_after_the_first_a_call_is_one_request_upstream(eras: Eras, era: str) -> None:
    async with serving(eras) as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        assert await ground.text(place, "echo", {"text": "hé"}, era=era) == "hé"
        served.asked.clear()
        for index in range(3):
            assert await ground.text(place, "echo", {"text": str(index)}, era=era) == str(index)
    assert served.asked == ["tools/call"] * 3


async def test_a_server_that_keeps_no_sessions_gets_no_handshake_at_all() -> None:
    for eras, era in (("stateless", "legacy"), ("dual", "modern")):
        async with serving(eras) as served, standing() as ground:  # type: ignore[arg-type]
            place, _ = await ground.described(a_place(served.url))
            served.asked.clear()
            await ground.text(place, "echo", {"text": "x"}, era=era)
        assert served.asked == ["tools/call"]


async def test_a_client_is_served_in_its_own_era_where_the_server_has_it() -> None:
    async with serving("dual") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        for era, version in (("legacy", "2025-11-25"), ("modern", "2026-07-28")):
            await ground.text(place, "echo", {"text": "x"}, era=era)
            assert served.headers[-1]["mcp-protocol-version"] == version


async def test_a_given_list_of_tools_is_taken_without_asking() -> None:
    schema = '{"tools": [{"name": "echo", "inputSchema": {"type": "object"}}, {"name": "bad"}]}'
    async with serving("legacy") as served, standing() as ground:
        place = a_place(served.url, mcpToolSchema={"inlinePayload": schema})
        place, found = await ground.described(place)
        assert served.asked == []
        assert [definition.name for definition in found.definitions] == ["echo"]
        assert "inputSchema" in found.problems[0].why
        assert await ground.text(place, "echo", {"text": "a"}) == "a"
        served.asked.clear()
        assert await ground.text(place, "echo", {"text": "b"}) == "b"
        assert served.asked == ["tools/call"], "what the server is was found out once"


async def test_arguments_go_as_headers_too_where_the_schema_says_so() -> None:
    async with serving("modern") as served, standing() as ground:
        place, found = await ground.described(a_place(served.url))
        plan = next(d.plan for d in found.definitions if d.name == "region")
        assert plan == {"headers": [[["name"], "Region"]]}
        assert await ground.text(place, "region", {"name": "eu"}, plan=plan) == "eu eu"
        said = await ground.text(place, "region", {"name": "süd "}, plan=plan)
        assert said.startswith("süd  =?base64?")


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_tool_that_fails_is_a_result_and_an_error_of_the_protocol_is_one(era: str) -> None:
    async with serving("dual") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        result = await ground.call(place, "fails", era=era)
        assert result["isError"] is True
        with pytest.raises(RpcRefused) as refused:
            await ground.targets.request(
                place, "resources/read", {"uri": "test://nothing"}, an_errand(era=era)
            )
        assert refused.value.code in (-32602, -32002)


@pytest.mark.parametrize("eras", ["legacy", "modern"])
async def test_resources_prompts_and_completion_pass(eras: Eras) -> None:
    async with serving(eras) as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        errand = an_errand(era=eras)

        async def asked(method: str, params: Json) -> Json:
            return await ground.targets.request(place, method, params, errand)

        read = await asked("resources/read", {"uri": "test://item/7"})
        assert read["contents"][0]["text"] == "item 7"
        prompt = await asked("prompts/get", {"name": "greet", "arguments": {"name": "Ada"}})
        assert prompt["messages"][0]["content"]["text"] == "Greet Ada."
        ref = {"type": "ref/prompt", "name": "greet"}
        params = {"ref": ref, "argument": {"name": "name", "value": "Par"}}
        assert (await asked("completion/complete", params))["completion"]["values"] == ["Paris"]


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_progress_and_log_lines_reach_the_caller(era: str) -> None:
    async with serving("dual") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        talk = Caller()
        meta = {"progressToken": "p7", "io.modelcontextprotocol/logLevel": "info"}
        text = await ground.text(place, "works", era=era, talk=talk, meta=meta)
    assert text == "worked"
    heard = dict(talk.heard)
    assert heard["notifications/progress"]["progressToken"] == "p7"
    assert heard["notifications/message"]["data"] == "working"


async def test_a_legacy_client_is_asked_by_a_legacy_server() -> None:
    async with serving("dual") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        talk = Caller(
            elicitation_create={"action": "accept", "content": {"name": "Ada"}},
            sampling_createMessage={
                "role": "assistant", "model": "m", "content": {"type": "text", "text": "Hello"},
            },
        )  # fmt: skip
        client = {**ELICITING, "sampling": {}}
        errand = {"era": "legacy", "session": "s1", "client": client, "talk": talk}
        assert await ground.text(place, "asks", **errand) == "Ada"
        assert await ground.text(place, "samples", **errand) == "Hello"
        assert talk.was_asked[0][1]["message"] == "Who are you?"
        served.asked.clear()
        assert await ground.text(place, "asks", **errand) == "Ada"
        assert served.asked == ["tools/call", "answer"]


async def test_a_legacy_client_is_asked_what_a_modern_server_needs() -> None:
    async with serving("modern") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        talk = Caller(elicitation_create={"action": "accept", "content": {"name": "Ada"}})
        errand = {"era": "legacy", "session": "s1", "client": ELICITING, "talk": talk}
        result = await ground.call(place, "asks", **errand)
        assert result["content"][0]["text"] == "Ada s1"
        assert "resultType" not in result
        assert [method for method, _ in talk.was_asked] == ["elicitation/create"]
        with pytest.raises(TargetFailed, match="cannot give"):
            await ground.call(place, "asks", **{**errand, "talk": Caller()})


async def test_a_modern_client_gets_what_a_modern_server_needs_and_answers_itself() -> None:
    async with serving("modern") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        first = await ground.call(place, "asks", client=ELICITING)
        assert first["resultType"] == "input_required"
        answers = {"who": {"action": "accept", "content": {"name": "Ada"}}}
        rest = {"inputResponses": answers, "requestState": first["requestState"]}
        assert await ground.text(place, "asks", client=ELICITING, rest=rest) == "Ada s1"


async def test_a_modern_client_is_not_offered_to_a_legacy_server() -> None:
    async with serving("legacy") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        talk = Caller(elicitation_create={"action": "accept", "content": {"name": "Ada"}})
        with pytest.raises(RpcRefused, match="not offered"):
            await ground.call(place, "asks", client=ELICITING, talk=talk)
    assert talk.was_asked == []
    begun = [body for body in served.bodies if body.get("method") == "initialize"]
    assert all(body["params"]["capabilities"] == {} for body in begun)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_server_hears_that_its_caller_gave_up(era: str) -> None:
    async with serving("dual") as served, standing() as ground, asyncio.timeout(10):
        place, _ = await ground.described(a_place(served.url))
        task = asyncio.create_task(ground.call(place, "waits", era=era))
        await served.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await served.cancelled.wait()
        assert await ground.text(place, "echo", {"text": "on"}, era=era) == "on"
    assert served.count("notifications/cancelled") == (1 if era == "legacy" else 0)


@pytest.mark.parametrize("era", ["legacy", "modern"])
async def test_a_call_that_takes_too_long_is_given_up(era: str) -> None:
    async with serving("dual") as served, standing() as ground, asyncio.timeout(10):
        place, _ = await ground.described(a_place(served.url))
        await ground.text(place, "echo", {"text": "on"}, era=era)
        with pytest.raises(TargetFailed, match=r"within 0\.2 seconds") as failed:
            await ground.call(place, "waits", era=era, seconds_max=0.2)
        assert failed.value.timed_out
        await served.cancelled.wait()


async def test_a_stream_that_the_server_ended_is_taken_up_again() -> None:
    async with serving("legacy") as served, standing() as ground, asyncio.timeout(10):
        place, _ = await ground.described(a_place(served.url))
        task = asyncio.create_task(ground.text(place, "polled", era="legacy"))
        while "GET" not in served.asked:
            await asyncio.sleep(0.01)
        served.release.set()
        assert await task == "polled"


async def test_only_the_credential_and_what_is_listed_go_upstream() -> None:
    async with serving("dual") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        headers = {
            "Authorization": "Bearer inbound", "Cookie": "a=b", "Mcp-Session-Id": "mine",
            "X-Tenant": "blue", "traceparent": "00-1-2-01", "Host": "elsewhere",
        }  # fmt: skip
        credential = Credential(owner="alice", headers={"X-Api-Key": "k"}, query={"q": "1 2"})
        for era in ("legacy", "modern"):
            await ground.text(
                place, "echo", {"text": "x"}, era=era, headers=headers, credential=credential
            )
            seen = served.headers[-1]
            assert (seen["x-api-key"], seen["x-tenant"]) == ("k", "blue")
            assert seen["traceparent"] == "00-1-2-01"
            assert "authorization" not in seen and "cookie" not in seen
            assert seen["host"].startswith("127.0.0.1")
            assert seen.get("mcp-session-id") != "mine"


async def test_a_credential_that_signs_signs_what_is_sent() -> None:
    signed: list[tuple[str, str, bytes]] = []

    def signer(method: str, url: str, headers: object, body: bytes) -> dict[str, str]:
        signed.append((method, url, body))
        return {**headers, "authorization": "AWS4 signature"}  # type: ignore[dict-item]

    async with serving("modern") as served, standing() as ground:
        place, _ = await ground.described(a_place(served.url))
        await ground.text(place, "echo", {"text": "x"}, credential=Credential(signer=signer))
    assert served.headers[-1]["authorization"] == "AWS4 signature"
    assert signed[0][:2] == ("POST", served.url)
    assert b'"tools/call"' in signed[0][2]
