"""What of a connector a target fixes, presets, opens and hides, and what then goes out."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from connector_ground import LIBRARY, Connected, bearer, checked_web
from connector_vendors.server import StandIn
from freehold.adapters.targets.connectors import values
from freehold.adapters.targets.connectors.answers import answered
from freehold.adapters.targets.connectors.atlassian import document, texts
from freehold.ports.targets import Json
from freehold.ports.web import Web


@pytest_asyncio.fixture
async def outside() -> AsyncIterator[Web]:
    async with checked_web() as web:
        yield web


@pytest.mark.parametrize("id", LIBRARY.ids())
def test_every_data_file_becomes_tools_without_a_problem(id: str) -> None:
    prepared = LIBRARY.get(id)
    assert prepared.described.problems == ()
    assert list(prepared.traits) == [o.name for o in prepared.connector.operations]
    assert set(prepared.traits) == set(prepared.definitions)
    assert 8 <= len(prepared.traits) <= 25
    assert prepared.connector.facts
    assert prepared.connector.id == id
    for definition in prepared.definitions.values():
        assert definition.document["title"]
        assert len(definition.name) <= 40
        assert definition.plan["server"].startswith("https://")


@pytest.mark.parametrize("id", LIBRARY.ids())
def test_what_only_looks_is_not_told_as_changing_anything(id: str) -> None:
    prepared = LIBRARY.get(id)
    for name, traits in prepared.traits.items():
        method = prepared.definitions[name].plan["method"]
        assert traits.reads or method != "GET" or name == "start_upload", name
        assert traits.destroys or method != "DELETE", name
        assert not (traits.reads and traits.destroys), name
        if name.split("_")[0] in ("list", "get", "read", "search", "find", "count", "query"):
            assert traits.reads, name


async def test_what_is_fixed_goes_out_whatever_the_agent_says(outside: Web) -> None:
    fixed = {"object": "Account", "body": {"OwnerId": "005"}}
    given: Json = {"name": "create_record", "parameterValues": fixed}
    async with StandIn("salesforce") as vendor:
        connected = await Connected(outside, vendor, configurations=[given]).describe()
        schema = connected.tools["create_record"].document["inputSchema"]
        assert set(schema["properties"]) == {"body"}
        token = bearer(vendor.token())
        body = {"Name": "Acme", "OwnerId": "006"}
        result = await connected.call("create_record", token, body=body, object="Contact")
        assert not result.get("isError"), result["content"]
        assert vendor.seen[-1].path.endswith("/sobjects/Account")
        assert vendor.seen[-1].arguments == {"Name": "Acme", "OwnerId": "005"}


async def test_defaults_go_out_where_the_agent_says_nothing(outside: Web) -> None:
    given: Json = {
        "name": "search_issues", "parameterValues": {"jql": "project = APP", "maxResults": 7},
        "parameterOverrides": [{"path": "/jql", "visible": True}],
    }  # fmt: skip
    async with StandIn("jira") as vendor:
        connected = await Connected(outside, vendor, configurations=[given]).describe()
        schema = connected.tools["search_issues"].document["inputSchema"]
        assert "required" not in schema
        token = bearer(vendor.token())
        await connected.call("search_issues", token)
        sent = vendor.seen[-1].arguments
        assert (sent["jql"], sent["maxResults"]) == ("project = APP", 7)
        assert "summary" in sent["fields"]
        await connected.call("search_issues", token, jql="project = B", fields=["status"])
        sent = vendor.seen[-1].arguments
        assert (sent["jql"], sent["fields"]) == ("project = B", ["status"])


async def test_what_is_hidden_is_sent_as_it_is_written_down(outside: Web) -> None:
    given: Json = {
        "name": "list_meetings",
        "parameterOverrides": [{"path": p, "visible": False} for p in ("/userId", "/type")],
    }
    async with StandIn("zoom") as vendor:
        connected = await Connected(outside, vendor, configurations=[given]).describe()
        tool = connected.tools["list_meetings"].document
        assert not {"userId", "type"} & set(tool["inputSchema"]["properties"])
        result = await connected.call("list_meetings", bearer(vendor.token()))
        assert not result.get("isError"), result["content"]
        assert vendor.seen[-1].path == "/v2/users/me/meetings"
        assert ("type", "upcoming") in vendor.seen[-1].query


async def test_a_file_goes_to_slack_in_three_steps(outside: Web) -> None:
    async with StandIn("slack") as vendor:
        connected = await Connected(outside, vendor).describe()
        tool = connected.tools["upload_content"]
        assert tool.plan["request"]["server"] == "https://files.slack.com/upload/v1"
        pattern = tool.document["inputSchema"]["properties"]["upload"]["pattern"]
        assert pattern == "^[A-Za-z0-9_=-]+$"
        await connected.call(
            "upload_content", bearer(vendor.token()), upload="ABC123", body="aGVsbG8="
        )
        assert vendor.seen[-1].path == "/upload/v1/ABC123"
        assert vendor.seen[-1].body == b"hello"


OBJECT: Json = {
    "type": "object", "required": ["a", "o"],
    "properties": {
        "a": {"type": "string"},
        "o": {"type": "object", "required": ["x"], "additionalProperties": False,
              "properties": {"x": {"type": "integer"}}},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("fixed", "left", "required"),
    [
        ({}, {"a", "o"}, ["a", "o"]),
        ({"a": "1"}, {"o"}, ["o"]),
        ({"o": {"x": 1}}, {"a"}, ["a"]),
        ({"a": "1", "o": {"x": 1}}, set(), None),
    ],
)
def test_a_schema_without_what_is_fixed(fixed: Json, left: set[str], required: Any) -> None:
    found = values.without(OBJECT, fixed)
    assert set(found["properties"]) == left
    assert found.get("required") == required


def test_an_object_that_takes_free_members_stays() -> None:
    free = {"type": "object", "required": ["f"],
            "properties": {"f": {"type": "object", "additionalProperties": True}}}  # fmt: skip
    found = values.without(free, {"f": {"x": 1}})
    assert "f" in found["properties"]
    assert "required" not in found
    assert values.merged({"f": {"y": 2, "x": 3}}, {"f": {"x": 1}}) == {"f": {"y": 2, "x": 1}}


MARKDOWN = """# Title

One line
and another with [a link](https://example.com/x) and https://example.com/y

- first
- second

```python
x = 1
```"""


def test_text_becomes_a_document_and_text_again() -> None:
    made = document(MARKDOWN)
    assert [block["type"] for block in made["content"]] == [
        "heading", "paragraph", "bulletList", "codeBlock",
    ]  # fmt: skip
    assert texts({"body": made, "n": [1, made]})["body"] == MARKDOWN


def test_what_others_wrote_is_read_too() -> None:
    wrote = {
        "type": "doc", "version": 1,
        "content": [
            {"type": "paragraph", "content": [
                {"type": "mention", "attrs": {"id": "1", "text": "@Ana"}},
                {"type": "text", "text": " see "},
                {"type": "inlineCard", "attrs": {"url": "https://example.com"}},
            ]},
            {"type": "table", "content": [{"type": "tableRow", "content": [
                {"type": "tableHeader", "content": [
                    {"type": "paragraph", "content": [{"type": "text", "text": "A"}]}]},
                {"type": "tableCell", "content": [
                    {"type": "paragraph", "content": [{"type": "text", "text": "B"}]}]},
            ]}]},
            {"type": "unheardOf", "content": [{"type": "text", "text": "still there"}]},
        ],
    }  # fmt: skip
    assert texts(wrote) == "@Ana see https://example.com\n\nA | B | \nstill there"
    assert texts({"type": "doc", "name": "no document"}) == {"type": "doc", "name": "no document"}
    assert document("") == {"type": "doc", "version": 1, "content": []}


def told(text: str) -> Json:
    return {"content": [{"type": "text", "text": text}]}


def test_what_says_nothing_to_an_agent_is_left_out() -> None:
    plan = {"noise": {"names": ["node_id"], "endings": ["_url"], "kept": ["html_url"]}}
    answer = '[{"n":1,"node_id":"x","html_url":"h","user":{"avatar_url":"a","login":"ana"}}]'
    shorter = answered(plan, told(answer))["content"][0]["text"]
    assert shorter == '[{"n":1,"html_url":"h","user":{"login":"ana"}}]'


@pytest.mark.parametrize("text", ["", "no JSON", "[1", '{"node_id": ' + '"x"' * 200_000 + "}"])
def test_an_answer_that_is_no_document_stays_as_it_came(text: str) -> None:
    plan: Json = {"noise": {"names": ["node_id"], "endings": [], "kept": []}, "texts": True}
    assert answered(plan, told(text)) == told(text)
    assert answered(plan, {"content": []}) == {"content": []}
