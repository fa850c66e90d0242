"""Arguments made up from a tool's input schema, in values that its vendor knows."""

from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]
_COUNTS = ("limit", "count", "page_size", "per_page", "maxResults", "overallLimit")

VALUES: dict[str, Json] = {
    "salesforce": {
        "q": "SELECT Id, Name FROM Account LIMIT 5", "object": "Account",
        "id": "001D000000IqhSLIAZ",
        "fields": "Id,Name", "field": "AccountNumber__c", "value": "A-1",
        "relationship": "Contacts", "cursor": "01gRO0000016PIAYA2-500",
        "reportId": "00OR0000000K2UeMAK", "sobject": "Account",
        "search_sosl.q": "FIND {Acme} IN ALL FIELDS RETURNING Account(Id, Name)",
        "search.q": "Acme", "body": {"Name": "Acme"},
        "records": [{"attributes": {"type": "Account"}, "Name": "Acme"}],
    },
    "slack": {
        "channel": "C123ABC456", "channel_id": "C123ABC456", "user": "W1234567890",
        "users": "W1234567890,U2345678901", "ts": "1405894322.002768",
        "message_ts": "1405894322.002768", "thread_ts": "1405894322.002768",
        "timestamp": "1405894322.002768", "oldest": "1405894000.000000",
        "latest": "1405894999.000000", "name": "random", "post_at": 1893456000,
        "types": "public_channel,private_channel", "list_files.types": "images",
        "email": "ada@example.com", "add_reaction.name": "thumbsup",
        "upload": "CwABAAAAXAoAAQ", "file": "F2147483862",
        "blocks": [{"type": "divider"}], "files": [{"id": "F044GKUHN9Z", "title": "a"}],
    },
    "jira": {
        "jql": "project = EX ORDER BY created", "issueIdOrKey": "EX-1", "projectIdOrKey": "EX",
        "issueTypeId": "10001", "project": "EX", "issueKey": "EX-1", "fields": ["summary"],
        "create_issue.fields": {
            "project": {"key": "EX"}, "summary": "A bug", "issuetype": {"name": "Bug"},
        },
        "update_issue.fields": {"summary": "Another"}, "transition_issue.fields": {},
        "update": {"labels": [{"add": "urgent"}]}, "transition": {"id": "5"},
        "type": {"name": "Blocks"}, "inwardIssue": {"key": "EX-1"},
        "outwardIssue": {"key": "EX-2"}, "body": "A comment", "comment": "Some work",
        "visibility": {"type": "group", "value": "staff"}, "timeSpent": "3h",
        "started": "2026-11-21T09:30:00.000+0000", "accountId": "5b10ac8d82e05b22cc7d4ef5",
        "typeKey": "software",
    },
    "asana": {
        "user_gid": "me", "assignee": "me", "opt_fields": ["name"], "resource_type": "task",
        "completed_since": "2026-11-01T00:00:00Z", "modified_since": "2026-11-01T00:00:00Z",
        "create_task.data": {"name": "Buy catnip", "workspace": "12345"},
        "update_task.data": {"completed": True}, "create_subtask.data": {"name": "One"},
        "add_task_to_project.data": {"project": "12345"}, "add_comment.data": {"text": "Yes"},
        "create_project.data": {"name": "Roof", "workspace": "12345"},
        "move_task_to_section.data": {"task": "12345"},
    },
    "zendesk": {
        "query": "type:ticket status:open", "ticket": {"comment": {"body": "It burns."}},
        "user": {"name": "Ada", "email": "ada@example.com"}, "locale": "en-us",
    },
    "zoom": {
        "userId": "me", "meetingId": "85746065", "get_past_meeting.meetingId": "85746065",
        "start_time": "2026-12-25T07:32:55Z", "from": "2026-11-01", "to": "2026-11-30",
        "email": "ada@example.com", "end_date_time": "2027-01-31T12:00:00Z",
        "weekly_days": "1,3", "timezone": "Europe/Berlin",
    },
    "github": {
        "owner": "octocat", "repo": "hello", "path": "docs/a file.md", "content": "# Hello",
        "since": "2026-11-01T00:00:00Z", "until": "2026-11-21T00:00:00Z",
        "sha": "aa218f56b14c9653891f9e74264a383fa43fefbd", "create_branch.ref": "refs/heads/new",
        "ref": "main", "workflow_id": "main.yml", "inputs": {"name": "x"}, "labels": ["bug"],
        "list_issues.labels": "bug", "assignees": ["octocat"], "status": "completed",
        "affiliation": "owner", "q": "repo:octocat/hello bug",
        "comments": [{"path": "a.py", "position": 1, "body": "Why?"}],
    },
}  # fmt: skip


def arguments(vendor: str, tool: str, schema: Json, *, every: bool) -> Json:
    """All that the tool takes, or what it requires."""
    required = schema.get("required", ())
    return {
        name: value_of(vendor, tool, name, inner)
        for name, inner in schema.get("properties", {}).items()
        if every or name in required
    }


def choices(schema: Json) -> Iterator[tuple[str, Any]]:
    """Each choice that a tool offers for one of its parameters."""
    for name, inner in schema.get("properties", {}).items():
        for choice in inner.get("enum", ()):
            yield name, choice


def ends(schema: Json) -> Iterator[tuple[str, int]]:
    """The least and the most of each number that a tool takes; where it knows no most, a lot."""
    for name, inner in schema.get("properties", {}).items():
        if inner.get("type") == "integer" and name in _COUNTS:
            yield name, inner.get("minimum", 1)
            yield name, inner.get("maximum", 1_000_000)


def value_of(vendor: str, tool: str, name: str, schema: Mapping[str, Any]) -> Any:
    told = VALUES[vendor]
    key = f"{tool}.{name}" if f"{tool}.{name}" in told else name
    if isinstance(told.get(key), dict) and schema.get("properties"):
        return {**arguments(vendor, tool, dict(schema), every=True), **told[key]}
    if key in told:
        return told[key]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return arguments(vendor, tool, dict(schema), every=True)
    if kind == "array":
        return [value_of(vendor, tool, name, schema.get("items", {}))]
    if vendor == "asana" and name not in ("text", "query", "offset"):
        strings = "2026-11-21" if "_on" in name else "2026-11-21T09:00:00Z" if "_at" in name else ""
        strings = strings or "12345"
    else:
        strings = f"some {name}"[: schema.get("maxLength")]
    return {"integer": 7, "number": 7.5, "boolean": True, "string": strings}[kind]
