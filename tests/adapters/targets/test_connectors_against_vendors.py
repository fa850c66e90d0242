"""Each tool of each connector, called as its input schema says that it may be, at stand-ins of the
vendors. What is asked comes from the schemas that clients see, what is right from the vendors."""

import json
from typing import Any
from urllib.parse import unquote

import pytest

from connector_arguments import arguments, choices, ends
from connector_ground import LIBRARY
from connector_vendors.facts import VENDORS, Operation, facts_of
from freehold.ports.targets import Json
from vendor_connector import Connector

ONE_OF = {("asana", "list_tasks"), ("asana", "create_task"), ("asana", "add_comment"),
          ("asana", "create_project"), ("jira", "find_assignable_users")}  # fmt: skip
"""What they need is one of several arguments, which a schema of plain properties does not say."""


def operation_of(vendor: str, name: str) -> Operation:
    return next(one for one in facts_of(vendor).operations if one.id == name)


def tools_of(vendor: str) -> list[str]:
    return [one.name for one in LIBRARY.get(vendor).connector.operations]


EVERY_TOOL = [(vendor, tool) for vendor in VENDORS for tool in tools_of(vendor)]
each_tool = pytest.mark.parametrize(
    ("connector", "tool"), EVERY_TOOL, indirect=["connector"], ids=[".".join(t) for t in EVERY_TOOL]
)
each_vendor = pytest.mark.parametrize("connector", VENDORS, indirect=True)


@each_vendor
async def test_a_connector_has_the_tools_that_it_says(connector: Connector) -> None:
    assert sorted(connector.tools) == sorted(tools_of(connector.vendor))


@pytest.mark.parametrize(
    ("connector", "tool", "every"),
    [(*one, True) for one in EVERY_TOOL]
    + [(*one, False) for one in EVERY_TOOL if one not in ONE_OF],
    indirect=["connector"],
)
async def test_what_the_schema_allows_is_what_the_vendor_documents(
    connector: Connector, tool: str, every: bool
) -> None:
    """With all that a tool takes, and with no more than it requires."""
    told = arguments(connector.vendor, tool, connector.schema(tool), every=every)

    result, asked, findings = await connector.asked(tool, told)

    assert not result.get("isError"), (asked.path, result["content"])
    assert asked.operation
    assert findings == []


@pytest.mark.parametrize(("connector", "tool"), sorted(ONE_OF), indirect=["connector"])
async def test_what_is_missing_beyond_the_schema_is_said(connector: Connector, tool: str) -> None:
    told = arguments(connector.vendor, tool, connector.schema(tool), every=False)
    told = {name: {"name": "x"} if name == "data" else value for name, value in told.items()}

    result, _, _ = await connector.asked(tool, told)

    assert result["isError"]
    assert "one of" in result["content"][0]["text"]


@each_tool
async def test_every_choice_and_range_that_a_tool_offers_is_the_vendors(
    connector: Connector, tool: str
) -> None:
    schema = connector.schema(tool)
    told = arguments(connector.vendor, tool, schema, every=True)
    for name, choice in [*choices(schema), *ends(schema)]:
        connector.standin.store.gone.clear()
        result, _, _ = await connector.asked(tool, {**told, name: choice})

        assert not result.get("isError"), (name, choice, result["content"])


@each_tool
async def test_a_tool_that_says_it_only_reads_does(connector: Connector, tool: str) -> None:
    trait = next(t for t in LIBRARY.get(connector.vendor).connector.operations if t.name == tool)
    told = arguments(connector.vendor, tool, connector.schema(tool), every=True)

    _, asked, _ = await connector.asked(tool, told)

    operation = operation_of(connector.vendor, asked.operation)
    posts_to_read = {"searchForIssuesUsingJqlEnhancedSearchPost", "countIssues"}
    by_get = operation.method == "GET" or operation.id in posts_to_read
    writes_by_get = operation.id in {"files.getUploadURLExternal"}
    assert trait.reads == (by_get and not writes_by_get)
    if operation.method == "DELETE" or operation.id == "chat.delete":
        assert trait.destroys


@each_tool
async def test_the_scopes_that_a_tool_names_are_the_vendors_and_enough(
    connector: Connector, tool: str
) -> None:
    trait = next(t for t in LIBRARY.get(connector.vendor).connector.operations if t.name == tool)
    way = LIBRARY.get(connector.vendor).connector.ways[0]
    told = arguments(connector.vendor, tool, connector.schema(tool), every=True)
    kind = "bot" if connector.vendor == "slack" and way.scopes_parameter != "user_scope" else "user"
    token = connector.standin.token(*trait.scopes, *way.scopes, "of.no.vendor", kind=kind)

    result = await connector.call(tool, told, token)

    assert not result.get("isError"), (trait.scopes, result["content"])


@each_vendor
async def test_a_thing_that_is_not_there_is_an_error_that_says_so(connector: Connector) -> None:
    tools = {"github": "get_issue", "jira": "get_issue", "asana": "get_task", "zoom": "get_meeting",
             "zendesk": "get_ticket", "salesforce": "get_record", "slack": "get_user"}  # fmt: skip
    tool = tools[connector.vendor]
    told = arguments(connector.vendor, tool, connector.schema(tool), every=False)
    _, asked, _ = await connector.asked(tool, told)
    parts = connector.standin.manners.parts(asked)
    assert isinstance(parts, list)
    if connector.vendor == "slack":
        told = {"user": "nobody"}
    else:
        connector.standin.store.gone.add("/" + "/".join(parts))

    result = await connector.call(tool, told)

    assert result["isError"]
    said = result["content"][0]["text"]
    assert ("user_not_found" if connector.vendor == "slack" else "404") in said


@pytest.mark.parametrize("connector", ["zoom"], indirect=True)
@pytest.mark.parametrize("tool", ["get_past_meeting", "list_past_participants", "get_recordings"])
@pytest.mark.parametrize(
    "uuid", ["/ajXp112QmuoKj48548754==", "a//Xp112QmuoKj48548754==", "4444AAAi+AAAAiAiAiiAii=="]
)
async def test_a_meetings_uuid_arrives_as_it_is(connector: Connector, tool: str, uuid: str) -> None:
    result, asked, findings = await connector.asked(tool, {"meetingId": uuid})

    assert not result.get("isError"), (asked.parts, result["content"])
    assert findings == []


@pytest.mark.parametrize(
    ("connector", "tool", "name", "values"),
    [
        ("github", "list_issues", "owner", ["../user", "a/b", "a?b=c", "a#b", "a%2Fb", "ä ö"]),
        ("jira", "get_issue", "issueIdOrKey", ["../myself", "EX-1/comment", "EX-1?fields=x"]),
        ("zendesk", "search", "query", ["a&per_page=9", "a+b", 'type:ticket tags:"x y"', "ä"]),
        ("salesforce", "query", "q", ["SELECT Id FROM Account WHERE Name = 'A&B + C/D?#%'"]),
        ("slack", "get_user", "user", ["W1234567890&user=U1"]),
    ],
    indirect=["connector"],
)
async def test_an_argument_stays_in_its_place(
    connector: Connector, tool: str, name: str, values: list[str]
) -> None:
    """Whatever is in it, it is neither another path nor another parameter."""
    told = arguments(connector.vendor, tool, connector.schema(tool), every=False)
    _, first, _ = await connector.asked(tool, told)
    for value in values:
        connector.standin.seen.clear()
        result = await connector.call(tool, {**told, name: value})
        if not connector.standin.seen:  # it was refused on our side
            assert result["isError"]
            continue
        asked = connector.standin.seen[-1]

        assert (asked.method, len(asked.parts)) == (first.method, len(first.parts))
        assert [n for n, _ in asked.query] == [n for n, _ in first.query]
        sent = [unquote(part) for part in asked.parts] + [v for _, v in asked.query]
        assert value in sent


@each_vendor
async def test_too_many_requests_are_said_to_be_that(connector: Connector) -> None:
    tool = next(iter(connector.tools))
    told = arguments(connector.vendor, tool, connector.schema(tool), every=True)
    connector.standin.limited = 1

    result = await connector.call(tool, told)

    assert result["isError"]
    said = result["content"][0]["text"].lower()
    assert any(word in said for word in ("429", "rate", "limit", "too many"))


def _answer(result: Json) -> Any:
    assert not result.get("isError"), result["content"]
    return json.loads(result["content"][0]["text"])


@pytest.mark.parametrize(
    ("connector", "make", "made", "get", "wanted"),
    [
        ("github", ("create_issue", {"owner": "o", "repo": "r", "title": "A bug"}), "number",
         ("get_issue", {"owner": "o", "repo": "r", "issue_number": None}), "title"),
        ("asana", ("create_task", {"data": {"name": "A bug", "workspace": "1"}}), "data.gid",
         ("get_task", {"task_gid": None}), "data.name"),
        ("zendesk", ("create_ticket",
                     {"ticket": {"subject": "A bug", "comment": {"body": "See."}}}),
         "ticket.id", ("get_ticket", {"ticket_id": None}), "ticket.subject"),
        ("zoom", ("create_meeting", {"topic": "A bug"}), "id",
         ("get_meeting", {"meetingId": None}), "topic"),
        ("salesforce", ("create_record", {"object": "Account", "body": {"Name": "A bug"}}), "id",
         ("get_record", {"object": "Account", "id": None, "fields": "Name"}), "Name"),
        ("jira", ("create_issue", {"fields": {"project": {"key": "EX"}, "summary": "A bug",
                                              "issuetype": {"name": "Bug"}}}), "key",
         ("get_issue", {"issueIdOrKey": None}), "fields.summary"),
        ("slack", ("post_message", {"channel": "C123ABC456", "text": "A bug"}), "ts",
         ("read_thread", {"channel": "C123ABC456", "ts": None}), "messages.0.text"),
    ],
    indirect=["connector"],
)  # fmt: skip
async def test_what_one_tool_makes_another_gets(
    connector: Connector, make: Any, made: str, get: Any, wanted: str
) -> None:
    def member(document: Any, path: str) -> Any:
        for name in path.split("."):
            document = document[int(name) if name.isdigit() else name]
        return document

    found = member(_answer(await connector.call(*make)), made)
    tool, told = get
    told = {name: found if value is None else value for name, value in told.items()}
    if connector.vendor == "zoom":
        told = {name: str(value) for name, value in told.items()}

    assert member(_answer(await connector.call(tool, told)), wanted) == "A bug"
