"""What connectors make of their vendors' manners, before their stand-ins."""

import base64
from collections.abc import AsyncIterator

import pytest

from connector_ground import LIBRARY, Connected, basic, bearer, checked_web
from connector_vendors.server import StandIn
from freehold.ports.web import Web


@pytest.fixture(scope="module")
async def outside() -> AsyncIterator[Web]:
    async with checked_web() as web:
        yield web


@pytest.fixture
async def connected(request: pytest.FixtureRequest, outside: Web) -> AsyncIterator[Connected]:
    async with StandIn(request.param) as stand_in:
        yield await Connected(outside, stand_in).describe()


@pytest.mark.parametrize("connected", LIBRARY.ids(), indirect=True)
async def test_a_credential_that_the_vendor_does_not_take_is_told(connected: Connected) -> None:
    tool = "list_channels" if connected.stand_in.vendor == "slack" else "get_current_user"
    if tool not in connected.tools:
        tool = next(iter(connected.tools))
    result = await connected.call(tool, bearer("not-a-token"))
    assert result["isError"]
    text = result["content"][0]["text"]
    assert "credential" in text
    assert "not-a-token" not in text


@pytest.mark.parametrize("connected", ["zendesk"], indirect=True)
async def test_zendesks_api_token_goes_as_a_password(connected: Connected) -> None:
    connected.stand_in.password("ana@example.com/token", "secret")
    credential = basic("ana@example.com/token", "secret")
    result = await connected.call("get_current_user", credential)
    assert not result.get("isError"), result["content"]


@pytest.mark.parametrize("connected", ["slack"], indirect=True)
async def test_slacks_refusals_are_errors_that_say_what_to_do(connected: Connected) -> None:
    token = bearer(connected.stand_in.token())
    result = await connected.call("read_channel", token, channel="general")
    assert result["isError"]
    assert "channel_not_found" in result["content"][0]["text"]
    assert "list_channels" in result["content"][0]["text"]
    bot = bearer(connected.stand_in.token(kind="bot"))
    result = await connected.call("search_messages", bot, query="hello")
    assert result["isError"]
    assert "user's token" in result["content"][0]["text"]


@pytest.mark.parametrize("connected", ["github"], indirect=True)
async def test_a_file_of_json_is_read_as_it_is(connected: Connected) -> None:
    plans = {name: tool.plan for name, tool in connected.tools.items()}
    assert [name for name, plan in plans.items() if "noise" not in plan] == ["read_file"]


@pytest.mark.parametrize("connected", ["github"], indirect=True)
async def test_text_is_written_to_github_as_it_wants_it(connected: Connected) -> None:
    token = bearer(connected.stand_in.token())
    arguments = {
        "owner": "octo", "repo": "app", "path": "docs/a page.md", "message": "Add",
        "content": "Grüße\n",
    }  # fmt: skip
    await connected.call("write_file", token, **arguments)
    sent = connected.stand_in.seen[-1].arguments
    assert base64.b64decode(sent["content"]).decode() == arguments["content"]
    await connected.call("read_file", token, owner="octo", repo="app", path="a.md")
    assert "application/vnd.github.raw+json" in connected.stand_in.seen[-1].headers["accept"]


@pytest.mark.parametrize("connected", ["jira"], indirect=True)
async def test_jiras_documents_are_texts_for_the_agent(connected: Connected) -> None:
    token = bearer(connected.stand_in.token())
    await connected.call("add_comment", token, issueIdOrKey="APP-1", body="One\n\n- two")
    sent = connected.stand_in.seen[-1].arguments["body"]
    assert [block["type"] for block in sent["content"]] == ["paragraph", "bulletList"]
    result = await connected.call("list_comments", token, issueIdOrKey="APP-1")
    assert '"doc"' not in result["content"][0]["text"]
