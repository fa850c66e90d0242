"""Inputs that are wrong: refused with all reasons at once, before any handler."""

import json
from typing import Any

import pytest
from aws_edge_driver import (
    INVOKE,
    INVOKE_PATH,
    Seen,
    ask,
    call,
    invoke_output,
    make_edge,
    signed_scope,
)

CREATE_MEMORY = "bedrock-agentcore-control:CreateMemory"
LIST_RECORDS = "bedrock-agentcore:ListMemoryRecords"
RECORDS_PATH = "/memories/demo-abcdefghij/memoryRecords"


async def test_all_that_is_wrong_is_said_at_once(tmp_path: Any) -> None:
    edge = make_edge({CREATE_MEMORY: Seen({})}, tmp_path)
    body = {
        "name": "9 starts with a digit",
        "eventExpiryDuration": 4000,
        "description": 7,
        "tags": {"k": None},
        "memoryStrategies": [{}, {"semanticMemoryStrategy": {}}, None, "text"],
    }
    answer = await call(edge, "POST", "/memories/create", json.dumps(body).encode())
    assert (answer.status, answer.code) == (400, "ValidationException")
    document = answer.json()
    assert document["reason"] == "FieldValidationFailed"
    assert {field["name"] for field in document["fieldList"]} == {
        "name",
        "eventExpiryDuration",
        "description",
        "tags.k.value",
        "memoryStrategies.1.member",
        "memoryStrategies.2.member.semanticMemoryStrategy.name",
        "memoryStrategies.3.member",
        "memoryStrategies.4.member",
    }
    assert document["message"].startswith("8 validation errors detected: Value at ")


async def test_a_flood_of_violations_is_cut_off(tmp_path: Any) -> None:
    edge = make_edge({CREATE_MEMORY: Seen({})}, tmp_path)
    body = json.dumps({"memoryStrategies": ["x"] * 500_000}).encode()
    answer = await call(edge, "POST", "/memories/create", body)
    assert answer.status == 400
    assert len(answer.json()["fieldList"]) == 100
    assert answer.json()["message"].startswith("At least 100 validation errors")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b'{"namespace": "/a", "NameSpace": "/b"}', "right case"),
        ('{"namespace": "/a", "name\u017fpace": "/b"}'.encode(), "right case"),
        (b'{"namespace": "/a", "namespace": "/b"}', "repeats a key"),
        (b'{"namespace": "/a", "x": {"y": [{"z": 1, "z": 2}]}}', "repeats a key"),
        (b'{"namespace": "/a", "n\\u0061mespace": "/b"}', "repeats a key"),
        (b'{"namespace": "/a:", "a": ":", "a": "\\":"}', "repeats a key"),
        (b'{"namespace": "/a", "memoryId": "other-abcdefghij"}', "must not differ"),
        (b'{"namespace": "/a", "MEMORYID": "other-abcdefghij"}', "must not differ"),
        (b'{"namespace": "/a", "maxResults": NaN}', "not valid JSON"),
        (b'{"namespace": "/a", "maxResults": Infinity}', "not valid JSON"),
        (b'{"namespace": "/a", "maxResults": 1e999}', "not valid JSON"),
        (b'{"namespace": "/a", "maxResults": 1.5}', "type integer"),
        (b'{"namespace": "/a", "maxResults": true}', "type integer"),
        (b'{"namespace": "/a", "maxResults": 99999999999999999999}', "64 bits"),
        (b'{"namespace": "/a\xff"}', "not valid JSON"),
        (b'{"\xff": "/a"}', "not valid JSON"),
        (b'{"namespace": "\\ud800"}', "not valid JSON"),
        (b'{"namespace": "a\\u0000b"}', "U+0000"),
        (b'{"namespace": "/a", "a\\u0000b": 1}', "U+0000"),
        (b'{"namespace": "/a"} {}', "not valid JSON"),
        (b"[" * 500 + b"]" * 500, "levels deep"),
        (b"[" * 100_000 + b"]" * 100_000, "levels deep"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "levels deep"),
        (b"[]", "JSON object"),
        (b'"namespace"', "JSON object"),
        (b"\x00", "not valid JSON"),
    ],
)
async def test_a_body_that_could_be_read_in_two_ways_is_refused(
    tmp_path: Any, body: bytes, says: str
) -> None:
    seen = Seen({"memoryRecordSummaries": []})
    edge = make_edge({LIST_RECORDS: seen}, tmp_path)
    answer = await call(edge, "POST", RECORDS_PATH, body)
    assert (answer.status, answer.code) == (400, "ValidationException")
    assert says in answer.json()["message"]
    assert answer.json()["reason"] in {"CannotParse", "FieldValidationFailed"}
    assert not seen.calls


@pytest.mark.parametrize(
    "body",
    [
        b'{"namespace": "/a:b", "unknown": {"a:": ":", "\\\\\\":": "\\":"}, "maxResults": null}',
        b'{"namespace": "/a:b", "memoryId": "demo-abcdefghij"}',
        b'{"namespace": "/a:b", "unknown": "\\\\u0000"}',
    ],
)
async def test_colons_in_text_are_no_repeated_keys_and_unknown_members_are_ignored(
    tmp_path: Any, body: bytes
) -> None:
    seen = Seen({"memoryRecordSummaries": []})
    edge = make_edge({LIST_RECORDS: seen}, tmp_path)
    answer = await call(edge, "POST", RECORDS_PATH, body)
    assert answer.status == 200, answer.body
    assert seen.calls[0][1] == {"memoryId": "demo-abcdefghij", "namespace": "/a:b"}


async def test_a_large_document_is_read_like_a_small_one(tmp_path: Any) -> None:
    seen = Seen({"memoryRecordSummaries": []})
    edge = make_edge({LIST_RECORDS: seen}, tmp_path, document_bytes_max=2_000_000)
    document = {"namespace": "/a", "unknown": ["x" * 1000] * 1500}
    answer = await call(edge, "POST", RECORDS_PATH, json.dumps(document).encode())
    assert answer.status == 200, answer.body
    assert seen.calls[0][1] == {"memoryId": "demo-abcdefghij", "namespace": "/a"}
    document["NAMESPACE"] = "/b"
    assert (await call(edge, "POST", RECORDS_PATH, json.dumps(document).encode())).status == 400
    document = {"namespace": "/a", "unknown": "x" * 2_000_000}
    answer = await call(edge, "POST", RECORDS_PATH, json.dumps(document).encode())
    assert (answer.status, answer.code) == (400, "ValidationException")
    assert "2000000 bytes" in answer.json()["message"]


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (f"{INVOKE_PATH}?qualifier=a&qualifier=b", {}),
        (f"{INVOKE_PATH}?qualifier=%FF", {}),
        (f"{INVOKE_PATH}?qualifier=%00", {}),
        (f"{INVOKE_PATH}?accountId=12", {}),
        ("/runtimes/%FF/invocations", {}),
        ("/runtimes/a%00b/invocations", {}),
        (INVOKE_PATH, {"X-Amzn-Bedrock-AgentCore-Runtime-Session-Id": "short"}),
        (INVOKE_PATH, {"X-Huge": "x" * 70_000}),
        (f"{INVOKE_PATH}?x={'y' * 40_000}", {}),
        (f"/runtimes/{'y' * 9000}/invocations", {}),
    ],
)
async def test_a_malformed_path_query_or_header_is_a_400(
    tmp_path: Any, url: str, headers: dict[str, str]
) -> None:
    edge = make_edge({INVOKE: Seen(invoke_output())}, tmp_path)
    answer = await call(edge, "POST", url, b"", headers)
    assert (answer.status, answer.code) == (400, "ValidationException")


async def test_a_modelled_header_that_is_repeated_is_a_400(tmp_path: Any) -> None:
    edge = make_edge({INVOKE: Seen(invoke_output())}, tmp_path)
    scope = signed_scope("POST", INVOKE_PATH)
    name = b"x-amzn-bedrock-agentcore-runtime-session-id"
    scope["headers"] += [(name, b"a" * 33), (name, b"b" * 33)]
    assert (await ask(edge, scope)).status == 400
